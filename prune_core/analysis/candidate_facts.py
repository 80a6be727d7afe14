"""Facts and warnings about a candidate: about its file and about its predictions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..formatting import percent
from ..plugins import CANDIDATE
from .evidence import Evidence

COLUMNS = ["fact", "value", "warning"]
CONSTANT = 0.99  # fraction of identical predictions that counts as constant
MIN_GAIN = 0.2  # increase of agreement with another label order that causes a warning
LOW_AGREEMENT = 0.5  # agreement on one label below which a warning is given
MIN_EXAMPLES = 5  # per label, for this warning


def candidate_facts(measured: Evidence) -> pd.DataFrame:
    """Return the columns fact, value and warning ("" if nothing is wrong); empty for other jobs."""
    rows = measured.tables[CANDIDATE]
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    found = pd.DataFrame(_prediction_facts(measured), columns=COLUMNS)
    return pd.concat([rows[COLUMNS], found], ignore_index=True)


def warnings(facts: pd.DataFrame) -> list[str]:
    """Return the warnings among the facts."""
    return [warning for warning in facts["warning"] if warning]


def _prediction_facts(measured: Evidence) -> Iterator[tuple[str, str, str]]:
    """Yield facts about the predictions: constant outputs, agreement per label, label order."""
    rows, names = measured.tables["prediction"], measured.label_names
    if rows.empty:
        return
    if not measured.prediction_type.is_discrete:
        if rows["pruned"].nunique() == 1:
            yield "predicted values", "one", "It predicts the same value for every example."
        return
    if not measured.prediction_type.is_single_label:
        return
    dense, candidate = (rows[side].to_numpy(int) for side in ("dense", "pruned"))
    counts, reference = (np.bincount(side, minlength=len(names)) for side in (candidate, dense))
    n, most = len(rows), int(counts.argmax())
    shares = ", ".join(
        f"{name} {percent(count / n)} (dense {percent(before / n)})"
        for name, count, before in zip(names, counts, reference, strict=True)
    )
    warning = ""
    if counts[most] >= CONSTANT * n > reference[most]:
        warning = (
            f"It predicts {names[most]!r} for {percent(counts[most] / n)} of the examples, the "
            f"dense model for {percent(reference[most] / n)}; its outputs are almost constant."
        )
    yield "predicted labels", shares, warning
    yield _agreement_by_label(dense, candidate, names)
    yield from _other_order(dense, candidate, names)


def _agreement_by_label(
    dense: np.ndarray, candidate: np.ndarray, names: list[str]
) -> tuple[str, str, str]:
    """Describe the agreement with the dense model, by label that the dense model predicts."""
    parts, low = [], []
    for label, name in enumerate(names):
        chosen = dense == label
        if n := int(chosen.sum()):
            agreement = float((candidate[chosen] == label).mean())
            parts.append(f"{name} {percent(agreement)} of {n}")
            low += [name] if agreement < LOW_AGREEMENT and n >= MIN_EXAMPLES else []
    warning = (
        f"It agrees with the dense model on less than half of the examples of {', '.join(low)}."
        if low
        else ""
    )
    return "agreement by label", ", ".join(parts), warning


def _other_order(
    dense: np.ndarray, candidate: np.ndarray, names: list[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield a warning if another order of the labels agrees much better with the dense model."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (candidate, dense), 1)
    labels, best = linear_sum_assignment(-counts)
    current = np.trace(counts) / len(candidate)
    improved = counts[labels, best].sum() / len(candidate)
    if improved - current < MIN_GAIN or len(set(candidate)) < 2:
        return
    meaning = ", ".join(
        f"{names[label]} means {names[other]}"
        for label, other in zip(labels, best, strict=True)
        if label != other
    )
    yield (
        "label order",
        f"agreement {percent(current)}, in another order {percent(improved)}",
        f"Its labels seem to be in another order: {meaning}. Correct id2label in its config.json.",
    )
