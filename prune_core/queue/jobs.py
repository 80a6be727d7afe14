"""The queue as pages and commands use it: submit, cancel and resume jobs, start workers.

A process that runs jobs (worker.py) holds a file lock until it ends, so whether it is alive can be
checked without heartbeats or process IDs. Does not import torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..aliases import current_options
from ..errors import PruneError
from ..paths import ROOT
from ..store.job import Job, Status
from ..store.locks import Lock
from ..store.results import Results
from ..store.store import Store

if TYPE_CHECKING:
    from ..experiments.experiment import Experiment

# A worker is a separate process: restarting the dashboard or closing a tab loses nothing.
COMMAND = [sys.executable, "-m", "prune_core", "worker"]


def device_lock(store: Store, device: str) -> Lock:
    """Return the lock held by the one worker of a device."""
    return Lock(store.home / "workers" / f"device-{device.replace(':', '-')}.lock")


def process_lock(store: Store, worker: str) -> Lock:
    """Return the lock that a process which runs jobs holds until it ends."""
    return Lock(store.home / "workers" / f"{worker}.lock")


def submit(store: Store, experiment: Experiment, again: bool = False) -> tuple[int, list[str]]:
    """Queue the stages of an experiment that are missing; return (job, those stages).

    With `again` all stages are computed in a new job.
    """
    from ..models.devices import pick_device

    pick_device(experiment.device)  # raises for a missing device here rather than in a worker
    id, new = add_job(store, experiment, again)
    if new:
        ensure_worker(experiment.device, store)
    return id, new


def add_job(
    store: Store, experiment: Experiment, again: bool = False, worker: str = ""
) -> tuple[int, list[str]]:
    """Add an experiment to the queue; return (job, the stages that it adds).

    A job of the same study with the same plan is returned as it is. A finished one of the same
    model is extended by the new measures. A new job has the results of stages that any job has
    computed. The job is marked as running if `worker`, a process that runs it itself, is named.
    """
    from ..experiments.experiment import estimate_seconds
    from ..experiments.stage_keys import experiment_key, stage_folders

    key = experiment_key(experiment)
    if not again:
        existing = store.find(key, experiment.study)
        if existing and (existing.status == Status.DONE or not worker):
            return existing.id, []
        if finished := _same_model(store, experiment):
            return finished.id, _add_measures(store, finished, experiment, worker)
    folders = stage_folders(experiment, run=uuid.uuid4().hex[:8] if again else "")
    id = store.submit(
        experiment.to_dict(),
        experiment.label,
        key,
        experiment.study,
        experiment.device,
        stages=folders,
        worker=worker,
        estimate=sum(estimate_seconds(experiment).values()),
    )
    done = store.job(id).done
    return id, [stage for stage in folders if stage not in done]


def expected_seconds(experiment: Experiment, earlier: Sequence[Job]) -> dict[str, float]:
    """Estimate the seconds of every stage from earlier jobs on this machine.

    A stage takes as long as the median of those of the same checkpoint, data, settings and options;
    a method at any sparsity counts. Without one, the default estimate applies.
    """
    from ..experiments.experiment import estimate_seconds

    known: dict[str, list[float]] = {}
    for job in earlier:
        for stage, seconds in job.seconds.items():
            known.setdefault(_timing_key(job.experiment, stage), []).append(seconds)
    plan = experiment.to_dict()
    return {
        stage: median(known.get(_timing_key(plan, stage), [default]))
        for stage, default in estimate_seconds(experiment).items()
    }


def _timing_key(plan: Mapping[str, Any], stage: str) -> str:
    """Return what the time of a stage depends on, as text; not the seed and the sparsity."""
    measure = next((each for each in plan["measures"] if each["name"] == stage), None)
    method = (plan["method"] or {}).get("name", "")
    names = ("checkpoint", "source", "calibration_size", "evaluation_size", "device", "max_length")
    settings = {name: plan.get(name) for name in names}
    return json.dumps([stage, measure, method, settings], sort_keys=True)


def missing_stages(store: Store, experiment: Experiment) -> list[str]:
    """Return the stages of an experiment that no job has computed."""
    from ..experiments.stage_keys import stage_folders

    results = Results(store.home / "results", stage_folders(experiment))
    return [stage for stage in results.folders if not results.is_done(stage)]


def _same_model(store: Store, experiment: Experiment) -> Job | None:
    """Return a finished job of the study that differs from the experiment in measures only.

    None if a measure of that job has other options: both results stay.
    """
    from ..experiments.stage_keys import stage_folders

    new = {measure.name: measure for measure in experiment.measures}
    for job in reversed(store.jobs(experiment.study)):
        before = _plan(job) if job.status == Status.DONE else None
        if before is None or any(new.get(each.name, each) != each for each in before.measures):
            continue
        if not before.measures and experiment.method is None:
            continue
        if stage_folders(replace(experiment, measures=before.measures)) == job.stages:
            return job
    return None


def _plan(job: Job) -> Experiment | None:
    """Return the experiment of a job; None if this version cannot run it."""
    from ..experiments.experiment import Experiment

    try:
        return Experiment.from_dict(job.experiment)
    except PruneError:  # a method or an option that was removed
        return None


def _add_measures(store: Store, job: Job, experiment: Experiment, worker: str) -> list[str]:
    """Extend a finished job by the measures that it lacks; return the stages to compute."""
    from ..experiments.experiment import Experiment
    from ..experiments.stage_keys import experiment_key, stage_folders

    before = Experiment.from_dict(job.experiment)
    names = {measure.name for measure in before.measures}
    added = [measure for measure in experiment.measures if measure.name not in names]
    if not added:
        return []
    whole = replace(before, measures=(*before.measures, *added))
    folders = stage_folders(replace(experiment, measures=whole.measures))
    new = {measure.name: folders[measure.name] for measure in added}
    what = f"added {', '.join(new)}"
    store.extend(job.id, whole.to_dict(), experiment_key(whole), new, what, worker)
    store.index(job.id, *new)  # those that a job of another study has computed
    missing = [stage for stage in new if stage not in store.job(job.id).done]
    if not missing and not worker:
        store.update(job.id, status=Status.DONE, finished=time.time(), progress=1.0)
    return missing


def ensure_worker(device: str, store: Store) -> None:
    """Start a worker for the device unless it has one; an idle worker preloads the demo models."""
    lock = device_lock(store, device)
    if not lock.acquire() or lock.file is None:
        return
    log = store.home / "workers" / f"worker-{device.replace(':', '-')}.log"
    # the worker inherits the lock, so no second one is started while the first imports torch
    with log.open("ab") as out:
        subprocess.Popen(
            [*COMMAND, "--device", device, "--lock", str(lock.file)],
            pass_fds=(lock.file,),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PRUNESCOPE_HOME": str(store.home)},
            start_new_session=True,  # Ctrl-C in the dashboard's terminal must not stop the worker
        )
    lock.release()


def housekeeping(store: Store) -> None:
    """Mark crashed jobs as failed, requeue each after its first crash, and start missing workers.

    Called periodically by the supervisor and by pages that show the queue.
    """
    mark_crashed(store)
    for job in store.jobs():
        crashed_once = job.facts.get("died") == 1 and "again" not in job.facts
        # a job that a user's own command runs is started in the instant it is created
        is_queued_job = job.started != job.created
        if job.status == Status.FAILED and crashed_once and is_queued_job:
            store.requeue(job.id)
    for device in {job.device for job in store.jobs() if job.status == Status.QUEUED}:
        ensure_worker(device, store)


def mark_crashed(store: Store) -> list[int]:
    """Mark running jobs whose process has ended as failed, with the last log line; return IDs."""
    crashed = []
    for job in store.jobs():
        lock = process_lock(store, job.worker)
        if job.status != Status.RUNNING or lock.is_held():
            continue
        lock.remove()
        during = f" during {job.stage}" if job.stage else ""
        facts = job.facts | {"died": job.facts.get("died", 0) + 1}
        message = (
            f"The process that ran this job ended{during}. "
            f"Last line of its log: {last_line(store.folder(job.id) / 'log.txt')}"
        )
        if oom_kills() > facts.get("memory_kills", float("inf")):
            requested = job.experiment["batch_size"]
            facts["batch_size"] = max(1, min(facts.get("batch_size", requested), requested) // 2)
            message = (
                f"The machine ran out of memory{during}; the batch size is halved to "
                f"{facts['batch_size']}."
            )
        status, error = (Status.CANCELLED, "") if job.cancel else (Status.FAILED, message)
        if store.finish(job.id, status, error, job.worker):
            store.update(job.id, facts=facts)
            crashed.append(job.id)
    return crashed


def oom_kills() -> int:
    """Return the number of processes killed for lack of memory since boot; 0 if unknown."""
    try:
        counts = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in counts.splitlines() if line.startswith("oom_kill "))


def last_line(log: Path, default: str = "(empty)") -> str:
    """Return the last non-empty line of a log; progress bars separate lines by carriage returns."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else default


def cancel(store: Store, id: int) -> None:
    """Cancel a job; a running one stops within two seconds. PruneError if it has ended."""
    mark_crashed(store)
    store.cancel(id)


def resume(store: Store, id: int) -> None:
    """Queue a failed or cancelled job again; it continues after its last finished stage.

    Raise PruneError if the job has another status.
    """
    mark_crashed(store)
    store.resume(id)
    ensure_worker(store.job(id).device, store)


def with_new_measures(
    job: Job, names: Iterable[str], options: Mapping[str, Mapping[str, object]]
) -> Experiment:
    """Return a finished job's experiment with these measures added, or with changed options.

    Raise PruneError if the job is not finished.
    """
    from ..experiments.experiment import Experiment
    from ..measures import MEASURES
    from ..plugins import build

    if job.status != Status.DONE:
        raise PruneError(
            f"Job {job.id} is {job.status}; only a finished job can be measured again."
        )
    experiment = Experiment.from_dict(job.experiment)
    measures = {measure.name: measure for measure in experiment.measures}
    for name in names:
        before = measures[name].to_dict() if name in measures else {}
        changes = current_options(name, options.get(name, {}))
        measures[name] = build(MEASURES, name, {**before, **changes})
    return replace(experiment, measures=tuple(measures.values()))


def remeasure(
    store: Store,
    id: int,
    names: Sequence[str],
    options: Mapping[str, Mapping[str, object]],
    *,
    worker: str = "",
) -> None:
    """Run measures of a finished job again; their old rows stay until the new ones are saved.

    The job is queued, or marked as running if `worker`, a process that runs it itself, is named.
    """
    from ..experiments.stage_keys import experiment_key, stage_folders

    job = store.job(id)
    experiment = with_new_measures(job, names, options)
    # the rest of an older job's plan stays as stored, so pages still group it with the same model
    plan = {**job.experiment, "measures": experiment.to_dict()["measures"]}
    folders = stage_folders(experiment)
    run = uuid.uuid4().hex[:8]
    new = {name: f"{folders[name]}-{run}" for name in names}
    store.extend(
        id, plan, experiment_key(experiment), new, f"measured {', '.join(names)} again", worker
    )
    if not worker:
        ensure_worker(job.device, store)


def seconds_left(jobs: Iterable[Job]) -> float:
    """Estimate the seconds until all of these jobs have finished."""
    return sum(
        job.estimate_left or 0.0 for job in jobs if job.status in (Status.QUEUED, Status.RUNNING)
    )
