"""How often an attacker flips the model's answer: TextAttack recipes over one seeded sample, the same for every model."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch

from .. import __version__
from ..analysis.attack_success import summarize
from ..attacks import languages
from ..attacks.catalogue import CATALOGUE, LETTERS, CatalogueEntry, missing
from ..data.examples import Examples
from ..errors import PruneError, require
from ..models.devices import device_of
from ..models.inference.timing import time_interleaved, timing_batch
from ..plugins import Report, Rows, no_report, option, subrange
from .accuracy import dense_predictions
from .base import Measure, Pair

STOP_WORDS = 2  # the published list; kept outcomes are of the words that were protected then
PROBE = (16, 32)  # sentences and tokens of the batch by which precisions are compared
FASTER = 0.8  # of fp32's time must bf16 take at most
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

    recipes: str = option(
        "DeepWordBug, TextFooler (MiniLM)",
        "Which attacks to run",
        choices=tuple(CATALOGUE),
        several=True,
    )
    examples: int = option(
        50, "Sentences for attacks that change letters", low=1, high=100_000, unit="sentences"
    )
    word_examples: int = option(
        25,
        "Sentences for attacks that change words, and ask more",
        low=1,
        high=100_000,
        unit="sentences",
    )
    query_budget: int = option(
        500, "Most texts one attack may ask the model about", low=2, high=1_000_000, unit="queries"
    )
    time_budget: float = option(
        30.0, "Longest time for one sentence", low=0.1, high=86_400.0, unit="s"
    )
    precision: str = option(
        "fp32",
        "Of the models asked: bf16 is several times faster where the processor has it, and changes some outcomes; auto tries both",
        choices=("fp32", "bf16", "auto"),
        expert=True,
    )
    max_changed: float = option(
        1.0, "Largest share of a sentence's words that may change", low=0.01, high=1.0, expert=True
    )
    similarity: float = option(
        0.0,
        "Least similarity to the original, a cosine by the MiniLM encoder, besides the recipe's own rules; 0 for none",
        low=0.0,
        high=1.0,
        expert=True,
    )
    never: str = option("", "Words never to touch, separated by commas", expert=True)
    column: str = option(
        "first",
        "Which sentence of a pair may change",
        choices=("first", "second", "both"),
        expert=True,
    )

    @property
    def largest(self) -> int:
        """Sentences of the attack that is given most."""
        letters = {CATALOGUE[name].changes == LETTERS for name in self.recipes.split(", ")}
        return max(
            self.examples if changes_letters else self.word_examples for changes_letters in letters
        )

    @staticmethod
    def lacking() -> dict[str, str]:
        """The attacks that cannot run on this machine, each with what it needs."""
        return {name: lack for name, entry in CATALOGUE.items() if (lack := missing(entry))}

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables `attack` (a row a recipe) and `attack_example` (a row a recipe and example)."""
        examples = pair.task.evaluation
        if examples.labels is None:  # the attacks are on what the dense model says
            examples = replace(examples, labels=dense_predictions(pair, no_report).predicted)
        if self.column != "first" and examples.pairs is None:
            raise PruneError(
                f"attack: column is {self.column!r}, but this task has no sentence pairs; leave it at 'first'."
            )
        chosen = [CATALOGUE[name] for name in self.recipes.split(", ")]
        for lack in filter(None, map(missing, chosen)):
            raise PruneError(lack)
        require("textattack", "attacks")
        self._check_language(chosen, examples, pair.seed)
        report(0.0, "loading TextAttack")
        from ..attacks import engine
        from ..attacks.budget import AttackBudget, ProgressReporter
        from ..attacks.outcome import OutcomeLog
        from ..attacks.validity import add_validity
        from ..attacks.victim import Victim

        never = tuple(self.never.lower().replace(",", " ").split())
        budget = AttackBudget(
            self.query_budget,
            self.time_budget,
            self.max_changed,
            similarity=self.similarity,
            never=never,
            column=self.column,
        )
        precision = self._precision(pair)
        decides = [
            __version__,
            STOP_WORDS,
            asdict(budget),
            precision,
            pair.seed,
            pair.max_length,
            asdict(examples),
        ]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
        totals: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        index, chunks = pair.chunk
        file = "attack.jsonl" if chunks == 1 else f"attack.{index}.jsonl"
        for name, whole, part in self._plan(chosen, pair, report):
            sample = whole[index::chunks]
            reporter = ProgressReporter(part)
            victim = Victim(
                pair.pruned,
                pair.tokenizer,
                reporter.report_if_due,
                pair.batch_size,
                pair.max_length,
                PRECISIONS[precision],
            )
            journal = OutcomeLog(pair.folder and pair.folder / file, name, key)
            found = {
                outcome.example: outcome
                for outcome in engine.run(
                    name,
                    victim,
                    reporter,
                    examples=examples,
                    indices=sample,
                    budget=budget,
                    seed=pair.seed,
                    log=journal,
                )
            }
            outcomes = [found[example] for example in sample]
            # of the searches and of what they asked, so that a resumed run's seconds count its first part too
            totals.append(
                {
                    "recipe": name,
                    **summarize(outcomes),
                    "precision": precision,
                    "seconds": sum(outcome.seconds for outcome in outcomes),
                }
            )
            rows += [{"recipe": name, **asdict(outcome)} for outcome in outcomes]
        if chunks > 1:
            return {}
        report(1.0, "judging the changed texts")
        return {
            "attack": pd.DataFrame(totals),
            "attack_example": add_validity(pd.DataFrame(rows), device_of(pair.pruned)),
        }

    def _check_language(
        self, chosen: Sequence[CatalogueEntry], examples: Examples, seed: int
    ) -> None:
        """Refuse a run in which no attack can change any text: single ones are refused as they come."""
        if any(entry.changes == LETTERS for entry in chosen):
            return
        some = [
            languages.is_not_english(examples.texts[i])
            for i in _order(len(examples), seed)[: self.word_examples]
        ]
        if all(some):
            named = ", ".join(dict.fromkeys(some))
            raise PruneError(
                f"attack: {', '.join(entry.name for entry in chosen)} changes words by English lists, and the texts are "
                f"{named}; choose an attack on letters, such as DeepWordBug."
            )

    def _precision(self, pair: Pair) -> str:
        """bf16 where the device answers a batch faster by it, with "auto"; once for the dense model of a study."""
        if self.precision != "auto":
            return self.precision
        return pair.of_dense("attack precision", lambda: faster_precision(pair.dense))

    def _plan(
        self, chosen: Sequence[CatalogueEntry], pair: Pair, report: Report
    ) -> list[tuple[str, list[int], Report]]:
        """(recipe, indices into the evaluation sample, its share of the report): one order, so that the smaller sample is
        the beginning of the larger one and every model is attacked on the same sentences."""
        order = _order(len(pair.task.evaluation), pair.seed)
        samples = [
            order[: self.examples if entry.changes == LETTERS else self.word_examples]
            for entry in chosen
        ]
        costs = [len(sample) * entry.seconds for sample, entry in zip(samples, chosen, strict=True)]
        ends = [0.0, *(sum(costs[: count + 1]) / sum(costs) for count in range(len(costs)))]
        parts = [subrange(report, start, end) for start, end in zip(ends, ends[1:], strict=False)]
        return [
            (entry.name, sample, part)
            for entry, sample, part in zip(chosen, samples, parts, strict=True)
        ]


def _order(count: int, seed: int) -> list[int]:
    """In which the evaluation examples are attacked."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def faster_precision(model: Any) -> str:
    """The one by which this device answers a small batch sooner; fp32 where they are about alike."""
    batch = timing_batch(model, *PROBE)
    single, half = time_interleaved(
        [model, copy.deepcopy(model).to(torch.bfloat16)], batch, 5, report=no_report
    ).seconds
    return "bf16" if min(half) < FASTER * min(single) else "fp32"
