"""What label values mean: by name, by number, as told, or one question; never in silence."""

import pytest

from prune_core import PruneError
from prune_core.data import labels

POLAR, GENERIC = ("negative", "positive"), ("LABEL_0", "LABEL_1")
NLI, STARS = ("entailment", "neutral", "contradiction"), tuple(f"{n} star{'s' * (n > 1)}" for n in range(1, 6))
NEWS, THREE = ("World", "Sports", "Business", "Sci/Tech"), ("Negative", "Neutral", "Positive")


@pytest.mark.parametrize(
    ("values", "names", "meant"),
    [
        (["NEG", "POS"], POLAR, [0, 1]),
        (["Positive", "negative "], POLAR, [1, 0]),
        (["négatif", "positif"], POLAR, [0, 1]),
        (["negativ", "positiv"], ("POSITIVE", "NEGATIVE"), [1, 0]),
        ([0, 1], POLAR, [0, 1]),
        ([0.0, 1.0], POLAR, [0, 1]),
        ([1, 2], POLAR, [0, 1]),
        ([-1, 1], POLAR, [0, 1]),
        ([-1, 0, 1], POLAR, [None, 0, 1]),
        ([-1, 0, 1], THREE, [0, 1, 2]),
        ([0, 4], POLAR, [0, 1]),
        ([True, False], POLAR, [1, 0]),
        (["yes", "no"], ("positive", "negative"), [0, 1]),
        (["TRUE", "FALSE"], GENERIC, [1, 0]),
        (["LABEL_1", "LABEL_0"], POLAR, [1, 0]),
        (["LABEL_1", "LABEL_0"], GENERIC, [1, 0]),
        (["positive", "negative"], GENERIC, [1, 0]),
        (["contradiction", "Entailment", "neutral"], NLI, [2, 0, 1]),
        (["contra", "entail", "neutral"], ("contradiction", "neutral", "entailment"), [0, 2, 1]),
        (["not-entailment", "entailment"], ("entailment", "not_entailment"), [1, 0]),
        (["sci tech", "WORLD", "business", "sports"], NEWS, [3, 0, 2, 1]),
        ([1, 5, 3], STARS, [0, 4, 2]),
        (["5 stars", "1 star"], STARS, [4, 0]),
        (["★★★★★", "★☆☆☆☆"], STARS, [4, 0]),
        (["4/5", "2/5"], STARS, [3, 1]),
        ([0, 1, 2, 3, 4], STARS, [0, 1, 2, 3, 4]),
        (["buchen_tisch", "Wetter abfragen"], ("wetter_abfragen", "buchen-tisch"), [1, 0]),
        (["spam", "ham"], GENERIC, [1, 0]),
    ],
)
def test_values_find_their_labels(values: list, names: tuple, meant: list) -> None:
    found = labels.mapped(values, names, "", "a file")
    assert [found.labels[labels.written(value)] for value in values] == meant
    plain = all(
        labels.written(value) == "-1" if label is None else labels.written(value) in (str(label), names[label])
        for value, label in zip(values, meant, strict=True)
    )
    assert plain or found.notes, "what is not plain to see is said"


@pytest.mark.parametrize(
    ("values", "names", "words"),
    [
        (
            ["World", "Sports"],
            GENERIC,
            r"The file has 2 \(Sports \(1\), World \(1\)\), the model 2 \(LABEL_0, LABEL_1\).*'Sports=LABEL_0,World=LABEL_1'",
        ),
        (["positive", "negative", "mixed feelings"], POLAR, "'mixed feelings=leave out'"),
        ([0, 1], THREE, "the model 3"),  # 1 is neutral by number, and hardly meant
        ([0, 1, 7], POLAR, "The file has 3"),
        (["a", "b", "c"], ("x", "y"), "--labels"),
    ],
)
def test_what_cannot_be_known_is_one_question(values: list, names: tuple, words: str) -> None:
    with pytest.raises(labels.LabelQuestion, match=words) as asked:
        labels.mapped(values, names, "", "a file")
    assert asked.value.counts == {labels.written(value): 1 for value in values}


def test_the_question_names_a_line_that_works() -> None:
    with pytest.raises(PruneError) as asked:
        labels.mapped(["World", "Sports", "Tech, and science"], ("a", "b", "c"), "", "a file")
    line = str(asked.value).split("--labels '")[1].split("'")[0]
    assert labels.mapped(["World", "Sports", "Tech, and science"], ("a", "b", "c"), line, "a file").labels == {
        "Sports": 0, "Tech, and science": 1, "World": 2,
    }  # fmt: skip


def test_what_is_told_wins_and_survives_as_text() -> None:
    told = {"NEG": "positive", "POS": "negative", "?": "leave out", "a=b, c": "positive"}
    assert labels.told(labels.as_text(told)) == told
    found = labels.mapped(["NEG", "POS", "?", "a=b, c"], POLAR, labels.as_text(told), "a file")
    assert found.labels == {"NEG": 1, "POS": 0, "?": None, "a=b, c": 1}
    assert "NEG is positive" in " ".join(found.notes) and "? is leave out" in " ".join(found.notes)


def test_more_labels_than_the_data_has_are_said() -> None:
    assert "none of the rows is Neutral" in " ".join(labels.mapped(["pos", "neg"], THREE, "", "a file").notes)
