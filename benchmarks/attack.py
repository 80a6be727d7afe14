"""PruneScope's attack engine compared with TextAttack's Attacker, on the same model and examples.

Prints a table.

    python -m benchmarks.attack --checkpoint ../shared/models/sst2-minilm --keep times.json \\
        --task ../shared/data/sst2/validation.parquet
    python -m benchmarks.attack --examples 4  # the demo, in a minute or two
    # evaluate the neighbor table:
    python -m benchmarks.attack --neighbours ../shared/data/synonyms/counterfitted_neighbors.json

TextAttack is run with its Attacker, its HuggingFaceModelWrapper, which pads to the model's maximum
length, its text class and its batches of 32. Recipes, their replaced parts (the neighbor table,
MiniLM) and seeds are the same for both. This takes long: with --keep the time of every example is
saved, and the same command resumes an interrupted run.
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
from prune_core.models import devices
from prune_core.models.checkpoints import loading
from prune_core.plugins import no_report
from prune_core.tasks.task_data import load

DEFAULT_RECIPES = ["DeepWordBug", "PWWS", "TextFooler (MiniLM)"]
PRECISIONS = {"PruneScope fp32": torch.float32, "PruneScope bf16": torch.bfloat16}
Row = dict[str, Any]  # outcome, text, queries


def main() -> None:
    """Evaluate the neighbor table, or run both engines for every recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--task", default="demo")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument(
        "--recipe",
        action="append",
        help=f"one recipe by name; {', '.join(DEFAULT_RECIPES)} by default",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--keep", type=Path, help="JSON file with finished runs, to resume from")
    parser.add_argument("--ours", action="store_true", help="skip TextAttack")
    parser.add_argument(
        "--neighbours",
        type=Path,
        help="JSON file word -> neighbors, a reference for assets/neighbours.npz",
    )
    options = parser.parse_args()
    if options.neighbours:
        evaluate_neighbours(json.loads(options.neighbours.read_text()))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run what is not in the cache, and print the table."""
    logging.disable(logging.INFO)  # TextAttack's Attacker re-enables its messages
    model, tokenizer = loading.load(options.checkpoint)
    device = devices.pick_device(options.device)
    model.to(device)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    examples = load(DataSource(options.task), tuple(names)).evaluation.sample(
        options.examples, options.seed
    )
    setup = (
        f"{len(examples)} examples, {devices.device_title(device)}, {torch.get_num_threads()} "
        f"torch threads, seed {options.seed}"
    )
    cache = RunCache(options.keep, f"{options.checkpoint}, {options.task}, {setup}")
    print(
        f"| {setup} | seconds | processor | queries | times faster | by processor | "
        "same outcome, text and queries | outcomes changed |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.recipe or DEFAULT_RECIPES:
        run_prunescope(
            name,
            model,
            tokenizer,
            examples=examples.take([0]),
            seed=options.seed,
            dtype=torch.float32,
        )  # load tables and encoders before timing
        run_prunescope(
            name,
            model,
            tokenizer,
            examples=examples.take([0]),
            seed=options.seed,
            dtype=torch.bfloat16,
        )
        runs = (
            {}
            if options.ours
            else {
                "TextAttack": run_textattack(
                    name, model, tokenizer, examples=examples, seed=options.seed, cache=cache
                )
            }
        )
        for system, dtype in PRECISIONS.items():
            if not cache.get(name, system):
                cache.add(
                    name,
                    system,
                    run_prunescope(
                        name, model, tokenizer, examples=examples, seed=options.seed, dtype=dtype
                    ),
                )
            runs[system] = cache.get(name, system)[0]
        for system, run in runs.items():
            print(table_row(f"{name}, {system}", run, next(iter(runs.values()))), flush=True)


def table_row(title: str, run: Row, reference: Row) -> str:
    """Return a row of the table, compared with the reference."""
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


class RunCache:
    """Finished runs by recipe and system, saved if a path is given.

    TextAttack has one run per example.
    """

    def __init__(self, path: Path | None, setting: str):
        self._path = path
        self._runs: dict[str, Any] = {"setting": setting}
        if path and path.is_file():
            self._runs = json.loads(path.read_text())
            if self._runs["setting"] != setting:
                raise SystemExit(
                    f"{path} belongs to another run ({self._runs['setting']}); choose another "
                    "file with --keep."
                )

    def get(self, recipe: str, system: str) -> list[Row]:
        """Return the finished runs."""
        return self._runs.get(f"{recipe}, {system}", [])

    def add(self, recipe: str, system: str, run: Row) -> None:
        """Add a run and save it."""
        self._runs.setdefault(f"{recipe}, {system}", []).append(run)
        if self._path:
            self._path.write_text(json.dumps(self._runs))


def timed(work: Any) -> Row:
    """Return rows, wall time and CPU time, the fairer one on a busy machine (one thread)."""
    wall, processor = time.perf_counter(), time.process_time()
    rows = work()
    return {
        "rows": rows,
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
    }


def run_prunescope(
    name: str,
    model: torch.nn.Module,
    tokenizer: object,
    examples: Examples,
    seed: int,
    dtype: torch.dtype,
) -> Row:
    """Attack all examples concurrently with PruneScope."""
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.attacks.victim import Victim

    def work() -> list[Row]:
        reporter = ProgressReporter(no_report)
        victim = Victim(model, tokenizer, reporter.report_if_due, dtype=dtype)
        budget = AttackBudget(queries=10**6, seconds=10**6)
        results = engine.run(
            name,
            victim,
            reporter,
            examples=examples,
            indices=range(len(examples)),
            budget=budget,
            seed=seed,
        )
        outcomes = sorted(results, key=lambda outcome: outcome.example)
        return [
            {"outcome": outcome.outcome, "text": outcome.perturbed, "queries": outcome.queries}
            for outcome in outcomes
        ]

    return timed(work)


def run_textattack(
    name: str,
    model: torch.nn.Module,
    tokenizer: object,
    examples: Examples,
    seed: int,
    cache: RunCache,
) -> Row:
    """Attack one example after the other with TextAttack, except those in the cache."""
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
        ):  # a progress bar and empty lines per example
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

    for index in range(len(cache.get(name, "TextAttack")), len(examples)):
        cache.add(name, "TextAttack", timed(lambda index=index: work(index)))
    runs = cache.get(name, "TextAttack")
    totals = {clock: sum(run[clock] for run in runs) for clock in ("seconds", "processor")}
    return {"rows": [row for run in runs for row in run["rows"]], **totals}


def evaluate_neighbours(reference: dict[str, list[str]]) -> None:
    """Print how many neighbors of a reference table are among our first 10 and first 50."""
    from prune_core.attacks.neighbours import TABLE
    from prune_core.attacks.neighbours import load as load_table

    table = load_table()
    with_neighbours = {word: neighbours for word, neighbours in reference.items() if neighbours}
    known = {
        word: neighbours for word, neighbours in with_neighbours.items() if word in table.index
    }
    print(
        f"{TABLE.name}: {len(table.words)} words, {TABLE.stat().st_size / 1e6:.1f} MB; "
        f"{len(known)} of the reference's {len(with_neighbours)} words with neighbors "
        f"({len(known) / len(with_neighbours):.0%})"
    )
    for count in (10, 50):
        overlaps, possible_overlaps = [], []
        for word, neighbours in known.items():
            nearest = {other for other, _ in table.of(word, count)}
            overlaps.append(len(nearest & set(neighbours)) / len(neighbours))
            possible = set(neighbours) & table.index.keys()
            if possible:
                possible_overlaps.append(len(nearest & possible) / len(possible))
        print(
            f"overlap@{count}: {statistics.mean(overlaps):.1%} of the reference's neighbors; "
            f"{statistics.mean(possible_overlaps):.1%} of those in the vocabulary"
        )


if __name__ == "__main__":
    main()
