"""What a model under attack answers to texts: in batches of like length, padded no further, and remembered for a while.

Needs no textattack. Gives the logits that TextAttack's HuggingFaceModelWrapper gives, which pads every text to full length.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models.devices import device_of

Input = str | tuple[str, str]  # a sentence or a pair of them
REMEMBERED = 5_000  # texts with their logits, of the searches in flight: a search asks again about its own only
ON_GPU = 16  # times the batch size: a few dozen sentences leave most of a GPU idle


class BatchedQueries:
    """Equal texts and equal token ids are asked once."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        beat: Callable[[], None],
        batch_size: int = 32,
        max_length: int = 0,
        dtype: torch.dtype = torch.float32,
    ):
        self.model, self.tokenizer, self.dtype = (
            model if dtype == torch.float32 else copy.deepcopy(model).to(dtype),
            tokenizer,
            dtype,
        )
        self._beat, self._batch_size = (
            beat,
            batch_size * (ON_GPU if device_of(model).type == "cuda" else 1),
        )
        limit = (
            tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else 512
        )  # unset is a huge number
        self._max_length = min(limit, max_length or limit)
        self._known: OrderedDict[Input, Tensor] = OrderedDict()

    def logits(self, texts: Sequence[Input]) -> list[Tensor]:
        """Of each text, (labels,) on the CPU; what was asked lately is remembered."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._predict(new), strict=True))
        found = [self._known[text] for text in texts]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found

    def encoded(self, texts: Sequence[Input]) -> Any:
        """Token ids and masks, not padded."""
        return self.tokenizer(list(texts), truncation=True, max_length=self._max_length)

    @torch.inference_mode()
    def _predict(self, texts: Sequence[Input]) -> list[Tensor]:
        """Logits of distinct texts, in their order."""
        if not texts:
            return []
        encoded = self.encoded(texts)
        keys = [tuple(ids) for ids in encoded["input_ids"]]
        if "token_type_ids" in encoded:  # the same ids may be split differently into two sentences
            keys = [
                (*key, -1, sum(kinds))
                for key, kinds in zip(keys, encoded["token_type_ids"], strict=True)
            ]
        distinct = {key: index for index, key in enumerate(keys)}
        order = sorted(distinct.values(), key=lambda index: len(keys[index]))
        found: list[Tensor] = []
        for start in range(0, len(order), self._batch_size):
            self._beat()
            indices = order[start : start + self._batch_size]
            batch = self.tokenizer.pad(
                {name: [rows[i] for i in indices] for name, rows in encoded.items()},
                return_tensors="pt",
            )
            found.append(self.model(**batch.to(device_of(self.model))).logits.float())
        answers = dict(
            zip((keys[i] for i in order), torch.cat(found).cpu(), strict=True)
        )  # fetched once
        return [answers[key] for key in keys]
