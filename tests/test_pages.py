"""Every page on an empty and on a filled store, with a running and with a failed job. No model is run, no worker started."""

import json
import time
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
from prune_core.experiments import attack_transfer
from prune_core.processes import background, dataset_preview, robust_checkpoint
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


class Oracle:
    """Stands in for the process that answers Inspect: "smilng" turns every model, and head 1 of the second model is gone."""

    def __init__(self, log: Path):
        self.log = log

    def start(self) -> None: ...

    def close(self) -> None: ...

    def predict(
        self, checkpoints: list[str], texts: list[str], pairs: list[str] | None
    ) -> list[dict]:
        answers = [
            ("negative", [0.8, 0.2]) if "smilng" in text else ("positive", [0.2, 0.8])
            for text in texts
        ]
        said, probabilities = map(list, zip(*answers, strict=True))
        answer = {
            "labels": ["negative", "positive"],
            "said": said,
            "probabilities": probabilities,
            "seconds": 0.01,
        }
        return [{"checkpoint": checkpoint, **answer} for checkpoint in checkpoints]

    def saliency(self, checkpoints: list[str], text: str, pair: str | None) -> list[dict]:
        words = ["[CLS]", *text.split(), "[SEP]"]
        figures = {
            "product": [i - 3.0 for i in range(len(words))],
            "norm": [float(i) for i in range(len(words))],
        }
        return [
            {"checkpoint": each, "words": words, "label": "positive", "logit": 1.5, **figures}
            for each in checkpoints
        ]

    def attention(
        self,
        checkpoints: list[str],
        text: str,
        pair: str | None,
        block: int | None,
        head: int | None,
    ) -> list[dict]:
        words = ["[CLS]", *text.split(), "[SEP]"]
        shape = {
            "words": words,
            "block": block,
            "blocks": 6,
            "of": 4,
            "weights": [[1 / len(words)] * len(words)] * len(words),
        }
        left = [[0, 1, 2, 3], [1, 2, 3]]
        found = [
            {"checkpoint": each, **shape, "heads": heads}
            for each, heads in zip(checkpoints, left, strict=True)
        ]
        return [
            told | ({"weights": None} if head is not None and head not in told["heads"] else {})
            for told in found
        ]

    def small_layer(self, method: str, sparsity: float, inherited: float = 0.0) -> dict:
        return small_layer(method, sparsity, inherited)

    def attack(
        self, checkpoints: list[str], recipe: str, text: str, pair: str | None, label: int
    ) -> RunningAttack:
        attack = RunningAttack(len(checkpoints), lambda: None)
        found = [(text, 0.8, 1), (text.replace("smiling", "smilng"), 0.2, 43)]
        steps = [dict(zip(("text", "probability", "queries"), step, strict=True)) for step in found]
        attack.on_message({"index": 0, "result": {"queries": 43, "steps": steps}})
        ATTACKS.append(attack)
        return attack


ATTACKS: list[RunningAttack] = []  # that the oracle has begun


def end(attack: RunningAttack) -> None:
    """The attack succeeded on the first model and failed on the others."""
    steps = attack.models[0]["steps"]
    won = {"outcome": "success", "perturbed": steps[-1]["text"], "queries": 43}
    held = {"outcome": "failed", "perturbed": steps[0]["text"], "queries": 90, "steps": steps[:1]}
    for index in range(len(attack.models)):
        attack.on_message(
            {"index": index, "result": {**(held if index else won), "seconds": 0.5, "note": ""}}
        )
    attack.on_message({"done": True, "error": ""})


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    monkeypatch.setattr(jobs, "housekeeping", lambda *a: None)
    monkeypatch.setattr("prune_core.processes.inspector_client.Inspector", Oracle)
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
def test_filled_store_shows_charts_and_a_takeaway(store, page, least):
    for job in sample_rows.fill(store, 40)[1:]:
        (store.folder(job) / "checkpoint").mkdir()
    at = opened(page)
    assert charts(at) >= least
    assert at.title[0].value == page.capitalize()
    assert not at.error


def test_inspect_starts_with_a_sentence_of_the_study_and_calls_no_other_model_dense(
    store, monkeypatch
):
    for job in sample_rows.fill(store, 40, runs=sample_rows.RUNS[1:3], task="reviews.csv"):
        (store.folder(job) / "checkpoint").mkdir()
    answers = [
        {"labels": ["no", "yes"], "said": [word], "probabilities": [[0.4, 0.6]], "seconds": 0.01}
        for word in ("no", "yes")
    ]
    monkeypatch.setattr(Oracle, "predict", lambda *_: answers)
    at = opened("inspect")
    assert at.text_area(key="text-A sentence-reviews.csv").value == sample_rows.TEXTS[0]
    assert "Magnitude 50% says no; Magnitude 70% says otherwise." in told(
        at
    ) and "dense model says" not in told(at)


def inspecting(store: Store, **query: str) -> AppTest:
    """Inspect with every checkpoint there."""
    for job in sample_rows.fill(store, 40)[1:]:
        (store.folder(job) / "checkpoint").mkdir()
    return opened("inspect", **query)


def told(at: AppTest) -> str:
    return " ".join(
        str(each.value) for each in [*at.markdown, *at.info, *at.caption, *at.get("html")]
    )


def test_an_attack_is_watched_ends_in_words_and_is_pasted(store):
    at = inspecting(store)
    at.segmented_control(key="choice-inspect-view").set_value("Attack").run()
    at.button(key="attack").click().run()
    assert (
        not at.exception
        and charts(at) == 1
        and "43 queries so far" in told(at)
        and "waiting" in told(at)
    )
    assert not any(button.key.startswith("paste") for button in at.button if button.key)
    end(ATTACKS[-1])
    at.run()
    assert "attack succeeded after 43 queries" in told(
        at
    ) and "attack failed after 90 queries" in told(at)
    cells = at.dataframe[0].value
    assert cells["Dense"].tolist() == ["negative · 20.0%"]
    next(button for button in at.button if (button.key or "").startswith("paste")).click().run()
    assert not at.exception and not at.error
    assert (
        "smilng" in at.text_area(key="text-A sentence-demo").value
        and "smiling" in at.text_area(key="text-original-demo").value
    )
    assert at.segmented_control(key="choice-inspect-view").value == "Predictions"
    assert "The change turns 7 of 7 models" in told(
        at
    ) and "<del>smiling.</del> <ins>smilng.</ins>" in told(at)


def test_a_second_attack_ends_the_first_and_stopping_says_so(store):
    at = inspecting(store, **{"inspect-view": "Attack"})
    for _ in range(2):
        at.button(key="attack").click().run()
    first, second = ATTACKS[-2:]
    assert first.error == STOPPED and not second.is_over
    second.cancel()
    at.run()
    assert not at.exception and STOPPED in told(at) and "stopped after 43 queries" in told(at)


def test_saliency_and_attention_of_two_models_side_by_side(store):
    at = inspecting(store, **{"inspect-view": "Saliency"})
    assert "masterpiece: 0.000" in told(at) and "says positive, logit 1.50" in told(at)
    assert "rank correlation 1.00 over 14 words" in told(at)
    at.segmented_control(key="choice-saliency").set_value("norm").run()
    assert "masterpiece: 3.000" in told(at)
    at.segmented_control(key="choice-inspect-view").set_value("Attention").run()
    assert charts(at) == 1 and "1 of 4 heads of block 6 are removed (1)" in told(at)
    at.selectbox(key="choice-attention-head").set_value(1).run()
    assert not at.exception and charts(at) == 1 and "head 1 of block 6 is removed" in told(at)


def until(holds) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come true within 30 s")


def test_a_robust_start_is_made_by_a_button_watched_stopped_and_gone_on_with(store, monkeypatch):
    monkeypatch.setattr(robust_checkpoint, "_command", lambda folder, *_, **__: ["sleepy"])
    monkeypatch.setattr(
        background,
        "SCRIPT",
        'echo "  7%  step 9 of 99" > command.log; sleep 60; echo $? > command.exit',
    )
    at = opened("soup")
    at.button(key="make-example").click().run()
    until(lambda: robust_checkpoint.running(store.home / "soups")["demo"].progress > 0)
    [(name, state)] = robust_checkpoint.running(store.home / "soups").items()
    assert (name, state.status, state.progress, state.detail) == (
        "demo",
        "running",
        0.07,
        "step 9 of 99",
    )
    assert len((store.home / "soups" / "demo" / "choose.csv").read_text().splitlines()) == 257
    at.run()
    assert not any(button.key == "make-example" for button in at.button), "one at a time"
    at.button(key="stop-demo").click().run()
    until(lambda: robust_checkpoint.running(store.home / "soups")["demo"].status == "stopped")
    at.run()
    at.button(key="resume-demo").click().run()
    assert (
        robust_checkpoint.running(store.home / "soups")["demo"].status == "running"
        and not at.exception
    )
    background.stop(store.home / "soups" / "demo")
    with pytest.raises(PruneError, match="cannot be the name of a folder"):
        robust_checkpoint.start_training(
            store.home / "soups", "../x", robust_checkpoint.RobustPlan("demo", "sst2", "sst2")
        )


def test_robust_start_shows_a_soup_and_hands_it_on_to_pruning(store):
    at = opened("soup")
    assert at.title[0].value == "Robust fine-tuning" and not charts(at)
    folder = store.home / "soups" / "reviews" / "greedy-attack"
    folder.mkdir(parents=True)
    (folder / "soup.json").write_text(json.dumps(sample_rows.soup()))
    at = opened("soup")
    assert charts(at) == 1 and not at.error
    table = at.dataframe[0].value
    assert list(table["used"]) == [False, True, True] and list(table["adversarial_norm"]) == [
        "–",
        "0.6",
        "0.3",
    ]
    assert "epochs" not in table, "what all share says nothing"
    at.button(key="prune-soup").click().run()
    assert at.title[0].value == "Prune" and at.text_input(key="checkpoint").value == str(folder)


def test_compare_says_what_pruning_saves(store):
    sample_rows.fill(store, 40)
    assert any(
        "of its file" in text.value and "no speed-up" in text.value
        for text in opened("compare", closer="cost").markdown
    )


def test_a_study_in_its_middle_shows_what_is_there(store):
    sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2])
    plan = store.jobs()[0].experiment | {"method": {"name": "akr", "options": {"sparsity": 0.5}}}
    id = store.submit(plan, "AKR 50%", "later", "Demo", "auto", worker="nobody")
    store.update(id, message="block 3 of 6", progress=0.4, estimate_left=12.0, stage="prune")
    for page in ("overview", "compare", "layers", "drift", "attack"):
        assert charts(opened(page)), page
    # the sidebar's queue by itself: AppTest 1.67 forgets the sidebar of an app with st.navigation when it runs again
    assert jobs.process_lock(store, "nobody").take(), (
        "otherwise the job would count as one whose worker died"
    )
    at = AppTest.from_function(queue_alone, default_timeout=60).run()
    at.button(key=f"cancel-{id}").click().run()
    assert store.job(id).cancel and not at.error


def queue_alone() -> None:
    import streamlit as st

    from pages.widgets import frame as _frame
    from prune_core.store.store import Store

    st.session_state["seen"] = _frame._state(Store().jobs())
    _frame._queue(Store())


def test_a_failed_job_shows_its_sentence_and_resumes(store):
    sample_rows.fill(store, 40, runs=sample_rows.RUNS[:1])
    id = store.submit(
        store.jobs()[0].experiment, "AKR 70%", "failing", "Demo", "auto", worker="nobody"
    )
    store.update(id, status=Status.FAILED, error="Traceback …\nPruneError: no tokenizer there")
    at = opened("overview")
    assert "no tokenizer there" in at.error[0].value
    at.button(key=f"resume-{id}").click().run()
    assert store.job(id).status == Status.QUEUED


def test_cancelled_jobs_resume_together_unless_they_ran_again_since(store):
    plan = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:1]) and store.jobs()[0].experiment
    ids = [store.submit(plan, f"Run {key}", key, "Demo", "auto") for key in ("a", "b", "c")]
    for id in ids:
        store.cancel(id)
    store.submit(plan, "Run c", "c", "Demo", "auto")
    at = opened("overview")
    assert at.button(key="resume-cancelled").label == "Resume 2 runs"
    at.button(key="resume-cancelled").click().run()
    assert [store.job(id).status for id in ids] == [Status.QUEUED, Status.QUEUED, Status.CANCELLED]


def test_the_view_comes_from_the_link_and_survives_pages(store):
    ids = sample_rows.fill(store, 40)
    sample_rows.fill(store, 40, "Other", runs=sample_rows.RUNS[:3])
    at = opened("overview", study="Demo", models=f"{ids[0]},{ids[6]}")
    assert at.selectbox(key="choice-study").value == "Demo"
    at.switch_page("pages/layers.py").run()
    assert [model.label for model in at.session_state["view"].models] == ["Dense", "AKR 70%"]
    assert at.query_params["study"] == "Demo" and at.query_params["models"] == f"{ids[0]},{ids[6]}"


def test_where_there_are_many_models_the_sidebar_has_a_list_to_search(store, monkeypatch):
    monkeypatch.setattr("pages.widgets.frame.CHIPS", 5)
    ids = sample_rows.fill(store, 40)
    at = opened("overview", models=f"{ids[0]},{ids[6]}")
    found = at.multiselect(key="choice-models")
    assert [found.format_func(job) for job in found.value] == ["Dense", "AKR 70%"] and len(
        found.options
    ) == len(ids)
    assert [model.label for model in at.session_state["view"].models] == ["Dense", "AKR 70%"]


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
    assert "no data to read yet" in at.error[0].value
    at.text_input(key="path").set_value("/no/such/file.csv").run()
    assert "no such file" in at.error[0].value
    assert (
        at.text_input(key="checkpoint").value == "/no/such/folder"
        and at.number_input(key="evaluation").value == 100
    )


def test_an_uploaded_file_is_kept_and_its_columns_are_offered(store):
    content = b"stars,review,title\n" + b"".join(
        b"%d,A film that is number %d of its kind,T%d\n" % (i % 2, i, i) for i in range(30)
    )
    at = opened("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.file_uploader(key="upload").set_value(("My films.CSV", content, "text/csv")).run()
    path = at.session_state["uploaded"]
    assert Path(path).parent.parent == store.home / "uploads" and Path(path).read_bytes() == content
    assert (
        at.selectbox(key=f"text-{path}").value == "review"
        and at.selectbox(key=f"label-{path}").value == "stars"
    )
    at.selectbox(key=f"label-{path}").set_value("review").run()
    assert "different columns" in at.error[0].value and not any(
        button.key == "queue-plan" for button in at.button
    )
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


def test_a_calibration_file_of_its_own_goes_into_the_plan(store, tmp_path):
    at = opened("prune")
    at.radio(key="calibrate-on").set_value("file").run()
    at.text_input(key="calibration-path").set_value("/no/such/file.csv").run()
    assert "no such file" in at.error[0].value and not any(
        button.key == "queue-plan" for button in at.button
    )
    file = tmp_path / "own.csv"
    file.write_text("text\nA sentence of mine that has more than nine words in all.\n")
    at.text_input(key="calibration-path").set_value(str(file)).run()
    at.button(key="queue-plan").click().run()
    assert not at.exception and not at.error
    assert {job.experiment["source"]["calibration"] for job in store.jobs()} == {str(file)}


def test_attacked_sentences_of_a_job_become_a_calibration_file_with_a_warning_where_they_are_judged_on(
    store,
):
    at = opened("prune")
    at.radio(key="calibrate-on").set_value("attacked").run()
    assert "attacked a model yet" in " ".join(info.value for info in at.info)
    sample_rows.fill(store, 80)
    at = opened("prune")
    at.radio(key="calibrate-on").set_value("attacked+clean").run()
    assert "evaluated on texts it has seen" in at.warning[0].value and not at.error
    before = {job.id for job in store.jobs()}
    at.button(key="queue-plan").click().run()
    assert not at.exception
    (path,) = {
        job.experiment["source"]["calibration"] for job in store.jobs() if job.id not in before
    }
    assert Path(path).parent.parent == store.home / "uploads" and "attacked-job-" in path


def test_the_same_bytes_are_the_same_source(tmp_path):
    first = uploads.save(tmp_path, "reviews.csv", b"text,label\n")
    before = first.stat().st_mtime_ns
    assert (
        uploads.save(tmp_path, "../../renamed.csv", b"text,label\n") == first
        and first.stat().st_mtime_ns == before
    )
    other = uploads.save(tmp_path, "../../reviews.csv", b"text,label\na,1\n")
    assert other != first and other.parent.parent == tmp_path / "uploads"


class Told:
    """Stands in for the process that asks the Hub."""

    is_over = True
    failure = ""

    def __init__(self, task: str, config: str, split: str): ...

    def rows(self) -> list[dict]:
        if self.failure:
            raise PruneError(self.failure)
        return [{"sentence": "A quiet marvel.", "label": "positive"}]


def test_a_known_task_shows_its_first_rows_or_why_not(store, monkeypatch):
    monkeypatch.setattr("pages.sections.data_source.DatasetPreview", Told)
    at = opened("prune")
    at.selectbox(key="task").set_value("sst2").run()
    assert at.dataframe[0].value["sentence"].tolist() == ["A quiet marvel."]
    monkeypatch.setattr(Told, "failure", "sst2: no network")
    at.run()
    assert at.warning[0].value == "sst2: no network"
    assert any(button.key == "queue-plan" for button in at.button), (
        "the cache may be filled by the time the run starts"
    )


def test_without_a_network_the_process_answers_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no cache"))
    peek = dataset_preview.DatasetPreview("sst2")
    while not peek.is_over:
        time.sleep(0.1)
    with pytest.raises(PruneError, match="sst2 can be neither fetched .* nor found"):
        peek.rows()


def test_rows_of_a_known_task_bear_label_names(monkeypatch):
    import datasets

    asked = []
    made = datasets.Dataset.from_dict(
        {"sentence": ["Dull."] * 7, "label": [0] * 7, "idx": list(range(7))}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((a, k)) or made)
    rows = dataset_preview.fetch_rows("sst2")
    assert len(rows) == 5 and rows[0] == {"sentence": "Dull.", "label": "negative", "idx": 0}
    assert asked[0][0][1] == "sst2" and asked[0][1]["split"] == "validation"


def test_what_the_store_knows_of_the_dense_model_stands_beside_the_data(store):
    ids = sample_rows.fill(store, 40)
    at = opened("prune")
    assert any(
        f"job {ids[0]}" in text.value and "evaluation examples" in text.value
        for text in at.markdown
    )
    at.text_input(key="checkpoint").set_value("somebody/else").run()
    assert any("has not been measured" in text.value for text in at.caption)


def test_a_finished_plan_is_offered_instead_of_computed_again(store):
    at = opened("prune")
    at.multiselect(key="sparsities").set_value(["50%"]).run()
    at.button(key="queue-plan").click().run()
    for job in store.jobs():
        store.update(job.id, status=Status.DONE, done=["cost"])
    at = opened("prune")
    at.multiselect(key="sparsities").set_value(["50%"]).run()
    assert at.button(key="queue-plan").label == "Show the results"
    at.button(key="queue-plan").click().run()
    assert len(store.jobs()) == 4
    assert "4 of 4 runs" in at.session_state["said"], (
        "a toast on the next run, which AppTest leaves out after a switch of pages"
    )
    at.switch_page("pages/prune.py").run()
    at.toggle(key="again").set_value(True).run()
    assert at.button(key="queue-plan").label == "Queue 4 runs"


def test_the_plan_is_queued_by_one_button(store):
    at = opened("prune")
    at.multiselect(key="sparsities").set_value(["50%", "87.5%"]).run()
    at.button(key="queue-plan").click().run()
    assert not at.exception and not at.error
    labels = [job.label for job in store.jobs()]
    assert labels[0] == "Dense" and "AKR 87.5%" in labels and len(labels) == 7
    assert {job.study for job in store.jobs()} == {"My study"}
    assert at.title[0].value == "Overview"


PARTS = {"compare": "closer", "layers": "layers-part", "drift": "drift-part", "attack": "ask"}


@pytest.mark.parametrize("page", PARTS)
def test_every_part_of_a_page_opens_and_shows_something(store, page):
    test_seeds.filled(store)
    at = opened(page)

    def shown():
        return [
            *at.get("plotly_chart"),
            *at.dataframe,
            *at.expander,
            *at.info,
            *at.get("download_button"),
        ]

    for part in at.segmented_control(key=f"choice-{PARTS[page]}").options:
        at.segmented_control(key=f"choice-{PARTS[page]}").set_value(part).run()
        assert not at.exception and not at.error and shown(), part


def test_a_click_on_a_mark_turns_to_what_is_behind_it(store, monkeypatch):
    sample_rows.fill(store, 40)
    clicked: dict = {}
    real = ui.chart

    def keep(*given, key, selects=None, **more):
        return clicked.update({key: selects}) or real(*given, key=key, selects=selects, **more)

    monkeypatch.setattr(ui, "chart", keep)
    monkeypatch.setattr(ui, "set_choice", lambda name, value: chosen.update({name: value}))
    for page, chart, mark, choices in (
        ("layers", "depth", "7|3", {"layer-model": 7, "block": 3, "layers-part": "block"}),
        (
            "attack",
            "success",
            "2|DeepWordBug",
            {"attack-model": 2, "recipe": "DeepWordBug", "ask": "read", "turned": "all"},
        ),
    ):
        chosen: dict = {}
        opened(page)
        clicked[chart]([mark])
        assert chosen == choices


def test_one_layer_shows_its_matrices_and_leads_to_its_map(store):
    sample_rows.fill(store, 80)
    at = opened("layers", **{"layers-part": "block", "block": "2", "layer-model": "6"})
    assert charts(at) == 2 and not at.exception
    at.button(key="block-drift").click().run()
    assert at.title[0].value == "Drift" and not at.exception
    assert "in block 2 of AKR 50%?" in told(at)


def test_a_cell_of_the_transfer_matrix_shows_its_texts(store):
    sample_rows.fill(store, 40)
    at = opened("attack", ask="transfer", cell="2|7")
    assert at.selectbox(key="choice-cell").value == "2|7" and {"succeeds", "changed"} <= set(
        at.dataframe[0].value
    )


def test_a_stricter_rule_leaves_fewer_valid_texts(store):
    sample_rows.fill(store, 40)
    at = opened("attack", ask="valid")

    def valid():
        return next(table.value for table in at.dataframe if "unlike" in table.value)["valid"].sum()

    before = valid()
    at.slider(key="valid-similarity").set_value(0.9).run()
    assert valid() == before, "misspellings are not judged by similarity unless asked for"
    at.toggle(key="valid-letters").set_value(True).run()
    assert valid() < before and not at.exception


def test_attacks_from_before_texts_were_judged_still_show(store):
    ids = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:3])
    examples = sample_rows.attack(*sample_rows.RUNS[2])["attack_example"]
    old = {"attack_example": examples.drop(columns=["pair", "similarity", "grammar", "meaning"])}
    store.add_rows(ids[2], old, "attack", seconds=9.0, facts={})
    at = opened("attack", ask="valid")
    assert "made on Magnitude 70% are not judged" in at.info[0].value and charts(at) >= 2
    for id in ids:
        store.add_rows(id, old, "attack", seconds=9.5, facts={})
    at = opened("attack", ask="valid")
    assert "Dense, Magnitude 50%, Magnitude 70%" in at.info[0].value and charts(at) >= 1


class Trying:
    """Stands in for the process that tries texts on other models."""

    asked: list[tuple[str, ...]] = []
    is_over, latest = False, " 40%  AKR 50%: predicted 32 of 80"

    def __init__(self, *arguments: str, patience: float):
        self.asked.append(arguments)

    def output(self) -> str:
        raise PruneError("Job 3 has no pruned checkpoint.")


def test_untried_texts_are_tried_by_a_button(store, monkeypatch):
    monkeypatch.setattr("pages.widgets.child_process.ChildProcess", Trying)
    ids = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:3])
    rows = store.rows("transfer", [ids[0]])
    own = rows.loc[rows["source"] == ids[0], attack_transfer.COLUMNS]
    store.add_rows(ids[0], {"transfer": own}, "transfer", seconds=5.0, facts={})
    at = opened("attack", ask="transfer")
    assert any("1 model of 3 not evaluated" in text.value for text in at.caption)
    at.button(key="transfer-run").click().run()
    assert Trying.asked == [("prune_core", "transfer", *map(str, ids))] and not at.exception
    assert not any(button.key == "transfer-run" for button in at.button), "it is at work"
    monkeypatch.setattr(Trying, "is_over", True)
    at.run()
    assert "no pruned checkpoint" in at.error[0].value and at.button(key="transfer-run")


def test_an_adversarial_text_is_kept_in_the_pool_and_removed(store):
    sample_rows.fill(store, 40)
    at = opened("attack", ask="read")
    keep = next(button for button in at.button if str(button.key).startswith("pool-keep-"))
    at.text_input(key=str(keep.key).replace("keep", "note")).set_value("a fair one").run()
    at.button(key=keep.key).click().run()
    kept = adversarial_pool.load(store)
    assert (
        kept["note"].tolist() == ["a fair one"]
        and kept["label"][0] in ("negative", "positive")
        and kept["model"][0] == "AKR 70%"
    )
    assert not at.exception and any(
        "1 text kept" in str(expander.label) for expander in at.expander
    )
    assert at.button(key="pool-remove").disabled, "nothing is chosen"


def checked(file):
    """The Prune page with a file whose data check is finished."""
    at = opened("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    at.session_state["data-check"].process.wait()
    return at.run()


def test_what_a_label_means_is_asked_in_a_table_and_kept(store, tmp_path):
    file = tmp_path / "own.csv"
    rows = [
        f"A sentence of mine that has more than nine words {i},{'meh' if i % 2 else 'fine'}\n"
        for i in range(12)
    ]
    file.write_text("text,label\n" + "".join(rows))
    at = checked(file)
    assert "not clear which label" in " ".join(each.value for each in at.warning) and not any(
        b.key == "queue-plan" for b in at.button
    )
    for value, label in (("meh", "negative"), ("fine", "positive")):
        [box] = [each for each in at.selectbox if each.label.startswith(f"{value} ·")]
        assert box.label == f"{value} · 6 rows" and box.options == [
            "negative",
            "positive",
            "leave out",
        ]
        box.set_value(label)
    at.button(key="use-labels").click().run()
    at.session_state["data-check"].process.wait()
    at.run()
    assert not at.exception and not at.error, [each.value for each in at.error]
    at.button(key="queue-plan").click().run()
    assert {job.experiment["source"]["labels"] for job in store.jobs()} == {
        "fine=positive,meh=negative"
    }


def test_a_mistake_in_the_data_makes_no_job_on_the_page(store, tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("text,label\nA film,0\n")
    at = checked(file)
    assert (
        any("too few" in each.value for each in at.error)
        and not any(b.key == "queue-plan" for b in at.button)
        and not store.jobs()
    )


def test_rows_that_cannot_be_used_are_left_out_with_one_click(store, tmp_path):
    file, text = tmp_path / "own.csv", "A sentence of mine that has more than nine words"
    file.write_text(
        "text,label\n" + "".join(f"{text} {i},{i % 2 if i < 12 else ''}\n" for i in range(16))
    )
    at = checked(file)
    [question] = [each.value for each in at.warning if "4 of 16 rows" in each.value]
    assert (
        "line 14" in question
        and "“Bad rows: leave them out”" in question
        and "--bad-rows" not in question
    )
    assert not any(button.key == "queue-plan" for button in at.button)
    at.button(key="skip-rows").click().run()
    at.session_state["data-check"].process.wait()
    at.run()
    at.button(key="queue-plan").click().run()
    assert {job.experiment["source"]["bad_rows"] for job in store.jobs()} == {"skip"}


def test_rows_of_another_length_are_shown_with_the_fields_that_help(store, tmp_path):
    file, text = tmp_path / "own.csv", "A sentence of mine that has more than nine words"
    file.write_text(
        "text,label\n" + "".join(f"{text}{', sadly' * (i == 3)} {i},{i % 2}\n" for i in range(12))
    )
    at = opened("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    assert (
        "1 of 12 rows" in at.error[0].value
        and "“Bad rows: merge extra cells into the text”" in at.error[0].value
    )
    at.selectbox(key=f"bad_rows-{file}").set_value("merge").run()
    at.session_state["data-check"].process.wait()
    at.run()
    assert not at.error and any("1 row with extra cells" in each.value for each in at.caption)


def test_how_a_file_is_read_and_which_part_can_be_corrected(store, tmp_path):
    file, book = tmp_path / "own.csv", tmp_path / "book.xlsx"
    file.write_text("a;b\nA film, and one that I liked;1\nA film, and one that I left;0\n")
    with pd.ExcelWriter(book) as writer:
        for sheet, text in (("May", "A film in May"), ("June", "A film in June")):
            pd.DataFrame({"text": [text] * 9, "label": [0, 1, 0] * 3}).to_excel(
                writer, sheet_name=sheet, index=False
            )
    at = opened("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    assert list(at.dataframe[0].value) == ["b", "a"] and "semicolon" in " ".join(
        each.value for each in at.caption
    )
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
def test_columns_of_every_kind_of_data_are_found(store, tmp_path, record, chosen):
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for _ in range(9)))
    at = opened("prune")
    at.selectbox(key="task").set_value("a file of your own").run()
    at.text_input(key="path").set_value(str(file)).run()
    assert (
        tuple(at.selectbox(key=f"{name}-{file}").value for name in ("text", "pair", "label"))
        == chosen
        and not at.exception
    )


def test_deploy_answers_with_the_policy_that_its_widgets_say_and_takes_a_file(store):
    sample_rows.fill(store, 400)
    at = opened("deploy")

    def said():
        return next(block.proto.body for block in at.get("html") if "takeaway" in block.proto.body)

    assert (
        "AKR 70%. Inconclusive: with n = " in said()
        and "This sample rules out an accuracy loss of more than" in said()
    )
    at.toggle(key="asked-attack_success").set_value(False)
    at.toggle(key="asked-slice_loss").set_value(False)
    at.toggle(key="asked-calibration_error").set_value(False)
    at.number_input(key="limit-accuracy_loss").set_value(10.0)
    at.number_input(key="limit-agreement").set_value(85.0).run()
    assert "Ship: both limits are met with 95% confidence." in said() and not at.exception
    for part in ("Newly broken, newly fixed", "Slices", "Policy file and CI"):
        at.segmented_control(key="choice-deploy-part").set_value(part).run()
        assert not at.exception and not at.error
    assert any("accuracy_loss: 10" in block.value for block in at.code)
    at.file_uploader(key="policy-file").set_value(
        ("p.yaml", b"accuracy_loss: 0.1\nslices: [length]", "text/yaml")
    ).run()
    assert (
        not at.toggle(key="asked-agreement").value
        and "Do not ship: accuracy loss violates its limit" in said()
    )
    at.file_uploader(key="policy-file").set_value(("p.yaml", b"accuracy_los: 1", "text/yaml")).run()
    assert "Did you mean" in at.error[0].value
    at.toggle(key="asked-accuracy_loss").set_value(False).run()
    assert "no limit" in " ".join(error.value for error in at.error)


def test_deploy_marks_times_from_a_busy_machine_and_measures_them_again(store, monkeypatch):
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
    assert any(busy in each.value for each in opened("compare", closer="cost").warning)
    at = opened("deploy")
    assert "remeasure" not in [button.key for button in at.button]
    at.toggle(key="asked-speedup").set_value(True).run()
    assert (
        any(each.value.startswith(f"**Speed-up**: {busy}") for each in at.info) and not at.exception
    )
    assert (
        at.dataframe[0]
        .value.set_index("test")
        .loc["Accuracy loss", "excluded"]
        .startswith("more than ")
    )
    monkeypatch.setattr("prune_core.queue.jobs.ensure_worker", lambda *_: None)
    at.button(key="remeasure").click().run()
    queued = store.job(job)
    assert (
        queued.status == "queued"
        and "cost" not in queued.done
        and "accuracy" in queued.done
        and not at.exception
    )
    assert (
        queued.experiment["measures"][0]["options"]["repeats"] == 60
        and len(store.rows("cost", [job])) == 2
    )
    at = opened("deploy")
    at.toggle(key="asked-speedup").set_value(True).run()
    assert "remeasure" not in [button.key for button in at.button], "it is queued already"


def test_deploy_shows_what_ships_and_searches_for_the_smallest(store, monkeypatch):
    job = (jobs := sample_rows.fill(store, 200))[-1]
    at = opened("deploy")
    at.segmented_control(key="choice-deploy-part").set_value("What ships").run()
    assert "measure **What ships**" in at.info[0].value and not at.exception
    row = {
        "model": "dense",
        "form": "ONNX int8",
        "metric": "accuracy",
        "n": 200,
        "score": 0.905,
        "difference": 0.002,
        "agreement": 0.99,
        "latency_p50": 0.02,
        "speedup": 1.8,
        "bytes": 23_500_000,
    }
    store.add_rows(job, {"forms": pd.DataFrame([row])}, "forms", seconds=1.0, facts={})
    at = opened("deploy")
    at.segmented_control(key="choice-deploy-part").set_value("What ships").run()
    shown = at.dataframe[0].value.iloc[0]
    assert (shown["score"], shown["latency_p50"], shown["bytes"]) == (
        90.5,
        20.0,
        23.5,
    ) and not at.exception

    store.add_rows(
        job,
        {"forms": pd.DataFrame([row | {"metric": "spearman", "difference": -0.01}])},
        "forms",
        seconds=1.0,
        facts={},
    )
    at = opened("deploy")
    at.segmented_control(key="choice-deploy-part").set_value("What ships").run()
    assert at.dataframe[0].value.iloc[0][["score", "difference"]].tolist() == [0.905, -0.01], (
        "a correlation is no share"
    )

    for each in jobs:
        store.add_rows(
            each,
            {"accuracy": store.rows("accuracy", [each]).drop(columns="job").assign(metric="f1")},
            "accuracy",
            seconds=1.0,
            facts={},
        )
    at = opened("deploy")
    assert at.toggle(key="asked-accuracy_loss").label.startswith("F1 loss") and not at.exception, (
        "the task's own figure"
    )
    assert at.number_input(key="limit-accuracy_loss").label == "F1 loss (points, at most)"

    files = [
        {**row, "form": form, "own_divergence": apart, "own_changed": apart}
        for form, apart in (("ONNX fp32", 0.0), ("ONNX int8", 0.5), ("ONNX int8 repaired", 0.02))
    ]
    found = {"a.dense": 0.05, "b": 0.4}
    parts = [
        {"part": part, "divergence": apart, "changed": apart, "proposed": apart < 0.1}
        for part, apart in found.items()
    ]
    store.add_rows(
        job,
        {"doctor": pd.DataFrame(parts), "repair": pd.DataFrame(files)},
        "doctor",
        seconds=1.0,
        facts={},
    )
    at = opened("deploy")
    at.segmented_control(key="choice-deploy-part").set_value("What ships").run()
    assert any(
        "**1 of 2 matrices in fp32 take back 96% of the divergence**: `a.dense`." in block.value
        for block in at.markdown
    )
    assert at.dataframe[2].value["back"].round().tolist() == [90, 20] and not at.exception

    begun = []
    monkeypatch.setattr(
        "prune_core.processes.background.start",
        lambda folder, arguments: begun.append((folder, list(arguments))),
    )
    at.segmented_control(key="choice-deploy-part").set_value("As small as it gets").run()
    at.button(key="find-smallest").click().run()
    (folder, arguments), *_ = begun
    assert (
        arguments[:3] == ["shrink-to", "--job", str(job)]
        and "accuracy_loss: 1" in (folder / "policy.yaml").read_text()
    )
    (folder / "command.json").write_text("{}")
    (folder / "command.log").write_text(
        " 40%  prune: block 2\n- AKR 50%: Ship.\nAKR 50% (job 9) is the smallest that holds the limit.\n"
    )
    (folder / "command.exit").write_text("0")
    at.run()
    assert (
        at.success[0].value == "AKR 50% (job 9) is the smallest that holds the limit."
        and not at.exception
    )
    assert any(block.value == "- AKR 50%: Ship." for block in at.markdown)
    (folder / "command.exit").unlink()
    at.run()
    assert "was stopped" in at.info[0].value and not at.success
    at.number_input(key="limit-accuracy_loss").set_value(2.0).run()
    assert not at.success and not at.info and not at.exception, (
        "an answer is to the limits that were asked about"
    )


def test_the_fastest_is_searched_for_where_units_go(tmp_path, monkeypatch):
    def page(home, options):
        from types import SimpleNamespace

        from pages.sections import size_search
        from prune_core.analysis.policy import Policy

        job = SimpleNamespace(
            id=7,
            label="K-prune −50% FLOPs",
            experiment={"method": {"name": "kprune", "options": options}},
        )
        size_search.page(home, job, Policy({"accuracy_loss": 1.0}))

    begun = []
    monkeypatch.setattr(
        "prune_core.processes.background.start",
        lambda folder, arguments: begun.append(list(arguments)),
    )
    at = AppTest.from_function(page, kwargs={"home": tmp_path, "options": {"sparsity": 0.5}}).run()
    assert not at.segmented_control and at.button(key="find-smallest")
    at = AppTest.from_function(
        page, kwargs={"home": tmp_path, "options": {"sparsity": 0.5, "speedup": 0.0}}
    ).run()
    at.segmented_control(key="choice-smallest-way").set_value("fastest").run()
    at.button(key="find-fastest").click().run()
    assert begun[0][:4] == ["shrink-to", "--job", "7", "--fastest"] and not at.exception
    assert (
        at.code[0].value == "python -m prune_core shrink-to --job 7 --fastest --policy policy.yaml"
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_study_of_several_seeds_as_its_models(store, page):
    test_seeds.filled(store)
    at = opened(page)
    assert not at.error and [len(model.runs) for model in at.session_state["view"].models] == [
        3,
        3,
        0,
        3,
        3,
    ]
    apart = opened(page, seeds="apart", models="2,6,10")
    assert not apart.error and [model.job for model in apart.session_state["view"].models] == [
        6,
        10,
        2,
    ]


SHOWN_OF_ONE_SEED = (
    ("drift", {}),
    ("attack", {"ask": "read"}),
    ("attack", {"ask": "transfer"}),
    ("drift", {"examples": "7"}),
    ("layers", {"layers-part": "whatif"}),
    ("deploy", {}),
    ("deploy", {"deploy-part": "export"}),
    ("inspect", {}),
    ("lesson", {"step": "7"}),
)


@pytest.mark.parametrize(("page", "query"), SHOWN_OF_ONE_SEED)
def test_what_shows_one_seed_of_several_names_it(store, page, query):
    test_seeds.filled(store)
    for job in store.jobs():
        (store.folder(job.id) / "checkpoint").mkdir()
    at = opened(page, **query)
    assert "seed 0 (one of 3 seeds)" in told(at) and not at.error
    apart = opened(page, seeds="apart", **query)
    assert "(one of" not in told(apart), "separate seeds are named by their labels"


def test_averages_say_that_they_are_and_times_are_averaged_too(store):
    test_seeds.filled(store)
    for job in store.jobs():
        store.update(job.id, seconds={"prune": 10.0 * (1 + job.experiment["seed"])})
    captions = [caption.value for caption in opened("overview").sidebar.caption]
    assert "Values are the mean over 3 seeds, unless a chart or table names a seed." in captions
    at = opened("compare", closer="figures")
    took = at.dataframe[0].value.set_index("label")["took"]
    assert took["AKR 70%"] == "20 s" and took["SparseGPT 50%"] == "10 s"
    for part in ("weak", "valid"):
        told_by = told(opened("attack", ask=part))
        assert "over seeds and examples" in told_by and "mean over 3 seeds" in told_by


def test_a_study_is_found_tagged_renamed_and_deleted_after_a_question(store):
    sample_rows.fill(store, 40)
    sample_rows.fill(store, 40, "Other", runs=sample_rows.RUNS[:2])
    at = opened("studies")
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
    ], "nothing goes unasked"
    at.button(key="confirm-yes").click().run()
    assert not at.exception and store.studies() == ["Demo"]


def test_a_study_is_copied_its_runs_are_a_grid_and_two_are_compared(store):
    sample_rows.fill(store, 40)
    at = opened("studies")
    at.text_input(key="rename-Demo").set_value("Twin").run()
    at.button(key="study-clone").click().run()
    assert store.studies() == ["Twin", "Demo"] and len(store.jobs("Twin")) == 7 and not at.exception
    assert {job.experiment["study"] for job in store.jobs("Twin")} == {"Twin"}
    runs = next(table.value for table in at.dataframe if "status" in table.value)
    assert (
        len(runs) == 7
        and {"prune", "accuracy", "attack"} <= set(runs)
        and set(runs["status"]) == {"done"}
    )
    at.segmented_control(key="choice-study-part").set_value("beside").run()
    both = at.dataframe[-1].value
    assert (
        {"Twin", "Demo", "Difference"} <= set(both)
        and len(both) == 7
        and set(both["Difference"]) == {"0.0 points"}
    )


def test_a_study_at_work_is_stopped_and_gone_on_with(store):
    [dense, _] = sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2])
    plan = {**store.job(dense).experiment, "seed": 5}
    store.submit(plan, "Dense · seed 5", "another key", "Demo", "cpu")
    at = opened("studies")
    at.button(key="study-stop").click().run()
    assert store.jobs("Demo")[-1].status == Status.CANCELLED
    at.button(key="study-resume").click().run()
    assert store.jobs("Demo")[-1].status == Status.QUEUED and not at.exception


def test_examples_chosen_on_one_page_are_on_view_on_the_others_until_they_are_let_go(store):
    sample_rows.fill(store, 80)
    at = opened("drift", examples="7")
    text = lambda: " ".join(str(each.value) for each in [*at.markdown, *at.caption])  # noqa: E731
    assert sample_rows.TEXTS[7] in text() and "Example 8; right is" in text()
    said = next(frame.value for frame in at.dataframe if "says" in frame.value)
    assert len(said) == 7 and {"DeepWordBug", "TextFooler (MiniLM)"} <= set(said)
    at = opened("drift", examples=",".join(map(str, range(30))))
    assert (
        "30 examples against the rest, on AKR 70%" in text()
        and "**Accuracy**: " in text()
        and "Success of DeepWordBug" in text()
    )
    at = opened("attack", ask="read", examples="1,2,3,70")
    assert "Only the chosen examples that were attacked: 3 of 4." in text() and not at.error


def test_a_chosen_example_is_opened_on_inspect(store):
    for job in sample_rows.fill(store, 80)[1:]:
        (store.folder(job) / "checkpoint").mkdir()
    at = opened("drift", examples="7")
    text = at.session_state["view"].first_seed("prediction").query("example == 7")["text"].iloc[0]
    at.button(key="inspect-example").click().run()
    assert at.title[0].value == "Inspect" and at.text_area[0].value == text and not at.exception


def test_example_numbers_of_different_samples_are_not_read_as_one_example(store):
    ids = sample_rows.fill(store, 80)
    rows = sample_rows.predictions("akr", 0.7, 80)
    store.add_rows(
        ids[-1],
        {"prediction": rows.assign(text=rows["text"] + " Another.")},
        "accuracy",
        seconds=4.0,
        facts={},
    )
    at = opened("drift", examples="7")
    assert "evaluated on different samples" in at.warning[0].value
    attacks = sample_rows.attack("akr", 0.7)["attack_example"]
    other = {"attack_example": attacks.assign(text=attacks["text"] + " Another.")}
    store.add_rows(ids[-1], other, "attack", seconds=4.0, facts={})
    at = opened("attack", ask="read", examples="7")
    assert "evaluated on different samples" in at.warning[0].value
    assert not any("Only the chosen examples" in text.value for text in at.caption)


def test_drift_tables_of_earlier_versions_are_numbered_as_the_evaluation_sample(store):
    """Those tables numbered the drift sample: a click selected another example's predictions."""
    [_, id] = sample_rows.fill(store, 80, runs=sample_rows.RUNS[:2])
    indices = sample_indices(range(80), 12, seed=0)
    drift, predictions = (store.rows(name, [id]) for name in ("drift_map", "prediction"))
    texts = store.rows("drift_example", [id])
    new = {
        "drift_map": drift[drift["example"].isin(indices)],
        "drift_example": texts[texts["example"].isin(indices)],
    }
    position = {index: place for place, index in enumerate(indices)}
    old = {name: rows.assign(example=rows["example"].map(position)) for name, rows in new.items()}
    assert old["drift_example"]["text"].tolist() != predictions["text"][:12].tolist()
    (model,) = models_of([store.job(id)])
    for tables in (new, old):
        view = SimpleNamespace(first_seed=tables.get, jobs=[store.job(id)])
        found = drift_map.movers(view, model, 0, projection="pca")
        assert sorted(found["example"]) == indices
        assert found["text"].tolist() == predictions["text"][found["example"]].tolist()


def test_a_group_is_set_against_the_rest_by_fishers_test():
    from prune_core.analysis import example_groups

    rows = pd.DataFrame({"example": range(20), "label": [1] * 20, "pruned": [0] * 5 + [1] * 15})
    found = example_groups.is_correct(rows, range(8))
    assert (found.inside, found.n, found.outside, found.n_outside) == (3 / 8, 8, 1.0, 12)
    assert (
        found.p_value == pytest.approx(0.0036, abs=1e-4) and found.low < -0.625 < found.high < 0
    )  # 56 of 15,504 tables
    assert (
        example_groups.is_correct(rows, range(20)) is None
        and example_groups.is_correct(rows.assign(label=None), range(8)) is None
    )
    assert example_groups.attack_succeeded(pd.DataFrame(), [1]) == {}


@pytest.mark.parametrize("study", [False, True])
def test_the_lesson_has_ten_steps_each_with_a_figure_or_the_way_to_one(store, study):
    if study:
        sample_rows.fill(store, 40)
    at = opened("lesson")
    for number in range(1, 11):
        assert at.header[0].value.startswith(f"{number} · ") and not at.exception and not at.error
        assert len(at.latex) == 1 and any(each.label.endswith("?") for each in at.expander)
        assert (
            charts(at) or at.get("html") or any(button.key == "demo-lesson" for button in at.button)
        ), number
        if number < 10:
            at.button(key="lesson-next").click().run()
    assert at.button(key="lesson-next").disabled
    at.button(key="lesson-present").click().run()
    assert not at.title and at.query_params["present"] in ("1", ["1"])
    at.button(key="lesson-present").click().run()
    assert at.title[0].value == "Lesson"


def test_the_lessons_layer_shows_what_its_text_says():
    error = lambda method, wrong=0.0, removed=0.5: small_layer(method, removed, wrong)["total"]  # noqa: E731
    assert error("wanda") < error("magnitude") and error("sparsegpt") < error("wanda") < error(
        "columns"
    )
    assert error("akr", 0.6) < 0.7 * error("sparsegpt", 0.6) and error("akr") > 0.7 * error(
        "sparsegpt"
    )
    assert small_layer("akr", 0.5, 0.0)["inherited"] == 0
    assert error("magnitude", removed=0.25) < 0.15 < 0.5 < error("magnitude", removed=0.75), (
        "small at first, and then steeply"
    )
    for method in ("magnitude", "wanda", "sparsegpt", "akr", "columns"):
        gone = sum(value == 0 for row in small_layer(method, 0.5, 0.3)["pruned"] for value in row)
        assert gone == 24, method


def test_a_study_of_other_measures_opens_every_page_and_every_step_of_the_lesson(store):
    for id in sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2]):
        with store.write() as db:
            db.execute(
                "DELETE FROM rows WHERE job = ? AND name NOT IN ('prune', 'drift', 'drift_map', 'drift_example')",
                (id,),
            )
    for page in ("compare", "layers", "drift", "attack", "studies"):
        at = opened(page)
        assert not at.exception and not at.error, page
    for number in range(1, 11):
        at = opened("lesson", step=str(number))
        assert not at.exception and not at.error, number


def test_scores_that_differ_a_little_are_no_changed_predictions():
    from prune_core import plots

    scores = pd.DataFrame({"dense": [1.0, 2.0], "pruned": [1.1, 2.0]})
    assert not plots.prediction_changed(scores).any()
    assert plots.prediction_changed(pd.DataFrame({"dense": [0, 1], "pruned": [1, 1]})).tolist() == [
        True,
        False,
    ]
