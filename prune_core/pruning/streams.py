"""Packed hidden states of one path through the encoder, and the input statistics that methods need.

States that would take too much memory are in temporary files (folder TMPDIR), which the system
caches in memory as far as possible.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.devices import release_memory
from ..models.replay import Block, Padding, embed
from ..plugins import Batch
from .input_statistics import InputStatistics

IN_MEMORY = 1 << 28  # bytes of the states of one stream; more than that are kept in files


class Stream:
    """Packed hidden states of one path through the encoder, batch by batch."""

    def __init__(self, inputs: Sequence[Tensor], paddings: Sequence[Padding], tokens: int):
        self.paddings = list(paddings)
        self.tokens = tokens  # of all batches, padding included
        self.inputs = list(inputs)  # input of the current group, (tokens, width) each
        self.residuals = self.inputs
        self.shared: list[Tensor] = []  # grams of a block that is used several times (unit_walk.py)

    def twin(self) -> Stream:
        """A second stream with the same states; they share memory until they diverge."""
        return Stream(self.inputs, self.paddings, self.tokens)

    def some(self, examples: int) -> Stream:
        """A stream of about `examples` examples, of all lengths."""
        step = _step([len(each.mask) for each in self.paddings], examples)
        return Stream(self.inputs[::step], self.paddings[::step], self.tokens // step)

    def keep(self, x: Tensor) -> Tensor:
        """The states of one batch, moved to a temporary file if those of all batches need too
        much memory.
        """
        if x.device.type != "cpu" or self.tokens * x.shape[-1] * x.element_size() <= IN_MEMORY:
            return x
        # the name is deleted at once, the content with the tensor
        with tempfile.NamedTemporaryFile(prefix="prunescope-states-") as file:
            try:
                # write(), so that a full disk is an error here and not a signal later
                file.write(x.contiguous().view(torch.uint8).numpy().data)
                file.flush()
            except OSError as error:
                raise PruneError(
                    f"{tempfile.gettempdir()} has no space for the hidden states of the "
                    f"calibration examples ({error.strerror}): free some space, set TMPDIR to "
                    "another "
                    "folder, or lower the calibration size or the max length."
                ) from None
            kept = torch.from_file(file.name, shared=True, size=x.numel(), dtype=x.dtype).view(
                x.shape
            )
        # earlier batches leave holes that are too small for the next one
        release_memory()
        return kept

    def enter(self, block: Block) -> None:
        """Compute the input of the block's first group from the residual stream (pre-norm only)."""
        if block.spec.pre_norm:
            self.residuals = list(self.inputs)
            self.inputs = [self.keep(block.enter(x)) for x in self.inputs]

    def advance(self, block: Block, group: int) -> None:
        """Pass every batch through one stage of the block."""
        for i, padding in enumerate(self.paddings):
            before = self.residuals[i]
            inputs, residual = block.stage(group, self.inputs[i], before, padding)
            self.inputs[i] = self.keep(inputs)
            if residual is inputs:
                residual = self.inputs[i]
            elif residual is not before:
                residual = self.keep(residual)
            if self.residuals is self.inputs:
                self.residuals = list(self.inputs)
            self.residuals[i] = residual


def spread(batches: Sequence[Batch], examples: int) -> Sequence[Batch]:
    """About `examples` examples of batches that are sorted by length, of all lengths."""
    return batches[:: _step([len(batch["input_ids"]) for batch in batches], examples)]


def _step(sizes: Sequence[int], examples: int) -> int:
    return max(1, sum(sizes) // examples)


def stream(model: nn.Module, batches: Sequence[Batch]) -> Stream:
    """The hidden states after the embeddings."""
    if not batches:
        raise PruneError("There are no calibration examples; give at least one.")
    states = Stream((), (), sum(batch["attention_mask"].numel() for batch in batches))
    for batch in batches:
        x, padding = embed(model, batch)
        states.inputs.append(states.keep(x))
        states.paddings.append(padding)
    return states


def collect(
    needs: Collection[str], pruned: Stream, dense: Stream | None, onto_residual: bool = False
) -> InputStatistics:
    """Input statistics that a method needs, in one pass. `dense` is None while both paths are
    equal.
    """
    first = pruned.inputs[0]
    width, examples = first.shape[-1], sum(len(each.mask) for each in pruned.paddings)
    zeros = partial(torch.zeros, device=first.device, dtype=torch.float32)
    if "diagonal" in needs:
        gram = zeros(width)
        for x in pruned.inputs:
            gram += x.float().square().sum(0)
        return InputStatistics(gram, tokens=sum(map(len, pruned.inputs)), examples=examples)
    stats = InputStatistics(
        zeros(width, width), total=zeros(width), dense_total=zeros(width), examples=examples
    )
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
            missing = (dense.residuals[i] - pruned.residuals[i]).float()
            stats.carry.addmm_(missing.T, x)
            stats.carry_total += missing.sum(0)
    if dense is None:
        stats.dense_total = stats.total
    if not torch.isfinite(stats.gram).all():
        raise PruneError(
            "The hidden states are not finite on the calibration examples; check the checkpoint "
            "and "
            "the data."
        )
    return stats
