"""Commands that run a study on other machines: as shards of a batch system, or on a Ray cluster."""

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
    """Write a study as a plan of at most `count` shards, and print how to run them."""
    if out is None:
        raise PruneError(
            "--shards writes files for other machines; give a folder that all of them can access: "
            "--out FOLDER."
        )
    folders = shards.plan(out, experiments, count)
    count = min(count, len(folders))
    print(
        f"{out}: {len(folders)} experiments in {count} shards. On each machine: "
        f"python -m prune_core run-shard {out} N, with N from 1 to {count}; then, or at any time "
        f"in between: python -m prune_core collect {out}"
    )


def run_shard(options: argparse.Namespace) -> None:
    """Run the experiments of a shard in order; raise PruneError at the end if some have failed."""
    folders, failed = shards.experiment_folders(options.folder, options.number), []
    for folder in folders:
        print(
            f"{folder.name} {shards.read_description(folder)['label']}", file=sys.stderr, flush=True
        )
        (folder / shards.CANCEL).unlink(missing_ok=True)
        progress = PrintedProgress()
        record = shards.run_experiment(folder, progress)
        progress.end()
        if record.status != Status.DONE:
            failed.append(folder)
            print(f"{folder.name} {record.status}: {record.error}", file=sys.stderr, flush=True)
    if failed:
        raise PruneError(
            f"{len(failed)} of {len(folders)} experiments did not finish: "
            f"{', '.join(folder.name for folder in failed)}; fix the errors in their record.json, "
            "and run the shard again."
        )
    print(f"All {len(folders)} experiments of shard {options.number} are finished.")


def collect(options: argparse.Namespace) -> None:
    """Import what the shards have finished so far, and print the number of experiments by state."""
    store = Store()
    mark_crashed(store)
    counts = collecting.collect(store, options.folder)
    print(", ".join(f"{count} {what}" for what, count in counts.items()) + ".")


def run_on_ray(
    experiments: Sequence[Experiment], finished: Collection[str], options: argparse.Namespace
) -> None:
    """Run a study on a Ray cluster, and update the store meanwhile.

    `finished`: keys of experiments that need not run. Raise PruneError if one fails.
    """
    from ..distributed import ray_cluster
    from ..experiments.stage_keys import experiment_key

    store = Store()
    name = hashlib.sha256(
        "".join(experiment_key(each) for each in experiments).encode()
    ).hexdigest()[:12]
    place = options.out or store.home / "ray" / name
    pending = [
        folder
        for folder in shards.plan(place, experiments, len(experiments))
        if shards.read_description(folder)["key"] not in finished
    ]
    progress = PrintedProgress()
    records = ray_cluster.run(
        store, pending, options.ray, chunk=options.chunk, cpus=options.cpus, report=progress
    )
    progress.end()
    failed = [folder for folder, record in records.items() if record.status != Status.DONE]
    if failed:
        raise PruneError(
            f"{len(failed)} of {len(records)} experiments did not finish; see "
            f"{failed[0] / shards.RECORD} for the reason. The same command continues them."
        )
    print(f"All {len(records)} experiments are finished and in the store.")
