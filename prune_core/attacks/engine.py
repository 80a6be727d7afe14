"""Run one attack recipe on one model over examples, each with its own budget and seed.

Search, goal and constraints are TextAttack's own.
"""

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
from .languages import foreign_language, refusal
from .outcome import ERROR, FAILED, SKIPPED, SUCCESS, AttackOutcome, OutcomeLog
from .recipes import build_attack, copy_attack, goal_reached
from .resources import load_textattack
from .scheduler import FATAL_ERRORS, Search, run_concurrently
from .sentence_similarity import Encoder
from .victim import Victim

load_textattack()
from textattack import Attack  # noqa: E402
from textattack.attack_results import AttackResult, SkippedAttackResult  # noqa: E402

MISCLASSIFIED = "Misclassified before the attack."


def run(
    recipe: str,
    victim: Victim,
    reporter: ProgressReporter,
    examples: Examples,
    indices: Sequence[int],
    budget: AttackBudget,
    seed: int,
    concurrency: int = 64,
    log: OutcomeLog | None = None,
) -> Iterator[AttackOutcome]:
    """Yield the outcome of every example as it finishes.

    At most `concurrency` examples are attacked at once, which does not affect outcomes. Outcomes in
    the log are reused; new ones are appended.
    """
    log = log or OutcomeLog()
    known = [log.known[index] for index in indices if index in log.known]
    encoder = Encoder(device_of(victim.model), reporter.report_if_due, victim.dtype)
    first = build_attack(recipe, victim, encoder, budget=budget)
    spare = [first]  # attacks with their goal and caches, reused by later searches

    def search(index: int) -> Search:
        clock = Clock(reporter.report_if_due, budget.seconds)

        def work() -> AttackOutcome:
            attack = spare.pop() if spare else copy_attack(first)
            attack.goal_function.model = victim.for_example(index)
            refused = ""
            if CATALOGUE[recipe].changes == WORDS:
                pairs = examples.pairs if budget.column == "second" else None
                language = foreign_language((pairs or examples.texts)[index])
                refused = refusal(recipe, language) if language else ""
            outcome = attack_one(
                attack, clock, examples, index=index, budget=budget, refused=refused
            )
            attack.clear_cache()
            spare.append(attack)
            # logged here: a cancel may discard others that finish in this round
            log.append(outcome)
            return outcome

        # a search can hold one text per letter, so memory is quadratic; 1 up to a thousand letters
        size = max(1.0, (len(examples.texts[index]) / 1000) ** 2)
        return Search(work, clock, example_seed(seed, index), size=size)

    succeeded = 0
    reporter.progress, reporter.message = 0.0, f"{recipe}: 0 of {len(indices)}"
    remaining = [index for index in indices if index not in log.known]
    outcomes = chain(known, run_concurrently(map(search, remaining), concurrency))
    for finished, outcome in enumerate(outcomes, start=1):
        succeeded += outcome.outcome == SUCCESS
        reporter.progress = finished / len(indices)
        reporter.message = f"{recipe}: {finished} of {len(indices)}, {succeeded} succeeded"
        reporter.report_if_due()
        yield outcome


def example_seed(seed: int, index: int) -> int:
    """Seed of one example, independent of the other examples and of the model."""
    return zlib.crc32(f"{seed}:{index}".encode())


def attack_one(
    attack: Attack,
    clock: Clock,
    examples: Examples,
    index: int,
    budget: AttackBudget,
    refused: str = "",
) -> AttackOutcome:
    """Attack one example; errors become its outcome, as does the reason why it is `refused`."""
    assert examples.labels is not None, "attacks need labels"
    blank = AttackOutcome(
        index,
        ERROR,
        examples.texts[index],
        label=examples.labels[index],
        pair=examples.pairs[index] if examples.pairs else None,
    )
    if refused:
        return replace(blank, note=refused)
    try:
        outcome = _search(attack, clock, blank, budget=budget)
    except FATAL_ERRORS:
        raise
    except PruneError as error:
        outcome = replace(blank, note=str(error))
    except Exception as error:
        reason = traceback.format_exception_only(error)[-1].strip()
        note = f"The model or the attack failed on this text or on a perturbed version ({reason})."
        outcome = replace(blank, note=note)
    return replace(outcome, seconds=clock.total)


def _search(
    attack: Attack, clock: Clock, blank: AttackOutcome, budget: AttackBudget
) -> AttackOutcome:
    columns = OrderedDict(
        (name, text)
        for name, text in zip(COLUMNS, (blank.text, blank.pair), strict=True)
        if text is not None
    )
    text, goal = FastAttackedText(columns, clock), attack.goal_function
    # for outcomes without a search
    goal.initial_attacked_text, goal.ground_truth_output = text, blank.label
    goal.num_queries = 1
    try:
        if not text.words:  # some searches fail without words
            return _without_search(attack, blank, "There is no word to change.")
        result = attack.attack(text, blank.label)
        clock.stop()
        return _outcome(result, blank, budget)
    except BudgetExceeded:
        clock.stop()
        return _without_search(
            attack, blank, f"Stopped by the time budget of {budget.seconds:g} s."
        )


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
    succeeded = goal_reached(result)
    out_of_queries = not succeeded and result.num_queries >= budget.queries
    return replace(
        outcome,
        outcome=SUCCESS if succeeded else FAILED,
        perturbed=texts[COLUMNS[0]],
        perturbed_pair=texts.get(COLUMNS[1]),
        perturbed_prediction=after.output,
        perturbed_probabilities=_floats(after.raw_output),
        words_changed=changed,
        share_changed=changed / max(1, len(words)),
        note=f"Stopped by the query budget of {budget.queries}." if out_of_queries else "",
    )


def _without_search(attack: Attack, blank: AttackOutcome, note: str) -> AttackOutcome:
    """Outcome of an example without a search.

    Contains the prediction for the original, which is cached and costs no query.
    """
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
    is_wrong = outcome.original_prediction != outcome.label
    return MISCLASSIFIED if is_wrong else "Not attacked."


def _floats(probabilities: Any) -> list[float]:
    return [float(value) for value in probabilities]
