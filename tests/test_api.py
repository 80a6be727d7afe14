"""The Python interface on small models: pruning in memory, comparing, running, error messages."""

import os
import subprocess
import sys

import fakes
import pandas as pd
import pytest
import tiny
import torch

import prune_core as pc
from prune_core.measures import MEASURES
from prune_core.paths import ROOT


@pytest.fixture(scope="module")
def dense():
    return tiny.model()


def test_prune_returns_a_copy_and_does_not_change_the_model(dense):
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    pruned = pc.prune(
        dense, tiny.tokenizer(), tiny.SENTENCES, method="akr", sparsity=0.7, solver="admm"
    )
    repeated = pc.prune(
        dense, tiny.tokenizer(), tiny.SENTENCES, method="akr", sparsity=0.7, solver="admm"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    assert all(
        torch.equal(first, second)
        for first, second in zip(pruned.parameters(), repeated.parameters(), strict=True)
    )
    weight = pruned.bert.encoder.layer[0].output.dense.weight
    assert float((weight == 0).float().mean()) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_prune_supports_pairs_labels_and_other_families(family):
    model, pairs = (
        tiny.model(family),
        list(zip(tiny.SENTENCES, reversed(tiny.SENTENCES), strict=True)),
    )
    pruned = pc.prune(
        model,
        tiny.tokenizer(family),
        pairs,
        method="kwon",
        sparsity=0.5,
        labels=[i % 2 for i in range(len(pairs))],
    )
    data = [(*pair, i % 2) for i, pair in enumerate(pairs)]
    rows = pc.compare(model, pruned, tiny.tokenizer(family), data).rows
    assert rows["accuracy"]["n"].tolist() == [12, 12] and rows["prediction"]["pair"].notna().all()


@pytest.mark.parametrize("kind", ["tuples", "table", "file"])
def test_compare_accepts_tables_files_and_tuples_and_summarizes(dense, kind, tmp_path):
    table = pd.DataFrame({"text": tiny.SENTENCES, "label": ["negative", "positive"] * 6})
    dense.config.id2label = {0: "negative", 1: "positive"}
    table.to_csv(tmp_path / "mine.csv", index=False)
    data = {
        "tuples": list(table.itertuples(index=False, name=None)),
        "table": table,
        "file": tmp_path / "mine.csv",
    }[kind]
    pruned = pc.prune(dense, tiny.tokenizer(), tiny.SENTENCES, method="magnitude", sparsity=0.5)
    measures = ["accuracy", "reconstruction", "drift", "cost"]
    options = {"drift": {"umap": False, "neighbours": 3}, "cost": {"repeats": 3, "length": 16}}
    result = pc.compare(
        dense, pruned, tiny.tokenizer(), data, measures, name="Half", options=options
    )
    for name in measures:
        assert set(result.rows[name]["job"]) == {0, 1} or name == "cost"
        assert len(result.figure(name).data)
    assert (result.rows["reconstruction"].query("job == 0")["total"] == 0).all()
    assert "Half" in result.takeaway and "n = 12" in result.takeaway


def test_compare_supports_attacks(dense):
    pruned = pc.prune(dense, tiny.tokenizer(), tiny.SENTENCES, method="magnitude", sparsity=0.5)
    data = list(zip(tiny.SENTENCES, [0, 1] * 6, strict=True))
    options = {"attack": {"recipes": "DeepWordBug", "examples": 3, "query_budget": 20}}
    result = pc.compare(dense, pruned, tiny.tokenizer(), data, ["attack"], options=options)
    assert len(result.rows["attack_example"]) == 6 and len(result.figure("attack").data)


def test_compare_restarts_with_half_the_batch_size_if_memory_runs_out(dense, monkeypatch):
    monkeypatch.setitem(MEASURES, "hungry", fakes.Hungry)
    data = list(zip(tiny.SENTENCES, [0, 1] * 6, strict=True))
    result = pc.compare(
        dense, dense, tiny.tokenizer(), data, ["hungry"], options={"hungry": {"fits": 5}}
    )
    assert result.rows["hungry"]["batch"].tolist() == [4, 4]


def test_run_returns_tables_and_writes_nothing_without_a_folder(tmp_path, monkeypatch, home):
    fakes.install(monkeypatch.setattr)
    try:
        rows = pc.run(fakes.experiment())
        saved = pc.run(fakes.experiment(), tmp_path / "saved")
    finally:
        fakes.remove()
    assert set(rows) == {"prune", "draw"} and rows["draw"].equals(saved["draw"])
    assert (tmp_path / "saved" / "checkpoint").exists() and not home.exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t: pc.prune(m, t, []), "no calibration texts"),
        (lambda m, t: pc.prune(m, t, ["a"], method="akrr"), "Did you mean 'akr'"),
        (lambda m, t: pc.prune(m, t, ["a"], sparsity=3), "between 0.0 and 0.99"),
        (lambda m, t: pc.prune(m, t, ["a"], speed=3), "no option 'speed'"),
        (lambda m, t: pc.prune(m.bert, t, ["a"]), "has no head for text classification"),
        (lambda m, t: pc.compare(m, m, t, [("a", 7)]), "label of the model '7' means"),
        (lambda m, t: pc.compare(m, m, t, [("a", 1)], ["speed"]), "no 'speed'"),
        (
            lambda m, t: pc.compare(m, m, t, [("a", 1), ("b", 0)]).figure("drift"),
            "no table 'drift'",
        ),
        (
            lambda m, t: pc.compare(m, m, t, [("a", 1), ("b", 0)]).figure("prediction"),
            "no chart for the table 'prediction'",
        ),
        (
            lambda m, t: pc.compare(m, m, t, [("a", "b", 1, 2)]),
            "row 1 is a tuple of 4; give a text",
        ),
        (lambda m, t: pc.compare(m, m, t, [("a", 1), 5]), "row 2 is a int; give a text"),
        (lambda m, t: pc.compare(m, m, t, torch.ones(2)), "data is a Tensor; give a table"),
        (
            lambda m, t: pc.compare(m, m, t, {"text": ["a"], "label": [1, 0]}),
            "data: .*equal length",
        ),
        (lambda m, t: pc.compare(m, m, t, 7), "data is a int; give a table"),
        (
            lambda m, t: pc.compare(
                m, m, t, pd.DataFrame([[1, 2]], columns=[["a", "a"], ["b", "c"]])
            ),
            "MultiIndex",
        ),
        (
            lambda m, t: pc.compare(m, m, t, [("a", 1)], reading={"text": 1.5}),
            "reading: text is 1.5; give a string",
        ),
        (
            lambda m, t: pc.compare(
                m, m, t, [("a", 1)], ["drift"], options={"drift": {"adversarial": True}}
            ),
            "drift with these options reads the results of attack; add the measure attack",
        ),
        (lambda m, t: pc.compare("demo", m, t, [("a", 1)]), "The model is a str.*pc.load"),
        (lambda m, t: pc.compare(m, (m, t), t, [("a", 1)]), "The model is a tuple.*pc.load"),
        (
            lambda m, t: pc.prune(torch.nn.Linear(2, 2), t, ["a"]),
            "The model is a Linear, not a model of transformers",
        ),
        (lambda m, t: pc.prune(m, "demo", ["a"]), "The tokenizer is a str"),
    ],
)
def test_user_errors_raise_prune_error_with_a_message(dense, call, message):
    with pytest.raises(pc.PruneError, match=message):
        call(dense, tiny.tokenizer())


def test_compare_evaluates_the_split_and_notes_how_the_data_was_read(dense, tmp_path):
    dense.config.id2label = {0: "negative", 1: "positive"}
    rows = pd.DataFrame(
        {
            "text": ["", *tiny.SENTENCES, *tiny.SENTENCES[:9]],
            "label": [0, *[0, 1] * 6, *[0, 1, 0] * 3],
        }
    )
    rows["split"] = ["train"] * 13 + ["test"] * 9
    rows.to_csv(tmp_path / "mine.csv", index=False)
    for data in (rows, tmp_path / "mine.csv", rows.to_dict("list")):
        result = pc.compare(dense, dense, tiny.tokenizer(), data)
        assert set(result.rows["accuracy"]["n"]) == {9}
        assert "Evaluated on split 'test'" in " ".join(result.notes)
        result = pc.compare(
            dense, dense, tiny.tokenizer(), data, reading={"split": "train", "bad_rows": "skip"}
        )
        assert set(result.rows["accuracy"]["n"]) == {12}
        assert "1 row without a text left out." in result.notes


def test_compare_accepts_common_in_memory_formats(dense):
    import datasets
    import numpy as np

    dense.config.id2label = {0: "negative", 1: "positive"}
    labels, names = [0, 1] * 6, ["positive", "negative"]
    expected = pc.compare(
        dense, dense, tiny.tokenizer(), list(zip(tiny.SENTENCES, labels, strict=True))
    ).rows["accuracy"]
    dataset = datasets.Dataset.from_dict(
        {"text": tiny.SENTENCES, "label": [1 - label for label in labels]}
    )
    dataset = dataset.cast_column("label", datasets.ClassLabel(names=names))
    for data in (
        {"text": tiny.SENTENCES, "label": labels},
        {"text": tiny.SENTENCES, "label": torch.tensor(labels)},
        list(zip(tiny.SENTENCES, torch.tensor(labels), strict=True)),
        list(zip(tiny.SENTENCES, np.array(labels), strict=True)),
        pd.DataFrame({"text": tiny.SENTENCES, "label": pd.array(labels, "Int64")}),
        dataset,  # by the names of its classes
        datasets.DatasetDict({"train": dataset.select(range(2)), "test": dataset}),
    ):
        pd.testing.assert_frame_equal(
            pc.compare(dense, dense, tiny.tokenizer(), data).rows["accuracy"], expected
        )
    table = pd.DataFrame(
        [[text, "ab"[label]] for text, label in zip(tiny.SENTENCES, labels, strict=True)]
    )
    reading = {"text": 0, "label": 1, "labels": {"a": "negative", "b": 1}}
    pd.testing.assert_frame_equal(
        pc.compare(dense, dense, tiny.tokenizer(), table, reading=reading).rows["accuracy"],
        expected,
    )


def test_importing_is_cheap_and_names_are_resolved():
    code = (
        "import sys, prune_core as pc; assert 'torch' not in sys.modules; "
        "pc.prune; assert 'transformers' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    with pytest.raises(AttributeError):
        pc.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("prune_in_memory", ["AKR", "inherited"]),
        ("prune_encoder", ["Accuracy", "words: largest change", "parameters before"]),
    ],
)
def test_the_examples_run(tmp_path, name, printed):
    environment = os.environ | {
        "EXAMPLE_SENTENCES": "12",
        "EXAMPLE_WRITE": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert all(text in process.stdout for text in printed)
    assert (tmp_path / "reconstruction.html").is_file() == (name == "prune_in_memory")
