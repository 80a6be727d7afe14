"""Operations on whole studies: list, rename, copy, tag, free weights, delete."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import PruneError
from . import maintenance
from .job import Job, Status
from .results import CHECKPOINT, PRUNE
from .store import Store


@dataclass(frozen=True)
class StudySummary:
    """Summary of a study for lists."""

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
        """Whether every word occurs in the name, tags, checkpoints, tasks or labels of runs."""
        text = " ".join(
            (self.name, *self.tags, *self.checkpoints, *self.tasks, *self.labels)
        ).lower()
        return all(word in text for word in words.lower().split())


def overview(store: Store) -> list[StudySummary]:
    """Summarize every study, the one with the newest job first."""
    by_study: dict[str, list[Job]] = {}
    for job in store.jobs():
        by_study.setdefault(job.study, []).append(job)
    tags = _tags(store)
    return [
        _study(store, name, by_study[name], tags=tags.get(name, ()))
        for name in store.studies()
        if name in by_study
    ]


def _study(store: Store, name: str, jobs: list[Job], tags: tuple[str, ...]) -> StudySummary:
    return StudySummary(
        name,
        tags,
        len(jobs),
        statuses=Counter(job.status for job in jobs),
        checkpoints=_distinct(job.experiment["checkpoint"] for job in jobs),
        tasks=_distinct(job.experiment["source"]["task"] for job in jobs),
        labels=_distinct(job.label for job in jobs),
        changed=max(job.finished or job.started or job.created for job in jobs),
        bytes=size([_folder(store, job) for job in jobs] + _unshared(store, jobs)),
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _folder(store: Store, job: Job) -> Path:
    return store.home / "jobs" / str(job.id)


def size(folders: Iterable[Path]) -> int:
    """Return the bytes of all files in the folders."""
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)


def _stage_folders(store: Store, jobs: Iterable[Job]) -> set[Path]:
    """Return the folders of the jobs' stages and weights."""
    folders = set()
    for job in jobs:
        results = store.results(job)
        folders |= {
            results.root / folder for folder in {*job.stages.values(), *job.tables.values()}
        }
        if PRUNE in job.stages:
            folders.add(results.checkpoint)
    return folders


def _unshared(store: Store, jobs: list[Job]) -> list[Path]:
    """Return the folders of stages and weights that no other job uses."""
    ids = {job.id for job in jobs}
    others = [job for job in store.jobs() if job.id not in ids]
    return sorted(_stage_folders(store, jobs) - _stage_folders(store, others))


def _new_name(store: Store, name: str, what: str) -> str:
    name = name.strip()
    if not name:
        raise PruneError(f"The {what} needs a name.")
    if name in store.studies():
        raise PruneError(f"The study {name!r} exists already; choose another name.")
    return name


def rename(store: Store, name: str, to: str) -> None:
    """Rename a study; the new name must not exist."""
    to = _new_name(store, to, "study")
    jobs = _require_idle(store, name)
    with store.write() as db:
        for job in jobs:
            db.execute(
                "UPDATE job SET study = ?, experiment = ? WHERE id = ?",
                (to, json.dumps({**job.experiment, "study": to}), job.id),
            )
        db.execute("UPDATE tag SET study = ? WHERE study = ?", (to, name))
        db.execute("UPDATE pool SET study = ? WHERE study = ?", (to, name))
        store.record_event(db, f"renamed from {name}", to)
    for job in jobs:
        store.describe(job.id)


def clone(store: Store, name: str, to: str) -> None:
    """Copy the finished runs of a study under another name; files are shared, not copied."""
    to = _new_name(store, to, "copy")
    done = [job for job in _require_idle(store, name) if job.status == Status.DONE]
    if not done:
        raise PruneError(f"The study {name!r} has no finished run to copy.")
    for job in done:
        store.copy(job.id, to)


def tag(store: Store, name: str, tags: Iterable[str]) -> None:
    """Replace the tags of a study."""
    with store.write() as db:
        db.execute("DELETE FROM tag WHERE study = ?", (name,))
        db.executemany(
            "INSERT OR IGNORE INTO tag VALUES (?, ?)",
            [(name, text.strip()) for text in tags if text.strip()],
        )


def _tags(store: Store) -> dict[str, tuple[str, ...]]:
    tags: dict[str, tuple[str, ...]] = {}
    with store.read() as db:
        for row in db.execute("SELECT study, tag FROM tag ORDER BY study, tag"):
            tags[row["study"]] = (*tags.get(row["study"], ()), row["tag"])
    return tags


def delete_weights(store: Store, name: str) -> None:
    """Delete the pruned weights of a study; its results stay, and weights can be re-pruned."""
    for folder in _unshared(store, _require_idle(store, name)):
        if folder.name == CHECKPOINT:
            shutil.rmtree(folder, ignore_errors=True)


def delete(store: Store, name: str) -> None:
    """Delete the jobs, results and folders of a study; texts saved to the pool stay."""
    jobs = _require_idle(store, name)
    unused = [*_unshared(store, jobs), *(_folder(store, job) for job in jobs)]
    with store.write() as db:
        db.executemany("DELETE FROM job WHERE id = ?", [(job.id,) for job in jobs])
        db.execute("DELETE FROM tag WHERE study = ?", (name,))
        store.record_event(db, f"deleted with {len(jobs)} jobs", name)
    for folder in unused:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # other stages of the same model stay
            folder.parent.rmdir()
    # VACUUM would block a running job's writes
    if not any(job.status == Status.RUNNING for job in store.jobs()):
        maintenance.compact(store)


def _require_idle(store: Store, name: str) -> list[Job]:
    """Return the jobs of a study; raise PruneError if one is running."""
    jobs = store.jobs(name)
    if not jobs:
        raise PruneError(f"There is no study {name!r}.")
    if any(job.status == Status.RUNNING for job in jobs):
        raise PruneError(f"A job of the study {name!r} is running; cancel it first.")
    return jobs
