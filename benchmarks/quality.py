"""Accuracy of every method, sparsity and pattern, mean over calibration samples.

    python -m benchmarks.quality [--checkpoint demo] [--task FILE --calibration FILE] \\
        [--sentences 512] [--seeds 3]
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.pruning_task import PruningTask
from prune_core.methods import METHODS
from prune_core.plugins import build

SETTINGS = ({"sparsity": 0.5}, {"sparsity": 0.7}, {"sparsity": 0.875}, {"pattern": "2:4"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--task", default="../shared/data/sst2/validation.parquet")
    parser.add_argument("--calibration", default="../shared/data/sst2/train.parquet")
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    pruning_task = PruningTask(
        options.task, options.calibration, options.checkpoint, evaluation=0, device=options.device
    )
    dense = pruning_task.score(pruning_task.loaded[0])
    examples = len(pruning_task.task.evaluation)
    print(
        f"dense {dense:.2f}% of {examples}; calibration {options.sentences} examples; mean of "
        f"{options.seeds} samples (each)"
    )
    for setting in SETTINGS:
        for name in options.methods:
            samples = [
                pruning_task.calibration_sample(options.sentences, seed)
                for seed in range(options.seeds)
            ]
            scores = [
                pruning_task.score(pruning_task.pruned(name, setting, sample, seed)[0])
                for seed, sample in enumerate(samples)
            ]
            mean = float(np.mean(scores))
            label = build(METHODS, name, setting).label
            print(
                f"{label:18}{mean:7.2f}{mean - dense:+7.2f}   "
                f"({', '.join(f'{value:.1f}' for value in scores)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
