"""Kind of the model at a path, and the files that belong to it. No heavy imports."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

from ...data import tables
from ...errors import PruneError
from ...paths import resolve_allowed
from .kinds import CHECKPOINT, EXPORTED, ONNX, OPENVINO, TABLE, TORCHSCRIPT

SUFFIXES = {".onnx": ONNX, ".xml": OPENVINO, ".pt2": EXPORTED}
# torch archives; their kind depends on the content
ARCHIVES = (".pt", ".pth", ".ts", ".jit", ".torchscript", ".zip")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_config.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")


class CandidateFile(NamedTuple):
    """A candidate on disk; a checkpoint may also be a Hub id."""

    kind: str
    path: Path


def locate(path: str) -> CandidateFile:
    """Return the kind of a candidate, and its file or folder.

    A folder with exactly one model file and no PyTorch weights stands for that file. Raise
    PruneError if the path contains no model that can be run.
    """
    location = resolve_allowed(path)
    if location.is_dir():
        return _locate_in_folder(location, path)
    if not location.exists():
        if tables.is_path(path):
            raise PruneError(f"{path}: no such file or folder; check the path.")
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
    """Return the kind of a torch zip archive; "" for other files."""
    if not zipfile.is_zipfile(file):
        return ""
    with zipfile.ZipFile(file) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:  # next to the code of the modules
        return TORCHSCRIPT
    return EXPORTED if "archive_format" in names else ""


def content_files(path: str) -> list[Path]:
    """Return a model file and its companions: external weights, or the .bin file of OpenVINO.

    Return [] for a checkpoint.
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
    """Return the folder of a file's tokenizer: the given folder, the file's folder or its parent.

    The parent has the tokenizer if models are in a subfolder `onnx`. Raise PruneError if there is
    no tokenizer.
    """
    if given:
        folder = resolve_allowed(given)
        if not folder.is_dir() or not has_tokenizer(folder):
            raise PruneError(
                f"{given} contains no tokenizer; give a folder with tokenizer.json, as written by "
                "tokenizer.save_pretrained."
            )
        return folder
    file = locate(path).path
    for folder in (file.parent, file.parent.parent):
        if has_tokenizer(folder):
            return folder
    raise PruneError(
        f"{path}: no tokenizer (tokenizer.json) is next to the file; give the folder of its "
        "tokenizer with --tokenizer."
    )


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder contains a tokenizer."""
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER)
