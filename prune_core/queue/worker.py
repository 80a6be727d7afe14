"""Worker process of the queue: claims jobs of one device and runs them one at a time.

A second thread writes the progress and stops a cancelled job. The command line runs jobs with the
same function, `run_job`, so both give the same rows.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch

from ..errors import Cancelled, PruneError
from ..experiments.experiment import Experiment, estimate_seconds, is_slow, stages
from ..experiments.run import pending_stages, preload, run
from ..models.devices import pick_device
from ..paths import PACKAGE
from ..plugins import Report
from ..store.job import Job, Status
from ..store.locks import Lock
from ..store.schema import is_full
from ..store.store import Store
from ..versions import versions
from .jobs import device_lock, ensure_worker, last_line, oom_kills, process_lock

POLL = 0.25  # seconds between reads of the cancel flag, and between writes of the progress
# seconds for a cancelled stage to reach its next report; POLL + GRACE is below the promised 2
GRACE = 1.0
LOG_EVERY = 5.0  # seconds between lines of a job's log
IDLE = 600.0  # seconds without a job after which a worker exits
WAIT = 0.3  # seconds between queries of an empty queue


def new_worker(store: Store) -> tuple[str, Lock]:
    """Return a unique name for this process and its lock, which is held while the process lives."""
    name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    lock = process_lock(store, name)
    lock.acquire()
    return name, lock


class Progress:
    """Writes the progress of a running job to the store and reads its cancel flag, in a thread.

    The job's thread only sets fields, so a stage may report as often as it likes.
    """

    def __init__(
        self,
        store: Store,
        job: Job,
        experiment: Experiment,
        pending: list[str],
        exit_process: Callable[[], NoReturn],
        extra_report: Report | None,
    ):
        self.store, self.id, self.worker = store, job.id, job.worker
        self.exit_process = exit_process
        self.extra_report = extra_report
        self.seconds = estimate_seconds(experiment)
        self.remaining = pending
        self.message = ""
        self.cancelled = threading.Event()
        self._finished = threading.Event()
        self._logged = (0.0, "")
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        self.enter_stage()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._finished.set()
        self._thread.join()

    def report(self, progress: float, message: str) -> None:
        """Record progress; raise Cancelled if the user has requested it. Called by the stages."""
        if self.cancelled.is_set():
            raise Cancelled
        self.progress, self.message = progress, message
        if self.extra_report is not None:
            self.extra_report(progress, f"{self.stage}: {message}")

    @property
    def stage(self) -> str:
        """The current stage."""
        return self.remaining[0] if self.remaining else ""

    def enter_stage(self) -> None:
        """Record the stage that begins in the store and in the log."""
        left = sum(self.seconds[name] for name in self.remaining)
        self.stage_started = time.monotonic()
        # progress at the start of the stage, and now
        self.stage_start = self.progress = 1 - left / sum(self.seconds.values())
        self.store.update(self.id, stage=self.stage)
        self.log(f"{self.stage}: started" if self.stage else "all stages finished")

    def log(self, line: str) -> None:
        """Append a line to the job's log."""
        with (self.store.folder(self.id) / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._logged = (time.monotonic(), line)

    def estimate_left(self) -> float:
        """Estimate the seconds to the end of the job.

        The current stage is extrapolated from its progress once that exceeds 5%; the others have
        their default estimates.
        """
        if not self.remaining:
            return 0.0
        spent, expected = time.monotonic() - self.stage_started, self.seconds[self.stage]
        # progress within this stage, 0 to 1
        stage_progress = (self.progress - self.stage_start) * sum(self.seconds.values()) / expected
        current = spent * (1 / stage_progress - 1) if stage_progress > 0.05 else expected - spent
        return max(current, 0.0) + sum(self.seconds[name] for name in self.remaining[1:])

    def _run(self) -> None:
        cancelled_at: float | None = None
        while not self._finished.wait(POLL):
            job = self.store.job(self.id)
            if job.cancel and cancelled_at is None:
                cancelled_at = time.monotonic()
                self.cancelled.set()
            if cancelled_at is not None and time.monotonic() - cancelled_at > GRACE:
                # the stage reports too rarely to stop by itself (a long import or computation)
                self.log("stopped in the middle of a computation")
                self.store.finish(self.id, Status.CANCELLED, "", self.worker)
                self.exit_process()
            has_changed = (self.progress, self.message) != (job.progress, job.message)
            if cancelled_at is None and has_changed:
                self.store.update(
                    self.id,
                    progress=self.progress,
                    message=self.message,
                    estimate_left=self.estimate_left(),
                )
            if self.message != self._logged[1] and time.monotonic() - self._logged[0] > LOG_EVERY:
                self.log(self.message)


def run_job(
    store: Store,
    job: Job,
    exit_process: Callable[[], NoReturn],
    extra_report: Report | None = None,
    may_defer: bool = False,
) -> Job:
    """Run a claimed job until it ends in any way; return the job in its final state.

    `exit_process` is called if a cancelled stage does not stop by itself; `extra_report` also
    receives the progress. With `may_defer` the job may be requeued before its slow stages. Errors
    of the job are recorded in it and not raised.
    """
    folder, results = store.folder(job.id), store.results(job)
    try:
        experiment = Experiment.from_dict(job.experiment)
        store.update(job.id, versions=versions(), facts=job.facts | {"memory_kills": oom_kills()})
        # another job may have finished some of them
        store.index(job.id, *(name for name in stages(experiment) if name not in job.done))
        pending = pending_stages(experiment, results)
        with Progress(store, job, experiment, pending, exit_process, extra_report) as progress:
            if may_defer and _defer_if_slow(store, job.id, experiment, progress=progress):
                return store.job(job.id)
            for stage in run(
                experiment,
                results,
                folder,
                progress.report,
                batch_size=job.facts.get("batch_size", 0),
            ):
                store.index(job.id, stage.name)
                progress.log(f"{stage.name}: finished in {stage.seconds:.1f} s")
                progress.remaining = [name for name in progress.remaining if name != stage.name]
                progress.enter_stage()
                if may_defer and _defer_if_slow(store, job.id, experiment, progress=progress):
                    return store.job(job.id)
        store.finish(job.id, Status.DONE, "", job.worker)
    except (Exception, KeyboardInterrupt) as error:
        store.finish(job.id, *error_status(error, folder), job.worker)
    return store.job(job.id)


def error_status(error: BaseException, folder: Path) -> tuple[str, str]:
    """Map an exception to (status, message).

    Unexpected errors are logged, never raised: one bad job must not stop the queue.
    """
    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return Status.CANCELLED, ""
    if isinstance(error, PruneError):
        return Status.FAILED, str(error)
    assert isinstance(error, Exception), "exceptions that end the process are not caught by a job"
    full = is_full(error, folder)
    if full is not None:
        return Status.FAILED, str(full)
    with (folder / "log.txt").open("a") as log:
        log.write("".join(traceback.format_exception(error)))
    return Status.FAILED, last_line(folder / "log.txt")


def _defer_if_slow(store: Store, id: int, experiment: Experiment, progress: Progress) -> bool:
    """Requeue the job if its next stage is slow and other models still wait for quick ones.

    Return whether it was requeued. This way the first charts of a study appear early.
    """
    slow = {measure.name for measure in experiment.measures if is_slow(measure)}
    return progress.stage in slow and store.defer(id)


def work(device: str = "auto", lock: int | None = None, idle: float = IDLE) -> None:
    """Run queued jobs of a device until there are none for `idle` seconds.

    `lock` is the file descriptor of the device's lock if the parent process has acquired it.
    """
    store = Store()
    if not _device_key(device):
        # resumed jobs of a device that this machine lacks; submitted ones are checked before
        while refused := store.claim([device], "nobody"):
            store.finish(
                refused.id,
                Status.FAILED,
                f"There is no device {device!r} on this machine; submit it again for auto or cpu.",
                "nobody",
            )
        return
    faulthandler.enable()  # a crash in compiled code leaves its trace in the log
    inherited_lock = device_lock(store, device)
    inherited_lock.file = lock
    other_gpus = _claim_gpu(device)
    names = _device_names(device)
    locks = [inherited_lock if name == device else device_lock(store, name) for name in names]
    # wait a moment: a process that checks whether a lock is held acquires it for an instant
    if locks[0].file is None and not locks[0].acquire(patience=1.0):
        return  # another worker serves this device
    worker, alive = new_worker(store)
    last_job, is_warm, modified = time.monotonic(), False, _source_time()
    while time.monotonic() - last_job < idle:
        if lock is not None and _source_time() != modified:
            alive.remove()
            _restart(lambda: None)  # after an update of PruneScope, jobs must run the new code
        for alias in locks[1:]:
            if alias.file is None:
                alias.acquire()  # only signals that this worker serves the alias too
        job = store.claim(names, worker)
        if job is not None:
            if any(
                queued.status == Status.QUEUED and queued.device in names[1:]
                for queued in store.jobs()
            ):
                for gpu in other_gpus:
                    ensure_worker(gpu, store)
            with _output_to_log(store, job.id) as restore:
                run_job(store, job, lambda: _restart(restore), may_defer=True)
            last_job, is_warm = time.monotonic(), True
        elif not is_warm:
            preload()
            is_warm = True
        else:
            time.sleep(WAIT)
    alive.remove()
    for held in locks:
        held.release()
    # a job submitted between the last claim and the release saw the locks held, so nobody
    # started a worker for it
    queued_devices = {job.device for job in store.jobs() if job.status == Status.QUEUED}
    for queued_device in queued_devices & set(names):
        ensure_worker(queued_device, store)


def _claim_gpu(device: str) -> list[str]:
    """Select the requested CUDA device for this process; return the names of the other GPUs.

    "auto" and "cuda" then mean this device. Each GPU has its own worker; jobs for "auto" or "cuda"
    go to whichever is free.
    """
    device_name = _device_key(device)
    if not device_name.startswith("cuda"):
        return []
    torch.cuda.set_device(device_name)
    all_gpus = (f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return [name for name in all_gpus if name != device_name]


def _source_time() -> float:
    """Return when the package's sources were last modified."""
    return max(file.stat().st_mtime for file in PACKAGE.rglob("*.py"))


def _device_names(device: str) -> list[str]:
    """Return all names of this device that jobs may request, its own name first."""
    key = _device_key(device)
    aliases = dict.fromkeys((device, "cuda", "auto"))
    return [key, *(name for name in aliases if name != key and _device_key(name) == key)]


def _device_key(name: str) -> str:
    """Return the device's own name, such as cuda:0 for cuda; "" if this machine lacks it."""
    try:
        return str(pick_device(name))
    except PruneError:
        return ""


@contextmanager
def _output_to_log(store: Store, id: int) -> Iterator[Callable[[], None]]:
    """Redirect stdout and stderr to the job's log, including output of compiled code."""
    before = [os.dup(1), os.dup(2)]

    def redirect(files: list[int]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, file in enumerate(files, start=1):
            os.dup2(file, target)

    with (store.folder(id) / "log.txt").open("ab") as log:
        redirect([log.fileno()] * 2)
    try:
        yield lambda: redirect(before)
    finally:
        redirect(before)
        for file in before:
            os.close(file)


def _restart(restore: Callable[[], None]) -> NoReturn:
    """Replace this process by a fresh worker, which keeps the inherited lock.

    There is no other safe way to stop a computation that does not check the cancel flag.
    """
    restore()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
