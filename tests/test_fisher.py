"""Fisher information of the predictions: against a direct computation, and its use in pruning."""

import copy

import pytest
import tiny
import torch

from prune_core.methods.akr_plus import AKRPlus
from prune_core.models import families, replay
from prune_core.models.inference.predict import probabilities
from prune_core.plugins import no_report
from prune_core.pruning.fisher import NO_FISHER, fisher, shrink_toward_diagonal
from prune_core.tasks import TASK_TYPES


def fisher_from_jacobian(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], projection: str
) -> torch.Tensor:
    """Return the mean of Jᵀ(diag p − ppᵀ)J over tokens for a projection of block 0.

    J is the Jacobian of the logits.
    """
    outputs: list[torch.Tensor] = []
    stack = replay.blocks(model)
    hook = (
        stack[0]
        .linears[projection]
        .register_forward_hook(lambda _, __, output: outputs.append(output))
    )
    x, padding = replay.embed(model, batch)
    for block in stack:
        for _ in range(block.passes):
            x = block.run_pass(x, padding)
    hook.remove()
    logits = replay.head(model, x, padding)
    p = logits.detach().softmax(-1)[padding.mask.nonzero()[:, 0]]  # of the example of each token
    covariance = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    grams = []
    for output in outputs:
        J = torch.stack(
            [
                torch.autograd.grad(logits[:, c].sum(), output, retain_graph=True)[0]
                for c in range(logits.shape[1])
            ]
        )
        grams.append(torch.einsum("cto,tcd,dtq->toq", J, covariance, J))
    return torch.cat(grams).mean(0)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_fisher_matches_direct_computation(family: str) -> None:
    model, batch = tiny.model(family), tiny.calibration(family)[0]
    [first, *_] = fisher(model, [batch], probes=2000)
    for projection in ("attention_output", "ffn_in"):
        exact = fisher_from_jacobian(model, batch, projection)
        estimate = first.outputs[projection]
        expected = shrink_toward_diagonal(
            exact if estimate.dim() == 2 else exact.diagonal()
        )  # only the diagonal if there are many outputs
        assert (estimate - expected).norm() < 0.1 * expected.norm()
        assert (estimate.dim() == 2) == (projection == "attention_output")
        assert torch.equal(
            first.diagonal(projection), estimate if estimate.dim() == 1 else estimate.diagonal()
        )


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_fisher_is_positive_for_every_task_type(kind: str) -> None:
    blocks = fisher(tiny.model(kind=kind), tiny.calibration())
    assert len(blocks) == 2
    for block in blocks:
        assert all(
            (gram if gram.dim() == 1 else torch.linalg.eigvalsh(gram)).min() > 0
            for gram in block.outputs.values()
        )


def test_fisher_of_selected_projections_equals_full_fisher() -> None:
    model, selected = tiny.model(), ("attention_output", "ffn_out")
    for full, partial in zip(
        fisher(model, tiny.calibration()),
        fisher(model, tiny.calibration(), projections=selected),
        strict=True,
    ):
        assert tuple(partial.outputs) == selected
        assert all(torch.equal(full.outputs[name], partial.outputs[name]) for name in selected)


def test_no_fisher_returns_none() -> None:
    assert NO_FISHER.of("query") is None and NO_FISHER.diagonal("query") is None


@pytest.mark.parametrize("solver", ["blocked", "admm"])
def test_fisher_weighting_reduces_divergence_from_dense(solver: str) -> None:
    model, examples = tiny.model("roberta"), tiny.examples()
    with torch.no_grad():
        model.classifier.out_proj.weight.mul_(50)
    predictions = {}
    for use_fisher in (True, False):
        pruned = copy.deepcopy(model)
        AKRPlus(sparsity=0.8, solver=solver, fisher=use_fisher, refit_head=False).prune(
            pruned, tiny.calibration("roberta"), no_report
        )
        predictions[use_fisher] = probabilities(
            pruned, tiny.tokenizer("roberta"), examples, batch_size=32, max_length=64
        )
    dense = probabilities(model, tiny.tokenizer("roberta"), examples, batch_size=32, max_length=64)
    divergence = TASK_TYPES["classification"].label_divergence
    assert divergence(dense, predictions[True]) < divergence(dense, predictions[False])
