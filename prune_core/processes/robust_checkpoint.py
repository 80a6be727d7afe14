"""Training of a robust checkpoint as a background command: fine-tunes, model soups, selection.

Light imports only.
"""

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
STEP = 0.45  # seconds per plain step of 32 examples on two cores, for a model of the demo's size
FREELB = 3.3  # relative duration of a FreeLB step
CHOICE = (
    *("--set", "attack=DeepWordBug"),
    *("--set", "attack_examples=100"),
    *("--set", "max_changed=0.15"),
    *("--set", "allowed_loss=0.03"),
)


class RobustPlan(NamedTuple):
    """Settings of a robust checkpoint."""

    checkpoint: str  # initial checkpoint of the fine-tunes
    task: str  # known task or file to train on
    validation: str  # known task or file for the selection
    plain: int = 2  # number of plain fine-tunes
    freelb: int = 2  # number of fine-tunes with FreeLB (adversarial embedding perturbations)
    examples: int = 0  # training examples of each, 0 for all
    epochs: int = 1

    def recipes(self) -> Iterator[dict[str, Any]]:
        """Yield one recipe per fine-tune.

        They differ in seed and alternate in learning rate, because averaging needs diversity.
        """
        for index in range(self.plain + self.freelb):
            is_freelb = index >= self.plain
            yield {
                "name": f"freelb-{index - self.plain + 1}" if is_freelb else f"plain-{index + 1}",
                "checkpoint": self.checkpoint,
                "learning_rate": (3e-5, 5e-5)[index % 2],
                "epochs": self.epochs,
                "dropout": 0,
                "seed": index + 1,
                "examples": self.examples,
                **({"adversarial": "freelb"} if is_freelb else {}),
            }

    def seconds(self) -> float:
        """Estimate the training time on two cores."""
        steps = self.epochs * self.examples / 32
        return steps * STEP * (self.plain + FREELB * self.freelb) + 30.0 * (
            self.plain + self.freelb
        )


def start_training(home: Path, name: str, plan: RobustPlan) -> Path:
    """Start the training in a new folder below `home`, which is returned."""
    folder = home / name.strip()
    if not re.fullmatch(r"\w[\w .-]*", name.strip()):
        raise PruneError(
            f"{name!r} cannot be the name of a folder; use letters, digits, spaces, dots and "
            "dashes."
        )
    if folder.exists():
        raise PruneError(f"{name} exists already; choose another name.")
    if plan.plain + plan.freelb < 2:
        raise PruneError(
            f"{plan.plain + plan.freelb} fine-tunes cannot be averaged; choose at least two."
        )
    folder.mkdir(parents=True)
    # the command runs in that folder, where a relative path would point to another file
    paths = [
        str(Path(path).expanduser().resolve()) if Path(path).expanduser().exists() else path
        for path in plan[:3]
    ]
    plan = plan._replace(checkpoint=paths[0], task=paths[1], validation=paths[2])
    (folder / "recipes.yaml").write_text(yaml.safe_dump(list(plan.recipes())))
    background.start(
        folder, _command(folder, folder / "recipes.yaml", plan.task, validation=plan.validation)
    )
    return folder


def start_example(home: Path) -> Path:
    """Start the bundled example: fine-tune the demo encoder on 2,000 more texts.

    Its calibration texts, which are not used for evaluation, select the checkpoint.
    """
    folder = home / EXAMPLE
    folder.mkdir(parents=True, exist_ok=True)
    validation = folder / "choose.csv"
    with (ASSETS / "demo" / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            (row["text"], row["label"])
            for row in csv.DictReader(file)
            if row["split"] == "calibration"
        ]
    with validation.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    recipes = ASSETS / "soups" / "demo.yaml"
    command = _command(
        folder, recipes, str(ASSETS / "demo" / "phrases.csv"), validation=str(validation)
    )
    background.start(folder, [*command, "--checkpoint", "demo"])
    return folder


def _command(folder: Path, recipes: Path, task: str, validation: str) -> list[str]:
    return [
        "soup",
        *("--recipes", str(recipes)),
        *("--task", task),
        *("--validation", validation),
        *("--out", str(folder)),
        *CHOICE,
    ]


def running(home: Path) -> Mapping[str, background.CommandState]:
    """Return the robust checkpoints under this folder that are not finished, by name."""
    states = {
        file.parent.name: background.state(file.parent)
        for file in sorted(home.glob(f"*/{background.COMMAND}"))
    }
    return {name: state for name, state in states.items() if state and state.status != "done"}
