"""A better mapping of label values is offered for wrongly matched labels, never for a bad model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prune_core.analysis.label_order import better_order
from prune_core.data import reading, tasks
from prune_core.data.columns import Columns
from prune_core.data.examples import DataSource
from prune_core.data.label_pairs import parse_pairs
from prune_core.data.metrics import METRICS, comparable_values

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
def test_a_permutation_of_the_labels_is_found(order: list[int], n: int) -> None:
    names = [f"LABEL_{i}" for i in range(len(order))]
    for seed in range(10):
        found = better_order(classifier(order, 0.9, n, seed=seed), facts(names))
        assert found is not None and parse_pairs(found.labels) == {
            str(i): names[label] for i, label in enumerate(order)
        }
        assert "the model's labels have no names" in found.sentence


def test_labels_counted_from_1_without_the_top_class() -> None:
    predictions = classifier([0, 1, 2], 0.8, 111)
    shifted = predictions.assign(
        label=predictions["label"] + 1
    )  # 1, 2, 3 are read as the numbers of the model's labels
    found = better_order(shifted, facts(["A", "B", "C", "D"], labels={"1": 1, "2": 2, "3": 3}))
    now, then = ((each["label"] == each["dense"]).mean() for each in (shifted, predictions))
    assert found.labels == "1=A,2=B,3=C"
    assert found.sentence == (
        f"With the labels as they were matched, the dense model is correct on {now:.1%} "
        "of 111 examples; "
        f"with 1 is A, 2 is B, 3 is C it would be correct on {then:.1%}."
    )
    few = shifted[shifted["label"] != 3]  # a class that the sample lacks is shifted like the others
    assert (
        better_order(few, facts(["A", "B", "C", "D"], labels={"1": 1, "2": 2, "3": 3})).labels
        == "1=A,2=B,3=C"
    )


def test_a_mapping_by_name_is_doubted_too_and_what_was_left_out_stays_out() -> None:
    labels = {"hot": 0, "cold": 1, "meh": None, "-1": None}
    assert (
        better_order(classifier([1, 0], 0.9), facts(["cold", "hot"], labels=labels)).labels
        == "hot=hot,cold=cold,meh=leave out"
    )


@pytest.mark.parametrize(
    "case",
    [
        (classifier([0, 1], 0.9), facts(["LABEL_0", "LABEL_1"])),  # as it is counted
        (classifier([0, 1], 0.0), facts(["LABEL_0", "LABEL_1"])),  # a model that guesses
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
        ),  # stored before the meaning of values was
    ],
)
def test_nothing_is_offered_without_reason(case: tuple) -> None:
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


def tagged(rng: np.random.Generator, sentences: int) -> list[list[int]]:
    spans = ([1, 2], [3, 4], [1], [3], [0, 0], [0])
    return [
        [tag for _ in range(rng.integers(3, 8)) for tag in spans[rng.integers(len(spans))]]
        for _ in range(sentences)
    ]


def test_bad_taggers_and_bad_multi_label_models_get_no_offer() -> None:
    rng, offers = np.random.default_rng(0), 0
    for _ in range(100):
        accuracy, bias = rng.uniform(0, 0.7), rng.dirichlet(np.full(5, 0.5))
        true = tagged(rng, int(rng.integers(10, 80)))
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


def written(tmp_path: Path, records: list[dict]) -> str:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def metric_with(
    file: str, labels: str, names: tuple[str, ...], kind: str, true: list
) -> tuple[float, dict, tasks.Task]:
    """(metric, facts and prediction rows, task) of a model that predicts `true[number in text]`."""
    task = tasks.load(DataSource(file, labels=labels), names, 0, kind=kind)
    predictions = [true[int(text.split()[0])] for text in task.evaluation.texts]
    right, said = comparable_values(kind, names, task.evaluation.labels, predictions)
    known = facts(list(names), kind=kind, labels=task.label_map)
    return METRICS[task.metric].compute(right, said), known | {"rows": rows(right, said)}, task


ODD = ('say "no", please', "a=b", "it's", "C++ , C#")


@pytest.mark.parametrize("form", ["number", "name", "tags", "columns", "lists", "indicators"])
def test_the_offered_flag_gives_the_metric_that_the_sentence_promises(
    form: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    kind = {"tags": "token", "number": "classification", "name": "classification"}.get(
        form, "multilabel"
    )
    names = TAGS if kind == "token" else ODD
    order = (
        rng.permutation(len(names)) if kind != "token" else np.array([3, 4, 0, 1, 2])
    )  # of the file's labels
    while (order == np.arange(len(names))).all():
        order = rng.permutation(len(names))
    place = np.argsort(order)  # of each label of the model, in the file
    if kind == "classification":
        true = rng.integers(4, size=200).tolist()
        records = [
            {
                "text": f"{i} text",
                "label": int(place[each]) if form == "number" else names[place[each]],
            }
            for i, each in enumerate(true)
        ]
    elif kind == "token":
        true = tagged(rng, 200)
        records = [
            {
                "tokens": [str(i), *["word"] * (len(tags) - 1)],
                "ner_tags": [int(place[tag]) for tag in tags],
            }
            for i, tags in enumerate(true)
        ]
    else:
        true = (rng.random((200, 4)) < [0.2, 0.5, 0.3, 0.4]).astype(int).tolist()
        moved = [[each[label] for label in order] for each in true]
        cells = {
            "columns": lambda row: dict(zip(names, row, strict=True)),
            "lists": lambda row: {
                "label": [name for name, holds in zip(names, row, strict=True) if holds]
            },
            "indicators": lambda row: {"label": row},
        }
        records = [{"text": f"{i} text"} | cells[form](row) for i, row in enumerate(moved)]
    file = written(tmp_path, records)
    before, known, _ = metric_with(file, "", names, kind=kind, true=true)
    found = better_order(known["rows"], known)
    after, known, task = metric_with(file, found.labels, names, kind=kind, true=true)
    assert (
        after == 1
        and before < 0.5
        and "100.0%" in found.sentence
        and f"{before:.1%}" in found.sentence
    )
    assert better_order(known["rows"], known) is None
    assert task.evaluation.labels == [true[int(text.split()[0])] for text in task.evaluation.texts]


def test_the_flag_of_names_that_the_data_set_gives_its_numbers() -> None:
    table = pd.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, 2]})
    names, classes = ("LABEL_0", "LABEL_1", "LABEL_2"), ("yes please", "no thanks", "who knows")

    def read(labels: str) -> reading.ReadExamples:
        columns = Columns("text", None, "label")
        return reading.examples(
            table,
            DataSource("x", labels=labels),
            columns,
            kind="classification",
            names=names,
            classes=classes,
        )

    assert read("").labels.labels == {"yes please": 0, "no thanks": 1, "who knows": 2}
    assert read("yes please=LABEL_2,no thanks=LABEL_0,who knows=LABEL_1").examples.labels == [
        2,
        0,
        1,
    ]
