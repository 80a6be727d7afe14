"""Accuracy and robustness of combinations of AKR's options at high sparsity.

    python -m benchmarks.akr_plus --out akr_plus.json --threads 1 --attack 100 --precision bf16 \\
        --checkpoints sst2=../shared/models/sst2-minilm ag_news=FOLDER imdb=FOLDER \\
        --variants dense sparsegpt "plain akr" akr akr_plus

Prints accuracy, divergence from dense and accuracy under attack. All variants use the same
calibration samples, evaluation examples and attacked examples. Results are written to the JSON file
after each run, and the same command resumes an interrupted run. Create a checkpoint with

    python -m prune_core finetune --task ../shared/data/ag_news/train.parquet --out FOLDER \\
        --validation ../shared/data/ag_news/test.parquet --set validation_size=1000 \\
        --set epochs=1 --set dropout=0 --set mixed_precision=true

(IMDB with two epochs).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pruning_task import RECIPE, PruningTask

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("", {}),
    "sparsegpt": ("sparsegpt", {}),
    "plain akr": (
        "akr",
        {"refit_steps": 0, "residual": "off"},
    ),  # only what is in the paper, with SparseGPT's sweep
    "akr": ("akr", {}),
    "akr_plus": ("akr_plus", {}),
    "akr by error": ("akr", {"allocation": "error"}),
    "akr by admm": ("akr", {"solver": "admm"}),
    "akr by fisher": ("akr", {"fisher": True}),
    "akr_plus, no fisher": ("akr_plus", {"fisher": False}),
}


def main() -> None:
    """Run every task, sparsity, variant and seed, then print the table."""
    options = arguments()
    torch.set_num_threads(options.threads)
    results = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for task, folder in (pair.split("=", 1) for pair in options.checkpoints):
        pruning_task = PruningTask.of_folder(
            options.data / task,
            folder,
            evaluation=options.evaluation,
            max_length=options.max_length,
            attack=options.attack,
            precision=options.precision,
        )
        for seed in range(options.seeds):
            for sparsity in options.sparsities:
                for name in options.variants:
                    key = (
                        f"{task} {name}"
                        if name == "dense"
                        else f"{task} {name} {sparsity:g} {seed}"
                    )
                    result = results.setdefault(key, {})
                    if result and (not options.attack or "under_attack" in result):
                        continue
                    method, settings = VARIANTS[name]
                    result.update(
                        pruning_task.metrics(
                            method,
                            settings | {"sparsity": sparsity},
                            pruning_task.calibration_sample(options.sentences, seed),
                        )
                    )
                    options.out.write_text(json.dumps(results, indent=1))
                    print(
                        key,
                        {
                            quantity: round(value, 4)
                            for quantity, value in result.items()
                            if quantity != "held"
                        },
                        flush=True,
                    )
        for sparsity in options.sparsities:
            table(task, sparsity, results, options=options)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        metavar="TASK=FOLDER",
        default=["sst2=../shared/models/sst2-minilm"],
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder with TASK/train.parquet and TASK/validation.parquet or test",
    )
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--sparsities", nargs="*", type=float, default=[0.875])
    parser.add_argument("--seeds", type=int, default=3, help="calibration samples")
    parser.add_argument("--sentences", type=int, default=512, help="calibration examples")
    parser.add_argument("--evaluation", type=int, default=1000, help="evaluation examples")
    parser.add_argument("--max-length", type=int, default=128, help="tokens")
    parser.add_argument(
        "--attack", type=int, default=0, help=f"examples to attack with {RECIPE}; 0 = none"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="precision of the attacked models",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("akr_plus.json"))
    return parser.parse_args()


def table(
    task: str, sparsity: float, results: dict[str, dict[str, Any]], options: argparse.Namespace
) -> None:
    """Print mean and standard deviation over seeds, one line per variant."""
    print(
        f"\n{task} at {sparsity:.1%}, {options.seeds} seeds, {options.sentences} examples; "
        "mean ± sd"
    )
    print(f"{'':24}{'accuracy':>18}{'KL to dense':>17}{'under attack':>17}{'seconds':>9}")
    for name in options.variants:
        keys = (
            [f"{task} dense"]
            if name == "dense"
            else [f"{task} {name} {sparsity:g} {seed}" for seed in range(options.seeds)]
        )
        rows = [results[key] for key in keys]
        accuracy, divergence = spread(rows, "accuracy", ".2%"), spread(rows, "divergence", ".3f")
        attacked = (
            spread(rows, "under_attack", ".1%")
            if all("under_attack" in row for row in rows)
            else "–"
        )
        print(f"{name:24}{accuracy:>18}{divergence:>17}{attacked:>17}{rows[0]['seconds']:9.1f}")


def spread(rows: list[dict[str, Any]], key: str, style: str) -> str:
    """Format mean ± standard deviation."""
    values = [row[key] for row in rows]
    return f"{np.mean(values):{style}} ± {np.std(values):{style}}"


if __name__ == "__main__":
    main()
