"""Tasks with a public name: where the Hub keeps them, their columns, splits and official metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .columns import Columns
from .metrics import METRICS


@dataclass(frozen=True)
class Known:
    """A task with a public name: where the Hub keeps it, which columns and splits it uses, and its official figure."""

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
        """The kind of head that answers it."""
        return METRICS[self.metric].kind

    @property
    def columns(self) -> Columns:
        """(text, second text, label) column names."""
        return Columns(self.text, self.pair, self.label)


_GLUE = "nyu-mll/glue"
_SQUAD: dict[str, Any] = {
    "config": None,
    "text": "question",
    "pair": "context",
    "label": "answers",
    "metric": "answer_f1",
}
KNOWN = {
    "sst2": Known(
        "SST-2, film-review sentences", _GLUE, "sst2", "sentence", None, ("negative", "positive")
    ),
    "imdb": Known(
        "IMDB, film reviews",
        "stanfordnlp/imdb",
        None,
        "text",
        None,
        ("negative", "positive"),
        "test",
    ),
    "ag_news": Known(
        "AG News, topics",
        "fancyzhx/ag_news",
        None,
        "text",
        None,
        ("World", "Sports", "Business", "Sci/Tech"),
        "test",
    ),
    "mrpc": Known(
        "MRPC, paraphrases",
        _GLUE,
        "mrpc",
        "sentence1",
        "sentence2",
        ("not_equivalent", "equivalent"),
    ),
    "qqp": Known(
        "QQP, duplicate questions",
        _GLUE,
        "qqp",
        "question1",
        "question2",
        ("not_duplicate", "duplicate"),
    ),
    "stsb": Known(
        "STS-B, likeness from 0 to 5", _GLUE, "stsb", "sentence1", "sentence2", metric="spearman"
    ),
    "rte": Known(
        "RTE, entailment", _GLUE, "rte", "sentence1", "sentence2", ("entailment", "not_entailment")
    ),
    "cola": Known(
        "CoLA, acceptability",
        _GLUE,
        "cola",
        "sentence",
        None,
        ("unacceptable", "acceptable"),
        metric="matthews",
    ),
    "qnli": Known(
        "QNLI, question and sentence",
        _GLUE,
        "qnli",
        "question",
        "sentence",
        ("entailment", "not_entailment"),
    ),
    "mnli": Known(
        "MNLI, entailment",
        _GLUE,
        "mnli",
        "premise",
        "hypothesis",
        ("entailment", "neutral", "contradiction"),
        "validation_matched",
    ),
    "squad": Known("SQuAD 1.1, answers in a text", "rajpurkar/squad", **_SQUAD),
    "squad_v2": Known("SQuAD 2.0, or none", "rajpurkar/squad_v2", **_SQUAD),
}
