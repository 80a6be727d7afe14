"""Experiments that measure a job's model on the test sets of a policy."""

from __future__ import annotations

from dataclasses import replace

from ..data.examples import NO_CALIBRATION
from ..errors import PruneError
from ..experiments.candidate import CandidateModel
from ..experiments.experiment import Experiment
from ..measures import MEASURES
from ..measures.base import Measure
from ..plugins import build
from ..store.job import Job
from ..store.store import Store
from .policy import Policy


def model_of(store: Store, job: Job) -> CandidateModel:
    """Return the model of a job as a candidate: the same saved weights on every test set."""
    method = Experiment.from_dict(job.experiment).method
    if isinstance(method, CandidateModel):
        return method
    if method is None:
        raise PruneError(f"Job {job.id} is the dense model; choose the job of a pruned model.")
    return CandidateModel(path=str(store.weights(job)), shown_as=job.label)


def set_experiments(
    base: Experiment, model: CandidateModel, policy: Policy
) -> dict[str, Experiment]:
    """Return the experiment of a model on each test set, by name.

    Each test set has its own study. Nothing is pruned, so no examples are reserved for calibration.
    """
    return {
        test_set.name: replace(
            base,
            source=replace(test_set.source, calibration=NO_CALIBRATION),
            method=model,
            measures=needed_measures(base, policy.of_set(test_set)),
            study=f"{base.study} · {test_set.name}",
        )
        for test_set in policy.test_sets
    }


def needed_measures(template: Experiment, limits: Policy) -> tuple[Measure, ...]:
    """Return the measures that the limits need, with the template's options."""
    existing = {measure.name: measure for measure in template.measures}
    return tuple(
        replace(existing.get(name) or build(MEASURES, name, {}), **options)
        for name, options in limits.needed_measures.items()
    )
