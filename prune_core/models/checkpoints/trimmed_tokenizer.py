"""Vocabulary of a fast tokenizer, and tokenizers with a part of it.

Edits the content of tokenizer.json: WordPiece, WordLevel, Unigram and BPE models, over characters,
over bytes (GPT-2), or with byte fallback (SentencePiece).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers

from ...errors import PruneError

MODELS = ("WordPiece", "WordLevel", "Unigram", "BPE")
SPACE = "\u2581"  # SentencePiece's mark of a space
BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # tokens of SentencePiece's byte fallback
CHUNK = 1000  # texts encoded at once


@dataclass(frozen=True)
class Vocabulary:
    """The content of a tokenizer.json file."""

    content: Mapping[str, Any]

    @property
    def model(self) -> Mapping[str, Any]:
        """The entry `model`."""
        return self.content["model"]

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id of every token, in the order of the ids."""
        vocab = self.model["vocab"]
        if self.model["type"] == "Unigram":
            ids = {token: place for place, (token, _) in enumerate(vocab)}
        else:
            ids = dict(vocab)
        ids |= {token["content"]: token["id"] for token in self.content["added_tokens"]}
        return dict(sorted(ids.items(), key=lambda item: item[1]))

    @cached_property
    def tokens(self) -> dict[int, str]:
        """Token of every id."""
        return {id: token for token, id in self.ids.items()}

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens are sequences of bytes, written as in GPT-2."""
        steps = (self.content.get(name) or {} for name in ("pre_tokenizer", "decoder"))
        return any('"ByteLevel"' in json.dumps(step) for step in steps)

    @cached_property
    def required(self) -> frozenset[int]:
        """Ids without which tokenization would fail or change: special, added and byte tokens."""
        names = {token["content"] for token in self.content["added_tokens"]}
        names |= {self.model.get("unk_token")} | set(filter(BYTE.fullmatch, self.ids))
        if self.is_byte_level:
            names |= set(pre_tokenizers.ByteLevel.alphabet())
        ids = {self.ids[name] for name in names if name in self.ids}
        ids |= set(_post_processor_ids(self.content.get("post_processor")))
        if self.model["type"] == "Unigram":
            scores = [score for _, score in self.model["vocab"]]
            # unknown characters are scored relative to the lowest score
            ids.add(scores.index(min(scores)))
            ids |= {self.model["unk_id"]} - {None}
        return frozenset(ids)

    @cached_property
    def characters(self) -> dict[int, str]:
        """Single characters by id, also those that begin or continue a word (`▁a`, `##a`)."""
        prefix = self.model.get("continuing_subword_prefix") or ""
        found = {}
        for token, id in self.ids.items():
            character = token.removeprefix(prefix) if prefix != token else token
            character = character.removeprefix(SPACE) or token
            if len(character) == 1 and not self.is_byte_level:
                found[id] = character
        return found

    @cached_property
    def _ranks(self) -> dict[tuple[str, ...], int]:
        return {_pair(merge): rank for rank, merge in enumerate(self.model.get("merges") or ())}

    def with_parts(self, id: int) -> list[int]:
        """The ids of which merges build a token, each after its own parts, and its id last.

        Byte-pair encoding of the token by itself: inside a longer text the same merges build it,
        because a merge across its border would have replaced it.
        """
        token = self.tokens[id]
        if not self._ranks:
            return [id]
        end = self.model.get("end_of_word_suffix") or ""
        symbols = [*(token.removesuffix(end) if end else token)]
        if symbols and end and token.endswith(end):
            symbols[-1] += end
        parts = [*symbols]
        while len(symbols) > 1:
            ranks = [self._ranks.get(pair, len(self._ranks)) for pair in pairwise(symbols)]
            place = ranks.index(min(ranks))
            if ranks[place] == len(self._ranks):
                break
            symbols[place : place + 2] = ["".join(symbols[place : place + 2])]
            parts.append(symbols[place])
        return [*(self.ids[part] for part in parts if part in self.ids and part != token), id]

    def select(self, kept: Collection[int]) -> Vocabulary:
        """Vocabulary of the given ids, which are renumbered from 0 in the same order.

        The ids must include `required`, and with each token its parts.
        """
        new = {old: place for place, old in enumerate(sorted(kept))}
        model = dict(self.model)
        if model["type"] == "Unigram":
            size = len(model["vocab"])
            model["vocab"] = [model["vocab"][old] for old in new if old < size]
            if model["unk_id"] is not None:
                model["unk_id"] = new[model["unk_id"]]
        else:
            model["vocab"] = {token: new[id] for token, id in model["vocab"].items() if id in new}
        if model["type"] == "BPE":
            known = model["vocab"]
            merges = ((merge, _pair(merge)) for merge in model["merges"])
            model["merges"] = [
                merge for merge, pair in merges if {*pair, "".join(pair)} <= known.keys()
            ]
        content = dict(self.content, model=model)
        content["added_tokens"] = [
            dict(token, id=new[token["id"]]) for token in self.content["added_tokens"]
        ]
        content["post_processor"] = _renumber(self.content.get("post_processor"), new)
        if padding := self.content.get("padding"):
            content["padding"] = dict(padding, pad_id=new[self.ids[padding["pad_token"]]])
        return Vocabulary(content)

    @property
    def serialized(self) -> str:
        """Content of the file tokenizer.json."""
        return json.dumps(self.content, ensure_ascii=False)

    def backend(self) -> Tokenizer:
        """Build the tokenizer, without truncation and padding."""
        tokenizer = Tokenizer.from_str(self.serialized)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the ids of each text, without special tokens and without truncation."""
        backend = self.backend()
        for start in range(0, len(texts), CHUNK):
            chunk = list(texts[start : start + CHUNK])
            for encoding in backend.encode_batch_fast(chunk, add_special_tokens=False):
                yield encoding.ids


def read(tokenizer: Any, checkpoint: str) -> Vocabulary:
    """Vocabulary of a tokenizer of transformers; a slow one is converted if possible."""
    backend = tokenizer.backend_tokenizer if tokenizer.is_fast else _convert(tokenizer, checkpoint)
    content = json.loads(backend.to_str())
    model = content["model"]
    if model["type"] not in MODELS:
        raise PruneError(
            f"{checkpoint}: its tokenizer is a {model['type']} model; trim supports "
            f"{', '.join(MODELS)}."
        )
    if model["type"] == "BPE" and model.get("continuing_subword_prefix"):
        raise PruneError(
            f"{checkpoint}: its BPE tokenizer marks tokens inside words with "
            f"{model['continuing_subword_prefix']!r}, which trim does not support; use a "
            "tokenizer without continuing_subword_prefix."
        )
    return Vocabulary(content)


def _convert(tokenizer: Any, checkpoint: str) -> Tokenizer:
    from transformers.convert_slow_tokenizer import convert_slow_tokenizer

    try:
        return convert_slow_tokenizer(tokenizer)
    except (ValueError, KeyError, ImportError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise PruneError(
            f"{checkpoint}: its {type(tokenizer).__name__} has no fast version, which trim needs; "
            f"use a checkpoint with a tokenizer.json. ({reason})"
        ) from None


def build(vocabulary: Vocabulary, tokenizer: Any, checkpoint: str) -> Any:
    """Tokenizer of transformers with a trimmed vocabulary and the other settings of `tokenizer`."""
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(vocabulary.serialized)
    if backend.get_vocab(with_added_tokens=True) != vocabulary.ids:
        raise PruneError(
            f"{checkpoint}: its tokenizer cannot be renumbered, because added tokens are between "
            "those of its model; save it again with save_pretrained."
        )
    names = ("model_max_length", "model_input_names", "padding_side", "truncation_side")
    settings = {name: getattr(tokenizer, name) for name in names}
    special = {
        role: token
        for role, token in tokenizer.special_tokens_map.items()
        if isinstance(token, str)
    }
    others = [token for token in tokenizer.all_special_tokens if token not in special.values()]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        additional_special_tokens=others,
        **settings,
        **special,
    )


def script_of(character: str) -> str:
    """Script of a letter, such as Latin or Han; "" for digits, punctuation, symbols and emoji.

    By the first word of its Unicode name.
    """
    plain = unicodedata.normalize("NFKC", character)[0]
    word = unicodedata.name(plain, "").split(" ")[0].capitalize()
    is_letter = unicodedata.category(plain)[0] in "LM"
    shared = word in ("", "Combining", "Modifier")
    return {"Cjk": "Han"}.get(word, word) if is_letter and not shared else ""


def _pair(merge: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(merge.split(" ") if isinstance(merge, str) else merge)


def _post_processor_ids(processor: Mapping[str, Any] | None) -> Iterator[int]:
    """Yield the ids that a post-processor inserts."""
    processor = processor or {}
    for each in processor.get("processors", ()):
        yield from _post_processor_ids(each)
    special = processor.get("special_tokens")
    for entry in special.values() if isinstance(special, Mapping) else ():
        yield from entry["ids"]
    for name in ("sep", "cls"):  # BertProcessing and RobertaProcessing
        if name in processor:
            yield processor[name][1]


def _renumber(processor: Mapping[str, Any] | None, new: Mapping[int, int]) -> Any:
    """Post-processor with new ids."""
    if processor is None:
        return None
    changed = dict(processor)
    if "processors" in changed:
        changed["processors"] = [_renumber(each, new) for each in changed["processors"]]
    if isinstance(changed.get("special_tokens"), Mapping):
        changed["special_tokens"] = {
            name: dict(entry, ids=[new[id] for id in entry["ids"]])
            for name, entry in changed["special_tokens"].items()
        }
    for name in ("sep", "cls"):
        if name in changed:
            changed[name] = [changed[name][0], new[changed[name][1]]]
    return changed
