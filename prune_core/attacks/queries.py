"""Query a model under attack: batches of similar length, padded to the longest, with a cache.

Does not need textattack. Returns the logits of TextAttack's HuggingFaceModelWrapper, which pads
every text to the full length.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models.devices import device_of

Input = str | tuple[str, str]  # a text or a text pair
CACHE_SIZE = 5_000  # cached logits, for running searches: a search only repeats its own texts
GPU_BATCH_FACTOR = 16  # factor of the batch size: a few dozen texts leave most of a GPU idle


class BatchedQueries:
    """Batched model queries; equal texts and equal token ids are computed once."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        on_progress: Callable[[], None],
        batch_size: int = 32,
        max_length: int = 0,
        dtype: torch.dtype = torch.float32,
    ):
        self.model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
        self.tokenizer, self.dtype, self._on_progress = tokenizer, dtype, on_progress
        self._batch_size = batch_size * (GPU_BATCH_FACTOR if device_of(model).type == "cuda" else 1)
        # a huge number means "not set"
        limit = tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else 512
        self._max_length = min(limit, max_length or limit)
        self._known: OrderedDict[Input, Tensor] = OrderedDict()

    def logits(self, texts: Sequence[Input]) -> list[Tensor]:
        """Logits (labels,) per text, on the CPU; recent results are cached."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._predict(new), strict=True))
        logits = [self._known[text] for text in texts]
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)
        return logits

    def encoded(self, texts: Sequence[Input]) -> Any:
        """Token ids and masks, not padded."""
        return self.tokenizer(list(texts), truncation=True, max_length=self._max_length)

    def _outputs(self, batch: Any) -> Tensor:
        """Outputs of the model for a padded batch, (texts, labels)."""
        return self.model(**batch).logits

    @torch.inference_mode()
    def _predict(self, texts: Sequence[Input]) -> list[Tensor]:
        """Logits of distinct texts, in their order."""
        if not texts:
            return []
        encoded = self.encoded(texts)
        keys = [tuple(ids) for ids in encoded["input_ids"]]
        if "token_type_ids" in encoded:  # equal ids can be split differently into two texts
            keys = [
                (*key, -1, sum(types))
                for key, types in zip(keys, encoded["token_type_ids"], strict=True)
            ]
        distinct = {key: index for index, key in enumerate(keys)}
        order = sorted(distinct.values(), key=lambda index: len(keys[index]))
        logits: list[Tensor] = []
        for start in range(0, len(order), self._batch_size):
            self._on_progress()
            indices = order[start : start + self._batch_size]
            batch = self.tokenizer.pad(
                {name: [rows[i] for i in indices] for name, rows in encoded.items()},
                return_tensors="pt",
            )
            logits.append(self._outputs(batch.to(device_of(self.model))).float())
        # transferred once
        by_key = dict(zip((keys[i] for i in order), torch.cat(logits).cpu(), strict=True))
        return [by_key[key] for key in keys]
