"""The store: jobs, their order, exact round trips of rows, and error messages."""

import math
import threading

import numpy as np
import pandas as pd
import pytest

from prune_core import PruneError
from prune_core.store import adversarial_pool, studies
from prune_core.store.job import Status
from prune_core.store.store import Store
from prune_core.store.tables import concat_tables

PLAIN = {
    "method": {
        "name": "akr",
        "options": {"sparsity": 0.7, "pattern": ""},
        "removes": "weights",
    },
    "measures": [],
    "seed": 1,
}


def submit(store, study="s", label="AKR 70%", key="k", device="cpu", **options):
    return store.submit(PLAIN, label, key, study, device, **options)


def claim(store, *devices):
    job = store.claim(devices or ("cpu",), "me")
    return job.id if job else None


def end(store, id, status=Status.DONE):
    assert store.finish(id, status, "", "me")


def test_a_job_from_queued_to_done():
    store = Store()
    id = submit(store)
    assert store.job(id).status == Status.QUEUED and store.job(id).experiment == PLAIN
    assert claim(store) == id and claim(store) is None
    store.update(id, progress=0.5, message="half", versions={"torch": "2"}, estimate_left=3.0)
    store.add_rows(
        id,
        {"accuracy": pd.DataFrame([{"accuracy": 0.5}])},
        "accuracy",
        seconds=1.5,
        facts={"device": "cpu"},
    )
    end(store, id)
    job = Store().job(id)  # another process
    assert (job.status, job.progress, job.done, job.seconds) == (
        Status.DONE,
        1.0,
        ("accuracy",),
        {"accuracy": 1.5},
    )
    assert job.facts == {"device": "cpu"} and job.versions == {"torch": "2"}
    assert job.created <= job.started <= job.finished
    assert not store.finish(id, Status.FAILED, "late", "me")


def test_claims_are_ordered_by_study_then_quick_stages_then_id():
    store = Store()
    first, second, other, third = submit(store), submit(store), submit(store, "t"), submit(store)
    assert claim(store) == first
    assert store.defer(first)
    assert [claim(store), claim(store), claim(store), claim(store)] == [second, third, first, other]


def test_slow_stages_follow_all_quick_ones_in_the_order_of_the_jobs():
    store = Store()
    first, second = submit(store), submit(store)
    assert claim(store) == first and store.defer(first), "the second still has quick stages"
    assert claim(store) == second and store.defer(second), "the first has priority"
    assert claim(store) == first and not store.defer(first)
    end(store, first)
    assert claim(store) == second and not store.defer(second)


def test_a_single_job_is_not_deferred():
    store = Store()
    id, _ = submit(store), submit(store, "t")
    assert claim(store) == id and not store.defer(id)


def test_a_worker_claims_only_jobs_of_its_devices():
    store = Store()
    submit(store, device="cuda:0")
    assert claim(store) is None and claim(store, "cuda", "cuda:0") is not None


def test_a_job_is_claimed_once():
    store, ids = Store(), []
    for _ in range(8):
        submit(store)
    workers = [
        threading.Thread(target=lambda: [ids.append(claim(store)) for _ in range(2)])
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(ids) == list(range(1, 9))


def test_cancel_and_resume():
    store = Store()
    queued, running = submit(store), submit(store)
    store.cancel(queued)
    assert store.job(queued).status == Status.CANCELLED
    claim(store)
    store.cancel(running)
    assert store.job(running).status == Status.RUNNING and store.job(running).cancel
    end(store, running, Status.CANCELLED)
    store.resume(running)
    assert store.job(running).status == Status.QUEUED and not store.job(running).cancel
    for call, message in (
        (store.resume, "only a failed or cancelled"),
        (store.cancel, "already done"),
    ):
        claim(store)
        if call == store.cancel:
            end(store, running)
        with pytest.raises(PruneError, match=message):
            call(running)
    for call in (store.job, store.cancel, store.resume):
        with pytest.raises(PruneError, match="There is no job 99"):
            call(99)


def test_find_returns_the_newest_job_that_was_not_cancelled():
    store = Store()
    first, second = submit(store), submit(store, "t")
    assert store.find("k").id == second and store.find("k", "s").id == first
    store.cancel(second)
    assert store.find("k").id == first and store.find("other") is None


def test_copy_adds_rows_and_checkpoint_to_another_study():
    store = Store()
    id = submit(store)
    claim(store)
    store.add_rows(
        id, {"accuracy": pd.DataFrame([{"accuracy": 0.5}])}, "accuracy", seconds=1.0, facts={}
    )
    weights = store.weights(store.job(id))
    weights.mkdir(parents=True)
    (weights / "config.json").write_text("{}")
    end(store, id)
    new = store.copy(id, "t")
    studies.delete(store, "s")
    assert store.studies() == ["t"] and store.job(new).status == Status.DONE
    assert store.records(new) == {"accuracy": [{"accuracy": 0.5}]}
    assert store.weights(store.job(new)) == weights
    assert (weights / "config.json").read_text() == "{}"


def test_studies_are_listed_newest_first_and_can_be_deleted():
    store = Store()
    ids = [submit(store, study) for study in ("a", "b", "a")]
    assert store.studies() == ["a", "b"] and [job.id for job in store.jobs("a")] == [ids[0], ids[2]]
    claim(store)
    with pytest.raises(PruneError, match="cancel it first"):
        studies.delete(store, "a")
    end(store, ids[0])
    studies.delete(store, "a")
    assert [job.id for job in store.jobs()] == [ids[1]]


def test_rows_round_trip_exactly():
    store = Store()
    id = submit(store)
    frame = pd.DataFrame(
        {
            "share": [0.1 + 0.2, math.nan],
            "count": [3, 4],
            "right": [True, False],
            "text": ["naïve 「x」", "b"],
            "pair": [None, None],
            "nothing": [math.nan, math.nan],
            "probabilities": [np.array([1 / 3, 2 / 3]), [0.5, 0.5]],
            "single": np.array([1 / 3, 0.1], dtype=np.float32),
        }
    )
    store.add_rows(id, {"mine": frame, "empty": frame.head(0)}, "mine", seconds=1.0, facts={})
    table = store.rows("mine", [id])
    assert table["share"][0] == 0.1 + 0.2 and math.isnan(table["share"][1])
    assert table["nothing"].dtype == float
    assert table["count"].dtype == int
    assert table["right"].dtype == bool
    assert table["text"].tolist() == ["naïve 「x」", "b"] and table["pair"].isna().all()
    assert table["probabilities"][0] == [1 / 3, 2 / 3]
    assert table["single"][0] == float(np.float32(1 / 3))
    assert store.records(id)["mine"][1]["share"] is None
    assert store.tables(id) == ["mine", "empty"] and len(store.rows("empty", [id])) == 0


def test_rows_of_several_jobs_identify_their_job():
    store = Store()
    akr = submit(store)
    dense = store.submit({"method": None, "seed": 0}, "Dense", "d", "s", "cpu")
    missing = submit(store)
    for id, value in ((akr, 0.1), (dense, 0.2)):
        store.add_rows(
            id, {"accuracy": pd.DataFrame([{"accuracy": value}])}, "accuracy", seconds=1.0, facts={}
        )
        store.add_rows(
            id, {"cost": pd.DataFrame([{"sparsity": value}])}, "cost", seconds=1.0, facts={}
        )
    rows = store.rows("accuracy", [dense, akr, missing])
    assert list(rows) == [
        "job",
        "label",
        "study",
        "method",
        "requested_sparsity",
        "sparsity",
        "pattern",
        "seed",
        "accuracy",
    ]
    assert rows["job"].tolist() == [dense, akr] and rows["method"].tolist() == ["dense", "akr"]
    assert rows["sparsity"].tolist() == [0.0, 0.7] and rows["seed"].tolist() == [0, 1]
    cost = store.rows("cost", [dense, akr])
    assert cost["requested_sparsity"].tolist() == [0.0, 0.7]
    assert cost["sparsity"].tolist() == [0.2, 0.1], "a realized sparsity is not replaced"
    assert store.rows("accuracy", []).empty and store.rows("unknown", [akr]).empty


def test_tables_of_several_models_keep_their_own_columns_and_types():
    tables = [
        ({"job": 1, "sparsity": 0.5}, pd.DataFrame({"sparsity": [0.4, 0.6]})),
        ({"job": 2, "sparsity": 0.5}, pd.DataFrame({"n": pd.Series([], dtype=int)})),
    ]
    merged = concat_tables(tables)
    assert merged["job"].tolist() == [1, 1] and merged["sparsity"].tolist() == [0.4, 0.6]
    assert merged["job"].dtype == int, "an empty table does not change the type"
    assert concat_tables([]).empty


def test_a_stage_is_stored_completely_or_not_at_all():
    store = Store()
    id = submit(store)
    broken = pd.DataFrame([{"value": object()}])
    with pytest.raises(TypeError):
        store.add_rows(
            id, {"good": pd.DataFrame([{"a": 1}]), "broken": broken}, "stage", seconds=1.0, facts={}
        )
    assert store.tables(id) == [] and store.job(id).done == ()


def test_a_repeated_stage_replaces_its_rows():
    store = Store()
    id = submit(store)
    for value in (1, 2):
        store.add_rows(
            id, {"mine": pd.DataFrame([{"a": value}])}, "mine", seconds=float(value), facts={}
        )
    assert store.records(id) == {"mine": [{"a": 2}]}
    assert store.job(id).done == ("mine",)
    assert store.job(id).seconds == {"mine": 2.0}


def test_adversarial_pool_has_unique_texts_and_outlives_its_study(tmp_path):
    store = Store(tmp_path)
    assert adversarial_pool.load(store).empty
    entry = {
        "text": "Not bad.",
        "pair": None,
        "perturbed": "Nto bad.",
        "recipe": "R",
        "model": "AKR 50%",
        "study": "A",
        "label": "positive",
    }
    adversarial_pool.add(store, **entry, note="")
    adversarial_pool.add(store, **entry, note="a negation")
    adversarial_pool.add(store, **entry | {"pair": "A second sentence."}, note="")
    submit(store, "A")
    studies.delete(store, "A")
    saved = adversarial_pool.load(store)
    assert saved["note"].tolist() == ["", "a negation"]
    assert saved["pair"].isna().tolist() == [
        False,
        True,
    ]
    adversarial_pool.remove(store, [int(saved["id"].iloc[0])])
    assert adversarial_pool.load(Store(tmp_path))["text"].tolist() == ["Not bad."]


def test_studies_can_be_renamed_tagged_searched_and_freed(tmp_path):
    store = Store(tmp_path)
    ids = [submit(store, study) for study in ("a", "b", "a")]
    claim(store)
    with pytest.raises(PruneError, match="is running; cancel it first"):
        studies.rename(store, "a", "c")
    end(store, ids[0])
    store.update(ids[0], experiment={**PLAIN, "checkpoint": "demo", "source": {"task": "demo"}})
    for id in ids[1:]:
        store.update(id, experiment={**PLAIN, "checkpoint": "demo", "source": {"task": "demo"}})
    weights = store.weights(store.job(ids[0])) / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"0" * 5000)
    (store.folder(ids[0]) / "log.txt").write_text("x")
    copy = store.copy(ids[0], "d")
    studies.tag(store, "a", ["paper", " draft ", ""])
    studies.rename(store, "a", "c")
    with pytest.raises(PruneError, match="already"):
        studies.rename(store, "c", "b")
    with pytest.raises(PruneError, match="needs a name"):
        studies.rename(store, "c", " ")
    overview = {study.name: study for study in studies.overview(store)}
    assert set(overview) == {"b", "c", "d"}
    assert overview["c"].tags == ("draft", "paper") and overview["c"].runs == 2
    assert store.job(ids[0]).experiment["study"] == "c", "a resumed run stays in its study"
    small = overview["c"].bytes
    assert small < 5000, "weights that another study shares are not freed"
    assert overview["c"].matches("draft PAPER") and not overview["b"].matches("draft")
    studies.delete(store, "d")
    assert {study.name: study.bytes for study in studies.overview(store)}["c"] == small + 5000
    studies.delete_weights(store, "c")
    sizes = {study.name: study.bytes for study in studies.overview(store)}
    assert sizes["c"] == small and copy not in [job.id for job in store.jobs()]
    with pytest.raises(PruneError, match="no study 'a'"):
        studies.delete(store, "a")
