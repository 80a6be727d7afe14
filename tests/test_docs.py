"""Documentation: links, commands with their options, file names and sizes are valid."""

import re
import shlex
from pathlib import Path

import pytest

from prune_core.cli.arguments import build_parser

ROOT = Path(__file__).resolve().parent.parent
SINGLE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "assets/demo/README.md")
DOCUMENTS = [*(ROOT / name for name in SINGLE), *sorted((ROOT / "docs").glob("*.md"))]


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings as GitHub generates them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


def test_readme_fits_on_one_page():
    assert len((ROOT / "README.md").read_bytes()) <= 9 * 1024


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_links_are_valid(path):
    text = path.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|srcset)=\"([^\"]+)\"", text)
    for link in links:
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_named_files_exist(path):
    names = re.findall(
        r"`((?:prune_core|pages|tests|benchmarks|tools|assets|examples|docs|\.ci)/[\w./-]*)`",
        path.read_text(),
    )
    for name in names:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_commands_are_valid(path):
    """Check commands with the program's parser, and benchmarks by file and option."""
    text = path.read_text().replace("\\\n", " ")
    for line in re.findall(r"python -m prune_core (?!\|)([^\n`]+)", text):
        line = line.split("  #")[0].split(" # ")[0].replace("…", "0.1")
        first, *others = [part.strip() for part in line.split(" | ")]
        for command in (first, *others):
            words = [word for word in shlex.split(command) if word not in ("…", "(")]
            if words and words[0].rstrip(":").isidentifier():
                check_command(words)
    for module, rest in re.findall(r"python -m (benchmarks\.\w+)([^\n`|]*)", text):
        location = ROOT / module.replace(".", "/")
        source = "".join(
            file.read_text()
            for file in (
                location.rglob("*.py") if location.is_dir() else [location.with_suffix(".py")]
            )
        )
        for option in re.findall(r"--[\w-]+", rest):
            assert f'"{option}"' in source, f"{module} has no {option}"
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target


def check_command(words: list[str]) -> None:
    command_parser = build_parser()
    try:
        command_parser.parse_args(words)
    except SystemExit:
        # a command that is only mentioned may lack its arguments, but its name must exist
        if any(word.startswith("--") for word in words):
            pytest.fail(f"invalid command: {' '.join(words)}")
        choices = next(action.choices for action in command_parser._actions if action.choices)
        assert words[0] in choices, words
