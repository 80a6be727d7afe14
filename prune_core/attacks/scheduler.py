"""Run many searches concurrently and batch their model queries.

A search is ordinary code in its own greenlet, so TextAttack's loops need no changes: it runs until
it queries a model, and the queries of all waiting searches are computed together.
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

FATAL_ERRORS = (Cancelled, torch.OutOfMemoryError)  # by the user; handled by halving the batch size
LETTERS_PER_ROUND = (
    200_000  # letters per round, so that one query of a long text cannot exceed its time budget
)
BatchModel = Callable[[Sequence[Any]], Any]  # texts -> sequence of one output per text


class Query(NamedTuple):
    """The query that a search waits for."""

    model: BatchModel
    texts: Sequence[Any]


class Search(NamedTuple):
    """Work that queries models, with its clock and seed."""

    work: Callable[[], Any]
    clock: Clock
    seed: int
    size: float = 1.0  # relative memory requirement


def query_model(model: BatchModel, texts: Sequence[Any]) -> list[Any]:
    """Query a model.

    Within a search, waits for the next rounds of outputs; elsewhere, computes them at once.
    """
    scheduler = getcurrent().parent
    if scheduler is None:
        return list(model(texts))
    return list(scheduler.switch(Query(model, texts)))


def run_concurrently(searches: Iterable[Search], limit: float) -> Iterator[Any]:
    """Yield the results of searches as they finish.

    New searches start while the total size of the running ones is below `limit`. An exception of a
    search ends all of them.
    """
    queued, running = iter(searches), list[_RunningSearch]()
    while True:
        while sum(search.size for search in running) < limit:
            search = next(queued, None)
            if search is None:
                break
            running.append(_RunningSearch(search))
            # started from the same frame as in later rounds: torch inspects the C stack when it
            # raises, and that must look the same
            running[-1].start()
        finished = [search for search in running if search.query is None]
        yield from (search.result for search in finished)
        running = [search for search in running if search.query is not None]
        if not running and not finished:
            return
        if not finished:  # otherwise searches that replace finished ones join this round
            _step(running)


def _step(running: Sequence[_RunningSearch]) -> None:
    """Run one round: call every model once, with the texts of all searches that wait for it."""
    waiting = [(search, search.query.model) for search in running if search.query]
    for model in {model: None for _, model in waiting}:
        batch = [
            (search, search.next_texts(LETTERS_PER_ROUND // len(waiting)))
            for search, queried in waiting
            if queried == model
        ]
        _deliver(model, batch)


def _deliver(model: BatchModel, batch: Sequence[tuple[_RunningSearch, Sequence[Any]]]) -> None:
    """Compute outputs and deliver them; each search is charged in proportion to its letters.

    If the model raises, each search is computed alone, and gets the error of its own texts.
    """
    letters = [sum(map(_letters, texts)) for _, texts in batch]
    started = time.perf_counter()
    try:
        outputs = iter(model([text for _, texts in batch for text in texts]))
    except FATAL_ERRORS:
        raise
    except Exception as error:
        for search, texts in batch:
            if len(batch) == 1:
                search.fail(error)
            else:
                _deliver(model, [(search, texts)])
        return
    seconds_per_letter = (time.perf_counter() - started) / max(1, sum(letters))
    for (search, texts), count in zip(batch, letters, strict=True):
        search.deliver(list(islice(outputs, len(texts))), seconds_per_letter * count)


def _letters(text: Any) -> int:
    return len(str(text))


class _RunningSearch:
    """A search in progress.

    TextAttack uses the global random generators, so their states are switched with the search.
    """

    def __init__(self, search: Search):
        self.clock, self.size, self.result = search.clock, search.size, None
        self.query: Query | None = None
        self.outputs: list[Any] = []
        self.greenlet = greenlet(search.work)
        outer_states = _rng_states()
        random.seed(search.seed)
        np.random.seed(search.seed)
        self.rng_states = _rng_states()
        _set_rng_states(outer_states)

    def start(self) -> None:
        """Run to the first query, or to the end."""
        self._resume(self.greenlet.switch)

    def next_texts(self, letters: int) -> Sequence[Any]:
        """Next texts of the query with about that many letters.

        Assumes that the texts of a search have similar lengths.
        """
        assert self.query is not None, "the search is waiting"
        remaining = self.query.texts[len(self.outputs) :]
        size = _letters(remaining[0]) if remaining else 0
        return remaining[: max(1, letters // max(1, size))]

    def deliver(self, outputs: list[Any], seconds: float) -> None:
        """Add outputs; run to the next query or to the end once the query is complete.

        `seconds` is this search's part of the time for the outputs.
        """
        assert self.query is not None, "the search is waiting"
        self.clock.spent += seconds
        self.outputs += outputs
        if self.clock.total >= self.clock.seconds:
            self.fail(BudgetExceeded())
        elif len(self.outputs) == len(self.query.texts):
            self._resume(self.greenlet.switch, self.outputs)

    def fail(self, error: Exception) -> None:
        """Raise an error inside the search, at its query."""
        self._resume(self.greenlet.throw, error)

    def _resume(self, switch: Callable[..., Any], *args: Any) -> None:
        outer_states = _rng_states()
        _set_rng_states(self.rng_states)
        self.clock.resume()
        try:
            value = switch(*args)
        finally:
            self.clock.pause()
            self.rng_states = _rng_states()
            _set_rng_states(outer_states)
        self.outputs = []
        if self.greenlet.dead:
            self.query, self.result = None, value
        else:
            self.query = value


def _rng_states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _set_rng_states(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
