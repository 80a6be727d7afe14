"""Models that give several labels, or one for every word: read, pruned by every method, measured by everything but attacks."""

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.data import columns, metrics, reading, tables, tasks, tokens
from prune_core.data.columns import Columns
from prune_core.data.examples import DataSource, Examples
from prune_core.data.tasks import Task
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import families, replay
from prune_core.models.checkpoints import loading
from prune_core.models.inference import predict
from prune_core.plugins import build, no_report

KINDS = ("multilabel", "token")
NAMES = {"multilabel": ("a", "b"), "token": tiny.TAGS}
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-ORG", "PER")


def test_entities_are_seqevals() -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    dice = random.Random(0)
    for _ in range(300):
        right, said = (
            [[dice.choice(TAGS) for _ in range(size)] for size in (1, 5, 12)] for _ in range(2)
        )
        ours = metrics.METRICS["entity_f1"].compute(right, said)
        assert ours == pytest.approx(seqeval.f1_score(right, said, zero_division=0), abs=1e-9), (
            right,
            said,
        )


def test_the_labels_f1_is_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    dice = np.random.default_rng(0)
    for _ in range(50):
        right, said = (dice.integers(2, size=(9, 4)) for _ in range(2))
        for name, average in (("micro_f1", "micro"), ("macro_f1", "macro")):
            expected = f1_score(right, said, average=average, zero_division=0)
            assert metrics.METRICS[name].compute(right.tolist(), said.tolist()) == pytest.approx(
                expected
            )
        assert metrics.METRICS["subset_accuracy"].compute(
            right.tolist(), said.tolist()
        ) == pytest.approx(accuracy_score(right, said))


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ([{"text": "x", "label": ["a", "b"]}, {"text": "y", "label": []}], [[1, 1], [0, 0]]),
        ([{"text": "x", "label": "a|B"}, {"text": "y", "label": "b"}], [[1, 1], [0, 1]]),
        ([{"text": "x", "label": "a, b"}, {"text": "y", "label": "a"}], [[1, 1], [1, 0]]),
        ([{"text": "x", "label": [0, 1]}, {"text": "y", "label": [1, 0]}], [[0, 1], [1, 0]]),
        ([{"text": "x", "a": 1, "b": 0}, {"text": "y", "a": "0", "b": "1"}], [[1, 0], [0, 1]]),
        ([{"text": "x", "label": "b"}, {"text": "y", "label": -1}], [[0, 1]]),
    ],
)
def test_several_labels_are_read_in_every_form(rows: list[dict], right: list) -> None:
    table = pd.DataFrame(rows)
    source = DataSource("a")
    chosen = columns.choose_columns(table, source, "a", kind="multilabel", names=("a", "b"))
    found = reading.examples(table, source, chosen, kind="multilabel", names=("a", "b"))
    assert found.examples.labels == right


CONLL = "-DOCSTART- -X- O\n\nAda NNP B-PER\nBrook NNP I-PER\nwrites VB O\n\nRain NN O\n"


def test_words_and_their_labels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(CONLL)
    found = tables.read(str(tmp_path / "a.txt")).rows
    assert found.to_dict("list") == {
        "tokens": [["Ada", "Brook", "writes"], ["Rain"]],
        "ner_tags": [["B-PER", "I-PER", "O"], ["O"]],
    }
    read = reading.examples(
        found, DataSource("a"), Columns("tokens", None, "ner_tags"), kind="token", names=tiny.TAGS
    ).examples
    assert read.texts == ["Ada Brook writes", "Rain"] and read.labels == [[1, 2, 0], [0]]
    numbers = pd.DataFrame({"tokens": [["Ada", "B."]], "ner_tags": [[1, -100]]})
    assert reading.examples(
        numbers, DataSource("a"), Columns("tokens", None, "ner_tags"), kind="token", names=tiny.TAGS
    ).examples.labels == [[1, -100]]
    listed = pd.DataFrame(
        {"tokens": ["['Ada', \"O'Neil\"]"], "ner_tags": ["['B-PER', 'I-PER']"]}
    )  # as a CSV keeps lists
    assert reading.examples(
        listed, DataSource("a"), Columns("tokens", None, "ner_tags"), kind="token", names=tiny.TAGS
    ).examples.labels == [[1, 2]]
    with pytest.raises(PruneError, match="row 1: 1 label for 2 words"):
        uneven = pd.DataFrame({"tokens": [["a", "b"]], "ner_tags": [["O"]]})
        reading.examples(
            uneven,
            DataSource("a"),
            Columns("tokens", None, "ner_tags"),
            kind="token",
            names=tiny.TAGS,
        )


def test_a_words_first_token_carries_its_label() -> None:
    found = Examples(["Unbelievable O'Neil , wow"], labels=[[1, 2, 0, 0]], kind="token")
    features = tokens.encode(tiny.tokenizer(), found, 64)
    words = [word for word in features.words[0] if word is not None]
    assert words == [0, 1, 2, 3] and features.words[0][0] is None
    right = tokens.token_targets(features, found)[0].tolist()
    assert [label for label in right if label != metrics.IGNORE_INDEX] == [1, 2, 0, 0]


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_head_replays_and_predicts(kind: str, family: str) -> None:
    model, tokenizer, sample = (
        tiny.model(family, kind=kind),
        tiny.tokenizer(family),
        tiny.examples(kind=kind),
    )
    for batch in tiny.calibration(family):
        with torch.no_grad():
            expected = model(**batch).logits
            *_, (hidden, padding) = replay.hidden_states(model, batch)
            found = replay.head(model, hidden, padding)
        torch.testing.assert_close(
            found, padding.pack(expected) if kind == "token" else expected, atol=1e-5, rtol=1e-4
        )
    said = predict.predict(model, tokenizer, sample)
    alone = predict.predict(model, tokenizer, sample.take([3]), batch_size=1)
    assert said.predicted[3] == alone.predicted[0] and len(said.predicted) == len(
        sample
    )  # padding changes nothing
    if kind == "token":
        assert [len(row) for row in said.predicted] == [
            len(text.split(" ")) for text in sample.texts
        ]


def pair(dense: torch.nn.Module, pruned: torch.nn.Module, kind: str, labelled: bool = True) -> Pair:
    sample = tiny.examples(2, kind)
    sample = sample if labelled else Examples(sample.texts, kind=kind)
    metric = metrics.metric_for(kind, 2, labelled=labelled)
    return Pair(
        dense,
        pruned,
        tiny.tokenizer(),
        task=Task("tiny", NAMES[kind], sample, evaluation=sample, metric=metric),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_prunes_and_every_measure_looks(kind: str, method: str) -> None:
    import copy

    dense, sample = tiny.model(kind=kind), tiny.examples(kind=kind)
    pruned = copy.deepcopy(dense)
    torch.manual_seed(0)
    found = tokens.batches(
        tiny.tokenizer(), sample, 5, max_length=64, device=torch.device("cpu"), labelled=True
    )
    build(METHODS, method, {"sparsity": 0.5}).prune(
        pruned, [batch for batch, _ in found], no_report
    )
    assert all(torch.isfinite(tensor).all() for tensor in pruned.state_dict().values())
    assert sum(row["sparsity"] for row in replay.sparsity_by_projection(pruned)) > 0
    options = {"drift": {"neighbours": 3, "umap": False}, "cost": {"repeats": 3, "length": 16}}
    for name, measure in MEASURES.items():
        # the two that write files take seconds: whole and cut
        if kind in measure.kinds and (
            name not in ("forms", "doctor") or method in ("magnitude", "unit_magnitude")
        ):
            tables = build(MEASURES, name, options.get(name, {})).measure(
                pair(dense, pruned, kind), no_report
            )
            assert all(len(rows) for rows in tables.values()), name
            assert json.loads(tables[name].to_json(orient="records"))
    assert kind not in MEASURES["attack"].kinds


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_dense_model_against_itself(kind: str, labelled: bool) -> None:
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
def test_from_a_file_to_the_figures(
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
    run = [
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
    assert main([str(each) for each in run]) == 0, capsys.readouterr().err
    found = json.loads(out.read_text())
    assert (
        found["facts"]["kind"] == kind
        and found["rows"]["accuracy"][0]["metric"]
        == {"token": "entity_f1", "multilabel": "micro_f1"}[kind]
    )
    assert main([*map(str, run[:-2]), "--measure", "attack"]) == 2
    assert "cannot be measured on a model that gives" in capsys.readouterr().err


def test_a_single_label_is_a_set_of_one() -> None:
    task = tasks.load(DataSource(), ("negative", "positive"), kind="multilabel")
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
def test_cells_that_say_yes_or_no_to_each_label(cell: object) -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": [cell, cell]})
    chosen = columns.choose_columns(
        table, DataSource("a"), "a", kind="multilabel", names=("a", "b")
    )
    assert reading.examples(
        table, DataSource("a"), chosen, kind="multilabel", names=("a", "b")
    ).examples.labels == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("values", "names", "meant"),
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
def test_yes_and_no_follow_the_names_of_the_labels(values: list, names: tuple, meant: list) -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": values})
    assert (
        reading.examples(
            table,
            DataSource("a"),
            Columns("text", None, "label"),
            kind="classification",
            names=names,
        ).examples.labels
        == meant
    )


def test_yes_and_no_to_labels_that_are_neither_is_a_question() -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": ["yes", "no"]})
    with pytest.raises(PruneError, match="it is not clear"):
        reading.examples(
            table,
            DataSource("a"),
            Columns("text", None, "label"),
            kind="classification",
            names=("cat", "dog"),
        )


@pytest.mark.parametrize("name", ["is_negative", "negative"])
def test_a_column_named_like_a_label_says_yes_or_no_to_it(name: str) -> None:
    table = pd.DataFrame({"text": ["a long text here", "another long text"], name: [1, 0]})
    read = reading.examples(
        table,
        DataSource("a"),
        Columns("text", None, name),
        kind="classification",
        names=("negative", "positive"),
    )
    assert read.examples.labels == [0, 1] and "yes is negative" in read.notes[0]


def test_missing_values_of_every_kind_are_no_labels() -> None:
    table = pd.DataFrame(
        {"text": ["x"] * 40, "label": pd.array([0, 1] * 19 + [pd.NA, 1], dtype="Int64")}
    )
    read = reading.examples(
        table,
        DataSource("a"),
        Columns("text", None, "label"),
        kind="classification",
        names=("a", "b"),
    )
    assert len(read.examples) == 39 and "1 row without a label left out." in read.notes


def test_answers_in_every_shape_are_placed_in_their_context() -> None:
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
        table, DataSource("a"), Columns("question", "context", "answers"), kind="span"
    )
    assert [(list(each.texts), list(each.starts)) for each in read.examples.labels] == [
        (["Bob"], [6])
    ] * 6


def test_scores_with_separators_of_thousands_are_refused() -> None:
    table = pd.DataFrame({"text": ["x", "y"], "label": ["1,200", "950"]})
    with pytest.raises(PruneError, match=r"'1,200' may be 1\.200 or 1200"):
        reading.examples(table, DataSource("a"), Columns("text", None, "label"), kind="regression")
