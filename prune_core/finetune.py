"""Fine-tunes an encoder into a sequence classifier: the start for people who have none yet.

A plain PyTorch loop: AdamW, linear warm-up and decay, batches of like length, best epoch kept. Knows nothing of pruning.
"""

from __future__ import annotations

import copy
import json
import random
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
    mixed_precision: bool = option(False, "Forward and backward in bf16")
    half: bool = option(False, "Write the weights as fp16: half the size on disk")
    seed: int = option(0, "Seed of the new head, the dropout and the order of the batches", low=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps")


def finetune(recipe: Recipe, source: Source, validation: Source, folder: Path, report: Report) -> dict[str, Any]:
    """Train, keep the epoch that is best on the validation data, save the folder; returns the card's figures."""
    labels = label_names(source)
    train = training_examples(source, labels)
    held_out = load_task(validation, labels).evaluation if not validation.is_file else training_examples(validation, labels)
    torch.manual_seed(recipe.seed)
    model, tokenizer = encoders.load(recipe.checkpoint, labels=labels)
    set_dropout(model, recipe.dropout)
    device = encoders.pick_device(recipe.device)
    model.to(device)
    started, history, best = time.perf_counter(), [], None
    trainer = Trainer(recipe, model, tokenizer, train)
    for epoch in range(recipe.epochs):
        loss = trainer.epoch(epoch, report)
        accuracy = score(model, tokenizer, held_out, recipe)
        history.append({"epoch": epoch + 1, "loss": loss, "accuracy": accuracy, "seconds": time.perf_counter() - started})
        report((epoch + 1) / recipe.epochs, f"epoch {epoch + 1}: loss {loss:.4f}, validation accuracy {accuracy:.4f}")
        if best is None or accuracy > best[0]:
            best = (accuracy, copy.deepcopy(model.state_dict()))
            model.load_state_dict(best[1])
            encoders.save(model, tokenizer, folder, torch.float16 if recipe.half else torch.float32)
    card = {"recipe": recipe.to_dict(), "train": asdict(source), "validation": asdict(validation), "examples": len(train),
            "accuracy": best[0] if best else None, "history": history}  # fmt: skip
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

    def batches(self, epoch: int) -> list[list[int]]:
        """Indices of this epoch's batches: like lengths together, so little is padding, yet new company every epoch."""
        dice = random.Random(self.recipe.seed * 1000 + epoch)
        jittered = [(len(ids) * dice.uniform(0.9, 1.1), index) for index, ids in enumerate(self.encoded["input_ids"])]
        order, size = [index for _, index in sorted(jittered)], self.recipe.batch_size
        found = [order[start : start + size] for start in range(0, len(order), size)]
        dice.shuffle(found)
        return found

    def epoch(self, epoch: int, report: Report) -> float:
        """One pass; returns the mean loss."""
        self.model.train()
        total = 0.0
        for count, indices in enumerate(self.batches(epoch), start=1):
            batch = self.pad({key: [values[i] for i in indices] for key, values in self.encoded.items()}, return_tensors="pt")
            total += self._update(batch, self.labels[indices])
            if count % 20 == 0 or count == self.batches_per_epoch:
                spent = time.perf_counter() - self.started
                left = spent / self.step * (self.steps - self.step) / 60
                message = f"epoch {epoch + 1}, step {count}/{self.batches_per_epoch}, loss {total / count:.4f}, {left:.0f} min left"
                report(self.step / self.steps, message)
        return total / self.batches_per_epoch

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
        return loss.item()
