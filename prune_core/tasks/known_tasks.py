"""Known tasks: their Hub datasets, columns, splits and official metrics."""

from dataclasses import dataclass
from typing import Any

from ..data.columns import Columns
from . import METRICS


@dataclass(frozen=True)
class KnownTask:
    """A task with its Hub dataset, columns, splits and official metric."""

    title: str
    path: str
    config: str | None
    text: str
    pair: str | None
    labels: tuple[str, ...] = ()
    evaluation: str = "validation"
    metric: str = "accuracy"
    label: str = "label"

    @property
    def kind(self) -> str:
        """Task type."""
        return METRICS[self.metric].kind

    @property
    def columns(self) -> Columns:
        """Names of the columns."""
        return Columns(self.text, self.pair, self.label)


_GLUE = "nyu-mll/glue"
_SQUAD: dict[str, Any] = {
    "config": None,
    "text": "question",
    "pair": "context",
    "label": "answers",
    "metric": "answer_f1",
}
KNOWN_TASKS = {
    "sst2": KnownTask(
        "SST-2, film-review sentences",
        _GLUE,
        "sst2",
        text="sentence",
        pair=None,
        labels=("negative", "positive"),
    ),
    "imdb": KnownTask(
        "IMDB, film reviews",
        "stanfordnlp/imdb",
        None,
        text="text",
        pair=None,
        labels=("negative", "positive"),
        evaluation="test",
    ),
    "ag_news": KnownTask(
        "AG News, topics",
        "fancyzhx/ag_news",
        None,
        text="text",
        pair=None,
        labels=("World", "Sports", "Business", "Sci/Tech"),
        evaluation="test",
    ),
    "mrpc": KnownTask(
        "MRPC, paraphrases",
        _GLUE,
        "mrpc",
        text="sentence1",
        pair="sentence2",
        labels=("not_equivalent", "equivalent"),
    ),
    "qqp": KnownTask(
        "QQP, duplicate questions",
        _GLUE,
        "qqp",
        text="question1",
        pair="question2",
        labels=("not_duplicate", "duplicate"),
    ),
    "stsb": KnownTask(
        "STS-B, similarity from 0 to 5",
        _GLUE,
        "stsb",
        text="sentence1",
        pair="sentence2",
        metric="spearman",
    ),
    "rte": KnownTask(
        "RTE, entailment",
        _GLUE,
        "rte",
        text="sentence1",
        pair="sentence2",
        labels=("entailment", "not_entailment"),
    ),
    "cola": KnownTask(
        "CoLA, acceptability",
        _GLUE,
        "cola",
        text="sentence",
        pair=None,
        labels=("unacceptable", "acceptable"),
        metric="matthews",
    ),
    "qnli": KnownTask(
        "QNLI, answer in a sentence",
        _GLUE,
        "qnli",
        text="question",
        pair="sentence",
        labels=("entailment", "not_entailment"),
    ),
    "mnli": KnownTask(
        "MNLI, entailment",
        _GLUE,
        "mnli",
        text="premise",
        pair="hypothesis",
        labels=("entailment", "neutral", "contradiction"),
        evaluation="validation_matched",
    ),
    "squad": KnownTask("SQuAD 1.1, question answering", "rajpurkar/squad", **_SQUAD),
    "squad_v2": KnownTask("SQuAD 2.0, some unanswerable", "rajpurkar/squad_v2", **_SQUAD),
}
