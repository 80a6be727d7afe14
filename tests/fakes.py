"""A method, measures and a model that take no time, so that tests of the queue wait for nothing but the queue.

As a program it is the command line with the fakes in place: what queue tests start as their worker.
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

CALLS = "FAKE_CALLS"  # names a file to which every stage writes its name when it is called


def note(name: str) -> None:
    if CALLS in os.environ:
        with open(os.environ[CALLS], "a") as calls:
            calls.write(f"{name}\n")


class Net(nn.Module):
    """The least that an experiment asks of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.config = SimpleNamespace(num_labels=2, id2label={0: "negative", 1: "positive"})


class Tokenizer:
    """Word lengths for tokens."""

    model_max_length = 512

    def __call__(self, texts, pairs=None, truncation=True, max_length=512, **_):
        ids = [[len(word) for word in text.split()][:max_length] for text in texts]
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}

    def pad(self, encoded, return_tensors):
        longest = max(map(len, encoded["input_ids"]))
        return {
            key: torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            for key, rows in encoded.items()
        }


def load(checkpoint, labels=None):
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
        note("prune")
        report(0.5, f"{len(batches)} batches")
        with torch.no_grad():
            model.linear.weight.mul_(0.5).add_(torch.randn(4, 4))
        return {
            "prune": pd.DataFrame(
                [
                    {
                        "block": 0,
                        "part": "query",
                        "sparsity": self.sparsity,
                        "damping": 0.0,
                        "seconds": 0.0,
                    }
                ]
            )
        }


@dataclass(frozen=True)
class Draw(Measure):
    """Depends on the weights and on every global generator."""

    name = "draw"
    title = "Draw"
    summary = "Random numbers"
    fails: str = option("", "How it fails", choices=("", "user", "bug", "once"))

    def measure(self, pair, report):
        note("draw")
        if self.fails == "user":
            raise PruneError("draw: something you can mend.")
        if self.fails == "bug" or (
            self.fails == "once" and Path(os.environ[CALLS]).read_text().split().count("draw") == 1
        ):
            raise ValueError("a bug")
        dense = pair.of_dense(
            "draw", lambda: note("dense") or pair.dense.linear.weight.sum().item(), plain=True
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
    """Slow; reports ten times a second, or never."""

    name = "nap"
    title = "Nap"
    summary = "Takes its time"
    slow: ClassVar[bool] = True
    seconds: float = option(0.0, "How long")
    reports: bool = option(True, "Whether it reports")

    def measure(self, pair, report):
        note("nap")
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
        note("hungry")
        if pair.batch_size > self.fits:
            raise torch.OutOfMemoryError("too big")
        return {"hungry": pd.DataFrame([{"batch": pair.batch_size}])}


def _forget() -> None:
    """What runs keep of the last checkpoint: a fake under a real one's name, or the other way round."""
    run._dense.cache_clear()
    run._shared.cache_clear()


def install(patch) -> None:
    """Put the fakes in place through `patch(object, name, value)` and into the registries."""
    METHODS["halve"] = Halve
    MEASURES.update(draw=Draw, nap=Nap, hungry=Hungry)
    patch(loading, "load", load)
    patch(loading, "save", save)
    patch(verification, "check", lambda *_: None)  # a fake is not what the checkpoint's files hold
    _forget()


def remove() -> None:
    _forget()
    METHODS.pop("halve")
    for name in ("draw", "nap", "hungry"):
        MEASURES.pop(name)


def experiment(*measures: Measure, method: Method | None = Halve(), **options) -> Experiment:
    return Experiment(
        method=method,
        measures=measures or (Draw(),),
        **{"calibration": 8, "study": "s", "device": "cpu", **options},
    )


if __name__ == "__main__":
    # this file as a module too: classes are found by the registry, not by where they live
    from prune_core.cli.arguments import main

    install(setattr)
    raise SystemExit(main(sys.argv[1:]))
