"""Runs one recipe on one model over examples, each within its budget and with its own seed; yields an outcome for each.

The search, the goal and the constraints are TextAttack's own. Knows nothing of tables or statistics.
"""

from __future__ import annotations

import traceback
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import editdistance

from ..data.examples import Examples
from ..errors import PruneError
from ..models.devices import device_of
from .attacked_text import FastAttackedText
from .budget import AttackBudget, BudgetExceeded, Clock, ProgressReporter
from .catalogue import CATALOGUE, WORDS
from .constraints import COLUMNS
from .languages import is_not_english, refusal
from .outcome import ERROR, FAILED, SKIPPED, SUCCESS, AttackOutcome, OutcomeLog
from .recipes import build_attack, copy_attack, goal_reached
from .resources import load_textattack
from .scheduler import FATAL_ERRORS, Search, run_concurrently
from .sentence_similarity import Encoder
from .victim import Victim

load_textattack()
from textattack import Attack  # noqa: E402
from textattack.attack_results import AttackResult, SkippedAttackResult  # noqa: E402


def run(
    recipe: str,
    victim: Victim,
    pulse: ProgressReporter,
    examples: Examples,
    indices: Sequence[int],
    budget: AttackBudget,
    seed: int,
    most: int = 64,
    journal: OutcomeLog | None = None,
) -> Iterator[AttackOutcome]:
    """The outcome of every chosen example, as they come; `most` are attacked at once, which changes no outcome.

    What the journal knows is taken from there; what is new is appended to it.
    """
    journal = journal or OutcomeLog()
    known = [journal.known[index] for index in indices if index in journal.known]
    encoder = Encoder(device_of(victim.model), pulse.report_if_due, victim.dtype)
    first = build_attack(recipe, victim, encoder, budget=budget)
    spare = [first]  # a search's goal and caches are its own, and serve the next one

    def search(index: int) -> Search:
        clock = Clock(pulse.report_if_due, budget.seconds)

        def work() -> AttackOutcome:
            attack = spare.pop() if spare else copy_attack(first)
            language = (
                is_not_english(_attacked(examples, index, budget.column))
                if CATALOGUE[recipe].changes == WORDS
                else ""
            )
            outcome = attack_one(
                attack,
                clock,
                examples,
                index=index,
                budget=budget,
                refused=refusal(recipe, language) if language else "",
            )
            attack.clear_cache()
            spare.append(attack)
            journal.append(
                outcome
            )  # here, as others that end in this round may be lost to a cancel
            return outcome

        # a search may hold a text for every letter; in thousands of letters, as one of them says little
        size = max(1.0, (len(examples.texts[index]) / 1000) ** 2)
        return Search(work, clock, example_seed(seed, index), size=size)

    done = succeeded = 0
    pulse.progress, pulse.message = 0.0, f"{recipe}: 0 of {len(indices)}"
    for outcome in chain(
        known,
        run_concurrently(
            map(search, [index for index in indices if index not in journal.known]), most
        ),
    ):
        done, succeeded = done + 1, succeeded + (outcome.outcome == SUCCESS)
        pulse.progress, pulse.message = (
            done / len(indices),
            f"{recipe}: {done} of {len(indices)}, {succeeded} succeeded",
        )
        pulse.report_if_due()
        yield outcome


def example_seed(seed: int, index: int) -> int:
    """The seed of one example: the same whatever else is attacked, and on every model."""
    return zlib.crc32(f"{seed}:{index}".encode())


def _attacked(examples: Examples, index: int, column: str) -> str:
    """The text that may change."""
    return examples.pairs[index] if examples.pairs and column == "second" else examples.texts[index]


def attack_one(
    attack: Attack,
    clock: Clock,
    examples: Examples,
    index: int,
    budget: AttackBudget,
    refused: str = "",
) -> AttackOutcome:
    """What becomes of that example; whatever goes wrong with it is its outcome, and so is why it is `refused`."""
    assert examples.labels is not None, "attacks need labels"
    pair = examples.pairs[index] if examples.pairs else None
    blank = AttackOutcome(
        index, ERROR, examples.texts[index], label=examples.labels[index], pair=pair
    )
    if refused:
        return replace(blank, note=refused)
    try:
        outcome = _searched(attack, clock, blank, budget=budget)
    except FATAL_ERRORS:
        raise
    except PruneError as error:
        outcome = replace(blank, note=str(error))
    except Exception as error:
        what = traceback.format_exception_only(error)[-1].strip()
        outcome = replace(
            blank,
            note=f"The model or the attack failed on this text or on a changed form of it ({what}).",
        )
    return replace(outcome, seconds=clock.total)


def _searched(
    attack: Attack, clock: Clock, blank: AttackOutcome, budget: AttackBudget
) -> AttackOutcome:
    columns = OrderedDict(
        (name, text)
        for name, text in zip(COLUMNS, (blank.text, blank.pair), strict=True)
        if text is not None
    )
    text, goal = FastAttackedText(columns, clock), attack.goal_function
    goal.initial_attacked_text, goal.ground_truth_output, goal.num_queries = (
        text,
        blank.label,
        1,
    )  # for what ends before its search
    try:
        if not text.words:  # some searches break over nothing to change
            return _before_search(attack, blank, "There is no word to change.")
        result = attack.attack(text, blank.label)
        clock.stop()
        return _outcome(result, blank, budget)
    except BudgetExceeded:
        clock.stop()
        return _before_search(attack, blank, f"Stopped by the time budget of {budget.seconds:g} s.")


def _outcome(result: AttackResult, blank: AttackOutcome, budget: AttackBudget) -> AttackOutcome:
    before, after = result.original_result, result.perturbed_result
    outcome = replace(
        blank,
        outcome=SKIPPED,
        original_prediction=before.output,
        original_probabilities=_floats(before.raw_output),
        queries=result.num_queries,
    )
    if isinstance(result, SkippedAttackResult):
        return replace(outcome, note=_why_skipped(outcome))
    words, texts = before.attacked_text.words, after.attacked_text._text_input
    changed = editdistance.eval(words, after.attacked_text.words)
    won = goal_reached(result)
    spent = not won and result.num_queries >= budget.queries
    return replace(
        outcome,
        outcome=SUCCESS if won else FAILED,
        perturbed=texts[COLUMNS[0]],
        perturbed_pair=texts.get(COLUMNS[1]),
        perturbed_prediction=after.output,
        perturbed_probabilities=_floats(after.raw_output),
        words_changed=changed,
        share_changed=changed / max(1, len(words)),
        note=f"Stopped by the query budget of {budget.queries}." if spent else "",
    )


def _before_search(attack: Attack, blank: AttackOutcome, note: str) -> AttackOutcome:
    """What is known of an example without its search: the model's answer to the original (cached, no query)."""
    goal = attack.goal_function
    probabilities = goal._call_model([goal.initial_attacked_text])[0]
    outcome = replace(
        blank,
        outcome=SKIPPED if goal._should_skip(probabilities, goal.initial_attacked_text) else FAILED,
        original_prediction=int(probabilities.argmax()),
        original_probabilities=_floats(probabilities),
        queries=goal.num_queries,
    )
    return replace(outcome, note=_why_skipped(outcome) if outcome.outcome == SKIPPED else note)


def _why_skipped(outcome: AttackOutcome) -> str:
    return (
        "Already wrong before the attack."
        if outcome.original_prediction != outcome.label
        else "Not attacked."
    )


def _floats(probabilities: Any) -> list[float]:
    return [float(value) for value in probabilities]
