"""The packed states of one path through the encoder, and the sums over them that methods need.

Knows nothing of methods, weights to prune or sparsities.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.replay import Block, Padding, embed
from ..plugins import Batch
from .moments import Stats


class Stream:
    """The packed states of one path through the encoder, batch by batch."""

    def __init__(self, states: Sequence[tuple[Tensor, Padding]]):
        self.paddings = [padding for _, padding in states]
        self.inputs = [x for x, _ in states]  # input of the current group, (tokens, width) each
        self.residuals = self.inputs
        self.shared: list[Tensor] = []  # what unitwise.py keeps of a block that is passed several times

    def twin(self) -> Stream:
        """A second stream from the same states; nothing is written in place, so they share memory until they part."""
        return Stream(list(zip(self.inputs, self.paddings, strict=True)))

    def some(self, sentences: int) -> Stream:
        """A stream of about so many sentences, of all lengths."""
        step = _step([len(each.mask) for each in self.paddings], sentences)
        return Stream(list(zip(self.inputs[::step], self.paddings[::step], strict=True)))

    def enter(self, block: Block) -> None:
        """Turn the residual stream into the input of the block's first group: nothing to do where norms come last."""
        if block.spec.pre_norm:
            self.residuals = list(self.inputs)
            self.inputs = [block.enter(x) for x in self.inputs]

    def advance(self, block: Block, group: int) -> None:
        """Push every batch through one stage of the block."""
        for i, padding in enumerate(self.paddings):
            self.inputs[i], residual = block.stage(group, self.inputs[i], self.residuals[i], padding)
            if self.residuals is self.inputs:
                self.residuals = list(self.inputs)
            self.residuals[i] = residual


def spread(batches: Sequence[Batch], sentences: int) -> Sequence[Batch]:
    """About so many sentences of batches sorted by length, of all lengths."""
    return batches[:: _step([len(batch["input_ids"]) for batch in batches], sentences)]


def _step(sizes: Sequence[int], sentences: int) -> int:
    return max(1, sum(sizes) // sentences)


def stream(model: nn.Module, batches: Sequence[Batch]) -> Stream:
    """The states behind the embeddings."""
    if not batches:
        raise PruneError("There are no calibration sentences; give at least one.")
    return Stream([embed(model, batch) for batch in batches])


def collect(needs: Collection[str], pruned: Stream, dense: Stream | None, onto_residual: bool = False) -> Stats:
    """The sums that a method needs, in one pass over the current inputs; `dense` is None where both paths are the same."""
    first = pruned.inputs[0]
    width, sentences = first.shape[-1], sum(len(each.mask) for each in pruned.paddings)
    zeros = lambda *shape: torch.zeros(shape, device=first.device, dtype=torch.float32)  # noqa: E731
    if "diagonal" in needs:
        gram = zeros(width)
        for x in pruned.inputs:
            gram += x.float().square().sum(0)
        return Stats(gram, tokens=sum(map(len, pruned.inputs)), sentences=sentences)
    stats = Stats(zeros(width, width), total=zeros(width), dense_total=zeros(width), sentences=sentences)
    if dense is not None:
        stats.cross = zeros(width, width)
        if "dense_gram" in needs:
            stats.dense_gram = zeros(width, width)
        if "carry" in needs and onto_residual:
            outputs = pruned.residuals[0].shape[-1]
            stats.carry, stats.carry_total = zeros(outputs, width), zeros(outputs)
    for i, x in enumerate(pruned.inputs):
        x = x.float()
        stats.gram.addmm_(x.T, x)
        stats.total += x.sum(0)
        stats.tokens += len(x)
        if dense is None or stats.cross is None:
            continue
        dense_x = dense.inputs[i].float()
        stats.cross.addmm_(dense_x.T, x)
        stats.dense_total += dense_x.sum(0)
        if stats.dense_gram is not None:
            stats.dense_gram.addmm_(dense_x.T, dense_x)
        if stats.carry is not None and stats.carry_total is not None:
            lacking = (dense.residuals[i] - pruned.residuals[i]).float()
            stats.carry.addmm_(lacking.T, x)
            stats.carry_total += lacking.sum(0)
    if dense is None:
        stats.dense_total = stats.total
    if not torch.isfinite(stats.gram).all():
        raise PruneError("The model's hidden states are not finite on the calibration sentences; check the checkpoint and the data.")
    return stats
