"""A robust start as a long command: fine-tunes, their averages, and the choice among them. Imports nothing heavy."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..errors import PruneError
from ..paths import ASSETS
from . import background

EXAMPLE = "demo"
STEP = 0.45  # seconds of a plain step of 32 sentences on two cores, for a model of the demo's size
FREELB = 3.3  # times as long
CHOICE = (
    "--set",
    "attack=DeepWordBug",
    "--set",
    "attack_examples=100",
    "--set",
    "max_changed=0.15",
    "--set",
    "allowed_loss=0.03",
)


class RobustPlan(NamedTuple):
    """What a person asks for."""

    checkpoint: str  # what the fine-tunes start from
    task: str  # known task or file to train on
    validation: str  # and to choose by
    plain: int = 2  # fine-tunes
    freelb: int = 2  # fine-tunes against small changes of the embeddings
    examples: int = 0  # training sentences each, 0 for all
    epochs: int = 1

    def recipes(self) -> Iterator[dict[str, Any]]:
        """One a fine-tune; they differ in seed and, by turns, in the learning rate, as averages live on difference."""
        for place in range(self.plain + self.freelb):
            hard = place >= self.plain
            name = f"freelb-{place - self.plain + 1}" if hard else f"plain-{place + 1}"
            recipe = {
                "name": name,
                "checkpoint": self.checkpoint,
                "learning_rate": (3e-5, 5e-5)[place % 2],
                "epochs": self.epochs,
            }
            yield (
                recipe
                | {"dropout": 0, "seed": place + 1, "examples": self.examples}
                | ({"adversarial": "freelb"} if hard else {})
            )

    def seconds(self) -> float:
        """About, on two cores."""
        steps = self.epochs * self.examples / 32
        return steps * STEP * (self.plain + FREELB * self.freelb) + 30.0 * (
            self.plain + self.freelb
        )


def start_training(home: Path, name: str, wish: RobustPlan) -> Path:
    """Start making it in a folder of its own, which the page then shows."""
    folder = home / name.strip()
    if not re.fullmatch(r"\w[\w .-]*", name.strip()):
        raise PruneError(
            f"The name {name!r} cannot be a folder's; use letters, digits, spaces, dots and dashes."
        )
    if folder.exists():
        raise PruneError(f"{name} is there already; give it another name.")
    if wish.plain + wish.freelb < 2:
        raise PruneError("An average needs two fine-tunes or more.")
    folder.mkdir(parents=True)
    # the command works in its own folder, where a relative path would mean another file
    places = [
        str(Path(each).expanduser().resolve()) if Path(each).expanduser().exists() else each
        for each in wish[:3]
    ]
    wish = wish._replace(checkpoint=places[0], task=places[1], validation=places[2])
    (folder / "recipes.yaml").write_text(yaml.safe_dump(list(wish.recipes())))
    background.start(
        folder, _command(folder, folder / "recipes.yaml", wish.task, validation=wish.validation)
    )
    return folder


def start_example(home: Path) -> Path:
    """The bundled one: the demo encoder goes on with 2,000 sentences; its calibration sentences, which judge nothing else, choose."""
    folder = home / EXAMPLE
    folder.mkdir(parents=True, exist_ok=True)
    choosing = folder / "choose.csv"
    with (ASSETS / "demo" / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            (row["text"], row["label"])
            for row in csv.DictReader(file)
            if row["split"] == "calibration"
        ]
    with choosing.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    recipes = ASSETS / "soups" / "demo.yaml"
    background.start(
        folder,
        [
            *_command(
                folder, recipes, str(ASSETS / "demo" / "phrases.csv"), validation=str(choosing)
            ),
            "--checkpoint",
            "demo",
        ],
    )
    return folder


def _command(folder: Path, recipes: Path, task: str, validation: str) -> list[str]:
    return [
        "soup",
        "--recipes",
        str(recipes),
        "--task",
        task,
        "--validation",
        validation,
        "--out",
        str(folder),
        *CHOICE,
    ]


def running(home: Path) -> Mapping[str, background.CommandState]:
    """The robust starts under this folder that are not done, by name."""
    found = {
        file.parent.name: background.state(file.parent)
        for file in sorted(home.glob(f"*/{background.COMMAND}"))
    }
    return {name: state for name, state in found.items() if state and state.status != "done"}
