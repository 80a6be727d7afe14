"""How much the dense model's prediction hangs on what each Linear puts out: a Kronecker-factored Fisher.

The Kullback-Leibler divergence of a changed model from the dense one is, to second order, ½·δᵀFδ with the Fisher F of the
predictions. Of a matrix's errors Δ that is about tr(G Δ H Δᵀ): H the gram of its inputs, G that of the gradients at its
outputs (Martens & Grosse, K-FAC, ICML 2015; for pruning Kurtic et al., Optimal BERT Surgeon, 2022, and van der Ouderaa et
al., LLM Surgeon, ICLR 2024). Knows nothing of methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..models.families import PROJECTIONS
from ..models.replay import Block, blocks, embed, head, task_type_of
from ..plugins import Batch, Report, no_report
from .input_statistics import OutputFisher
from .solvers import Spectrum, spectrum

PROBES = 2  # random directions per sentence in which the logits are moved
SHRINK = 0.7  # of G's off-diagonals: what two outputs share is less sure than what each is worth


@dataclass(frozen=True)
class Fisher:
    """Of one block."""

    outputs: Mapping[
        str, Tensor
    ]  # part -> G, mean over tokens: (outputs, outputs), of the part with more outputs than inputs (outputs,)

    def of(self, part: str) -> OutputFisher | None:
        """What errors of that part are worth; None where all are alike."""
        worth = self.worth(part)
        if worth is None:
            return None
        found = self.outputs[part]
        return (
            OutputFisher(worth, None, lambda: None)
            if found.dim() == 1
            else OutputFisher(worth, found, lambda: self._spectra[part])
        )

    def worth(self, part: str) -> Tensor | None:
        """(outputs,) G's diagonal."""
        found = self.outputs.get(part)
        return found if found is None or found.dim() == 1 else found.diagonal()

    @cached_property
    def _spectra(self) -> dict[str, Spectrum]:
        """Matrices of one size in one call: a GPU takes as long for one as for several."""
        grams = {part: gram for part, gram in self.outputs.items() if gram.dim() == 2}
        sizes = {
            len(gram): [part for part, other in grams.items() if len(other) == len(gram)]
            for gram in grams.values()
        }
        found: dict[str, Spectrum] = {}
        for parts in sizes.values():
            together = spectrum(torch.stack([self.outputs[part] for part in parts]))
            found |= {
                part: Spectrum(*(each[place] for each in together))
                for place, part in enumerate(parts)
            }
        return found


ALL_ALIKE = Fisher({})  # where a method asks for none


def fisher(
    model: nn.Module,
    batches: Sequence[Batch],
    report: Report = no_report,
    probes: int = PROBES,
    parts: Sequence[str] = PROJECTIONS,
) -> list[Fisher]:
    """Of those parts of every block, from one forward and `probes` backward passes over the sample; holds the activations of one batch.

    G is of the outputs' number squared: 0.14 GB in all for BERT-base, 0.5 GB for BERT-large, as of the feed-forward's first
    part, whose outputs are many, only the diagonal is summed. It costs half of all otherwise, and adds nothing that shows.
    """
    stack = blocks(model)
    order = [
        index for index, block in enumerate(stack) for _ in range(block.passes)
    ]  # of the passes
    grams: list[dict[str, Tensor]] = [{} for _ in stack]
    count = 0
    dice = torch.Generator().manual_seed(0)
    for i, batch in enumerate(batches):
        report(0.0, f"what the prediction hangs on: batch {i + 1} of {len(batches)}")
        for gradients in _gradients(model, stack, batch, probes=probes, dice=dice, parts=parts):
            found = [
                gradients[start : start + len(parts)]
                for start in range(0, len(gradients), len(parts))
            ]
            for index, of_block in zip(order, found, strict=True):
                gram = grams[index]
                for part, g in zip(parts, of_block, strict=True):
                    wide = g.shape[1] > stack[index].linears[part].in_features
                    gram[part] = gram.get(part, 0) + (g.square().sum(0) if wide else g.T @ g)
            count += len(found[0][0])  # tokens of a block's pass, in each probe
    passes = len(order) // len(stack)
    return [
        Fisher(
            {
                part: shrink_toward_diagonal(gram / (count * passes))
                for part, gram in of_block.items()
            }
        )
        for of_block in grams
    ]


def _gradients(
    model: nn.Module,
    stack: Sequence[Block],
    batch: Batch,
    probes: int,
    dice: torch.Generator,
    parts: Sequence[str],
) -> Iterator[Sequence[Tensor]]:
    """For each probe, the gradient (tokens, outputs) at the output of those parts of every block, in order."""
    outputs: list[Tensor] = []
    linears = [
        block.linears[part] for block in stack for part in parts
    ]  # a hook runs in every pass
    hooks = [
        linear.register_forward_hook(lambda _, __, output: outputs.append(output))
        for linear in linears
    ]
    try:
        with torch.enable_grad():
            x, padding = embed(model, batch)
            x = x.detach().requires_grad_()
            for block in stack:
                for _ in range(block.passes):
                    x = block.run_pass(x, padding)
            logits = head(model, x, padding)
    finally:
        for hook in hooks:
            hook.remove()
    for _ in range(probes):
        probe = torch.randint(0, 2, logits.shape, generator=dice).to(logits) * 2 - 1
        if task_type_of(model) == "multilabel":  # each label a coin of its own
            p = logits.detach().sigmoid()
            probe = (p * (1 - p)).sqrt() * probe
        elif (
            task_type_of(model) != "regression"
        ):  # a score has a Fisher of 1; others one of diag(p) − ppᵀ, which is E uuᵀ here
            p = logits.detach().softmax(-1)
            probe = p.sqrt() * probe
            probe = probe - p * probe.sum(-1, keepdim=True)
        yield torch.autograd.grad(logits, outputs, probe, retain_graph=True, materialize_grads=True)


def shrink_toward_diagonal(gram: Tensor) -> Tensor:
    """G with smaller off-diagonals, or its diagonal alone, and with a diagonal that is nowhere zero."""
    diagonal = gram if gram.dim() == 1 else gram.diagonal()
    floor = 1e-3 * diagonal.mean() if diagonal.any() else 1.0
    return (
        diagonal + floor
        if gram.dim() == 1
        else SHRINK * gram + torch.diag((1 - SHRINK) * diagonal + floor)
    )
