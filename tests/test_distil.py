"""Tuning after pruning: what was cut stays cut, nothing is lost on what is held apart, and keys and labels say what was done."""

import copy
from dataclasses import replace

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.analysis.compared import models_of
from prune_core.methods import METHODS, steps
from prune_core.models import replay
from prune_core.models.families import FAMILIES
from prune_core.plugins import build, quiet
from prune_core.pruning import distil
from prune_core.runs import jobs
from prune_core.runs.experiment import Experiment, estimates
from prune_core.runs.store import Store


def tuned(family="bert", kind="classification", method="magnitude", minutes=1.0, **options):
    dense = tiny.model(family, kind=kind)
    chosen = build(METHODS, method, {"sparsity": 0.6, "distil": minutes, **options})
    before = copy.deepcopy(dense.state_dict())
    model, rows = steps.prune(chosen, dense, tiny.calibration(family), quiet)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items()), "the dense model is as it was"
    return dense, model, rows


@pytest.fixture(autouse=True)
def few_passes(monkeypatch):
    monkeypatch.setattr(distil, "PATIENCE", 2)


@pytest.mark.parametrize("family, kind", [*((family, "classification") for family in FAMILIES), ("bert", "span"), ("bert", "token"),
                                          ("bert", "regression"), ("bert", "multilabel")])  # fmt: skip
def test_what_was_cut_stays_cut_and_what_is_left_comes_nearer(family, kind):
    dense, model, rows = tuned(family, kind)
    plain, _ = steps.prune(build(METHODS, "magnitude", {"sparsity": 0.6}), dense, tiny.calibration(family), quiet)
    for (_, _, one), (_, _, other) in zip(replay.linears(plain), replay.linears(model), strict=True):
        assert torch.equal(one.weight == 0, other.weight == 0)
    found = rows["distil"]
    assert found["held"].min() < found["held"].iloc[0] and not any(own.grad is not None for own in model.parameters())
    _, held = distil.parted(tiny.calibration(family))
    assert distil._mean(model, dense, held) == pytest.approx(found["held"].min(), rel=1e-4), "the best look is what is kept"


def test_the_same_seed_gives_the_same_weights():
    one, two = (tuned()[1].state_dict() for _ in range(2))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_pattern_and_dead_units_survive():
    _, model, _ = tuned(method="sparsegpt", pattern="2:4")
    weight = next(linear.weight for _, part, linear in replay.linears(model) if part == "ffn_in")
    assert ((weight.reshape(-1, 4) != 0).sum(1) <= 2).all()
    from prune_core.models.shrink import dead_units, shrink

    dense, model, _ = tuned(method="unit_magnitude")
    assert all(dead_units(model))
    batch = tiny.calibration()[0]
    torch.testing.assert_close(shrink(model)(**batch).logits, model(**batch).logits, rtol=0, atol=1e-5)


def test_too_few_sentences_are_a_sentence():
    some = [{name: values[:2] for name, values in tiny.calibration()[0].items()}]
    with pytest.raises(PruneError, match="at least 8 calibration sentences"):
        steps.prune(build(METHODS, "magnitude", {"distil": 1}), tiny.model(), some, quiet)


def test_keys_and_labels_say_so_and_stay_what_they_were(monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store=None: None)
    plain, other = (Experiment(method=build(METHODS, "akr", {"sparsity": 0.9, "distil": minutes})) for minutes in (0, 3))
    assert plain.key() != other.key() and other.label == "AKR 90% · distilled 3 min" and plain.label == "AKR 90%"
    assert plain.key() == Experiment(method=build(METHODS, "akr", {"sparsity": 0.9})).key()
    assert estimates(other)["prune"] == estimates(plain)["prune"] + 180, "the plan counts the minutes"
    store = Store()
    for each in (plain, other):
        jobs.submit(store, replace(each, study="S"))
    assert [model.label for model in models_of(store.jobs("S"))] == ["AKR 90%", "AKR 90% · distilled 3 min"]
