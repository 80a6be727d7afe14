"""Calibration error: the gap between a classifier's confidence and its accuracy."""

import numpy as np

BINS = 10


def squared_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the debiased squared calibration error, which may be below zero.

    It is the mean over bins of equally many examples of the squared gap between confidence and
    accuracy, less its bias by chance (Kumar et al., Verified Uncertainty Calibration, 2019). The
    usual absolute error does not allow a fair comparison: its bias is largest for the model with
    the best calibration. Shapes: labels (examples,), probabilities (examples, labels).
    """
    confidence = probabilities.max(1)
    gap = ((probabilities.argmax(1) == labels) - confidence)[np.argsort(confidence, kind="stable")]
    edges = np.linspace(0, len(gap), max(1, min(BINS, len(gap) // 2)) + 1).astype(int)
    n = np.diff(edges)
    mean = np.add.reduceat(gap, edges[:-1]) / n
    noise = (np.add.reduceat(gap**2, edges[:-1]) / n - mean**2) / np.maximum(1, n - 1)
    return float((n * (mean**2 - noise)).sum() / len(gap))


def signed_root(squared: float) -> float:
    """Return the square root with the sign of `squared`."""
    return float(np.sign(squared) * np.sqrt(abs(squared)))
