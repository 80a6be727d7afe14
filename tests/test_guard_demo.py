"""The guard demo: its texts, and a decision about a pruned guard on 2% positives."""

from collections import Counter

import pandas as pd

from prune_core.cli.arguments import main
from prune_core.paths import ASSETS
from prune_core.store.store import Store

FOLDER = ASSETS / "demo" / "guard"


def test_splits_share_no_text_and_test_positives_are_rare():
    texts = pd.concat(
        [
            pd.read_csv(FOLDER / "texts.csv"),
            pd.read_csv(FOLDER / "validation.csv").assign(split="validation"),
        ]
    )
    assert texts.groupby("text")["split"].nunique().max() == 1
    test = texts[texts["split"] == "test"]
    assert len(test) >= 600 and 0.02 <= (test["label"] == "injection").mean() <= 0.1
    for column in ("language", "source"):
        found = Counter(test.loc[test["label"] == "injection", column])
        assert len(found) >= 2 and min(found.values()) >= 20


def check_pruned_guard(rows, folder, capsys):
    """Prune the guard by magnitude, measure it on the rows, and return (exit code, output)."""
    rows.to_csv(folder / "requests.csv", index=False)
    (folder / "policy.yaml").write_text("accuracy_loss: 2\nrecall_loss: 20\n")
    data = ["--task", str(folder / "requests.csv")]
    data += ["--calibration", str(FOLDER / "validation.csv"), "--evaluation-size", "0"]
    method = ["--checkpoint", "demo-guard", "--method", "magnitude", "--sparsity", "0.5"]
    assert main(["run", *data, *method, "--measure", "accuracy", "--measure", "threshold"]) == 0
    job = Store().jobs()[0].id
    capsys.readouterr()
    return main(["check", str(job), "--policy", str(folder / "policy.yaml")]), capsys.readouterr()


def test_a_guard_that_detects_nothing_may_not_ship(tmp_path, capsys):
    """Its accuracy does not fall, so only the recall shows it."""
    texts = pd.read_csv(FOLDER / "texts.csv").query("split == 'test'").drop(columns="split")
    code, output = check_pruned_guard(texts, tmp_path, capsys)
    assert code == 1 and "Do not ship" in output.out
    assert "Accuracy loss" in output.out and output.out.count("violated") >= 1


def test_2_percent_positives_say_how_many_would_decide(tmp_path, capsys):
    texts = pd.read_csv(FOLDER / "texts.csv").query("split == 'test'").drop(columns="split")
    positive = texts[texts["label"] == "injection"].groupby(["language", "source"]).head(3).head(14)
    rows = pd.concat([positive, texts[texts["label"] == "safe"].head(700)])
    assert 0.015 < (rows["label"] == "injection").mean() < 0.025
    code, output = check_pruned_guard(rows, tmp_path, capsys)
    assert code == 3 and "examples with the label would decide" in output.out
