"""Tokenize texts, words and windows of long contexts; batches sorted by length; label tensors."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import PruneError
from ..plugins import Batch
from .examples import AnswerSpans, Examples
from .metrics import IGNORE_INDEX

# shorter texts are poor calibration data for a Linear's inputs; the papers drop them too
MIN_CALIBRATION_TOKENS = 9  # tokens
MAX_COUNTED_TEXTS = 5000  # texts whose lengths are counted


class Features(NamedTuple):
    """Token ids and masks, not padded.

    A long context becomes several windows, so there can be more rows than examples.
    """

    inputs: dict[str, list[list[int]]]
    example_index: list[int]  # index of each row's example
    # question answering: (start, end) characters of each token in the context; None outside it
    offsets: list[list[tuple[int, int] | None]] | None = None
    # token classification: index of the word that a token begins; None for other tokens
    words: list[list[int | None]] | None = None

    def __len__(self) -> int:
        return len(self.example_index)


def encode_texts(tokenizer: Any, examples: Examples, limit: int) -> Features:
    """Tokenize texts or pairs, truncated at `limit` tokens."""
    return Features(
        dict(tokenizer(examples.texts, examples.pairs, truncation=True, max_length=limit)),
        list(range(len(examples))),
    )


def encode_words(tokenizer: Any, examples: Examples, limit: int) -> Features:
    """Tokenize words, which are separated by single spaces, truncated at `limit` tokens."""
    encode = _encode_by_offsets if tokenizer.is_fast else _encode_words_separately
    return encode(tokenizer, examples, limit)


def encode_windows(tokenizer: Any, examples: Examples, limit: int) -> Features:
    """Tokenize questions with windows of their contexts that overlap by a third of `limit`.

    PruneError if the tokenizer returns no offsets.
    """
    assert examples.pairs is not None, "a question has a context"
    if not tokenizer.is_fast:
        raise PruneError(
            f"{type(tokenizer).__name__} does not return character offsets, so answers cannot be "
            "located in the text; use a checkpoint with a fast tokenizer (tokenizer.json)."
        )
    questions = [
        _truncate_question(tokenizer, text.lstrip(), limit // 3) for text in examples.texts
    ]
    encoded = tokenizer(
        questions,
        examples.pairs,
        truncation="only_second",
        max_length=limit,
        stride=limit // 3,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    rows, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    for row, spans in enumerate(offsets):
        offsets[row] = [
            tuple(span) if part == 1 else None
            for span, part in zip(spans, encoded.sequence_ids(row), strict=True)
        ]
    return Features(dict(encoded), rows, offsets)


def _encode_by_offsets(tokenizer: Any, examples: Examples, limit: int) -> Features:
    """Tokenize pre-split words by offsets.

    Words are separated by single spaces, so a token's first character identifies its word.
    """
    encoded = tokenizer(
        examples.texts, truncation=True, max_length=limit, return_offsets_mapping=True
    )
    rows = []
    for row, (text, spans) in enumerate(
        zip(examples.texts, encoded.pop("offset_mapping"), strict=True)
    ):
        words, previous = [], -1
        for (start, end), part in zip(spans, encoded.sequence_ids(row), strict=True):
            # some tokenizers include the preceding space in a token
            start += part is not None and text[start:end].startswith(" ")
            word = text.count(" ", 0, start) if part is not None and end > start else previous
            words.append(word if word != previous else None)
            previous = word
        rows.append(words)
    return Features(dict(encoded), list(range(len(examples))), words=rows)


def _encode_words_separately(tokenizer: Any, examples: Examples, limit: int) -> Features:
    """Tokenize each word by itself, as `is_split_into_words` does.

    For tokenizers written in Python, which give no offsets.
    """
    inputs: dict[str, list[list[int]]] = {}
    rows = []
    for text in examples.texts:
        pieces = [
            tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) for word in text.split(" ")
        ]
        encoded = tokenizer.prepare_for_model(
            [token_id for piece in pieces for token_id in piece],
            truncation=True,
            max_length=limit,
            return_special_tokens_mask=True,
        )
        inner = iter(
            word if place == 0 else None
            for word, piece in enumerate(pieces)
            for place in range(len(piece))
        )
        rows.append(
            [None if special else next(inner) for special in encoded.pop("special_tokens_mask")]
        )
        for name, values in encoded.items():
            if name in tokenizer.model_input_names:
                inputs.setdefault(name, []).append(values)
    return Features(inputs, list(range(len(examples))), words=rows)


def long_enough(tokenizer: Any, examples: Examples, tokens: int) -> list[int]:
    """Indices of the examples of at least so many tokens, special ones not counted."""
    # a word has a token at least, so only texts of few words are looked at
    short = [i for i in range(len(examples)) if len(examples.full_text(i).split()) < tokens]
    encoded = (
        tokenizer([examples.full_text(i)[: 50 * tokens] for i in short], add_special_tokens=False)[
            "input_ids"
        ]
        if short
        else []
    )
    return sorted(
        {*range(len(examples))}
        - {i for i, ids in zip(short, encoded, strict=True) if len(ids) < tokens}
    )


def truncation_report(
    tokenizer: Any, examples: Examples, max_length: int
) -> tuple[int, int, float, int]:
    """Return (texts counted, texts longer than max_length, fraction of tokens lost, length for 95%
    of tokens).
    """
    count = min(len(examples), MAX_COUNTED_TEXTS)
    pairs = examples.pairs and examples.pairs[:count]
    # verbose=False: no warning about texts longer than the model's limit
    lengths = [
        len(ids) for ids in tokenizer(examples.texts[:count], pairs, verbose=False)["input_ids"]
    ]
    limit, total = min(max_length, tokenizer.model_max_length), sum(lengths)
    lost = sum(max(0, length - limit) for length in lengths)
    longest = max(lengths, default=0)
    suggested = 0
    while suggested < longest and sum(min(length, suggested) for length in lengths) < 0.95 * total:
        suggested += 8
    return count, sum(length > limit for length in lengths), lost / max(1, total), suggested


def _truncate_question(tokenizer: Any, question: str, limit: int) -> str:
    """Return the question's first `limit` tokens as text, to leave room for the context."""
    if len(question) <= limit:  # a token has at least one character
        return question
    ends = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    return question if len(ends) <= limit else question[: ends[limit - 1][1]]


def end_targets(features: Features, labels: Sequence[Any]) -> Tensor:
    """Return (rows, 2) int64: first and last token of the first accepted answer.

    Both are token 0, [CLS], where a window does not contain the whole answer.
    """
    assert features.offsets is not None, "spans have offsets"
    return torch.tensor(
        [_ends(spans, answers) for spans, answers in zip(features.offsets, labels, strict=True)]
    )


def word_targets(features: Features, labels: Sequence[Sequence[int]]) -> Tensor:
    """Return (rows, longest) int64: the label of each word at its first token.

    IGNORE_INDEX at other tokens.
    """
    assert features.words is not None, "words have first tokens"
    rows = [
        torch.tensor([IGNORE_INDEX if word is None else word_labels[word] for word in words])
        for words, word_labels in zip(features.words, labels, strict=True)
    ]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE_INDEX)


def _ends(offsets: Sequence[tuple[int, int] | None], answers: AnswerSpans) -> tuple[int, int]:
    """Return (first token, last token) of the first accepted answer, (0, 0) if it is not fully
    inside.
    """
    if not answers.texts:
        return 0, 0
    first, last = answers.starts[0], answers.starts[0] + len(answers.texts[0])
    inside = [
        token for token, span in enumerate(offsets) if span and span[0] < last and span[1] > first
    ]
    if inside:
        left, right = offsets[inside[0]], offsets[inside[-1]]
        if left and right and left[0] <= first and right[1] >= last:
            return inside[0], inside[-1]
    return 0, 0


def batches_by_length(
    tokenizer: Any, features: Features, batch_size: int, device: torch.device
) -> Iterator[tuple[Batch, list[int]]]:
    """Yield (batch, its rows), sorted by length to minimize padding; pads to the longest of the
    batch.
    """
    lengths = [len(ids) for ids in features.inputs["input_ids"]]
    order = sorted(range(len(features)), key=lambda i: (lengths[i], i))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield pad_batch(tokenizer, features, rows, device=device), rows


def pad_batch(
    tokenizer: Any,
    features: Features,
    rows: Sequence[int],
    device: torch.device,
    multiple: int | None = None,
) -> Batch:
    """Pad the given rows into one batch; its length is a multiple of `multiple` if given."""
    chosen = {key: [values[i] for i in rows] for key, values in features.inputs.items()}
    padded = tokenizer.pad(chosen, return_tensors="pt", pad_to_multiple_of=multiple)
    return {key: value.to(device) for key, value in padded.items()}


def check_finite(outputs: np.ndarray, examples: int) -> None:
    """Raise PruneError for NaN, which argmax would count as some label."""
    if count := int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(-1).sum()):
        raise PruneError(
            f"The model's outputs for {count} of {examples} examples are NaN or infinite: its "
            "weights or activations overflow. Prune less or with another method; if it is the "
            "dense model, use another checkpoint."
        )
