"""Run a planned study on a Ray cluster: one task per experiment, or several if it has attacks.

Results are collected while the tasks run. Ray places the tasks and restarts them if a node dies; a
restarted task continues after its last finished stage. Every node must have access to the plan's
folder and have PruneScope installed. The optional package ray is imported only here.
"""

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
INTERVAL = 1.0  # seconds between reads of the tasks' records
GRACE = 10.0  # seconds in which a cancelled experiment may stop by itself
BASE_MEMORY = 2e9  # bytes of a process without a model
FAILED = "One of its Ray tasks failed: {error}"


@dataclass
class RunningExperiment:
    """An experiment with its Ray tasks, the last of which ends it; no tasks once it has ended."""

    folder: Path
    tasks: Sequence[Any]
    job: int | None = None
    collected: Record = field(default_factory=Record)  # the state that the store has
    cancelled_at: float | None = None  # time.monotonic() of the user's cancellation


def run(
    store: Store, experiments: Sequence[Path], address: str, chunk: int, cpus: int, report: Report
) -> dict[Path, Record]:
    """Run the experiments of these folders on the cluster at `address`; return their records.

    `chunk`: number of examples attacked per task; `cpus`: processors per task, also its threads.
    Raise PruneError if ray is not installed, or if there is no cluster or no node large enough.
    """
    require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
    import ray

    try:
        _require_reachable(address)
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise PruneError(
            f"There is no Ray cluster at {address}: {str(error)[:160]}; start one with "
            "ray start --head, or use --ray local for one on this machine alone."
        ) from None
    mark_crashed(store)  # jobs of an earlier run of this command that was killed
    worker, alive = new_worker(store)
    running = list[RunningExperiment]()
    try:
        starter = _TaskStarter(ray, chunk, cpus)
        for folder in experiments:
            (folder / shards.CANCEL).unlink(missing_ok=True)
            running.append(RunningExperiment(folder, starter.start(folder)))
        while active := [experiment for experiment in running if experiment.tasks]:
            ray.wait([experiment.tasks[-1] for experiment in active], timeout=INTERVAL)
            for experiment in active:
                _poll(ray, store, experiment, worker=worker)
            progress = sum(experiment.collected.progress for experiment in running) / len(running)
            count = sum(experiment.collected.status == Status.RUNNING for experiment in active)
            done = len(running) - len(active)
            report(progress, f"{done} of {len(running)} finished, {count} running")
        return {folder: Record.read(folder) for folder in experiments}
    finally:
        for experiment in running:
            if experiment.tasks:  # the user has stopped this command
                _stop(ray, experiment, force=True)
                record = replace(
                    Record.read(experiment.folder), status=Status.CANCELLED, message=""
                )
                _collect(store, experiment, record, worker=worker)
        alive.remove()
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Raise OSError if nothing listens at host:port, which Ray reports only after five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _poll(ray: Any, store: Store, experiment: RunningExperiment, worker: str) -> None:
    """Collect an experiment's new results, and pass on a cancellation requested in the store."""
    ready, _ = ray.wait([experiment.tasks[-1]], timeout=0)
    record = Record.read(experiment.folder)
    if ready:
        record = _final_record(ray, experiment, record)
        experiment.tasks = ()
    if record != experiment.collected and record.status != Status.QUEUED:
        _collect(store, experiment, record, worker=worker)
    if experiment.job is not None and experiment.tasks and store.job(experiment.job).cancel:
        if experiment.cancelled_at is None:
            (experiment.folder / shards.CANCEL).touch()
            experiment.cancelled_at = time.monotonic()
        _stop(ray, experiment, force=time.monotonic() - experiment.cancelled_at > GRACE)


def _final_record(ray: Any, experiment: RunningExperiment, record: Record) -> Record:
    """Return the experiment's final record, completed with Ray's error if the task was killed."""
    try:
        ray.get(experiment.tasks[-1])
    except (ray.exceptions.RayError, PruneError) as error:
        if record.status not in (Status.DONE, Status.FAILED, Status.CANCELLED):
            status, message = Status.CANCELLED, ""
            if not experiment.cancelled_at:
                reason = str(error).strip().splitlines()[-1][:300]
                status, message = Status.FAILED, FAILED.format(error=reason)
            record = replace(record, status=status, error=message, message="")
            record.write(experiment.folder)
    return record


def _collect(store: Store, experiment: RunningExperiment, record: Record, worker: str) -> None:
    experiment.job = collect.adopt_shard(store, experiment.folder, record, worker=worker)
    experiment.collected = record


def _stop(ray: Any, experiment: RunningExperiment, force: bool) -> None:
    for remote in experiment.tasks:
        ray.cancel(remote, force=force)


class _TaskStarter:
    """Starts experiments as Ray tasks with their resource requirements."""

    def __init__(self, ray: Any, chunk: int, cpus: int):
        self.chunk, self.cpus = chunk, cpus
        self.nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.perform, self.attack = (
            ray.remote(max_retries=RETRIES)(function) for function in (_perform, _attack)
        )

    def start(self, folder: Path) -> list[Any]:
        """Start the tasks of one experiment, each of which depends on those before it."""
        experiment, record = shards.read_experiment(folder), Record.read(folder)
        resources = self._resources(experiment)
        perform, attack = self.perform.options(**resources), self.attack.options(**resources)
        largest = max(
            (measure.largest for measure in experiment.measures if type(measure) is Attack),
            default=1,
        )
        chunks = 1 if "attack" in record.done else -(-largest // self.chunk)  # rounded up
        if chunks == 1:
            return [perform.remote(str(folder), "")]
        first = perform.remote(str(folder), "attack")
        attacks = [attack.remote(str(folder), (index, chunks), first) for index in range(chunks)]
        return [first, *attacks, perform.remote(str(folder), "", *attacks)]

    def _resources(self, experiment: Experiment) -> dict[str, Any]:
        """Return the processors, GPUs and bytes of memory of an experiment's tasks.

        A GPU is requested if the cluster has one and the experiment may use it. Raise PruneError
        if no node has enough.
        """
        place = folders.BUNDLED.get(experiment.checkpoint, Path(experiment.checkpoint))
        has_gpu = any("GPU" in node for node in self.nodes)
        device, length = experiment.device, experiment.max_length
        gpus = int(device.startswith("cuda") or (device == "auto" and has_gpu))
        sizes = memory.model_sizes(folders.config_of(place)) | {
            "tokens": experiment.calibration_size * length,
            "longest": length,
        }
        estimate = memory.estimate_memory(experiment, "cpu", **sizes)  # type: ignore[arg-type]
        memory_needed = BASE_MEMORY + estimate.total
        required = {"CPU": self.cpus, "GPU": gpus, "memory": memory_needed}
        if not any(
            all(node.get(name, 0) >= amount for name, amount in required.items())
            for node in self.nodes
        ):
            raise PruneError(
                f"No node of the cluster has the {self.cpus} processors, {gpus} GPUs and "
                f"{memory_needed / 1e9:.1f} GB of memory that {experiment.label} needs; lower "
                "--cpus, or choose another device."
            )
        return {"num_cpus": self.cpus, "num_gpus": gpus, "memory": memory_needed}


def _perform(folder: str, until: str, *before: str) -> str:
    """Task: run an experiment to its end, or up to its attacks; return its status.

    If an earlier task failed or was cancelled, return that status and run nothing.
    """
    ended = [status for status in before if status in (Status.FAILED, Status.CANCELLED)]
    return ended[0] if ended else shards.run_experiment(Path(folder), no_report, until).status


def _attack(folder: str, chunk: tuple[int, int], before: str) -> str:
    """Task: run one chunk of an experiment's attacks; its outcomes are saved in the folder."""
    if before not in (Status.FAILED, Status.CANCELLED):
        shards.run_attack_chunk(Path(folder), chunk)
    return before
