"""Commands that run experiments and list what can be run; with lazy imports."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..aliases import current_name
from ..errors import Cancelled, PruneError
from ..formatting import size
from ..store.job import Job, Status
from ..store.store import Store
from .key_values import settings
from .progress import PrintedProgress

if TYPE_CHECKING:
    from ..data.examples import DataSource
    from ..experiments.experiment import Experiment
    from ..plugins import Report
    from ..store.locks import Lock

STUDY = "Command line"  # study of single runs without --study


def methods(options: argparse.Namespace) -> None:
    """List the methods."""
    from ..methods import METHODS
    from .terminal import plugin_list

    print(plugin_list(METHODS))


def measures(options: argparse.Namespace) -> None:
    """List the measures."""
    from ..measures import MEASURES
    from .terminal import plugin_list

    print(plugin_list(MEASURES))


def tasks(options: argparse.Namespace) -> None:
    """List the tasks."""
    from ..tasks import METRICS
    from ..tasks.known_tasks import KNOWN_TASKS

    print(f"{'demo':10}{'The bundled film reviews':32}{'Accuracy':24}negative, positive")
    print("demo-guard: 972 bundled requests to an assistant, for the checkpoint demo-guard")
    print("demo-retrieval: 300 bundled documents with 60 queries, for embedding models")
    for name, known in KNOWN_TASKS.items():
        metric, labels = METRICS[known.metric].title, ", ".join(known.labels)
        print(f"{name:10}{known.title:32}{metric:24}{labels}".rstrip())
    print(
        "\nOr a local file (.csv, .tsv, .txt, .json, .jsonl, .parquet, .arrow, .xlsx, .conll), or "
        "any dataset on the Hub by its id."
    )


def run(options: argparse.Namespace) -> None:
    """Run one experiment in this process and save it in the store."""
    from ..experiments.export import export_checkpoint
    from .export_card import write_export_card
    from .terminal import summary, write_json

    store = Store()
    experiment = experiment_from_options(options, store)
    for path in filter(None, (options.json, options.out)):
        if not path.absolute().parent.is_dir():
            raise PruneError(f"{path}: there is no folder {path.absolute().parent}; make it first.")
    check_data(experiment)
    job = require_success(store, run_in_process(store, experiment, options.again))
    print(summary(store, job))
    if options.json:
        write_json(store, job, options.json)
    if options.out:
        export_checkpoint(store, job, options.out)
        write_export_card(store, job, options.out, is_compact=False)


def experiment_from_options(options: argparse.Namespace, store: Store) -> Experiment:
    """Create the experiment that the arguments of `run` describe."""
    from ..experiments import adversarial_calibration
    from ..experiments.experiment import Experiment
    from ..experiments.settings import RunSettings
    from ..measures import MEASURES
    from ..methods import METHODS
    from ..plugins import build

    method_options: dict[str, str] = {
        name: value
        for name in ("sparsity", "pattern")
        if (value := getattr(options, name)) is not None
    }
    measures = list(dict.fromkeys(map(current_name, options.measure)))
    measure_options: dict[str, dict[str, str]] = {name: {} for name in measures}
    for key, value in settings(options.set).items():
        name, dot, option = key.partition(".")
        name = current_name(name)
        if not dot:
            method_options[key] = value
        elif name in measure_options:
            measure_options[name][option or key] = value
        else:
            raise PruneError(
                f"--set {key}={value}: this run has no measure {name!r}; add --measure {name}."
            )
    if method_options and not options.method:
        raise PruneError(
            f"{next(iter(method_options))} is an option of a method; add --method, or write "
            "measure.option=value."
        )
    source = source_from_options(options)
    if adversarial_calibration.check_leakage(store, source):
        print(f"prune_core: {adversarial_calibration.LEAKAGE_WARNING}", file=sys.stderr)
    return Experiment(
        source=adversarial_calibration.resolve(store, source),
        method=build(METHODS, options.method, method_options) if options.method else None,
        measures=tuple(build(MEASURES, name, measure_options[name]) for name in measures),
        study=options.study,
        **{spec.name: getattr(options, spec.name) for spec in fields(RunSettings)},
    )


def source_from_options(options: argparse.Namespace) -> DataSource:
    """Create the data source that the arguments describe."""
    from ..data.examples import DataSource

    return DataSource.from_keys(vars(options))


def run_in_process(
    store: Store, experiment: Experiment, again: bool = False, report: Report | None = None
) -> Job:
    """Compute the missing stages of an experiment in this process; return the finished job.

    Progress is printed, unless there is a `report`.
    """
    from ..queue.jobs import add_job
    from ..queue.worker import new_worker

    name, lock = new_worker(store)
    id, _ = add_job(store, experiment, again, worker=name)
    if store.job(id).status == Status.DONE:
        lock.remove()
        return store.job(id)
    return _finish_here(store, id, lock, report)


def remeasure(options: argparse.Namespace) -> None:
    """Run measures of a finished job again, in this process."""
    from ..queue import jobs
    from ..queue.worker import new_worker
    from .terminal import summary

    changes: dict[str, dict[str, str]] = {current_name(name): {} for name in options.measures}
    for key, value in settings(options.set).items():
        name, _, option = key.partition(".")
        name = current_name(name)
        if name not in changes or not option:
            raise PruneError(
                f"--set {key}={value}: write measure.option=value for one of {', '.join(changes)}."
            )
        changes[name][option] = value
    store = Store()
    # raises before there is a worker
    jobs.with_new_measures(store.job(options.id), changes, changes)
    name, lock = new_worker(store)
    jobs.remeasure(store, options.id, list(changes), options=changes, worker=name)
    print(summary(store, require_success(store, _finish_here(store, options.id, lock))))


def _finish_here(store: Store, id: int, lock: Lock, report: Report | None = None) -> Job:
    """Run a job that this process has claimed; return the finished job."""
    from ..queue.worker import run_job

    def exit_process() -> NoReturn:
        print("\nprune_core: cancelled", file=sys.stderr, flush=True)
        os._exit(130)

    progress = PrintedProgress()
    job = run_job(store, store.job(id), exit_process, extra_report=report or progress)
    progress.end()
    lock.remove()
    if job.status == Status.CANCELLED:
        raise Cancelled
    return job


def check_data(*experiments: Experiment, elsewhere: bool = False) -> None:
    """Check checkpoint and data of experiments, so that a mistake makes no job.

    What several experiments have in common is read once. `elsewhere`: they are for another
    machine, so the memory of this one does not matter.
    """
    from ..models.checkpoints.folders import DATA_OF

    for experiment in {json.dumps(each.data_key()): each for each in experiments}.values():
        if DATA_OF.get(experiment.checkpoint) == experiment.source.task:
            continue  # known to fit, and a check would cost every command seconds
        from ..experiments.data_check import check

        memory = size(check(experiment, elsewhere))
        print(f"prune_core: {experiment.label} takes about {memory} of memory", file=sys.stderr)


def require_success(store: Store, job: Job) -> Job:
    """Return the job; raise PruneError with its message if it failed."""
    if job.status == Status.FAILED:
        raise PruneError(f"{job.error} (Job {job.id}; its log: {store.folder(job.id) / 'log.txt'})")
    return job


def sweep(options: argparse.Namespace) -> None:
    """Run a grid of experiments in this process; finished ones are not recomputed."""
    from ..experiments import study
    from ..experiments.stage_keys import experiment_key
    from ..queue.jobs import add_job, missing_stages
    from .terminal import headline

    experiments = study.load(options.file, study.parse_changes(settings(options.set)))
    if options.plan:
        return _list(Store(), experiments)
    if options.queue or options.wait:
        return _queue(experiments, options.wait, options.again)
    elsewhere = bool(options.ray) or options.shards is not None
    check_data(*experiments, elsewhere=elsewhere)
    store, failed = Store(), []
    if elsewhere:
        from . import shard_commands

        finished = [
            each for each in experiments if not options.again and not missing_stages(store, each)
        ]
        done = {experiment_key(each) for each in finished}
        for each in finished:
            add_job(store, each)  # into this study
        if options.ray:
            return shard_commands.run_on_ray(experiments, done, options)
        pending = [each for each in experiments if experiment_key(each) not in done]
        return shard_commands.plan(pending, options.shards, options.out)
    for count, experiment in enumerate(experiments, start=1):
        print(f"{experiment.label} ({count} of {len(experiments)})", file=sys.stderr)
        job = run_in_process(store, experiment, options.again)
        failed += [job] if job.status == Status.FAILED else []
        print(headline(store, job), flush=True)
    if failed:
        raise PruneError(
            f"{len(failed)} of {len(experiments)} experiments failed; see python -m prune_core "
            f"show {failed[0].id}."
        )


def _list(store: Store, experiments: Sequence[Experiment]) -> None:
    """List the stages of a sweep, one experiment per line: finished ones, and those it computes."""
    from ..experiments.experiment import stages
    from ..queue.jobs import missing_stages

    study, label = (
        max((len(getattr(experiment, attribute)) for experiment in experiments), default=0) + 2
        for attribute in ("study", "label")
    )
    for experiment in experiments:
        missing = missing_stages(store, experiment)
        states = (f"{name} ({'new' if name in missing else 'done'})" for name in stages(experiment))
        print(f"{experiment.study:{study}}{experiment.label:{label}}{', '.join(states)}")
    print(f"{len(experiments)} experiments; none was run.")


def _queue(experiments: Sequence[Experiment], wait: bool, again: bool = False) -> None:
    """Queue them for the worker."""
    from ..queue import jobs

    check_data(*experiments)
    store = Store()
    submitted = [jobs.submit(store, experiment, again) for experiment in experiments]
    existing = sum(not new for _, new in submitted)
    names = ", ".join(repr(name) for name in dict.fromkeys(each.study for each in experiments))
    print(f"Study {names}: {len(submitted) - existing} jobs queued, {existing} existed already.")
    if wait:
        _wait(store, [id for id, _ in submitted])


def studies(options: argparse.Namespace) -> None:
    """List the bundled studies."""
    from ..experiments import study

    for name, about in study.bundled_studies().items():
        print(f"{name:16}{len(study.load(Path(name))):4} runs  {about}")


def demo(options: argparse.Namespace) -> None:
    """Queue a demo study for the worker, as the buttons on the Overview page do."""
    from ..experiments import study

    chosen = next((name for name in study.DEMOS if getattr(options, name, False)), "")
    _queue(study.DEMOS[chosen](), options.wait)


def _wait(store: Store, ids: Sequence[int]) -> None:
    """Show the progress of queued jobs until all of them have ended."""
    from ..queue.jobs import housekeeping

    progress = PrintedProgress()
    while True:
        housekeeping(store)
        waited = [store.job(id) for id in ids]
        active = [job for job in waited if job.status in (Status.RUNNING, Status.QUEUED)]
        if not active:
            break
        running = [job for job in active if job.status == Status.RUNNING]
        messages = (f"{job.label}, {job.stage}: {job.message}" for job in running)
        ended = len(waited) - len(active) + sum(job.progress for job in running)
        progress(ended / len(waited), "; ".join(messages) or "waiting for the worker")
        time.sleep(0.5)
    progress.end()
    if failed := [job for job in waited if job.status != Status.DONE]:
        raise PruneError(
            f"{len(failed)} of {len(waited)} jobs did not finish; see python -m prune_core show "
            f"{failed[0].id}."
        )
    print(f"All {len(waited)} jobs are done.")
