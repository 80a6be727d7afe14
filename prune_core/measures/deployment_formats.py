"""Accuracy, size and latency of the dense and the pruned model in every deployment format.

The exported files themselves are measured. A pruned model is exported without its dead heads and
neurons.
"""

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from torch import nn

from ..data.examples import Examples
from ..models.checkpoints import verification
from ..models.devices import device_of
from ..models.export.formats import (
    CALIBRATION_EXAMPLES,
    FORMATS,
    INT8,
    ONNX,
    OPENVINO,
    OPENVINO_INT8,
    TOLERANCES,
    DeployedModel,
    ExportSource,
)
from ..models.inference.timing import refuse_longer, time_interleaved, timing_batch
from ..plugins import Report, Rows, no_report, option, preset, subrange
from ..tasks import TASK_TYPES
from ..tasks.encoding import batches
from .accuracy import dense_predictions, predictions, summary
from .attack import Attack
from .base import Measure, Pair
from .cost import Cost, as_deployed, size_on_disk

PYTORCH = "PyTorch fp32"
ACCURACY_COLUMNS = (  # copied from a row of the accuracy table
    "score",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "agreement",
)


@dataclass(frozen=True)
class DeploymentFormats(Measure):
    """Accuracy, agreement with the dense model, bytes and latency of every format.

    Optionally accuracy under DeepWordBug. All formats run on the CPU and are timed in turn with the
    dense model in PyTorch. ONNX int8 is dynamic quantization with one scale per column; static
    formats take the input ranges from calibration examples.
    """

    name = "formats"
    title = "Deployment formats"
    summary = (
        "Both models as PyTorch, ONNX and int8: accuracy, agreement, size and latency of the files"
    )
    slow = True
    is_default = False
    estimate = 30.0
    formats: str = option(
        f"{ONNX}, {INT8}",
        "Formats to export, in addition to PyTorch fp32",
        choices=tuple(FORMATS),
        several=True,
    )
    batch: int = preset(Cost, "batch", 8)
    length: int = preset(Cost, "length", 64)
    repeats: int = preset(Cost, "repeats", 10)
    attack_examples: int = option(
        0, "Examples to attack with DeepWordBug in every format (classifiers only); 0 = none", low=0
    )

    @staticmethod
    def unavailable_choices() -> dict[str, str]:
        """Formats that cannot be written on this machine, with the reason."""
        if find_spec("openvino") and find_spec("nncf"):
            return {}
        reason = (
            "{} needs openvino and nncf, which are not installed here: "
            "pip install 'prunescope[openvino]'."
        )
        return {
            format_name: reason.format(format_name) for format_name in (OPENVINO, OPENVINO_INT8)
        }

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The table `formats`: one row per model and format."""
        refuse_longer(pair.dense, self.length, "formats: length")
        models = {"dense": pair.dense}
        if not pair.is_dense:
            models["pruned"] = as_deployed(pair.pruned)
        with tempfile.TemporaryDirectory() as folder:
            deployed = {
                (name, format_name): exported
                for count, (name, model) in enumerate(models.items())
                for format_name, exported in self._formats(
                    source(pair, model, Path(folder) / name),
                    pair.task.evaluation,
                    pair.max_length,
                    subrange(report, 0.3 * count, 0.3 * count + 0.3),
                )
            }
            report(0.6, "timing all formats in turn")
            batch = timing_batch(next(iter(deployed.values())), self.batch, self.length)
            seconds, other_load = time_interleaved(
                [*deployed.values()],
                batch,
                self.repeats,
                report=subrange(report, 0.6, 0.8),
                settle=True,
            )
            times = dict(zip(deployed, map(median, seconds), strict=True))
            rows = []
            for place, ((name, format_name), model) in enumerate(deployed.items()):
                report(0.8 + 0.2 * place / len(deployed), f"{name} as {format_name}")
                size = model.size if isinstance(model, DeployedModel) else size_on_disk(model)
                rows.append(
                    {
                        "model": name,
                        "format": format_name,
                        **deployed_predictions(pair, model),
                        **self._under_attack(pair, model),
                        "latency_p50": times[name, format_name],
                        "speedup": times["dense", PYTORCH] / times[name, format_name],
                        "bytes": size,
                        "other_load": other_load,
                    }
                )
        report(1.0, "deployment formats measured")
        return {"formats": pd.DataFrame(rows)}

    def _formats(
        self, source: ExportSource, examples: Examples, length: int, report: Report
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield (format, model that runs it), each verified on the examples; PyTorch first."""
        yield PYTORCH, source.model
        requested = self.formats.split(", ")
        for place, format_name in enumerate(requested):
            report(place / len(requested), f"writing {source.folder.name} as {format_name}")
            exported = FORMATS[format_name](source)
            verification.check_outputs(
                format_name,
                source.model,
                source.tokenizer,
                examples=examples,
                max_length=length,
                deployed=exported,
                tolerance=TOLERANCES.get(format_name, verification.TOLERANCE),
            )
            yield format_name, exported

    def _under_attack(self, pair: Pair, model: nn.Module) -> dict[str, Any]:
        """Return the columns of accuracy under attack; none if attacks are not requested."""
        if not self.attack_examples or not TASK_TYPES[pair.task.evaluation.kind].attackable:
            return {}
        attack = Attack(recipes="DeepWordBug", examples=self.attack_examples, precision="fp32")
        tables = attack.measure(replace(pair, pruned=model, folder=None), no_report)
        row = tables["attack"].iloc[0]
        columns = ("under_attack", "under_attack_low", "under_attack_high")
        return {"attacked": int(row["n"]), **{name: row[name] for name in columns}}


def deployed_predictions(pair: Pair, model: nn.Module) -> dict[str, Any]:
    """Return metrics of an exported model on the evaluation sample, compared with the dense one."""
    task = pair.task
    dense, exported = dense_predictions(pair, no_report), predictions(pair, model, no_report)
    labels: list[Any] = task.evaluation.labels or dense.predicted
    task_type = TASK_TYPES[task.evaluation.kind]
    labels, before, after = task_type.comparable(
        task.label_names, labels, dense.predicted, exported.predicted
    )
    row = summary(
        task.metric,
        len(task.label_names),
        labels,
        dense=before,
        pruned=after,
        seed=pair.seed,
        probabilities=(dense.probabilities, exported.probabilities),
    )
    return {
        "metric": task.metric,
        "n": row["n"],
        **{column: row[column] for column in ACCURACY_COLUMNS},
        "divergence": task_type.label_divergence(dense.probabilities, exported.probabilities),
    }


def source(pair: Pair, model: nn.Module, folder: Path) -> ExportSource:
    """Return the model on the CPU with calibration examples, for files in a new folder."""
    folder.mkdir()
    on_cpu = model if device_of(model).type == "cpu" else copy.deepcopy(model).cpu()
    sample = pair.task.calibration.sample(CALIBRATION_EXAMPLES, pair.seed)
    calibration = [
        batch
        for batch, _ in batches(
            pair.tokenizer, sample, 1, max_length=pair.max_length, device=device_of(on_cpu)
        )
    ]
    return ExportSource(on_cpu, pair.tokenizer, folder, calibration=calibration)
