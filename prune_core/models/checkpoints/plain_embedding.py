"""Reference for sentence embeddings: plain transformers, one text at a time, without padding.

Written independently of `models.embedding`, which verification compares with it.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..module_folders import root_folder


class PlainEmbedder(nn.Module):
    """AutoModel, pooling and the modules after it, for batches of one text."""

    def __init__(self, source: str, config: Any, base: str):
        from transformers import AutoModel

        super().__init__()
        self.config, self.base = config, base
        self.encoder = AutoModel.from_pretrained(source, config=config, trust_remote_code=False)
        self.tensors = {  # of each module after pooling
            place: _tensors(root_folder(source), module["path"])
            for place, module in enumerate(config.sentence_embedding["modules"])
            if module["type"] != "Normalize"
        }

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> SimpleNamespace:
        """Return an object with `embeddings`, (1, width)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)
        (states,) = outputs.last_hidden_state
        description = self.config.sentence_embedding
        x = torch.cat([_pool(states, name) for name in description["poolings"]])
        for place, module in enumerate(description["modules"]):
            if module["type"] == "Normalize":
                x = x / x.norm()
            elif module["type"] == "LayerNorm":
                weight, bias = self.tensors[place]["norm.weight"], self.tensors[place]["norm.bias"]
                x = F.layer_norm(x, weight.shape, weight, bias)
            else:
                tensors = self.tensors[place]
                linear = F.linear(x, tensors["linear.weight"], tensors.get("linear.bias"))
                x = getattr(nn, module["activation"])()(linear)
        return SimpleNamespace(embeddings=x[None])

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the weights by the names of the product's model, without the unused pooler."""
        encoder = {
            f"{self.base}.{name}": tensor
            for name, tensor in self.encoder.state_dict().items()
            if not name.startswith("pooler")
        }
        after = {
            f"after.{place}.{name}": tensor
            for place, tensors in self.tensors.items()
            for name, tensor in tensors.items()
        }
        return encoder | after


def _pool(states: Tensor, pooling: str) -> Tensor:
    """Pool the hidden states (tokens, width) of one text."""
    positions = torch.arange(1, len(states) + 1).to(states)
    results = {
        "mean": states.mean(0),
        "cls": states[0],
        "max": states.max(0).values,
        "mean_sqrt_len_tokens": states.sum(0) / len(states) ** 0.5,
        "weightedmean": (positions / positions.sum()) @ states,
        "lasttoken": states[-1],
    }
    return results[pooling]


def _tensors(source: str, path: str) -> dict[str, Tensor]:
    from transformers.utils import cached_file

    local = Path(source) / path / "pytorch_model.bin"
    if local.is_file() and not local.with_name("model.safetensors").is_file():
        return dict(torch.load(local, map_location="cpu", weights_only=True))
    return load_file(str(cached_file(source, f"{path}/model.safetensors")))
