"""What each command of the command line does. Imports what is heavy only where a command needs it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from . import Cancelled, PruneError
from .store import Job, Status, Store

if TYPE_CHECKING:
    from .experiment import Experiment

STUDY = "Command line"  # where single runs are kept unless --study names another


def methods(options: argparse.Namespace) -> None:
    """List the methods."""
    from .methods import METHODS
    from .present import plugins

    print(plugins(METHODS))


def measures(options: argparse.Namespace) -> None:
    """List the measures."""
    from .measures import MEASURES
    from .present import plugins

    print(plugins(MEASURES))


def tasks(options: argparse.Namespace) -> None:
    """List the tasks."""
    from .data import KNOWN
    from .metrics import METRICS

    print(f"{'demo':10}{'The bundled film reviews':32}{'Accuracy':24}negative, positive")
    for name, known in KNOWN.items():
        print(f"{name:10}{known.title:32}{METRICS[known.metric].title:24}{', '.join(known.labels)}".rstrip())
    print("\nOr a local .csv, .jsonl or .parquet file, with --text COLUMN and --label COLUMN.")


def run(options: argparse.Namespace) -> None:
    """One experiment, in this process, kept in the store like any other."""
    from .present import export_checkpoint, summary, write_json

    store = Store()
    experiment = experiment_of(options, store)
    for path in filter(None, (options.json, options.out)):
        if not path.absolute().parent.is_dir():
            raise PruneError(f"{path}: there is no folder {path.absolute().parent}; make it first.")
    job = _succeeded(store, _perform(store, experiment))
    print(summary(store, job))
    if options.json:
        write_json(store, job, options.json)
    if options.out:
        export_checkpoint(store, job, options.out)


def experiment_of(options: argparse.Namespace, store: Store) -> Experiment:
    """The experiment that `run`'s arguments describe."""
    from . import attacked
    from .examples import Source
    from .experiment import Experiment
    from .measures import MEASURES
    from .methods import METHODS
    from .plugins import build

    own: dict[str, str] = {name: value for name in ("sparsity", "pattern") if (value := getattr(options, name)) is not None}
    of_measure: dict[str, dict[str, str]] = {name: {} for name in options.measure}
    for key, value in settings(options.set).items():
        name, dot, option = key.partition(".")
        if dot and name not in of_measure:
            raise PruneError(f"--set {key}={value}: this run has no measure {name!r}; add --measure {name}.")
        (of_measure[name] if dot else own)[option or key] = value
    if own and not options.method:
        raise PruneError(f"{next(iter(own))} is an option of a method; add --method, or write measure.option=value.")
    source = Source(options.task, options.text, options.text_pair, options.label, options.calibration, options.metric)
    if attacked.leaks(store, source):
        print(f"prune_core: {attacked.LEAK}", file=sys.stderr)
    return Experiment(
        checkpoint=options.checkpoint,
        source=attacked.resolved(store, source),
        method=build(METHODS, options.method, own) if options.method else None,
        measures=tuple(build(MEASURES, name, of_measure[name]) for name in dict.fromkeys(options.measure)),
        calibration=options.calibration_size,
        evaluation=options.evaluation_size,
        seed=options.seed,
        device=options.device,
        batch_size=options.batch_size,
        max_length=options.max_length,
        study=options.study,
        tf32=options.tf32,
    )


def _perform(store: Store, experiment: Experiment) -> Job:
    """Run an experiment here and now as a job of the store; the job as it ends."""
    from .worker import new_worker, perform

    name, life = new_worker(store)
    values = (experiment.to_dict(), experiment.label, experiment.key(), experiment.study, experiment.device)
    id = store.submit(*values, worker=name)

    def give_up() -> NoReturn:
        print("\nprune_core: cancelled", file=sys.stderr, flush=True)
        os._exit(130)

    progress = PrintedProgress()
    job = perform(store, store.job(id), give_up, progress)
    progress.end()
    life.remove()
    if job.status == Status.CANCELLED:
        raise Cancelled
    return job


def _succeeded(store: Store, job: Job) -> Job:
    if job.status == Status.FAILED:
        raise PruneError(f"{job.error} (Job {job.id}; its log: {store.folder(job.id) / 'log.txt'})")
    return job


def sweep(options: argparse.Namespace) -> None:
    """A grid of experiments in this process; what is finished already is not computed again."""
    if options.ray:
        raise PruneError("Sweeps on a Ray cluster are not available in this version; leave --ray out to run the sweep here.")
    from . import study
    from .jobs import finished
    from .present import headline

    experiments = study.load(options.file, study.changes(settings(options.set)))
    if options.plan:
        return _list(experiments)
    if options.queue or options.wait:
        return _queue(experiments, options.wait, options.again)
    store, failed = Store(), []
    for count, experiment in enumerate(experiments, start=1):
        print(f"{experiment.label} ({count} of {len(experiments)})", file=sys.stderr)
        job = None if options.again else finished(store, experiment)
        job = job or _perform(store, experiment)
        failed += [job] if job.status == Status.FAILED else []
        print(headline(store, job), flush=True)
    if failed:
        raise PruneError(f"{len(failed)} of {len(experiments)} experiments failed; see python -m prune_core show {failed[0].id}.")


def _list(experiments: Sequence[Experiment]) -> None:
    """What a sweep would run, a line each."""
    from .experiment import stages

    for each in experiments:
        print(f"{each.study:28}{each.label:32}{', '.join(stages(each))}")
    print(f"{len(experiments)} experiments, none of them run.")


def _queue(experiments: Sequence[Experiment], wait: bool, again: bool = False) -> None:
    """Queue them for the worker."""
    from . import jobs

    store = Store()
    found = [jobs.submit(store, experiment, again) for experiment in experiments]
    new = sum(not reused for _, reused in found)
    names = ", ".join(repr(name) for name in dict.fromkeys(each.study for each in experiments))
    print(f"Study {names}: {new} jobs queued, {len(found) - new} were there already.")
    if wait:
        _wait(store, [id for id, _ in found])


def studies(options: argparse.Namespace) -> None:
    """List the bundled studies."""
    from . import study

    for name, about in study.bundled().items():
        print(f"{name:16}{len(study.load(Path(name))):4} runs  {about}")


def demo(options: argparse.Namespace) -> None:
    """Queue the demo study for the worker, as the button on the Overview page does."""
    from . import study

    _queue(study.demo(), options.wait)


def _wait(store: Store, ids: Sequence[int]) -> None:
    """Show the progress of queued jobs until all are over."""
    from .jobs import tend

    progress = PrintedProgress()
    while True:
        tend(store)
        found = [store.job(id) for id in ids]
        active = [job for job in found if job.status in (Status.RUNNING, Status.QUEUED)]
        if not active:
            break
        running = [job for job in active if job.status == Status.RUNNING]
        line = "; ".join(f"{job.label}, {job.stage}: {job.message}" for job in running) or "waiting for the worker"
        progress((len(found) - len(active) + sum(job.progress for job in running)) / len(found), line)
        time.sleep(0.5)
    progress.end()
    if failed := [job for job in found if job.status != Status.DONE]:
        raise PruneError(f"{len(failed)} of {len(found)} jobs did not finish; see python -m prune_core show {failed[0].id}.")
    print(f"All {len(found)} jobs are done.")


def jobs(options: argparse.Namespace) -> None:
    """List all jobs."""
    from .jobs import reap
    from .present import job_table

    store = Store()
    reap(store)
    print(job_table(store.jobs()))


def show(options: argparse.Namespace) -> None:
    """One job and its rows."""
    from .jobs import reap
    from .present import summary, write_json

    store = Store()
    reap(store)
    job = store.job(options.id)
    print(summary(store, job))
    if options.json:
        write_json(store, job, options.json)


def cancel(options: argparse.Namespace) -> None:
    """Stop a job."""
    from .jobs import cancel

    cancel(Store(), options.id)
    print(f"Job {options.id} is being cancelled; its finished stages are kept.")


def resume(options: argparse.Namespace) -> None:
    """Go on with a job."""
    from .jobs import resume

    store = Store()
    resume(store, options.id)
    kept = ", ".join(store.job(options.id).done) or "nothing yet"
    print(f"Job {options.id} is queued again; finished: {kept}.")


def export(options: argparse.Namespace) -> None:
    """Copy a job's pruned checkpoint, cut or as ONNX where wanted."""
    from .present import export_checkpoint

    store = Store()
    said = export_checkpoint(store, store.job(options.id), options.folder, options.shrink, options.onnx)
    print("\n".join([f"Job {options.id}: the pruned checkpoint is in {options.folder}.", *said]))


def report(options: argparse.Namespace) -> None:
    """Write the HTML report."""
    from .report import write_report

    write_report(Store(), options.ids, options.out)
    print(f"Report of {len(options.ids)} jobs: {options.out}")


def transfer(options: argparse.Namespace) -> None:
    """Try saved adversarial texts on the jobs' models and show the shares that fool them."""
    from . import transfer
    from .present import transfers

    store, progress = Store(), PrintedProgress()
    transfer.run(store, options.ids, progress)
    progress.end()
    print(transfers(store, options.ids))


def finetune(options: argparse.Namespace) -> None:
    """Fine-tune an encoder."""
    from . import finetune
    from .examples import Source
    from .metrics import METRICS
    from .plugins import build

    source = Source(options.task, options.text, options.text_pair, options.label, metric=options.metric)
    validation = dataclasses.replace(source, task=options.validation)
    recipe = build({"finetune": finetune.Recipe}, "finetune", {"adversarial": options.adversarial, **settings(options.set)})
    progress = PrintedProgress()
    card = finetune.finetune(recipe, source, validation, options.out, progress)
    progress.end()
    print(f"Best validation {METRICS[card['metric']].title}: {card['score']:.4f}; saved to {options.out}")


def soup(options: argparse.Namespace) -> None:
    """Average fine-tunes, made first where recipes are given."""
    from . import soup
    from .examples import Source
    from .plugins import build, part_of
    from .present import soup_table
    from .takeaways import soup as takeaway

    plan = build({"soup": soup.Plan}, "soup", {"way": options.way, **settings(options.set)})
    source = Source(options.task, options.text, options.text_pair, options.label, metric=options.metric)
    validation = dataclasses.replace(source, task=options.validation)
    progress = PrintedProgress()
    candidates, begun = [soup.Candidate.of(checkpoint) for checkpoint in options.checkpoint], 0.0
    if options.recipes:
        recipes, begun = soup.read_recipes(options.recipes, settings(options.each), options.epochs_share), 0.7
        candidates += soup.make(recipes, source, validation, options.out / "candidates", part_of(progress, 0.0, begun))
    record = soup.cook(plan, candidates, validation, options.out, part_of(progress, begun, 1.0))
    progress.end()
    print(soup_table(record))
    print(f"{takeaway(record)}\n{' + '.join(record['ingredients'])}: {options.out / plan.way}")


def worker(options: argparse.Namespace) -> None:
    """Run queued jobs until there are none for a while; started by the queue."""
    from .worker import work

    work(options.device, options.lock)


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """`option=value` words as a dict."""
    for pair in pairs:
        if "=" not in pair:
            raise PruneError(f"--set {pair}: write it as option=value.")
    return dict(pair.split("=", 1) for pair in pairs)


class PrintedProgress:
    """A report: one line on stderr, rewritten in a terminal; what would only repeat itself is left out."""

    def __init__(self) -> None:
        self.shown = ""

    def __call__(self, progress: float, message: str) -> None:
        line = f"{progress:4.0%}  {message}"
        if line != self.shown:
            in_place = sys.stderr.isatty()
            print(f"{line}\x1b[K" if in_place else line, end="\r" if in_place else "\n", file=sys.stderr, flush=True)
            self.shown = line

    def end(self) -> None:
        """Leave the last line standing."""
        if self.shown and sys.stderr.isatty():
            print(file=sys.stderr)
