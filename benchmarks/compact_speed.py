"""Theoretical and measured speed-up of compact models by the fraction of FLOPs removed.

    python -m benchmarks.compact_speed [--method kprune] [--sparsity 0.5 0.8] [--batch 32] \\
        [--length 128] [--device auto] [--bert-base]

The dense model is timed with transformers' forward, the compact model after loading it from a
folder; passes alternate. Goal on two cores at batch 32, length 128: a speed-up of at least 1.7 at
50% and 3 at 80%. --bert-base times a random model of that size, for a GPU.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import torch

from benchmarks.gpu.device_setup import DeviceSetup
from prune_core import load
from prune_core.data.examples import DataSource
from prune_core.measures.base import Pair
from prune_core.measures.cost import Cost
from prune_core.methods import METHODS
from prune_core.models import devices, replay
from prune_core.models.checkpoints import loading
from prune_core.models.compact import compact_model
from prune_core.plugins import build, no_report
from prune_core.tasks import encoding, task_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--task", default="demo", help="task with the calibration examples")
    parser.add_argument("--method", default="kprune")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.5, 0.8])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--bert-base", action="store_true")
    options = parser.parse_args()
    device = devices.pick_device(options.device)
    dense, tokenizer = loading.load(options.checkpoint)
    dense = DeviceSetup(device).shape("BERT-base") if options.bert_base else dense.to(device)
    task = task_data.load(
        DataSource(options.task),
        tuple(dense.config.id2label.values()),
        kind=replay.task_type_of(dense).name,
    )
    batches = [
        batch
        for batch, _ in encoding.batches(
            tokenizer, task.calibration, 32, max_length=128, device=device, labelled=True
        )
    ]
    print(
        f"{devices.device_title(device)}; batch {options.batch}, length {options.length}, p50 of "
        f"{options.repeats} alternating passes"
    )
    print(
        f"{'':26}{'ms':>9}{'p95':>9}{'/s':>9}{'counted':>9}{'measured':>9}{'MB':>8}{'peak MB':>9}"
    )
    cost = Cost(batch=options.batch, length=options.length, repeats=options.repeats)
    for sparsity in options.sparsity:
        torch.manual_seed(0)
        method = build(METHODS, options.method, {"sparsity": sparsity})
        pruned = copy.deepcopy(dense)
        method.prune(pruned, batches, no_report)
        with tempfile.TemporaryDirectory() as folder:
            loading.save(compact_model(pruned), tokenizer, Path(folder))
            compact = load(folder)[0].to(device)
        rows = cost.measure(Pair(dense, compact, tokenizer, task=task), no_report)["cost"]
        for name, (_, row) in zip(("dense", method.label), rows.iterrows(), strict=True):
            print(
                f"{name:26}{row.latency_p50 * 1e3:9.1f}{row.latency_p95 * 1e3:9.1f}"
                f"{row.throughput:9.1f}{row.speedup_theoretical:9.2f}"
                f"{row.speedup_measured:9.2f}{row.bytes / 1e6:8.1f}{row.peak_memory / 1e6:9.1f}  "
                f"{row.limit}",
                flush=True,
            )


if __name__ == "__main__":
    main()
