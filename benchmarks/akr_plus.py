"""Which combination of AKR's options is best at high sparsity: accuracy, divergence from dense and accuracy under attack.

    python -m benchmarks.akr_plus --checkpoints sst2=../shared/models/sst2-minilm ag_news=FOLDER imdb=FOLDER \\
        --threads 1 --attack 100 --out akr_plus.json

Every variant prunes the same draws of calibration sentences, is judged on the same evaluation sentences, and attacked on the
same ones. Results are kept in the JSON file as they come: the same command goes on where it was stopped. Make a checkpoint by

    python -m prune_core finetune --task ../shared/data/ag_news/train.parquet --validation ../shared/data/ag_news/test.parquet \\
        --out FOLDER --set epochs=1 --set validation_size=1000
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prune_core import data, encoders
from prune_core.examples import Source
from prune_core.experiment import seed_everything
from prune_core.measures.attack import Attack
from prune_core.methods import METHODS
from prune_core.plugins import Pair, build, quiet
from prune_core.predict import probabilities

RECIPE = "TextFooler (MiniLM)"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("", {}),
    "sparsegpt": ("sparsegpt", {}),
    "akr": ("akr", {}),
    "akr_plus": ("akr_plus", {}),
    "akr by error": ("akr", {"allocation": "error"}),
    "akr by admm": ("akr", {"solver": "admm"}),
    "akr_plus, no residual": ("akr_plus", {"residual": "off"}),
    "akr_plus, less damping": ("akr_plus", {"damping": 0.003, "epsilon": 0.003}),
    "akr_plus, 60 rounds": ("akr_plus", {"rounds": 60}),
}


def main() -> None:
    """Every task, sparsity, variant and draw; then the table."""
    options = arguments()
    torch.set_num_threads(options.threads)
    found = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for task, folder in (pair.split("=", 1) for pair in options.checkpoints):
        bench = Bench(task, folder, options)
        for seed in range(options.seeds):
            for sparsity in options.sparsities:
                for name in options.variants:
                    key = f"{task} {name}" if name == "dense" else f"{task} {name} {sparsity:g} {seed}"
                    known = found.setdefault(key, {})
                    if known and (not options.attack or "under_attack" in known):
                        continue
                    known.update(bench.figures(*VARIANTS[name], sparsity, seed))
                    options.out.write_text(json.dumps(found, indent=1))
                    print(key, {quantity: round(value, 4) for quantity, value in known.items()}, flush=True)
        for sparsity in options.sparsities:
            table(task, sparsity, found, options)


def arguments() -> argparse.Namespace:
    """What to run on what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", nargs="+", metavar="TASK=FOLDER", default=["sst2=../shared/models/sst2-minilm"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="TASK/train.parquet, and validation or test beside it")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--sparsities", nargs="*", type=float, default=[0.875])
    parser.add_argument("--seeds", type=int, default=3, help="draws of the calibration sentences")
    parser.add_argument("--sentences", type=int, default=512, help="of calibration")
    parser.add_argument("--evaluation", type=int, default=1000, help="sentences to judge by")
    parser.add_argument("--max-length", type=int, default=128, help="tokens")
    parser.add_argument("--attack", type=int, default=0, help=f"sentences to attack with {RECIPE}; 0 = none")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("akr_plus.json"))
    return parser.parse_args()


class Bench:
    """One task with its dense model."""

    def __init__(self, task: str, folder: str, options: argparse.Namespace):
        self.options = options
        self.model, self.tokenizer = encoders.load(folder)
        where = options.data / task
        evaluation = next(path for name in ("validation", "test") if (path := where / f"{name}.parquet").is_file())
        source = Source(str(evaluation), calibration=str(where / "train.parquet"))
        loaded = data.load(source, tuple(self.model.config.id2label.values()))
        self.task = loaded.sampled(0, options.evaluation, 0)
        self.dense = self._said(self.model)

    def figures(self, method: str, settings: dict[str, Any], sparsity: float, seed: int) -> dict[str, float]:
        """Accuracy, mean KL divergence from dense, seconds to prune, and accuracy under attack where it is asked for."""
        pruned, seconds = self.model, 0.0
        if method:
            sample = self.task.calibration.sample(self.options.sentences, seed, data.CALIBRATION_WORDS)
            batches = data.batches(self.tokenizer, sample, 32, self.options.max_length, torch.device("cpu"))
            pruned, started = copy.deepcopy(self.model), time.perf_counter()
            build(METHODS, method, settings | {"sparsity": sparsity}).prune(pruned, [batch for batch, _ in batches], quiet)
            seconds = time.perf_counter() - started
        said = self._said(pruned)
        found = {
            "accuracy": float((said.argmax(-1) == self.task.evaluation.labels).mean()),
            "divergence": float((self.dense * np.log(self.dense / said)).sum(-1).mean()),
            "seconds": seconds,
        }
        if self.options.attack:
            seed_everything(0)
            attack = Attack(recipes=RECIPE, word_examples=self.options.attack, time_budget=600)
            pair = Pair(self.model, pruned, self.tokenizer, self.task, max_length=self.options.max_length)
            found["under_attack"] = float(attack.measure(pair, quiet)["attack"]["under_attack"].iloc[0])
        return found

    def _said(self, model: torch.nn.Module) -> np.ndarray:
        return probabilities(model, self.tokenizer, self.task.evaluation, 64, self.options.max_length).clip(1e-9)


def table(task: str, sparsity: float, found: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Mean and standard deviation over the draws, a line for each variant."""
    print(f"\n{task} at {sparsity:.1%}, {options.seeds} draws of {options.sentences}; mean ± sd")
    print(f"{'':24}{'accuracy':>18}{'KL to dense':>17}{'under attack':>17}{'seconds':>9}")
    for name in options.variants:
        keys = [f"{task} dense"] if name == "dense" else [f"{task} {name} {sparsity:g} {seed}" for seed in range(options.seeds)]
        rows = [found[key] for key in keys]
        accuracy, divergence = spread(rows, "accuracy", ".2%"), spread(rows, "divergence", ".3f")
        attacked = spread(rows, "under_attack", ".1%") if all("under_attack" in row for row in rows) else "–"
        print(f"{name:24}{accuracy:>18}{divergence:>17}{attacked:>17}{rows[0]['seconds']:9.1f}")


def spread(rows: list[dict[str, float]], key: str, style: str) -> str:
    """Mean ± standard deviation."""
    values = [row[key] for row in rows]
    return f"{np.mean(values):{style}} ± {np.std(values):{style}}"


if __name__ == "__main__":
    main()
