"""Compare: scatter of any two quantities, each quantity against sparsity, and a table of runs."""

from collections.abc import Iterable
from dataclasses import replace

import streamlit as st

from pages.sections import (
    certified,
    deployment_formats,
    detection,
    label_order,
    noise,
    paper_comparison,
    question_answers,
    tradeoff,
)
from pages.widgets import frame, ui
from prune_core import formatting, plots, views
from prune_core.analysis import ablation, takeaways
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.lineage import lineage as lineage_nodes
from prune_core.analysis.quantities import quality, summary, task_metric
from prune_core.methods import METHODS
from prune_core.plugins import option_specs
from prune_core.views import Chart, corpus_poisoning, query_attack, reranking, retrieval

view = frame.view()
tables = {name: view.rows(name) for name in views.TABLES} if view.models else {}
quantities = views.quantities(tables)
if not quantities:
    ui.empty(
        view.store,
        "Compare",
        "**Which model gives the best trade-off?** This page compares all runs of a study: a "
        "scatter of any two quantities with their intervals, each quantity against sparsity, "
        "and one table to sort and download.",
        key="compare",
        is_active=view.is_active,
    )
rows = view.summary()


def against_sparsity() -> None:
    """Draw one panel per chosen quantity."""
    keys = list(quantities)
    attacks = [key for key in keys if key.startswith("success")][:2]
    usual = (
        *(each.key for each in quality(quantities)),
        *("under_noise", *attacks, "error", "cka", "agreement"),
    )
    st.markdown("#### How does each quantity change with sparsity?")
    chosen = ui.choice_widget(
        st.pills,
        "panels",
        keys,
        default=[key for key in usual if key in keys],
        label="Quantities",
        multi=True,
        format_func=lambda key: quantities[key].title,
    )
    with st.grid(3, min_column_width=290, gap="xsmall", key="sparsity-charts") as grid:
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
    """Draw weights, file size, FLOPs and measured time relative to the dense model."""
    if view.pruned and len(tables["cost"]):
        first = tables["cost"].iloc[0]
        ui.chart(
            "What does pruning save?",
            "One bar per model and quantity, relative to the dense model (dotted line); lower is "
            f"better. Time is the median over batches of {first['batch']} examples of "
            f"{first['length']} tokens, alternating with the dense model; the thin line reaches to "
            "the 95th percentile.",
            plots.cost_savings(tables["cost"], view.models, view.dark),
            key="savings",
        )
        st.markdown(f":small[{takeaways.cost(tables['cost'], view.models)}]")
        if busy := takeaways.busy_machine_note(tables["cost"], view.models):
            st.warning(busy, icon=":material/warning:")


def draw(charts: Iterable[Chart], key: str) -> None:
    """Draw the charts of a measure."""
    for place, chart in enumerate(charts):
        ui.chart(chart.title, chart.gloss, chart.figure, key=f"{key}-{place}")


def robustness() -> None:
    """Draw everyday noise and certified robustness, as far as they are measured."""
    for name, section in (("noise", noise), ("certified", certified)):
        if len(tables[name]):
            section.show(view, tables)


def index_compatibility() -> None:
    """Draw retrieval quality by index, and by size of the index vectors; attacks."""
    found = {name: view.rows(name) for name in ("retrieval", "retrieval_vectors")}
    draw(retrieval.charts(found, view.models, view.dark), "retrieval")
    draw(query_attack.charts(tables, view.models, view.dark), "query-attacks")
    draw(corpus_poisoning.charts(tables, view.models, view.dark), "corpus-poisoning")


def rankings() -> None:
    """Draw how rankings compare with the first stage; warn of models that are worse than it."""
    text = reranking.takeaway(tables, view.models)
    if reranking.warnings(tables, view.models):
        st.warning(text, icon=":material/warning:")
    else:
        st.markdown(f":small[{text}]")
    draw(reranking.charts(tables, view.models, view.dark), "rankings")


def exported_formats() -> None:
    """Show the exported files of all models; the dense files once, as the first model has them."""
    files = view.first_seed("formats")
    is_pruned = files["model"] == "pruned"
    first = files["job"] == files["job"].iloc[0]
    run = files["job"].map(view.labels).where(is_pruned, "Dense")
    deployment_formats.formats_table(files.assign(model=run)[is_pruned | first])
    view.caption_seed("The files are those of")


def lineage() -> None:
    """Draw the origin of each model; a click compares a model with the dense one."""
    nodes = lineage_nodes(
        view.jobs,
        view.first_seed("formats"),
        {
            name: {spec["name"]: spec["default"] for spec in option_specs(method)}
            for name, method in METHODS.items()
        },
    )

    def compare(marks: list[int]) -> None:
        chosen = [model.job for model in view.models if model.is_dense or model.job in marks]
        ui.set_choice("models", chosen)

    ui.chart(
        "What was each model made from?",
        "One row per checkpoint, model and exported file, below the one it was made from. An open "
        "circle means not measured. Click a model to compare it with the dense one.",
        plots.lineage(nodes, view.models, view.dark),
        key="lineage",
        selects=compare,
    )


def ablations() -> None:
    """Draw the contribution of each option of methods that ran with several settings."""
    options = {
        job.id: job.experiment["method"]["options"]
        for job in view.jobs
        if job.experiment["method"] and job.done
    }
    metric = task_metric(quantities)
    if metric is None or len(options) < 2:
        return
    finished = replace(
        view, models=tuple(models_of([job for job in view.jobs if job.id in options]))
    )
    scores = summary({metric.table: finished.rows(metric.table)}, finished.models, [metric])
    contributions = ablation.option_contributions(scores, options, metric.key)
    for (method, family), group in contributions.groupby(["method", "family"], sort=False):
        ui.chart(
            f"What does each option of {family} contribute?",
            "One bar per changed option and sparsity: the difference in "
            f"{formatting.inline(metric.title)} from the full method on the "
            "same calibration examples, mean over seeds; the thin line reaches from the lowest to "
            f"the highest seed. {group['n'].max():.0f} evaluation examples.",
            plots.option_contributions(group, view.dark),
            key=f"ablation-{method}",
        )


def all_runs() -> None:
    """Show one row per model; the download has every quantity with its interval."""
    shown = rows[["label"]].copy()
    columns = {"label": st.column_config.TextColumn("Run", pinned=True, width="medium")}
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
    seconds = {job.id: sum(job.seconds.values()) for job in view.jobs}
    mean = {
        model.job: sum(seconds[job] for job in model.jobs) / len(model.jobs)
        for model in view.models
    }
    shown["took"] = rows["job"].map(mean).map(formatting.seconds)
    columns["took"] = st.column_config.TextColumn(
        "Time", help="Pruning and all measures together; mean over seeds"
    )
    ui.table(shown, "runs", columns, plain=rows)


ui.page_header("Compare", view.headline())
label_order.show_for_study(view.store, view.jobs)
tradeoff.show(view, rows, quantities)
ui.how_to_read(
    "A model is on the Pareto front when no other is at least as good in both quantities and "
    "better in one. Bars are 95% intervals: Wilson for proportions, Bonett–Price for the paired "
    "difference from dense. A value without a bar is not computed from a sample of examples, or "
    "no interval is available."
)


def all_values() -> None:
    """Show the table of runs and how many examples pruning broke and fixed."""
    all_runs()
    if not len(tables["accuracy"]):
        return
    with st.expander("Newly broken, newly fixed", icon=":material/rule:", key="broken-and-fixed"):
        st.markdown(
            "\n".join(
                f"- **{model.label}**: {takeaways.broken_predictions(tables['accuracy'], model)}"
                for model in view.pruned
                if len(takeaways.rows_of(tables["accuracy"], model))
            )
        )
        test = "The bootstrap over seeds and examples" if view.means() else "McNemar's exact test"
        st.caption(
            f"{test}: a small p means that the numbers of broken and fixed examples would rarely "
            "differ this much by chance."
        )


VIEWS = {
    "sparsity": ("Against sparsity", against_sparsity),
    "robustness": ("Robustness", robustness),
    "cost": ("Cost", savings),
    "detection": ("Threshold", lambda: detection.show(view)),
    "retrieval": ("Retrieval", index_compatibility),
    "reranking": ("Reranking", rankings),
    "formats": ("Deployment formats", exported_formats),
    "lineage": ("Lineage", lineage),
    "ablation": ("Ablation", ablations),
    "paper": ("Comparison with the paper", lambda: paper_comparison.section(view)),
    "values": ("All values", all_values),
    "answers": ("Answers", lambda: question_answers.browser(view)),
}
metrics = set(tables["accuracy"].get("metric", ()))
available_views = {
    "robustness": len(tables["noise"]) or len(tables["certified"]),
    "cost": len(tables["cost"]) and view.pruned,
    "detection": len(tables["threshold"]),
    "retrieval": (len(tables["retrieval"]) and view.pruned)
    or len(tables["query_attack"])
    or len(tables["corpus_poisoning"]),
    "reranking": len(tables["reranking"]),
    "formats": len(view.first_seed("formats")),
    "lineage": view.pruned,
    "ablation": any(model.form for model in models_of([job for job in view.jobs if job.done])),
    "answers": metrics & {"answer_f1", "exact_match", "same_answer"} and view.pruned,
}
ui.sections(
    {key: section for key, section in VIEWS.items() if available_views.get(key, True)},
    "compare-section",
)
if view.pruned:
    st.page_link(
        "pages/deploy.py",
        label="Export a model, the report or all rows",
        icon=":material/rocket_launch:",
        query_params={"deploy-section": "export"},
    )
