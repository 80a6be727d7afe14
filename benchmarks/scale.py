"""Scaling of time and memory with calibration tokens, layers, models and attacked examples.

    python -m benchmarks.scale [--method akr] [--quick]

Exponents are slopes of a log-log fit. Every point runs in its own process, whose anonymous memory
is monitored (without files that the system may drop). Memory is the increase over the process
before the work; the last column is the estimate that a run shows before it starts. Encoders have
random weights and two layers of BERT-base's width with sequences of 128 tokens, or one of BERT-
large's with 384.
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
SIZES = {  # quantity: sizes, and sizes of --quick
    "calibration sentences": ((64, 256, 1024), (16, 32, 64)),
    "calibration sentences, large": ((128, 512, 1024), (8, 16, 32)),
    "blocks": ((2, 4, 8), (1, 2, 3)),
    "models in a study": ((10, 100, 1000), (10, 20, 40)),
    "attacked examples": ((40, 160, 640), (4, 8, 16)),
}


def main() -> None:
    """Print one row per quantity, with its exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="akr", choices=tuple(METHODS))
    parser.add_argument("--only", default="", choices=("", *SIZES), help="one quantity")
    parser.add_argument("--quick", action="store_true", help="small sizes, to test the benchmark")
    parser.add_argument(
        "--point",
        nargs=2,
        metavar=("WHAT", "SIZE"),
        help="measure one point and print JSON; used internally",
    )
    options = parser.parse_args()
    if options.point:
        print(json.dumps(point(options.point[0], int(options.point[1]), options.method)))
        return
    print(
        "| what grows | sizes | seconds | memory, MB | exponent of time | "
        "exponent of memory | estimated, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for quantity in [options.only] if options.only else SIZES:
        sizes = SIZES[quantity][options.quick]
        points = [_run_point(quantity, size, options.method) for size in sizes]
        seconds, memory = ([result[name] for result in points] for name in ("seconds", "bytes"))
        cells = [
            ", ".join(f"{value:,.0f}" for value in sizes),
            ", ".join(f"{value:.1f}" for value in seconds),
            ", ".join(f"{value / 1e6:,.0f}" for value in memory),
            f"{exponent(sizes, seconds):.2f}",
            f"{exponent(sizes, memory):.2f}",
            ", ".join(
                f"{result['estimate'] / 1e6:,.0f}" for result in points if "estimate" in result
            ),
        ]
        print(f"| {quantity} | {' | '.join(cells)} |", flush=True)


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """Return the slope of a linear fit of the logarithms."""
    return float(
        np.polyfit([log(size) for size in sizes], [log(max(value, 1e-9)) for value in values], 1)[0]
    )


def _run_point(quantity: str, size: int, method: str) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.scale",
        "--point",
        quantity,
        str(size),
        "--method",
        method,
    ]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{quantity}, {size}: {process.stderr.strip()[-500:]}")
    return json.loads(process.stdout.splitlines()[-1])


def point(quantity: str, size: int, method: str) -> dict[str, float]:
    """Return the seconds and peak bytes of one size."""
    if quantity == "models in a study":
        return _pages(size)
    if quantity == "attacked examples":
        return _attack(size)
    if quantity == "calibration sentences, large":
        return _prune(size, 384, LARGE, depth=1, method=method)
    return _prune(
        size if quantity == "calibration sentences" else 64,
        128,
        BASE,
        depth=size if quantity == "blocks" else 2,
        method=method,
    )


def measure_memory(work: Callable[[], object]) -> dict[str, float]:
    """Return the seconds of a call and the peak increase of this process's memory."""
    before, peak, stop = _process_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.02):
            peak = max(peak, _process_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    stop.set()
    thread.join()
    return {"seconds": seconds, "bytes": float(max(peak, _process_memory()) - before)}


def _process_memory() -> int:
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
    experiment = Experiment(
        method=pruner, calibration_size=sentences, batch_size=size, device="cpu"
    )
    estimate = estimate_memory(
        experiment,
        "cpu",
        width["hidden_size"],
        inside=width["intermediate_size"],
        weights=weights,
        tokens=sentences * length,
        longest=length,
    ).total
    return measure_memory(lambda: pruner.prune(model, batches, no_report)) | {
        "estimate": estimate - weights
    }  # the dense model is already loaded


def _attack(examples: int) -> dict[str, float]:
    from prune_core.data.examples import DataSource
    from prune_core.measures.attack import Attack
    from prune_core.measures.base import Pair
    from prune_core.models.checkpoints import loading
    from prune_core.tasks import task_data

    model, tokenizer = loading.load("demo")
    task = task_data.load(DataSource(), loading.label_names(model.config))
    pair = Pair(model, model, tokenizer, task=task)
    Attack(recipes="DeepWordBug", examples=2).measure(
        pair, no_report
    )  # warm-up: imports and caches
    return measure_memory(
        lambda: Attack(recipes="DeepWordBug", examples=examples).measure(pair, no_report)
    )


def _pages(models: int) -> dict[str, float]:
    """Measure the first visit of Overview and Compare for a study with that many models.

    The server has shown an empty store before.
    """
    from streamlit.testing.v1 import AppTest

    from prune_core.queue import jobs

    jobs.ensure_worker = lambda *_, **__: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as home:
        os.environ["PRUNESCOPE_HOME"] = empty
        _show_pages(AppTest.from_file(str(ROOT / PAGES[0]), default_timeout=600))
        os.environ["PRUNESCOPE_HOME"] = home
        _create_study(models)
        return measure_memory(
            lambda: _show_pages(AppTest.from_file(str(ROOT / PAGES[0]), default_timeout=600))
        )


def _show_pages(at: Any) -> None:
    for page in PAGES:
        (at.run() if page == PAGES[0] else at.switch_page(page).run())
        if at.exception:
            raise RuntimeError(at.exception[0].message)


def _create_study(models: int) -> None:
    """Run one experiment on the demo and copy its rows with other sparsities."""
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
                method=method, measures=measures, study="Scale", evaluation_size=200, keep="none"
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
