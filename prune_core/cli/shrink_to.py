"""`shrink-to`: as small, or as fast, as a model gets within a policy's limits. Each try is an ordinary job, all of them a study."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PruneError
from ..store.store import Store
from .run_commands import check_data, experiment_of, perform_here, succeeded

if TYPE_CHECKING:
    from ..plugins import Method


def shrink_to(options: argparse.Namespace) -> int:
    """Try shares by bisection; 0 where one holds every limit, 1 where none does. What was measured before is read, not repeated."""
    from ..analysis import deployment_check, policy, size_search
    from ..experiments.experiment import Experiment
    from ..measures import MEASURES
    from ..plugins import build
    from ..queue.jobs import finished

    if not (options.job or options.method):
        raise PruneError(
            "shrink-to needs a method: add --method, such as --method akr, or --job with a pruned job's number."
        )
    store = Store()
    start = (
        Experiment.from_dict(store.job(options.job).experiment)
        if options.job
        else experiment_of(options, store)
    )
    if start.method is None:
        raise PruneError(
            f"Job {options.job} is a dense model; give a pruned one's number, or --method."
        )
    asked = (
        policy.load(options.policy)
        if options.policy
        else policy.Policy({"accuracy_loss": options.loss})
    )
    own = {each.name: each for each in start.measures}
    names = dict.fromkeys(policy.CRITERIA[name].measure for name in asked.limits)
    measures = tuple(own.get(name) or build(MEASURES, name, {}) for name in names)
    if options.fastest and not hasattr(start.method, "speedup"):
        raise PruneError(
            f"{start.method.title} removes single weights, which makes no pass faster; leave --fastest away, or take a method "
            "that removes heads and neurons, such as --method kprune."
        )
    best = "fastest" if options.fastest else "smallest"
    study = options.study or f"{best.title()} {start.method.title} of {Path(start.checkpoint).name}"
    base = replace(start, method=None, measures=measures, study=study)
    check_data(base)
    done = lambda each: finished(store, each) or succeeded(store, perform_here(store, each))  # noqa: E731
    size_search.refuse_unknowable(store, done(base), asked)
    tries: list[size_search.Trial] = []
    while (share := size_search.next_share(tries)) is not None:
        method = _at(start.method, share, options.fastest)
        try:
            tries.append(
                size_search.judge_trial(
                    store, done(replace(base, method=method)), share, policy=asked
                )
            )
        except PruneError as error:  # one head a block may be more than that share leaves
            tries.append(
                size_search.Trial(
                    share, method.label, 0, answer=deployment_check.STOP, detail=str(error)
                )
            )
        print(f"- {method.label}: {tries[-1].detail}", flush=True)
    print(size_search.result_sentence(tries, asked, best))
    return 0 if any(each.holds for each in tries) else 1


def _at(method: Method, share: float, fastest: bool) -> Method:
    """The method with that share gone, or that share of dense's time, whatever decided its share before."""
    from ..methods import METHODS
    from ..plugins import TARGETS, build

    options = {
        name: value
        for name, value in method.to_dict().items()
        if name not in ("sparsity", "pattern", *TARGETS)
    }
    if "," in str(options.get("allocation", "")):  # a list of shares has that sum and no other
        del options["allocation"]
    return build(
        METHODS,
        method.name,
        options | ({"speedup": round(1 / (1 - share), 2)} if fastest else {"sparsity": share}),
    )
