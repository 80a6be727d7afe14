"""Joint search over sparsity, formats and vocabulary: what is tried, and complete searches."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

import prune_core as pc
from prune_core import PruneError, plots
from prune_core.cli.arguments import main
from prune_core.deployment import joint_search, size_search
from prune_core.deployment.joint_search import FASTEST, SMALLEST, FormatTrial
from prune_core.deployment.policy import Policy
from prune_core.experiments import deployed_files
from prune_core.methods import METHODS
from prune_core.models.candidates import cold_start
from prune_core.models.checkpoints import loading
from prune_core.store.store import Store

FORMATS = ("PyTorch fp32", "ONNX fp32", "ONNX int8")
SPEED = {"PyTorch fp32": 1.0, "ONNX fp32": 1.3, "ONNX int8": 2.5}
BYTES = {"PyTorch fp32": 100.0, "ONNX fp32": 100.0, "ONNX int8": 25.0}
POLICY = Policy({"accuracy_loss": 2.0})


def trial(sparsity: float, name: str, highest: dict[str, float]) -> FormatTrial:
    """Return a trial that has the quality up to the highest sparsity of its format."""
    has_quality = sparsity <= highest[name]
    return FormatTrial(
        sparsity,
        name,
        f"M {sparsity:.0%} · {name}",
        1,
        has_quality,
        has_quality,
        "detail",
        score=0.9 - 0.1 * sparsity - (name == "ONNX int8") * 0.01,
        bytes=BYTES[name] * (1 - sparsity / 2),
        speedup=SPEED[name] / (1 - sparsity),
    )


def search(highest: dict[str, float], objective: str = FASTEST) -> list[FormatTrial]:
    trials: list[FormatTrial] = []
    while pending := joint_search.next_trials(trials, FORMATS, objective):
        trials += [trial(sparsity, name, highest) for sparsity, name in pending]
    return trials


def test_sparsity_is_bisected_in_the_best_format_and_others_tried_at_the_boundary() -> None:
    trials = search(dict.fromkeys(FORMATS, 0.5))
    assert [(each.sparsity, each.format) for each in trials[:3]] == [(0.0, n) for n in FORMATS]
    bisected = [each for each in trials[3:] if each.format == "ONNX int8"]
    assert max(each.sparsity for each in bisected if each.has_quality) == 0.5
    assert {each.format for each in trials if each.sparsity == 0.5} == set(FORMATS)
    assert len(trials) <= joint_search.most_trials(FORMATS)
    assert joint_search.best(trials, FASTEST).label == "M 50% · ONNX int8"
    assert trials == search(dict.fromkeys(FORMATS, 0.5)), "equal measurements, equal trials"


def test_a_format_without_the_quality_is_not_the_reference() -> None:
    trials = search({"PyTorch fp32": 0.4, "ONNX fp32": 0.4, "ONNX int8": -1.0})
    assert joint_search.reference_format(trials, FASTEST) == "ONNX fp32"
    assert joint_search.best(trials, FASTEST).format == "ONNX fp32"
    nothing = search(dict.fromkeys(FORMATS, -1.0))
    assert len(nothing) == len(FORMATS) and joint_search.best(nothing, FASTEST) is None
    sentence = joint_search.result_sentence(nothing, POLICY, FASTEST)
    assert sentence.startswith("No tested file meets every limit at 95% confidence. M 0% · ONNX")


def test_the_unpruned_files_count_if_no_sparsity_has_the_quality() -> None:
    trials = search(dict.fromkeys(FORMATS, 0.0), SMALLEST)
    assert joint_search.best(trials, SMALLEST).label == "M 0% · ONNX int8"
    assert len(trials) <= joint_search.most_trials(FORMATS)


def test_limits_on_time_and_size_do_not_stop_the_search_for_sparser_models() -> None:
    trials: list[FormatTrial] = []
    while pending := joint_search.next_trials(trials, FORMATS, SMALLEST):
        for sparsity, name in pending:
            measured = trial(sparsity, name, dict.fromkeys(FORMATS, 0.7))
            trials.append(
                replace(measured, is_within_limits=measured.has_quality and measured.bytes < 17)
            )
    chosen = joint_search.best(trials, SMALLEST)
    assert chosen.bytes < 17 and 0.68 <= chosen.sparsity <= 0.7


def test_the_table_marks_the_pareto_front_and_the_chosen_file() -> None:
    trials = search(dict.fromkeys(FORMATS, 0.5))
    rows = joint_search.table([*trials, FormatTrial(0.9, "x", "y", 0, False, False, "")], FASTEST)
    front = rows[rows["front"]]
    for row in front.itertuples():
        dominating = (rows["speedup"] >= row.speedup) & (rows["score"] > row.score)
        assert not dominating.any()
    assert rows["chosen"].sum() == 1 and rows[rows["chosen"]]["label"].item() == "M 50% · ONNX int8"


def test_formats_are_parsed_by_name() -> None:
    assert deployed_files.parse_formats("onnx INT8, pytorch fp32") == ("ONNX int8", "PyTorch fp32")
    assert {"PyTorch fp32", "PyTorch bf16", "ONNX int8"} <= set(deployed_files.parse_formats("all"))
    with pytest.raises(PruneError, match="Did you mean 'ONNX int8'"):
        deployed_files.parse_formats("ONNX int")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a tiny classifier; fresh processes, which would take minutes, are not started."""
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(size_search, "MAX_SPARSITY", 0.6)
    monkeypatch.setattr(size_search, "STEP", 0.2)
    monkeypatch.setattr(cold_start, "measure", lambda *_: cold_start.ColdStart(1.0, 2e8))
    model = tiny.model()
    model.config.id2label = {0: "negative", 1: "positive"}
    model.config.label2id = {"negative": 0, "positive": 1}
    loading.save(model, tiny.tokenizer(), tmp_path / "model")
    return str(tmp_path / "model")


def test_the_best_file_is_trimmed_pruned_and_converted(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(tiny.SENTENCES))
    out, record = tmp_path / "out", tmp_path / "search.json"
    command = ["shrink-to", "--checkpoint", checkpoint, "--method", "unit_magnitude"]
    command += ["--loss", "60", "--evaluation-size", "100", "--calibration-size", "8"]
    command += ["--formats", "PyTorch fp32,ONNX int8"]
    command += ["--trim", str(texts), "--json", str(record)]
    assert main([*command, "--out", str(out)]) == 0, capsys.readouterr().err[-600:]
    shown = capsys.readouterr().out
    rows = json.loads(record.read_text())["table"]
    chosen = next(row for row in rows if row["chosen"])
    assert "is the smallest of" in shown and chosen["sparsity"] == 0.6
    assert {row["format"] for row in rows} == {"PyTorch fp32", "ONNX int8"}
    assert all(row["memory"] == 2e8 for row in rows)
    # the files are candidates, compared with the full checkpoint, in a study of their own
    study = Store().jobs("Smallest file of model by Unit magnitude")
    assert len(study) == len(rows) + 1
    assert {job.experiment["checkpoint"] for job in study} == {checkpoint}
    trimmed = loading.load(str(next((tmp_path / "home" / "trimmed").iterdir())))[0]
    assert trimmed.config.vocab_size < tiny.model().config.vocab_size
    # the folder has the chosen file with its tokenizer, which check accepts
    assert json.loads((out / "search.json").read_text())["table"] == rows
    check = ["check", "--dense", checkpoint, "--candidate", str(out), "--evaluation-size", "100"]
    assert main([*check, "--calibration", "demo"]) in (0, 1, 3)
    # a repeated search reads everything from the store
    before = len(Store().jobs())
    assert main([*command, "--out", str(tmp_path / "again")]) == 0
    assert json.loads(record.read_text())["table"] == rows and len(Store().jobs()) == before
    assert (
        main([*command, "--out", str(out)]) == 2 and "name a new folder" in capsys.readouterr().err
    )


def test_python_interface_searches_with_the_calibration_pool(
    checkpoint: str, tmp_path: Path
) -> None:
    source = pc.Experiment.from_dict({"measures": [{"name": "cost", "options": {"repeats": 3}}]})
    plan = replace(
        source,
        checkpoint=checkpoint,
        method=METHODS["unit_magnitude"](),
        calibration_size=8,
        evaluation_size=100,
    )
    result = pc.shrink_to(
        plan, {"accuracy_loss": 60}, tmp_path / "out", formats="ONNX fp32", trim=True
    )
    assert result.folder == tmp_path / "out" and result.vocabulary > 0
    assert result.table["chosen"].sum() == 1 and set(result.table["format"]) == {"ONNX fp32"}
    assert result.chosen and result.chosen.label in result.sentence
    with pytest.raises(PruneError, match="removes single weights"):
        pc.shrink_to(replace(plan, method=METHODS["magnitude"]()), {"accuracy_loss": 60})


def test_the_chart_has_a_point_with_its_interval_for_each_file() -> None:
    rows = joint_search.table(search(dict.fromkeys(FORMATS, 0.5)), FASTEST)
    for dark in (False, True):
        figure = plots.search_front(rows, FASTEST, dark)
        named = {point for trace in figure.data if trace.text is not None for point in trace.text}
        assert set(rows["label"]) <= named
