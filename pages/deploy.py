"""Deploy: test whether a model meets the limits of a policy, and export it."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import deployment_formats, export, size_search
from pages.sections import policy as _policy
from pages.widgets import frame, ui
from prune_core import PruneError, plots
from prune_core.analysis import deployment_check, evidence, seeds
from prune_core.analysis.policy import CRITERIA, Policy
from prune_core.queue import jobs
from prune_core.store.job import Job, Status
from prune_core.store.store import Store

view = frame.view()
if not view.models:
    ui.empty(
        view.store,
        "Deploy",
        "**May this model ship?** Set limits on what pruning may cost. Each limit is tested on "
        "paired data. The result is ship, do not ship or inconclusive, with the loss that the "
        "sample rules out and the number of examples that would decide.",
        key="deploy",
        waiting=view.waiting,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def checked(
    home: str, job: int, stamp: float, policy: Policy
) -> tuple[list[deployment_check.Verdict], str, pd.DataFrame, pd.DataFrame]:
    """Verdicts, their sentence, slices and flipped examples.

    `stamp`, the seconds of all stages of the study, changes with any rows: the attacks on the
    dense model are read too.
    """
    store = Store(Path(home))
    found = evidence.evidence(store, store.job(job))
    verdicts = deployment_check.check(found, policy)
    return (
        verdicts,
        deployment_check.summary_sentence(verdicts, policy),
        evidence.slice_table(found, policy),
        evidence.flipped_predictions(found),
    )


def tests(store: Store, job: Job, verdicts: list[deployment_check.Verdict], policy: Policy) -> None:
    """One row per test, why tests have no result, and a button that measures cost again."""
    rows = [
        {
            "test": each.title,
            "answer": each.answer,
            "measured": each.value,
            "limit": each.asked,
            "excluded": each.excluded,
            "n": each.n,
            "needs": each.needs,
        }
        for each in verdicts
    ]
    number = st.column_config.NumberColumn
    columns: dict[str, Any] = {
        "test": st.column_config.TextColumn("Test", width=290),
        "answer": "Result",
        "measured": number("Measured", format="%.2f"),
        "limit": "Limit",
        "excluded": st.column_config.TextColumn(
            "Ruled out",
            help=(
                f"Values that the sample rules out with {policy.confidence:g}% confidence: the "
                "tightest limit it could show to be met."
            ),
        ),
        "needs": number(
            "n needed", help="Decides in 80 of 100 samples, if the measured value is the true one"
        ),
    }
    ui.table(pd.DataFrame(rows), "verdicts", columns)
    for told in dict.fromkeys(each.detail for each in verdicts if each.detail and not each.needs):
        names = ", ".join(each.title for each in verdicts if each.detail == told)
        st.info(f"**{ui.escape(names)}**: {ui.escape(told)}.", icon=":material/info:")
    timed = [
        each
        for each in verdicts
        if CRITERIA[each.criterion].measure == "cost"
        and each.answer == deployment_check.INCONCLUSIVE
    ]
    if (
        timed
        and job.status == Status.DONE
        and st.button("Measure cost again", key="remeasure", icon=":material/timer:")
    ):
        ui.run_action(_remeasure, store, job)
        st.rerun()


def _remeasure(store: Store, job: Job) -> None:
    jobs.remeasure(
        store, job.id, ["cost"], options={"cost": {"repeats": evidence.forward_times(job)}}
    )
    ui.show_message(
        f"Queued: cost of job {job.id}. The times on this page change when it is finished; leave "
        "the machine idle."
    )


def flips(found: pd.DataFrame, names: list[str]) -> None:
    """The examples themselves."""
    if found.empty:
        st.info("No answer changed from right to wrong or back.", icon=":material/check:")
        return
    kinds = list(dict.fromkeys(found["what"]))
    counts = found["what"].value_counts()
    kind = ui.choice_widget(
        st.segmented_control,
        "flips",
        kinds,
        default=kinds[0],
        label="Examples",
        format_func=lambda each: f"{each} · {counts[each]}",
    )
    own = found[found["what"] == kind]
    shown = ui.readable_labels(own[["text", "label", "dense", "pruned"]], names)
    shown.insert(1, "pair", own["pair"]) if own["pair"].notna().any() else None
    ui.table(
        shown,
        f"{kind}-examples",
        {"text": st.column_config.TextColumn("Text", width="large")},
        plain=own,
        height=320,
    )


def slice_view(found: pd.DataFrame) -> None:
    """Every slice with its bound and the corrected test."""
    if found.empty:
        st.info("Slices need labels and answers that are right or wrong.", icon=":material/info:")
        return
    columns: dict[str, Any] = {
        "slice": "Slice",
        "dense": ui.percent_bar("Dense"),
        "pruned": ui.percent_bar("Pruned"),
        "difference": st.column_config.NumberColumn("Difference (points)", format="%+.1f"),
        "low": st.column_config.NumberColumn(
            "At worst (points)", format="%+.1f", help="One-sided bound at the policy's confidence"
        ),
        "p_holm": st.column_config.NumberColumn(
            "p (Holm)", format="%.3f", help="McNemar's exact test, corrected for all slices"
        ),
    }
    scaled = found.assign(
        **{name: 100 * found[name] for name in ("dense", "pruned", "difference", "low")}
    )
    ui.table(
        scaled[["slice", "n", "dense", "pruned", "difference", "low", "broken", "fixed", "p_holm"]],
        "slices",
        columns,
        plain=found,
    )


def in_ci(policy: Policy, job: int) -> None:
    """The same check from the command line."""
    st.markdown("Keep the file beside your code; the same check stops a pipeline:")
    st.code(
        f"python -m prune_core check {job} --policy policy.yaml  # exit 0: ship, 1: do not ship, "
        "3: inconclusive",
        language="bash",
    )
    st.code(policy.as_yaml(), language="yaml")
    st.download_button(
        "policy.yaml",
        policy.as_yaml(),
        "policy.yaml",
        key="policy-download",
        icon=":material/download:",
        on_click="ignore",
    )


st.title("Deploy", anchor=False)
place = st.empty()
ui.stop_without(view.pruned, view.waiting)
model = ui.one_model(view.pruned, "deploy-model", "May it ship?", dark=view.dark)
if which_seed := seeds.seed_note([model]):
    st.caption(f"This check uses {which_seed}: you deploy one model, not an average.")
grid = st.grid(2, min_column_width=400, gap="medium", key="deploy")
answer, limits = grid.cell(), grid.cell()
with limits:
    policy = ui.run_action(_policy.form, view.kind, evidence.metric_of(view.rows("accuracy")))
if policy is None:
    st.stop()
job = view.job(model)
try:
    verdicts, told, found_slices, found_flips = checked(
        str(view.store.home),
        job.id,
        sum(sum(each.seconds.values()) for each in view.jobs),
        policy=policy,
    )
except PruneError as error:
    st.error(str(error))
    st.stop()
with place:
    ui.takeaway(f"{model.label}. {told}")
with answer:
    ui.chart(
        "How much of each limit is used?",
        f"The measured value and one-sided {policy.confidence:g}% bounds; what lies right of the "
        "bar is ruled out. Filled: met; hollow: inconclusive; cross: violated.",
        plots.allowances(verdicts, view.dark),
        key="allowances",
    )
PARTS = {
    "tests": ("Tests", lambda: tests(view.store, job, verdicts, policy=policy)),
    "flips": ("Newly broken, newly fixed", lambda: flips(found_flips, view.label_names)),
    "slices": ("Slices", lambda: slice_view(found_slices)),
    "forms": ("What ships", lambda: deployment_formats.page(Store(view.store.home), job)),
    "smallest": ("As small as it gets", lambda: size_search.page(view.store.home, job, policy)),
    "ci": ("Policy file and CI", lambda: in_ci(policy, job.id)),
    "export": ("Export", lambda: export.page(view)),
}
ui.parts(PARTS, "deploy-part")
ui.how_to_read(
    "Each limit is a **non-inferiority test** on the same examples: it is met if the worse end "
    "of a one-sided interval is within it. A model exactly at a limit passes in at most 5 of 100 "
    "samples at 95% confidence, and shipping needs every limit to be met. **Inconclusive** means "
    "that the sample is too small: the table shows what it rules out and how many examples would "
    "decide. A limit is violated only if it still is after correction for all tests "
    "(Bonferroni). Without labels, accuracy is bounded by the percentage of changed predictions. "
    "Latency and speed-up are inconclusive if other processes used the processor during the "
    "timed passes."
)
