"""Attack one example on several models concurrently, and report the steps of each search.

TextAttack's search is not modified. Methods of its goal function and search method are wrapped: one
records the probability of every queried text, the others report each text that the search accepts.
"""

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

# receives the `queries` so far, or the `steps` to the best text so far, beginning with the original
ProgressCallback = Callable[[dict[str, Any]], None]


def run(
    recipe: str,
    victims: Sequence[Victim],
    reporter: ProgressReporter,
    example: Examples,
    budget: AttackBudget,
    seed: int,
    on_progress: Callable[[int, dict[str, Any]], None],
) -> Iterator[tuple[int, AttackOutcome]]:
    """Yield (index of the victim, outcome) as the searches finish.

    `example` contains one example with its label. `on_progress` receives the index of the victim
    and the progress of its search. Outcomes are identical to those of `engine.run` with this seed.
    """
    encoder = Encoder(device_of(victims[0].model), reporter.report_if_due)

    def search(index: int) -> Search:
        clock = Clock(reporter.report_if_due, budget.seconds)

        def work() -> tuple[int, AttackOutcome]:
            assert example.labels is not None, "attacks need labels"
            attack = build_attack(recipe, victims[index], encoder, budget=budget)
            watch(attack, example.labels[0], partial(on_progress, index))
            return index, attack_one(attack, clock, example, index=0, budget=budget)

        return Search(work, clock, example_seed(seed, 0))

    return run_concurrently(map(search, range(len(victims))), len(victims))


def watch(attack: Attack, label: int, on_progress: ProgressCallback) -> None:
    """Wrap the attack's search so that it reports its steps.

    A step is a dict: `text`, the model's `probability` of `label` for it, and the number of
    `queries` until the search found it. A list of steps leads from the original to the best text.
    """
    goal, search = attack.goal_function, attack.search_method
    get_results, perform_search = goal.get_results, search.perform_search
    get_transformations = search.get_transformations
    # id of a queried text -> (text, step): two equal texts can have different predecessors, and
    # the reference to the text prevents reuse of its id
    queried: dict[int, tuple[AttackedText, dict[str, Any]]] = {}
    best = float("inf")

    def record_results(texts: list[AttackedText], **options: Any) -> Any:
        results, is_over = get_results(texts, **options)
        for result in results:
            text = result.attacked_text
            step = {
                "text": text._text_input[COLUMNS[0]],
                "probability": float(result.raw_output[label]),
                "queries": goal.num_queries,
            }
            queried[id(text)] = (text, step)
        on_progress({"queries": goal.num_queries})
        if goal.num_queries == 1:
            report_steps(results[0].attacked_text)  # the original
        return results, is_over

    def report_steps(text: AttackedText) -> None:
        nonlocal best
        best = queried[id(text)][1]["probability"]
        steps = []
        while text is not None:
            if id(text) in queried:  # intermediate texts of a candidate are never queried
                steps.append(queried[id(text)][1])
            text = text.attack_attrs.get("previous_attacked_text")
        on_progress({"steps": steps[::-1]})

    def watch_transformations(text: AttackedText, *args: Any, **options: Any) -> list[AttackedText]:
        if id(text) in queried and queried[id(text)][1]["probability"] < best:
            report_steps(text)
        return get_transformations(text, *args, **options)

    def watch_search(initial: Any) -> Any:
        result = perform_search(initial)
        report_steps(result.attacked_text)
        return result

    goal.get_results = search.get_goal_results = record_results
    search.get_transformations, search.perform_search = watch_transformations, watch_search
