"""Choice of the tokens that a trimmed vocabulary keeps, by how it covers held-out texts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..models.checkpoints.trimmed_checkpoint import TrimSource
from ..models.checkpoints.trimmed_tokenizer import Vocabulary, script_of
from ..plugins import Report
from ..statistics import resampled_means, wilson

HELD_OUT = 0.2  # fraction of the texts that estimates coverage
MAX_HELD_OUT = 10_000
MIN_TEXTS = 10
SIZES = 10  # vocabularies in the table with tokens of the texts only
LARGER = 3  # vocabularies in the table with other tokens too
RESAMPLES = 1000
RARE = 1e-3  # fraction of the letters below which a script is not kept as a whole


@dataclass(frozen=True)
class TokenRanking:
    """Ids in the order in which a vocabulary grows: every prefix from `base` on is valid."""

    ids: list[int]
    base: int  # number of ids that are always kept
    seen: int  # number of ids up to the last one that occurs in the texts

    def first(self, size: int) -> list[int]:
        """The ids of a vocabulary of this size, ascending."""
        return sorted(self.ids[:size])


@dataclass(frozen=True)
class Coverage:
    """Held-out coverage of vocabularies of several sizes, and the ranking of all texts."""

    table: pd.DataFrame
    ranking: TokenRanking
    fit: int  # number of texts that the vocabularies of the table were chosen on
    seen: int  # size of the vocabulary of all their tokens
    held_out: int


def scripts_of(texts: Sequence[str]) -> dict[str, int]:
    """Count the letters of each script in the texts, the most frequent script first."""
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    letters: Counter[str] = Counter()
    for character, count in characters.items():
        letters[script_of(character)] += count
    del letters[""]
    return dict(letters.most_common())


def chosen_scripts(
    vocabulary: Vocabulary, texts: Sequence[str], requested: Sequence[str]
) -> set[str]:
    """Scripts whose single characters are kept: the requested ones, else those of the texts.

    Of the texts: with at least 0.1% of the letters.
    """
    if not requested:
        counts = scripts_of(texts)
        return {name for name, count in counts.items() if count >= RARE * sum(counts.values())}
    if vocabulary.is_byte_level:
        raise PruneError(
            "The tokens of this tokenizer are bytes, which are always kept and can write every "
            "script; leave scripts out."
        )
    known = {script_of(character) for character in vocabulary.characters.values()} - {""}
    names = {name.strip().capitalize() for name in requested if name.strip()}
    if unknown := sorted(names - known):
        raise PruneError(
            f"The vocabulary has no characters of the script {unknown[0]!r}; it has "
            f"{', '.join(sorted(known))}."
        )
    return names


def rank(
    source: TrimSource, encoded: Sequence[np.ndarray], scripts: Collection[str]
) -> TokenRanking:
    """Rank ids: the ones always kept, then those of the texts by frequency, then others.

    Always kept are those that the tokenizer and config.json require, single characters of the
    scripts, and digits, punctuation and symbols. The others are tokens in the same scripts in the
    order of their ids, which is by frequency in the training data of most tokenizers. A token comes
    after the tokens of which merges build it.
    """
    counts = np.bincount(np.concatenate(encoded))
    kept_scripts = {*scripts, ""}
    characters = source.vocabulary.characters.items()
    always = source.required | {
        id for id, character in characters if script_of(character) in kept_scripts
    }
    order: dict[int, None] = {}  # a dict keeps the order
    for id in sorted(always):
        order |= dict.fromkeys(source.vocabulary.with_parts(id))
    base = len(order)
    occurring = np.flatnonzero(counts)
    for id in occurring[np.argsort(-counts[occurring], kind="stable")].tolist():
        order |= dict.fromkeys(source.vocabulary.with_parts(id))
    seen = len(order)
    for id, token in source.vocabulary.tokens.items():
        if source.vocabulary.is_byte_level or kept_scripts.issuperset(map(script_of, token)):
            order |= dict.fromkeys(source.vocabulary.with_parts(id))
    return TokenRanking(list(order), base, seen)


def coverage(
    source: TrimSource,
    texts: Sequence[str],
    scripts: Collection[str],
    *,
    size: int = 0,
    seed: int = 0,
    report: Report,
) -> Coverage:
    """Estimate on held-out texts what vocabularies of several sizes cost.

    The texts must be distinct. A fifth of them, at most `MAX_HELD_OUT`, is held out; the
    vocabularies of the table are the most frequent tokens of the others. `size`: a further size.

    The table has one row per size: `vocabulary` (tokens); `tokens`, the mean number per held-out
    text; `ratio` of it to the full tokenizer's, with 95% bootstrap bounds over texts (`ratio_low`,
    `ratio_high`); `unchanged`, the fraction of texts that are tokenized as before, with its Wilson
    interval; `parameters` of the model; `weight_bytes` and `tokenizer_bytes`. The last row is the
    full vocabulary, with the rows of the embedding that no token has.
    """
    if len(texts) < MIN_TEXTS:
        raise PruneError(
            f"There are {len(texts)} distinct texts; give at least {MIN_TEXTS}, and thousands if "
            "possible: tokens that they do not contain are removed."
        )
    report(0.0, f"counting the tokens of {len(texts):,} texts")
    encoded = [np.asarray(ids, dtype=np.int32) for ids in source.vocabulary.encode(texts)]
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    held_out = order[: min(MAX_HELD_OUT, max(2, round(HELD_OUT * len(texts))))]
    fit = [encoded[i] for i in order[len(held_out) :]]
    ranking = rank(source, fit, scripts)
    texts, whole = [texts[i] for i in held_out], [encoded[i] for i in held_out]
    measured, sizes = [], _sizes(ranking, size)
    for place, each in enumerate(sizes):
        message = f"vocabulary of {each:,} tokens on {len(texts):,} held-out texts"
        report(0.3 + 0.7 * place / len(sizes), message)
        measured.append(_measure(source, ranking.first(each), texts, whole))
    full = _row(source, source.vocabulary, source.config.vocab_size, [True] * len(texts))
    lengths = [*(lengths for _, lengths in measured), [len(ids) for ids in whole]]
    rows = pd.DataFrame([*(row for row, _ in measured), full])
    return Coverage(
        rows.join(_ratios(np.array(lengths).T, seed)),
        rank(source, encoded, scripts),
        fit=len(fit),
        seen=ranking.seen,
        held_out=len(texts),
    )


def _sizes(ranking: TokenRanking, size: int) -> list[int]:
    """Sizes of the table, ascending: geometric in the number of tokens from the texts, and some
    larger ones.
    """
    occurring = ranking.seen - ranking.base
    fractions = np.geomspace(1 / 16, 1, SIZES)
    sizes = {ranking.base + round(float(fraction) * occurring) for fraction in fractions}
    larger = np.geomspace(ranking.seen, len(ranking.ids), LARGER + 2)[1:-1]
    requested = {size} if ranking.base <= size <= len(ranking.ids) else set()
    return sorted(sizes | {round(float(each)) for each in larger} | requested)


def _measure(
    source: TrimSource, kept: list[int], texts: Sequence[str], whole: Sequence[np.ndarray]
) -> tuple[dict[str, float], list[int]]:
    """Return (row of the table without ratios, tokens of each text).

    `whole`: ids of the texts with the full vocabulary.
    """
    trimmed, index = source.vocabulary.select(kept), np.array(kept)
    new = [index[np.asarray(ids, dtype=np.int32)] for ids in trimmed.encode(texts)]
    unchanged = [*map(np.array_equal, new, whole)]
    return _row(source, trimmed, len(kept), unchanged), [len(ids) for ids in new]


def _row(
    source: TrimSource, vocabulary: Vocabulary, size: int, unchanged: Sequence[bool]
) -> dict[str, float]:
    """Size and unchanged texts of a vocabulary; see `coverage`."""
    low, high = wilson(sum(unchanged), len(unchanged))
    per_token, dropped = source.per_token.values(), source.config.vocab_size - size
    numbers = sum(tensor.numel() for tensor in source.tensors.values())
    total = sum(tensor.nbytes for tensor in source.tensors.values())
    return {
        "vocabulary": size,
        "unchanged": sum(unchanged) / len(unchanged),
        "unchanged_low": low,
        "unchanged_high": high,
        "parameters": numbers - dropped * sum(tensor[0].numel() for tensor in per_token),
        "weight_bytes": total - dropped * sum(tensor[0].nbytes for tensor in per_token),
        "tokenizer_bytes": len(vocabulary.serialized.encode()),
    }


def _ratios(lengths: np.ndarray, seed: int) -> pd.DataFrame:
    """Mean tokens and ratios; `lengths` (texts, vocabularies), the full vocabulary last."""
    means = lengths.mean(0)
    samples = resampled_means(lengths, RESAMPLES, seed)
    low, high = np.quantile(samples / samples[:, -1:], (0.025, 0.975), axis=0)
    return pd.DataFrame(
        {"tokens": means, "ratio": means / means[-1], "ratio_low": low, "ratio_high": high}
    )


@dataclass(frozen=True)
class VocabularyChoice:
    """Size of a vocabulary, and a warning if the texts are too few to choose it."""

    size: int
    warning: str = ""


def choose(
    found: Coverage, full: int, *, size: int = 0, max_ratio: float = 1.01
) -> VocabularyChoice:
    """Choose the requested size, else the smallest whose ratio is at most `max_ratio`.

    The upper bound of the ratio counts. If no vocabulary of tokens of the texts is within the
    limit, a larger one is chosen, with a warning: the smallest within the limit, else the largest.
    `full`: size of the full vocabulary.
    """
    ranking = found.ranking
    if size:
        if not ranking.base <= size <= len(ranking.ids):
            raise PruneError(
                f"The vocabulary cannot have {size:,} tokens: {ranking.base:,} are always kept, "
                f"and {len(ranking.ids):,} of {full:,} are in scripts of the texts; choose a size "
                "between."
            )
        return VocabularyChoice(size)
    is_within = found.table["ratio_high"] <= max_ratio
    is_seen = found.table["vocabulary"] <= found.seen
    if (is_within & is_seen).any():
        return VocabularyChoice(int(found.table.loc[is_within & is_seen, "vocabulary"].min()))
    most = found.table[is_seen].iloc[-1]
    larger = found.table[~is_seen].iloc[:-1]  # without the full vocabulary
    within = larger[larger["ratio_high"] <= max_ratio]
    if larger.empty:
        return VocabularyChoice(ranking.seen, _too_few(found, most, max_ratio))
    chosen = (within if len(within) else larger.iloc[-1:]).iloc[0]
    kept = f"{int(chosen['vocabulary']):,} tokens are kept, also others of the same scripts"
    if within.empty:
        kept += f", and the upper bound is still {chosen['ratio_high']:.3f}"
    warning = f"{_too_few(found, most, max_ratio)} Therefore {kept}."
    return VocabularyChoice(int(chosen["vocabulary"]), warning)


def _too_few(found: Coverage, most: pd.Series, max_ratio: float) -> str:
    return (
        f"The texts are too few to choose a vocabulary: with all tokens of {found.fit:,} texts, "
        f"{found.held_out:,} others take {most['ratio']:.3f} times as many tokens as before (95% "
        f"interval {most['ratio_low']:.3f} to {most['ratio_high']:.3f}), and the limit is "
        f"{max_ratio:g}; give more texts."
    )
