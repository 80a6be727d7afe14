"""Runs one recipe on one model over examples, each within its budget and with its own seed; yields an outcome for each.

The search, the goal and the constraints are TextAttack's own. Knows nothing of tables or statistics.
"""

from __future__ import annotations

import traceback
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import editdistance
import torch

from .. import Cancelled, PruneError
from ..data import Examples
from ..encoders import device_of
from .budget import Budget, Clock, OutOfTime, Pulse
from .flight import Search, fly
from .recipes import COLUMNS, prepared
from .resources import load_textattack
from .sentences import Encoder
from .text import Text
from .victim import Input, Victim

load_textattack()
from textattack import Attack  # noqa: E402
from textattack.attack_results import AttackResult, SkippedAttackResult, SuccessfulAttackResult  # noqa: E402

SUCCESS, FAILED, SKIPPED, ERROR = "success", "failed", "skipped", "error"


@dataclass(frozen=True)
class Outcome:
    """What became of one example; the fields are the columns of the table `attack_example`."""

    example: int
    outcome: str
    text: str
    label: int
    perturbed: str | None = None
    original_prediction: int | None = None
    perturbed_prediction: int | None = None
    original_probabilities: list[float] | None = None
    perturbed_probabilities: list[float] | None = None
    words_changed: int | None = None
    share_changed: float | None = None
    queries: int = 0
    seconds: float = 0.0
    note: str = ""
    pair: str | None = None  # the second text of a pair, which no attack changes


def run(
    recipe: str, victim: Victim, pulse: Pulse, examples: Examples, indices: Sequence[int], budget: Budget, seed: int, most: int = 64
) -> Iterator[Outcome]:
    """The outcome of every chosen example, as they come; `most` are attacked at once, which changes no outcome."""
    encoder = Encoder(device_of(victim.model), pulse.beat, victim.dtype)
    spare: list[Attack] = []  # a search's goal and caches are its own, and serve the next one

    def search(index: int) -> Search:
        clock = Clock(pulse.beat, budget.seconds)

        def work() -> Outcome:
            attack = spare.pop() if spare else prepared(recipe, victim, encoder, budget)
            outcome = _attack_one(attack, clock, examples, index, budget)
            attack.clear_cache()
            spare.append(attack)
            return outcome

        return Search(work, clock, example_seed(seed, index))

    done = succeeded = 0
    pulse.progress, pulse.message = 0.0, f"{recipe}: 0 of {len(indices)}"
    for outcome in fly(map(search, indices), most):
        done, succeeded = done + 1, succeeded + (outcome.outcome == SUCCESS)
        pulse.progress, pulse.message = done / len(indices), f"{recipe}: {done} of {len(indices)}, {succeeded} succeeded"
        pulse.beat()
        yield outcome


def example_seed(seed: int, index: int) -> int:
    """The seed of one example: the same whatever else is attacked, and on every model."""
    return zlib.crc32(f"{seed}:{index}".encode())


def _input(examples: Examples, index: int) -> Input:
    return examples.texts[index] if examples.pairs is None else (examples.texts[index], examples.pairs[index])


def _attack_one(attack: Attack, clock: Clock, examples: Examples, index: int, budget: Budget) -> Outcome:
    assert examples.labels is not None, "attacks need labels"
    second = examples.pairs[index] if examples.pairs else None
    blank = Outcome(index, ERROR, examples.texts[index], examples.labels[index], pair=second)
    try:
        given = _input(examples, index)
        columns = OrderedDict(zip(COLUMNS, (given,) if isinstance(given, str) else given))  # noqa: B905
        outcome = _outcome(attack.attack(Text(columns, clock), blank.label), blank, budget)
    except (Cancelled, torch.OutOfMemoryError):  # the user, or the experiment, who halves the batch
        raise
    except OutOfTime:
        clock.stop()
        outcome = replace(_before_search(attack, blank), note=f"Stopped by the time budget of {budget.seconds:g} s.")
    except PruneError as error:
        outcome = replace(blank, note=str(error))
    except Exception as error:
        outcome = replace(blank, note=traceback.format_exception_only(error)[-1].strip())
    return replace(outcome, seconds=clock.total)


def _outcome(result: AttackResult, blank: Outcome, budget: Budget) -> Outcome:
    before, after = result.original_result, result.perturbed_result
    outcome = replace(
        blank,
        outcome=SKIPPED,
        original_prediction=before.output,
        original_probabilities=_floats(before.raw_output),
        queries=result.num_queries,
    )
    if isinstance(result, SkippedAttackResult):
        return replace(outcome, note="Already wrong before the attack.")
    words = before.attacked_text.words
    changed = editdistance.eval(words, after.attacked_text.words)
    succeeded = isinstance(result, SuccessfulAttackResult)
    spent = not succeeded and result.num_queries >= budget.queries
    return replace(
        outcome,
        outcome=SUCCESS if succeeded else FAILED,
        perturbed=after.attacked_text._text_input[COLUMNS[0]],
        perturbed_prediction=after.output,
        perturbed_probabilities=_floats(after.raw_output),
        words_changed=changed,
        share_changed=changed / max(1, len(words)),
        note=f"Stopped by the query budget of {budget.queries}." if spent else "",
    )


def _before_search(attack: Attack, blank: Outcome) -> Outcome:
    """What is known of an example whose search was stopped: the model's answer to the original (cached, no query)."""
    goal = attack.goal_function
    probabilities = goal._call_model([goal.initial_attacked_text])[0]
    prediction = int(probabilities.argmax())
    return replace(
        blank,
        outcome=FAILED if prediction == blank.label else SKIPPED,
        original_prediction=prediction,
        original_probabilities=_floats(probabilities),
        queries=goal.num_queries,
    )


def _floats(probabilities: Any) -> list[float]:
    return [float(value) for value in probabilities]
