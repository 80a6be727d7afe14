"""Scaling of AKR's time and memory with sequences and layers, and their exponents."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from prune_core.methods.akr import AKR
from prune_core.models.devices import matrix_precision
from prune_core.plugins import no_report

from .device_setup import DeviceSetup, Row

LIMIT = 50.0  # seconds
SEQUENCES, BLOCKS = (128, 512, 1024), (6, 12, 24)


def run(setup: DeviceSetup) -> Iterator[Row]:
    """Yield one row per size, then the exponents of a log-log fit: 1 is linear, 0 constant."""
    points = [("sequences", count, count, 12) for count in SEQUENCES] + [
        ("blocks", count, 128, count) for count in BLOCKS
    ]
    _measure(setup, 128, 6)  # warm-up: load kernels before timing
    rows: list[Row] = []
    with matrix_precision(tf32=False):
        for quantity, size, sequences, blocks in points:
            seconds, peak = _measure(setup, sequences, blocks)
            rows.append(
                {
                    "table": "sizes",
                    "quantity": quantity,
                    "size": size,
                    "seconds": seconds,
                    "peak MB": peak / 1e6,
                }
            )
            yield rows[-1]
    for quantity in ("sequences", "blocks"):
        rows_of_quantity = [row for row in rows if row["quantity"] == quantity]
        yield {
            "table": "exponents",
            "quantity": quantity,
            **{metric: exponent(rows_of_quantity, metric) for metric in ("seconds", "peak MB")},
        }


def _measure(setup: DeviceSetup, sequences: int, blocks: int) -> tuple[float, float]:
    model, batches = copy.deepcopy(setup.shape("BERT-base", blocks)), setup.sample(sequences)
    return setup.peak(lambda: AKR(sparsity=0.5).prune(model, batches, no_report))


def exponent(rows: list[Row], metric: str) -> float:
    """Return b of metric ≈ a · size^b."""
    size, value = (np.array([row[key] for row in rows], float) for key in ("size", metric))
    return float(np.polyfit(np.log(size), np.log(value), 1)[0])
