"""What the package asks for and what is pinned: the ranges of pyproject.toml admit exactly the tested set. wheel.sh installs it."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from prune_core.errors import WITHOUT_DEPENDENCIES

ROOT = Path(__file__).resolve().parent.parent
TRACKERS = (
    "mlflow",
    "wandb",
)  # extras for people who have such a server; the tests have stand-ins, so nothing is pinned
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


EXTRAS = {
    name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in TRACKERS
}
WANTED = [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]


HEAVY = [
    "authlib",
    "nncf",
    "openvino",
    "ray",
]  # pinned with what the tests need, so that the dashboard installs without them


def pins() -> dict[str, str]:
    text = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-test.txt").read_text()
    found = {
        name.lower().replace("_", "-"): version
        for name, version in (line.split("==") for line in text.splitlines() if "==" in line)
    }
    return {name: found[name] for name in (*plain(), *HEAVY)}


def plain() -> list[str]:
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return [line.split("==")[0].lower().replace("_", "-") for line in lines]


def test_ranges_and_pins_are_of_the_same_packages():
    assert {Requirement(line).name.lower().replace("_", "-") for line in WANTED} == set(pins())


@pytest.mark.parametrize("line", WANTED)
def test_the_tested_version_is_within_the_range(line):
    wanted = Requirement(line)
    assert wanted.specifier.contains(pins()[wanted.name.lower().replace("_", "-")]), line


def test_the_message_for_a_missing_textattack_names_the_tested_version():
    assert WITHOUT_DEPENDENCIES["textattack"] in (ROOT / "requirements-no-deps.txt").read_text()
