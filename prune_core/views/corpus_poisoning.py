"""Corpus poisoning: how many queries one inserted passage reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from .. import formatting as f
from ..analysis.attack_success import success_rate
from ..analysis.compared_models import ComparedModel
from ..analysis.quantities import NO_VALUE, Quantity, Value, with_interval
from ..analysis.seeds import ONE_SEED, Averaging
from ..analysis.takeaways import (
    dense_and_most_pruned,
    rows_of,
    sentence_name,
    success_change,
)
from .base import Chart, MeasureView, Tables

TITLE = "How many queries does one inserted passage reach?"
GLOSS = (
    "Percentage of held-out queries for which a passage enters the top k, with 95% intervals. Its "
    "words were optimized (HotFlip) for similarity to the other half of the queries."
)
PASSAGES = {"own": "Queries reached by own passage", "dense": "Queries reached by dense passage"}


def _quantity(passage: str) -> Quantity:
    return Quantity(
        f"poisoning:{passage}",
        PASSAGES[passage],
        "Queries reached by an inserted passage",
        table="corpus_poisoning",
        read=partial(_rate, passage=passage),
        show=f.percent,
        better="lower",
        gloss="Percentage of held-out queries for which one inserted passage enters the top k.",
        tick=".0%",
    )


def _rate(rows: pd.DataFrame, passage: str) -> Value:
    rows = rows[rows["passage"] == passage]
    if rows.empty:
        return NO_VALUE
    return with_interval(rows, "success_rate", "success_low", high="success_high")


def _quantities(tables: Tables) -> list[Quantity]:
    return [
        _quantity(name) for name in PASSAGES if name in {*tables["corpus_poisoning"]["passage"]}
    ]


def _takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State how many queries are reached on the dense and the most pruned model."""
    rows, by_query = tables["corpus_poisoning"], tables["corpus_poisoning_query"]
    compared = dense_and_most_pruned(rows, models)
    if compared is None:
        return ""
    held_out = by_query[by_query["split"] == "held-out"]
    own = held_out[held_out["passage"] == "own"]
    versus = success_rate(*(rows_of(own, model) for model in compared))
    if not versus.n:
        return ""
    _, pruned = compared
    transfer = rows_of(held_out[held_out["passage"] == "dense"], pruned)
    return (
        f"One inserted passage, optimized on other queries, enters the top k for "
        f"{f.percent(versus.dense)} of {versus.n} queries of the dense model and for "
        f"{f.percent(versus.pruned)} of {sentence_name(pruned)} ({success_change(versus)}); "
        "the dense model's passage for "
        f"{f.percent((transfer['outcome'] == 'success').mean())}."
    )


def charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    """Draw the fraction of queries that each passage reaches, if it was measured."""
    from .. import plots

    if len(rows := tables["corpus_poisoning"]):
        rows = rows.assign(recipe=rows["passage"].map(PASSAGES), attacked=rows["n"])
        yield Chart(TITLE, GLOSS, plots.success(rows, models, dark, noun="queries"))


VIEW = MeasureView(
    tables={
        "corpus_poisoning": Averaging(
            ("passage",), (("success_rate", "success_low", "success_high"),)
        ),
        "corpus_poisoning_query": ONE_SEED,
    },
    reads=("corpus_poisoning_query",),
    quantities=_quantities,
    takeaway=_takeaway,
    charts=charts,
)
