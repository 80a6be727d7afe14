"""The model under attack with TextAttack's interface: texts in, logits or gradients out."""

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
    """Query a model on its own device; queries of concurrent searches are batched together."""

    def __call__(self, text_input_list: Sequence[Input], **_: Any) -> Tensor:
        """Logits (texts, labels) on the CPU; PruneError if they are NaN or infinite."""
        logits = torch.stack(query_model(self.logits, text_input_list))
        if not torch.isfinite(logits).all():
            raise PruneError(
                "The model's outputs are NaN or infinite, so it cannot be attacked; prune less, or "
                "use another checkpoint."
            )
        return logits

    def for_example(self, index: int) -> ModelWrapper:
        """Return the model that an example's search queries: the same for all."""
        return self

    def get_grad(self, text_input: Input) -> dict[str, Any]:
        """Gradient of the loss for each token's embedding, `gradient` (tokens, width), to rank
        words.

        TextAttack's wrapper computes it with dropout, so it is random; here it is deterministic, in
        eval mode.
        """
        layer = self.model.get_input_embeddings()  # type: ignore[operator]
        embeddings: list[Tensor] = []

        def capture(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            embeddings.append(output.detach().requires_grad_())
            return embeddings[0]

        hook = layer.register_forward_hook(capture)
        try:
            batch = self.encoded([text_input]).convert_to_tensors("pt").to(device_of(self.model))
            with torch.enable_grad():
                logits = self.model(**batch).logits.float()
                loss = nn.functional.cross_entropy(logits, logits.argmax(-1))
                (gradient,) = torch.autograd.grad(loss, embeddings[0])
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
