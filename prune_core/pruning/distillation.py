"""Distillation after pruning: fine-tune the remaining weights for some minutes, without labels.

The pruned model learns the dense model's hidden states after every block and its predictions on
calibration examples, as in TinyBERT (Jiao et al., 2020) but without attention maps. Pruned weights
stay zero. For an adversarial copy of an example, the target is the dense prediction for the
original.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.families import layout
from ..models.replay import block_passes, embed, head, task_type_of
from ..plugins import Batch, Report

# of Adam: small for weights that a method has refitted, large for those that were only masked
RATES = (1e-5, 1e-4, 1e-3)
WARM_UP = 50  # steps in which the rate rises: the first gradients of a pruned model are atypical
STEP_SIZE = 8  # examples per step
MEAN = 0.98  # decay of the running mean of the weights, which is evaluated and kept
HELD_OUT = 8  # one example in eight is held out for early stopping
PATIENCE = 6  # passes without improvement
# adversarial copies of examples of a batch, and the rows (copies,) they belong to
AdversarialCopies = tuple[Batch, Tensor] | None


class DistillationBatch(NamedTuple):
    """Examples of one step, with adversarial copies of some of them."""

    batch: Batch
    copies: Batch | None = None
    of: Tensor = torch.empty(0, dtype=torch.int64)  # (copies,) the row of each one's sentence


def distill(
    model: nn.Module,
    dense: nn.Module,
    learn: Sequence[DistillationBatch],
    held: Sequence[DistillationBatch],
    minutes: float,
    report: Report,
) -> pd.DataFrame:
    """Fine-tune in place until the held-out loss stops improving or the time is over; keep the best
    weights.

    Each learning rate is tried for a few passes first; the best one then starts anew. Stops after
    PATIENCE passes without improvement. Embeddings are frozen.

    Returns one row per evaluation: `passes` over the examples at `rate`, `seconds`, `loss` on the
    training examples and `held` on the held-out ones. The loss is the squared error of the hidden
    states relative to the variance of the dense ones, averaged over blocks, plus the divergence of
    the predictions.
    """
    base: Any = getattr(model, layout(model).base)
    required = [parameter.requires_grad for parameter in model.parameters()]
    frozen = {id(parameter) for parameter in base.embeddings.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    started, initial = time.perf_counter(), _copy(tuned)
    evaluations = [
        {
            "passes": 0,
            "rate": 0.0,
            "seconds": 0.0,
            "loss": _mean(model, dense, learn),
            "held": _mean(model, dense, held),
        }
    ]

    def evaluate(learner: _Learner, passes: int) -> float:
        loss = learner.once()
        held_loss = learner.at_mean(lambda: _mean(model, dense, held))
        seconds = time.perf_counter() - started
        evaluations.append(
            {
                "passes": passes,
                "rate": learner.rate,
                "seconds": seconds,
                "loss": loss,
                "held": held_loss,
            }
        )
        report(
            min(1.0, seconds / (60 * minutes)),
            f"distilled {passes} passes, held-out loss {evaluations[0]['held']:.3f} → "
            f"{held_loss:.3f}",
        )
        return held_loss

    warm_up_passes = -(-WARM_UP // len(learn))  # until the full rate is reached
    first: dict[float, float] = {}
    for rate in RATES:
        learner = _Learner(model, dense, learn, tuned=tuned, start=initial, rate=rate)
        first[rate] = min(evaluate(learner, passes + 1) for passes in range(warm_up_passes))
    rate = min(first, key=first.__getitem__)
    learner = _Learner(model, dense, learn, tuned=tuned, start=initial, rate=rate)
    best, lowest, since_best = initial, evaluations[0]["held"], 0
    for passes in count(1):
        if (held_loss := evaluate(learner, passes)) < lowest:
            lowest, best, since_best = held_loss, _copy(learner.mean), -1
        since_best += 1
        seconds = evaluations[-1]["seconds"]
        is_late = seconds + seconds / len(evaluations) > 60 * minutes  # with another pass
        if is_late or (since_best >= PATIENCE and passes >= warm_up_passes):
            break
    _put(tuned, best)
    for parameter, requires_grad in zip(model.parameters(), required, strict=True):
        parameter.grad = None
        parameter.requires_grad_(requires_grad)
    return pd.DataFrame(evaluations)


class _Learner:
    """Adam on the remaining weights with one learning rate, and their running mean."""

    def __init__(
        self,
        model: nn.Module,
        dense: nn.Module,
        learn: Sequence[DistillationBatch],
        tuned: list[Any],
        start: Sequence[Tensor],
        rate: float,
    ):
        self.model, self.dense, self.learn, self.tuned, self.rate = model, dense, learn, tuned, rate
        _put(tuned, start)
        self.mean, self.masks = _copy(tuned), [parameter.detach() != 0 for parameter in tuned]
        self.optimizer = torch.optim.Adam(tuned, rate)
        self.warm_up = torch.optim.lr_scheduler.LinearLR(
            self.optimizer, 1 / WARM_UP, total_iters=WARM_UP
        )
        self.rng = torch.Generator().manual_seed(0)

    def once(self) -> float:
        """Train on all batches once. Returns the mean loss."""
        total = torch.zeros((), device=self.tuned[0].device)
        for place in torch.randperm(len(self.learn), generator=self.rng).tolist():
            self.optimizer.zero_grad()
            loss = _loss(self.model, self.dense, self.learn[place])
            loss.backward()
            nn.utils.clip_grad_norm_(self.tuned, 1.0)
            self.optimizer.step()
            self.warm_up.step()
            with torch.no_grad():
                for weight, mask, mean in zip(self.tuned, self.masks, self.mean, strict=True):
                    weight.mul_(mask)
                    mean.lerp_(weight, 1 - MEAN)
            total += loss.detach() * _size(self.learn[place])
        return float(total) / sum(map(_size, self.learn))

    def at_mean(self, evaluate: Callable[[], float]) -> float:
        """Evaluate a function with the running mean as the weights of the model."""
        current = _copy(self.tuned)
        _put(self.tuned, self.mean)
        value = evaluate()
        _put(self.tuned, current)
        return value


def split_batches(
    batches: Sequence[Batch], copies: Sequence[AdversarialCopies] | None = None
) -> tuple[list[DistillationBatch], list[DistillationBatch]]:
    """Training and held-out batches; the copies of an example are in the same part.

    Raises PruneError if there are fewer than HELD_OUT examples.
    """
    learn, held, place = list[DistillationBatch](), list[DistillationBatch](), 0
    for batch, copied in zip(batches, copies or [None] * len(batches), strict=True):
        rows = torch.arange(len(batch["input_ids"]))
        is_held = (place + rows) % HELD_OUT == HELD_OUT - 1
        place += len(rows)
        for side, indices in ((learn, rows[~is_held]), (held, rows[is_held])):
            side += [_step(batch, some, copied) for some in indices.split(STEP_SIZE) if len(some)]
    if not held:
        raise PruneError(
            f"Distillation needs at least {HELD_OUT} calibration examples, since one in {HELD_OUT} "
            "is held out for early stopping; use more."
        )
    return learn, held


def _step(batch: Batch, rows: Tensor, copied: AdversarialCopies) -> DistillationBatch:
    """The given rows (ascending) of a batch, with their copies."""
    if copied is None or not (selected := torch.isin(copied[1], rows)).any():
        return DistillationBatch(_take(batch, rows))
    return DistillationBatch(
        _take(batch, rows),
        _take(copied[0], selected.nonzero()[:, 0]),
        torch.searchsorted(rows, copied[1][selected]),
    )


def _take(batch: Batch, rows: Tensor) -> Batch:
    return {name: values[rows.to(values.device)] for name, values in batch.items()}


def _size(step: DistillationBatch) -> int:
    return len(step.batch["input_ids"])


def _states(model: nn.Module, batch: Batch) -> Iterator[Tensor]:
    """Hidden states after every pass of a block, then the logits."""
    x, padding = embed(model, batch)
    for _, block in block_passes(model):
        block.fuse_projections = True
        x = block.run_pass(x, padding)
        yield x
    yield head(model, x, padding)


def _loss(model: nn.Module, dense: nn.Module, step: DistillationBatch) -> Tensor:
    """Loss per example; the divergence of a copy counts like that of an example."""
    with torch.no_grad():
        *targets, teacher = _states(dense, step.batch)
    *states, student = _states(model, step.batch)
    hidden = sum(
        (one - two).square().mean() / two.var() for one, two in zip(states, targets, strict=True)
    )
    loss = hidden / len(targets) + task_type_of(model).divergence(student, teacher).mean()
    if step.copies is None:
        return loss
    *_, student = _states(model, step.copies)
    copied = task_type_of(model).divergence(student, teacher[step.of.to(teacher.device)])
    return loss + copied.sum() / _size(step)


@torch.no_grad()
def _mean(model: nn.Module, dense: nn.Module, steps: Sequence[DistillationBatch]) -> float:
    total = sum(float(_loss(model, dense, step)) * _size(step) for step in steps)
    return total / sum(map(_size, steps))


@torch.no_grad()
def _put(tuned: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(tuned, values, strict=True):
        parameter.copy_(value)


@torch.no_grad()
def _copy(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]
