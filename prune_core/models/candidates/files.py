"""What kind of model a path contains, and which files belong to it. Imports nothing heavy."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

from ...data import tables
from ...errors import PruneError
from ...paths import resolve_allowed
from .kinds import CHECKPOINT, EXPORTED, ONNX, OPENVINO, TABLE, TORCHSCRIPT

SUFFIXES = {".onnx": ONNX, ".xml": OPENVINO, ".pt2": EXPORTED}
ARCHIVES = (".pt", ".pth", ".ts", ".jit", ".torchscript", ".zip")  # of torch, told by the content
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_config.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")


class CandidateFile(NamedTuple):
    """A candidate on disk; a checkpoint may also be a Hub id."""

    kind: str
    path: Path


def locate(path: str) -> CandidateFile:
    """Return the kind of a candidate, and its file or folder.

    A folder with exactly one model file and no PyTorch weights stands for that file. PruneError if
    nothing that can be run is there.
    """
    location = resolve_allowed(path)
    if location.is_dir():
        return _locate_in_folder(location, path)
    if not location.exists():
        if tables.is_path(path):
            raise PruneError(f"{path}: there is no such file or folder; check the path.")
        return CandidateFile(CHECKPOINT, Path(path))  # the name of a bundled model or a Hub id
    suffix = location.suffix.lower()
    if kind := SUFFIXES.get(suffix):
        return CandidateFile(kind, location)
    if suffix in ARCHIVES and (kind := _archive_kind(location)):
        return CandidateFile(kind, location)
    if tables.suffix(path) in tables.SUFFIXES:
        return CandidateFile(TABLE, location)
    raise PruneError(
        f"{path} is not a model that can be run: give a checkpoint folder, an .onnx file, the .xml "
        "file of an OpenVINO model, a TorchScript or torch.export file, or a table of predictions "
        f"({', '.join(tables.SUFFIXES[:8])})."
    )


def _locate_in_folder(folder: Path, path: str) -> CandidateFile:
    if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return CandidateFile(CHECKPOINT, folder)
    found = [
        file
        for pattern in ("*.onnx", "onnx/*.onnx", "*.xml", "openvino/*.xml")
        for file in sorted(folder.glob(pattern))
    ]
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in found[:8])
        raise PruneError(f"{path} contains {len(found)} models ({names}); choose one of them.")
    if found:
        return CandidateFile(SUFFIXES[found[0].suffix], found[0])
    return CandidateFile(CHECKPOINT, folder)


def _archive_kind(file: Path) -> str:
    """Return the kind of a zip archive of torch, "" if it is another file."""
    if not zipfile.is_zipfile(file):
        return ""
    with zipfile.ZipFile(file) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:  # beside the code of the modules
        return TORCHSCRIPT
    return EXPORTED if "archive_format" in names else ""


def content_files(path: str) -> list[Path]:
    """Return the files of a model file with their companions: external weights, OpenVINO's .bin.

    Empty for a checkpoint, whose folder has its own rules.
    """
    kind, file = locate(path)
    if kind == CHECKPOINT:
        return []
    companions = {*file.parent.glob(f"{_literal(file.stem)}.bin")} if kind == OPENVINO else set()
    if kind == ONNX:
        companions = {
            *file.parent.glob(f"{_literal(file.name)}[_.]*"),
            *file.parent.glob(f"{_literal(file.stem)}.*data"),
        }
    return sorted(each for each in {file, *companions} if each.is_file())


def _literal(name: str) -> str:
    """Escape a name for `glob`."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def tokenizer_folder(path: str, given: str) -> Path:
    """Return the folder of a file's tokenizer: the given one, that of the file, or the one above.

    The last is the layout of folders with a subfolder `onnx`. PruneError if there is none.
    """
    if given:
        folder = resolve_allowed(given)
        if not folder.is_dir() or not has_tokenizer(folder):
            raise PruneError(
                f"{given} is not a folder with a tokenizer; give one with tokenizer.json, as "
                "tokenizer.save_pretrained writes it."
            )
        return folder
    file = locate(path).path
    for folder in (file.parent, file.parent.parent):
        if has_tokenizer(folder):
            return folder
    raise PruneError(
        f"{path}: there is no tokenizer next to it (tokenizer.json); give the folder of its "
        "tokenizer with --tokenizer."
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder contains a tokenizer."""
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER)
