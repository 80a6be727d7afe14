"""The doing side of the queue: a process that claims jobs and runs them one at a time, and the thread that can stop it.

`perform` runs one job for the worker and for the command line alike, so both give the same rows.
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
from ..experiments.experiment import Experiment, estimates, is_slow, stages
from ..experiments.run import preload, run
from ..models.devices import pick_device
from ..paths import PACKAGE
from ..plugins import Report
from ..store.job import Job, Status
from ..store.locks import Lock
from ..store.schema import is_full
from ..store.store import Store
from ..versions import versions
from .jobs import device_lock, ensure_worker, last_line, oom_kills, process_lock

POLL = 0.25  # seconds between looks at the cancel flag, and between writes of the progress
GRACE = (
    1.0  # seconds for a cancelled stage to reach its next report; with POLL this stays well below 2
)
LOG_EVERY = 5.0  # seconds between lines of a job's log
IDLE = 600.0  # seconds without a job after which a worker ends
WAIT = 0.3  # seconds between looks into an empty queue


def new_worker(store: Store) -> tuple[str, Lock]:
    """A name for this process and the lock that says it lives."""
    name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    lock = process_lock(store, name)
    lock.take()
    return name, lock


class Progress:
    """Carries progress from a running job to the store and the cancel flag back, from a thread of its own.

    The job's thread only sets fields, so a stage may report as often as it likes.
    """

    def __init__(
        self,
        store: Store,
        job: Job,
        experiment: Experiment,
        give_up: Callable[[], NoReturn],
        also: Report | None,
    ):
        self.store, self.id, self.worker = store, job.id, job.worker
        self.give_up, self.also = give_up, also
        self.seconds = estimates(experiment)
        self.left = [name for name in stages(experiment) if name not in job.done]
        self.progress, self.message = job.progress, ""
        self.begun, self.begun_at = (
            time.monotonic(),
            job.progress,
        )  # of the current stage: when, and at which progress
        self.cancelled = threading.Event()
        self._over = threading.Event()
        self._logged = (0.0, "")
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Progress:
        self.enter_stage()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def report(self, progress: float, message: str) -> None:
        """What stages call: remembers, and raises Cancelled when the user asked for it."""
        if self.cancelled.is_set():
            raise Cancelled
        self.progress, self.message = progress, message
        if self.also is not None:
            self.also(progress, f"{self.stage}: {message}")

    @property
    def stage(self) -> str:
        """The stage that runs."""
        return self.left[0] if self.left else ""

    def enter_stage(self) -> None:
        """Note in the store and in the log which stage begins."""
        self.begun, self.begun_at = (
            time.monotonic(),
            1 - sum(self.seconds[name] for name in self.left) / sum(self.seconds.values()),
        )
        self.progress = self.begun_at
        self.store.update(self.id, stage=self.stage)
        self.log(f"{self.stage} begins" if self.stage else "all stages are over")

    def log(self, line: str) -> None:
        """A line for the job's log."""
        with (self.store.folder(self.id) / "log.txt").open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._logged = (time.monotonic(), line)

    def estimate_left(self) -> float:
        """Seconds to the end of the job: this stage by its own pace once it has one, the others by their usual time."""
        if not self.left:
            return 0.0
        spent, expected = time.monotonic() - self.begun, self.seconds[self.stage]
        advance = (
            (self.progress - self.begun_at) * sum(self.seconds.values()) / expected
        )  # 0..1 within this stage
        current = spent * (1 / advance - 1) if advance > 0.05 else expected - spent
        return max(current, 0.0) + sum(self.seconds[name] for name in self.left[1:])

    def _beat(self) -> None:
        asked: float | None = None
        while not self._over.wait(POLL):
            job = self.store.job(self.id)
            if job.cancel and asked is None:
                asked = time.monotonic()
                self.cancelled.set()
            if asked is not None and time.monotonic() - asked > GRACE:
                # the stage reports too rarely to stop by itself (a long import, one long computation)
                self.log("stopped in the middle of a computation")
                self.store.finish(self.id, Status.CANCELLED, "", self.worker)
                self.give_up()
            if asked is None and (self.progress, self.message) != (job.progress, job.message):
                self.store.update(
                    self.id,
                    progress=self.progress,
                    message=self.message,
                    estimate_left=self.estimate_left(),
                )
            if self.message != self._logged[1] and time.monotonic() - self._logged[0] > LOG_EVERY:
                self.log(self.message)


def perform(
    store: Store,
    job: Job,
    give_up: Callable[[], NoReturn],
    also: Report | None = None,
    may_defer: bool = False,
) -> Job:
    """Run a claimed job to its end, whatever that is, and return it as it then stands.

    `give_up` leaves the process when a cancelled stage does not stop by itself; `also` sees the progress.
    """
    folder = store.folder(job.id)
    try:
        experiment = Experiment.from_dict(job.experiment)
        store.update(job.id, versions=versions(), facts=job.facts | {"memory_kills": oom_kills()})
        with Progress(store, job, experiment, give_up=give_up, also=also) as pulse:
            if may_defer and _defers(store, job.id, experiment, pulse=pulse):
                return store.job(job.id)
            known = {name: store.rows(name, [job.id]) for name in store.tables(job.id)}
            for stage in run(
                experiment,
                folder,
                pulse.report,
                done=job.done,
                known=known,
                batch_size=job.facts.get("batch_size", 0),
            ):
                store.add_rows(
                    job.id, stage.rows, stage.name, seconds=stage.seconds, facts=stage.facts
                )
                pulse.log(f"{stage.name} took {stage.seconds:.1f} s")
                pulse.left = [name for name in pulse.left if name != stage.name]
                pulse.enter_stage()
                if may_defer and _defers(store, job.id, experiment, pulse=pulse):
                    return store.job(job.id)
        store.finish(job.id, Status.DONE, "", job.worker)
    except (Exception, KeyboardInterrupt) as error:
        store.finish(job.id, *error_status(error, folder), job.worker)
    return store.job(job.id)


def error_status(error: BaseException, folder: Path) -> tuple[str, str]:
    """What a job's error makes of it: (status, sentence). A mistake of ours must not take the queue down with it, and goes to the log."""
    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return Status.CANCELLED, ""
    if isinstance(error, PruneError):
        return Status.FAILED, str(error)
    assert isinstance(error, Exception), "what ends a process is not for a job to catch"
    said = is_full(error, folder)
    if said is None:
        with (folder / "log.txt").open("a") as log:
            log.write("".join(traceback.format_exception(error)))
    return Status.FAILED, str(said or last_line(folder / "log.txt"))


def _defers(store: Store, id: int, experiment: Experiment, pulse: Progress) -> bool:
    """Slow measures wait until every model of the study has had its quick ones: first charts come early."""
    slow = {measure.name for measure in experiment.measures if is_slow(measure)}
    return pulse.stage in slow and store.defer(id)


def work(device: str = "auto", lock: int | None = None, idle: float = IDLE) -> None:
    """The worker's life: hold the device, claim, perform, end when nothing came for `idle` seconds.

    `lock` is the open lock file of the device's name, where whoever started this process holds it for us.
    """
    store = Store()
    if not _device_key(device):
        _refuse(store, device)
        return
    faulthandler.enable()  # a crash in compiled code leaves its trace in the log
    given = device_lock(store, device)
    given.file = lock
    siblings = _claim_gpu(device)
    names = _names(device)
    locks = [given if name == device else device_lock(store, name) for name in names]
    # patience: whoever asks whether a lock is held, holds it for an instant
    if locks[0].file is None and not locks[0].take(patience=1.0):
        return  # another worker serves this device
    name, life = new_worker(store)
    last, warm, code = time.monotonic(), False, _code()
    while time.monotonic() - last < idle:
        if lock is not None and _code() != code:
            life.remove()
            _restart(lambda: None)  # after an update of PruneScope, jobs are for the new code
        for alias in locks[1:]:
            if alias.file is None:
                alias.take()  # only tells others that this name is served
        job = store.claim(names, name)
        if job is not None:
            if any(
                waiting.status == Status.QUEUED and waiting.device in names[1:]
                for waiting in store.jobs()
            ):
                for sibling in siblings:
                    ensure_worker(sibling, store)
            with _output_to_log(store, job.id) as restore:
                perform(store, job, lambda: _restart(restore), may_defer=True)
            last, warm = time.monotonic(), True
        elif not warm:
            preload()
            warm = True
        else:
            time.sleep(WAIT)
    life.remove()
    for held in locks:
        held.release()
    # a job that came between the last look and the letting go found the locks held and started nobody
    for waiting in {
        job.device for job in store.jobs() if job.status == Status.QUEUED and job.device in names
    }:
        ensure_worker(waiting, store)


def _claim_gpu(device: str) -> list[str]:
    """Make the CUDA device asked for this process's own, so that "auto" and "cuda" mean it here; the names of the others.

    Each GPU has a worker of its own; jobs for "auto" or "cuda" go to whichever is free.
    """
    own = _device_key(device)
    if not own.startswith("cuda"):
        return []
    torch.cuda.set_device(own)
    return [name for index in range(torch.cuda.device_count()) if (name := f"cuda:{index}") != own]


def _code() -> float:
    """When the package's sources last changed."""
    return max(file.stat().st_mtime for file in PACKAGE.rglob("*.py"))


def _refuse(store: Store, device: str) -> None:
    """Fail the jobs of a device that this machine does not have (resumed ones: submit looks first)."""
    while job := store.claim([device], "nobody"):
        store.finish(
            job.id,
            Status.FAILED,
            f"There is no device {device!r} on this machine; submit it again for auto or cpu.",
            "nobody",
        )


def _names(device: str) -> list[str]:
    """Every name under which people ask for this device, its own first."""
    own = _device_key(device)
    return [
        own,
        *(
            name
            for name in dict.fromkeys((device, "cuda", "auto"))
            if name != own and _device_key(name) == own
        ),
    ]


def _device_key(name: str) -> str:
    try:
        return str(pick_device(name))
    except PruneError:
        return ""


@contextmanager
def _output_to_log(store: Store, id: int) -> Iterator[Callable[[], None]]:
    """Everything that libraries print during a job goes to the job's log, output of compiled code included."""
    before = [os.dup(1), os.dup(2)]

    def point(files: list[int]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, file in enumerate(files, start=1):
            os.dup2(file, target)

    with (store.folder(id) / "log.txt").open("ab") as log:
        point([log.fileno()] * 2)
    try:
        yield lambda: point(before)
    finally:
        point(before)
        for file in before:
            os.close(file)


def _restart(restore: Callable[[], None]) -> NoReturn:
    """Become a fresh worker: the only sure way to stop a computation that does not ask. The given lock stays held."""
    restore()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
