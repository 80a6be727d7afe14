"""Extractive question answering: the answer to a question is a span of its context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.column_names import first_usual
from ..data.examples import AnswerSpans, Examples
from ..data.metrics import Metric, answer_f1, exact_match, mean_of, normalize_answer
from ..plugins import Report, no_report
from .base import MASKED_LOGIT, Predictions, TaskType

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.reading import ParsedLabels, TextRows
    from ..data.tokens import Features

ANSWER_TOKENS = 30  # maximum length of an answer, as in the official baselines


class Span(TaskType):
    """The first and the last token of the answer to a question, in its context."""

    name = "span"
    output = "an answer in a text"
    head_class = "ForQuestionAnswering"
    hub_task = "question-answering"
    has_label_names = False
    has_windows = True
    reads_all_tokens = True
    output_names = ("start_logits", "end_logits")
    outputs_per_token = True
    usual_columns = (("question",), ("context",), ("answers", "answer"))
    needs_pair = True
    display = "answers"
    asks_question = True
    not_explained = "Question answering predicts two ends of an answer"
    activation = None
    metrics = {
        "answer_f1": Metric(
            "F1",
            "span",
            mean_of(answer_f1),
            single=answer_f1,
            gloss="Mean word overlap (F1) with the best matching accepted answer.",
        ),
        "exact_match": Metric(
            "Exact match",
            "span",
            mean_of(exact_match),
            single=exact_match,
            gloss="Percentage of questions answered with exactly an accepted answer.",
        ),
        "same_answer": Metric(
            "Same answer as dense",
            "span",
            mean_of(exact_match),
            single=exact_match,
            against_dense=True,
            gloss="Percentage of answers equal to the dense model's; the data has no answers.",
        ),
    }

    def fits_head(self, class_name: str, config: Any) -> bool:
        """Whether the class has a head for spans."""
        return class_name.endswith(self.head_class)

    def head_linears(self, layout: Any, config: Any) -> tuple[str, ...]:
        """Return the paths of the head's Linears."""
        return layout.span_linears

    def head(self, layout: Any, model: Any, hidden: Tensor, padding: Any) -> Tensor:
        """Map packed final hidden states to logits (examples, 2, tokens) of start and end."""
        return padding.unpack(layout.span_head(model, hidden), MASKED_LOGIT).transpose(1, 2)

    def unpacked(self, logits: Tensor, padding: Any) -> list[Tensor]:
        """Return (tokens, 2) per example."""
        return [*logits.transpose(1, 2)]

    def example_outputs(self, output: Any) -> list[Tensor]:
        """Return (tokens, 2) per example: start and end."""
        import torch

        return [*torch.stack([output.start_logits, output.end_logits], dim=-1).float()]

    def loss(self, outputs: Tensor, labels: Tensor, padding: Any) -> Tensor:
        """Return the mean of the cross-entropies of start and end, summed over examples."""
        return super().loss(outputs, labels, padding) / 2

    def encode(self, tokenizer: Any, examples: Examples, limit: int) -> Features:
        """Tokenize questions with windows of their contexts."""
        from ..data.tokens import encode_windows

        return encode_windows(tokenizer, examples, limit)

    def encode_alone(self, tokenizer: Any, text: str, pair: str | None, limit: int) -> Any:
        """Encode one question; only its context is truncated."""
        return tokenizer(
            text, pair, truncation="only_second", max_length=limit, return_attention_mask=True
        )

    def targets(self, features: Features, labels: Sequence[Any]) -> Tensor:
        """Return (rows, 2) int64, first and last token; [CLS] where a window lacks the answer."""
        from ..data.tokens import end_targets

        return end_targets(features, labels)

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        examples: Examples,
        batch_size: int,
        max_length: int,
        report: Report = no_report,
    ) -> Predictions:
        """Predict the best span of every question over all windows of its context.

        "" if "no answer" scores higher and some examples have no answer.
        """
        from ..data.tokens import check_finite
        from .encoding import encode, outputs_by_length

        features = encode(tokenizer, examples, max_length)
        best = np.full(len(examples), -np.inf)
        # lowest score of "no answer" over the windows, as in the official baseline
        no_answer = np.full(len(examples), np.inf)
        predicted, confidence = [""] * len(examples), [[0.0]] * len(examples)
        for output, batch, rows in outputs_by_length(
            model, tokenizer, features, batch_size, report=report, noun="windows"
        ):
            start, end = output.start_logits, output.end_logits
            check_finite((start + end).float().cpu().numpy(), len(rows))
            spans = best_spans(start, end, batch["attention_mask"], features=features, rows=rows)
            for row, score, first, last, null, probability in zip(rows, *spans, strict=True):
                example = features.example_index[row]
                no_answer[example] = min(no_answer[example], null)
                if score > best[example]:
                    best[example] = score
                    predicted[example] = _text(examples, features, row, first=first, last=last)
                    confidence[example] = [probability]
        if examples.labels and any(not answers.texts for answers in examples.labels):
            predicted = [
                "" if null > score else text
                for text, score, null in zip(predicted, best, no_answer, strict=True)
            ]
        return Predictions(predicted, confidence)

    def text_prediction(self, text: str, prediction: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the answer."""
        return {"prediction": prediction}

    def as_labels(self, predictions: Sequence[Any]) -> list[Any]:
        """Return the answers as accepted ones; an empty text means no answer."""
        return [AnswerSpans([text], [0]) if text else AnswerSpans([], []) for text in predictions]

    def is_correct(self, labels: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
        """Return whether each answer equals an accepted one."""
        scores = [exact_match(*pair) for pair in zip(labels, predictions, strict=True)]
        return np.array(scores, dtype=float) == 1.0

    def is_same(self, first: Sequence[Any], second: Sequence[Any]) -> np.ndarray:
        """Return whether answers are equal up to case, punctuation and articles."""
        return super().is_same([*map(normalize_answer, first)], [*map(normalize_answer, second)])

    def label_divergence(self, dense: Any, pruned: Any) -> float | None:
        """Return None: only the probability of the answer is known."""
        return None

    def stored_labels(self, labels: Sequence[Any]) -> list[Any]:
        """Return the texts of the accepted answers."""
        return [spans and spans.texts for spans in labels]

    def stored_correct(self, labels: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
        """Return whether each answer equals one of the stored texts."""
        spans = [AnswerSpans(list(texts), [0] * len(texts)) for texts in labels]
        return self.is_correct(spans, predictions)

    def example_columns(
        self, labels: Sequence[Any], dense: Sequence[Any], pruned: Sequence[Any]
    ) -> dict[str, list[float]]:
        """Return the F1 of each answer, which may be partly correct."""
        return {
            name: [answer_f1(*pair) for pair in zip(labels, answers, strict=True)]
            for name, answers in (("dense_f1", dense), ("pruned_f1", pruned))
        }

    def cells(self, names: Sequence[str], values: Sequence[Any] | None) -> list[Any] | None:
        """Return the texts of the answers."""
        return None if values is None else [value and value.texts for value in values]

    def is_described_by(self, table: pd.DataFrame) -> bool:
        """Whether a table has a question, a context and answers."""
        return all(first_usual(table, names) for names in self.usual_columns)

    def parse_labels(self, rows: TextRows) -> ParsedLabels | None:
        """Parse the accepted answers."""
        from ..data.reading import parse_answer_column

        return parse_answer_column(rows) if rows.has_label else None

    def new_label_names(self) -> tuple[str, ...]:
        """Return the names of the two outputs."""
        return ("start", "end")


def best_spans(
    start: Tensor, end: Tensor, mask: Tensor, features: Features, rows: list[int]
) -> tuple[list[Any], ...]:
    """Best span per window: (score, first token, last token, score of [CLS], probability).

    Logits are (windows, tokens).
    """
    import torch

    assert features.offsets is not None, "spans have offsets"
    tokens = start.shape[1]
    context = torch.tensor(
        [
            [span is not None for span in features.offsets[row]]
            + [False] * (tokens - len(features.offsets[row]))
            for row in rows
        ],
        device=start.device,
    )
    start, end = (logits.float().masked_fill(~mask.bool(), MASKED_LOGIT) for logits in (start, end))
    null = start[:, 0] + end[:, 0]
    log_probability = start.log_softmax(-1)[:, :, None] + end.log_softmax(-1)[:, None, :]
    all_spans = torch.ones(tokens, tokens, dtype=torch.bool, device=start.device)
    band = all_spans.triu().tril(ANSWER_TOKENS - 1)
    allowed = band & context[:, :, None] & context[:, None, :]
    # ordered as the sums of logits
    highest, place = log_probability.masked_fill(~allowed, -torch.inf).flatten(1).max(-1)
    first, last = place // tokens, place % tokens
    score = start.gather(1, first[:, None])[:, 0] + end.gather(1, last[:, None])[:, 0]
    return tuple(values.tolist() for values in (score, first, last, null, highest.exp()))


def _text(examples: Examples, features: Features, row: int, first: int, last: int) -> str:
    assert features.offsets is not None and examples.pairs is not None, (
        "spans have offsets and contexts"
    )
    left, right = features.offsets[row][first], features.offsets[row][last]
    assert left and right, "only tokens of the context are allowed"
    return examples.pairs[features.example_index[row]][left[0] : right[1]]
