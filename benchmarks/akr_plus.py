"""Which combination of AKR's options is best at high sparsity: accuracy, divergence from dense and
accuracy under attack.

    python -m benchmarks.akr_plus --checkpoints sst2=../shared/models/sst2-minilm ag_news=FOLDER
    imdb=FOLDER \\
        --variants dense sparsegpt "plain akr" akr akr_plus --threads 1 --attack 100 --precision
        bf16 --out akr_plus.json

Every variant prunes the same draws of calibration sentences, is judged on the same evaluation
sentences, and attacked on the same ones. Results are kept in the JSON file as they come: the same
command goes on where it was stopped. Make a checkpoint by

    python -m prune_core finetune --task ../shared/data/ag_news/train.parquet --validation
    ../shared/data/ag_news/test.parquet \\
        --out FOLDER --set epochs=1 --set validation_size=1000 --set dropout=0 --set
        mixed_precision=true

(IMDB with two epochs).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import RECIPE, Bench

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("", {}),
    "sparsegpt": ("sparsegpt", {}),
    "plain akr": (
        "akr",
        {"refit_steps": 0, "residual": "off"},
    ),  # no more than the paper has, with SparseGPT's sweep
    "akr": ("akr", {}),
    "akr_plus": ("akr_plus", {}),
    "akr by error": ("akr", {"allocation": "error"}),
    "akr by admm": ("akr", {"solver": "admm"}),
    "akr by fisher": ("akr", {"fisher": True}),
    "akr_plus, no fisher": ("akr_plus", {"fisher": False}),
}


def main() -> None:
    """Every task, sparsity, variant and draw; then the table."""
    options = arguments()
    torch.set_num_threads(options.threads)
    found = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for task, folder in (pair.split("=", 1) for pair in options.checkpoints):
        bench = Bench.of_folder(
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
                    known = found.setdefault(key, {})
                    if known and (not options.attack or "under_attack" in known):
                        continue
                    method, settings = VARIANTS[name]
                    known.update(
                        bench.figures(
                            method,
                            settings | {"sparsity": sparsity},
                            bench.draw(options.sentences, seed),
                        )
                    )
                    options.out.write_text(json.dumps(found, indent=1))
                    print(
                        key,
                        {
                            quantity: round(value, 4)
                            for quantity, value in known.items()
                            if quantity != "held"
                        },
                        flush=True,
                    )
        for sparsity in options.sparsities:
            table(task, sparsity, found, options=options)


def arguments() -> argparse.Namespace:
    """What to run on what."""
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
        help="TASK/train.parquet, and validation or test beside it",
    )
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--sparsities", nargs="*", type=float, default=[0.875])
    parser.add_argument("--seeds", type=int, default=3, help="draws of the calibration sentences")
    parser.add_argument("--sentences", type=int, default=512, help="of calibration")
    parser.add_argument("--evaluation", type=int, default=1000, help="sentences to judge by")
    parser.add_argument("--max-length", type=int, default=128, help="tokens")
    parser.add_argument(
        "--attack", type=int, default=0, help=f"sentences to attack with {RECIPE}; 0 = none"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="of the models under attack"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("akr_plus.json"))
    return parser.parse_args()


def table(
    task: str, sparsity: float, found: dict[str, dict[str, Any]], options: argparse.Namespace
) -> None:
    """Mean and standard deviation over the draws, a line for each variant."""
    print(f"\n{task} at {sparsity:.1%}, {options.seeds} draws of {options.sentences}; mean ± sd")
    print(f"{'':24}{'accuracy':>18}{'KL to dense':>17}{'under attack':>17}{'seconds':>9}")
    for name in options.variants:
        keys = (
            [f"{task} dense"]
            if name == "dense"
            else [f"{task} {name} {sparsity:g} {seed}" for seed in range(options.seeds)]
        )
        rows = [found[key] for key in keys]
        accuracy, divergence = spread(rows, "accuracy", ".2%"), spread(rows, "divergence", ".3f")
        attacked = (
            spread(rows, "under_attack", ".1%")
            if all("under_attack" in row for row in rows)
            else "–"
        )
        print(f"{name:24}{accuracy:>18}{divergence:>17}{attacked:>17}{rows[0]['seconds']:9.1f}")


def spread(rows: list[dict[str, Any]], key: str, style: str) -> str:
    """Mean ± standard deviation."""
    values = [row[key] for row in rows]
    return f"{np.mean(values):{style}} ± {np.std(values):{style}}"


if __name__ == "__main__":
    main()
