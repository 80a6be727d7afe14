"""Narrower heads: the change of basis is exact, and compact models equal masked ones."""

import copy

import numpy as np
import pytest
import tiny
import torch
from test_shrink import close, logits

from prune_core import PruneError
from prune_core.methods import METHODS
from prune_core.models import families, replay
from prune_core.models.checkpoints import loading
from prune_core.models.compact import compact_model, is_compactable
from prune_core.models.export import onnx
from prune_core.models.units import flops, sublayers
from prune_core.plugins import build, no_report
from prune_core.pruning.head_basis import possible_widths, sort_dimensions
from prune_core.pruning.streams import stream

FREE = [name for name, spec in families.FAMILIES.items() if spec.only_products and name != "albert"]


def attention_layers(model):
    """Return the attention sub-layers of a model."""
    return [sub for sub in sublayers(model) if sub.kind == "head"]


def sorted_model(family="bert", root=None):
    """Return a tiny model with two heads of 16 dimensions, sorted in every block."""
    model = tiny.model(family, head_count=2)
    root = torch.eye(32) if root is None else root
    for sub in attention_layers(model):
        states = stream(model, tiny.calibration(family))
        for _ in range(sub.index):
            below = replay.blocks(model)[_]
            states.enter(below)
            for group in range(len(below.groups)):
                states.advance(below, group)
        sort_dimensions(sub, states, root)
    return model


@pytest.mark.parametrize("family", FREE)
def test_sorting_dimensions_does_not_change_the_model(family):
    root = torch.linalg.cholesky(torch.cov(torch.randn(32, 90)))
    model = sorted_model(family, root)
    dense = tiny.model(family, head_count=2)
    assert not torch.allclose(
        attention_layers(model)[0].output.weight, attention_layers(dense)[0].output.weight
    )
    assert close(logits(model, family), logits(dense, family))


def test_last_dimensions_contribute_least():
    """Variance of what each dimension adds to the output falls, and so does that of the scores."""
    model = sorted_model()
    states, sub = stream(model, tiny.calibration()), attention_layers(model)[0]
    features = torch.cat(
        [
            sub.features(x, padding)
            for x, padding in zip(states.inputs, states.paddings, strict=True)
        ]
    )
    added = features.var(0) * sub.output.weight.square().sum(0)
    assert (added.unflatten(0, (2, 16)).diff(dim=1) <= 1e-5).all()
    assert features.mean(0).abs().max() < 1e-4  # the mean is in the output's bias
    x = torch.cat(states.inputs)
    query, key = (sub.block.linears[name](x).unflatten(1, (2, 16)) for name in ("query", "key"))
    scores = query.square().mean(0) * key.var(0)
    assert (scores.diff(dim=1) <= 1e-5 * scores.max()).all()


@pytest.mark.parametrize("family", FREE)
def test_compact_model_with_narrow_heads_equals_the_masked_one(family, tmp_path):
    model = sorted_model(family)
    first, second = attention_layers(model)
    first.fold(torch.tensor([True, True]), width=8)
    second.fold(torch.tensor([False, True]))
    small = compact_model(model)
    assert small.config.prunescope["widths"] == [8, 16]
    assert [block.linears["query"].out_features for block in replay.blocks(small)] == [16, 16]
    assert close(logits(small, family), logits(model, family))
    live, total = flops(model, 10)
    head = first.cost(10)
    assert total - live == pytest.approx(2 * head)  # half of two heads, and one head
    loading.save(small, tiny.tokenizer(family), tmp_path)
    loaded, tokenizer = loading.load(str(tmp_path))
    assert close(logits(loaded, family), logits(model, family))
    assert onnx.to_onnx(loaded, tokenizer, tmp_path / "model.onnx") < 1e-4


def test_narrowing_alone_makes_a_model_compactable():
    model = sorted_model()
    assert not is_compactable(model)
    attention_layers(model)[1].fold(torch.tensor([True, True]), width=8)
    assert is_compactable(model)


def test_live_dimension_of_queries_and_keys_keeps_the_width():
    """Scores depend on it, even if no value does."""
    model = sorted_model()
    sub = attention_layers(model)[1]
    query, key = sub.block.linears["query"], sub.block.linears["key"]
    row, bias = key.weight[15].clone(), query.weight[15].clone()
    sub.fold(torch.tensor([True, True]), width=8)
    with torch.no_grad():
        key.weight[15], query.weight[15] = row, bias
    assert close(logits(compact_model(model), "bert"), logits(model, "bert"))
    assert not is_compactable(model)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_kprune_plus_stays_within_the_budget_with_narrow_heads(family):
    model = tiny.model(family, head_count=2)
    after = copy.deepcopy(model)
    options = {"sparsity": 0.7, "narrow_heads": True}
    rows = build(METHODS, "kprune_plus", options).prune(after, tiny.calibration(family), no_report)
    budget = rows["budget"].iloc[0]
    assert budget.realised <= 0.3 * (1 + 1e-9)
    assert close(logits(compact_model(after), family), logits(after, family))
    widths = rows["unit"].query("unit_type == 'head'")["width"]
    assert set(widths) <= set(possible_widths(attention_layers(model)[0]))
    if family not in FREE:
        assert set(widths) == {16}


def test_kprune_plus_keeps_more_but_narrower_heads_where_they_fit_better():
    """Two heads with the same rank-8 values and scores need half the columns."""
    model = tiny.model(head_count=2)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for block in replay.blocks(model):
            for name in ("query", "key", "value"):
                linear = block.linears[name]
                mix = torch.tensor(rng.normal(size=(2, 16, 8)), dtype=torch.float32)
                linear.weight.copy_(
                    (mix @ linear.weight.unflatten(0, (2, 16))[:, :8]).flatten(0, 1)
                )
                linear.bias.zero_()
    after = copy.deepcopy(model)
    method = build(METHODS, "kprune_plus", {"sparsity": 0.3, "mu": 1e-3})
    rows = method.prune(after, tiny.calibration(), no_report)
    heads = rows["unit"].query("unit_type == 'head'").groupby("block")
    narrow = [block for block, each in heads if each["kept"].all() and (each["width"] == 8).all()]
    assert narrow, rows["unit"]


@pytest.mark.parametrize("defect", ["dead head", "dead value", "dead scores", "all zero"])
def test_kprune_plus_prunes_models_with_dead_parts(defect):
    """Such as a checkpoint that was pruned before."""
    model = tiny.model(head_count=2)
    with torch.no_grad():
        for block in replay.blocks(model):
            linears = block.linears
            if defect in ("dead head", "all zero"):
                linears["attention_output"].weight[:, :16] = 0
            if defect in ("dead value", "all zero"):
                linears["value"].weight[:16] = 0
            if defect in ("dead scores", "all zero"):
                linears["query"].weight[:16], linears["key"].weight[:16] = 0, 0
    dense = copy.deepcopy(model)
    for sub in attention_layers(model)[:1]:
        sort_dimensions(sub, stream(model, tiny.calibration()), torch.eye(32))
    assert close(logits(model, "bert"), logits(dense, "bert"))
    method = build(METHODS, "kprune_plus", {"sparsity": 0.6})
    method.prune(dense, tiny.calibration(), no_report)
    assert all(torch.isfinite(tensor).all() for tensor in dense.state_dict().values())


def test_infinite_hidden_states_are_refused():
    model = tiny.model(head_count=2)
    sub = attention_layers(model)[0]
    with torch.no_grad():
        sub.block.linears["value"].weight.fill_(3e38)
    with pytest.raises(PruneError, match="before the heads of layer 1 contain"):
        sort_dimensions(sub, stream(model, tiny.calibration()), torch.eye(32))
