"""How many questions does a model under attack answer a second? Ours against the way TextAttack's wrapper feeds a model.

Its wrapper takes 32 texts at a time and pads each to the model's full length; what is asked is otherwise the same. Where
textattack is installed, two whole attacks run too, and their outcomes on the device must be the CPU's.
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
from prune_core.data import tasks
from prune_core.data.examples import DataSource, Examples
from prune_core.models.devices import matrix_precision

from .setting import Row, Setting

LIMIT = 45.0  # seconds
IN_FLIGHT = (1, 64, 1024)
ROUNDS = 3
THEIR_BATCH, THEIR_LENGTH = 32, 512


def run(setting: Setting) -> Iterator[Row]:
    """A row a number of texts in flight, then a row an attack."""
    model, tokenizer = setting.demo()
    model.to(setting.device)
    task = tasks.load(DataSource("demo"), ("negative", "positive"))
    with matrix_precision(tf32=False):
        for count in IN_FLIGHT[:2] if setting.tiny else IN_FLIGHT:
            yield _rates(setting, model, tokenizer, texts=task.evaluation.texts, count=count)
        if find_spec("textattack") is None:
            yield {
                "table": "attacks",
                "left out": "textattack is not installed here, so no whole attack was run.",
            }
            return
        yield from _attacks(
            setting,
            model,
            tokenizer,
            examples=task.evaluation.sample(4 if setting.tiny else 100, 0),
        )


def _rates(setting: Setting, model: nn.Module, tokenizer: Any, texts: list[str], count: int) -> Row:
    """Texts as an attack makes them: the sentences with two letters exchanged, new in every round."""
    dice = random.Random(count)
    rounds = [[_changed(dice.choice(texts), dice) for _ in range(count)] for _ in range(ROUNDS + 1)]
    queries = BatchedQueries(model, tokenizer, lambda: None)
    queries.logits(rounds[0])
    ours = median(setting.seconds(lambda own=own: queries.logits(own)) for own in rounds[1:])
    slow = rounds[1:2] if count > 64 else rounds[1:]  # seconds enough to be sure of it
    theirs = median(
        setting.seconds(lambda own=own: _as_textattack(model, tokenizer, own)) for own in slow
    )
    return {
        "table": "queries",
        "texts in flight": count,
        "ours, a second": count / ours,
        "padded to 512, a second": count / theirs,
        "times faster": theirs / ours,
    }


def _changed(text: str, dice: random.Random) -> str:
    place = dice.randrange(max(1, len(text) - 1))
    return text[:place] + text[place + 1 : place + 2] + text[place : place + 1] + text[place + 2 :]


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
    setting: Setting, model: nn.Module, tokenizer: Any, examples: Examples
) -> Iterator[Row]:
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.attacks.victim import Victim
    from prune_core.plugins import no_report

    def attacked(recipe: str, own: nn.Module) -> dict[int, tuple[str, str | None]]:
        reporter = ProgressReporter(no_report)
        budget = AttackBudget(queries=500, seconds=60)
        found = engine.run(
            recipe,
            Victim(own, tokenizer, reporter.report_if_due),
            reporter,
            examples=examples,
            indices=range(len(examples)),
            budget=budget,
            seed=0,
        )
        return {each.example: (each.outcome, each.perturbed) for each in found}

    for recipe in ("DeepWordBug", "PWWS"):
        found: list[dict[int, tuple[str, str | None]]] = []
        seconds = []
        for place, own in ((setting.on_cpu, copy.deepcopy(model).cpu()), (setting, model)):
            work = partial(attacked, recipe, own)
            seconds.append(place.seconds(lambda work=work, found=found: found.append(work())))
        same = sum(found[0][example] == found[1][example] for example in found[0]) / len(found[0])
        yield {
            "table": "attacks",
            "recipe": recipe,
            "sentences": len(examples),
            "seconds": seconds[1],
            "seconds on the CPU": seconds[0],
            "same outcome and text": same,
            "passes": same >= 0.99,
        }
