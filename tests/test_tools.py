"""Developer tools can be imported; WordNet's pairs agree with the bundled neighbor table."""

import importlib

import pytest

from prune_core.attacks import neighbours
from prune_core.attacks.requirements import WORDNET
from prune_core.paths import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_every_tool_can_be_imported(path) -> None:
    assert importlib.import_module(f"tools.{path.stem}").__doc__


@pytest.mark.skipif(not WORDNET.present, reason="WordNet is not installed")
def test_bundled_neighbours_are_no_antonyms() -> None:
    from tools.wordnet import Lexicon, parts_of_speech

    table = neighbours.load()
    assert [parts_of_speech(word) for word in table.words] == table.pos.tolist()
    antonyms = Lexicon(table.words).antonyms()
    assert len(antonyms) > 4000
    for a, b in antonyms:
        assert table.similarity(a, b) == 0, (table.words[a], table.words[b])


@pytest.mark.skipif(not WORDNET.present, reason="WordNet is not installed")
def test_wordnet_pairs_have_matching_inflections_and_rank_weights() -> None:
    from tools.wordnet import Lexicon

    words = ["big", "bigger", "large", "larger", "small", "smaller", "film", "films", "movies"]
    lexicon = Lexicon(words)

    def pairs(weights):
        return {(words[a], words[b]): weight for (a, b), weight in weights.items()}

    synonyms = pairs(lexicon.synonyms())
    for pair in (("big", "large"), ("bigger", "larger"), ("films", "movies")):
        assert synonyms[pair] == 1.0
    assert ("big", "larger") not in synonyms
    assert ("large", "small") in pairs(lexicon.antonyms())
    assert ("film", "films") in pairs(lexicon.relatives())
