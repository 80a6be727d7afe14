"""What really ships: dense and pruned as PyTorch, as ONNX and in int8, each judged on the artefact itself.

A pruned model with dead heads or neurons is exported without them, as it would be deployed.
"""

from __future__ import annotations

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
from ..data.metrics import comparable_values
from ..data.tokens import batches
from ..models.checkpoints import verification
from ..models.compact import compact_model, dead_units
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
from .accuracy import dense_predictions, divergence, predictions, summary
from .attack import Attack
from .base import Measure, Pair
from .cost import Cost, size_on_disk

PYTORCH = "PyTorch fp32"
KEPT = (
    "score",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "agreement",
)  # of what accuracy says


@dataclass(frozen=True)
class DeploymentFormats(Measure):
    """Accuracy, agreement with dense, bytes, measured latency and, if asked for, accuracy under DeepWordBug of every form.

    Forms run on the CPU, where they are made for, and are timed in turns with the dense model in PyTorch. ONNX int8 is dynamic
    quantisation, a scale a column; static forms take the ranges of inputs from the calibration sentences.
    """

    name = "forms"
    title = "What ships"
    summary = "Both models as PyTorch, ONNX and int8: accuracy, agreement, size and speed of the exported files themselves"
    slow = True
    usual = False
    estimate = 30.0
    files: str = option(
        f"{ONNX}, {INT8}",
        "Files to write, beside PyTorch fp32",
        choices=tuple(FORMATS),
        several=True,
    )
    batch: int = preset(Cost, "batch", 8)
    length: int = preset(Cost, "length", 64)
    repeats: int = preset(Cost, "repeats", 10)
    attacked: int = option(
        0, "Sentences of classifiers to attack by DeepWordBug in every form; 0 = none", low=0
    )

    @staticmethod
    def lacking() -> dict[str, str]:
        """The files that cannot be written on this machine, each with what it needs."""
        told = "{} needs openvino and nncf, which are not installed here: pip install 'prunescope[openvino]'."
        there = find_spec("openvino") and find_spec("nncf")
        return {} if there else {form: told.format(form) for form in (OPENVINO, OPENVINO_INT8)}

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The table `forms`: a row a model and form."""
        refuse_longer(pair.dense, self.length, "forms: length")
        models = (
            {"dense": pair.dense}
            if pair.is_dense
            else {"dense": pair.dense, "pruned": as_deployed(pair.pruned)}
        )
        with tempfile.TemporaryDirectory() as folder:
            found = {
                (name, form): own
                for count, (name, model) in enumerate(models.items())
                for form, own in self._forms(
                    source(pair, model, Path(folder) / name),
                    pair.task.evaluation,
                    pair.max_length,
                    subrange(report, 0.3 * count, 0.3 * count + 0.3),
                )
            }
            report(0.6, "timing every form in turn")
            batch = timing_batch(next(iter(found.values())), self.batch, self.length)
            timing = subrange(report, 0.6, 0.8)
            seconds, other_load = time_interleaved(
                [*found.values()], batch, self.repeats, report=timing, settle=True
            )
            times = dict(zip(found, map(median, seconds), strict=True))
            whole = times["dense", PYTORCH]
            rows = []
            for place, ((name, form), own) in enumerate(found.items()):
                report(0.8 + 0.2 * place / len(found), f"{name} as {form}")
                size = own.size if isinstance(own, DeployedModel) else size_on_disk(own)
                rows.append(
                    {
                        "model": name,
                        "form": form,
                        **deployed_predictions(pair, own),
                        **self._attacked(pair, own),
                        "latency_p50": times[name, form],
                        "speedup": whole / times[name, form],
                        "bytes": size,
                        "other_load": other_load,
                    }
                )
        report(1.0, "forms measured")
        return {"forms": pd.DataFrame(rows)}

    def _forms(
        self, own: ExportSource, examples: Examples, length: int, report: Report
    ) -> Iterator[tuple[str, nn.Module]]:
        yield PYTORCH, own.model
        wanted = self.files.split(", ")
        for place, form in enumerate(wanted):
            report(place / len(wanted), f"writing {own.folder.name} as {form}")
            session = FORMATS[form](own)
            tolerance = TOLERANCES.get(form, verification.TOLERANCE)
            verification.check_outputs(
                form,
                own.model,
                own.tokenizer,
                examples=examples,
                max_length=length,
                deployed=session,
                tolerance=tolerance,
            )
            yield form, session

    def _attacked(self, pair: Pair, own: nn.Module) -> dict[str, Any]:
        if not self.attacked or pair.task.evaluation.kind != "classification":
            return {}
        attack = Attack(recipes="DeepWordBug", examples=self.attacked, precision="fp32")
        under = attack.measure(replace(pair, pruned=own, folder=None), no_report)["attack"].iloc[0]
        return {
            "attacked": int(under["n"]),
            **{
                key: under[key] for key in ("under_attack", "under_attack_low", "under_attack_high")
            },
        }


def deployed_predictions(pair: Pair, own: nn.Module) -> dict[str, Any]:
    """What a form says of the evaluation sample beside the dense model's answers."""
    task = pair.task
    dense, said = dense_predictions(pair, no_report), predictions(pair, own, no_report)
    right: list[Any] = dense.predicted if task.evaluation.labels is None else task.evaluation.labels
    right, was, now = comparable_values(
        task.evaluation.kind, task.label_names, right, dense.predicted, said.predicted
    )
    row = summary(
        task.metric,
        len(task.label_names),
        right,
        was=was,
        now=now,
        seed=pair.seed,
        probabilities=(dense.probabilities, said.probabilities),
    )
    found = {"metric": task.metric, "n": row["n"]} | {key: row[key] for key in KEPT}
    return found | {
        "divergence": divergence(dense.probabilities, said.probabilities, task.evaluation.kind)
    }


def as_deployed(model: nn.Module) -> nn.Module:
    """Without its dead heads and neurons."""
    return compact_model(model) if sum(dead_units(model)) else model


def source(pair: Pair, model: nn.Module, folder: Path) -> ExportSource:
    """The model on the CPU with the calibration sentences, for files in a new folder."""
    folder.mkdir()
    own = model if device_of(model).type == "cpu" else copy.deepcopy(model).cpu()
    some = pair.task.calibration.sample(CALIBRATION_EXAMPLES, pair.seed)
    calibration = [
        batch
        for batch, _ in batches(
            pair.tokenizer, some, 1, max_length=pair.max_length, device=device_of(own)
        )
    ]
    return ExportSource(own, pair.tokenizer, folder, calibration=calibration)
