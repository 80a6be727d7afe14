"""Distillation after pruning: zeros, held-out loss, adversarial examples, keys and labels."""

import copy
from dataclasses import replace

import pytest
import tiny
import torch
from test_seeds import assert_declared

from prune_core import PruneError, errors
from prune_core.analysis.compared_models import models_of
from prune_core.data.examples import DataSource
from prune_core.experiments.experiment import Experiment, estimate_seconds
from prune_core.experiments.stage_keys import experiment_key
from prune_core.measures.adversarial_augmentation import AdversarialAugmentation, check_augmentation
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.checkpoints import loading
from prune_core.plugins import build, no_report
from prune_core.pruning import distillation, pipeline
from prune_core.queue import jobs
from prune_core.store.store import Store
from prune_core.tasks import task_data
from prune_core.tasks.encoding import batches


def distilled(family="bert", kind="classification", method="magnitude", minutes=1.0, **options):
    dense = tiny.model(family, kind=kind)
    pruning_method = build(METHODS, method, {"sparsity": 0.6, "distil": minutes, **options})
    before = copy.deepcopy(dense.state_dict())
    model, rows = pipeline.prune(
        pruning_method, dense, tiny.calibration(family), report=no_report, methods=METHODS
    )
    assert_declared(rows)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items()), (
        "the dense model must not change"
    )
    return dense, model, rows


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    """High rates and a short mean: a tenth of the passes reach the same held-out loss."""
    monkeypatch.setattr(distillation, "PATIENCE", 1)
    monkeypatch.setattr(distillation, "WARM_UP", 10)
    monkeypatch.setattr(distillation, "RATES", (1e-3, 1e-2))
    monkeypatch.setattr(distillation, "MEAN", 0.9)


@pytest.mark.parametrize(
    "family, kind",
    [
        # the blocks of all families are compared with transformers in test_encoders.py
        *((family, "classification") for family in ("bert", "albert", "modernbert")),
        ("bert", "span"),
        ("bert", "token"),
        ("bert", "regression"),
        ("bert", "multilabel"),
    ],
)
def test_distillation_keeps_zeros_and_reduces_held_out_loss(family, kind):
    dense, model, rows = distilled(family, kind)
    pruned, _ = pipeline.prune(
        build(METHODS, "magnitude", {"sparsity": 0.6}),
        dense,
        tiny.calibration(family),
        report=no_report,
        methods=METHODS,
    )
    for (_, _, pruned_linear), (_, _, linear) in zip(
        replay.linears(pruned), replay.linears(model), strict=True
    ):
        assert torch.equal(pruned_linear.weight == 0, linear.weight == 0)
    history = rows["distil"]
    assert history["held"].min() < history["held"].iloc[0]
    assert not any(parameter.grad is not None for parameter in model.parameters())
    _, held_out = distillation.split_batches(tiny.calibration(family))
    assert distillation._mean(model, dense, held_out) == pytest.approx(
        history["held"].min(), rel=1e-4
    ), "the weights of the best evaluation must be kept"


def test_the_same_seed_gives_the_same_weights():
    first, second = (distilled()[1].state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_sparsity_patterns_and_pruned_units_are_preserved():
    _, model, _ = distilled(method="sparsegpt", pattern="2:4")
    weight = next(
        linear.weight for _, projection, linear in replay.linears(model) if projection == "ffn_in"
    )
    assert ((weight.reshape(-1, 4) != 0).sum(1) <= 2).all()
    from prune_core.models.compact import compact_model, dead_units

    dense, model, _ = distilled(method="unit_magnitude")
    assert all(dead_units(model))
    batch = tiny.calibration()[0]
    torch.testing.assert_close(
        compact_model(model)(**batch).logits, model(**batch).logits, rtol=0, atol=1e-5
    )


def test_too_few_calibration_examples_raise():
    too_few = [{name: values[:2] for name, values in tiny.calibration()[0].items()}]
    with pytest.raises(PruneError, match="at least 8 calibration examples"):
        pipeline.prune(
            build(METHODS, "magnitude", {"distil": 1}),
            tiny.model(),
            too_few,
            report=no_report,
            methods=METHODS,
        )


def test_distillation_changes_key_label_and_estimate(monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store=None: None)
    plain, distilled_experiment = (
        Experiment(method=build(METHODS, "akr", {"sparsity": 0.9, "distil": minutes}))
        for minutes in (0, 3)
    )
    assert experiment_key(plain) != experiment_key(distilled_experiment)
    assert distilled_experiment.label == "AKR 90% · distilled 3 min"
    assert plain.label == "AKR 90%"
    same = Experiment(method=build(METHODS, "akr", {"sparsity": 0.9}))
    assert experiment_key(plain) == experiment_key(same)
    assert (
        estimate_seconds(distilled_experiment)["prune"] == estimate_seconds(plain)["prune"] + 180
    ), "the estimate must include the minutes"
    store = Store()
    for experiment in (plain, distilled_experiment):
        jobs.submit(store, replace(experiment, study="S"))
    assert [model.label for model in models_of(store.jobs("S"))] == [
        "AKR 90%",
        "AKR 90% · distilled 3 min",
    ]


def adversarial_copies(batches):
    """Copies of the first and third example of the first batch with two tokens replaced.

    Later batches have no copies.
    """
    first = {name: values[[0, 2]].clone() for name, values in batches[0].items()}
    first["input_ids"][:, 2:4] = 7
    return [(first, torch.tensor([0, 2])), *[None] * (len(batches) - 1)]


def test_adversarial_examples_are_in_the_same_split_as_their_originals():
    batches = tiny.calibration()
    training, held_out = distillation.split_batches(batches, adversarial_copies(batches))
    augmented = [step for step in training if step.copies is not None]
    assert len(augmented) == 1
    assert augmented[0].of.tolist() == [0, 2]
    assert not any(step.copies for step in held_out)
    row = 7 - len(
        batches[0]["input_ids"]
    )  # row of the eighth example, the first held-out one, in the second batch
    copy_of_row = {name: values[[row]] for name, values in batches[1].items()}
    training, held_out = distillation.split_batches(
        batches, [None, (copy_of_row, torch.tensor([row])), *[None] * (len(batches) - 2)]
    )
    assert not any(step.copies for step in training)
    assert torch.equal(
        held_out[0].batch["input_ids"][held_out[0].of], held_out[0].copies["input_ids"]
    )


def test_adversarial_loss_is_divergence_from_dense_on_the_original():
    dense, batches = tiny.model(), tiny.calibration()
    pruned = pipeline.prune(
        build(METHODS, "magnitude", {"sparsity": 0.6}),
        dense,
        batches,
        report=no_report,
        methods=METHODS,
    )[0]
    with torch.no_grad():
        step = next(
            step
            for step in distillation.split_batches(batches, adversarial_copies(batches))[0]
            if step.copies is not None
        )
        plain = distillation._loss(pruned, dense, distillation.DistillationBatch(step.batch))
        log_probabilities = pruned(**step.copies).logits.log_softmax(-1)
        dense_log_probabilities = dense(**step.batch).logits.log_softmax(-1)[step.of]
        expected = plain + (
            log_probabilities.exp() * (log_probabilities - dense_log_probabilities)
        ).sum() / len(step.batch["input_ids"])
        torch.testing.assert_close(
            distillation._loss(pruned, dense, step), expected, rtol=1e-5, atol=1e-6
        )


def test_adversarial_option_changes_the_key_only_with_distillation():
    experiments = [
        Experiment(method=build(METHODS, "akr", {"sparsity": 0.9, **options}))
        for options in (
            {"distil": 3},
            {"distil": 3, "distil_adversarial": True},
            {},
            {"distil_adversarial": True},
        )
    ]
    assert experiments[1].label == "AKR 90% · distilled 3 min with adversarial examples"
    distilled_key, augmented_key, pruned_key, unused_option_key = (
        experiment_key(experiment) for experiment in experiments
    )
    assert len({distilled_key, augmented_key, pruned_key}) == 3 and unused_option_key == pruned_key


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({}, "classification", "number of minutes"),
        ({"distil": 1}, "regression", "cannot be attacked"),
    ],
)
def test_adversarial_examples_need_distillation_and_a_classification_task(options, kind, message):
    with pytest.raises(PruneError, match=message):
        check_augmentation(build(METHODS, "akr", options | {"distil_adversarial": True}), kind)


def test_adversarial_examples_need_textattack(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda package: None)
    with pytest.raises(PruneError, match="textattack is not installed"):
        check_augmentation(
            build(METHODS, "akr", {"distil": 1, "distil_adversarial": True}), "classification"
        )


def test_adversarial_examples_flip_correct_predictions_of_the_pruned_model():
    dense, tokenizer = loading.load("demo")
    sample = task_data.load(
        DataSource(), loading.label_names(dense.config), 0, kind="classification"
    ).calibration.sample(24, 0)
    encoded = [*batches(tokenizer, sample, 8, max_length=64, device=torch.device("cpu"))]
    pruned, _ = pipeline.prune(
        build(METHODS, "magnitude", {"sparsity": 0.6}),
        dense,
        [batch for batch, _ in encoded],
        report=no_report,
        methods=METHODS,
    )
    augmented = AdversarialAugmentation(dense, tokenizer, sample, encoded, seed=0, max_length=64)(
        pruned, no_report
    )
    count = 0
    with torch.no_grad():
        for (batch, _), adversarial in zip(encoded, augmented, strict=True):
            if adversarial is None:
                continue
            copies, rows = adversarial
            dense_labels = dense(**batch).logits.argmax(-1)[rows]
            assert (
                pruned(**{name: values[rows] for name, values in batch.items()}).logits.argmax(-1)
                == dense_labels
            ).all()
            assert (pruned(**copies).logits.argmax(-1) != dense_labels).all()
            count += len(rows)
    assert count
