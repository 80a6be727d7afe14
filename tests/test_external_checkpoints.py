"""Checkpoints and files of other projects on the command line, without manual conversion."""

import json
from pathlib import Path

import external_checkpoints
import pytest
from streamlit.testing.v1 import AppTest

from prune_core.cli.arguments import main
from prune_core.store.store import Store


def run_cli(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoints_by_name(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, external_checkpoints.ExternalModel]:
    """Return all checkpoints and files by name, created once."""
    return {
        name: make(tmp_path_factory.mktemp("external"))
        for name, make in external_checkpoints.ALL.items()
    }


@pytest.mark.parametrize("name", external_checkpoints.ALL)
def test_run_export_and_report_work_for_external_checkpoints(
    name: str, checkpoints_by_name: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    external = checkpoints_by_name[name]
    out = tmp_path / "out.json"
    arguments = [
        "run",
        "--checkpoint",
        external.folder,
        "--task",
        external.file,
        *external.arguments,
        "--device",
        "cpu",
    ]
    measures = [
        argument
        for measure in ("accuracy", "reconstruction", "drift", "cost")
        for argument in ("--measure", measure)
    ]
    fast_options = [
        "--set",
        "drift.umap=false",
        "--set",
        "drift.neighbours=3",
        "--set",
        "cost.repeats=3",
    ]
    assert run_cli(*arguments, *measures, *fast_options) == 0, capsys.readouterr().err
    for method in ("akr", "kprune"):
        assert (
            run_cli(*arguments, "--method", method, *measures, *fast_options, "--json", out) == 0
        ), capsys.readouterr().err
        record = json.loads(out.read_text())
        assert record["facts"]["kind"] == external.kind
        assert {
            "accuracy",
            "reconstruction",
            "drift",
            "cost",
        } <= set(record["rows"])
        assert record["rows"]["accuracy"][0]["n"] == record["facts"]["evaluation_n"] > 0
    output = capsys.readouterr().out
    for note in {
        "german-intents": (
            "semicolon-separated, encoding Windows-1252",
            "checkpoint-120 is used",
        ),
        "nli-swapped-labels": ("tab-separated", "the model's labels have no names"),
        "star-rating": ("'_orig_mod.'", "5 stars", "shorter than 9 words"),
        "french-ner": ("one word per line",),
    }[name]:
        assert note in output
    assert run_cli("export", 2, tmp_path / "pruned") == 0
    assert run_cli("export", 3, tmp_path / "small", "--shrink", "--onnx") == 0
    assert run_cli("report", 1, 2, 3, "--out", tmp_path / "report.html") == 0


def test_suggested_label_order_is_correct(
    checkpoints_by_name: dict, capsys: pytest.CaptureFixture
) -> None:
    external = checkpoints_by_name["nli-swapped-labels"]
    arguments = [
        "run",
        "--checkpoint",
        external.folder,
        "--task",
        external.file,
        "--measure",
        "accuracy",
        "--device",
        "cpu",
    ]
    assert run_cli(*arguments) == 0
    output = capsys.readouterr().out
    labels = output.split("--labels '")[1].split("'")[0]
    assert labels == "0=LABEL_2,1=LABEL_0,2=LABEL_1"
    assert run_cli(*arguments, "--labels", labels) == 0
    swapped_score, corrected_score = (
        Store().rows("accuracy", [id]).iloc[0]["score"] for id in (1, 2)
    )
    assert swapped_score < 0.3 and corrected_score > 0.7
    assert "Warning" not in capsys.readouterr().out
    assert Store().job(1).key != Store().job(2).key
    assert Store().job(2).experiment["source"]["labels"] == labels


def test_labels_counted_from_1_are_corrected_by_the_flag_and_by_one_click(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    news = external_checkpoints.news(tmp_path)
    arguments = ["run", "--checkpoint", news.folder, "--task", news.file]
    arguments += ["--measure", "accuracy", "--device", "cpu"]
    assert run_cli(*arguments) == 0
    labels = "1=World,2=Sports,3=Business"
    assert f"run again with --labels '{labels}'" in capsys.readouterr().out
    at = AppTest.from_file("../app.py", default_timeout=60).run()
    warning = next(
        element.value for element in at.warning if "With the current mapping" in element.value
    )
    at.button(key="use-order-study").click().run()
    assert not at.exception and list(at.session_state["label-pairs"].values()) == [labels]
    assert run_cli(*arguments, "--labels", labels) == 0
    shifted, corrected = (Store().rows("accuracy", [id]).iloc[0]["score"] for id in (1, 2))
    assert shifted < 0.2 and corrected > 0.8
    assert f"{corrected:.1%}" in warning and f"{shifted:.1%}" in warning
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--label", "hypothesis"], "it is not clear which label"),
        (["--text", "nothing"], "no column 'nothing'"),
        (["--labels", "0=LABEL_9"], "not a label of the model"),
        (["--method", "kwon", "--label", "-"], "need labels"),
        (["--min-words", "200"], "no calibration text has 200 tokens"),
    ],
)
def test_invalid_arguments_create_no_job(
    change: list[str], message: str, checkpoints_by_name: dict, capsys: pytest.CaptureFixture
) -> None:
    external = checkpoints_by_name["nli-swapped-labels"]
    assert (
        run_cli(
            "run",
            "--checkpoint",
            external.folder,
            "--task",
            external.file,
            "--measure",
            "accuracy",
            *change,
        )
        == 2
    )
    assert message in capsys.readouterr().err and Store().jobs() == []
