"""`check`: test a job, or a model from elsewhere, against the limits of a policy."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PruneError
from ..plugins import no_report
from ..store.store import Store
from .run_commands import check_data, experiment_from_options, require_success, run_in_process

if TYPE_CHECKING:
    from ..deployment.policy import Policy
    from ..experiments.experiment import Experiment
    from ..store.job import Job


def check(options: argparse.Namespace) -> int:
    """Return 0 if all limits are met, 1 if one is violated, 3 if it cannot be decided.

    With `--candidate`, the model is measured first.
    """
    from ..analysis.candidate_facts import candidate_facts, warnings
    from ..analysis.evidence import evidence
    from ..deployment import deployment_check, policy
    from . import terminal

    store = Store()
    if (options.id is None) == (not options.candidate):
        raise PruneError(
            "check needs either the ID of a job or a model: write check ID, or check --dense A "
            "--candidate B."
        )
    limits = policy.load(options.policy) if options.policy else None
    if options.candidate:
        job = _measure(options, store, limits)
        limits = limits or _default_policy(job, store)
    else:
        job = store.job(options.id)
    if limits and limits.test_sets:
        return _check_sets(options, store, job, limits)
    results = evidence(store, job)
    limits = limits or policy.default_policy(results.kind, results.metric, results)
    verdicts = deployment_check.check(results, limits)
    facts = candidate_facts(results)
    print(terminal.check_report(results, verdicts, limits))
    if len(facts):
        print(terminal.facts_report(facts))
    if options.json:
        record = deployment_check.to_record(verdicts, results, limits)
        if len(facts):
            record |= {"facts": facts.to_dict("records"), "warnings": warnings(facts)}
        options.json.write_text(json.dumps(record, indent=2, ensure_ascii=False))
    return deployment_check.CODES[deployment_check.decision(verdicts)]


def _check_sets(options: argparse.Namespace, store: Store, job: Job, limits: Policy) -> int:
    """Measure the model on every test set of the policy, and make one decision."""
    from ..analysis.evidence import evidence
    from ..deployment import combined_check, deployment_check
    from ..deployment.test_sets import set_experiments
    from ..experiments.reprune import reprune_job
    from . import terminal

    if not job.is_candidate and not store.has_weights(job.id):
        print(reprune_job(store, job, no_report))
    measured = {}
    for name, (candidate, dense) in set_experiments(store, job, limits).items():
        check_data(dense)
        of_set = require_success(store, run_in_process(store, candidate))
        require_success(store, run_in_process(store, dense))
        measured[name] = evidence(store, store.job(of_set.id))
    result = combined_check.check_sets(measured, limits)
    print(terminal.combined_report(job, result))
    if options.json:
        record = combined_check.to_record(result, measured)
        options.json.write_text(json.dumps(record, indent=2, ensure_ascii=False))
    return deployment_check.CODES[result.decision]


def _default_policy(job: Job, store: Store) -> Policy:
    """Return the default limits that were measured: not every file can be attacked."""
    from ..analysis.evidence import evidence
    from ..deployment import policy
    from ..views import CRITERIA

    results = evidence(store, job)
    limits = policy.default_policy(results.kind, results.metric, results)
    measured = {
        name: limit for name, limit in limits.limits.items() if CRITERIA[name].measure in job.done
    }
    return replace(limits, limits=measured)


def _measure(options: argparse.Namespace, store: Store, limits: Policy | None) -> Job:
    """Measure the candidate and the dense model; return the candidate's job."""
    from ..experiments.candidate import CandidateModel, check_kind

    candidate = CandidateModel(path=options.candidate, tokenizer=options.tokenizer)
    options.study = options.study or f"Candidates for {Path(options.checkpoint).name}"
    options.measure = options.measure or ["accuracy"]
    experiment = replace(experiment_from_options(options, store), method=candidate)
    experiment = _with_measures(experiment, limits)
    check_kind(experiment.measures, candidate)
    check_data(experiment)
    # the candidate first: what cannot be measured on it is refused at once
    job = require_success(store, run_in_process(store, experiment, options.again))
    require_success(store, run_in_process(store, replace(experiment, method=None), options.again))
    return store.job(job.id)


def _with_measures(experiment: Experiment, limits: Policy | None) -> Experiment:
    """Add the measures that the limits need, or those of the default limits if supported."""
    from ..deployment import policy
    from ..deployment.test_sets import needed_measures
    from ..experiments.candidate import CandidateModel, supported_measures
    from ..experiments.data_check import inspect_data

    assert isinstance(experiment.method, CandidateModel)
    needed = {measure.name: measure for measure in experiment.measures}
    if limits is not None:
        needed |= {each.name: each for each in needed_measures(experiment, limits)}
    else:
        inspected = inspect_data(experiment)
        if "error" in inspected:
            raise PruneError(inspected["error"])
        default = policy.default_policy(inspected["kind"], inspected["metric"])
        supported = supported_measures(experiment.method.path)
        for each in needed_measures(experiment, default):
            if each.name in supported:
                needed.setdefault(each.name, each)
    return replace(experiment, measures=tuple(needed.values()))
