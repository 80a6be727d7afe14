"""Recognise folders that hold something other than the weights of a transformers model, and say what to give instead.

Reads names, configurations and the names inside pickles; loads and runs nothing.
"""

from __future__ import annotations

import json
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STORED = (  # what Git LFS usually holds
    "*.safetensors",
    "*.bin",
    "*.h5",
    "*.msgpack",
    "*.pt",
    "*.ckpt",
    "tokenizer.json",
    "*.model",
    "vocab.*",
)
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
EXPORTS = {  # what lies in a folder instead of weights -> what it is
    "*.onnx": "an ONNX export",
    "onnx/*.onnx": "an ONNX export",
    "*.gguf": "a GGUF file for llama.cpp",
    "openvino*.xml": "an OpenVINO export",
    "openvino/*.xml": "an OpenVINO export",
    "tf_model.h5": "TensorFlow weights",
    "flax_model.msgpack": "Flax weights",
    "saved_model.pb": "a TensorFlow SavedModel",
    "*.ckpt": "a training framework's checkpoint",
    "*.pt": "a file of torch.save",
    "*.pth": "a file of torch.save",
}
CONVERTED = ("tf_model.h5", "flax_model.msgpack")
BEFORE = "only floating-point weights can be pruned: give the checkpoint from before quantization, and quantize the pruned model on export"
QUANTIZED_NAMES = (
    ".SCB",
    ".weight_format",
    ".qweight",
    ".quant_state",
    "_packed_params",
    ".weight_scale",
    ".zero_point",
)
CODE = (
    "transformers.",
    "torch.nn.modules",
    "__main__",
    "sentence_transformers",
    "setfit",
)  # classes that only a whole model has
QUANTIZED_CODE = (
    "_rebuild_qtensor",
    "qint8",
    "quint8",
    "ScriptObject",
    "torch.ao.nn.quantized",
    "torch.nn.quantized",
)


def reason(folder: Path, config: Mapping[str, Any]) -> str:
    """What the folder is, if it cannot be loaded, and what to give instead; "" if it may be a model."""
    if quantized := config.get("quantization_config"):
        return _of_quantization(quantized)
    stored = [file for pattern in STORED for file in sorted(folder.glob(pattern)) if file.is_file()]
    if pointers := [file.name for file in stored if _is_pointer(file)]:
        return (
            f"was cloned without its large files: {', '.join(pointers[:3])} holds only a Git LFS pointer; "
            "run `git lfs pull` in that folder"
        )
    if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return next(filter(None, map(_of_file, sorted(folder.glob("*.bin")))), "") or _of_names(
            folder
        )
    for pattern, what in EXPORTS.items():
        if files := sorted(folder.glob(pattern)):
            return _of_export(pattern, what, files[0].relative_to(folder))
    return ""


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(30).startswith(b"version https://git-lfs")


def _of_quantization(quantized: Any) -> str:
    known = quantized if isinstance(quantized, Mapping) else {}
    bits = next((n for n in (4, 8) if known.get(f"load_in_{n}bit") or known.get("bits") == n), 0)
    how = f"{f'to {bits} bits ' if bits else ''}({known.get('quant_method') or 'by its quantization_config'})"
    return f"is quantized {how}; {BEFORE}"


def _of_export(pattern: str, what: str, file: Path) -> str:
    if pattern in CONVERTED:
        flag = "from_tf" if pattern.startswith("tf") else "from_flax"
        return (
            f"holds {what} ({file}) only; convert them once with transformers 4, where that framework is installed: load the folder with "
            f"the model's class and from_pretrained(FOLDER, {flag}=True), then call save_pretrained(NEW_FOLDER)"
        )
    if pattern in ("*.ckpt", "*.pt", "*.pth"):
        return (
            f"holds {what} ({file}), not a folder of save_pretrained; in the code that made it, load the model and call "
            "model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)"
        )
    return f"holds {what} ({file}) only, which cannot be pruned; give the PyTorch checkpoint that it was exported from"


def _of_file(file: Path) -> str:
    """What a pickle holds, by the names of the classes in it."""
    names = set(_globals(file))
    if any(mark in name for name in names for mark in QUANTIZED_CODE):
        return (
            f"holds a quantized state dict ({file.name}: int8 of torch.ao.quantization); {BEFORE}"
        )
    if found := sorted(name for name in names if name.startswith(CODE)):
        return (
            f"holds a whole pickled model ({file.name}: {found[0]}), which is code and not opened; in the code that made it, call "
            "model.save_pretrained(FOLDER)"
        )
    return ""


def _of_names(folder: Path) -> str:
    """By the names of the weights in safetensors files; only their headers are read."""
    for file in sorted(folder.glob("*.safetensors")):
        header = _header(file)
        marked = [
            name
            for name in header
            if name.endswith(QUANTIZED_NAMES) or ".quant_state." in name or "_packed_params" in name
        ]
        if marked or any(
            name.endswith(".weight") and _dtype(entry) in ("I8", "U8", "I32")
            for name, entry in header.items()
        ):
            return f"holds quantized weights ({file.name}{f': {marked[0]}' if marked else ''}); {BEFORE}"
    return ""


def _dtype(entry: Any) -> str:
    return str(entry.get("dtype", "")) if isinstance(entry, Mapping) else ""


def _header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file; {} for a broken one, which is refused where it is read."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        content = opened.read(size) if size < 100_000_000 else b""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _globals(file: Path) -> Iterator[str]:
    """Names of the classes and functions that a pickle refers to; nothing of it is run."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as packed:
                contents = [
                    packed.read(name) for name in packed.namelist() if name.endswith("data.pkl")
                ]
        else:
            with file.open("rb") as opened:
                contents = [opened.read(50_000_000)]
        for content in contents:
            yield from _names_in(content)
    except (ValueError, OSError, zipfile.BadZipFile, IndexError):
        return  # a broken file is refused where it is read


def _names_in(content: bytes) -> Iterator[str]:
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)
