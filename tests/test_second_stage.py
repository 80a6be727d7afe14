"""Structured pruning with an unstructured second stage: every family, patterns, keys, labels."""

import copy

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.analysis.ablation import form_labels
from prune_core.analysis.compared_models import models_of
from prune_core.experiments.experiment import Experiment
from prune_core.experiments.stage_keys import experiment_key
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.compact import compact_model, dead_units
from prune_core.models.families import FAMILIES
from prune_core.plugins import SECOND_STAGE_METHODS, build, no_report
from prune_core.pruning import pipeline
from prune_core.queue import jobs
from prune_core.store.store import Store


def prune(dense: torch.nn.Module, method: str = "unit_magnitude", **options):
    chosen = build(METHODS, method, {"sparsity": 0.5, **options})
    return pipeline.prune(
        chosen, dense, tiny.calibration(dense.config.model_type), report=no_report, methods=METHODS
    )


def zeros(model: torch.nn.Module) -> list[float]:
    return [
        float((linear.weight == 0).float().mean())
        for _, _, linear in replay.linears(model)
        if linear.weight.numel()
    ]


@pytest.mark.parametrize("second_stage", SECOND_STAGE_METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_second_stage_prunes_the_remaining_weights_and_units_stay_dead(
    family: str, second_stage: str
) -> None:
    dense = tiny.model(family)
    before = copy.deepcopy(dense.state_dict())
    first_model, _ = prune(dense)
    second_model, rows = prune(dense, second_stage=second_stage, second_stage_sparsity=0.6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    assert all(dead_units(first_model))
    for (_, _, one), (_, _, other) in zip(
        replay.linears(first_model), replay.linears(second_model), strict=True
    ):
        assert not other.weight[one.weight == 0].any(), (
            "weights removed in the first stage stay zero"
        )
    for first_sparsity, total_sparsity in zip(
        zeros(first_model), zeros(second_model), strict=True
    ):  # counts per row are rounded down; dead neurons kept for alignment are removed first
        assert (
            1 - (1 - first_sparsity) * (1 - 0.6 + 1 / 4)
            <= total_sparsity
            <= 1 - (1 - first_sparsity) * (1 - 0.6) + 1e-6
        )
    assert rows["prune"]["sparsity"].tolist() == pytest.approx(
        [row["sparsity"] for row in replay.sparsity_by_projection(second_model)]
    )
    with torch.no_grad():
        for batch in tiny.calibration(family):
            torch.testing.assert_close(
                compact_model(second_model)(**batch).logits,
                second_model(**batch).logits,
                atol=1e-4,
                rtol=1e-4,
            )


def test_pattern_holds_in_the_compact_matrices() -> None:
    model, _ = prune(tiny.model(), second_stage="sparsegpt", second_stage_pattern="2:4")
    for _, _, linear in replay.linears(compact_model(model)):
        assert ((linear.weight.reshape(-1, 4) != 0).sum(1) <= 2).all()


def test_akr_second_stage_is_closer_to_the_first_stage_than_magnitude() -> None:
    dense = tiny.model()
    first_model, _ = prune(dense)
    distances = {}
    for second_stage in ("magnitude", "akr"):
        second_model, _ = prune(dense, second_stage=second_stage, second_stage_sparsity=0.7)
        pairs = [
            [
                list(replay.hidden_states(model, batch))[-1][0]
                for model in (first_model, second_model)
            ]
            for batch in tiny.calibration()
        ]
        distances[second_stage] = sum(float((one - other).square().sum()) for one, other in pairs)
    assert distances["akr"] < distances["magnitude"]


def test_second_stage_skips_layers_without_heads_or_neurons() -> None:
    dense = tiny.model()
    for second_stage in SECOND_STAGE_METHODS:
        model, _ = prune(dense, "block_drop", second_stage=second_stage)
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_second_stage_is_in_keys_and_labels(monkeypatch) -> None:
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store=None: None)
    plain, unstructured, pattern = (
        Experiment(method=build(METHODS, "kprune", {"sparsity": 0.5, **options}))
        for options in (
            {"second_stage_sparsity": 0.7},
            {"second_stage": "akr", "second_stage_sparsity": 0.7},
            {"second_stage": "akr", "second_stage_pattern": "2:4"},
        )
    )
    assert (
        experiment_key(plain)
        == experiment_key(Experiment(method=build(METHODS, "kprune", {"sparsity": 0.5})))
        != experiment_key(unstructured)
        != experiment_key(pattern)
    )
    assert [experiment.label for experiment in (plain, unstructured, pattern)] == [
        "K-prune −50% FLOPs",
        "K-prune −50% FLOPs · then AKR 70%",
        "K-prune −50% FLOPs · then AKR 2:4",
    ]
    store = Store()
    for experiment in (plain, unstructured, pattern):
        jobs.submit(store, experiment)
    assert [model.label for model in models_of(store.jobs())] == [
        experiment.label for experiment in (plain, unstructured, pattern)
    ]
    assert all(METHODS[name].title == title for name, title in SECOND_STAGE_METHODS.items())
    plans = {1: plain.method.to_dict(), 2: unstructured.method.to_dict()}
    assert set(form_labels(plans).values()) == {"", "then AKR 70%"} or set(
        form_labels(plans).values()
    ) == {
        "",
        "no second stage",
    }
    with pytest.raises(PruneError, match="N:M with 0 < N < M"):
        build(METHODS, "kprune", {"second_stage": "akr", "second_stage_pattern": "4:2"})
    with pytest.raises(PruneError, match="second_stage is 'kprune'; choose one of"):
        build(METHODS, "kprune", {"second_stage": "kprune"})
