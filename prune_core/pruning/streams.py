"""The packed states of one path through the encoder, and the sums over them that methods need.

Where a machine's memory would grow with the number of sentences, states lie in a file that the system keeps in memory as far as
there is room (the folder of temporary files, which TMPDIR names). Knows nothing of methods, weights to prune or sparsities.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.devices import release_memory
from ..models.replay import Block, Padding, embed
from ..plugins import Batch
from .input_statistics import InputStatistics

IN_MEMORY = 1 << 28  # bytes of states of one kind and one path; more of them lie in a file


class Stream:
    """The packed states of one path through the encoder, batch by batch; `keep` says where they lie."""

    def __init__(self, inputs: Sequence[Tensor], paddings: Sequence[Padding], tokens: int):
        self.paddings = list(paddings)
        self.tokens = tokens  # of all batches, padding included
        self.inputs = list(inputs)  # input of the current group, (tokens, width) each
        self.residuals = self.inputs
        self.shared: list[
            Tensor
        ] = []  # what unitwise.py keeps of a block that is passed several times

    def twin(self) -> Stream:
        """A second stream from the same states; nothing is written in place, so they share memory until they part."""
        return Stream(self.inputs, self.paddings, self.tokens)

    def some(self, sentences: int) -> Stream:
        """A stream of about so many sentences, of all lengths."""
        step = _step([len(each.mask) for each in self.paddings], sentences)
        return Stream(self.inputs[::step], self.paddings[::step], self.tokens // step)

    def keep(self, x: Tensor) -> Tensor:
        """States of one batch as they are, or in a file that goes when they do, where all batches' together would take too much."""
        if x.device.type != "cpu" or self.tokens * x.shape[-1] * x.element_size() <= IN_MEMORY:
            return x
        with tempfile.NamedTemporaryFile(
            prefix="prunescope-states-"
        ) as file:  # its name goes at once, its content with the tensor
            try:
                file.write(
                    x.contiguous().view(torch.uint8).numpy().data
                )  # a full disk is told here, and not by a signal later
                file.flush()
            except OSError as error:
                raise PruneError(
                    f"{tempfile.gettempdir()} has no room for the calibration sentences' states ({error.strerror}): free some, name "
                    "another folder by TMPDIR, or lower the calibration size or the max length."
                ) from None
            kept = torch.from_file(file.name, shared=True, size=x.numel(), dtype=x.dtype).view(
                x.shape
            )
        release_memory()  # of the batches before, of which each left a hole that the next one does not fit into
        return kept

    def enter(self, block: Block) -> None:
        """Turn the residual stream into the input of the block's first group: nothing to do where norms come last."""
        if block.spec.pre_norm:
            self.residuals = list(self.inputs)
            self.inputs = [self.keep(block.enter(x)) for x in self.inputs]

    def advance(self, block: Block, group: int) -> None:
        """Push every batch through one stage of the block."""
        for i, padding in enumerate(self.paddings):
            before = self.residuals[i]
            inputs, residual = block.stage(group, self.inputs[i], before, padding)
            self.inputs[i] = self.keep(inputs)
            residual = (
                self.inputs[i]
                if residual is inputs
                else before
                if residual is before
                else self.keep(residual)
            )
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
    found = Stream((), (), sum(batch["attention_mask"].numel() for batch in batches))
    for batch in batches:
        x, padding = embed(model, batch)
        found.inputs.append(found.keep(x))
        found.paddings.append(padding)
    return found


def collect(
    needs: Collection[str], pruned: Stream, dense: Stream | None, onto_residual: bool = False
) -> InputStatistics:
    """The sums that a method needs, in one pass over the current inputs; `dense` is None where both paths are the same."""
    first = pruned.inputs[0]
    width, sentences = first.shape[-1], sum(len(each.mask) for each in pruned.paddings)
    zeros = lambda *shape: torch.zeros(shape, device=first.device, dtype=torch.float32)  # noqa: E731
    if "diagonal" in needs:
        gram = zeros(width)
        for x in pruned.inputs:
            gram += x.float().square().sum(0)
        return InputStatistics(gram, tokens=sum(map(len, pruned.inputs)), sentences=sentences)
    stats = InputStatistics(
        zeros(width, width), total=zeros(width), dense_total=zeros(width), sentences=sentences
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
            lacking = (dense.residuals[i] - pruned.residuals[i]).float()
            stats.carry.addmm_(lacking.T, x)
            stats.carry_total += lacking.sum(0)
    if dense is None:
        stats.dense_total = stats.total
    if not torch.isfinite(stats.gram).all():
        raise PruneError(
            "The model's hidden states are not finite on the calibration sentences; check the checkpoint and the data."
        )
    return stats
