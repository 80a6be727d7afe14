"""Predictions for a typed sentence: the answering side's lines, and a process that dies."""

import io
import json
import sys

import pytest
import tiny

from prune_core import PruneError, encoders, inspect


def asked(checkpoints: list[str], texts: list[str], pairs: list[str] | None = None) -> list[dict]:
    answers = io.StringIO()
    inspect.answer(io.StringIO(json.dumps({"checkpoints": checkpoints, "texts": texts, "pairs": pairs}) + "\n"), answers)
    return json.loads(answers.getvalue())


def test_an_answer_a_checkpoint_and_a_sentence_for_a_wrong_one(tmp_path):
    encoders.save(tiny.model(), tiny.tokenizer(), tmp_path / "model")
    missing = str(tmp_path / "missing")
    good, bad = asked([str(tmp_path / "model"), missing], ["A fine film.", "Dull."])
    assert len(good["probabilities"]) == 2 and sum(good["probabilities"][0]) == pytest.approx(1)
    assert set(good["said"]) <= set(good["labels"])
    assert bad["checkpoint"] == missing and bad["error"]


def test_a_pair_is_read_as_a_pair(tmp_path):
    encoders.save(tiny.model(), tiny.tokenizer(), tmp_path / "model")
    alone, paired = (asked([str(tmp_path / "model")], ["A fine film."], pairs)[0] for pairs in (None, ["Dull."]))
    assert alone["probabilities"] != paired["probabilities"]


def test_scores_and_answers_of_models_that_give_them(tmp_path):
    for kind in ("regression", "span"):
        encoders.save(tiny.model(kind=kind), tiny.tokenizer(), tmp_path / kind)
    [scored] = asked([str(tmp_path / "regression")], ["A fine film."], ["A good film."])
    assert isinstance(scored["said"][0], float)
    [found] = asked([str(tmp_path / "span")], ["A fine film?"], ["A good film."])
    assert found["said"][0] and found["said"][0] in "A good film."
    [refused] = asked([str(tmp_path / "span")], ["A fine film?"])
    assert "give the text as well" in refused["error"]


def test_a_process_that_dies_is_a_sentence_and_the_next_question_starts_another(tmp_path, monkeypatch):
    monkeypatch.setattr(inspect, "COMMAND", [sys.executable, "-c", "import sys; sys.exit('no memory left')"])
    predictor = inspect.Predictor(tmp_path / "inspect.log")
    with pytest.raises(PruneError, match="no memory left"):
        predictor.predict(["demo"], ["A fine film."])
    echo = "import sys; [print('[{\"labels\": []}]', flush=True) for line in sys.stdin]"
    monkeypatch.setattr(inspect, "COMMAND", [sys.executable, "-c", echo])
    assert predictor.predict(["demo"], ["A fine film."]) == [{"labels": []}]
    predictor.close()
