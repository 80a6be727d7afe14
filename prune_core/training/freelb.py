"""FreeLB gradients: adversarial training on small perturbations of the word embeddings.

Zhu et al. 2020, "FreeLB: Enhanced Adversarial Training for Natural Language Understanding",
Algorithm 1. Every ascent step on the perturbation also contributes to the gradient of the
parameters.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def add_gradients(
    model: Any,
    mask: Tensor,
    loss: Callable[[], Tensor],
    steps: int,
    step_size: float,
    max_norm: float,
) -> float:
    """Add the mean gradient over `steps` perturbed passes to the parameters; return the mean loss.

    `mask` is (examples, tokens), `loss` runs the model on the batch; `step_size` and `max_norm` are
    Frobenius norms of an example's perturbation. It is added to the output of the word embedding
    layer, so families do not need to support inputs_embeds. All passes use the same dropout masks,
    as in the paper.
    """
    layer = model.get_input_embeddings()
    devices = [mask.device] if mask.device.type == "cuda" else []
    perturbation, total = initial_perturbation(mask, layer.embedding_dim, max_norm), 0.0
    for step in range(steps):
        perturbation.requires_grad_()
        hook = layer.register_forward_hook(
            lambda _, __, embedded, perturbation=perturbation: embedded + perturbation
        )
        try:
            # all but the last pass restore the generator, so that each draws the same masks
            with torch.random.fork_rng(devices, enabled=step < steps - 1):
                step_loss = loss() / steps
        finally:
            hook.remove()
        step_loss.backward()
        total += step_loss.item()
        assert perturbation.grad is not None, "the model uses this embedding layer"
        perturbation = ascend(
            perturbation.detach(),
            perturbation.grad * mask[:, :, None],
            step_size,
            max_norm=max_norm,
        )
    return total


def initial_perturbation(mask: Tensor, width: int, max_norm: float) -> Tensor:
    """Initial perturbation (examples, tokens, width) inside the ball of radius `max_norm`.

    Uniform in ±max_norm / √(tokens of the example · width), zero for padding.
    """
    noise = torch.empty(*mask.shape, width, device=mask.device).uniform_(-max_norm, max_norm)
    return noise * (mask / (mask.sum(1) * width).sqrt()[:, None])[:, :, None]


def ascend(perturbation: Tensor, gradient: Tensor, step_size: float, max_norm: float) -> Tensor:
    """Take a step along each example's gradient, then project onto the ball of radius `max_norm`.

    Perturbation and gradient are (examples, tokens, width); the step has Frobenius norm
    `step_size`.
    """
    tiny = torch.finfo(gradient.dtype).tiny  # a gradient of zero gives a step of zero
    perturbation = perturbation + step_size * gradient / norms(gradient).clamp_min(tiny)
    return perturbation * (max_norm / norms(perturbation).clamp_min(tiny)).clamp_max(1.0)


def norms(perturbation: Tensor) -> Tensor:
    """Frobenius norm of each example's (tokens, width), as (examples, 1, 1)."""
    return torch.linalg.vector_norm(perturbation, dim=(1, 2), keepdim=True)
