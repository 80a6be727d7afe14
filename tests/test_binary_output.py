"""Classifiers with one output and labels 0 and 1, checked against scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from sklearn import metrics as sklearn
from streamlit.testing.v1 import AppTest

from prune_core import PruneError
from prune_core.analysis import deployment_check, evidence, policy, takeaways, whatif
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.label_order import better_order
from prune_core.cli.arguments import main
from prune_core.data import tasks
from prune_core.data.examples import BINARY, DataSource
from prune_core.data.metrics import METRICS, metric_for, metrics_of
from prune_core.measures.accuracy import summary
from prune_core.models.checkpoints import loading
from prune_core.models.inference.predict import predict
from prune_core.statistics import mcnemar, paired_difference, wilson
from prune_core.store.store import Store

TEXTS = [f"{text} {i}" for i in range(5) for text in tiny.SENTENCES]


def model(problem_type: str | None = None) -> torch.nn.Module:
    """A model with one output whose median is at the threshold."""
    made = tiny.model(kind="regression")
    made.config.problem_type = problem_type
    with torch.no_grad():
        made.classifier.weight.mul_(5 if problem_type is None else 1)
        outputs = made(**tiny.tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits
        made.classifier.bias -= outputs.median() - (0.5 if problem_type == "regression" else 0.0)
    return made


def written(tmp_path: Path, labels: list) -> str:
    file = tmp_path / "data.jsonl"
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def alternating(no: object, yes: object) -> list:
    return [yes if i % 3 == 0 or i % 7 == 0 else no for i in range(len(TEXTS))]


@pytest.mark.parametrize(
    ("no", "yes"),
    [
        (0, 1),
        (0.0, 1.0),
        ("0", "1"),
        (False, True),
        ("no", "yes"),
        ("negative", "positive"),
        ("ham", "spam"),
    ],
)
def test_labels_of_two_values_are_read_as_0_and_1(no: object, yes: object, tmp_path: Path) -> None:
    task = tasks.load(
        DataSource(written(tmp_path, alternating(no, yes))), ("LABEL_0",), 0, kind="regression"
    )
    assert task.evaluation.binary and task.evaluation.sample(5, 0).binary
    assert task.metric == "binary_accuracy" and task.label_names == BINARY
    wanted = dict(zip(TEXTS, alternating(0, 1), strict=True))
    assert task.evaluation.labels == [wanted[text] for text in task.evaluation.texts]


def test_other_values_are_scores_or_a_question(tmp_path: Path) -> None:
    for no, yes in ((0, 5), (-1, 1), (1, 2), (0.0, 0.5)):
        task = tasks.load(
            DataSource(written(tmp_path, alternating(no, yes))), ("LABEL_0",), 0, kind="regression"
        )
        assert (
            not task.evaluation.binary
            and task.metric == "spearman"
            and task.label_names == ("LABEL_0",)
        )
        assert set(task.evaluation.labels) == {no, yes}
    file = written(tmp_path, alternating("blue", "red"))
    with pytest.raises(PruneError, match="--labels 'blue=label 0,red=label 1'"):
        tasks.load(DataSource(file), ("LABEL_0",), 0, kind="regression")
    told = tasks.load(
        DataSource(file, labels="blue=label 1,red=0"), ("LABEL_0",), 0, kind="regression"
    )
    assert (
        told.evaluation.binary
        and set(told.evaluation.labels) == {0, 1}
        and told.label_map == {"blue": 1, "red": 0}
    )
    for only, words in ((1, "every score is 1.0"), ("yes", "every label is 1")):
        with pytest.raises(PruneError, match=words):
            tasks.load(
                DataSource(written(tmp_path, [only] * len(TEXTS))),
                ("LABEL_0",),
                0,
                kind="regression",
            )


def test_every_metric_can_be_asked_for() -> None:
    known = [
        "binary_accuracy",
        "binary_f1",
        "binary_matthews",
        "average_precision",
        "spearman",
        "pearson",
    ]
    assert metrics_of("regression", 2) == known and metrics_of("regression", 1) == [
        "spearman",
        "pearson",
    ]
    asked = {
        "accuracy": "binary_accuracy",
        "f1": "binary_f1",
        "matthews": "binary_matthews",
        "spearman": "spearman",
    }
    assert {name: metric_for("regression", 2, name) for name in asked} == asked
    with pytest.raises(PruneError, match="'accuracy' does not fit"):
        metric_for("regression", 1, "accuracy")


@pytest.mark.parametrize("problem_type", [None, "single_label_classification", "regression"])
def test_metrics_are_scikit_learns(problem_type: str | None, tmp_path: Path) -> None:
    made, tokenizer = model(problem_type), tiny.tokenizer()
    examples = tasks.training_examples(
        DataSource(written(tmp_path, alternating(0, 1))), ("x",), "regression"
    )
    found = predict(made, tokenizer, examples, batch_size=7)
    with torch.no_grad():
        outputs = (
            made(**tokenizer(TEXTS, padding=True, return_tensors="pt"))
            .logits[:, 0]
            .double()
            .numpy()
        )
    scores = outputs if problem_type == "regression" else 1 / (1 + np.exp(-outputs))
    labels, predictions = np.array(alternating(0, 1)), (scores > 0.5).astype(int)
    assert found.predicted == predictions.tolist() and 0 < predictions.mean() < 1
    assert np.allclose(np.array(found.probabilities)[:, 1], scores, atol=1e-5)
    row = summary(
        "binary_accuracy",
        2,
        examples.labels,
        dense=found.predicted,
        pruned=found.predicted,
        resamples=100,
        probabilities=(found.probabilities, found.probabilities),
    )
    assert row["score"] == row["binary_accuracy"] == sklearn.accuracy_score(labels, predictions)
    assert row["binary_f1"] == sklearn.f1_score(labels, predictions)
    assert row["binary_matthews"] == sklearn.matthews_corrcoef(labels, predictions)
    assert row["average_precision"] == sklearn.average_precision_score(labels, outputs)
    hits = int((labels == predictions).sum())
    assert (row["low"], row["high"]) == wilson(hits, len(labels))


def test_intervals_and_tests_of_each_metric() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=300)
    p = [np.clip(labels * 0.4 + rng.random(300) * 0.6, 0, 1) for _ in range(2)]
    said = [(each > 0.5).astype(int) for each in p]
    probabilities = [[[1 - x, x] for x in each] for each in p]
    rows = {
        metric: summary(
            metric,
            2,
            labels.tolist(),
            *(each.tolist() for each in said),
            200,
            probabilities=probabilities,
        )
        for metric in ("binary_accuracy", "binary_f1", "average_precision", "spearman")
    }
    hits = [each == labels for each in said]
    broken, fixed = int((hits[0] & ~hits[1]).sum()), int((~hits[0] & hits[1]).sum())
    for row in rows.values():
        assert (row["broken"], row["fixed"], row["p_value"]) == (
            broken,
            fixed,
            mcnemar(broken, fixed),
        )
        assert (
            row["agreement"] == (said[0] == said[1]).mean()
            and row["low"] < row["score"] < row["high"]
        )
    row = rows["binary_accuracy"]
    assert (row["difference"], row["difference_low"], row["difference_high"]) == paired_difference(
        broken, fixed, 300
    )
    assert rows["average_precision"]["score"] == sklearn.average_precision_score(labels, p[1])
    assert rows["average_precision"]["difference"] == pytest.approx(
        sklearn.average_precision_score(labels, p[1])
        - sklearn.average_precision_score(labels, p[0])
    )


@pytest.fixture
def store(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture) -> Store:
    """A dense and two pruned runs of a binary classifier with one output."""
    made, tokenizer = model(), tiny.tokenizer()
    loading.save(made, tokenizer, tmp_path / "model")
    examples = tasks.training_examples(
        DataSource(written(tmp_path, alternating(0, 1))), ("x",), "regression"
    )
    learned = predict(
        made, tokenizer, examples
    ).predicted  # labels that the model mostly gets right
    file = written(tmp_path, [label if i % 8 else 1 - label for i, label in enumerate(learned)])
    common = [
        "run",
        "--checkpoint",
        tmp_path / "model",
        "--task",
        file,
        "--device",
        "cpu",
        "--study",
        "one output",
    ]
    measures = ["accuracy", "drift", "sensitivity", "reconstruction"]
    common += [part for name in measures for part in ("--measure", name)]
    common += ["--set", "drift.umap=false", "--set", "drift.neighbours=3"]
    assert main([*map(str, common)]) == 0, capsys.readouterr().err
    for sparsity in (0.3, 0.6):
        pruned = [*common, "--method", "wanda", "--set", f"sparsity={sparsity}"]
        assert main([*map(str, pruned)]) == 0, capsys.readouterr().err
    return Store(home)


def test_from_a_file_to_the_pages(store: Store, capsys: pytest.CaptureFixture) -> None:
    note = (
        "The model has one output and the labels are 0 and 1: it is evaluated as a binary "
        "classifier with threshold 0.5 on the sigmoid of the output."
    )
    jobs = store.jobs("one output")
    dense, job = jobs[0], jobs[-1]
    assert note in dense.facts["notes"] and note in capsys.readouterr().out
    accuracy, models = store.rows("accuracy", [each.id for each in jobs]), models_of(jobs)
    assert set(accuracy["metric"]) == {"binary_accuracy"} and accuracy["dense_score"].iloc[0] > 0.8
    assert "accuracy" in takeaways.accuracy(
        accuracy, models
    ) and "McNemar" in takeaways.broken_predictions(accuracy, models[-1])
    found = evidence.evidence(store, job)
    asked = policy.default_policy(found.kind, found.metric)
    assert set(asked.limits) == {"accuracy_loss", "agreement", "slice_loss"}
    verdicts = deployment_check.check(found, asked)
    assert {each.title for each in verdicts} >= {"Accuracy loss", "Agreement with dense"} and all(
        each.n for each in verdicts
    )
    assert {"label label 0", "label label 1"} <= set(evidence.slice_table(found, asked)["slice"])
    flips = evidence.flipped_predictions(found)
    assert len(flips) == accuracy.iloc[-1]["broken"] + accuracy.iloc[-1]["fixed"]
    rows, examples = (
        store.rows(name, [each.id for each in jobs[1:]])
        for name in ("sensitivity", "sensitivity_example")
    )
    curves = whatif.curves_of(jobs[1:], rows, examples)
    same = whatif.predict(curves, [0.0] * len(curves.blocks))
    assert same.score == pytest.approx(
        accuracy["dense_score"].iloc[0]
    ) and same.agreement == pytest.approx(1)
    for page in ("overview", "compare", "deploy", "drift", "layers", "inspect"):
        at = AppTest.from_file("../app.py", default_timeout=60).run()
        at = at if page == "overview" else at.switch_page(f"pages/{page}.py").run()
        assert not at.exception and not at.error, page
        if page == "deploy":
            assert at.toggle(key="asked-accuracy_loss").label.startswith("Accuracy loss")
            for part in ("Newly broken, newly fixed", "Slices"):
                at.segmented_control(key="choice-deploy-part").set_value(part).run()
                assert not at.exception and not at.error, part


@pytest.mark.parametrize("metric", ["f1", "average_precision", "spearman"])
def test_every_metric_reaches_deploy_and_the_report(
    metric: str, store: Store, tmp_path: Path
) -> None:
    run = ["run", "--checkpoint", tmp_path / "model", "--task", tmp_path / "data.jsonl"]
    run += ["--device", "cpu", "--study", metric, "--measure", "accuracy", "--metric", metric]
    assert main([*map(str, run)]) == 0
    assert main([*map(str, run), "--method", "wanda"]) == 0
    job = store.jobs(metric)[-1]
    row = store.rows("accuracy", [job.id]).iloc[0]
    rows = store.rows("prediction", [job.id])
    score = np.array(rows["pruned_probabilities"].tolist())[:, 1]
    wanted = {
        "f1": sklearn.f1_score(rows["label"], rows["pruned"]),
        "average_precision": sklearn.average_precision_score(rows["label"], score),
        "spearman": rows["label"].corr(pd.Series(score), method="spearman"),
    }
    assert (
        row["score"] == pytest.approx(wanted[metric]) and row["low"] <= row["score"] <= row["high"]
    )
    found = evidence.evidence(store, job)
    verdict = deployment_check.check(found, policy.default_policy(found.kind, found.metric))[0]
    assert verdict.value == pytest.approx(100 * (row["dense_score"] - row["score"]))
    assert main(["report", "1", "3", str(job.id), "--out", str(tmp_path / "report.html")]) == 0


def test_the_python_interface_compares_binary_classifiers() -> None:
    from prune_core import compare, prune

    dense, data = model(), list(zip(TEXTS, alternating(0, 1), strict=True))
    pruned = prune(dense, tiny.tokenizer(), data, "wanda", sparsity=0.5)
    found = compare(dense, pruned, tiny.tokenizer(), data)
    assert set(found.rows["accuracy"]["metric"]) == {"binary_accuracy"}


def test_swapped_labels_of_one_output_are_noticed(store: Store) -> None:
    job = store.jobs("one output")[0]
    rows = store.rows("prediction", [job.id])
    assert better_order(rows, job.facts) is None
    more = pd.concat([rows.assign(label=1 - rows["label"])] * 2)
    assert better_order(more, job.facts).labels == "0=label 1,1=label 0"


def test_fine_tuned_with_squared_error_is_no_logit(tmp_path: Path) -> None:
    from prune_core.plugins import no_report
    from prune_core.training.finetune import TrainingRecipe, finetune

    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    source = DataSource(written(tmp_path, alternating(0, 1)))
    recipe = TrainingRecipe(
        checkpoint=str(tmp_path / "backbone"), kind="regression", epochs=1, batch_size=8
    )
    card = finetune(recipe, source, source, folder=tmp_path / "out", report=no_report)
    assert (
        card["metric"] == "binary_accuracy"
        and 0 <= card["score"] <= 1
        and "average_precision" in card
    )
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["problem_type"] == "regression"
    )


def test_a_multi_label_model_with_one_label_reads_0_and_1(tmp_path: Path) -> None:
    task = tasks.load(
        DataSource(written(tmp_path, alternating(0, 1))), ("toxic",), 0, kind="multilabel"
    )
    labels = [each[0] for each in task.evaluation.labels]
    rng = np.random.default_rng(0)
    said = rng.integers(2, size=len(labels))

    def compute(name: str) -> float:
        return METRICS[name].compute(task.evaluation.labels, said[:, None].tolist())

    assert set(labels) == {0, 1} and task.metric == "micro_f1"
    assert (
        compute("micro_f1") == compute("macro_f1") == pytest.approx(sklearn.f1_score(labels, said))
    )
    assert compute("subset_accuracy") == sklearn.accuracy_score(labels, said)
