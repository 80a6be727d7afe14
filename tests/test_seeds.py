"""Averages over seeds: means, intervals over seeds and examples, and paired tests."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sample_rows
from scipy.stats import t

from prune_core import plots, views
from prune_core.analysis import attack_success, seeds, takeaways
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import summary
from prune_core.analysis.seeds import Averaging
from prune_core.measures import MEASURES
from prune_core.methods import METHODS
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
            accuracy_columns = rows[
                [
                    c
                    for c in rows
                    if c
                    not in (
                        "job",
                        "label",
                        "study",
                        "method",
                        "requested_sparsity",
                        "sparsity",
                        "pattern",
                        "seed",
                    )
                ]
            ]
            shift = 0.01 * (seed - 1) * (job.experiment["method"] is not None)
            store.add_rows(
                id,
                {"accuracy": accuracy_columns.assign(score=accuracy_columns["score"] + shift)},
                "accuracy",
                seconds=1.0,
                facts={},
            )
            name = f"{job.label} · seed {seed}" if seed else job.label
            store.update(
                id, experiment={**job.experiment, "seed": seed}, label=name, key=f"{job.key}-{seed}"
            )
    return store, store.jobs("Three seeds")


def test_runs_with_different_seeds_are_merged(study):
    _, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    assert [(model.label, len(model.runs), model.seed) for model in models] == [
        ("Dense", 3, 0),
        ("Magnitude 70%", 3, 0),
        ("SparseGPT 50%", 0, 0),
        ("AKR 50%", 3, 0),
        ("AKR 70%", 3, 0),
    ]
    jobs = [job for job in jobs if job.experiment["seed"] == 1]
    assert [model.label for model in seeds.merge_seeds(models_of(jobs), jobs)] == [
        "Dense · seed 1",
        "Magnitude 70% · seed 1",
        "AKR 50% · seed 1",
        "AKR 70% · seed 1",
    ]


def test_means_have_intervals_over_seeds_and_examples(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    model = models[-1]
    single = store.rows("accuracy", [job.id for job in jobs])
    pooled = views.pooled("accuracy", single, models)
    assert list(pooled["job"]) == [model.job for model in (models[2], *models[:2], *models[3:])]
    row = pooled[pooled["job"] == model.job].iloc[0]
    model_rows = single[single["job"].isin(model.runs)]
    half = t.ppf(0.975, 2) * 0.01 / np.sqrt(3)  # of scores a point apart
    assert row["score"] == pytest.approx(model_rows["score"].mean())
    assert row["seeds_low"] == pytest.approx(row["score"] - half)
    assert row["seeds_high"] == pytest.approx(row["score"] + half)
    assert row["examples_low"] == pytest.approx(model_rows["low"].mean())
    below = np.hypot(half, row["score"] - row["examples_low"])
    assert row["low"] == pytest.approx(row["score"] - below)
    assert row["low"] < min(row["seeds_low"], row["examples_low"])
    layers = views.pooled(
        "reconstruction", store.rows("reconstruction", [job.id for job in jobs]), models
    )
    assert layers.groupby("job").size().eq(sample_rows.BLOCKS * 7).all()


def test_charts_show_mean_and_single_seeds(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    single = {"accuracy": store.rows("accuracy", [job.id for job in jobs])}
    pooled = {"accuracy": views.pooled("accuracy", single["accuracy"], models)}
    quantity = views.quantities(pooled)["accuracy"]
    rows = summary(pooled, models, [quantity], single=single)
    assert len(rows) == 5 and [len(runs) for runs in rows["accuracy_runs"]] == [3, 3, 0, 3, 3]
    fig = plots.against_sparsity(rows, models, quantity)
    faint = [trace for trace in fig.data if trace.marker.size == 5]
    assert len(faint) == 4 and all(len(trace.y) == 3 for trace in faint)
    assert "mean of 3 seeds" in "".join(trace.hovertemplate or "" for trace in fig.data)
    assert takeaways.accuracy(pooled["accuracy"], models).startswith("AKR at 70% has")


def assert_declared(tables: Mapping[str, pd.DataFrame]) -> None:
    """Fail if no view declares a table, or if the identity that it declares is not unique.

    The contract tests of measures and methods call this for every table that they return.
    """
    for name, rows in tables.items():
        assert name in views.DECLARED, f"{name}: declare it in a view"
        if (identity := views.DECLARED[name].identity) is not None:
            keys = list(identity)
            assert not (rows.duplicated(keys).any() if keys else len(rows) > 1), f"{name}: {keys}"


def test_every_table_is_declared():
    assert_declared(sample_rows.tables("akr", 0.7) | {"transfer": pd.DataFrame()})


def test_tables_of_single_examples_have_the_rows_of_the_first_seed(study):
    store, jobs = study
    rows = store.rows("prediction", [job.id for job in jobs])
    models = seeds.merge_seeds(models_of(jobs), jobs)
    pooled = views.pooled("prediction", rows, models)
    assert set(pooled["job"]) == {model.job for model in models} < set(rows["job"])
    assert not views.is_averaged("prediction", rows)


def test_a_table_without_a_declaration_is_averaged_if_its_rows_can_be_identified(study):
    _, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    jobs_of = models[-1].runs
    layers = pd.DataFrame(
        {
            "job": [job for job in jobs_of for _ in range(4)],
            "block": [0, 0, 1, 1] * 3,
            "projection": ["query", "key"] * 6,
            "n": range(12),
            "change": [float(seed) for seed in range(3) for _ in range(4)],
        }
    )
    assert seeds.infer_averaging(layers) == Averaging(("projection", "block"))
    pooled = views.pooled("undeclared", layers, models)
    assert len(pooled) == 4
    assert (pooled["change"] == 1).all()
    assert seeds.infer_averaging(layers.drop(columns="block")).identity == ("projection", "n")
    one = pd.DataFrame({"job": jobs_of, "value": [1.0, 2.0, 6.0]})
    assert views.pooled("undeclared", one, models)["value"].tolist() == [3.0]
    for examples in (
        layers.assign(example=0),
        layers.assign(probabilities=[[0.5, 0.5]] * 12),
        layers.drop(columns=["block", "n"]),
    ):
        assert not views.is_averaged("undeclared", examples)


def test_pages_average_tables_or_name_the_seed():
    averaged = {name for name, table in views.DECLARED.items() if table.identity is not None}
    for path in sorted((ROOT / "pages").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r'\.rows\("(\w+)"\)', text)) <= averaged, path.name
        one = re.findall(r'first_seed\("(\w+)"\)', text)
        # values that belong to the examples of one seed, which the page names
        matching = averaged if "caption_seed(" in text else set()
        assert set(one) <= set(views.DECLARED) - averaged | matching, path.name
        # takeaways name the seed of tables that are not averaged
        named = any(each in text for each in ("which_seed(", "caption_seed(", ".takeaway"))
        assert named or not re.search(r"view\.first_seed\(", text), path.name


def test_code_names_only_existing_tables_methods_and_measures():
    tables = set(views.DECLARED)
    known = {*METHODS, *MEASURES}
    missing = []
    for folder in ("pages", "prune_core", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if path.name != "fakes.py":  # defines another method
                entries = re.findall(r"\b(?:METHODS|MEASURES)\[[\"'](\w+)[\"']\]", text)
                missing += [(path.name, entry) for entry in {*entries} - known]
            if folder != "tests":
                read = re.findall(r"\.rows\(\s*\"(\w+)\"", text)
                missing += [(path.name, table) for table in {*read} - tables]
    assert not missing


def test_values_that_differ_between_seeds_are_dropped(study):
    """Counts that all seeds share stay integers; notes and flags of a single seed are dropped."""
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    rows = store.rows("cost", [job.id for job in jobs])
    rows["note"] = [f"Without its {job} dead heads." for job in rows["job"]]
    pooled = views.pooled("cost", rows, models)
    model_rows = pooled[pooled["job"] == models[-1].job]
    assert model_rows["note"].isna().all() and (model_rows["device"] == "cpu").all()
    assert model_rows["batch"].tolist() == [32, 32]
    assert pd.api.types.is_integer_dtype(pooled["batch"])


def test_adversarial_drift_is_averaged_but_not_p_values(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    ids = [job.id for job in jobs]
    rows = store.rows("drift", ids).assign(cosine=lambda each: each["job"] / 100)
    drift = views.pooled("drift_adversarial", rows, models)
    model_rows = drift[drift["job"] == models[-1].job]
    assert len(model_rows) == 2 * sample_rows.BLOCKS
    assert model_rows["cosine"].tolist() == pytest.approx(
        [np.mean(models[-1].runs) / 100] * len(model_rows)
    )
    pooled = views.pooled("accuracy", store.rows("accuracy", ids), models)
    assert pooled.loc[pooled["job"] == models[-1].job, "p_value"].isna().all()
    assert "(mean over 3 seeds)" in takeaways.broken_predictions(pooled, models[-1])


def test_attack_slices_are_averaged(study):
    store, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    outcomes = store.rows("attack_example", [job.id for job in jobs])
    outcomes = outcomes[outcomes["recipe"] == "DeepWordBug"]
    runs = attack_success.slices(outcomes, models[0].jobs, ["negative", "positive"])
    pooled = views.pooled("attack_slice", runs, models)
    model_rows = pooled[(pooled["job"] == models[1].job) & (pooled["slice"] == "positive")].iloc[0]
    single = runs[runs["job"].isin(models[1].runs) & (runs["slice"] == "positive")]
    assert model_rows["success_rate"] == pytest.approx(single["success_rate"].mean())
    assert len(single) == 3
    assert model_rows["n"] == 20, (
        "per seed: the dense model's confidence is joined once per example"
    )
    assert (
        0
        <= model_rows["success_low"]
        <= model_rows["success_rate"]
        <= model_rows["success_high"]
        <= 1
    )


def test_seed_note_names_shown_seed(study):
    _, jobs = study
    models = seeds.merge_seeds(models_of(jobs), jobs)
    assert seeds.seed_note(models) == "seed 0 (one of 3 seeds)"
    assert seeds.means(models) == "mean over 3 seeds"
    single = [model for model in models if not model.runs]
    assert len(single) == 1 and not seeds.seed_note(single) and not seeds.means(single)
    later = seeds.merge_seeds(models_of(jobs[5:]), jobs[5:])
    assert (
        seeds.seed_note([models[-1], later[-1]]) == "the first seed of each model (one of 3 seeds)"
    )


def rows_of(seed: int, dense: np.ndarray, pruned: np.ndarray, texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "job": seed,
            "label": 1,
            "dense": dense.astype(int),
            "pruned": pruned.astype(int),
            "text": texts,
        }
    )


@pytest.mark.parametrize("same", [True, False], ids=["shared examples", "separate examples"])
def test_hierarchical_bootstrap_covers_true_difference(same):
    """In 200 simulated studies of eight seeds, about 95% of intervals cover a loss of 5 points."""
    rng, covered, narrow = np.random.default_rng(0), 0, 0
    for _ in range(200):
        hard = rng.random(150) * 0.2
        parts = []
        for seed in range(8):
            risk = np.clip(
                (hard if same else rng.random(150) * 0.2) - 0.05 + 0.03 * rng.normal(), 0, 1
            )
            texts = [f"{0 if same else seed} {i}" for i in range(150)]
            parts.append(rows_of(seed, np.ones(150, bool), rng.random(150) >= risk, texts=texts))
        truth = -np.mean(
            [
                np.clip(u * 0.2 - 0.05 + 0.03 * z, 0, 1)
                for u, z in zip(rng.random(4000), rng.normal(size=4000), strict=True)
            ]
        )
        low, high = np.quantile(seeds.hierarchical(pd.concat(parts)), (0.025, 0.975))
        covered += low <= truth <= high
        one = seeds.hierarchical(parts[0])
        narrow += np.quantile(one, 0.025) <= truth <= np.quantile(one, 0.975)
    assert covered >= 180 and narrow < covered, "the interval of a single seed is too narrow"


def test_attacks_are_paired_by_seed_and_example():
    def outcomes(seed: int, letters: str) -> pd.DataFrame:
        names = {"s": "success", "f": "failed", "x": "skipped"}
        return pd.DataFrame(
            {
                "job": seed,
                "seed": seed,
                "example": range(len(letters)),
                "text": [f"t{i}" for i in range(len(letters))],
                "outcome": [names[letter] for letter in letters],
            }
        )

    dense = pd.concat([outcomes(0, "ssff"), outcomes(1, "ffff")])
    pruned = pd.concat([outcomes(0, "sssx"), outcomes(1, "sfff")])
    paired = attack_success.success_rate(dense, pruned)
    assert paired.n == 7
    assert paired.dense == pytest.approx(2 / 7)
    assert paired.pruned == pytest.approx(4 / 7)
    assert paired.low <= paired.difference <= paired.high
    other_seed = attack_success.success_rate(outcomes(0, "ssff"), outcomes(2, "sssf"))
    assert other_seed.n == 4, "a model of another seed on the same examples"


def test_report_has_one_row_per_model(study, tmp_path):
    from prune_core.cli.report import write_report

    store, jobs = study
    write_report(store, [job.id for job in jobs], tmp_path / "r.html")
    table = (tmp_path / "r.html").read_text().split("All metrics")[1].split("</table>")[0]
    assert table.count("<tr>") == 6 and "Values are the mean over 3 seeds." in table
    assert "· seed" not in table, "no row for a single run"


def test_seed_without_effect_is_noted(tmp_path) -> None:
    from prune_core.data.examples import DataSource
    from prune_core.experiments.data_check import DataReader
    from prune_core.experiments.experiment import Experiment
    from prune_core.methods import METHODS
    from prune_core.models.checkpoints import loading
    from prune_core.plugins import build

    rows = [
        f"film number {count} lasts for more than nine words in "
        f"all,{('negative', 'positive')[count % 2]}"
        for count in range(40)
    ]
    (tmp_path / "own.csv").write_text("text,label\n" + "\n".join(rows))
    tokenizer = loading.load("demo")[1]
    model_rows = DataSource(str(tmp_path / "own.csv"))  # its pool is split off with the seed
    for source, seed, size, expected in (
        (DataSource("demo"), 1, 999, True),
        (DataSource("demo"), 0, 999, False),
        (DataSource("demo"), 1, 99, False),
        (model_rows, 1, 999, False),
        (DataSource(model_rows.task, calibration=model_rows.task), 1, 999, True),
    ):
        experiment = Experiment(
            "demo",
            source,
            build(METHODS, "magnitude"),
            measures=(),
            calibration_size=size,
            evaluation_size=8,
            seed=seed,
        )
        notes = DataReader(
            experiment, ("negative", "positive"), "classification", tokenizer=tokenizer
        )().notes
        assert any("texts as seed 0, which are all there are" in note for note in notes) == expected
