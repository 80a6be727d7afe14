"""Reranking: quality over the first stage, agreement with the dense order, and time per query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from .. import formatting as f
from ..analysis.bounded_metrics import BoundedMetric
from ..analysis.compared_models import ComparedModel, ordered
from ..analysis.criteria import Criterion, one_minus, scores
from ..analysis.evidence import Evidence
from ..analysis.quantities import Quantity, Value, single_value, summary, with_interval
from ..analysis.reranking import FIRST, METRIC, METRICS, TAU, first_stage_loss, order_change
from ..analysis.seeds import ONE_SEED, Averaging
from ..analysis.takeaways import (
    capital,
    difference_words,
    most_pruned,
    pruned_models,
    rows_of,
    sentence_name,
)
from .base import Chart, MeasureView, Tables

DIFFERENCE = f"{METRIC}_difference"
AVERAGED = (
    TAU,
    *METRICS,
    *(f"{FIRST}{name}" for name in METRICS),
    *(f"{name}_difference" for name in METRICS),
)
_quality = partial(Quantity, table="reranking", better="higher")


def _interval(column: str) -> partial[Value]:
    return partial(with_interval, column=column, low=f"{column}_low", high=f"{column}_high")


OVER_FIRST_STAGE = _quality(
    "first_stage_difference",
    "nDCG@10 over first stage",
    "nDCG@10 minus the first stage's (points)",
    read=_interval(DIFFERENCE),
    show=f.points,
    scale=100.0,
    tick="+.1f",
    gloss="nDCG@10 of the reranked candidates minus that of their order before; below 0, reranking "
    "makes results worse. A point is 0.01.",
)
FIRST_STAGE = _quality(
    "first_stage",
    "nDCG@10, first stage",
    "nDCG@10 of the first stage",
    read=_interval(f"{FIRST}{METRIC}"),
    show=f.percent,
    tick=".0%",
    gloss="nDCG@10 of the candidates in the order of the first stage, before reranking.",
)
MRR = _quality(
    "rerank_mrr",
    "MRR@10",
    "MRR@10",
    read=_interval("mrr_at_10"),
    show=f.percent,
    tick=".0%",
    gloss="1 / rank of the first relevant candidate among 10; mean over queries.",
)
ORDER = _quality(
    "order_agreement",
    "Order agreement",
    "Kendall's tau with the dense order",
    read=_interval(TAU),
    show=f.plain,
    tick=".2f",
    gloss="Kendall's tau of the pruned and the dense order of candidates, mean over queries: 1 is "
    "the same order, 0 is chance.",
)
TIME = Quantity(
    "query_time",
    "Time per query",
    "Time per query (ms)",
    table="reranking",
    read=partial(single_value, column="latency_p50"),
    show=f.milliseconds,
    better="lower",
    gloss="Median time of scoring the documents of one query (30 by default) in one batch; "
    "structured models are compact.",
    scale=1e3,
    tick=".0f",
)


def _quantities(tables: Tables) -> list[Quantity]:
    has_first_stage = tables["reranking"][DIFFERENCE].notna().any()
    known = [FIRST_STAGE, OVER_FIRST_STAGE] if has_first_stage else []
    return [MRR, *known, ORDER, TIME]


def _below_first_stage(measured: Evidence) -> BoundedMetric | str:
    return first_stage_loss(measured.tables["reranking_query"], METRIC)


def _order_change(measured: Evidence) -> BoundedMetric:
    return order_change(measured.tables["reranking_query"])


_criterion = partial(
    Criterion,
    measure="reranking",
    table="reranking_query",
    unit="points",
    high=100,
    in_default_policy=False,
    supports=scores,
)
CRITERIA = (
    _criterion(
        "first_stage_loss",
        "nDCG@10 loss against the first stage",
        "Largest drop of nDCG@10 below the candidates' order before reranking",
        evidence=_below_first_stage,
        default=0.0,
    ),
    _criterion(
        "order_agreement",
        "Order agreement with dense",
        "Lowest mean Kendall's tau of the pruned and the dense order of candidates; a point is "
        "0.01",
        evidence=_order_change,
        default=80.0,
        as_cost=one_minus,
    ),
)


def first_stage_sentence(row: pd.Series, name: str) -> str:
    """Compare a model's nDCG@10 with the first stage's; "" if that is unknown."""
    value, low, high = (row[f"{DIFFERENCE}{end}"] for end in ("", "_low", "_high"))
    if np.isnan(value):
        return ""
    reference = "it" if high < 0 else "the first stage"
    words = difference_words(value, low, high, n=row["n"], reference=reference)
    if high < 0:
        return f"{name} makes results worse than the first stage: nDCG@10 is {words}."
    return f"{name} reranks with an nDCG@10 {words}."


def warnings(tables: Tables, models: Sequence[ComparedModel]) -> list[str]:
    """Return a sentence on each model whose rankings are worse than the first stage's."""
    rows = tables["reranking"]
    shown = [(model, rows_of(rows, model)) for model in ordered(models)]
    return [
        capital(first_stage_sentence(found.iloc[0], sentence_name(model)))
        for model, found in shown
        if len(found) and found.iloc[0][f"{DIFFERENCE}_high"] < 0
    ]


def takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State the models that are worse than the first stage, and the order of the most pruned."""
    rows = tables["reranking"]
    sentences = warnings(tables, models)
    if shown := most_pruned(pruned_models(rows, models)):
        best = max(shown, key=lambda model: rows_of(rows, model).iloc[0][METRIC])
        row, name = rows_of(rows, best).iloc[0], sentence_name(best)
        sentence = capital(first_stage_sentence(row, name))
        sentences += [sentence] if sentence and sentence not in sentences else []
        sentences.append(_order_sentence(row, name))
    return " ".join(sentences)


def _order_sentence(row: pd.Series, name: str) -> str:
    tau, low, high = (f.plain(row[f"{TAU}{end}"]) for end in ("", "_low", "_high"))
    return (
        f"Kendall's tau of {name} with the dense order is {tau} (95% interval {low} to {high}, "
        f"n = {row['n']:.0f})."
    )


def _advice(measured: Evidence, limits: Mapping[str, float]) -> str:
    """Compare the pruned model with the first stage."""
    return first_stage_sentence(measured.tables["reranking"].iloc[0], "The pruned model")


def charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    """Draw the difference from the first stage or, if that is unknown, the order agreement."""
    from .. import plots

    known = _quantities(tables)
    quantity = OVER_FIRST_STAGE if OVER_FIRST_STAGE in known else ORDER
    values = summary(tables, models, [quantity])
    figure = plots.against_sparsity(values, models, quantity, dark)
    gloss = f"{quantity.gloss} Bars are 95% intervals."
    yield Chart(f"{quantity.title} against sparsity", gloss, figure)


VIEW = MeasureView(
    tables={
        "reranking": Averaging(
            (), intervals=tuple((name, f"{name}_low", f"{name}_high") for name in AVERAGED)
        ),
        "reranking_query": ONE_SEED,
    },
    quantities=_quantities,
    takeaway=takeaway,
    advice=_advice,
    charts=charts,
    criteria=CRITERIA,
)
