"""Fake method, measures and model that take no time, so that queue tests wait only for the queue.

Run as a script, it is the command line with the fakes installed; queue tests start it as a worker.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from prune_core import PruneError
from prune_core.experiments import run
from prune_core.experiments.experiment import Experiment
from prune_core.measures import MEASURES
from prune_core.measures.base import Measure
from prune_core.methods import METHODS
from prune_core.models.checkpoints import difference, loading, verification
from prune_core.plugins import Method, option

CALLS = "FAKE_CALLS"  # environment variable with the file to which stages append their names


def log_call(name: str) -> None:
    if CALLS in os.environ:
        with open(os.environ[CALLS], "a") as calls:
            calls.write(f"{name}\n")


class Net(nn.Module):
    """The minimal interface that an experiment needs of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.config = SimpleNamespace(num_labels=2, id2label={0: "negative", 1: "positive"})


class Tokenizer:
    """Tokenizer whose token ids are word lengths."""

    model_max_length = 512

    def __call__(self, texts, pairs=None, truncation=True, max_length=512, **_):
        ids = [[len(word) for word in text.split()][:max_length] for text in texts]
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}

    def pad(self, encoded, return_tensors, pad_to_multiple_of=None):
        longest = max(map(len, encoded["input_ids"]))
        return {
            key: torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            for key, rows in encoded.items()
        }


def load(checkpoint, labels=None, pooling=""):
    torch.manual_seed(1)
    net = Net()
    if (Path(checkpoint) / "net.pt").is_file():
        net.load_state_dict(torch.load(Path(checkpoint) / "net.pt", weights_only=True))
    if difference.read_metadata(checkpoint):
        difference.apply(net, Path(checkpoint))
    return net.eval(), Tokenizer()


def save(model, tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "net.pt")


@dataclass(frozen=True)
class Halve(Method):
    name = "halve"
    title = "Halve"
    summary = "Halves every weight and adds noise"

    def prune(self, model, batches, report):
        log_call("prune")
        report(0.5, f"{len(batches)} batches")
        with torch.no_grad():
            model.linear.weight.mul_(0.5).add_(torch.randn(4, 4))
        return {
            "prune": pd.DataFrame(
                [
                    {
                        "block": 0,
                        "projection": "query",
                        "sparsity": self.sparsity,
                        "damping": 0.0,
                        "seconds": 0.0,
                    }
                ]
            )
        }


@dataclass(frozen=True)
class Draw(Measure):
    """A measure that depends on the weights and on every global random generator."""

    name = "draw"
    title = "Draw"
    summary = "Random numbers"
    fails: str = option("", "How it fails", choices=("", "user", "bug", "once"))

    def measure(self, pair, report):
        log_call("draw")
        if self.fails == "user":
            raise PruneError("draw: an error that the user can fix.")
        if self.fails == "once":
            is_first_call = Path(os.environ[CALLS]).read_text().split().count("draw") == 1
        if self.fails == "bug" or (self.fails == "once" and is_first_call):
            raise ValueError("a bug")
        dense = pair.of_dense(
            "draw",
            lambda: log_call("dense") or pair.dense.linear.weight.sum().item(),
            plain=True,
        )
        weight = pair.pruned.linear.weight.sum().item()
        numbers = {
            "python": random.random(),
            "numpy": np.random.rand(),
            "torch": torch.rand(()).item(),
        }
        return {
            "draw": pd.DataFrame(
                [{"weight": weight, "dense": dense, "n": len(pair.task.evaluation), **numbers}]
            )
        }


@dataclass(frozen=True)
class Nap(Measure):
    """A slow measure that reports ten times per second, or never."""

    name = "nap"
    title = "Nap"
    summary = "Sleeps"
    slow: ClassVar[bool] = True
    seconds: float = option(0.0, "How long")
    reports: bool = option(True, "Whether it reports")

    def measure(self, pair, report):
        log_call("nap")
        if not self.reports:
            time.sleep(self.seconds)
        for step in range(int(self.seconds * 10)) if self.reports else ():
            report(step / (self.seconds * 10), f"napping, step {step}")
            time.sleep(0.1)
        return {"nap": pd.DataFrame([{"seconds": self.seconds}])}


@dataclass(frozen=True)
class Hungry(Measure):
    name = "hungry"
    title = "Hungry"
    summary = "Fits into memory only with small batches"
    fits: int = option(8, "The largest batch that fits", low=0)

    def measure(self, pair, report):
        log_call("hungry")
        if pair.batch_size > self.fits:
            raise torch.OutOfMemoryError("too big")
        return {"hungry": pd.DataFrame([{"batch": pair.batch_size}])}


def _clear_caches() -> None:
    """Clear the caches of dense models: a fake may have the name of a real checkpoint."""
    run._dense.cache_clear()
    run._shared.cache_clear()


def install(patch) -> None:
    """Install the fakes with `patch(object, name, value)` and in the registries."""
    METHODS["halve"] = Halve
    MEASURES.update(draw=Draw, nap=Nap, hungry=Hungry)
    patch(loading, "load", load)
    patch(loading, "save", save)
    # a fake model does not match the checkpoint's files
    patch(verification, "check", lambda *_, **__: None)
    _clear_caches()


def remove() -> None:
    _clear_caches()
    METHODS.pop("halve")
    for name in ("draw", "nap", "hungry"):
        MEASURES.pop(name)


def experiment(*measures: Measure, method: Method | None = Halve(), **options) -> Experiment:
    return Experiment(
        method=method,
        measures=measures or (Draw(),),
        **{"calibration_size": 8, "study": "s", "device": "cpu", **options},
    )


if __name__ == "__main__":
    # this file is imported as a module too: the registry finds classes by name, not by identity
    from prune_core.cli.arguments import main

    install(setattr)
    raise SystemExit(main(sys.argv[1:]))
