"""Re-pruning of weights that were not saved, or were deleted, from the run's seed."""

import shutil
from dataclasses import replace

from ..errors import PruneError
from ..plugins import Report
from ..store.job import Job, Status
from ..store.results import PRUNE, Results
from ..store.store import Store
from .experiment import Experiment
from .run import run


def reprune_job(store: Store, job: Job, report: Report) -> str:
    """Prune a job's model again, save the weights and compare the weights with the recorded hash.

    Return a sentence with the result of the comparison.
    """
    if not job.experiment["method"]:
        raise PruneError(
            f"Job {job.id} is a dense baseline; its weights are {job.experiment['checkpoint']}."
        )
    if job.is_candidate:
        raise PruneError(
            f"Job {job.id} measured a model from elsewhere, which was not pruned here; choose the "
            "job of a pruned model."
        )
    if PRUNE not in job.done or job.status == Status.RUNNING:
        raise PruneError(
            f"Job {job.id} has not finished pruning (it is {job.status}); resume it, or wait "
            "for it."
        )
    experiment = Experiment.from_dict(job.experiment)
    keep = experiment.keep if experiment.keep != "none" else "difference"
    pruning = replace(experiment, measures=(), keep=keep)
    results = store.results(job)
    again = Results(results.root, {PRUNE: f"{results.folders[PRUNE]}-again"})  # same weights folder
    stage = next(run(pruning, again, store.folder(job.id), report))
    shutil.rmtree(again.folder(PRUNE))
    recorded, repruned = job.facts.get("weights"), stage.facts["weights"]
    store.update(job.id, facts=job.facts | {"remade": repruned})
    if recorded is None:
        return (
            f"The weights of job {job.id} were re-pruned from its seed; the run has no recorded "
            "hash, so they cannot be verified."
        )
    if recorded != repruned:
        return (
            f"The re-pruned weights of job {job.id} differ from the recorded hash: other library "
            "versions, another device or number of threads round differently. Its results are of "
            "the original weights; run it again to measure these."
        )
    return f"The weights of job {job.id} were re-pruned from its seed, identical bit for bit."
