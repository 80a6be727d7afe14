"""The store: jobs, their order, rows that come back exactly, and the wording of mistakes."""

import math
import threading

import numpy as np
import pandas as pd
import pytest

from prune_core import PruneError
from prune_core.store import adversarial_pool, studies
from prune_core.store.job import Status
from prune_core.store.store import Store

PLAIN = {"method": {"name": "akr", "options": {"sparsity": 0.7, "pattern": ""}}, "seed": 1}


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


def test_order_is_study_then_quick_then_number():
    store = Store()
    first, second, other, third = submit(store), submit(store), submit(store, "t"), submit(store)
    assert claim(store) == first
    assert store.defer(first)
    assert [claim(store), claim(store), claim(store), claim(store)] == [second, third, first, other]


def test_slow_stages_come_after_all_quick_ones_in_the_jobs_order():
    store = Store()
    first, second = submit(store), submit(store)
    assert claim(store) == first and store.defer(first), "the second has not had its quick stages"
    assert claim(store) == second and store.defer(second), "the first comes first"
    assert claim(store) == first and not store.defer(first)
    end(store, first)
    assert claim(store) == second and not store.defer(second)


def test_a_job_alone_is_not_deferred():
    store = Store()
    id, _ = submit(store), submit(store, "t")
    assert claim(store) == id and not store.defer(id)


def test_claims_only_its_devices():
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
    for call, said in (
        (store.resume, "only a failed or cancelled"),
        (store.cancel, "already done"),
    ):
        claim(store)
        if call == store.cancel:
            end(store, running)
        with pytest.raises(PruneError, match=said):
            call(running)
    for call in (store.job, store.cancel, store.resume):
        with pytest.raises(PruneError, match="There is no job 99"):
            call(99)


def test_find_is_the_newest_that_is_not_lost():
    store = Store()
    first, second = submit(store), submit(store, "t")
    assert store.find("k").id == second and store.find("k", "s").id == first
    store.cancel(second)
    assert store.find("k").id == first and store.find("other") is None


def test_copy_gives_a_study_what_another_has():
    store = Store()
    id = submit(store)
    claim(store)
    store.add_rows(
        id, {"accuracy": pd.DataFrame([{"accuracy": 0.5}])}, "accuracy", seconds=1.0, facts={}
    )
    (store.folder(id) / "checkpoint").mkdir()
    (store.folder(id) / "checkpoint" / "config.json").write_text("{}")
    end(store, id)
    new = store.copy(id, "t")
    studies.delete(store, "s")
    assert store.studies() == ["t"] and store.job(new).status == Status.DONE
    assert store.records(new) == {"accuracy": [{"accuracy": 0.5}]}
    assert (store.folder(new) / "checkpoint" / "config.json").read_text() == "{}"


def test_studies_newest_first_and_delete():
    store = Store()
    ids = [submit(store, study) for study in ("a", "b", "a")]
    assert store.studies() == ["a", "b"] and [job.id for job in store.jobs("a")] == [ids[0], ids[2]]
    claim(store)
    with pytest.raises(PruneError, match="cancel it first"):
        studies.delete(store, "a")
    end(store, ids[0])
    studies.delete(store, "a")
    assert [job.id for job in store.jobs()] == [ids[1]]


def test_rows_come_back_exactly():
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
    back = store.rows("mine", [id])
    assert back["share"][0] == 0.1 + 0.2 and math.isnan(back["share"][1])
    assert (
        back["nothing"].dtype == float
        and back["count"].dtype == int
        and back["right"].dtype == bool
    )
    assert back["text"].tolist() == ["naïve 「x」", "b"] and back["pair"].isna().all()
    assert back["probabilities"][0] == [1 / 3, 2 / 3] and back["single"][0] == float(
        np.float32(1 / 3)
    )
    assert store.records(id)["mine"][1]["share"] is None
    assert store.tables(id) == ["mine", "empty"] and len(store.rows("empty", [id])) == 0


def test_rows_of_several_jobs_say_whose_they_are():
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
        "asked",
        "sparsity",
        "pattern",
        "seed",
        "accuracy",
    ]
    assert rows["job"].tolist() == [dense, akr] and rows["method"].tolist() == ["dense", "akr"]
    assert rows["sparsity"].tolist() == [0.0, 0.7] and rows["seed"].tolist() == [0, 1]
    cost = store.rows("cost", [dense, akr])
    assert cost["asked"].tolist() == [0.0, 0.7] and cost["sparsity"].tolist() == [0.2, 0.1], (
        "a realised sparsity is kept"
    )
    assert store.rows("accuracy", []).empty and store.rows("unknown", [akr]).empty


def test_a_stage_is_stored_whole_or_not_at_all():
    store = Store()
    id = submit(store)
    broken = pd.DataFrame([{"value": object()}])
    with pytest.raises(TypeError):
        store.add_rows(
            id, {"good": pd.DataFrame([{"a": 1}]), "broken": broken}, "stage", seconds=1.0, facts={}
        )
    assert store.tables(id) == [] and store.job(id).done == ()


def test_a_stage_that_is_done_again_replaces_its_rows():
    store = Store()
    id = submit(store)
    for value in (1, 2):
        store.add_rows(
            id, {"mine": pd.DataFrame([{"a": value}])}, "mine", seconds=float(value), facts={}
        )
    assert (
        store.records(id) == {"mine": [{"a": 2}]}
        and store.job(id).done == ("mine",)
        and store.job(id).seconds == {"mine": 2.0}
    )


def test_the_pool_keeps_a_text_once_whatever_becomes_of_its_study(tmp_path):
    store = Store(tmp_path)
    assert adversarial_pool.load(store).empty
    same = {
        "text": "Not bad.",
        "pair": None,
        "perturbed": "Nto bad.",
        "recipe": "R",
        "model": "AKR 50%",
        "study": "A",
        "label": "positive",
    }
    adversarial_pool.add(store, **same, note="")
    adversarial_pool.add(store, **same, note="a negation")
    adversarial_pool.add(store, **same | {"pair": "A second sentence."}, note="")
    submit(store, "A")
    studies.delete(store, "A")
    kept = adversarial_pool.load(store)
    assert kept["note"].tolist() == ["", "a negation"] and kept["pair"].isna().tolist() == [
        False,
        True,
    ]
    adversarial_pool.remove(store, [int(kept["id"].iloc[0])])
    assert adversarial_pool.load(Store(tmp_path))["text"].tolist() == ["Not bad."]


def test_studies_are_renamed_tagged_searched_sized_and_freed(tmp_path):
    store = Store(tmp_path)
    ids = [submit(store, study) for study in ("a", "b", "a")]
    claim(store)
    with pytest.raises(PruneError, match="has a run at work"):
        studies.rename(store, "a", "c")
    end(store, ids[0])
    store.update(ids[0], experiment={**PLAIN, "checkpoint": "demo", "source": {"task": "demo"}})
    for id in ids[1:]:
        store.update(id, experiment={**PLAIN, "checkpoint": "demo", "source": {"task": "demo"}})
    weights = store.folder(ids[0]) / "checkpoint" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"0" * 5000)
    (store.folder(ids[0]) / "log.txt").write_text("x")
    copy = store.copy(ids[0], "d")
    studies.tag(store, "a", ["paper", " draft ", ""])
    studies.rename(store, "a", "c")
    with pytest.raises(PruneError, match="already"):
        studies.rename(store, "c", "b")
    with pytest.raises(PruneError, match="needs a name"):
        studies.rename(store, "c", " ")
    found = {study.name: study for study in studies.overview(store)}
    assert (
        set(found) == {"b", "c", "d"}
        and found["c"].tags == ("draft", "paper")
        and found["c"].runs == 2
    )
    assert store.job(ids[0]).experiment["study"] == "c", "a run resumed goes on in its study"
    assert found["c"].bytes == 1, "weights that another study has too are not freed"
    assert found["c"].matches("draft PAPER") and not found["b"].matches("draft")
    studies.delete(store, "d")
    assert {study.name: study.bytes for study in studies.overview(store)}["c"] == 5001
    studies.delete_weights(store, "c")
    assert {study.name: study.bytes for study in studies.overview(store)}[
        "c"
    ] == 1 and copy not in [job.id for job in store.jobs()]
    with pytest.raises(PruneError, match="no study 'a'"):
        studies.delete(store, "a")
