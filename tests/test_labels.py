"""Label values are mapped by name, number or --labels, or raise a question; never silently."""

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_core import PruneError
from prune_core.data import label_pairs, labels

POLAR, GENERIC = ("negative", "positive"), ("LABEL_0", "LABEL_1")
NLI, STARS = (
    ("entailment", "neutral", "contradiction"),
    tuple(f"{n} star{'s' * (n > 1)}" for n in range(1, 6)),
)
NEWS, THREE = ("World", "Sports", "Business", "Sci/Tech"), ("Negative", "Neutral", "Positive")


@pytest.mark.parametrize(
    ("values", "names", "expected"),
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
def test_values_are_mapped_to_labels(values: list, names: tuple, expected: list) -> None:
    mapping = labels.map_labels(values, names, "", place="a file")
    assert [mapping.labels[label_pairs.to_text(value)] for value in values] == expected
    is_obvious = all(
        label_pairs.to_text(value) == "-1"
        if label is None
        else label_pairs.to_text(value) in (str(label), names[label])
        for value, label in zip(values, expected, strict=True)
    )
    assert is_obvious or mapping.notes, "a mapping that is not obvious needs a note"


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (
            ["World", "Sports"],
            GENERIC,
            r"The file has 2 values \(Sports \(1\), World \(1\)\), the model 2 labels \(LABEL_0, "
            r"LABEL_1\).*'Sports=LABEL_0,World=LABEL_1'",
        ),
        (["positive", "negative", "mixed feelings"], POLAR, "'mixed feelings=leave out'"),
        ([0, 1], THREE, "the model 3 labels"),  # 1 would be neutral by number, which is unlikely
        ([0, 1, 7], POLAR, "The file has 3"),
        (["a", "b", "c"], ("x", "y"), "--labels"),
    ],
)
def test_ambiguous_values_raise_one_question(values: list, names: tuple, message: str) -> None:
    with pytest.raises(labels.LabelQuestion, match=message) as raised:
        labels.map_labels(values, names, "", place="a file")
    assert raised.value.counts == {label_pairs.to_text(value): 1 for value in values}


def test_flag_in_the_question_works() -> None:
    with pytest.raises(PruneError) as raised:
        labels.map_labels(
            ["World", "Sports", "Tech, and science"], ("a", "b", "c"), "", place="a file"
        )
    flag = str(raised.value).split("--labels '")[1].split("'")[0]
    assert labels.map_labels(
        ["World", "Sports", "Tech, and science"], ("a", "b", "c"), flag, place="a file"
    ).labels == {
        "Sports": 0,
        "Tech, and science": 1,
        "World": 2,
    }


def test_explicit_mapping_takes_precedence_and_round_trips_as_text() -> None:
    explicit = {"NEG": "positive", "POS": "negative", "?": "leave out", "a=b, c": "positive"}
    assert label_pairs.parse_pairs(label_pairs.format_pairs(explicit)) == explicit
    mapping = labels.map_labels(
        ["NEG", "POS", "?", "a=b, c"], POLAR, label_pairs.format_pairs(explicit), place="a file"
    )
    assert mapping.labels == {"NEG": 1, "POS": 0, "?": None, "a=b, c": 1}
    assert "NEG is positive" in " ".join(mapping.notes)
    assert "? is leave out" in " ".join(mapping.notes)


def test_label_without_rows_is_noted() -> None:
    assert "no row has the label Neutral" in " ".join(
        labels.map_labels(["pos", "neg"], THREE, "", place="a file").notes
    )


@pytest.mark.parametrize(
    "names",
    [
        ("C", "C#", "C++", "Java"),
        ("A", "A+", "A-"),
        ("<5", ">5", "5"),
        ("1-2", "12", "1"),
        ("1.5", "15"),
        ("कि", "की"),
        ("ดี", "ดู"),
        ("か", "が"),
        ("ano", "año"),
        ("bán", "bạn", "ban"),
        ("US", "us"),
        ("a b", "ab"),
        ("out", "leave out", "in"),
        ("0", "1", "LABEL_0"),
        ("R&D", "RD"),
        ('say "no"', "a, b", "x=y"),
        ("Ｃ", "C"),
        ("e\u0301", "e"),
        ("ﬁne", "fine"),
    ],
)
def test_different_names_are_never_merged(names: tuple) -> None:
    assert labels.map_labels(names, names, "", place="a file").labels == {
        name: index for index, name in enumerate(names)
    }
    flag = label_pairs.format_pairs({name: names[index - 1] for index, name in enumerate(names)})
    rotated = labels.map_labels(names, names, flag, place="a file").labels
    assert rotated == {name: (index - 1) % len(names) for index, name in enumerate(names)}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["कि", "x"], ("की", "x")),
        (["が", "x"], ("か", "x")),
        (["C", "C#"], ("C++", "Java")),
        (["A-"], ("A", "B")),
        (["12"], ("1-2", "3-4")),
    ],
)
def test_similar_but_different_name_raises_a_question(values: list, names: tuple) -> None:
    with pytest.raises(labels.LabelQuestion):
        labels.map_labels(values, names, "", place="a file")


def test_one_unknown_value_among_many_raises_a_question_about_it() -> None:
    with pytest.raises(
        labels.LabelQuestion, match=r"means \(1 of 1,001 rows\).*--labels 'label=leave out'"
    ) as raised:
        labels.map_labels([0, 1] * 500 + ["label"], POLAR, "", place="a file")
    flag = str(raised.value).split("--labels '")[1].split("'")[0]
    assert labels.map_labels([0, 1] * 500 + ["label"], POLAR, flag, place="a file").labels == {
        "0": 0,
        "1": 1,
        "label": None,
    }
    assert labels.fits([0, 1] * 500 + ["label"], POLAR) and not labels.fits(["x", "y"], POLAR)


NAMES = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(
        lambda n: n.strip() == n
    ),
    min_size=2,
    max_size=6,
    unique=True,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    names=NAMES,
    extra=st.text(min_size=1, max_size=8).filter(lambda n: n.strip() == n and "\n" not in n),
    data=st.data(),
)
def test_proposed_flag_gives_the_stated_mapping(
    names: list, extra: str, data: st.DataObject
) -> None:
    """Exact names map to themselves; a proposed flag works and changes no unambiguous value."""
    values = data.draw(st.permutations(names)) + data.draw(
        st.lists(st.sampled_from(names), max_size=5)
    )
    exact = {label_pairs.to_text(name): index for index, name in enumerate(names)}
    if (
        len(exact) == len(names)
        and "-1" not in exact
        and not all(labels._number(name) is not None for name in names)
    ):
        assert labels.map_labels(values, names, "", place="a file").labels == exact
    try:
        mapping = labels.map_labels([*values, extra], names, "", place="a file").labels
    except labels.LabelQuestion as question:
        flag = shlex.split(
            str(question).split("Set it with ")[-1].split(" or on the Prune page")[0]
        )[1]
        mapping = labels.map_labels([*values, extra], names, flag, place="a file").labels
        for value, label in label_pairs.parse_pairs(flag).items():
            assert mapping[value] == labels._parse_label(label, names, "")
    if len(exact) == len(names) and "-1" not in exact:
        for name, index in exact.items():
            assert mapping.get(name, index) == index or labels._number(name) is not None
