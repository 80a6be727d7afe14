"""Output error when only one block is pruned, and when all are; What-if predictions are based on
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..models.devices import device_of
from ..models.replay import Block, Padding, blocks, embed, head
from ..plugins import Batch, Report, Rows, option
from ..tasks import TASK_TYPES
from ..tasks.encoding import batches
from .base import Measure, Pair


@dataclass(frozen=True)
class Sensitivity(Measure):
    """Replace one block of the dense model at a time by the pruned one: ‖h − ĥ‖/‖h‖ of the encoder
    output h.

    A shared block is replaced in all its passes. Refitted layers after the encoder are not part of
    the single-block errors.
    """

    name = "sensitivity"
    title = "Block sensitivity"
    summary = (
        "Output error when only one block is pruned; two sparsities of a method enable What-if"
    )
    estimate = 4.0
    examples: int = option(256, "Evaluation examples to measure on (0 = all)", low=0, high=100_000)

    @torch.no_grad()
    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `sensitivity` (one row per block) and `sensitivity_example` (one row per
        example).

        The second has the outputs of the dense model, of the pruned model and of the dense model
        with each pruned block; only for tasks with a probability per label or a score.
        """
        sample = pair.task.evaluation.sample(self.examples, pair.seed)
        activation = TASK_TYPES[sample.kind].activation
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
        # per batch, (blocks + 2,): each block alone, all together, the output itself
        squares: list[Tensor] = []
        # per batch, (examples, blocks + 2, labels): dense, each block, pruned
        outputs: list[Tensor] = []
        for place, (batch, _) in enumerate(data):
            report(place / len(data), f"batch {place + 1} of {len(data)}")
            hidden, padding = _final_states(pair, batch, dense, pruned=pruned)
            errors = [(state - hidden[0]).float().square().sum() for state in hidden[1:]]
            squares.append(torch.stack([*errors, hidden[0].float().square().sum()]))
            if activation is not None:
                models = [pair.dense] * (len(hidden) - 1) + [pair.pruned]
                outputs.append(
                    torch.stack(
                        [
                            activation(head(model, state, padding).float())
                            for model, state in zip(models, hidden, strict=True)
                        ],
                        dim=1,
                    )
                )
        report(1.0, "block sensitivity measured")
        sums = torch.stack(squares).cpu().double().sum(0)
        relative = (sums[:-1] / (sums[-1] or 1.0)).sqrt().tolist()
        tables: Rows = {"sensitivity": pd.DataFrame(_by_block(dense, pruned, relative))}
        if outputs:
            order = [row for _, rows in data for row in rows]
            by_example = dict(zip(order, torch.cat(outputs).tolist(), strict=True))
            tables["sensitivity_example"] = pd.DataFrame(
                {
                    "label": [None] * len(sample) if sample.labels is None else sample.labels,
                    "dense_outputs": [by_example[row][0] for row in range(len(sample))],
                    "block_outputs": [by_example[row][1:-1] for row in range(len(sample))],
                    "pruned_outputs": [by_example[row][-1] for row in range(len(sample))],
                }
            )
        return tables


def _final_states(
    pair: Pair, batch: Batch, dense: Sequence[Block], pruned: Sequence[Block]
) -> tuple[list[Tensor], Padding]:
    """Encoder outputs, (tokens, width) each: dense, dense with each pruned block in turn,
    pruned.
    """
    start, padding = embed(pair.dense, batch)

    def forward(x: Tensor, through: Sequence[Block]) -> Tensor:
        for block in through:
            for _ in range(block.passes):
                x = block.run_pass(x, padding)
        return x

    inputs = [start]  # of each dense block, then the encoder output
    for block in dense:
        inputs.append(forward(inputs[-1], [block]))
    if pair.is_dense:
        return [inputs[-1]] * (len(dense) + 2), padding
    single = [
        forward(x, [other, *dense[index + 1 :]])
        for index, (x, other) in enumerate(zip(inputs, pruned, strict=False))
    ]
    return [inputs[-1], *single, forward(embed(pair.pruned, batch)[0], pruned)], padding


def _by_block(
    dense: Sequence[Block], pruned: Sequence[Block], errors: Sequence[float]
) -> list[dict[str, Any]]:
    """One row per block: weights, sparsity, error when pruned alone, error of all blocks
    together.
    """
    rows = []
    for index, (before, after) in enumerate(zip(dense, pruned, strict=True)):
        weights = sum(linear.weight.numel() for linear in before.linears.values())
        nonzero = sum(int(torch.count_nonzero(linear.weight)) for linear in after.linears.values())
        rows.append(
            {
                "block": index,
                "weights": weights,
                # a block of a compact model may have no weights
                "sparsity": 1 - nonzero / max(1, weights),
                "error": errors[index],
                "all_blocks_error": errors[-1],
            }
        )
    return rows
