"""Lineage: what each model was made from, from the store and the records of folders."""

import json
from dataclasses import replace

import pandas as pd
from test_deploy import job

from prune_core import plots
from prune_core.analysis.lineage import lineage
from prune_core.methods import METHODS

UNPRUNED = {"second_stage": "", "second_stage_sparsity": 0.5, "distil": 0.0}


def model(id: int, label: str, name: str, checkpoint: str = "demo", **options):
    method = {"name": name, "options": UNPRUNED | options, "removes": "units"}
    experiment = job().experiment | {
        "checkpoint": checkpoint,
        "calibration_size": 256,
        "method": method if name else None,
    }
    return replace(job(), id=id, label=label, experiment=experiment)


def tree(*jobs, files: pd.DataFrame | None = None) -> list[tuple[str, str, str, int]]:
    """Return (title, title of the parent, operation, job) of every node."""
    files = pd.DataFrame(columns=["job", "model", "format", "bytes"]) if files is None else files
    usual = {"sparsity": 0.5, "tune": True}
    nodes = lineage(jobs, files, dict.fromkeys(METHODS, usual))
    titles = {node.key: node.title for node in nodes}
    return [(node.title, titles.get(node.parent, ""), node.operation, node.job) for node in nodes]


def test_a_second_stage_follows_its_first():
    first = model(2, "K-prune −50% FLOPs", "kprune", tune=False)
    second = model(
        3,
        "K-prune −50% FLOPs · then AKR 2:4",
        "kprune",
        tune=False,
        second_stage="akr",
        second_stage_pattern="2:4",
    )
    assert tree(model(1, "Dense", ""), first, second) == [
        ("demo", "", "", 1),
        ("K-prune −50% FLOPs", "demo", "tune=False", 2),
        ("K-prune −50% FLOPs · then AKR 2:4", "K-prune −50% FLOPs", "then AKR 2:4", 3),
    ]
    # without a run of the first stage alone, it is a step that was not measured
    assert tree(second)[1] == ("K-prune −50% FLOPs, not measured", "demo", "", 0)


def test_exported_files_follow_their_model():
    files = pd.DataFrame(
        {"job": 2, "model": ["dense", "pruned"], "format": "ONNX int8", "bytes": 12_000_000}
    )
    assert tree(model(2, "AKR 50%", "akr"), files=files)[-1] == (
        "ONNX int8, 12.0 MB",
        "AKR 50%",
        "",
        2,
    )


def test_records_of_folders_lead_back_to_the_first_checkpoint(tmp_path):
    tuned, trimmed = tmp_path / "tuned", tmp_path / "trimmed"
    for folder, name, record in (
        (tuned, "finetune.json", {"recipe": {"checkpoint": "minilm"}}),
        (trimmed, "trim.json", {"checkpoint": str(tuned), "vocabulary": 9000}),
    ):
        folder.mkdir()
        (folder / name).write_text(json.dumps(record))
    assert tree(model(1, "Dense", "", str(trimmed)), model(2, "AKR 50%", "akr", str(trimmed))) == [
        ("minilm", "", "", 0),
        ("tuned", "minilm", "fine-tuned", 0),
        ("trimmed", "tuned", "trimmed to 9\u2009000 tokens", 1),
        ("AKR 50%", "trimmed", "", 2),
    ]


def test_cyclic_and_foreign_records_are_tolerated(tmp_path):
    (tmp_path / "trim.json").write_text(json.dumps({"checkpoint": str(tmp_path), "vocabulary": 5}))
    (tmp_path / "finetune.json").write_text("{}")
    assert tree(model(2, "AKR 50%", "akr", str(tmp_path)))


def test_chart_has_one_mark_per_node_and_marks_are_clickable():
    jobs = [model(1, "Dense", ""), model(2, "AKR 50%", "akr")]
    nodes = lineage(jobs, pd.DataFrame(columns=["job", "model", "format", "bytes"]), {"akr": {}})
    marks = plots.lineage(nodes, []).data[-1]
    assert list(marks.customdata) == [1, 2]
    assert "AKR 50%" in marks.text[1]


def test_a_model_from_elsewhere_has_no_known_origin():
    candidate = model(2, "from-a-colleague.onnx", "candidate", path="/models/x.onnx")
    assert tree(model(1, "Dense", ""), candidate) == [
        ("demo", "", "", 1),
        ("from-a-colleague.onnx", "", "", 2),
    ]
