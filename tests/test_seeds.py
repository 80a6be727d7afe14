"""Runs that differ only in their seed are one model: means, intervals over seeds and examples, tests paired by both."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sample_rows
from scipy.stats import t

from prune_core import PruneError, plots
from prune_core.analysis import attack_success, seeds, takeaways
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import available, summary
from prune_core.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
RUNS = (("dense", 0.0), ("magnitude", 0.7), ("akr", 0.5), ("akr", 0.7))


@pytest.fixture
def study(tmp_path) -> tuple[Store, list]:
    """Four models of three seeds each, and one of a single seed."""
    return filled(Store(tmp_path))


def filled(store: Store) -> tuple[Store, list]:
    for seed in range(3):
        for id in sample_rows.fill(
            store, 80, "Three seeds", runs=RUNS if seed else (*RUNS, ("sparsegpt", 0.5))
        ):
            job = store.job(id)
            rows = store.rows("accuracy", [id])
            moved = rows[
                [
                    c
                    for c in rows
                    if c
                    not in (
                        "job",
                        "label",
                        "study",
                        "method",
                        "asked",
                        "sparsity",
                        "pattern",
                        "seed",
                    )
                ]
            ]
            shift = 0.01 * (seed - 1) * (job.experiment["method"] is not None)
            store.add_rows(
                id,
                {"accuracy": moved.assign(score=moved["score"] + shift)},
                "accuracy",
                seconds=1.0,
                facts={},
            )
            name = f"{job.label} · seed {seed}" if seed else job.label
            store.update(
                id, experiment={**job.experiment, "seed": seed}, label=name, key=f"{job.key}-{seed}"
            )
    return store, store.jobs("Three seeds")


def test_runs_of_one_experiment_are_one_model_and_others_stay(study):
    _, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    assert [(m.label, len(m.runs), m.seed) for m in models] == [
        ("Dense", 3, 0),
        ("Magnitude 70%", 3, 0),
        ("SparseGPT 50%", 0, 0),
        ("AKR 50%", 3, 0),
        ("AKR 70%", 3, 0),
    ]
    jobs = [job for job in jobs if job.experiment["seed"] == 1]
    assert [m.label for m in seeds.merge_seeds(models_of(jobs), jobs)] == [
        "Dense · seed 1",
        "Magnitude 70% · seed 1",
        "AKR 50% · seed 1",
        "AKR 70% · seed 1",
    ]


def test_figures_are_means_with_the_interval_over_seeds_and_that_over_examples_apart(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    model = models[-1]
    single = store.rows("accuracy", [job.id for job in jobs])
    found = seeds.pooled("accuracy", single, models)
    assert list(found["job"]) == [m.job for m in (models[2], *models[:2], *models[3:])]
    row = found[found["job"] == model.job].iloc[0]
    own = single[single["job"].isin(model.runs)]
    half = t.ppf(0.975, 2) * 0.01 / np.sqrt(3)  # of scores a point apart
    assert row["score"] == pytest.approx(own["score"].mean())
    assert row["seeds_low"] == pytest.approx(row["score"] - half) and row[
        "seeds_high"
    ] == pytest.approx(row["score"] + half)
    assert row["examples_low"] == pytest.approx(own["low"].mean())
    below = np.hypot(half, row["score"] - row["examples_low"])
    assert row["low"] == pytest.approx(row["score"] - below) and row["low"] < min(
        row["seeds_low"], row["examples_low"]
    )
    layers = seeds.pooled(
        "reconstruction", store.rows("reconstruction", [job.id for job in jobs]), models
    )
    assert layers.groupby("job").size().eq(sample_rows.BLOCKS * 7).all()


def test_charts_show_the_mean_once_and_every_seed_faintly(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    single = {"accuracy": store.rows("accuracy", [job.id for job in jobs])}
    pooled = {"accuracy": seeds.pooled("accuracy", single["accuracy"], models)}
    quantity = available(pooled)["accuracy"]
    rows = summary(pooled, models, [quantity], single=single)
    assert len(rows) == 5 and [len(runs) for runs in rows["accuracy_runs"]] == [3, 3, 0, 3, 3]
    fig = plots.against_sparsity(rows, models, quantity)
    faint = [trace for trace in fig.data if trace.marker.size == 5]
    assert len(faint) == 4 and all(len(trace.y) == 3 for trace in faint)
    assert "mean of 3 seeds" in "".join(trace.hovertemplate or "" for trace in fig.data)
    assert takeaways.accuracy(pooled["accuracy"], models).startswith("AKR at 70% keeps")


def assert_declared(tables: Mapping[str, pd.DataFrame]) -> None:
    """Fail on a table that is neither averaged nor shown for one seed, or whose identity is not unique.

    The contract tests of measures and methods call this for every table that they return.
    """
    for name, rows in tables.items():
        assert (name in seeds.IDENTITY) != (name in seeds.ONE_SEED), f"{name}: declare it once"
        if name in seeds.IDENTITY:
            keys = list(seeds.IDENTITY[name])
            assert not (rows.duplicated(keys).any() if keys else len(rows) > 1), f"{name}: {keys}"


def test_every_table_of_a_study_is_declared():
    assert_declared(sample_rows.tables("akr", 0.7) | {"transfer": pd.DataFrame()})


def test_an_undeclared_table_and_one_without_a_mean_are_refused(study):
    store, jobs = study
    rows, models = store.rows("prediction", [jobs[0].id]), seeds.merge_seeds(models_of(jobs), jobs)
    with pytest.raises(PruneError, match="has no mean over seeds"):
        seeds.pooled("prediction", rows, models)
    with pytest.raises(PruneError, match="not declared"):
        seeds.pooled("another", rows, models[:0])


def test_pages_average_tables_or_name_the_seed_that_they_show():
    for path in sorted((ROOT / "pages").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r'\.rows\("(\w+)"\)', text)) <= set(seeds.IDENTITY), path.name
        one = re.findall(r'first_seed\("(\w+)"\)', text)
        assert set(one) <= set(seeds.ONE_SEED), path.name
        named = "which_seed(" in text or "caption_seed(" in text
        assert named or not re.search(r"view\.first_seed\(", text), path.name


def test_what_seeds_disagree_on_is_no_seeds_own(study):
    """Counts that all seeds share stay integers; a note or a flag of one seed is not the mean's."""
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    rows = store.rows("cost", [job.id for job in jobs])
    rows["note"] = [f"Without its {job} dead heads." for job in rows["job"]]
    found = seeds.pooled("cost", rows, models)
    own = found[found["job"] == models[-1].job]
    assert own["note"].isna().all() and (own["device"] == "cpu").all()
    assert own["batch"].tolist() == [32, 32] and pd.api.types.is_integer_dtype(found["batch"])


def test_adversarial_drift_is_averaged_and_p_values_are_not(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    ids = [job.id for job in jobs]
    rows = store.rows("drift", ids).assign(cosine=lambda each: each["job"] / 100)
    found = seeds.pooled("drift_adversarial", rows, models)
    own = found[found["job"] == models[-1].job]
    assert len(own) == 2 * sample_rows.BLOCKS
    assert own["cosine"].tolist() == pytest.approx([np.mean(models[-1].runs) / 100] * len(own))
    pooled = seeds.pooled("accuracy", store.rows("accuracy", ids), models)
    assert pooled.loc[pooled["job"] == models[-1].job, "p_value"].isna().all()
    assert "(mean over 3 seeds)" in takeaways.broken_predictions(pooled, models[-1])


def test_slices_of_an_attack_are_averaged_over_seeds(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    outcomes = store.rows("attack_example", [job.id for job in jobs])
    outcomes = outcomes[outcomes["recipe"] == "DeepWordBug"]
    runs = attack_success.slices(outcomes, models[0].jobs, ["negative", "positive"])
    found = seeds.pooled("attack_slice", runs, models)
    own = found[(found["job"] == models[1].job) & (found["slice"] == "positive")].iloc[0]
    single = runs[runs["job"].isin(models[1].runs) & (runs["slice"] == "positive")]
    assert own["success_rate"] == pytest.approx(single["success_rate"].mean()) and len(single) == 3
    assert own["n"] == 20, "of each seed: the dense model's confidence is joined once per example"
    assert 0 <= own["success_low"] <= own["success_rate"] <= own["success_high"] <= 1


def test_the_seed_that_is_shown_is_named(study):
    _, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    assert (
        seeds.seed_note(models) == "seed 0 (one of 3 seeds)"
        and seeds.means(models) == "mean over 3 seeds"
    )
    single = [model for model in models if not model.runs]
    assert len(single) == 1 and not seeds.seed_note(single) and not seeds.means(single)
    later = seeds.merge_seeds(models_of(jobs[5:]), jobs[5:])
    assert (
        seeds.seed_note([models[-1], later[-1]]) == "the first seed of each model (one of 3 seeds)"
    )


def rows_of(seed: int, was: np.ndarray, now: np.ndarray, texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "job": seed,
            "label": 1,
            "dense": was.astype(int),
            "pruned": now.astype(int),
            "text": texts,
        }
    )


@pytest.mark.parametrize("same", [True, False], ids=["the same examples", "each seed its own"])
def test_the_hierarchical_bootstrap_covers_the_true_difference(same):
    """200 made-up studies of eight seeds: a loss of 5 points that varies by seed and by example lies within in about 95 of 100."""
    dice, covered, narrow = np.random.default_rng(0), 0, 0
    for _ in range(200):
        hard = dice.random(150) * 0.2
        parts = []
        for seed in range(8):
            risk = np.clip(
                (hard if same else dice.random(150) * 0.2) - 0.05 + 0.03 * dice.normal(), 0, 1
            )
            texts = [f"{0 if same else seed} {i}" for i in range(150)]
            parts.append(rows_of(seed, np.ones(150, bool), dice.random(150) >= risk, texts=texts))
        truth = -np.mean(
            [
                np.clip(u * 0.2 - 0.05 + 0.03 * z, 0, 1)
                for u, z in zip(dice.random(4000), dice.normal(size=4000), strict=True)
            ]
        )
        low, high = np.quantile(seeds.hierarchical(pd.concat(parts)), (0.025, 0.975))
        covered += low <= truth <= high
        one = seeds.hierarchical(parts[0])
        narrow += np.quantile(one, 0.025) <= truth <= np.quantile(one, 0.975)
    assert covered >= 180 and narrow < covered, "a single seed says too much"


def test_attacks_are_paired_by_seed_and_sentence():
    def outcomes(seed: int, said: str) -> pd.DataFrame:
        names = {"s": "success", "f": "failed", "x": "skipped"}
        return pd.DataFrame(
            {
                "job": seed,
                "seed": seed,
                "example": range(len(said)),
                "text": [f"t{i}" for i in range(len(said))],
                "outcome": [names[letter] for letter in said],
            }
        )

    dense = pd.concat([outcomes(0, "ssff"), outcomes(1, "ffff")])
    pruned = pd.concat([outcomes(0, "sssx"), outcomes(1, "sfff")])
    found = attack_success.success_rate(dense, pruned)
    assert (
        found.n == 7
        and found.dense == pytest.approx(2 / 7)
        and found.pruned == pytest.approx(4 / 7)
    )
    assert found.low <= found.difference <= found.high
    alone = attack_success.success_rate(outcomes(0, "ssff"), outcomes(2, "sssf"))
    assert alone.n == 4, "another seed's model on the same sentences"


def test_the_report_has_a_row_a_model(study, tmp_path):
    from prune_core.cli.report import write_report

    store, jobs = study
    write_report(store, [job.id for job in jobs], tmp_path / "r.html")
    table = (tmp_path / "r.html").read_text().split("All metrics")[1].split("</table>")[0]
    assert table.count("<tr>") == 6 and "Values are the mean over 3 seeds." in table
    assert "· seed" not in table, "no row of a single run"


def test_a_seed_that_draws_what_all_draw_says_so(tmp_path) -> None:
    from prune_core.data.examples import DataSource
    from prune_core.experiments.data_check import DataReader
    from prune_core.experiments.experiment import Experiment
    from prune_core.methods import METHODS
    from prune_core.models.checkpoints import loading
    from prune_core.plugins import build

    rows = [
        f"film number {count} lasts for more than nine words in all,{('negative', 'positive')[count % 2]}"
        for count in range(40)
    ]
    (tmp_path / "own.csv").write_text("text,label\n" + "\n".join(rows))
    tokenizer = loading.load("demo")[1]
    own = DataSource(str(tmp_path / "own.csv"))  # its pool is split off with the seed
    for source, seed, size, expected in (
        (DataSource("demo"), 1, 999, True),
        (DataSource("demo"), 0, 999, False),
        (DataSource("demo"), 1, 99, False),
        (own, 1, 999, False),
        (DataSource(own.task, calibration=own.task), 1, 999, True),
    ):
        experiment = Experiment(
            "demo",
            source,
            build(METHODS, "magnitude"),
            measures=(),
            calibration=size,
            evaluation=8,
            seed=seed,
        )
        notes = DataReader(
            experiment, ("negative", "positive"), "classification", tokenizer=tokenizer
        )().notes
        assert any("texts as seed 0, which are all there are" in note for note in notes) == expected
