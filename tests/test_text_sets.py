"""Named sets of saved test examples: written by pages, used like any other data."""

import pandas as pd
import pytest

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.store import text_sets
from prune_core.store.store import Store


def keep(store: Store, text: str, label: str = "positive", pair: str | None = None) -> int:
    return text_sets.add(store, "hard cases", text=text, pair=pair, label=label, source="Inspect")


def test_a_duplicate_replaces_the_earlier_example(home):
    store = Store(home)
    assert keep(store, 'a quiet, =odd film, "really"') == 1
    assert keep(store, "NA") == 2
    assert keep(store, "NA", "negative") == 2
    rows = pd.read_csv(text_sets.file_of(store, "hard cases"), keep_default_na=False)
    assert rows["text"].tolist() == ['a quiet, =odd film, "really"', "NA"]
    assert rows["label"].tolist() == ["positive", "negative"]
    assert text_sets.names(store) == ["hard cases"]


def test_pairs_and_single_texts_are_not_mixed(home):
    store = Store(home)
    keep(store, "a film")
    with pytest.raises(PruneError, match="has single texts; choose another name"):
        keep(store, "a film", pair="another film")


@pytest.mark.parametrize("name", ["../outside", "", ".hidden", "a/b"])
def test_names_stay_in_the_folder(home, name):
    with pytest.raises(PruneError, match="is not a name for a set of texts"):
        text_sets.file_of(Store(home), name)


def test_a_set_is_accepted_as_data(home, capsys):
    store = Store(home)
    for number in range(12):
        keep(store, f"a wonderful film number {number}")
        keep(store, f"a dull film number {number}", "negative")
    file = str(text_sets.file_of(store, "hard cases"))
    arguments = ["--task", file, "--calibration", "demo", "--measure", "accuracy"]
    assert not main(["run", "--method", "magnitude", "--sparsity", "0.3", *arguments])
    rows = store.rows("accuracy", [1])
    assert rows["n"].iloc[0] == 24
    assert rows["dense_score"].iloc[0] > 0.8
