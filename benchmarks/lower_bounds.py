"""Lower bounds on the work of a pruning method: FLOPs by purpose, and bytes that must be moved.

A multiply-accumulate is two FLOPs. Every input is read once and every output written once, in fp32.
Nothing is timed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from prune_core.methods.akr import AKR
from prune_core.methods.kprune import LAMBDA_FACTORS, STRIDE, KPrune
from prune_core.methods.kwon import Kwon
from prune_core.models import replay
from prune_core.plugins import Batch, Method
from prune_core.pruning.allocation import FACTORS, ROWS
from prune_core.pruning.allocation import STEPS as CURVE_STEPS
from prune_core.pruning.fisher import PROBES
from prune_core.pruning.layer_sparsities import CURVES
from prune_core.pruning.layerwise import GRADIENTS

FLOAT = 4  # bytes
EIGENVECTORS = 9.0  # times n³ FLOPs, for a symmetric matrix (Golub & Van Loan, 8.3)


class Sizes(NamedTuple):
    """Sizes on which the counts depend."""

    tokens: int
    squares: int  # Σ tokens² over sequences, for attention
    width: int
    linears: list[tuple[int, int]]  # (outputs, inputs) of every matrix, layer by layer
    onto_residual: list[tuple[int, int]]  # of those whose output is added to the residual stream
    inputs: list[int]  # width of every distinct input; query, key and value share one
    blocks: int
    sequences: int

    @classmethod
    def of(cls, model: nn.Module, batches: Sequence[Batch]) -> Sizes:
        """Return the sizes of a model and a padded sample."""
        lengths = [
            length for batch in batches for length in batch["attention_mask"].sum(1).tolist()
        ]
        stack = replay.blocks(model)
        groups = [
            [tuple(block.linears[projection].weight.shape) for projection in group]
            for block in stack
            for group in block.groups
        ]
        shapes = [shape for group in groups for shape in group]
        return cls(
            sum(lengths),
            sum(n * n for n in lengths),
            shapes[0][1],
            shapes,
            [group[0] for group in groups[1::2]],
            [group[0][1] for group in groups],
            len(stack),
            len(lengths),
        )

    @property
    def forward(self) -> float:
        """FLOPs of one pass through the encoder."""
        return (
            2.0 * self.tokens * sum(r * c for r, c in self.linears)
            + 4.0 * self.squares * self.width * self.blocks
        )


def flops(method: Method, model: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """Return FLOPs by purpose; magnitude and simple structured baselines multiply no matrices."""
    sizes = Sizes.of(model, batches)
    if isinstance(method, (KPrune, Kwon)):
        return _structured(method, sizes)
    if isinstance(method, AKR):
        return _akr(method, sizes)
    if method.name not in ("wanda", "sparsegpt"):
        return {}
    outputs, inputs = sizes.linears[-1]  # the output of the last matrix is not needed
    counts = {"forward": sizes.forward - 2.0 * sizes.tokens * outputs * inputs}
    if method.name == "sparsegpt":
        counts |= {"gram": _gram(sizes), "invert": _inverses(sizes), "sweep": _sweep(sizes)}
    return counts


def _gram(sizes: Sizes) -> float:
    return sum(2.0 * sizes.tokens * d * d for d in sizes.inputs)


def _inverses(sizes: Sizes) -> float:
    return sum(2 / 3 * d**3 for d in sizes.inputs)


def _sweep(sizes: Sizes) -> float:
    return sum(1.0 * rows * columns * columns for rows, columns in sizes.linears)


def _akr(method: AKR, sizes: Sizes) -> dict[str, float]:
    fisher = method.fisher  # Fisher weights of the outputs couple the rows of a matrix
    product = sum(
        2.0 * r * c * c + (2.0 * r * r * c if fisher and r <= c else 0.0) for r, c in sizes.linears
    )  # products of all weights with H and G
    later = sizes.inputs[1:]  # the first group has no inherited error
    counts = {
        "forward of both paths": 2 * sizes.forward,
        "gram": _gram(sizes),
        "cross": sum(2.0 * sizes.tokens * d * d for d in later),
        # factorization of ε, two triangular solves for d right-hand sides, and W times the result
        "adapt": sum(1 / 3 * d**3 + 2.0 * d**3 for d in later)
        + sum(2.0 * r * c * c for r, c in sizes.linears),
        "refit": (method.refit_steps + 1) * product,
    }
    if "carry" in method.needs:
        counts["carry"] = sum(
            2.0 * sizes.tokens * r * c + 2.0 * r * c * c for r, c in sizes.onto_residual
        )
    if method.solver == "admm":
        of_outputs = sum(r**3 for r, c in sizes.linears if r <= c) if fisher else 0.0
        counts["eigenvectors"] = EIGENVECTORS * (sum(d**3 for d in sizes.inputs) + of_outputs)
        counts["rounds"] = 2.0 * method.rounds * product
    else:
        counts |= {"invert": _inverses(sizes), "sweep": _sweep(sizes)}
    if fisher:
        gradients = sum(2.0 * sizes.tokens * r * r for r, c in sizes.linears if r <= c)
        counts["fisher"] = min(1.0, GRADIENTS / sizes.sequences) * (
            (1 + PROBES) * sizes.forward + PROBES * gradients
        )
    if method.allocation == "error":
        curves = (
            len(FACTORS)
            * (CURVE_STEPS + 2)
            * sum(2.0 * min(r, ROWS) * c * c for r, c in sizes.linears)
        )
        counts["allocation"] = (
            min(1.0, CURVES / sizes.sequences) * (sizes.forward + _gram(sizes))
            + _inverses(sizes) / 2
            + curves
        )
    return counts


def _structured(method: KPrune | Kwon, sizes: Sizes) -> dict[str, float]:
    """Count two passes for mask gradients: forward, and backward without weight gradients."""
    kept = 1 - method.sparsity
    tune = sum(
        2.0 * sizes.tokens * ((kept * c) ** 2 + kept * c * r) for r, c in sizes.onto_residual
    )
    if isinstance(method, Kwon):
        return {
            "gradients": 2 * sizes.forward,
            "forward of both paths": (1 + kept) * sizes.forward,
            "tune": tune if method.tune else 0.0,
        }
    sublayers = 2 * sizes.blocks
    gradients = (
        2 * sizes.forward * sum(1 - place / sublayers for place in range(1, sublayers))
        + sizes.forward
    )
    runs = 1 + len(LAMBDA_FACTORS) / STRIDE if method.adapt else 1.0
    return {
        "gradients": runs * gradients,
        "forward of both paths": runs * (1 + kept) * sizes.forward,
        "tune": runs * tune,
        "trials judged": (2 + len(LAMBDA_FACTORS)) / STRIDE * sizes.forward
        if method.adapt
        else 0.0,
    }


def bytes_moved(method: Method, model: nn.Module, batches: Sequence[Batch]) -> float:
    """Return the bytes that a method must move.

    All weights are read and written once; methods with calibration also read the inputs and write
    the outputs of every matrix on each path.
    """
    sizes = Sizes.of(model, batches)
    weights = 2.0 * FLOAT * sum(r * c for r, c in sizes.linears)
    if method.name in ("magnitude", "unit_magnitude", "unit_random"):
        return weights
    paths = 1 if method.name in ("wanda", "sparsegpt") else 2
    states = FLOAT * sizes.tokens * sum(r + c for r, c in sizes.linears)
    passes = paths + (
        sizes.blocks if isinstance(method, KPrune) else 2 * isinstance(method, Kwon)
    )  # K-prune's passes start at the pruned sublayer
    grams = 2.0 * FLOAT * sum(d * d for d in sizes.inputs) if method.name != "wanda" else 0.0
    return weights + passes * states + grams
