"""Output error of each Linear and block, split into its own error and the error of its input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..models.devices import device_of
from ..models.replay import Block, block_passes, sparsity_by_projection
from ..plugins import Report, Rows, option
from ..pruning.streams import Stream, stream
from ..tasks.encoding import batches
from .base import Measure, Pair


@dataclass(frozen=True)
class Reconstruction(Measure):
    """Relative output errors: own ‖Wx̂−Ŵx̂‖, inherited ‖Wx−Wx̂‖ and total ‖Wx−Ŵx̂‖, over ‖Wx‖.

    x and W belong to the dense model, x̂ and Ŵ to the pruned one; norms are over all tokens of all
    examples. Outputs include the bias, ‖Wx‖ does not. In the row of a whole block, the block takes
    the place of W, and `cosine` is the mean cosine similarity of its output tokens.
    """

    name = "reconstruction"
    title = "Reconstruction error"
    summary = "Output error of every weight matrix and block: its own, inherited, and total"
    estimate = 4.0
    examples: int = option(128, "Evaluation examples to measure on (0 = all)", low=0, high=100_000)

    @torch.no_grad()
    def measure(self, pair: Pair, report: Report) -> Rows:
        """The table `reconstruction`: one row per weight matrix, and one per block."""
        sample = pair.task.evaluation.sample(self.examples, pair.seed)
        data = [
            batch
            for batch, _ in batches(
                pair.tokenizer,
                sample,
                pair.batch_size,
                max_length=pair.max_length,
                device=device_of(pair.dense),
            )
        ]
        dense, pruned = stream(pair.dense, data), stream(pair.pruned, data)
        rows: list[dict[str, Any]] = []
        pairs = list(zip(block_passes(pair.dense), block_passes(pair.pruned), strict=True))
        for index, ((_, before), (_, after)) in enumerate(pairs):
            report(index / len(pairs), f"block {index + 1} of {len(pairs)}")
            rows += [{"block": index, **row} for row in _block(before, after, dense, pruned=pruned)]
        sparsities = pd.DataFrame(sparsity_by_projection(pair.pruned))
        zeros = pd.concat(
            [
                sparsities[sparsities["block"] == number].assign(block=index)
                for index, ((number, _), _) in enumerate(pairs)
            ]
        )
        report(1.0, "reconstruction error measured")
        return {
            "reconstruction": pd.DataFrame(rows).merge(
                zeros, on=["block", "projection"], how="left"
            )
        }


def _block(before: Block, after: Block, dense: Stream, pruned: Stream) -> list[dict[str, Any]]:
    """Return the rows of the weight matrices and of the block; `before` is dense.

    Advances both streams to the next block, or to the next pass of a shared one.
    """
    mixed = [  # dense block, pruned input
        pruned.keep(before.run_pass(x, padding))
        for x, padding in zip(pruned.inputs, pruned.paddings, strict=True)
    ]
    dense.enter(before)
    pruned.enter(after)
    rows = []
    for group, projections in enumerate(before.groups):
        for projection in projections:
            W, W_hat = before.linears[projection], after.linears[projection]
            sums = ErrorSums()
            for x, x_hat in zip(dense.inputs, pruned.inputs, strict=True):
                y = W(x)
                sums.add(y, W(x_hat), W_hat(x_hat), y if W.bias is None else y - W.bias)
            rows.append({"projection": projection, **sums.row()})
        dense.advance(before, group)
        pruned.advance(after, group)
    whole = ErrorSums()
    for x, between, x_hat in zip(dense.inputs, mixed, pruned.inputs, strict=True):
        whole.add(x, between, x_hat, x)
    return [
        *rows,
        {"projection": "block", **whole.row(), "cosine": _cosine(dense.inputs, pruned.inputs)},
    ]


class ErrorSums:
    """Squared norms of the three errors and of the dense output, summed over batches."""

    def __init__(self) -> None:
        self._per_batch: list[Tensor] = []  # (4,) each, on the device

    def add(self, dense: Tensor, between: Tensor, pruned: Tensor, reference: Tensor) -> None:
        """Add a batch of outputs, each (tokens, width).

        `between` is the output of the dense layer for the pruned model's input, `reference` the
        dense output without bias, whose norm is the divisor.
        """
        differences = (between - pruned, dense - between, dense - pruned, reference)
        self._per_batch.append(torch.stack([x.float().square().sum() for x in differences]))

    def row(self) -> dict[str, float]:
        """Return the relative errors; batches are summed in double precision."""
        *errors, scale = torch.stack(self._per_batch).cpu().double().sum(0).tolist()
        scale = scale or 1.0  # a layer with zero output
        return {
            name: (error / scale) ** 0.5
            for name, error in zip(("own", "inherited", "total"), errors, strict=True)
        }


def _cosine(dense: Sequence[Tensor], pruned: Sequence[Tensor]) -> float:
    cosines = [
        torch.cosine_similarity(x.float(), y.float(), dim=-1)
        for x, y in zip(dense, pruned, strict=True)
    ]
    return torch.cat(cosines).mean().item()
