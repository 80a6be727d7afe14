"""Published results: values, validation, comparison with studies, and the bundled studies."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import sample_rows
from streamlit.testing.v1 import AppTest

from prune_core import PruneError, plots, views
from prune_core.analysis import published, published_comparison
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.published import exhibits
from prune_core.analysis.published_comparison import ComparedStudy, points
from prune_core.analysis.setup_differences import differences
from prune_core.cli.arguments import main
from prune_core.experiments.stage_keys import experiment_key
from prune_core.experiments.study import bundled_studies, load
from prune_core.models.checkpoints.folders import BUNDLED
from prune_core.paths import ROOT
from prune_core.queue import jobs
from prune_core.store.job import Status
from prune_core.store.store import Store

APP = str(ROOT / "app.py")
METRICS = ("accuracy", "under_attack", "success_rate")
KPRUNE = {"keep_one_head": True, "adapt": True, "mu": 64.0}


def published_value(key: str, metric: str, **where: object) -> float:
    rows = exhibits()[key].figures
    for column, value in {"metric": metric, **where}.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows["value"].iloc[0]


def test_published_values_match_the_papers():
    akr = [
        published_value("akr-table-1", metric, method="AKR", sparsity=0.875, task="sst2")
        for metric in METRICS
    ]
    assert akr == pytest.approx([0.856, 0.376, 0.561])
    assert published_value(
        "akr-table-3", "under_attack", method="RMC", task="imdb"
    ) == pytest.approx(0.167)
    assert (
        published_value("akr-table-4", "distance", method="AKR", layer=12, texts="adversarial")
        == 0.0349
    )
    assert published_value(
        "akr-table-5", "accuracy", pattern="32:64", task="ag_news"
    ) == pytest.approx(0.932)
    assert published_value(
        "akr-attacks", "under_attack", attack="BERT-Attack", sparsity=0.75
    ) == pytest.approx(0.5057)
    assert published_value(
        "kprune-curves",
        "answer_f1",
        model="BERT-base",
        task="squad",
        method="Kwon et al.",
        sparsity=0.8,
    ) == pytest.approx(0.159)
    assert published_value("kprune-gaps", "lead", model="BERT-base", task="squad") == 58.02
    assert (
        published_value("kprune-speedups", "speedup", method="K-prune", task="geometric mean")
        == 2.22
    )
    assert [key for key, exhibit in exhibits().items() if exhibit.digitised] == ["kprune-curves"]


def test_published_success_rates_are_consistent_with_three_exceptions():
    for key in ("akr-table-1", "akr-table-3", "akr-table-5"):
        rows = exhibits()[key].figures.pivot_table(
            "value", ["method", "sparsity", "task", "pattern"], "metric"
        )
        gap = rows["success_rate"] - (rows["accuracy"] - rows["under_attack"]) / rows["accuracy"]
        assert {index[:3] for index in gap[gap.abs() > 0.002].index} == (
            {("RobusT", 0.5, "sst2"), ("Bag-of-Tricks", 0.875, "sst2"), ("RMC", 0.875, "ag_news")}
            if key == "akr-table-1"
            else set()
        )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"digitised": None}, "'digitised' is missing"),
        ({"columns": ["method", "sparsity", "luck"]}, "'luck' is neither an attribute"),
        ({"rows": [["AKR", 0.5]]}, "2 values for 3 columns"),
        ({"rows": [["AKR", 0.5, 188.0]]}, "out of range for its unit"),
        ({"rows": [["AKR", 0.5, 88.0], ["AKR", 0.5, 87.0]]}, "is duplicated"),
        ({"unit": "points"}, "unit must be"),
    ],
)
def test_invalid_file_is_reported(tmp_path, change, message):
    exhibit = {
        "key": "t",
        "number": "",
        "title": "",
        "across": "sparsity",
        "unit": "percent",
        "note": "",
        "digitised": False,
        "facts": {},
        "columns": ["method", "sparsity", "accuracy"],
        "rows": [["AKR", 0.5, 88.0]],
    }
    file = tmp_path / "paper.json"
    file.write_text(
        json.dumps({"paper": "", "title": "", "setup": {}, "exhibits": [exhibit | change]})
    )
    with pytest.raises(PruneError, match=f"paper.json, t: .*{message}"):
        published.read(file)


def study(runs: list[tuple[str, str, float, int, float, float]], **plan: object) -> ComparedStudy:
    """Return a study of runs (method, label, sparsity, seed, accuracy, speed-up)."""
    store = Store()
    for method, label, sparsity, seed, accuracy, speedup in runs:
        options = {
            "sparsity": sparsity,
            **(KPRUNE if method in ("kprune", "kwon") else {"epsilon": 0.01}),
        }
        experiment = {
            "checkpoint": "demo",
            "source": {"task": "demo"},
            "calibration_size": 256,
            "measures": [],
            "seed": seed,
            "max_length": 128,
            "method": None if method == "dense" else {"name": method, "options": options},
            **plan,
        }
        id = store.submit(
            experiment, label, f"{method}{sparsity}{seed}", "s", "cpu", worker="nobody"
        )
        facts = {"calibration_n": 256, "evaluation_n": 440, "device_title": "CPU"}
        accuracy_row = {
            "metric": "accuracy",
            "score": accuracy,
            "low": accuracy - 0.1,
            "high": accuracy + 0.1,
            "n": 440,
        }
        differences_row = {
            "difference": accuracy - 0.9,
            "difference_low": 0.0,
            "difference_high": 0.0,
            "agreement": 1.0,
        }
        cost_row = {"model": "pruned", "speedup_measured": speedup, "sparsity": sparsity}
        store.add_rows(
            id,
            {
                "accuracy": pd.DataFrame([accuracy_row | differences_row]),
                "cost": pd.DataFrame([cost_row]),
            },
            "accuracy",
            seconds=1.0,
            facts=facts,
        )
        store.update(id, status=Status.DONE)
    stored_jobs = store.jobs("s")
    tables = {
        name: store.rows(name, [job.id for job in stored_jobs])
        for name in ("accuracy", "cost", "attack")
    }
    return ComparedStudy(
        stored_jobs, models_of(stored_jobs), tables, quantities=views.quantities(tables)
    )


def drawn_points(key: str, metric: str, compared: ComparedStudy, **where: object) -> pd.DataFrame:
    exhibit = exhibits()[key]
    rows = exhibit.figures
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return points(exhibit, rows, metric, study=compared)


def test_seeds_are_averaged_with_their_range():
    two_seeds = [
        ("akr", "AKR 50%", 0.5, 0, 0.88, 1.0),
        ("akr", "AKR 50% · seed 1", 0.5, 1, 0.90, 1.0),
    ]
    compared = study([*two_seeds, ("akr", "AKR 70%", 0.7, 0, 0.8, 1.0)])
    table = drawn_points("akr-table-1", "accuracy", compared, task="sst2")
    ours = table[table["is_study"]].set_index("x")
    assert ours.loc[0.5, ["value", "low", "high", "seeds"]].tolist() == pytest.approx(
        [0.89, 0.88, 0.90, 2]
    )
    assert ours.loc[0.7, ["value", "low", "high", "seeds"]].tolist() == pytest.approx(
        [0.8, 0.7, 0.9, 1]
    )
    assert published_comparison.sample(table) == "1–2 seeds, n = 440 each"
    assert table.loc[
        ~table["is_study"] & (table["series"] == "AKR"), "value"
    ].tolist() == pytest.approx([0.902, 0.8831, 0.856])


def test_variants_of_a_method_are_not_averaged():
    compared = study(
        [("akr", "AKR 50%", 0.5, 0, 0.88, 1.0), ("akr", "AKR 50% · job 2", 0.5, 1, 0.80, 1.0)]
    )
    other = compared.jobs[1].experiment | {
        "method": {
            "name": "akr",
            "options": {"sparsity": 0.5, "epsilon": 0.1},
            "removes": "weights",
        }
    }
    jobs = [compared.jobs[0], replace(compared.jobs[1], experiment=other)]
    compared = replace(compared, jobs=jobs, models=models_of(jobs))
    table = drawn_points("akr-table-1", "accuracy", compared, task="sst2")
    assert sorted(table.loc[table["is_study"], "series"]) == ["AKR", "AKR (epsilon 0.1)"]


def test_weight_and_flops_sparsity_are_not_mixed():
    dense, akr = ("dense", "Dense", 0.0, 0, 0.9, 1.0), ("akr", "AKR 50%", 0.5, 0, 0.89, 1.0)
    compared = study([dense, akr, ("kprune", "K-prune −50% FLOPs", 0.5, 0, 0.88, 2.0)])
    for key, task, ours, other in (
        ("akr-table-1", "sst2", "AKR", "K-prune"),
        ("kprune-curves", "sst2", "K-prune", "AKR"),
    ):
        table = drawn_points(key, "accuracy", compared, task=task)
        assert set(table.loc[table["is_study"], "series"]) == {"Dense", ours}
        message = differences(exhibits()[key], exhibits()[key].figures, compared)
        assert any(
            sentence.startswith("**Sparsity.**") and other in sentence for sentence in message
        )


def test_speedup_and_lead_use_the_papers_budgets():
    runs = [
        (method, f"{title} −{sparsity:.0%} FLOPs", sparsity, 0, accuracy, 1 / (1 - sparsity))
        for method, title, loss in (("kprune", "K-prune", 0.05), ("kwon", "Kwon et al.", 0.5))
        for sparsity in (0.5, 0.8)
        for accuracy in [0.9 - loss * sparsity]
    ]
    compared = study(runs)
    speedups = drawn_points("kprune-speedups", "speedup", compared)
    speedups = speedups[speedups["is_study"]]
    assert speedups[["series", "x"]].values.tolist() == [["K-prune", "the bundled film reviews"]]
    assert speedups["value"].iloc[0] == pytest.approx(2.0), "at 80% the loss is four points"
    lead = drawn_points("kprune-gaps", "lead", compared, model="BERT-base")
    assert lead.loc[lead["is_study"], "value"].tolist() == pytest.approx([36.0])


def test_matching_study_has_few_differences():
    exhibit = exhibits()["akr-table-1"]
    figures = exhibit.figures[exhibit.figures["task"] == "sst2"]
    runs = [("akr", "AKR 50%", 0.5, seed, 0.88, 1.0) for seed in range(5)]
    compared = study(runs, checkpoint="textattack/bert-base-uncased-SST-2", source={"task": "sst2"})
    compared = replace(
        compared,
        jobs=[replace(job, facts=job.facts | {"evaluation_n": 872}) for job in compared.jobs],
    )
    sentences = {
        sentence.split(".**")[0].strip("*"): sentence
        for sentence in differences(exhibit, figures, compared)
    }
    assert set(sentences) == {"Initial checkpoint", "Attack", "Options of AKR"}
    assert (
        sentences["Options of AKR"]
        == "**Options of AKR.** Paper: epsilon 0.0001; this study: epsilon 0.01."
    )


def test_differences_name_both_sides():
    store = Store()
    sample_rows.fill(store, 40)
    stored_jobs = store.jobs()
    tables = {
        name: store.rows(name, [job.id for job in stored_jobs]) for name in ("accuracy", "attack")
    }
    compared = ComparedStudy(
        stored_jobs, models_of(stored_jobs), tables, quantities=views.quantities(tables)
    )
    message = "\n".join(
        differences(exhibits()["akr-table-1"], exhibits()["akr-table-1"].figures, compared)
    )
    for part in (
        "BERT-base; this study: the checkpoint demo",
        "SST-2; this study: the bundled film reviews",
        "872 examples; this study: 40 examples",
        "TextFooler; this study: TextFooler (MiniLM): word neighbors come from a bundled table",
        "872 examples; this study: 20 examples",
        "a mean of 5 seeds; this study: 1 seed",
    ):
        assert part in message
    attacked = drawn_points("akr-table-1", "under_attack", compared, task="sst2")
    assert set(attacked.loc[attacked["is_study"], "series"]) == {
        "Dense",
        "Magnitude",
        "SparseGPT",
        "AKR",
    }
    assert not drawn_points("akr-attacks", "under_attack", compared, attack="BERT-Attack")[
        "is_study"
    ].any(), "results of another attack are not used"


@pytest.mark.parametrize("key", exhibits())
@pytest.mark.parametrize("dark", [False, True])
def test_every_exhibit_is_drawn_without_study(key, dark):
    exhibit, empty = exhibits()[key], ComparedStudy([], [], {"accuracy": pd.DataFrame()}, {})
    for metric in dict.fromkeys(exhibit.figures["metric"]):
        table = points(exhibit, exhibit.figures, metric, study=empty)
        chart = plots.published_comparison(table, published.AXES[metric], exhibit.against, dark)
        assert len(chart.data) and all("open" in trace.marker.symbol for trace in chart.data)
        edge = chart.layout.xaxis.range and chart.layout.xaxis.range[1]
        assert all(name.x == edge for name in chart.layout.annotations), (
            "names are placed outside the plot area"
        )
    assert differences(exhibit, exhibit.figures, empty) == []


def test_distances_of_original_and_adversarial_examples():
    compared = study([("akr", "AKR 50%", 0.5, 0, 0.88, 1.0)])
    rows = pd.DataFrame(
        [
            {"job": 1, "method": "akr", "pooling": "cls", "block": block, "cosine": 0.9, "n": 30}
            for block in range(6)
        ]
    )
    compared = replace(
        compared,
        tables={**compared.tables, "drift": rows, "drift_adversarial": rows.assign(cosine=0.8)},
    )
    table = drawn_points("akr-table-4", "distance", compared)
    ours = table[table["is_study"]]
    assert ours.groupby("adversarial")["value"].mean().tolist() == pytest.approx([0.1, 0.2])
    assert sorted(set(ours["x"])) == list(range(1, 7))


# bundled studies


@pytest.mark.parametrize(
    "name",
    [
        "akr-headline",
        "akr-mini",
        "akr-table1",
        "baselines",
        "combinations",
        "kprune-curves",
        "kprune-mini",
    ],
)
def test_bundled_studies_load_offline(name, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    plan = load(Path(name))
    assert bundled_studies()[name] and len({experiment_key(each) for each in plan}) == len(plan)
    assert ({each.checkpoint for each in plan} <= set(BUNDLED)) == (
        name not in ("akr-table1", "kprune-curves")
    )


def test_full_studies_use_the_papers_samples():
    plan = load(Path("akr-table1"))
    assert {(each.source.task, each.evaluation_size) for each in plan} == {
        ("sst2", 0),
        ("ag_news", 500),
        ("imdb", 500),
    }
    assert {each.seed for each in plan} == set(range(5))
    assert {0.3, 0.5, 0.875} <= {each.method.sparsity for each in plan if each.method}
    assert {each.study for each in plan} == {
        "AKR Table 1, SST-2",
        "AKR Table 1, AG News",
        "AKR Table 1, IMDB",
    }
    curves = load(Path("kprune-curves"))
    assert len({each.source.task for each in curves}) == 6
    assert all(each.calibration_size >= 1024 for each in curves)


def test_headline_study_alternates_initial_checkpoints():
    plan = load(Path("akr-headline"), {"checkpoints": ["plain", "robust"], "task": "mine.csv"})
    assert [each.checkpoint for each in plan[:26]] == ["plain"] * 13 + ["robust"] * 13
    assert {each.seed for each in plan[:26]} == {0}
    assert len(plan) == 26 + 2 * 2 * 10
    assert {(each.source.task, each.study) for each in plan} == {("mine.csv", "AKR headline")}
    assert len(load(Path("akr-mini"))) == len(load(Path("akr-mini"), {"checkpoints": ["demo"]})), (
        "a single initial checkpoint"
    )
    with pytest.raises(PruneError, match="checkpoints is 'demo'; write a list"):
        load(Path("akr-mini"), {"checkpoints": "demo"})


def test_sweep_command_plans_and_queues_bundled_study(monkeypatch, capsys):
    monkeypatch.setattr(jobs, "ensure_worker", lambda *_: None)
    assert main(["studies"]) == 0 and "akr-mini" in capsys.readouterr().out
    assert main(["sweep", "akr-mini", "--plan", "--set", "seeds=[4]"]) == 0
    message = capsys.readouterr().out
    assert "AKR 87.5% · seed 4" in message
    assert "10 experiments; none was run" in message
    assert not Store().jobs()
    assert (
        main(["sweep", "kprune-mini", "--queue", "--set", "seeds=[0]", "--set", "study=Mine"]) == 0
    )
    assert "'Mine': 11 jobs queued" in capsys.readouterr().out
    assert {job.study for job in Store().jobs()} == {"Mine"}
    assert main(["sweep", "akr-mini", "--set", "seeds=[0"]) == 2


@pytest.mark.parametrize(
    "text, message", [("sweeps: [sst2]\n", "keys and values"), ("sweeps: sst2\n", "write a list")]
)
def test_invalid_sweeps_are_reported(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(PruneError, match=message):
        load(tmp_path / "a.yaml")


# pages


def open_page(monkeypatch, page: str, **query: str) -> AppTest:
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    at = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    at.run().switch_page(f"pages/{page}.py").run()
    assert not at.exception, at.exception
    return at


def test_compare_page_shows_study_and_paper(monkeypatch):
    sample_rows.fill(Store(), 40)
    at = open_page(monkeypatch, "compare")
    at.segmented_control(key="choice-compare-section").set_value("paper").run()
    assert at.selectbox(key="choice-exhibit").value == "akr-table-1"
    assert any("872 examples; this study: 40 examples" in text.value for text in at.markdown)
    at.selectbox(key="choice-exhibit").set_value("kprune-speedups").run()
    assert not at.exception and any("no results to show" in text.value for text in at.caption)


def test_prune_page_queues_bundled_study(monkeypatch):
    at = open_page(monkeypatch, "prune")
    at.selectbox(key="bundled").set_value("kprune-mini").run()
    at.button(key="queue-bundled").click().run()
    assert not at.exception and len(Store().jobs("K-prune mini")) == 33
