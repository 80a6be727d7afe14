"""Noisy copies of examples: perturbations that apply to the data, and the seeded texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from ..attacks.languages import foreign_language
from ..attacks.perturbations import (
    LESS_POSITIVE,
    NOT_ENTAILED,
    SAME,
    STRENGTHS,
    Perturbation,
    perturb_texts,
)
from ..data.examples import Examples
from ..errors import require
from ..tasks import TASK_TYPES

# names of the label that a directional perturbation tests, and of one that must also exist
LABELS = {
    LESS_POSITIVE: (("positive", "pos"), ("negative", "neg")),
    NOT_ENTAILED: (("entailment",), ("not_entailment", "contradiction")),
}
LANGUAGE_SAMPLE = 100  # texts that determine the language of short texts


class NoisyCopy(NamedTuple):
    """A noisy text, or pair of texts, of the example at this index of the evaluation sample."""

    perturbation: str
    strength: str
    example: int
    noisy: str
    noisy_pair: str | None = None


def label_about(expects: str, names: Sequence[str]) -> int | None:
    """Return the label that a directional perturbation tests; None if no name matches."""
    lower = [name.lower().replace(" ", "_") for name in names]
    wanted, other = LABELS[expects]
    if not set(lower) & set(other):
        return None
    return next((lower.index(name) for name in wanted if name in lower), None)


def fits(each: Perturbation, examples: Examples, names: Sequence[str]) -> bool:
    """Return whether a perturbation applies to these examples and labels."""
    task_type = TASK_TYPES[examples.kind]
    if each.expects == SAME:
        is_free = each.keeps_words or not task_type.labels_words
        return is_free and not (each.changes_both and task_type.asks_question)
    has_pairs = examples.pairs is not None
    is_about = task_type.is_single_label and label_about(each.expects, names) is not None
    return is_about and has_pairs == (each.expects == NOT_ENTAILED)


def noisy_copies(
    examples: Examples,
    indices: Sequence[int],
    perturbations: Sequence[Perturbation],
    *,
    strengths: Sequence[str],
    column: str,
    seed: int,
) -> Iterator[NoisyCopy]:
    """Yield the noisy copies that differ from their original.

    The rng of each copy is seeded with seed, perturbation, strength and example. `column` selects
    the texts of a pair to change: first, second or both.
    """
    require("py3langid", "attacks")
    places = {"first": (0,), "second": (1,), "both": (0, 1)}[column]
    texts = {
        index: (examples.texts[index], *([examples.pairs[index]] if examples.pairs else []))
        for index in indices
    }
    usual = foreign_language("\n".join(examples.full_text(i) for i in indices[:LANGUAGE_SAMPLE]))
    languages = {index: foreign_language(examples.full_text(index)) or usual for index in indices}
    for each in perturbations:
        for strength in strengths:
            for index in indices:
                noisy = perturb_texts(
                    each,
                    texts[index],
                    places,
                    rng=Random(f"{seed}/{each.name}/{strength}/{index}"),
                    strength=STRENGTHS[strength],
                    language=languages[index],
                )
                if noisy != texts[index]:
                    yield NoisyCopy(each.name, strength, index, *noisy)
