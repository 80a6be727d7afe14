"""Compare: any quantity against any other, each against sparsity, and the table of all runs."""

from dataclasses import replace

import streamlit as st

from pages.sections import label_order, paper_comparison, question_answers, tradeoff
from pages.widgets import frame, ui
from prune_core import formatting, plots
from prune_core.analysis import ablation, takeaways
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import TABLES, available, summary

view = frame.view()
tables = {name: view.rows(name) for name in TABLES} if view.models else {}
quantities = available(tables)
if not quantities:
    ui.empty(
        view.store,
        "Compare",
        "**Which model gives the best trade?** This page sets all runs of a study side by side: "
        "a scatter of any two quantities with their intervals, each quantity against sparsity, "
        "and one table to sort and download.",
        key="compare",
        waiting=view.waiting,
    )
rows = view.summary()


def against_sparsity() -> None:
    """One panel a quantity."""
    keys = list(quantities)
    usual: list[str] = [key for key in ("accuracy", "error", "cka", "agreement") if key in keys]
    usual[1:1] = [key for key in keys if key.startswith("success")][:2]
    st.markdown("#### How does each figure change with sparsity?")
    chosen = ui.choice_widget(
        st.pills,
        "panels",
        keys,
        default=usual[:6],
        label="Quantities",
        multi=True,
        format_func=lambda key: quantities[key].title,
    )
    with st.grid(3, min_column_width=290, gap="xsmall", key="panels") as grid:
        for key in chosen:
            quantity = quantities[key]
            with grid.cell():
                ui.chart(
                    quantity.title,
                    quantity.gloss,
                    plots.against_sparsity(
                        rows, view.models, quantity, dark=view.dark, height=270, compact=True
                    ),
                    key=f"compare-{key.replace(':', '-')}",
                    small=True,
                )


def savings() -> None:
    """What pruning saves in weights, file, work and time, counted beside measured."""
    if view.pruned and len(tables["cost"]):
        first = tables["cost"].iloc[0]
        ui.chart(
            "What does pruning save?",
            "One bar a model and figure, as a share of the dense model's (dotted line): less is "
            f"better. Time is the median of a batch of {first['batch']} sentences of "
            f"{first['length']} tokens, measured in turn with the dense model; its thin line "
            "reaches to the 95th percentile.",
            plots.saved(tables["cost"], view.models, view.dark),
            key="saved",
        )
        st.markdown(f":small[{takeaways.cost(tables['cost'], view.models)}]")
        if busy := takeaways.busy_machine_note(tables["cost"], view.models):
            st.warning(busy, icon=":material/warning:")


def parts() -> None:
    """The contribution of each option, for methods that were run with several settings."""
    options = {
        job.id: job.experiment["method"]["options"]
        for job in view.jobs
        if job.experiment["method"] and job.done
    }
    if "accuracy" not in quantities or len(options) < 2:
        return
    whole = replace(view, models=tuple(models_of([job for job in view.jobs if job.id in options])))
    judged = summary({"accuracy": whole.rows("accuracy")}, whole.models, [quantities["accuracy"]])
    for (method, family), own in ablation.option_contributions(judged, options).groupby(
        ["method", "family"], sort=False
    ):
        ui.chart(
            f"What does each part of {family} contribute?",
            "One bar per changed option and sparsity: the difference in "
            f"{formatting.inline(quantities['accuracy'].title)} from the full form on the same "
            "calibration sentences, mean over seeds; the thin line reaches from the lowest to "
            f"the highest seed. {own['n'].max():.0f} evaluation examples.",
            plots.option_contributions(own, view.dark),
            key=f"parts-{method}",
        )


def all_runs() -> None:
    """One row per run; the download has every quantity with its interval."""
    shown, columns = (
        rows[["label"]].copy(),
        {"label": st.column_config.TextColumn("Run", pinned=True, width="medium")},
    )
    for key, quantity in quantities.items():
        values = rows[key] * quantity.scale
        if quantity.tick == ".0%":
            columns[key] = ui.percent_bar(quantity.title, help=quantity.gloss)
            values = values * 100
        else:
            style = "%.3f" if quantity.scale == 1 else "%.1f"
            style = "%+.1f" if key == "difference" else style
            columns[key] = st.column_config.NumberColumn(
                quantity.axis, help=quantity.gloss, format=style
            )
        shown[key] = values
    took = {job.id: sum(job.seconds.values()) for job in view.jobs}
    mean = {m.job: sum(took[job] for job in m.jobs) / len(m.jobs) for m in view.models}
    shown["took"] = rows["job"].map(mean).map(formatting.seconds)
    columns["took"] = st.column_config.TextColumn(
        "Time", help="Pruning and all measures together; of several seeds the mean"
    )
    ui.table(shown, "runs", columns, plain=rows)


ui.page_header("Compare", takeaways.accuracy(tables["accuracy"], view.models))
label_order.of_study(view.store, view.jobs)
tradeoff.show(view, rows, quantities)
ui.how_to_read(
    "A model is on the Pareto front when no other is at least as good in both quantities and "
    "better in one. Bars are 95% intervals: Wilson for shares, Bonett–Price for the paired "
    "difference from dense. A figure without a bar is not a sample of sentences, or has no "
    "interval here."
)


def figures() -> None:
    """The table, and how many examples pruning broke."""
    all_runs()
    if not len(tables["accuracy"]):
        return
    with st.expander("Newly broken, newly fixed", icon=":material/rule:", key="flips"):
        st.markdown(
            "\n".join(
                f"- **{model.label}**: {takeaways.broken_predictions(tables['accuracy'], model)}"
                for model in view.pruned
                if len(takeaways.of(tables["accuracy"], model))
            )
        )
        test = "The bootstrap over seeds and examples" if view.means() else "McNemar's exact test"
        st.caption(
            f"{test} asks whether broken and fixed examples could differ this much by chance; "
            "a small p says no."
        )


VIEWS = {
    "sparsity": ("Against sparsity", against_sparsity),
    "cost": ("Work and time", savings),
    "parts": ("Parts of a method", parts),
    "paper": ("Beside the paper", lambda: paper_comparison.section(view)),
    "figures": ("All figures", figures),
    "answers": ("Answers", lambda: question_answers.browser(view)),
}
metrics = set(tables["accuracy"]["metric"]) if len(tables["accuracy"]) else set()
there = {
    "cost": len(tables["cost"]) > 0 and len(view.pruned) > 0,
    "parts": any(model.form for model in models_of([job for job in view.jobs if job.done])),
    "answers": bool(metrics & {"answer_f1", "exact_match", "same_answer"}) and len(view.pruned) > 0,
}
ui.parts({key: view_of for key, view_of in VIEWS.items() if there.get(key, True)}, "closer")
if view.pruned:
    st.page_link(
        "pages/deploy.py",
        label="Export a model, the report or all rows on Deploy",
        icon=":material/rocket_launch:",
        query_params={"deploy-part": "export"},
    )
