"""Load a checkpoint's weights into a model such that every one is accounted for.

Known prefixes are stripped, missing weights are refused by name.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ...errors import PruneError
from .. import embedding

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # DataParallel, torch.compile, Lightning
# weights that may be unused: buffers, heads of the pre-training, poolers that the head ignores
HARMLESS = re.compile(
    r"position_ids$|(^|\.)pooler\.|^cls\.|^lm_head\.|predictions\.|^mlm|^vocab_|^teacher\.|"
    r"num_batches_tracked$|rotary_emb\.inv_freq$|^loss|^criterion"
)
SHOWN = 6
Shapes = Mapping[str, Sequence[int]]
NESTED = ("state_dict", "model_state_dict")  # keys of the weights in Lightning and other scripts
HEADS = {  # part of a weight's name -> the only head with it
    "qa_outputs.": "ForQuestionAnswering",
    "classifier.out_proj.": "ForSequenceClassification",
    "pre_classifier.": "ForSequenceClassification",
}


def load(
    kind: Any,
    config: Any,
    source: str,
    checkpoint: str,
    new_head: bool,
    loading: Callable[..., Any],
) -> tuple[Any, list[str]]:
    """Return (model, notes).

    `loading` is from_pretrained with user-facing error messages.
    """
    folder, options = Path(source), dict[str, Any]()
    if folder.is_dir():
        options["use_safetensors"] = any(folder.glob("*.safetensors"))
        expected, saved = _shapes_of_config(kind, config, checkpoint), _shapes(folder)
        renamed = _rename(list(saved), expected)
        _check_shapes(
            {renamed.get(name, name): shape for name, shape in saved.items()},
            expected,
            checkpoint,
            new_head=new_head,
        )
        if renamed or _is_nested(folder):
            model = kind.from_config(config)
            renamed_tensors = {
                renamed.get(name, name): tensor for name, tensor in tensors(folder).items()
            }
            fitting = {
                name: tensor
                for name, tensor in renamed_tensors.items()
                if not _differs(name, tensor.shape, expected)
            }
            missing, unexpected = model.load_state_dict(fitting, strict=False)
            info = {"missing_keys": missing, "unexpected_keys": unexpected}
            notes = _check_coverage(info, model, checkpoint, new_head=new_head)
            return model, _rename_notes(renamed) + notes
    with silence_load_report():
        model, info = loading(
            kind,
            "weights",
            config=config,
            weights_only=True,
            ignore_mismatched_sizes=new_head,
            output_loading_info=True,
            **options,
        )
    return model, _check_coverage(info, model, checkpoint, new_head=new_head)


def _rename(names: Sequence[str], expected: Mapping[str, Any]) -> dict[str, str]:
    """Map a folder's weight names to the model's if they have other prefixes.

    They may have a wrapper's prefix or lack the base model's. Empty if transformers reads the names
    as they are, also for a base model without a head.
    """
    current = {name: _current_name(name) for name in names}
    if _covers(current.values(), expected):
        return {}
    prefix = _prefix(names)
    bases = ["", *sorted({name.split(".")[0] + "." for name in expected})]
    inner = {name: current_name.removeprefix(prefix) for name, current_name in current.items()}
    new = {
        name: next((base + stem for base in bases if base + stem in expected), stem)
        for name, stem in inner.items()
    }
    has_head = any(name in expected for name in current.values())
    return new if (prefix or has_head) and _covers(new.values(), expected) else {}


def _covers(names: Iterable[str], expected: Mapping[str, Any]) -> bool:
    return len(set(expected) & set(names)) > len(expected) / 2


def _rename_notes(renamed: Mapping[str, str]) -> list[str]:
    for old, new in renamed.items():
        if old.endswith(f".{new}"):
            return [
                f"The weight names begin with {old.removesuffix(new)!r}, as those of a wrapped "
                "model; it was stripped."
            ]
    for old, new in renamed.items():
        if old != new:
            return [f"The weight names lack the base model's prefix; {old} was read as {new}."]
    return []


def _differs(name: str, shape: Sequence[int], expected: Mapping[str, Sequence[int]]) -> bool:
    return name in expected and tuple(shape) != tuple(expected[name])


def _check_shapes(found: Shapes, expected: Shapes, checkpoint: str, new_head: bool) -> None:
    """Refuse weights whose shapes do not match config.json; `new_head` ignores the head."""
    differ = [
        name for name, shape in found.items() if _differs(_current_name(name), shape, expected)
    ]
    if new_head:
        differ = [name for name in differ if "layer" in name or "embeddings" in name]
    if not differ:
        return
    name = differ[0]
    shape, config_shape = tuple(found[name]), tuple(expected[_current_name(name)])
    more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
    remedy = "correct the sizes in config.json"
    if re.search(r"classifier|out_proj|qa_outputs", name) and shape[1:] == config_shape[1:]:
        remedy = f"give config.json {shape[0]} labels (id2label, label2id)"
    raise PruneError(
        f"{checkpoint}: {name} has the shape {shape} in the weights, but {config_shape} by its "
        f"config.json{more}; {remedy}, or copy the config.json that belongs to these weights."
    )


@contextmanager
def silence_load_report() -> Iterator[None]:
    """Suppress transformers' warnings about weights, which this module accounts for."""
    from transformers.utils import logging

    previous = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(previous)


def _current_name(name: str) -> str:
    """A weight's current name: layer norms of TensorFlow's BERT had gamma and beta."""
    name = re.sub(r"(LayerNorm|layer_norm|norm)\.gamma$", r"\1.weight", name)
    return re.sub(r"(LayerNorm|layer_norm|norm)\.beta$", r"\1.bias", name)


def check_files(folder: Path, checkpoint: str) -> None:
    """Refuse a folder with truncated safetensors files, or without a file listed in its index."""

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError as error:
            raise PruneError(
                f"{checkpoint}: {file.name} is damaged or truncated; copy it again. "
                f"({str(error)[:120]})"
            ) from None
    for index in sorted(folder.glob("*.safetensors.index.json")):
        listed = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if missing := sorted(name for name in listed if not (folder / name).is_file()):
            raise PruneError(
                f"{checkpoint}: {index.name} lists {', '.join(missing[:3])}, which is missing; "
                "copy it too."
            )


def keys(folder: Path) -> list[str]:
    """Names of a folder's weights; [] if the files are damaged or not known."""

    for index in sorted(folder.glob("*.index.json")):
        return list(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}))
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:
                return list(tensors.keys())
        except SafetensorError:
            return []  # loading reports it
    for file in sorted(folder.glob("pytorch_model*.bin")):
        return list(_inner(_load_pickle(file, "meta")))
    return []


def _load_pickle(file: Path, device: str) -> Mapping[str, Any]:
    """Load a .bin file; {} if it is damaged, which loading reports."""
    try:
        state = torch.load(file, map_location=device, weights_only=True, mmap=device == "meta")
    except (RuntimeError, EOFError, OSError, UnpicklingError):
        return {}
    return state if isinstance(state, Mapping) else {}


def _inner(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights inside the file of a training framework: {"state_dict": {...}, "epoch":
    ...}.
    """
    for key in NESTED:
        if isinstance(state.get(key), Mapping):
            return state[key]
    return state


def _is_nested(folder: Path) -> bool:
    if any(folder.glob("*.safetensors")):
        return False
    states = [_load_pickle(file, "meta") for file in sorted(folder.glob("pytorch_model*.bin"))]
    return any(isinstance(state.get(key), Mapping) for state in states for key in NESTED)


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a folder's weights by name; {} for damaged files."""

    shapes: dict[str, tuple[int, ...]] = {}
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                names = list(tensors.keys())
                shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
        except SafetensorError:
            return {}  # loading reports it
    for file in [] if files else sorted(folder.glob("pytorch_model*.bin")):
        state = _inner(_load_pickle(file, "meta"))
        shapes |= {
            name: tuple(value.shape) for name, value in state.items() if hasattr(value, "shape")
        }
    return shapes


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read a folder's weights by name; {} if there are none."""
    files = sorted(folder.glob("*.safetensors"))
    pickles = [] if files else sorted(folder.glob("pytorch_model*.bin"))
    states = [*map(load_file, files), *(_inner(_load_pickle(file, "cpu")) for file in pickles)]
    return {name: tensor for state in states for name, tensor in state.items()}


def head_of(folder: Path) -> str:
    """Suffix of the class name, such as ForQuestionAnswering, by weight names; "" if unclear."""
    names = [f".{name}" for name in keys(folder)]
    return next((HEADS[part] for part in HEADS if any(f".{part}" in name for name in names)), "")


def is_wrapped(folder: Path, config: Any) -> bool:
    """Whether transformers cannot read a folder's weights because of their names or nesting."""
    import transformers

    is_embedding = embedding.is_embedding(config)
    kind = (
        embedding.EncoderLoader if is_embedding else getattr(transformers, config.architectures[0])
    )
    expected = _model_shapes(kind, config)
    return bool(_rename(keys(folder), expected)) or _is_nested(folder)


def _shapes_of_config(kind: Any, config: Any, checkpoint: str) -> dict[str, tuple[int, ...]]:
    """`_model_shapes`; PruneError for a config with which no model can be built."""
    try:
        return _model_shapes(kind, config)
    except Exception as error:  # transformers checks few values; each model raises its own errors
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise PruneError(
            f"{checkpoint}: no model can be built with the values of its config.json ({reason}); "
            "copy the config.json that belongs to the weights."
        ) from None


def _model_shapes(kind: Any, config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's weights, without allocating them."""
    with torch.device("meta"):
        model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _prefix(names: Sequence[str]) -> str:
    """Return the prefix that wrappers put before every name, "" if there is none."""
    for prefix in PREFIXES if names else ():
        if all(name.startswith(prefix) for name in names):
            return prefix + _prefix([name.removeprefix(prefix) for name in names])
    return ""


def _check_coverage(info: Any, model: Any, checkpoint: str, new_head: bool) -> list[str]:
    """Refuse missing weights (they would be random) and unexpected ones; note the harmless ones."""
    base = model.base_model_prefix + "."
    missing = sorted(
        name
        for name in info["missing_keys"]
        if not HARMLESS.search(name)
        or ("pooler" in name and name in dict(model.named_parameters()))  # the head reads it
    )
    unexpected = sorted(name for name in info["unexpected_keys"] if not HARMLESS.search(name))
    if new_head:
        missing = [name for name in missing if name.startswith(base) and "pooler" not in name]
        unexpected = [name for name in unexpected if name.startswith(base)]
    for names, problem, consequence in (
        (missing, "lacks weights that its configuration requires", "random"),
        (unexpected, "has weights that do not exist in its configuration", "ignored"),
    ):
        if names:
            raise PruneError(
                f"{checkpoint} {problem}: {list_names(names)}. They would be {consequence}; save "
                "the whole model again with save_pretrained, or correct its config.json."
            )
    unused = sorted(name for name in info["unexpected_keys"] if name not in unexpected)
    note = f"Unused weights, which the model does not have: {list_names(unused)}."
    return [note] if unused and not new_head else []


def list_names(names: Sequence[str]) -> str:
    """List the first names and the number of others."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def non_finite(model: Any) -> list[str]:
    """Names of the model's tensors that contain NaN or infinite values."""
    tensors = {
        name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()
    }
    if not tensors:
        return []
    # one device synchronization for all
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    return [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]
