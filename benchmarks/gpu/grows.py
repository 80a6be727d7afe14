"""How do time and memory grow? AKR with more sequences and with more blocks, and the exponents
of both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from prune_core.methods.akr import AKR
from prune_core.models.devices import matrix_precision
from prune_core.plugins import no_report

from .setting import Row, Setting

LIMIT = 50.0  # seconds
SEQUENCES, BLOCKS = (128, 512, 1024), (6, 12, 24)


def run(setting: Setting) -> Iterator[Row]:
    """A row a size, then the exponents of a log-log fit: 1 is linear, 0 is flat."""
    points = [("sequences", count, count, 12) for count in SEQUENCES] + [
        ("blocks", count, 128, count) for count in BLOCKS
    ]
    _measured(setting, 128, 6)  # kernels load off the clock
    rows: list[Row] = []
    with matrix_precision(tf32=False):
        for what, size, sequences, blocks in points:
            seconds, peak = _measured(setting, sequences, blocks)
            rows.append(
                {
                    "table": "sizes",
                    "grows": what,
                    "size": size,
                    "seconds": seconds,
                    "peak MB": peak / 1e6,
                }
            )
            yield rows[-1]
    for what in ("sequences", "blocks"):
        own = [row for row in rows if row["grows"] == what]
        yield {
            "table": "exponents",
            "grows": what,
            **{figure: exponent(own, figure) for figure in ("seconds", "peak MB")},
        }


def _measured(setting: Setting, sequences: int, blocks: int) -> tuple[float, float]:
    model, batches = copy.deepcopy(setting.shape("BERT-base", blocks)), setting.sample(sequences)
    return setting.peak(lambda: AKR(sparsity=0.5).prune(model, batches, no_report))


def exponent(rows: list[Row], figure: str) -> float:
    """b of figure ≈ a · size^b."""
    size, value = (np.array([row[key] for row in rows], float) for key in ("size", figure))
    return float(np.polyfit(np.log(size), np.log(value), 1)[0])
