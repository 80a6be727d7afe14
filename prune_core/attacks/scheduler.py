"""Many searches at once: each runs as it is until it asks a model, and all that wait are answered in one go.

A search is ordinary code in a greenlet of its own, so TextAttack's loops need not know of each other. Knows nothing of
textattack, and of models only how their memory ends.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from greenlet import getcurrent, greenlet

from ..errors import Cancelled
from .budget import BudgetExceeded, Clock

FATAL_ERRORS = (
    Cancelled,
    torch.OutOfMemoryError,
)  # the user, or the experiment, who halves the batch
LETTERS_PER_ROUND = 200_000  # letters asked about at once, so that a long text cannot outrun its time budget with one question
BatchModel = Callable[[Sequence[Any]], Any]  # texts -> a sequence of as many answers


class Query(NamedTuple):
    """What a search waits for."""

    answerer: BatchModel
    texts: Sequence[Any]


class Search(NamedTuple):
    """One piece of work that asks on its way, with the clock that holds it to its time and the seed of its dice."""

    work: Callable[[], Any]
    clock: Clock
    seed: int
    size: float = 1.0  # of its memory, beside others


def query_model(answerer: BatchModel, texts: Sequence[Any]) -> list[Any]:
    """Within a search, wait for the next rounds of answers; anywhere else, ask at once."""
    above = getcurrent().parent
    return list(answerer(texts)) if above is None else above.switch(Query(answerer, texts))


def run_concurrently(searches: Iterable[Search], most: int) -> Iterator[Any]:
    """What the searches return, as they end; those on their way are at most so many, in sizes. What a search raises ends all."""
    waiting, flying = iter(searches), list[_RunningSearch]()
    while True:
        while (
            sum(flight.size for flight in flying) < most
            and (search := next(waiting, None)) is not None
        ):
            flying.append(_RunningSearch(search))
            flying[
                -1
            ].start()  # from here as in later rounds: torch walks the C stack when it raises, and it must look the same
        landed = [flight for flight in flying if flight.question is None]
        yield from (flight.returned for flight in landed)
        flying = [flight for flight in flying if flight.question is not None]
        if not flying and not landed:
            return
        if not landed:  # else those that take their places ask in the same round
            _step(flying)


def _step(flying: Sequence[_RunningSearch]) -> None:
    """One round: every answerer is asked once, about texts of all that wait for it."""
    asking = [(flight, flight.question.answerer) for flight in flying if flight.question]
    for answerer in {answerer: None for _, answerer in asking}:
        _deliver(
            answerer,
            [
                (flight, flight.part(LETTERS_PER_ROUND // len(asking)))
                for flight, own in asking
                if own == answerer
            ],
        )


def _deliver(answerer: BatchModel, asking: Sequence[tuple[_RunningSearch, Sequence[Any]]]) -> None:
    """Answers to all who ask, each charged for its letters; where that fails each asks alone, and whose texts break it hears so."""
    letters = [sum(map(_letters, texts)) for _, texts in asking]
    started = time.perf_counter()
    try:
        answers = iter(answerer([text for _, texts in asking for text in texts]))
    except FATAL_ERRORS:
        raise
    except Exception as error:
        for flight, texts in asking:
            if len(asking) == 1:
                flight.fail(error)
            else:
                _deliver(answerer, [(flight, texts)])
        return
    each = (time.perf_counter() - started) / max(1, sum(letters))
    for (flight, texts), size in zip(asking, letters, strict=True):
        flight.answer(list(islice(answers, len(texts))), each * size)


def _letters(text: Any) -> int:
    return len(str(text))


class _RunningSearch:
    """A search on its way. TextAttack draws from the global generators, so their states change with the search."""

    def __init__(self, search: Search):
        self.clock, self.size, self.returned = search.clock, search.size, None
        self.question: Query | None = None
        self.answers: list[Any] = []
        self.greenlet = greenlet(search.work)
        outside = _states()
        random.seed(search.seed)
        np.random.seed(search.seed)
        self.states = _states()
        _set_states(outside)

    def start(self) -> None:
        """On to the first question, or to the end."""
        self._resume(self.greenlet.switch)

    def part(self, letters: int) -> Sequence[Any]:
        """The next texts to ask about, of about so many letters: one search's texts are alike."""
        assert self.question is not None, "only who waits is asked for"
        left = self.question.texts[len(self.answers) :]
        return left[: max(1, letters // max(1, _letters(left[0])))] if left else left

    def answer(self, answers: list[Any], seconds: float) -> None:
        """On with the question, to the next one, or to the end; `seconds` is this search's share of what the answers took."""
        assert self.question is not None, "only who waits is answered"
        self.clock.spent += seconds
        self.answers += answers
        if self.clock.total >= self.clock.seconds:
            self.fail(BudgetExceeded())
        elif len(self.answers) == len(self.question.texts):
            self._resume(self.greenlet.switch, self.answers)

    def fail(self, error: Exception) -> None:
        """The question cannot be answered."""
        self._resume(self.greenlet.throw, error)

    def _resume(self, go: Callable[..., Any], *given: Any) -> None:
        outside = _states()
        _set_states(self.states)
        self.clock.resume()
        try:
            said = go(*given)
        finally:
            self.clock.pause()
            self.states = _states()
            _set_states(outside)
        self.question, self.answers = None if self.greenlet.dead else said, []
        self.returned = said if self.greenlet.dead else None


def _states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _set_states(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
