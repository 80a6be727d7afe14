"""Table and chart of an `akr-headline` study, with paired differences over the same texts.

    python -m benchmarks.headline "AKR headline" [--charts assets/charts]

The first checkpoint is the plain one, the second the soup. Differences are paired by text and seed,
over the seeds in which both models were attacked on a text. The 95% interval is a bootstrap over
texts: a text that was attacked with several seeds counts once.
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
]  # (checkpoint, method, sparsity) -> a row per seed and text: accuracy, a column per attack


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
    """Return the results per text of every finished model of the study, and the attacks."""
    runs: dict[tuple[str, str, float], list[pd.DataFrame]] = {}
    jobs = [job for job in store.jobs(study) if job.done and job.status == "done"]
    checkpoints = list(dict.fromkeys(job.experiment["checkpoint"] for job in jobs))
    attacks: list[str] = []
    for job in jobs:
        method = job.experiment["method"] or {"name": DENSE, "options": {}}
        predictions = store.rows("prediction", [job.id])
        correct = (
            (predictions["pruned"] == predictions["label"])
            .set_axis(predictions["example"])
            .astype(float)
        )
        outcomes = store.rows("attack_example", [job.id]).pivot(
            index="example", columns="recipe", values="outcome"
        )
        attacks = list(outcomes)
        rows = (
            outcomes.eq("failed")
            .where(outcomes.notna())
            .astype(float)
            .reindex(correct.index)
            .assign(accuracy=correct, draw=job.experiment["seed"])
        )
        key = (
            PLAIN if job.experiment["checkpoint"] == checkpoints[0] else SOUP,
            method["name"],
            method["options"].get("sparsity", 0.0),
        )
        runs.setdefault(key, []).append(rows.set_index("draw", append=True))
    models = {key: pd.concat(seeds) for key, seeds in runs.items()}
    for checkpoint, method, sparsity in list(
        models
    ):  # in a study that is still running, use the seeds that both checkpoints have
        key, other = (
            (checkpoint, method, sparsity),
            models.get((SOUP if checkpoint == PLAIN else PLAIN, method, sparsity)),
        )
        models[key] = (
            models[key]
            if other is None
            else models[key].loc[models[key].index.intersection(other.index)]
        )
    return models, attacks


def table(models: Models, attacks: list[str]) -> str:
    """Return Markdown: metrics of both checkpoints, gains of the soup, differences from dense."""
    head = [
        "",
        "seeds",
        "accuracy, plain",
        "soup",
        *(
            f"{attack}, {checkpoint}"
            for attack, checkpoint in product(attacks, (PLAIN, SOUP, "gain"))
        ),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method, sparsity in dict.fromkeys(
        (method, sparsity) for _, method, sparsity in sorted(models, key=_place)
    ):
        pair = [models.get((checkpoint, method, sparsity)) for checkpoint in (PLAIN, SOUP)]
        if pair[0] is None or pair[1] is None:
            continue
        cells = [
            _title(method, sparsity),
            str(pair[0].index.get_level_values("draw").nunique()),
            *(f"{100 * model['accuracy'].mean():.1f}" for model in pair),
        ]
        for attack in attacks:
            cells += [
                *(f"{100 * model[attack].mean():.1f}" for model in pair),
                difference(pair[0][attack], pair[1][attack]),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_comparisons(models, attacks)])


def _comparisons(models: Models, attacks: list[str]) -> Iterable[str]:
    """Yield a line per method from the soup, compared with plain dense and with SparseGPT."""
    for (checkpoint, method, sparsity), model in sorted(
        models.items(), key=lambda item: _place(item[0])
    ):
        others = {"the plain dense model": (PLAIN, DENSE, 0.0)}
        if method.startswith("akr"):
            others["SparseGPT from the soup"] = (SOUP, "sparsegpt", sparsity)
        for name, key in others.items() if checkpoint == SOUP else ():
            if key not in models:  # the study is still running
                continue
            differences = [
                f"{metric} {difference(models[key][metric], model[metric])}"
                for metric in ("accuracy", *attacks)
            ]
            title = _title(method, sparsity)
            yield f"- {title} from the soup, less {name}: {'; '.join(differences)}"


def _place(key: tuple[str, str, float]) -> tuple[float, int]:
    return key[2], list(METHODS).index(key[1]) if key[1] in METHODS else -1


def _title(method: str, sparsity: float) -> str:
    return "dense" if method == DENSE else f"{METHODS[method].title} {100 * sparsity:g}%"


def difference(one: pd.Series, two: pd.Series) -> str:
    """Format by how many points the second is higher, with the 95% interval over texts."""
    gap = (two - one).dropna()
    texts = gap.groupby(level="example")
    sums, counts = texts.sum().to_numpy(), texts.count().to_numpy()
    chosen = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    low, high = np.percentile(sums[chosen].sum(1) / counts[chosen].sum(1), (2.5, 97.5))
    return f"{100 * gap.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})".replace("-", "−")


def chart(models: Models, attacks: list[str], dark: bool) -> go.Figure:
    """Plot accuracy and accuracy under each attack against sparsity; solid: soup, dotted: plain."""
    metrics = ["accuracy", *attacks]
    figure = make_subplots(
        1, len(metrics), subplot_titles=["accuracy", *(f"under {attack}" for attack in attacks)]
    )
    methods = [name for name in METHODS if any(key[1] == name for key in models)]
    for (column, metric), method, checkpoint in product(
        enumerate(metrics, start=1), methods, (PLAIN, SOUP)
    ):
        keys = sorted(
            (key for key in models if key[0] == checkpoint and key[1] in (method, DENSE)),
            key=_place,
        )
        figure.add_scatter(
            x=[100 * key[2] for key in keys],
            y=[100 * models[key][metric].mean() for key in keys],
            row=1,
            col=column,
            name=f"{METHODS[method].title}, {checkpoint}",
            legendgroup=method,
            showlegend=column == 1,
            mode="lines+markers",
            line={
                "color": method_color(method, dark),
                "dash": "solid" if checkpoint == SOUP else "dot",
            },
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
