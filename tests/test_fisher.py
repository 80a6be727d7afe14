"""What the prediction hangs on: the Fisher against one computed class by class, and what it does to a pruned model."""

import copy

import pytest
import tiny
import torch

from prune_core.data.examples import TASK_TYPES
from prune_core.measures.accuracy import divergence
from prune_core.methods.akr_plus import AKRPlus
from prune_core.models import families, replay
from prune_core.models.inference.predict import probabilities
from prune_core.plugins import no_report
from prune_core.pruning.fisher import ALL_ALIKE, fisher, shrink_toward_diagonal


def by_hand(model: torch.nn.Module, batch: dict[str, torch.Tensor], part: str) -> torch.Tensor:
    """The mean of Jᵀ(diag p − ppᵀ)J of a part of block 0 over all tokens, with J the logits' Jacobian."""
    seen: list[torch.Tensor] = []
    stack = replay.blocks(model)
    hook = stack[0].linears[part].register_forward_hook(lambda _, __, output: seen.append(output))
    x, padding = replay.embed(model, batch)
    for block in stack:
        for _ in range(block.passes):
            x = block.run_pass(x, padding)
    hook.remove()
    logits = replay.head(model, x, padding)
    p = logits.detach().softmax(-1)[padding.mask.nonzero()[:, 0]]  # of each token's sentence
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    passes = []
    for output in seen:
        J = torch.stack(
            [
                torch.autograd.grad(logits[:, c].sum(), output, retain_graph=True)[0]
                for c in range(logits.shape[1])
            ]
        )
        passes.append(torch.einsum("cto,tcd,dtq->toq", J, middle, J))
    return torch.cat(passes).mean(0)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_fisher_is_that_of_the_predictions(family: str) -> None:
    model, batch = tiny.model(family), tiny.calibration(family)[0]
    [first, *_] = fisher(model, [batch], probes=2000)
    for part in ("attention_output", "ffn_in"):
        whole = by_hand(model, batch, part)
        found = first.outputs[part]
        expected = shrink_toward_diagonal(
            whole if found.dim() == 2 else whole.diagonal()
        )  # of many outputs the diagonal alone
        assert (found - expected).norm() < 0.1 * expected.norm()
        assert (found.dim() == 2) == (part == "attention_output")
        assert torch.equal(first.worth(part), found if found.dim() == 1 else found.diagonal())


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_kind_of_head_has_one(kind: str) -> None:
    found = fisher(tiny.model(kind=kind), tiny.calibration())
    assert len(found) == 2
    for block in found:
        assert all(
            (gram if gram.dim() == 1 else torch.linalg.eigvalsh(gram)).min() > 0
            for gram in block.outputs.values()
        )


def test_of_some_parts_it_is_what_it_is_of_all() -> None:
    model, some = tiny.model(), ("attention_output", "ffn_out")
    for whole, part in zip(
        fisher(model, tiny.calibration()),
        fisher(model, tiny.calibration(), parts=some),
        strict=True,
    ):
        assert tuple(part.outputs) == some and all(
            torch.equal(whole.outputs[name], part.outputs[name]) for name in some
        )


def test_nothing_asked_for_is_nothing_weighed() -> None:
    assert ALL_ALIKE.of("query") is None and ALL_ALIKE.worth("query") is None


@pytest.mark.parametrize("solver", ["blocked", "admm"])
def test_with_the_fisher_predictions_stay_nearer_to_the_dense_models(solver: str) -> None:
    model, sentences = tiny.model("roberta"), tiny.examples()
    with torch.no_grad():
        model.classifier.out_proj.weight.mul_(50)
    said = {}
    for weighed in (True, False):
        after = copy.deepcopy(model)
        AKRPlus(sparsity=0.8, solver=solver, fisher=weighed, refit_head=False).prune(
            after, tiny.calibration("roberta"), no_report
        )
        said[weighed] = probabilities(
            after, tiny.tokenizer("roberta"), sentences, batch_size=32, max_length=64
        )
    dense = probabilities(model, tiny.tokenizer("roberta"), sentences, batch_size=32, max_length=64)
    assert divergence(dense, said[True]) < divergence(dense, said[False])
