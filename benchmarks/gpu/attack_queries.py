"""Model queries per second during an attack: PruneScope compared with TextAttack's model wrapper.

TextAttack's wrapper uses batches of 32 and pads texts to the model's maximum length; the queries
are the same. If textattack is installed, two complete attacks run as well, and their outcomes on
the device must equal those on the CPU.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from torch import nn

from prune_core.attacks.queries import BatchedQueries
from prune_core.data.examples import DataSource, Examples
from prune_core.models.devices import matrix_precision
from prune_core.tasks import task_data

from .device_setup import DeviceSetup, Row

LIMIT = 45.0  # seconds
CONCURRENT_TEXTS = (1, 64, 1024)
ROUNDS = 3
THEIR_BATCH, THEIR_LENGTH = 32, 512


def run(setup: DeviceSetup) -> Iterator[Row]:
    """Yield one row per number of concurrent texts, then one row per attack."""
    model, tokenizer = setup.demo()
    model.to(setup.device)
    task = task_data.load(DataSource("demo"), ("negative", "positive"))
    with matrix_precision(tf32=False):
        for count in CONCURRENT_TEXTS[:1] if setup.tiny else CONCURRENT_TEXTS:
            yield _rates(setup, model, tokenizer, texts=task.evaluation.texts, count=count)
        if find_spec("textattack") is None:
            yield {
                "table": "attacks",
                "skipped": "textattack is not installed here, so no whole attack was run.",
            }
            return
        yield from _attacks(
            setup,
            model,
            tokenizer,
            examples=task.evaluation.sample(4 if setup.tiny else 100, 0),
        )


def _rates(
    setup: DeviceSetup, model: nn.Module, tokenizer: Any, texts: list[str], count: int
) -> Row:
    """Time queries on texts with two swapped letters, as in an attack, new in every round."""
    rng = random.Random(count)
    rounds = [
        [_swap_letters(rng.choice(texts), rng) for _ in range(count)] for _ in range(ROUNDS + 1)
    ]
    queries = BatchedQueries(model, tokenizer, lambda: None)
    queries.logits(rounds[0])
    ours = median(
        setup.seconds(lambda round_texts=round_texts: queries.logits(round_texts))
        for round_texts in rounds[1:]
    )
    slow_rounds = rounds[1:2] if count > 64 else rounds[1:]  # one round is long enough
    theirs = median(
        setup.seconds(lambda round_texts=round_texts: _as_textattack(model, tokenizer, round_texts))
        for round_texts in slow_rounds
    )
    return {
        "table": "queries",
        "concurrent texts": count,
        "PruneScope, queries per second": count / ours,
        "padded to 512, queries per second": count / theirs,
        "speed-up": theirs / ours,
    }


def _swap_letters(text: str, rng: random.Random) -> str:
    index = rng.randrange(max(1, len(text) - 1))
    return text[:index] + text[index + 1 : index + 2] + text[index : index + 1] + text[index + 2 :]


@torch.no_grad()
def _as_textattack(model: nn.Module, tokenizer: Any, texts: list[str]) -> None:
    for start in range(0, len(texts), THEIR_BATCH):
        chosen = texts[start : start + THEIR_BATCH]
        encoded = tokenizer(
            chosen,
            padding="max_length",
            max_length=THEIR_LENGTH,
            truncation=True,
            return_tensors="pt",
        )
        model(
            **{key: value.to(next(model.parameters()).device) for key, value in encoded.items()}
        ).logits.cpu()


def _attacks(
    setup: DeviceSetup, model: nn.Module, tokenizer: Any, examples: Examples
) -> Iterator[Row]:
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.attacks.victim import Victim
    from prune_core.plugins import no_report

    def attacked(recipe: str, victim_model: nn.Module) -> dict[int, tuple[str, str | None]]:
        reporter = ProgressReporter(no_report)
        budget = AttackBudget(queries=500, seconds=60)
        results = engine.run(
            recipe,
            Victim(victim_model, tokenizer, reporter.report_if_due),
            reporter,
            examples=examples,
            indices=range(len(examples)),
            budget=budget,
            seed=0,
        )
        return {each.example: (each.outcome, each.perturbed) for each in results}

    for recipe in ("DeepWordBug", "PWWS"):
        results: list[dict[int, tuple[str, str | None]]] = []
        seconds = []
        for run_setup, victim_model in (
            (setup.on_cpu, copy.deepcopy(model).cpu()),
            (setup, model),
        ):
            work = partial(attacked, recipe, victim_model)
            seconds.append(
                run_setup.seconds(lambda work=work, results=results: results.append(work()))
            )
        same = sum(results[0][example] == results[1][example] for example in results[0]) / len(
            results[0]
        )
        yield {
            "table": "attacks",
            "recipe": recipe,
            "examples": len(examples),
            "seconds": seconds[1],
            "seconds on the CPU": seconds[0],
            "same outcome and text": same,
            "passes": same >= 0.99,
        }
