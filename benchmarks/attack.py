"""Our engine against TextAttack's own Attacker in one run: same recipe, model, seeds and sentences.

Prints a table.

    python -m benchmarks.attack --checkpoint ../shared/models/sst2-minilm --task
    ../shared/data/sst2/validation.parquet --keep times.json
    python -m benchmarks.attack --examples 4                 # the demo checkpoint and its own
    sentences, in a minute or two
    python -m benchmarks.attack --neighbours ../shared/data/synonyms/counterfitted_neighbors.json
    # judge the word table

TextAttack's side is its Attacker over its HuggingFaceModelWrapper, which pads to the model's full
length, its own text class and its own batches of 32; the recipe's replaced parts (the neighbour
table, MiniLM) are the same on both sides. It takes long: with --keep every sentence's time is
written down as it comes, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import statistics
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from prune_core.data.examples import DataSource, Examples
from prune_core.data.tasks import load
from prune_core.models import devices
from prune_core.models.checkpoints import loading
from prune_core.plugins import no_report

THREE = ["DeepWordBug", "PWWS", "TextFooler (MiniLM)"]
OURS = {"PruneScope fp32": torch.float32, "PruneScope bf16": torch.bfloat16}
Row = dict[str, Any]  # outcome, text, queries


def main() -> None:
    """Judge the neighbour table, or run both sides for every recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--task", default="demo")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument(
        "--recipe", action="append", help=f"one recipe by name; {', '.join(THREE)} by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--keep", type=Path, help="a JSON file of what is measured already, to go on with"
    )
    parser.add_argument("--ours", action="store_true", help="leave TextAttack's side out")
    parser.add_argument(
        "--neighbours",
        type=Path,
        help="a JSON file word -> neighbours to judge assets/neighbours.npz by",
    )
    options = parser.parse_args()
    if options.neighbours:
        judge(json.loads(options.neighbours.read_text()))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Measure what is not kept yet, and print the table."""
    logging.disable(logging.INFO)  # TextAttack's Attacker turns its messages on again
    model, tokenizer = loading.load(options.checkpoint)
    device = devices.pick_device(options.device)
    model.to(device)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    examples = load(DataSource(options.task), tuple(names)).evaluation.sample(
        options.examples, options.seed
    )
    where = (
        f"{len(examples)} sentences, {devices.device_title(device)}, {torch.get_num_threads()} "
        f"torch threads, seed {options.seed}"
    )
    kept = Kept(options.keep, f"{options.checkpoint}, {options.task}, {where}")
    print(
        f"| {where} | seconds | processor | queries | times faster | by processor | "
        "same outcome, text and queries | outcomes changed |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.recipe or THREE:
        ours(
            name,
            model,
            tokenizer,
            examples=examples.take([0]),
            seed=options.seed,
            dtype=torch.float32,
        )  # tables and encoders load off the clock
        ours(
            name,
            model,
            tokenizer,
            examples=examples.take([0]),
            seed=options.seed,
            dtype=torch.bfloat16,
        )
        found = (
            {}
            if options.ours
            else {
                "TextAttack": theirs(
                    name, model, tokenizer, examples=examples, seed=options.seed, kept=kept
                )
            }
        )
        for system, dtype in OURS.items():
            if not kept.of(name, system):
                kept.add(
                    name,
                    system,
                    ours(name, model, tokenizer, examples=examples, seed=options.seed, dtype=dtype),
                )
            found[system] = kept.of(name, system)[0]
        for system, run in found.items():
            print(line(f"{name}, {system}", run, next(iter(found.values()))), flush=True)


def line(title: str, run: Row, reference: Row) -> str:
    """A row of the table, beside the reference's figures."""
    pairs = list(zip(run["rows"], reference["rows"], strict=True))
    same, changed = (
        sum(a == b for a, b in pairs),
        sum(a["outcome"] != b["outcome"] for a, b in pairs),
    )
    faster, leaner = (reference[clock] / run[clock] for clock in ("seconds", "processor"))
    queries = sum(row["queries"] for row in run["rows"])
    return (
        f"| {title} | {run['seconds']:.1f} | {run['processor']:.1f} | {queries} | {faster:.1f} | "
        f"{leaner:.1f} | "
        f"{same} of {len(pairs)} | {changed / len(pairs):.1%} |"
    )


class Kept:
    """Finished runs by recipe and system, in a file where one is named; of TextAttack's, a run a
    sentence.
    """

    def __init__(self, path: Path | None, setting: str):
        self._path = path
        self._known: dict[str, Any] = {"setting": setting}
        if path and path.is_file():
            self._known = json.loads(path.read_text())
            if self._known["setting"] != setting:
                raise SystemExit(
                    f"{path} is of another run ({self._known['setting']}); name another file with "
                    "--keep."
                )

    def of(self, recipe: str, system: str) -> list[Row]:
        """What is there."""
        return self._known.get(f"{recipe}, {system}", [])

    def add(self, recipe: str, system: str, run: Row) -> None:
        """One more, written at once."""
        self._known.setdefault(f"{recipe}, {system}", []).append(run)
        if self._path:
            self._path.write_text(json.dumps(self._known))


def timed(work: Any) -> Row:
    """rows, and wall and processor seconds; processor time is the fairer figure on a busy
    machine (with OMP_NUM_THREADS=1).
    """
    wall, processor = time.perf_counter(), time.process_time()
    rows = work()
    return {
        "rows": rows,
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
    }


def ours(
    name: str,
    model: torch.nn.Module,
    tokenizer: object,
    examples: Examples,
    seed: int,
    dtype: torch.dtype,
) -> Row:
    """All sentences in flight together."""
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.attacks.victim import Victim

    def work() -> list[Row]:
        reporter = ProgressReporter(no_report)
        victim = Victim(model, tokenizer, reporter.report_if_due, dtype=dtype)
        budget = AttackBudget(queries=10**6, seconds=10**6)
        found = engine.run(
            name,
            victim,
            reporter,
            examples=examples,
            indices=range(len(examples)),
            budget=budget,
            seed=seed,
        )
        outcomes = sorted(found, key=lambda outcome: outcome.example)
        return [
            {"outcome": each.outcome, "text": each.perturbed, "queries": each.queries}
            for each in outcomes
        ]

    return timed(work)


def theirs(
    name: str, model: torch.nn.Module, tokenizer: object, examples: Examples, seed: int, kept: Kept
) -> Row:
    """One sentence after the other, those that are not kept yet."""
    import textattack
    from textattack.attack_results import SkippedAttackResult, SuccessfulAttackResult
    from textattack.models.wrappers import HuggingFaceModelWrapper

    from prune_core.attacks.engine import example_seed
    from prune_core.attacks.recipes import RECIPES
    from prune_core.attacks.sentence_similarity import Encoder

    attack = RECIPES[name](
        HuggingFaceModelWrapper(model, tokenizer), Encoder(devices.device_of(model), lambda: None)
    )

    def work(index: int) -> list[Row]:
        assert examples.labels is not None, "attacks need labels"
        dataset = textattack.datasets.Dataset([(examples.texts[index], examples.labels[index])])
        arguments = textattack.AttackArgs(
            num_examples=1, random_seed=example_seed(seed, index), disable_stdout=True, silent=True
        )
        with (
            redirect_stderr(io.StringIO()),
            redirect_stdout(io.StringIO()),
        ):  # a progress bar and empty lines a sentence
            (result,) = textattack.Attacker(attack, dataset, arguments).attack_dataset()
        skipped, succeeded = (
            isinstance(result, SkippedAttackResult),
            isinstance(result, SuccessfulAttackResult),
        )
        outcome = "skipped" if skipped else "success" if succeeded else "failed"
        return [
            {
                "outcome": outcome,
                "text": None if skipped else result.perturbed_text(),
                "queries": result.num_queries,
            }
        ]

    for index in range(len(kept.of(name, "TextAttack")), len(examples)):
        kept.add(name, "TextAttack", timed(lambda index=index: work(index)))
    runs = kept.of(name, "TextAttack")
    totals = {clock: sum(run[clock] for run in runs) for clock in ("seconds", "processor")}
    return {"rows": [row for run in runs for row in run["rows"]], **totals}


def judge(reference: dict[str, list[str]]) -> None:
    """How many of a reference table's neighbours ours finds among its first 10 and first 50."""
    from prune_core.attacks.neighbours import TABLE
    from prune_core.attacks.neighbours import load as load_table

    table = load_table()
    asked = {word: near for word, near in reference.items() if near}
    known = {word: near for word, near in asked.items() if word in table.index}
    print(
        f"{TABLE.name}: {len(table.words)} words, {TABLE.stat().st_size / 1e6:.1f} MB; "
        f"{len(known)} of the reference's {len(asked)} words with neighbours "
        f"({len(known) / len(asked):.0%})"
    )
    for most in (10, 50):
        whole, inside = [], []
        for word, near in known.items():
            found = {other for other, _ in table.of(word, most)}
            whole.append(len(found & set(near)) / len(near))
            possible = set(near) & table.index.keys()
            if possible:
                inside.append(len(found & possible) / len(possible))
        print(
            f"overlap@{most}: {statistics.mean(whole):.1%} of the reference's neighbours; "
            f"{statistics.mean(inside):.1%} of those in the vocabulary"
        )


if __name__ == "__main__":
    main()
