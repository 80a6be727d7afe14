"""Minutes of tuning after pruning: what is left learns from the dense model, on the calibration sentences, without labels.

Hidden states behind every block and predictions are matched, as in TinyBERT (Jiao et al., 2020) but for the attention maps; what
was pruned stays zero. Of a sentence's attacked copy the dense model's prediction for the sentence as it was is learnt. Knows nothing
of methods, nor of attacks.
"""

from __future__ import annotations

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

RATES = (
    1e-5,
    1e-4,
    1e-3,
)  # Adam's; what a method has fitted already needs small steps, what was only cut large ones
WARM_UP = (
    50  # steps in which the rate rises: a pruned model's first gradients are of no typical size
)
TOGETHER = 8  # sentences a step
MEAN = 0.98  # what of the running mean of the weights stays at each step; the mean is what is kept
HELD_OUT = 8  # every eighth sentence is held apart and says when to stop
PATIENCE = 6  # passes over the others without a better one
AdversarialCopies = (
    tuple[Batch, Tensor] | None
)  # attacked copies of some of a batch's sentences, and of which rows (copies,) they are


class DistillationBatch(NamedTuple):
    """Sentences of a step, and attacked copies of some of them."""

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
    """Tune in place until the held-apart sentences gain nothing for PATIENCE passes, or the minutes are over; the best look is kept.

    A row a look: `passes` over the sentences at a `rate` (a few at each to find the best, at which it begins anew), `seconds`, `loss`
    on the others and `held` apart (hidden states' squared error as a share of the dense ones' variance, mean over blocks, and the
    predictions' divergence). Embeddings stay as they are.
    """
    base: Any = getattr(model, layout(model).base)
    asked, inside = (
        [own.requires_grad for own in model.parameters()],
        {id(own) for own in base.embeddings.parameters()},
    )
    for own in model.parameters():
        own.requires_grad_(id(own) not in inside)
    tuned = [own for own in model.parameters() if own.requires_grad]
    started, whole = time.perf_counter(), _copy(tuned)
    found = [
        {
            "passes": 0,
            "rate": 0.0,
            "seconds": 0.0,
            "loss": _mean(model, dense, learn),
            "held": _mean(model, dense, held),
        }
    ]

    def look(learner: _Learner, passes: int) -> float:
        loss = learner.once()
        now, seconds = (
            learner.at_mean(lambda: _mean(model, dense, held)),
            time.perf_counter() - started,
        )
        found.append(
            {"passes": passes, "rate": learner.rate, "seconds": seconds, "loss": loss, "held": now}
        )
        report(
            min(1.0, seconds / (60 * minutes)),
            f"distilled {passes} passes, held apart {found[0]['held']:.3f} → {now:.3f}",
        )
        return now

    first, enough = (
        dict[float, float](),
        -(-WARM_UP // len(learn)),
    )  # passes until a rate is reached
    for rate in RATES:
        learner = _Learner(model, dense, learn, tuned=tuned, start=whole, rate=rate)
        first[rate] = min(look(learner, passes + 1) for passes in range(enough))
    learner, best, since = (
        _Learner(
            model, dense, learn, tuned=tuned, start=whole, rate=min(first, key=first.__getitem__)
        ),
        whole,
        0,
    )
    lowest = found[0]["held"]
    for passes in count(1):
        if (now := look(learner, passes)) < lowest:
            lowest, best, since = now, _copy(learner.mean), -1
        since += 1
        if (since >= PATIENCE and passes >= enough) or found[-1]["seconds"] * (
            len(found) + 1
        ) / len(found) > 60 * minutes:
            break
    _put(tuned, best)
    for own, was in zip(model.parameters(), asked, strict=True):
        own.grad = None
        own.requires_grad_(was)
    return pd.DataFrame(found)


class _Learner:
    """The model's parameters on their way from the pruned ones by one rate, and the running mean of them."""

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
        self.mean, self.masks = _copy(tuned), [own.detach() != 0 for own in tuned]
        self.optimizer = torch.optim.Adam(tuned, rate)
        self.warm_up = torch.optim.lr_scheduler.LinearLR(
            self.optimizer, 1 / WARM_UP, total_iters=WARM_UP
        )
        self.dice = torch.Generator().manual_seed(0)

    def once(self) -> float:
        """Pass over all batches; the mean loss on the way."""
        total = torch.zeros((), device=self.tuned[0].device)
        for place in torch.randperm(len(self.learn), generator=self.dice).tolist():
            self.optimizer.zero_grad()
            loss = _loss(self.model, self.dense, self.learn[place])
            loss.backward()
            nn.utils.clip_grad_norm_(self.tuned, 1.0)
            self.optimizer.step()
            self.warm_up.step()
            with torch.no_grad():
                for own, mask, mean in zip(self.tuned, self.masks, self.mean, strict=True):
                    own.mul_(mask)
                    mean.lerp_(own, 1 - MEAN)
            total += loss.detach() * _size(self.learn[place])
        return float(total) / sum(map(_size, self.learn))

    def at_mean(self, figure: Callable[[], float]) -> float:
        """A figure with the running mean in the model's place."""
        own = _copy(self.tuned)
        _put(self.tuned, self.mean)
        found = figure()
        _put(self.tuned, own)
        return found


def split_batches(
    batches: Sequence[Batch], copies: Sequence[AdversarialCopies] | None = None
) -> tuple[list[DistillationBatch], list[DistillationBatch]]:
    """What to learn from, and what is held apart, a sentence's copies where it is; PruneError where there are too few sentences."""
    learn, held, place = list[DistillationBatch](), list[DistillationBatch](), 0
    for batch, copied in zip(batches, copies or [None] * len(batches), strict=True):
        rows = torch.arange(len(batch["input_ids"]))
        apart = (place + rows) % HELD_OUT == HELD_OUT - 1
        place += len(rows)
        for side, own in ((learn, rows[~apart]), (held, rows[apart])):
            side += [_lesson(batch, some, copied) for some in own.split(TOGETHER) if len(some)]
    if not held:
        raise PruneError(
            f"To distil takes at least {HELD_OUT} calibration sentences, of which every eighth says when to stop; give more."
        )
    return learn, held


def _lesson(batch: Batch, rows: Tensor, copied: AdversarialCopies) -> DistillationBatch:
    """Those rows (ascending) of a batch, and the copies of them."""
    if copied is None or not (mine := torch.isin(copied[1], rows)).any():
        return DistillationBatch(_some(batch, rows))
    return DistillationBatch(
        _some(batch, rows),
        _some(copied[0], mine.nonzero()[:, 0]),
        torch.searchsorted(rows, copied[1][mine]),
    )


def _some(batch: Batch, rows: Tensor) -> Batch:
    return {name: values[rows.to(values.device)] for name, values in batch.items()}


def _size(lesson: DistillationBatch) -> int:
    return len(lesson.batch["input_ids"])


def _states(model: nn.Module, batch: Batch) -> Iterator[Tensor]:
    """Behind every pass of a block, then the logits."""
    x, padding = embed(model, batch)
    for _, block in block_passes(model):
        block.fuse_projections = True
        x = block.run_pass(x, padding)
        yield x
    yield head(model, x, padding)


def _loss(model: nn.Module, dense: nn.Module, lesson: DistillationBatch) -> Tensor:
    """Per sentence; a copy adds its prediction's divergence, and weighs as a sentence's."""
    with torch.no_grad():
        *wanted, teacher = _states(dense, lesson.batch)
    *found, student = _states(model, lesson.batch)
    hidden = sum(
        (one - two).square().mean() / two.var() for one, two in zip(found, wanted, strict=True)
    )
    loss = hidden / len(wanted) + divergence(model, student, teacher).mean()
    if lesson.copies is None:
        return loss
    *_, student = _states(model, lesson.copies)
    return loss + divergence(model, student, teacher[lesson.of.to(teacher.device)]).sum() / _size(
        lesson
    )


@torch.no_grad()
def _mean(model: nn.Module, dense: nn.Module, lessons: Sequence[DistillationBatch]) -> float:
    return sum(float(_loss(model, dense, lesson)) * _size(lesson) for lesson in lessons) / sum(
        map(_size, lessons)
    )


@torch.no_grad()
def _put(tuned: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for own, value in zip(tuned, values, strict=True):
        own.copy_(value)


@torch.no_grad()
def _copy(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def divergence(
    model: nn.Module, student: Tensor, teacher: Tensor, temperature: float = 1.0
) -> Tensor:
    """(sentences,), or (tokens,) where every token has a label: what the student's predictions lack of the teacher's."""
    if task_type_of(model) == "regression":
        return (student - teacher).square().flatten(1).sum(1)
    if task_type_of(model) == "multilabel":  # a coin a label
        student, teacher = (
            torch.stack([each, torch.zeros_like(each)], -1) for each in (student, teacher)
        )
    student, teacher = ((each / temperature).log_softmax(-1) for each in (student, teacher))
    apart = (student.exp() * (student - teacher)).sum(-1)  # KL(student ‖ teacher)
    return temperature**2 * apart.reshape(len(apart), -1).mean(
        1
    )  # of a span's start and end, the mean
