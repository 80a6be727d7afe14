"""The trade-off between two quantities, and the best model within limits."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import tradeoff
from prune_core.analysis.quantities import Quantity, quality
from prune_core.formatting import inline

ANY = "any"
POINTS = (ANY, 0.5, 1, 2, 3, 5, 10, 20)
TIMES = (ANY, 1.1, 1.25, 1.5, 2, 3, 4)
PERCENT = (ANY, 75, 60, 50, 40, 30, 25, 20, 10)
ONE_SIZE = "constant"


class Slider(NamedTuple):
    """The slider of one limit and the values of all models that it applies to."""

    name: str
    title: str
    words: str  # the quantity inside a sentence
    unit: str
    options: tuple
    default: object
    values: pd.Series  # by job


def show(view: View, rows: pd.DataFrame, quantities: Mapping[str, Quantity]) -> None:
    """Draw limits with the best model within them, and the chart of two chosen quantities."""
    titles = {key: quantity.title for key, quantity in quantities.items()}
    attacked = next((key for key in titles if key.startswith("under_attack")), "")
    if view.pruned:
        _within(view, rows, quantities, attacked=attacked)
    first, second, third = st.columns(3)
    with first:
        default = next((each.key for each in quality(quantities)), None)
        x = quantities[ui.pick("x", titles, default, label="Horizontal axis")]
    with second:
        known = (key for key in (attacked, "error", "speedup", "nonzeros") if key in titles)
        default = next(known, next(reversed(titles)))
        y = quantities[ui.pick("y", titles, default, label="Vertical axis")]
    with third:
        size = quantities.get(ui.pick("size", {ONE_SIZE: ONE_SIZE, **titles}, label="Marker size"))
    note = f" Marker size shows {inline(size.title)}." if size else ""
    ui.chart(
        f"Which models give the best trade-off between {inline(x.title)} and {inline(y.title)}?",
        "One point per model with 95% intervals. The dotted line is the Pareto front; dominated "
        f"models are dimmed. The ring marks the knee.{note}",
        plots.scatter(rows, view.models, x, y=y, dark=view.dark, size=size),
        key="trade",
    )


def _sliders(
    by_job: pd.DataFrame, dense: pd.Series, quantities: Mapping[str, Quantity], attacked: str
) -> list[Slider]:
    """Return the sliders of the limits that the available quantities allow."""
    sliders = []
    if metrics := quality(quantities):
        metric = metrics[0]
        title = inline(metric.title)
        sliders.append(
            Slider(
                "accuracy",
                f"Maximum loss of {title} (points)",
                f"loss of {title}",
                unit="points",
                options=POINTS,
                default=2,
                values=dense[metric.key] - by_job[metric.key],
            )
        )
    if attacked:
        title = quantities[attacked].title.removeprefix("Accuracy under ")
        sliders.append(
            Slider(
                "under-attack",
                f"Maximum loss under {title} (points)",
                f"loss of accuracy under {title}",
                unit="points",
                options=POINTS,
                default=5,
                values=dense[attacked] - by_job[attacked],
            )
        )
    if "speedup" in quantities:
        sliders.append(
            Slider(
                "speedup",
                "Minimum speed-up",
                "speed-up",
                unit="times",
                options=TIMES,
                default=ANY,
                values=by_job["speedup"],
            )
        )
    if "nonzeros" in quantities:
        sliders.append(
            Slider(
                "weights",
                "Maximum weights left (%)",
                "fraction of weights left",
                unit="percent",
                options=PERCENT,
                default=ANY,
                values=by_job["nonzeros"] / dense["nonzeros"],
            )
        )
    return sliders


def _within(
    view: View, rows: pd.DataFrame, quantities: Mapping[str, Quantity], *, attacked: str
) -> None:
    """Draw one slider per limit, and the best model within all of them."""
    by_job = rows.set_index("job")
    dense = by_job[by_job["method"] == "dense"]
    sliders = [] if dense.empty else _sliders(by_job, dense.iloc[0], quantities, attacked=attacked)
    if not sliders:
        return
    by_name = {slider.name: slider.values for slider in sliders}
    nonzero = by_name.get("weights", 1 - by_job["requested_sparsity"])
    limits, values = [], pd.DataFrame({"left": nonzero})
    with st.container(gap="xsmall", key="limits"):
        for column, slider in zip(st.columns(len(sliders)), sliders, strict=True):
            with column:
                value = ui.choice_widget(
                    st.select_slider,
                    f"limit-{slider.name}",
                    slider.options,
                    default=slider.default,
                    label=slider.title,
                )
            if value != ANY:
                scale = 1 if slider.unit == "times" else 100
                limits.append(tradeoff.Limit(slider.words, value / scale, slider.unit))
                values[slider.words] = slider.values
        if not limits:
            st.markdown(":gray[Move a slider to find the best model within your limits.]")
            return
        st.markdown(
            tradeoff.choice_sentence(tradeoff.choose(view.pruned, values, limits)),
            help="By measured values of the complete model with its embeddings. The page Deploy "
            "tests whether limits hold beyond these examples.",
        )
