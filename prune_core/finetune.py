"""Fine-tunes an encoder into a sequence classifier: the start for people who have none yet.

A plain PyTorch loop: AdamW, linear warm-up and decay, batches of like length, the best look at the validation data kept.
Knows nothing of pruning.
"""

from __future__ import annotations

import json
import random
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from . import encoders
from .data import Examples, Source, encode, label_names, training_examples
from .data import load as load_task
from .plugins import Batch, Options, Report, option
from .predict import probabilities


@dataclass(frozen=True)
class Recipe(Options):
    """Everything a fine-tune depends on; stored with the checkpoint."""

    name = "finetune"
    checkpoint: str = option(encoders.MINILM, "What to start from: minilm (bundled), a local folder or a Hub id")
    epochs: int = option(3, "Passes over the training data", low=1, high=100)
    learning_rate: float = option(5e-5, "Peak learning rate", low=0.0, high=1.0)
    batch_size: int = option(32, "Examples per step", low=1, high=4096)
    max_length: int = option(128, "Tokens per example, longer ones are cut", low=4, high=512)
    warmup: float = option(0.06, "Share of the steps in which the learning rate rises", low=0.0, high=1.0)
    weight_decay: float = option(0.01, "AdamW's weight decay", low=0.0, high=1.0)
    dropout: float = option(0.1, "Dropout rate", low=0.0, high=0.9)
    average: float = option(
        0.0, "Decay of a running average of the weights, which is then what is kept (0.999: the last 1000 steps)", low=0.0, high=0.99999
    )
    checks: int = option(1, "Looks at the validation data per epoch; the best look is kept", low=1, high=100)
    mixed_precision: bool = option(False, "Forward and backward in bf16")
    half: bool = option(False, "Write the weights as fp16: half the size on disk")
    seed: int = option(0, "Seed of the new head, the dropout and the order of the batches", low=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps")


def finetune(recipe: Recipe, source: Source, validation: Source, folder: Path, report: Report) -> dict[str, Any]:
    """Train, keep the weights that are best on the validation data, save the folder; returns the card's figures."""
    labels = label_names(source)
    train = training_examples(source, labels)
    held_out = load_task(validation, labels).evaluation if not validation.is_file else training_examples(validation, labels)
    torch.manual_seed(recipe.seed)
    model, tokenizer = encoders.load(recipe.checkpoint, labels=labels)
    set_dropout(model, recipe.dropout)
    device = encoders.pick_device(recipe.device)
    model.to(device)
    started, history, best = time.perf_counter(), [], 0.0
    trainer = Trainer(recipe, model, tokenizer, train)
    while trainer.step < trainer.steps:
        loss = trainer.run(trainer.steps // (recipe.epochs * recipe.checks), report)
        accuracy = score(trainer.kept, tokenizer, held_out, recipe)
        history.append({"epoch": trainer.step / trainer.batches_per_epoch, "loss": loss, "accuracy": accuracy,
                        "seconds": time.perf_counter() - started})
        report(trainer.step / trainer.steps, f"epoch {history[-1]['epoch']:.2f}: loss {loss:.4f}, validation accuracy {accuracy:.4f}")
        if accuracy > best:
            best = accuracy
            encoders.save(trainer.kept, tokenizer, folder, torch.float16 if recipe.half else torch.float32)
    card = {"recipe": recipe.to_dict(), "train": asdict(source), "validation": asdict(validation), "examples": len(train),
            "accuracy": best, "history": history}  # fmt: skip
    (folder / "finetune.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def set_dropout(model: nn.Module, rate: float) -> None:
    """Every dropout of the model at this rate."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate


def score(model: nn.Module, tokenizer: Any, examples: Examples, recipe: Recipe) -> float:
    """Accuracy in eval mode."""
    model.eval()
    guesses = probabilities(model, tokenizer, examples, 64, recipe.max_length).argmax(-1)
    return float((guesses == examples.labels).mean())


class Trainer:
    """Optimiser, schedule and the order of the batches of one fine-tune."""

    def __init__(self, recipe: Recipe, model: nn.Module, tokenizer: Any, train: Examples):
        self.recipe, self.model = recipe, model
        self.device = encoders.device_of(model)
        self.pad = tokenizer.pad
        self.encoded = encode(tokenizer, train, recipe.max_length)
        self.labels = torch.tensor(train.labels)
        self.batches_per_epoch = -(-len(train) // recipe.batch_size)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)  # one pass over the parameters
        self.steps = recipe.epochs * self.batches_per_epoch
        warm = max(1, int(recipe.warmup * self.steps))
        rate = lambda step: min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))  # noqa: E731
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.step, self.started = 0, time.perf_counter()
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average)) if recipe.average else None
        self.queue: list[list[int]] = []

    @property
    def kept(self) -> nn.Module:
        """The model to validate and save: the running average where one is made."""
        return self.averaged.module if self.averaged else self.model

    def batches(self, epoch: int) -> list[list[int]]:
        """Indices of this epoch's batches: like lengths together, so little is padding, yet new company every epoch."""
        dice = random.Random(self.recipe.seed * 1000 + epoch)
        jittered = [(len(ids) * dice.uniform(0.9, 1.1), index) for index, ids in enumerate(self.encoded["input_ids"])]
        order, size = [index for _, index in sorted(jittered)], self.recipe.batch_size
        found = [order[start : start + size] for start in range(0, len(order), size)]
        dice.shuffle(found)
        return found

    def run(self, steps: int, report: Report) -> float:
        """That many steps, or as many as are left; returns their mean loss."""
        self.model.train()
        total, steps = 0.0, min(steps, self.steps - self.step)
        for count in range(1, steps + 1):
            if not self.queue:
                self.queue = self.batches(self.step // self.batches_per_epoch)
            indices = self.queue.pop()
            batch = self.pad({key: [values[i] for i in indices] for key, values in self.encoded.items()}, return_tensors="pt")
            total += self._update(batch, self.labels[indices])
            if count % 20 == 0 or count == steps:
                left = (time.perf_counter() - self.started) / self.step * (self.steps - self.step) / 60
                report(self.step / self.steps, f"step {self.step} of {self.steps}, loss {total / count:.4f}, {left:.0f} min left")
        return total / steps

    def _update(self, batch: Batch, labels: Tensor) -> float:
        mixed = torch.autocast(self.device.type, torch.bfloat16) if self.recipe.mixed_precision else nullcontext()
        with mixed:
            logits = self.model(**{key: value.to(self.device) for key, value in batch.items()}).logits
        loss = nn.functional.cross_entropy(logits.float(), labels.to(self.device))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.item()
