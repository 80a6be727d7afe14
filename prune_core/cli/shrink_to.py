"""`shrink-to`: search the smallest, or fastest, model within a policy's limits.

Each trial is an ordinary job; all trials are in one study. With `--formats` or `--trim`, exported
files are searched, see `deployment/joint_search.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.examples import DataSource
from ..errors import PruneError
from ..plugins import CANDIDATE
from ..store.store import Store
from .key_values import settings
from .progress import PrintedProgress
from .run_commands import check_data, experiment_from_options, require_success, run_in_process

if TYPE_CHECKING:
    from ..deployment.policy import Policy
    from ..experiments.experiment import Experiment
    from ..plugins import Method
    from ..store.job import Job


def shrink_to(options: argparse.Namespace) -> int:
    """Bisect over sparsity; return 0 if a trial meets all limits, else 1.

    Trials that were measured before are read from the store.
    """
    from ..deployment import deployment_check, size_search
    from ..deployment.test_sets import needed_measures

    store = Store()
    template, method = _template(options, store)
    limits = _limits(options)
    if options.formats or options.trim is not None:
        return _search_files(options, store, template, limits)
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
        pruned = size_search.with_target(method, fraction, options.fastest)
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


def _limits(options: argparse.Namespace) -> Policy:
    """Return the limits of --policy, else the one of --loss, with those of --limit."""
    from ..deployment import policy

    accuracy_only = policy.Policy({"accuracy_loss": options.loss})
    limits = policy.load(options.policy) if options.policy else accuracy_only
    more = {}
    for name, value in settings(options.limit, "--limit").items():
        try:
            more[name] = float(value)
        except ValueError:
            raise PruneError(
                f"--limit {name}={value}: {value!r} is not a number; write it as size=20."
            ) from None
    return replace(limits, limits={**limits.limits, **more})


def _search_files(
    options: argparse.Namespace, store: Store, template: Experiment, limits: Policy
) -> int:
    """Search over sparsity, formats and the vocabulary; return 0 if a file meets all limits."""
    from ..deployment import joint_search, joint_search_run
    from ..experiments.deployed_files import parse_formats
    from ..measures.deployment_formats import PYTORCH
    from .terminal import search_table

    method = template.method
    assert method is not None, "_template has checked it"
    joint_search.check_method(method)
    objective = joint_search.FASTEST if options.fastest else joint_search.SMALLEST
    checkpoint = Path(template.checkpoint).name
    study = options.study or f"{objective.title()} file of {checkpoint} by {method.title}"
    template = replace(template, study=study)
    check_data(template)
    for path in filter(None, (options.json, options.out)):
        if not path.absolute().parent.is_dir():
            raise PruneError(f"{path}: there is no folder {path.absolute().parent}; make it first.")
    progress = PrintedProgress()
    search = joint_search_run.JointSearch(
        store,
        template,
        limits,
        parse_formats(options.formats or PYTORCH),
        run=lambda experiment: require_success(store, run_in_process(store, experiment)),
        report=progress,
        objective=objective,
        texts=_texts(options),
    )
    result = search.result(
        options.out, lambda trial: print(f"- {trial.label}: {trial.detail}", flush=True)
    )
    progress.end()
    print(search_table(result))
    if result.warning:
        print(f"prune_core: Warning: {result.warning}", file=sys.stderr)
    if options.json:
        text = json.dumps(result.as_json(), indent=2, ensure_ascii=False)
        options.json.write_text(f"{text}\n", encoding="utf-8")
    print(result.sentence)
    return 0 if result.chosen else 1


def _texts(options: argparse.Namespace) -> list[str] | None:
    """Return the texts of --trim, [] for the calibration pool, None without --trim."""
    from ..experiments import trimming

    if options.trim is None:
        return None
    return [
        text
        for name in options.trim
        for text in trimming.texts_of(DataSource.from_keys({"task": name}))
    ]


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
