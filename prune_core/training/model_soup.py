"""Averages the weights of fine-tunes of one encoder ("model soups"): candidates are measured, averages tried, the best one kept.

Wortsman et al. 2022, "Model soups"; AKR's robust dense model (Li et al. 2023, Algorithm 3) is the greedy soup by accuracy under
attack. Everything measured is remembered in the output folder, by the weights themselves, so that nothing is measured twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor, nn

from ..analysis.attack_success import under_attack
from ..attacks.catalogue import CATALOGUE
from ..data.examples import DataSource, Examples
from ..data.tasks import Task
from ..errors import PruneError
from ..measures.attack import Attack
from ..measures.base import Pair
from ..models import devices, replay
from ..models.checkpoints import loading, verification
from ..models.inference.predict import predict
from ..plugins import Options, Report, build, option, subrange
from ..statistics import wilson
from ..versions import versions
from .finetune import TrainingRecipe, finetune, read_card, validation_examples

RECORD = "soup.json"
SCORES = {
    "greedy-attack": "under_attack",
    "greedy-accuracy": "accuracy",
}  # what each greedy way goes by


@dataclass(frozen=True)
class SoupPlan(Options):
    """How candidates and averages are measured, and how the average is found."""

    name = "soup"
    way: str = option(
        "greedy-attack",
        "Greedy by accuracy under attack or by accuracy, or the uniform average of all",
        choices=(*SCORES, "uniform"),
    )
    allowed_loss: float = option(
        0.015,
        "Share of accuracy an average may lose against the most accurate candidate; 1 is Algorithm 3 as printed, which a "
        "model that always says the same wins, as no attack can flip it",
        low=0.0,
        high=1.0,
    )
    attack: str = option("TextFooler (MiniLM)", "The attack", choices=tuple(CATALOGUE))
    attack_examples: int = option(200, "Validation sentences to attack, drawn with the seed", low=1)
    examples: int = option(
        0, "Validation examples for the accuracy, drawn with the seed (0 = all)", low=0
    )
    query_budget: int = option(2000, "Most texts one attack may ask the model about", low=2)
    time_budget: float = option(60.0, "Longest time for one sentence", low=0.1, unit="s")
    max_changed: float = option(
        1.0, "Largest share of a sentence's words that the attack may change", low=0.01, high=1.0
    )
    precision: str = option("fp32", "Of the models under attack", choices=("fp32", "bf16"))
    max_length: int = option(128, "Tokens per example; longer texts are cut", low=4, high=512)
    seed: int = option(0, "Seed of the samples and the attacks", low=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps")


@dataclass(frozen=True)
class Candidate:
    """A fine-tuned checkpoint that may go into the average."""

    name: str
    checkpoint: str
    recipe: dict[str, Any]  # as finetune.json says; empty for a checkpoint made elsewhere

    @staticmethod
    def of(checkpoint: str, name: str = "") -> Candidate:
        """The checkpoint with what is known of how it was made."""
        return Candidate(
            name or Path(checkpoint).name, checkpoint, read_card(Path(checkpoint)).get("recipe", {})
        )


def read_recipes(
    file: Path, overrides: Mapping[str, Any], epochs_share: float = 1.0
) -> dict[str, TrainingRecipe]:
    """Recipes by name from a YAML list of fine-tuning options; `name` is optional. Overrides go over each, epochs are scaled."""
    try:
        found = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PruneError(f"{file} cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise PruneError(
            f"{file}: write a list of fine-tuning options, such as - {{learning_rate: 5e-5, seed: 1}}."
        )
    recipes = {}
    for number, entry in enumerate(found, start=1):
        name = str(entry.pop("name", f"{number:02}"))
        recipe = build({"finetune": TrainingRecipe}, "finetune", entry)
        scaled = {"epochs": max(1, round(recipe.epochs * epochs_share))}
        recipes[name] = build(
            {"finetune": TrainingRecipe}, "finetune", {**recipe.to_dict(), **scaled, **overrides}
        )
    return recipes


def make(
    recipes: Mapping[str, TrainingRecipe],
    source: DataSource,
    validation: DataSource,
    folder: Path,
    report: Report,
) -> list[Candidate]:
    """A fine-tune for each recipe in a folder of its own; finished ones are used again, a stopped one goes on."""
    for count, (name, recipe) in enumerate(recipes.items()):
        part = subrange(report, count / len(recipes), (count + 1) / len(recipes))

        def told(progress: float, message: str, part: Report = part, name: str = name) -> None:
            part(progress, f"fine-tune {name}: {message}")

        finetune(recipe, source, validation, folder=folder / name, report=told)
    return [Candidate.of(str(folder / name), name) for name in recipes]


def check(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The labels that all share; one that cannot be averaged with the first is a sentence that says why."""
    if len(candidates) < 2:
        raise PruneError(
            "An average needs two checkpoints or more; repeat --checkpoint, or give --recipes."
        )
    if len({candidate.name for candidate in candidates}) < len(candidates):
        raise PruneError(
            f"Two checkpoints have the same folder name ({', '.join(c.name for c in candidates)}); rename one."
        )
    first, *others = [(candidate.name, *_facts(candidate)) for candidate in candidates]
    for name, labels, words, shapes in others:
        if labels != first[1]:
            raise PruneError(
                f"{name} has the labels {', '.join(labels)} but {first[0]} has {', '.join(first[1])}, in that order."
            )
        if words != first[2]:
            raise PruneError(
                f"{name} and {first[0]} have different vocabularies, so their embeddings cannot be averaged."
            )
        if unlike := [
            key for key in {**first[3], **shapes} if shapes.get(key) != first[3].get(key)
        ]:
            raise PruneError(
                f"{name} and {first[0]} are not of one shape: {unlike[0]} is {shapes.get(unlike[0])} and "
                f"{first[3].get(unlike[0])}; average fine-tunes of one encoder."
            )
    return first[1]


def _facts(
    candidate: Candidate,
) -> tuple[tuple[str, ...], dict[str, int], dict[str, tuple[int, ...]]]:
    model: Any
    model, tokenizer = loading.load(candidate.checkpoint)
    if replay.task_type_of(model) != "classification":
        raise PruneError(
            f"{candidate.name} gives no labels; attacks, and so soups, are for classifiers."
        )
    verification.check(
        candidate.checkpoint,
        model,
        tokenizer,
        examples=verification.sample_examples("classification"),
        max_length=replay.max_tokens(model),
    )
    labels = loading.label_names(model.config)
    return (
        labels,
        tokenizer.get_vocab(),
        {key: tuple(value.shape) for key, value in model.state_dict().items()},
    )


@torch.no_grad()
def average(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the states' floating-point tensors, in fp32; other tensors are the first one's."""
    mean = lambda tensors: torch.stack([tensor.float() for tensor in tensors]).mean(0)  # noqa: E731
    return {
        key: mean([state[key] for state in states]) if value.is_floating_point() else value
        for key, value in states[0].items()
    }


def average_checkpoints(candidates: Sequence[Candidate]) -> tuple[nn.Module, Any]:
    """(model, tokenizer) of the mean of those checkpoints."""
    loaded = [loading.load(candidate.checkpoint) for candidate in candidates]
    model, tokenizer = loaded[0]
    model.load_state_dict(average([other.state_dict() for other, _ in loaded]))
    return model, tokenizer


class CandidateEvaluator:
    """Accuracy and accuracy under attack of models on one sample; what was measured is kept in a file, by weights and sample."""

    def __init__(self, plan: SoupPlan, labels: tuple[str, ...], examples: Examples, file: Path):
        self.plan, self.file = plan, file
        self.task = Task(
            "validation", labels, examples, evaluation=examples.sample(plan.examples, plan.seed)
        )
        self.attacked = Task(
            "validation",
            labels,
            examples,
            evaluation=examples.sample(plan.attack_examples, plan.seed),
        )
        self.known: dict[str, dict[str, Any]] = (
            json.loads(file.read_text()) if file.is_file() else {}
        )
        how = {
            key: value
            for key, value in plan.to_dict().items()
            if key not in ("way", "allowed_loss", "device")
        }
        if plan.max_changed == 1:
            del how["max_changed"]  # what was measured before there was such a limit is known still
        self.sample = json.dumps(
            [
                how,
                *(
                    [task.evaluation.texts, task.evaluation.labels]
                    for task in (self.task, self.attacked)
                ),
            ]
        )

    def __call__(self, model: nn.Module, tokenizer: Any, report: Report) -> dict[str, Any]:
        """accuracy and under_attack with their Wilson intervals and n, and each attacked sentence's outcome."""
        key = hashlib.sha256(self.sample.encode())
        for name, value in sorted(model.state_dict().items()):
            key.update(name.encode() + value.cpu().numpy().tobytes())
        if key.hexdigest() not in self.known:
            self.known[key.hexdigest()] = self._measured(model, tokenizer, report)
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(self.known))
            part.replace(self.file)
        return self.known[key.hexdigest()]

    def _measured(self, model: nn.Module, tokenizer: Any, report: Report) -> dict[str, Any]:
        plan, right = self.plan, self.task.evaluation.labels or []
        model.to(devices.pick_device(plan.device))
        said = predict(
            model, tokenizer, self.task.evaluation, batch_size=64, max_length=plan.max_length
        ).predicted
        hits = sum(a == b for a, b in zip(said, right, strict=True))
        low, high = wilson(hits, len(right))
        attack = Attack(
            recipes=plan.attack,
            examples=plan.attack_examples,
            word_examples=plan.attack_examples,
            query_budget=plan.query_budget,
            time_budget=plan.time_budget,
            precision=plan.precision,
            max_changed=plan.max_changed,
        )
        found = attack.measure(
            Pair(
                model,
                model,
                tokenizer,
                task=self.attacked,
                seed=plan.seed,
                max_length=plan.max_length,
            ),
            report,
        )
        attacked = found["attack"].iloc[0].to_dict()
        if attacked["errored"] == attacked["n"]:
            raise PruneError(
                f"No attack came to an end; the first said: {found['attack_example']['note'].iloc[0]}"
            )
        outcomes = (
            found["attack_example"][["example", "text", "outcome"]]
            .sort_values("example")
            .to_dict("list")
        )
        figures = {
            key: attacked[key] for key in ("under_attack", "under_attack_low", "under_attack_high")
        }
        return {
            "accuracy": hits / len(right),
            "accuracy_low": low,
            "accuracy_high": high,
            "n": len(right),
            **figures,
            "attack_n": int(attacked["n"]),
            "outcomes": outcomes,
        }


Figures = dict[str, Any]
Measure = Callable[[Sequence[Candidate], Report], Figures]


def ranking(found: Mapping[str, Figures], score: str, floor: float) -> list[str]:
    """Names, best first; what is too wrong to start from comes last, as it may still lift an average: robust fine-tunes do."""
    return sorted(found, key=lambda name: (found[name]["accuracy"] < floor, -found[name][score]))


def greedy(
    ranked: Sequence[Candidate], score: str, floor: float, measure: Measure, report: Report
) -> list[Figures]:
    """An attempt for each candidate, best first: it is taken where the average with it scores no less than the one without.

    An average less accurate than `floor` is never taken. A candidate that is left out does not end the search: later ones are
    still tried, as in Wortsman et al.'s Recipe 1.
    """
    taken: list[Candidate] = []
    attempts: list[Figures] = []
    best = float("-inf")
    for count, candidate in enumerate(ranked):
        figures = measure(
            [*taken, candidate], subrange(report, count / len(ranked), (count + 1) / len(ranked))
        )
        is_taken = figures[score] >= best and figures["accuracy"] >= floor
        attempts.append(
            {
                "ingredients": [c.name for c in (*taken, candidate)],
                "added": candidate.name,
                "taken": is_taken,
                **figures,
            }
        )
        if is_taken:
            taken, best = [*taken, candidate], figures[score]
    return attempts


def make_soup(
    plan: SoupPlan,
    candidates: Sequence[Candidate],
    validation: DataSource,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Measure, average, and write the checkpoint and its record to a folder named like the way; returns the record."""
    target = folder / plan.way
    if target.exists() and not (target / RECORD).is_file():
        raise PruneError(
            f"{target} is there already and is no soup; give another folder with --out."
        )
    labels = check(candidates)
    judge = CandidateEvaluator(
        plan,
        labels,
        validation_examples(validation, labels, "classification"),
        file=folder / "measurements.json",
    )
    folder.mkdir(parents=True, exist_ok=True)

    def measure(chosen: Sequence[Candidate], part: Report) -> Figures:
        names = " + ".join(candidate.name for candidate in chosen)
        figures = judge(
            *average_checkpoints(chosen),
            lambda progress, message: part(progress, f"{names}: {message}"),
        )
        part(
            1.0,
            f"{names}: accuracy {figures['accuracy']:.1%}, under attack {figures['under_attack']:.1%}",
        )
        return figures

    by_name = {candidate.name: candidate for candidate in candidates}
    count = len(candidates)
    alone = count / (
        count + 1 if plan.way == "uniform" else 2 * count - 1
    )  # the first greedy average is a candidate
    parts = [subrange(report, alone * i / count, alone * (i + 1) / count) for i in range(count)]
    found = {
        name: measure([candidate], part)
        for (name, candidate), part in zip(by_name.items(), parts, strict=True)
    }
    best = max(found, key=lambda name: found[name]["accuracy"])
    rest = subrange(report, alone, 1.0)
    if plan.way == "uniform":
        attempts = [
            {"ingredients": list(by_name), "added": "", "taken": True, **measure(candidates, rest)}
        ]
    else:
        score = SCORES[plan.way]
        floor = found[best]["accuracy"] - plan.allowed_loss
        attempts = greedy(
            [by_name[name] for name in ranking(found, score, floor)],
            score,
            floor,
            measure=measure,
            report=rest,
        )
    final = [attempt for attempt in attempts if attempt["taken"]][-1]
    versus = under_attack(*(pd.DataFrame(figures["outcomes"]) for figures in (found[best], final)))
    bare = lambda row: {key: value for key, value in row.items() if key != "outcomes"}  # noqa: E731
    record = {
        "plan": plan.to_dict(),
        "validation": asdict(validation),
        "versions": versions(),
        "ingredients": final["ingredients"],
        "candidates": [
            {**asdict(candidate), **bare(found[name])} for name, candidate in by_name.items()
        ],
        "attempts": [bare(attempt) for attempt in attempts],
        "most_accurate": best,
        "versus": versus._asdict() | {"difference": versus.difference},
    }
    _write(record, [by_name[name] for name in final["ingredients"]], target)
    return record


def _write(record: dict[str, Any], chosen: Sequence[Candidate], folder: Path) -> None:
    """An ordinary checkpoint with the record beside it; it appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as part:
        made = Path(part) / folder.name
        loading.save(*average_checkpoints(chosen), made)
        (made / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
