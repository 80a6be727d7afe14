"""A better mapping of label values is offered for wrongly matched labels, never for a bad model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prune_core.analysis.label_order import better_order
from prune_core.data import reading
from prune_core.data.columns import Columns
from prune_core.data.examples import DataSource
from prune_core.data.label_pairs import parse_pairs
from prune_core.tasks import METRICS, TASK_TYPES, task_data

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def rows(labels: list, predictions: list) -> pd.DataFrame:
    return pd.DataFrame({"label": labels, "dense": predictions})


def facts(names: list[str], **more) -> dict:
    return {
        "kind": "classification",
        "label_names": names,
        "labels": {str(i): i for i in range(len(names))},
        **more,
    }


def classifier(order: list[int], accuracy: float, n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Predictions for labels of which label i is the model's label order[i]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(order), size=n)
    return rows(
        labels,
        np.where(
            rng.random(n) < accuracy, np.array(order)[labels], rng.integers(len(order), size=n)
        ),
    )


@pytest.mark.parametrize("n", [40, 111])
@pytest.mark.parametrize(
    "order", [[1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1], [3, 2, 1, 0], [0, 1, 3, 2], [3, 0, 1, 2]]
)
def test_permutation_of_the_labels_is_detected(order: list[int], n: int) -> None:
    names = [f"LABEL_{i}" for i in range(len(order))]
    for seed in range(10):
        offer = better_order(classifier(order, 0.9, n, seed=seed), facts(names))
        assert offer is not None
        assert parse_pairs(offer.labels) == {str(i): names[label] for i, label in enumerate(order)}
        assert "the model's labels have no names" in offer.sentence


def test_labels_from_1_without_the_top_class_are_detected() -> None:
    predictions = classifier([0, 1, 2], 0.8, 111)
    shifted = predictions.assign(
        label=predictions["label"] + 1
    )  # 1, 2, 3 are read as the numbers of the model's labels
    offer = better_order(shifted, facts(["A", "B", "C", "D"], labels={"1": 1, "2": 2, "3": 3}))
    before, after = ((each["label"] == each["dense"]).mean() for each in (shifted, predictions))
    assert offer.labels == "1=A,2=B,3=C"
    assert offer.sentence == (
        f"With the current mapping of labels, the dense model is correct on {before:.1%} "
        "of 111 examples; "
        f"with 1 is A, 2 is B, 3 is C it would be correct on {after:.1%}."
    )
    few = shifted[shifted["label"] != 3]  # a class missing from the sample is shifted too
    assert (
        better_order(few, facts(["A", "B", "C", "D"], labels={"1": 1, "2": 2, "3": 3})).labels
        == "1=A,2=B,3=C"
    )


def test_mapping_by_name_is_corrected_and_left_out_values_stay_out() -> None:
    labels = {"hot": 0, "cold": 1, "meh": None, "-1": None}
    assert (
        better_order(classifier([1, 0], 0.9), facts(["cold", "hot"], labels=labels)).labels
        == "hot=hot,cold=cold,meh=leave out"
    )


@pytest.mark.parametrize(
    "case",
    [
        (classifier([0, 1], 0.9), facts(["LABEL_0", "LABEL_1"])),  # already correct
        (classifier([0, 1], 0.0), facts(["LABEL_0", "LABEL_1"])),  # random predictions
        (classifier([1, 0], 0.9, n=10), facts(["LABEL_0", "LABEL_1"])),  # too few examples
        (
            rows([1] * 90 + [0] * 10, [0] * 100),
            facts(["LABEL_0", "LABEL_1"]),
        ),  # always the same prediction
        (rows([], []), facts(["LABEL_0", "LABEL_1"])),
        (
            rows([0.5, 1.5] * 20, [1.5, 0.5] * 20),
            facts(["LABEL_0"], kind="regression", labels=None),
        ),
        (
            classifier([0, 2, 1], 0.9),
            facts(["a", "b", "c"], labels=None),
        ),  # an old run without a stored mapping
    ],
)
def test_no_mapping_is_offered_without_evidence(case: tuple) -> None:
    assert better_order(*case) is None


def bad_classifier(rng: np.random.Generator, labels: int, n: int) -> pd.DataFrame:
    """Up to 60% correct; errors are biased, systematic confusions, or all of them one label."""
    frequencies, bias = (rng.dirichlet(np.full(labels, rng.choice([0.3, 2, 20]))) for _ in range(2))
    true, accuracy = rng.choice(labels, n, p=frequencies), rng.uniform(0, 0.6)
    confusions = (
        np.stack([bias] * labels) if rng.random() < 0.5 else rng.dirichlet(np.ones(labels), labels)
    )
    errors = np.array([rng.choice(labels, p=confusions[label]) for label in true])
    return rows(
        true,
        np.full(n, errors[0])
        if rng.random() < 0.2
        else np.where(rng.random(n) < accuracy, true, errors),
    )


@pytest.mark.parametrize("seed", range(3))
def test_bad_classifiers_get_no_offer(seed: int) -> None:
    rng, offers = np.random.default_rng(seed), 0
    for _ in range(200):
        labels, n = int(rng.integers(2, 21)), int(rng.integers(20, 501))
        offers += (
            better_order(bad_classifier(rng, labels, n), facts([f"c{i}" for i in range(labels)]))
            is not None
        )
    assert offers <= 1


def random_tags(rng: np.random.Generator, n: int) -> list[list[int]]:
    spans = ([1, 2], [3, 4], [1], [3], [0, 0], [0])
    return [
        [tag for _ in range(rng.integers(3, 8)) for tag in spans[rng.integers(len(spans))]]
        for _ in range(n)
    ]


def test_bad_taggers_and_bad_multi_label_models_get_no_offer() -> None:
    rng, offers = np.random.default_rng(0), 0
    for _ in range(100):
        accuracy, bias = rng.uniform(0, 0.7), rng.dirichlet(np.full(5, 0.5))
        true = random_tags(rng, int(rng.integers(10, 80)))
        noisy = [
            [tag if rng.random() < accuracy else rng.choice(5, p=bias) for tag in tags]
            for tags in true
        ]
        names = [[[TAGS[tag] for tag in tags] for tags in side] for side in (true, noisy)]
        offers += better_order(rows(*names), facts(list(TAGS), kind="token")) is not None
        n, size = int(rng.integers(12, 400)), int(rng.integers(2, 10))
        holds, noise = (rng.random((n, size)) < rng.beta(0.7, 1.5, size) for _ in range(2))
        predicted = np.where(rng.random((n, size)) < rng.uniform(0, 0.6), holds, noise)
        sides = (side.astype(int).tolist() for side in (holds, predicted))
        offers += (
            better_order(rows(*sides), facts([f"c{i}" for i in range(size)], kind="multilabel"))
            is not None
        )
    assert offers <= 1


def write_jsonl(tmp_path: Path, records: list[dict]) -> str:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def metric_with(
    file: str, labels: str, names: tuple[str, ...], kind: str, true: list
) -> tuple[float, dict, task_data.Task]:
    """Return (metric, facts with rows, task) of a model that predicts `true[number in text]`."""
    task = task_data.load(DataSource(file, labels=labels), names, 0, kind=kind)
    predictions = [true[int(text.split()[0])] for text in task.evaluation.texts]
    true_values, predicted_values = TASK_TYPES[kind].comparable(
        names, task.evaluation.labels, predictions
    )
    known_facts = facts(list(names), kind=kind, labels=task.label_map)
    return (
        METRICS[task.metric].compute(true_values, predicted_values),
        known_facts | {"rows": rows(true_values, predicted_values)},
        task,
    )


UNUSUAL_NAMES = ('say "no", please', "a=b", "it's", "C++ , C#")


@pytest.mark.parametrize(
    "label_format", ["number", "name", "tags", "columns", "lists", "indicators"]
)
def test_offered_mapping_gives_the_stated_metric(label_format: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kind = {"tags": "token", "number": "classification", "name": "classification"}.get(
        label_format, "multilabel"
    )
    names = TAGS if kind == "token" else UNUSUAL_NAMES
    order = (
        rng.permutation(len(names)) if kind != "token" else np.array([3, 4, 0, 1, 2])
    )  # of the file's labels
    while (order == np.arange(len(names))).all():
        order = rng.permutation(len(names))
    position = np.argsort(order)  # of each model label in the file
    if kind == "classification":
        true = rng.integers(4, size=200).tolist()
        records = [
            {
                "text": f"{i} text",
                "label": int(position[each]) if label_format == "number" else names[position[each]],
            }
            for i, each in enumerate(true)
        ]
    elif kind == "token":
        true = random_tags(rng, 200)
        records = [
            {
                "tokens": [str(i), *["word"] * (len(tags) - 1)],
                "ner_tags": [int(position[tag]) for tag in tags],
            }
            for i, tags in enumerate(true)
        ]
    else:
        true = (rng.random((200, 4)) < [0.2, 0.5, 0.3, 0.4]).astype(int).tolist()
        permuted = [[each[label] for label in order] for each in true]
        cells = {
            "columns": lambda row: dict(zip(names, row, strict=True)),
            "lists": lambda row: {
                "label": [name for name, holds in zip(names, row, strict=True) if holds]
            },
            "indicators": lambda row: {"label": row},
        }
        records = [
            {"text": f"{i} text"} | cells[label_format](row) for i, row in enumerate(permuted)
        ]
    file = write_jsonl(tmp_path, records)
    before, known_facts, _ = metric_with(file, "", names, kind=kind, true=true)
    offer = better_order(known_facts["rows"], known_facts)
    after, known_facts, task = metric_with(file, offer.labels, names, kind=kind, true=true)
    assert after == 1
    assert before < 0.5
    assert "100.0%" in offer.sentence
    assert f"{before:.1%}" in offer.sentence
    assert better_order(known_facts["rows"], known_facts) is None
    assert task.evaluation.labels == [true[int(text.split()[0])] for text in task.evaluation.texts]


def test_class_names_of_the_dataset_can_be_mapped() -> None:
    table = pd.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, 2]})
    names, classes = ("LABEL_0", "LABEL_1", "LABEL_2"), ("yes please", "no thanks", "who knows")

    def read(labels: str) -> reading.ReadExamples:
        columns = Columns("text", None, "label")
        return reading.examples(
            table,
            DataSource("x", labels=labels),
            columns,
            task_type=TASK_TYPES["classification"],
            names=names,
            classes=classes,
        )

    assert read("").labels.labels == {"yes please": 0, "no thanks": 1, "who knows": 2}
    assert read("yes please=LABEL_2,no thanks=LABEL_0,who knows=LABEL_1").examples.labels == [
        2,
        0,
        1,
    ]
