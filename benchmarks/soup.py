"""A robust dense model on SST-2: plain and FreeLB fine-tunes of MiniLM, their soups, and a paired test against the plain ones.

    python -m benchmarks.soup --out ../soups/sst2 --threads 1 [--trial]

What is chosen is chosen on sentences held out of the training data; what is printed is measured on the validation sentences.
Every part is kept in the folder: the same command goes on from where it was stopped. --trial times 50 steps of each kind and
20 attacks, and prints how long the whole would take.
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
from prune_core.data.tasks import training_examples
from prune_core.formatting import p_value, percent, points, seconds
from prune_core.models.checkpoints import loading
from prune_core.plugins import no_report
from prune_core.training import model_soup
from prune_core.training.finetune import Trainer, TrainingRecipe

LABELS = ("negative", "positive")
HELD_OUT = 1000  # training sentences to choose by
WORDS = 9  # of a held-out sentence at least: the training data is mostly phrases, the validation data whole sentences
# on a plain MiniLM classifier a change of length 0.2, against 1 for a word's embedding, takes the loss from 0.15 to 1.5
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
    """Make what is missing, then print the table."""
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
        help="training sentences of each run, drawn with its seed",
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--sentences", type=int, default=200, help="validation sentences attacked for the table"
    )
    parser.add_argument(
        "--choose", type=int, default=200, help="held-out sentences attacked to choose by"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="torch threads (0 = torch's own choice)"
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
        made = model_soup.make_soup(plan, candidates, held_out, folder=options.out, report=progress)
        soups[f"soup {way}"] = model_soup.Candidate(f"soup {way}", str(options.out / way), {})
        print(f"{way}: {' + '.join(made['ingredients'])}", flush=True)
    plan = model_soup.SoupPlan(attack_examples=options.sentences, max_length=64)
    judge = model_soup.CandidateEvaluator(
        plan,
        LABELS,
        training_examples(DataSource(options.validation), LABELS),
        file=options.out / "judged.json",
    )
    everyone = {**{candidate.name: candidate for candidate in candidates}, **soups}
    found = {
        name: judge(*loading.load(candidate.checkpoint), progress)
        for name, candidate in everyone.items()
    }
    progress.end()
    show(found)


def split(path: str, folder: Path) -> tuple[DataSource, DataSource]:
    """(training, held-out) files in the folder, written once."""
    files = [folder / name for name in ("train.parquet", "held-out.parquet")]
    if not all(file.is_file() for file in files):
        table = tables.read(path).rows.drop_duplicates("sentence")
        chosen = (
            table[table["sentence"].str.split().str.len() >= WORDS]
            .sample(HELD_OUT, random_state=0)
            .index
        )
        for file, part in zip(files, (table.drop(chosen), table.loc[chosen]), strict=True):
            part.to_parquet(file, index=False)
    meant = ",".join(f"{number}={name}" for number, name in enumerate(LABELS))
    return DataSource(str(files[0]), labels=meant), DataSource(str(files[1]), labels=meant)


def recipe(changed: dict[str, object], options: argparse.Namespace) -> TrainingRecipe:
    """What all runs share, and what this one has of its own."""
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
    """Seconds a step of each kind of run, seconds an attacked sentence, and what that makes for the whole."""
    whole, per_step = 0.0, {}
    for each in recipes.values():
        if each.adversarial not in per_step:
            model, tokenizer = loading.load(
                each.checkpoint, "classification", LABELS, dropout=each.dropout
            )
            trainer = Trainer(
                each,
                model,
                tokenizer,
                train=training_examples(train, LABELS).sample(options.examples, 0),
            )
            trainer.run(5, no_report)  # bf16 kernels are made at the first
            started = time.perf_counter()
            trainer.run(50, no_report)
            per_step[each.adversarial] = (time.perf_counter() - started) / 50
            print(
                f"{each.adversarial}: {per_step[each.adversarial]:.2f} s a step, {trainer.steps} steps a run",
                flush=True,
            )
        whole += per_step[each.adversarial] * trainer.steps
    plan = model_soup.SoupPlan(attack_examples=20, examples=20, precision="bf16", max_length=64)
    judge = model_soup.CandidateEvaluator(
        plan,
        LABELS,
        training_examples(DataSource(options.validation), LABELS),
        file=options.out / "trial.json",
    )
    started = time.perf_counter()
    judge(*loading.load("demo"), no_report)
    attack = (time.perf_counter() - started) / 20
    print(f"attack: {attack:.2f} s a sentence")
    most = (3 * len(recipes) - 1) * options.choose + (len(recipes) + 3) * options.sentences
    print(f"fine-tunes {seconds(whole)}, attacks at most {seconds(most * attack)}")


def show(found: dict[str, model_soup.Measurements]) -> None:
    """A line a model, and each soup against the plain run with the highest accuracy and the one that attacks hurt least."""
    print(f"\n{'':20}{'accuracy':>10}{'under attack':>14}{'95% interval':>18}{'n':>6}")
    for name, row in found.items():
        interval = f"{percent(row['under_attack_low'])} to {percent(row['under_attack_high'])}"
        print(
            f"{name:20}{percent(row['accuracy']):>10}{percent(row['under_attack']):>14}{interval:>18}{row['attack_n']:6}"
        )
    plain = [name for name in found if name.startswith("plain")]
    for score, told in (("accuracy", "most accurate"), ("under_attack", "least hurt")):
        best = max(plain, key=lambda name: found[name][score])
        print(f"\nagainst {best}, the {told} plain run:")
        for name, row in found.items():
            if name.startswith("soup"):
                versus = attack_success.under_attack(
                    pd.DataFrame(found[best]["outcomes"]), pd.DataFrame(row["outcomes"])
                )
                gap = row["accuracy"] - found[best]["accuracy"]
                interval = f"{points(versus.low)} to {points(versus.high)}"
                print(
                    f"{name:20}accuracy {points(gap)}, under attack {points(versus.difference)} ({interval}; {p_value(versus.p_value)})"
                )


if __name__ == "__main__":
    main()
