"""Sentence embeddings: a vector per text, evaluated by the cosine similarity of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.column_names import LABELS, TEXTS
from ..data.examples import Examples
from ..data.label_pairs import to_text
from ..data.metrics import Metric, correlation, mean_of
from ..errors import PruneError
from ..plugins import Report, no_report
from .base import Predictions, TaskType

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.reading import ParsedLabels, TextRows
    from ..data.tokens import Features

POOLINGS = {
    "mean": "mean over tokens",
    "cls": "first token",
    "max": "maximum over tokens",
    "mean_sqrt_len_tokens": "sum over tokens, divided by the root of their number",
    "weightedmean": "mean weighted by position",
    "lasttoken": "last token",
}


def closeness(expected: float, similarity: float) -> float:
    """1 minus the absolute difference of two cosine similarities."""
    return 1 - abs(expected - similarity)


class Embedding(TaskType):
    """A vector per text; of a pair, the prediction is the cosine of its two vectors.

    The texts of a pair are separate rows of a batch: all first texts, then all second texts.
    Without pairs, the prediction for a text is its unit vector, and it is compared with the dense
    model's by their cosine.
    """

    name = "embedding"
    output = "an embedding"
    head_class = "ForSentenceEmbedding"
    hub_task = "sentence-similarity"
    library = "sentence-transformers"
    is_discrete = False
    has_label_names = False
    has_loss = False
    separates_pairs = True
    output_names = ("embeddings",)
    usual_columns = (
        TEXTS,
        (),
        (*LABELS, "similarity", "similarity_score", "relatedness", "relatedness_score"),
    )
    display = "scores"
    not_explained = "An embedding is a vector"
    activation = None
    metrics = {
        "spearman_cosine": Metric(
            "Spearman correlation of cosines",
            "embedding",
            correlation("spearmanr"),
            share=False,
            ranks=True,
            gloss="Rank correlation of the cosine of each pair with its score: 1 is the same "
            "order, 0 is chance.",
        ),
        "pearson_cosine": Metric(
            "Pearson correlation of cosines",
            "embedding",
            correlation("pearsonr"),
            share=False,
            ranks=True,
            gloss="Linear correlation of the cosine of each pair with its score.",
        ),
        "cosine_to_dense": Metric(
            "Cosine to dense",
            "embedding",
            mean_of(closeness),
            single=closeness,
            share=False,
            against_dense=True,
            gloss="Mean cosine of pruned and dense embeddings; of pairs without scores, 1 minus "
            "the mean change of their cosine.",
        ),
    }

    # -- the model -------------------------------------------------------------------------------

    def fits_head(self, class_name: str, config: Any) -> bool:
        """Whether the class pools the encoder's tokens."""
        return class_name.endswith(self.head_class)

    def head_linears(self, layout: Any, config: Any) -> tuple[str, ...]:
        """Return the paths of the Dense modules' Linears."""
        modules = config.sentence_embedding["modules"]
        return tuple(
            f"after.{place}.linear"
            for place, module in enumerate(modules)
            if module["type"] == "Dense"
        )

    def reads_all(self, layout: Any, config: Any) -> bool:
        """Whether any pooling reads more than the first token."""
        return bool(config.sentence_embedding["poolings"] != ["cls"])

    def head(self, layout: Any, model: Any, hidden: Tensor, padding: Any) -> Tensor:
        """Map packed final hidden states to embeddings (texts, width)."""
        embeddings: Tensor = model.pooled(padding.unpack(hidden), padding.mask)
        return embeddings

    def example_outputs(self, output: Any) -> list[Tensor]:
        """Return the embedding of each text."""
        return [*output.embeddings.float()]

    # -- divergence ------------------------------------------------------------------------------

    def loss(self, outputs: Tensor, labels: Tensor, padding: Any) -> Tensor:
        """Raise PruneError: scores belong to pairs, whose texts are separate rows."""
        raise PruneError(
            "An embedding model has no loss for single texts; use a method that needs no labels."
        )

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return 1 minus the cosine of each text's two embeddings."""
        from torch.nn.functional import cosine_similarity

        return 1 - cosine_similarity(student.float(), teacher.float(), dim=-1)

    def fisher_probe(self, logits: Tensor, signs: Tensor) -> Tensor:
        """Turn random signs s into a probe whose covariance is the Hessian of changed scores.

        The scores of a text are its cosines with the others of the batch, less their mean, which
        does not change a ranking. With u = e/|e|, P = I - uuᵀ and M the covariance of u over the
        batch, half their mean squared change has the Hessian PMP/|e|² = E vvᵀ with
        v = PM^½s/|e|. Directions in which no texts differ do not count.
        """
        import torch

        embeddings = logits.detach()
        length = embeddings.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        unit = embeddings / length
        # NaN, at which the decomposition fails, reaches the result through `unit`
        centered = (unit - unit.mean(0)).nan_to_num()
        _, s, Vt = torch.linalg.svd(centered, full_matrices=False)
        probe = signs @ Vt.T * (s * len(unit) ** -0.5) @ Vt
        return (probe - unit * (unit * probe).sum(-1, keepdim=True)) / length

    def rounding_error(
        self, reference: Sequence[Sequence[np.ndarray]], outputs: Sequence[Sequence[np.ndarray]]
    ) -> tuple[float, float]:
        """Return 1 minus the mean cosine; no fraction changes."""
        expected, actual = (
            _unit(np.concatenate([array for (array,) in side])) for side in (reference, outputs)
        )
        return float(1 - (expected * actual).sum(-1).mean()), 0.0

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, tokenizer: Any, examples: Examples, limit: int) -> Features:
        """Tokenize all first texts, then all second ones, each after its role's prompt."""
        from ..data.tokens import Features, encode_texts

        default, prompts = getattr(tokenizer, "prompt", ""), getattr(tokenizer, "prompts", {})
        texts = [*examples.texts, *(examples.pairs or ())]
        roles = examples.roles or [""] * len(texts)
        prompted = [
            prompts.get(role, default) + text for role, text in zip(roles, texts, strict=True)
        ]
        rows = encode_texts(tokenizer, Examples(prompted), limit)
        return Features(rows.inputs, [row % len(examples) for row in rows.example_index])

    def encode_alone(self, tokenizer: Any, text: str, pair: str | None, limit: int) -> Any:
        """Encode the first text, as `encode` does in the row of that index."""
        text = getattr(tokenizer, "prompt", "") + text
        return tokenizer(text, truncation=True, max_length=limit, return_attention_mask=True)

    def targets(self, features: Features, labels: Sequence[Any]) -> Tensor:
        """Return (rows,) float32: the score of each text's pair."""
        import torch

        return torch.tensor(labels, dtype=torch.float32)

    # -- predictions -----------------------------------------------------------------------------

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        examples: Examples,
        batch_size: int,
        max_length: int,
        report: Report = no_report,
    ) -> Predictions:
        """Predict the cosine of each pair, or the unit vector of each text."""
        from .encoding import embeddings, encode

        features = encode(tokenizer, examples, max_length)
        rows = embeddings(model, tokenizer, features, batch_size, report=report, noun="texts")
        vectors = _unit(rows.numpy().astype(np.float64))
        if examples.pairs is not None:
            count = len(examples)
            vectors = (vectors[:count] * vectors[count:]).sum(-1)
        return Predictions(vectors.tolist(), [[] for _ in range(len(examples))])

    def text_prediction(self, text: str, prediction: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the cosine of a pair."""
        if isinstance(prediction, list):
            raise PruneError(
                "The model embeds texts, and a single one has no similarity; enter a second text."
            )
        return {"prediction": prediction}

    # -- scoring ---------------------------------------------------------------------------------

    def comparable(
        self, names: Sequence[str], labels: Sequence[Any], *predictions: Sequence[Any]
    ) -> list[list[Any]]:
        """Convert vectors of single texts to their cosine with the labels, the dense vectors."""
        if not (len(labels) and isinstance(labels[0], list)):
            return super().comparable(names, labels, *predictions)
        dense = np.array(labels)
        return [(dense * np.array(side)).sum(-1).tolist() for side in (labels, *predictions)]

    def closeness(self, dense: Sequence[Any], pruned: Sequence[Any]) -> float:
        """Return 1 minus the mean absolute difference of the cosines."""
        return self.metrics["cosine_to_dense"].compute(dense, pruned)

    def label_divergence(self, dense: Any, pruned: Any) -> float | None:
        """Return None: there is no probability."""
        return None

    # -- reading ---------------------------------------------------------------------------------

    def parse_labels(self, rows: TextRows) -> ParsedLabels | None:
        """Parse the score of each pair; 0 and 1 are scores, too."""
        from ..data.reading import parse_scores

        if not rows.has_label:
            return None
        if rows.chosen.pair is None:
            raise PruneError(
                f"{rows.place}: labels of single texts, while an embedding model is evaluated on "
                "pairs of texts with a similarity score; set the second text with --text-pair, or "
                "ignore the labels with --label - to compare the pruned embeddings with the dense "
                "ones."
            )
        values = rows.column.map(to_text)
        if pd.to_numeric(values.str.replace(",", "."), errors="coerce").isna().all():
            raise PruneError(
                f"{rows.place}: {values.iloc[0]!r} is not a number, while an embedding model is "
                "evaluated on similarity scores; choose another column with --label, or ignore the "
                "labels with --label -."
            )
        parsed = parse_scores(rows._replace(source=replace(rows.source, labels="")))
        scores = [None if value is None else float(value) for value in parsed.values]
        return parsed._replace(values=scores, label_map=None)

    def new_label_names(self) -> tuple[str, ...]:
        """Return the name of the output."""
        return ("embedding",)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """Scale embeddings (texts, width) to unit length."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.maximum(length, 1e-12)
