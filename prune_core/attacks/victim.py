"""The model under attack, as TextAttack asks for it: texts in, logits or gradients out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.devices import device_of
from .queries import BatchedQueries, Input
from .resources import load_textattack
from .scheduler import query_model

load_textattack()
from textattack.models.wrappers import ModelWrapper  # noqa: E402


class Victim(BatchedQueries, ModelWrapper):
    """Queries on the model's own device; searches in flight wait for each other's, so that they are answered together."""

    def __call__(self, text_input_list: Sequence[Input], **_: Any) -> Tensor:
        """Logits (texts, labels) on the CPU; not-a-number is a sentence."""
        logits = torch.stack(query_model(self.logits, text_input_list))
        if not torch.isfinite(logits).all():
            raise PruneError(
                "The model's output is not a number (NaN or infinite), so it cannot be attacked."
            )
        return logits

    def get_grad(self, text_input: Input) -> dict[str, Any]:
        """The loss's gradient at each token's embedding, `gradient` (tokens, width), for searches that rank words by it.

        TextAttack's wrapper takes it with dropout on, so that it is another one each time; ours is the model's as it predicts.
        """
        layer = self.model.get_input_embeddings()  # type: ignore[operator]
        seen: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            seen.append(output.detach().requires_grad_())
            return seen[0]

        hook = layer.register_forward_hook(keep)
        try:
            batch = self.encoded([text_input]).convert_to_tensors("pt").to(device_of(self.model))
            with torch.enable_grad():
                logits = self.model(**batch).logits.float()
                loss = nn.functional.cross_entropy(logits, logits.argmax(-1))
                (gradient,) = torch.autograd.grad(loss, seen[0])
        finally:
            hook.remove()
        return {
            "ids": batch["input_ids"][0].tolist(),
            "gradient": gradient[0].float().cpu().numpy(),
        }

    def _tokenize(self, inputs: Sequence[Input]) -> list[list[str]]:
        return [
            self.tokenizer.convert_ids_to_tokens(ids) for ids in self.encoded(inputs)["input_ids"]
        ]
