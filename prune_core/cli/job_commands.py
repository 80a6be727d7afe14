"""Commands on existing jobs: list, show, cancel, resume, export, report; with lazy imports."""

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
    """Show one job and its results."""
    from ..queue.jobs import mark_crashed
    from .terminal import summary, write_json

    store = Store()
    mark_crashed(store)
    job = store.job(options.id)
    print(summary(store, job))
    if options.json:
        write_json(store, job, options.json)


def cancel(options: argparse.Namespace) -> None:
    """Cancel a job."""
    from ..queue.jobs import cancel

    cancel(Store(), options.id)
    print(f"Job {options.id} is being cancelled; its finished stages stay.")


def resume(options: argparse.Namespace) -> None:
    """Resume a job."""
    from ..queue.jobs import resume

    store = Store()
    resume(store, options.id)
    stages = ", ".join(store.job(options.id).done) or "none"
    print(f"Job {options.id} is queued again; finished stages: {stages}.")


def export(options: argparse.Namespace) -> None:
    """Export a job's pruned checkpoint, optionally compact or with ONNX."""
    from ..experiments.export import export_checkpoint
    from .export_card import write_export_card

    store, progress = Store(), PrintedProgress()
    job = store.job(options.id)
    messages = export_checkpoint(
        store,
        job,
        options.folder,
        shrunk=options.shrink,
        onnx=options.onnx,
        int8=options.int8,
        align=options.align,
        report=progress,
    )
    progress.end()
    write_export_card(
        store, job, options.folder, is_compact=options.shrink, is_aligned=options.align
    )
    if options.push:
        from .trackers import push

        messages.append(push(options.folder, options.push))
    print(
        "\n".join([f"Job {options.id}: the pruned checkpoint is in {options.folder}.", *messages])
    )


def reprune(options: argparse.Namespace) -> None:
    """Re-prune weights that were not saved."""
    from ..experiments.reprune import reprune_job

    store, progress = Store(), PrintedProgress()
    for id in options.ids:
        message = reprune_job(store, store.job(id), progress)
        progress.end()
        print(message)


def report(options: argparse.Namespace) -> None:
    """Write the comparison report."""
    from .report import write_report

    write_report(Store(), options.ids, options.out)
    print(f"Report of {len(options.ids)} jobs: {options.out}")


def rows(options: argparse.Namespace) -> None:
    """Write all rows as Parquet."""
    from ..store.parquet import write

    written = write(Store(), options.ids, options.out)
    print(f"{options.out}: {len(written)} tables ({', '.join(file.name for file in written)})")


def log(options: argparse.Namespace) -> None:
    """Log settings and results to a tracker, one run per job."""
    from .trackers import log

    store = Store()
    for id in options.ids:
        print(log(store, store.job(id), options.to, project=options.project))


def transfer(options: argparse.Namespace) -> None:
    """Test adversarial examples on the jobs' models and print the success rates."""
    from ..experiments import attack_transfer
    from .terminal import transfer_table

    store, progress = Store(), PrintedProgress()
    attack_transfer.run_transfer(store, options.ids, progress)
    progress.end()
    print(transfer_table(store, options.ids))


def worker(options: argparse.Namespace) -> None:
    """Run queued jobs until there are none for a while; started by the queue."""
    from ..queue.worker import work

    work(options.device, options.lock)
