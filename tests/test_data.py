"""Data sources: what is read, what is drawn, and the one sentence that each mistake gets."""


import json
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.data import tasks, tokens
from prune_core.data.examples import Source, read_table

LABELS = ("negative", "positive")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LONG = "a film that is long enough to calibrate with, word after word"


def written(tmp_path: Path, rows: list[dict], name: str = "reviews.csv") -> str:
    path = tmp_path / name
    table = pd.DataFrame(rows)
    {
        ".csv": lambda: table.to_csv(path, index=False),
        ".jsonl": lambda: table.to_json(path, orient="records", lines=True),
        ".parquet": lambda: table.to_parquet(path),
    }[path.suffix]()
    return str(path)


def reviews(count: int = 12) -> list[dict]:
    return [{"text": f"{LONG} {i}", "label": i % 2} for i in range(count)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_every_format_gives_the_same_examples(tmp_path: Path, name: str) -> None:
    task = tasks.load(Source(written(tmp_path, reviews(), name)), LABELS)
    both = sorted(task.calibration.texts + task.evaluation.texts)
    assert both == sorted(row["text"] for row in reviews())
    assert not set(task.calibration.texts) & set(task.evaluation.texts)
    assert all(int(text[-1]) % 2 == label for text, label in zip(task.evaluation.texts, task.evaluation.labels, strict=True))


def test_columns_are_chosen_and_words_are_labels_too(tmp_path: Path) -> None:
    rows = [{"a": LONG, "b": f"second {i}", "mood": ("Positive", "negative")[i % 2]} for i in range(9)]
    path = written(tmp_path, rows)
    task = tasks.load(Source(path, text="a", text_pair="b", label="mood"), LABELS)
    assert task.evaluation.pairs and task.evaluation.pairs[0].startswith("second")
    assert set(task.evaluation.labels) == {0, 1}


def test_a_calibration_file_needs_no_labels(tmp_path: Path) -> None:
    own = written(tmp_path, [{"text": LONG}, {"text": "short"}], "calibration.jsonl")
    task = tasks.load(Source(written(tmp_path, reviews()), calibration=own), LABELS)
    assert task.calibration.texts == [LONG, "short"] and task.calibration.labels is None
    assert len(task.evaluation) == 12
    assert task.sampled(5, 0, 0).calibration.texts == [LONG]  # nine words or more


@pytest.mark.parametrize(
    ("rows", "source", "words"),
    [
        ([{"text": LONG, "label": 0}, {"text": " ", "label": 1}], {}, "row 2, column 'text': the text is empty"),
        ([{"text": LONG, "label": 0}, {"text": LONG, "label": None}], {}, "row 2, column 'label': the label is missing"),
        ([{"text": LONG, "label": 0}, {"text": LONG, "label": 7}], {}, "row 2, column 'label': 7 is not a label .* use 0 to 1"),
        ([{"text": LONG, "label": "meh"}], {}, "row 1, column 'label': 'meh' is not a label .* negative, positive"),
        ([{"text": LONG, "label": 0.5}], {}, "row 1, column 'label': 0.5 is not a label"),
        ([{"text": LONG, "label": 1}] * 3, {}, "every label is 'positive'"),
        (reviews(), {"text": "review"}, "no column 'review'; it has text, label. Name one with --text"),
        (reviews(), {"label": "stars"}, "no column 'stars'.*--label"),
        ([{"x": LONG, "label": 0}], {}, "no text column was named"),
        ([{"text": "too short", "label": i % 2} for i in range(9)], {}, "no calibration text has 9 words"),
    ],
)
def test_a_mistake_in_the_rows_is_a_sentence(tmp_path: Path, rows: list[dict], source: dict, words: str) -> None:
    with pytest.raises(PruneError, match=words):
        tasks.load(Source(written(tmp_path, rows), **source), LABELS)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    latin, empty, broken, odd = (tmp_path / name for name in ("latin.csv", "empty.csv", "broken.jsonl", "notes.txt"))
    latin.write_bytes("text,label\ncafé au lait,1\n".encode("latin-1"))
    empty.write_text("")
    broken.write_text(json.dumps({"text": "a"}) + "\n{oops\n")
    odd.write_text("hello")
    for path, words in ((latin, "not UTF-8"), (empty, "empty"), (broken, "cannot be read as .jsonl"), (odd, "neither a known task")):
        with pytest.raises(PruneError, match=words):
            read_table(str(path))
    with pytest.raises(PruneError, match="no such file"):
        read_table(str(tmp_path / "gone.csv"))


def test_a_model_with_other_labels_is_refused_before_any_download() -> None:
    with pytest.raises(PruneError, match="ag_news has 4 labels .* but the model has 2"):
        tasks.load(Source("ag_news"), LABELS)


def test_an_unreachable_hub_is_a_sentence() -> None:
    with pytest.raises(PruneError, match="sst2: the Hub cannot be reached"):
        tasks.load(Source("sst2"), LABELS)


def test_the_demo_is_what_it_promises() -> None:
    task = tasks.load(Source(), LABELS)
    assert len(task.calibration) == 256 and len(task.calibration) + len(task.evaluation) >= 600
    texts = task.calibration.texts + task.evaluation.texts
    assert len(set(texts)) == len(texts) and all(5 <= len(text.split()) <= 40 for text in texts)
    assert 0.45 < sum(task.evaluation.labels) / len(task.evaluation) < 0.55
    assert len(task.sampled(256, 0, 0).calibration) == 256


def test_samples_are_seeded_and_keep_their_order() -> None:
    pool = tasks.load(Source(), LABELS).evaluation
    one, again, other = (pool.sample(20, seed) for seed in (1, 1, 2))
    assert one == again != other and len(one) == 20
    assert [pool.texts.index(text) for text in one.texts] == sorted(pool.texts.index(text) for text in one.texts)


def test_batches_hold_every_example_once_with_little_padding() -> None:
    found = list(tokens.batches(tiny.tokenizer(), tiny.examples(3), 5, 64, torch.device("cpu")))
    assert sorted(index for _, indices in found for index in indices) == list(range(36))
    padding = sum(int((batch["attention_mask"] == 0).sum()) for batch, _ in found)
    assert padding < 0.1 * sum(batch["attention_mask"].numel() for batch, _ in found)
    cut = next(iter(tokens.batches(tiny.tokenizer(), tiny.examples(), 12, 6, torch.device("cpu"))))[0]
    assert cut["input_ids"].shape == (12, 6)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not beside this checkout")
def test_real_files_load() -> None:
    task = tasks.load(Source(str(SHARED / "sst2" / "validation.parquet")), LABELS)
    assert len(task.calibration) + len(task.evaluation) == 872
    news = tasks.load(Source(str(SHARED / "ag_news" / "test.parquet")), tasks.KNOWN["ag_news"].labels)
    assert set(news.evaluation.labels) == {0, 1, 2, 3}
    pairs = Source(str(SHARED / "mrpc" / "test.parquet"), text="sentence1", text_pair="sentence2")
    assert tasks.load(pairs, tasks.KNOWN["mrpc"].labels).evaluation.pairs
