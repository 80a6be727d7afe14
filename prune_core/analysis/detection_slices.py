"""Detection at a threshold in slices of the examples, such as languages: rates and costs.

A limit must be met in every slice. Each slice is tested at the policy's error probability, so a
model that violates the limit in any slice passes with at most that probability (an
intersection-union test, Berger 1982).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from . import detection, slices
from .bounded_metrics import BoundedMetric
from .evidence import Evidence


def rates(measured: Evidence) -> pd.DataFrame:
    """Return the rates of both models in each slice of the evidence and for each label."""
    return pd.concat(
        [
            detection.slice_table(rows, masks).assign(positive=positive)
            for positive, rows, masks in _sliced(measured)
        ],
        ignore_index=True,
    )


def recall_loss(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the recall loss of each slice and label, paired over the positives in the slice."""
    return _costs(measured, of_positives=True)


def false_positive_increase(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the increase of the false-positive rate of each slice and label."""
    return _costs(measured, of_positives=False)


def _costs(measured: Evidence, of_positives: bool) -> dict[str, BoundedMetric | str]:
    several = len(measured.tables["threshold"]) > 1
    found = {
        f"{positive} · {name}" if several else name: detection.cost(rows[mask], of_positives)
        for positive, rows, masks in _sliced(measured)
        for name, mask in masks.items()
    }
    none = "the policy names no slice of these examples; add one, such as slices: [column:language]"
    return found or {"": none}


def _sliced(
    measured: Evidence,
) -> Iterator[tuple[str, pd.DataFrame, dict[str, np.ndarray]]]:
    """Yield each label with its evaluated rows and a mask (rows,) for each slice."""
    rows = detection.evaluated(measured.tables["threshold_example"], measured.tables["threshold"])
    # slices by label contain only positives or only negatives
    requested = [name for name in measured.slices if name != "label"]
    for positive, group in rows.groupby("positive", sort=False):
        masks = slices.slice_masks(
            group,
            requested,
            measured.prediction_type,
            names=measured.label_names,
            source=measured.job.experiment["source"],
        )
        yield str(positive), group, masks
