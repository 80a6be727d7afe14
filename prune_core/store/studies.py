"""A store's studies as a whole: renamed, copied, tagged, sized, deleted. Knows nothing of what their jobs do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import PruneError
from . import maintenance
from .job import Job, Status
from .store import Store


@dataclass(frozen=True)
class StudySummary:
    """What a list of studies says of one."""

    name: str
    tags: tuple[str, ...]
    runs: int
    statuses: dict[str, int]  # runs by status
    checkpoints: tuple[str, ...]
    tasks: tuple[str, ...]
    labels: tuple[str, ...]  # of its runs
    changed: float  # seconds since 1970
    bytes: int  # on disk

    def matches(self, words: str) -> bool:
        """Whether every word stands in its name, tags, models, checkpoints or data."""
        text = " ".join(
            (self.name, *self.tags, *self.checkpoints, *self.tasks, *self.labels)
        ).lower()
        return all(word in text for word in words.lower().split())


def overview(store: Store) -> list[StudySummary]:
    """Every study, the one with the newest job first."""
    by_study: dict[str, list[Job]] = {}
    for job in store.jobs():
        by_study.setdefault(job.study, []).append(job)
    marks = _tags(store)
    return [
        _study(store, name, by_study[name], tags=marks.get(name, ()))
        for name in store.studies()
        if name in by_study
    ]


def _study(store: Store, name: str, jobs: list[Job], tags: tuple[str, ...]) -> StudySummary:
    each = lambda values: tuple(dict.fromkeys(values))  # noqa: E731
    statuses: dict[str, int] = {}
    for job in jobs:
        statuses[job.status] = statuses.get(job.status, 0) + 1
    return StudySummary(
        name,
        tags,
        len(jobs),
        statuses=statuses,
        checkpoints=each(job.experiment["checkpoint"] for job in jobs),
        tasks=each(job.experiment["source"]["task"] for job in jobs),
        labels=each(job.label for job in jobs),
        changed=max(job.finished or job.started or job.created for job in jobs),
        bytes=size(_folder(store, job) for job in jobs),
    )


def _folder(store: Store, job: Job) -> Path:
    return store.home / "jobs" / str(job.id)


def size(folders: Iterable[Path]) -> int:
    """Bytes that deleting the folders frees: files that another job has too, by a link, stay."""
    found: dict[int, list[int]] = {}  # by inode: bytes, links in all, links seen here
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                stat = file.stat()
                found.setdefault(stat.st_ino, [stat.st_size, stat.st_nlink, 0])[2] += 1
    return sum(size for size, links, seen in found.values() if seen >= links)


def rename(store: Store, name: str, to: str) -> None:
    """Give a study another name, which none has yet."""
    to = to.strip()
    if not to:
        raise PruneError("The study needs a name.")
    if to in store.studies():
        raise PruneError(f"There is a study {to!r} already; choose another name.")
    jobs = _require_idle(store, name)
    with store.write() as db:
        for job in jobs:
            db.execute(
                "UPDATE job SET study = ?, experiment = ? WHERE id = ?",
                (to, json.dumps({**job.experiment, "study": to}), job.id),
            )
        db.execute("UPDATE tag SET study = ? WHERE study = ?", (to, name))
        db.execute("UPDATE pool SET study = ? WHERE study = ?", (to, name))
        store.note(db, f"renamed from {name}", to)


def clone(store: Store, name: str, to: str) -> None:
    """A study's finished runs under another name too; nothing is computed, and the weights are links."""
    to = to.strip()
    if not to or to in store.studies():
        raise PruneError(
            f"There is a study {to!r} already; choose another name."
            if to
            else "The copy needs a name."
        )
    done = [job for job in _require_idle(store, name) if job.status == Status.DONE]
    if not done:
        raise PruneError(f"The study {name!r} has no finished run to copy.")
    for job in done:
        store.copy(job.id, to)


def tag(store: Store, name: str, tags: Iterable[str]) -> None:
    """Set a study's tags."""
    with store.write() as db:
        db.execute("DELETE FROM tag WHERE study = ?", (name,))
        db.executemany(
            "INSERT OR IGNORE INTO tag VALUES (?, ?)",
            [(name, each.strip()) for each in tags if each.strip()],
        )


def _tags(store: Store) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    with store.read() as db:
        for row in db.execute("SELECT study, tag FROM tag ORDER BY study, tag"):
            found[row["study"]] = (*found.get(row["study"], ()), row["tag"])
    return found


def delete_weights(store: Store, name: str) -> None:
    """Free a study's pruned weights; every figure stays. They are made again where its runs are run again."""
    for job in _require_idle(store, name):
        shutil.rmtree(_folder(store, job) / "checkpoint", ignore_errors=True)


def delete(store: Store, name: str) -> None:
    """Forget a study's jobs, rows and folders; what was kept in the pool stays."""
    jobs = _require_idle(store, name)
    with store.write() as db:
        db.executemany("DELETE FROM rows WHERE job = ?", [(job.id,) for job in jobs])
        db.executemany("DELETE FROM job WHERE id = ?", [(job.id,) for job in jobs])
        db.execute("DELETE FROM tag WHERE study = ?", (name,))
        store.note(db, f"deleted with {len(jobs)} jobs", name)
    for job in jobs:
        shutil.rmtree(_folder(store, job), ignore_errors=True)
    if not any(
        job.status == Status.RUNNING for job in store.jobs()
    ):  # which would have to wait for it with what it writes
        maintenance.compact(store)


def _require_idle(store: Store, name: str) -> list[Job]:
    """A study's jobs, none of which is at work."""
    jobs = store.jobs(name)
    if not jobs:
        raise PruneError(f"There is no study {name!r}.")
    if any(job.status == Status.RUNNING for job in jobs):
        raise PruneError(f"The study {name!r} has a run at work; cancel it first.")
    return jobs
