"""How far a classifier's confidence is from how often it is right."""

from __future__ import annotations

import numpy as np

BINS = 10


def squared_error(right: np.ndarray, probabilities: np.ndarray) -> float:
    """The squared calibration error: mean over bins of equally many examples of the squared gap between confidence and accuracy,
    less what chance adds to it (Kumar et al., Verified Uncertainty Calibration, 2019), so it may fall below zero.

    The usual absolute error cannot be compared fairly: chance adds most to the model that is calibrated best. `right` (examples,)
    is each one's label, `probabilities` (examples, labels) what the model says.
    """
    sure = probabilities.max(1)
    gap = ((probabilities.argmax(1) == right) - sure)[np.argsort(sure, kind="stable")]
    edges = np.linspace(0, len(gap), max(1, min(BINS, len(gap) // 2)) + 1).astype(int)
    n = np.diff(edges)
    mean = np.add.reduceat(gap, edges[:-1]) / n
    noise = (np.add.reduceat(gap**2, edges[:-1]) / n - mean**2) / np.maximum(1, n - 1)
    return float((n * (mean**2 - noise)).sum() / len(gap))


def root(squared: float) -> float:
    """With the sign kept: a rise in squared error as a rise in error."""
    return float(np.sign(squared) * np.sqrt(abs(squared)))
