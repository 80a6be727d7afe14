"""A checkpoint's weights into a model, every one accounted for: known prefixes are stripped, what is missing is refused by name.

Knows nothing of families; which class and configuration is its caller's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..errors import PruneError

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # of DataParallel, torch.compile and Lightning
HARMLESS = re.compile(  # what a checkpoint may have besides: buffers, heads of the pre-training, a pooler that the head does not read
    r"position_ids$|(^|\.)pooler\.|^cls\.|^lm_head\.|predictions\.|^mlm|^vocab_|^teacher\.|num_batches_tracked$|rotary_emb\.inv_freq$|^loss|"
    r"^criterion"
)
SHOWN = 6


def load(kind: Any, config: Any, source: str, checkpoint: str, new_head: bool, loading: Callable[..., Any]) -> tuple[Any, list[str]]:
    """(model, what there is to say); `loading` is from_pretrained with sentences for errors."""
    folder, notes, options = Path(source), [], dict[str, Any]()
    if folder.is_dir():
        options["use_safetensors"] = any(folder.glob("*.safetensors"))
        names = keys(folder)
        if (prefix := _prefix(names)) and _is_wrapped(names, prefix, _expected(kind, config)):
            renamed = {_current(name.removeprefix(prefix)): tensor for name, tensor in _tensors(folder).items()}
            notes.append(f"The weights' names begin with {prefix!r}, as a wrapped model's do; it was stripped.")
            model = kind.from_config(config)
            left = model.load_state_dict(renamed, strict=False)
            return model, notes + _accounted({"missing_keys": left[0], "unexpected_keys": left[1]}, model, checkpoint, new_head)
    with silenced():
        model, said = loading(
            kind, "weights", config=config, weights_only=True, ignore_mismatched_sizes=new_head, output_loading_info=True, **options
        )
    return model, notes + _accounted(said, model, checkpoint, new_head)


@contextmanager
def silenced() -> Iterator[None]:
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
    return re.sub(r"(LayerNorm|layer_norm|norm)\.(gamma|beta)$", lambda m: f"{m[1]}.{'weight' if m[2] == 'gamma' else 'bias'}", name)


def check_files(folder: Path, checkpoint: str) -> None:
    """Refuse a folder whose safetensors files are cut short, or in which one that its index names is not there."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError as error:
            raise PruneError(f"{checkpoint}: {file.name} is broken or cut short; copy it again. ({str(error)[:120]})") from None
    for index in sorted(folder.glob("*.safetensors.index.json")):
        named = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if gone := sorted(name for name in named if not (folder / name).is_file()):
            raise PruneError(f"{checkpoint}: {index.name} names {', '.join(gone[:3])}, which is not there; copy it too.")


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
        try:
            return list(torch.load(file, map_location="meta", weights_only=True, mmap=True))
        except (RuntimeError, EOFError, OSError, UnpicklingError):
            return []  # whoever loads it says so
    return []


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin")):
        found |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    return found


def is_wrapped(folder: Path, config: Any) -> bool:
    """Whether a wrapper put its prefix before the names of a folder's weights."""
    import transformers

    names = keys(folder)
    prefix = _prefix(names)
    return bool(prefix) and _is_wrapped(names, prefix, _expected(getattr(transformers, config.architectures[0]), config))


def _expected(kind: Any, config: Any) -> set[str]:
    """Names of the model's weights, without making any."""
    with torch.device("meta"):
        return set((kind.from_config(config) if hasattr(kind, "from_config") else kind(config)).state_dict())


def _prefix(names: Sequence[str]) -> str:
    """What a wrapper may have put before every name, "" for nothing."""
    prefix = ""
    while step := next((each for each in PREFIXES if names and all(name.startswith(prefix + each) for name in names)), ""):
        prefix += step
    return prefix


def _is_wrapped(names: Sequence[str], prefix: str, expected: set[str]) -> bool:
    """Whether the model knows the names without the prefix, and not with it, as a family's own may begin so."""
    known = lambda found: len(expected & {_current(name) for name in found}) > len(expected) / 2  # noqa: E731
    return known({name.removeprefix(prefix) for name in names}) and not known(set(names))


def _accounted(said: Any, model: Any, checkpoint: str, new_head: bool) -> list[str]:
    """Refuse weights that would be random, and those that have no place; list the harmless ones."""
    base = model.base_model_prefix + "."
    missing = sorted(name for name in said["missing_keys"] if not HARMLESS.search(name) or _read(name, model))
    other = sorted(name for name in said["unexpected_keys"] if not HARMLESS.search(name))
    if new_head:
        missing = [name for name in missing if name.startswith(base) and "pooler" not in name]
        other = [name for name in other if name.startswith(base)]
    for names, what in (
        (missing, "lacks weights that its configuration asks for"),
        (other, "has weights that its configuration has no place for"),
    ):
        if names:
            raise PruneError(f"{checkpoint} {what}: {listed(names)}. They would be {'random' if names is missing else 'left out'}; "
                             "save the whole model again with save_pretrained, or mend its config.json.")  # fmt: skip
    unused = sorted(name for name in said["unexpected_keys"] if name not in other)
    return [f"Not used, as the model has no place for them: {listed(unused)}."] if unused and not new_head else []


def _read(name: str, model: Any) -> bool:
    """Whether the model has that weight and its head may read it: a pooler that is there is read."""
    return "pooler" in name and name in dict(model.named_parameters())


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def not_numbers(model: Any) -> list[str]:
    """Names of the model's tensors that hold NaN or infinite values."""
    held = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    fine = torch.stack([torch.isfinite(tensor).all() for tensor in held.values()]).tolist() if held else []  # one look at the device
    return [name for name, good in zip(held, fine, strict=True) if not good]
