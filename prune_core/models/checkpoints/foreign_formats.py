"""Recognize folders that do not contain weights of a transformers model, and recommend what to use
instead.

Reads names, configurations and the names inside pickles; loads and runs nothing.
"""

import json
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STORED = (  # files usually stored in Git LFS
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
EXPORTS = {  # files that replace PyTorch weights -> format
    "*.onnx": "an ONNX export",
    "onnx/*.onnx": "an ONNX export",
    "*.gguf": "a GGUF file for llama.cpp",
    "openvino*.xml": "an OpenVINO export",
    "openvino/*.xml": "an OpenVINO export",
    "tf_model.h5": "TensorFlow weights",
    "flax_model.msgpack": "Flax weights",
    "saved_model.pb": "a TensorFlow SavedModel",
    "*.ckpt": "a training framework's checkpoint",
    "*.pt": "a torch.save file",
    "*.pth": "a torch.save file",
}
CONVERTED = ("tf_model.h5", "flax_model.msgpack")
BEFORE = (
    "only floating-point weights can be pruned: use the checkpoint from before quantization, "
    "and quantize the pruned model on export"
)
QUANTIZED_NAMES = (
    ".SCB",
    ".weight_format",
    ".qweight",
    ".quant_state",
    "_packed_params",
    ".weight_scale",
    ".zero_point",
)
# modules of classes that only occur in a whole pickled model
CODE = ("transformers.", "torch.nn.modules", "__main__", "sentence_transformers", "setfit")
QUANTIZED_CODE = (
    "_rebuild_qtensor",
    "qint8",
    "quint8",
    "ScriptObject",
    "torch.ao.nn.quantized",
    "torch.nn.quantized",
)


def reason(folder: Path, config: Mapping[str, Any]) -> str:
    """Explain why a folder cannot be loaded and what to use instead; "" if it may be a model.

    The text completes a sentence that begins with the folder's name.
    """
    if quantized := config.get("quantization_config"):
        return _quantization_reason(quantized)
    stored = [file for pattern in STORED for file in sorted(folder.glob(pattern)) if file.is_file()]
    if pointers := [file.name for file in stored if _is_pointer(file)]:
        return (
            f"was cloned without its large files: {', '.join(pointers[:3])} is only a Git LFS "
            "pointer; run `git lfs pull` in that folder"
        )
    if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        pickles = map(_pickle_reason, sorted(folder.glob("*.bin")))
        return next(filter(None, pickles), "") or _safetensors_reason(folder)
    for pattern, description in EXPORTS.items():
        if files := sorted(folder.glob(pattern)):
            return _export_reason(pattern, description, files[0].relative_to(folder))
    return ""


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(30).startswith(b"version https://git-lfs")


def _quantization_reason(quantized: Any) -> str:
    known = quantized if isinstance(quantized, Mapping) else {}
    bits = next((n for n in (4, 8) if known.get(f"load_in_{n}bit") or known.get("bits") == n), 0)
    precision = f"to {bits} bits " if bits else ""
    method = known.get("quant_method") or "according to its quantization_config"
    return f"is quantized {precision}({method}); {BEFORE}"


def _export_reason(pattern: str, description: str, file: Path) -> str:
    if pattern in CONVERTED:
        return (
            f"contains only {description} ({file}); convert them once with transformers 4, where "
            "that framework is installed: load the folder with the model's class and "
            f"from_pretrained(FOLDER, {'from_tf' if pattern.startswith('tf') else 'from_flax'}"
            "=True), then call save_pretrained(NEW_FOLDER)"
        )
    if pattern in ("*.ckpt", "*.pt", "*.pth"):
        return (
            f"contains {description} ({file}) and was not written by save_pretrained; in the code "
            "that wrote it, load the model and call model.save_pretrained(FOLDER) and "
            "tokenizer.save_pretrained(FOLDER)"
        )
    return (
        f"contains only {description} ({file}), which cannot be pruned; use the PyTorch checkpoint "
        "that it was exported from"
    )


def _pickle_reason(file: Path) -> str:
    """Explain why a pickle is refused, by the names of the classes in it; "" if it is not."""
    names = set(_globals(file))
    if any(mark in name for name in names for mark in QUANTIZED_CODE):
        return (
            f"contains a quantized state dict ({file.name}: torch.ao.quantization int8); {BEFORE}"
        )
    if classes := sorted(name for name in names if name.startswith(CODE)):
        return (
            f"contains a whole pickled model ({file.name}: {classes[0]}), which can run code and "
            "is "
            "never opened; in the code that wrote it, call model.save_pretrained(FOLDER)"
        )
    return ""


def _safetensors_reason(folder: Path) -> str:
    """Explain quantized safetensors files, by their headers; "" if they are not quantized."""
    for file in sorted(folder.glob("*.safetensors")):
        header = _header(file)
        quantized = [
            name
            for name in header
            if name.endswith(QUANTIZED_NAMES) or ".quant_state." in name or "_packed_params" in name
        ]
        has_integers = any(
            name.endswith(".weight")
            and isinstance(entry, Mapping)
            and entry.get("dtype") in ("I8", "U8", "I32")
            for name, entry in header.items()
        )
        if quantized or has_integers:
            example = f": {quantized[0]}" if quantized else ""
            return f"contains quantized weights ({file.name}{example}); {BEFORE}"
    return ""


def _header(file: Path) -> dict[str, Any]:
    """Header of a safetensors file; {} for a damaged one, which loading reports."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        content = stream.read(size) if size < 100_000_000 else b""
    try:
        header = json.loads(content)
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}


def _globals(file: Path) -> Iterator[str]:
    """Yield names of classes and functions that a pickle refers to, without running it."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                contents = [
                    archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")
                ]
        else:
            with file.open("rb") as stream:
                contents = [stream.read(50_000_000)]
        for content in contents:
            yield from _names_in(content)
    except (ValueError, OSError, zipfile.BadZipFile, IndexError):
        return  # loading reports a damaged file


def _names_in(content: bytes) -> Iterator[str]:
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)
