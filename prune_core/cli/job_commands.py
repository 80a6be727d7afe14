"""The commands on jobs that are there: list, show, stop, go on, export, report. Heavy imports wait for who needs them."""

from __future__ import annotations

import argparse

from ..store.store import Store
from .progress import PrintedProgress


def jobs(options: argparse.Namespace) -> None:
    """List all jobs."""
    from ..queue.jobs import mark_crashed
    from .terminal import job_table

    store = Store()
    mark_crashed(store)
    print(job_table(store.jobs()))


def show(options: argparse.Namespace) -> None:
    """One job and its rows."""
    from ..queue.jobs import mark_crashed
    from .terminal import summary, write_json

    store = Store()
    mark_crashed(store)
    job = store.job(options.id)
    print(summary(store, job))
    if options.json:
        write_json(store, job, options.json)


def cancel(options: argparse.Namespace) -> None:
    """Stop a job."""
    from ..queue.jobs import cancel

    cancel(Store(), options.id)
    print(f"Job {options.id} is being cancelled; its finished stages are kept.")


def resume(options: argparse.Namespace) -> None:
    """Go on with a job."""
    from ..queue.jobs import resume

    store = Store()
    resume(store, options.id)
    kept = ", ".join(store.job(options.id).done) or "nothing yet"
    print(f"Job {options.id} is queued again; finished: {kept}.")


def export(options: argparse.Namespace) -> None:
    """Copy a job's pruned checkpoint, cut or as ONNX where wanted."""
    from ..experiments.export import export_checkpoint
    from .export_card import write_export_card

    store, progress = Store(), PrintedProgress()
    job = store.job(options.id)
    said = export_checkpoint(
        store,
        job,
        options.folder,
        shrunk=options.shrink,
        onnx=options.onnx,
        int8=options.int8,
        report=progress,
    )
    progress.end()
    write_export_card(store, job, options.folder, is_cut=options.shrink)
    if options.push:
        from .trackers import push

        said.append(push(options.folder, options.push))
    print("\n".join([f"Job {options.id}: the pruned checkpoint is in {options.folder}.", *said]))


def reprune(options: argparse.Namespace) -> None:
    """Make pruned weights again that were not kept."""
    from ..experiments.reprune import reprune_job

    store, progress = Store(), PrintedProgress()
    for id in options.ids:
        said = reprune_job(store, store.job(id), progress)
        progress.end()
        print(said)


def check(options: argparse.Namespace) -> int:
    """Test a job against a policy: 0 if every limit is met, 1 if one is violated, 3 if the result is inconclusive."""
    import json

    from ..analysis import deployment_check, policy
    from ..analysis.evidence import evidence
    from .terminal import verdicts

    store = Store()
    found = evidence(store, store.job(options.id))
    own = options.policy
    asked = policy.load(own) if own else policy.usual(found.kind, found.metric)
    judged = deployment_check.check(found, asked)
    print(verdicts(found, judged, asked))
    if options.json:
        options.json.write_text(
            json.dumps(
                deployment_check.to_record(judged, found, asked), indent=2, ensure_ascii=False
            )
        )
    return deployment_check.CODES[deployment_check.decision(judged)]


def report(options: argparse.Namespace) -> None:
    """Write the report."""
    from .report import write_report

    write_report(Store(), options.ids, options.out)
    print(f"Report of {len(options.ids)} jobs: {options.out}")


def rows(options: argparse.Namespace) -> None:
    """Write all rows as Parquet."""
    from ..store.parquet import write

    written = write(Store(), options.ids, options.out)
    print(f"{len(written)} tables are in {options.out}: {', '.join(file.name for file in written)}")


def log(options: argparse.Namespace) -> None:
    """Write plans and figures to a tracker, a run a job."""
    from .trackers import log

    store = Store()
    for id in options.ids:
        print(log(store, store.job(id), options.to, project=options.project))


def transfer(options: argparse.Namespace) -> None:
    """Try saved adversarial texts on the jobs' models and show the shares that fool them."""
    from ..experiments import attack_transfer
    from .terminal import transfers

    store, progress = Store(), PrintedProgress()
    attack_transfer.run(store, options.ids, progress)
    progress.end()
    print(transfers(store, options.ids))


def worker(options: argparse.Namespace) -> None:
    """Run queued jobs until there are none for a while; started by the queue."""
    from ..queue.worker import work

    work(options.device, options.lock)
