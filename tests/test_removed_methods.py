"""Stored runs of removed methods: they are still shown, and running them again is an error."""

import pytest
import sample_rows
from test_pages import charts, open_page

from prune_core import PruneError
from prune_core.analysis.compared_models import models_of
from prune_core.cli.report import write_report
from prune_core.experiments import reprune
from prune_core.plugins import no_report
from prune_core.queue import jobs, worker
from prune_core.store.job import Status
from prune_core.store.store import Store

REMOVED = {"grasprune": "GRASPrune", "exact_obs": "ExactOBS"}


@pytest.fixture(params=REMOVED)
def run(request) -> tuple[Store, int, str]:
    """A store with a dense run and a run of a removed method: (store, the run's id, its label)."""
    store = Store()
    _, id = sample_rows.fill(store, 40, runs=(("dense", 0.0), ("magnitude", 0.5)))
    method = {"name": request.param, "options": {"sparsity": 0.5, "pattern": "", "epochs": 4}}
    label = f"{REMOVED[request.param]} 50%"
    store.update(id, experiment=store.job(id).experiment | {"method": method}, label=label)
    return store, id, label


def test_removed_method_is_shown_by_its_title(run, tmp_path) -> None:
    store, id, label = run
    model = models_of(store.jobs())[1]
    assert (model.job, model.label, model.family) == (id, label, label.split()[0])
    write_report(store, [job.id for job in store.jobs()], tmp_path / "report.html")
    assert label in (tmp_path / "report.html").read_text()


def test_compare_page_shows_removed_method(run, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    monkeypatch.setattr(jobs, "housekeeping", lambda *a: None)
    assert charts(open_page("compare")) > 3


def test_rerunning_removed_method_lists_available_methods(run) -> None:
    store, id, _ = run
    with pytest.raises(PruneError, match=r"There is no .*Available: magnitude, wanda, sparsegpt"):
        reprune.reprune_job(store, store.job(id), no_report)
    with pytest.raises(PruneError, match="Available: "):
        jobs.with_new_measures(store.job(id), ["accuracy"], {})
    store.update(id, status=Status.RUNNING, worker="test")
    job = worker.run_job(store, store.job(id), lambda: None)
    assert job.status == Status.FAILED and "Available: magnitude" in job.error
