"""A store that is old, new, damaged, full, read-only or being copied: a sentence each, and nothing that can be saved is lost."""

import json
import os
import shutil
import sqlite3

import pandas as pd
import pytest

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.store import maintenance, schema, studies
from prune_core.store.job import Status
from prune_core.store.store import Store

PLAN = {"checkpoint": "demo", "method": None, "seed": 0, "study": "S", "source": {"task": "demo"}}


def filled(home, jobs=3, rows=2000):
    store = Store(home)
    for number in range(jobs):
        id = store.submit(PLAN, f"job {number}", f"key {number}", "S", "cpu", worker="w")
        texts = [f"a text {number} {i}" for i in range(rows)]
        frame = pd.DataFrame(
            {"example": range(rows), "text": texts, "value": [i / 7 for i in range(rows)]}
        )
        store.add_rows(id, {"accuracy": frame, "drift": frame}, "accuracy", seconds=1.0, facts={})
        store.finish(id, Status.DONE, "", "w")
    return store


def test_a_store_of_the_first_version_opens_with_every_row(tmp_path):
    """Versions were not counted, and rows were plain text."""
    db = sqlite3.connect(tmp_path / schema.FILE)
    db.executescript(schema.MIGRATIONS[0])
    text = json.dumps({"kinds": {"score": "float64"}, "rows": [{"score": 0.1}, {"score": None}]})
    values = ("S", "dense", "k", json.dumps(PLAN), "cpu", "done", 1.0, '["accuracy"]')
    db.execute(
        "INSERT INTO job (study, label, key, experiment, device, status, created, done) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    db.execute("INSERT INTO rows VALUES (1, 'accuracy', ?)", (text,))
    db.commit()
    db.close()
    store = Store(tmp_path)
    assert store.job(1).label == "dense" and store.rows("accuracy", [1])["score"].iloc[0] == 0.1
    assert store.rows("accuracy", [1])["score"].isna().tolist() == [False, True]
    store.cancel(store.submit(PLAN, "new", "k2", "S", "cpu"))
    assert store.events()["what"].tolist() == ["cancelled", "submitted"]
    assert store.events()["study"].tolist() == ["S", "S"]


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path, capsys, monkeypatch):
    filled(tmp_path, jobs=1)
    db = sqlite3.connect(tmp_path / schema.FILE)
    db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    assert main(["jobs"]) == 2 and "newer PruneScope" in capsys.readouterr().err
    db = sqlite3.connect(tmp_path / schema.FILE)
    assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION + 1
    db.close()


def test_rows_take_a_fraction_of_their_text_and_come_back_exactly(tmp_path):
    store = filled(tmp_path, jobs=1)
    frame = store.rows("accuracy", [1])
    assert frame["value"].tolist() == [i / 7 for i in range(2000)]
    with store.read() as db:
        size = db.execute("SELECT LENGTH(content) FROM rows").fetchone()[0]
    assert size < len(frame[["example", "text", "value"]].to_json(orient="records")) / 3


def test_deleting_a_study_gives_its_space_back(tmp_path):
    store = filled(tmp_path, jobs=30)
    before = store.path.stat().st_size
    studies.delete(store, "S")
    assert store.path.stat().st_size < before / 5
    assert (
        store.events()["what"].iloc[0] == "deleted with 30 jobs"
        and store.events()["study"].iloc[0] == "S"
    )


def test_a_backup_of_a_store_in_use_is_whole(tmp_path, monkeypatch, capsys):
    store = filled(tmp_path / "home")
    (store.folder(1) / "log.txt").write_text("said")
    with (
        store.read() as reader
    ):  # somebody reads, and the write-ahead log holds what is not in the file yet
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM job").fetchone()
        monkeypatch.setenv("PRUNESCOPE_HOME", str(store.home))
        assert main(["store", "backup", str(tmp_path / "copy")]) == 0
    copy = Store(tmp_path / "copy")
    assert [job.label for job in copy.jobs()] == [job.label for job in store.jobs()]
    assert copy.rows("drift", [2]).equals(store.rows("drift", [2]))
    assert (copy.home / "jobs" / "1" / "log.txt").read_text() == "said"
    assert (
        main(["store", "backup", str(tmp_path / "copy")]) == 2
        and "not an empty folder" in capsys.readouterr().err
    )


def damage(path, share=(0.4, 0.6)):
    """Overwrite the middle of the file, page headers included."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * share[0]) // 4096 * 4096)
        file.write(b"\xff" * int(size * (share[1] - share[0])))


def test_of_a_damaged_store_is_said_and_saved_what_can_be_read(tmp_path, monkeypatch, capsys):
    store = filled(tmp_path / "home", jobs=8)
    maintenance.compact(store)
    damage(store.path)
    monkeypatch.setenv("PRUNESCOPE_HOME", str(store.home))
    assert main(["store", "check"]) == 1
    said = capsys.readouterr().out
    assert "cannot" in said and "rescue" in said
    assert main(["store", "rescue", str(tmp_path / "saved")]) == 0
    saved = Store(tmp_path / "saved")
    assert len(saved.jobs()) == 8 and maintenance.integrity_errors(saved.path) == []
    whole = [job for job in saved.jobs() if saved.tables(job.id) == ["accuracy", "drift"]]
    assert whole and len(whole) < 8
    assert saved.rows("accuracy", [whole[0].id])["value"].tolist() == [i / 7 for i in range(2000)]
    assert all(
        job.status == Status.FAILED and "lost" in job.error
        for job in saved.jobs()
        if not saved.tables(job.id)
    )


@pytest.mark.parametrize(
    "content", [b"not a database, but some text that is long enough to be looked at" * 100, b""]
)
def test_a_file_that_is_no_store(content, tmp_path, monkeypatch, capsys):
    (tmp_path / schema.FILE).write_bytes(content)
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    status = main(["jobs"])
    said = capsys.readouterr().err
    assert (status, "damaged" in said) == (
        (2, True) if content else (0, False)
    )  # an empty file is an empty store to SQLite
    if content:
        assert (
            main(["store", "rescue", str(tmp_path / "new")]) == 2
            and "backup" in capsys.readouterr().err
        )


def test_a_full_disk_is_a_sentence_and_what_is_finished_stays(tmp_path, monkeypatch):
    store = filled(tmp_path, jobs=1, rows=10)
    id = store.submit(PLAN, "next", "k", "S", "cpu", worker="w")
    connect = sqlite3.connect

    def small(*args, **kwargs):  # SQLite's own answer to a disk without space
        db = connect(*args, **kwargs)
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    big = pd.DataFrame({"text": [os.urandom(500).hex() for _ in range(500)]})
    with pytest.raises(PruneError, match=r"disk .* is full"):
        store.add_rows(id, {"accuracy": big}, "accuracy", seconds=1.0, facts={})
    monkeypatch.undo()
    assert store.job(id).done == () and len(store.rows("accuracy", [1])) == 10
    store.add_rows(id, {"accuracy": big}, "accuracy", seconds=1.0, facts={})  # space again
    assert len(store.rows("accuracy", [id])) == 500


def test_a_home_that_cannot_be(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "file" / "home"))
    assert main(["jobs"]) == 2
    assert "cannot open" in capsys.readouterr().err
    error = OSError(30, "Read-only file system")
    assert "may not write" in str(schema.error_message(error, tmp_path))
    assert "may not write" in str(
        schema.error_message(
            sqlite3.OperationalError("attempt to write a readonly database"), tmp_path
        )
    )
    assert (
        schema.error_message(sqlite3.OperationalError("no such column: x"), tmp_path) is None
    )  # a mistake of ours stays one


def test_what_is_not_there_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "none"))
    assert main(["store", "check"]) == 2 and "no store" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
