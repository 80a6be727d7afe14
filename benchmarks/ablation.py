"""Contribution of each option of AKR, from finished studies in the store, as a Markdown table.

    python -m prune_core sweep ablation --wait
    python -m benchmarks.ablation "Ablation, SST-2" "Ablation, AG News" "Ablation, IMDB"

A cell is the difference in accuracy from the full method on the same calibration examples, in
points, mean over seeds; the last columns are the divergence from dense (mean KL) relative to that
of the full method, geometric mean over studies and seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from prune_core.analysis import ablation
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import summary
from prune_core.store.store import Store
from prune_core.views import quantities as quantities_of


def main() -> None:
    """Print one table for all studies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+")
    contributions = pd.concat(
        [of_study(Store(), name).assign(study=name) for name in parser.parse_args().studies]
    )
    contributions["level"] = contributions["requested_sparsity"].map("{:.1%}".format)
    points = contributions.pivot_table(
        index="changed_options", columns=["study", "level"], values="difference", sort=False
    )
    divergences = contributions.pivot_table(
        index="changed_options", columns="level", values="log_divergence", sort=False
    )
    print(
        "| | "
        + " | ".join(
            [
                *(f"{study} {level}" for study, level in points.columns),
                *(f"KL {level}" for level in divergences.columns),
            ]
        )
        + " |"
    )
    print("|" + "---|" * (1 + len(points.columns) + len(divergences.columns)))
    for options in points.index:
        cells = [f"{100 * value:+.2f}" for value in points.loc[options]] + [
            f"{np.exp(value):.2f}" for value in divergences.loc[options]
        ]
        print(f"| {options} | " + " | ".join(cells) + " |")


def of_study(store: Store, name: str) -> pd.DataFrame:
    """Return the differences from the full method, one row per part and sparsity.

    `difference` is that of accuracy, `log_divergence` that of the log of the divergence from dense.
    """
    jobs = [job for job in store.jobs(name) if job.done]
    if not jobs:
        raise SystemExit(
            f"{name}: this store has no finished run of that study; list studies "
            "with python -m prune_core jobs."
        )
    models, ids = models_of(jobs), [job.id for job in jobs]
    plans = {
        job.id: job.experiment["method"]["options"] for job in jobs if job.experiment["method"]
    }
    tables = {"accuracy": store.rows("accuracy", ids)}
    quantities = quantities_of(tables)
    runs = summary(tables, models, [quantities["accuracy"], quantities["divergence"]])
    runs = runs.assign(
        log_kl=np.log(runs["divergence"].where(runs["divergence"] > 0)), log_kl_n=runs["accuracy_n"]
    )
    keys = ["changed_options", "requested_sparsity"]
    accuracy, log_divergence = (
        ablation.option_contributions(runs, plans, key)[[*keys, "difference"]]
        for key in ("accuracy", "log_kl")
    )
    both = accuracy.merge(log_divergence.rename(columns={"difference": "log_divergence"}), on=keys)
    full = runs[~runs["job"].isin(plans)]
    print(
        f"{name}: dense {full['accuracy'].mean():.2%}, n = {full['accuracy_n'].iloc[0]:.0f}, seeds "
        f"{runs['seed'].nunique()}"
    )
    return both


if __name__ == "__main__":
    main()
