"""Option contributions: detection of the full form, pairing by target and seed, and the chart."""

from pathlib import Path

import pandas as pd
import pytest

from prune_core import plots
from prune_core.analysis import ablation
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import headline
from prune_core.store.store import Store

FULL = {"solver": "blocked", "bias": True, "recollect": True}
FORMS = {
    1: FULL,
    2: FULL | {"bias": False},
    3: FULL | {"solver": "admm"},
    4: FULL | {"recollect": False},
}
GAINS = {1: 0.0, 2: -0.02, 3: 0.03, 4: -0.01}


def runs() -> tuple[pd.DataFrame, dict[int, dict[str, object]]]:
    """Runs of four forms at two sparsities with two seeds.

    The second seed is better by one point and its differences are twice as large.
    """
    rows, plans = [], {}
    for sparsity in (0.5, 0.7):
        for seed in (0, 1):
            for form, options in FORMS.items():
                job = len(plans)
                plans[job] = options | {"sparsity": sparsity, "pattern": ""}
                accuracy = 0.8 + 0.01 * seed + GAINS[form] * (1 + seed)
                rows.append(
                    {
                        "job": job,
                        "method": "akr",
                        "family": "AKR",
                        "requested_sparsity": sparsity,
                        "pattern": "",
                        "seed": seed,
                        "accuracy": accuracy,
                        "accuracy_n": 872,
                    }
                )
    return pd.DataFrame(rows), plans


def test_options_are_compared_with_full_form_of_same_seed() -> None:
    contributions = ablation.option_contributions(*runs(), "accuracy").set_index(
        ["changed_options", "requested_sparsity"]
    )
    assert set(contributions.index.get_level_values("changed_options")) == {
        "without bias",
        "solver admm",
        "without recollect",
    }
    assert len(contributions) == 6
    row = contributions.loc[("without bias", 0.7)]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((-0.03, -0.04, -0.02))
    assert row["seeds"] == 2 and row["n"] == 872


def test_labels_name_changed_options(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for options in (FULL, FULL | {"bias": False}, FULL):
        plan = {"method": {"name": "akr", "options": options | {"sparsity": 0.5}}, "seed": 0}
        store.submit(plan, "AKR 50%", str(options), "s", "cpu", worker="nobody")
    full, changed, repeated = models_of(store.jobs("s"))
    assert (changed.label, changed.form, changed.family) == (
        "AKR 50% · without bias",
        "without bias",
        "AKR",
    )
    assert (full.form, repeated.form) == ("", "")
    assert full.label != repeated.label
    assert full.label.startswith("AKR 50% · job ")
    table = pd.DataFrame(
        [
            {
                "job": model.job,
                "label": model.label,
                "method": "akr",
                "pattern": "",
                "requested_sparsity": 0.5,
                "accuracy": accuracy,
            }
            for model, accuracy in ((full, 0.8), (changed, 0.1), (repeated, 0.9))
        ]
    )
    line = plots.against_sparsity(table, [full, changed, repeated], headline("accuracy")[0]).data[0]
    assert list(line.y) == pytest.approx([0.85])


def test_single_form_has_no_contributions() -> None:
    table, plans = runs()
    assert ablation.option_contributions(table, dict.fromkeys(plans, FULL), "accuracy").empty
    assert ablation.option_contributions(table, {}, "accuracy").empty


@pytest.mark.parametrize("dark", [False, True])
def test_chart_has_a_bar_for_every_option_and_sparsity(dark: bool) -> None:
    figure = plots.option_contributions(ablation.option_contributions(*runs(), "accuracy"), dark)
    assert [trace.name for trace in figure.data] == ["70%", "50%"]
    assert list(figure.data[0].x) == pytest.approx([-3.0, 4.5, -1.5])
    assert "−3.0 points" in figure.data[0].customdata[0]
    assert "2 seeds, n = 872" in figure.data[0].customdata[0]


def test_runs_without_newer_options_have_the_same_form():
    old, new = FULL, FULL | {"distil": 0.0, "distil_adversarial": False}
    distilled, augmented = (
        FULL | {"distil": 5.0, "distil_adversarial": adversarial} for adversarial in (False, True)
    )
    assert ablation.form_labels({1: old, 2: new}) == {1: "", 2: ""}
    labels = ablation.form_labels(
        {1: old, 2: new, 3: distilled, 4: augmented, 5: FULL | {"distil": 5.0}}
    )
    assert labels[1] == labels[2]
    assert labels[3] == labels[5]
    assert len({labels[1], labels[3], labels[4]}) == 3
