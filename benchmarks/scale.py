"""How time and memory grow with calibration tokens, blocks, models in a study and attacked
examples; exponents from a fit.

    python -m benchmarks.scale [--method akr] [--quick]

Every point runs in a process of its own, whose own memory (anonymous pages; files that the system
may drop are not counted) is watched; figures are what the work adds to the process before it, the
last what a run is said to take before it starts. Encoders have random weights and two blocks of
BERT-base's width with sentences of 128 tokens, or one of BERT-large's with 384.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prune_core.experiments.experiment import Experiment
from prune_core.experiments.memory import estimate_memory
from prune_core.methods import METHODS
from prune_core.paths import ROOT
from prune_core.plugins import build, no_report

BASE, LARGE = (
    {"hidden_size": 768, "intermediate_size": 3072},
    {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
)
PAGES = ("app.py", "pages/compare.py")
SIZES = {  # what grows: points, and the points of --quick
    "calibration sentences": ((64, 256, 1024), (16, 32, 64)),
    "calibration sentences, large": ((128, 512, 1024), (8, 16, 32)),
    "blocks": ((2, 4, 8), (1, 2, 3)),
    "models in a study": ((10, 100, 1000), (10, 20, 40)),
    "attacked examples": ((40, 160, 640), (4, 8, 16)),
}


def main() -> None:
    """A line a point, then the exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="akr", choices=tuple(METHODS))
    parser.add_argument("--only", default="", choices=("", *SIZES), help="one kind of growth")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument(
        "--point",
        nargs=2,
        metavar=("WHAT", "SIZE"),
        help="one point, as JSON; what the benchmark starts itself with",
    )
    options = parser.parse_args()
    if options.point:
        print(json.dumps(point(options.point[0], int(options.point[1]), options.method)))
        return
    print(
        "| what grows | sizes | seconds | own memory, MB | time grows with size to the power of | "
        "memory | estimated, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for what in [options.only] if options.only else SIZES:
        sizes = SIZES[what][options.quick]
        found = [_apart(what, size, options.method) for size in sizes]
        seconds, memory = ([each[name] for each in found] for name in ("seconds", "bytes"))
        cells = [
            ", ".join(f"{value:,.0f}" for value in sizes),
            ", ".join(f"{value:.1f}" for value in seconds),
            ", ".join(f"{value / 1e6:,.0f}" for value in memory),
            f"{exponent(sizes, seconds):.2f}",
            f"{exponent(sizes, memory):.2f}",
            ", ".join(f"{each['estimate'] / 1e6:,.0f}" for each in found if "estimate" in each),
        ]
        print(f"| {what} | {' | '.join(cells)} |", flush=True)


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """The slope of a straight line through the logarithms."""
    return float(
        np.polyfit([log(size) for size in sizes], [log(max(value, 1e-9)) for value in values], 1)[0]
    )


def _apart(what: str, size: int, method: str) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.scale",
        "--point",
        what,
        str(size),
        "--method",
        method,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{what}, {size}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def point(what: str, size: int, method: str) -> dict[str, float]:
    """Seconds and most bytes of one size."""
    if what == "models in a study":
        return _pages(size)
    if what == "attacked examples":
        return _attack(size)
    if what == "calibration sentences, large":
        return _prune(size, 384, LARGE, depth=1, method=method)
    return _prune(
        size if what == "calibration sentences" else 64,
        128,
        BASE,
        depth=size if what == "blocks" else 2,
        method=method,
    )


def watched(work: Callable[[], object]) -> dict[str, float]:
    """How long it took, and by how much this process's own memory grew at most."""
    before, most, over = _own(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.02):
            most = max(most, _own())

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    over.set()
    thread.join()
    return {"seconds": seconds, "bytes": float(max(most, _own()) - before)}


def _own() -> int:
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def _prune(
    sentences: int, length: int, width: dict[str, int], depth: int, method: str
) -> dict[str, float]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=depth, **width)).eval()
    size = min(16, sentences)
    batches = [
        {
            "input_ids": torch.randint(5, 30000, (size, length)),
            "attention_mask": torch.ones(size, length, dtype=torch.long),
        }
        for _ in range(sentences // size)
    ]
    weights = 4.0 * sum(parameter.numel() for parameter in model.parameters())
    pruner = build(METHODS, method, {"sparsity": 0.5})
    asked = Experiment(method=pruner, calibration=sentences, batch_size=size, device="cpu")
    estimate = estimate_memory(
        asked,
        "cpu",
        width["hidden_size"],
        inside=width["intermediate_size"],
        weights=weights,
        tokens=sentences * length,
        longest=length,
    ).total
    return watched(lambda: pruner.prune(model, batches, no_report)) | {
        "estimate": estimate - weights
    }  # the dense model is there already


def _attack(examples: int) -> dict[str, float]:
    from prune_core.data import tasks
    from prune_core.data.examples import DataSource
    from prune_core.measures.attack import Attack
    from prune_core.measures.base import Pair
    from prune_core.models.checkpoints import loading

    model, tokenizer = loading.load("demo")
    task = tasks.load(DataSource(), loading.label_names(model.config))
    pair = Pair(model, model, tokenizer, task=task)
    Attack(recipes="DeepWordBug", examples=2).measure(
        pair, no_report
    )  # imports, and what is read once
    return watched(
        lambda: Attack(recipes="DeepWordBug", examples=examples).measure(pair, no_report)
    )


def _pages(models: int) -> dict[str, float]:
    """Overview and Compare of a study of so many models, seen for the first time by a server
    that has shown an empty store.
    """
    from streamlit.testing.v1 import AppTest

    from prune_core.queue import jobs

    jobs.ensure_worker = lambda *_, **__: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as home:
        os.environ["PRUNESCOPE_HOME"] = empty
        _shown(AppTest.from_file(str(ROOT / PAGES[0]), default_timeout=600))
        os.environ["PRUNESCOPE_HOME"] = home
        _study(models)
        return watched(lambda: _shown(AppTest.from_file(str(ROOT / PAGES[0]), default_timeout=600)))


def _shown(at: Any) -> None:
    for page in PAGES:
        (at.run() if page == PAGES[0] else at.switch_page(page).run())
        if at.exception:
            raise RuntimeError(at.exception[0].message)


def _study(models: int) -> None:
    """One experiment of the demo, run, and its rows again under other sparsities."""
    from prune_core.cli.run_commands import run_in_process
    from prune_core.measures import MEASURES
    from prune_core.store.store import Store

    store, measures = (
        Store(),
        tuple(build(MEASURES, name, None) for name in ("accuracy", "reconstruction")),
    )
    dense, pruned = (
        run_in_process(
            store,
            Experiment(
                method=method, measures=measures, study="Scale", evaluation=200, keep="none"
            ),
        )
        for method in (None, build(METHODS, "magnitude", {"sparsity": 0.5}))
    )
    for number in range(1, models):
        id = store.copy(pruned.id, "Scale")
        method = {
            "name": "magnitude",
            "options": pruned.experiment["method"]["options"] | {"sparsity": number / (models + 1)},
        }
        store.update(
            id,
            experiment=pruned.experiment | {"method": method},
            label=f"Magnitude {number / (models + 1):.2%}",
            key=f"{pruned.key}{number}",
        )
    assert len(store.jobs("Scale")) == models + 1 and dense.status == "done"


if __name__ == "__main__":
    main()
