"""Every page on an empty and on a filled store, with a running and with a failed job. No model is run, no worker started."""

from pathlib import Path

import pytest
import sample_rows
import streamlit as st
from streamlit.testing.v1 import AppTest

from prune_core import jobs
from prune_core.store import Status, Store

APP = str(Path(__file__).resolve().parent.parent / "app.py")
PAGES = ("overview", "prune", "compare", "layers", "drift", "attack", "inspect")


class Oracle:
    """Stands in for the process that answers Inspect."""

    def __init__(self, log: Path):
        self.log = log

    def start(self) -> None: ...

    def close(self) -> None: ...

    def predict(self, checkpoints: list[str], texts: list[str]) -> list[dict]:
        return [{"checkpoint": c, "labels": ["negative", "positive"], "probabilities": [[0.2, 0.8]], "seconds": 0.01} for c in checkpoints]


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    monkeypatch.setattr(jobs, "tend", lambda *a: None)
    monkeypatch.setattr("prune_core.inspect.Predictor", Oracle)
    st.cache_data.clear()
    st.cache_resource.clear()
    return Store(tmp_path)


def opened(page: str, **query: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    if page != "overview":
        at.switch_page(f"pages/{page}.py").run()
    assert not at.exception, at.exception
    return at


def charts(at: AppTest) -> int:
    return len(at.get("plotly_chart"))


@pytest.mark.parametrize("page", PAGES)
def test_empty_store_says_what_the_page_will_show_and_offers_the_demo(store, page):
    at = opened(page)
    assert charts(at) == 0
    assert page == "prune" or any(button.label == "Run the demo study" for button in at.button)


@pytest.mark.parametrize(
    ("page", "least"), [("overview", 3), ("prune", 0), ("compare", 6), ("layers", 4), ("drift", 5), ("attack", 4), ("inspect", 1)]
)
def test_filled_store_shows_charts_and_a_takeaway(store, page, least):
    for job in sample_rows.fill(store, 40)[1:]:
        (store.folder(job) / "checkpoint").mkdir()
    at = opened(page)
    assert charts(at) >= least
    assert at.title[0].value == page.capitalize()
    assert not at.error


def test_a_study_in_its_middle_shows_what_is_there(store):
    sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2])
    plan = store.jobs()[0].experiment | {"method": {"name": "akr", "options": {"sparsity": 0.5}}}
    id = store.submit(plan, "AKR 50%", "later", "Demo", "auto", worker="nobody")
    store.update(id, message="block 3 of 6", progress=0.4, estimate_left=12.0, stage="prune")
    for page in ("overview", "compare", "layers", "drift", "attack"):
        assert charts(opened(page)), page
    # the sidebar's queue by itself: AppTest 1.67 forgets the sidebar of an app with st.navigation when it runs again
    assert jobs.life_lock(store, "nobody").take(), "otherwise the job would count as one whose worker died"
    at = AppTest.from_function(queue_alone, default_timeout=60).run()
    at.button(key=f"cancel-{id}").click().run()
    assert store.job(id).cancel and not at.error


def queue_alone() -> None:
    import streamlit as st

    from pages import _frame
    from prune_core.store import Store

    st.session_state["seen"] = _frame._state(Store().jobs())
    _frame._queue(Store())


def test_a_failed_job_shows_its_sentence_and_resumes(store):
    sample_rows.fill(store, 40, runs=sample_rows.RUNS[:1])
    id = store.submit(store.jobs()[0].experiment, "AKR 70%", "failing", "Demo", "auto", worker="nobody")
    store.update(id, status=Status.FAILED, error="Traceback …\nPruneError: no tokenizer there")
    at = opened("overview")
    assert "no tokenizer there" in at.error[0].value
    at.button(key=f"resume-{id}").click().run()
    assert store.job(id).status == Status.QUEUED


def test_the_view_comes_from_the_link_and_survives_pages(store):
    ids = sample_rows.fill(store, 40)
    sample_rows.fill(store, 40, "Other", sample_rows.RUNS[:3])
    at = opened("overview", study="Demo", models=f"{ids[0]},{ids[6]}")
    assert at.selectbox(key="choice-study").value == "Demo"
    at.switch_page("pages/layers.py").run()
    assert [model.label for model in at.session_state["view"].models] == ["Dense", "AKR 70%"]
    assert at.query_params["study"] == "Demo" and at.query_params["models"] == f"{ids[0]},{ids[6]}"


def test_the_sparsity_choice_narrows_all_views(store):
    sample_rows.fill(store, 40)
    at = opened("compare", sparsity="50%")
    assert {model.level for model in at.session_state["view"].pruned} == {"50%"}


def test_a_wrong_value_is_a_sentence_and_loses_nothing(store):
    at = opened("prune")
    at.text_input(key="checkpoint").set_value("/no/such/folder")
    at.multiselect(key="sparsities").set_value(["50%"])
    at.number_input(key="evaluation").set_value(100).run()
    at.selectbox(key="task").set_value("a file of your own").run()
    assert "path of your file" in at.error[0].value
    at.text_input(key="path").set_value("/no/such/file.csv").run()
    assert "no such file" in at.error[0].value
    assert at.text_input(key="checkpoint").value == "/no/such/folder" and at.number_input(key="evaluation").value == 100


def test_the_plan_is_queued_by_one_button(store):
    at = opened("prune")
    at.multiselect(key="sparsities").set_value(["50%", "87.5%"]).run()
    at.button(key="queue-plan").click().run()
    assert not at.exception and not at.error
    labels = [job.label for job in store.jobs()]
    assert labels[0] == "Dense" and "AKR 87.5%" in labels and len(labels) == 7
    assert {job.study for job in store.jobs()} == {"My study"}
    assert at.title[0].value == "Overview"
