"""The recipes of docs/architecture.md, applied literally to a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(python|diff) file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOP = (
    "app.py",
    "pages",
    "prune_core",
    "tests",
    "benchmarks",
    "assets",
    "pyproject.toml",
    ".streamlit",
)
COMMANDS = """
import contextlib, io
from prune_core.cli.arguments import main
from prune_core.deployment import policy

def output(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        assert main(list(arguments)) == 0, arguments
    return stream.getvalue()

listed = output("methods") + output("measures") + output("tasks")
assert all(name in listed for name in ("random_mask", "weight_change", "wnli")), listed
run = "run --method random_mask --sparsity 0.5 --calibration-size 8 --evaluation-size 16"
measures = ["--measure", "weight_change", "--measure", "attack", "--set", "attack.examples=2"]
output(*run.split(), *measures, "--set", "attack.recipes=Letter swap", "--out", "pruned")
shown = output("show", "1")
assert "Random mask" in shown and "Weight change" in shown and "Letter swap" in shown, shown
assert output("sparsity", "pruned").strip() == "50.0%"
assert "largest_weight_change" in policy.default_policy("classification").limits
checked = output("check", "1", "--policy", "policy.yaml")
assert "Ship: the limit is met" in checked and "Largest weight change" in checked, checked
output("report", "1", "--out", "report.html")
"""

PAGES = """
from streamlit.testing.v1 import AppTest
at = AppTest.from_file("app.py", default_timeout=120).run()
for page in ("prune", "attack", "compare", "deploy", "weights"):
    at.switch_page(f"pages/{page}.py").run()
    if page == "prune":
        at.toggle(key="more-method").set_value(True).run()
    assert not at.exception, (page, at.exception)
    words = " ".join(str(element.value) for element in (*at.markdown, *at.caption))
    if page == "prune":
        keys = [str(element.key) for kind in ("toggle", "checkbox") for element in at.get(kind)]
        assert "use-method-random_mask" in keys and "use-measure-weight_change" in keys, keys
    if page == "compare":
        assert "weight_change" in at.session_state["view"].summary(), "a quantity of the page"
    if page == "deploy":
        assert at.toggle(key="use-limit-largest_weight_change").value is True
        assert at.number_input(key="limit-largest_weight_change").value == 90
    if page == "weights":
        assert "Weight change by block" in words and len(at.get("plotly_chart")) == 1, words
"""

SEEDS_AND_PYTHON = """
import prune_core as pc
import tiny
from prune_core import views
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.seeds import merge_seeds
from prune_core.cli.arguments import main
from prune_core.store.store import Store

sizes = ["--calibration-size", "8", "--evaluation-size", "16"]
options = ["--method", "random_mask", "--measure", "weight_change", "--study", "Seeds"]
for seed in ("0", "1"):
    assert main(["run", *options, *sizes, "--seed", seed]) == 0
store = Store()
jobs = store.jobs("Seeds")
models = merge_seeds(models_of(jobs), jobs)
rows = store.rows("weight_change", [job.id for job in jobs])
pooled = views.pooled("weight_change", rows, models)
assert len(models) == 1 and len(pooled) == len(rows) / 2
assert abs(pooled["change"].mean() - rows["change"].mean()) < 1e-9
data = [(text, index % 2) for index, text in enumerate(tiny.SENTENCES)]
dense, tokenizer = tiny.model(), tiny.tokenizer()
pruned = pc.prune(dense, tokenizer, tiny.SENTENCES, method="random_mask", sparsity=0.5)
compared = pc.compare(dense, pruned, tokenizer, data, measures=["weight_change"])
assert len(compared.figure("weight_change").data)
"""


def apply(kind: str, path: Path, block: str) -> None:
    """Write a new file, or apply a diff: its context and `-` lines become context and `+` lines.

    A diff without line numbers may contain several hunks: a hunk ends where context follows `+`
    lines and does not continue in the file.
    """
    if kind == "python":
        assert not path.exists(), f"{path} exists already"
        path.write_text(block)
        return
    text = path.read_text()
    for hunk in hunks(block.splitlines(keepends=True), text):
        old = "".join(line[1:] for line in hunk if line[0] in " -")
        new = "".join(line[1:] for line in hunk if line[0] in " +")
        assert text.count(old) == 1, f"{path}: {text.count(old)} places match {old!r}"
        text = text.replace(old, new)
    path.write_text(text)


def hunks(lines: list[str], text: str) -> list[list[str]]:
    result: list[list[str]] = []
    for line in lines:
        if result:
            old = "".join(each[1:] for each in (*result[-1], line) if each[0] in " -")
            if line[0] == "+" or old in text:
                result[-1].append(line)
                continue
        result.append([line])
    return result


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with every recipe applied."""
    folder = tmp_path_factory.mktemp("copy")
    for name in TOP:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    blocks = BLOCK.findall((ROOT / "docs" / "architecture.md").read_text())
    assert len(blocks) > 15
    for kind, file, block in blocks:
        apply(kind, folder / file, block)
    return folder


def run(copy: Path, *arguments: str) -> str:
    path = os.pathsep.join((str(copy), str(copy / "tests")))
    environment = os.environ | {"PYTHONPATH": path, "PRUNESCOPE_HOME": str(copy / "home")}
    command = [sys.executable, *arguments]
    process = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return process.stdout


def test_the_additions_reach_lists_tables_pages_and_charts(copy):
    """One process, as each would import torch and transformers again."""
    (copy / "policy.yaml").write_text("largest_weight_change: 90")
    run(copy, "-c", COMMANDS + PAGES + SEEDS_AND_PYTHON)
    report = (copy / "report.html").read_text()
    assert "Weight change by block" in report and "Relative change of the weight matrices" in report


ORDINAL = """
import tiny
from pathlib import Path
from prune_core.cli.arguments import main
from prune_core.models.checkpoints import loading
from prune_core.store.store import Store
model = tiny.model()
model.config.ordinal = True
loading.save(model, tiny.tokenizer(), Path("ordinal"))
run = "run --checkpoint ordinal --task stars.csv --study Stars --method akr --measure accuracy"
run += " --measure drift --measure sensitivity --set drift.neighbors=3 --set drift.umap=false"
assert main(run.split()) == 0
assert main(["show", str(Store().jobs("Stars")[-1].id)]) == 0
"""


def test_a_new_task_type_is_read_pruned_measured_and_shown(copy):
    lines = [f"a film with {i} stars and more,{('negative', 'positive')[i % 2]}" for i in range(20)]
    (copy / "stars.csv").write_text("text,label\n" + "\n".join(lines))
    assert "Within one" in run(copy, "-c", ORDINAL)


def test_the_additions_pass_the_contract_tests(copy):
    names = "random_mask or weight_change or data2vec or psv"
    (copy / "tests" / "test_psv.py").write_text(
        "from prune_core.data import tables\n"
        "def test_psv(tmp_path):\n"
        "    (tmp_path / 'a.psv').write_text('text|label\\ngood|1\\nbad|0\\n')\n"
        "    assert len(tables.read(str(tmp_path / 'a.psv')).rows) == 2\n"
    )
    files = ["methods", "measures", "encoders", "psv"]
    tests = [f"tests/test_{name}.py" for name in files]
    run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", names)
