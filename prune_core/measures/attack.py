"""How often an attacker flips the model's answer: TextAttack recipes over one seeded sample, the same for every model."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch

from .. import __version__
from ..attacks.catalogue import CATALOGUE, LETTERS, Entry, missing
from ..attacks.success_rates import summary
from ..errors import PruneError, require
from ..models.devices import device_of
from ..plugins import Report, Rows, option, part_of
from .base import Measure, Pair

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Attack(Measure):
    """Attacks the pruned model (the dense one for the baseline) and counts what becomes of the answers it got right."""

    name = "attack"
    title = "Attack success"
    summary = "How often small changes of letters or words flip the answer, by TextAttack's recipes on one seeded sample"
    slow = True
    kinds = ("classification",)
    estimate = 15.0

    recipes: str = option("DeepWordBug, TextFooler (MiniLM)", "Which attacks to run", choices=tuple(CATALOGUE), several=True)
    examples: int = option(50, "Sentences for attacks that change letters", low=1, high=100_000, unit="sentences")
    word_examples: int = option(25, "Sentences for attacks that change words, and ask more", low=1, high=100_000, unit="sentences")
    query_budget: int = option(500, "Most texts one attack may ask the model about", low=2, high=1_000_000, unit="queries")
    time_budget: float = option(30.0, "Longest time for one sentence", low=0.1, high=86_400.0, unit="s")
    precision: str = option(
        "fp32", "Of the models asked: bf16 is several times faster where the processor has it, and changes some outcomes",
        choices=("fp32", "bf16"), expert=True,
    )  # fmt: skip
    max_changed: float = option(1.0, "Largest share of a sentence's words that may change", low=0.01, high=1.0, expert=True)
    similarity: float = option(
        0.0, "Least similarity to the original, a cosine by the MiniLM encoder, besides the recipe's own rules; 0 for none",
        low=0.0, high=1.0, expert=True,
    )  # fmt: skip
    never: str = option("", "Words never to touch, separated by commas", expert=True)
    column: str = option("first", "Which sentence of a pair may change", choices=("first", "second", "both"), expert=True)

    @staticmethod
    def lacking() -> dict[str, str]:
        """The attacks that cannot run on this machine, each with what it needs."""
        return {name: lack for name, entry in CATALOGUE.items() if (lack := missing(entry))}

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables `attack` (a row a recipe) and `attack_example` (a row a recipe and example)."""
        examples = pair.task.evaluation
        if examples.labels is None:
            raise PruneError("attack: the evaluation data has no labels; give a file with a label column.")
        if self.column != "first" and examples.pairs is None:
            raise PruneError(f"attack: column is {self.column!r}, but this task has no sentence pairs; leave it at 'first'.")
        chosen = [CATALOGUE[name] for name in self.recipes.split(", ")]
        for lack in filter(None, map(missing, chosen)):
            raise PruneError(lack)
        require("textattack", "attacks")
        report(0.0, "loading TextAttack")
        from ..attacks import engine
        from ..attacks.budget import Budget, Pulse
        from ..attacks.outcome import Journal
        from ..attacks.validity import judged
        from ..attacks.victim import Victim

        never = tuple(self.never.lower().replace(",", " ").split())
        budget = Budget(self.query_budget, self.time_budget, self.max_changed, self.similarity, never, self.column)
        decides = [__version__, asdict(budget), self.precision, pair.seed, pair.max_length, asdict(examples)]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
        totals: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for name, sample, part in self._plan(chosen, pair, report):
            pulse = Pulse(part)
            victim = Victim(pair.pruned, pair.tokenizer, pulse.beat, pair.batch_size, pair.max_length, PRECISIONS[self.precision])
            journal = Journal(pair.folder and pair.folder / "attack.jsonl", name, key)
            found = {outcome.example: outcome for outcome in engine.run(
                name, victim, pulse, examples, sample, budget, pair.seed, journal=journal)}  # fmt: skip
            outcomes = [found[example] for example in sample]
            # of the searches and of what they asked, so that a resumed run's seconds count its first part too
            totals.append({"recipe": name, **summary(outcomes), "seconds": sum(outcome.seconds for outcome in outcomes)})
            rows += [{"recipe": name, **asdict(outcome)} for outcome in outcomes]
        report(1.0, "judging the changed texts")
        return {"attack": pd.DataFrame(totals), "attack_example": judged(pd.DataFrame(rows), device_of(pair.pruned))}

    def _plan(self, chosen: Sequence[Entry], pair: Pair, report: Report) -> list[tuple[str, list[int], Report]]:
        """(recipe, indices into the evaluation sample, its share of the report): one order, so that the smaller sample is
        the beginning of the larger one and every model is attacked on the same sentences."""
        order = list(range(len(pair.task.evaluation)))
        random.Random(pair.seed).shuffle(order)
        samples = [order[: self.examples if entry.changes == LETTERS else self.word_examples] for entry in chosen]
        costs = [len(sample) * entry.seconds for sample, entry in zip(samples, chosen, strict=True)]
        ends = [0.0, *(sum(costs[: count + 1]) / sum(costs) for count in range(len(costs)))]
        parts = [part_of(report, start, end) for start, end in zip(ends, ends[1:], strict=False)]
        return [(entry.name, sample, part) for entry, sample, part in zip(chosen, samples, parts, strict=True)]
