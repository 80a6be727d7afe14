"""Does calibrating on attacked sentences keep accuracy under attack? AKR on three calibration sets
of the same size and sentences.

    python -m benchmarks.calibration --out FOLDER --threads 1 [--task ../shared/data/sst2
    --checkpoint ../shared/models/sst2-minilm]

The sentences are training sentences on which an attack flips the dense model: `clean`, as they
were; `attacked`, as the attack left them; `mix`, half and half. Each draw takes other sentences.
Accuracy under attack is judged on evaluation sentences, and paired with `clean`. What is done is
kept in the folder: the same command goes on where it was stopped.
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

from benchmarks.bench import Bench
from prune_core import PruneError
from prune_core.analysis.attack_success import successes
from prune_core.data.examples import Examples
from prune_core.formatting import percent, points

KINDS = ("clean", "attacked", "mix")


def main() -> None:
    """Attack, prune and judge what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for attacked sentences and figures"
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
    parser.add_argument("--draws", type=int, default=3, help="disjoint samples of the sentences")
    parser.add_argument("--sentences", type=int, default=256, help="of calibration")
    parser.add_argument("--pool", type=int, default=1500, help="training sentences to attack")
    parser.add_argument("--attack", type=int, default=200, help="evaluation sentences to attack")
    parser.add_argument("--max-length", type=int, default=128, help="tokens")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench.of_folder(
        options.task,
        options.checkpoint,
        max_length=options.max_length,
        attack=options.attack,
        precision="bf16",
    )
    flipped = attacked(bench, options)
    file = options.out / "figures.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    for draw in range(options.draws):
        own = flipped.iloc[draw * options.sentences : (draw + 1) * options.sentences]
        for sparsity in options.sparsities:
            for kind in KINDS:
                key = f"{kind} {sparsity:g} {draw}"
                if key not in found:
                    found[key] = bench.figures(
                        options.method, {"sparsity": sparsity}, calibration(own, kind)
                    )
                    file.write_text(json.dumps(found, indent=1))
                    print(
                        key,
                        f"accuracy {found[key]['accuracy']:.4f}, under attack "
                        f"{found[key]['under_attack']:.3f}",
                        flush=True,
                    )
    table(found, options)


def attacked(bench: Bench, options: argparse.Namespace) -> pd.DataFrame:
    """Rows of `attack_example` of the training sentences that the attack flipped."""
    task = replace(bench.task, evaluation=bench.draw(options.pool, 0))
    flipped = successes(
        bench.attacked(bench.loaded[0], task, options.pool, options.out)["attack_example"]
    )
    if len(flipped) < options.draws * options.sentences:
        raise PruneError(
            f"The attack flipped {len(flipped)} of {options.pool} sentences; give a larger --pool "
            "or a smaller --sentences."
        )
    return flipped


def calibration(flipped: pd.DataFrame, kind: str) -> Examples:
    """The sentences as they were, as the attack left them, or every other one as it left them."""
    clean, changed = flipped["text"].tolist(), flipped["perturbed"].tolist()
    if kind == "mix":
        changed = [changed[index] if index % 2 else text for index, text in enumerate(clean)]
    return Examples(clean if kind == "clean" else changed)


def table(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """A line for each sparsity and kind; differences from clean over sentences, each the mean of
    its draws.
    """
    print(
        f"\n{'':18}{'accuracy':>10}{'KL to dense':>13}{'under attack':>14}   against clean (95% "
        "interval)"
    )
    for sparsity in options.sparsities:
        rows = {
            kind: [found[f"{kind} {sparsity:g} {draw}"] for draw in range(options.draws)]
            for kind in KINDS
        }
        mean = {
            kind: {name: np.mean([row[name] for row in own]) for name in own[0] if name != "held"}
            for kind, own in rows.items()
        }
        held = {kind: np.mean([row["held"] for row in own], axis=0) for kind, own in rows.items()}
        for kind in KINDS:
            told, gap = "", held[kind] - held["clean"]
            if gap.any():
                low, high = bootstrap(
                    (gap,), np.mean, method="percentile", rng=np.random.default_rng(0)
                ).confidence_interval
                told = f"{points(gap.mean())} ({points(low)} to {points(high)})"
            accuracy, under_attack = (
                percent(mean[kind][name]) for name in ("accuracy", "under_attack")
            )
            print(
                f"{sparsity:<8.1%} "
                f"{kind:9}{accuracy:>10}{mean[kind]['divergence']:13.3f}{under_attack:>14}   {told}"
            )


if __name__ == "__main__":
    main()
