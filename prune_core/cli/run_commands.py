"""What each command of the command line does. Imports what is heavy only where a command needs it."""

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

from ..errors import Cancelled, PruneError
from ..formatting import size
from ..store.job import Job, Status
from ..store.store import Store
from .key_values import settings
from .progress import PrintedProgress

if TYPE_CHECKING:
    from ..data.examples import DataSource
    from ..experiments.experiment import Experiment
    from ..store.locks import Lock

STUDY = "Command line"  # where single runs are kept unless --study names another


def methods(options: argparse.Namespace) -> None:
    """List the methods."""
    from ..methods import METHODS
    from .terminal import plugins

    print(plugins(METHODS))


def measures(options: argparse.Namespace) -> None:
    """List the measures."""
    from ..measures import MEASURES
    from .terminal import plugins

    print(plugins(MEASURES))


def tasks(options: argparse.Namespace) -> None:
    """List the tasks."""
    from ..data.known_tasks import KNOWN_TASKS
    from ..data.metrics import METRICS

    print(f"{'demo':10}{'The bundled film reviews':32}{'Accuracy':24}negative, positive")
    for name, known in KNOWN_TASKS.items():
        print(
            f"{name:10}{known.title:32}{METRICS[known.metric].title:24}{', '.join(known.labels)}".rstrip()
        )
    print(
        "\nOr a file of your own (.csv, .tsv, .txt, .json, .jsonl, .parquet, .arrow, .xlsx, .conll), or any data set of the Hub by its id."
    )


def run(options: argparse.Namespace) -> None:
    """One experiment, in this process, kept in the store like any other."""
    from ..experiments.export import export_checkpoint
    from .export_card import write_export_card
    from .terminal import summary, write_json

    store = Store()
    experiment = experiment_of(options, store)
    for path in filter(None, (options.json, options.out)):
        if not path.absolute().parent.is_dir():
            raise PruneError(f"{path}: there is no folder {path.absolute().parent}; make it first.")
    check_data(experiment)
    job = succeeded(store, perform_here(store, experiment))
    print(summary(store, job))
    if options.json:
        write_json(store, job, options.json)
    if options.out:
        export_checkpoint(store, job, options.out)
        write_export_card(store, job, options.out, is_cut=False)


def experiment_of(options: argparse.Namespace, store: Store) -> Experiment:
    """The experiment that `run`'s arguments describe."""
    from ..experiments import adversarial_calibration
    from ..experiments.experiment import Experiment
    from ..measures import MEASURES
    from ..methods import METHODS
    from ..plugins import build

    own: dict[str, str] = {
        name: value
        for name in ("sparsity", "pattern")
        if (value := getattr(options, name)) is not None
    }
    of_measure: dict[str, dict[str, str]] = {name: {} for name in options.measure}
    for key, value in settings(options.set).items():
        name, dot, option = key.partition(".")
        if dot and name not in of_measure:
            raise PruneError(
                f"--set {key}={value}: this run has no measure {name!r}; add --measure {name}."
            )
        (of_measure[name] if dot else own)[option or key] = value
    if own and not options.method:
        raise PruneError(
            f"{next(iter(own))} is an option of a method; add --method, or write measure.option=value."
        )
    source = source_of(options)
    if adversarial_calibration.check_leakage(store, source):
        print(f"prune_core: {adversarial_calibration.LEAK}", file=sys.stderr)
    return Experiment(
        checkpoint=options.checkpoint,
        source=adversarial_calibration.resolve(store, source),
        method=build(METHODS, options.method, own) if options.method else None,
        measures=tuple(
            build(MEASURES, name, of_measure[name]) for name in dict.fromkeys(options.measure)
        ),
        calibration=options.calibration_size,
        evaluation=options.evaluation_size,
        seed=options.seed,
        device=options.device,
        batch_size=options.batch_size,
        max_length=options.max_length,
        study=options.study,
        tf32=options.tf32,
        min_words=least_words(options.min_words),
        keep=options.keep,
    )


def source_of(options: argparse.Namespace) -> DataSource:
    """The data that arguments describe."""
    from ..data.examples import DataSource

    return DataSource(**{spec.name: getattr(options, spec.name, "") for spec in fields(DataSource)})


def least_words(text: str) -> int | None:
    """A whole number, or None for auto."""
    if text == "auto":
        return None
    if not text.isdigit():
        raise PruneError(f"--min-words is {text!r}; it must be a whole number, or auto.")
    return int(text)


def perform_here(store: Store, experiment: Experiment) -> Job:
    """Run an experiment here and now as a job of the store; the job as it ends."""
    from ..queue.worker import new_worker

    name, life = new_worker(store)
    values = (
        experiment.to_dict(),
        experiment.label,
        experiment.key(),
        experiment.study,
        experiment.device,
    )
    return _finish_here(store, store.submit(*values, worker=name), life)


def remeasure(options: argparse.Namespace) -> None:
    """Run measures of a finished job again, in this process."""
    from ..queue import jobs
    from ..queue.worker import new_worker
    from .terminal import summary

    changes: dict[str, dict[str, str]] = {name: {} for name in options.measures}
    for key, value in settings(options.set).items():
        name, _, option = key.partition(".")
        if name not in changes or not option:
            raise PruneError(
                f"--set {key}={value}: write measure.option=value for one of {', '.join(changes)}."
            )
        changes[name][option] = value
    store = Store()
    jobs.with_new_measures(
        store.job(options.id), changes, changes
    )  # raises before there is a worker
    name, life = new_worker(store)
    jobs.remeasure(store, options.id, list(changes), options=changes, worker=name)
    job = succeeded(store, _finish_here(store, options.id, life))
    print(summary(store, job))


def _finish_here(store: Store, id: int, life: Lock) -> Job:
    """Run a job that this process has claimed; return it as it ends."""
    from ..queue.worker import perform

    def give_up() -> NoReturn:
        print("\nprune_core: cancelled", file=sys.stderr, flush=True)
        os._exit(130)

    progress = PrintedProgress()
    job = perform(store, store.job(id), give_up, also=progress)
    progress.end()
    life.remove()
    if job.status == Status.CANCELLED:
        raise Cancelled
    return job


def check_data(*experiments: Experiment, elsewhere: bool = False) -> None:
    """A mistake in checkpoint or data makes no job; what several have in common is read once. `elsewhere`: not in this memory."""
    from ..models.checkpoints.folders import BUNDLED

    for each in {json.dumps(each.data_key()): each for each in experiments}.values():
        if each.source.task == "demo" and each.checkpoint in BUNDLED:
            continue  # which fit each other, and a check would cost every command seconds
        from ..experiments.data_check import check

        memory = check(each, elsewhere)
        print(f"prune_core: {each.label} takes about {size(memory)} of memory", file=sys.stderr)


def succeeded(store: Store, job: Job) -> Job:
    """The job, or the sentence it failed with."""
    if job.status == Status.FAILED:
        raise PruneError(f"{job.error} (Job {job.id}; its log: {store.folder(job.id) / 'log.txt'})")
    return job


def sweep(options: argparse.Namespace) -> None:
    """A grid of experiments in this process; what is finished already is not computed again."""
    from ..experiments import study
    from ..queue.jobs import finished
    from .terminal import headline

    experiments = study.load(options.file, study.parse_changes(settings(options.set)))
    if options.plan:
        return _list(experiments)
    if options.queue or options.wait:
        return _queue(experiments, options.wait, options.again)
    elsewhere = bool(options.ray) or options.shards is not None
    check_data(*experiments, elsewhere=elsewhere)
    store, failed = Store(), []
    if elsewhere:
        from . import shard_commands

        over = (
            set()
            if options.again
            else {each.key() for each in experiments if finished(store, each)}
        )
        if options.ray:
            return shard_commands.on_ray(experiments, over, options)
        return shard_commands.plan(
            [each for each in experiments if each.key() not in over], options.shards, options.out
        )
    for count, experiment in enumerate(experiments, start=1):
        print(f"{experiment.label} ({count} of {len(experiments)})", file=sys.stderr)
        job = None if options.again else finished(store, experiment)
        job = job or perform_here(store, experiment)
        failed += [job] if job.status == Status.FAILED else []
        print(headline(store, job), flush=True)
    if failed:
        raise PruneError(
            f"{len(failed)} of {len(experiments)} experiments failed; see python -m prune_core show {failed[0].id}."
        )


def _list(experiments: Sequence[Experiment]) -> None:
    """What a sweep would run, a line each."""
    from ..experiments.experiment import stages

    study, label = (
        max((len(getattr(each, part)) for each in experiments), default=0) + 2
        for part in ("study", "label")
    )
    for each in experiments:
        print(f"{each.study:{study}}{each.label:{label}}{', '.join(stages(each))}")
    print(f"{len(experiments)} experiments, none of them run.")


def _queue(experiments: Sequence[Experiment], wait: bool, again: bool = False) -> None:
    """Queue them for the worker."""
    from ..queue import jobs

    check_data(*experiments)
    store = Store()
    found = [jobs.submit(store, experiment, again) for experiment in experiments]
    new = sum(not reused for _, reused in found)
    names = ", ".join(repr(name) for name in dict.fromkeys(each.study for each in experiments))
    print(f"Study {names}: {new} jobs queued, {len(found) - new} were there already.")
    if wait:
        _wait(store, [id for id, _ in found])


def studies(options: argparse.Namespace) -> None:
    """List the bundled studies."""
    from ..experiments import study

    for name, about in study.bundled().items():
        print(f"{name:16}{len(study.load(Path(name))):4} runs  {about}")


def demo(options: argparse.Namespace) -> None:
    """Queue the demo study for the worker, as the button on the Overview page does."""
    from ..experiments import study

    _queue(study.demo_experiments(), options.wait)


def _wait(store: Store, ids: Sequence[int]) -> None:
    """Show the progress of queued jobs until all are over."""
    from ..queue.jobs import housekeeping

    progress = PrintedProgress()
    while True:
        housekeeping(store)
        found = [store.job(id) for id in ids]
        active = [job for job in found if job.status in (Status.RUNNING, Status.QUEUED)]
        if not active:
            break
        running = [job for job in active if job.status == Status.RUNNING]
        line = (
            "; ".join(f"{job.label}, {job.stage}: {job.message}" for job in running)
            or "waiting for the worker"
        )
        progress(
            (len(found) - len(active) + sum(job.progress for job in running)) / len(found), line
        )
        time.sleep(0.5)
    progress.end()
    if failed := [job for job in found if job.status != Status.DONE]:
        raise PruneError(
            f"{len(failed)} of {len(found)} jobs did not finish; see python -m prune_core show {failed[0].id}."
        )
    print(f"All {len(found)} jobs are done.")
