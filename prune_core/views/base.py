"""A view: what one measure contributes to pages, report, command line and Python interface."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion
from ..analysis.evidence import Evidence
from ..analysis.quantities import Quantity
from ..analysis.seeds import Averaging

Tables = Mapping[str, pd.DataFrame]  # rows of all models by table


@dataclass(frozen=True)
class Chart:
    """A chart with the texts shown above it."""

    title: str
    gloss: str
    figure: Any  # of plotly


@dataclass(frozen=True)
class MeasureView:
    """The tables of one measure, and functions of the tables and models of a study.

    A table that is not declared is averaged over seeds if the columns that are not floating-point
    numbers identify its rows (`seeds.infer_averaging`).
    """

    tables: Mapping[str, Averaging] = field(default_factory=dict)
    reads: Sequence[str] = ()  # tables that the takeaway and the charts read besides the first
    # quantities of summary tables and of the charts that compare models
    quantities: Callable[[Tables], Sequence[Quantity]] | None = None
    # one or two sentences with intervals, "" if there is nothing to say
    takeaway: Callable[[Tables, Sequence[ComparedModel]], str] | None = None
    # what to do with one pruned model, given the limits of a policy by criterion; "" if nothing
    advice: Callable[[Evidence, Mapping[str, float]], str] | None = None
    # charts of the report, dark or not; the first is that of `Comparison.figure`
    charts: Callable[[Tables, Sequence[ComparedModel], bool], Iterator[Chart]] | None = None
    # what deployment policies can limit, the most important first
    criteria: Sequence[Criterion] = ()


def units(tables: Tables) -> str:
    """What the evaluation consists of, from the tables of a study; see `Job.units`."""
    return "queries" if len(tables.get("retrieval", ())) else "examples"


def has_pruned(models: Sequence[ComparedModel]) -> bool:
    """Whether a model other than the dense baseline is compared."""
    return any(not model.is_dense for model in models)
