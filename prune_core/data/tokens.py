"""Examples as tokens: windows, batches sorted by length, and what is right of each. Knows nothing of tasks or models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import PruneError
from ..plugins import Batch
from .examples import AnswerSpans, Examples
from .metrics import IGNORED

LONG_ENOUGH = 9  # tokens: shorter sentences say little about a Linear's inputs; the papers' protocol drops them too
LOOKED_AT = 5000  # texts whose lengths are counted


class Features(NamedTuple):
    """Token ids and masks, not padded. A long context becomes several windows, so examples and rows are not the same."""

    inputs: dict[str, list[list[int]]]
    example: list[int]  # of every row
    offsets: list[list[tuple[int, int] | None]] | None = (
        None  # spans: each token's characters of the context; None outside it
    )
    words: list[list[int | None]] | None = (
        None  # token labels: the word that a token begins; None for any other
    )

    def __len__(self) -> int:
        return len(self.example)


def encode(tokenizer: Any, found: Examples, max_length: int) -> Features:
    """The examples as tokens; sentences are cut at max_length, a context is read in windows that overlap by a third of it."""
    limit = min(max_length, tokenizer.model_max_length)
    if found.kind == "token":
        return (
            _by_word(tokenizer, found, limit)
            if tokenizer.is_fast
            else _word_by_word(tokenizer, found, limit)
        )
    if found.kind != "span":
        return Features(
            dict(tokenizer(found.texts, found.pairs, truncation=True, max_length=limit)),
            list(range(len(found))),
        )
    assert found.pairs is not None, "a question has a context"
    if not tokenizer.is_fast:
        raise PruneError(
            f"{type(tokenizer).__name__} does not say where tokens lie in a text, so answers cannot be found in it; give a "
            "checkpoint with a fast tokenizer (tokenizer.json)."
        )
    questions = [_shortened(tokenizer, text.lstrip(), limit // 3) for text in found.texts]
    encoded = tokenizer(
        questions,
        found.pairs,
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


def _by_word(tokenizer: Any, found: Examples, limit: int) -> Features:
    """Words are parted by single spaces, so a token's first character says whose it is."""
    encoded = tokenizer(found.texts, truncation=True, max_length=limit, return_offsets_mapping=True)
    rows = []
    for row, (text, spans) in enumerate(
        zip(found.texts, encoded.pop("offset_mapping"), strict=True)
    ):
        own, before = [], -1
        for (start, end), part in zip(spans, encoded.sequence_ids(row), strict=True):
            start += part is not None and text[start:end].startswith(
                " "
            )  # some count the space before a word to it
            word = text.count(" ", 0, start) if part is not None and end > start else before
            own.append(word if word != before else None)
            before = word
        rows.append(own)
    return Features(dict(encoded), list(range(len(found))), words=rows)


def _word_by_word(tokenizer: Any, found: Examples, limit: int) -> Features:
    """For tokenizers written in Python, which give no offsets: each word is encoded by itself, as `is_split_into_words` does."""
    inputs: dict[str, list[list[int]]] = {}
    rows = []
    for text in found.texts:
        pieces = [
            tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) for word in text.split(" ")
        ]
        ids = [each for piece in pieces for each in piece]
        encoded = tokenizer.prepare_for_model(
            ids, truncation=True, max_length=limit, return_special_tokens_mask=True
        )
        starts = [
            word if place == 0 else None
            for word, piece in enumerate(pieces)
            for place in range(len(piece))
        ]
        inner = iter(starts)
        rows.append(
            [None if special else next(inner) for special in encoded.pop("special_tokens_mask")]
        )
        for name, values in encoded.items():
            if name in tokenizer.model_input_names:
                inputs.setdefault(name, []).append(values)
    return Features(inputs, list(range(len(found))), words=rows)


def long_enough(tokenizer: Any, found: Examples, tokens: int) -> list[int]:
    """Indices of the examples of at least so many tokens, special ones not counted."""
    # a word has a token at least, so only texts of few words are looked at
    short = [i for i in range(len(found)) if len(found.whole(i).split()) < tokens]
    encoded = (
        tokenizer([found.whole(i)[: 50 * tokens] for i in short], add_special_tokens=False)[
            "input_ids"
        ]
        if short
        else []
    )
    return sorted(
        {*range(len(found))}
        - {i for i, ids in zip(short, encoded, strict=True) if len(ids) < tokens}
    )


def truncation_report(
    tokenizer: Any, found: Examples, max_length: int
) -> tuple[int, int, float, int]:
    """(texts looked at, how many are longer than max_length, share of all tokens lost, the length that keeps 95% of them)."""
    count = min(len(found), LOOKED_AT)
    encoded = tokenizer(found.texts[:count], found.pairs and found.pairs[:count], verbose=False)[
        "input_ids"
    ]  # longer than it likes
    lengths = sorted(map(len, encoded))
    limit, whole = min(max_length, tokenizer.model_max_length), sum(lengths)
    lost = sum(max(0, length - limit) for length in lengths)
    kept, most = 0, lengths[-1] if lengths else 0
    while kept < most and sum(min(length, kept) for length in lengths) < 0.95 * whole:
        kept += 8
    return count, sum(length > limit for length in lengths), lost / max(1, whole), kept


def _shortened(tokenizer: Any, question: str, limit: int) -> str:
    """The question's first `limit` tokens as text: the context needs room too."""
    if len(question) <= limit:  # a token has at least one character
        return question
    ends = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    return question if len(ends) <= limit else question[: ends[limit - 1][1]]


def token_targets(features: Features, found: Examples) -> Tensor:
    """What is right, a row each: class (rows,) int64, score (rows,) float32, yes or no to each label (rows, labels) float32,
    first and last token (rows, 2) int64, or a class a token, IGNORED for most (rows, longest) int64.

    Where a window does not hold the first accepted answer whole, both ends are token 0, [CLS].
    """
    assert found.labels is not None, "the caller checks for labels"
    right = [found.labels[example] for example in features.example]
    if features.offsets is not None:
        return torch.tensor(
            [_ends(spans, answers) for spans, answers in zip(features.offsets, right, strict=True)]
        )
    if features.words is not None:
        rows = [
            torch.tensor([IGNORED if word is None else labels[word] for word in words])
            for words, labels in zip(features.words, right, strict=True)
        ]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)
    return torch.tensor(
        right, dtype=torch.int64 if found.kind == "classification" else torch.float32
    )


def _ends(offsets: Sequence[tuple[int, int] | None], answers: AnswerSpans) -> tuple[int, int]:
    if not answers.texts:
        return 0, 0
    first, last = answers.starts[0], answers.starts[0] + len(answers.texts[0])
    inside = [
        token for token, span in enumerate(offsets) if span and span[0] < last and span[1] > first
    ]
    if not inside:
        return 0, 0
    left, right = offsets[inside[0]], offsets[inside[-1]]
    return (
        (inside[0], inside[-1])
        if left and right and left[0] <= first and right[1] >= last
        else (0, 0)
    )


def batches_by_length(
    tokenizer: Any, features: Features, batch_size: int, device: torch.device
) -> Iterator[tuple[Batch, list[int]]]:
    """(batch, its rows), sorted by length so that little is padding; pads to the batch's longest."""
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
    """Those rows as one batch, its length a multiple of `multiple` where that is given."""
    chosen = {key: [values[i] for i in rows] for key, values in features.inputs.items()}
    found = tokenizer.pad(
        chosen, return_tensors="pt", **({"pad_to_multiple_of": multiple} if multiple else {})
    )
    return {key: value.to(device) for key, value in found.items()}


def batches(
    tokenizer: Any,
    found: Examples,
    batch_size: int,
    max_length: int,
    device: torch.device,
    labelled: bool = False,
) -> Iterator[tuple[Batch, list[int]]]:
    """(batch, indices of its examples), by length; with `labelled`, "labels" are among its tensors (see targets)."""
    features = encode(tokenizer, found, max_length)
    right = token_targets(features, found).to(device) if labelled else None
    for batch, rows in batches_by_length(tokenizer, features, batch_size, device=device):
        if right is not None:
            batch["labels"] = (
                right[rows]
                if features.words is None
                else right[rows][:, : batch["input_ids"].shape[1]]
            )
        yield batch, [features.example[row] for row in rows]
