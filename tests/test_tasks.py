"""GLUE and SQuAD: official metrics, windows and answer spans, and every task type in every step."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torchmetrics.functional.text import squad

from prune_core import PruneError
from prune_core.data import tokens
from prune_core.data.examples import AnswerSpans, DataSource, Examples
from prune_core.data.metrics import answer_f1, exact_match
from prune_core.measures.accuracy import summary
from prune_core.models import replay
from prune_core.models.checkpoints import loading
from prune_core.models.inference.predict import predict
from prune_core.plugins import no_report
from prune_core.tasks import METRICS, TASK_TYPES, encoding, metric_for, task_data
from prune_core.tasks.base import MASKED_LOGIT
from prune_core.tasks.known_tasks import KNOWN_TASKS
from prune_core.training.finetune import TrainingRecipe, finetune

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CONTEXT = (
    "The lighthouse on Skerry Rock was built in 1844 by Alan Stevenson. It is made of granite and "
    "stands 48 metres tall. "
    "Since 1994 nobody has lived there, and its lamp is watched over from Edinburgh."
)
QUESTIONS = [
    "When was the lighthouse built?",
    "Who built the lighthouse?",
    "How tall is it?",
    "What is it made of?",
]
ANSWERS = ["1844", "Alan Stevenson", "48 metres", "granite"]


def spans(copies: int = 1) -> Examples:
    labels = [AnswerSpans([text], [CONTEXT.index(text)]) for text in ANSWERS]
    return Examples(
        QUESTIONS * copies, [CONTEXT] * len(QUESTIONS) * copies, labels * copies, kind="span"
    )


@pytest.mark.parametrize(
    ("accepted", "prediction"),
    [
        (["The  Cat!"], "cat"),
        (["a dog", "two dogs"], "two big dogs"),
        (["1,000 m"], "1000 m"),
        ([], ""),
        ([], "cat"),
        (["cat"], ""),
        (["the"], ""),
    ],
)
def test_answer_metrics_match_the_official_script(accepted: list[str], prediction: str) -> None:
    label = AnswerSpans(accepted, [0] * len(accepted))
    # the script drops accepted answers that are empty after normalization
    gold = [text for text in accepted if text != "the"] or [""]
    official = squad(
        {"prediction_text": prediction, "id": "0"},
        {"answers": {"text": gold, "answer_start": [0] * len(gold)}, "id": "0"},
    )
    assert exact_match(label, prediction) * 100 == float(official["exact_match"])
    assert answer_f1(label, prediction) * 100 == pytest.approx(float(official["f1"]))


def test_squad_metrics_match_the_official_script_on_a_sample() -> None:
    """SQuAD 1.1's script from torchmetrics, on predictions of varying quality."""
    file = SHARED / "squad" / "validation.parquet"
    rows = pd.read_parquet(file).head(500) if file.exists() else None
    if rows is None:
        golds, contexts = [list(answer.texts) for answer in spans().labels], [CONTEXT] * 4
    else:
        golds, contexts = (
            [list(answer["text"]) for answer in rows["answers"]],
            list(rows["context"]),
        )
    rng = np.random.default_rng(0)
    predictions = []
    for gold, context in zip(golds, contexts, strict=True):
        words = context.split()
        start = int(rng.integers(len(words)))
        predictions.append(
            [gold[0], f"the {gold[-1]},", gold[0].split()[0], " ".join(words[start : start + 4])][
                int(rng.integers(4))
            ]
        )
    official = squad(
        [{"prediction_text": text, "id": str(i)} for i, text in enumerate(predictions)],
        [
            {"answers": {"text": gold, "answer_start": [0] * len(gold)}, "id": str(i)}
            for i, gold in enumerate(golds)
        ],
    )
    labels = [AnswerSpans(gold, [0] * len(gold)) for gold in golds]
    assert METRICS["answer_f1"].compute(labels, predictions) * 100 == pytest.approx(
        float(official["f1"]), abs=1e-3
    )
    assert METRICS["exact_match"].compute(labels, predictions) * 100 == pytest.approx(
        float(official["exact_match"]), abs=1e-3
    )


def test_glue_metrics_have_textbook_values() -> None:
    labels, predictions = [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 1]
    assert METRICS["accuracy"].compute(labels, predictions) == pytest.approx(4 / 6)
    assert METRICS["f1"].compute(labels, predictions) == pytest.approx(2 / 3)
    assert METRICS["matthews"].compute(labels, predictions) == pytest.approx(1 / 3)
    assert METRICS["spearman"].compute([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(0.8)
    assert METRICS["pearson"].compute([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert METRICS["spearman"].compute([1, 2, 3], [2, 2, 2]) == 0.0  # a constant model


def test_every_known_task_has_its_official_metric() -> None:
    official = {
        "cola": "matthews",
        "stsb": "spearman",
        "squad": "answer_f1",
        "squad_v2": "answer_f1",
    }
    assert {name: known.metric for name, known in KNOWN_TASKS.items()} == {
        name: official.get(name, "accuracy") for name in KNOWN_TASKS
    }
    assert metric_for("classification", 2, "matthews") == "matthews"
    assert metric_for("span", 2) == "answer_f1"
    with pytest.raises(PruneError, match="'spearman' does not fit"):
        metric_for("classification", 2, "spearman")


def test_windows_cover_the_context_and_locate_the_answer() -> None:
    tokenizer, examples = tiny.tokenizer(), spans()
    single, windowed = (
        encoding.encode(tokenizer, examples, 128),
        encoding.encode(tokenizer, examples, 32),
    )
    assert single.example_index == [0, 1, 2, 3] and len(windowed) > 8
    assert all(len(ids) <= 32 for ids in windowed.inputs["input_ids"])
    for features in (single, windowed):
        covered = {example: set() for example in range(4)}
        for row, (first, last) in enumerate(encoding.token_targets(features, examples).tolist()):
            offsets, example = features.offsets[row], features.example_index[row]
            for span in filter(None, offsets):
                covered[example] |= set(range(*span))
            if first:
                assert CONTEXT[offsets[first][0] : offsets[last][1]] == ANSWERS[example]
        letters = {i for i, letter in enumerate(CONTEXT) if letter.strip()}
        assert all(letters <= characters for characters in covered.values())
    assert {
        example
        for example, ends in zip(
            windowed.example_index, encoding.token_targets(windowed, examples).tolist(), strict=True
        )
        if ends[0]
    } == {0, 1, 2, 3}


def test_long_questions_are_truncated_instead_of_the_context() -> None:
    long = Examples(["why " * 60], [CONTEXT], None, kind="span")
    features = encoding.encode(tiny.tokenizer(), long, 48)
    assert all(
        len(ids) <= 48 and any(offsets)
        for ids, offsets in zip(features.inputs["input_ids"], features.offsets, strict=True)
    )


class Oracle(torch.nn.Module):
    """Returns logits with the maximum at the target positions, as a perfect model would."""

    def __init__(self, features: tokens.Features, examples: Examples):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        targets = encoding.token_targets(features, examples).tolist()
        self.positions = {
            tuple(ids): ends
            for ids, ends in zip(features.inputs["input_ids"], targets, strict=True)
        }

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: torch.Tensor
    ) -> object:
        start, end = torch.zeros(2, *input_ids.shape)
        for i, (ids, mask) in enumerate(
            zip(input_ids.tolist(), attention_mask.tolist(), strict=True)
        ):
            first, last = self.positions[tuple(ids[: sum(mask)])]
            start[i, first] = end[i, last] = 9.0
        return type("Output", (), {"start_logits": start, "end_logits": end})()


@pytest.mark.parametrize("length", [128, 32])
def test_perfect_model_has_exact_match_1_over_all_windows(length: int) -> None:
    tokenizer, examples = tiny.tokenizer(), spans()
    oracle = Oracle(encoding.encode(tokenizer, examples, length), examples)
    predictions = (
        TASK_TYPES["span"]
        .predict(oracle, tokenizer, examples, batch_size=3, max_length=length)
        .predicted
    )
    assert predictions == ANSWERS
    assert METRICS["exact_match"].compute(examples.labels, predictions) == 1.0


def test_unanswerable_questions_have_an_empty_prediction() -> None:
    examples = spans()
    labels = [AnswerSpans([], []), *examples.labels[1:]]
    examples = Examples(examples.texts, examples.pairs, labels, kind="span")
    tokenizer = tiny.tokenizer()
    predictions = (
        TASK_TYPES["span"]
        .predict(
            Oracle(encoding.encode(tokenizer, examples, 128), examples),
            tokenizer,
            examples,
            batch_size=3,
            max_length=128,
        )
        .predicted
    )
    assert predictions == ["", *ANSWERS[1:]]
    assert METRICS["answer_f1"].compute(labels, predictions) == 1.0


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_replayed_span_head_equals_the_models_own(family: str) -> None:
    model = tiny.model(family, kind="span")
    assert replay.task_type_of(model).name == "span"
    for batch, _ in encoding.batches(
        tiny.tokenizer(family), spans(), 3, max_length=64, device=torch.device("cpu")
    ):
        expected = model(**batch)
        *_, (hidden, padding) = replay.hidden_states(model, batch)
        replayed, mask = replay.head(model, hidden, padding), padding.mask
        for replayed_logits, model_logits in zip(
            replayed.unbind(1), (expected.start_logits, expected.end_logits), strict=True
        ):
            assert torch.allclose(replayed_logits[mask], model_logits[mask], atol=1e-4)
            assert (replayed_logits[~mask] == MASKED_LOGIT).all()


def write_rows(tmp_path: Path, rows: list[dict], name: str = "data.jsonl") -> str:
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / name)


def squad_rows(copies: int = 1) -> list[dict]:
    examples = spans(copies)
    return [
        {"question": q, "context": c, "answers": {"text": a.texts, "answer_start": a.starts}}
        for q, c, a in zip(examples.texts, examples.pairs, examples.labels, strict=True)
    ]


def test_questions_are_read_with_squad_or_plain_text_answers(tmp_path: Path) -> None:
    nested = task_data.training_examples(DataSource(write_rows(tmp_path, squad_rows())), (), "span")
    plain = [
        {"question": q, "context": CONTEXT, "answers": a}
        for q, a in zip(QUESTIONS, [*ANSWERS[:3], ""], strict=True)
    ]
    flat = task_data.training_examples(
        DataSource(write_rows(tmp_path, plain, "flat.jsonl")), (), "span"
    )
    assert nested == spans()
    assert flat.labels[:3] == nested.labels[:3]
    assert flat.labels[3] == AnswerSpans([], [])
    invalid = [{"question": "Where?", "context": CONTEXT, "answers": "Atlantis"}]
    with pytest.raises(
        PruneError,
        match="column 'answers', line 1: the answer 'Atlantis' does not occur in its context",
    ):
        task_data.training_examples(
            DataSource(write_rows(tmp_path, invalid, "wrong.jsonl")), (), "span"
        )


def test_regression_scores_are_read_from_a_file(tmp_path: Path) -> None:
    rows = [
        {"sentence1": f"{tiny.SENTENCES[0]} {i}", "sentence2": tiny.SENTENCES[2], "label": i / 2}
        for i in range(9)
    ]
    source = DataSource(write_rows(tmp_path, rows))
    assert task_data.kind_of(source) == "regression"
    task = task_data.load(source, ("score",), 0, kind="regression")
    assert task.metric == "spearman"
    assert task.evaluation.pairs
    assert all(isinstance(label, float) for label in task.evaluation.labels)
    rows[3]["label"] = "high"
    with pytest.raises(PruneError, match="no number in column 'label': line 4 .'high'"):
        task_data.load(DataSource(write_rows(tmp_path, rows)), ("score",), 0, kind="regression")


def test_task_that_does_not_fit_the_head_is_rejected() -> None:
    for task, kind, message in (
        (
            "squad",
            "classification",
            "needs an answer in a text, but the checkpoint's head predicts a label",
        ),
        ("stsb", "span", "needs a score"),
        ("demo", "regression", "demo needs a label"),
    ):
        with pytest.raises(PruneError, match=message):
            task_data.load(DataSource(task), ("a", "b"), 0, kind=kind)


def test_accuracy_summary_of_each_task_type() -> None:
    spans_row = summary(
        "answer_f1",
        2,
        spans().labels,
        dense=ANSWERS,
        pruned=["1844", "by Alan Stevenson", "", "granite"],
        resamples=200,
    )
    assert spans_row["dense_score"] == 1
    assert spans_row["exact_match"] == 0.5
    assert spans_row["score"] == pytest.approx((2 + 0.8) / 4)
    assert (spans_row["broken"], spans_row["fixed"]) == (2, 0)
    assert spans_row["difference_low"] < spans_row["difference"] < 0
    scores = list(np.linspace(0, 5, 40))
    row = summary("spearman", 1, scores, dense=scores, pruned=scores[::-1], resamples=200)
    assert row["dense_score"] == pytest.approx(1)
    assert row["score"] == pytest.approx(-1)
    assert row["broken"] is None
    cola = summary(
        "matthews", 2, [0, 1] * 20, dense=[0, 1] * 20, pruned=[0, 1, 1, 1] * 10, resamples=200
    )
    assert cola["score"] == METRICS["matthews"].compute([0, 1] * 20, [0, 1, 1, 1] * 10)
    assert cola["accuracy"] == 0.75
    assert cola["low"] < cola["score"] < cola["high"] and cola["broken"] == 10


@pytest.mark.parametrize("kind", ["regression", "span"])
def test_finetuning_learns_regression_and_span_tasks(tmp_path: Path, kind: str) -> None:
    if kind == "span":
        numbers = ("seven", "eight", "nine", "twelve", "thirty")
        texts = [
            f"{'there ' * (i % 4)}came {numbers[i % 5]} ships {'by sea ' * (i % 3)}"
            for i in range(60)
        ]
        rows, epochs = (
            [
                {"question": "How many?", "context": text, "answers": numbers[i % 5]}
                for i, text in enumerate(texts)
            ],
            20,
        )
    else:
        words = ("awful", "poor", "fair", "good", "superb")
        rows, epochs = (
            [
                {"text": f"{'one more ' * (i % 3)}{words[i % 5]} film", "label": i % 5 + 0.5}
                for i in range(60)
            ],
            20,
        )
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    source = DataSource(write_rows(tmp_path, rows))
    recipe = TrainingRecipe(
        checkpoint=str(tmp_path / "backbone"),
        epochs=epochs,
        batch_size=8,
        learning_rate=2e-3,
        dropout=0.0,
        patience=8,
    )
    card = finetune(recipe, source, source, folder=tmp_path / "out", report=no_report)
    assert card["metric"] == {"span": "answer_f1", "regression": "spearman"}[kind]
    assert card["score"] > 0.9
    model, tokenizer = loading.load(str(tmp_path / "out"))
    assert replay.task_type_of(model).name == kind
    predictions = predict(model, tokenizer, task_data.training_examples(source, (), kind)).predicted
    assert METRICS[card["metric"]].compute(
        task_data.training_examples(source, (), kind).labels, predictions
    ) == pytest.approx(card["score"], abs=0.02)
    assert "prunescope" in (tmp_path / "out" / "README.md").read_text()


def test_finetuning_stops_early_without_improvement(tmp_path: Path) -> None:
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(tiny.SENTENCES)]
    source = DataSource(write_rows(tmp_path, rows))
    recipe = TrainingRecipe(
        checkpoint=str(tmp_path / "backbone"), epochs=50, learning_rate=0.0, patience=2
    )
    assert (
        len(finetune(recipe, source, source, folder=tmp_path / "out", report=no_report)["history"])
        == 3
    )
