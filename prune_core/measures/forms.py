"""What really ships: dense and pruned as PyTorch, as ONNX and in int8, each judged on the artefact itself.

A pruned model with dead heads or neurons is exported without them, as it would be deployed.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from torch import nn

from ..data.metrics import judged
from ..errors import require
from ..models.devices import device_of
from ..models.export import to_onnx
from ..models.forms import Session, to_int8
from ..models.shrink import dead_units, shrink
from ..models.timing import refuse_longer, timing_batch, turns
from ..plugins import Report, Rows, option, part_of, preset, quiet
from .accuracy import dense_predictions, divergence, predicted, summary
from .attack import Attack
from .base import Measure, Pair
from .cost import Cost, size_on_disk

PYTORCH, ONNX, INT8 = "PyTorch fp32", "ONNX fp32", "ONNX int8"
KEPT = ("score", "low", "high", "difference", "difference_low", "difference_high", "agreement")  # of what accuracy says


@dataclass(frozen=True)
class Forms(Measure):
    """Accuracy, agreement with dense, bytes, measured latency and, if asked for, accuracy under DeepWordBug of every form.

    Forms run on the CPU, where they are made for, and are timed in turns with the dense model in PyTorch. int8 is ONNX Runtime's
    dynamic quantisation, a scale a column.
    """

    name = "forms"
    title = "What ships"
    summary = "Both models as PyTorch, ONNX and int8: accuracy, agreement, size and speed of the exported files themselves"
    estimate = 30.0
    batch: int = preset(Cost, "batch", 8)
    length: int = preset(Cost, "length", 64)
    repeats: int = preset(Cost, "repeats", 10)
    attacked: int = option(0, "Sentences of classifiers to attack by DeepWordBug in every form; 0 = none", low=0)

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The table `forms`: a row a model and form."""
        require("onnxruntime", "onnx")
        refuse_longer(pair.dense, self.length, "forms: length")
        models = {"dense": pair.dense} if pair.is_dense else {"dense": pair.dense, "pruned": _as_deployed(pair.pruned)}
        with tempfile.TemporaryDirectory() as folder:
            found = {
                (name, form): own
                for count, (name, model) in enumerate(models.items())
                for form, own in _forms(model, pair.tokenizer, Path(folder) / name, part_of(report, 0.4 * count, 0.4 * count + 0.2)).items()
            }
            report(0.6, "timing every form in turn")
            seconds = turns([*found.values()], timing_batch(next(iter(found.values())), self.batch, self.length), self.repeats,
                            part_of(report, 0.6, 0.8))  # fmt: skip
            times = dict(zip(found, map(median, seconds), strict=True))
            whole = times["dense", PYTORCH]
            rows = []
            for place, ((name, form), own) in enumerate(found.items()):
                report(0.8 + 0.2 * place / len(found), f"{name} as {form}")
                size = own.file.stat().st_size if isinstance(own, Session) else size_on_disk(own)
                rows.append({"model": name, "form": form, **self._judged(pair, own), "latency_p50": times[name, form],
                             "speedup": whole / times[name, form], "bytes": size})  # fmt: skip
        report(1.0, "forms measured")
        return {"forms": pd.DataFrame(rows)}

    def _judged(self, pair: Pair, own: nn.Module) -> dict[str, Any]:
        """What it says beside the dense model's answers, and under attack."""
        task = pair.task
        dense, said = dense_predictions(pair, quiet), predicted(pair, own, quiet)
        right: list[Any] = dense.said if task.evaluation.labels is None else task.evaluation.labels
        right, was, now = judged(task.evaluation.kind, task.label_names, right, dense.said, said.said)
        row = summary(task.metric, len(task.label_names), right, was, now, seed=pair.seed)
        found = {"metric": task.metric, "n": row["n"]} | {key: row[key] for key in KEPT}
        found["divergence"] = divergence(dense.probabilities, said.probabilities, task.evaluation.kind)
        if self.attacked and task.evaluation.kind == "classification":
            attack = Attack(recipes="DeepWordBug", examples=self.attacked, precision="fp32")
            under = attack.measure(replace(pair, pruned=own, folder=None), quiet)["attack"].iloc[0]
            found |= {"attacked": int(under["n"]), **{key: under[key] for key in ("under_attack", "under_attack_low", "under_attack_high")}}
        return found


def _as_deployed(model: nn.Module) -> nn.Module:
    return shrink(model) if sum(dead_units(model)) else model


def _forms(model: nn.Module, tokenizer: Any, folder: Path, report: Report) -> dict[str, nn.Module]:
    """The model on the CPU, its ONNX file and that in int8, as what answers."""
    folder.mkdir()
    own = model if device_of(model).type == "cpu" else copy.deepcopy(model).cpu()
    report(0.0, f"writing {folder.name} as ONNX")
    to_onnx(own, tokenizer, folder / "fp32.onnx")
    report(0.7, f"rounding {folder.name} to int8")
    to_int8(folder / "fp32.onnx", folder / "int8.onnx")
    return {PYTORCH: own, **{form: Session(folder / file, own, tokenizer) for form, file in ((ONNX, "fp32.onnx"), (INT8, "int8.onnx"))}}

