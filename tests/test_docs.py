"""What the documents promise: links lead somewhere, commands exist with these options, sizes hold, files they name are there."""

import re
import shlex
from pathlib import Path

import pytest

from prune_core.cli.arguments import build_parser

ROOT = Path(__file__).resolve().parent.parent
SINGLE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "assets/demo/README.md")
DOCUMENTS = [*(ROOT / name for name in SINGLE), *sorted((ROOT / "docs").glob("*.md"))]
ids = lambda path: str(path.relative_to(ROOT))  # noqa: E731


def anchors(path: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_bytes()) <= 9 * 1024


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_link_leads_somewhere(path):
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
def test_every_file_that_is_named_is_there(path):
    named = re.findall(
        r"`((?:prune_core|pages|tests|benchmarks|tools|assets|examples|docs|\.ci)/[\w./-]*)`",
        path.read_text(),
    )
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_command_is_understood(path):
    """By the program's own parser; benchmarks are looked for by file and option."""
    text = path.read_text().replace("\\\n", " ")
    for line in re.findall(r"python -m prune_core (?!\|)([^\n`]+)", text):
        line = line.split("  #")[0].split(" # ")[0].replace("…", "0.1")
        first, *others = [part.strip() for part in line.split(" | ")]
        for command in (first, *others):
            words = [word for word in shlex.split(command) if word not in ("…", "(")]
            if words and words[0].rstrip(":").isidentifier():
                check(words)
    for module, rest in re.findall(r"python -m (benchmarks\.\w+)([^\n`|]*)", text):
        place = ROOT / module.replace(".", "/")
        source = "".join(
            file.read_text()
            for file in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
        )
        for option in re.findall(r"--[\w-]+", rest):
            assert f'"{option}"' in source, f"{module} has no {option}"
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target


def check(words: list[str]) -> None:
    known = build_parser()
    try:
        known.parse_args(words)
    except (
        SystemExit
    ):  # a command that is only named lacks what it needs: its name must still be one
        if any(word.startswith("--") for word in words):
            pytest.fail(f"not understood: {' '.join(words)}")
        choices = next(action.choices for action in known._actions if action.choices)
        assert words[0] in choices, words
