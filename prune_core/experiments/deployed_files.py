"""A model's files in several deployment formats, as they would be shipped."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import PruneError
from ..measures.base import Pair
from ..measures.cost import as_deployed
from ..measures.deployment_formats import PYTORCH, DeploymentFormats, source, write_formats
from ..models.checkpoints import loading
from ..models.export.formats import BF16, FORMATS
from ..models.replay import task_type_of
from ..plugins import Report, closest_match, subrange
from .data_check import DataReader
from .experiment import Experiment

ALL = "all"
CHECKPOINT = "pytorch-fp32"  # subfolder


def parse_formats(text: str) -> tuple[str, ...]:
    """Parse names of formats, such as "ONNX int8, PyTorch fp32"; `all`: all that are available.

    Raise PruneError for an unknown format, or one that cannot be written on this machine.
    """
    known, unavailable = (PYTORCH, *FORMATS), DeploymentFormats.unavailable_choices()
    if text.strip().lower() == ALL:
        return tuple(name for name in known if name not in unavailable)
    by_lower = {name.lower(): name for name in known}
    names = [word.strip() for word in text.split(",") if word.strip()]
    for name in names:
        if name.lower() not in by_lower:
            raise PruneError(
                f"There is no format {name!r}.{closest_match(name, known)} "
                f"Formats: {', '.join(known)}; or all."
            )
        if reason := unavailable.get(by_lower[name.lower()]):
            raise PruneError(reason)
    if not names:
        raise PruneError(f"No format is named; choose among {', '.join(known)}, or all.")
    return tuple(dict.fromkeys(by_lower[name.lower()] for name in names))


def write_files(
    checkpoint: str, experiment: Experiment, names: Sequence[str], folder: Path, report: Report
) -> dict[str, Path | PruneError]:
    """Write a checkpoint in the formats that the folder lacks.

    Return the path of each format, or why it cannot be written. Dead heads and neurons are removed.
    A path is what `CandidateModel` takes: the folder of a checkpoint, or a model file next to its
    tokenizer. `experiment` decides on which examples static formats are calibrated and outputs are
    compared.
    """
    written: dict[str, Path | PruneError] = {name: _place(folder, name) for name in names}
    missing = [name for name in names if not _place(folder, name).exists()]
    if not missing:
        return written
    model, tokenizer = loading.load(checkpoint, pooling=experiment.pooling)
    model = as_deployed(model)
    if not (folder / CHECKPOINT).is_dir():
        part = _new_folder(folder)
        loading.save(model, tokenizer, part)
        part.rename(folder / CHECKPOINT)
    missing = [name for name in missing if name != PYTORCH]
    if not missing:
        return written
    pair, scratch = _pair(model, tokenizer, experiment), _new_folder(folder)
    try:
        shared = source(pair, model, scratch)
        for place, name in enumerate(missing):
            progress = subrange(report, place / len(missing), (place + 1) / len(missing))
            try:
                ((_, exported),) = write_formats(shared, [name], pair, progress)
                _copy(exported.files, scratch, name, _place(folder, name))
            except PruneError as error:
                written[name] = error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return written


def _pair(model: Any, tokenizer: Any, experiment: Experiment) -> Pair:
    """Return the model as both models of a pair, with the data of an experiment."""
    labels, kind = loading.label_names(model.config), task_type_of(model).name
    return Pair(
        model,
        model,
        tokenizer,
        DataReader(experiment, labels, kind, tokenizer=tokenizer)(),
        seed=experiment.seed,
        batch_size=experiment.batch_size,
        max_length=experiment.max_length,
    )


def ship(path: Path, out: Path) -> None:
    """Copy a format of `write_files` to a new folder, with tokenizer and configuration."""
    shutil.copytree(path if path.is_dir() else path.parent, out)


def _place(folder: Path, name: str) -> Path:
    """Return the path of a format: a folder for PyTorch, else the file that a runtime opens."""
    if name == PYTORCH:
        return folder / CHECKPOINT
    place = folder / re.sub(r"\W+", "-", name.lower())
    if name == BF16:
        return place
    return place / ("model.xml" if name.startswith("OpenVINO") else "model.onnx")


def _new_folder(folder: Path) -> Path:
    """Return the path of a folder that does not exist yet; its parent exists."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"new-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)  # of an interrupted run with the same process ID
    return path


def _copy(files: Sequence[Path], scratch: Path, name: str, place: Path) -> None:
    """Put the files of a format in their place, a model file with configuration and tokenizer."""
    if name == BF16:
        files[0].parent.rename(place)
        return
    part = scratch / f"{place.parent.name}-part"
    part.mkdir()
    for file in files:  # copies: other formats are written from the file of ONNX fp32
        shutil.copy2(file, part / f"{place.stem}{file.suffix}")
    for file in (place.parent.parent / CHECKPOINT).iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copy2(file, part)
    part.rename(place.parent)
