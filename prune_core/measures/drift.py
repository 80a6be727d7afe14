"""Drift of the sentence embeddings of each block, as similarity metrics and as 2-D maps."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..analysis.attack_success import successes
from ..data.examples import Examples, sample_indices
from ..errors import PruneError, require
from ..models.devices import device_of
from ..models.replay import Padding, head, hidden_states
from ..plugins import Report, Rows, option, subrange
from ..tasks import TASK_TYPES
from ..tasks.embedding import Embedding
from ..tasks.encoding import batches
from ..tasks.regression import threshold
from .base import Measure, Pair

AUTO, OWN = "auto", "own"  # OWN: the model's pooling and the modules after it
POOLINGS = {AUTO: "automatic", "cls": "[CLS] token", "mean": "mean over tokens"}


@dataclass(frozen=True)
class Drift(Measure):
    """CKA, cosine similarity, Procrustes distance and neighbor overlap per block, and 2-D maps.

    CKA is linear (Kornblith et al. 2019), the Procrustes distance orthogonal. The maps are fitted
    on the dense embeddings only, and the pruned ones are projected onto them. PCA maps exist for
    every block, a UMAP map for one. Of an embedding model, the embedding after a block is what its
    pooling and the modules after it make of the block's output; after the last, it is the model's.
    """

    name = "drift"
    title = "Embedding drift"
    summary = (
        "Per block: how much the geometry of the sentence embeddings changed, and how each one "
        "moved"
    )
    version = 2
    estimate = 8.0
    slow = True  # UMAP alone takes seconds to import
    examples: int = option(300, "Evaluation examples to embed (0 = all)", low=0, high=100_000)
    pooling: str = option(
        AUTO,
        "Sentence embedding: auto is the model's own for embedding models, else the [CLS] token",
        choices=POOLINGS,
    )
    neighbors: int = option(10, "Number of nearest neighbors in the overlap", low=1, high=1000)
    map_block: int = option(0, "Block of the UMAP map, counted from 1 (0 = last)", low=0, high=1000)
    umap: bool = option(True, "Fit a UMAP map in addition to PCA")
    adversarial: bool = option(False, "Also measure drift on the adversarial examples of this run")

    @property
    def reads(self) -> str:
        """The attack outcomes, if drift on adversarial examples is enabled."""
        return "attack" if self.adversarial else ""

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables `drift`, `drift_map`, `drift_example` and, if enabled, `drift_adversarial`.

        The column `example` is the index into the evaluation sample, as in every other table.
        """
        indices = sample_indices(range(len(pair.task.evaluation)), self.examples, pair.seed)
        sample = pair.task.evaluation.take(indices)
        if TASK_TYPES[sample.kind].separates_pairs:  # the first text represents a pair
            sample = replace(sample, pairs=None)
        if len(sample) <= self.neighbors:
            raise PruneError(
                f"drift: {len(sample)} examples are too few for {self.neighbors} neighbors; "
                "use more examples."
            )

        pooling = self.pooling
        if pooling == AUTO:
            pooling = OWN if sample.kind == Embedding.name else "cls"

        def embed(model: nn.Module, texts: Examples, report: Report) -> Any:
            return embeddings(model, pair, texts, pooling=pooling, report=report)

        dense, dense_predictions = pair.of_dense(
            ("drift", *self._key()),
            lambda: embed(pair.dense, sample, subrange(report, 0.0, 0.3)),
            plain=True,
        )
        pruned, pruned_predictions = dense, dense_predictions
        if not pair.is_dense:
            pruned, pruned_predictions = embed(pair.pruned, sample, subrange(report, 0.3, 0.6))
        last = len(dense) - 1
        if len(pruned) != len(dense):  # a candidate of another depth: only the last blocks
            dense, pruned = dense[-1:], pruned[-1:]
        first = last + 1 - len(dense)
        tables: Rows = {"drift": self._by_block(dense, pruned, pooling, first)}
        if self.adversarial and not pair.is_dense:
            adversarial = adversarial_examples(pair)
            if len(adversarial) > 1:  # CKA and Procrustes need two examples
                both = [
                    embed(model, adversarial, subrange(report, 0.6, 0.65))[0]
                    for model in (pair.dense, pair.pruned)
                ]
                before, after = (states[-len(dense) :] for states in both)
                tables["drift_adversarial"] = self._by_block(before, after, pooling, first)
        report(0.65, "computing the maps")
        columns = {"label": sample.labels, "dense": dense_predictions, "pruned": pruned_predictions}
        names = pair.task.label_names
        task_type = TASK_TYPES[sample.kind]
        cells = {name: task_type.cells(names, values) for name, values in columns.items()}
        tables["drift_map"] = self._maps(
            pair, dense.cpu().numpy(), in_space_of(dense, pruned).cpu().numpy(), indices, first
        )
        tables["drift_example"] = pd.DataFrame({"example": indices, "text": sample.texts, **cells})
        report(1.0, "drift measured")
        return tables

    def _by_block(self, dense: Tensor, pruned: Tensor, pooling: str, first: int) -> pd.DataFrame:
        """Metrics of two (blocks, examples, width) sets of embeddings, one row per block.

        `first` is the index of their first block.
        """
        k = min(self.neighbors, dense.shape[1] - 1)
        return pd.DataFrame(
            [
                {"block": block, "pooling": pooling, **distances(X, Y, k)}
                for block, (X, Y) in enumerate(zip(dense, pruned, strict=True), first)
            ]
        )

    def _key(self) -> tuple[Any, ...]:
        return self.examples, self.pooling

    def _maps(
        self, pair: Pair, dense: np.ndarray, pruned: np.ndarray, examples: list[int], first: int
    ) -> pd.DataFrame:
        """A PCA map of every layer and, if enabled, a UMAP map of one.

        Embeddings are (layers, examples, width), from layer `first`; `examples` are indices into
        the evaluation sample.
        """
        blocks = first + len(dense)
        if self.map_block > blocks:
            raise PruneError(
                f"drift: map_block is {self.map_block}; the model has {blocks} blocks."
            )
        chosen = max(first, (self.map_block or blocks) - 1)
        maps = [
            (block, "pca", pca(X, Y))
            for block, (X, Y) in enumerate(zip(dense, pruned, strict=True), first)
        ]
        if self.umap:
            key = ("umap", chosen, *self._key(), pair.seed)
            fitted = pair.of_dense(key, lambda: fit_umap(dense[chosen - first], pair.seed))
            before = np.asarray(fitted.embedding_)
            after = before if pair.is_dense else fitted.transform(pruned[chosen - first])
            maps.append((chosen, "umap", (before, after)))
        return pd.concat([_moves(*each, examples=examples) for each in maps], ignore_index=True)


def adversarial_examples(pair: Pair) -> Examples:
    """Distinct adversarial examples that the attacks of this run found for the pruned model."""
    adversarial = successes(pair.rows["attack_example"]).drop_duplicates(
        ["example", "perturbed", "perturbed_pair"]
    )
    pairs = list(adversarial["perturbed_pair"]) if pair.task.evaluation.pairs else None
    return replace(
        pair.task.evaluation.take(list(adversarial["example"])),
        texts=list(adversarial["perturbed"]),
        pairs=pairs,
    )


@torch.no_grad()
def embeddings(
    model: nn.Module, pair: Pair, sample: Examples, pooling: str, report: Report
) -> tuple[Tensor, list[Any]]:
    """((blocks, examples, width) embeddings after every block, predicted labels or scores).

    A long context is split into windows, of which one represents the example. Answer spans and
    token labels are not predicted here.
    """
    task_type = TASK_TYPES[sample.kind]
    found: Tensor | None = None
    predictions: list[Any] = [None] * len(sample)
    done = 0
    tokenizer = pair.tokenizer_of(model)
    for batch, indices in batches(
        tokenizer, sample, pair.batch_size, max_length=pair.max_length, device=device_of(model)
    ):
        states = list(hidden_states(model, batch))[1:]
        pooled = torch.stack(
            [
                head(model, x, padding) if pooling == OWN else pool(x, padding, pooling)
                for x, padding in states
            ]
        ).float()  # (blocks, batch, width)
        if found is None:
            found = pooled.new_empty(len(states), len(sample), pooled.shape[-1])
        found[:, indices] = pooled
        if task_type.activation is not None:
            logits = head(model, *states[-1])
            predicted = task_type.decide(logits, model.config)
            if sample.binary:
                predicted = (logits[:, 0] > threshold(model.config)).int()
            for index, prediction in zip(indices, predicted.tolist(), strict=True):
                predictions[index] = prediction
        done += len(indices)
        report(min(1.0, done / len(sample)), f"embedded {done}")
    assert found is not None, "the caller checks that the sample is not empty"
    return found, predictions


def pool(x: Tensor, padding: Padding, pooling: str) -> Tensor:
    """Sentence embeddings, (examples, width), from packed hidden states."""
    padded = padding.unpack(x)
    return padded[:, 0] if pooling == "cls" else padded.sum(1) / padding.mask.sum(1, keepdim=True)


def in_space_of(dense: Tensor, pruned: Tensor) -> Tensor:
    """Embeddings (blocks, examples, width) of a model of another width in the dense model's space.

    They are rotated onto the dense ones (orthogonal Procrustes); others are returned unchanged.
    """
    if pruned.shape[-1] == dense.shape[-1]:
        return pruned
    x, y = (states - states.mean(1, keepdim=True) for states in (dense, pruned))
    U, _, Vt = torch.linalg.svd(y.mT @ x, full_matrices=False)
    return y @ U @ Vt + dense.mean(1, keepdim=True)


def distances(X: Tensor, Y: Tensor, k: int) -> dict[str, float]:
    """The four metrics of two (examples, width) sets of embeddings of the same examples.

    The widths may differ; then there is no cosine (NaN).
    """
    if not (torch.isfinite(X).all() and torch.isfinite(Y).all()):
        raise PruneError(
            "The hidden states of a model contain NaN or infinite values, so its drift is "
            "undefined; "
            "prune less."
        )
    x, y = X - X.mean(0), Y - Y.mean(0)
    cross, gram_x, gram_y = (a.T @ b for a, b in ((x, y), (x, x), (y, y)))
    scale = torch.linalg.matrix_norm(gram_x) * torch.linalg.matrix_norm(gram_y)
    cka = torch.linalg.matrix_norm(cross) ** 2 / scale.clamp_min(1e-30)
    # ‖x/‖x‖ − yR/‖y‖‖ for the best rotation R: its square is 2 − 2·(sum of singular values of the
    # normalized cross product) (in double precision, on the CPU: MPS has none, and a matrix this
    # small is no work)
    x, y = x.cpu().double(), y.cpu().double()
    nuclear = torch.linalg.matrix_norm(x.T @ y, "nuc") / (x.norm() * y.norm()).clamp_min(1e-30)
    return {
        "cka": min(1.0, cka.item()),
        "cosine": torch.cosine_similarity(X, Y, dim=-1).mean().item()
        if X.shape == Y.shape
        else float("nan"),
        "procrustes": float((2 - 2 * nuclear).clamp_min(0).sqrt()),
        "overlap": neighbor_overlap(X, Y, k),
        "k": k,
        "n": len(X),
    }


def neighbor_overlap(X: Tensor, Y: Tensor, k: int) -> float:
    """Mean fraction of the k nearest neighbors (Euclidean) that an example has in both sets."""
    near = []
    for points in (X, Y):
        far = torch.cdist(
            points, points, compute_mode="donot_use_mm_for_euclid_dist"
        ).fill_diagonal_(torch.inf)
        near.append(torch.zeros_like(far).scatter_(1, far.topk(k, largest=False).indices, 1.0))
    return ((near[0] * near[1]).sum() / (k * len(X))).item()


def pca(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets projected on the first two principal axes of the first; signs are deterministic."""
    middle = X.mean(0)
    axes = np.linalg.svd(X - middle, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(1)])[:, None]
    return (X - middle) @ axes.T, (Y - middle) @ axes.T


def fit_umap(X: np.ndarray, seed: int) -> Any:
    """UMAP fitted on the dense embeddings; a fixed seed makes it deterministic and
    single-threaded.
    """
    require("umap", "maps")
    from umap import UMAP

    return UMAP(n_neighbors=min(15, len(X) - 1), random_state=seed, n_jobs=1).fit(X)


def _moves(
    block: int, projection: str, points: tuple[np.ndarray, np.ndarray], *, examples: list[int]
) -> pd.DataFrame:
    """Rows of `drift_map` for one map; `points` are (examples, 2), dense and pruned."""
    before, after = points
    return pd.DataFrame(
        {
            "block": block,
            "projection": projection,
            "example": examples,
            "x_dense": before[:, 0],
            "y_dense": before[:, 1],
            "x": after[:, 0],
            "y": after[:, 1],
            "move": np.linalg.norm(after - before, axis=1),
        }
    )
