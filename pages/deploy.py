"""Deploy: test whether a model meets the limits of a policy, and export it."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import candidate, deployment_formats, export, size_search, test_sets
from pages.sections import policy as _policy
from pages.widgets import frame, ui
from prune_core import PruneError, plots
from prune_core.analysis import (
    candidate_facts,
    cost_evidence,
    evidence,
    prediction_evidence,
    seeds,
)
from prune_core.analysis.criteria import INCONCLUSIVE, Verdict
from prune_core.deployment import deployment_check
from prune_core.deployment.policy import Policy
from prune_core.queue import jobs
from prune_core.store.job import Job, Status
from prune_core.store.store import Store
from prune_core.views import CRITERIA

view = frame.view()
if not view.models:
    ui.empty(
        view.store,
        "Deploy",
        "**Can this model be deployed?** Set limits on what pruning may cost. Each limit is tested "
        "on paired data. The result is ship, do not ship or inconclusive, with the loss that the "
        "sample rules out and the sample size that would decide.",
        key="deploy",
        is_active=view.is_active,
        more=lambda: candidate.form(view),
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _check(
    home: str, job: int, stamp: float, policy: Policy
) -> tuple[list[Verdict], str, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return verdicts, summary with advice, slices, changed predictions and candidate facts.

    `stamp`, the seconds of all stages of the study, invalidates the cache when any rows change;
    the attacks on the dense model are read too.
    """
    store = Store(Path(home))
    measured = deployment_check.with_policy(evidence.evidence(store, store.job(job)), policy)
    verdicts = deployment_check.check(measured, policy)
    sentences = [
        deployment_check.summary_sentence(verdicts, policy),
        *deployment_check.advice(measured, policy),
    ]
    return (
        verdicts,
        " ".join(sentences),
        prediction_evidence.slice_table(measured),
        prediction_evidence.flipped_predictions(measured),
        candidate_facts.candidate_facts(measured),
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _default_limits(home: str, job: int, stamp: float) -> dict[str, float]:
    """Return the default limits, relaxed to those that the job's sample can decide."""
    store = Store(Path(home))
    measured = evidence.evidence(store, store.job(job))
    return {name: criterion.default_at(measured) for name, criterion in CRITERIA.items()}


def tests(store: Store, job: Job, verdicts: list[Verdict], policy: Policy) -> None:
    """Show one row per test, the reasons for missing results, and a button to remeasure cost."""
    _verdict_table(verdicts, policy)
    for reason in dict.fromkeys(
        verdict.detail for verdict in verdicts if verdict.detail and not verdict.examples_needed
    ):
        names = ", ".join(verdict.title for verdict in verdicts if verdict.detail == reason)
        st.info(f"**{ui.escape(names)}**: {ui.escape(reason)}.", icon=":material/info:")
    is_cost_inconclusive = any(
        verdict.criterion.measure == "cost" and verdict.result == INCONCLUSIVE
        for verdict in verdicts
    )
    if not is_cost_inconclusive or job.status != Status.DONE:
        return
    if st.button("Measure cost again", key="remeasure", icon=":material/timer:"):
        ui.run_action(_remeasure, store, job)
        st.rerun()


def _verdict_table(verdicts: list[Verdict], policy: Policy) -> None:
    rows = [
        {
            "test": verdict.title,
            "result": verdict.result,
            "measured": verdict.value,
            "limit": verdict.limit_text,
            "excluded": verdict.excluded,
            "n": verdict.n,
            "examples_needed": verdict.examples_needed,
        }
        for verdict in verdicts
    ]
    number = st.column_config.NumberColumn
    columns: dict[str, Any] = {
        "test": st.column_config.TextColumn("Test", width=290),
        "result": "Result",
        "measured": number("Measured", format="%.2f"),
        "limit": "Limit",
        "excluded": st.column_config.TextColumn(
            "Ruled out",
            help=(
                f"Values that the sample rules out with {policy.confidence:g}% confidence. Their "
                "bound is the tightest limit that would be met."
            ),
        ),
        "examples_needed": number(
            "n needed",
            help="Examples or queries that would give a decision in 80 of 100 samples if the "
            "measured value is the true one",
        ),
    }
    ui.table(pd.DataFrame(rows), "verdicts", columns)


def _remeasure(store: Store, job: Job) -> None:
    jobs.remeasure(
        store, job.id, ["cost"], options={"cost": {"repeats": cost_evidence.timed_passes(job)}}
    )
    ui.show_message(
        f"Queued: cost of job {job.id}. The times on this page are updated when it finishes; keep "
        "the machine idle until then."
    )


def changed_predictions(examples: pd.DataFrame, names: list[str]) -> None:
    """Show the examples whose prediction the model broke or fixed, compared with dense."""
    if examples.empty:
        st.info(
            "No correct prediction was broken, and no incorrect prediction was fixed.",
            icon=":material/check:",
        )
        return
    changes = list(dict.fromkeys(examples["what"]))
    counts = examples["what"].value_counts()
    change = ui.choice_widget(
        st.segmented_control,
        "prediction-change",
        changes,
        default=changes[0],
        label="Examples",
        format_func=lambda name: f"{name} · {counts[name]}",
    )
    chosen = examples[examples["what"] == change]
    shown = ui.readable_labels(chosen[["text", "label", "dense", "pruned"]], names)
    if chosen["pair"].notna().any():
        shown.insert(1, "pair", chosen["pair"])
    ui.table(
        shown,
        f"{change}-examples",
        {"text": st.column_config.TextColumn("Text", width="large")},
        plain=chosen,
        height=320,
    )


def slice_table(slices: pd.DataFrame) -> None:
    """Show every slice with its bound and the corrected test."""
    if slices.empty:
        st.info(
            "Slices need labels and predictions that are either correct or incorrect.",
            icon=":material/info:",
        )
        return
    columns: dict[str, Any] = {
        "slice": "Slice",
        "dense": ui.percent_bar("Dense"),
        "pruned": ui.percent_bar("Pruned"),
        "difference": st.column_config.NumberColumn("Difference (points)", format="%+.1f"),
        "low": st.column_config.NumberColumn(
            "Worst case (points)", format="%+.1f", help="One-sided bound at the policy's confidence"
        ),
        "p_holm": st.column_config.NumberColumn(
            "p (Holm)", format="%.3f", help="McNemar's exact test, corrected for all slices"
        ),
    }
    scaled = slices.assign(
        **{name: 100 * slices[name] for name in ("dense", "pruned", "difference", "low")}
    )
    ui.table(
        scaled[["slice", "n", "dense", "pruned", "difference", "low", "broken", "fixed", "p_holm"]],
        "slices",
        columns,
        plain=slices,
    )


def in_ci(policy: Policy, job: Job) -> None:
    """Show the command and the policy file that run the same check in CI."""
    st.markdown("Commit the policy file with your code and run the same check in CI:")
    check = f"python -m prune_core check {job.id} --policy policy.yaml"
    if job.is_candidate:
        check = candidate.command(job)
    st.code(
        f"{check}  # exit 0: ship, 1: do not ship, 3: inconclusive",
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
headline = st.empty()
if not view.pruned:
    candidate.form(view)
ui.stop_without(view.pruned, view.is_active)
model = ui.one_model(view.pruned, "deploy-model", "Model to check", dark=view.dark)
if seed_note := seeds.seed_note([model]):
    st.caption(f"This check uses {seed_note}: you deploy one model, not an average.")
grid = st.grid(2, min_column_width=400, gap="medium", key="deploy")
verdict_cell, limits_cell = grid.cell(), grid.cell()
job = view.job(model)
stamp = sum(sum(run.seconds.values()) for run in view.jobs)
with limits_cell:
    defaults = _default_limits(str(view.store.home), job.id, stamp)
    metric = evidence.metric_of(view.rows("accuracy"))
    policy = ui.run_action(_policy.form, view.kind, metric, defaults)
if policy is None:
    st.stop()
try:
    verdicts, sentence, slices, flipped, facts = _check(
        str(view.store.home), job.id, stamp, policy=policy
    )
except PruneError as error:
    st.error(str(error))
    st.stop()
with headline:
    ui.takeaway(f"{model.label}. {sentence}")
candidate.show_warnings(facts)
with verdict_cell:
    ui.chart(
        "How much of each limit is used?",
        f"The measured value and one-sided {policy.confidence:g}% bounds; values to the right "
        "of the bar are ruled out. Filled: met; hollow: inconclusive; cross: violated.",
        plots.limit_usage(verdicts, view.dark),
        key="limit-usage",
    )
SECTIONS = {
    "tests": ("Tests", lambda: tests(view.store, job, verdicts, policy=policy)),
    "changes": (
        "Newly broken, newly fixed",
        lambda: changed_predictions(flipped, view.label_names),
    ),
    "slices": ("Slices", lambda: slice_table(slices)),
    "formats": ("Deployment formats", lambda: deployment_formats.page(Store(view.store.home), job)),
    "test-sets": ("Several test sets", lambda: test_sets.page(view.store.home, job, policy)),
    "size-search": (
        "Size search",
        lambda: size_search.page(view.store.home, job, policy, view.dark),
    ),
    "ci": ("Policy file and CI", lambda: in_ci(policy, job)),
    "export": ("Export", lambda: export.page(view)),
}
if len(facts):
    SECTIONS = {"facts": ("The file", lambda: candidate.facts_table(facts)), **SECTIONS}
ui.sections(SECTIONS, "deploy-section")
candidate.form(view, policy)
ui.how_to_read(
    "Each limit is a **non-inferiority test** on the same examples or queries: it is met if the "
    "worse end of a one-sided interval is within it. A model exactly at a limit passes in at most "
    "5 of 100 samples at 95% confidence, and a model is only deployed if every limit is met. "
    "**Inconclusive** means that the sample is too small: the table shows what it rules out and "
    "how many would decide. Default limits are relaxed where this sample is too small to show that "
    "a model meets them if it changes 3% of the predictions and loses nothing. A limit is violated "
    "only if it still is after correction for all tests (Bonferroni). Without labels, accuracy is "
    "bounded by the percentage of changed predictions. Latency and speed-up are inconclusive if "
    "other processes used the processor "
    "during the timed passes."
)
