"""Fine-tune an encoder for a task: classification, regression, token classification or question
answering.

A plain PyTorch loop: linear warm-up and decay, batches of similar length, the checkpoint that is
best on the validation data is saved. Each evaluation writes the card and the training state, so
that an interrupted run resumes from its last evaluation.
"""

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..aliases import TRAINING_STATE_KEYS, current_keys
from ..data.examples import DataSource, Examples
from ..data.masked_words import MASK, REMOVALS, without_words
from ..data.metrics import IGNORE_INDEX
from ..data.tokens import pad_batch
from ..errors import PruneError
from ..models import devices
from ..models.checkpoints import loading, model_card
from ..models.inference.predict import predict
from ..plugins import Batch, Options, Report, option
from ..tasks import METRICS, TASK_TYPES, metric_for, metrics_of, units, values_for
from ..tasks.candidates import as_grades
from ..tasks.encoding import encode, token_targets
from ..tasks.known_tasks import KNOWN_TASKS
from ..tasks.task_data import evaluation_examples, is_file, kind_of, label_names, training_examples
from ..tasks.task_data import load as load_task
from . import freelb

STATE = "training.pt"  # training state next to an unfinished checkpoint
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class TrainingRecipe(Options):
    """All settings of a fine-tune; stored with the checkpoint."""

    name = "finetune"
    checkpoint: str = option(
        loading.MINILM, "Initial checkpoint: minilm (bundled), a local folder or a Hub id"
    )
    kind: str = option(
        "auto",
        "Task type, which determines the head; auto infers it from the data",
        choices=("auto", *TASK_TYPES),
    )
    epochs: int = option(3, "Passes over the training data", low=1, high=100)
    learning_rate: float = option(5e-5, "Peak learning rate", low=0.0, high=1.0)
    batch_size: int = option(32, "Examples per step", low=1, high=4096)
    examples: int = option(0, "Training examples, sampled with the seed (0 = all)", low=0)
    max_length: int = option(
        128,
        "Tokens per example; longer texts are truncated, longer contexts split into windows",
        low=4,
        high=512,
    )
    warmup: float = option(
        0.06, "Fraction of the steps with a rising learning rate", low=0.0, high=1.0
    )
    optimizer: str = option("adamw", "Optimizer", choices=tuple(OPTIMIZERS))
    weight_decay: float = option(0.01, "Weight decay of the optimizer", low=0.0, high=1.0)
    dropout: float = option(
        0.1, "Dropout rate; on a CPU, 0 is several times faster", low=0.0, high=0.9
    )
    adversarial: str = option(
        "none",
        "freelb trains on adversarial perturbations of the word embeddings",
        choices=("none", "freelb"),
    )
    adversarial_steps: int = option(3, "FreeLB: ascent steps per training step", low=1, high=100)
    adversarial_step_size: float = option(
        0.1, "FreeLB: step size of the perturbation of an example's embeddings", low=0.0
    )
    adversarial_norm: float = option(
        0.6,
        "FreeLB: maximum norm of the perturbation of an example (a word's embedding is about 1)",
        low=0.0,
    )
    mask_words: float = option(
        0.0,
        "Fraction of the words of each training text that is masked, drawn anew in every epoch; "
        "0.7 to 0.9 for certified robustness",
        low=0.0,
        high=0.98,
    )
    removal: str = option(
        MASK,
        "How mask_words removes words: "
        + "; ".join(f"{name}: {text}" for name, text in REMOVALS.items()),
        choices=tuple(REMOVALS),
    )
    average: float = option(
        0.0,
        "Decay of a running average of the weights, which is then saved (0.999: about the last "
        "1000 steps)",
        low=0.0,
        high=0.99999,
    )
    checks: int = option(1, "Evaluations per epoch; the best checkpoint is saved", low=1, high=100)
    patience: int = option(
        0, "Stop after this many evaluations without improvement (0 = never)", low=0, high=1000
    )
    validation_size: int = option(0, "Validation examples per evaluation (0 = all)", low=0)
    mixed_precision: bool = option(False, "Forward and backward passes in bf16")
    half: bool = option(False, "Save the weights in fp16: half the size on disk")
    seed: int = option(0, "Seed of dropout, batch order and sampled examples", low=0)
    head_seed: int = option(
        0, "Seed of the new head; fine-tunes for a model soup must share it", low=0
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps")


def finetune(
    recipe: TrainingRecipe, source: DataSource, validation: DataSource, folder: Path, report: Report
) -> dict[str, Any]:
    """Train and save the weights that are best on the validation data.

    Returns the card, the content of finetune.json: recipe, data, metrics and history. Resumes an
    unfinished run of the same recipe and data in the folder, and leaves a finished one unchanged.
    PruneError if the folder contains a run of another recipe.
    """
    kind = kind_of(source) if recipe.kind == "auto" else recipe.kind
    labels = label_names(source, kind)
    if recipe.mask_words and not TASK_TYPES[kind].is_single_label:
        raise PruneError(
            f"mask_words is {recipe.mask_words:g}, but the task type is {kind}; only classifiers "
            "of whole texts are certified on masked words, so leave it at 0."
        )
    train = training_examples(source, labels, kind).sample(recipe.examples, recipe.seed)
    default = KNOWN_TASKS[source.task].metric if source.task in KNOWN_TASKS else ""
    requested = source.metric or default
    held_out = as_grades(validation_examples(validation, labels, kind), requested)
    metric = metric_for(
        kind,
        2 if held_out.binary else len(labels),
        requested,
        has_queries=bool(held_out.queries),
        has_grades=held_out.has_grades,
    )
    draw = held_out.sample_whole if METRICS[metric].by_query else held_out.sample
    held_out = draw(recipe.validation_size, recipe.seed)
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
    model, tokenizer = _initial_model(recipe, kind, labels)
    trainer = Trainer(recipe, model, tokenizer, train=train)
    if (folder / STATE).is_file():
        card = trainer.restore(folder / STATE)
    _train(trainer, held_out, card, folder, report=report)
    card["finished"] = True
    write_card(card, kind, folder)
    (folder / STATE).unlink(missing_ok=True)
    return card


def _initial_model(
    recipe: TrainingRecipe, kind: str, labels: tuple[str, ...]
) -> tuple[nn.Module, Any]:
    """The initial checkpoint with a head for the task, and its tokenizer.

    Afterwards the generator of dropout is seeded.
    """
    torch.manual_seed(recipe.head_seed)
    model, tokenizer = loading.load(recipe.checkpoint, kind, labels, dropout=recipe.dropout)
    torch.manual_seed(recipe.seed)
    return model.to(devices.pick_device(recipe.device)), tokenizer


def _train(
    trainer: "Trainer", held_out: Examples, card: dict[str, Any], folder: Path, report: Report
) -> None:
    """Train and evaluate until all steps are done or `patience` is exceeded.

    Each evaluation is added to the history of the card, and the best checkpoint is saved.
    """
    recipe, metric, kind = trainer.recipe, card["metric"], held_out.kind
    history: list[dict[str, Any]] = card["history"]
    started = time.perf_counter() - (history[-1]["seconds"] if history else 0.0)
    steps = max(1, trainer.steps // (recipe.epochs * recipe.checks))  # per evaluation
    while trainer.step < trainer.steps:
        if recipe.patience and _evaluations_since_best(history, metric) >= recipe.patience:
            break
        loss = trainer.run(steps, report)
        metrics = score(trainer.saved_model, trainer.tokenizer, held_out, recipe=recipe)
        epoch, seconds = trainer.step / trainer.batches_per_epoch, time.perf_counter() - started
        history.append({"epoch": epoch, "loss": loss, **metrics, "seconds": seconds})
        report(
            trainer.step / trainer.steps,
            f"epoch {epoch:.2f}: loss {loss:.4f}, validation {METRICS[metric].title} "
            f"{metrics[metric]:.4f}",
        )
        if "score" not in card or metrics[metric] > card["score"]:
            card |= {"score": metrics[metric], **metrics}
            dtype = torch.float16 if recipe.half else torch.float32
            loading.save(trainer.saved_model, trainer.tokenizer, folder, dtype=dtype)
        write_card(card, kind, folder)
        trainer.save_state(folder / STATE, card)


def validation_examples(validation: DataSource, labels: tuple[str, ...], kind: str) -> Examples:
    """All examples of a file, or the evaluation split of a known task."""
    if is_file(validation.task):
        return evaluation_examples(validation, labels, kind)
    return load_task(validation, labels, 0, kind=kind).evaluation


def read_card(folder: Path) -> dict[str, Any]:
    """Read finetune.json of a checkpoint; {} if there is none."""
    path = folder / "finetune.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def is_finished(folder: Path) -> bool:
    """Whether the folder contains a finished fine-tune.

    Old cards lack the key: before runs could be resumed, cards were written at the end.
    """
    return bool(card := read_card(folder)) and card.get("finished", True)


def _same_run(folder: Path, card: dict[str, Any]) -> bool:
    """Whether the folder contains a run, finished or not.

    PruneError if its recipe or data differ.
    """
    earlier = read_card(folder)
    if not earlier:
        return False
    for name in ("recipe", "train", "validation", "examples"):
        before, after = earlier[name], card[name]
        if isinstance(before, dict) and before != after:
            name = next(key for key in {**before, **after} if before.get(key) != after.get(key))
            before, after = before.get(name), after.get(name)
        if before != after:
            raise PruneError(
                f"{folder} contains a fine-tune with {name} {before!r}, not {after!r}; "
                "give another folder, or remove this one."
            )
    return True


def _evaluations_since_best(history: list[dict[str, Any]], metric: str) -> int:
    """Number of evaluations after the first one with the best value of the metric."""
    scores = [evaluation[metric] for evaluation in history]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def write_card(card: dict[str, Any], kind: str, folder: Path) -> None:
    """Write finetune.json, and README.md with data, recipe and metrics."""
    (folder / "finetune.json").write_text(json.dumps(card, indent=2) + "\n")
    recipe, data = card["recipe"], Path(card["train"]["task"]).name
    metrics = {name: card[name] for name in METRICS if name in card}
    options = " ".join(f"--set {name}={value}" for name, value in recipe.items())
    text = (
        f"Fine-tuned from {recipe['checkpoint']} with PruneScope on {card['examples']} examples of "
        f"{data}; measured on {card['validation_examples']} validation examples:\n\n"
        f"{model_card.table(metrics)}\n\n"
        f"`python -m prune_core finetune --task {data} {options}`\n"
    )
    model_card.write(folder, recipe["checkpoint"], kind, data=data, metrics=metrics, text=text)


def score(
    model: Any, tokenizer: Any, examples: Examples, recipe: TrainingRecipe
) -> dict[str, float]:
    """Compute all metrics of the task type, in eval mode."""
    model.eval()
    with mixed_precision(recipe, devices.device_of(model)):
        output = predict(model, tokenizer, examples, batch_size=64, max_length=recipe.max_length)
    names = loading.label_names(model.config)
    labels, predictions = TASK_TYPES[examples.kind].comparable(
        names, examples.labels or [], output.predicted
    )
    classes, queries = 2 if examples.binary else len(names), examples.queries
    return {
        name: METRICS[name].compute(
            *units(name, labels, values_for(name, predictions, output.probabilities), queries)
        )
        for name in metrics_of(examples.kind, classes, has_queries=bool(queries))
    }


@contextmanager
def mixed_precision(recipe: TrainingRecipe, device: torch.device) -> Iterator[None]:
    """Autocast to bf16 if the recipe enables it."""
    if not recipe.mixed_precision:
        yield
        return
    # the CPU's fused attention takes several times as long for its backward in bf16
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with attention, torch.autocast(device.type, torch.bfloat16):
        yield


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of a batch.

    Cross-entropy of classes (examples, labels), of span ends (examples, 2, tokens) or of words'
    labels (examples, tokens, labels); binary cross-entropy of multi-label targets; squared error of
    scores.
    """
    if labels.is_floating_point() and labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits, labels)
    if labels.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), labels)
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def masked_texts(
    recipe: TrainingRecipe, texts: Sequence[str], mask_token: str | None, epoch: int
) -> list[str]:
    """Return the texts without the words that an epoch masks; texts of a pair: the first."""
    rng = random.Random(f"{recipe.seed}/{epoch}/words")
    return [
        without_words(
            text.split(), recipe.mask_words, recipe.removal, mask_token=mask_token, rng=rng
        )
        for text in texts
    ]


class Trainer:
    """Optimizer, schedule and batch order of one fine-tune."""

    def __init__(self, recipe: TrainingRecipe, model: nn.Module, tokenizer: Any, train: Examples):
        self.recipe, self.model = recipe, model
        self.device = devices.device_of(model)
        self.tokenizer = tokenizer
        self.train = train
        self.features = encode(tokenizer, train, recipe.max_length)
        self.targets = token_targets(self.features, train).to(self.device)
        self.batches_per_epoch = -(-len(self.features) // recipe.batch_size)
        groups = [
            {
                "params": [p for p in model.parameters() if p.ndim > 1],
                "weight_decay": recipe.weight_decay,
            },
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        # fused: one pass over the parameters
        self.optimizer = OPTIMIZERS[recipe.optimizer](groups, lr=recipe.learning_rate, fused=True)
        self.steps = recipe.epochs * self.batches_per_epoch
        warmup = max(1, int(recipe.warmup * self.steps))

        def rate(step: int) -> float:
            """Fraction of the peak learning rate: linear warm-up and decay."""
            return min((step + 1) / warmup, (self.steps - step) / max(1, self.steps - warmup))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.step = self.first_step = 0  # finished steps in total, and before this process
        self.started = time.perf_counter()
        self.averaged: AveragedModel | None = None
        if recipe.average:
            self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
        self.queue: list[list[int]] = []
        # bf16 kernels are compiled for every new shape, so shapes are rounded
        self.multiple = 16 if recipe.mixed_precision else None

    @property
    def saved_model(self) -> nn.Module:
        """The model to validate and save: the running average, if enabled."""
        return self.averaged.module if self.averaged else self.model

    def begin_epoch(self, epoch: int) -> None:
        """Mask the words of this epoch, if enabled, and fill the queue of batches."""
        recipe = self.recipe
        if recipe.mask_words:
            texts = masked_texts(recipe, self.train.texts, self.tokenizer.mask_token, epoch)
            masked = replace(self.train, texts=texts)
            self.features = encode(self.tokenizer, masked, recipe.max_length)
        self.queue = self.batches(epoch)

    def batches(self, epoch: int) -> list[list[int]]:
        """Rows of this epoch's batches.

        Rows of similar length share a batch, to reduce padding; lengths are jittered, so that
        batches differ between epochs.
        """
        rng = random.Random(self.recipe.seed * 1000 + epoch)
        jittered = [
            (len(ids) * rng.uniform(0.9, 1.1), row)
            for row, ids in enumerate(self.features.inputs["input_ids"])
        ]
        order, size = [row for _, row in sorted(jittered)], self.recipe.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        rng.shuffle(batches)
        return batches

    def run(self, steps: int, report: Report) -> float:
        """Run up to `steps` of the remaining steps; return their mean loss."""
        self.model.train()
        total, steps = 0.0, min(steps, self.steps - self.step)
        for count in range(1, steps + 1):
            if not self.queue:
                self.begin_epoch(self.step // self.batches_per_epoch)
            rows = self.queue.pop()
            batch = pad_batch(
                self.tokenizer, self.features, rows, device=self.device, multiple=self.multiple
            )
            labels = self.targets[rows]
            if self.features.words is not None:  # pad or truncate to the batch's tokens
                missing = batch["input_ids"].shape[1] - labels.shape[1]
                labels = F.pad(labels, (0, missing), value=IGNORE_INDEX)
            total += self._update(batch, labels)
            if count % 20 == 0 or count == steps:
                elapsed = time.perf_counter() - self.started
                remaining = elapsed / (self.step - self.first_step) * (self.steps - self.step)
                report(
                    self.step / self.steps,
                    f"step {self.step} of {self.steps}, loss {total / count:.4f}, "
                    f"{remaining / 60:.0f} min left",
                )
        return total / steps

    def _update(self, batch: Batch, labels: Tensor) -> float:
        """Take one optimizer step; return the loss."""
        recipe = self.recipe
        if recipe.adversarial == "freelb":
            loss = freelb.add_gradients(
                self.model,
                batch["attention_mask"],
                lambda: self._loss(batch, labels),
                recipe.adversarial_steps,
                recipe.adversarial_step_size,
                recipe.adversarial_norm,
            )
        else:
            clean_loss = self._loss(batch, labels)
            clean_loss.backward()
            loss = clean_loss.item()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss

    def _loss(self, batch: Batch, labels: Tensor) -> Tensor:
        """Mean loss of a batch, with the forward pass in mixed precision if enabled."""
        with mixed_precision(self.recipe, self.device):
            output: Any = self.model(**batch)
            logits = (
                torch.stack([output.start_logits, output.end_logits], 1)
                if "start_logits" in output
                else output.logits
            )
        return task_loss(logits.float(), labels)

    def _stateful(self) -> dict[str, Any]:
        """Objects whose state is saved to resume a run, by name."""
        objects = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "averaged": self.averaged,
        }
        return {name: item for name, item in objects.items() if item is not None}

    def save_state(self, file: Path, card: dict[str, Any]) -> None:
        """Save the state needed to resume the run, and the card so far."""
        rng_states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng_states["cuda"] = torch.cuda.get_rng_state(self.device)
        # atomic: a run interrupted while writing retains the previous state
        partial_file = file.with_suffix(".part")
        content = {
            **{name: item.state_dict() for name, item in self._stateful().items()},
            "step": self.step,
            "rng": rng_states,
            "card": json.dumps(card),
        }
        torch.save(content, partial_file)
        partial_file.replace(file)

    def restore(self, file: Path) -> dict[str, Any]:
        """Resume from a state written by `save_state`; return its card."""
        saved = torch.load(file, map_location="cpu", weights_only=True)
        state = current_keys(saved, TRAINING_STATE_KEYS)
        for name, item in self._stateful().items():
            item.load_state_dict(state[name])
        torch.set_rng_state(state["rng"]["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng"]["cuda"], self.device)
        self.step = self.first_step = state["step"]
        epoch, finished = divmod(self.step, self.batches_per_epoch)
        self.begin_epoch(epoch)
        # batches are taken from the end
        self.queue = self.queue[: self.batches_per_epoch - finished]
        return json.loads(state["card"])
