"""Whole units first, then single weights of what they left: in every family, in patterns that
hold after the cut, under its own name.
"""

import copy

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.analysis.ablation import form_labels
from prune_core.analysis.compared_models import models_of
from prune_core.experiments.experiment import Experiment
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.compact import compact_model, dead_units
from prune_core.models.families import FAMILIES
from prune_core.plugins import SECOND_STAGE_METHODS, build, no_report
from prune_core.pruning import pipeline
from prune_core.queue import jobs
from prune_core.store.store import Store


def combined(dense: torch.nn.Module, method: str = "unit_magnitude", **options):
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


@pytest.mark.parametrize("then", SECOND_STAGE_METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_share_goes_of_what_is_left_and_units_stay_dead(family: str, then: str) -> None:
    dense = tiny.model(family)
    before = copy.deepcopy(dense.state_dict())
    whole, _ = combined(dense)
    both, rows = combined(dense, second_stage=then, second_stage_sparsity=0.6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    assert all(dead_units(whole))
    for (_, _, one), (_, _, other) in zip(replay.linears(whole), replay.linears(both), strict=True):
        assert not other.weight[one.weight == 0].any(), "what was cut stays cut"
    for cut_only, thinned in zip(
        zeros(whole), zeros(both), strict=True
    ):  # rows round down, and neurons kept dead for the widths go first
        assert (
            1 - (1 - cut_only) * (1 - 0.6 + 1 / 4)
            <= thinned
            <= 1 - (1 - cut_only) * (1 - 0.6) + 1e-6
        )
    assert rows["prune"]["sparsity"].tolist() == pytest.approx(
        [row["sparsity"] for row in replay.sparsity_by_projection(both)]
    )
    with torch.no_grad():
        for batch in tiny.calibration(family):
            torch.testing.assert_close(
                compact_model(both)(**batch).logits, both(**batch).logits, atol=1e-4, rtol=1e-4
            )


def test_a_pattern_holds_in_the_cut_matrices() -> None:
    model, _ = combined(tiny.model(), second_stage="sparsegpt", second_stage_pattern="2:4")
    for _, _, linear in replay.linears(compact_model(model)):
        assert ((linear.weight.reshape(-1, 4) != 0).sum(1) <= 2).all()


def test_a_fit_comes_nearer_to_what_the_units_left_than_cutting_alone() -> None:
    dense = tiny.model()
    whole, _ = combined(dense)
    far = {}
    for then in ("magnitude", "akr"):
        both, _ = combined(dense, second_stage=then, second_stage_sparsity=0.7)
        pairs = [
            [list(replay.hidden_states(each, batch))[-1][0] for each in (whole, both)]
            for batch in tiny.calibration()
        ]
        far[then] = sum(float((one - other).square().sum()) for one, other in pairs)
    assert far["akr"] < far["magnitude"]


def test_a_block_without_heads_or_neurons_is_passed_over() -> None:
    dense = tiny.model()
    for then in SECOND_STAGE_METHODS:
        model, _ = combined(dense, "block_drop", second_stage=then)
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_keys_labels_and_forms_say_so_and_stay_what_they_were(monkeypatch) -> None:
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store=None: None)
    plain, share, pattern = (
        Experiment(method=build(METHODS, "kprune", {"sparsity": 0.5, **options}))
        for options in (
            {"second_stage_sparsity": 0.7},
            {"second_stage": "akr", "second_stage_sparsity": 0.7},
            {"second_stage": "akr", "second_stage_pattern": "2:4"},
        )
    )
    assert (
        plain.key()
        == Experiment(method=build(METHODS, "kprune", {"sparsity": 0.5})).key()
        != share.key()
        != pattern.key()
    )
    assert [each.label for each in (plain, share, pattern)] == [
        "K-prune −50% FLOPs",
        "K-prune −50% FLOPs · then AKR 70%",
        "K-prune −50% FLOPs · then AKR 2:4",
    ]
    store = Store()
    for each in (plain, share, pattern):
        jobs.submit(store, each)
    assert [model.label for model in models_of(store.jobs())] == [
        each.label for each in (plain, share, pattern)
    ]
    assert all(METHODS[name].title == title for name, title in SECOND_STAGE_METHODS.items())
    plans = {1: plain.method.to_dict(), 2: share.method.to_dict()}
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
