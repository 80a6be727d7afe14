"""The ten steps of the lesson: each a question, an equation, one figure that the learner moves, and an answer to reveal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import formatting, plots
from prune_core.analysis.quantities import TABLES, available
from prune_core.processes.inspector_client import Inspector, Told
from prune_core.statistics import paired_bounds

METHODS = {
    "magnitude": "Magnitude",
    "wanda": "Wanda",
    "sparsegpt": "SparseGPT",
    "akr": "AKR",
    "columns": "Whole inputs",
}


@dataclass(frozen=True)
class Step:
    """One screen."""

    title: str
    text: str
    equation: str
    question: str
    answer: str
    draw: Callable[[View, Inspector], None]
    needs: tuple[str, ...] = ()  # tables of a study's pruned models


def _removed(place: Any = None) -> float:
    slider = (place or st.columns(2)[0]).slider
    return (
        slider(
            "Share of the weights to remove",
            0,
            90,
            50,
            5,
            format="%d%%",
            key="lesson-removed",
            persist_state="session",
        )
        / 100
    )


def _matrix(told: Told, title: str, key: str, dark: bool) -> None:
    gone = sum(value == 0 for row in told["pruned"] for value in row) / 48
    seen = f"{formatting.percent(gone)} of the weights are zero; the outputs are off by {formatting.percent(told['total'])} of their size."
    ui.chart(
        title,
        seen,
        plots.matrix(told["pruned"], told["weight"], told["sizes"], dark),
        key=key,
        small=True,
    )


def worth(view: View, asking: Inspector) -> None:
    """Magnitude on the small layer."""
    told = asking.small_layer("magnitude", _removed())
    left, right = st.columns(2, gap="medium")
    with left:
        whole = plots.matrix(told["weight"], None, told["sizes"], view.dark)
        ui.chart(
            "The layer",
            "Six outputs, eight inputs: every number is a weight.",
            whole,
            key="lesson-before",
            small=True,
        )
    with right:
        _matrix(told, "Without its smallest weights", "lesson-magnitude", dark=view.dark)


def activations(view: View, asking: Inspector) -> None:
    """Magnitude beside Wanda, with the sizes of the inputs."""
    removed = _removed()
    for column, method in zip(st.columns(2, gap="medium"), ("magnitude", "wanda"), strict=True):
        with column:
            _matrix(
                asking.small_layer(method, removed),
                METHODS[method],
                f"lesson-{method}",
                dark=view.dark,
            )


def piles_up(view: View, asking: Inspector) -> None:
    """The demo's error by depth, one model at a time or all."""
    rows = view.rows("reconstruction")
    models = [model for model in view.pruned if (rows["job"] == model.job).any()]
    model = ui.one_model(models, "lesson-depth", "Model", dark=view.dark)
    ui.chart(
        "How wrong is each block's output?",
        "Relative error of the hidden states, from the first block to the last.",
        plots.by_depth(rows, [model], dark=view.dark, height=320),
        key="lesson-by-depth",
        small=True,
    )


def corrects(view: View, asking: Inspector) -> None:
    """SparseGPT beside AKR where the inputs are wrong already."""
    left, right = st.columns(2, gap="medium")
    removed = _removed(left)
    wrong = (
        right.slider(
            "How wrong the inputs are",
            0,
            60,
            30,
            10,
            format="%d%%",
            key="lesson-wrong",
            persist_state="session",
        )
        / 100
    )
    for column, method in zip(st.columns(2, gap="medium"), ("sparsegpt", "akr"), strict=True):
        with column:
            _matrix(
                asking.small_layer(method, removed, wrong),
                METHODS[method],
                f"lesson-{method}",
                dark=view.dark,
            )
    st.caption("Underlined: a weight that the method changed besides removing others.")


def where(view: View, asking: Inspector) -> None:
    """The demo's heat map of one model."""
    rows = view.rows("reconstruction")
    models = [model for model in view.pruned if (rows["job"] == model.job).any()]
    model = ui.one_model(models, "lesson-where", "Model", dark=view.dark)
    ui.chart(
        "Which matrices lose most by their own pruning?",
        "Block by part: the relative error that each matrix's own pruning makes.",
        plots.heat_maps(rows, [model], "own", dark=view.dark),
        key="lesson-heat",
        small=True,
    )


def whole(view: View, asking: Inspector) -> None:
    """The same share as single weights and as whole inputs."""
    removed = _removed()
    for column, method in zip(st.columns(2, gap="medium"), ("wanda", "columns"), strict=True):
        with column:
            title = "Single weights" if method == "wanda" else "Whole inputs"
            _matrix(asking.small_layer(method, removed), title, f"lesson-{method}", dark=view.dark)


def attack(view: View, asking: Inspector) -> None:
    """Adversarial examples of the study to browse."""
    rows = view.first_seed("attack_example")
    won = rows[
        (rows["outcome"] == "success") & rows["perturbed"].map(lambda text: isinstance(text, str))
    ]
    if won.empty:
        st.info("No attack has succeeded on the models on view.")
        return
    place = st.slider("Sentence", 1, len(won), 1, key="lesson-sentence", persist_state="session")
    row, names = won.iloc[place - 1], view.label_names
    labels = {model.job: model.label for model in view.models}
    st.html(ui.marked_words(row["text"], row["perturbed"]))
    said = [
        formatting.answer(row[name], names)
        for name in ("original_prediction", "perturbed_prediction")
    ]
    st.markdown(
        f"**{labels.get(row['job'], 'The model')}** said **{said[0]}** before and says **{said[1]}** now, after "
        f"{row['queries']:.0f} questions by {row['recipe']}."
    )
    view.caption_seed("This step shows")


def robust(view: View, asking: Inspector) -> None:
    """What an average leaves of its parts' errors."""
    alike = st.slider(
        "How alike the fine-tunes' errors are",
        0,
        100,
        40,
        10,
        format="%d%%",
        key="lesson-alike",
        persist_state="session",
    )
    ui.chart(
        "What does averaging leave?",
        "Squared error of the average of k fine-tunes, a share of one fine-tune's.",
        plots.averaged(alike / 100, view.dark),
        key="lesson-average",
        small=True,
    )
    st.page_link(
        "pages/soup.py",
        label="Make a robust start, and see how its average moved",
        icon=":material/soup_kitchen:",
    )


def trade(view: View, asking: Inspector) -> None:
    """The demo's trade-off."""
    tables = {name: view.rows(name) for name in TABLES}
    found = available(tables)
    keys = [key for key in found if key != "accuracy"]
    start = next((key for key in keys if key.startswith("under_attack")), keys[0])
    y = ui.chosen(
        st.selectbox,
        "lesson-y",
        keys,
        default=start,
        label="Upwards",
        format_func=lambda key: found[key].title,
    )
    rows = view.summary()
    ui.chart(
        "Which model would you take?",
        "One point a model with its 95% intervals; the others are beaten in both by one on the line.",
        plots.scatter(rows, view.models, found["accuracy"], y=found[y], dark=view.dark, height=360),
        key="lesson-trade",
        small=True,
    )


def ship(view: View, asking: Inspector) -> None:
    """An interval against a limit, with n to move."""
    left, middle, right = st.columns(3)
    n = left.select_slider("Examples", [50, 100, 200, 440, 1000, 3000, 10_000], 440, key="lesson-n")
    lost = middle.slider("Measured accuracy loss (points)", 0.0, 5.0, 1.0, 0.5, key="lesson-lost")
    limit = right.slider("Limit (points)", 0.5, 5.0, 2.0, 0.5, key="lesson-limit")
    broken, fixed = round(n * (lost / 100 + 0.03)), round(n * 0.03)
    low, high = paired_bounds(broken, fixed, n, alpha=0.05)
    verdict = (
        "ship" if low >= -limit / 100 else "do not ship" if high < -limit / 100 else "inconclusive"
    )
    seen = f"{broken} examples newly broken and {fixed} newly fixed of {n:,}; the bar ends at the one-sided 95% bounds."
    figure = plots.margin(broken, fixed, n, limit=limit / 100, dark=view.dark)
    ui.chart(f"May it ship? {verdict.capitalize()}.", seen, figure, key="lesson-ship", small=True)
    if view.pruned:
        st.page_link(
            "pages/deploy.py",
            label="The same question about a model on view",
            icon=":material/rocket_launch:",
        )


def ready(view: View, step: Step) -> bool:
    """Whether the study on view has what the step looks at."""
    tables = [view.single(name) for name in step.needs] if view.pruned else []
    pruned = [model.job for model in view.pruned]
    return len(tables) == len(step.needs) and all(
        len(rows) and rows["job"].isin(pruned).any() for rows in tables
    )


STEPS = (
    Step(
        "What is a weight worth?",
        "A layer multiplies its inputs by a matrix. Remove the weights nearest to zero, and watch how far the outputs go from what they "
        "were.",
        r"\text{error}=\frac{\lVert Wx-\hat Wx\rVert}{\lVert Wx\rVert}",
        question="Half of the weights are gone. Is half of the output gone?",
        answer="No: the smallest half carries little of the sum. The error stays small at first and then rises steeply; that bend is why pruning "
        "works at all, and why it stops working.",
        draw=worth,
    ),
    Step(
        "Do the inputs matter?",
        "A small weight on a large input counts for more than a large weight on an input that is always nearly zero. Wanda weighs each "
        "weight by the size of its input, seen on a few calibration texts.",
        r"\text{score}_{ij}=\lvert W_{ij}\rvert\cdot\lVert x_j\rVert",
        question="Find a weight that magnitude removes and Wanda keeps. What is special about its column?",
        answer="Its input is large. Wanda also compares weights within each row only, so that no output is emptied.",
        draw=activations,
    ),
    Step(
        "Why do errors pile up?",
        "A block's inputs are the outputs of the block before it. So each block starts from what is wrong already, and adds its own.",
        r"Wx-\hat W\hat x=\underbrace{W(x-\hat x)}_{\text{inherited}}+\underbrace{(W-\hat W)\hat x}_{\text{own}}",
        question="The last block loses no more weights than the first. Why is its error so much larger?",
        answer="Most of it is inherited: look at “Own or inherited” on the page Layers.",
        draw=piles_up,
        needs=("reconstruction",),
    ),
    Step(
        "How does AKR correct?",
        "SparseGPT removes weights and moves the others so that the layer answers as before, on the inputs that it gets now. AKR first "
        "moves the target: to the weights that would give the dense model's outputs from the wrong inputs.",
        r"\bar W=\Bigl(W\textstyle\sum x\hat x^\top\Bigr)\Bigl(\sum\hat x\hat x^\top\Bigr)^{-1}",
        question="Set the inputs' error to 0. Which method wins now?",
        answer="Hardly either: with right inputs there is nothing to correct, and AKR differs only by its fitted bias. The more is wrong before, "
        "the more it gains. What is wrong at random, token by token, nobody can correct.",
        draw=corrects,
    ),
    Step(
        "Where should the zeros be?",
        "Pruned uniformly, all matrices lose the same share of their weights, but not the same part of their output.",
        r"\min_{s_1,\dots,s_L}\ \sum_\ell e_\ell(s_\ell)\quad\text{with}\quad\sum_\ell n_\ell s_\ell=S",
        question="From which matrix would you take fewer weights, and from which more?",
        answer="Fewer where the map is bright, more where it is dark. The option allocation=error of SparseGPT and AKR does it by curves measured "
        "on the calibration texts.",
        draw=where,
        needs=("reconstruction",),
    ),
    Step(
        "Heads and neurons",
        "Single zeros do not make a matrix smaller: ordinary kernels multiply them too. Whole heads and neurons do, as whole columns go.",
        r"\text{FLOPs}\propto\#\text{heads}\cdot d_{\text{head}}+\#\text{neurons}",
        question="Both removed the same share. Which error is larger, and why would anybody choose it?",
        answer="Whole columns cost more accuracy, as good weights go with bad ones. But only they make the model faster without special kernels; "
        "K-prune chooses them by what each unit knows, and refits the rest.",
        draw=whole,
    ),
    Step(
        "What does an attack do?",
        "An attacker changes a few letters or words until the answer turns, asking the model again and again. A reader would still give "
        "the old answer.",
        r"\text{success}=\frac{\#\text{right before, wrong after}}{\#\text{right before}}",
        question="Would you have noticed the change? Would you have changed your mind?",
        answer="Where you would, the attack has cheated: its text is not valid. The page Attack counts how many are.",
        draw=attack,
        needs=("attack_example",),
    ),
    Step(
        "Can a start be robust?",
        "Fine-tunes of one encoder lie in one valley; their average lies nearer to its middle, where small changes of the input matter "
        "less. Ingredients trained against small changes help.",
        r"\bar\theta=\frac1k\sum_{i=1}^k\theta_i,\qquad \mathbb E\,\lVert\bar\epsilon\rVert^2=\frac{1-\rho}{k}+\rho",
        question="All fine-tunes make the same mistakes (100% alike). What does averaging help?",
        answer="Nothing: only what differs cancels. So candidates are made with other seeds, learning rates and objectives.",
        draw=robust,
    ),
    Step(
        "How is a trade-off read?",
        "A model that another one beats in both figures is out. What is left is the Pareto front; where on it you stand is your choice.",
        r"a\succ b\iff a_1\ge b_1,\ a_2\ge b_2,\ a\ne b",
        question="Two points lie closer than their intervals are long. Which one is better?",
        answer="This sample cannot tell. Choose by something else, such as size, or measure more examples.",
        draw=trade,
        needs=("accuracy", "cost"),
    ),
    Step(
        "Would you ship it?",
        "The measured loss is one draw. A limit holds when even the bad end of the interval keeps to it; otherwise more examples are "
        "needed.",
        r"\text{ship}\iff \underline{\Delta}_{95\%}\ge-\text{limit}",
        question="One point was lost, two are allowed. How many examples does it take to be sure?",
        answer="Thousands, as the slider shows, if 7 of 100 predictions change: the demo's 440 examples are inconclusive. What looks safe is "
        "often unproven.",
        draw=ship,
    ),
)
