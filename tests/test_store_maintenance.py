"""Store maintenance: old, new, damaged, full and read-only stores, backups and recovery."""

import errno
import json
import os
import shutil
import sqlite3
import zlib
from pathlib import Path

import pandas as pd
import pytest

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.store import maintenance, schema, studies
from prune_core.store.job import Status
from prune_core.store.store import Store

PLAN = {"checkpoint": "demo", "method": None, "seed": 0, "study": "S", "source": {"task": "demo"}}


def filled_store(home, jobs=3, rows=2000):
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
    """In that version, schema versions were not counted and rows were plain text."""
    db = sqlite3.connect(tmp_path / schema.FILE)
    db.executescript(schema.MIGRATIONS[0])
    text = json.dumps({"kinds": {"score": "float64"}, "rows": [{"score": 0.1}, {"score": None}]})
    values = ("S", "dense", "k", json.dumps(PLAN), "cpu", "done", 1.0, '["accuracy"]')
    db.execute(
        "INSERT INTO job (study, label, key, experiment, device, status, created, done) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
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


def test_a_store_of_a_newer_version_is_refused_unchanged(tmp_path, capsys, monkeypatch):
    filled_store(tmp_path, jobs=1)
    db = sqlite3.connect(tmp_path / schema.FILE)
    db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    assert main(["jobs"]) == 2 and "newer PruneScope" in capsys.readouterr().err
    db = sqlite3.connect(tmp_path / schema.FILE)
    assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION + 1
    db.close()


def test_rows_are_compressed_and_round_trip_exactly(tmp_path):
    store = filled_store(tmp_path, jobs=1)
    frame = store.rows("accuracy", [1])
    assert frame["value"].tolist() == [i / 7 for i in range(2000)]
    [file] = (store.home / "results").glob("*/accuracy/accuracy.parquet")
    text = frame[["example", "text", "value"]].to_json(orient="records")
    assert file.stat().st_size < len(text) / 2


def test_deleting_a_study_frees_disk_space(tmp_path):
    store = filled_store(tmp_path, jobs=30)
    before = studies.size([store.home])
    studies.delete(store, "S")
    assert studies.size([store.home]) < before / 5
    assert not [*(store.home / "results").iterdir()]
    assert store.events()["what"].iloc[0] == "deleted with 30 jobs"
    assert store.events()["study"].iloc[0] == "S"


def test_a_backup_of_a_store_in_use_is_complete(tmp_path, monkeypatch, capsys):
    store = filled_store(tmp_path / "home")
    (store.folder(1) / "log.txt").write_text("a line")
    # with a reader, the write-ahead log has content that is not in the file yet
    with store.read() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM job").fetchone()
        monkeypatch.setenv("PRUNESCOPE_HOME", str(store.home))
        assert main(["store", "backup", str(tmp_path / "copy")]) == 0
    copy = Store(tmp_path / "copy")
    assert [job.label for job in copy.jobs()] == [job.label for job in store.jobs()]
    assert copy.rows("drift", [2]).equals(store.rows("drift", [2]))
    assert (copy.home / "jobs" / "1" / "log.txt").read_text() == "a line"
    assert main(["store", "backup", str(tmp_path / "copy")]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def damage(path, extent=(0.4, 0.6)):
    """Overwrite the middle of a file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * extent[0]))
        file.write(b"\xff" * int(size * (extent[1] - extent[0])))


def test_a_damaged_index_is_reported_and_made_again_from_the_folders(tmp_path, monkeypatch, capsys):
    store = filled_store(tmp_path / "home", jobs=8)
    studies.rename(store, "S", "Renamed")
    rows, jobs = store.rows("accuracy", range(1, 9)), store.jobs()
    maintenance.compact(store)
    damage(store.path, (0.0, 1.0))
    monkeypatch.setenv("PRUNESCOPE_HOME", str(store.home))
    assert main(["store", "check"]) == 2
    assert "damaged" in capsys.readouterr().err
    store.path.unlink()
    assert main(["store", "rebuild"]) == 0
    assert ": 8 jobs." in capsys.readouterr().out
    rebuilt = Store(store.home)
    assert maintenance.integrity_errors(rebuilt.path) == []
    assert [(job.label, job.study, job.status) for job in rebuilt.jobs()] == [
        (job.label, "Renamed", Status.DONE) for job in jobs
    ]
    assert rebuilt.rows("accuracy", range(1, 9)).equals(rows)


def test_a_damaged_result_is_reported_and_computed_again(tmp_path, monkeypatch, capsys):
    store = filled_store(tmp_path / "home", jobs=2)
    folder = store.home / "results" / store.job(1).tables["accuracy"]
    damage(folder / "accuracy.parquet")
    monkeypatch.setenv("PRUNESCOPE_HOME", str(store.home))
    assert main(["store", "check"]) == 1
    assert f"delete the folder {folder}" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(PruneError, match="cannot be read"):
        store.rows("accuracy", [1])
    assert len(store.rows("accuracy", [2])) == 2000


def former_store(home, jobs, rows=2000):
    """Write a store of version 2, with tables as compressed JSON in the index."""
    home.mkdir()
    db = sqlite3.connect(home / schema.FILE)
    db.executescript(";".join(schema.MIGRATIONS[:2]))
    plan = {**PLAN, "measures": [{"name": "accuracy", "options": {}}]}
    table = {
        "kinds": {"value": "float64"},
        "rows": [{"value": (i * 7919 % 104729) / 7} for i in range(rows)],
    }
    for number in range(1, jobs + 1):
        db.execute(
            "INSERT INTO job (study, label, key, experiment, device, status, created, done) "
            "VALUES ('S', ?, ?, ?, 'cpu', 'done', 1.0, ?)",
            (f"job {number}", f"key {number}", json.dumps(plan), '["accuracy"]'),
        )
        for name in ("accuracy", "drift"):
            content = zlib.compress(json.dumps(table).encode())
            db.execute("INSERT INTO rows VALUES (?, ?, ?)", (number, name, content))
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()
    return home / schema.FILE


def test_a_damaged_store_of_version_2_is_recovered_where_readable(tmp_path, monkeypatch, capsys):
    path = former_store(tmp_path / "home", jobs=8)
    damage(path)
    monkeypatch.setenv("PRUNESCOPE_HOME", str(path.parent))
    assert main(["store", "check"]) == 1
    output = capsys.readouterr().out
    assert "cannot" in output and "rescue" in output
    assert main(["store", "rescue", str(tmp_path / "saved")]) == 0
    recovered = Store(tmp_path / "saved")
    assert len(recovered.jobs()) == 8 and maintenance.integrity_errors(recovered.path) == []
    complete = [
        job for job in recovered.jobs() if recovered.tables(job.id) == ["accuracy", "drift"]
    ]
    assert complete and len(complete) < 8
    assert len(recovered.rows("accuracy", [complete[0].id])) == 2000
    assert all(
        job.status == Status.FAILED and "lost" in job.error
        for job in recovered.jobs()
        if not recovered.tables(job.id)
    )


@pytest.mark.parametrize(
    "content", [b"not a database, but some text that is long enough to be checked" * 100, b""]
)
def test_a_file_that_is_not_a_store_is_reported(content, tmp_path, monkeypatch, capsys):
    (tmp_path / schema.FILE).write_bytes(content)
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    status = main(["jobs"])
    message = capsys.readouterr().err
    # an empty file is an empty store to SQLite
    assert (status, "damaged" in message) == ((2, True) if content else (0, False))
    if content:
        assert main(["store", "rescue", str(tmp_path / "new")]) == 2
        assert "backup" in capsys.readouterr().err


def test_a_full_disk_is_an_error_message_and_finished_stages_stay(tmp_path, monkeypatch):
    store = filled_store(tmp_path, jobs=1, rows=10)
    id = store.submit(PLAN, "next", "k", "S", "cpu", worker="w")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    big = pd.DataFrame({"text": [os.urandom(500).hex() for _ in range(500)]})
    with pytest.raises(PruneError, match=r"disk .* is full"):
        store.add_rows(id, {"accuracy": big}, "accuracy", seconds=1.0, facts={})
    monkeypatch.undo()
    assert store.job(id).done == () and len(store.rows("accuracy", [1])) == 10
    store.add_rows(id, {"accuracy": big}, "accuracy", seconds=1.0, facts={})  # space is free again
    assert len(store.rows("accuracy", [id])) == 500


def test_invalid_home_folder_is_an_error_message(tmp_path, monkeypatch, capsys):
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
    # a bug is not turned into a user error
    assert schema.error_message(sqlite3.OperationalError("no such column: x"), tmp_path) is None


def test_a_missing_store_is_reported_and_not_created(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "none"))
    assert main(["store", "check"]) == 2 and "no store" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
