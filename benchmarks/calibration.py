"""Does calibration on adversarial examples preserve accuracy under attack?

    python -m benchmarks.calibration --out FOLDER --threads 1 [--task ../shared/data/sst2] \\
        [--checkpoint ../shared/models/sst2-minilm]

Prunes with AKR on three calibration sets of equal size, which are made from training examples on
which an attack of the dense model succeeds: `clean`, the originals; `attacked`, the adversarial
examples; `mix`, half of each. Each of several calibration samples uses different examples. Accuracy
under attack is measured on evaluation examples, and paired with `clean`. Results are saved in the
folder, and the same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap

from benchmarks.pruning_task import PruningTask
from prune_core import PruneError
from prune_core.analysis.attack_success import successes
from prune_core.data.examples import Examples
from prune_core.formatting import percent, points

KINDS = ("clean", "attacked", "mix")


def main() -> None:
    """Attack, prune and evaluate what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for adversarial examples and metrics"
    )
    parser.add_argument(
        "--task",
        type=Path,
        default=Path("../shared/data/sst2"),
        help="folder with train.parquet and validation or test",
    )
    parser.add_argument("--checkpoint", default="../shared/models/sst2-minilm")
    parser.add_argument("--method", default="akr")
    parser.add_argument("--sparsities", nargs="*", type=float, default=[0.5, 0.7, 0.875])
    parser.add_argument("--draws", type=int, default=3, help="disjoint calibration samples")
    parser.add_argument("--sentences", type=int, default=256, help="calibration examples")
    parser.add_argument("--pool", type=int, default=1500, help="training examples to attack")
    parser.add_argument("--attack", type=int, default=200, help="evaluation examples to attack")
    parser.add_argument("--max-length", type=int, default=128, help="tokens")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    pruning_task = PruningTask.of_folder(
        options.task,
        options.checkpoint,
        max_length=options.max_length,
        attack=options.attack,
        precision="bf16",
    )
    adversarial = adversarial_examples(pruning_task, options)
    file = options.out / "figures.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    for draw in range(options.draws):
        sample = adversarial.iloc[draw * options.sentences : (draw + 1) * options.sentences]
        for sparsity in options.sparsities:
            for kind in KINDS:
                key = f"{kind} {sparsity:g} {draw}"
                if key not in results:
                    results[key] = pruning_task.metrics(
                        options.method, {"sparsity": sparsity}, calibration(sample, kind)
                    )
                    file.write_text(json.dumps(results, indent=1))
                    print(
                        key,
                        f"accuracy {results[key]['accuracy']:.4f}, under attack "
                        f"{results[key]['under_attack']:.3f}",
                        flush=True,
                    )
    table(results, options)


def adversarial_examples(pruning_task: PruningTask, options: argparse.Namespace) -> pd.DataFrame:
    """Return the rows of `attack_example` for training examples on which the attack succeeded."""
    task = replace(pruning_task.task, evaluation=pruning_task.calibration_sample(options.pool, 0))
    adversarial = successes(
        pruning_task.attacked(pruning_task.loaded[0], task, options.pool, options.out)[
            "attack_example"
        ]
    )
    if len(adversarial) < options.draws * options.sentences:
        raise PruneError(
            f"The attack succeeded on {len(adversarial)} of {options.pool} examples; use a "
            "larger --pool or a smaller --sentences."
        )
    return adversarial


def calibration(adversarial: pd.DataFrame, kind: str) -> Examples:
    """Return the originals, the adversarial examples, or alternately one of each."""
    clean, perturbed = adversarial["text"].tolist(), adversarial["perturbed"].tolist()
    if kind == "mix":
        perturbed = [perturbed[index] if index % 2 else text for index, text in enumerate(clean)]
    return Examples(clean if kind == "clean" else perturbed)


def table(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """Print one line per sparsity and calibration set.

    Differences from `clean` are means over examples, each averaged over calibration samples.
    """
    print(
        f"\n{'':18}{'accuracy':>10}{'KL to dense':>13}{'under attack':>14}   against clean (95% "
        "interval)"
    )
    for sparsity in options.sparsities:
        rows = {
            kind: [results[f"{kind} {sparsity:g} {draw}"] for draw in range(options.draws)]
            for kind in KINDS
        }
        mean = {
            kind: {
                name: np.mean([row[name] for row in draws]) for name in draws[0] if name != "held"
            }
            for kind, draws in rows.items()
        }
        held = {
            kind: np.mean([row["held"] for row in draws], axis=0) for kind, draws in rows.items()
        }
        for kind in KINDS:
            difference, gap = "", held[kind] - held["clean"]
            if gap.any():
                low, high = bootstrap(
                    (gap,), np.mean, method="percentile", rng=np.random.default_rng(0)
                ).confidence_interval
                difference = f"{points(gap.mean())} ({points(low)} to {points(high)})"
            accuracy, under_attack = (
                percent(mean[kind][name]) for name in ("accuracy", "under_attack")
            )
            print(
                f"{sparsity:<8.1%} "
                f"{kind:9}{accuracy:>10}{mean[kind]['divergence']:13.3f}{under_attack:>14}   "
                f"{difference}"
            )


if __name__ == "__main__":
    main()
