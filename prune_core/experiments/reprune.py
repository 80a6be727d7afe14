"""Pruned weights that were not kept, or freed, made again from the run's seed, and compared with what they were."""

from __future__ import annotations

from dataclasses import replace

from ..errors import PruneError
from ..plugins import Report
from ..store.job import Job, Status
from ..store.store import Store
from .experiment import PRUNE, Experiment
from .run import run


def reprune_job(store: Store, job: Job, report: Report) -> str:
    """Prune a job's model again into its folder; a sentence that says whether these are the weights that its figures are of."""
    if not job.experiment["method"]:
        raise PruneError(
            f"Job {job.id} is a dense baseline; its weights are {job.experiment['checkpoint']}."
        )
    if PRUNE not in job.done or job.status == Status.RUNNING:
        raise PruneError(
            f"Job {job.id} has not been pruned to its end (it is {job.status}); resume it, or wait for it."
        )
    experiment = Experiment.from_dict(job.experiment)
    kept = experiment.keep if experiment.keep != "none" else "difference"
    stage = next(run(replace(experiment, measures=(), keep=kept), store.folder(job.id), report))
    before, now = job.facts.get("weights"), stage.facts["weights"]
    store.update(job.id, facts=job.facts | {"remade": now})
    if before is None:
        return f"The weights of job {job.id} were made again from its seed; it was run before hashes were kept, so they cannot be compared."
    if before != now:
        return (
            f"The weights of job {job.id} were made again, and differ from the first ones: other libraries, device or number of "
            "threads round otherwise. Its figures are of the first ones; run it again to measure these."
        )
    return f"The weights of job {job.id} were made again from its seed, bit for bit as they were."
