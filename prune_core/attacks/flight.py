"""Many searches at once: each runs as it is until it asks a model, and all that wait are answered in one go.

A search is ordinary code in a greenlet of its own, so TextAttack's loops need not know of each other. Knows nothing of
textattack or of models.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from greenlet import getcurrent, greenlet

from .budget import Clock

Answerer = Callable[[Sequence[Any]], Any]  # texts -> a sequence of as many answers


class Question(NamedTuple):
    """What a search waits for."""

    answerer: Answerer
    texts: Sequence[Any]


class Search(NamedTuple):
    """One piece of work that asks on its way, with the clock that holds it to its time and the seed of its dice."""

    work: Callable[[], Any]
    clock: Clock
    seed: int


def ask(answerer: Answerer, texts: Sequence[Any]) -> Any:
    """Within a search, wait for the next round of answers; anywhere else, ask at once."""
    above = getcurrent().parent
    return answerer(texts) if above is None else above.switch(Question(answerer, texts))


def fly(searches: Iterable[Search], most: int) -> Iterator[Any]:
    """What the searches return, as they end; at most so many are on their way. What a search raises ends them all."""
    waiting, flying = iter(searches), list[_Flight]()
    while True:
        while len(flying) < most and (search := next(waiting, None)) is not None:
            flying.append(_Flight(search))
            flying[-1].resume()  # from here as in later rounds: torch walks the C stack when it raises, and it must look the same
        landed = [flight for flight in flying if flight.question is None]
        yield from (flight.returned for flight in landed)
        flying = [flight for flight in flying if flight.question is not None]
        if not flying and not landed:
            return
        if not landed:  # else those that take their places ask in the same round
            _answer(flying)


def _answer(flying: Sequence[_Flight]) -> None:
    """One round: every answerer is asked once, about all texts that anybody waits for."""
    for answerer in {flight.question.answerer: None for flight in flying if flight.question}:
        asking = [(flight, flight.question.texts) for flight in flying if flight.question and flight.question.answerer == answerer]
        started = time.perf_counter()
        answers = answerer([text for _, texts in asking for text in texts])
        each = (time.perf_counter() - started) / max(1, len(answers))
        start = 0
        for flight, texts in asking:
            flight.resume(answers[start : start + len(texts)], each * len(texts))
            start += len(texts)


class _Flight:
    """A search on its way. TextAttack draws from the global generators, so their states change with the search."""

    def __init__(self, search: Search):
        self.search, self.returned = search, None
        self.question: Question | None = None
        self.greenlet = greenlet(search.work)
        outside = _states()
        random.seed(search.seed)
        np.random.seed(search.seed)
        self.states = _states()
        _set_states(outside)

    def resume(self, *answers: Any) -> None:
        """On to the next question, or to the end: `answers`, and the seconds they took."""
        given = answers[:1]
        outside = _states()
        _set_states(self.states)
        self.search.clock.resume(*answers[1:])
        try:
            said = self.greenlet.switch(*given)
        finally:
            self.search.clock.pause()
            self.states = _states()
            _set_states(outside)
        self.question = None if self.greenlet.dead else said
        self.returned = said if self.greenlet.dead else None


def _states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _set_states(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
