"""What if: choose the sparsity of each layer, predict the loss, and run it to verify."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import PruneError, formatting, plots
from prune_core.analysis import whatif
from prune_core.analysis.compared_models import ComparedModel, with_rows
from prune_core.measures import MEASURES
from prune_core.queue import jobs
from prune_core.store.job import Job
from prune_core.tasks import METRICS, TASK_TYPES

COLUMNS = 6  # of sliders


def show(view: View) -> None:
    """Draw sliders, the prediction, a button that queues the run, and checks on finished runs."""
    rows, examples = view.single("sensitivity"), view.single("sensitivity_example")
    by_setup: dict[str, list[ComparedModel]] = {}
    for model in with_rows(view.pruned, rows):
        if whatif.can_be_planned(view.job(model)):
            by_setup.setdefault(whatif.setup(view.job(model)), []).append(model)
    setups = {
        group[0].job: (group, curves)
        for group in by_setup.values()
        if (curves := whatif.curves_of([view.job(model) for model in group], rows, examples))
        is not None
    }
    if not setups:
        st.info(
            "Predictions need at least two sparsities of one method that prunes layer by layer "
            f"(Wanda, SparseGPT, AKR), measured with **{MEASURES['sensitivity'].title}**. Add them "
            "to this study on the Prune page.",
            icon=":material/info:",
        )
        return
    titles = {
        job: group[0].label.replace(f" {group[0].level}", "", 1)
        for job, (group, _) in setups.items()
    }
    job = ui.segments("what-if-method", titles, list(setups)[-1], label="Method")
    models, curves = setups[job]
    view.caption_seed("This section shows", models)
    sparsities = _sliders(curves, job)
    overall = curves.overall(sparsities)
    _prediction(curves, sparsities, overall)
    _run_button(view, curves, sparsities, overall=overall)
    checks = whatif.prediction_checks(
        curves, models, {each.id: each for each in view.jobs}, rows=rows, examples=examples
    )
    left, right = st.columns(2, gap="medium")
    with left:
        ui.chart(
            "Which layer contributes most?",
            "One bar per layer: its contribution to the predicted squared error. Ticks mark the "
            "contribution at uniform sparsity.",
            plots.contributions(curves, sparsities, overall, model=models[0], dark=view.dark),
            key="plan-blocks",
            small=True,
        )
    with right:
        ui.chart(
            "How accurate are the predictions?",
            "One mark per run: predicted against measured error, equal on the dotted line. Hollow "
            "marks have custom sparsities by layer.",
            plots.predicted_vs_measured(checks, view.dark),
            key="plan-checks",
            small=True,
        )
    _checks(curves, checks)


def _sliders(curves: whatif.Curves, job: int) -> list[float]:
    """Draw one slider per layer, in percent, and two buttons that set all of them."""
    keys = [f"sparsity-{job}-{index}" for index in range(len(curves.blocks))]
    maximum = int(100 * curves.most + 0.5)
    # midway between the measured sparsities, where a prediction is more informative than the runs
    default = round(100 * sum(curves.blocks[0].sparsities[[0, -1]]) / 2)

    def fill(sparsities: Sequence[float]) -> None:
        for key, sparsity in zip(keys, sparsities, strict=True):
            st.session_state[key] = min(maximum, round(100 * sparsity))

    for key in keys:
        st.session_state.setdefault(key, default)
    with st.container(horizontal=True, vertical_alignment="bottom", key="plan-fill"):
        mean = curves.overall([st.session_state[key] / 100 for key in keys])
        target = st.slider(
            "Target sparsity",
            1,
            maximum,
            value=default,
            key=f"sparsity-{job}-all",
            format="%d%%",
            persist_state="session",
        )
        st.button("Uniform", key="plan-uniform", on_click=fill, args=([target / 100] * len(keys),))
        st.button(
            "Minimum error",
            key="plan-minimum-error",
            on_click=lambda: fill(whatif.lowest_error(curves, target / 100)),
            type="primary",
            help="Distribute the target sparsity over layers to minimize the predicted error.",
        )
        st.markdown(f":gray[**{formatting.percent(mean)}** of the encoder's weights removed]")
    for first in range(0, len(keys), COLUMNS):
        for index, (column, key) in enumerate(
            zip(st.columns(COLUMNS), keys[first : first + COLUMNS], strict=False)
        ):
            column.slider(
                f"Layer {first + index + 1}",
                0,
                maximum,
                key=key,
                format="%d%%",
                persist_state="session",
            )
    return [st.session_state[key] / 100 for key in keys]


def _prediction(curves: whatif.Curves, sparsities: Sequence[float], overall: float) -> None:
    """Show predicted error, score, agreement and size."""
    predicted, uniform, dense = (
        whatif.predict(curves, plan)
        for plan in (sparsities, [overall] * len(sparsities), [0.0] * len(sparsities))
    )
    metric = METRICS[curves.metric]
    sample = f"On {formatting.plural(predicted.n, 'evaluation example')}; "
    formatted = formatting.percent if metric.share else formatting.plain
    columns = st.columns(4)
    difference = predicted.error - uniform.error
    color: Any = "inverse" if abs(difference) >= 0.0005 else "off"
    change = f"{difference:+.3f} from uniform" if color == "inverse" else "same as uniform"
    columns[0].metric(
        "Predicted error",
        formatting.error(predicted.error),
        change,
        delta_color=color,
        delta_arrow="auto" if color == "inverse" else "off",
        help="Relative error of the encoder's output: 0 is identical.",
    )
    if predicted.n:
        loss = predicted.score - dense.score
        score_change = f"{100 * loss:+.1f} points" if metric.share else f"{loss:+.3f}"
        columns[1].metric(
            f"Predicted {formatting.inline(metric.title)}",
            formatted(predicted.score),
            f"{score_change} from dense",
            help=f"{sample}dense {formatted(dense.score)}.",
        )
        agreement = (
            "the same prediction as the dense model"
            if TASK_TYPES[curves.kind].is_discrete
            else "correlation with the dense scores"
        )
        columns[2].metric(
            "Predicted agreement",
            formatting.percent(predicted.agreement),
            help=f"{sample}{agreement}.",
        )
    else:
        columns[1].caption(
            "For question answering and token classification, only the error is predicted."
        )
    weights = sum(block.weights for block in curves.blocks)
    columns[3].metric(
        "Encoder in a sparse format",
        formatting.size(weights * (4 * (1 - overall) + 1 / 8)),
        f"{formatting.percent(1 - overall)} of its weights left",
        delta_color="off",
        delta_arrow="off",
        help="32-bit values and a bit mask; the size of a dense file does not change.",
    )


def _run_button(
    view: View, curves: whatif.Curves, sparsities: Sequence[float], overall: float
) -> None:
    """Draw a button that queues the run with the options of the runs behind the curves."""
    if not st.button(
        "Prune with these sparsities",
        key="plan-run",
        icon=":material/play_arrow:",
        disabled=overall == 0,
    ):
        return
    from prune_core.experiments.experiment import Experiment

    base: Job = next(job for job in view.jobs if job.id == curves.base)
    try:
        id, new = jobs.submit(
            view.store, Experiment.from_dict(whatif.experiment(base, sparsities, overall))
        )
    except PruneError as error:
        st.error(str(error))
        return
    ui.show_message(
        f"Queued as job {id}; it is added to this study and to the chart below."
        if new
        else f"This run already exists as job {id}."
    )
    st.rerun()


def _checks(curves: whatif.Curves, checks: Sequence[whatif.PredictionCheck]) -> None:
    """Show predicted and measured values as a table, and their mean deviation in a sentence."""
    tested = [check for check in checks if check.is_custom] or list(checks)
    error_gap = (
        100
        * sum(
            abs(check.predicted.error / check.measured.error - 1)
            for check in tested
            if check.measured.error
        )
        / max(1, len(tested))
    )
    score_gap = (
        100
        * sum(abs(check.predicted.score - check.measured.score) for check in tested)
        / max(1, len(tested))
    )
    title = formatting.inline(METRICS[curves.metric].title)
    is_percentage = METRICS[curves.metric].share
    condition = (
        "with custom sparsities, which the curves were not fitted to"
        if tested[0].is_custom
        else "behind the curves, which tests additivity only"
    )
    sentence = (
        f"Over {formatting.plural(len(tested), 'run')} {condition}, predictions deviate by "
        f"{error_gap:.0f}% of the error"
    )
    if tested[0].measured.n and is_percentage:
        sentence += f" and {score_gap:.1f} points of {title}"
    elif tested[0].measured.n:
        sentence += f" and {score_gap / 100:.3f} in the score"
    st.markdown(f"{sentence}.")
    formatted = formatting.percent if is_percentage else formatting.plain
    table = pd.DataFrame(
        [
            {
                "run": check.model.label,
                "sparsities": "custom"
                if check.is_custom
                else "uniform, or allocated by the method",
                "predicted error": formatting.error(check.predicted.error),
                "measured error": formatting.error(check.measured.error),
                "predicted": formatted(check.predicted.score),
                "measured": formatted(check.measured.score),
                "predicted agreement": formatting.percent(check.predicted.agreement),
                "measured agreement": formatting.percent(check.measured.agreement),
            }
            for check in checks
        ]
    )
    ui.table(table, "plan-checks", {name: f"{name} {title}" for name in ("predicted", "measured")})
    ui.how_to_read(
        "Each run was also measured with **one layer at a time** replaced by its pruned version. "
        "Between measured sparsities, a layer's error $e_b$ is interpolated by a power law. Errors "
        "of different layers are assumed to be independent, $e=\\sqrt{\\sum_b e_b(s_b)^2}$, and "
        "the effects of layers on an example's log-odds are added, which gives predictions. A "
        "method that corrects errors of earlier layers in later ones, such as AKR, ends below its "
        "prediction; if all layers shift the predictions in the same direction, the sums are "
        "inaccurate, as the table shows."
    )
