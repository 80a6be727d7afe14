"""What int8 costs, matrix by matrix, and the file repaired: chosen on calibration sentences, judged on the evaluation sample."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..models.export import quantization_sensitivity
from ..models.export.formats import FORMATS, INT8, ONNX, STATIC
from ..models.export.onnx import OnnxWrapper
from ..models.replay import task_type_of
from ..plugins import Report, Rows, option, subrange
from .base import Measure, Pair
from .deployment_formats import as_deployed, deployed_predictions, source


@dataclass(frozen=True)
class QuantizationSensitivity(Measure):
    """Every matrix left in fp32 once, the others in int8; then as many as take back what was lost.

    Divergence is from the model's own fp32 answers to the calibration sentences, for which no labels are needed; the repaired file
    is judged on the evaluation sample.
    """

    name = "doctor"
    title = "Quantisation doctor"
    summary = "Which matrices cost int8 its accuracy, which to leave in fp32, and how good the file is then"
    slow = True
    usual = False
    estimate = 60.0
    form: str = option(INT8, "The int8 file to look at", choices=(INT8, STATIC))
    sentences: int = option(
        64, "Calibration sentences on which answers are compared", low=1, high=256
    )
    repair: float = option(
        0.9, "Share of the divergence and of the changed answers to take back", low=0.1, high=1.0
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables `doctor` (a row a matrix, the most costly first) and `repair` (a row a file)."""
        report(0.0, "writing ONNX and int8")
        with tempfile.TemporaryDirectory() as folder:
            own = source(pair, as_deployed(pair.pruned), Path(folder) / "model")
            sessions = {form: FORMATS[form](own) for form in (ONNX, self.form)}
            import onnx

            fp32, int8 = (session.files[0] for session in sessions.values())
            inputs = OnnxWrapper(own.model, own.tokenizer).inputs
            some = [
                {name: batch[name] for name in inputs}
                for batch in own.calibration[: self.sentences]
            ]
            found = quantization_sensitivity.analyze(
                onnx.load(str(fp32)),
                onnx.load(str(int8)),
                some,
                kind=task_type_of(own.model),
                share=self.repair,
                report=subrange(report, 0.1, 0.9),
            )
            calibration = [quantization_sensitivity.Deviation(0.0, 0.0), found.before]
            if found.proposed:
                quantization_sensitivity.write_repaired(
                    fp32, int8, out := own.folder / "repaired.onnx", modules=found.proposed
                )
                sessions[f"{self.form} repaired"] = own.session(out)
                calibration.append(found.after)
            report(0.9, "judging the files")
            files = [
                {
                    "form": form,
                    **deployed_predictions(pair, session),
                    "bytes": session.size,
                    "own_divergence": apart.divergence,
                    "own_changed": apart.changed,
                }
                for (form, session), apart in zip(sessions.items(), calibration, strict=True)
            ]
        parts = [
            {"part": part, **apart._asdict(), "proposed": part in found.proposed}
            for part, apart in found.without.items()
        ]
        report(1.0, "int8 looked at")
        return {"doctor": pd.DataFrame(parts), "repair": pd.DataFrame(files)}
