"""Export: chart data, rows, reports, trackers and the Hub, with fake trackers and a fake Hub."""

import io
import sys
import types
import zipfile

import pandas as pd
import plotly.graph_objects as go
import pytest
import sample_rows

from prune_core import PruneError, plots
from prune_core.cli import trackers
from prune_core.cli.arguments import main
from prune_core.store import parquet
from prune_core.store.store import Store


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_the_data_of_a_chart_is_exported_with_intervals() -> None:
    figure = go.Figure()
    figure.add_scatter(
        x=[1, 2], y=[0.5, 0.6], name="AKR", error_y={"array": [0.1, 0.1], "arrayminus": [0.2, 0.2]}
    )
    figure.add_scatter(x=[1], y=[1], text=["a label"], mode="text")
    figure.add_scatter(x=[1], y=[1], mode="markers", marker={"color": "rgba(0, 0, 0, 0)"})
    figure.add_heatmap(z=[[1, 2]], x=["a", "b"], y=["c"])
    table = plots.to_table(figure)
    assert table["series"].tolist() == ["AKR", "AKR", "", ""]
    assert table["y_low"].tolist()[:2] == pytest.approx([0.3, 0.4])
    assert table["y_high"].tolist()[:2] == pytest.approx([0.6, 0.7])
    assert table["z"].tolist()[2:] == [1, 2]
    assert plots.to_table(go.Figure()).empty


def test_all_rows_can_be_read_from_parquet(tmp_path, capsys) -> None:
    store = Store()
    ids = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2])
    mixed = pd.DataFrame({"label": [1, "two", None, [3]], "n": [1, 2, 3, 4]})
    store.add_rows(ids[0], {"mixed": mixed}, "mixed", seconds=1.0, facts={})
    assert run("rows", *ids, "--out", tmp_path / "rows") == 0
    assert "accuracy.parquet" in capsys.readouterr().out
    for name in store.tables(ids[0]):
        read = pd.read_parquet(tmp_path / "rows" / f"{name}.parquet")
        expected = store.rows(name, ids)
        assert list(read.columns) == list(expected.columns) and len(read) == len(expected)
    labels = pd.read_parquet(tmp_path / "rows" / "mixed.parquet")["label"]
    assert labels.tolist()[:2] == ["1", '"two"']
    with zipfile.ZipFile(io.BytesIO(parquet.zipped(store, ids))) as file:
        assert set(file.namelist()) == {
            f"{name}.parquet" for id in ids for name in store.tables(id)
        }
    empty = store.submit({"checkpoint": "demo"}, "a", "k", "s", "cpu")
    with pytest.raises(PruneError, match="no rows yet"):
        parquet.zipped(store, [empty])


def test_a_report_has_print_styles_and_pdf_is_refused(tmp_path, capsys) -> None:
    ids = sample_rows.fill(Store(), 40, runs=sample_rows.RUNS[:3])
    assert run("report", *ids, "--out", tmp_path / "report.html") == 0
    assert "@media print" in (tmp_path / "report.html").read_text()
    assert run("report", *ids, "--out", tmp_path / "report.pdf") == 2
    assert "write report.html and print it" in capsys.readouterr().err


class FakeTracker(types.ModuleType):
    """Records the calls to either tracker."""

    url = ""

    def __init__(self, name: str):
        super().__init__(name)
        self.calls: dict = {}

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            self.calls[name] = (args, kwargs)
            return self

        return call

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("tracker", trackers.TRACKERS)
def test_a_job_is_logged_with_settings_metrics_and_intervals(tracker, monkeypatch, capsys) -> None:
    ids = sample_rows.fill(Store(), 40, runs=sample_rows.RUNS[:3])
    monkeypatch.setattr(trackers, "require", lambda *_: None)
    fake = FakeTracker(tracker)
    monkeypatch.setitem(sys.modules, tracker, fake)
    assert run("log", ids[2], "--to", tracker) == 0 and "PruneScope" in capsys.readouterr().out
    if tracker == "mlflow":
        [metrics], [settings] = (fake.calls[name][0] for name in ("log_metrics", "log_params"))
    else:
        [metrics], settings = fake.calls["log"][0], fake.calls["init"][1]["config"]
    assert {"accuracy", "accuracy_low", "success DeepWordBug"} <= set(metrics)
    assert settings["method.options.sparsity"] == "0.7"


@pytest.mark.parametrize("tracker", trackers.TRACKERS)
def test_a_tracker_that_is_not_installed_is_named(tracker, monkeypatch, capsys) -> None:
    from prune_core import errors

    [id] = sample_rows.fill(Store(), 40, runs=sample_rows.RUNS[:1])
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert run("log", id, "--to", tracker) == 2
    assert f"prunescope[{tracker}]" in capsys.readouterr().err


def test_push_uploads_the_folder_or_explains_how_to_log_in(tmp_path, monkeypatch) -> None:
    import huggingface_hub

    created: list = []

    class Api:
        def create_repo(self, name, **_):
            if "/" not in name:
                raise OSError("no such user")
            created.append(name)

        def upload_folder(self, repo_id, folder_path, **_):
            return f"https://hub.example/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert trackers.push(tmp_path, "me/mine") == "https://hub.example/me/mine"
    assert created == ["me/mine"]
    with pytest.raises(PruneError, match="log in with hf auth login"):
        trackers.push(tmp_path, "mine")
