"""Predictions for a typed sentence: the answering side's lines, and a process that dies."""

import io
import json
import sys

import pytest
import tiny

from prune_core import PruneError, encoders, inspect


def test_an_answer_a_checkpoint_and_a_sentence_for_a_wrong_one(tmp_path):
    encoders.save(tiny.model(), tiny.tokenizer(), tmp_path / "model")
    missing = str(tmp_path / "missing")
    questions = io.StringIO(json.dumps({"checkpoints": [str(tmp_path / "model"), missing], "texts": ["A fine film.", "Dull."]}) + "\n")
    answers = io.StringIO()
    inspect.answer(questions, answers)
    good, bad = json.loads(answers.getvalue())
    assert len(good["probabilities"]) == 2 and sum(good["probabilities"][0]) == pytest.approx(1)
    assert bad["checkpoint"] == missing and bad["error"]


def test_a_process_that_dies_is_a_sentence_and_the_next_question_starts_another(tmp_path, monkeypatch):
    monkeypatch.setattr(inspect, "COMMAND", [sys.executable, "-c", "import sys; sys.exit('no memory left')"])
    predictor = inspect.Predictor(tmp_path / "inspect.log")
    with pytest.raises(PruneError, match="no memory left"):
        predictor.predict(["demo"], ["A fine film."])
    echo = "import sys; [print('[{\"labels\": []}]', flush=True) for line in sys.stdin]"
    monkeypatch.setattr(inspect, "COMMAND", [sys.executable, "-c", echo])
    assert predictor.predict(["demo"], ["A fine film."]) == [{"labels": []}]
    predictor.close()
