"""One example attacked on several models at once, each search as the engine runs it, with somebody who watches its steps.

TextAttack's search stays as it is: what its goal function answers is noted, and the texts it goes on from are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ..data.examples import Examples
from ..models.devices import device_of
from .budget import AttackBudget, Clock, ProgressReporter
from .constraints import COLUMNS
from .engine import attack_one, example_seed
from .outcome import AttackOutcome
from .recipes import build_attack
from .resources import load_textattack
from .scheduler import Search, run_concurrently
from .sentence_similarity import Encoder
from .victim import Victim

load_textattack()
from textattack import Attack  # noqa: E402
from textattack.shared import AttackedText  # noqa: E402

Tell = Callable[
    [dict[str, Any]], None
]  # `queries` so far, or the `steps` to the best text so far, the original first


def run(
    recipe: str,
    victims: Sequence[Victim],
    pulse: ProgressReporter,
    example: Examples,
    budget: AttackBudget,
    seed: int,
    tell: Callable[[int, dict[str, Any]], None],
) -> Iterator[tuple[int, AttackOutcome]]:
    """(index of the victim, outcome) as the searches end; `tell` hears of each victim what `Tell` says, while they run.

    `example` is one, with its label. The outcome is the one that `engine.run` has for it and this seed.
    """
    encoder = Encoder(device_of(victims[0].model), pulse.report_if_due)

    def search(index: int) -> Search:
        clock = Clock(pulse.report_if_due, budget.seconds)

        def work() -> tuple[int, AttackOutcome]:
            assert example.labels is not None, "attacks need labels"
            attack = build_attack(recipe, victims[index], encoder, budget=budget)
            watch(attack, example.labels[0], partial(tell, index))
            return index, attack_one(attack, clock, example, index=0, budget=budget)

        return Search(work, clock, example_seed(seed, 0))

    return run_concurrently(map(search, range(len(victims))), len(victims))


def watch(attack: Attack, label: int, tell: Tell) -> None:
    """Tell of the next search: a step is a text with its probability of the label and the queries asked when it was found."""
    goal, search = attack.goal_function, attack.search_method
    ask, change, perform = goal.get_results, search.get_transformations, search.perform_search
    # by identity, as one text may be reached on two paths; the text is kept so that its identity is not given to another
    known: dict[int, tuple[AttackedText, dict[str, Any]]] = {}
    best = float("inf")

    def noted(texts: list[AttackedText], **options: Any) -> Any:
        results, over = ask(texts, **options)
        for result in results:
            text, chance = result.attacked_text, float(result.raw_output[label])
            known[id(text)] = (
                text,
                {
                    "text": text._text_input[COLUMNS[0]],
                    "probability": chance,
                    "queries": goal.num_queries,
                },
            )
        tell({"queries": goal.num_queries})
        if goal.num_queries == 1:
            follow(results[0].attacked_text)  # the original
        return results, over

    def follow(text: AttackedText) -> None:
        nonlocal best
        best = known[id(text)][1]["probability"]
        steps = []
        while text is not None:
            if (
                id(text) in known
            ):  # else it was made on the way to a candidate and never asked about
                steps.append(known[id(text)][1])
            text = text.attack_attrs.get("previous_attacked_text")
        tell({"steps": steps[::-1]})

    def changed(text: AttackedText, *given: Any, **options: Any) -> list[AttackedText]:
        if id(text) in known and known[id(text)][1]["probability"] < best:
            follow(text)
        return change(text, *given, **options)

    def performed(initial: Any) -> Any:
        found = perform(initial)
        follow(found.attacked_text)
        return found

    goal.get_results = search.get_goal_results = noted
    search.get_transformations, search.perform_search = changed, performed
