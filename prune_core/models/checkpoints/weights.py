"""A checkpoint's weights into a model, every one accounted for: known prefixes are stripped, what is missing is refused by name.

Knows nothing of families; which class and configuration is its caller's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ...errors import PruneError

PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
)  # of DataParallel, torch.compile and Lightning
HARMLESS = re.compile(  # what a checkpoint may have besides: buffers, heads of the pre-training, a pooler that the head does not read
    r"position_ids$|(^|\.)pooler\.|^cls\.|^lm_head\.|predictions\.|^mlm|^vocab_|^teacher\.|num_batches_tracked$|rotary_emb\.inv_freq$|^loss|"
    r"^criterion"
)
SHOWN = 6
Shapes = Mapping[str, Sequence[int]]
NESTED = ("state_dict", "model_state_dict")  # where Lightning and training scripts put the weights
HEADS = {  # part of a weight's name -> the head that alone has it
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
    """(model, what there is to say); `loading` is from_pretrained with sentences for errors."""
    folder, notes, options = Path(source), list[str](), dict[str, Any]()
    if folder.is_dir():
        options["use_safetensors"] = any(folder.glob("*.safetensors"))
        expected, found = _of_config(kind, config, checkpoint), _shapes(folder)
        renamed = _renamed(list(found), expected)
        shapes = {renamed.get(name, name): shape for name, shape in found.items()}
        _check_shapes(shapes, expected, checkpoint, new_head=new_head)
        if renamed or _is_nested(folder):
            held = {renamed.get(name, name): tensor for name, tensor in _tensors(folder).items()}
            model = kind.from_config(config)
            fitting = {
                name: each
                for name, each in held.items()
                if not _differs(name, each.shape, expected)
            }
            left = model.load_state_dict(fitting, strict=False)
            notes += _notes_of_names(renamed)
            return model, notes + _check_coverage(
                {"missing_keys": left[0], "unexpected_keys": left[1]},
                model,
                checkpoint,
                new_head=new_head,
            )
    with silence_load_report():
        model, said = loading(
            kind,
            "weights",
            config=config,
            weights_only=True,
            ignore_mismatched_sizes=new_head,
            output_loading_info=True,
            **options,
        )
    return model, notes + _check_coverage(said, model, checkpoint, new_head=new_head)


def _renamed(names: Sequence[str], expected: Mapping[str, Any]) -> dict[str, str]:
    """The model's names of a folder's weights that have a wrapper's prefix or lack the base model's.

    Empty where transformers reads the names as they are: also a base model without a head.
    """
    current = {name: _current(name) for name in names}
    if _covers(current.values(), expected):
        return {}
    prefix = _prefix(names)
    bases = ["", *sorted({name.split(".")[0] + "." for name in expected})]
    new = {}
    for name, own in current.items():
        inner = own.removeprefix(prefix)
        new[name] = next((base + inner for base in bases if base + inner in expected), inner)
    has_head = any(name in expected for name in current.values())
    return new if (prefix or has_head) and _covers(new.values(), expected) else {}


def _covers(names: Iterable[str], expected: Mapping[str, Any]) -> bool:
    return len(set(expected) & set(names)) > len(expected) / 2


def _notes_of_names(renamed: Mapping[str, str]) -> list[str]:
    for old, new in renamed.items():
        if old.endswith(f".{new}"):
            prefix = old.removesuffix(new)
            return [
                f"The weights' names begin with {prefix!r}, as a wrapped model's do; it was stripped."
            ]
    for old, new in renamed.items():
        if old != new:
            return [f"The weights' names lack the base model's prefix; {old} was read as {new}."]
    return []


def _differs(name: str, shape: Sequence[int], expected: Mapping[str, Sequence[int]]) -> bool:
    return name in expected and tuple(shape) != tuple(expected[name])


def _check_shapes(found: Shapes, expected: Shapes, checkpoint: str, new_head: bool) -> None:
    """Refuse weights of another shape than by config.json; for `new_head` the head's are replaced."""
    odd = [name for name, shape in found.items() if _differs(_current(name), shape, expected)]
    if new_head:
        odd = [name for name in odd if "layer" in name or "embeddings" in name]
    if not odd:
        return
    held, asked = tuple(found[odd[0]]), tuple(expected[_current(odd[0])])
    more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
    is_head = re.search(r"classifier|out_proj|qa_outputs", odd[0])
    if is_head and held[1:] == asked[1:]:
        way = f"give config.json {held[0]} labels (id2label, label2id)"
    else:
        way = "correct the sizes in config.json"
    raise PruneError(
        f"{checkpoint}: {odd[0]} has the shape {held} in the weights, but {asked} by its "
        f"config.json{more}; {way}, or copy the config.json that belongs to these weights."
    )


@contextmanager
def silence_load_report() -> Iterator[None]:
    """Without transformers' warnings about weights, which are accounted for here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _current(name: str) -> str:
    """A weight's name as it is today: layer norms of TensorFlow's BERT had gamma and beta."""
    return re.sub(
        r"(LayerNorm|layer_norm|norm)\.(gamma|beta)$",
        lambda m: f"{m[1]}.{'weight' if m[2] == 'gamma' else 'bias'}",
        name,
    )


def check_files(folder: Path, checkpoint: str) -> None:
    """Refuse a folder whose safetensors files are cut short, or in which one that its index names is not there."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError as error:
            raise PruneError(
                f"{checkpoint}: {file.name} is broken or cut short; copy it again. ({str(error)[:120]})"
            ) from None
    for index in sorted(folder.glob("*.safetensors.index.json")):
        named = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if gone := sorted(name for name in named if not (folder / name).is_file()):
            raise PruneError(
                f"{checkpoint}: {index.name} names {', '.join(gone[:3])}, which is not there; copy it too."
            )


def keys(folder: Path) -> list[str]:
    """Names of a folder's weights; none where they are in a file that has to be read whole."""
    from safetensors import SafetensorError, safe_open

    for index in sorted(folder.glob("*.index.json")):
        return list(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}))
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                return list(opened.keys())
        except SafetensorError:
            return []  # whoever loads it says so
    for file in sorted(folder.glob("pytorch_model*.bin")):
        return list(_inner(_pickled(file, "meta")))
    return []


def _pickled(file: Path, device: str) -> Mapping[str, Any]:
    """What a .bin file holds; {} for a broken one, which whoever loads it says."""
    try:
        found = torch.load(file, map_location=device, weights_only=True, mmap=device == "meta")
    except (RuntimeError, EOFError, OSError, UnpicklingError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _inner(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights in what a training framework saved: {"state_dict": {...}, "epoch": ...}."""
    for key in NESTED:
        if isinstance(state.get(key), Mapping):
            return state[key]
    return state


def _is_nested(folder: Path) -> bool:
    if any(folder.glob("*.safetensors")):
        return False
    states = [_pickled(file, "meta") for file in sorted(folder.glob("pytorch_model*.bin"))]
    return any(isinstance(state.get(key), Mapping) for state in states for key in NESTED)


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a folder's weights by name; {} for broken files."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[int, ...]] = {}
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                names = list(opened.keys())
                found |= {name: tuple(opened.get_slice(name).get_shape()) for name in names}
        except SafetensorError:
            return {}  # whoever loads it says so
    for file in [] if files else sorted(folder.glob("pytorch_model*.bin")):
        state = _inner(_pickled(file, "meta"))
        found |= {name: tuple(each.shape) for name, each in state.items() if hasattr(each, "shape")}
    return found


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin")):
        found |= load_file(file) if file.suffix == ".safetensors" else _inner(_pickled(file, "cpu"))
    return found


def head_of(folder: Path) -> str:
    """The end of the class name, such as ForQuestionAnswering, by the weights' names; "" if unclear."""
    names = [f".{name}" for name in keys(folder)]
    return next((HEADS[part] for part in HEADS if any(f".{part}" in name for name in names)), "")


def is_wrapped(folder: Path, config: Any) -> bool:
    """Whether transformers itself cannot read a folder's weights, by their names or their nesting."""
    import transformers

    expected = _expected(getattr(transformers, config.architectures[0]), config)
    return bool(_renamed(keys(folder), expected)) or _is_nested(folder)


def _of_config(kind: Any, config: Any, checkpoint: str) -> dict[str, tuple[int, ...]]:
    """`_expected`; PruneError for sizes of which no model can be built."""
    try:
        return _expected(kind, config)
    except Exception as error:  # transformers checks few of them, and each model raises its own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise PruneError(
            f"{checkpoint}: no model can be built with the values of its config.json ({reason}); "
            "copy the config.json that belongs to the weights."
        ) from None


def _expected(kind: Any, config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's weights, without making any."""
    with torch.device("meta"):
        model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _prefix(names: Sequence[str]) -> str:
    """What a wrapper may have put before every name, "" for nothing."""
    prefix = ""
    while step := next(
        (
            each
            for each in PREFIXES
            if names and all(name.startswith(prefix + each) for name in names)
        ),
        "",
    ):
        prefix += step
    return prefix


def _check_coverage(said: Any, model: Any, checkpoint: str, new_head: bool) -> list[str]:
    """Refuse weights that would be random, and those that have no place; list the harmless ones."""
    base = model.base_model_prefix + "."
    missing = sorted(
        name for name in said["missing_keys"] if not HARMLESS.search(name) or _read(name, model)
    )
    other = sorted(name for name in said["unexpected_keys"] if not HARMLESS.search(name))
    if new_head:
        missing = [name for name in missing if name.startswith(base) and "pooler" not in name]
        other = [name for name in other if name.startswith(base)]
    for names, what in (
        (missing, "lacks weights that its configuration asks for"),
        (other, "has weights that its configuration has no place for"),
    ):
        if names:
            raise PruneError(
                f"{checkpoint} {what}: {list_names(names)}. They would be {'random' if names is missing else 'left out'}; "
                "save the whole model again with save_pretrained, or mend its config.json."
            )
    unused = sorted(name for name in said["unexpected_keys"] if name not in other)
    return (
        [f"Not used, as the model has no place for them: {list_names(unused)}."]
        if unused and not new_head
        else []
    )


def _read(name: str, model: Any) -> bool:
    """Whether the model has that weight and its head may read it: a pooler that is there is read."""
    return "pooler" in name and name in dict(model.named_parameters())


def list_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (
        f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    )


def non_finite(model: Any) -> list[str]:
    """Names of the model's tensors that hold NaN or infinite values."""
    held = {
        name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()
    }
    fine = (
        torch.stack([torch.isfinite(tensor).all() for tensor in held.values()]).tolist()
        if held
        else []
    )  # one look at the device
    return [name for name, good in zip(held, fine, strict=True) if not good]
