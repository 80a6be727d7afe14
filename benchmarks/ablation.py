"""What each part of AKR earns, from finished studies of the store, as the table of README.md.

    python -m prune_core sweep ablation --wait
    python -m benchmarks.ablation "Ablation, SST-2" "Ablation, AG News" "Ablation, IMDB"

A cell is the difference in accuracy from the full form on the same calibration sentences, in
points, mean over seeds; the last columns are the divergence from dense (mean KL) over the full
form's, mean over studies and seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from prune_core.analysis import ablation
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import available, summary
from prune_core.store.store import Store


def main() -> None:
    """One table over all studies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+")
    found = pd.concat(
        [of_study(Store(), name).assign(study=name) for name in parser.parse_args().studies]
    )
    found["level"] = found["asked"].map("{:.1%}".format)
    points = found.pivot_table(
        index="part", columns=["study", "level"], values="difference", sort=False
    )
    more = found.pivot_table(index="part", columns="level", values="further", sort=False)
    print(
        "| | "
        + " | ".join(
            [
                *(f"{study} {level}" for study, level in points.columns),
                *(f"KL {level}" for level in more.columns),
            ]
        )
        + " |"
    )
    print("|" + "---|" * (1 + len(points.columns) + len(more.columns)))
    for part in points.index:
        cells = [f"{100 * value:+.2f}" for value in points.loc[part]] + [
            f"{np.exp(value):.2f}" for value in more.loc[part]
        ]
        print(f"| {part} | " + " | ".join(cells) + " |")


def of_study(store: Store, name: str) -> pd.DataFrame:
    """A row a part and sparsity: the `difference` in accuracy from the full form, and `further`,
    that in log divergence from dense.
    """
    jobs = [job for job in store.jobs(name) if job.done]
    if not jobs:
        raise SystemExit(
            f"{name}: this store has no finished run of that study; python -m prune_core jobs "
            "lists them."
        )
    models, ids = models_of(jobs), [job.id for job in jobs]
    plans = {
        job.id: job.experiment["method"]["options"] for job in jobs if job.experiment["method"]
    }
    tables = {"accuracy": store.rows("accuracy", ids)}
    quantities = available(tables)
    runs = summary(tables, models, [quantities["accuracy"], quantities["divergence"]])
    runs = runs.assign(
        log_kl=np.log(runs["divergence"].where(runs["divergence"] > 0)), log_kl_n=runs["accuracy_n"]
    )
    keys = ["part", "asked"]
    accuracy, further = (
        ablation.option_contributions(runs, plans, key)[[*keys, "difference"]]
        for key in ("accuracy", "log_kl")
    )
    both = accuracy.merge(further.rename(columns={"difference": "further"}), on=keys)
    full = runs[~runs["job"].isin(plans)]
    print(
        f"{name}: dense {full['accuracy'].mean():.2%}, n = {full['accuracy_n'].iloc[0]:.0f}, seeds "
        f"{runs['seed'].nunique()}"
    )
    return both


if __name__ == "__main__":
    main()
