"""The design's rules about who may import what, read from the sources."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "prune_core").rglob("*.py"))
PAGES = [*sorted((ROOT / "pages").glob("*.py")), ROOT / "app.py"]


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
        skipped = isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "__name__"))
        if not skipped and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node
            yield from _reached(node)


def uses(path: Path, *packages: str, only_top: bool = False) -> set[str]:
    return {found for found in imports(path, only_top) for package in packages if found == package or found.startswith(f"{package}.")}


def test_the_walk_sees_something():
    assert len(CORE) > 20 and len(PAGES) > 5


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_knows_no_streamlit_and_no_pages(path):
    assert not uses(path, "streamlit", "pages", "app")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_pages_import_no_models_no_sql_no_charts_library(path):
    assert not uses(path, "torch", "transformers", "textattack", "sqlite3", "plotly", "umap", "datasets")
    # what works on loaded models
    assert not uses(path, *(f"prune_core.{part}" for part in ("encoders", "layerwise", "predict", "attacks", "worker", "finetune")))


@pytest.mark.parametrize("path", CORE, ids=name)
def test_every_library_has_its_place(path):
    where = path.relative_to(ROOT / "prune_core")
    if where.name != "store.py":
        assert not uses(path, "sqlite3")
    if where.parts[0] != "plots":
        assert not uses(path, "plotly") or where.name == "plots.py"
    if where.parts[0] != "attacks":
        assert not uses(path, "textattack")


@pytest.mark.parametrize("path", [p for p in CORE if "attacks" not in p.parts], ids=name)
def test_heavy_imports_wait_for_the_function_that_needs_them(path):
    assert not uses(path, "transformers", "datasets", "textattack", "umap", only_top=True)


@pytest.mark.parametrize("module", ["store", "jobs", "tables", "commands", "cli", "plugins"])
def test_these_import_no_torch(module):
    """Followed through the package: what `python -m prune_core jobs` and every page pays."""
    seen, left = set(), {f"prune_core.{module}"}
    while left:
        current = left.pop()
        seen.add(current)
        path = ROOT / Path(*current.split(".")).with_suffix(".py")
        for found in imports(path, only_top=True) if path.is_file() else ():
            assert found.split(".")[0] != "torch", f"{current} imports torch"
            if found.startswith("prune_core.") and found not in seen:
                left.add(found)


def test_hugging_face_layouts_are_known_to_one_file():
    for path in CORE:
        if path.name != "encoders.py":
            text = path.read_text(encoding="utf-8")
            for word in ("attention.self", "intermediate.dense", "q_lin", "encoder.layer", "AutoModelForSequenceClassification"):
                assert word not in text, f"{name(path)} knows {word}"


def test_nobody_swallows_and_only_three_catch_everything():
    broad = []
    for path in [*CORE, *PAGES]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kind = ast.unparse(node.type) if node.type else "everything"
                assert not all(isinstance(line, ast.Pass) for line in node.body), f"{name(path)}:{node.lineno} swallows {kind}"
                if kind in ("Exception", "BaseException", "everything") and not isinstance(node.body[-1], ast.Raise):
                    broad.append(name(path))
    # the queue goes on when a job breaks, and an attack when one example does; both record what broke. Of searches that ask
    # together only the one whose text breaks the model hears of it
    assert broad == ["prune_core/attacks/engine.py", "prune_core/attacks/flight.py", "prune_core/worker.py"]


def test_requirements_are_pinned_and_cover_what_is_imported():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)
    pinned = {line.split("==")[0].lower().replace("-", "_") for line in lines}
    names = {"yaml": "pyyaml", "umap": "umap_learn", "sklearn": "scikit_learn"}
    # wordfreq is for building the table of word neighbours, which is in the repository
    own = {"prune_core", "pages", "app", "wordfreq", *sys.stdlib_module_names, "__future__"}
    used = {found.split(".")[0] for path in [*CORE, *PAGES] for found in imports(path)} - own
    assert {names.get(package, package) for package in used} <= pinned
