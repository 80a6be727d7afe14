"""What a run is summed up by: one figure per quantity and model, with its interval, from the measures' rows.

Charts and tables choose from here by key. Pure pandas; knows nothing of Streamlit, plotly or the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from .. import formatting as f
from ..data.metrics import METRICS
from ..models.inference.contention import DISTURBED
from .compared_models import ComparedModel

TABLES = ("accuracy", "reconstruction", "drift", "cost", "attack")
Value = tuple[float, float, float, float]  # value, low, high, n; NaN where there is none
NO_VALUE: Value = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Quantity:
    """One figure per model: how to read it from a table's rows and how to write it."""

    key: str
    title: str
    axis: str  # with the unit
    table: str
    read: Callable[[pd.DataFrame], Value]
    show: Callable[[float], str]
    better: str = ""  # "higher", "lower", or "" where neither is
    gloss: str = ""  # what it means, for a learner
    scale: float = 1.0  # raw value -> axis value
    tick: str = ""  # plotly tick format


def _share(rows: pd.DataFrame, column: str, low: str, high: str, n: str = "n") -> Value:
    row = rows.iloc[0]
    value, bottom, top, size = (
        float(row[c]) if row[c] is not None else np.nan for c in (column, low, high, n)
    )
    return value, bottom, top, size


def _single(rows: pd.DataFrame, column: str) -> Value:
    return float(rows.iloc[0][column]), np.nan, np.nan, np.nan


def _mean(rows: pd.DataFrame, column: str, part: str | None = None) -> Value:
    if part is not None:
        rows = rows[rows["part"] == part] if part == "block" else rows[rows["part"] != "block"]
    return float(rows[column].mean()) if len(rows) else np.nan, np.nan, np.nan, np.nan


def _last_block(rows: pd.DataFrame, column: str) -> Value:
    cls = rows[rows["pooling"] == "cls"]
    rows = cls if len(cls) else rows
    return float(rows.sort_values("block").iloc[-1][column]), np.nan, np.nan, np.nan


def _cost(rows: pd.DataFrame, column: str) -> Value:
    # the dense baseline has only rows about itself
    own = rows[rows["model"] == "pruned"]
    # a study may be older than a column
    return float((own if len(own) else rows).iloc[0].get(column, np.nan)), np.nan, np.nan, np.nan


def _work(rows: pd.DataFrame) -> Value:
    left = _cost(rows, "macs")[0] / float(rows.loc[rows["model"] == "dense", "macs"].iloc[0])
    return left, np.nan, np.nan, np.nan


def _recipe(rows: pd.DataFrame, recipe: str, column: str, low: str, high: str, n: str) -> Value:
    rows = rows[rows["recipe"] == recipe]
    return _share(rows, column, low, high=high, n=n) if len(rows) else NO_VALUE


GLOSSES = {
    "accuracy": "Share of evaluation examples classified correctly.",
    "f1": "Harmonic mean of precision and recall of the second class.",
    "matthews": "Matthews correlation of predicted and true classes: 1 is perfect, 0 is chance.",
    "binary_accuracy": "Fraction of examples classified correctly, at threshold 0.5.",
    "binary_f1": "Harmonic mean of precision and recall of label 1, at threshold 0.5.",
    "binary_matthews": "Matthews correlation at threshold 0.5: 1 is perfect, 0 is chance.",
    "average_precision": "Area under the precision-recall curve of label 1, over all thresholds.",
    "spearman": "Rank correlation of predicted and true scores: 1 is the same order, 0 is chance.",
    "pearson": "Linear correlation of predicted and true scores.",
    "answer_f1": "Mean overlap of the answer's words with the accepted answer that fits best.",
    "exact_match": "Share of questions answered with exactly an accepted answer.",
    "micro_f1": "F1 over all labels of all examples together: frequent labels count more.",
    "macro_f1": "Mean F1 of the labels: rare ones count as much as frequent ones.",
    "subset_accuracy": "Share of examples whose labels are all right.",
    "entity_f1": "Harmonic mean of precision and recall of whole entities, type and ends right, as seqeval counts them.",
    "same_label": "Share of examples on which the model says what the dense one says; the data has no labels.",
    "same_labels": "Share of examples on which all labels are the dense model's; the data has none.",
    "same_entities": "F1 of the entities against those that the dense model finds; the data has no labels.",
    "same_score": "Linear correlation with the dense model's scores; the data has none.",
    "same_answer": "Share of questions answered as the dense model answers them; the data has no answers.",
}


def headline(metric: str) -> tuple[Quantity, Quantity]:
    """The task's own figure, and its difference from dense; the same keys whatever the task."""
    title, share = METRICS[metric].title, METRICS[metric].share
    show, tick = (f.percent, ".0%") if share else (f.plain, ".2f")
    return (
        Quantity(
            "accuracy",
            title,
            title,
            table="accuracy",
            read=partial(_share, column="score", low="low", high="high"),
            show=show,
            better="higher",
            gloss=GLOSSES[metric],
            tick=tick,
        ),
        Quantity(
            "difference",
            f"{title} against dense",
            "Difference from dense (points)",
            table="accuracy",
            read=partial(_share, column="difference", low="difference_low", high="difference_high"),
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
        gloss="Share of sentences on which both models predict the same label, right or wrong.",
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
        gloss="How far the predicted probabilities moved, mean Kullback–Leibler divergence; steadier than accuracy.",
        tick=".2~g",
    ),
    Quantity(
        "error",
        "Reconstruction error",
        "Hidden states' relative error",
        table="reconstruction",
        read=partial(_mean, column="total", part="block"),
        show=f.error,
        better="lower",
        gloss="Relative error of the blocks' outputs against dense, mean over blocks.",
        tick=".2~f",
    ),
    Quantity(
        "part_error",
        "Error of the linear maps",
        "Relative output error, mean over parts",
        table="reconstruction",
        read=partial(_mean, column="total", part=""),
        show=f.error,
        better="lower",
        gloss="Relative error of the pruned matrices' outputs, mean over the six parts of all blocks.",
        tick=".2~f",
    ),
    Quantity(
        "cosine",
        "Cosine to dense",
        "Mean cosine in the last block",
        table="drift",
        read=partial(_last_block, column="cosine"),
        show=f.plain,
        better="higher",
        gloss="Mean cosine between a sentence's dense and pruned representation in the last block.",
        tick=".2~f",
    ),
    Quantity(
        "cka",
        "CKA with dense",
        "Linear CKA in the last block",
        table="drift",
        read=partial(_last_block, column="cka"),
        show=f.plain,
        better="higher",
        gloss="Likeness of the two embedding spaces; 1 is the same up to rotation.",
        tick=".2~f",
    ),
    Quantity(
        "overlap",
        "Neighbours kept",
        "Neighbour overlap in the last block",
        table="drift",
        read=partial(_last_block, column="overlap"),
        show=f.percent,
        better="higher",
        gloss="Share of a sentence's nearest neighbours that are still its nearest after pruning.",
        tick=".0%",
    ),
    Quantity(
        "realised",
        "Realised sparsity",
        "Zeros in the encoder's Linears",
        table="cost",
        read=partial(_cost, column="sparsity"),
        show=f.percent,
        better="",
        gloss="Share of prunable weights that are exactly zero.",
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
        gloss="Weights of the whole model that are not zero, embeddings included.",
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
        gloss="Unstructured zeros are stored like any other number, so the file does not shrink by itself.",
        scale=1e-6,
        tick=".0f",
    ),
    Quantity(
        "work",
        "FLOPs kept",
        "Multiply-adds, share of dense",
        table="cost",
        read=_work,
        show=f.percent,
        better="lower",
        gloss="Multiply-adds of one sentence; zeros count as work unless whole heads or neurons are gone.",
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
        gloss="How many times faster than the dense model, both timed in turn; shrunk first where whole units are gone.",
        tick=".1f",
    ),
    Quantity(
        "latency",
        "Latency",
        "Latency p50 (ms a batch)",
        table="cost",
        read=partial(_cost, column="latency_p50"),
        show=f.milliseconds,
        better="lower",
        gloss="Median time of one batch. Unstructured zeros bring no speed-up on ordinary kernels.",
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
        gloss=f"Processor time that other processes took from the timed passes; above {DISTURBED:.0%} of a core times are unreliable.",
        tick=".0%",
    ),
)


def of_recipe(recipe: str) -> tuple[Quantity, Quantity]:
    """Accuracy under that attack, and its success rate."""
    under = partial(
        _recipe,
        recipe=recipe,
        column="under_attack",
        low="under_attack_low",
        high="under_attack_high",
        n="n",
    )
    success = partial(
        _recipe,
        recipe=recipe,
        column="success_rate",
        low="success_low",
        high="success_high",
        n="attacked",
    )
    return (
        Quantity(
            f"under_attack:{recipe}",
            f"Accuracy under {recipe}",
            "Accuracy under attack",
            table="attack",
            read=under,
            show=f.percent,
            better="higher",
            gloss="Share of sentences still right after the attacker did its best.",
            tick=".0%",
        ),
        Quantity(
            f"success:{recipe}",
            f"Success of {recipe}",
            "Attack success rate",
            table="attack",
            read=success,
            show=f.percent,
            better="lower",
            gloss="Of the sentences the model got right, the share on which the attacker succeeded.",
            tick=".0%",
        ),
    )


def recipes(attack: pd.DataFrame) -> list[str]:
    """The attack recipes in the rows, largest sample first."""
    if attack.empty:
        return []
    sizes = (
        attack.groupby("recipe", sort=False)["n"].max().sort_values(ascending=False, kind="stable")
    )
    return list(sizes.index)


def available(tables: Mapping[str, pd.DataFrame]) -> dict[str, Quantity]:
    """The quantities these tables can give, by key, accuracy and attacks first."""
    attacks = [
        q for recipe in recipes(tables.get("attack", pd.DataFrame())) for q in of_recipe(recipe)
    ]
    judged = tables.get("accuracy", pd.DataFrame())
    first = headline(judged["metric"].iloc[0]) if len(judged) else ()
    ranked = [*first, *attacks, *FIXED]
    against_dense = bool(len(judged)) and METRICS[judged["metric"].iloc[0]].against_dense
    known_already = (
        {"agreement", "difference"} if against_dense else set()
    )  # which the first figure says
    unknown = (
        known_already | {"divergence"}
        if "divergence" not in judged or judged["divergence"].isna().all()
        else known_already
    )  # spans have none
    cost = tables.get("cost", pd.DataFrame())
    if (
        "other_load" not in cost or cost["other_load"].isna().all()
    ):  # an older study, or passes too short to tell
        unknown |= {"other_load"}
    return {
        q.key: q
        for q in ranked
        if not tables.get(q.table, pd.DataFrame()).empty and q.key not in unknown
    }


def summary(
    tables: Mapping[str, pd.DataFrame],
    models: Sequence[ComparedModel],
    quantities: Sequence[Quantity],
    single: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """One row a model; each quantity as `key`, `key_low`, `key_high`, `key_n`, NaN where its stage has not finished.

    With the rows of every run (`single`) also `key_runs`, its figure in each of a model's seeds.
    """
    out = []
    for model in models:
        row: dict[str, object] = {
            "job": model.job,
            "label": model.label,
            "method": model.method,
            "family": model.family,
            "asked": model.sparsity,
            "pattern": model.pattern,
            "seed": model.seed,
        }
        for quantity in quantities:
            rows = tables[quantity.table]
            own = rows[rows["job"] == model.job]
            values = quantity.read(own) if len(own) else NO_VALUE
            row |= dict(
                zip(
                    (quantity.key, *(f"{quantity.key}_{end}" for end in ("low", "high", "n"))),
                    values,
                    strict=True,
                )
            )
            every = rows.iloc[:0] if single is None else single[quantity.table]
            apart = [every[every["job"] == job] for job in model.runs]
            row[f"{quantity.key}_runs"] = [quantity.read(own)[0] for own in apart if len(own)]
        out.append(row)
    return pd.DataFrame(out)
