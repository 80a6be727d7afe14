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
    from ..experiments.candidate import CandidateModel
    from ..experiments.experiment import Experiment
    from ..store.job import Job


def check(options: argparse.Namespace) -> int:
    """Return 0 if all limits are met, 1 if one is violated, 3 if the result is inconclusive.

    With `--candidate`, the model is measured first.
    """
    from ..analysis.candidate_facts import candidate_facts, warnings
    from ..analysis.evidence import evidence
    from ..deployment import deployment_check, policy
    from . import terminal

    if (options.id is None) == (not options.candidate):
        raise PruneError(
            "check needs either the ID of a job or a candidate: use check ID, or check --dense A "
            "--candidate B."
        )
    store = Store()
    limits = policy.load(options.policy) if options.policy else None
    if limits and limits.test_sets:
        return _check_sets(options, store, limits)
    if options.candidate:
        job, limits = _measure(options, store, limits)
    else:
        job = store.job(options.id)
    results = evidence(store, job)
    limits = limits or policy.default_policy(results.kind, results.metric)
    if not options.policy:
        limits = limits.relaxed(results)
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


def _check_sets(options: argparse.Namespace, store: Store, limits: Policy) -> int:
    """Measure a model on every test set of the policy, and make one decision."""
    from ..analysis.evidence import evidence
    from ..deployment import combined_check, deployment_check
    from ..deployment.test_sets import model_of, set_experiments
    from ..experiments.experiment import Experiment
    from ..experiments.reprune import reprune_job
    from . import terminal

    if options.candidate:
        model = _candidate(options)
        options.measure = options.measure or ["accuracy"]
        base = experiment_from_options(options, store)
    else:
        job = store.job(options.id)
        model, base = model_of(store, job), Experiment.from_dict(job.experiment)
        if not job.is_candidate and not store.has_weights(job.id):
            print(reprune_job(store, job, no_report))
    measured = {}
    for name, experiment in set_experiments(base, model, limits).items():
        measured[name] = evidence(store, _measure_both(store, experiment, options.again))
    result = combined_check.check_sets(measured, limits)
    print(terminal.combined_report(model.label, result))
    if options.json:
        record = combined_check.to_record(result, measured)
        options.json.write_text(json.dumps(record, indent=2, ensure_ascii=False))
    return deployment_check.CODES[result.decision]


def _measure(
    options: argparse.Namespace, store: Store, limits: Policy | None
) -> tuple[Job, Policy]:
    """Measure the candidate and the dense model; return the candidate's job and the limits."""
    from ..data.examples import NO_CALIBRATION

    candidate = _candidate(options)
    # nothing is pruned, so no examples of the file are reserved for calibration
    options.calibration = options.calibration or NO_CALIBRATION
    limits = limits or _default_policy(options, store, candidate)
    # options that a limit needs come first, so that the user's options override them
    options.set = [
        *(
            f"{measure}.{name}={value}"
            for measure, needed in limits.needed_measures.items()
            for name, value in needed.items()
        ),
        *options.set,
    ]
    options.measure = [*options.measure, *limits.needed_measures]
    experiment = replace(experiment_from_options(options, store), method=candidate)
    return _measure_both(store, experiment, options.again), limits


def _candidate(options: argparse.Namespace) -> CandidateModel:
    """Return the candidate of the arguments, and name its study."""
    from ..experiments.candidate import CandidateModel

    options.study = options.study or f"Candidates for {Path(options.checkpoint).name}"
    return CandidateModel(path=options.candidate, tokenizer=options.tokenizer)


def _measure_both(store: Store, experiment: Experiment, again: bool) -> Job:
    """Measure a candidate, then the dense model; return the candidate's job.

    The candidate comes first: unsupported measures fail before the dense model runs.
    """
    from ..experiments.candidate import CandidateModel, check_kind

    assert isinstance(experiment.method, CandidateModel), "only candidates are measured here"
    check_kind(experiment.measures, experiment.method)
    check_data(experiment)
    job = require_success(store, run_in_process(store, experiment, again))
    require_success(store, run_in_process(store, replace(experiment, method=None), again))
    return store.job(job.id)


def _default_policy(options: argparse.Namespace, store: Store, candidate: CandidateModel) -> Policy:
    """Return the default limits for the task that the candidate's file supports."""
    from ..deployment import policy
    from ..experiments.candidate import supported_measures
    from ..experiments.data_check import inspect_data
    from ..views import CRITERIA

    plain = argparse.Namespace(**{**vars(options), "measure": ["accuracy"], "set": []})
    inspected = inspect_data(experiment_from_options(plain, store))
    if "error" in inspected:
        raise PruneError(inspected["error"])
    limits = policy.default_policy(inspected["kind"], inspected["metric"])
    supported = supported_measures(candidate.path)
    return replace(
        limits,
        limits={
            name: limit
            for name, limit in limits.limits.items()
            if CRITERIA[name].measure in supported
        },
    )
