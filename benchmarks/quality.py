"""Accuracy after pruning, against the dense model: every method, sparsity and pattern, mean of several calibration draws.

    python -m benchmarks.quality [--checkpoint demo] [--task FILE --calibration FILE] [--sentences 512] [--seeds 3]
"""

from __future__ import annotations

import argparse
import copy

import numpy as np
import torch

from prune_core import data, encoders
from prune_core.examples import Source
from prune_core.methods import METHODS
from prune_core.plugins import build, quiet
from prune_core.predict import probabilities

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
    model, tokenizer = encoders.load(options.checkpoint)
    model.to(encoders.pick_device(options.device))
    task = data.load(Source(options.task, calibration=options.calibration), tuple(model.config.id2label.values()))
    dense = score(model, tokenizer, task)
    print(f"dense {dense:.2f}% of {len(task.evaluation)}; calibration {options.sentences} sentences; mean of {options.seeds} draws (each)")
    for setting in SETTINGS:
        for name in options.methods:
            method = build(METHODS, name, setting)
            found = [pruned_score(method, model, tokenizer, task, options.sentences, seed) for seed in range(options.seeds)]
            mean = float(np.mean(found))
            print(f"{method.label:18}{mean:7.2f}{mean - dense:+7.2f}   ({', '.join(f'{value:.1f}' for value in found)})", flush=True)


def score(model: torch.nn.Module, tokenizer: object, task: data.Task) -> float:
    """Accuracy in percent."""
    guesses = probabilities(model, tokenizer, task.evaluation, 64).argmax(-1)
    return float((guesses == task.evaluation.labels).mean() * 100)


def pruned_score(method: object, model: torch.nn.Module, tokenizer: object, task: data.Task, sentences: int, seed: int) -> float:
    """Accuracy of a pruned copy, with that draw of calibration sentences."""
    sample = task.calibration.sample(sentences, seed, data.CALIBRATION_WORDS)
    device = encoders.device_of(model)
    pruned = copy.deepcopy(model)
    method.prune(pruned, [batch for batch, _ in data.batches(tokenizer, sample, 32, 128, device)], quiet)
    return score(pruned, tokenizer, task)


if __name__ == "__main__":
    main()
