"""Studies of question answering and regression with a tiny model, shown on every page."""

import json
import time
from pathlib import Path

import pytest
import streamlit as st
import tiny
from streamlit.testing.v1 import AppTest
from test_tasks import squad_rows, write_rows

from prune_core import load
from prune_core.cli.arguments import main
from prune_core.models.checkpoints import loading
from prune_core.queue import jobs

APP = str(Path(__file__).resolve().parent.parent / "app.py")


@pytest.fixture(params=["span", "regression"])
def study(tmp_path: Path, home: Path, monkeypatch, request) -> str:
    """Run dense, K-prune and AKR in one study."""
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    monkeypatch.setattr(jobs, "housekeeping", lambda *a: None)
    st.cache_data.clear()
    loading.save(tiny.model(kind=request.param), tiny.tokenizer(), tmp_path / "model")
    pairs = [
        {"sentence1": text, "sentence2": tiny.SENTENCES[0], "label": i / 4}
        for i, text in enumerate(tiny.SENTENCES * 3)
    ]
    rows = squad_rows(9) if request.param == "span" else pairs
    common = [
        "run",
        "--checkpoint",
        tmp_path / "model",
        "--task",
        write_rows(tmp_path, rows),
        "--study",
        "Questions",
        "--device",
        "cpu",
    ]
    common += [
        "--measure",
        "accuracy",
        "--measure",
        "reconstruction",
        "--measure",
        "drift",
        "--measure",
        "cost",
    ]
    common += ["--set", "drift.umap=false", "--set", "cost.repeats=3", "--set", "cost.length=16"]
    for method in ([], ["--method", "kprune"], ["--method", "akr"]):
        assert (
            main([str(word) for word in [*common, *method, "--json", tmp_path / "out.json"]]) == 0
        )
    return request.param


def test_every_page_shows_the_study(study: str, tmp_path: Path) -> None:
    record = json.loads((tmp_path / "out.json").read_text())
    assert (
        record["rows"]["accuracy"][0]["metric"]
        == {"span": "answer_f1", "regression": "spearman"}[study]
    )
    for page in ("overview", "compare", "layers", "drift", "attack", "inspect"):
        at = AppTest.from_file(APP, default_timeout=60)
        at.query_params["study"] = "Questions"
        at.run()
        if page != "overview":
            at.switch_page(f"pages/{page}.py").run()
        assert not at.exception, (page, at.exception)
        text = " ".join(str(element.value) for element in [*at.markdown, *at.info, *at.caption])
        if page == "layers":
            at.segmented_control(key="choice-layers-section").set_value("units").run()
            text = " ".join(str(element.value) for element in [*at.markdown, *at.info, *at.caption])
            assert "Which heads and neurons are left?" in text
        if page == "compare":
            views = {
                "cost": "What does pruning save?",
                "paper": "Comparison with the paper",
            }
            for choice, expected in (
                views | ({"answers": "Read the answers"} if study == "span" else {})
            ).items():
                at.segmented_control(key="choice-compare-section").set_value(choice).run()
                text = " ".join(
                    str(element.value) for element in [*at.markdown, *at.info, *at.caption]
                )
                assert not at.exception and not at.error and expected in text, (choice, text)
        if page == "inspect":
            assert "Inference took" in text and not at.error
            for choice, expected in (
                ("Attack", "change the predicted label"),
                (
                    "Saliency",
                    {"span": "two ends of an answer", "regression": "prediction: score"}[study],
                ),
                ("Attention", "attend to?"),
            ):
                at.segmented_control(key="choice-inspect-view").set_value(choice).run()
                text = " ".join(
                    str(element.value) for element in [*at.markdown, *at.info, *at.caption]
                )
                assert not at.exception and not at.error and expected in text, (choice, text)
        if page == "attack":
            assert "change the predicted label" in text


def test_structured_model_is_exported_from_the_page(study: str, home: Path) -> None:
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["study"] = "Questions"
    at.query_params["export-model"] = "2"
    at.query_params["deploy-section"] = "export"
    at.run()
    at.switch_page("pages/deploy.py").run()
    folder = next(field for field in at.text_input if field.label == "Folder").value
    at.button(key="export-write").click().run()
    while not at.session_state["export"].is_over:
        time.sleep(0.2)
    at.run()
    assert not at.exception and not at.error and "largest difference" in at.success[0].value
    small, _ = load(folder)
    assert Path(folder).parent == home / "exports" and hasattr(small.config, "prunescope")
    at.button(key="export-write").click().run()
    while not at.session_state["export"].is_over:
        time.sleep(0.2)
    at.run()
    assert "is not empty" in at.error[0].value
    at.toggle(key="export-onnx").set_value(True).run()
    assert "Quantization sensitivity" in at.toggle(key="export-int8").help and not at.exception


def test_attacks_on_spans_are_rejected_early(tmp_path: Path, capsys) -> None:
    loading.save(tiny.model(kind="span"), tiny.tokenizer(), tmp_path / "model")
    file = write_rows(tmp_path, squad_rows(4))
    assert (
        main(
            ["run", "--checkpoint", str(tmp_path / "model"), "--task", file, "--measure", "attack"]
        )
        == 2
    )
    assert (
        "cannot be measured on a model that predicts an answer in a text" in capsys.readouterr().err
    )
