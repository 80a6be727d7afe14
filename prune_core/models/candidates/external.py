"""Models whose blocks are not accessible: they have outputs, but no hidden states or gradients."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.examples import Examples
from ...errors import PruneError
from ...tasks import Predictions, TaskType
from ..export.onnx import INPUTS
from .programs import Program, input_roles

Texts = tuple[str, str | None]
MIN_PROBABILITY = 1e-12  # its logarithm is finite
SUM_TOLERANCE = 1e-3  # of probabilities in half precision


class ExternalModel(nn.Module):
    """A model that takes batches and returns named outputs, as transformers models do."""

    def __init__(self, config: Any, task_type: TaskType, size: int, parameter_count: int):
        super().__init__()
        self.config, self.task_type = config, task_type
        self.size, self.parameter_count = size, parameter_count  # bytes on disk, weights
        self.order: list[int] | None = None  # index of its label for each label of the dense model
        self.returns_probabilities = False
        # for device_of, which reads a model's parameters
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)

    def forward(self, **batch: Tensor) -> SimpleNamespace:
        """Outputs for a batch, with labels in the order of the dense model."""
        outputs = self.outputs(batch)
        if self.returns_probabilities:
            # the softmax of log-probabilities is the probabilities
            outputs = {
                name: each.clamp_min(MIN_PROBABILITY).log() for name, each in outputs.items()
            }
        if self.order is not None:
            outputs = {name: each[..., self.order] for name, each in outputs.items()}
        return SimpleNamespace(**outputs)

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of the model, under the names of the task type."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        """Raise PruneError: only attacks that need gradients call this."""
        raise PruneError(
            "This attack needs gradients, which a model file does not provide; choose an attack "
            "that only queries the model, such as DeepWordBug or TextFooler."
        )


class FileModel(ExternalModel):
    """A model that runs an ONNX, OpenVINO, TorchScript or torch.export file; CPU only."""

    def __init__(
        self,
        kind: str,
        program: Program,
        path: Path,
        tokenizer: Any,
        *,
        config: Any,
        task_type: TaskType,
        size: int,
    ):
        super().__init__(config, task_type, size, program.weights.total())
        self.kind, self.path, self.program = kind, path, program
        self.roles = input_roles(program, path)
        self.pad = {"input_ids": tokenizer.pad_token_id or 0}

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the file; batches are split and padded if its inputs have a fixed shape."""
        ids = batch["input_ids"]
        known = {
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
            **batch,
        }
        texts, tokens = ids.shape
        examples, length = self.program.shape
        length, step = length or tokens, examples or texts
        if tokens > length:
            raise PruneError(
                f"{self.path} takes at most {length} tokens, not {tokens}; set a shorter length."
            )
        padded = {
            name: torch.nn.functional.pad(
                known[role],
                (0, length - tokens, 0, -texts % step),
                value=self.pad.get(role, 0),
            )
            .cpu()
            .numpy()
            .astype(self.program.inputs[name])
            for name, role in self.roles.items()
        }
        parts = [
            self._named(
                self.program.run(
                    {name: each[start : start + step] for name, each in padded.items()}
                )
            )
            for start in range(0, texts, step)
        ]
        whole = {name: np.concatenate([part[name] for part in parts])[:texts] for name in parts[0]}
        if self.task_type.outputs_per_token:
            whole = {name: each[:, :tokens] for name, each in whole.items()}
        return {name: torch.from_numpy(each).float().to(ids.device) for name, each in whole.items()}

    def _named(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Select the outputs of the task type; raise PruneError if they cannot be identified."""
        names = self.task_type.output_names
        if "sentence_embedding" in outputs and names == ("embeddings",):
            outputs = {"embeddings": outputs["sentence_embedding"]}
        if set(names) <= set(outputs):
            return {name: outputs[name] for name in names}
        if len(outputs) == len(names):
            return dict(zip(names, outputs.values(), strict=True))
        raise PruneError(
            f"{self.path} returns {', '.join(outputs)}; a model that predicts "
            f"{self.task_type.output} returns {', '.join(names)}; export it with these output "
            "names."
        )


class TransformersModel(ExternalModel):
    """A transformers model of an unsupported family, or with quantized weights."""

    def __init__(self, model: Any, task_type: TaskType, size: int):
        parameters = sum(parameter.numel() for parameter in model.parameters())
        super().__init__(model.config, task_type, size, parameters)
        self.model = model
        self.names = set(INPUTS) & inspect.signature(model.forward).parameters.keys()

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the model on the inputs that it accepts."""
        output = self.model(**{name: each for name, each in batch.items() if name in self.names})
        return {name: getattr(output, name).float() for name in self.task_type.output_names}


class StoredPredictions(ExternalModel):
    """Stored predictions of an unavailable model: text -> (prediction, probabilities)."""

    def __init__(self, by_text: Mapping[Texts, Any], config: Any, task_type: TaskType):
        super().__init__(config, task_type, size=0, parameter_count=0)
        self.by_text = by_text

    def stored_predictions(self, examples: Examples) -> Predictions:
        """Return the predictions for the evaluation examples."""
        rows = [self.by_text[text] for text in texts_of(examples)]
        return Predictions([row[0] for row in rows], [row[1] for row in rows])

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raise PruneError: there is nothing to run."""
        raise PruneError(
            "A table of predictions has no model to run: only the measures accuracy and threshold "
            "support it."
        )


def texts_of(examples: Examples) -> list[Texts]:
    """Return (text, second text or None) of each example."""
    pairs: Sequence[str | None] = examples.pairs or [None] * len(examples)
    return list(zip(examples.texts, pairs, strict=True))


def are_probabilities(logits: Tensor) -> bool:
    """Return whether rows (texts, labels) are probabilities: non-negative, with a sum of 1."""
    sums = logits.sum(-1)
    return bool((logits >= 0).all() and (sums - 1).abs().max() < SUM_TOLERANCE)


def with_labels(config: Any, names: Sequence[str]) -> Any:
    """Copy a configuration with other label names."""
    copied = copy.deepcopy(config)
    copied.id2label = dict(enumerate(names))
    copied.label2id = {name: index for index, name in enumerate(names)}
    return copied
