"""What if: sparsity by layer, the predicted loss, and a run to verify it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import PruneError, formatting, plots
from prune_core.analysis import whatif
from prune_core.analysis.compared_models import ComparedModel
from prune_core.data.metrics import METRICS
from prune_core.queue import jobs
from prune_core.store.job import Job

COLUMNS = 6  # of sliders beside each other


def show(view: View) -> None:
    """Sliders, the prediction, one button, and how far predictions held on runs that are there."""
    rows, examples = view.single("sensitivity"), view.single("sensitivity_example")
    by_setup: dict[str, list[ComparedModel]] = {}
    for model in view.pruned:
        if (
            len(rows)
            and (rows["job"] == model.job).any()
            and whatif.can_be_planned(view.job(model))
        ):
            by_setup.setdefault(whatif.setup(view.job(model)), []).append(model)
    known = {
        own[0].job: (own, curves)
        for own in by_setup.values()
        if (curves := whatif.curves_of([view.job(model) for model in own], rows, examples))
        is not None
    }
    if not known:
        st.info(
            "What if predicts from two sparsities or more of one method that prunes layer by "
            "layer (Wanda, SparseGPT, AKR), measured with **Block sensitivity**. Add what is "
            "missing on the Prune page, in this study.",
            icon=":material/info:",
        )
        return
    titles = {
        job: own[0].label.replace(f" {own[0].level}", "", 1) for job, (own, _) in known.items()
    }
    job = ui.choice_widget(
        st.segmented_control,
        "plan",
        list(known),
        default=list(known)[-1],
        label="Pruned by",
        format_func=lambda job: titles[job],
    )
    models, curves = known[job]
    view.caption_seed("This section shows", models)
    shares = _sliders(curves, job)
    overall = curves.overall(shares)
    _predicted(curves, shares, overall)
    _run(view, curves, shares, overall=overall)
    found = whatif.prediction_checks(
        curves, models, {each.id: each for each in view.jobs}, rows=rows, examples=examples
    )
    left, right = st.columns(2, gap="medium")
    with left:
        ui.chart(
            "Which block would cost most?",
            "A bar a block, its part of the predicted squared error; the tick is the same "
            "sparsity in every block.",
            plots.contributions(curves, shares, overall, model=models[0], dark=view.dark),
            key="plan-blocks",
            small=True,
        )
    with right:
        ui.chart(
            "How well did predictions hold?",
            "One mark a run, predicted against measured; on the line both agree. Hollow marks "
            "had shares of their own.",
            plots.predicted_vs_measured(found, view.dark),
            key="plan-held",
            small=True,
        )
    _held(curves, found)


def _sliders(curves: whatif.Curves, job: int) -> list[float]:
    """A slider a block, in percent, and two ways to set them all."""
    keys = [f"share-{job}-{index}" for index in range(len(curves.blocks))]
    most = int(100 * curves.most + 0.5)
    start = round(
        100 * sum(curves.blocks[0].sparsities[[0, -1]]) / 2
    )  # where a prediction says more than the runs themselves

    def fill(shares: Sequence[float]) -> None:
        for key, share in zip(keys, shares, strict=True):
            st.session_state[key] = min(most, round(100 * share))

    for key in keys:
        st.session_state.setdefault(key, start)
    with st.container(horizontal=True, vertical_alignment="bottom", key="plan-fill"):
        mean = curves.overall([st.session_state[key] / 100 for key in keys])
        target = st.slider(
            "Overall sparsity to share out",
            1,
            most,
            value=start,
            key=f"share-{job}-all",
            format="%d%%",
            persist_state="session",
        )
        st.button(
            "All blocks alike", key="plan-alike", on_click=fill, args=([target / 100] * len(keys),)
        )
        st.button(
            "Least error",
            key="plan-least",
            on_click=lambda: fill(whatif.lowest_error(curves, target / 100)),
            type="primary",
            help="Shares the overall sparsity out so that the predicted error is least.",
        )
        st.markdown(f":gray[now **{formatting.percent(mean)}** of the encoder's weights]")
    for first in range(0, len(keys), COLUMNS):
        for place, (column, key) in enumerate(
            zip(st.columns(COLUMNS), keys[first : first + COLUMNS], strict=False)
        ):
            column.slider(
                f"Block {first + place + 1}",
                0,
                most,
                key=key,
                format="%d%%",
                persist_state="session",
            )
    return [st.session_state[key] / 100 for key in keys]


def _predicted(curves: whatif.Curves, shares: Sequence[float], overall: float) -> None:
    """The four figures of the plan."""
    here, even, dense = (
        whatif.predict(curves, plan)
        for plan in (shares, [overall] * len(shares), [0.0] * len(shares))
    )
    weights = sum(block.weights for block in curves.blocks)
    metric, n = METRICS[curves.metric], f"On {formatting.plural(here.n, 'evaluation sentence')}; "
    written = formatting.percent if metric.share else formatting.plain
    places = st.columns(4)
    apart = here.error - even.error
    colour: Any = "inverse" if abs(apart) >= 0.0005 else "off"
    told = f"{apart:+.3f} to all alike" if colour == "inverse" else "as all alike"
    places[0].metric(
        "Predicted error",
        formatting.error(here.error),
        told,
        delta_color=colour,
        delta_arrow="auto" if colour == "inverse" else "off",
        help="Of the encoder's output, relative: 0 is identical.",
    )
    if here.n:
        lost = here.score - dense.score
        change = f"{100 * lost:+.1f} points to dense" if metric.share else f"{lost:+.3f} to dense"
        places[1].metric(
            f"Predicted {formatting.inline(metric.title)}",
            written(here.score),
            change,
            help=f"{n}dense {written(dense.score)}.",
        )
        same = (
            "correlation with the dense scores"
            if curves.kind == "regression"
            else "the same answer as the dense model"
        )
        places[2].metric(
            "Predicted agreement", formatting.percent(here.agreement), help=f"{n}{same}."
        )
    else:
        places[1].caption(
            "Of models that answer with a span or label words, only the error is predicted."
        )
    size = weights * (4 * (1 - overall) + 1 / 8)
    places[3].metric(
        "Encoder, kept sparse",
        formatting.size(size),
        f"{formatting.percent(1 - overall)} of its weights left",
        delta_color="off",
        delta_arrow="off",
        help="Values of 32 bits and a mask; a dense file keeps its size.",
    )


def _run(view: View, curves: whatif.Curves, shares: Sequence[float], overall: float) -> None:
    """The button that queues the run, with the options of the runs behind the curves."""
    if not st.button(
        "Prune like this", key="plan-run", icon=":material/play_arrow:", disabled=overall == 0
    ):
        return
    from prune_core.experiments.experiment import Experiment

    base: Job = next(job for job in view.jobs if job.id == curves.base)
    try:
        id, reused = jobs.submit(
            view.store, Experiment.from_dict(whatif.experiment(base, shares, overall))
        )
    except PruneError as error:
        st.error(str(error))
        return
    ui.show_message(
        f"It is there already, as job {id}."
        if reused
        else f"Queued as job {id}; it joins this study, and the chart below, by itself."
    )
    st.rerun()


def _held(curves: whatif.Curves, found: Sequence[whatif.PredictionCheck]) -> None:
    """Predicted beside measured as a table, and in a sentence how far apart they are."""
    tests = [each for each in found if each.own_shares] or list(found)
    apart = (
        100
        * sum(
            abs(each.predicted.error / each.measured.error - 1)
            for each in tests
            if each.measured.error
        )
        / max(1, len(tests))
    )
    score = (
        100
        * sum(abs(each.predicted.score - each.measured.score) for each in tests)
        / max(1, len(tests))
    )
    title = formatting.inline(METRICS[curves.metric].title)
    share = METRICS[curves.metric].share
    unknown = "with shares of their own, which the curves do not know"
    of = (
        unknown
        if tests[0].own_shares
        else "that the curves come from, so that only adding up is tested"
    )
    told = (
        f"Over {formatting.plural(len(tests), 'run')} {of}, predictions were off by "
        f"{apart:.0f}% of the error"
    )
    if tests[0].measured.n:
        told += (
            f" and {score:.1f} points of {title}"
            if share
            else f" and {score / 100:.3f} in the score"
        )
    st.markdown(f"{told}.")
    written = formatting.percent if share else formatting.plain
    table = pd.DataFrame(
        [
            {
                "run": each.model.label,
                "shares": "its own" if each.own_shares else "all alike, or the method's",
                "predicted error": formatting.error(each.predicted.error),
                "measured error": formatting.error(each.measured.error),
                "predicted": written(each.predicted.score),
                "measured": written(each.measured.score),
                "predicted agreement": formatting.percent(each.predicted.agreement),
                "measured agreement": formatting.percent(each.measured.agreement),
            }
            for each in found
        ]
    )
    ui.table(table, "plan-held", {name: f"{name} {title}" for name in ("predicted", "measured")})
    ui.how_to_read(
        "Each run was also measured with **one block at a time** exchanged for its pruned form. "
        "Between the sparsities that were run, a block's error $e_b$ follows a power law. Errors "
        "of different blocks are taken as independent, $e=\\sqrt{\\sum_b e_b(s_b)^2}$, and what "
        "each block does to an example's log-odds adds up, which gives predicted answers. A "
        "method that corrects in later blocks what earlier ones lost, as AKR does, ends below "
        "its prediction; where every block pushes the answers the same way, sums go wrong, and "
        "the table shows it."
    )
