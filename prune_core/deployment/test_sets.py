"""Experiments that measure a job's model on the test sets of a policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..experiments.candidate import CandidateModel
from ..experiments.experiment import Experiment
from ..measures import MEASURES
from ..measures.base import Measure
from ..plugins import build
from ..store.job import Job
from ..store.store import Store
from ..views import CRITERIA
from .policy import Policy


def set_experiments(
    store: Store, job: Job, policy: Policy
) -> dict[str, tuple[Experiment, Experiment]]:
    """Return for each test set the experiments of the job's model and of the dense model.

    The model is read from the job's saved weights, so it is the same on every test set. Each set
    is a study of its own.
    """
    base = Experiment.from_dict(job.experiment)
    model = base.method
    if not job.is_candidate:
        model = CandidateModel(path=str(store.weights(job)), shown_as=job.label)
    experiments = {}
    for test_set in policy.test_sets:
        experiment = replace(
            base,
            source=test_set.source,
            method=model,
            measures=needed_measures(base, policy.of_set(test_set)),
            study=f"{job.study} · {test_set.name}",
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
