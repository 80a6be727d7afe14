"""Fixtures and settings for all tests: no network access, no access to the user's runs."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["NUMBA_DISABLE_JIT"] = "1"  # UMAP on a few points: compiling takes longer than running

from functools import cache
from importlib.metadata import version

import pytest
from streamlit.components.v2 import manifest_scanner

from prune_core.store.store import Store

if not version("transformers").startswith("4."):
    collect_ignore = ["test_every_family.py"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Use a separate, empty store for every test."""
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    # pages replace it by the user of their session; monkeypatch restores it after the test
    monkeypatch.setattr(Store, "current_user", Store.__dict__["current_user"])
    return tmp_path / "home"


@pytest.fixture(autouse=True, scope="session")
def streamlit_components():
    """Scan the installed packages for Streamlit components once, not in every run of a page.

    AppTest makes a new server each time, and the scan takes longer than most pages.
    """
    with pytest.MonkeyPatch.context() as patch:
        scan = cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


# files that take a minute or more, the longest first
LONGEST = (
    *("test_pages", "test_browser", "test_benchmarks", "test_shrink", "test_measures"),
    *("test_walks", "test_methods", "test_distil", "test_api", "test_recipes", "test_attacks"),
)


def pytest_collection_modifyitems(items):
    """Run the longest files first, so that no worker ends with one of them while others idle."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
