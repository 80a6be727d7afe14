"""No test touches the network or the user's runs."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A store of its own for every test."""
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# The suite but for attacks and what never meets a model, for an environment in which TextAttack cannot be: its taggers hold
# transformers below 5.
WITHOUT_ATTACKS = os.environ.get("PRUNESCOPE_TESTS") == "without-attacks"
NEED_ATTACKS = (
    "attacks",
    "attack_engine",
    "catalogue",
    "validity",
    "browser",
    "walks",
    "package",
    "shards",
)
# Of the queue, the store, logins, solvers, statistics, charts and documents, none of which transformers has a part in: once is enough.
SAME_ON_BOTH = (
    "access",
    "architecture",
    "deploy",
    "docs",
    "jobs",
    "label_order",
    "labels",
    "login",
    "papers",
    "plots",
    "safekeeping",
    "seeds",
    "serve",
    "solvers",
    "store",
    "tradeoff",
    "whatif",
)
OLDER_HUB = (
    "hub_stops",
)  # its server answers as huggingface_hub 0 asks, which comes with transformers 4
collect_ignore = (
    [f"test_{name}.py" for name in (*NEED_ATTACKS, *SAME_ON_BOTH, *OLDER_HUB)]
    if WITHOUT_ATTACKS
    else []
)
LONGEST = ("test_browser", "test_benchmarks", "test_walks")  # files that take minutes


def pytest_collection_modifyitems(items):
    """Tests marked `attacks`, and those of the measure of that name, are left out there, and nowhere else; the longest files come first."""
    if WITHOUT_ATTACKS:
        items[:] = [
            item
            for item in items
            if item.get_closest_marker("attacks") is None and "[attack]" not in item.name
        ]
    items.sort(
        key=lambda item: item.path.stem not in LONGEST
    )  # first, so that no process is left with them while the other is idle
