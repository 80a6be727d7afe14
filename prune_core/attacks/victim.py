"""The model under attack, as TextAttack asks for it: texts in, logits out, padded to the batch and remembered.

Gives the logits that TextAttack's HuggingFaceModelWrapper gives, which pads every text to the model's full length.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import PruneError
from ..encoders import device_of
from .flight import ask
from .resources import load_textattack

load_textattack()
from textattack.models.wrappers import ModelWrapper  # noqa: E402

Input = str | tuple[str, str]  # a sentence or a pair of them
REMEMBERED = 5_000  # texts with their logits, of the searches in flight: a search asks again about its own only


class Victim(ModelWrapper):
    """Batches of like length on the model's own device; equal texts and equal token ids are asked once."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        beat: Callable[[], None],
        batch_size: int = 32,
        max_length: int = 0,
        dtype: torch.dtype = torch.float32,
    ):
        self.model, self.tokenizer, self.dtype = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype), tokenizer, dtype
        self._beat, self._batch_size = beat, batch_size
        limit = tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else 512  # unset is a huge number
        self._max_length = min(limit, max_length or limit)
        self._known: OrderedDict[Input, Tensor] = OrderedDict()

    def __call__(self, text_input_list: Sequence[Input], **_: Any) -> Tensor:
        """Logits (texts, labels) on the CPU; not-a-number is a sentence."""
        logits = torch.stack(ask(self.logits, text_input_list))
        if not torch.isfinite(logits).all():
            raise PruneError("The model's output is not a number (NaN or infinite), so it cannot be attacked.")
        return logits

    def logits(self, texts: Sequence[Input]) -> list[Tensor]:
        """Of each text, (labels,); what was asked lately is remembered."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._predict(new), strict=True))
        found = [self._known[text] for text in texts]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found

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
            batch = self._encoded([text_input]).convert_to_tensors("pt").to(device_of(self.model))
            with torch.enable_grad():
                logits = self.model(**batch).logits.float()
                loss = nn.functional.cross_entropy(logits, logits.argmax(-1))
                (gradient,) = torch.autograd.grad(loss, seen[0])
        finally:
            hook.remove()
        return {"ids": batch["input_ids"][0].tolist(), "gradient": gradient[0].float().cpu().numpy()}

    def _tokenize(self, inputs: Sequence[Input]) -> list[list[str]]:
        return [self.tokenizer.convert_ids_to_tokens(ids) for ids in self._encoded(inputs)["input_ids"]]

    def _encoded(self, texts: Sequence[Input]) -> Any:
        return self.tokenizer(list(texts), truncation=True, max_length=self._max_length)

    @torch.inference_mode()
    def _predict(self, texts: Sequence[Input]) -> list[Tensor]:
        """Logits of distinct texts, in their order."""
        if not texts:
            return []
        encoded = self._encoded(texts)
        keys = [tuple(ids) for ids in encoded["input_ids"]]
        if "token_type_ids" in encoded:  # the same ids may be split differently into two sentences
            keys = [(*key, -1, sum(kinds)) for key, kinds in zip(keys, encoded["token_type_ids"], strict=True)]
        distinct = {key: index for index, key in enumerate(keys)}
        order = sorted(distinct.values(), key=lambda index: len(keys[index]))
        answers: dict[tuple[int, ...], Tensor] = {}
        for start in range(0, len(order), self._batch_size):
            self._beat()
            indices = order[start : start + self._batch_size]
            batch = self.tokenizer.pad({name: [rows[i] for i in indices] for name, rows in encoded.items()}, return_tensors="pt")
            logits = self.model(**batch.to(device_of(self.model))).logits.float().cpu()
            answers.update(zip((keys[i] for i in indices), logits, strict=True))
        return [answers[key] for key in keys]
