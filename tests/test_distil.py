"""Tuning after pruning: what was cut stays cut, nothing is lost on what is held apart, and keys
and labels say what was done.
"""

import copy
from dataclasses import replace

import pytest
import tiny
import torch
from test_seeds import assert_declared

from prune_core import PruneError, errors
from prune_core.analysis.compared_models import models_of
from prune_core.data import tasks
from prune_core.data.examples import DataSource
from prune_core.data.tokens import batches
from prune_core.experiments.experiment import Experiment, estimate_seconds
from prune_core.measures.adversarial_augmentation import AdversarialAugmentation, check_augmentation
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.checkpoints import loading
from prune_core.models.families import FAMILIES
from prune_core.plugins import build, no_report
from prune_core.pruning import distillation, pipeline
from prune_core.queue import jobs
from prune_core.store.store import Store


def tuned(family="bert", kind="classification", method="magnitude", minutes=1.0, **options):
    dense = tiny.model(family, kind=kind)
    chosen = build(METHODS, method, {"sparsity": 0.6, "distil": minutes, **options})
    before = copy.deepcopy(dense.state_dict())
    model, rows = pipeline.prune(
        chosen, dense, tiny.calibration(family), report=no_report, methods=METHODS
    )
    assert_declared(rows)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items()), (
        "the dense model is as it was"
    )
    return dense, model, rows


@pytest.fixture(autouse=True)
def few_passes(monkeypatch):
    monkeypatch.setattr(distillation, "PATIENCE", 2)
    monkeypatch.setattr(distillation, "RATES", (1e-4, 1e-3))


@pytest.mark.parametrize(
    "family, kind",
    [
        *((family, "classification") for family in FAMILIES),
        ("bert", "span"),
        ("bert", "token"),
        ("bert", "regression"),
        ("bert", "multilabel"),
    ],
)
def test_what_was_cut_stays_cut_and_what_is_left_comes_nearer(family, kind):
    dense, model, rows = tuned(family, kind)
    plain, _ = pipeline.prune(
        build(METHODS, "magnitude", {"sparsity": 0.6}),
        dense,
        tiny.calibration(family),
        report=no_report,
        methods=METHODS,
    )
    for (_, _, one), (_, _, other) in zip(
        replay.linears(plain), replay.linears(model), strict=True
    ):
        assert torch.equal(one.weight == 0, other.weight == 0)
    found = rows["distil"]
    assert found["held"].min() < found["held"].iloc[0] and not any(
        own.grad is not None for own in model.parameters()
    )
    _, held = distillation.split_batches(tiny.calibration(family))
    assert distillation._mean(model, dense, held) == pytest.approx(found["held"].min(), rel=1e-4), (
        "the best look is what is kept"
    )


def test_the_same_seed_gives_the_same_weights():
    one, two = (tuned()[1].state_dict() for _ in range(2))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_pattern_and_dead_units_survive():
    _, model, _ = tuned(method="sparsegpt", pattern="2:4")
    weight = next(linear.weight for _, part, linear in replay.linears(model) if part == "ffn_in")
    assert ((weight.reshape(-1, 4) != 0).sum(1) <= 2).all()
    from prune_core.models.compact import compact_model, dead_units

    dense, model, _ = tuned(method="unit_magnitude")
    assert all(dead_units(model))
    batch = tiny.calibration()[0]
    torch.testing.assert_close(
        compact_model(model)(**batch).logits, model(**batch).logits, rtol=0, atol=1e-5
    )


def test_too_few_sentences_are_a_sentence():
    some = [{name: values[:2] for name, values in tiny.calibration()[0].items()}]
    with pytest.raises(PruneError, match="at least 8 calibration examples"):
        pipeline.prune(
            build(METHODS, "magnitude", {"distil": 1}),
            tiny.model(),
            some,
            report=no_report,
            methods=METHODS,
        )


def test_keys_and_labels_say_so_and_stay_what_they_were(monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store=None: None)
    plain, other = (
        Experiment(method=build(METHODS, "akr", {"sparsity": 0.9, "distil": minutes}))
        for minutes in (0, 3)
    )
    assert (
        plain.key() != other.key()
        and other.label == "AKR 90% · distilled 3 min"
        and plain.label == "AKR 90%"
    )
    assert plain.key() == Experiment(method=build(METHODS, "akr", {"sparsity": 0.9})).key()
    assert estimate_seconds(other)["prune"] == estimate_seconds(plain)["prune"] + 180, (
        "the plan counts the minutes"
    )
    store = Store()
    for each in (plain, other):
        jobs.submit(store, replace(each, study="S"))
    assert [model.label for model in models_of(store.jobs("S"))] == [
        "AKR 90%",
        "AKR 90% · distilled 3 min",
    ]


def copied(batches):
    """Copies of the first and third sentence of a batch, other words at their ends; of the
    second batch on, none.
    """
    first = {name: values[[0, 2]].clone() for name, values in batches[0].items()}
    first["input_ids"][:, 2:4] = 7
    return [(first, torch.tensor([0, 2])), *[None] * (len(batches) - 1)]


def test_a_copy_is_learnt_beside_its_sentence_and_held_apart_with_it():
    batches = tiny.calibration()
    learn, held = distillation.split_batches(batches, copied(batches))
    with_copies = [lesson for lesson in learn if lesson.copies is not None]
    assert (
        len(with_copies) == 1
        and with_copies[0].of.tolist() == [0, 2]
        and not any(lesson.copies for lesson in held)
    )
    eighth = 7 - len(
        batches[0]["input_ids"]
    )  # of the second batch, and the first sentence held apart
    copy_of_it = {name: values[[eighth]] for name, values in batches[1].items()}
    learn, held = distillation.split_batches(
        batches, [None, (copy_of_it, torch.tensor([eighth])), *[None] * (len(batches) - 2)]
    )
    assert not any(lesson.copies for lesson in learn)
    assert torch.equal(held[0].batch["input_ids"][held[0].of], held[0].copies["input_ids"])


def test_the_loss_of_a_copy_is_its_divergence_from_the_sentence_as_it_was():
    dense, batches = tiny.model(), tiny.calibration()
    other = pipeline.prune(
        build(METHODS, "magnitude", {"sparsity": 0.6}),
        dense,
        batches,
        report=no_report,
        methods=METHODS,
    )[0]
    with torch.no_grad():
        lesson = next(
            lesson
            for lesson in distillation.split_batches(batches, copied(batches))[0]
            if lesson.copies is not None
        )
        plain = distillation._loss(other, dense, distillation.DistillationBatch(lesson.batch))
        said = other(**lesson.copies).logits.log_softmax(-1)
        right = dense(**lesson.batch).logits.log_softmax(-1)[lesson.of]
        expected = plain + (said.exp() * (said - right)).sum() / len(lesson.batch["input_ids"])
        torch.testing.assert_close(
            distillation._loss(other, dense, lesson), expected, rtol=1e-5, atol=1e-6
        )


def test_labels_tell_of_attacked_copies_and_keys_count_them_only_where_there_is_tuning():
    asked = [
        Experiment(method=build(METHODS, "akr", {"sparsity": 0.9, **more}))
        for more in (
            {"distil": 3},
            {"distil": 3, "distil_adversarial": True},
            {},
            {"distil_adversarial": True},
        )
    ]
    assert asked[1].label == "AKR 90% · distilled 3 min with adversarial examples"
    tuned, attacked, plain, idle = (each.key() for each in asked)
    assert len({tuned, attacked, plain}) == 3 and idle == plain


@pytest.mark.parametrize(
    "options, kind, said",
    [
        ({}, "classification", "number of minutes"),
        ({"distil": 1}, "regression", "cannot be attacked"),
    ],
)
def test_copies_without_tuning_or_of_what_cannot_be_attacked_are_a_sentence(options, kind, said):
    with pytest.raises(PruneError, match=said):
        check_augmentation(build(METHODS, "akr", options | {"distil_adversarial": True}), kind)


def test_copies_without_textattack_are_refused_before_anything_is_pruned(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda package: None)
    with pytest.raises(PruneError, match="textattack is not installed"):
        check_augmentation(
            build(METHODS, "akr", {"distil": 1, "distil_adversarial": True}), "classification"
        )


def test_attacked_copies_flip_the_pruned_model_and_are_of_their_rows():
    dense, tokenizer = loading.load("demo")
    sample = tasks.load(
        DataSource(), loading.label_names(dense.config), 0, kind="classification"
    ).calibration.sample(24, 0)
    found = [*batches(tokenizer, sample, 8, max_length=64, device=torch.device("cpu"))]
    pruned, _ = pipeline.prune(
        build(METHODS, "magnitude", {"sparsity": 0.6}),
        dense,
        [batch for batch, _ in found],
        report=no_report,
        methods=METHODS,
    )
    made = AdversarialAugmentation(dense, tokenizer, sample, found, seed=0, max_length=64)(
        pruned, no_report
    )
    flips = 0
    with torch.no_grad():
        for (batch, _), copy_of in zip(found, made, strict=True):
            if copy_of is None:
                continue
            copies, rows = copy_of
            right = dense(**batch).logits.argmax(-1)[rows]
            assert (
                pruned(**{name: values[rows] for name, values in batch.items()}).logits.argmax(-1)
                == right
            ).all()
            assert (pruned(**copies).logits.argmax(-1) != right).all()
            flips += len(rows)
    assert flips
