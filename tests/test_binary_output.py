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
from prune_core.analysis import evidence, prediction_evidence, takeaways, whatif
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.label_order import better_order
from prune_core.cli.arguments import main
from prune_core.data.examples import BINARY, DataSource
from prune_core.deployment import deployment_check, policy
from prune_core.measures.accuracy import summary
from prune_core.models.checkpoints import loading
from prune_core.models.inference.predict import predict
from prune_core.statistics import mcnemar, paired_difference, wilson
from prune_core.store.store import Store
from prune_core.tasks import METRICS, metric_for, metrics_of, task_data

TEXTS = [f"{text} {i}" for i in range(5) for text in tiny.SENTENCES]


def binary_model(problem_type: str | None = None) -> torch.nn.Module:
    """A model with one output and the threshold in the middle of the widest gap around its median.

    No output may be at the threshold: its class would depend on the rounding of the processor.
    """
    model = tiny.model(kind="regression")
    model.config.problem_type = problem_type
    with torch.no_grad():
        model.classifier.weight.mul_(5 if problem_type is None else 1)
        outputs = model(**tiny.tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits
        middle = outputs.flatten().sort().values[len(outputs) // 3 : 2 * len(outputs) // 3]
        gap = middle.diff().argmax()
        center = (middle[gap] + middle[gap + 1]) / 2
        model.classifier.bias -= center - (0.5 if problem_type == "regression" else 0.0)
    return model


def write_data(tmp_path: Path, labels: list) -> str:
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
    task = task_data.load(
        DataSource(write_data(tmp_path, alternating(no, yes))), ("LABEL_0",), 0, kind="regression"
    )
    assert task.evaluation.binary and task.evaluation.sample(5, 0).binary
    assert task.metric == "binary_accuracy" and task.label_names == BINARY
    expected = dict(zip(TEXTS, alternating(0, 1), strict=True))
    assert task.evaluation.labels == [expected[text] for text in task.evaluation.texts]


def test_other_numbers_are_scores_and_other_words_need_a_mapping(tmp_path: Path) -> None:
    for no, yes in ((0, 5), (-1, 1), (1, 2), (0.0, 0.5)):
        task = task_data.load(
            DataSource(write_data(tmp_path, alternating(no, yes))),
            ("LABEL_0",),
            0,
            kind="regression",
        )
        assert not task.evaluation.binary
        assert task.metric == "spearman"
        assert task.label_names == ("LABEL_0",)
        assert set(task.evaluation.labels) == {no, yes}
    file = write_data(tmp_path, alternating("blue", "red"))
    with pytest.raises(PruneError, match="--labels 'blue=label 0,red=label 1'"):
        task_data.load(DataSource(file), ("LABEL_0",), 0, kind="regression")
    mapped = task_data.load(
        DataSource(file, labels="blue=label 1,red=0"), ("LABEL_0",), 0, kind="regression"
    )
    assert mapped.evaluation.binary
    assert set(mapped.evaluation.labels) == {0, 1}
    assert mapped.label_map == {"blue": 1, "red": 0}
    for value, message in ((1, "every score is 1.0"), ("yes", "every label is 1")):
        with pytest.raises(PruneError, match=message):
            task_data.load(
                DataSource(write_data(tmp_path, [value] * len(TEXTS))),
                ("LABEL_0",),
                0,
                kind="regression",
            )


def test_every_metric_can_be_selected() -> None:
    names = [
        "binary_accuracy",
        "binary_f1",
        "binary_matthews",
        "average_precision",
        "spearman",
        "pearson",
    ]
    assert metrics_of("regression", 2) == names
    assert metrics_of("regression", 1) == [
        "spearman",
        "pearson",
    ]
    resolved = {
        "accuracy": "binary_accuracy",
        "f1": "binary_f1",
        "matthews": "binary_matthews",
        "spearman": "spearman",
    }
    assert {name: metric_for("regression", 2, name) for name in resolved} == resolved
    with pytest.raises(PruneError, match="'accuracy' does not fit"):
        metric_for("regression", 1, "accuracy")


@pytest.mark.parametrize("problem_type", [None, "single_label_classification", "regression"])
def test_metrics_match_scikit_learn(problem_type: str | None, tmp_path: Path) -> None:
    model, tokenizer = binary_model(problem_type), tiny.tokenizer()
    examples = task_data.training_examples(
        DataSource(write_data(tmp_path, alternating(0, 1))), ("x",), "regression"
    )
    result = predict(model, tokenizer, examples, batch_size=7)
    with torch.no_grad():
        outputs = (
            model(**tokenizer(TEXTS, padding=True, return_tensors="pt"))
            .logits[:, 0]
            .double()
            .numpy()
        )
    scores = outputs if problem_type == "regression" else 1 / (1 + np.exp(-outputs))
    labels, predictions = np.array(alternating(0, 1)), (scores > 0.5).astype(int)
    assert result.predicted == predictions.tolist() and 0 < predictions.mean() < 1
    assert np.allclose(np.array(result.probabilities)[:, 1], scores, atol=1e-5)
    row = summary(
        "binary_accuracy",
        2,
        examples.labels,
        dense=result.predicted,
        pruned=result.predicted,
        resamples=100,
        probabilities=(result.probabilities, result.probabilities),
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
    predictions = [(each > 0.5).astype(int) for each in p]
    probabilities = [[[1 - x, x] for x in each] for each in p]
    rows = {
        metric: summary(
            metric,
            2,
            labels.tolist(),
            *(each.tolist() for each in predictions),
            200,
            probabilities=probabilities,
        )
        for metric in ("binary_accuracy", "binary_f1", "average_precision", "spearman")
    }
    hits = [each == labels for each in predictions]
    broken, fixed = int((hits[0] & ~hits[1]).sum()), int((~hits[0] & hits[1]).sum())
    for row in rows.values():
        assert (row["broken"], row["fixed"], row["p_value"]) == (
            broken,
            fixed,
            mcnemar(broken, fixed),
        )
        assert row["agreement"] == (predictions[0] == predictions[1]).mean()
        assert row["low"] < row["score"] < row["high"]
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
    model, tokenizer = binary_model(), tiny.tokenizer()
    loading.save(model, tokenizer, tmp_path / "model")
    examples = task_data.training_examples(
        DataSource(write_data(tmp_path, alternating(0, 1))), ("x",), "regression"
    )
    predicted = predict(
        model, tokenizer, examples
    ).predicted  # labels that the model mostly gets right
    file = write_data(
        tmp_path, [label if i % 8 else 1 - label for i, label in enumerate(predicted)]
    )
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


def test_binary_classifier_from_data_file_to_pages(
    store: Store, capsys: pytest.CaptureFixture
) -> None:
    note = (
        "The model has one output and the labels are 0 and 1: it is evaluated as a binary "
        "classifier with threshold 0.5 on the sigmoid of the output."
    )
    jobs = store.jobs("one output")
    dense, job = jobs[0], jobs[-1]
    assert note in dense.facts["notes"] and note in capsys.readouterr().out
    accuracy, models = store.rows("accuracy", [each.id for each in jobs]), models_of(jobs)
    assert set(accuracy["metric"]) == {"binary_accuracy"} and accuracy["dense_score"].iloc[0] > 0.8
    assert "accuracy" in takeaways.accuracy(accuracy, models)
    assert "McNemar" in takeaways.broken_predictions(accuracy, models[-1])
    job_evidence = evidence.evidence(store, job)
    limits_policy = policy.default_policy(job_evidence.kind, job_evidence.metric)
    assert set(limits_policy.limits) == {"accuracy_loss", "agreement", "slice_loss"}
    verdicts = deployment_check.check(job_evidence, limits_policy)
    assert {each.title for each in verdicts} >= {"Accuracy loss", "Agreement with dense"}
    assert all(each.n for each in verdicts)
    assert {"label label 0", "label label 1"} <= set(
        prediction_evidence.slice_table(job_evidence)["slice"]
    )
    flipped = prediction_evidence.flipped_predictions(job_evidence)
    assert len(flipped) == accuracy.iloc[-1]["broken"] + accuracy.iloc[-1]["fixed"]
    rows, examples = (
        store.rows(name, [each.id for each in jobs[1:]])
        for name in ("sensitivity", "sensitivity_example")
    )
    curves = whatif.curves_of(jobs[1:], rows, examples)
    unchanged = whatif.predict(curves, [0.0] * len(curves.blocks))
    assert unchanged.score == pytest.approx(accuracy["dense_score"].iloc[0])
    assert unchanged.agreement == pytest.approx(1)
    for page in ("overview", "compare", "deploy", "drift", "layers", "inspect"):
        at = AppTest.from_file("../app.py", default_timeout=60).run()
        at = at if page == "overview" else at.switch_page(f"pages/{page}.py").run()
        assert not at.exception and not at.error, page
        if page == "deploy":
            assert at.toggle(key="use-limit-accuracy_loss").label.startswith("Accuracy loss")
            for part in ("Newly broken, newly fixed", "Slices"):
                at.segmented_control(key="choice-deploy-section").set_value(part).run()
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
    expected = {
        "f1": sklearn.f1_score(rows["label"], rows["pruned"]),
        "average_precision": sklearn.average_precision_score(rows["label"], score),
        "spearman": rows["label"].corr(pd.Series(score), method="spearman"),
    }
    assert row["score"] == pytest.approx(expected[metric])
    assert row["low"] <= row["score"] <= row["high"]
    job_evidence = evidence.evidence(store, job)
    verdict = deployment_check.check(
        job_evidence, policy.default_policy(job_evidence.kind, job_evidence.metric)
    )[0]
    assert verdict.value == pytest.approx(100 * (row["dense_score"] - row["score"]))
    assert main(["report", "1", "3", str(job.id), "--out", str(tmp_path / "report.html")]) == 0


def test_the_python_interface_compares_binary_classifiers() -> None:
    from prune_core import compare, prune

    dense, data = binary_model(), list(zip(TEXTS, alternating(0, 1), strict=True))
    pruned = prune(dense, tiny.tokenizer(), data, "wanda", sparsity=0.5)
    result = compare(dense, pruned, tiny.tokenizer(), data)
    assert set(result.rows["accuracy"]["metric"]) == {"binary_accuracy"}


def test_swapped_labels_of_one_output_are_detected(store: Store) -> None:
    job = store.jobs("one output")[0]
    rows = store.rows("prediction", [job.id])
    assert better_order(rows, job.facts) is None
    more = pd.concat([rows.assign(label=1 - rows["label"])] * 2)
    assert better_order(more, job.facts).labels == "0=label 1,1=label 0"


def test_fine_tuning_with_squared_error_saves_problem_type_regression(tmp_path: Path) -> None:
    from prune_core.plugins import no_report
    from prune_core.training.finetune import TrainingRecipe, finetune

    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    source = DataSource(write_data(tmp_path, alternating(0, 1)))
    recipe = TrainingRecipe(
        checkpoint=str(tmp_path / "backbone"), kind="regression", epochs=1, batch_size=8
    )
    card = finetune(recipe, source, source, folder=tmp_path / "out", report=no_report)
    assert card["metric"] == "binary_accuracy"
    assert 0 <= card["score"] <= 1
    assert "average_precision" in card
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["problem_type"] == "regression"
    )


def test_a_multi_label_model_with_one_label_reads_0_and_1(tmp_path: Path) -> None:
    task = task_data.load(
        DataSource(write_data(tmp_path, alternating(0, 1))), ("toxic",), 0, kind="multilabel"
    )
    labels = [each[0] for each in task.evaluation.labels]
    rng = np.random.default_rng(0)
    predictions = rng.integers(2, size=len(labels))

    def compute(name: str) -> float:
        return METRICS[name].compute(task.evaluation.labels, predictions[:, None].tolist())

    assert set(labels) == {0, 1} and task.metric == "micro_f1"
    assert (
        compute("micro_f1")
        == compute("macro_f1")
        == pytest.approx(sklearn.f1_score(labels, predictions))
    )
    assert compute("subset_accuracy") == sklearn.accuracy_score(labels, predictions)
