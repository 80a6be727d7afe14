"""Every page with an empty and a filled store, and with running and failed jobs.

No model is run and no worker is started.
"""

import json
import runpy
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import sample_rows
import streamlit as st
import test_seeds
from streamlit.testing.v1 import AppTest

from pages.sections import drift_map
from pages.widgets import ui
from prune_core import PruneError
from prune_core.analysis.compared_models import models_of
from prune_core.data import uploads
from prune_core.data.examples import sample_indices
from prune_core.deployment import joint_search
from prune_core.deployment.joint_search import FormatTrial
from prune_core.deployment.joint_search_run import JointSearchResult
from prune_core.experiments import attack_transfer
from prune_core.experiments.settings import RunSettings
from prune_core.measures import MEASURES
from prune_core.plugins import option_specs
from prune_core.processes import background, child_process, dataset_preview, robust_checkpoint
from prune_core.processes.inspector_client import STOPPED, RunningAttack
from prune_core.processes.lesson_layer import small_layer
from prune_core.queue import jobs
from prune_core.store import adversarial_pool
from prune_core.store.job import Status
from prune_core.store.store import Store

APP = str(Path(__file__).resolve().parent.parent / "app.py")
PAGES = (
    "overview",
    "prune",
    "compare",
    "layers",
    "drift",
    "attack",
    "deploy",
    "inspect",
    "studies",
)


class FakeInspector:
    """Fake inspector: "smilng" changes every prediction; the second model lacks head 1."""

    def __init__(self, log: Path):
        self.log = log

    def start(self) -> None: ...

    def close(self) -> None: ...

    def predict(
        self,
        checkpoints: list[str],
        texts: list[str],
        pairs: list[str] | None,
        pooling: str = "",
    ) -> list[dict]:
        outputs = [
            ("negative", [0.8, 0.2]) if "smilng" in text else ("positive", [0.2, 0.8])
            for text in texts
        ]
        predictions, probabilities = map(list, zip(*outputs, strict=True))
        shared = {
            "labels": ["negative", "positive"],
            "predictions": predictions,
            "probabilities": probabilities,
            "seconds": 0.01,
        }
        return [{"checkpoint": checkpoint, **shared} for checkpoint in checkpoints]

    def saliency(self, checkpoints: list[str], text: str, pair: str | None) -> list[dict]:
        words = ["[CLS]", *text.split(), "[SEP]"]
        values = {
            "product": [i - 3.0 for i in range(len(words))],
            "norm": [float(i) for i in range(len(words))],
        }
        return [
            {"checkpoint": checkpoint, "words": words, "label": "positive", "logit": 1.5, **values}
            for checkpoint in checkpoints
        ]

    def attention(
        self,
        checkpoints: list[str],
        text: str,
        pair: str | None,
        block: int | None,
        head: int | None,
        pooling: str,
    ) -> list[dict]:
        words = ["[CLS]", *text.split(), "[SEP]"]
        shared = {
            "words": words,
            "block": block,
            "block_count": 6,
            "head_count": 4,
            "weights": [[1 / len(words)] * len(words)] * len(words),
        }
        remaining = [[0, 1, 2, 3], [1, 2, 3]]
        outputs = [
            {"checkpoint": checkpoint, **shared, "heads": heads}
            for checkpoint, heads in zip(checkpoints, remaining, strict=True)
        ]
        return [
            output | {"weights": None}
            if head is not None and head not in output["heads"]
            else output
            for output in outputs
        ]

    def small_layer(self, method: str, sparsity: float, inherited: float = 0.0) -> dict:
        return small_layer(method, sparsity, inherited)

    def attack(
        self, checkpoints: list[str], recipe: str, text: str, pair: str | None, label: int
    ) -> RunningAttack:
        attack = RunningAttack(len(checkpoints), lambda: None)
        states = [(text, 0.8, 1), (text.replace("smiling", "smilng"), 0.2, 43)]
        steps = [
            dict(zip(("text", "probability", "queries"), step, strict=True)) for step in states
        ]
        attack.on_message({"index": 0, "result": {"queries": 43, "steps": steps}})
        ATTACKS.append(attack)
        return attack


ATTACKS: list[RunningAttack] = []  # started by the fake inspector


def finish(attack: RunningAttack) -> None:
    """Finish an attack with success on the first model and failure on the others."""
    steps = attack.results[0]["steps"]
    success = {"outcome": "success", "perturbed": steps[-1]["text"], "queries": 43}
    failure = {
        "outcome": "failed",
        "perturbed": steps[0]["text"],
        "queries": 90,
        "steps": steps[:1],
    }
    for index in range(len(attack.results)):
        attack.on_message(
            {
                "index": index,
                "result": {**(failure if index else success), "seconds": 0.5, "note": ""},
            }
        )
    attack.on_message({"done": True, "error": ""})


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    monkeypatch.setattr(jobs, "housekeeping", lambda *a: None)
    monkeypatch.setattr("prune_core.processes.inspector_client.Inspector", FakeInspector)
    st.cache_data.clear()
    st.cache_resource.clear()
    return Store(tmp_path)


def open_page(page: str, **query: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    if page != "overview":
        at.switch_page(f"pages/{page}.py")
    at.run()
    assert not at.exception, at.exception
    return at


def charts(at: AppTest) -> int:
    return len(at.get("plotly_chart"))


@pytest.mark.parametrize("page", PAGES)
def test_empty_page_offers_demo(store, page):
    at = open_page(page)
    assert charts(at) == 0
    assert page == "prune" or any(button.label == "Run the demo study" for button in at.button)


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("overview", 3),
        ("prune", 0),
        ("compare", 6),
        ("layers", 1),
        ("drift", 1),
        ("attack", 1),
        ("inspect", 1),
    ],
)
def test_filled_page_shows_charts_and_takeaway(store, page, least):
    for job in sample_rows.fill(store, 40)[1:]:
        store.weights(store.job(job)).mkdir(parents=True)
    at = open_page(page)
    assert charts(at) >= least
    assert at.title[0].value == page.capitalize()
    assert not at.error


def test_inspect_starts_with_first_example_and_names_models(store, monkeypatch):
    for job in sample_rows.fill(store, 40, runs=sample_rows.RUNS[1:3], task="reviews.csv"):
        store.weights(store.job(job)).mkdir(parents=True)
    outputs = [
        {
            "labels": ["no", "yes"],
            "predictions": [word],
            "probabilities": [[0.4, 0.6]],
            "seconds": 0.01,
        }
        for word in ("no", "yes")
    ]
    monkeypatch.setattr(FakeInspector, "predict", lambda *_: outputs)
    at = open_page("inspect")
    assert at.text_area(key="text-Text-reviews.csv").value == sample_rows.TEXTS[0]
    assert "Magnitude 50% predicts no; Magnitude 70% does not." in shown_text(at)
    assert "dense model predicts" not in shown_text(at)


def open_inspect(store: Store, **query: str) -> AppTest:
    """Open Inspect with all checkpoints saved."""
    for job in sample_rows.fill(store, 40)[1:]:
        store.weights(store.job(job)).mkdir(parents=True)
    return open_page("inspect", **query)


def shown_text(at: AppTest) -> str:
    return " ".join(
        str(each.value) for each in [*at.markdown, *at.info, *at.caption, *at.get("html")]
    )


def test_inspect_attack_shows_progress_and_outcome_and_fills_form(store):
    at = open_inspect(store)
    at.segmented_control(key="choice-inspect-view").set_value("Attack").run()
    at.button(key="attack").click().run()
    assert not at.exception
    assert charts(at) == 1
    assert "43 queries so far" in shown_text(at)
    assert "queued" in shown_text(at)
    assert not any(button.key.startswith("paste") for button in at.button if button.key)
    finish(ATTACKS[-1])
    at.run()
    assert "attack succeeded after 43 queries" in shown_text(at)
    assert "attack failed after 90 queries" in shown_text(at)
    cells = at.dataframe[0].value
    assert cells["Dense"].tolist() == ["negative · 20.0%"]
    next(button for button in at.button if (button.key or "").startswith("paste")).click().run()
    assert not at.exception and not at.error
    assert "smilng" in at.text_area(key="text-Text-demo").value
    assert "smiling" in at.text_area(key="text-original-demo").value
    assert at.segmented_control(key="choice-inspect-view").value == "Predictions"
    assert "The change affects the prediction of 7 of 7 models" in shown_text(at)
    assert "<del>smiling.</del> <ins>smilng.</ins>" in shown_text(at)


def test_second_inspect_attack_cancels_first(store):
    at = open_inspect(store, **{"inspect-view": "Attack"})
    for _ in range(2):
        at.button(key="attack").click().run()
    first, second = ATTACKS[-2:]
    assert first.error == STOPPED and not second.is_over
    second.cancel()
    at.run()
    assert not at.exception
    assert STOPPED in shown_text(at)
    assert "stopped after 43 queries" in shown_text(at)


def test_saliency_and_attention_compare_two_models(store):
    at = open_inspect(store, **{"inspect-view": "Saliency"})
    assert "masterpiece: 0.000" in shown_text(at)
    assert "prediction: positive, logit 1.50" in shown_text(at)
    assert "1.00 over 14 words" in shown_text(at)
    at.segmented_control(key="choice-saliency").set_value("norm").run()
    assert "masterpiece: 3.000" in shown_text(at)
    at.segmented_control(key="choice-inspect-view").set_value("Attention").run()
    assert charts(at) == 1 and "1 of 4 heads of layer 6 are removed (1)" in shown_text(at)
    at.selectbox(key="choice-attention-head").set_value(1).run()
    assert not at.exception and charts(at) == 1 and "head 1 of layer 6 is removed" in shown_text(at)


def wait_until(holds) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("the condition did not hold within 30 s")


def test_robust_checkpoint_can_be_started_stopped_and_resumed(store, monkeypatch):
    monkeypatch.setattr(robust_checkpoint, "_command", lambda *_, **__: ["sleepy"])
    monkeypatch.setattr(
        background,
        "SCRIPT",
        'echo "  7%  step 9 of 99" > command.log; sleep 60; echo $? > command.exit',
    )
    at = open_page("soup")
    at.button(key="soup-run-example").click().run()
    wait_until(lambda: robust_checkpoint.running(store.home / "soups")["demo"].progress > 0)
    [(name, state)] = robust_checkpoint.running(store.home / "soups").items()
    assert (name, state.status, state.progress, state.detail) == (
        "demo",
        "running",
        0.07,
        "step 9 of 99",
    )
    assert len((store.home / "soups" / "demo" / "choose.csv").read_text().splitlines()) == 257
    at.run()
    assert not any(button.key == "soup-run-example" for button in at.button), (
        "only one may run at a time"
    )
    at.button(key="stop-demo").click().run()
    wait_until(lambda: robust_checkpoint.running(store.home / "soups")["demo"].status == "stopped")
    at.run()
    at.button(key="resume-demo").click().run()
    assert robust_checkpoint.running(store.home / "soups")["demo"].status == "running"
    assert not at.exception
    background.stop(store.home / "soups" / "demo")
    with pytest.raises(PruneError, match="cannot be the name of a folder"):
        robust_checkpoint.start_training(
            store.home / "soups", "../x", robust_checkpoint.RobustPlan("demo", "sst2", "sst2")
        )


def test_soup_page_shows_record_and_opens_prune_page(store):
    at = open_page("soup")
    assert at.title[0].value == "Robust fine-tuning" and not charts(at)
    folder = store.home / "soups" / "reviews" / "greedy-attack"
    folder.mkdir(parents=True)
    (folder / "soup.json").write_text(json.dumps(sample_rows.soup()))
    at = open_page("soup")
    assert charts(at) == 1 and not at.error
    table = at.dataframe[0].value
    assert list(table["used"]) == [False, True, True]
    assert list(table["adversarial_norm"]) == [
        "–",
        "0.6",
        "0.3",
    ]
    assert "epochs" not in table, "options that all candidates share are left out"
    at.button(key="prune-soup").click().run()
    assert at.title[0].value == "Prune" and at.text_input(key="checkpoint").value == str(folder)


def test_compare_shows_savings(store):
    sample_rows.fill(store, 40)
    assert any(
        "of its file" in text.value and "no speed-up" in text.value
        for text in open_page("compare", **{"compare-section": "cost"}).markdown
    )


def test_running_study_shows_finished_results(store):
    sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2])
    plan = store.jobs()[0].experiment | {"method": {"name": "akr", "options": {"sparsity": 0.5}}}
    id = store.submit(plan, "AKR 50%", "later", "Demo", "auto", worker="nobody")
    store.update(id, message="block 3 of 6", progress=0.4, estimate_left=12.0, stage="prune")
    for page in ("overview", "compare", "layers", "drift", "attack"):
        assert charts(open_page(page)), page
    # only the queue: AppTest 1.67 drops the sidebar of an app with st.navigation on its second run
    assert jobs.process_lock(store, "nobody").acquire(), (
        "without the lock, the worker would count as crashed"
    )
    at = AppTest.from_function(queue_alone, default_timeout=60).run()
    at.button(key=f"cancel-{id}").click().run()
    assert store.job(id).cancel and not at.error


def queue_alone() -> None:
    import streamlit as st

    from pages.widgets import frame as _frame
    from prune_core.store.store import Store

    st.session_state["queue-state"] = _frame._state(Store().jobs())
    _frame._queue(Store())


def test_failed_job_shows_error_and_resumes(store):
    sample_rows.fill(store, 40, runs=sample_rows.RUNS[:1])
    id = store.submit(
        store.jobs()[0].experiment, "AKR 70%", "failing", "Demo", "auto", worker="nobody"
    )
    store.update(id, status=Status.FAILED, error="Traceback …\nPruneError: no tokenizer there")
    at = open_page("overview")
    assert "no tokenizer there" in at.error[0].value
    at.button(key=f"resume-{id}").click().run()
    assert store.job(id).status == Status.QUEUED


def test_cancelled_jobs_resume_together_unless_resubmitted(store):
    plan = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:1]) and store.jobs()[0].experiment
    ids = [store.submit(plan, f"Run {key}", key, "Demo", "auto") for key in ("a", "b", "c")]
    for id in ids:
        store.cancel(id)
    store.submit(plan, "Run c", "c", "Demo", "auto")
    at = open_page("overview")
    assert at.button(key="resume-cancelled").label == "Resume 2 runs"
    at.button(key="resume-cancelled").click().run()
    assert [store.job(id).status for id in ids] == [Status.QUEUED, Status.QUEUED, Status.CANCELLED]


def test_selection_from_url_survives_page_changes(store):
    ids = sample_rows.fill(store, 40)
    sample_rows.fill(store, 40, "Other", runs=sample_rows.RUNS[:3])
    at = open_page("overview", study="Demo", models=f"{ids[0]},{ids[6]}")
    assert at.selectbox(key="choice-study").value == "Demo"
    at.switch_page("pages/layers.py").run()
    assert [model.label for model in at.session_state["view"].models] == ["Dense", "AKR 70%"]
    assert at.query_params["study"] == "Demo" and at.query_params["models"] == f"{ids[0]},{ids[6]}"


def test_sidebar_uses_multiselect_for_many_models(store, monkeypatch):
    monkeypatch.setattr("pages.widgets.frame.CHIPS", 5)
    ids = sample_rows.fill(store, 40)
    at = open_page("overview", models=f"{ids[0]},{ids[6]}")
    widget = at.multiselect(key="choice-models")
    assert [widget.format_func(job) for job in widget.value] == ["Dense", "AKR 70%"]
    assert len(widget.options) == len(ids)
    assert [model.label for model in at.session_state["view"].models] == ["Dense", "AKR 70%"]


def test_sparsity_choice_filters_models(store):
    sample_rows.fill(store, 40)
    at = open_page("compare", sparsity="50%")
    assert {model.level for model in at.session_state["view"].pruned} == {"50%"}


def test_every_setting_of_a_run_has_a_widget(store):
    at = open_page("prune")
    widgets = [*at.number_input, *at.selectbox, *at.toggle, *at.text_input]
    names = {spec["name"] for spec in option_specs(RunSettings)}
    assert names - {widget.key for widget in widgets} == {"seed"}, "seeds are chosen in step 2"


def test_invalid_value_shows_error_and_keeps_other_fields(store):
    at = open_page("prune")
    at.text_input(key="checkpoint").set_value("/no/such/folder")
    at.multiselect(key="sparsities").set_value(["50%"])
    at.number_input(key="evaluation_size").set_value(100).run()
    at.selectbox(key="task").set_value("a file of your own").run()
    assert "No data is chosen in step 1" in at.error[0].value
    at.text_input(key="path").set_value("/no/such/file.csv").run()
    assert "no such file" in at.error[0].value
    assert at.text_input(key="checkpoint").value == "/no/such/folder"
    assert at.number_input(key="evaluation_size").value == 100


def test_uploaded_file_is_saved_and_columns_can_be_chosen(store):
    content = b"stars,review,title\n" + b"".join(
        b"%d,A film that is number %d of its kind,T%d\n" % (i % 2, i, i) for i in range(30)
    )
    at = open_page("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.file_uploader(key="upload").set_value(("My films.CSV", content, "text/csv")).run()
    path = at.session_state["uploaded"]
    assert Path(path).parent.parent == store.home / "uploads" and Path(path).read_bytes() == content
    assert at.selectbox(key=f"text-{path}").value == "review"
    assert at.selectbox(key=f"label-{path}").value == "stars"
    at.selectbox(key=f"label-{path}").set_value("review").run()
    assert "different columns" in at.error[0].value
    assert not any(button.key == "queue-plan" for button in at.button)
    at.selectbox(key=f"label-{path}").set_value("stars")
    at.selectbox(key=f"pair-{path}").set_value("title").run()
    at.button(key="queue-plan").click().run()
    assert not at.exception and not at.error
    source = store.jobs()[0].experiment["source"]
    assert (source["task"], source["text"], source["text_pair"], source["label"]) == (
        path,
        "review",
        "title",
        "stars",
    )


def test_calibration_file_is_part_of_the_plan(store, tmp_path):
    at = open_page("prune")
    at.radio(key="calibration-kind").set_value("file").run()
    at.text_input(key="calibration-path").set_value("/no/such/file.csv").run()
    assert "no such file" in at.error[0].value
    assert not any(button.key == "queue-plan" for button in at.button)
    file = tmp_path / "own.csv"
    file.write_text("text\nA sentence of mine that has more than nine words in all.\n")
    at.text_input(key="calibration-path").set_value(str(file)).run()
    at.button(key="queue-plan").click().run()
    assert not at.exception and not at.error
    assert {job.experiment["source"]["calibration"] for job in store.jobs()} == {str(file)}


def test_adversarial_calibration_writes_file_and_warns_about_leakage(
    store,
):
    at = open_page("prune")
    at.radio(key="calibration-kind").set_value("attacked").run()
    assert "has been attacked yet" in " ".join(info.value for info in at.info)
    sample_rows.fill(store, 80)
    at = open_page("prune")
    at.radio(key="calibration-kind").set_value("attacked+clean").run()
    assert "evaluated on texts it has seen" in at.warning[0].value and not at.error
    before = {job.id for job in store.jobs()}
    at.button(key="queue-plan").click().run()
    assert not at.exception
    (path,) = {
        job.experiment["source"]["calibration"] for job in store.jobs() if job.id not in before
    }
    assert Path(path).parent.parent == store.home / "uploads" and "attacked-job-" in path


def test_identical_uploads_share_a_path(tmp_path):
    first = uploads.save(tmp_path, "reviews.csv", b"text,label\n")
    before = first.stat().st_mtime_ns
    assert uploads.save(tmp_path, "../../renamed.csv", b"text,label\n") == first
    assert first.stat().st_mtime_ns == before
    other = uploads.save(tmp_path, "../../reviews.csv", b"text,label\na,1\n")
    assert other != first and other.parent.parent == tmp_path / "uploads"


class FakePreview:
    """Fake process that loads rows from the Hub."""

    is_over = True
    failure = ""

    def __init__(self, task: str, config: str, split: str): ...

    def rows(self) -> list[dict]:
        if self.failure:
            raise PruneError(self.failure)
        return [{"sentence": "A quiet marvel.", "label": "positive"}]


class FakeCheck:
    """Fake data check of an embedding model."""

    is_over = True
    process = SimpleNamespace(kill=lambda: None)

    def __init__(self, experiment):
        self.is_collection = experiment.source.task == "demo-retrieval"

    def result(self) -> dict:
        sizes = {"calibration": 9, "evaluation": 9, "labelled": False, "labels": ["embedding"]}
        return {"kind": "embedding", "is_collection": self.is_collection, "notes": [], **sizes}


def test_retrieval_is_preselected_for_a_collection_only(store, monkeypatch):
    monkeypatch.setattr("pages.sections.data_check.DataCheck", FakeCheck)
    monkeypatch.setattr("pages.sections.data_source.DatasetPreview", FakePreview)
    monkeypatch.setattr("prune_core.experiments.data_check.check_requirements", lambda *a: 0.0)
    at = open_page("prune")
    at.text_input(key="checkpoint").set_value("minilm")
    at.selectbox(key="task").set_value("demo-retrieval").run()
    assert at.toggle(key="use-measure-retrieval").value
    assert at.dataframe[0].value["text"].str.startswith("Bread with a tight crumb").any()
    at.toggle(key="use-measure-retrieval").set_value(False).run()
    assert not at.toggle(key="use-measure-retrieval").value, "the choice of the user remains"
    at.toggle(key="use-measure-retrieval").set_value(True)
    at.selectbox(key="task").set_value("stsb").run()
    assert not at.toggle(key="use-measure-retrieval").value, "pairs have no queries"


def test_known_task_shows_first_rows_or_error(store, monkeypatch):
    monkeypatch.setattr("pages.sections.data_source.DatasetPreview", FakePreview)
    at = open_page("prune")
    at.selectbox(key="task").set_value("sst2").run()
    assert at.dataframe[0].value["sentence"].tolist() == ["A quiet marvel."]
    monkeypatch.setattr(FakePreview, "failure", "sst2: no network")
    at.run()
    assert at.warning[0].value == "sst2: no network"
    assert any(button.key == "queue-plan" for button in at.button), (
        "the cache may be filled before the run starts"
    )


def test_preview_without_network_reports_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no cache"))
    preview = dataset_preview.DatasetPreview("sst2")
    while not preview.is_over:
        time.sleep(0.1)
    with pytest.raises(PruneError, match="sst2 can neither be downloaded .* nor found"):
        preview.rows()


def test_rows_of_known_task_have_label_names(monkeypatch):
    import datasets

    calls = []
    dataset = datasets.Dataset.from_dict(
        {"sentence": ["Dull."] * 7, "label": [0] * 7, "idx": list(range(7))}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: calls.append((a, k)) or dataset)
    rows = dataset_preview.fetch_rows("sst2")
    assert len(rows) == 5 and rows[0] == {"sentence": "Dull.", "label": "negative", "idx": 0}
    assert calls[0][0][1] == "sst2" and calls[0][1]["split"] == "validation"


def test_prune_page_shows_known_dense_accuracy(store):
    ids = sample_rows.fill(store, 40)
    at = open_page("prune")
    assert any(
        f"job {ids[0]}" in text.value and "evaluation examples" in text.value
        for text in at.markdown
    )
    at.text_input(key="checkpoint").set_value("somebody/else").run()
    assert any("has not been measured" in text.value for text in at.caption)


def test_finished_plan_is_reused(store):
    at = open_page("prune")
    at.multiselect(key="sparsities").set_value(["50%"]).run()
    at.button(key="queue-plan").click().run()
    for job in store.jobs():
        store.update(job.id, status=Status.DONE, done=["cost"])
    at = open_page("prune")
    at.multiselect(key="sparsities").set_value(["50%"]).run()
    assert at.button(key="queue-plan").label == "Show the results"
    at.button(key="queue-plan").click().run()
    assert len(store.jobs()) == 4
    assert "4 of 4 runs" in at.session_state["message"], (
        "a toast on the next run, which AppTest leaves out after a switch of pages"
    )
    at.switch_page("pages/prune.py").run()
    at.toggle(key="recompute").set_value(True).run()
    assert at.button(key="queue-plan").label == "Queue 4 runs"


def test_plan_is_queued_by_one_button(store):
    at = open_page("prune")
    at.multiselect(key="sparsities").set_value(["50%", "87.5%"]).run()
    at.button(key="queue-plan").click().run()
    assert not at.exception and not at.error
    labels = [job.label for job in store.jobs()]
    assert labels[0] == "Dense" and "AKR 87.5%" in labels and len(labels) == 7
    assert {job.study for job in store.jobs()} == {"My study"}
    assert at.title[0].value == "Overview"


@pytest.mark.parametrize("page", ["compare", "layers", "drift", "attack"])
def test_every_section_of_a_page_shows_content(store, page):
    test_seeds.filled(store)
    at = open_page(page)

    def shown():
        return [
            *at.get("plotly_chart"),
            *at.dataframe,
            *at.expander,
            *at.info,
            *at.get("download_button"),
        ]

    for section in at.segmented_control(key=f"choice-{page}-section").options:
        at.segmented_control(key=f"choice-{page}-section").set_value(section).run()
        assert not at.exception and not at.error and shown(), section


def test_links_of_earlier_versions_open_the_same_section(store):
    test_seeds.filled(store)
    at = open_page("attack", ask="weak", rate="under_attack", seeds="apart")
    assert at.segmented_control(key="choice-attack-section").value == "slices"
    assert at.segmented_control(key="choice-seeds").value == "separate"
    current = {"attack-section": "slices", "rate": "under_attack", "seeds": "separate"}
    for name, value in current.items():
        assert at.query_params[name] in (value, [value])
    assert "ask" not in at.query_params
    at = open_page("deploy", **{"deploy-part": "flips"})
    assert at.segmented_control(key="choice-deploy-section").value == "changes"


def test_clicked_mark_selects_its_details(store, monkeypatch):
    sample_rows.fill(store, 40)
    clicked: dict = {}
    draw = ui.chart

    def record(*arguments, key, selects=None, **keywords):
        return clicked.update({key: selects}) or draw(
            *arguments, key=key, selects=selects, **keywords
        )

    monkeypatch.setattr(ui, "chart", record)
    monkeypatch.setattr(ui, "set_choice", lambda name, value: chosen.update({name: value}))
    for page, chart, mark, choices in (
        ("layers", "depth", "7|3", {"layer-model": 7, "block": 3, "layers-section": "model"}),
        (
            "attack",
            "success",
            "2|DeepWordBug",
            {
                "attack-model": 2,
                "attack-changes": "letters",
                "recipe": "DeepWordBug",
                "attack-section": "examples",
                "attack-group": "all",
            },
        ),
    ):
        chosen: dict = {}
        open_page(page)
        clicked[chart]([mark])
        assert chosen == choices


def test_layer_details_link_to_drift_map(store):
    sample_rows.fill(store, 80)
    at = open_page("layers", **{"layers-section": "model", "block": "2", "layer-model": "6"})
    assert charts(at) == 2 and not at.exception
    at.button(key="show-drift").click().run()
    assert at.title[0].value == "Drift" and not at.exception
    assert "in layer 2 of AKR 50%?" in shown_text(at)


def test_transfer_cell_shows_its_texts(store):
    sample_rows.fill(store, 40)
    at = open_page("attack", **{"attack-section": "transfer"}, cell="2|7")
    assert at.selectbox(key="choice-cell").value == "2|7"
    assert {"succeeds", "changed"} <= set(at.dataframe[0].value)


def test_stricter_validity_rule_leaves_fewer_texts(store):
    sample_rows.fill(store, 40)
    at = open_page("attack", **{"attack-section": "validity"})

    def valid():
        return next(table.value for table in at.dataframe if "unlike" in table.value)["valid"].sum()

    before = valid()
    at.slider(key="validity-similarity").set_value(0.9).run()
    assert valid() == before, "similarity is not applied to misspellings by default"
    at.toggle(key="validity-misspellings").set_value(True).run()
    assert valid() < before and not at.exception


def test_attacks_without_validity_checks_are_shown(store):
    ids = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:3])
    examples = sample_rows.attack(*sample_rows.RUNS[2])["attack_example"]
    old = {"attack_example": examples.drop(columns=["pair", "similarity", "grammar", "meaning"])}
    store.add_rows(ids[2], old, "attack", seconds=9.0, facts={})
    at = open_page("attack", **{"attack-section": "validity"})
    assert "examples of Magnitude 70% were not checked" in at.info[0].value and charts(at) >= 2
    for id in ids:
        store.add_rows(id, old, "attack", seconds=9.5, facts={})
    at = open_page("attack", **{"attack-section": "validity"})
    assert "Dense, Magnitude 50%, Magnitude 70%" in at.info[0].value and charts(at) >= 1


class FakeTransfer:
    """Fake process that evaluates texts on other models."""

    calls: list[tuple[str, ...]] = []
    is_over, latest = False, " 40%  AKR 50%: predicted 32 of 80"

    def __init__(self, *arguments: str, timeout: float):
        self.calls.append(arguments)

    def output(self) -> str:
        raise PruneError("Job 3 has no pruned checkpoint.")


def test_missing_transfer_is_measured_by_button(store, monkeypatch):
    monkeypatch.setattr("pages.widgets.child_process.ChildProcess", FakeTransfer)
    ids = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:3])
    rows = store.rows("transfer", [ids[0]])
    known = rows.loc[rows["source"] == ids[0], attack_transfer.COLUMNS]
    store.add_rows(ids[0], {"transfer": known}, "transfer", seconds=5.0, facts={})
    at = open_page("attack", **{"attack-section": "transfer"})
    assert any("1 model of 3 not evaluated" in text.value for text in at.caption)
    at.button(key="transfer-run").click().run()
    assert FakeTransfer.calls == [("prune_core", "transfer", *map(str, ids))] and not at.exception
    assert not any(button.key == "transfer-run" for button in at.button), "it is running"
    monkeypatch.setattr(FakeTransfer, "is_over", True)
    at.run()
    assert "no pruned checkpoint" in at.error[0].value and at.button(key="transfer-run")


def test_adversarial_text_is_saved_to_pool(store):
    sample_rows.fill(store, 40)
    at = open_page("attack", **{"attack-section": "examples"})
    save = next(button for button in at.button if str(button.key).startswith("pool-save-"))
    at.text_input(key=str(save.key).replace("save", "note")).set_value("a fair one").run()
    at.button(key=save.key).click().run()
    saved = adversarial_pool.load(store)
    assert saved["note"].tolist() == ["a fair one"]
    assert saved["label"][0] in ("negative", "positive")
    assert saved["model"][0] == "AKR 70%"
    assert not at.exception
    assert any("1 saved text" in str(expander.label) for expander in at.expander)
    assert at.button(key="pool-remove").disabled, "no row is selected"


class SameProcess:
    """Stand-in for Popen: run `python -m MODULE …` in this process, which has imported torch."""

    def __init__(self, command, *, stdout, stderr, **_):
        _, _, module, *arguments = command
        self.returncode = 0
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            patch.setattr(sys, "argv", [module, *arguments])
            try:
                runpy.run_module(module, run_name="__main__")
            except SystemExit as end:
                print(end.code, file=stderr)
                self.returncode = 1
            stdout.flush()
            stderr.flush()

    def poll(self):
        return self.returncode

    wait = kill = poll


@pytest.fixture
def same_process(monkeypatch):
    """Run child processes of pages in this process; other tests start real ones."""
    fake = SimpleNamespace(Popen=SameProcess, DEVNULL=None)
    monkeypatch.setattr(child_process, "subprocess", fake)


def open_checked(file):
    """Open the Prune page with a file and wait for its data check."""
    at = open_page("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    at.session_state["data-check"].process.wait()
    return at.run()


@pytest.mark.usefixtures("same_process")
def test_unknown_label_values_are_mapped_in_a_table(store, tmp_path):
    file = tmp_path / "own.csv"
    rows = [
        f"A sentence of mine that has more than nine words {i},{'meh' if i % 2 else 'fine'}\n"
        for i in range(12)
    ]
    file.write_text("text,label\n" + "".join(rows))
    at = open_checked(file)
    question = " ".join(each.value for each in at.warning)
    assert "not clear which label" in question
    assert "--labels" not in question, "the page has a table in place of the flag"
    assert not any(button.key == "queue-plan" for button in at.button)
    for value, label in (("meh", "negative"), ("fine", "positive")):
        [box] = [each for each in at.selectbox if each.label.startswith(f"{value} ·")]
        assert box.label == f"{value} · 6 rows"
        assert box.options == [
            "negative",
            "positive",
            "leave out",
        ]
        box.set_value(label)
    at.button(key="use-labels").click().run()
    at.run()
    assert not at.exception and not at.error, [each.value for each in at.error]
    at.button(key="queue-plan").click().run()
    assert {job.experiment["source"]["labels"] for job in store.jobs()} == {
        "fine=positive,meh=negative"
    }


@pytest.mark.usefixtures("same_process")
def test_invalid_data_creates_no_job(store, tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("text,label\nA film,0\n")
    at = open_checked(file)
    assert any("too few" in each.value for each in at.error)
    assert not any(b.key == "queue-plan" for b in at.button)
    assert not store.jobs()


@pytest.mark.usefixtures("same_process")
def test_unusable_rows_are_skipped_by_button(store, tmp_path):
    file, text = tmp_path / "own.csv", "A sentence of mine that has more than nine words"
    file.write_text(
        "text,label\n" + "".join(f"{text} {i},{i % 2 if i < 12 else ''}\n" for i in range(16))
    )
    at = open_checked(file)
    [question] = [each.value for each in at.warning if "4 of 16 rows" in each.value]
    assert "line 14" in question and "“Bad rows: skip”" in question and "--bad-rows" not in question
    assert not any(button.key == "queue-plan" for button in at.button)
    at.button(key="skip-rows").click().run()
    at.run()
    at.button(key="queue-plan").click().run()
    assert {job.experiment["source"]["bad_rows"] for job in store.jobs()} == {"skip"}


@pytest.mark.usefixtures("same_process")
def test_rows_of_different_length_name_the_field_that_helps(store, tmp_path):
    file, text = tmp_path / "own.csv", "A sentence of mine that has more than nine words"
    file.write_text(
        "text,label\n" + "".join(f"{text}{', sadly' * (i == 3)} {i},{i % 2}\n" for i in range(12))
    )
    at = open_page("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    assert "1 of 12 rows" in at.error[0].value
    assert "“Bad rows: merge extra cells into the text”" in at.error[0].value
    at.selectbox(key=f"bad_rows-{file}").set_value("merge").run()
    at.session_state["data-check"].process.wait()
    at.run()
    assert not at.error and any("1 row with extra cells" in each.value for each in at.caption)


def test_parsing_options_and_sheet_can_be_changed(store, tmp_path):
    file, book = tmp_path / "own.csv", tmp_path / "book.xlsx"
    file.write_text("a;b\nA film, and one that I liked;1\nA film, and one that I left;0\n")
    with pd.ExcelWriter(book) as writer:
        for sheet, text in (("May", "A film in May"), ("June", "A film in June")):
            pd.DataFrame({"text": [text] * 9, "label": [0, 1, 0] * 3}).to_excel(
                writer, sheet_name=sheet, index=False
            )
    at = open_page("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    assert list(at.dataframe[0].value) == ["b", "a"]
    assert "semicolon" in " ".join(each.value for each in at.caption)
    at.selectbox(key=f"separator-{file}").set_value("comma").run()
    assert "semicolon" not in " ".join(each.value for each in at.caption)
    at.text_input(key="path").set_value(str(book)).run()
    assert at.dataframe[0].value["text"].tolist()[0] == "A film in May"
    at.text_input(key=f"split-{book}").set_value("June").run()
    assert at.dataframe[0].value["text"].tolist()[0] == "A film in June" and not at.exception


@pytest.mark.parametrize(
    ("record", "chosen"),
    [
        ({"tokens": ["Ada", "writes"], "ner_tags": ["B-PER", "O"]}, ("tokens", "", "ner_tags")),
        ({"words": ["Ada", "writes"], "tags": [1, 0], "id": 3}, ("words", "", "tags")),
        (
            {
                "question": "Who?",
                "context": "Ada.",
                "answers": {"text": ["Ada"], "answer_start": [0]},
            },
            ("question", "context", "answers"),
        ),
        (
            {"premise": "Ada writes", "hypothesis": "She does", "label": 0},
            ("premise", "hypothesis", "label"),
        ),
        ({"id": 1, "title": "Film", "review": "A film that is fine to see"}, ("review", "", "-")),
    ],
)
def test_columns_are_detected_for_every_task_type(store, tmp_path, record, chosen):
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for _ in range(9)))
    at = open_page("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    assert (
        tuple(at.selectbox(key=f"{name}-{file}").value for name in ("text", "pair", "label"))
        == chosen
    )
    assert not at.exception


def test_deploy_applies_policy_from_widgets_and_file(store):
    sample_rows.fill(store, 400)
    at = open_page("deploy")

    def takeaway():
        return next(block.proto.body for block in at.get("html") if "takeaway" in block.proto.body)

    assert "AKR 70%. Inconclusive: with n = " in takeaway()
    assert "This sample rules out an accuracy loss of more than" in takeaway()
    at.toggle(key="use-limit-attack_success").set_value(False)
    at.toggle(key="use-limit-slice_loss").set_value(False)
    at.toggle(key="use-limit-calibration_error").set_value(False)
    at.number_input(key="limit-accuracy_loss").set_value(10.0)
    at.number_input(key="limit-agreement").set_value(85.0).run()
    assert "Ship: both limits are met with 95% confidence." in takeaway() and not at.exception
    for part in ("Newly broken, newly fixed", "Slices", "Policy file and CI"):
        at.segmented_control(key="choice-deploy-section").set_value(part).run()
        assert not at.exception and not at.error
    assert any("accuracy_loss: 10" in block.value for block in at.code)
    at.file_uploader(key="policy-file").set_value(
        ("p.yaml", b"accuracy_loss: 0.1\nslices: [length]", "text/yaml")
    ).run()
    assert not at.toggle(key="use-limit-agreement").value
    assert "Do not ship: accuracy loss violates its limit" in takeaway()
    at.file_uploader(key="policy-file").set_value(("p.yaml", b"accuracy_los: 1", "text/yaml")).run()
    assert "Did you mean" in at.error[0].value
    at.toggle(key="use-limit-accuracy_loss").set_value(False).run()
    assert "no limit" in " ".join(error.value for error in at.error)


def test_deploy_warns_about_busy_machine_and_remeasures(store, monkeypatch):
    job = sample_rows.fill(store, 100)[-1]
    cost = sample_rows.cost("akr", 0.7)
    passes = [
        {"model": model, "turn": turn, "seconds": 0.09}
        for model in ("dense", "pruned")
        for turn in range(10)
    ]
    store.add_rows(
        job,
        {"cost": cost.assign(other_load=0.4), "timing": pd.DataFrame(passes)},
        "cost",
        seconds=1.0,
        facts={},
    )
    busy = "other processes took 40% of a core"
    assert any(
        busy in each.value for each in open_page("compare", **{"compare-section": "cost"}).warning
    )
    at = open_page("deploy")
    assert "remeasure" not in [button.key for button in at.button]
    at.toggle(key="use-limit-speedup").set_value(True).run()
    assert any(each.value.startswith(f"**Speed-up**: {busy}") for each in at.info)
    assert not at.exception
    assert (
        at.dataframe[0]
        .value.set_index("test")
        .loc["Accuracy loss", "excluded"]
        .startswith("more than ")
    )
    monkeypatch.setattr("prune_core.queue.jobs.ensure_worker", lambda *_: None)
    at.button(key="remeasure").click().run()
    queued = store.job(job)
    assert queued.status == "queued"
    assert "cost" not in queued.done
    assert "accuracy" in queued.done
    assert not at.exception
    assert queued.experiment["measures"][0]["options"]["repeats"] == 60
    assert len(store.rows("cost", [job])) == 2
    at = open_page("deploy")
    at.toggle(key="use-limit-speedup").set_value(True).run()
    assert "remeasure" not in [button.key for button in at.button], "it is queued already"


def test_deploy_shows_formats_and_runs_size_search(store, monkeypatch):
    job = (jobs := sample_rows.fill(store, 200))[-1]
    at = open_page("deploy")
    at.segmented_control(key="choice-deploy-section").set_value("Deployment formats").run()
    assert f"measure **{MEASURES['formats'].title}**" in at.info[0].value and not at.exception
    row = {
        "model": "dense",
        "format": "ONNX int8",
        "metric": "accuracy",
        "n": 200,
        "score": 0.905,
        "difference": 0.002,
        "agreement": 0.99,
        "latency_p50": 0.02,
        "speedup": 1.8,
        "bytes": 23_500_000,
    }
    store.add_rows(job, {"formats": pd.DataFrame([row])}, "formats", seconds=1.0, facts={})
    at = open_page("deploy")
    at.segmented_control(key="choice-deploy-section").set_value("Deployment formats").run()
    shown = at.dataframe[0].value.iloc[0]
    assert (shown["score"], shown["latency_p50"], shown["bytes"]) == (
        90.5,
        20.0,
        23.5,
    )
    assert not at.exception

    store.add_rows(
        job,
        {"formats": pd.DataFrame([row | {"metric": "spearman", "difference": -0.01}])},
        "formats",
        seconds=1.0,
        facts={},
    )
    at = open_page("deploy")
    at.segmented_control(key="choice-deploy-section").set_value("Deployment formats").run()
    assert at.dataframe[0].value.iloc[0][["score", "difference"]].tolist() == [0.905, -0.01], (
        "a correlation is not a percentage"
    )

    for other in jobs:
        store.add_rows(
            other,
            {"accuracy": store.rows("accuracy", [other]).drop(columns="job").assign(metric="f1")},
            "accuracy",
            seconds=1.0,
            facts={},
        )
    at = open_page("deploy")
    assert (
        at.toggle(key="use-limit-accuracy_loss").label.startswith("F1 loss") and not at.exception
    ), "the limit names the task's metric"
    assert at.number_input(key="limit-accuracy_loss").label == "F1 loss (points, at most)"

    files = [
        {**row, "format": format_name, "own_divergence": divergence, "own_changed": divergence}
        for format_name, divergence in (
            ("ONNX fp32", 0.0),
            ("ONNX int8", 0.5),
            ("ONNX int8 repaired", 0.02),
        )
    ]
    divergences = {"a.dense": 0.05, "b": 0.4}
    matrices = [
        {
            "module": name,
            "divergence": divergence,
            "changed": divergence,
            "proposed": divergence < 0.1,
        }
        for name, divergence in divergences.items()
    ]
    store.add_rows(
        job,
        {"quantization": pd.DataFrame(matrices), "repair": pd.DataFrame(files)},
        "quantization",
        seconds=1.0,
        facts={},
    )
    at = open_page("deploy")
    at.segmented_control(key="choice-deploy-section").set_value("Deployment formats").run()
    assert any(
        "**1 of 2 matrices in fp32 recover 96% of the divergence**: `a.dense`." in block.value
        for block in at.markdown
    )
    assert at.dataframe[2].value["back"].round().tolist() == [90, 20] and not at.exception

    started = []
    monkeypatch.setattr(
        "prune_core.processes.background.start",
        lambda folder, arguments: started.append((folder, list(arguments))),
    )
    at.segmented_control(key="choice-deploy-section").set_value("Size search").run()
    at.button(key="find-smallest").click().run()
    (folder, arguments), *_ = started
    assert arguments[:3] == ["shrink-to", "--job", str(job)]
    # 30 examples cannot decide the usual limit of 1 point
    assert "accuracy_loss: 3" in (folder / "policy.yaml").read_text()
    (folder / "command.json").write_text("{}")
    (folder / "command.log").write_text(
        " 40%  prune: block 2\n- AKR 50%: Ship.\n"
        "AKR 50% (job 9) is the smallest that holds the limit.\n"
    )
    (folder / "command.exit").write_text("0")
    at.run()
    assert at.success[0].value == "AKR 50% (job 9) is the smallest that holds the limit."
    assert not at.exception
    assert any(block.value == "- AKR 50%: Ship." for block in at.markdown)
    (folder / "command.exit").unlink()
    at.run()
    assert "was stopped" in at.info[0].value and not at.success
    at.number_input(key="limit-accuracy_loss").set_value(2.0).run()
    assert not at.success and not at.info and not at.exception, "other limits are another search"


def test_size_search_offers_fastest_for_structured_methods(tmp_path, monkeypatch):
    def page(home, options, removes):
        from types import SimpleNamespace

        from pages.sections import size_search
        from prune_core.deployment.policy import Policy

        job = SimpleNamespace(
            id=7,
            label="K-prune −50% FLOPs",
            is_candidate=False,
            experiment={"method": {"name": "kprune", "options": options, "removes": removes}},
        )
        size_search.page(home, job, Policy({"accuracy_loss": 1.0}))

    started = []
    monkeypatch.setattr(
        "prune_core.processes.background.start",
        lambda folder, arguments: started.append(list(arguments)),
    )
    at = AppTest.from_function(
        page, kwargs={"home": tmp_path, "options": {"sparsity": 0.5}, "removes": "weights"}
    ).run()
    assert not at.segmented_control and at.button(key="find-smallest")
    at = AppTest.from_function(
        page, kwargs={"home": tmp_path, "options": {"sparsity": 0.5}, "removes": "units"}
    ).run()
    at.segmented_control(key="choice-search-objective").set_value("fastest").run()
    at.button(key="find-fastest").click().run()
    assert started[0][:4] == ["shrink-to", "--job", "7", "--fastest"] and not at.exception
    assert (
        at.code[0].value == "python -m prune_core shrink-to --job 7 --fastest --policy policy.yaml"
    )
    at.multiselect(key="choice-search-formats").set_value(["ONNX int8", "PyTorch fp32"]).run()
    at.toggle(key="search-trim").set_value(True).run()
    at.button(key="find-fastest").click().run()
    command = ["--fastest", "--formats", "PyTorch fp32,ONNX int8", "--trim"]
    assert started[1][3:7] == command and not at.exception
    record = Path(started[1][started[1].index("--json") + 1])
    trials = [
        FormatTrial(0.0, "ONNX int8", "Trimmed · ONNX int8", 3, True, True, "Ship.", 0.9, 0.8, 1.0),
        FormatTrial(0.5, "ONNX int8", "K-prune 50%", 0, False, False, "one head"),
    ]
    measured = [replace(trials[0], bytes=2e7, latency=0.01, speedup=2.0, memory=1e8), trials[1]]
    rows = joint_search.table(measured, joint_search.FASTEST)
    result = JointSearchResult(rows, "", measured[0])
    record.write_text(json.dumps(result.as_json()))
    at.run()
    shown = at.dataframe[0].value
    assert shown["bytes"].iloc[0] == 20.0 and shown["bytes"].isna().tolist() == [False, True]
    assert shown["front"].tolist() == [True, False] and not at.exception


@pytest.mark.parametrize("page", PAGES)
def test_every_page_averages_seeds(store, page):
    test_seeds.filled(store)
    at = open_page(page)
    assert not at.error
    assert [len(model.runs) for model in at.session_state["view"].models] == [
        3,
        3,
        0,
        3,
        3,
    ]
    separate = open_page(page, seeds="apart", models="2,6,10")
    assert not separate.error
    assert [model.job for model in separate.session_state["view"].models] == [
        6,
        10,
        2,
    ]


SINGLE_SEED_VIEWS = (
    ("drift", {}),
    ("attack", {"attack-section": "examples"}),
    ("attack", {"attack-section": "transfer"}),
    ("drift", {"examples": "7"}),
    ("layers", {"layers-section": "what-if"}),
    ("deploy", {}),
    ("deploy", {"deploy-section": "export"}),
    ("inspect", {}),
    ("lesson", {"step": "7"}),
)


@pytest.mark.parametrize(("page", "query"), SINGLE_SEED_VIEWS)
def test_single_seed_views_name_the_seed(store, page, query):
    test_seeds.filled(store)
    for job in store.jobs():
        if job.experiment["method"]:
            store.weights(job).mkdir(parents=True)
    at = open_page(page, **query)
    assert "seed 0 (one of 3 seeds)" in shown_text(at) and not at.error
    separate = open_page(page, seeds="separate", **query)
    assert "(one of" not in shown_text(separate), "labels name separate seeds"


def test_averages_are_labelled_and_times_averaged(store):
    test_seeds.filled(store)
    for job in store.jobs():
        store.update(job.id, seconds={"prune": 10.0 * (1 + job.experiment["seed"])})
    captions = [caption.value for caption in open_page("overview").sidebar.caption]
    assert "Values are the mean over 3 seeds, unless a chart or table names a seed." in captions
    at = open_page("compare", **{"compare-section": "values"})
    times = at.dataframe[0].value.set_index("label")["took"]
    assert times["AKR 70%"] == "20 s" and times["SparseGPT 50%"] == "10 s"
    for section in ("slices", "validity"):
        text = shown_text(open_page("attack", **{"attack-section": section}))
        assert "over seeds and examples" in text and "mean over 3 seeds" in text


def test_study_is_searched_tagged_renamed_and_deleted(store):
    sample_rows.fill(store, 40)
    sample_rows.fill(store, 40, "Other", runs=sample_rows.RUNS[:2])
    at = open_page("studies")
    assert len(at.dataframe[0].value) == 2
    at.text_input(key="study-search").set_value("other magnitude").run()
    assert list(at.dataframe[0].value["study"]) == ["Other"]
    at.multiselect(key="tags-Other").set_value([]).run()
    at.text_input(key="rename-Other").set_value("Another").run()
    at.button(key="study-rename").click().run()
    assert not at.exception and store.studies() == ["Another", "Demo"]
    at.text_input(key="rename-Another").set_value("Demo").run()
    at.button(key="study-rename").click().run()
    assert "already" in at.error[0].value and store.studies() == ["Another", "Demo"]
    at.text_input(key="study-search").set_value("another").run()
    at.button(key="study-delete").click().run()
    assert "2 runs" in " ".join(text.value for text in at.markdown) and store.studies() == [
        "Another",
        "Demo",
    ], "deletion needs confirmation"
    at.button(key="confirm-yes").click().run()
    assert not at.exception and store.studies() == ["Demo"]


def test_study_is_copied_and_compared(store):
    sample_rows.fill(store, 40)
    at = open_page("studies")
    at.text_input(key="rename-Demo").set_value("Twin").run()
    at.button(key="study-clone").click().run()
    assert store.studies() == ["Twin", "Demo"] and len(store.jobs("Twin")) == 7 and not at.exception
    assert {job.experiment["study"] for job in store.jobs("Twin")} == {"Twin"}
    runs = next(table.value for table in at.dataframe if "status" in table.value)
    assert len(runs) == 7
    assert {"prune", "accuracy", "attack"} <= set(runs)
    assert set(runs["status"]) == {"done"}
    at.segmented_control(key="choice-study-section").set_value("comparison").run()
    both = at.dataframe[-1].value
    assert {"Twin", "Demo", "Difference"} <= set(both)
    assert len(both) == 7
    assert set(both["Difference"]) == {"0.0 points"}


def test_running_study_is_stopped_and_resumed(store):
    [dense, _] = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2])
    plan = {**store.job(dense).experiment, "seed": 5}
    store.submit(plan, "Dense · seed 5", "another key", "Demo", "cpu")
    at = open_page("studies")
    at.button(key="study-stop").click().run()
    assert store.jobs("Demo")[-1].status == Status.CANCELLED
    at.button(key="study-resume").click().run()
    assert store.jobs("Demo")[-1].status == Status.QUEUED and not at.exception


def test_selected_examples_are_shown_on_other_pages(store):
    sample_rows.fill(store, 80)
    at = open_page("drift", examples="7")

    def text() -> str:
        return " ".join(str(block.value) for block in [*at.markdown, *at.caption])

    assert sample_rows.TEXTS[7] in text() and "Example 8; label: " in text()
    predictions = next(frame.value for frame in at.dataframe if "prediction" in frame.value)
    assert len(predictions) == 7 and {"DeepWordBug", "TextFooler (MiniLM)"} <= set(predictions)
    at = open_page("drift", examples=",".join(map(str, range(30))))
    assert "30 examples compared with the rest, AKR 70%" in text()
    assert "**Accuracy**: " in text()
    assert "Success of DeepWordBug" in text()
    at = open_page("attack", ask="read", examples="1,2,3,70")
    assert "Selected examples that were attacked: 3 of 4." in text() and not at.error


def test_selected_example_opens_on_inspect(store):
    for job in sample_rows.fill(store, 80)[1:]:
        store.weights(store.job(job)).mkdir(parents=True)
    at = open_page("drift", examples="7")
    text = at.session_state["view"].first_seed("prediction").query("example == 7")["text"].iloc[0]
    at.button(key="inspect-example").click().run()
    assert at.title[0].value == "Inspect" and at.text_area[0].value == text and not at.exception


def test_example_numbers_of_different_samples_are_ambiguous(store):
    ids = sample_rows.fill(store, 80)
    rows = sample_rows.predictions("akr", 0.7, 80)
    store.add_rows(
        ids[-1],
        {"prediction": rows.assign(text=rows["text"] + " Another.")},
        "accuracy",
        seconds=4.0,
        facts={},
    )
    at = open_page("drift", examples="7")
    assert "evaluated on different samples" in at.warning[0].value
    attacks = sample_rows.attack("akr", 0.7)["attack_example"]
    other = {"attack_example": attacks.assign(text=attacks["text"] + " Another.")}
    store.add_rows(ids[-1], other, "attack", seconds=4.0, facts={})
    at = open_page("attack", **{"attack-section": "examples"}, examples="7")
    assert "evaluated on different samples" in at.warning[0].value
    assert not any("Selected examples that were attacked" in text.value for text in at.caption)


def test_old_drift_tables_are_renumbered_to_evaluation_sample(store):
    """Old tables numbered the drift sample, so a click selected another example's predictions."""
    [_, id] = sample_rows.fill(store, 80, runs=sample_rows.RUNS[:2])
    indices = sample_indices(range(80), 12, seed=0)
    drift, predictions = (store.rows(name, [id]) for name in ("drift_map", "prediction"))
    texts = store.rows("drift_example", [id])
    new = {
        "drift_map": drift[drift["example"].isin(indices)],
        "drift_example": texts[texts["example"].isin(indices)],
    }
    position = {index: number for number, index in enumerate(indices)}
    old = {name: rows.assign(example=rows["example"].map(position)) for name, rows in new.items()}
    assert old["drift_example"]["text"].tolist() != predictions["text"][:12].tolist()
    (model,) = models_of([store.job(id)])
    for tables in (new, old):
        view = SimpleNamespace(first_seed=tables.get, jobs=[store.job(id)])
        shifts = drift_map.movers(view, model, 0, projection="pca")
        assert sorted(shifts["example"]) == indices
        assert shifts["text"].tolist() == predictions["text"][shifts["example"]].tolist()


def test_group_is_compared_by_fishers_test():
    from prune_core.analysis import example_groups

    rows = pd.DataFrame({"example": range(20), "label": [1] * 20, "pruned": [0] * 5 + [1] * 15})
    contrast = example_groups.is_correct(rows, range(8))
    assert (contrast.inside, contrast.n, contrast.outside, contrast.n_outside) == (
        3 / 8,
        8,
        1.0,
        12,
    )
    # 56 of 15,504 tables
    assert contrast.p_value == pytest.approx(0.0036, abs=1e-4)
    assert contrast.low < -0.625 < contrast.high < 0
    assert example_groups.is_correct(rows, range(20)) is None
    assert example_groups.is_correct(rows.assign(label=None), range(8)) is None
    assert example_groups.attack_succeeded(pd.DataFrame(), [1]) == {}


@pytest.mark.parametrize("study", [False, True])
def test_lesson_steps_have_charts_or_a_demo_button(store, study):
    if study:
        sample_rows.fill(store, 40)
    at = open_page("lesson")
    steps = len(at.segmented_control(key="choice-step").options)
    for number in range(1, steps + 1):
        assert at.header[0].value.startswith(f"{number} · ") and not at.exception and not at.error
        assert len(at.latex) == 1 and any(each.label.endswith("?") for each in at.expander)
        assert (
            charts(at)
            or at.get("html")
            or any(button.key.endswith("demo-lesson") for button in at.button)
        ), number
        if number < steps:
            at.button(key="lesson-next").click().run()
    assert at.button(key="lesson-next").disabled
    at.button(key="lesson-present").click().run()
    assert not at.title and at.query_params["present"] in ("1", ["1"])
    at.button(key="lesson-present").click().run()
    assert at.title[0].value == "Lesson"


def test_lesson_layer_supports_its_text():
    def error(method, inherited=0.0, sparsity=0.5):
        return small_layer(method, sparsity, inherited)["total_error"]

    assert error("wanda") < error("magnitude")
    assert error("sparsegpt") < error("wanda") < error("columns")
    assert error("akr", 0.6) < 0.7 * error("sparsegpt", 0.6)
    assert error("akr") > 0.7 * error("sparsegpt")
    assert small_layer("akr", 0.5, 0.0)["inherited_error"] == 0
    assert error("magnitude", sparsity=0.25) < 0.15 < 0.5 < error("magnitude", sparsity=0.75), (
        "small at first, then rising steeply"
    )
    for method in ("magnitude", "wanda", "sparsegpt", "akr", "columns"):
        weight = small_layer(method, 0.5, 0.3)["pruned_weight"]
        assert sum(value == 0 for row in weight for value in row) == 24, method


def test_study_with_few_measures_opens_every_page_and_lesson_step(store):
    measured = ("prune", "drift", "drift_map", "drift_example")
    for id in sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2]):
        tables = {name: at for name, at in store.job(id).tables.items() if name in measured}
        store.update(id, tables=tables)
    for page in ("compare", "layers", "drift", "attack", "studies"):
        at = open_page(page)
        assert not at.exception and not at.error, page
    for number in range(1, 12):
        at = open_page("lesson", step=str(number))
        assert not at.exception and not at.error, number


def test_score_differences_are_not_changed_predictions():
    from prune_core import plots

    scores = pd.DataFrame({"dense": [1.0, 2.0], "pruned": [1.1, 2.0]})
    assert not plots.prediction_changed(scores).any()
    assert plots.prediction_changed(pd.DataFrame({"dense": [0, 1], "pruned": [1, 1]})).tolist() == [
        True,
        False,
    ]
