"""Fine-tunes an encoder for a task (labels, scores or answers in a text): the start for people who have no model yet.

A plain PyTorch loop: linear warm-up and decay, batches of like length, the best look at the validation data kept. Each look
writes the card and the training state, so that a run that was stopped goes on from its last look. Knows nothing of pruning.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data.examples import DataSource, Examples
from ..data.known_tasks import KNOWN_TASKS
from ..data.metrics import IGNORED, METRICS, judge, metric_for, metrics_of, values_for
from ..data.tasks import evaluation_examples, is_file, kind_of, label_names, training_examples
from ..data.tasks import load as load_task
from ..data.tokens import encode, pad_batch, token_targets
from ..errors import PruneError
from ..models import devices
from ..models.checkpoints import loading, model_card
from ..models.inference.predict import predict
from ..plugins import Batch, Options, Report, option
from . import freelb

STATE = "training.pt"  # beside an unfinished checkpoint: what the run goes on from
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class TrainingRecipe(Options):
    """Everything a fine-tune depends on; stored with the checkpoint."""

    name = "finetune"
    checkpoint: str = option(
        loading.MINILM, "What to start from: minilm (bundled), a local folder or a Hub id"
    )
    kind: str = option(
        "auto",
        "The head: a label, a score, or an answer in a text; auto reads it from the data",
        choices=("auto", *loading.HEADS),
    )
    epochs: int = option(3, "Passes over the training data", low=1, high=100)
    learning_rate: float = option(5e-5, "Peak learning rate", low=0.0, high=1.0)
    batch_size: int = option(32, "Examples per step", low=1, high=4096)
    examples: int = option(0, "Training examples, drawn with the seed (0 = all)", low=0)
    max_length: int = option(
        128,
        "Tokens per example; longer sentences are cut, longer contexts read in windows",
        low=4,
        high=512,
    )
    warmup: float = option(
        0.06, "Share of the steps in which the learning rate rises", low=0.0, high=1.0
    )
    optimizer: str = option("adamw", "What makes the steps", choices=tuple(OPTIMIZERS))
    weight_decay: float = option(0.01, "The optimizer's weight decay", low=0.0, high=1.0)
    dropout: float = option(
        0.1, "Dropout rate; on a CPU, 0 is several times faster", low=0.0, high=0.9
    )
    adversarial: str = option(
        "none",
        "freelb trains against small changes of the word embeddings",
        choices=("none", "freelb"),
    )
    adversarial_steps: int = option(
        3, "FreeLB: passes per step, each with a stronger change", low=1, high=100
    )
    adversarial_step_size: float = option(
        0.1, "FreeLB: length of the change that a pass adds to a sentence's embeddings", low=0.0
    )
    adversarial_norm: float = option(
        0.6,
        "FreeLB: longest change of a sentence's embeddings (a word's embedding is about 1)",
        low=0.0,
    )
    average: float = option(
        0.0,
        "Decay of a running average of the weights, which is then what is kept (0.999: the last 1000 steps)",
        low=0.0,
        high=0.99999,
    )
    checks: int = option(
        1, "Looks at the validation data per epoch; the best look is kept", low=1, high=100
    )
    patience: int = option(
        0, "Stop after this many looks without a better one (0 = never)", low=0, high=1000
    )
    validation_size: int = option(0, "Validation examples per look (0 = all)", low=0)
    mixed_precision: bool = option(False, "Forward and backward in bf16")
    half: bool = option(False, "Write the weights as fp16: half the size on disk")
    seed: int = option(
        0, "Seed of the dropout, the order of the batches and the drawn examples", low=0
    )
    head_seed: int = option(
        0, "Seed of the new head; fine-tunes that are to be averaged must have begun alike", low=0
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps")


def finetune(
    recipe: TrainingRecipe, source: DataSource, validation: DataSource, folder: Path, report: Report
) -> dict[str, Any]:
    """Train, keep the weights that are best on the validation data; returns the card, which stands in finetune.json too.

    A folder that holds an unfinished run of the same recipe and data is gone on with, a finished one is left as it is; one of
    another recipe is a PruneError.
    """
    kind = kind_of(source) if recipe.kind == "auto" else recipe.kind
    labels = label_names(source, kind)
    train = training_examples(source, labels, kind).sample(recipe.examples, recipe.seed)
    held_out = validation_examples(validation, labels, kind).sample(
        recipe.validation_size, recipe.seed
    )
    own = KNOWN_TASKS[source.task].metric if source.task in KNOWN_TASKS else ""
    metric = metric_for(kind, 2 if held_out.binary else len(labels), source.metric or own)
    card: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "train": asdict(source),
        "validation": asdict(validation),
        "examples": len(train),
        "validation_examples": len(held_out),
        "labels": [*labels],
        "metric": metric,
        "finished": False,
        "history": [],
    }
    if _same_run(folder, card) and is_finished(folder):
        report(1.0, "finished earlier")
        return read_card(folder)
    torch.manual_seed(recipe.head_seed)
    model, tokenizer = loading.load(recipe.checkpoint, kind, labels, dropout=recipe.dropout)
    if kind == "regression":
        model.config.problem_type = kind  # trained with squared error: the output is no logit
    torch.manual_seed(recipe.seed)
    model.to(devices.pick_device(recipe.device))
    trainer = Trainer(recipe, model, tokenizer, train=train)
    if (folder / STATE).is_file():
        card = trainer.restore(folder / STATE)
    history: list[dict[str, Any]] = card["history"]
    started = time.perf_counter() - (history[-1]["seconds"] if history else 0.0)
    while trainer.step < trainer.steps and (
        not recipe.patience or _looks_since_best(history, metric) < recipe.patience
    ):
        loss = trainer.run(max(1, trainer.steps // (recipe.epochs * recipe.checks)), report)
        figures = score(trainer.kept, tokenizer, held_out, recipe=recipe)
        epoch, seconds = trainer.step / trainer.batches_per_epoch, time.perf_counter() - started
        history.append({"epoch": epoch, "loss": loss, **figures, "seconds": seconds})
        told = f"epoch {epoch:.2f}: loss {loss:.4f}, validation {METRICS[metric].title} {figures[metric]:.4f}"
        report(trainer.step / trainer.steps, told)
        if "score" not in card or figures[metric] > card["score"]:
            card |= {"score": figures[metric], **figures}
            loading.save(
                trainer.kept,
                tokenizer,
                folder,
                dtype=torch.float16 if recipe.half else torch.float32,
            )
        write_card(card, kind, folder)
        trainer.keep(folder / STATE, card)
    card["finished"] = True
    write_card(card, kind, folder)
    (folder / STATE).unlink(missing_ok=True)
    return card


def validation_examples(validation: DataSource, labels: tuple[str, ...], kind: str) -> Examples:
    """All of a file, or a known task's evaluation split."""
    own_file = is_file(validation.task)
    return (
        evaluation_examples(validation, labels, kind)
        if own_file
        else load_task(validation, labels, 0, kind=kind).evaluation
    )


def read_card(folder: Path) -> dict[str, Any]:
    """What finetune.json says of the checkpoint there; empty where there is none."""
    path = folder / "finetune.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def is_finished(folder: Path) -> bool:
    """Whether a fine-tune ended there; cards of before runs were restartable were written at the end only."""
    return bool(card := read_card(folder)) and card.get("finished", True)


def _same_run(folder: Path, card: dict[str, Any]) -> bool:
    """Whether the folder holds a run, finished or not; one of another recipe or other data is a sentence."""
    earlier = read_card(folder)
    for part in ("recipe", "train", "validation", "examples") if earlier else ():
        if earlier[part] != card[part]:
            was, now = earlier[part], card[part]
            if isinstance(was, dict):
                part = next(key for key in {**was, **now} if was.get(key) != now.get(key))
                was, now = was.get(part), now.get(part)
            raise PruneError(
                f"{folder} holds a fine-tune with {part} {was!r}, not {now!r}; give another folder, or remove that one."
            )
    return bool(earlier)


def _looks_since_best(history: list[dict[str, Any]], metric: str) -> int:
    scores = [look[metric] for look in history]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def write_card(card: dict[str, Any], kind: str, folder: Path) -> None:
    """finetune.json, and README.md: what it was made from, on what, and how good it is."""
    (folder / "finetune.json").write_text(json.dumps(card, indent=2) + "\n")
    recipe, data = card["recipe"], Path(card["train"]["task"]).name
    figures = {name: card[name] for name in METRICS if name in card}
    options = " ".join(f"--set {name}={value}" for name, value in recipe.items())
    text = (
        f"Fine-tuned from {recipe['checkpoint']} by PruneScope on {card['examples']} examples of {data}; "
        f"measured on {card['validation_examples']} validation examples:\n\n{model_card.table(figures)}\n\n"
        f"`python -m prune_core finetune --task {data} {options}`\n"
    )
    model_card.write(folder, recipe["checkpoint"], kind, data=data, metrics=figures, text=text)


def score(
    model: Any, tokenizer: Any, examples: Examples, recipe: TrainingRecipe
) -> dict[str, float]:
    """Every figure of the task's kind, in eval mode."""
    model.eval()
    with mixed_precision(recipe, devices.device_of(model)):
        found = predict(model, tokenizer, examples, batch_size=64, max_length=recipe.max_length)
    names = loading.label_names(model.config)
    right, said = judge(examples.kind, names, examples.labels or [], found.predicted)
    return {
        name: METRICS[name].compute(right, values_for(name, said, found.probabilities))
        for name in metrics_of(examples.kind, 2 if examples.binary else len(names))
    }


@contextmanager
def mixed_precision(recipe: TrainingRecipe, device: torch.device) -> Iterator[None]:
    """bf16 where the recipe asks for it."""
    if not recipe.mixed_precision:
        yield
        return
    # the CPU's fused attention takes several times as long for its backward in bf16
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with attention, torch.autocast(device.type, torch.bfloat16):
        yield


def task_loss(logits: Tensor, right: Tensor) -> Tensor:
    """Mean loss: cross-entropy of labels (sentences, labels), of both ends (sentences, 2, tokens) or of words' labels (sentences,
    tokens, labels); of labels that hold independently the binary one; squared error of scores."""
    if right.is_floating_point() and right.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits, right)
    if right.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), right)
    return F.cross_entropy(logits.flatten(0, -2), right.flatten())


class Trainer:
    """Optimiser, schedule and the order of the batches of one fine-tune."""

    def __init__(self, recipe: TrainingRecipe, model: nn.Module, tokenizer: Any, train: Examples):
        self.recipe, self.model = recipe, model
        self.device = devices.device_of(model)
        self.tokenizer = tokenizer
        self.features = encode(tokenizer, train, recipe.max_length)
        self.right = token_targets(self.features, train).to(self.device)
        self.batches_per_epoch = -(-len(self.features) // recipe.batch_size)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = OPTIMIZERS[recipe.optimizer](
            groups, lr=recipe.learning_rate, fused=True
        )  # one pass over the parameters
        self.steps = recipe.epochs * self.batches_per_epoch
        warm = max(1, int(recipe.warmup * self.steps))
        rate = lambda step: min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))  # noqa: E731
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.step, self.begun, self.started = (
            0,
            0,
            time.perf_counter(),
        )  # steps done in all, and before this process
        self.averaged = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
            if recipe.average
            else None
        )
        self.queue: list[list[int]] = []
        self.multiple = (
            16 if recipe.mixed_precision else None
        )  # bf16 kernels are made anew for every shape that they meet

    @property
    def kept(self) -> nn.Module:
        """The model to validate and save: the running average where one is made."""
        return self.averaged.module if self.averaged else self.model

    def batches(self, epoch: int) -> list[list[int]]:
        """Rows of this epoch's batches: like lengths together, so little is padding, yet new company every epoch."""
        dice = random.Random(self.recipe.seed * 1000 + epoch)
        jittered = [
            (len(ids) * dice.uniform(0.9, 1.1), row)
            for row, ids in enumerate(self.features.inputs["input_ids"])
        ]
        order, size = [row for _, row in sorted(jittered)], self.recipe.batch_size
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
            rows = self.queue.pop()
            batch = pad_batch(
                self.tokenizer, self.features, rows, device=self.device, multiple=self.multiple
            )
            right = self.right[rows] if self.features.words is None else self._of_words(rows, batch)
            total += self._update(batch, right)
            if count % 20 == 0 or count == steps:
                left = (
                    (time.perf_counter() - self.started)
                    / (self.step - self.begun)
                    * (self.steps - self.step)
                    / 60
                )
                report(
                    self.step / self.steps,
                    f"step {self.step} of {self.steps}, loss {total / count:.4f}, {left:.0f} min left",
                )
        return total / steps

    def _of_words(self, rows: list[int], batch: Batch) -> Tensor:
        """Labels of words, as long as the batch is."""
        right, tokens = self.right[rows], batch["input_ids"].shape[1]
        return F.pad(right, (0, max(0, tokens - right.shape[1])), value=IGNORED)[:, :tokens]

    def _update(self, batch: Batch, right: Tensor) -> float:
        recipe = self.recipe
        if recipe.adversarial == "freelb":
            limits = (
                recipe.adversarial_steps,
                recipe.adversarial_step_size,
                recipe.adversarial_norm,
            )
            loss = freelb.gradients(
                self.model, batch["attention_mask"], lambda: self._loss(batch, right), *limits
            )
        else:
            plain = self._loss(batch, right)
            plain.backward()
            loss = plain.item()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss

    def _loss(self, batch: Batch, right: Tensor) -> Tensor:
        with mixed_precision(self.recipe, self.device):
            found: Any = self.model(**batch)
            logits = (
                torch.stack([found.start_logits, found.end_logits], 1)
                if "start_logits" in found
                else found.logits
            )
        return task_loss(logits.float(), right)

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "averaged": self.averaged,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def keep(self, file: Path, card: dict[str, Any]) -> None:
        """Write everything that the rest of the run depends on, and the card so far."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        dice = {"cpu": torch.get_rng_state()} | (
            {"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}
        )
        part = file.with_suffix(
            ".part"
        )  # a run that is stopped while it writes keeps the look before
        torch.save({**state, "step": self.step, "dice": dice, "card": json.dumps(card)}, part)
        part.replace(file)

    def restore(self, file: Path) -> dict[str, Any]:
        """Go on from what `keep` wrote; returns its card."""
        state = torch.load(file, map_location="cpu", weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["dice"]["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["dice"]["cuda"], self.device)
        self.step = self.begun = state["step"]
        epoch, done = divmod(self.step, self.batches_per_epoch)
        self.queue = self.batches(epoch)[
            : self.batches_per_epoch - done
        ]  # batches are taken from the end
        return json.loads(state["card"])
