"""What the prediction hangs on: the Fisher against one computed class by class, and what it does to a pruned model."""

import copy

import pytest
import tiny
import torch

from prune_core.data.examples import KINDS
from prune_core.measures.accuracy import divergence
from prune_core.methods.akr_plus import AKRPlus
from prune_core.models import families, replay
from prune_core.models.predict import probabilities
from prune_core.plugins import quiet
from prune_core.pruning.fisher import ALL_ALIKE, TOKENS, fisher, shrunk
from prune_core.pruning.streams import collect, stream


def by_hand(model: torch.nn.Module, batch: dict[str, torch.Tensor], part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(Σ Jᵀ(diag p − ppᵀ)J of a part of block 0 over all tokens, its trace for each token), with J the logits' Jacobian."""
    seen: list[torch.Tensor] = []
    stack = replay.blocks(model)
    hook = stack[0].linears[part].register_forward_hook(lambda _, __, output: seen.append(output))
    x, padding = replay.embed(model, batch)
    for block in stack:
        for _ in range(block.passes):
            x = block.once(x, padding)
    hook.remove()
    logits = replay.head(model, x, padding)
    p = logits.detach().softmax(-1)[padding.mask.nonzero()[:, 0]]  # of each token's sentence
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    passes = []
    for output in seen:
        J = torch.stack([torch.autograd.grad(logits[:, c].sum(), output, retain_graph=True)[0] for c in range(logits.shape[1])])
        passes.append(torch.einsum("cto,tcd,dtq->toq", J, middle, J))
    each = torch.cat(passes)
    return each.sum(0), each.diagonal(dim1=1, dim2=2).sum(-1)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_fisher_is_that_of_the_predictions(family: str) -> None:
    model, batch = tiny.model(family), tiny.calibration(family)[0]
    [first, *_] = fisher(model, [batch], probes=2000)
    for part in ("attention_output", "ffn_in"):
        whole, of_tokens = by_hand(model, batch, part)
        expected = shrunk(whole / len(of_tokens))
        assert (first.outputs[part] - expected).norm() < 0.1 * expected.norm()
        weights = torch.cat(first.tokens[[part in parts for parts in families.GROUPS].index(True)])
        torch.testing.assert_close(weights, 1 - TOKENS + TOKENS * of_tokens / of_tokens.mean(), atol=0.2, rtol=0.1)
        assert float(weights.mean()) == pytest.approx(1)


def test_a_token_that_weighs_two_counts_as_two() -> None:
    model, [batch, *_] = tiny.model(), tiny.calibration()
    with torch.no_grad():
        once, twice = stream(model, [batch]), stream(model, [batch, batch])
        weights = torch.full((len(once.inputs[0]),), 2.0)
        one, two = collect({"gram", "cross"}, once, once.twin(), [weights]), collect({"gram", "cross"}, twice, twice.twin())
    for name in ("gram", "cross", "total", "dense_total"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_head_has_one(kind: str) -> None:
    found = fisher(tiny.model(kind=kind), tiny.calibration())
    assert len(found) == 2
    for block in found:
        assert all(torch.linalg.eigvalsh(gram).min() > 0 for gram in block.outputs.values())


def test_nothing_asked_for_is_nothing_weighed() -> None:
    assert ALL_ALIKE.outputs.get("query") is None and list(ALL_ALIKE.tokens) == [None] * 4


@pytest.mark.parametrize("solver", ["blocked", "exact", "admm"])
def test_with_the_fisher_predictions_stay_nearer_to_the_dense_models(solver: str) -> None:
    model, sentences = tiny.model(), tiny.examples()
    with torch.no_grad():
        model.classifier.weight.mul_(50)
    said = {}
    for weighed in (True, False):
        after = copy.deepcopy(model)
        AKRPlus(sparsity=0.8, solver=solver, fisher=weighed, refit_head=False).prune(after, tiny.calibration(), quiet)
        said[weighed] = probabilities(after, tiny.tokenizer(), sentences, 32, 64)
    dense = probabilities(model, tiny.tokenizer(), sentences, 32, 64)
    assert divergence(dense, said[True]) < divergence(dense, said[False])
