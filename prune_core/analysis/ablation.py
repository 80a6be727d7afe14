"""Contribution of each option: runs of one method with changed options, against the full method."""

from collections.abc import Mapping
from itertools import starmap
from typing import Any

import pandas as pd

from ..plugins import (
    DISTILLATION_OPTIONS,
    SECOND_STAGE_OPTIONS,
    TARGET_OPTIONS,
    distillation_label,
    second_stage_label,
)

# options that set how much is removed, not by which rule
SPARSITY_OPTIONS = ("sparsity", "pattern", *TARGET_OPTIONS)
# options that are not compared one by one; those of the second stage and of distillation get a
# common label, as older runs lack them
EXCLUDED = (*SPARSITY_OPTIONS, *SECOND_STAGE_OPTIONS, *DISTILLATION_OPTIONS)
# label of a missing second stage or distillation
WITHOUT = {"then": "no second stage", "distil": "not distilled"}
# columns in which a run and the full method must agree: the target, and the seed of the sample
SAME = ["requested_sparsity", "pattern", "seed"]


def option_contributions(
    runs: pd.DataFrame, plans: Mapping[int, Mapping[str, Any]], key: str
) -> pd.DataFrame:
    """Return the difference from the full method for each method, changed option and target.

    `difference` in the quantity `key` is the mean over seeds, `low` and `high` their range; further
    columns are `seeds` and `n`. The table is empty if no method was run in two variants. `runs` is
    a summary with one row per job, `plans` has the options of each job's method.
    """
    known = runs[runs["job"].isin(list(plans))].dropna(subset=key)
    parts = [_contributions(group, plans, key) for _, group in known.groupby("method", sort=False)]
    if not parts:
        return pd.DataFrame(columns=["method", "family", "changed_options"])
    return pd.concat(parts, ignore_index=True)


def form_labels(plans: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
    """Label each job, all of one method, by the options that differ from the full method.

    An example is "without bias, rounds 2"; the label of the full method is "". The full method is
    the variant from which all others together differ in the fewest options.
    """
    options = {
        job: frozenset(
            {
                ("then", second_stage_label(plan)),
                ("distil", distillation_label(plan)),
                *(item for item in plan.items() if item[0] not in EXCLUDED),
            }
        )
        for job, plan in plans.items()
    }
    distinct = list(dict.fromkeys(options.values()))
    full = min(distinct, key=lambda form: sum(len(form ^ other) for other in distinct))
    return {
        job: ", ".join(sorted(starmap(_option_label, form - full))).replace("_", " ")
        for job, form in options.items()
    }


def _contributions(
    runs: pd.DataFrame, plans: Mapping[int, Mapping[str, Any]], key: str
) -> pd.DataFrame:
    labels = form_labels({job: plans[job] for job in runs["job"]})
    runs = runs.assign(changed_options=runs["job"].map(labels))
    full = runs[runs["changed_options"] == ""].drop_duplicates(SAME)[[*SAME, key]]
    pairs = runs[runs["changed_options"] != ""].merge(full, on=SAME, suffixes=("", "_full"))
    pairs["difference"] = pairs[key] - pairs[f"{key}_full"]
    return (
        pairs.groupby(
            ["method", "family", "changed_options", "requested_sparsity", "pattern"], sort=False
        )
        .agg(
            difference=("difference", "mean"),
            low=("difference", "min"),
            high=("difference", "max"),
            seeds=("seed", "nunique"),
            n=(f"{key}_n", "first"),
        )
        .reset_index()
    )


def _option_label(name: str, value: Any) -> str:
    if name in WITHOUT:
        return value or WITHOUT[name]
    if name == "allocation" and "," in str(value):
        return "custom sparsities"
    if isinstance(value, bool):
        return f"with {name}" if value else f"without {name}"
    return f"{name} {value}"
