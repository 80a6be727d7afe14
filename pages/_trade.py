"""The trade-off between two quantities, and the best model within limits."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from pages import _ui
from pages._frame import View
from prune_core import formatting, plots
from prune_core.analysis import tradeoff
from prune_core.analysis.quantities import Quantity

ANY = "any"
POINTS = (ANY, 0.5, 1, 2, 3, 5, 10, 20)
TIMES = (ANY, 1.1, 1.25, 1.5, 2, 3, 4)
PERCENT = (ANY, 75, 60, 50, 40, 30, 25, 20, 10)


def show(view: View, rows: pd.DataFrame, quantities: Mapping[str, Quantity]) -> None:
    """The scatter of chosen quantities, above it the limits."""
    keys = list(quantities)
    title = lambda key: quantities[key].title  # noqa: E731
    attacked = next(
        (key for key in keys if key.startswith("under_attack")),
        "error" if "error" in keys else keys[-1],
    )
    if view.pruned:
        _within(view, rows, quantities, attacked=attacked)
    first, second, third = st.columns(3)
    with first:
        usual = "accuracy" if "accuracy" in keys else keys[0]
        x = quantities[
            _ui.chosen(st.selectbox, "x", keys, default=usual, label="Across", format_func=title)
        ]
    with second:
        y = quantities[
            _ui.chosen(
                st.selectbox, "y", keys, default=attacked, label="Upwards", format_func=title
            )
        ]
    with third:
        none = "one size"
        named = lambda key: none if key == none else title(key)  # noqa: E731
        size = _ui.chosen(
            st.selectbox,
            "size",
            [none, *keys],
            default=none,
            label="Size of the marks",
            format_func=named,
        )
    sized = (
        ""
        if size == none
        else f" Larger marks: more of {formatting.inline(quantities[size].title)}."
    )
    _ui.chart(
        f"Which models give the best trade between {formatting.inline(x.title)} and "
        f"{formatting.inline(y.title)}?",
        "One point a model with its 95% intervals; the dotted line joins the models that no "
        "other beats in both (the Pareto front), the others are faint. The ring is the knee, "
        f"behind which the one costs most of the other.{sized}",
        plots.scatter(rows, view.models, x, y=y, dark=view.dark, size=quantities.get(size)),
        key="trade",
    )


def _within(
    view: View, rows: pd.DataFrame, quantities: Mapping[str, Quantity], attacked: str
) -> None:
    """A slider a limit, and the best model within all of them."""
    by_job = rows.set_index("job")
    dense = by_job.loc[by_job["method"] == "dense"].head(1)
    if dense.empty:
        return  # nothing to be less accurate than
    against = dense.iloc[0]
    asked: list[tuple[str, str, str, str, tuple, object, pd.Series]] = []
    if "accuracy" in quantities:
        figure = formatting.inline(quantities["accuracy"].title)
        lost = against["accuracy"] - by_job["accuracy"]
        asked.append(
            (
                "accuracy",
                f"{quantities['accuracy'].title} lost, at most (points)",
                f"{figure} lost",
                "points",
                POINTS,
                2,
                lost,
            )
        )
    if attacked.startswith("under_attack"):
        name = quantities[attacked].title.removeprefix("Accuracy under ")
        lost = against[attacked] - by_job[attacked]
        words = f"accuracy under {name} lost"
        asked.append(
            ("attacked", f"Lost under {name}, at most (points)", words, "points", POINTS, 5, lost)
        )
    if "speedup" in quantities:
        asked.append(
            ("faster", "Faster, at least (times)", "speed", "times", TIMES, ANY, by_job["speedup"])
        )
    left = (
        by_job["nonzeros"] / against["nonzeros"]
        if "nonzeros" in quantities
        else 1 - by_job["asked"]
    )
    if "nonzeros" in quantities:
        asked.append(
            (
                "left",
                "Weights left, at most (%)",
                "of the weights left",
                "percent",
                PERCENT,
                ANY,
                left,
            )
        )
    if not asked:
        return
    limits, found = [], pd.DataFrame({"left": left})
    with st.container(gap="xsmall", key="limits"):
        for place, (name, title, words, unit, options, usual, values) in zip(
            st.columns(len(asked)), asked, strict=True
        ):
            with place:
                value = _ui.chosen(
                    st.select_slider, f"limit-{name}", options, default=usual, label=title
                )
            if value != ANY:
                limits.append(
                    tradeoff.Limit(words, value if unit == "times" else value / 100, unit)
                )
                found[words] = values
        if not limits:
            st.markdown(
                ":gray[Move a slider, and the best model within your limits is named here.]"
            )
            return
        st.markdown(
            tradeoff.told(tradeoff.choose(view.pruned, found, limits)),
            help=(
                "By the measured values, of the whole model, embeddings too; whether it holds "
                "beyond these sentences is tested on Deploy."
            ),
        )
