"""Fixtures and settings for all tests: no network access, no access to the user's runs."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["NUMBA_DISABLE_JIT"] = "1"  # UMAP on a few points: compiling takes longer than running

from importlib.metadata import version

import pytest

if not version("transformers").startswith("4."):
    collect_ignore = ["test_every_family.py"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Use a separate, empty store for every test."""
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


LONGEST = ("test_browser", "test_benchmarks", "test_walks")  # files that take minutes


def pytest_collection_modifyitems(items):
    """Run the longest files first, so that no worker ends with one of them while others idle."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
