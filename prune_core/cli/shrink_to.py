"""`shrink-to`: search the smallest, or fastest, model within a policy's limits.

Each trial is an ordinary job; all trials are in one study.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PruneError
from ..plugins import CANDIDATE
from ..store.store import Store
from .run_commands import check_data, experiment_from_options, require_success, run_in_process

if TYPE_CHECKING:
    from ..experiments.experiment import Experiment
    from ..plugins import Method
    from ..store.job import Job


def shrink_to(options: argparse.Namespace) -> int:
    """Bisect over sparsity; return 0 if a trial meets all limits, else 1.

    Trials that were measured before are read from the store.
    """
    from ..deployment import deployment_check, policy, size_search
    from ..deployment.test_sets import needed_measures

    store = Store()
    template, method = _template(options, store)
    accuracy_only = policy.Policy({"accuracy_loss": options.loss})
    limits = policy.load(options.policy) if options.policy else accuracy_only
    superlative = "fastest" if options.fastest else "smallest"
    checkpoint = Path(template.checkpoint).name
    study = options.study or f"{superlative.title()} {method.title} of {checkpoint}"
    measures = needed_measures(template, limits)
    base = replace(template, method=None, measures=measures, study=study)
    check_data(base)

    def run(experiment: Experiment) -> Job:
        return require_success(store, run_in_process(store, experiment))

    size_search.check_sample_size(store, run(base), limits)
    trials: list[size_search.Trial] = []
    while (fraction := size_search.next_sparsity(trials)) is not None:
        pruned = _with_target(method, fraction, options.fastest)
        try:
            job = run(replace(base, method=pruned))
            trial = size_search.judge_trial(store, job, fraction, policy=limits)
        except PruneError as error:
            # the minimum of one head per layer may be more than this sparsity leaves
            trial = size_search.Trial(
                fraction, pruned.label, 0, decision=deployment_check.STOP, detail=str(error)
            )
        trials.append(trial)
        print(f"- {pruned.label}: {trial.detail}", flush=True)
    print(size_search.result_sentence(trials, limits, superlative))
    return 0 if any(trial.is_within_limits for trial in trials) else 1


def _template(options: argparse.Namespace, store: Store) -> tuple[Experiment, Method]:
    """Return the experiment of --job, or of the options, and its method."""
    from ..experiments.experiment import Experiment

    if not (options.job or options.method):
        raise PruneError(
            "shrink-to needs a method: add --method, such as --method akr, or --job with the ID of "
            "a pruned job."
        )
    template = (
        Experiment.from_dict(store.job(options.job).experiment)
        if options.job
        else experiment_from_options(options, store)
    )
    if template.method is None:
        raise PruneError(
            f"Job {options.job} is a dense model; give the ID of a pruned job, or --method."
        )
    if template.method.name == CANDIDATE:
        raise PruneError(
            f"Job {options.job} measured a model from elsewhere; give the job of a pruned model."
        )
    if options.fastest and template.method.removes != "units":
        raise PruneError(
            f"{template.method.title} removes single weights, which does not reduce the latency; "
            "leave --fastest out, or choose a method that removes heads and neurons, such as "
            "--method kprune."
        )
    return template, template.method


def _with_target(method: Method, fraction: float, fastest: bool) -> Method:
    """Set the method's sparsity, or its speedup 1 / (1 - fraction); drop its earlier target."""
    from ..methods import METHODS
    from ..plugins import TARGETS, build

    options = {
        name: value
        for name, value in method.to_dict().items()
        if name not in ("sparsity", "pattern", *TARGETS)
    }
    if "," in str(options.get("allocation", "")):  # a list of sparsities fits only its own mean
        del options["allocation"]
    target = {"speedup": round(1 / (1 - fraction), 2)} if fastest else {"sparsity": fraction}
    return build(METHODS, method.name, options | target)
