"""The design's rules about who may import what, read from the sources."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "prune_core").rglob("*.py"))
PAGES = [*sorted((ROOT / "pages").rglob("*.py")), ROOT / "app.py"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path, only_top: bool = False) -> set[str]:
    """Full dotted names of everything a file imports; with `only_top` what importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = list(path.relative_to(ROOT).parts[:-1])
    found: set[str] = set()
    for node in _reached(tree) if only_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def _reached(tree: ast.AST):
    """Nodes that run on import: not in functions, not under `if TYPE_CHECKING` or `if __name__ == "__main__"`."""
    for node in ast.iter_child_nodes(tree):
        skipped = isinstance(node, ast.If) and any(
            word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "__name__")
        )
        if not skipped and not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        ):
            yield node
            yield from _reached(node)


def uses(path: Path, *packages: str, only_top: bool = False) -> set[str]:
    return {
        found
        for found in imports(path, only_top)
        for package in packages
        if found == package or found.startswith(f"{package}.")
    }


def test_the_walk_sees_something():
    assert len(CORE) > 20 and len(PAGES) > 5


# From the bottom up: a file imports only from its own folder and from folders before it. The table in
# docs/architecture.md has the same order.
ORDER = (
    "ground",
    "store",
    "data",
    "models/families",
    "models",
    "models/checkpoints",
    "models/inference",
    "models/export",
    "pruning",
    "methods",
    "attacks",
    "analysis",
    "measures",
    "training",
    "experiments",
    "queue",
    "distributed",
    "processes",
    "plots",
    "cli",
    "top",
)
TOP = ("__init__.py", "__main__.py", "api.py")  # what a person calls: they may fetch anything


def folder(path: Path) -> str:
    where = path.relative_to(ROOT / "prune_core")
    if len(where.parts) > 1:
        return where.parent.as_posix()
    return "top" if where.name in TOP else "ground"


def target(module: str) -> str | None:
    """The folder of a module of the package by its dotted name; None for anything else."""
    path = ROOT / Path(*module.split("."))
    if not module.startswith("prune_core."):
        return None
    if path.is_dir():
        return path.relative_to(ROOT / "prune_core").as_posix()
    file = path.with_suffix(".py")
    return folder(file) if file.is_file() else None


def test_every_folder_has_its_place():
    assert {folder(path) for path in CORE} == set(ORDER)
    table = (ROOT / "docs" / "architecture.md").read_text()
    rows = [
        line.split("|")[1].strip(" `/")
        for line in table.splitlines()
        if line.startswith("| `") and line.count("|") >= 3
    ]
    assert [row for row in rows if row in ORDER] == list(ORDER[1:-1]), (
        "the table of docs/architecture.md is in this order"
    )


@pytest.mark.parametrize("path", CORE, ids=name)
def test_nobody_imports_upwards_not_even_for_types(path):
    below = ORDER[: ORDER.index(folder(path)) + 1]
    up = {found for found in imports(path) if (where := target(found)) and where not in below}
    assert not up


def test_no_two_files_import_each_other():
    """A circle cannot be: what a file imports, itself or by others, when it is imported or later, never leads back to it."""
    dotted = lambda path: ".".join(path.relative_to(ROOT).with_suffix("").parts)  # noqa: E731
    files = {
        dotted(path): path for path in CORE if folder(path) != "top" and path.name != "__init__.py"
    }
    known = {
        module: {found for found in imports(path) if found in files} - {module}
        for module, path in files.items()
    }
    for module in known:
        seen, left = set(), set(known[module])
        while left:
            current = left.pop()
            seen.add(current)
            left |= known[current] - seen
        assert module not in seen, f"{module} imports itself by way of others"


@pytest.mark.parametrize("path", [*CORE, *PAGES], ids=name)
def test_files_and_functions_are_short_enough_to_read(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 430 or path.name == "arguments.py"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 95, node.name


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_knows_no_streamlit_and_no_pages(path):
    assert not uses(path, "streamlit", "pages", "app")


PLAIN = (
    "attacks.catalogue",
    "attacks.requirements",
    "analysis.attack_success",
    "attacks.changed_words",
    "models.checkpoints.folders",
)  # know no model


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_pages_import_no_models_no_sql_no_charts_library(path):
    assert not uses(
        path, "torch", "transformers", "textattack", "sqlite3", "plotly", "umap", "datasets"
    )
    # what works on loaded models
    loaded = (
        "models",
        "pruning",
        "attacks",
        "queue.worker",
        "experiments.run",
        "training.finetune",
        "api",
    )
    plain = {found for part in PLAIN for found in uses(path, f"prune_core.{part}")} | {
        "prune_core.attacks",
        "prune_core.models",
        "prune_core.models.checkpoints",
    }
    assert not uses(path, *(f"prune_core.{part}" for part in loaded)) - plain


@pytest.mark.parametrize("path", CORE, ids=name)
def test_every_library_has_its_place(path):
    where = path.relative_to(ROOT / "prune_core")
    if where.name not in ("store.py", "schema.py", "maintenance.py"):
        assert not uses(path, "sqlite3")
    if where.parts[0] != "plots":
        assert not uses(path, "plotly") or where.name == "plots.py"
    if where.parts[0] != "attacks":
        assert not uses(path, "textattack")


@pytest.mark.parametrize("path", [p for p in CORE if "attacks" not in p.parts], ids=name)
def test_heavy_imports_wait_for_the_function_that_needs_them(path):
    assert not uses(path, "transformers", "datasets", "textattack", "umap", only_top=True)


@pytest.mark.parametrize(
    "module",
    [
        "",
        "store.store",
        "queue.jobs",
        "store.packed_rows",
        "cli.run_commands",
        "cli.arguments",
        "plugins",
    ],
)
def test_these_import_no_torch(module):
    """Followed through the package: what `python -m prune_core jobs` and every page pays."""
    seen, left = set(), {f"prune_core.{module}".rstrip(".")}
    while left:
        current = left.pop()
        seen.add(current)
        path = ROOT / Path(*current.split(".")).with_suffix(".py")
        for found in imports(path, only_top=True) if path.is_file() else ():
            assert found.split(".")[0] != "torch", f"{current} imports torch"
            if found.startswith("prune_core.") and found not in seen:
                left.add(found)


def test_hugging_face_layouts_are_known_to_the_families_alone():
    for path in CORE:
        if "families" not in path.parts and path.name != "loading.py":
            text = path.read_text(encoding="utf-8")
            for word in (
                "attention.self",
                "intermediate.dense",
                "q_lin",
                "encoder.layer",
                "AutoModelForSequenceClassification",
            ):
                assert word not in text, f"{name(path)} knows {word}"


def test_nobody_swallows_and_only_four_catch_everything():
    broad = []
    for path in [*CORE, *PAGES]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kind = ast.unparse(node.type) if node.type else "everything"
                assert not all(isinstance(line, ast.Pass) for line in node.body), (
                    f"{name(path)}:{node.lineno} swallows {kind}"
                )
                is_broad = {"Exception", "BaseException", "everything"} & set(
                    re.findall(r"\w+", kind)
                )
                if is_broad and not isinstance(node.body[-1], ast.Raise):
                    broad.append(name(path))
    # the queue and a shard go on when a job breaks, and an attack when one example does; both record what broke. Of searches that ask
    # together only the one whose text breaks the model hears of it
    assert broad == [
        f"prune_core/{path}.py"
        for path in ("attacks/engine", "attacks/scheduler", "distributed/shards", "queue/worker")
    ]


def requirements() -> list[str]:
    """The lines of both lists that `make app` installs."""
    files = (ROOT / "requirements.txt", ROOT / "requirements-no-deps.txt")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if not line.startswith("#")]


def test_the_lock_holds_every_pin_with_its_hashes():
    entries = re.split(r"\n(?=[a-zA-Z])", (ROOT / "requirements.lock").read_text())[1:]
    locked = dict(entry.split()[0].split("==") for entry in entries)
    for line in requirements():
        name, version = line.split("==")
        assert locked[name.lower().replace("_", "-")] == version, line
    assert all("--hash=sha256:" in entry for entry in entries)


def test_requirements_are_pinned_and_cover_what_is_imported():
    lines = requirements()
    assert all("==" in line for line in lines)
    pinned = {line.split("==")[0].lower().replace("-", "_") for line in lines}
    pinned |= {"openvino", "nncf", "ray"}  # heavy and rare: pinned with what the tests need
    names = {"yaml": "pyyaml", "umap": "umap_learn", "sklearn": "scikit_learn"}
    names |= {"onnx_ir": "onnxscript", "starlette": "streamlit"}  # their dependencies
    # users install trackers themselves: the tests replace them; flair requires transformers below 5
    own = {
        "flair",
        "prune_core",
        "pages",
        "app",
        "mlflow",
        "wandb",
        *sys.stdlib_module_names,
        "__future__",
    }
    used = {found.split(".")[0] for path in [*CORE, *PAGES] for found in imports(path)} - own
    assert {names.get(package, package) for package in used} <= pinned
