"""Quantities: one value per model with its interval, computed from the rows of the measures.

Charts and tables refer to quantities by key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from .. import formatting as f
from ..data.metrics import METRICS
from ..models.inference.contention import DISTURBED
from .compared_models import ComparedModel

# tables that quantities are read from
TABLES = ("accuracy", "reconstruction", "drift", "cost", "attack")
Value = tuple[float, float, float, float]  # value, low, high, n; NaN if missing
NO_VALUE: Value = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Quantity:
    """One value per model: how to compute it from a table's rows, and how to format it."""

    key: str
    title: str
    axis: str  # with the unit
    table: str
    read: Callable[[pd.DataFrame], Value]
    show: Callable[[float], str]
    better: str = ""  # "higher", "lower", or "" if neither
    gloss: str = ""  # explanation in one sentence
    scale: float = 1.0  # raw value -> axis value
    tick: str = ""  # plotly tick format


def _with_interval(rows: pd.DataFrame, column: str, low: str, high: str, n: str = "n") -> Value:
    row = rows.iloc[0]
    value, bottom, top, size = (
        float(row[c]) if row[c] is not None else np.nan for c in (column, low, high, n)
    )
    return value, bottom, top, size


def _single(rows: pd.DataFrame, column: str) -> Value:
    return float(rows.iloc[0][column]), np.nan, np.nan, np.nan


def _mean(rows: pd.DataFrame, column: str, of_layers: bool | None = None) -> Value:
    """Mean of a column; with `of_layers`, over the rows of whole layers or over the others."""
    if of_layers is not None:
        rows = rows[(rows["projection"] == "block") == of_layers]
    return float(rows[column].mean()), np.nan, np.nan, np.nan


def _last_block(rows: pd.DataFrame, column: str) -> Value:
    cls = rows[rows["pooling"] == "cls"]
    rows = cls if len(cls) else rows
    return float(rows.sort_values("block").iloc[-1][column]), np.nan, np.nan, np.nan


def _cost(rows: pd.DataFrame, column: str) -> Value:
    # the dense job has only rows of the dense model
    pruned = rows[rows["model"] == "pruned"]
    # rows of older studies may lack a column
    row = (pruned if len(pruned) else rows).iloc[0]
    return float(row.get(column, np.nan)), np.nan, np.nan, np.nan


def _work(rows: pd.DataFrame) -> Value:
    left = _cost(rows, "macs")[0] / float(rows.loc[rows["model"] == "dense", "macs"].iloc[0])
    return left, np.nan, np.nan, np.nan


def _recipe(rows: pd.DataFrame, recipe: str, column: str, low: str, high: str, n: str) -> Value:
    rows = rows[rows["recipe"] == recipe]
    return _with_interval(rows, column, low, high=high, n=n) if len(rows) else NO_VALUE


GLOSSES = {
    "accuracy": "Percentage of evaluation examples classified correctly.",
    "f1": "Harmonic mean of precision and recall of the second class.",
    "matthews": "Matthews correlation of predicted and true classes: 1 is perfect, 0 is chance.",
    "binary_accuracy": "Percentage of examples classified correctly, at threshold 0.5.",
    "binary_f1": "Harmonic mean of precision and recall of label 1, at threshold 0.5.",
    "binary_matthews": "Matthews correlation at threshold 0.5: 1 is perfect, 0 is chance.",
    "average_precision": "Area under the precision-recall curve of label 1, over all thresholds.",
    "spearman": "Rank correlation of predicted and true scores: 1 is the same order, 0 is chance.",
    "pearson": "Linear correlation of predicted and true scores.",
    "answer_f1": "Mean word overlap (F1) with the best matching accepted answer.",
    "exact_match": "Percentage of questions answered with exactly an accepted answer.",
    "micro_f1": "F1 over all labels of all examples: frequent labels have more weight.",
    "macro_f1": "Mean F1 over labels: rare and frequent labels have equal weight.",
    "subset_accuracy": "Percentage of examples with all labels correct.",
    "entity_f1": "F1 of entities with correct type and boundaries, as in seqeval.",
    "same_label": "Percentage of predictions equal to the dense model's; the data has no labels.",
    "same_labels": "Percentage of examples with all labels equal to the dense model's; the data "
    "has none.",
    "same_entities": "F1 of entities against those of the dense model; the data has no labels.",
    "same_score": "Linear correlation with the dense model's scores; the data has none.",
    "same_answer": "Percentage of answers equal to the dense model's; the data has no answers.",
}


def headline(metric: str) -> tuple[Quantity, Quantity]:
    """Return the task's metric and its difference from dense, with the same keys for all tasks."""
    title, is_fraction = METRICS[metric].title, METRICS[metric].share
    show, tick = (f.percent, ".0%") if is_fraction else (f.plain, ".2f")
    return (
        Quantity(
            "accuracy",
            title,
            title,
            table="accuracy",
            read=partial(_with_interval, column="score", low="low", high="high"),
            show=show,
            better="higher",
            gloss=GLOSSES[metric],
            tick=tick,
        ),
        Quantity(
            "difference",
            f"{title} difference from dense",
            "Difference from dense (points)",
            table="accuracy",
            read=partial(
                _with_interval, column="difference", low="difference_low", high="difference_high"
            ),
            show=f.points,
            better="higher",
            gloss=f"{title} minus the dense model's, on the same examples; a point is 0.01.",
            scale=100.0,
            tick="+.1f",
        ),
    )


FIXED = (
    Quantity(
        "agreement",
        "Agreement with dense",
        "Same prediction as dense",
        table="accuracy",
        read=partial(_single, column="agreement"),
        show=f.percent,
        better="higher",
        gloss="Percentage of examples with the same prediction as the dense model, correct or not.",
        tick=".0%",
    ),
    Quantity(
        "divergence",
        "Divergence from dense",
        "Divergence from dense (KL, nats)",
        table="accuracy",
        read=partial(_single, column="divergence"),
        show=f.error,
        better="lower",
        gloss="Mean Kullback–Leibler divergence of predicted probabilities; less noisy than "
        "accuracy.",
        tick=".2~g",
    ),
    Quantity(
        "error",
        "Reconstruction error",
        "Hidden states' relative error",
        table="reconstruction",
        read=partial(_mean, column="total", of_layers=True),
        show=f.error,
        better="lower",
        gloss="Relative error of the layers' outputs compared with dense, mean over layers.",
        tick=".2~f",
    ),
    Quantity(
        "part_error",
        "Error of weight matrices",
        "Relative output error, mean over matrices",
        table="reconstruction",
        read=partial(_mean, column="total", of_layers=False),
        show=f.error,
        better="lower",
        gloss="Relative error of the outputs of pruned matrices, mean over six matrices of all "
        "layers.",
        tick=".2~f",
    ),
    Quantity(
        "cosine",
        "Cosine to dense",
        "Mean cosine in the last layer",
        table="drift",
        read=partial(_last_block, column="cosine"),
        show=f.plain,
        better="higher",
        gloss="Mean cosine between dense and pruned embeddings in the last layer.",
        tick=".2~f",
    ),
    Quantity(
        "cka",
        "CKA with dense",
        "Linear CKA in the last layer",
        table="drift",
        read=partial(_last_block, column="cka"),
        show=f.plain,
        better="higher",
        gloss="Similarity of dense and pruned embeddings; 1 is identical up to rotation and scale.",
        tick=".2~f",
    ),
    Quantity(
        "overlap",
        "Neighbors kept",
        "Neighbor overlap in the last layer",
        table="drift",
        read=partial(_last_block, column="overlap"),
        show=f.percent,
        better="higher",
        gloss="Percentage of an example's nearest neighbors that are preserved by pruning.",
        tick=".0%",
    ),
    Quantity(
        "realised",
        "Realized sparsity",
        "Zeros in the encoder's matrices",
        table="cost",
        read=partial(_cost, column="sparsity"),
        show=f.percent,
        better="",
        gloss="Percentage of prunable weights that are exactly zero.",
        tick=".0%",
    ),
    Quantity(
        "nonzeros",
        "Weights left",
        "Non-zero weights (millions)",
        table="cost",
        read=partial(_cost, column="nonzeros"),
        show=f.millions,
        better="lower",
        gloss="Non-zero weights of the complete model, with embeddings.",
        scale=1e-6,
        tick=".1f",
    ),
    Quantity(
        "bytes",
        "Size on disk",
        "Size on disk (MB)",
        table="cost",
        read=partial(_cost, column="bytes"),
        show=f.size,
        better="lower",
        gloss="Unstructured zeros are stored like other values, so they do not make the file "
        "smaller.",
        scale=1e-6,
        tick=".0f",
    ),
    Quantity(
        "work",
        "FLOPs kept",
        "Multiply-adds relative to dense",
        table="cost",
        read=_work,
        show=f.percent,
        better="lower",
        gloss="Multiply-adds of one example; zeros count unless heads or neurons are removed.",
        tick=".0%",
    ),
    Quantity(
        "speedup",
        "Measured speed-up",
        "Speed-up over dense (times)",
        table="cost",
        read=partial(_cost, column="speedup_measured"),
        show=f.plain,
        better="higher",
        gloss="Speed-up over the dense model, timed in alternation; structured models are compact.",
        tick=".1f",
    ),
    Quantity(
        "latency",
        "Latency",
        "Latency p50 (ms per batch)",
        table="cost",
        read=partial(_cost, column="latency_p50"),
        show=f.milliseconds,
        better="lower",
        gloss="Median time per batch. Unstructured zeros give no speed-up with standard kernels.",
        scale=1e3,
        tick=".0f",
    ),
    Quantity(
        "other_load",
        "Load by other processes",
        "Load by other processes (fraction of a core)",
        table="cost",
        read=partial(_cost, column="other_load"),
        show=f.percent,
        better="",
        gloss="Processor time of other processes during timing; times are unreliable above "
        f"{DISTURBED:.0%} of a core.",
        tick=".0%",
    ),
)


def attack_quantities(recipe: str) -> tuple[Quantity, Quantity]:
    """Return accuracy under an attack and its success rate."""
    return (
        Quantity(
            f"under_attack:{recipe}",
            f"Accuracy under {recipe}",
            "Accuracy under attack",
            table="attack",
            read=partial(
                _recipe,
                recipe=recipe,
                column="under_attack",
                low="under_attack_low",
                high="under_attack_high",
                n="n",
            ),
            show=f.percent,
            better="higher",
            gloss="Percentage of examples that are correct and on which the attack fails.",
            tick=".0%",
        ),
        Quantity(
            f"success:{recipe}",
            f"Success of {recipe}",
            "Attack success rate",
            table="attack",
            read=partial(
                _recipe,
                recipe=recipe,
                column="success_rate",
                low="success_low",
                high="success_high",
                n="attacked",
            ),
            show=f.percent,
            better="lower",
            gloss="Percentage of correctly classified examples on which the attack succeeds.",
            tick=".0%",
        ),
    )


def recipes(attack: pd.DataFrame) -> list[str]:
    """Return the attack recipes in the rows, largest sample first."""
    if attack.empty:
        return []
    sizes = (
        attack.groupby("recipe", sort=False)["n"].max().sort_values(ascending=False, kind="stable")
    )
    return list(sizes.index)


def available(tables: Mapping[str, pd.DataFrame]) -> dict[str, Quantity]:
    """Return the quantities that the tables provide, by key, accuracy and attacks first."""
    attacks = [
        quantity
        for recipe in recipes(tables.get("attack", pd.DataFrame()))
        for quantity in attack_quantities(recipe)
    ]
    accuracy = tables.get("accuracy", pd.DataFrame())
    headlines = headline(accuracy["metric"].iloc[0]) if len(accuracy) else ()
    against_dense = bool(len(accuracy)) and METRICS[accuracy["metric"].iloc[0]].against_dense
    # without labels, the first quantity already is the agreement with dense
    hidden = {"agreement", "difference"} if against_dense else set()
    cost = tables.get("cost", pd.DataFrame())
    # the divergence is not defined for spans; older studies, or passes that are too short, have no
    # measured load
    for key, rows in (("divergence", accuracy), ("other_load", cost)):
        if key not in rows or rows[key].isna().all():
            hidden.add(key)
    return {
        quantity.key: quantity
        for quantity in (*headlines, *attacks, *FIXED)
        if not tables.get(quantity.table, pd.DataFrame()).empty and quantity.key not in hidden
    }


def summary(
    tables: Mapping[str, pd.DataFrame],
    models: Sequence[ComparedModel],
    quantities: Sequence[Quantity],
    single: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Return one row per model with `key`, `key_low`, `key_high` and `key_n` of each quantity.

    Values of unfinished stages are NaN. With the rows of every run (`single`), `key_runs` has the
    values of a model's seeds.
    """
    records = []
    for model in models:
        row: dict[str, object] = {
            "job": model.job,
            "label": model.label,
            "method": model.method,
            "family": model.family,
            "requested_sparsity": model.sparsity,
            "pattern": model.pattern,
            "seed": model.seed,
        }
        for quantity in quantities:
            rows = tables[quantity.table]
            model_rows = rows[rows["job"] == model.job]
            row |= dict(
                zip(
                    (quantity.key, *(f"{quantity.key}_{end}" for end in ("low", "high", "n"))),
                    quantity.read(model_rows) if len(model_rows) else NO_VALUE,
                    strict=True,
                )
            )
            all_rows = rows.iloc[:0] if single is None else single[quantity.table]
            by_seed = [all_rows[all_rows["job"] == job] for job in model.runs]
            row[f"{quantity.key}_runs"] = [
                quantity.read(model_rows)[0] for model_rows in by_seed if len(model_rows)
            ]
        records.append(row)
    return pd.DataFrame(records)
