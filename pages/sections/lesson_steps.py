"""The steps of the lesson: a question, an equation, an interactive chart and the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from pages.sections import document_search, missing_weights
from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import formatting, plots, views
from prune_core.analysis import bounded_metrics
from prune_core.analysis.attack_success import successes
from prune_core.analysis.compared_models import with_rows
from prune_core.deployment import deployment_check
from prune_core.deployment.policy import Policy
from prune_core.processes.inspector_client import Inspector


@dataclass(frozen=True)
class Step:
    """One step: text, equation, question and the function that draws its chart."""

    title: str
    text: str
    equation: str
    question: str
    answer: str
    draw: Callable[[View, Inspector], None]
    needs: tuple[str, ...] = ()  # tables of a study's pruned models
    demo: str = "demo"  # the demo study that has them, or "embedding"


def _percentage(title: str, maximum: int, default: int, key: str) -> float:
    """Draw a slider in percent; return a fraction."""
    return (
        st.slider(
            title,
            0,
            maximum,
            value=default,
            step=5,
            format="%d%%",
            key=f"lesson-{key}",
            persist_state="session",
        )
        / 100
    )


def pruned_layers(
    view: View, inspector: Inspector, methods: dict[str, str], *, has_errors: bool = False
) -> None:
    """Draw the example layer pruned by two methods side by side; "" is the dense layer."""
    columns = st.columns(2, gap="medium")
    with columns[0]:
        sparsity = _percentage("Sparsity", 90, 50, key="sparsity")
    inherited = 0.0
    if has_errors:
        with columns[1]:
            inherited = _percentage("Error of the inputs", 60, 30, key="input-error")
    for column, (method, title) in zip(st.columns(2, gap="medium"), methods.items(), strict=True):
        layer = inspector.small_layer(method or "magnitude", sparsity, inherited)
        with column:
            _layer(layer, title, f"lesson-{method}", is_dense=not method, dark=view.dark)
    if has_errors:
        st.caption("Underlined: weights that the method updated.")


def _layer(layer: dict, title: str, key: str, *, is_dense: bool, dark: bool) -> None:
    if is_dense:
        description = "Six outputs, eight inputs: every number is a weight."
        figure = plots.matrix(layer["weight"], None, layer["input_rms"], dark=dark)
    else:
        zeros = sum(value == 0 for row in layer["pruned_weight"] for value in row) / 48
        description = (
            f"{formatting.percent(zeros)} of the weights are zero; the relative error of the "
            f"output is {formatting.percent(layer['total_error'])}."
        )
        figure = plots.matrix(
            layer["pruned_weight"], layer["weight"], layer["input_rms"], dark=dark
        )
    ui.chart(title, description, figure, key=key, small=True)


def reconstruction(
    view: View,
    inspector: Inspector,
    draw: Callable[..., Any],
    *,
    question: str,
    description: str,
) -> None:
    """Draw a chart of one model's reconstruction error."""
    rows = view.rows("reconstruction")
    models = with_rows(view.pruned, rows)
    model = ui.one_model(models, "lesson-model", "Model", dark=view.dark)
    ui.chart(
        question,
        description,
        draw(rows, [model], dark=view.dark),
        key=f"lesson-{draw.__name__}",
        small=True,
    )


def attack(view: View, inspector: Inspector) -> None:
    """Show the adversarial examples of the study, one at a time."""
    rows = successes(view.first_seed("attack_example")).dropna(subset="perturbed")
    if rows.empty:
        st.info("No attack succeeded on the selected models.")
        return
    number = st.slider(
        "Example", 1, len(rows), value=1, key="lesson-example", persist_state="session"
    )
    row = rows.iloc[number - 1]
    st.html(ui.marked_words(row["text"], row["perturbed"]))
    before, after = (
        formatting.prediction_text(row[f"{text}_prediction"], view.label_names)
        for text in ("original", "perturbed")
    )
    st.markdown(
        f"The prediction of **{view.labels.get(row['job'], 'the model')}** changes from "
        f"**{before}** to **{after}** after {row['queries']:.0f} queries by {row['recipe']}."
    )
    view.caption_seed("This step shows")


def neighbors(view: View, inspector: Inspector) -> None:
    """Draw the documents nearest to a query, before and after pruning."""
    if not (saved := missing_weights.saved_models(view, view.pruned)):
        return
    model = ui.one_model(saved, "lesson-model", "Pruned model", dark=view.dark)
    job = view.job(model)
    queries = document_search.evaluated_queries(str(view.store.home), job.id, job.done)
    query = st.selectbox("Query", queries, key="lesson-query", persist_state="session")
    index = ui.segments("lesson-index", document_search.INDEXES, label="Index")
    if query:
        document_search.comparison(view, inspector, model, query, index=index)


def averaging(view: View, inspector: Inspector) -> None:
    """Draw the error of an average of fine-tunes."""
    correlation = _percentage("Correlation of the fine-tunes' errors", 100, 40, key="correlation")
    ui.chart(
        "What does averaging leave?",
        "Squared error of the average of k fine-tunes, relative to that of one fine-tune.",
        plots.averaging_errors(correlation, view.dark),
        key="lesson-average",
        small=True,
    )
    st.page_link(
        "pages/soup.py", label="Create a robust checkpoint", icon=":material/soup_kitchen:"
    )


def trade_off(view: View, inspector: Inspector) -> None:
    """Draw the trade-off of the study."""
    quantities = views.quantities({name: view.rows(name) for name in views.TABLES})
    titles = {key: quantity.title for key, quantity in quantities.items() if key != "accuracy"}
    default = next((key for key in titles if key.startswith("under_attack")), None)
    y = quantities[ui.pick("lesson-y", titles, default, label="Vertical axis")]
    ui.chart(
        "Which model would you choose?",
        "One point per model with 95% intervals; the dotted line is the Pareto front.",
        plots.scatter(view.summary(), view.models, quantities["accuracy"], y=y, dark=view.dark),
        key="lesson-trade",
        small=True,
    )


def deployment_limit(view: View, inspector: Inspector) -> None:
    """Draw the test of an accuracy limit with adjustable sample size, loss and limit."""
    left, middle, right = st.columns(3)
    n = left.select_slider("Examples", [50, 100, 200, 440, 1000, 3000, 10_000], 440, key="lesson-n")
    loss = middle.slider(
        "Measured accuracy loss (points)", 0.0, 5.0, value=1.0, step=0.5, key="lesson-loss"
    )
    limit = right.slider("Limit (points)", 0.5, 5.0, value=2.0, step=0.5, key="lesson-limit")
    broken, fixed = round(n * (loss / 100 + 0.03)), round(n * 0.03)
    policy = Policy({"accuracy_loss": limit})
    verdict = deployment_check.check_limit(
        "accuracy_loss",
        "",
        bounded_metrics.paired_loss(broken, fixed, n),
        policy=policy,
        tests=1,
    )
    ui.chart(
        "Can it be deployed?",
        f"{broken} examples newly broken and {fixed} newly fixed of {n:,}. "
        f"{deployment_check.summary_sentence([verdict], policy)}",
        plots.limit_usage([verdict], view.dark),
        key="lesson-ship",
        small=True,
    )
    if view.pruned:
        st.page_link(
            "pages/deploy.py", label="Check a model of the study", icon=":material/rocket_launch:"
        )


def ready(view: View, step: Step) -> bool:
    """Whether the selected pruned models have all tables that the step needs."""
    return all(with_rows(view.pruned, view.single(name)) for name in step.needs)


STEPS = (
    Step(
        "What is a weight worth?",
        "A layer multiplies its inputs by a matrix. Remove the smallest weights and watch how far "
        "the outputs move.",
        r"\text{error}=\frac{\lVert Wx-\hat Wx\rVert}{\lVert Wx\rVert}",
        question="Half of the weights are removed. Is half of the output lost?",
        answer="No: the smallest half contributes little to the sum. The error is small at first "
        "and then rises steeply, which is why pruning works up to a point.",
        draw=partial(pruned_layers, methods={"": "The layer", "magnitude": "Magnitude"}),
    ),
    Step(
        "Do the inputs matter?",
        "A small weight on a large input contributes more than a large weight on an input near "
        "zero. Wanda multiplies each weight by the norm of its input on calibration examples.",
        r"\text{score}_{ij}=\lvert W_{ij}\rvert\cdot\lVert x_j\rVert",
        question="Find a weight that magnitude removes and Wanda keeps. What is special about its "
        "column?",
        answer="Its input is large. Wanda also compares weights only within a row, so no output "
        "loses all of its weights.",
        draw=partial(pruned_layers, methods={"magnitude": "Magnitude", "wanda": "Wanda"}),
    ),
    Step(
        "Why do errors accumulate?",
        "The inputs of a layer are the outputs of the previous one. Each layer therefore inherits "
        "an error and adds its own.",
        r"Wx-\hat W\hat x=\underbrace{W(x-\hat x)}_{\text{inherited}}"
        r"+\underbrace{(W-\hat W)\hat x}_{\text{own}}",
        question="The last layer has the same sparsity as the first. Why is its error larger?",
        answer="Most of it is inherited: see “Own or inherited?” on the page Layers.",
        draw=partial(
            reconstruction,
            draw=plots.by_depth,
            question="How large is the error of each layer's output?",
            description="Relative error of the hidden states, from the first layer to the last.",
        ),
        needs=("reconstruction",),
    ),
    Step(
        "How does AKR correct errors?",
        "SparseGPT removes weights and updates the others to keep the layer's outputs on its "
        "current inputs. AKR first changes the target: to the weights that would give the dense "
        "model's outputs from these inputs.",
        r"\bar W=\Bigl(W\textstyle\sum x\hat x^\top\Bigr)"
        r"\Bigl(\sum\hat x\hat x^\top\Bigr)^{-1}",
        question="Set the error of the inputs to 0. Which method is better now?",
        answer="They hardly differ: with exact inputs there is nothing to correct, and AKR only "
        "fits a bias. The larger the inherited error, the more AKR gains. Errors that are "
        "independent from token to token cannot be corrected.",
        draw=partial(
            pruned_layers, methods={"sparsegpt": "SparseGPT", "akr": "AKR"}, has_errors=True
        ),
    ),
    Step(
        "Where should the zeros be?",
        "With uniform sparsity, all matrices lose the same fraction of their weights, but not the "
        "same fraction of their output.",
        r"\min_{s_1,\dots,s_L}\ \sum_\ell e_\ell(s_\ell)"
        r"\quad\text{with}\quad\sum_\ell n_\ell s_\ell=S",
        question="From which matrix would you remove fewer weights, and from which more?",
        answer="Fewer where the map is bright, more where it is dark. The option allocation=error "
        "of SparseGPT and AKR measures these errors on the calibration examples.",
        draw=partial(
            reconstruction,
            draw=plots.heat_maps,
            question="Which matrices have the largest error?",
            description="Layers by matrix: the relative error of the matrix's output.",
        ),
        needs=("reconstruction",),
    ),
    Step(
        "Heads and neurons",
        "Single zeros do not make a matrix smaller: standard kernels multiply them too. Removing "
        "heads and neurons does, as it removes whole columns.",
        r"\text{FLOPs}\propto\#\text{heads}\cdot d_{\text{head}}+\#\text{neurons}",
        question="Both have the same sparsity. Which error is larger, and why would anybody choose "
        "it?",
        answer="Columns cost more accuracy, as important weights are removed with others, "
        "but only they make the model faster without special kernels. K-prune selects them "
        "by the knowledge of each unit and refits the rest.",
        draw=partial(pruned_layers, methods={"wanda": "Single weights", "columns": "Columns"}),
    ),
    Step(
        "What does an attack do?",
        "An attacker changes a few letters or words until the prediction changes, querying the "
        "model again and again. For a reader the label stays the same.",
        r"\text{success}=\frac{\#\text{correct before, incorrect after}}{\#\text{correct before}}",
        question="Would you have noticed the change? Would you have changed your mind?",
        answer="If so, the adversarial example is not valid. The page Attack counts how many are.",
        draw=attack,
        needs=("attack_example",),
    ),
    Step(
        "Can a checkpoint be robust?",
        "Fine-tunes of one encoder lie in the same loss basin; their average is nearer to its "
        "center, where small changes of the input matter less. Adversarially trained ones help.",
        r"\bar\theta=\frac1k\sum_{i=1}^k\theta_i,"
        r"\qquad \mathbb E\,\lVert\bar\epsilon\rVert^2=\frac{1-\rho}{k}+\rho",
        question="All fine-tunes make the same errors (correlation 100%). Does averaging help?",
        answer="No: only errors that differ cancel. Candidates therefore differ in seed, learning "
        "rate and objective.",
        draw=averaging,
    ),
    Step(
        "What does a search find after pruning?",
        "An embedding model maps texts to vectors, and a search returns the documents whose "
        "vectors have the highest cosine with that of the query. Pruning moves all vectors, those "
        "of new queries and, unless the index is kept, those of the documents.",
        r"\cos(q,d)=\frac{q^\top d}{\lVert q\rVert\,\lVert d\rVert}",
        question="Keep the old index or embed all documents again: which keeps more of the order?",
        answer="Often the old index: its documents are where they were, and only the query moved. "
        "The page Compare tests which one ranks better.",
        draw=neighbors,
        needs=("retrieval",),
        demo="embedding",
    ),
    Step(
        "How do you read a trade-off?",
        "A model that is worse than another in both quantities is dominated. The others form the "
        "Pareto front; which of them to choose is up to you.",
        r"a\succ b\iff a_1\ge b_1,\ a_2\ge b_2,\ a\ne b",
        question="Two points are closer than their intervals are long. Which one is better?",
        answer="This sample cannot tell. Choose by something else, such as size, or evaluate on "
        "more examples.",
        draw=trade_off,
        needs=("accuracy", "cost"),
    ),
    Step(
        "Would you ship it?",
        "The measured loss depends on the sample. A limit is met if the worse end of the interval "
        "is within it; otherwise more examples are needed.",
        r"\text{ship}\iff \underline{\Delta}_{95\%}\ge-\text{limit}",
        question="The loss is one point, the limit two. How many examples are needed to be sure?",
        answer="Thousands, as the slider shows, if 7 of 100 predictions change: the demo's 440 "
        "examples are inconclusive.",
        draw=deployment_limit,
    ),
)
