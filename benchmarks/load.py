"""Load test: page times and resource leaks with twenty sessions on one server while a job runs.

    python -m benchmarks.load [--home STORE] [--sessions 20] [--visits 400] [--think 8]

The sessions use Streamlit's protocol over websockets from a separate process, so that no browser is
measured; the time of a page is from the click to the end of its script, with all elements received.
Each session views a page for `think` seconds on average (exponentially distributed) before it
requests the next. Goals on two cores: 95th percentile under 5 s; memory after all visits within 10%
of that after a quarter of them; no more threads, open files or processes than before the first.
Works on a copy of the store; if it is empty, run `python -m prune_core demo --wait` first.
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
from .pages import PAGES, copy_store

GOAL = 5.0  # seconds
MAX_GROWTH = 0.10
# seconds: Streamlit keeps disconnected sessions for two minutes, each with the three files of an
# event loop
SETTLE = 130.0
TIMEOUT = 180.0  # seconds without a response


def main() -> int:
    """Run the visits and report on the server; exit status 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=default_home())
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--visits", type=int, default=400)
    parser.add_argument(
        "--think",
        type=float,
        default=8.0,
        help="mean seconds between a response and the next click",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = copy_store(options.home, Path(folder) / "store", 1)
        with served(home) as (address, server):
            asyncio.run(
                _session(address, PAGES, 0.0, rng=random.Random(9), times=[])
            )  # warm-up: caches and persistent processes
            before = _resources(server)
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
                _session(address, PAGES[:1], 0.0, rng=random.Random(9), times=[])
            )  # a new session triggers the removal of old ones
            return _report(times, levels, before, after=_resources(server), status=status)


def _job(store: Store) -> int:
    """Queue an attack that runs longer than the visits, in its own worker."""
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
    """Return the seconds of every visit; append (visits so far, MB) to `levels`."""
    times: list[float] = []
    tasks = []
    for number in range(sessions):
        rng = random.Random(number)
        tasks.append(
            asyncio.create_task(
                _session(
                    address,
                    rng.choices(PAGES, k=visits // sessions),
                    think,
                    rng=rng,
                    times=times,
                )
            )
        )
    while not all(task.done() for task in tasks):
        await asyncio.sleep(1.0)
        if not levels or len(times) >= levels[-1][0] + visits // 20:
            levels.append((len(times), server.memory_info().rss / 1e6))
    await asyncio.gather(*tasks)
    levels.append((len(times), server.memory_info().rss / 1e6))
    return times


async def _session(
    address: str, pages: Sequence[str], think: float, rng: random.Random, times: list[float]
) -> None:
    """Visit the pages in one session."""
    url = address.replace("http", "ws") + "/_stcore/stream"
    async with websockets.connect(
        url, subprotocols=[websockets.Subprotocol("streamlit")], max_size=None, origin=address
    ) as socket:  # type: ignore[arg-type]
        for page in pages:
            await asyncio.sleep(rng.expovariate(1 / think) if think else 0.0)
            request = BackMsg()
            request.rerun_script.page_name = page
            started = time.perf_counter()
            await socket.send(request.SerializeToString())
            await asyncio.wait_for(_wait_for_page(socket), TIMEOUT)
            times.append(time.perf_counter() - started)


async def _wait_for_page(socket: websockets.ClientConnection) -> None:
    """Wait until the script has finished; raise an exception shown on the page."""
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


def _resources(server: psutil.Process) -> dict[str, int]:
    children = [child for child in server.children(recursive=True) if child.is_running()]
    return {
        "threads": server.num_threads(),
        "open files": server.num_fds(),
        "child processes": len(children),
    }


def _report(
    times: list[float],
    levels: list[tuple[int, float]],
    before: dict[str, int],
    after: dict[str, int],
    status: str,
) -> int:
    """Print the result; return 1 if a goal is missed."""
    p50, p95 = np.percentile(times, (50, 95))
    quarter = next(level for done, level in levels if done >= len(times) // 4)
    growth = levels[-1][1] / quarter - 1
    leaked = {name: after[name] - before[name] for name in after if after[name] > before[name]}
    print(
        f"{len(times)} visits with a concurrent job ({status}), {os.cpu_count()} cores: median "
        f"{p50:.2f} s, 95% within {p95:.2f} s "
        f"(goal {GOAL:g}), longest {max(times):.2f} s"
    )
    print(
        f"memory {quarter:.0f} MB after a quarter, {levels[-1][1]:.0f} MB at the end: "
        f"{growth:+.1%} (goal {MAX_GROWTH:.0%})"
    )
    print(f"before {before}, after {after}: " + (f"leaked {leaked}" if leaked else "no leaks"))
    return int(p95 > GOAL or growth > MAX_GROWTH or bool(leaked) or status != Status.RUNNING)


if __name__ == "__main__":
    sys.exit(main())
