"""Former names of measures, options, tables, commands, keys of files and links keep working."""

import json
import sqlite3
from dataclasses import fields
from pathlib import Path

import fakes
import pytest
from test_cli import run
from test_measures import COLUMNS

from prune_core import aliases
from prune_core.experiments.experiment import Experiment
from prune_core.experiments.stage_keys import experiment_key
from prune_core.experiments.study import Sweep, load
from prune_core.measures import MEASURES
from prune_core.methods import METHODS
from prune_core.plugins import build
from prune_core.store import former_rows, schema
from prune_core.store.job import Status
from prune_core.store.store import Store

FORMER = {
    "method": {"name": "kprune", "options": {"then": "akr", "then_sparsity": 0.4}},
    "measures": [
        {"name": "forms", "options": {"files": "ONNX int8", "attacked": 2}},
        {"name": "doctor", "options": {"sentences": 8}},
        {"name": "drift", "options": {"sentences": 8, "neighbours": 2}},
        {"name": "attack", "options": {"never": "good", "examples": 3}},
    ],
}

# of tables that methods return: test_methods.py, test_structured.py and test_targets.py check
# the columns
COLUMNS_OF_METHODS = {
    "budget": "length total allowed realised trials latency speedup deviation other_load note",
    "prune": "block projection sparsity damping seconds",
    "unit": "block unit_type unit kept predictive representational score threshold",
}


def test_every_alias_names_an_existing_measure_option_or_key():
    assert set(aliases.MEASURES.values()) <= set(MEASURES)
    assert set(aliases.STUDY_KEYS.values()) <= {spec.name for spec in fields(Sweep)}
    options = {name: {spec.name for spec in fields(kind)} for name, kind in METHODS.items()}
    assert set(aliases.METHOD_OPTIONS.values()) <= options["kprune"]
    options |= {name: {spec.name for spec in fields(kind)} for name, kind in MEASURES.items()}
    for name, renamed in aliases.OPTIONS.items():
        assert set(renamed.values()) <= options[name]
        assert not set(renamed) & options[name] - {*renamed.values()}


def test_every_query_alias_names_a_current_choice_of_a_page():
    pages = Path(__file__).resolve().parent.parent / "pages"
    code = "".join(file.read_text() for file in pages.rglob("*.py"))
    for former, name in aliases.QUERY_PARAMETERS.items():
        assert f'"{name.removeprefix("limit-")}"' in code and former not in aliases.QUERY_VALUES
    assert set(aliases.QUERY_VALUES) <= {*aliases.QUERY_PARAMETERS.values(), "seeds"}
    for values in aliases.QUERY_VALUES.values():
        assert all(f'"{value}"' in code for value in values.values())
        assert not set(values) & {*values.values()}, "no former value is a current one"


def test_query_parameters_are_translated_with_their_values():
    former = {"closer": "figures", "models": "2,6", "seeds": "apart", "turned": "both"}
    current = {
        "compare-section": "values",
        "models": "2,6",
        "seeds": "separate",
        "attack-group": "both",
    }
    assert aliases.current_query(former) == current == aliases.current_query(current)


def test_an_experiment_under_former_names_is_the_same_with_the_same_key():
    former = Experiment.from_dict(FORMER)
    current = Experiment(
        method=build(METHODS, "kprune", {"second_stage": "akr", "second_stage_sparsity": 0.4}),
        measures=(
            build(MEASURES, "formats", {"formats": "ONNX int8", "attack_examples": 2}),
            build(MEASURES, "quantization", {"examples": 8}),
            build(MEASURES, "drift", {"examples": 8, "neighbors": 2}),
            build(MEASURES, "attack", {"protected_words": "good", "examples": 3}),
        ),
    )
    assert former == current and experiment_key(former) == experiment_key(current)


def test_a_study_file_with_former_keys_is_read(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(
        "about: An old file\nstarts: [demo, demo-robust]\nmethods: [{kprune: {then: akr}}]\n"
        "measures: [accuracy, forms]\noptions: {forms: {attacked: 2}}\n"
    )
    experiments = load(file)
    assert [experiment.checkpoint for experiment in experiments] == ["demo"] * 2 + [
        "demo-robust"
    ] * 2
    assert experiments[1].method.second_stage == "akr"
    assert experiments[1].measures[1].attack_examples == 2


def test_tables_and_stages_of_an_older_store_have_current_names(home):
    plan = {
        **Experiment.from_dict(FORMER).to_dict(),
        **FORMER,
        "measures": [{"name": "forms", "options": {}}],
    }
    table = {
        "kinds": {"model": "any", "form": "any"},
        "rows": [{"model": "dense", "form": "ONNX int8"}],
    }
    home.mkdir()
    db = sqlite3.connect(home / schema.FILE)
    db.executescript(";".join(schema.MIGRATIONS[:2]))
    db.execute(
        "INSERT INTO job (study, label, key, experiment, device, status, created, done, seconds) "
        "VALUES ('S', 'old', 'k', ?, 'cpu', 'failed', 1.0, '[\"prune\", \"forms\"]', "
        "'{\"forms\": 1.0}')",
        (json.dumps(plan),),
    )
    for name in ("prune", "forms"):
        db.execute("INSERT INTO rows VALUES (1, ?, ?)", (name, json.dumps(table)))
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()
    weights = home / "jobs" / "1" / "checkpoint"
    weights.mkdir(parents=True)
    (weights / "config.json").write_text("{}")
    store = Store()
    job = store.job(1)
    assert job.done == ("prune", "formats") and job.seconds == {"formats": 1.0}
    assert job.experiment["measures"][0]["name"] == "formats"
    assert store.tables(1) == ["prune", "formats"] == list(store.records(1))
    assert store.rows("formats", [1])["format"].tolist() == ["ONNX int8"]
    assert (store.weights(job) / "config.json").is_file() and store.has_weights(1)
    [backup] = home.glob("*.version2.sqlite")
    copy = sqlite3.connect(backup)
    assert copy.execute("SELECT COUNT(*) FROM rows").fetchone() == (2,)
    copy.close()


def test_every_column_alias_names_a_column_of_its_table():
    for table, renamed in aliases.COLUMNS.items():
        columns = set((COLUMNS | COLUMNS_OF_METHODS)[table].split())
        assert set(renamed.values()) <= columns, table
        assert not set(renamed) & columns, f"{table}: a former column is still in use"


@pytest.mark.parametrize("table", aliases.COLUMNS)
def test_tables_with_former_columns_are_read_under_current_names(table):
    renamed = aliases.COLUMNS[table]
    stored = {"kinds": dict.fromkeys(renamed, "float64"), "rows": [dict.fromkeys(renamed, 1.0)]}
    assert list(former_rows.decode(table, json.dumps(stored))) == [*renamed.values()]


@pytest.fixture
def fake(monkeypatch):
    fakes.install(monkeypatch.setattr)
    yield
    fakes.remove()


def test_the_command_line_accepts_former_names(fake, capsys):
    assert run("run", "--measure", "draw") == 0
    assert Store().job(1).status == Status.DONE
    assert run("remake", 1) == 2 and "dense baseline" in capsys.readouterr().err
    assert run("run", "--measure", "forms", "--set", "forms.files=nothing") == 2
    assert "formats" in capsys.readouterr().err
