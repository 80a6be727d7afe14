"""Rules about imports and file sizes, checked on the source code."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "prune_core").rglob("*.py"))
PAGES = [*sorted((ROOT / "pages").rglob("*.py")), ROOT / "app.py"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, only_top: bool = False) -> frozenset[str]:
    """Dotted names of everything that a file imports; with `only_top`, outside functions only."""
    package = list(path.relative_to(ROOT).parts[:-1])
    names: set[str] = set()
    for node in _executed_on_import(tree(path)) if only_top else ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _executed_on_import(node: ast.AST):
    """Nodes outside functions, `if TYPE_CHECKING` and `if __name__ == "__main__"`."""
    for child in ast.iter_child_nodes(node):
        skipped = isinstance(child, ast.If) and any(
            word in ast.unparse(child.test) for word in ("TYPE_CHECKING", "__name__")
        )
        if skipped or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from _executed_on_import(child)


def uses(path: Path, *packages: str, only_top: bool = False) -> set[str]:
    """Modules of these packages that the file imports."""
    prefixes = tuple(f"{package}." for package in packages)
    return {
        imported
        for imported in imports(path, only_top)
        if imported in packages or imported.startswith(prefixes)
    }


def violations(paths, check) -> dict[str, set[str]]:
    """Files for which `check` returns something."""
    return {name(path): result for path in paths if (result := check(path))}


def test_files_are_found():
    assert len(CORE) > 100 and len(PAGES) > 30


# From the bottom up: a file imports only from its own folder and from folders before it. The table
# in docs/architecture.md has the same order.
ORDER = (
    "ground",
    "store",
    "data",
    "tasks",
    "models/families",
    "models",
    "models/checkpoints",
    "models/inference",
    "models/export",
    "models/candidates",
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
    "views",
    "deployment",
    "cli",
    "top",
)
TOP = ("__init__.py", "__main__.py", "api.py")  # public entry points: they may import anything


def folder(path: Path) -> str:
    relative = path.relative_to(ROOT / "prune_core")
    if len(relative.parts) > 1:
        return relative.parent.as_posix()
    return "top" if relative.name in TOP else "ground"


def target(module: str) -> str | None:
    """The folder of a module of the package by its dotted name; None for anything else."""
    path = ROOT / Path(*module.split("."))
    if not module.startswith("prune_core."):
        return None
    if path.is_dir():
        return path.relative_to(ROOT / "prune_core").as_posix()
    file = path.with_suffix(".py")
    return folder(file) if file.is_file() else None


def test_the_table_in_the_docs_lists_every_folder_in_import_order():
    assert {folder(path) for path in CORE} == set(ORDER)
    table = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([\w/]+)` \|", table, re.MULTILINE)
    assert rows == list(ORDER[1:-1])


def test_imports_point_downwards_only_also_for_types():
    def upward(path: Path) -> set[str]:
        allowed = (*ORDER[: ORDER.index(folder(path)) + 1], None)
        return {imported for imported in imports(path) if target(imported) not in allowed}

    assert not violations(CORE, upward)


def test_there_are_no_import_cycles():
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in CORE
        if folder(path) != "top" and path.name != "__init__.py"
    }
    imported = {
        module: {dependency for dependency in imports(path) if dependency in files} - {module}
        for module, path in files.items()
    }
    for module in imported:
        seen, queue = set(), set(imported[module])
        while queue:
            current = queue.pop()
            seen.add(current)
            queue |= imported[current] - seen
        assert module not in seen, f"{module} imports itself through other modules"


MAX_FILE, MAX_FUNCTION = 520, 86  # lines


def test_files_and_functions_are_short():
    def too_long(path: Path) -> set[str]:
        functions = {
            node.name
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= MAX_FUNCTION
        }
        is_long = path.read_text(encoding="utf-8").count("\n") > MAX_FILE
        return functions | ({"the file"} if is_long else set())

    assert not violations([*CORE, *PAGES], too_long)


def test_the_package_imports_neither_streamlit_nor_pages():
    assert not violations(CORE, lambda path: uses(path, "streamlit", "pages", "app"))


HEAVY = ("torch", "transformers", "textattack", "sqlite3", "plotly", "umap", "datasets")
USES_MODELS = (
    "models",
    "pruning",
    "attacks",
    "queue.worker",
    "experiments.run",
    "training.finetune",
    "api",
)
WITHOUT_MODELS = (
    "attacks.catalogue",
    "attacks.requirements",
    "attacks.changed_words",
    "models.checkpoints.folders",
)


def test_pages_import_no_models_no_sql_and_no_chart_library():
    packages = {"prune_core.attacks", "prune_core.models", "prune_core.models.checkpoints"}

    def heavy(path: Path) -> set[str]:
        modules = uses(path, *(f"prune_core.{part}" for part in USES_MODELS))
        light = uses(path, *(f"prune_core.{part}" for part in WITHOUT_MODELS)) | packages
        return uses(path, *HEAVY) | (modules - light)

    assert not violations(PAGES, heavy)


def test_libraries_are_imported_in_their_own_folder_only():
    folders = {"sqlite3": "store", "plotly": "plots", "textattack": "attacks"}

    def misplaced(path: Path) -> set[str]:
        top = path.relative_to(ROOT / "prune_core").parts[0]
        return {
            library for library, place in folders.items() if top != place and uses(path, library)
        }

    assert not violations(CORE, misplaced)


def test_heavy_libraries_are_imported_inside_functions():
    core = [path for path in CORE if "attacks" not in path.parts]
    heavy = ("transformers", "datasets", "textattack", "umap")
    assert not violations(core, lambda path: uses(path, *heavy, only_top=True))


@pytest.mark.parametrize(
    "module",
    [
        "",
        "store.store",
        "queue.jobs",
        "store.results",
        "store.tables",
        "cli.run_commands",
        "cli.arguments",
        "plugins",
    ],
)
def test_light_modules_import_no_torch(module):
    """Transitively: `python -m prune_core jobs` and every page import these."""
    seen, queue = set(), {f"prune_core.{module}".rstrip(".")}
    while queue:
        current = queue.pop()
        seen.add(current)
        path = ROOT / Path(*current.split(".")).with_suffix(".py")
        for imported in imports(path, only_top=True) if path.is_file() else ():
            assert imported.split(".")[0] != "torch", f"{current} imports torch"
            if imported.startswith("prune_core.") and imported not in seen:
                queue.add(imported)


def test_hugging_face_layouts_are_in_the_families_only():
    words = (
        "attention.self",
        "intermediate.dense",
        "q_lin",
        "encoder.layer",
        "AutoModelForSequenceClassification",
    )
    others = [p for p in CORE if "families" not in p.parts and p.name != "loading.py"]
    assert not violations(others, lambda p: {w for w in words if w in p.read_text("utf-8")})


def test_task_types_are_compared_by_name_in_their_package_only():
    """A new task type is a file in tasks/; other code asks it for what it needs."""
    names = {"classification", "multilabel", "token", "regression", "span"}

    def constants(node: ast.expr) -> set[object]:
        elements = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
        return {each.value for each in elements if isinstance(each, ast.Constant)}

    def compares(path: Path) -> set[str]:
        comparisons = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Compare))
        return {
            f"line {node.lineno}"
            for node in comparisons
            if any(constants(side) & names for side in (node.left, *node.comparators))
            and path.name != "middleware.py"  # a token of another kind
        }

    others = [path for path in [*CORE, *PAGES] if "tasks" not in path.parts]
    assert not violations(others, compares)


def test_conditional_expressions_are_not_nested():
    def nested(path: Path) -> set[str]:
        return {
            f"line {node.lineno}"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.IfExp)
            and any(isinstance(child, ast.IfExp) for child in ast.walk(node) if child is not node)
        }

    assert not violations([*CORE, *PAGES], nested)


def test_class_names_are_unique():
    names = [
        node.name
        for path in [*CORE, *PAGES]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    ]
    assert not {name for name in names if names.count(name) > 1}


def test_no_exception_is_ignored_and_only_four_files_catch_all():
    """The queue and a shard continue when a job fails, an attack when an example does.

    Both record the error. In the batch scheduler, an error goes to the search that caused it.
    """
    broad = []
    for path in [*CORE, *PAGES]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                ignored = all(isinstance(line, ast.Pass) for line in node.body)
                assert not ignored, f"{name(path)}:{node.lineno} ignores {caught}"
                words = set(re.findall(r"\w+", caught))
                is_broad = {"Exception", "BaseException", "everything"} & words
                if is_broad and not isinstance(node.body[-1], ast.Raise):
                    broad.append(name(path))
    assert broad == [
        f"prune_core/{path}.py"
        for path in ("attacks/engine", "attacks/scheduler", "distributed/shards", "queue/worker")
    ]


def requirements() -> list[str]:
    """Lines of both requirements files that `make app` installs."""
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
    pinned |= {"openvino", "nncf", "ray"}  # large and optional: pinned with the test requirements
    names = {"yaml": "pyyaml", "umap": "umap_learn", "sklearn": "scikit_learn"}
    # their dependencies
    names |= {"onnx_ir": "onnxscript", "starlette": "streamlit", "tokenizers": "transformers"}
    # users install trackers themselves: the tests replace them; flair requires transformers below 5
    excluded = {
        "flair",
        "prune_core",
        "pages",
        "app",
        "mlflow",
        "wandb",
        *sys.stdlib_module_names,
        "__future__",
    }
    used = {module.split(".")[0] for path in [*CORE, *PAGES] for module in imports(path)} - excluded
    assert {names.get(package, package) for package in used} <= pinned
