"""Peak resident memory and load time of a model, measured in a fresh process on the CPU.

`python -m prune_core.models.candidates.cold_start KIND PATH BATCH LENGTH STARTED` loads the model
with only its own runtime, runs one batch and prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import PruneError
from ...paths import ROOT
from . import kinds

TIMEOUT = 600.0  # seconds
STATUS = Path("/proc/self/status")


class ColdStart(NamedTuple):
    """Time and peak memory from the start of a process to the output of its first batch."""

    seconds: float
    bytes: float  # peak resident memory, including the interpreter and libraries


def measure(model: Any, tokenizer: Any, batch: int, length: int) -> ColdStart:
    """Load a model from its file, or from a saved copy, in a fresh process and run one batch."""
    from ..checkpoints.loading import save

    kind, path = getattr(model, "kind", kinds.CHECKPOINT), getattr(model, "path", None)
    if path is not None:
        return _start(kind, Path(path), batch, length)
    with tempfile.TemporaryDirectory() as folder:
        save(model, tokenizer, Path(folder))
        return _start(kind, Path(folder), batch, length)


def _start(kind: str, path: Path, batch: int, length: int) -> ColdStart:
    import torch

    process = subprocess.run(
        [
            sys.executable,
            "-m",
            __name__,
            kind,
            str(path),
            str(batch),
            str(length),
            str(time.time()),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise PruneError(
            f"{path} could not be started in a fresh process ({reason[:200]}); measure cost "
            "without the option fresh_process."
        )
    return ColdStart(*json.loads(process.stdout.splitlines()[-1]))


def _run_batch(kind: str, path: str, batch: int, length: int) -> None:
    if kind == kinds.ONNX:
        _run_onnx(path, batch, length)
        return
    import torch

    ids = torch.full((batch, length), 5)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        if kind == kinds.CHECKPOINT:
            from ..checkpoints.loading import load

            load(path)[0](**inputs)
            return
        from .programs import input_roles, load_program

        program = load_program(kind, Path(path))
        inputs["token_type_ids"] = torch.zeros_like(ids)
        roles = input_roles(program, Path(path))
        program.run(
            {
                name: inputs[role].numpy().astype(program.inputs[name])
                for name, role in roles.items()
            }
        )


def _run_onnx(path: str, batch: int, length: int) -> None:
    """Run a batch without importing torch, as a server of ONNX files would."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = {"tensor(int32)": np.int32, "tensor(float)": np.float32}
    inputs = {}
    for each in session.get_inputs():
        sizes = zip((batch, length), each.shape, strict=True)
        shape = [fixed if isinstance(fixed, int) else size for size, fixed in sizes]
        inputs[each.name] = np.ones(shape, types.get(each.type, np.int64))
    session.run(None, inputs)


def _peak_resident() -> float:
    """Return the peak resident memory of this process, in bytes."""
    if STATUS.is_file():
        # ru_maxrss would include the memory of the parent process
        line = next(each for each in STATUS.read_text().splitlines() if each.startswith("VmHWM"))
        return 1024.0 * int(line.split()[1])
    import resource

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    kind, path, batch, length, started = sys.argv[1:]
    _run_batch(kind, path, int(batch), int(length))
    print(json.dumps([time.time() - float(started), _peak_resident()]))
