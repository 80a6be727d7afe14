"""Twenty people on one server while a job runs: how long pages take, and whether anything grows or
stays behind.

    python -m benchmarks.load [--home STORE] [--sessions 20] [--visits 400] [--think 8]

The sessions speak Streamlit's own protocol over websockets from a process of their own, so that no
browser is measured; what a page takes is from the click to the end of its script, every element
received. Each session looks at a page for `think` seconds on the mean, drawn anew each time, before
it asks for the next. Goals on two cores: the 95th percentile under 5 s; after all visits memory
within 10% of what it was after a quarter of them; no thread, open file or process more than before
the first. Works on a copy of the store; without one there, run `python -m prune_core demo --wait`
first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from prune_core.experiments.experiment import Experiment
from prune_core.measures.attack import Attack
from prune_core.queue import jobs
from prune_core.store.job import Status
from prune_core.store.store import Store, default_home

from .dashboard import served
from .pages import PAGES, filled

GOAL = 5.0  # seconds
LEVEL = 0.10
# seconds: Streamlit keeps who has gone for two minutes, with an event loop's three files, should
# they come back
SETTLE = 130.0
BREAK = 180.0  # seconds without an answer


def main() -> int:
    """Visits, then what became of the server; exit 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=default_home())
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--visits", type=int, default=400)
    parser.add_argument(
        "--think",
        type=float,
        default=8.0,
        help="seconds on the mean between an answer and the next click",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = filled(options.home, Path(folder) / "store", 1)
        with served(home) as (address, server):
            asyncio.run(
                _session(address, PAGES, 0.0, dice=random.Random(9), times=[])
            )  # what a server reads once, and the processes it keeps
            before = _held(server)
            job = _job(Store(home))
            levels: list[tuple[int, float]] = []
            times = asyncio.run(
                _visits(
                    address,
                    options.sessions,
                    options.visits,
                    think=options.think,
                    server=server,
                    levels=levels,
                )
            )
            status = Store(home).job(job).status
            time.sleep(SETTLE)
            asyncio.run(
                _session(address, PAGES[:1], 0.0, dice=random.Random(9), times=[])
            )  # at whose coming it lets the others go
            return _told(times, levels, before, after=_held(server), status=status)


def _job(store: Store) -> int:
    """An attack that outlasts the visits, in a worker of its own."""
    long = Experiment(
        measures=(Attack(recipes="TextFooler (MiniLM)", word_examples=10_000),),
        study="Load",
        seed=7,
    )
    return jobs.submit(store, long)[0]


async def _visits(
    address: str,
    sessions: int,
    visits: int,
    think: float,
    server: psutil.Process,
    levels: list[tuple[int, float]],
) -> list[float]:
    """Seconds of every visit; `levels` is filled with (visits so far, MB)."""
    times: list[float] = []
    people = []
    for number in range(sessions):
        dice = random.Random(number)
        people.append(
            asyncio.create_task(
                _session(
                    address,
                    dice.choices(PAGES, k=visits // sessions),
                    think,
                    dice=dice,
                    times=times,
                )
            )
        )
    while not all(person.done() for person in people):
        await asyncio.sleep(1.0)
        if not levels or len(times) >= levels[-1][0] + visits // 20:
            levels.append((len(times), server.memory_info().rss / 1e6))
    await asyncio.gather(*people)
    levels.append((len(times), server.memory_info().rss / 1e6))
    return times


async def _session(
    address: str, pages: Sequence[str], think: float, dice: random.Random, times: list[float]
) -> None:
    """One person, and the pages they look at."""
    place = address.replace("http", "ws") + "/_stcore/stream"
    async with websockets.connect(
        place, subprotocols=[websockets.Subprotocol("streamlit")], max_size=None, origin=address
    ) as socket:  # type: ignore[arg-type]
        for page in pages:
            await asyncio.sleep(dice.expovariate(1 / think) if think else 0.0)
            ask = BackMsg()
            ask.rerun_script.page_name = page
            started = time.perf_counter()
            await socket.send(ask.SerializeToString())
            await asyncio.wait_for(_whole(socket), BREAK)
            times.append(time.perf_counter() - started)


async def _whole(socket: websockets.ClientConnection) -> None:
    """Until the script has ended; an exception on the page ends this run."""
    async for content in socket:
        message = ForwardMsg.FromString(content if isinstance(content, bytes) else content.encode())
        kind = message.WhichOneof("type")
        if kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            raise RuntimeError(message.delta.new_element.exception.message)
        if (
            kind == "script_finished"
            and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
        ):
            return


def _held(server: psutil.Process) -> dict[str, int]:
    children = [child for child in server.children(recursive=True) if child.is_running()]
    return {
        "threads": server.num_threads(),
        "open files": server.num_fds(),
        "child processes": len(children),
    }


def _told(
    times: list[float],
    levels: list[tuple[int, float]],
    before: dict[str, int],
    after: dict[str, int],
    status: str,
) -> int:
    """The table; 1 where a goal is missed."""
    p50, p95 = np.percentile(times, (50, 95))
    quarter = next(level for done, level in levels if done >= len(times) // 4)
    growth = levels[-1][1] / quarter - 1
    more = {name: after[name] - before[name] for name in after if after[name] > before[name]}
    print(
        f"{len(times)} visits, a job {status} beside them, {os.cpu_count()} cores: median "
        f"{p50:.2f} s, 95% within {p95:.2f} s "
        f"(goal {GOAL:g}), longest {max(times):.2f} s"
    )
    print(
        f"memory {quarter:.0f} MB after a quarter, {levels[-1][1]:.0f} MB at the end: "
        f"{growth:+.1%} (goal {LEVEL:.0%})"
    )
    print(
        f"before {before}, after {after}: "
        + (f"left behind {more}" if more else "nothing left behind")
    )
    return int(p95 > GOAL or growth > LEVEL or bool(more) or status != Status.RUNNING)


if __name__ == "__main__":
    sys.exit(main())
