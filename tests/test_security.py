"""Untrusted input: paths, compressed files, a checkpoint's own code, spreadsheet formulas."""

import gzip
import json
import os
import zipfile

import pandas as pd
import pytest
import tiny

from pages.widgets import ui
from prune_core import PruneError, paths
from prune_core.data import tables
from prune_core.models.checkpoints import loading


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A configured root with links that lead out of it, next to a forbidden folder."""
    inside, outside = tmp_path / "data", tmp_path / "secret"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "rows.csv").write_text(
            "text,label\nA fine film.,positive\nA bad film.,negative\n"
        )
    (inside / "link.csv").symlink_to(outside / "rows.csv")
    (inside / "linked").symlink_to(outside)
    os.mkfifo(inside / "pipe.csv")
    monkeypatch.setenv(paths.ROOTS, str(inside))
    return inside


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../secret/rows.csv",
        "{root}/link.csv",
        "{root}/linked/rows.csv",
        "{root}/linked",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/root/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "{root}/pipe.csv",
        "{root}/../secret",
        "/",
        "~",
    ],
)
def test_no_path_leads_out_of_the_configured_roots(path, root):
    formatted = path.format(root=root)
    for function in (tables.read, loading.load, paths.resolve_allowed):
        with pytest.raises(PruneError, match="not below|not a data file or folder"):
            function(formatted)


def test_paths_below_the_roots_and_in_the_project_are_allowed(root):
    assert len(tables.read(str(root / "rows.csv")).rows) == 2
    assert paths.resolve_allowed(paths.ASSETS / "demo").is_dir()
    with pytest.raises(PruneError, match="no such"):
        loading.load(str(root / "none"))


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/dev/zero"])
def test_system_files_are_refused_without_roots_too(path):
    with pytest.raises(PruneError, match="not a data file or folder"):
        tables.read(path)


def test_a_small_file_with_large_content_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_BYTES", 10_000)
    zeros = b"text,label\n" + b"0" * 20_000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(zeros))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.csv", zeros)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/workbook.xml", zeros)
    pd.DataFrame({"text": ["a" * 20_000] * 3}).to_parquet(
        tmp_path / "a.parquet", compression="gzip"
    )
    for name in ("a.csv.gz", "a.zip", "a.xlsx", "a.parquet"):
        with pytest.raises(PruneError, match="uncompressed; take a sample"):
            tables.read(str(tmp_path / name))
    monkeypatch.undo()
    monkeypatch.setattr(tables, "MAX_ROWS", 10)
    (tmp_path / "b.csv").write_text("text,label\n" + "A film.,1\n" * 20)
    with pytest.raises(PruneError, match="20 rows; take a sample"):
        tables.read(str(tmp_path / "b.csv"))


def test_custom_code_of_a_checkpoint_is_refused_by_name(tmp_path):
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "configuration_mine.MyConfig",
        "AutoModel": "modeling_mine.MyModel",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling_mine.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    )
    with pytest.raises(PruneError, match=r"configuration_mine, modeling_mine\.py.*never runs"):
        loading.load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_formulas_are_escaped_in_csv_files():
    frame = pd.DataFrame(
        {
            "text": ["=HYPERLINK(1)", "+1", "@x", "-2+3", "fine", "\t=1"],
            "value": [-1.5, 2, 3, 4, 5, 6],
            "=name": ["a"] * 6,
        }
    )
    lines = ui.csv(frame).splitlines()
    assert lines[0] == "text,value,'=name" and lines[1] == "'=HYPERLINK(1),-1.5,a"
    assert [line[:2] for line in lines[2:5]] == ["'+", "'@", "'-"] and lines[5].startswith("fine")
