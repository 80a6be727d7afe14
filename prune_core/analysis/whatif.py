"""What a model would lose with other shares of zeros in its blocks, predicted from runs in which one block at a time was exchanged.

Errors of single blocks add up as squares, as independent ones do; what each does to an example's log-odds (or score) adds up as it
is. Both are first-order: `held` says how far they were right on runs that are there. Rows in, figures out; knows no charts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..data.metrics import METRICS, THRESHOLD
from ..store.job import Job
from .compared_models import ComparedModel

LEAST = 1e-6  # of a probability, below which its logarithm says nothing
STEP = 0.01  # of a block's weights, in which shares are given out


@dataclass(frozen=True)
class Curve:
    """One block: what it costs alone at each sparsity that was run, and where 0 costs nothing."""

    weights: int
    sparsities: np.ndarray  # (points,), rising, above 0
    errors: np.ndarray  # (points,) of the encoder's output, relative
    moves: (
        np.ndarray
    )  # (points, examples, labels) of log-odds or scores; no examples where none are known

    def error(self, sparsity: float) -> float:
        """A power law between the points, and from the first two on to 0."""
        if sparsity <= 0:
            return 0.0
        x, y = np.log(self.sparsities), np.log(np.maximum(self.errors, 1e-12))
        place = int(np.clip(np.searchsorted(x, np.log(sparsity)), 1, len(x) - 1))
        slope = (y[place] - y[place - 1]) / (x[place] - x[place - 1])
        return float(np.exp(y[place] + slope * (np.log(sparsity) - x[place])))

    def moved(self, sparsity: float) -> np.ndarray:
        """(examples, labels), in proportion to the error between the points and from 0 to the first."""
        error, known = (
            self.error(sparsity),
            np.concatenate([[0.0], np.maximum.accumulate(self.errors)]),
        )
        moves = np.concatenate([np.zeros_like(self.moves[:1]), self.moves])
        place = int(np.clip(np.searchsorted(known, error), 1, len(known) - 1))
        span = known[place] - known[place - 1]
        share = (error - known[place - 1]) / span if span > 0 else 1.0
        return moves[place - 1] + share * (moves[place] - moves[place - 1])


@dataclass(frozen=True)
class Curves:
    """Of one method with one set of options on one checkpoint."""

    blocks: tuple[Curve, ...]
    kind: str  # of what the examples are answered with
    metric: str
    dense: np.ndarray  # (examples, labels) log-odds or scores
    right: list[Any]  # of the examples; what the dense model says where they have no labels
    base: int  # job of a run, whose other options a new one takes over
    threshold: float | None = None  # of the score, for a binary classifier with one output

    @property
    def most(self) -> float:
        """The largest sparsity that every block was run at."""
        return min(float(block.sparsities[-1]) for block in self.blocks)

    def overall(self, shares: Sequence[float]) -> float:
        """The sparsity of the encoder."""
        return float(np.average(shares, weights=[block.weights for block in self.blocks]))


@dataclass(frozen=True)
class PredictedOutcome:
    """What a plan of shares comes to, predicted or measured; NaN where it cannot be known."""

    error: float  # of the encoder's output, relative
    score: float = np.nan
    agreement: float = np.nan  # with the dense model
    n: int = 0


def setup(job: Job) -> str:
    """What runs must share to lie on one curve: checkpoint, sample, method, and its options but for how much it removes and where."""
    plan, method = job.experiment, job.experiment["method"]
    options = {
        name: value
        for name, value in method["options"].items()
        if name not in ("sparsity", "allocation")
    }
    measured = [each["options"] for each in plan["measures"] if each["name"] == "sensitivity"]
    sample = [plan.get(name) for name in ("source", "evaluation", "max_length", "min_words")]
    return json.dumps(
        [plan["checkpoint"], method["name"], options, measured, sample], sort_keys=True
    )


def can_be_planned(job: Job) -> bool:
    """Whether its method takes a share for every block: one that removes single weights, and not by a pattern."""
    options = (job.experiment["method"] or {}).get("options", {})
    return "allocation" in options and not options.get("pattern")


def _is_listed(job: Job) -> bool:
    return "," in str(job.experiment["method"]["options"]["allocation"])


def curves_of(jobs: Sequence[Job], rows: pd.DataFrame, examples: pd.DataFrame) -> Curves | None:
    """From runs of one setup, those with shares of their own left aside as tests; None where fewer than two sparsities are there."""
    source = [
        job
        for job in sorted(jobs, key=lambda job: (int(job.experiment["seed"]), job.id))
        if not _is_listed(job)
    ]
    source = [job for job in source if (rows["job"] == job.id).any()]
    if not source:
        return None
    first = source[0]
    kind = str(first.facts.get("kind", "classification"))
    own = examples[examples["job"] == first.id] if len(examples) else examples
    dense, right = _dense(own, kind)
    source = [
        job for job in source if job.experiment["seed"] == first.experiment["seed"]
    ]  # others are measured on other sentences
    blocks = tuple(
        _curve(
            index,
            [(job.id, rows[rows["job"] == job.id]) for job in source],
            examples,
            kind=kind,
            dense=dense,
        )
        for index in sorted(rows.loc[rows["job"] == first.id, "block"])
    )
    if any(len(block.sparsities) < 2 for block in blocks):
        return None
    metric, threshold = str(first.facts.get("metric", "accuracy")), first.facts.get("threshold")
    return Curves(
        blocks, kind, metric, dense=dense, right=right, base=first.id, threshold=threshold
    )


def _dense(own: pd.DataFrame, kind: str) -> tuple[np.ndarray, list[Any]]:
    if own.empty:
        return np.zeros((0, 1)), []
    dense = _odds(own["said_dense"], kind)
    right = list(own["right"])
    return dense, _said(dense, kind) if right[0] is None else right


def _curve(
    index: int,
    runs: Sequence[tuple[int, pd.DataFrame]],
    examples: pd.DataFrame,
    kind: str,
    dense: np.ndarray,
) -> Curve:
    points: dict[float, tuple[float, np.ndarray]] = {}
    weights = 0
    for job, rows in runs:
        row = rows[rows["block"] == index].iloc[0]
        weights = int(row["weights"])
        sparsity = round(float(row["sparsity"]), 3)
        if sparsity > 0 and sparsity not in points:
            said = examples.loc[examples["job"] == job, "said_blocks"] if len(examples) else ()
            moves = (
                _odds([blocks[index] for blocks in said], kind) - dense if len(said) else dense * 0
            )
            points[sparsity] = float(row["error"]), moves
    order = sorted(points)
    moves = (
        np.stack([points[sparsity][1] for sparsity in order])
        if order
        else np.zeros((0, *dense.shape))
    )
    return Curve(
        weights, np.array(order), np.array([points[sparsity][0] for sparsity in order]), moves=moves
    )


def _odds(said: Any, kind: str) -> np.ndarray:
    """(examples, labels) probabilities or scores as what adds up."""
    found = np.array(list(said), float)
    if kind == "regression":
        return found
    found = found.clip(LEAST, 1 - LEAST)
    return np.log(found) if kind == "classification" else np.log(found / (1 - found))


def _said(odds: np.ndarray, kind: str) -> list[Any]:
    """What a model with these log-odds or scores answers."""
    if kind == "regression":
        return [float(score) for score in odds[:, 0]]
    return odds.argmax(1).tolist() if kind == "classification" else (odds > 0).astype(int).tolist()


def predict(curves: Curves, shares: Sequence[float]) -> PredictedOutcome:
    """With these shares of zeros in the blocks."""
    pairs = list(zip(curves.blocks, shares, strict=True))
    error = float(np.sqrt(sum(block.error(share) ** 2 for block, share in pairs)))
    return _outcome(
        curves,
        error,
        curves.dense
        + sum((block.moved(share) for block, share in pairs), np.zeros_like(curves.dense)),
    )


def _outcome(curves: Curves, error: float, odds: np.ndarray) -> PredictedOutcome:
    if not len(odds):
        return PredictedOutcome(error)
    # metrics of binary classifiers with one output put the threshold at 0.5
    shift = 0.0 if curves.threshold is None else THRESHOLD - curves.threshold
    was, now = (_said(each + shift, curves.kind) for each in (curves.dense, odds))
    score = METRICS[curves.metric].compute(curves.right, now)
    same = [a == b for a, b in zip(was, now, strict=True)]
    agreement = (
        METRICS["pearson"].compute(was, now) if curves.kind == "regression" else np.mean(same)
    )
    return PredictedOutcome(error, float(score), float(agreement), n=len(now))


def lowest_error(curves: Curves, overall: float) -> list[float]:
    """The shares that lose least by the prediction at that sparsity of the encoder: step by step where a weight costs least."""
    shares, sizes = (
        np.zeros(len(curves.blocks)),
        np.array([block.weights for block in curves.blocks], float),
    )

    def price(index: int) -> float:
        block, share = curves.blocks[index], shares[index]
        if share + STEP > block.sparsities[-1] + 1e-9:
            return np.inf  # nothing is known beyond
        return float(block.error(share + STEP) ** 2 - block.error(share) ** 2) / sizes[index]

    prices = [price(index) for index in range(len(shares))]
    while (
        shares @ sizes < (overall - STEP / 2 / len(shares)) * sizes.sum() and min(prices) < np.inf
    ):
        cheapest = int(np.argmin(prices))
        shares[cheapest] = round(shares[cheapest] + STEP, 4)
        prices[cheapest] = price(cheapest)
    return [float(share) for share in shares]


@dataclass(frozen=True)
class PredictionCheck:
    """A run that is there beside what would have been predicted for it."""

    model: ComparedModel
    own_shares: bool  # its blocks' shares were chosen, so it is no part of the curves
    predicted: PredictedOutcome
    measured: PredictedOutcome  # on the same sentences


def prediction_checks(
    curves: Curves,
    models: Sequence[ComparedModel],
    jobs: Mapping[int, Job],
    rows: pd.DataFrame,
    examples: pd.DataFrame,
) -> list[PredictionCheck]:
    """For runs of the curves' setup and seed. Of those that the curves come from, it tests that blocks add up, and no more."""
    found = []
    for model in models:
        own = rows[rows["job"] == model.job].sort_values("block")
        if own.empty or jobs[model.job].experiment["seed"] != jobs[curves.base].experiment["seed"]:
            continue
        said = examples.loc[examples["job"] == model.job, "said_pruned"] if len(examples) else ()
        odds = _odds(said, curves.kind) if len(said) else np.zeros((0, 1))
        measured = _outcome(curves, float(own["together"].iloc[0]), odds)
        found.append(
            PredictionCheck(
                model,
                _is_listed(jobs[model.job]),
                predict(curves, own["sparsity"].tolist()),
                measured=measured,
            )
        )
    return found


def experiment(job: Job, shares: Sequence[float], overall: float) -> dict[str, Any]:
    """The run of `job` as plain data, with these shares."""
    method = job.experiment["method"]
    options = method["options"] | {
        "sparsity": overall,
        "allocation": ", ".join(f"{share:.2f}".rstrip("0").rstrip(".") for share in shares),
    }
    return {**job.experiment, "method": {**method, "options": options}}
