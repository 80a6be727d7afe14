"""A stranger's walk on the command line: from folder and file to figures, with nothing converted
by hand.
"""

import json
from pathlib import Path

import pytest
import strangers
from streamlit.testing.v1 import AppTest

from prune_core.cli.arguments import main
from prune_core.store.store import Store


def ran(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, strangers.ExternalModel]:
    """All of them, made once."""
    return {who: make(tmp_path_factory.mktemp("stranger")) for who, make in strangers.ALL.items()}


@pytest.mark.parametrize("who", strangers.ALL)
def test_from_a_folder_and_a_file_to_the_figures(
    who: str, known: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    stranger = known[who]
    out = tmp_path / "out.json"
    both = [
        "run",
        "--checkpoint",
        stranger.folder,
        "--task",
        stranger.file,
        *stranger.arguments,
        "--device",
        "cpu",
    ]
    measures = [
        part
        for name in ("accuracy", "reconstruction", "drift", "cost")
        for part in ("--measure", name)
    ]
    cheap = ["--set", "drift.umap=false", "--set", "drift.neighbours=3", "--set", "cost.repeats=3"]
    assert ran(*both, *measures, *cheap) == 0, capsys.readouterr().err
    for method in ("akr", "kprune"):
        assert ran(*both, "--method", method, *measures, *cheap, "--json", out) == 0, (
            capsys.readouterr().err
        )
        found = json.loads(out.read_text())
        assert found["facts"]["kind"] == stranger.kind and {
            "accuracy",
            "reconstruction",
            "drift",
            "cost",
        } <= set(found["rows"])
        assert found["rows"]["accuracy"][0]["n"] == found["facts"]["evaluation_n"] > 0
    said = capsys.readouterr().out
    for note in {
        "german-intents": (
            "semicolon-separated, encoding Windows-1252",
            "checkpoint-120 is used",
        ),
        "nli-swapped-labels": ("tab-separated", "the model's labels have no names"),
        "star-rating": ("'_orig_mod.'", "5 stars", "shorter than 9 words"),
        "french-ner": ("one word per line",),
    }[who]:
        assert note in said
    assert (
        ran("export", 2, tmp_path / "pruned") == 0
        and ran("export", 3, tmp_path / "small", "--shrink", "--onnx") == 0
    )
    assert ran("report", 1, 2, 3, "--out", tmp_path / "report.html") == 0


def test_the_order_that_is_offered_is_the_right_one(
    known: dict, capsys: pytest.CaptureFixture
) -> None:
    stranger = known["nli-swapped-labels"]
    both = [
        "run",
        "--checkpoint",
        stranger.folder,
        "--task",
        stranger.file,
        "--measure",
        "accuracy",
        "--device",
        "cpu",
    ]
    assert ran(*both) == 0
    said = capsys.readouterr().out
    labels = said.split("--labels '")[1].split("'")[0]
    assert labels == "0=LABEL_2,1=LABEL_0,2=LABEL_1"
    assert ran(*both, "--labels", labels) == 0
    swapped, right = (Store().rows("accuracy", [id]).iloc[0]["score"] for id in (1, 2))
    assert swapped < 0.3 and right > 0.7
    assert "Warning" not in capsys.readouterr().out
    assert (
        Store().job(1).key != Store().job(2).key
        and Store().job(2).experiment["source"]["labels"] == labels
    )


def test_labels_counted_from_1_are_corrected_by_the_flag_and_by_one_click(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    news = strangers.news(tmp_path)
    both = ["run", "--checkpoint", news.folder, "--task", news.file]
    both += ["--measure", "accuracy", "--device", "cpu"]
    assert ran(*both) == 0
    labels = "1=World,2=Sports,3=Business"
    assert f"run again with --labels '{labels}'" in capsys.readouterr().out
    at = AppTest.from_file("../app.py", default_timeout=60).run()
    promised = next(each.value for each in at.warning if "With the current mapping" in each.value)
    at.button(key="take-order-study").click().run()
    assert not at.exception and list(at.session_state["label-pairs"].values()) == [labels]
    assert ran(*both, "--labels", labels) == 0
    shifted, corrected = (Store().rows("accuracy", [id]).iloc[0]["score"] for id in (1, 2))
    assert shifted < 0.2 and corrected > 0.8
    assert f"{corrected:.1%}" in promised and f"{shifted:.1%}" in promised
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--label", "hypothesis"], "it is not clear which label"),
        (["--text", "nothing"], "no column 'nothing'"),
        (["--labels", "0=LABEL_9"], "not a label of the model"),
        (["--method", "kwon", "--label", "-"], "need labels"),
        (["--min-words", "200"], "no calibration text has 200 tokens"),
    ],
)
def test_a_mistake_makes_no_job(
    change: list[str], words: str, known: dict, capsys: pytest.CaptureFixture
) -> None:
    stranger = known["nli-swapped-labels"]
    assert (
        ran(
            "run",
            "--checkpoint",
            stranger.folder,
            "--task",
            stranger.file,
            "--measure",
            "accuracy",
            *change,
        )
        == 2
    )
    assert words in capsys.readouterr().err and Store().jobs() == []
