"""Multi-label and token classification: data formats, every method, every measure but attacks."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core import tasks as task_types
from prune_core.cli.arguments import main
from prune_core.data import columns, metrics, reading, tables
from prune_core.data.columns import Columns
from prune_core.data.examples import DataSource, Examples
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import families, replay
from prune_core.models.checkpoints import loading
from prune_core.models.inference import predict
from prune_core.plugins import build, no_report
from prune_core.tasks import TASK_TYPES, encoding, task_data
from prune_core.tasks.task_data import Task

CLASSIFICATION, MULTILABEL, TOKEN, REGRESSION, SPAN, EMBEDDING = TASK_TYPES.values()
KINDS = ("multilabel", "token")
NAMES = {"multilabel": ("a", "b"), "token": tiny.TAGS, "embedding": ("embedding",)}
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-ORG", "PER")


def test_entity_f1_matches_seqeval() -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    rng = random.Random(0)
    for _ in range(300):
        labels, predictions = (
            [[rng.choice(TAGS) for _ in range(size)] for size in (1, 5, 12)] for _ in range(2)
        )
        ours = task_types.METRICS["entity_f1"].compute(labels, predictions)
        assert ours == pytest.approx(
            seqeval.f1_score(labels, predictions, zero_division=0), abs=1e-9
        ), (
            labels,
            predictions,
        )


@pytest.mark.parametrize("name", ["f1", "matthews", "binary_f1", "binary_matthews"])
def test_metrics_of_counts_equal_those_of_scikit_learn(name: str) -> None:
    """Bootstrap intervals are computed from counts, the value itself by scikit-learn."""
    metric, rng = task_types.METRICS[name], np.random.default_rng(0)
    classes = 4 if name == "matthews" else 2
    samples = [rng.integers(classes, size=(2, 12)) for _ in range(100)]
    samples += [np.array([[0, 1, 1], [1, 1, 1]]), np.zeros((2, 5), int)]  # undefined: 0
    for labels, predictions in samples:
        if name.startswith("binary"):
            predictions = predictions * rng.uniform(0.6, 1, len(predictions))
        assert metric.counts is not None and metric.of_counts is not None
        sums = metric.counts(labels, predictions).sum(0)
        expected = metric.compute(labels, predictions)
        assert metric.of_counts(sums) == pytest.approx(expected, abs=1e-12)


def test_multilabel_metrics_match_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(0)
    for _ in range(50):
        labels, predictions = (rng.integers(2, size=(9, 4)) for _ in range(2))
        for name, average in (("micro_f1", "micro"), ("macro_f1", "macro")):
            expected = f1_score(labels, predictions, average=average, zero_division=0)
            assert task_types.METRICS[name].compute(
                labels.tolist(), predictions.tolist()
            ) == pytest.approx(expected)
        assert task_types.METRICS["subset_accuracy"].compute(
            labels.tolist(), predictions.tolist()
        ) == pytest.approx(accuracy_score(labels, predictions))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"text": "x", "label": ["a", "b"]}, {"text": "y", "label": []}], [[1, 1], [0, 0]]),
        ([{"text": "x", "label": "a|B"}, {"text": "y", "label": "b"}], [[1, 1], [0, 1]]),
        ([{"text": "x", "label": "a, b"}, {"text": "y", "label": "a"}], [[1, 1], [1, 0]]),
        ([{"text": "x", "label": [0, 1]}, {"text": "y", "label": [1, 0]}], [[0, 1], [1, 0]]),
        ([{"text": "x", "a": 1, "b": 0}, {"text": "y", "a": "0", "b": "1"}], [[1, 0], [0, 1]]),
        ([{"text": "x", "label": "b"}, {"text": "y", "label": -1}], [[0, 1]]),
    ],
)
def test_multilabel_columns_are_read_in_every_format(rows: list[dict], expected: list) -> None:
    table = pd.DataFrame(rows)
    source = DataSource("a")
    chosen = columns.choose_columns(table, source, "a", task_type=MULTILABEL, names=("a", "b"))
    result = reading.examples(table, source, chosen, task_type=MULTILABEL, names=("a", "b"))
    assert result.examples.labels == expected


CONLL = "-DOCSTART- -X- O\n\nAda NNP B-PER\nBrook NNP I-PER\nwrites VB O\n\nRain NN O\n"


def test_token_labels_are_read_from_conll_and_from_lists(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(CONLL)
    rows = tables.read(str(tmp_path / "a.txt")).rows
    assert rows.to_dict("list") == {
        "tokens": [["Ada", "Brook", "writes"], ["Rain"]],
        "ner_tags": [["B-PER", "I-PER", "O"], ["O"]],
    }
    read = reading.examples(
        rows,
        DataSource("a"),
        Columns("tokens", None, "ner_tags"),
        task_type=TOKEN,
        names=tiny.TAGS,
    ).examples
    assert read.texts == ["Ada Brook writes", "Rain"] and read.labels == [[1, 2, 0], [0]]
    numbers = pd.DataFrame({"tokens": [["Ada", "B."]], "ner_tags": [[1, -100]]})
    assert reading.examples(
        numbers,
        DataSource("a"),
        Columns("tokens", None, "ner_tags"),
        task_type=TOKEN,
        names=tiny.TAGS,
    ).examples.labels == [[1, -100]]
    listed = pd.DataFrame(
        {"tokens": ["['Ada', \"O'Neil\"]"], "ner_tags": ["['B-PER', 'I-PER']"]}
    )  # lists stored as text in a CSV
    assert reading.examples(
        listed,
        DataSource("a"),
        Columns("tokens", None, "ner_tags"),
        task_type=TOKEN,
        names=tiny.TAGS,
    ).examples.labels == [[1, 2]]
    with pytest.raises(PruneError, match="row 1: 1 label for 2 words"):
        uneven = pd.DataFrame({"tokens": [["a", "b"]], "ner_tags": [["O"]]})
        reading.examples(
            uneven,
            DataSource("a"),
            Columns("tokens", None, "ner_tags"),
            task_type=TOKEN,
            names=tiny.TAGS,
        )


def test_first_token_of_a_word_carries_its_label() -> None:
    examples = Examples(["Unbelievable O'Neil , wow"], labels=[[1, 2, 0, 0]], kind="token")
    features = encoding.encode(tiny.tokenizer(), examples, 64)
    words = [word for word in features.words[0] if word is not None]
    assert words == [0, 1, 2, 3] and features.words[0][0] is None
    targets = encoding.token_targets(features, examples)[0].tolist()
    assert [label for label in targets if label != metrics.IGNORE_INDEX] == [1, 2, 0, 0]


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_replayed_head_matches_model_and_padding_has_no_effect(kind: str, family: str) -> None:
    model, tokenizer, sample = (
        tiny.model(family, kind=kind),
        tiny.tokenizer(family),
        tiny.examples(kind=kind),
    )
    for batch in tiny.calibration(family):
        with torch.no_grad():
            expected = model(**batch).logits
            *_, (hidden, padding) = replay.hidden_states(model, batch)
            logits = replay.head(model, hidden, padding)
        torch.testing.assert_close(
            logits, padding.pack(expected) if kind == "token" else expected, atol=1e-5, rtol=1e-4
        )
    predictions = predict.predict(model, tokenizer, sample)
    single = predict.predict(model, tokenizer, sample.take([3]), batch_size=1)
    # padding does not change predictions
    assert predictions.predicted[3] == single.predicted[0]
    assert len(predictions.predicted) == len(sample)
    if kind == "token":
        assert [len(row) for row in predictions.predicted] == [
            len(text.split(" ")) for text in sample.texts
        ]


def pair(dense: torch.nn.Module, pruned: torch.nn.Module, kind: str, labelled: bool = True) -> Pair:
    sample = tiny.examples(2, kind)
    sample = sample if labelled else Examples(sample.texts, kind=kind)
    metric = task_types.metric_for(kind, 2, labelled=labelled)
    return Pair(
        dense,
        pruned,
        tiny.tokenizer(),
        task=Task("tiny", NAMES[kind], sample, evaluation=sample, metric=metric),
    )


# every method and every measure on every task type: test_golden_values.py
@pytest.mark.parametrize("kind", (*KINDS, "embedding"))
def test_every_measure_supports_a_compact_model_of_the_task_type(kind: str) -> None:
    dense = tiny.model(kind=kind)
    pruned = copy.deepcopy(dense)
    build(METHODS, "unit_magnitude", {"sparsity": 0.5}).prune(pruned, tiny.calibration(), no_report)
    options = {"drift": {"neighbors": 3, "umap": False}, "cost": {"repeats": 3, "length": 16}}
    exports = {"formats", "quantization"}  # of compact models: test_shrink.py
    supported = {name for name, measure in MEASURES.items() if kind in measure.kinds}
    for name in supported - exports - tiny.OWN_DATA:
        tables = build(MEASURES, name, options.get(name, {})).measure(
            pair(dense, pruned, kind), no_report
        )
        assert all(len(rows) for rows in tables.values()), name
        assert json.loads(tables[name].to_json(orient="records"))
    assert kind not in MEASURES["attack"].kinds


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_dense_model_agrees_with_itself(kind: str, labelled: bool) -> None:
    model = tiny.model(kind=kind)
    row = (
        build(MEASURES, "accuracy")
        .measure(pair(model, model, kind, labelled=labelled), no_report)["accuracy"]
        .iloc[0]
    )
    assert row["agreement"] == 1 and row["broken"] == row["fixed"] == 0 and row["difference"] == 0
    assert labelled or row["score"] in (0.0, 1.0)  # F1 of no entities is 0
    assert 0 <= row["low"] <= row["score"] <= row["high"] <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_run_command_measures_accuracy_on_a_file(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "model"
    model = tiny.model(kind=kind)
    if kind == "multilabel":
        model.config.id2label = {0: "a", 1: "b"}
    loading.save(model, tiny.tokenizer(), folder)
    if kind == "token":
        file = tmp_path / "words.conll"
        file.write_text(
            "".join("Ada B-PER\nBrook I-PER\nbuilt O\nthe O\nmill O\n\n" for _ in range(12))
        )
    else:
        file = tmp_path / "sets.jsonl"
        file.write_text(
            "".join(
                json.dumps({"text": text, "labels": ["a", "b"][: i % 3]}) + "\n"
                for i, text in enumerate(tiny.SENTENCES)
            )
        )
    out = tmp_path / "out.json"
    command = [
        "run",
        "--checkpoint",
        folder,
        "--task",
        file,
        "--method",
        "akr",
        "--measure",
        "accuracy",
        "--device",
        "cpu",
        "--json",
        out,
    ]
    assert main([str(each) for each in command]) == 0, capsys.readouterr().err
    output = json.loads(out.read_text())
    assert output["facts"]["kind"] == kind
    assert (
        output["rows"]["accuracy"][0]["metric"]
        == {"token": "entity_f1", "multilabel": "micro_f1"}[kind]
    )
    assert main([*map(str, command[:-2]), "--measure", "attack"]) == 2
    assert "cannot be measured on a model that predicts" in capsys.readouterr().err


def test_single_label_is_read_as_a_set_of_one() -> None:
    task = task_data.load(DataSource(), ("negative", "positive"), kind="multilabel")
    assert set(map(tuple, task.evaluation.labels)) == {(0, 1), (1, 0)} and task.metric == "micro_f1"


VECTORS = [
    "[1 0]",
    "[True, False]",
    "[ True False]",
    "[1. 0.]",
    "{'a': 1, 'b': 0}",
    '{"a": true, "b": false}',
    "array([1, 0])",
    "[np.int64(1), np.int64(0)]",
]


@pytest.mark.parametrize(
    "cell", [*VECTORS, {"a": 1, "b": 0}, np.array([True, False]), "['a']", "a"]
)
def test_indicator_cells_are_read_in_every_format(cell: object) -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": [cell, cell]})
    chosen = columns.choose_columns(
        table, DataSource("a"), "a", task_type=MULTILABEL, names=("a", "b")
    )
    assert reading.examples(
        table, DataSource("a"), chosen, task_type=MULTILABEL, names=("a", "b")
    ).examples.labels == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (["Y", "N"], ("yes", "no"), [0, 1]),
        ([True, False], ("yes", "no"), [0, 1]),
        (["yes", "no"], ("duplicate", "not_duplicate"), [0, 1]),
        ([True, False], ("entailment", "not_entailment"), [0, 1]),
        (["TRUE", "FALSE"], ("spam", "ham"), [0, 1]),
        (["yes", "no"], ("toxic", "non-toxic"), [0, 1]),
        (["yes", "no"], ("unacceptable", "acceptable"), [1, 0]),
        ([["positive"], ["negative"]], ("negative", "positive"), [1, 0]),
        (["['positive']", "['negative']"], ("negative", "positive"), [1, 0]),
    ],
)
def test_yes_and_no_are_mapped_by_label_names(values: list, names: tuple, expected: list) -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": values})
    assert (
        reading.examples(
            table,
            DataSource("a"),
            Columns("text", None, "label"),
            task_type=CLASSIFICATION,
            names=names,
        ).examples.labels
        == expected
    )


def test_yes_and_no_are_ambiguous_for_unrelated_labels() -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": ["yes", "no"]})
    with pytest.raises(PruneError, match="it is not clear"):
        reading.examples(
            table,
            DataSource("a"),
            Columns("text", None, "label"),
            task_type=CLASSIFICATION,
            names=("cat", "dog"),
        )


@pytest.mark.parametrize("name", ["is_negative", "negative"])
def test_column_named_like_a_label_is_read_as_its_indicator(name: str) -> None:
    table = pd.DataFrame({"text": ["a long text here", "another long text"], name: [1, 0]})
    read = reading.examples(
        table,
        DataSource("a"),
        Columns("text", None, name),
        task_type=CLASSIFICATION,
        names=("negative", "positive"),
    )
    assert read.examples.labels == [0, 1] and "yes is negative" in read.notes[0]


def test_rows_with_missing_labels_are_left_out() -> None:
    table = pd.DataFrame(
        {"text": ["x"] * 40, "label": pd.array([0, 1] * 19 + [pd.NA, 1], dtype="Int64")}
    )
    read = reading.examples(
        table,
        DataSource("a"),
        Columns("text", None, "label"),
        task_type=CLASSIFICATION,
        names=("a", "b"),
    )
    assert len(read.examples) == 39 and "1 row without a label left out." in read.notes


def test_answers_in_every_format_are_located_in_their_context() -> None:
    table = pd.DataFrame(
        {
            "question": ["Who?"] * 6,
            "context": ["It is Bob."] * 6,
            "answers": [
                {"text": ["Bob"], "answer_start": [6]},
                {"text": "Bob", "answer_start": 9},
                [{"text": "Bob", "answer_start": 6}],
                ["Bob"],
                "{'text': array(['Bob'], dtype=object), 'answer_start': array([6])}",
                "Bob",
            ],
        }
    )
    read = reading.examples(
        table,
        DataSource("a"),
        Columns("question", "context", "answers"),
        task_type=SPAN,
    )
    assert [(list(each.texts), list(each.starts)) for each in read.examples.labels] == [
        (["Bob"], [6])
    ] * 6


def test_scores_with_thousands_separators_are_refused() -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": ["1,200", "950"]})
    with pytest.raises(PruneError, match=r"'1,200' may be 1\.200 or 1200"):
        reading.examples(
            table,
            DataSource("a"),
            Columns("text", None, "label"),
            task_type=REGRESSION,
        )
