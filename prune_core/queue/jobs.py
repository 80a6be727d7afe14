"""The asking side of the queue: submit, start a worker, cancel, resume, notice the dead. Imports no torch.

A process that runs jobs holds a file lock for as long as it lives, so whether it is alive needs no heartbeat and no
trust in process numbers. worker.py is the doing side.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PruneError
from ..paths import ROOT
from ..store.job import Job, Status
from ..store.locks import Lock
from ..store.store import Store

if TYPE_CHECKING:
    from ..experiments.experiment import Experiment

# A worker is its own process: the dashboard may restart, a tab may close, nothing is lost.
COMMAND = [sys.executable, "-m", "prune_core", "worker"]


def device_lock(store: Store, device: str) -> Lock:
    """Held by the one worker of a device."""
    return Lock(store.home / "workers" / f"device-{device.replace(':', '-')}.lock")


def process_lock(store: Store, worker: str) -> Lock:
    """Held by one process that runs jobs, for its whole life."""
    return Lock(store.home / "workers" / f"{worker}.lock")


def submit(store: Store, experiment: Experiment, again: bool = False) -> tuple[int, bool]:
    """Queue an experiment: (job, whether it was there already). `again` computes it anew even then.

    What another study has finished is copied into this one; what this study has, finished or not, is that job.
    """
    from ..experiments.experiment import estimates
    from ..models.devices import pick_device

    pick_device(experiment.device)  # a device that is not there is said now, not by a worker
    key = experiment.key()
    if not again:
        if same := store.find(key, experiment.study):
            return same.id, True
        if there := finished(store, experiment):
            return there.id, True
    seconds = sum(estimates(experiment).values())
    id = store.submit(
        experiment.to_dict(),
        experiment.label,
        key,
        experiment.study,
        experiment.device,
        estimate=seconds,
    )
    ensure_worker(experiment.device, store)
    return id, False


def finished(store: Store, experiment: Experiment) -> Job | None:
    """The finished job of the same experiment in its study, copied there where another study has it."""
    key = experiment.key()
    for study in (experiment.study, None):
        job = store.find(key, study)
        if job and job.status == Status.DONE:
            return (
                job
                if job.study == experiment.study
                else store.job(store.copy(job.id, experiment.study))
            )
    return None


def ensure_worker(device: str, store: Store | None = None) -> None:
    """Start a worker for the device unless one is there; it loads its models while it waits."""
    store = store or Store()
    lock = device_lock(store, device)
    if not lock.take() or lock.file is None:
        return
    log = store.home / "workers" / f"worker-{device.replace(':', '-')}.log"
    # the worker inherits the lock, so nobody starts a second one while the first still imports torch
    with log.open("ab") as out:
        subprocess.Popen(
            [*COMMAND, "--device", device, "--lock", str(lock.file)],
            pass_fds=(lock.file,),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PRUNESCOPE_HOME": str(store.home)},
            start_new_session=True,  # Ctrl-C in the dashboard's terminal is not for the worker
        )
    lock.release()


def housekeeping(store: Store) -> None:
    """What a page that shows the queue and the supervisor call now and then: mark the dead, queue once more what died for the first
    time, and see that queued jobs have a worker."""
    mark_crashed(store)
    for job in store.jobs():
        died_once = (
            job.status == Status.FAILED and job.facts.get("died") == 1 and "again" not in job.facts
        )
        if (
            died_once and job.started != job.created
        ):  # which a person's own command is in the same instant
            store.again(job.id)
    for device in {job.device for job in store.jobs() if job.status == Status.QUEUED}:
        ensure_worker(device, store)


def mark_crashed(store: Store) -> list[int]:
    """Mark running jobs whose process is gone as failed, with the last line of their log; their numbers."""
    dead = []
    for job in store.jobs():
        life = process_lock(store, job.worker)
        if job.status == Status.RUNNING and not life.is_held():
            life.remove()
            told = last_line(store.folder(job.id) / "log.txt")
            during = f" during {job.stage}" if job.stage else ""
            facts = job.facts | {"died": job.facts.get("died", 0) + 1}
            ended = f"The process that ran this job ended{during}. Last line of its log: {told}"
            if oom_kills() > facts.get("memory_kills", float("inf")):
                batch = min(
                    facts.get("batch_size", job.experiment["batch_size"]),
                    job.experiment["batch_size"],
                )
                facts["batch_size"] = max(1, batch // 2)
                ended = f"The machine's memory ran out{during}; with half the batch, {facts['batch_size']}, it needs less."
            status, error = (Status.CANCELLED, "") if job.cancel else (Status.FAILED, ended)
            if store.finish(job.id, status, error, job.worker):
                store.update(job.id, facts=facts)
                dead.append(job.id)
    return dead


def oom_kills() -> int:
    """How many processes this machine has ended since its start because its memory was full; 0 where it does not tell."""
    try:
        counts = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in counts.splitlines() if line.startswith("oom_kill "))


def last_line(log: Path) -> str:
    """The last line of a log that says something; progress bars rewrite theirs with a carriage return."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else "(empty)"


def cancel(store: Store, id: int) -> None:
    """Stop a job; within two seconds where it runs."""
    mark_crashed(store)
    store.cancel(id)


def resume(store: Store, id: int) -> None:
    """Queue a failed or cancelled job again; it goes on behind its last finished stage."""
    mark_crashed(store)
    store.resume(id)
    ensure_worker(store.job(id).device, store)


def with_new_measures(
    job: Job, names: Iterable[str], options: Mapping[str, Mapping[str, object]]
) -> Experiment:
    """Return a finished job's experiment with these measures, their options changed where given."""
    from ..experiments.experiment import Experiment
    from ..measures import MEASURES
    from ..plugins import build

    if job.status != Status.DONE:
        raise PruneError(
            f"Job {job.id} is {job.status}; only a finished job can be measured again."
        )
    experiment = Experiment.from_dict(job.experiment)
    measures = {each.name: each for each in experiment.measures}
    for name in names:
        before = measures[name].to_dict() if name in measures else {}
        measures[name] = build(MEASURES, name, {**before, **options.get(name, {})})
    return replace(experiment, measures=tuple(measures.values()))


def remeasure(
    store: Store,
    id: int,
    names: Sequence[str],
    options: Mapping[str, Mapping[str, object]],
    *,
    worker: str = "",
) -> None:
    """Run measures of a finished job again; their old rows stay until the new ones are there.

    The job is queued, or marked as running if `worker`, a process that runs it itself, is named.
    """
    job = store.job(id)
    experiment = with_new_measures(job, names, options)
    # of older jobs the rest stays as it was written, so that pages still see them as the same model
    plan = {**job.experiment, "measures": experiment.to_dict()["measures"]}
    store.update(
        id,
        experiment=plan,
        key=experiment.key(),
        done=[name for name in job.done if name not in names],
        status=Status.RUNNING if worker else Status.QUEUED,
        worker=worker,
        message="",
        finished=None,
        deferred=0,
    )
    with store.write() as db:
        store.note(db, f"measured {', '.join(names)} again", "", id)
    if not worker:
        ensure_worker(job.device, store)


def seconds_left(jobs: Iterable[Job]) -> float:
    """Estimated seconds until all of them are over."""
    return sum(
        job.estimate_left or 0.0 for job in jobs if job.status in (Status.QUEUED, Status.RUNNING)
    )
