"""Regression: a score per text, also of binary classifiers with one output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.column_names import CANDIDATE_PAIRS, LABELS, PAIRS, TEXTS
from ..data.examples import Examples
from ..data.metrics import (
    THRESHOLD,
    Metric,
    at_threshold,
    class_counts,
    correlation,
    matthews_of_counts,
    mean_of,
    micro_f1,
    positive_counts,
    score,
    thresholded,
)
from ..data.ranking import average_precision, ndcg, reciprocal_rank
from .base import Predictions, TaskType

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.reading import ParsedLabels, TextRows
    from ..data.tokens import Features


# metrics of candidates that are ranked for each query, as rerankers do
RANKING = {
    "ndcg_at_10": (
        "nDCG@10",
        ndcg,
        "Discounted relevance of the first 10 candidates of each query, divided by that of the best"
        " order; mean over queries.",
    ),
    "mrr_at_10": (
        "MRR@10",
        reciprocal_rank,
        "1 / rank of the first relevant candidate among 10; mean over queries.",
    ),
    "map": (
        "Mean average precision",
        average_precision,
        "Mean precision at the ranks of the relevant candidates; mean over queries.",
    ),
}


# what sentence-transformers applies to the output of a CrossEncoder; all are increasing functions
ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda logits: logits,
    # in double precision, because equal fp32 values of large logits would be ties in a ranking
    "Sigmoid": lambda logits: 1 / (1 + np.exp(-logits.astype(np.float64))),
    "Tanh": lambda logits: np.tanh(logits.astype(np.float64)),
}
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
FORMER_KEY = "sbert_ce_default_activation_function"  # of sentence-transformers before version 4


def activation_path(config: Any) -> str:
    """Return the class of a CrossEncoder's activation, with its module; "" for another model."""
    settings = getattr(config, "sentence_transformers", None)
    path = (settings or {}).get("activation_fn") or getattr(config, FORMER_KEY, None)
    return str(path or ("" if settings is None else SIGMOID))


def set_activation(config: Any, path: str) -> None:
    """Record a CrossEncoder's activation as versions 4 and later of sentence-transformers do."""
    settings = getattr(config, "sentence_transformers", None) or {}
    config.sentence_transformers = {**settings, "activation_fn": path}
    if hasattr(config, FORMER_KEY):
        delattr(config, FORMER_KEY)


def activated(logits: np.ndarray, config: Any) -> np.ndarray:
    """Return the scores of logits, (examples,): after the activation of a CrossEncoder."""
    name = activation_path(config).rpartition(".")[2]
    return ACTIVATIONS.get(name, ACTIVATIONS["Identity"])(logits)


class Regression(TaskType):
    """A score per text; labels of 0 and 1 make it a binary classifier with a threshold."""

    name = "regression"
    output = "a score"
    is_discrete = False
    has_label_names = False
    display = "scores"
    ranks_candidates = True
    usual_columns = (TEXTS, (), ("relevance", "relevance_score", *LABELS, "grade", "rel"))
    usual_pairs = (*PAIRS, *CANDIDATE_PAIRS)
    metrics = {
        "binary_accuracy": Metric(
            "Accuracy",
            "regression",
            thresholded("accuracy_score"),
            binary=True,
            gloss="Percentage of examples classified correctly, at threshold 0.5.",
        ),
        "binary_f1": Metric(
            "F1",
            "regression",
            thresholded("f1_score", zero_division=0.0),
            counts=positive_counts,
            of_counts=micro_f1,
            binary=True,
            gloss="Harmonic mean of precision and recall of label 1, at threshold 0.5.",
        ),
        "binary_matthews": Metric(
            "Matthews correlation",
            "regression",
            thresholded("matthews_corrcoef"),
            counts=lambda *sides: class_counts(*map(at_threshold, sides)),
            of_counts=matthews_of_counts,
            share=False,
            binary=True,
            gloss="Matthews correlation at threshold 0.5: 1 is perfect, 0 is chance.",
        ),
        "average_precision": Metric(
            "Average precision",
            "regression",
            score("average_precision_score"),
            binary=True,
            ranks=True,
            gloss="Area under the precision-recall curve of label 1, over all thresholds.",
        ),
        "spearman": Metric(
            "Spearman correlation",
            "regression",
            correlation("spearmanr"),
            share=False,
            ranks=True,
            gloss="Rank correlation of predicted and true scores: 1 is the "
            "same order, 0 is chance.",
        ),
        "pearson": Metric(
            "Pearson correlation",
            "regression",
            correlation("pearsonr"),
            share=False,
            ranks=True,
            gloss="Linear correlation of predicted and true scores.",
        ),
        **{
            name: Metric(
                title,
                "regression",
                mean_of(single),
                single=single,
                ranks=True,
                by_query=True,
                gloss=gloss,
            )
            for name, (title, single, gloss) in RANKING.items()
        },
        "same_score": Metric(
            "Correlation with dense",
            "regression",
            correlation("pearsonr"),
            share=False,
            against_dense=True,
            gloss="Linear correlation with the dense model's scores; the data has none.",
        ),
    }

    def fits_head(self, class_name: str, config: Any) -> bool:
        """Whether there is one output."""
        return config.num_labels == 1

    def configure(self, config: Any) -> None:
        """Set squared error as the loss: the output is a score, without an activation."""
        config.problem_type = "regression"
        if activation_path(config):
            set_activation(config, IDENTITY)

    def loss(self, outputs: Tensor, labels: Tensor, padding: Any) -> Tensor:
        """Return the squared error, summed over examples."""
        from torch.nn.functional import mse_loss

        return mse_loss(outputs.squeeze(-1), labels, reduction="sum")

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the squared error per example."""
        return (student - teacher).square().flatten(1).sum(1)

    def fisher_probe(self, logits: Tensor, signs: Tensor) -> Tensor:
        """Return the signs: the Fisher information of a score is 1."""
        return signs

    def rounding_error(
        self, reference: Sequence[Sequence[np.ndarray]], outputs: Sequence[Sequence[np.ndarray]]
    ) -> tuple[float, float]:
        """Return the squared error relative to the variance of the scores; no fraction changes."""
        expected, actual = (
            np.concatenate([scores.ravel() for (scores,) in side]) for side in (reference, outputs)
        )
        mse = np.square(expected - actual).mean()
        return float(mse / max(expected.var(), 1e-12)), 0.0

    def targets(self, features: Features, labels: Sequence[Any]) -> Tensor:
        """Return (rows,) float32."""
        import torch

        return torch.tensor(labels, dtype=torch.float32)

    activation = staticmethod(lambda logits: logits)

    def decode(self, outputs: np.ndarray, examples: Examples, config: Any) -> Predictions:
        """Return scores; 0 or 1 and (1 - p, p) of a binary classifier."""
        if examples.binary:
            return _binary(outputs[:, 0], config)
        return Predictions(activated(outputs[:, 0], config).tolist(), [[] for _ in outputs])

    def decide(self, logits: Tensor, config: Any) -> Tensor:
        """Return the scores."""
        import torch

        return torch.from_numpy(activated(logits[:, 0].detach().cpu().numpy(), config))

    def text_prediction(self, text: str, prediction: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the score."""
        return {"prediction": prediction}

    def label_divergence(self, dense: Any, pruned: Any) -> float | None:
        """Return None: there is no probability."""
        return None

    def to_odds(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the scores unchanged."""
        return probabilities

    def from_odds(self, odds: np.ndarray) -> list[Any]:
        """Return the scores."""
        return [float(value) for value in odds[:, 0]]

    def parse_labels(self, rows: TextRows) -> ParsedLabels | None:
        """Parse numbers, or 0 and 1."""
        from ..data.reading import parse_scores

        return parse_scores(rows) if rows.has_label else None

    def new_label_names(self) -> tuple[str, ...]:
        """Return the name of the score."""
        return ("score",)


def threshold(config: Any) -> float:
    """Output above which a binary classifier with one output predicts label 1.

    There the probability of label 1 is 0.5. The output is a logit, unless the model was trained
    with squared error on labels 0 and 1.
    """
    return THRESHOLD if config.problem_type == "regression" else 0.0


def binary_note(config: Any) -> str:
    """Note on how a binary classifier with one output is evaluated."""
    output = "the output" if threshold(config) else "the sigmoid of the output"
    return (
        "The model has one output and the labels are 0 and 1: it is evaluated as a binary "
        f"classifier with threshold {THRESHOLD} on {output}."
    )


def _binary(outputs: np.ndarray, config: Any) -> Predictions:
    """Predictions 0 or 1 and (1 - p, p) of a binary classifier with one output (examples,)."""
    import torch

    boundary = threshold(config)
    logits = torch.from_numpy(outputs).double()  # fp32 sigmoids of large logits would be equal
    p = (logits if boundary else logits.sigmoid()).tolist()
    return Predictions(
        (outputs > boundary).astype(int).tolist(), [[1 - value, value] for value in p]
    )
