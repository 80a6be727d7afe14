"""Model soups: average the weights of fine-tunes of one encoder, and select the best average.

Wortsman et al. 2022, "Model soups"; AKR's robust dense model (Li et al. 2023, Algorithm 3) is the
greedy soup by accuracy under attack. All measurements are cached in the output folder by the hash
of the weights, so that nothing is measured twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml
from torch import Tensor, nn

from ..analysis.attack_success import under_attack
from ..attacks.catalogue import CATALOGUE
from ..data.examples import DataSource, Examples
from ..errors import PruneError
from ..measures.attack import Attack
from ..measures.base import Pair
from ..models import devices, replay
from ..models.checkpoints import loading, verification
from ..models.inference.predict import predict
from ..plugins import Options, Report, build, option, subrange
from ..statistics import wilson
from ..tasks.task_data import Task
from ..versions import versions
from .finetune import TrainingRecipe, finetune, read_card, validation_examples

RECORD = "soup.json"
SCORES = {"greedy-attack": "under_attack", "greedy-accuracy": "accuracy"}  # of greedy selection


@dataclass(frozen=True)
class SoupPlan(Options):
    """How candidates and averages are measured, and how the soup is selected."""

    name = "soup"
    way: str = option(
        "greedy-attack",
        "Greedy by accuracy under attack, greedy by accuracy, or uniform average of all",
        choices=(*SCORES, "uniform"),
    )
    allowed_loss: float = option(
        0.015,
        "Accuracy that an average may lose compared with the most accurate candidate; 1 is "
        "Algorithm 3 as printed, for which a constant model is optimal, as no attack succeeds on "
        "it",
        low=0.0,
        high=1.0,
    )
    attack: str = option("TextFooler (MiniLM)", "Attack", choices=tuple(CATALOGUE))
    attack_examples: int = option(
        200, "Validation examples to attack, sampled with the seed", low=1
    )
    examples: int = option(
        0, "Validation examples for the accuracy, sampled with the seed (0 = all)", low=0
    )
    query_budget: int = option(2000, "Maximum number of queries per attacked example", low=2)
    time_budget: float = option(60.0, "Maximum time per attacked example", low=0.1, unit="s")
    max_changed: float = option(
        1.0, "Maximum fraction of words that the attack may change", low=0.01, high=1.0
    )
    precision: str = option(
        "fp32", "Precision of the models under attack", choices=("fp32", "bf16")
    )
    max_length: int = option(128, "Tokens per example; longer texts are truncated", low=4, high=512)
    seed: int = option(0, "Seed of the samples and the attacks", low=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps")


@dataclass(frozen=True)
class Candidate:
    """A fine-tuned checkpoint that may become part of the soup."""

    name: str
    checkpoint: str
    recipe: dict[str, Any]  # from finetune.json; empty for a checkpoint of another tool

    @staticmethod
    def of(checkpoint: str, name: str = "") -> Candidate:
        """Create from a checkpoint, with its recipe if known."""
        path = Path(checkpoint)
        return Candidate(name or path.name, checkpoint, read_card(path).get("recipe", {}))


def read_recipes(
    file: Path, overrides: Mapping[str, Any], epochs_scale: float = 1.0
) -> dict[str, TrainingRecipe]:
    """Read recipes by name from a YAML list of fine-tuning options; `name` is optional.

    `overrides` replace options of every recipe; epochs are multiplied by `epochs_scale`.
    """
    try:
        entries = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PruneError(f"{file} cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PruneError(
            f"{file} is not a list of fine-tuning options; write one, such as "
            "- {learning_rate: 5e-5, seed: 1}."
        )
    recipes = {}
    for number, entry in enumerate(entries, start=1):
        name = str(entry.pop("name", f"{number:02}"))
        recipe = build({"finetune": TrainingRecipe}, "finetune", entry)
        recipes[name] = build(
            {"finetune": TrainingRecipe},
            "finetune",
            {
                **recipe.to_dict(),
                "epochs": max(1, round(recipe.epochs * epochs_scale)),
                **overrides,
            },
        )
    return recipes


def prefixed(report: Report, prefix: str) -> Report:
    """A report whose messages start with a prefix."""
    return lambda progress, message: report(progress, f"{prefix}: {message}")


def fine_tune_candidates(
    recipes: Mapping[str, TrainingRecipe],
    source: DataSource,
    validation: DataSource,
    folder: Path,
    report: Report,
) -> list[Candidate]:
    """Fine-tune for each recipe in its own folder.

    Finished runs are reused, interrupted ones are resumed.
    """
    for index, (name, recipe) in enumerate(recipes.items()):
        recipe_report = subrange(report, index / len(recipes), (index + 1) / len(recipes))
        finetune(
            recipe,
            source,
            validation,
            folder=folder / name,
            report=prefixed(recipe_report, f"fine-tune {name}"),
        )
    return [Candidate.of(str(folder / name), name) for name in recipes]


def check_compatible(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Return the labels that all candidates share.

    PruneError if there are fewer than two, two have the same name, or one cannot be averaged with
    the first: labels, vocabulary and shapes must be equal.
    """
    if len(candidates) < 2:
        raise PruneError(
            "A soup needs at least two checkpoints; repeat --checkpoint, or give --recipes."
        )
    if len({candidate.name for candidate in candidates}) < len(candidates):
        raise PruneError(
            "Two checkpoints have the same folder name "
            f"({', '.join(candidate.name for candidate in candidates)}); rename one."
        )
    first, *others = [_compatibility(candidate) for candidate in candidates]
    for other in others:
        _check_pair(first, other)
    return first.labels


class _Compatibility(NamedTuple):
    """Properties in which averaged checkpoints must agree."""

    name: str
    labels: tuple[str, ...]
    vocabulary: dict[str, int]
    shapes: dict[str, tuple[int, ...]]


def _check_pair(first: _Compatibility, other: _Compatibility) -> None:
    if other.labels != first.labels:
        raise PruneError(
            f"{other.name} has the labels {', '.join(other.labels)} but {first.name} has "
            f"{', '.join(first.labels)}, in that order; average fine-tunes with equal labels."
        )
    if other.vocabulary != first.vocabulary:
        raise PruneError(
            f"{other.name} and {first.name} have different vocabularies, so their embeddings "
            "cannot be averaged; average fine-tunes of one encoder."
        )
    for name in {**first.shapes, **other.shapes}:
        expected, shape = first.shapes.get(name), other.shapes.get(name)
        if shape != expected:
            raise PruneError(
                f"{other.name} and {first.name} have different shapes: {name} is {shape} and "
                f"{expected}; average fine-tunes of one encoder."
            )


def _compatibility(candidate: Candidate) -> _Compatibility:
    """Load and verify a checkpoint; PruneError if it is not a classifier."""
    model: Any
    model, tokenizer = loading.load(candidate.checkpoint)
    if not replay.task_type_of(model).attackable:
        raise PruneError(
            f"{candidate.name} is not a classifier; attacks, and so soups, need classifiers: "
            "leave it out."
        )
    verification.check(
        candidate.checkpoint,
        model,
        tokenizer,
        examples=verification.sample_examples("classification"),
        max_length=replay.max_tokens(model),
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return _Compatibility(
        candidate.name, loading.label_names(model.config), tokenizer.get_vocab(), shapes
    )


@torch.no_grad()
def average(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average floating-point tensors in fp32; other tensors are taken from the first state."""
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


def average_checkpoints(candidates: Sequence[Candidate]) -> tuple[nn.Module, Any]:
    """Return (model, tokenizer) with the mean weights of the checkpoints."""
    loaded = [loading.load(candidate.checkpoint) for candidate in candidates]
    model, tokenizer = loaded[0]
    model.load_state_dict(average([other.state_dict() for other, _ in loaded]))
    return model, tokenizer


class CandidateEvaluator:
    """Measure accuracy and accuracy under attack on one sample; results are cached in a file.

    The cache key is a hash of the weights and the sample.
    """

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
        settings = {
            key: value
            for key, value in plan.to_dict().items()
            if key not in ("way", "allowed_loss", "device")
        }
        if plan.max_changed == 1:
            del settings["max_changed"]  # compatible with caches from before this option
        samples = [
            [task.evaluation.texts, task.evaluation.labels] for task in (self.task, self.attacked)
        ]
        self.sample = json.dumps([settings, *samples])

    def __call__(self, model: nn.Module, tokenizer: Any, report: Report) -> dict[str, Any]:
        """Return `accuracy` and `under_attack` with Wilson intervals and n.

        `outcomes` has a list per column: index, text and outcome of each attacked example.
        """
        digest = hashlib.sha256(self.sample.encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        key = digest.hexdigest()
        if key not in self.known:
            self.known[key] = self._measure(model, tokenizer, report)
            partial_file = self.file.with_suffix(".part")
            partial_file.write_text(json.dumps(self.known))
            partial_file.replace(self.file)
        return self.known[key]

    def _measure(self, model: nn.Module, tokenizer: Any, report: Report) -> dict[str, Any]:
        """Measure a model whose results are not cached."""
        plan, labels = self.plan, self.task.evaluation.labels or []
        model.to(devices.pick_device(plan.device))
        predictions = predict(
            model, tokenizer, self.task.evaluation, batch_size=64, max_length=plan.max_length
        ).predicted
        correct = sum(
            prediction == label for prediction, label in zip(predictions, labels, strict=True)
        )
        low, high = wilson(correct, len(labels))
        return {
            "accuracy": correct / len(labels),
            "accuracy_low": low,
            "accuracy_high": high,
            "n": len(labels),
            **self._attack(model, tokenizer, report),
        }

    def _attack(self, model: nn.Module, tokenizer: Any, report: Report) -> dict[str, Any]:
        """Attack a model; PruneError if every attack fails with an error."""
        plan = self.plan
        attack = Attack(
            recipes=plan.attack,
            examples=plan.attack_examples,
            word_examples=plan.attack_examples,
            query_budget=plan.query_budget,
            time_budget=plan.time_budget,
            precision=plan.precision,
            max_changed=plan.max_changed,
        )
        pair = Pair(
            model,
            model,
            tokenizer,
            task=self.attacked,
            seed=plan.seed,
            max_length=plan.max_length,
        )
        tables = attack.measure(pair, report)
        attacked, per_example = tables["attack"].iloc[0].to_dict(), tables["attack_example"]
        if attacked["errored"] == attacked["n"]:
            raise PruneError(f"Every attack failed; first error: {per_example['note'].iloc[0]}")
        outcomes = per_example[["example", "text", "outcome"]].sort_values("example")
        columns = ("under_attack", "under_attack_low", "under_attack_high")
        return {
            **{column: attacked[column] for column in columns},
            "attack_n": int(attacked["n"]),
            "outcomes": outcomes.to_dict("list"),
        }


Measurements = dict[str, Any]  # as CandidateEvaluator returns them
# candidates -> measurements of their average
Measure = Callable[[Sequence[Candidate], Report], Measurements]


def ranking(measurements: Mapping[str, Measurements], score: str, floor: float) -> list[str]:
    """Names of candidates, best score first; those less accurate than `floor` come last.

    They may still improve an average: robust fine-tunes do.
    """
    return sorted(
        measurements,
        key=lambda name: (measurements[name]["accuracy"] < floor, -measurements[name][score]),
    )


def greedy(
    ranked: Sequence[Candidate], score: str, floor: float, measure: Measure, report: Report
) -> list[Measurements]:
    """Try candidates in order; each is added if the average's score does not decrease.

    Returns an attempt per candidate. An average less accurate than `floor` is never accepted. A
    rejected candidate does not end the search, as in Wortsman et al.'s Recipe 1.
    """
    ingredients: list[Candidate] = []
    attempts: list[Measurements] = []
    best = float("-inf")
    for index, candidate in enumerate(ranked):
        measured = measure(
            [*ingredients, candidate],
            subrange(report, index / len(ranked), (index + 1) / len(ranked)),
        )
        is_accepted = measured[score] >= best and measured["accuracy"] >= floor
        attempts.append(
            {
                "ingredients": [ingredient.name for ingredient in (*ingredients, candidate)],
                "added": candidate.name,
                "taken": is_accepted,
                **measured,
            }
        )
        if is_accepted:
            ingredients, best = [*ingredients, candidate], measured[score]
    return attempts


def make_soup(
    plan: SoupPlan,
    candidates: Sequence[Candidate],
    validation: DataSource,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Measure, average, and write checkpoint and record to a folder named after `plan.way`.

    Returns the record, the content of soup.json. PruneError if the candidates cannot be averaged,
    or the folder has other content.
    """
    target = folder / plan.way
    if target.exists() and not (target / RECORD).is_file():
        raise PruneError(
            f"{target} already exists and is not a soup; give another folder with --out."
        )
    labels = check_compatible(candidates)
    evaluate = CandidateEvaluator(
        plan,
        labels,
        validation_examples(validation, labels, "classification"),
        file=folder / "measurements.json",
    )
    folder.mkdir(parents=True, exist_ok=True)
    by_name = {candidate.name: candidate for candidate in candidates}
    count = len(candidates)
    # the first greedy average is a candidate, which is not measured again
    averages = 1 if plan.way == "uniform" else count - 1
    single_fraction = count / (count + averages)  # of the progress
    measure = partial(_measure_average, evaluate)
    measurements = {
        name: measure(
            [candidate],
            subrange(report, single_fraction * i / count, single_fraction * (i + 1) / count),
        )
        for i, (name, candidate) in enumerate(by_name.items())
    }
    attempts = _attempts(
        plan, by_name, measurements, measure, report=subrange(report, single_fraction, 1.0)
    )
    final = [attempt for attempt in attempts if attempt["taken"]][-1]
    record = {
        "plan": plan.to_dict(),
        "validation": asdict(validation),
        "versions": versions(),
        **_results(by_name, measurements, attempts, final),
    }
    _write(record, [by_name[name] for name in final["ingredients"]], target)
    return record


def _measure_average(
    evaluate: CandidateEvaluator, chosen: Sequence[Candidate], report: Report
) -> Measurements:
    """Measure the average of candidates, and report accuracy and accuracy under attack."""
    names = " + ".join(candidate.name for candidate in chosen)
    measured = evaluate(*average_checkpoints(chosen), prefixed(report, names))
    report(
        1.0,
        f"{names}: accuracy {measured['accuracy']:.1%}, under attack "
        f"{measured['under_attack']:.1%}",
    )
    return measured


def _most_accurate(measurements: Mapping[str, Measurements]) -> str:
    """Name of the most accurate candidate."""
    return max(measurements, key=lambda name: measurements[name]["accuracy"])


def _attempts(
    plan: SoupPlan,
    by_name: Mapping[str, Candidate],
    measurements: Mapping[str, Measurements],
    measure: Measure,
    report: Report,
) -> list[Measurements]:
    """Measurements of every average that is tried, with `ingredients`, `added` and `taken`."""
    if plan.way == "uniform":
        measured = measure(list(by_name.values()), report)
        return [{"ingredients": list(by_name), "added": "", "taken": True, **measured}]
    score = SCORES[plan.way]
    floor = measurements[_most_accurate(measurements)]["accuracy"] - plan.allowed_loss
    ranked = [by_name[name] for name in ranking(measurements, score, floor)]
    return greedy(ranked, score, floor, measure=measure, report=report)


def _results(
    by_name: Mapping[str, Candidate],
    measurements: Mapping[str, Measurements],
    attempts: Sequence[Measurements],
    final: Measurements,
) -> dict[str, Any]:
    """The part of the record that was measured, without the outcomes per example.

    `versus` compares the soup under attack with the most accurate candidate.
    """
    best = _most_accurate(measurements)
    versus = under_attack(
        pd.DataFrame(measurements[best]["outcomes"]), pd.DataFrame(final["outcomes"])
    )
    return {
        "ingredients": final["ingredients"],
        "candidates": [
            {**asdict(candidate), **_without_outcomes(measurements[name])}
            for name, candidate in by_name.items()
        ],
        "attempts": [_without_outcomes(attempt) for attempt in attempts],
        "most_accurate": best,
        "versus": versus._asdict() | {"difference": versus.difference},
    }


def _without_outcomes(measured: Measurements) -> Measurements:
    return {key: value for key, value in measured.items() if key != "outcomes"}


def _write(record: dict[str, Any], chosen: Sequence[Candidate], folder: Path) -> None:
    """Write an ordinary checkpoint with its record; the folder appears atomically."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        checkpoint = Path(temporary) / folder.name
        loading.save(*average_checkpoints(chosen), checkpoint)
        (checkpoint / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        checkpoint.rename(folder)
