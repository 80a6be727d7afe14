"""Model files as functions of arrays: ONNX, OpenVINO, TorchScript and torch.export, on the CPU."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import torch
from torch.utils._pytree import tree_unflatten

from ...errors import PruneError, require
from ..export import formats
from ..export.onnx import INPUTS
from . import kinds
from .facts import Fact

# names that exporters make up
GENERATED = re.compile(r"(input|inputs|tensors?|args?|x|onnx::\w+)[._]?\d*")
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Program:
    """A loaded model file."""

    run: Callable[[Arrays], dict[str, np.ndarray]]  # arrays by the names in `inputs`
    inputs: Mapping[str, Any]  # name -> data type of NumPy
    # (examples, tokens) of the inputs; None where the file takes any number
    shape: tuple[int | None, int | None] = (None, None)
    weights: Counter[str] = field(default_factory=Counter)  # values by data type
    facts: Sequence[Fact] = ()


def load_program(kind: str, file: Path) -> Program:
    """Load a model file; PruneError if its runtime is missing or it is damaged."""
    try:
        return LOADERS[kind](file)
    except PruneError:
        raise
    except Exception as error:  # every runtime has its own exceptions for a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PruneError(
            f"{file} cannot be loaded as {kinds.TITLES[kind]} ({reason}); export it again."
        ) from None


def _load_onnx(file: Path) -> Program:
    require("onnxruntime", "onnx")
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        # integers of 32 and 64 bits are shapes and indices
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        if name not in ("INT64", "INT32", "BOOL"):
            weights[name] += int(np.prod(tensor.dims, dtype=np.int64))
    opsets = {each.domain or "ai.onnx": each.version for each in model.opset_import}
    session = formats.onnx_session(file)
    types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
    inputs = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return Program(
        lambda arrays: dict(zip(names, session.run(None, dict(arrays)), strict=True)),
        {each.name: types.get(each.type, np.int64) for each in inputs},
        _shape([each.shape for each in inputs]),
        weights,
        facts=[
            Fact("opset", ", ".join(f"{name} {version}" for name, version in opsets.items())),
            *_producer(f"{model.producer_name} {model.producer_version}"),
        ],
    )


def _load_openvino(file: Path) -> Program:
    runtime = formats.openvino_runtime()
    model = runtime.Core().read_model(file)
    weights: Counter[str] = Counter()
    for operation in model.get_ops():
        if operation.get_type_name() != "Constant":
            continue
        kind = operation.get_element_type().get_type_name()
        if kind not in ("i64", "i32", "boolean"):
            weights[kind] += int(np.prod(list(operation.get_output_shape(0)), dtype=np.int64))
    run = formats.openvino_function(model)
    names = [
        sorted(port.get_names())[0] if port.get_names() else f"output_{place}"
        for place, port in enumerate(model.outputs)
    ]
    shapes = [
        [each.get_length() if each.is_static else None for each in port.get_partial_shape()]
        for port in model.inputs
    ]
    version = re.search(r'<net[^>]*version="(\d+)"', file.read_text(errors="replace")[:4000])
    return Program(
        lambda arrays: dict(zip(names, run(arrays), strict=True)),
        {port.get_any_name(): port.get_element_type().to_dtype().type for port in model.inputs},
        _shape(shapes),
        weights,
        facts=[Fact("IR version", version[1])] if version else [],
    )


def _load_torchscript(file: Path) -> Program:
    module = torch.jit.load(str(file), map_location="cpu").eval()
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    return _torch_program(module, names, module.state_dict().values())


def _load_exported(file: Path) -> Program:
    with zipfile.ZipFile(file) as archive:
        if any("aotinductor" in name for name in archive.namelist()):
            raise PruneError(
                f"{file} contains compiled code (AOTInductor), which is never run; give the file "
                "that torch.export.save wrote."
            )
    with _pickles_as_data():
        program = torch.export.load(str(file))
    names = list(program.graph_signature.user_inputs)
    values = {
        node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"
    }
    shapes = [
        [size if isinstance(size, int) else None for size in values[name].shape] for name in names
    ]
    module, in_spec = program.module(), program.call_spec.in_spec

    def call(*tensors: torch.Tensor) -> Any:
        arguments, keywords = tree_unflatten(list(tensors), in_spec)
        return module(*arguments, **keywords)

    exported = _torch_program(call, names, program.state_dict.values())
    return replace(exported, shape=_shape(shapes))


@contextmanager
def _pickles_as_data() -> Iterator[None]:
    """Read pickles inside an archive as tensors only: torch.export.load would run code in them."""
    from torch.export.pt2_archive import _package

    load, pickle = torch.load, getattr(_package, "pickle", None)

    def load_data(*arguments: Any, **options: Any) -> Any:
        return load(*arguments, **{**options, "weights_only": True})

    def refuse(_: bytes) -> NoReturn:
        raise PruneError(
            "The torch.export file contains pickled objects, which can run code and are never "
            "opened; export the model without custom objects."
        )

    torch.load, _package.pickle = load_data, SimpleNamespace(loads=refuse)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load, _package.pickle = load, pickle  # type: ignore[assignment]


def _torch_program(module: Any, names: Sequence[str], tensors: Any) -> Program:
    weights: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dtype not in (torch.int64, torch.int32, torch.bool):
            weights[str(tensor.dtype)] += tensor.numel()

    @torch.no_grad()
    def run(arrays: Arrays) -> dict[str, np.ndarray]:
        outputs = module(*(torch.from_numpy(arrays[name]) for name in names if name in arrays))
        if isinstance(outputs, torch.Tensor):
            outputs = {"output": outputs}
        elif not isinstance(outputs, Mapping):
            outputs = {f"output_{place}": each for place, each in enumerate(outputs)}
        return {name: each.float().numpy() for name, each in outputs.items()}

    return Program(run, dict.fromkeys(names, np.int64), weights=weights)


def _shape(shapes: Sequence[Sequence[Any]]) -> tuple[int | None, int | None]:
    """Return the fixed (examples, tokens) of the inputs; None for what is not fixed."""
    for shape in shapes:
        if len(shape) == 2:
            sizes = [size if isinstance(size, int) and size > 0 else None for size in shape]
            return sizes[0], sizes[1]
    return None, None


def _producer(name: str) -> list[Fact]:
    return [Fact("written by", name.strip())] if name.strip() else []


LOADERS: dict[str, Callable[[Path], Program]] = {
    kinds.ONNX: _load_onnx,
    kinds.OPENVINO: _load_openvino,
    kinds.TORCHSCRIPT: _load_torchscript,
    kinds.EXPORTED: _load_exported,
}


def input_roles(program: Program, path: Path) -> dict[str, str]:
    """Return the tokenizer's output that each input takes: input_ids, attention_mask, ….

    Inputs whose name was generated, such as `input.1`, are taken to be the remaining ones in the
    order of INPUTS. PruneError for an input that a tokenizer does not provide.
    """
    others = [name for name in program.inputs if name not in INPUTS]
    remaining = [role for role in INPUTS if role not in program.inputs]
    unknown = next((name for name in others if not GENERATED.fullmatch(name)), "")
    if not unknown and len(others) <= len(remaining):
        roles = dict(zip(others, remaining, strict=False))
        return {name: roles.get(name, name) for name in program.inputs}
    unknown = unknown or others[0]
    raise PruneError(
        f"{path} needs the input {unknown!r}, which a tokenizer does not provide; export it with "
        f"the inputs {', '.join(INPUTS)}."
    )
