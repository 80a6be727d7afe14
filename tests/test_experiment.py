"""Experiments as data, and their execution: stages, seeds, resuming, memory."""

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import fakes
import pandas as pd
import pytest
import tiny
import torch

from prune_core import Cancelled, PruneError
from prune_core.data.examples import DataSource
from prune_core.experiments import content_hashes
from prune_core.experiments.experiment import Experiment, estimate_seconds, stages
from prune_core.experiments.run import run
from prune_core.experiments.stage_keys import experiment_key
from prune_core.measures import MEASURES
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report
from prune_core.queue import jobs
from prune_core.store.results import Results
from prune_core.store.tables import write_table
from prune_core.versions import versions


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    fakes.install(monkeypatch.setattr)
    yield
    fakes.remove()


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Names of the stages called so far."""
    monkeypatch.setenv(fakes.CALLS, str(tmp_path / "calls"))
    return lambda: (tmp_path / "calls").read_text().split() if (tmp_path / "calls").exists() else []


def run_in(folder, experiment, report=no_report):
    results = Results(folder, {name: name for name in stages(experiment)})
    return run(experiment, results, folder, report)


def rows(experiment, folder):
    return {stage.name: stage.rows[stage.name] for stage in run_in(folder, experiment)}


@pytest.mark.parametrize("name", [None, *METHODS])
def test_an_experiment_round_trips_through_json(name):
    method = build(METHODS, name, {"sparsity": 0.7}) if name else None
    experiment = Experiment(
        method=method, measures=tuple(kind() for kind in MEASURES.values()), seed=3, study="a"
    )
    copy = Experiment.from_dict(json.loads(json.dumps(experiment.to_dict())))
    assert (
        copy == experiment
        and experiment_key(copy) == experiment_key(experiment)
        and copy.label == experiment.label
    )


def test_the_key_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = experiment_key(fakes.experiment())
    (tmp_path / "new").touch()
    assert experiment_key(fakes.experiment()) == before


def test_the_key_changes_with_what_determines_the_rows(tmp_path):
    experiment = fakes.experiment()
    assert experiment_key(fakes.experiment(study="another")) == experiment_key(experiment)
    assert experiment_key(fakes.experiment(seed=1)) != experiment_key(experiment)
    assert experiment_key(fakes.experiment(method=fakes.Halve(sparsity=0.6))) != experiment_key(
        experiment
    )
    file = tmp_path / "mine.csv"
    file.write_text("text,label\na,0\n")
    before = experiment_key(experiment_on(file))
    file.write_text("text,label\na,0\nb,1\n")
    assert experiment_key(experiment_on(file)) != before


def experiment_on(file):
    return Experiment(source=DataSource(str(file)), measures=(fakes.Draw(),))


def test_the_key_ignores_the_modification_time_of_a_file(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("text,label\na,0\n")
    before = experiment_key(experiment_on(file))
    os.utime(file, (1, 1))
    assert experiment_key(experiment_on(file)) == before


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "new"])
def test_the_key_changes_with_the_content_at_equal_size_and_time(tmp_path, monkeypatch, cached):
    if cached:
        monkeypatch.setattr(content_hashes, "TICK", 0)  # remember the hash of a new file at once
    file = tmp_path / "mine.csv"
    file.write_text("text,label\na,0\n")
    os.utime(file, (1, 1))
    before = experiment_key(experiment_on(file))
    if cached:
        time.sleep(0.05)  # longer than a tick of the file system's clock
    file.write_text("text,label\nb,0\n")
    os.utime(file, (1, 1))
    assert experiment_key(experiment_on(file)) != before
    file.write_text("text,label\na,0\n")
    assert experiment_key(experiment_on(file)) == before


def test_a_file_is_hashed_once(tmp_path, monkeypatch):
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda *arguments: read.append(arguments) or digest(*arguments)
    )
    monkeypatch.setattr(content_hashes, "TICK", -(10**12))
    monkeypatch.setattr(content_hashes, "_hashes", {})
    file = tmp_path / "mine.csv"
    file.write_text("text,label\na,0\n")
    assert content_hashes.hash_data(str(file)) == content_hashes.hash_data(str(file))
    assert len(read) == 1


def test_a_copied_checkpoint_has_equal_hashes_despite_unrelated_files(tmp_path):
    first, copy = tmp_path / "a", tmp_path / "b"
    tiny.model().save_pretrained(first)
    tiny.tokenizer().save_pretrained(first)
    shutil.copytree(first, copy, copy_function=shutil.copyfile)  # with new modification times
    (copy / "README.md").write_text("# Mine")
    (copy / ".git").mkdir()
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json", "rng_state_0.pth"):
        (copy / name).write_bytes(b"0")
    hashes = content_hashes.hash_checkpoint(str(first))
    assert content_hashes.hash_checkpoint(str(copy)) == hashes
    names = {name for name, _ in hashes}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    (copy / "tokenizer.json").rename(copy / "vocab.json")
    assert content_hashes.hash_checkpoint(str(copy)) != hashes, "file names are hashed too"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_every_file_that_is_loaded_is_hashed(tmp_path, name):
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    before = content_hashes.hash_checkpoint(str(tmp_path))
    content = bytearray((tmp_path / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / name).write_bytes(content)
    assert content_hashes.hash_checkpoint(str(tmp_path)) != before


def test_the_base_model_of_an_adapter_is_hashed(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tiny.model().save_pretrained(base)
    adapter.mkdir()
    for name in (str(base), "somebody/base-elsewhere"):
        config = json.dumps({"base_model_name_or_path": name})
        (adapter / "adapter_config.json").write_text(config)
        files = [file for file, _ in content_hashes.hash_checkpoint(str(adapter))]
        assert files == ["adapter_config.json", "config.json", "model.safetensors"][: len(files)]
        assert len(files) == (3 if name == str(base) else 1)


def test_the_demo_hashes_its_reviews_and_hub_names_have_no_hashes():
    assert [name for name, _ in content_hashes.hash_data("demo")] == ["reviews.csv"]
    hashed = content_hashes.hash_data("demo-retrieval")
    assert [name for name, _ in hashed] == ["corpus.jsonl", "qrels/test.tsv", "queries.jsonl"]
    assert content_hashes.hash_data("sst2") == content_hashes.hash_data("") == []
    assert content_hashes.hash_checkpoint("distilbert/distilbert-base-uncased") == []


def test_splits_of_a_saved_data_set_are_hashed_and_other_folders_are_not(tmp_path):
    pytest.importorskip("datasets")
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "data")
    names = [name for name, _ in content_hashes.hash_data(str(tmp_path / "data"))]
    assert {"dataset_dict.json", "test/state.json", "train/state.json"} <= set(names)
    assert any(name.startswith("test/data-") for name in names)
    assert content_hashes.hash_data(str(tmp_path)) == []


def test_local_paths_become_absolute(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text("text,label\n")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(source=DataSource("mine.csv"), measures=(fakes.Draw(),))
    assert experiment.source.task == str(tmp_path / "mine.csv")
    assert experiment.checkpoint == "demo"


def test_labels_of_runs():
    assert fakes.experiment(method=None).label == "Dense"
    assert fakes.experiment(method=fakes.Halve(sparsity=0.7), seed=2).label == "Halve 70% · seed 2"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"calibration_size": 0}, "calibration_size is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"measures": (fakes.Draw(), fakes.Draw())}, "twice"),
        ({"method": None, "measures": ()}, "nothing to do"),
    ],
)
def test_invalid_experiments_raise(options, message):
    with pytest.raises(PruneError, match=message):
        Experiment(**{"measures": (fakes.Draw(),), **options})


def test_stages_put_slow_measures_last():
    assert stages(fakes.experiment(fakes.Nap(), fakes.Draw())) == ["prune", "draw", "nap"]
    assert stages(fakes.experiment(fakes.Nap(), method=None)) == ["nap"]


def test_a_measure_that_reads_another_follows_and_requires_it():
    drift, attack = (
        build(MEASURES, name, options)
        for name, options in (("drift", {"adversarial": True}), ("attack", {}))
    )
    assert stages(Experiment(measures=(drift, attack))) == ["attack", "drift"]
    assert stages(Experiment(measures=(MEASURES["drift"](), attack))) == ["drift", "attack"]
    with pytest.raises(PruneError, match="add the measure attack"):
        Experiment(measures=(drift,))


class Reader(fakes.Draw):
    reads = "hungry"

    def measure(self, pair, report):
        return {"draw": pair.rows["hungry"]}


def test_a_measure_reads_the_same_rows_if_the_other_was_done_before(tmp_path):
    experiment = fakes.experiment(fakes.Hungry(fits=64), Reader())
    done = {stage.name: stage.rows for stage in run_in(tmp_path, experiment)}
    assert done["draw"]["draw"].equals(done["hungry"]["hungry"])
    shutil.rmtree(tmp_path / "draw")
    write_table(pd.DataFrame([{"batch": 7}]), tmp_path / "hungry" / "hungry.parquet")
    (last,) = run_in(tmp_path, experiment)
    assert last.rows["draw"]["batch"].tolist() == [7]


def test_an_experiment_gives_the_same_rows_when_resumed(tmp_path, calls):
    experiment = fakes.experiment(fakes.Draw(), fakes.Hungry(fits=64))
    first, second = rows(experiment, tmp_path / "a"), rows(experiment, tmp_path / "b")
    for name in ("draw", "hungry"):
        shutil.rmtree(tmp_path / "a" / name)
    resumed = rows(experiment, tmp_path / "a")
    pd.testing.assert_frame_equal(first["draw"], second["draw"])
    pd.testing.assert_frame_equal(first["draw"], resumed["draw"])
    assert list(resumed) == ["draw", "hungry"] and calls().count("prune") == 2
    assert not first["draw"].equals(rows(fakes.experiment(seed=1), tmp_path / "c")["draw"])


def test_a_missing_checkpoint_is_pruned_again(tmp_path):
    experiment = fakes.experiment()
    assert list(rows(experiment, tmp_path)) == ["prune", "draw"]
    assert not rows(experiment, tmp_path), "nothing is missing"
    shutil.rmtree(tmp_path / "checkpoint")
    assert not rows(experiment, tmp_path), "no measure needs the weights"
    shutil.rmtree(tmp_path / "draw")
    assert list(rows(experiment, tmp_path)) == ["prune", "draw"]


def test_measures_of_other_weights_are_not_added(tmp_path):
    experiment = fakes.experiment()
    rows(experiment, tmp_path)
    for name in ("checkpoint", "draw"):
        shutil.rmtree(tmp_path / name)
    record = json.loads((tmp_path / "prune" / "record.json").read_text())
    record["facts"]["weights"] = "other"
    (tmp_path / "prune" / "record.json").write_text(json.dumps(record))
    with pytest.raises(PruneError, match="re-pruned weights differ"):
        rows(experiment, tmp_path)


def test_the_dense_model_is_measured_once_per_sweep(tmp_path, calls):
    for count, sparsity in enumerate((0.3, 0.5, 0.7)):
        rows(fakes.experiment(method=fakes.Halve(sparsity=sparsity)), tmp_path / str(count))
    assert calls().count("dense") == 1
    rows(fakes.experiment(seed=1), tmp_path / "other")
    assert calls().count("dense") == 2


def test_the_baseline_compares_the_dense_model_with_itself(tmp_path):
    row = rows(fakes.experiment(method=None), tmp_path)["draw"].iloc[0]
    assert row["weight"] == pytest.approx(row["dense"])


def test_out_of_memory_halves_the_batch_size_and_records_it(tmp_path):
    done = list(run_in(tmp_path, fakes.experiment(fakes.Hungry(fits=5))))
    assert done[-1].rows["hungry"]["batch"].item() == 4 and done[-1].facts["batch_size"] == 4
    assert done[0].facts["batch_size"] == 32
    with pytest.raises(PruneError, match="too small even for one example"):
        rows(fakes.experiment(fakes.Hungry(fits=0)), tmp_path / "none")


def test_tf32_is_off_by_default_and_changes_the_key(tmp_path, monkeypatch):
    torch.set_float32_matmul_precision("high")  # as another library may have set it
    seen = []
    monkeypatch.setattr(
        fakes.Draw, "measure", lambda *_: seen.append(torch.get_float32_matmul_precision()) or {}
    )
    plain, fast = fakes.experiment(), fakes.experiment(tf32=True)
    for experiment in (plain, fast):
        list(run_in(tmp_path / str(experiment.tf32), experiment))
    assert seen == ["highest", "high"] and torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
    assert experiment_key(plain) != experiment_key(fast)


def test_facts_and_progress_of_a_run(tmp_path):
    seen = []
    done = list(
        run_in(
            tmp_path,
            fakes.experiment(fakes.Nap(seconds=0.3)),
            lambda progress, _: seen.append(progress),
        )
    )
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1
    facts = done[-1].facts
    assert facts["device"] == "cpu"
    assert facts["dtype"] == "float32"
    assert facts["label_names"] == ["negative", "positive"]
    assert facts["calibration_n"] == 8 and facts["evaluation_n"] > 100
    assert all(stage.seconds >= 0 for stage in done)


def test_a_run_is_cancelled_at_the_next_report(tmp_path):
    def report(progress, message):
        if "step 1" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(run_in(tmp_path, fakes.experiment(fakes.Nap(seconds=30)), report))


def test_versions_include_what_rows_depend_on():
    assert {
        "python",
        "torch",
        "transformers",
        "textattack",
        "numpy",
        "prunescope",
        "commit",
    } <= set(versions())


def test_times_are_estimated_from_earlier_jobs_of_the_same_stages() -> None:
    plan = Experiment(method=METHODS["akr"](sparsity=0.5), measures=(MEASURES["accuracy"](),))
    earlier = [
        SimpleNamespace(
            experiment=replace(plan, method=METHODS["akr"](sparsity=sparsity)).to_dict(),
            seconds={"prune": seconds, "accuracy": 2.0},
        )
        for sparsity, seconds in ((0.7, 40.0), (0.3, 60.0), (0.9, 50.0))
    ]
    assert jobs.expected_seconds(plan, earlier) == {"prune": 50.0, "accuracy": 2.0}
    others = replace(plan, evaluation_size=9), replace(plan, method=METHODS["magnitude"]())
    for other in others:
        assert jobs.expected_seconds(other, earlier)["prune"] not in (40.0, 50.0, 60.0)
    assert jobs.expected_seconds(plan, []) == estimate_seconds(plan)
