"""The commands for studies that run on other machines: plain files for a batch system, tasks for a Ray cluster, and their collecting."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..distributed import collect as collecting
from ..distributed import shards
from ..errors import PruneError
from ..queue.jobs import mark_crashed
from ..store.job import Status
from ..store.store import Store
from .progress import PrintedProgress

if TYPE_CHECKING:
    from ..experiments.experiment import Experiment


def plan(experiments: Sequence[Experiment], count: int, out: Path | None) -> None:
    """Write a study down in shards."""
    if out is None:
        raise PruneError(
            "--shards writes files for other machines; name a folder that all of them see: --out FOLDER."
        )
    found = shards.plan(out, experiments, count)
    count = min(count, len(found))
    print(
        f"{out}: {len(found)} experiments in {count} shards. On each machine: python -m prune_core run-shard {out} N, with N from 1 to "
        f"{count}; then, and as often as you like meanwhile: python -m prune_core collect {out}"
    )


def run_shard(options: argparse.Namespace) -> None:
    """Run a shard's experiments, one after the other, and keep on behind one that fails."""
    found, failed = shards.folders_of(options.folder, options.number), []
    for folder in found:
        print(f"{folder.name} {shards.describe(folder)['label']}", file=sys.stderr, flush=True)
        (folder / shards.CANCEL).unlink(missing_ok=True)
        progress = PrintedProgress()
        record = shards.perform(folder, progress)
        progress.end()
        if record.status != Status.DONE:
            failed.append(folder)
            print(f"{folder.name} {record.status}: {record.error}", file=sys.stderr, flush=True)
    if failed:
        raise PruneError(
            f"{len(failed)} of {len(found)} experiments did not finish: {', '.join(each.name for each in failed)}; mend what "
            f"their record.json names, and run the shard again."
        )
    print(f"All {len(found)} experiments of shard {options.number} are finished.")


def collect(options: argparse.Namespace) -> None:
    """Import what the shards have written."""
    store = Store()
    mark_crashed(store)
    counts = collecting.collect(store, options.folder)
    print(", ".join(f"{count} {what}" for what, count in counts.items()) + ".")


def on_ray(
    experiments: Sequence[Experiment], finished: Collection[str], options: argparse.Namespace
) -> None:
    """Run what is not `finished` (keys) of a study on a Ray cluster, and fill the store meanwhile."""
    from ..distributed import ray_cluster

    store = Store()
    name = hashlib.sha256("".join(each.key() for each in experiments).encode()).hexdigest()[:12]
    place = options.out or store.home / "ray" / name
    wanted = [
        each
        for each in shards.plan(place, experiments, len(experiments))
        if shards.describe(each)["key"] not in finished
    ]
    progress = PrintedProgress()
    ended = ray_cluster.run(
        store, wanted, options.ray, chunk=options.chunk, cpus=options.cpus, report=progress
    )
    progress.end()
    bad = [folder for folder, record in ended.items() if record.status != Status.DONE]
    if bad:
        raise PruneError(
            f"{len(bad)} of {len(ended)} experiments did not finish; {bad[0] / shards.RECORD} says why. "
            "The same command goes on with them."
        )
    print(f"All {len(ended)} experiments are finished and in the store.")
