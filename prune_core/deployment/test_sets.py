"""Experiments that measure a job's model on the test sets of a policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import PruneError
from ..experiments.candidate import CandidateModel
from ..experiments.experiment import Experiment
from ..measures import MEASURES
from ..measures.base import Measure
from ..plugins import build
from ..store.job import Job
from ..store.store import Store
from ..views import CRITERIA
from .policy import Policy

UNUSED = "demo"  # placeholder: nothing is calibrated


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
) -> dict[str, tuple[Experiment, Experiment]]:
    """Return (experiment of the model, experiment of the dense model) for each test set.

    Each test set is a study of its own. Nothing is pruned, so no examples are reserved for
    calibration.
    """
    experiments = {}
    for test_set in policy.test_sets:
        source = test_set.source
        experiment = replace(
            base,
            source=replace(source, calibration=source.calibration or UNUSED),
            method=model,
            measures=needed_measures(base, policy.of_set(test_set)),
            study=f"{base.study} · {test_set.name}",
        )
        experiments[test_set.name] = (experiment, replace(experiment, method=None))
    return experiments


def needed_measures(template: Experiment, limits: Policy) -> tuple[Measure, ...]:
    """Return the measures that the limits need, with the template's options."""
    existing = {measure.name: measure for measure in template.measures}
    needed: dict[str, dict[str, Any]] = {}
    for name in limits.limits:
        needed.setdefault(CRITERIA[name].measure, {}).update(CRITERIA[name].measure_options)
    return tuple(
        replace(existing.get(name) or build(MEASURES, name, {}), **options)
        for name, options in needed.items()
    )
