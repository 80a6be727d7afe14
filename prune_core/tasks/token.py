"""Token classification: a label per word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.cells import parse_list, parse_words
from ..data.column_names import first_usual
from ..data.examples import Examples
from ..data.label_pairs import to_text
from ..data.metrics import IGNORE_INDEX, Metric, counted, entities, entity_counts, micro_f1
from ..plugins import Report, no_report
from .base import Predictions, TaskType

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.reading import ParsedLabels, TextRows
    from ..data.tokens import Features

_ENTITY_F1 = counted(entity_counts, micro_f1)


class TokenClassification(TaskType):
    """A label per word, predicted by the first token of the word."""

    name = "token"
    output = "a label per word"
    head_class = "ForTokenClassification"
    hub_task = "token-classification"
    reads_all_tokens = True
    outputs_per_token = True
    labels_words = True
    usual_columns = (
        ("tokens", "words"),
        (),
        ("ner_tags", "tags", "labels", "ner", "pos_tags", "label"),
    )
    display = "entities"
    not_explained = "Token classification predicts a label per word"
    activation = None
    order_metric = "entity_f1"
    metrics = {
        "entity_f1": Metric(
            "Entity F1",
            "token",
            **_ENTITY_F1,
            gloss="F1 of entities with correct type and boundaries, as in seqeval.",
        ),
        "same_entities": Metric(
            "Entity F1 against dense",
            "token",
            **_ENTITY_F1,
            against_dense=True,
            gloss="F1 of entities against those of the dense model; the data has no labels.",
        ),
    }

    def fits_head(self, class_name: str, config: Any) -> bool:
        """Whether the class has a head for tokens."""
        return class_name.endswith(self.head_class)

    def head_linears(self, layout: Any, config: Any) -> tuple[str, ...]:
        """Return the paths of the head's Linears."""
        return layout.token_linears

    def head(self, layout: Any, model: Any, hidden: Tensor, padding: Any) -> Tensor:
        """Map packed final hidden states to logits (real tokens, labels)."""
        return layout.token_head(model, hidden)

    def unpacked(self, logits: Tensor, padding: Any) -> list[Tensor]:
        """Return (tokens, labels) per example."""
        return [*padding.unpack(logits)]

    def loss(self, outputs: Tensor, labels: Tensor, padding: Any) -> Tensor:
        """Return the cross-entropy, summed over labeled tokens."""
        from torch.nn.functional import cross_entropy

        # ignores IGNORE_INDEX
        return cross_entropy(outputs, padding.pack(labels[..., None])[:, 0], reduction="sum")

    def encode(self, tokenizer: Any, examples: Examples, limit: int) -> Features:
        """Tokenize words, with the word that each token begins."""
        from ..data.tokens import encode_words

        return encode_words(tokenizer, examples, limit)

    def encode_alone(self, tokenizer: Any, text: str, pair: str | None, limit: int) -> Any:
        """Encode the words of one example."""
        if tokenizer.is_fast:
            return super().encode_alone(tokenizer, text, pair, limit)
        return tokenizer(
            text.split(" "), is_split_into_words=True, truncation=True, max_length=limit
        )

    def targets(self, features: Features, labels: Sequence[Any]) -> Tensor:
        """Return (rows, longest) int64, IGNORE_INDEX except at the first token of each word."""
        from ..data.tokens import word_targets

        return word_targets(features, labels)

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        examples: Examples,
        batch_size: int,
        max_length: int,
        report: Report = no_report,
    ) -> Predictions:
        """Predict a label per word, by its first token.

        A word that was truncated or has no token gets the label O, or the first if there is no O.
        """
        from ..data.tokens import check_finite
        from .encoding import encode, outputs_by_length

        features = encode(tokenizer, examples, max_length)
        assert features.words is not None, "words have first tokens"
        outside = next((index for index, name in model.config.id2label.items() if name == "O"), 0)
        predicted = [[outside] * len(text.split(" ")) for text in examples.texts]
        confidence = [[1.0] * len(tags) for tags in predicted]
        for output, _, rows in outputs_by_length(
            model, tokenizer, features, batch_size, report=report
        ):
            highest, labels = output.logits.float().softmax(-1).max(-1)
            check_finite(highest.cpu().numpy(), len(rows))
            for row, row_highest, row_labels in zip(
                rows, highest.tolist(), labels.tolist(), strict=True
            ):
                for word, probability, label in zip(
                    features.words[row], row_highest, row_labels, strict=False
                ):
                    if word is not None:
                        predicted[row][word] = label
                        confidence[row][word] = probability
        return Predictions(predicted, confidence)

    def typed_text(self, text: str) -> str:
        """Return words separated by single spaces."""
        return " ".join(text.split())

    def text_prediction(self, text: str, prediction: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the entities of a text, each with its type, and the label of each word."""
        tags = [names[label] for label in prediction]
        words = text.split(" ")
        spans = sorted(entities(tags), key=lambda entity: entity[1])
        texts = (f"{' '.join(words[first : last + 1])} ({kind})" for kind, first, last in spans)
        return {"prediction": ", ".join(texts) or "no entity", "tags": tags}

    def comparable(
        self, names: Sequence[str], labels: Sequence[Any], *predictions: Sequence[Any]
    ) -> list[list[Any]]:
        """Return tag names, without the words whose label is IGNORE_INDEX."""
        return [
            [
                [
                    names[tag]
                    for tag, label in zip(row, row_labels, strict=True)
                    if label != IGNORE_INDEX
                ]
                for row, row_labels in zip(values, labels, strict=True)
            ]
            for values in (labels, *predictions)
        ]

    def label_divergence(self, dense: Any, pruned: Any) -> float | None:
        """Return None: only the probability of the predicted label is known."""
        return None

    def cells(self, names: Sequence[str], values: Sequence[Any] | None) -> list[Any] | None:
        """Return None: labels of words are not shown on maps of texts."""
        return None

    def label_units(
        self, true: Sequence[Any], predicted: Sequence[Any], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return one unit for each word."""
        place = _places(names)
        example = np.repeat(np.arange(len(true)), [len(each) for each in true])
        labels, predictions = (
            [place[tag] for tags in side for tag in tags] for side in (true, predicted)
        )
        identity = np.eye(len(names), dtype=bool)
        return example, np.array(labels, dtype=int), identity[np.array(predictions, dtype=int)]

    def relabel(self, label: Any, order: np.ndarray, names: Sequence[str]) -> Any:
        """Return tag names under another order."""
        place = _places(names)
        return [names[order[place[tag]]] for tag in label]

    def is_described_by(self, table: pd.DataFrame) -> bool:
        """Whether a table has lists of words and of tags, or the columns of CoNLL on the Hub."""
        words, tags = (first_usual(table, self.usual_columns[place]) for place in (0, 2))
        are_lists = (words and tags and words != tags) and not any(
            isinstance(table[name].iloc[0], str | int | float) for name in (words, tags)
        )
        return bool(are_lists) or {"tokens", "ner_tags"} <= set(table)

    def text(self, cell: Any) -> str:
        """Return words separated by single spaces."""
        return " ".join(parse_words(cell))

    def parse_labels(self, rows: TextRows) -> ParsedLabels | None:
        """Parse one label per word."""
        from ..data.reading import parse_tags

        return parse_tags(rows) if rows.has_label else None

    def label_values(self, column: pd.Series) -> set[str]:
        """Return the distinct tags in a column of lists."""
        rows = (value.split() if isinstance(value, str) else parse_list(value) for value in column)
        return {to_text(item) for row in rows for item in row or ()}


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in reversed(list(enumerate(names)))}
