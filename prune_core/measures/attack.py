"""Attack success of TextAttack recipes on one seeded sample, the same for every model."""

import copy
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch

from .. import __version__
from ..analysis.attack_success import summarize
from ..attacks import languages
from ..attacks.catalogue import CATALOGUE, EVASION, WORDS, CatalogueEntry, missing
from ..attacks.outcome import AttackOutcome
from ..data.examples import Examples
from ..errors import PruneError, require
from ..models.devices import device_of
from ..models.inference.timing import time_interleaved, timing_batch
from ..plugins import Report, Rows, no_report, option, subrange
from ..tasks import TASK_TYPES
from .accuracy import dense_predictions
from .base import Measure, Pair

STOP_WORDS = 2  # version of the stop-word list; part of the key of saved outcomes
PROBE = (16, 32)  # examples and tokens of the batch on which precisions are timed
FASTER = 0.8  # bf16 is chosen if it takes at most this fraction of the fp32 time
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Attack(Measure):
    """Attack the examples that the pruned model (or the dense baseline) predicts correctly."""

    name = "attack"
    title = "Attack success"
    summary = (
        "How often changed letters or words, or evasion attacks, change the prediction: TextAttack "
        "recipes and rewritings on one seeded sample"
    )
    version = STOP_WORDS
    slow = True
    kinds = tuple(name for name, each in TASK_TYPES.items() if each.attackable)
    estimate = 15.0

    recipes: str = option(
        "DeepWordBug, TextFooler (MiniLM)",
        "Which attacks to run",
        choices=tuple(CATALOGUE),
        several=True,
    )
    examples: int = option(
        50,
        "Examples for letter and evasion attacks",
        low=1,
        high=100_000,
        unit="examples",
    )
    word_examples: int = option(
        25,
        "Examples for attacks that change words, which need more queries",
        low=1,
        high=100_000,
        unit="examples",
    )
    query_budget: int = option(
        500, "Maximum number of model queries per attack", low=2, high=1_000_000, unit="queries"
    )
    time_budget: float = option(30.0, "Time limit per example", low=0.1, high=86_400.0, unit="s")
    precision: str = option(
        "fp32",
        "Precision of the attacked model: bf16 is several times faster on processors that support "
        "it, and changes some outcomes; auto times both",
        choices=("fp32", "bf16", "auto"),
        expert=True,
    )
    max_changed: float = option(
        1.0,
        "Largest fraction of an example's words that may change",
        low=0.01,
        high=1.0,
        expert=True,
    )
    similarity: float = option(
        0.0,
        "Minimum similarity to the original (cosine of MiniLM embeddings), in addition to the "
        "recipe's own constraints; 0 for none",
        low=0.0,
        high=1.0,
        expert=True,
    )
    protected_words: str = option(
        "", "Words that must not change, separated by commas", expert=True
    )
    column: str = option(
        "first",
        "Which text of a pair may change",
        choices=("first", "second", "both"),
        expert=True,
    )
    only_label: str = option(
        "",
        "Attack only examples with this label, such as those that a detector must find; empty: all",
        title="Only label",
    )

    @property
    def largest(self) -> int:
        """The largest number of examples of any selected attack."""
        return max(self._sample_size(CATALOGUE[name]) for name in self.recipes.split(", "))

    def _sample_size(self, entry: CatalogueEntry) -> int:
        return self.word_examples if entry.changes == WORDS else self.examples

    @staticmethod
    def unavailable_choices() -> dict[str, str]:
        """Attacks that cannot run on this machine, with the reason."""
        return {name: lack for name, entry in CATALOGUE.items() if (lack := missing(entry))}

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `attack` (one row per recipe), `attack_example` (one per recipe and example)."""
        examples = self._attacked(pair)
        selected = [CATALOGUE[name] for name in self.recipes.split(", ")]
        order = self._order(examples, pair)
        self._check(selected, examples, order)
        report(0.0, "loading TextAttack")
        from ..attacks.validity import add_validity

        totals: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        index, chunks = pair.chunk
        precision = self.precision
        if precision == "auto":  # the dense model is timed once per study
            precision = pair.of_dense("attack precision", lambda: faster_precision(pair.dense))
        for name, sample, part in self._plan(selected, order, report):
            outcomes = self._run(name, pair, examples, sample[index::chunks], precision, part)
            totals.append(
                {
                    "recipe": name,
                    **summarize(outcomes),
                    "precision": precision,
                    # over searches, so that a resumed run includes the time before it stopped
                    "seconds": sum(outcome.seconds for outcome in outcomes),
                }
            )
            rows += [{"recipe": name, **asdict(outcome)} for outcome in outcomes]
        if chunks > 1:
            return {}
        report(1.0, "checking the validity of the changed texts")
        return {
            self.name: pd.DataFrame(totals),
            f"{self.name}_example": add_validity(pd.DataFrame(rows), device_of(pair.pruned)),
        }

    def _attacked(self, pair: Pair) -> Examples:
        """Return the evaluation examples; without labels, the dense predictions are attacked."""
        examples = pair.task.evaluation
        if examples.labels is not None:
            return examples
        return replace(examples, labels=dense_predictions(pair, no_report).predicted)

    def _victim(self, pair: Pair, on_progress: Callable[[], None], dtype: torch.dtype) -> Any:
        """Return the attacked model with TextAttack's interface."""
        from ..attacks.victim import Victim

        tokenizer = pair.tokenizer_of(pair.pruned)
        return Victim(pair.pruned, tokenizer, on_progress, pair.batch_size, pair.max_length, dtype)

    @property
    def goal(self) -> tuple[Any, ...]:
        """Options that define a success; part of the key of saved outcomes."""
        return ()

    def _run(
        self,
        recipe: str,
        pair: Pair,
        examples: Examples,
        indices: list[int],
        precision: str,
        report: Report,
    ) -> list[AttackOutcome]:
        """Outcomes of a recipe on these examples; finished ones are read from the job's folder."""
        from ..attacks import engine
        from ..attacks.budget import AttackBudget, ProgressReporter
        from ..attacks.outcome import OutcomeLog

        budget = AttackBudget(
            self.query_budget,
            self.time_budget,
            self.max_changed,
            similarity=self.similarity,
            never=tuple(self.protected_words.lower().replace(",", " ").split()),
            column=self.column,
        )
        settings = [STOP_WORDS, asdict(budget), precision, pair.seed, pair.max_length, *self.goal]
        content = json.dumps([__version__, *settings, asdict(examples)])
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        index, chunks = pair.chunk
        file = f"{self.name}.jsonl" if chunks == 1 else f"{self.name}.{index}.jsonl"
        reporter = ProgressReporter(report)
        victim = self._victim(pair, reporter.report_if_due, PRECISIONS[precision])
        outcomes = engine.run(
            recipe,
            victim,
            reporter,
            examples=examples,
            indices=indices,
            budget=budget,
            seed=pair.seed,
            log=OutcomeLog(pair.folder and pair.folder / file, recipe, key),
        )
        by_example = {outcome.example: outcome for outcome in outcomes}
        return [by_example[example] for example in indices]

    def _order(self, examples: Examples, pair: Pair) -> list[int]:
        """Evaluation indices in the order in which they are attacked."""
        order = list(range(len(examples)))
        random.Random(pair.seed).shuffle(order)
        if not self.only_label:
            return order
        names, labels = dict(enumerate(pair.task.label_names)), examples.labels or ()
        chosen = [index for index in order if names.get(labels[index]) == self.only_label]
        if not chosen:
            raise PruneError(
                f"{self.name}: only_label is {self.only_label!r}, but none of {len(examples)} "
                f"evaluation examples has this label; the labels of the model are "
                f"{', '.join(names.values())}."
            )
        return chosen

    def _check(
        self, selected: Sequence[CatalogueEntry], examples: Examples, order: Sequence[int]
    ) -> None:
        if self.column != "first" and examples.pairs is None:
            raise PruneError(
                f"{self.name}: column is {self.column!r}, but this task has no text pairs; "
                "leave it at 'first'."
            )
        rewriting = [entry.name for entry in selected if entry.changes == EVASION]
        if rewriting and self.max_changed < 1:
            raise PruneError(
                f"{self.name}: max_changed is {self.max_changed:g}, but {rewriting[0]} changes "
                "whole texts; set it to 1."
            )
        for reason in filter(None, map(missing, selected)):
            raise PruneError(reason)
        require("textattack", "attacks")
        if any(entry.changes != WORDS for entry in selected):
            return
        # word attacks support English only
        detected = [
            languages.foreign_language(examples.texts[i]) for i in order[: self.word_examples]
        ]
        if all(detected):
            raise PruneError(
                f"{self.name}: {', '.join(entry.name for entry in selected)} changes words by "
                f"English lists, but the texts are {', '.join(dict.fromkeys(detected))}; choose an "
                "attack on letters, such as DeepWordBug."
            )

    def _plan(
        self, selected: Sequence[CatalogueEntry], order: list[int], report: Report
    ) -> list[tuple[str, list[int], Report]]:
        """(recipe, indices into the evaluation sample, its part of the progress) for each recipe.

        The order depends on the seed only: a smaller sample is the start of a larger one, and every
        model is attacked on the same examples.
        """
        samples = [order[: self._sample_size(entry)] for entry in selected]
        costs = [
            len(sample) * entry.seconds for sample, entry in zip(samples, selected, strict=True)
        ]
        ends = [0.0, *(sum(costs[: count + 1]) / sum(costs) for count in range(len(costs)))]
        parts = [subrange(report, start, end) for start, end in zip(ends, ends[1:], strict=False)]
        return [
            (entry.name, sample, part)
            for entry, sample, part in zip(selected, samples, parts, strict=True)
        ]


def faster_precision(model: Any) -> str:
    """ "bf16" if it is clearly faster than fp32 on this device for a small batch, else "fp32"."""
    batch = timing_batch(model, *PROBE)
    single, half = time_interleaved(
        [model, copy.deepcopy(model).to(torch.bfloat16)], batch, 5, report=no_report
    ).seconds
    return "bf16" if min(half) < FASTER * min(single) else "fp32"
