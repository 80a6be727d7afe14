"""What the pruning of each block costs when it is the only one pruned, and of all together: what a plan of shares is predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..data.tokens import batches
from ..models.devices import device_of
from ..models.inference.predict import ACTIVATIONS
from ..models.replay import Block, Padding, blocks, embed, head
from ..plugins import Batch, Report, Rows, option
from .base import Measure, Pair


@dataclass(frozen=True)
class Sensitivity(Measure):
    """The dense model with one block at a time exchanged for the pruned model's: ‖h − ĥ‖/‖h‖ of the encoder's output h.

    A block of a shared stack is exchanged in all its passes. What a method refits behind the encoder is left out of single blocks.
    """

    name = "sensitivity"
    title = "Block sensitivity"
    summary = "What each block's pruning costs when it is the only one pruned; with two sparsities of a method, What if predicts others"
    estimate = 4.0
    sentences: int = option(
        256, "Evaluation sentences to measure on (0 = all)", low=0, high=100_000
    )

    @torch.no_grad()
    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables `sensitivity` (a row a block) and, where every label has a probability or a score is given,
        `sensitivity_example` (a row an example: what the dense and the pruned model say, and the dense one with each block)."""
        sample = pair.task.evaluation.sample(self.sentences, pair.seed)
        dense, pruned = blocks(pair.dense), blocks(pair.pruned)
        data = list(
            batches(
                pair.tokenizer,
                sample,
                pair.batch_size,
                max_length=pair.max_length,
                device=device_of(pair.dense),
            )
        )
        squares: list[
            Tensor
        ] = []  # (blocks + 2,) a batch: each block alone, all together, the output itself
        said: list[Tensor] = []  # (sentences, dense and each block and pruned, labels) a batch
        for place, (batch, _) in enumerate(data):
            report(place / len(data), f"block by block: batch {place + 1} of {len(data)}")
            ends, padding = _ends(pair, batch, dense, pruned=pruned)
            apart = [(end - ends[0]).float().square().sum() for end in ends[1:]]
            squares.append(torch.stack([*apart, ends[0].float().square().sum()]))
            if sample.kind in ACTIVATIONS:
                models = [pair.dense] * (len(ends) - 1) + [pair.pruned]
                found = [
                    ACTIVATIONS[sample.kind](head(model, end, padding).float())
                    for model, end in zip(models, ends, strict=True)
                ]
                said.append(torch.stack(found, 1))
        report(1.0, "block sensitivity measured")
        sums = torch.stack(squares).cpu().double().sum(0)
        errors = (sums[:-1] / (sums[-1] or 1.0)).sqrt().tolist()
        tables: Rows = {"sensitivity": pd.DataFrame(_by_block(dense, pruned, errors))}
        if said:
            order = [row for _, rows in data for row in rows]
            own = dict(zip(order, torch.cat(said).tolist(), strict=True))
            tables["sensitivity_example"] = pd.DataFrame(
                {
                    "right": [None] * len(sample) if sample.labels is None else sample.labels,
                    "said_dense": [own[row][0] for row in range(len(sample))],
                    "said_blocks": [own[row][1:-1] for row in range(len(sample))],
                    "said_pruned": [own[row][-1] for row in range(len(sample))],
                }
            )
        return tables


def _ends(
    pair: Pair, batch: Batch, dense: Sequence[Block], pruned: Sequence[Block]
) -> tuple[list[Tensor], Padding]:
    """The encoder's output, (tokens, width) each: of the dense model, of it with each pruned block in turn, of the pruned model."""
    start, padding = embed(pair.dense, batch)

    def walk(x: Tensor, through: Sequence[Block]) -> Tensor:
        for block in through:
            for _ in range(block.passes):
                x = block.run_pass(x, padding)
        return x

    befores = [start]
    for block in dense:
        befores.append(walk(befores[-1], [block]))
    alone = [
        walk(before, [other, *dense[index + 1 :]]) if not pair.is_dense else befores[-1]
        for index, (before, other) in enumerate(zip(befores, pruned, strict=False))
    ]
    whole = befores[-1] if pair.is_dense else walk(embed(pair.pruned, batch)[0], pruned)
    return [befores[-1], *alone, whole], padding


def _by_block(
    dense: Sequence[Block], pruned: Sequence[Block], errors: Sequence[float]
) -> list[dict[str, Any]]:
    """A row a block: its weights, the share of them that is gone, its error alone, and that of all blocks together."""
    rows = []
    for index, (before, after) in enumerate(zip(dense, pruned, strict=True)):
        weights = sum(linear.weight.numel() for linear in before.linears.values())
        left = sum(int(torch.count_nonzero(linear.weight)) for linear in after.linears.values())
        gone = 1 - left / max(1, weights)  # a cut model may have a block with none
        rows.append(
            {
                "block": index,
                "weights": weights,
                "sparsity": gone,
                "error": errors[index],
                "together": errors[-1],
            }
        )
    return rows
