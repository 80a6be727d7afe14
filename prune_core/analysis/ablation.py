"""What each option contributes: runs of one method that differ in their options, each beside the method's full form.

Pure pandas; knows nothing of Streamlit, plotly or the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..plugins import (
    DISTILLATION_OPTIONS,
    SECOND_STAGE_OPTIONS,
    TARGET_OPTIONS,
    distillation_label,
    second_stage_label,
)

SPARSITY_OPTIONS = (
    "sparsity",
    "pattern",
    *TARGET_OPTIONS,
)  # options that say how much is to go, not how
APART = (
    *SPARSITY_OPTIONS,
    *SECOND_STAGE_OPTIONS,
    *DISTILLATION_OPTIONS,
)  # and those that are told whole, which runs from before they were there lack
SAME = [
    "asked",
    "pattern",
    "seed",
]  # what a run and its full form must share: the target, and the calibration sentences


def option_contributions(
    runs: pd.DataFrame, plans: Mapping[int, Mapping[str, Any]], key: str = "accuracy"
) -> pd.DataFrame:
    """A row a method, changed option and target: `difference` from the full form in `key`, mean over seeds, `low` and `high`
    of them, `seeds` and `n`. Empty where no method was run in two forms.

    `runs` is a summary with a row a job, `plans` the options of each job's method.
    """
    found = [
        _of_method(own, plans, key)
        for _, own in runs[runs["job"].isin(list(plans))]
        .dropna(subset=key)
        .groupby("method", sort=False)
    ]
    return (
        pd.concat(found, ignore_index=True)
        if found
        else pd.DataFrame(columns=["method", "family", "part"])
    )


def forms(plans: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
    """What each job's options change of the full form, in words, "" for the full form itself; all jobs are of one method.

    The full form is the one that the others, all counted, differ from in the fewest options.
    """
    found = {
        job: frozenset(
            {
                ("then", second_stage_label(plan)),
                ("distil", distillation_label(plan)),
                *(item for item in plan.items() if item[0] not in APART),
            }
        )
        for job, plan in plans.items()
    }
    distinct = list(dict.fromkeys(found.values()))
    full = min(distinct, key=lambda form: sum(len(form ^ other) for other in distinct))
    return {job: _told(form - full) for job, form in found.items()}


def _of_method(
    runs: pd.DataFrame, plans: Mapping[int, Mapping[str, Any]], key: str
) -> pd.DataFrame:
    told = forms({job: plans[job] for job in runs["job"]})
    runs = runs.assign(part=runs["job"].map(told))
    whole = runs[runs["part"] == ""].drop_duplicates(SAME)[[*SAME, key]]
    pairs = runs[runs["part"] != ""].merge(whole, on=SAME, suffixes=("", "_full"))
    pairs["difference"] = pairs[key] - pairs[f"{key}_full"]
    groups = pairs.groupby(["method", "family", "part", "asked", "pattern"], sort=False)
    return groups.agg(
        difference=("difference", "mean"),
        low=("difference", "min"),
        high=("difference", "max"),
        seeds=("seed", "nunique"),
        n=(f"{key}_n", "first"),
    ).reset_index()


def _told(changed: frozenset[tuple[str, Any]]) -> str:
    """The changed options in words."""
    said = [
        (value or "not distilled")
        if name == "distil"
        else (value or "nothing after it")
        if name == "second_stage"
        else "shares of its own"
        if name == "allocation" and "," in str(value)
        else f"without {name}"
        if value is False
        else f"with {name}"
        if value is True
        else f"{name} {value}"
        for name, value in changed
    ]
    return ", ".join(sorted(said)).replace("_", " ")
