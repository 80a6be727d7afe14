"""A robust dense model for SST-2: soups of MiniLM fine-tunes, tested against plain fine-tunes.

    python -m benchmarks.soup --out ../soups/sst2 --threads 1 [--trial]

Selection uses examples held out from the training data; the printed metrics are measured on the
validation examples. Results are saved in the folder, and the same command resumes an interrupted
run. --trial times 50 steps of each type and 20 attacks, and prints an estimate of the total time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch

from prune_core.analysis import attack_success
from prune_core.cli.progress import PrintedProgress
from prune_core.data import tables
from prune_core.data.examples import DataSource
from prune_core.formatting import p_value, percent, points, seconds
from prune_core.models.checkpoints import loading
from prune_core.plugins import no_report
from prune_core.tasks.task_data import training_examples
from prune_core.training import model_soup
from prune_core.training.finetune import Trainer, TrainingRecipe

LABELS = ("negative", "positive")
HELD_OUT = 1000  # training examples for model selection
# minimum length of held-out examples: the training data is mostly phrases, the validation data
# whole sentences
WORDS = 9
# for a plain MiniLM classifier, a perturbation of norm 0.2 (word embeddings have norm 1) increases
# the loss from 0.15 to 1.5
RUNS: dict[str, dict[str, object]] = {
    "plain-1": {"learning_rate": 5e-5, "seed": 1},
    "plain-2": {"learning_rate": 3e-5, "seed": 2},
    "plain-3": {"learning_rate": 1e-4, "seed": 3},
    "freelb-1": {
        "learning_rate": 5e-5,
        "seed": 1,
        "adversarial_step_size": 0.05,
        "adversarial_norm": 0.3,
    },
    "freelb-2": {
        "learning_rate": 1e-4,
        "seed": 2,
        "adversarial_step_size": 0.1,
        "adversarial_norm": 0.3,
    },
    "freelb-3": {
        "learning_rate": 5e-5,
        "seed": 3,
        "adversarial_step_size": 0.1,
        "adversarial_norm": 0.6,
    },
    "freelb-4": {
        "learning_rate": 1e-4,
        "seed": 4,
        "adversarial_step_size": 0.15,
        "adversarial_norm": 0.6,
    },
    "freelb-5": {
        "learning_rate": 1e-4,
        "seed": 5,
        "adversarial_step_size": 0.2,
        "adversarial_norm": 0.6,
    },
}


def main() -> None:
    """Compute what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for data, candidates, soups and measurements",
    )
    parser.add_argument("--train", default="../shared/data/sst2/train.parquet")
    parser.add_argument("--validation", default="../shared/data/sst2/validation.parquet")
    parser.add_argument(
        "--examples",
        type=int,
        default=20000,
        help="training examples of each run, sampled with its seed",
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--sentences", type=int, default=200, help="validation examples attacked for the table"
    )
    parser.add_argument(
        "--choose", type=int, default=200, help="held-out examples attacked for model selection"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="torch threads (0 = torch's default)"
    )
    parser.add_argument("--trial", action="store_true", help="time a few steps and attacks only")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    train, held_out = split(options.train, options.out)
    recipes = {name: recipe(changed, options) for name, changed in RUNS.items()}
    if options.trial:
        trial(recipes, train, options)
        return
    progress = PrintedProgress()
    candidates = model_soup.fine_tune_candidates(
        recipes, train, held_out, folder=options.out / "candidates", report=progress
    )
    soups = {}
    for way in (*model_soup.SCORES, "uniform"):
        plan = model_soup.SoupPlan(
            way=way, attack_examples=options.choose, precision="bf16", max_length=64
        )
        soup = model_soup.make_soup(plan, candidates, held_out, folder=options.out, report=progress)
        soups[f"soup {way}"] = model_soup.Candidate(f"soup {way}", str(options.out / way), {})
        print(f"{way}: {' + '.join(soup['ingredients'])}", flush=True)
    plan = model_soup.SoupPlan(attack_examples=options.sentences, max_length=64)
    evaluator = model_soup.CandidateEvaluator(
        plan,
        LABELS,
        training_examples(DataSource(options.validation), LABELS),
        file=options.out / "judged.json",
    )
    models = {**{candidate.name: candidate for candidate in candidates}, **soups}
    results = {
        name: evaluator(*loading.load(candidate.checkpoint), progress)
        for name, candidate in models.items()
    }
    progress.end()
    show(results)


def split(path: str, folder: Path) -> tuple[DataSource, DataSource]:
    """Return (training, held-out) files in the folder, written once."""
    files = [folder / name for name in ("train.parquet", "held-out.parquet")]
    if not all(file.is_file() for file in files):
        table = tables.read(path).rows.drop_duplicates("sentence")
        chosen = (
            table[table["sentence"].str.split().str.len() >= WORDS]
            .sample(HELD_OUT, random_state=0)
            .index
        )
        for file, rows in zip(files, (table.drop(chosen), table.loc[chosen]), strict=True):
            rows.to_parquet(file, index=False)
    label_names = ",".join(f"{number}={name}" for number, name in enumerate(LABELS))
    return DataSource(str(files[0]), labels=label_names), DataSource(
        str(files[1]), labels=label_names
    )


def recipe(changed: dict[str, object], options: argparse.Namespace) -> TrainingRecipe:
    """Return the common options with the changes of one run."""
    adversarial = "freelb" if "adversarial_norm" in changed else "none"
    return TrainingRecipe(
        adversarial=adversarial,
        examples=options.examples,
        epochs=options.epochs,
        max_length=64,
        dropout=0.0,
        checks=2,
        mixed_precision=True,
        half=True,
        **changed,
    )  # type: ignore[arg-type]


def trial(
    recipes: dict[str, TrainingRecipe], train: DataSource, options: argparse.Namespace
) -> None:
    """Print seconds per step of each type of run and per attacked example, and the total."""
    total, per_step = 0.0, {}
    for recipe in recipes.values():
        if recipe.adversarial not in per_step:
            model, tokenizer = loading.load(
                recipe.checkpoint, "classification", LABELS, dropout=recipe.dropout
            )
            trainer = Trainer(
                recipe,
                model,
                tokenizer,
                train=training_examples(train, LABELS).sample(options.examples, 0),
            )
            trainer.run(5, no_report)  # warm-up: bf16 kernels are created
            started = time.perf_counter()
            trainer.run(50, no_report)
            per_step[recipe.adversarial] = (time.perf_counter() - started) / 50
            print(
                f"{recipe.adversarial}: {per_step[recipe.adversarial]:.2f} s per step, "
                f"{trainer.steps} steps per run",
                flush=True,
            )
        total += per_step[recipe.adversarial] * trainer.steps
    plan = model_soup.SoupPlan(attack_examples=20, examples=20, precision="bf16", max_length=64)
    evaluator = model_soup.CandidateEvaluator(
        plan,
        LABELS,
        training_examples(DataSource(options.validation), LABELS),
        file=options.out / "trial.json",
    )
    started = time.perf_counter()
    evaluator(*loading.load("demo"), no_report)
    attack = (time.perf_counter() - started) / 20
    print(f"attack: {attack:.2f} s per example")
    attacks = (3 * len(recipes) - 1) * options.choose + (len(recipes) + 3) * options.sentences
    print(f"fine-tunes {seconds(total)}, attacks at most {seconds(attacks * attack)}")


def show(results: dict[str, model_soup.Measurements]) -> None:
    """Print one line per model; compare soups with the most accurate and most robust plain run."""
    print(f"\n{'':20}{'accuracy':>10}{'under attack':>14}{'95% interval':>18}{'n':>6}")
    for name, row in results.items():
        interval = f"{percent(row['under_attack_low'])} to {percent(row['under_attack_high'])}"
        print(
            f"{name:20}{percent(row['accuracy']):>10}{percent(row['under_attack']):>14}{interval:>18}{row['attack_n']:6}"
        )
    plain = [name for name in results if name.startswith("plain")]
    for score, description in (("accuracy", "most accurate"), ("under_attack", "most robust")):
        best = max(plain, key=lambda name: results[name][score])
        print(f"\nagainst {best}, the {description} plain run:")
        for name, row in results.items():
            if name.startswith("soup"):
                versus = attack_success.under_attack(
                    pd.DataFrame(results[best]["outcomes"]), pd.DataFrame(row["outcomes"])
                )
                gap = row["accuracy"] - results[best]["accuracy"]
                interval = f"{points(versus.low)} to {points(versus.high)}"
                print(
                    f"{name:20}accuracy {points(gap)}, under attack {points(versus.difference)} "
                    f"({interval}; {p_value(versus.p_value)})"
                )


if __name__ == "__main__":
    main()
