"""AKR's claim end to end: the table and the chart of an `akr-headline` study, differences over the
same texts.

    python -m benchmarks.headline "AKR headline" [--charts assets/charts]

The first start is the plain one, the second the soup. A difference is taken text by text, over
every draw in which both models were attacked on it, and its 95% interval draws the texts anew: a
text that several draws attacked is one text.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from prune_core.methods import METHODS
from prune_core.plots.palette import GRID, INK, PAPER, method_color
from prune_core.store.store import Store
from tools.charts import write_svg

RESAMPLES = 4000
PLAIN, SOUP, DENSE = "plain", "soup", "dense"
Models = dict[
    tuple[str, str, float], pd.DataFrame
]  # (start, method, sparsity) -> a row a draw and text: accuracy, a column an attack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--charts", type=Path, help="folder for the chart as SVG")
    options = parser.parse_args()
    models, attacks = read(Store(), options.study)
    print(table(models, attacks))
    if options.charts:
        for dark in (False, True):
            print(
                write_svg(
                    chart(models, attacks, dark),
                    options.charts / f"akr-headline{'-dark' * dark}.svg",
                    dark,
                    width=980,
                )
            )


def read(store: Store, study: str) -> tuple[Models, list[str]]:
    """What every finished model of the study answered, and the attacks."""
    found: dict[tuple[str, str, float], list[pd.DataFrame]] = {}
    jobs = [job for job in store.jobs(study) if job.done and job.status == "done"]
    starts = list(dict.fromkeys(job.experiment["checkpoint"] for job in jobs))
    attacks: list[str] = []
    for job in jobs:
        method = job.experiment["method"] or {"name": DENSE, "options": {}}
        answers = store.rows("prediction", [job.id])
        right = (answers["pruned"] == answers["label"]).set_axis(answers["example"]).astype(float)
        each = store.rows("attack_example", [job.id]).pivot(
            index="example", columns="recipe", values="outcome"
        )
        attacks = list(each)
        rows = (
            each.eq("failed")
            .where(each.notna())
            .astype(float)
            .reindex(right.index)
            .assign(accuracy=right, draw=job.experiment["seed"])
        )
        key = (
            PLAIN if job.experiment["checkpoint"] == starts[0] else SOUP,
            method["name"],
            method["options"].get("sparsity", 0.0),
        )
        found.setdefault(key, []).append(rows.set_index("draw", append=True))
    whole = {key: pd.concat(draws) for key, draws in found.items()}
    for start, method, sparsity in list(
        whole
    ):  # of a study that is still running, the draws that both starts have
        key, other = (
            (start, method, sparsity),
            whole.get((SOUP if start == PLAIN else PLAIN, method, sparsity)),
        )
        whole[key] = (
            whole[key]
            if other is None
            else whole[key].loc[whole[key].index.intersection(other.index)]
        )
    return whole, attacks


def table(models: Models, attacks: list[str]) -> str:
    """Markdown: both starts' figures, the soup's gain under each attack, and what is left of the
    plain dense model's.
    """
    head = [
        "",
        "draws",
        "accuracy, plain",
        "soup",
        *(f"{attack}, {start}" for attack, start in product(attacks, (PLAIN, SOUP, "gain"))),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method, sparsity in dict.fromkeys(
        (method, sparsity) for _, method, sparsity in sorted(models, key=_place)
    ):
        own = [models.get((start, method, sparsity)) for start in (PLAIN, SOUP)]
        if own[0] is None or own[1] is None:
            continue
        cells = [
            _title(method, sparsity),
            str(own[0].index.get_level_values("draw").nunique()),
            *(f"{100 * each['accuracy'].mean():.1f}" for each in own),
        ]
        for attack in attacks:
            cells += [
                *(f"{100 * each[attack].mean():.1f}" for each in own),
                difference(own[0][attack], own[1][attack]),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_said(models, attacks)])


def _said(models: Models, attacks: list[str]) -> Iterable[str]:
    """Each method from the soup beside the plain dense model, and beside SparseGPT from the
    soup.
    """
    for (start, method, sparsity), own in sorted(models.items(), key=lambda item: _place(item[0])):
        others = {"the plain dense model": (PLAIN, DENSE, 0.0)}
        if method.startswith("akr"):
            others["SparseGPT from the soup"] = (SOUP, "sparsegpt", sparsity)
        for name, key in others.items() if start == SOUP else ():
            if key not in models:  # a study that has only begun
                continue
            told = [
                f"{figure} {difference(models[key][figure], own[figure])}"
                for figure in ("accuracy", *attacks)
            ]
            yield f"- {_title(method, sparsity)} from the soup, less {name}: {'; '.join(told)}"


def _place(key: tuple[str, str, float]) -> tuple[float, int]:
    return key[2], list(METHODS).index(key[1]) if key[1] in METHODS else -1


def _title(method: str, sparsity: float) -> str:
    return "dense" if method == DENSE else f"{METHODS[method].title} {100 * sparsity:g}%"


def difference(one: pd.Series, two: pd.Series) -> str:
    """Points by which the second is higher, with the 95% interval over texts."""
    gap = (two - one).dropna()
    texts = gap.groupby(level="example")
    sums, counts = texts.sum().to_numpy(), texts.count().to_numpy()
    chosen = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    low, high = np.percentile(sums[chosen].sum(1) / counts[chosen].sum(1), (2.5, 97.5))
    return f"{100 * gap.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})".replace("-", "−")


def chart(models: Models, attacks: list[str], dark: bool) -> go.Figure:
    """Accuracy and accuracy under each attack against sparsity: full lines from the soup, dotted
    ones from the plain start.
    """
    figures = ["accuracy", *attacks]
    figure = make_subplots(
        1, len(figures), subplot_titles=["accuracy", *(f"under {attack}" for attack in attacks)]
    )
    methods = [name for name in METHODS if any(key[1] == name for key in models)]
    for (column, shown), method, start in product(
        enumerate(figures, start=1), methods, (PLAIN, SOUP)
    ):
        keys = sorted(
            (key for key in models if key[0] == start and key[1] in (method, DENSE)), key=_place
        )
        figure.add_scatter(
            x=[100 * key[2] for key in keys],
            y=[100 * models[key][shown].mean() for key in keys],
            row=1,
            col=column,
            name=f"{METHODS[method].title}, {start}",
            legendgroup=method,
            showlegend=column == 1,
            mode="lines+markers",
            line={"color": method_color(method, dark), "dash": "solid" if start == SOUP else "dot"},
            marker={"size": 6},
        )
    figure.update_xaxes(
        title="sparsity, %", gridcolor=GRID[dark], tickvals=[0, 50, 70, 87.5], zeroline=False
    )
    figure.update_yaxes(ticksuffix="%", gridcolor=GRID[dark])
    figure.update_layout(
        paper_bgcolor=PAPER[dark],
        plot_bgcolor=PAPER[dark],
        font={"color": INK[dark], "size": 12},
        height=380,
        margin={"l": 50, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": -0.22},
    )
    return figure


if __name__ == "__main__":
    main()
