"""Validity of adversarial texts: similarity, negations, antonyms and grammar errors."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from prune_core.attacks import validity
from prune_core.attacks.requirements import WORDNET

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "perturbed", "reason"),
    [
        ("The film is long.", "The movie is long.", ""),
        ("It is not bad.", "It is bad.", "“not” was removed"),
        ("It is not bad.", "It is nto bad.", "“not” was removed"),
        ("It isn’t bad.", "It is bad.", "“n't” was removed"),
        ("Made with charm.", "Made without charm.", "“without” was added"),
        ("No film never ends.", "A film never ends.", "“no” was removed"),
    ],
)
def test_changed_negation_is_named(text, perturbed, reason):
    assert validity.meaning_changes(text, perturbed) == reason


@pytest.mark.skipif(not WORDNET.present, reason="WordNet is not installed")
def test_antonym_is_named_even_if_inflected_or_only_similar():
    for old, new in (
        ("good", "bad"),
        ("loved", "hated"),
        ("good", "terrible"),
        ("terrible", "good"),
    ):
        assert (
            validity.meaning_changes(f"A {old} film.", f"A {new} film.")
            == f"“{old}” was replaced by its antonym “{new}”"
        )
    assert validity.meaning_changes("A fine old man.", "A nice aged man.") == ""


def test_negations_are_detected_without_wordnet(monkeypatch):
    monkeypatch.setattr(type(WORDNET), "present", False)
    assert (
        validity.meaning_changes("A good film, not a long one.", "A bad film, a long one.")
        == "“not” was removed"
    )


def attack_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "outcome": ["success", "failed", "success", "skipped"],
            "text": ["A warm and funny film."] * 4,
            "perturbed": [
                "A warm and amusing film.",
                "A cold film.",
                "The tax form is due in May.",
                None,
            ],
            "pair": None,
            "perturbed_pair": None,
        },
        index=[7, 3, 5, 1],
    )


def test_only_successes_are_scored_and_closer_texts_are_more_similar(monkeypatch):
    monkeypatch.setattr(validity, "which", lambda name: None)
    result = validity.add_validity(attack_rows(), CPU)
    assert result["similarity"].notna().tolist() == [True, False, True, False]
    assert 0.8 < result.loc[7, "similarity"] < 1 and result.loc[5, "similarity"] < 0.3
    assert result["grammar"].isna().all() and result["meaning"].tolist() == [""] * 4
    assert validity.add_validity(attack_rows().iloc[[1, 3]], CPU)["similarity"].isna().all()


def test_only_added_grammar_errors_are_counted(monkeypatch):
    """With a fake that counts words in capitals as errors; the real tool needs Java and 250 MB."""
    checked = []

    class Tool:
        def __init__(self, language, language_tool_download_version):
            assert language_tool_download_version == "6.8", "another version would be downloaded"

        def __enter__(self):
            return self

        def __exit__(self, *error): ...

        def check(self, text):
            checked.append(text)
            return [word for word in text.split() if word.isupper()]

    monkeypatch.setattr(validity, "which", lambda name: "/usr/bin/java")
    monkeypatch.setattr("language_tool_python.LanguageTool", Tool)
    monkeypatch.setattr(
        "language_tool_python.download_lt.LocalLanguageTool.get_latest_installed_version",
        lambda: SimpleNamespace(version_name="6.8"),
    )
    assert validity._errors_added(["one TWO", "one TWO"], ["ONE TWO THREE", "one two"]) == [
        2.0,
        -1.0,
    ]
    assert len(checked) == 3, "an original shared by two texts is checked once"
