"""Sentence similarity with the bundled MiniLM encoder, as a batched TextAttack constraint."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..models.checkpoints.loading import MINILM, resolve
from .resources import load_textattack
from .scheduler import query_model

load_textattack()
from textattack.constraints.semantics.sentence_encoders import SentenceEncoder  # noqa: E402
from textattack.shared import AttackedText  # noqa: E402

# maximum texts and tokens per batch: a cancel waits for a batch
_BATCH, _TOKENS = 64, 2048


@lru_cache(maxsize=2)
def _minilm(device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    source = resolve(MINILM)
    return (
        AutoModel.from_pretrained(source).to(device, dtype).eval(),
        AutoTokenizer.from_pretrained(source),
    )


@torch.inference_mode()
def encode(
    texts: Sequence[str],
    device: torch.device,
    on_progress: Callable[[], None] = lambda: None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Unit vectors (texts, width) on the CPU: mean over real tokens.

    Equal texts are encoded once.
    """
    model, tokenizer = _minilm(device, dtype)
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    ids = tokenizer(list(distinct), truncation=True, max_length=256)
    lengths = [len(row) for row in ids["input_ids"]]
    remaining = sorted(range(len(distinct)), key=lengths.__getitem__, reverse=True)
    vectors = torch.zeros(len(distinct), model.config.hidden_size)
    while remaining:
        on_progress()
        size = min(_BATCH, max(1, _TOKENS // lengths[remaining[0]]))
        indices, remaining = remaining[:size], remaining[size:]
        batch = tokenizer.pad(
            {name: [rows[i] for i in indices] for name, rows in ids.items()}, return_tensors="pt"
        ).to(device)
        mask = batch["attention_mask"].unsqueeze(-1)
        hidden = model(**batch).last_hidden_state.float()
        vectors[indices] = nn.functional.normalize(
            (hidden * mask).sum(1) / mask.sum(1), dim=-1
        ).cpu()
    return vectors[[distinct[text] for text in texts]]


class Encoder:
    """The encoder shared by all searches of a run."""

    def __init__(
        self,
        device: torch.device,
        on_progress: Callable[[], None],
        dtype: torch.dtype = torch.float32,
    ):
        self._device, self._on_progress, self._dtype = device, on_progress, dtype

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, width)."""
        return encode(texts, self._device, self._on_progress, dtype=self._dtype)


class SentenceSimilarity(SentenceEncoder):
    """TextAttack's windowed sentence constraint with MiniLM vectors."""

    def __init__(
        self,
        encoder: Encoder,
        threshold: float,
        metric: str = "angular",
        window: int | None = None,
        against_original: bool = False,
    ):
        # a window implies TextFooler's form: compared with the text before this swap, and no limit
        # for texts shorter than the window
        super().__init__(
            threshold,
            metric,
            against_original,
            window,
            skip_text_shorter_than_window=window is not None,
        )
        self._encoder = encoder
        self._known: dict[str, Tensor] = {}

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Vectors of the windows; each distinct window is encoded once."""
        new = [text for text in dict.fromkeys(sentences) if text not in self._known]
        if new:
            self._known.update(zip(new, query_model(self._encoder.vectors, new), strict=True))
        return torch.stack([self._known[text] for text in sentences])

    def clear_cache(self) -> None:
        """Called by TextAttack after each example."""
        self._known.clear()

    def __getstate__(self) -> dict[str, Any]:
        # a copy has its own cache, because searches run concurrently
        return {**self.__dict__, "_known": {}}

    def _score_list(
        self, starting_text: AttackedText, transformed_texts: list[AttackedText]
    ) -> Tensor:
        # TextAttack replaces these scores by 1 in any case, so no encoding is needed
        if self.skip_text_shorter_than_window and all(
            text.num_words < self.window_size for text in transformed_texts
        ):
            return torch.ones(len(transformed_texts))
        return super()._score_list(starting_text, transformed_texts)
