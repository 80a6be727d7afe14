"""Requirements: the ranges in pyproject.toml admit exactly the pinned, tested versions.

wheel.sh tests the installation.
"""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from prune_core.errors import WITHOUT_DEPENDENCIES

ROOT = Path(__file__).resolve().parent.parent
# extras for users who have such a server; tests use fakes, so they are not pinned
TRACKERS = ("mlflow", "wandb")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


EXTRAS = {
    name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in TRACKERS
}
REQUIREMENTS = [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]
# pinned with the test requirements, so that the dashboard installs without them
HEAVY = ["authlib", "nncf", "openvino", "ray"]


def pins() -> dict[str, str]:
    text = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-test.txt").read_text()
    versions = {
        name.lower().replace("_", "-"): version
        for name, version in (line.split("==") for line in text.splitlines() if "==" in line)
    }
    return {name: versions[name] for name in (*required_names(), *HEAVY)}


def required_names() -> list[str]:
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return [line.split("==")[0].lower().replace("_", "-") for line in lines]


def test_ranges_and_pins_name_the_same_packages():
    names = {Requirement(line).name.lower().replace("_", "-") for line in REQUIREMENTS}
    assert names == set(pins())


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_the_tested_version_is_within_the_range(line):
    requirement = Requirement(line)
    version = pins()[requirement.name.lower().replace("_", "-")]
    assert requirement.specifier.contains(version), line


def test_the_message_for_a_missing_textattack_names_the_tested_version():
    assert WITHOUT_DEPENDENCIES["textattack"] in (ROOT / "requirements-no-deps.txt").read_text()
