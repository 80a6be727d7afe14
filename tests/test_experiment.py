"""Experiments as data, and how they run: stages, seeds, resuming, memory."""


import json

import fakes
import pandas as pd
import pytest
import torch

from prune_core import Cancelled, PruneError
from prune_core.data.examples import Source
from prune_core.measures import MEASURES
from prune_core.methods import METHODS
from prune_core.plugins import build, quiet
from prune_core.runs.experiment import Experiment, stages
from prune_core.runs.run import run
from prune_core.versions import versions


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    fakes.install(monkeypatch.setattr)
    yield
    fakes.remove()


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Names of the stages that were called so far."""
    monkeypatch.setenv(fakes.CALLS, str(tmp_path / "calls"))
    return lambda: (tmp_path / "calls").read_text().split() if (tmp_path / "calls").exists() else []


def rows(asked, folder, done=()):
    return {stage.name: stage.rows[stage.name] for stage in run(asked, folder, quiet, done)}


@pytest.mark.parametrize("name", [None, *METHODS])
def test_survives_json(name):
    method = build(METHODS, name, {"sparsity": 0.7}) if name else None
    asked = Experiment(method=method, measures=tuple(kind() for kind in MEASURES.values()), seed=3, study="a")
    again = Experiment.from_dict(json.loads(json.dumps(asked.to_dict())))
    assert again == asked and again.key() == asked.key() and again.label == asked.label


def test_key_knows_nothing_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = fakes.experiment().key()
    (tmp_path / "new").touch()
    assert fakes.experiment().key() == before


def test_key_is_what_decides_the_rows(tmp_path):
    asked = fakes.experiment()
    assert fakes.experiment(study="another").key() == asked.key()
    assert fakes.experiment(seed=1).key() != asked.key()
    assert fakes.experiment(method=fakes.Halve(sparsity=0.6)).key() != asked.key()
    file = tmp_path / "mine.csv"
    file.write_text("text,label\na,0\n")
    own = Experiment(source=Source(str(file)), measures=(fakes.Draw(),))
    before = own.key()
    file.write_text("text,label\na,0\nb,1\n")
    assert own.key() != before


def test_local_paths_become_absolute(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text("text,label\n")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = Experiment(source=Source("mine.csv"), measures=(fakes.Draw(),))
    assert asked.source.task == str(tmp_path / "mine.csv")
    assert asked.checkpoint == "demo"


def test_labels():
    assert fakes.experiment(method=None).label == "Dense"
    assert fakes.experiment(method=fakes.Halve(sparsity=0.7), seed=2).label == "Halve 70% · seed 2"


@pytest.mark.parametrize(
    "options, said",
    [
        ({"calibration": 0}, "calibration is 0"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"measures": (fakes.Draw(), fakes.Draw())}, "twice"),
        ({"method": None, "measures": ()}, "nothing to do"),
    ],
)
def test_mistakes_are_sentences(options, said):
    with pytest.raises(PruneError, match=said):
        Experiment(**{"measures": (fakes.Draw(),), **options})


def test_stages_put_slow_measures_last():
    assert stages(fakes.experiment(fakes.Nap(), fakes.Draw())) == ["prune", "draw", "nap"]
    assert stages(fakes.experiment(fakes.Nap(), method=None)) == ["nap"]


def test_a_measure_that_reads_another_follows_it_and_needs_it():
    drift, attack = (build(MEASURES, name, options) for name, options in (("drift", {"adversarial": True}), ("attack", {})))
    assert stages(Experiment(measures=(drift, attack))) == ["attack", "drift"]
    assert stages(Experiment(measures=(MEASURES["drift"](), attack))) == ["drift", "attack"]
    with pytest.raises(PruneError, match="add the measure attack"):
        Experiment(measures=(drift,))


class Reader(fakes.Draw):
    reads = "hungry"

    def measure(self, pair, report):
        return {"draw": pair.rows["hungry"]}


def test_it_sees_the_same_rows_when_the_other_was_done_before(tmp_path):
    asked = fakes.experiment(fakes.Hungry(fits=64), Reader())
    done = {stage.name: stage.rows for stage in run(asked, tmp_path, quiet)}
    assert done["draw"]["draw"].equals(done["hungry"]["hungry"])
    known = {"hungry": pd.DataFrame([{"batch": 7}])}
    (last,) = run(asked, tmp_path, quiet, ["prune", "hungry"], known)
    assert last.rows["draw"]["batch"].tolist() == [7]


def test_same_experiment_gives_the_same_rows_also_when_resumed(tmp_path, calls):
    asked = fakes.experiment(fakes.Draw(), fakes.Hungry(fits=64))
    first, second = rows(asked, tmp_path / "a"), rows(asked, tmp_path / "b")
    resumed = rows(asked, tmp_path / "a", done=["prune"])
    pd.testing.assert_frame_equal(first["draw"], second["draw"])
    pd.testing.assert_frame_equal(first["draw"], resumed["draw"])
    assert list(resumed) == ["draw", "hungry"] and calls().count("prune") == 2
    assert not first["draw"].equals(rows(fakes.experiment(seed=1), tmp_path / "c")["draw"])


def test_prunes_again_when_the_checkpoint_is_gone(tmp_path):
    assert list(rows(fakes.experiment(), tmp_path, done=["prune"])) == ["prune", "draw"]


def test_the_dense_model_is_measured_once_for_a_whole_sweep(tmp_path, calls):
    for count, sparsity in enumerate((0.3, 0.5, 0.7)):
        rows(fakes.experiment(method=fakes.Halve(sparsity=sparsity)), tmp_path / str(count))
    assert calls().count("dense") == 1
    rows(fakes.experiment(seed=1), tmp_path / "other")
    assert calls().count("dense") == 2


def test_the_baseline_compares_the_dense_model_with_itself(tmp_path):
    row = rows(fakes.experiment(method=None), tmp_path)["draw"].iloc[0]
    assert row["weight"] == pytest.approx(row["dense"])


def test_out_of_memory_halves_the_batch_and_says_so(tmp_path):
    done = list(run(fakes.experiment(fakes.Hungry(fits=5)), tmp_path, quiet))
    assert done[-1].rows["hungry"]["batch"].item() == 4 and done[-1].facts["batch_size"] == 4
    assert done[0].facts["batch_size"] == 32
    with pytest.raises(PruneError, match="too small even for one sentence"):
        rows(fakes.experiment(fakes.Hungry(fits=0)), tmp_path)


def test_tf32_is_off_unless_asked_for_and_then_decides_the_rows(tmp_path, monkeypatch):
    torch.set_float32_matmul_precision("high")  # what another library may have left behind
    seen = []
    monkeypatch.setattr(fakes.Draw, "measure", lambda *_: seen.append(torch.get_float32_matmul_precision()) or {})
    plain, fast = fakes.experiment(), fakes.experiment(tf32=True)
    for asked in (plain, fast):
        list(run(asked, tmp_path / str(asked.tf32), quiet))
    assert seen == ["highest", "high"] and torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
    assert plain.key() != fast.key()


def test_facts_and_progress(tmp_path):
    seen = []
    done = list(run(fakes.experiment(fakes.Nap(seconds=0.3)), tmp_path, lambda progress, _: seen.append(progress)))
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1
    facts = done[-1].facts
    assert facts["device"] == "cpu" and facts["dtype"] == "float32" and facts["label_names"] == ["negative", "positive"]
    assert facts["calibration_n"] == 8 and facts["evaluation_n"] > 100
    assert all(stage.seconds >= 0 for stage in done)


def test_cancelled_stops_between_reports(tmp_path):
    def report(progress, message):
        if "step 1" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(run(fakes.experiment(fakes.Nap(seconds=30)), tmp_path, report))


def test_versions_name_what_rows_depend_on():
    assert {"python", "torch", "transformers", "textattack", "numpy", "prunescope", "commit"} <= set(versions())
