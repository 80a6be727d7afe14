"""FreeLB's gradients: a training step against small changes of the word embeddings, each step's ascent reused for the parameters.

Zhu et al. 2020, "FreeLB: Enhanced Adversarial Training for Natural Language Understanding", Algorithm 1. Knows nothing of
optimisers, schedules or data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def gradients(
    model: Any, mask: Tensor, loss: Callable[[], Tensor], steps: int, size: float, norm: float
) -> float:
    """Add the mean gradient over `steps` perturbed passes to the parameters; returns the mean loss.

    `mask` is (sentences, tokens), `loss` runs the model on that batch. The perturbation is added to what the word embedding
    layer gives, so families need no inputs_embeds of their own. All passes of a step draw the same dropout, as in the paper.
    """
    layer = model.get_input_embeddings()
    devices = [mask.device] if mask.device.type == "cuda" else []
    change, total = start(mask, layer.embedding_dim, norm), 0.0
    for step in range(steps):
        change.requires_grad_()
        hook = layer.register_forward_hook(lambda _, __, embedded, change=change: embedded + change)
        try:
            with torch.random.fork_rng(devices, enabled=step < steps - 1):
                found = loss() / steps
        finally:
            hook.remove()
        found.backward()
        total += found.item()
        assert change.grad is not None, "the model embeds its words by that layer"
        change = ascend(change.detach(), change.grad * mask[:, :, None], size, norm=norm)
    return total


def start(mask: Tensor, width: int, norm: float) -> Tensor:
    """(sentences, tokens, width), uniform in ±norm / √(tokens of the sentence · width), zero on padding: inside the ball."""
    entries = mask.sum(1) * width
    draw = torch.empty(*mask.shape, width, device=mask.device).uniform_(-norm, norm)
    return draw * (mask / entries.sqrt()[:, None])[:, :, None]


def ascend(change: Tensor, gradient: Tensor, size: float, norm: float) -> Tensor:
    """A step of Frobenius length `size` up each sentence's own gradient, then back into its ball of radius `norm`."""
    change = change + size * gradient / norms(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
    return change * (norm / norms(change).clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1.0)


def norms(change: Tensor) -> Tensor:
    """Frobenius norm of each sentence's (tokens, width), as (sentences, 1, 1)."""
    return torch.linalg.vector_norm(change, dim=(1, 2), keepdim=True)
