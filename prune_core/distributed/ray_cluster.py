"""A planned study on a Ray cluster: one task an experiment, its attacks in chunks; what they write is collected while they run.

Ray places the tasks, and starts them again where a node dies; a task started again goes on behind its last finished stage. The folder
of the plan must be one that every node sees, and every node must have PruneScope. The optional package ray is imported here only.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import PruneError, require
from ..experiments import memory
from ..experiments.experiment import Experiment
from ..measures.attack import Attack
from ..models.checkpoints import folders
from ..plugins import Report, no_report
from ..queue.jobs import mark_crashed
from ..queue.worker import new_worker
from ..store.job import Status
from ..store.store import Store
from . import collect, shards
from .shards import Record

RETRIES = 3  # of a task whose node died
INTERVAL = 1.0  # seconds between looks at what the tasks have written
GRACE = 10.0  # seconds in which a cancelled experiment may stop by itself
PROGRAM = 2e9  # bytes that a process takes before it holds a model
BROKEN = "A task of it broke off: {error}"


@dataclass
class RunningTask:
    """One experiment's tasks; the last one's end is the experiment's."""

    folder: Path
    tasks: Sequence[Any]
    job: int | None = None
    seen: Record = field(default_factory=Record)
    cancelled: float | None = None  # since when


def run(
    store: Store, wanted: Sequence[Path], address: str, chunk: int, cpus: int, report: Report
) -> dict[Path, Record]:
    """Run the experiments of those folders on the cluster at that address; how each of them ended.

    `chunk`: sentences of an attack in one task; `cpus`: processors a task, which are its threads too.
    """
    require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a run is told to anybody
    import ray

    try:
        _is_reachable(address)
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise PruneError(
            f"There is no Ray cluster to be had at {address}: {str(error)[:160]}; start one with ray start --head, or say "
            "--ray local for one on this machine alone."
        ) from None
    mark_crashed(store)  # jobs of an earlier run of this command that was killed
    name, life = new_worker(store)
    underway = list[RunningTask]()
    try:
        tasks = _Tasks(ray, chunk, cpus)
        for folder in wanted:
            (folder / shards.CANCEL).unlink(missing_ok=True)
            underway.append(RunningTask(folder, tasks.of(folder)))
        while active := [each for each in underway if each.tasks]:
            ray.wait([each.tasks[-1] for each in active], timeout=INTERVAL)
            for each in active:
                _poll(ray, store, each, worker=name)
            over = sum(each.seen.progress for each in underway) / len(underway)
            running = sum(each.seen.status == Status.RUNNING for each in active)
            report(
                over, f"{len(underway) - len(active)} of {len(underway)} over, {running} at work"
            )
        return {folder: Record.of(folder) for folder in wanted}
    finally:
        for each in underway:
            if each.tasks:  # a person has stopped this command
                _stop(ray, each, force=True)
                _collected(
                    store,
                    each,
                    replace(Record.of(each.folder), status=Status.CANCELLED, message=""),
                    worker=name,
                )
        life.remove()
        ray.shutdown()


def _is_reachable(address: str) -> None:
    """OSError where nothing listens at host:port, of which Ray itself is sure only after five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _poll(ray: Any, store: Store, each: RunningTask, worker: str) -> None:
    """Bring what is new of an experiment into the store, and a person's wish to stop to the experiment."""
    ready, _ = ray.wait([each.tasks[-1]], timeout=0)
    record = Record.of(each.folder)
    if ready:
        record = _last(ray, each, record)
        each.tasks = ()
    if record != each.seen and record.status != Status.QUEUED:
        _collected(store, each, record, worker=worker)
    if each.job is not None and each.tasks and store.job(each.job).cancel:
        if each.cancelled is None:
            (each.folder / shards.CANCEL).touch()
            each.cancelled = time.monotonic()
        _stop(ray, each, force=time.monotonic() - each.cancelled > GRACE)


def _last(ray: Any, each: RunningTask, record: Record) -> Record:
    """How it ended, by its own word or, where it has none, by Ray's."""
    try:
        ray.get(each.tasks[-1])
    except (ray.exceptions.RayError, PruneError) as error:
        if record.status not in (Status.DONE, Status.FAILED, Status.CANCELLED):
            said = (
                ""
                if each.cancelled
                else BROKEN.format(error=str(error).strip().splitlines()[-1][:300])
            )
            record = replace(
                record,
                status=Status.CANCELLED if each.cancelled else Status.FAILED,
                error=said,
                message="",
            )
            record.write(each.folder)
    return record


def _collected(store: Store, each: RunningTask, record: Record, worker: str) -> None:
    each.job = collect.adopt_shard(store, each.folder, record, worker=worker)
    each.seen = record


def _stop(ray: Any, each: RunningTask, force: bool) -> None:
    for task in each.tasks:
        ray.cancel(task, force=force)


class _Tasks:
    """Experiments as tasks with what they need."""

    def __init__(self, ray: Any, chunk: int, cpus: int):
        self.chunk, self.cpus = chunk, cpus
        self.nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.perform, self.attack = (
            ray.remote(max_retries=RETRIES)(each) for each in (_perform, _attack)
        )

    def of(self, folder: Path) -> list[Any]:
        """The tasks of one experiment, each waiting for those before it."""
        experiment, record = shards.experiment_in(folder), Record.of(folder)
        needs = self._needs(experiment)
        perform, attack = self.perform.options(**needs), self.attack.options(**needs)
        chunks = 1 if "attack" in record.done else self._chunks(experiment)
        if chunks == 1:
            return [perform.remote(str(folder), "")]
        before = perform.remote(str(folder), "attack")
        parts = [attack.remote(str(folder), (index, chunks), before) for index in range(chunks)]
        return [before, *parts, perform.remote(str(folder), "", *parts)]

    def _chunks(self, experiment: Experiment) -> int:
        largest = max(
            (each.largest for each in experiment.measures if isinstance(each, Attack)), default=1
        )
        return -(-largest // self.chunk)

    def _needs(self, experiment: Experiment) -> dict[str, Any]:
        """Processors, a GPU where the experiment may use one, and memory; a sentence where no node has as much."""
        place = folders.BUNDLED.get(experiment.checkpoint, Path(experiment.checkpoint))
        gpus = int(
            experiment.device.startswith("cuda")
            or (experiment.device == "auto" and any("GPU" in node for node in self.nodes))
        )
        length = experiment.max_length
        sizes = memory.widths(folders.config_of(place)) | {
            "tokens": experiment.calibration * length,
            "longest": length,
        }
        room = PROGRAM + memory.estimate_memory(experiment, "cpu", **sizes).total  # type: ignore[arg-type]
        wanted = {"CPU": self.cpus, "GPU": gpus, "memory": room}
        if not any(
            all(node.get(name, 0) >= amount for name, amount in wanted.items())
            for node in self.nodes
        ):
            raise PruneError(
                f"No node of the cluster has {self.cpus} processors, {gpus} GPUs and {room / 1e9:.1f} GB of memory, which "
                f"{experiment.label} asks for; lower --cpus, or choose another device."
            )
        return {"num_cpus": self.cpus, "num_gpus": gpus, "memory": room}


def _perform(folder: str, until: str, *before: str) -> str:
    """A task: an experiment to its end, or until its attacks; where what came before has failed, only its word."""
    if bad := [status for status in before if status in (Status.FAILED, Status.CANCELLED)]:
        return bad[0]
    return shards.perform(Path(folder), no_report, until).status


def _attack(folder: str, part: tuple[int, int], before: str) -> str:
    """A task: one chunk of an experiment's attacks, into a journal that the experiment then reads."""
    if before not in (Status.FAILED, Status.CANCELLED):
        shards.attack(Path(folder), part)
    return before
