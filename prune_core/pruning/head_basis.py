"""Change the basis inside attention heads so that their first dimensions matter most.

A head's values and output columns enter the model only through the product W_O W_V, its queries and
keys only through W_Qᵀ W_K, so any invertible matrix and its inverse may be inserted between them.
The bases here are those of the singular value decompositions of the two products under the
statistics of their inputs, so that the last dimensions contribute least to the output and to the
scores. FLAT-LLM (2025) uses principal components of the values in a similar way.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import PruneError
from ..models.units import Sublayer
from .streams import Stream

TINY = torch.finfo(torch.float64).tiny ** 0.5  # whose square and inverse are finite
SMALLEST = 1e-8  # eigenvalue, relative to the largest: directions without data are not amplified
QUARTERS = 4  # widths that are tried: a quarter, a half, three quarters and the whole


def possible_widths(sub: Sublayer) -> list[int]:
    """Widths that the heads of a sub-layer may be cut to, in multiples of 8, the whole one last.

    Only the whole one if queries and keys are not used through their products alone, or if a
    projection has no bias.
    """
    block = sub.block
    has_biases = all(linear.bias is not None for linear in block.linears.values())
    if sub.kind != "head" or block.passes > 1 or not block.spec.only_products or not has_biases:
        return [sub.width]
    step = max(8, sub.width // QUARTERS)
    return [*range(step, sub.width, step), sub.width]


class HeadStatistics(NamedTuple):
    """Means over the tokens of a stream, in fp64."""

    gram: Tensor  # (d + 1, d + 1) of the sub-layer's input and a constant 1
    mean: Tensor  # (heads, width) of the context
    covariance: Tensor  # (heads, width, width) of the context


def _statistics(sub: Sublayer, states: Stream) -> HeadStatistics:
    gram: Tensor | float = 0.0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    count = 0
    for x, padding in zip(states.inputs, states.paddings, strict=True):
        inputs = sub.block.enter(x, sub.group)
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
        context = sub.features(x, padding).unflatten(1, (sub.units, sub.width)).transpose(0, 1)
        gram = gram + (inputs.T @ inputs).double()
        total = total + context.sum(1).double()
        squares = squares + (context.mT @ context).double()
        count += len(x)
    assert isinstance(gram, Tensor) and isinstance(total, Tensor), "there are batches"
    mean = total / count
    covariance = squares / count - mean[:, :, None] * mean[:, None, :]
    return HeadStatistics(gram / count, mean, covariance)


@torch.no_grad()
def sort_dimensions(sub: Sublayer, states: Stream, root: Tensor) -> None:
    """Change the basis of every head in place; the outputs of the model stay the same.

    `states` are the inputs of the sub-layer, `root` (d, d) is R if errors e of its output are
    weighted as ‖eR‖. Values are centered too: their mean moves into the bias of the output, so that
    it survives when dimensions or heads are removed. Raise PruneError if hidden states are not
    finite.
    """
    statistics = _statistics(sub, states)
    if not all(torch.isfinite(each).all() for each in statistics):
        raise PruneError(
            f"The hidden states before the heads of layer {sub.index + 1} contain NaN or infinite "
            "values; check the checkpoint, or prune less."
        )
    _sort_values(sub, statistics, root.double())
    _sort_scores(sub, statistics.gram)


def _sort_values(sub: Sublayer, statistics: HeadStatistics, root: Tensor) -> None:
    """For the weighted output columns RᵀO of a head and the covariance C of its context,
    RᵀOC^½ = USVᵀ: the context becomes SVᵀC^-½ times itself, with variances S².
    """
    value, output = sub.block.linears["value"], sub.output
    columns = output.weight.double().unflatten(1, (sub.units, sub.width)).transpose(0, 1)
    half, inverse_half = _square_roots(statistics.covariance)
    _, s, Vt = torch.linalg.svd(root.T @ columns @ half, full_matrices=False)
    # positive also for a head without an output, as in a model that was pruned before
    s = s.clamp_min((s[:, :1] * SMALLEST**0.5).clamp_min(TINY))[:, :, None]
    to_new = s * Vt @ inverse_half
    output.bias.add_((columns @ statistics.mean[:, :, None]).sum((0, 2)))
    output.weight.copy_((columns @ half @ (Vt / s).mT).transpose(0, 1).flatten(1))
    rows, bias = _by_head(sub, "value")
    value.weight.copy_((to_new @ rows).flatten(0, 1))
    value.bias.copy_((to_new @ (bias - statistics.mean[:, :, None])).flatten())


def _sort_scores(sub: Sublayer, gram: Tensor) -> None:
    """For second moments Q of a head's queries and the covariance K of its keys, Q^½K^½ = USVᵀ: the
    queries become S^½UᵀQ^-½ times themselves, the keys S^½VᵀK^-½ times themselves.

    The mean key is the same for all tokens, so it does not change the softmax.
    """
    (queries, query_bias), (keys, key_bias) = _by_head(sub, "query"), _by_head(sub, "key")
    mean = gram[:-1, -1]
    with_bias = torch.cat([queries, query_bias], 2)
    query_half, query_inverse = _square_roots(with_bias @ gram @ with_bias.mT)
    key_half, key_inverse = _square_roots(
        keys @ (gram[:-1, :-1] - torch.outer(mean, mean)) @ keys.mT
    )
    U, s, Vt = torch.linalg.svd(query_half @ key_half)
    root = s.sqrt()[:, :, None]
    for projection, to_new, rows, bias in (
        ("query", root * U.mT @ query_inverse, queries, query_bias),
        ("key", root * Vt @ key_inverse, keys, key_bias),
    ):
        linear = sub.block.linears[projection]
        linear.weight.copy_((to_new @ rows).flatten(0, 1))
        linear.bias.copy_((to_new @ bias).flatten())


def _by_head(sub: Sublayer, projection: str) -> tuple[Tensor, Tensor]:
    """Rows (heads, width, d) and bias (heads, width, 1) of a projection, in fp64."""
    linear = sub.block.linears[projection]
    rows = linear.weight.double().unflatten(0, (sub.units, sub.width))
    return rows, linear.bias.double().view(sub.units, sub.width, 1)


def _square_roots(moments: Tensor) -> tuple[Tensor, Tensor]:
    """C^½ and C^-½ of symmetric matrices (heads, width, width), inverse to each other."""
    values, vectors = torch.linalg.eigh(moments)
    largest = values[:, -1:].clamp_min(TINY)
    root = values.clamp_min(largest * SMALLEST).sqrt()[:, None, :]
    return vectors * root @ vectors.mT, vectors / root @ vectors.mT
