"""Detect evaluation labels that are mapped to the wrong labels of the model.

The predictions of the dense model are compared with the labels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..data.label_pairs import format_pairs
from ..data.labels import LEAVE_OUT, find, is_generic
from ..formatting import inline, percent
from ..statistics import mcnemar
from ..tasks import DEFAULT, METRICS, TaskType, prediction_type

MAX_LABELS = 200  # labels; a longer mapping cannot be read or typed
MAX_PAIRS = 8  # pairs in the sentence
MIN_GAIN = 0.2  # smallest cross-fitted gain in the metric; confused classes rarely gain as much
MAX_P = 0.001  # of the sign test
Z = 3.3  # standard errors by which agreement must exceed chance: one-sided p = 0.0005
MIN_KAPPA = 0.4  # smallest agreement after relabeling: "moderate" (Landis and Koch 1977)


class LabelOrder(NamedTuple):
    """A better mapping of the label values."""

    labels: str  # the value of --labels
    sentence: str


class _Units(NamedTuple):
    """True labels: one for each example, for each word (token) or for each label that holds."""

    example: np.ndarray  # (units,) row of the example
    label: np.ndarray  # (units,)
    predicted: np.ndarray  # (units, labels) bool: predictions for that example or word


def better_order(prediction: pd.DataFrame, facts: Mapping[str, Any]) -> LabelOrder | None:
    """Find the one-to-one relabeling with the best metric; None unless it is much better.

    The gain is estimated by cross-fitting: the relabeling is found on one half of the examples and
    evaluated on the other. It must be at least MIN_GAIN and significant, and agreement then good.
    """
    names, mapping = list(facts.get("label_names") or ()), facts.get("labels") or {}
    rows = prediction[prediction["label"].notna()] if "label" in prediction else prediction
    task_type = prediction_type(str(facts.get("kind", DEFAULT)), str(facts.get("metric")))
    n = len(rows)
    can_be_found = 2 <= len(names) <= MAX_LABELS and n and mapping
    if not task_type.order_metric or not can_be_found:
        return None
    true, predicted = list(rows["label"]), list(rows["dense"])
    units = _Units(*task_type.label_units(true, predicted, names))
    counts = _confusion(units, np.ones(n, bool))
    if (counts.max(1) == counts.diagonal()).all():
        return None  # the usual case, decided before a page imports scipy
    half = _halves(units, n)
    fold_maps = np.array([_best(_confusion(units, half != fold)) for fold in (0, 1)])
    same, best = np.arange(len(names)), _best(counts)
    if not _is_significant(units, fold_maps[half[units.example], units.label], n):
        return None
    current, improved = (
        _score(task_type, rows, names, [same] * n),
        _score(task_type, rows, names, [best] * n),
    )
    if _score(task_type, rows, names, fold_maps[half]) - current < MIN_GAIN:
        return None
    pairs = {
        value: names[best[label]] for value, label in mapping.items() if value and label is not None
    }
    sentence = _sentence(METRICS[task_type.order_metric].title, current, improved, n=n, pairs=pairs)
    reason = "; the model's labels have no names." if is_generic(names) else "."
    return LabelOrder(_flag(mapping, best, names), sentence + reason)


def _confusion(units: _Units, chosen: np.ndarray) -> np.ndarray:
    """(labels, labels) counts of true and predicted labels in the examples that are `chosen`."""
    inside = chosen[units.example]
    counts = np.zeros((units.predicted.shape[1],) * 2)
    np.add.at(counts, units.label[inside], units.predicted[inside])
    return counts


def _halves(units: _Units, n: int) -> np.ndarray:
    """(n,) 0 or 1: random halves of the examples, stratified by their first label; fixed seed."""
    first = np.full(n, -1)
    first[units.example[::-1]] = units.label[::-1]
    order = np.random.default_rng(0).permutation(n)
    half = np.empty(n, dtype=int)
    half[order[np.argsort(first[order], kind="stable")]] = np.arange(n) % 2
    return half


def _best(counts: np.ndarray) -> np.ndarray:
    """(labels,) the relabeling with most correct predictions.

    Ties, such as labels without examples, take the shift of most examples (0: no change), as labels
    that are counted from 1 are all shifted by one.
    """
    from scipy.optimize import linear_sum_assignment

    size = len(counts)
    same = np.arange(size)
    best = linear_sum_assignment(-(counts + np.eye(size) / (size + 1)))[1]
    shift = np.bincount((best - same) % size, counts[same, best], size).argmax()
    return linear_sum_assignment(-(counts + np.roll(np.eye(size), shift, axis=1) / (size + 1)))[1]


def _is_significant(units: _Units, relabeled: np.ndarray, n: int) -> bool:
    """Whether relabeling corrects more examples than it breaks, and agreement is then good.

    The first is an exact sign test over examples (McNemar's test for one label per example). Also a
    bad model may gain accuracy by relabeling, if it predicts one label only or confuses labels
    systematically, but its agreement beyond chance stays low.
    """
    same = np.arange(len(units.label))
    after, before = (
        units.predicted[same, label].astype(float) for label in (relabeled, units.label)
    )
    change = np.bincount(units.example, after - before, n)
    corrected, broken = int((change > 0).sum()), int((change < 0).sum())
    chance = units.predicted.mean(0)[relabeled]
    beyond = np.bincount(units.example, after - chance, n)
    kappa = beyond.sum() / max((1 - chance).sum(), 1e-9)
    error = beyond.std(ddof=1) * np.sqrt(n) if n > 1 else np.inf  # of the sum over examples
    is_unlikely = corrected > broken and mcnemar(broken, corrected) < MAX_P
    return bool(is_unlikely and kappa > MIN_KAPPA and beyond.sum() > Z * error)


def _score(
    task_type: TaskType, rows: pd.DataFrame, names: Sequence[str], maps: Iterable[np.ndarray]
) -> float:
    """Return the metric after relabeling each example by its map."""
    true = [
        task_type.relabel(label, new, names) for label, new in zip(rows["label"], maps, strict=True)
    ]
    return METRICS[task_type.order_metric].compute(true, list(rows["dense"]))


def _flag(mapping: Mapping[str, int | None], best: np.ndarray, names: Sequence[str]) -> str:
    """Return the value of --labels, with a label's number if its name is not unique."""
    spellings = [
        name if find(name, names) == index else str(index) for index, name in enumerate(names)
    ]
    pairs = {
        value: LEAVE_OUT if label is None else spellings[best[label]]
        for value, label in mapping.items()
        if value
    }
    return format_pairs(
        {value: label for value, label in pairs.items() if (value, label) != ("-1", LEAVE_OUT)}
    )


def _sentence(
    title: str, current: float, improved: float, n: int, *, pairs: Mapping[str, str]
) -> str:
    mapping = ", ".join(f"{value} is {label}" for value, label in list(pairs.items())[:MAX_PAIRS])
    if len(pairs) > MAX_PAIRS:
        mapping += f" and {len(pairs) - MAX_PAIRS} more,"
    if title == "Accuracy":
        is_now = f"is correct on {percent(current)} of {n:,} examples"
        would_be = f"be correct on {percent(improved)}"
    else:
        is_now = f"reaches {percent(current)} {inline(title)} on {n:,} examples"
        would_be = f"reach {percent(improved)}"
    return (
        f"With the current mapping of labels, the dense model {is_now}; with {mapping} it would "
        f"{would_be}"
    )
