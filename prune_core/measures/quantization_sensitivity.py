"""Quantization sensitivity of each weight matrix, and an int8 file with the most sensitive ones in
fp32.
"""

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
from .cost import as_deployed
from .deployment_formats import deployed_quality, source


@dataclass(frozen=True)
class QuantizationSensitivity(Measure):
    """Leave each matrix in fp32 once, with the others in int8; then keep as many in fp32 as needed.

    Matrices are chosen on calibration examples by the divergence from the fp32 outputs, without
    labels; the repaired file is evaluated on the evaluation sample.
    """

    name = "quantization"
    title = "Quantization sensitivity"
    summary = "Which weight matrices lose accuracy in int8, which to leave in fp32, and the result"
    version = 2
    slow = True
    is_default = False
    estimate = 60.0
    format: str = option(INT8, "int8 format to analyze", choices=(INT8, STATIC))
    examples: int = option(
        64, "Calibration examples on which outputs are compared", low=1, high=256
    )
    repair: float = option(
        0.9,
        "Fraction of the divergence and of the changed predictions to recover",
        low=0.1,
        high=1.0,
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `quantization` (one row per matrix, most sensitive first) and `repair` (one
        row per file).
        """
        report(0.0, "writing ONNX and int8")
        with tempfile.TemporaryDirectory() as folder:
            exported = source(pair, as_deployed(pair.pruned), Path(folder) / "model")
            sessions = {
                format_name: FORMATS[format_name](exported) for format_name in (ONNX, self.format)
            }
            import onnx

            fp32, int8 = (session.files[0] for session in sessions.values())
            inputs = OnnxWrapper(exported.model, exported.tokenizer).inputs
            calibration = [
                {name: batch[name] for name in inputs}
                for batch in exported.calibration[: self.examples]
            ]
            diagnosis = quantization_sensitivity.analyze(
                onnx.load(str(fp32)),
                onnx.load(str(int8)),
                calibration,
                task_type=task_type_of(exported.model),
                share=self.repair,
                report=subrange(report, 0.1, 0.9),
            )
            deviations = [quantization_sensitivity.Deviation(0.0, 0.0), diagnosis.before]
            if diagnosis.proposed:
                quantization_sensitivity.write_repaired(
                    fp32, int8, out := exported.folder / "repaired.onnx", modules=diagnosis.proposed
                )
                sessions[f"{self.format} repaired"] = exported.session(out)
                deviations.append(diagnosis.after)
            report(0.9, "evaluating the files")
            files = [
                {
                    "format": format_name,
                    **deployed_quality(pair, session),
                    "bytes": session.size,
                    "own_divergence": deviation.divergence,
                    "own_changed": deviation.changed,
                }
                for (format_name, session), deviation in zip(
                    sessions.items(), deviations, strict=True
                )
            ]
        matrices = [
            {"module": name, **deviation._asdict(), "proposed": name in diagnosis.proposed}
            for name, deviation in diagnosis.without.items()
        ]
        report(1.0, "quantization sensitivity measured")
        return {"quantization": pd.DataFrame(matrices), "repair": pd.DataFrame(files)}
