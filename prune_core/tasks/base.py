"""A task type as an object: how its examples are read, encoded, predicted, scored and shown.

One file per type defines what differs from a classifier with one label per text, which is the
default here. torch is imported in the methods that need it, because pages import this package for
names and metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..data.column_names import LABELS, PAIRS, TEXTS
from ..data.examples import Examples
from ..data.label_pairs import to_text
from ..data.metrics import Metric, correlation

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.reading import ParsedLabels, TextRows
    from ..data.tokens import Features

MASKED_LOGIT = -1e4  # a logit whose softmax is 0 in every precision, while differences stay finite
MIN_PROBABILITY = 1e-6


class Predictions(NamedTuple):
    """A model's predictions, in the order of the examples."""

    # class indices; multi-label: 1 or 0 per label; token classification: a class index per word;
    # regression: scores; spans: answer texts ("" for none)
    predicted: list[Any]
    # per label; for spans and words, of the prediction; empty lists for scores
    probabilities: list[list[float]]


class TaskType:
    """A task type; the defaults are those of a classifier with one label per text."""

    name: str
    output: str  # what the model's head predicts: "a label"
    metrics: Mapping[str, Metric]  # the default first
    head_class = "ForSequenceClassification"  # end of the class names of transformers
    hub_task = "text-classification"
    library = "transformers"  # that reads exported checkpoints
    attackable = False  # whether attacks can change the predicted label
    is_discrete = True  # whether predictions are equal or different, rather than close
    is_single_label = False  # whether one of several labels holds, with a probability for each
    has_several_labels = False  # whether an example may have several labels
    has_label_names = True  # whether the model's labels have names
    has_windows = False  # whether long texts are split into windows, not truncated
    has_loss = True  # whether labels define a loss per row, which some methods need
    separates_pairs = False  # whether the texts of a pair are separate rows of a batch
    reads_all_tokens = False  # whether the head reads all tokens in every family
    output_names: tuple[str, ...] = ("logits",)  # of an exported model
    outputs_per_token = False  # whether there is an output for padding, which is ignored
    # columns with the texts, the second texts and the labels, by their usual names
    usual_columns: tuple[Sequence[str], ...] = (TEXTS, (), LABELS)
    usual_pairs: Sequence[tuple[str, str]] = PAIRS  # columns with the two texts of pairs
    needs_pair = False
    several_label_columns = False  # whether each label may have a column of 1 and 0
    takes_demo_labels = False
    # how the Inspect page shows predictions: probabilities, scores, answers or entities
    display = "probabilities"
    ranks_candidates = False  # whether pairs may be candidates of queries, ranked by their score
    asks_question = False  # whether the inputs are a question and a context
    labels_words = False  # whether each word of a text has a label
    not_explained = ""  # why no single output can be explained by saliency

    # -- the model -------------------------------------------------------------------------------

    def fits_head(self, class_name: str, config: Any) -> bool:
        """Whether a model class with this configuration has this task type."""
        return config.num_labels != 1

    def configure(self, config: Any) -> None:
        """Set up the configuration of a model that gets a new head for fine-tuning."""

    def head_linears(self, layout: Any, config: Any) -> tuple[str, ...]:
        """Return the paths of the Linears after the encoder, in the order of the forward pass."""
        return layout.head_linears

    def reads_all(self, layout: Any, config: Any) -> bool:
        """Whether the head reads the hidden states of all tokens, not only of the first."""
        return self.reads_all_tokens or layout.head_reads_all_tokens(config)

    def head(self, layout: Any, model: Any, hidden: Tensor, padding: Any) -> Tensor:
        """Map packed final hidden states (real tokens, width) to logits (examples, labels)."""
        return layout.head(model, padding.unpack(hidden), padding.mask)

    def unpacked(self, logits: Tensor, padding: Any) -> list[Tensor]:
        """Return the output of `head` for each example, as `example_outputs` does."""
        return [*logits]

    def example_outputs(self, output: Any) -> list[Tensor]:
        """Return the logits of each example from the output of a model of transformers."""
        return [*output.logits.float()]

    # -- training and divergence -----------------------------------------------------------------

    def loss(self, outputs: Tensor, labels: Tensor, padding: Any) -> Tensor:
        """Return the fine-tuning loss, summed over examples."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.flatten(0, -2), labels.flatten(), reduction="sum")

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the divergence of the student's predictions from the teacher's.

        KL(student ‖ teacher) per example or labeled token, scaled by the squared temperature.
        """
        student, teacher = ((each / temperature).log_softmax(-1) for each in (student, teacher))
        kl = (student.exp() * (student - teacher)).sum(-1)
        # the mean over the start and the end of a span
        return temperature**2 * kl.reshape(len(kl), -1).mean(1)

    def fisher_probe(self, logits: Tensor, signs: Tensor) -> Tensor:
        """Turn random signs u into a probe whose covariance is the Fisher information of logits.

        diag(p) − ppᵀ = E vvᵀ with v = √p∘u − p·(√p∘u summed).
        """
        p = logits.detach().softmax(-1)
        probe = p.sqrt() * signs
        return probe - p * probe.sum(-1, keepdim=True)

    def rounding_error(
        self, reference: Sequence[Sequence[np.ndarray]], outputs: Sequence[Sequence[np.ndarray]]
    ) -> tuple[float, float]:
        """Return (mean divergence, fraction of changed predictions) of a quantized model.

        Both hold the outputs of each example.
        """
        pairs = [
            self._example_rounding_error(expected, actual)
            for expected, actual in zip(reference, outputs, strict=True)
        ]
        divergence, changed = (float(np.mean(values)) for values in zip(*pairs, strict=True))
        return divergence, changed

    def _example_rounding_error(
        self, expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]
    ) -> tuple[float, float]:
        import torch

        divergence, changed = 0.0, False
        for arrays in zip(expected, actual, strict=True):
            p, q = (self.as_classes(torch.from_numpy(array)).log_softmax(-1) for array in arrays)
            divergence += float((p.exp() * (p - q)).sum(-1).mean())
            changed |= bool((p.argmax(-1) != q.argmax(-1)).any())
        return divergence, float(changed)

    def as_classes(self, logits: Tensor) -> Tensor:
        """Return logits of exclusive classes in the last dimension."""
        return logits

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, tokenizer: Any, examples: Examples, limit: int) -> Features:
        """Tokenize examples; texts are truncated at `limit` tokens."""
        from ..data.tokens import encode_texts

        return encode_texts(tokenizer, examples, limit)

    def encode_alone(self, tokenizer: Any, text: str, pair: str | None, limit: int) -> Any:
        """Encode one example with the tokenizer alone, to verify `encode`."""
        return tokenizer(text, pair, truncation=True, max_length=limit, return_attention_mask=True)

    def targets(self, features: Features, labels: Sequence[Any]) -> Tensor:
        """Return the label tensor with one row per row of `features`: (rows,) int64."""
        import torch

        return torch.tensor(labels, dtype=torch.int64)

    # -- predictions -----------------------------------------------------------------------------

    # from logits to probabilities of labels, or scores; None if they are not per label
    activation: Callable[[Tensor], Tensor] | None = staticmethod(lambda logits: logits.softmax(-1))

    def decode(self, outputs: np.ndarray, examples: Examples, config: Any) -> Predictions:
        """Turn activated outputs (examples, labels) into predictions."""
        return Predictions(outputs.argmax(-1).tolist(), outputs.tolist())

    def decide(self, logits: Tensor, config: Any) -> Tensor:
        """Turn logits (examples, labels) into predictions, as `decode` does."""
        return logits.argmax(-1)

    predict: Callable[..., Predictions] | None = None  # of types without a label per text

    def typed_text(self, text: str) -> str:
        """Return a text that a user typed, as examples of this type have it."""
        return text

    def text_prediction(self, text: str, prediction: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return what the Inspect page shows: `prediction` and, for each word, `tags`."""
        return {"prediction": names[prediction]}

    # -- scoring ---------------------------------------------------------------------------------

    def comparable(
        self, names: Sequence[str], labels: Sequence[Any], *predictions: Sequence[Any]
    ) -> list[list[Any]]:
        """Convert labels and predictions to the form that metrics compare."""
        return [list(values) for values in (labels, *predictions)]

    def as_labels(self, predictions: Sequence[Any]) -> list[Any]:
        """Turn predictions of the dense model into labels, for data without labels."""
        return list(predictions)

    def is_correct(self, labels: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
        """Return whether each prediction is correct, as a Boolean array (examples,)."""
        pairs = zip(labels, predictions, strict=True)
        return np.array([label == prediction for label, prediction in pairs], dtype=bool)

    def has_label(self, labels: Sequence[Any], label: int) -> np.ndarray:
        """Return a Boolean mask (examples,) of the examples that have a label."""
        return np.asarray(labels) == label

    def is_same(self, first: Sequence[Any], second: Sequence[Any]) -> np.ndarray:
        """Return whether predictions of two models are equal, as a Boolean array (examples,)."""
        return np.array([list_equal(a, b) for a, b in zip(first, second, strict=True)], dtype=bool)

    def closeness(self, dense: Sequence[Any], pruned: Sequence[Any]) -> float:
        """Return the agreement of two models' predictions, for predictions that are not discrete.

        The linear correlation of scores.
        """
        return correlation("pearsonr")(dense, pruned)

    def label_divergence(self, dense: Any, pruned: Any) -> float | None:
        """Return the mean KL divergence of pruned from dense probabilities (examples, labels).

        In nats; None for task types without a probability per label.
        """
        p, q = (np.asarray(side).clip(1e-9) for side in (dense, pruned))
        return _mean_divergence(p * np.log(p / q))

    def stored_labels(self, labels: Sequence[Any]) -> list[Any]:
        """Return labels as cells of the table `prediction`."""
        return list(labels)

    def stored_correct(self, labels: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
        """Return `is_correct` for cells of the table `prediction`."""
        return self.is_same(labels, predictions)

    def example_columns(
        self, labels: Sequence[Any], dense: Sequence[Any], pruned: Sequence[Any]
    ) -> dict[str, list[float]]:
        """Return further columns of the table `prediction`, for examples with labels."""
        return {}

    def cells(self, names: Sequence[str], values: Sequence[Any] | None) -> list[Any] | None:
        """Return labels or predictions as cells of the drift tables."""
        return None if values is None else list(values)

    def to_odds(self, probabilities: np.ndarray) -> np.ndarray:
        """Convert probabilities (examples, labels) to log-odds, which add up over layers."""
        return np.log(probabilities.clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY))

    def from_odds(self, odds: np.ndarray) -> list[Any]:
        """Convert log-odds (examples, labels) to predictions."""
        return odds.argmax(1).tolist()

    # -- label order -----------------------------------------------------------------------------

    order_metric = ""  # metric by which another order of the labels is found; "": it is not sought

    def label_units(
        self, true: Sequence[Any], predicted: Sequence[Any], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return true labels, one for each example, word or label that holds.

        (units,) row of the example, (units,) label, (units, labels) whether it is predicted.
        """
        identity = np.eye(len(names), dtype=bool)
        example = np.arange(len(true))
        return example, np.array(true, dtype=int), identity[np.array(predicted, dtype=int)]

    def relabel(self, label: Any, order: np.ndarray, names: Sequence[str]) -> Any:
        """Return a label under another order: the model's label i means label order[i]."""
        return order[int(label)]

    # -- reading ---------------------------------------------------------------------------------

    def is_described_by(self, table: pd.DataFrame) -> bool:
        """Whether the names of a table's columns show that it has examples of this type."""
        return False

    def text(self, cell: Any) -> str:
        """Return the text in a cell."""
        from ..data.reading import text_of

        return text_of(cell)

    def parse_labels(self, rows: TextRows) -> ParsedLabels | None:
        """Parse the label of every row; None if the table has none."""
        from ..data.reading import parse_classes

        return parse_classes(rows) if rows.has_label else None

    def label_values(self, column: pd.Series) -> set[str]:
        """Return the distinct label values of a column."""
        return set(map(to_text, column))

    def new_label_names(self) -> tuple[str, ...]:
        """Return the label names of a new head if they do not depend on the data, else ()."""
        return ()

    def label_note(self, labels: Sequence[Any], names: Sequence[str]) -> str:
        """Return a note on labels that are read correctly but allow few conclusions; "" if none."""
        return ""


def list_equal(first: Any, second: Any) -> bool:
    """Whether two cells are equal; lists and arrays are if all their entries are."""
    if isinstance(first, list | tuple | np.ndarray):
        return isinstance(second, list | tuple | np.ndarray) and list(first) == list(second)
    return bool(first == second)


def _mean_divergence(terms: np.ndarray) -> float:
    # rounding may give a tiny negative value; NaN stays NaN
    return float(np.maximum(0.0, terms.sum(-1).mean()))
