"""What-if predictions: the loss for any sparsity of each layer (block).

They are computed from runs in which one layer at a time was replaced by its pruned version. Squared
errors of layers are added, as for independent errors, and so are their effects on an example's
log-odds (or score). Both are first-order approximations; `prediction_checks` compares them with
runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..data.metrics import THRESHOLD
from ..store.job import Job
from ..tasks import DEFAULT, METRICS, TASK_TYPES
from .compared_models import ComparedModel

STEP = 0.01  # fraction of a layer's weights by which sparsity is increased


@dataclass(frozen=True)
class Curve:
    """The effect of one layer alone at each measured sparsity; at sparsity 0 there is none."""

    weights: int
    sparsities: np.ndarray  # (points,), increasing, above 0
    errors: np.ndarray  # (points,) of the encoder's output, relative
    moves: (
        np.ndarray
    )  # (points, examples, labels) changes of log-odds or scores; may have 0 examples

    def error(self, sparsity: float) -> float:
        """Return the error: a power law between points, extrapolated to 0 from the first two."""
        if sparsity <= 0:
            return 0.0
        x, y = np.log(self.sparsities), np.log(np.maximum(self.errors, 1e-12))
        index = int(np.clip(np.searchsorted(x, np.log(sparsity)), 1, len(x) - 1))
        slope = (y[index] - y[index - 1]) / (x[index] - x[index - 1])
        return float(np.exp(y[index] + slope * (np.log(sparsity) - x[index])))

    def moved(self, sparsity: float) -> np.ndarray:
        """Return (examples, labels) changes, linear in the error between 0 and the points."""
        error = self.error(sparsity)
        levels = np.concatenate([[0.0], np.maximum.accumulate(self.errors)])
        moves = np.concatenate([np.zeros_like(self.moves[:1]), self.moves])
        index = int(np.clip(np.searchsorted(levels, error), 1, len(levels) - 1))
        span = levels[index] - levels[index - 1]
        fraction = (error - levels[index - 1]) / span if span > 0 else 1.0
        return moves[index - 1] + fraction * (moves[index] - moves[index - 1])


@dataclass(frozen=True)
class Curves:
    """The curves of all layers for one method, its options and one checkpoint."""

    blocks: tuple[Curve, ...]
    kind: str  # task type
    metric: str
    dense: np.ndarray  # (examples, labels) log-odds or scores
    labels: list[Any]  # labels, or the dense model's predictions without labels
    base: int  # job whose other options a new run copies
    threshold: float | None = None  # of the score, for a binary classifier with one output

    @property
    def most(self) -> float:
        """The highest sparsity at which every layer was measured."""
        return min(float(block.sparsities[-1]) for block in self.blocks)

    def overall(self, sparsities: Sequence[float]) -> float:
        """Return the sparsity of the encoder."""
        return float(np.average(sparsities, weights=[block.weights for block in self.blocks]))


@dataclass(frozen=True)
class PredictedOutcome:
    """Predicted or measured values of a plan; NaN if unknown."""

    error: float  # of the encoder's output, relative
    score: float = np.nan
    agreement: float = np.nan  # with the dense model
    n: int = 0


def setup(job: Job) -> str:
    """Return a key of the setup that runs on one curve share.

    It has checkpoint, sample, method and its options, without sparsity and allocation.
    """
    plan, method = job.experiment, job.experiment["method"]
    options = {
        name: value
        for name, value in method["options"].items()
        if name not in ("sparsity", "allocation")
    }
    measured = [
        measure["options"] for measure in plan["measures"] if measure["name"] == "sensitivity"
    ]
    sample = [plan.get(name) for name in ("source", "evaluation_size", "max_length", "min_words")]
    return json.dumps(
        [plan["checkpoint"], method["name"], options, measured, sample], sort_keys=True
    )


def can_be_planned(job: Job) -> bool:
    """Whether the method supports a sparsity per layer: unstructured, without an N:M pattern."""
    options = (job.experiment["method"] or {}).get("options", {})
    return "allocation" in options and not options.get("pattern")


def _is_custom(job: Job) -> bool:
    return "," in str(job.experiment["method"]["options"]["allocation"])


def curves_of(jobs: Sequence[Job], rows: pd.DataFrame, examples: pd.DataFrame) -> Curves | None:
    """Fit curves to runs of one setup; None with fewer than two sparsities.

    Runs with custom sparsities are not used, as they test the predictions.
    """
    runs = [
        job
        for job in sorted(jobs, key=lambda job: (int(job.experiment["seed"]), job.id))
        if not _is_custom(job) and (rows["job"] == job.id).any()
    ]
    if not runs:
        return None
    first = runs[0]
    kind = str(first.facts.get("kind", DEFAULT))
    dense, labels = _dense(
        examples[examples["job"] == first.id] if len(examples) else examples, kind
    )
    # other seeds are measured on other examples
    runs = [job for job in runs if job.experiment["seed"] == first.experiment["seed"]]
    blocks = tuple(
        _curve(
            index,
            [(job.id, rows[rows["job"] == job.id]) for job in runs],
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
        blocks, kind, metric, dense=dense, labels=labels, base=first.id, threshold=threshold
    )


def _dense(rows: pd.DataFrame, kind: str) -> tuple[np.ndarray, list[Any]]:
    if rows.empty:
        return np.zeros((0, 1)), []
    dense = _odds(rows["dense_outputs"], kind)
    labels = list(rows["label"])
    return dense, TASK_TYPES[kind].from_odds(dense) if labels[0] is None else labels


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
            predictions = (
                examples.loc[examples["job"] == job, "block_outputs"] if len(examples) else ()
            )
            moves = (
                _odds([blocks[index] for blocks in predictions], kind) - dense
                if len(predictions)
                else dense * 0
            )
            points[sparsity] = float(row["error"]), moves
    order = sorted(points)
    errors = np.array([points[sparsity][0] for sparsity in order])
    moves = (
        np.stack([points[sparsity][1] for sparsity in order])
        if order
        else np.zeros((0, *dense.shape))
    )
    return Curve(weights, np.array(order), errors, moves=moves)


def _odds(outputs: Any, kind: str) -> np.ndarray:
    """Convert (examples, labels) outputs to values that add up over layers."""
    return TASK_TYPES[kind].to_odds(np.array(list(outputs), float))


def predict(curves: Curves, sparsities: Sequence[float]) -> PredictedOutcome:
    """Predict error, score and agreement for a sparsity of each layer."""
    pairs = list(zip(curves.blocks, sparsities, strict=True))
    error = float(np.sqrt(sum(block.error(sparsity) ** 2 for block, sparsity in pairs)))
    moves = sum((block.moved(sparsity) for block, sparsity in pairs), np.zeros_like(curves.dense))
    return _outcome(curves, error, curves.dense + moves)


def _outcome(curves: Curves, error: float, odds: np.ndarray) -> PredictedOutcome:
    if not len(odds):
        return PredictedOutcome(error)
    # metrics of binary classifiers with one output use the threshold 0.5
    shift = 0.0 if curves.threshold is None else THRESHOLD - curves.threshold
    dense, predictions = (
        TASK_TYPES[curves.kind].from_odds(values + shift) for values in (curves.dense, odds)
    )
    score = METRICS[curves.metric].compute(curves.labels, predictions)
    if TASK_TYPES[curves.kind].is_discrete:
        agreement = np.mean([a == b for a, b in zip(dense, predictions, strict=True)])
    else:
        agreement = METRICS["pearson"].compute(dense, predictions)
    return PredictedOutcome(error, float(score), float(agreement), n=len(predictions))


def lowest_error(curves: Curves, overall: float) -> list[float]:
    """Return the sparsity of each layer with the lowest predicted error at an overall sparsity.

    Greedy: each step removes weights from the layer where the error per weight increases least.
    """
    sparsities = np.zeros(len(curves.blocks))
    sizes = np.array([block.weights for block in curves.blocks], float)

    def price(index: int) -> float:
        block, sparsity = curves.blocks[index], sparsities[index]
        if sparsity + STEP > block.sparsities[-1] + 1e-9:
            return np.inf  # beyond the measured range
        return float(block.error(sparsity + STEP) ** 2 - block.error(sparsity) ** 2) / sizes[index]

    prices = [price(index) for index in range(len(sparsities))]
    target = (overall - STEP / 2 / len(sparsities)) * sizes.sum()
    while sparsities @ sizes < target and min(prices) < np.inf:
        cheapest = int(np.argmin(prices))
        sparsities[cheapest] = round(sparsities[cheapest] + STEP, 4)
        prices[cheapest] = price(cheapest)
    return [float(sparsity) for sparsity in sparsities]


@dataclass(frozen=True)
class PredictionCheck:
    """A finished run compared with its prediction."""

    model: ComparedModel
    is_custom: bool  # custom sparsities, so the curves do not use it
    predicted: PredictedOutcome
    measured: PredictedOutcome  # on the same examples


def prediction_checks(
    curves: Curves,
    models: Sequence[ComparedModel],
    jobs: Mapping[int, Job],
    rows: pd.DataFrame,
    examples: pd.DataFrame,
) -> list[PredictionCheck]:
    """Compare finished runs of the curves' setup and seed with their predictions.

    For runs behind the curves, this only tests that the effects of layers are additive.
    """
    checks = []
    for model in models:
        errors = rows[rows["job"] == model.job].sort_values("block")
        if (
            errors.empty
            or jobs[model.job].experiment["seed"] != jobs[curves.base].experiment["seed"]
        ):
            continue
        predictions = (
            examples.loc[examples["job"] == model.job, "pruned_outputs"] if len(examples) else ()
        )
        odds = _odds(predictions, curves.kind) if len(predictions) else np.zeros((0, 1))
        checks.append(
            PredictionCheck(
                model,
                _is_custom(jobs[model.job]),
                predict(curves, errors["sparsity"].tolist()),
                measured=_outcome(curves, float(errors["all_blocks_error"].iloc[0]), odds),
            )
        )
    return checks


def experiment(job: Job, sparsities: Sequence[float], overall: float) -> dict[str, Any]:
    """Return the experiment of `job` as plain data with other sparsities."""
    method = job.experiment["method"]
    options = method["options"] | {
        "sparsity": overall,
        "allocation": ", ".join(
            f"{sparsity:.2f}".rstrip("0").rstrip(".") for sparsity in sparsities
        ),
    }
    return {**job.experiment, "method": {**method, "options": options}}
