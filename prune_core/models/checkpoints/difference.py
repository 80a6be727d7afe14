"""A pruned checkpoint kept as what sets it apart from its dense one; it loads back bit for bit.

One file, difference.safetensors. A weight equal to the dense one is not in it; of any other there are a bit an entry (what
is not zero) and, where what is left is not simply the dense value, the values in their order. Knows nothing of methods.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import PruneError
from .folders import DIFFERENCE as FILE

MASK, VALUES = ".mask", ".values"  # behind a weight's name; without either it is there whole
WORDS = {
    1: torch.uint8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
}  # bit patterns, in which NaN equals itself and -0 is not 0


def weights_hash(model: nn.Module) -> str:
    """A hash of every weight by name, of the bits as they stand on the CPU."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(_bits(tensor).numpy().data)
    return found.hexdigest()


def save(model: nn.Module, dense: nn.Module, checkpoint: str, folder: Path) -> str:
    """Write what sets `model` apart from `dense`, which is what loads under the name `checkpoint`; the model's digest."""
    from safetensors.torch import save_file

    theirs, parts = dense.state_dict(), dict[str, Tensor]()
    for name, tensor in model.state_dict().items():
        parts |= _difference(name, tensor, theirs[name])
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "dense": checkpoint,
        "dense_digest": weights_hash(dense),
        "digest": weights_hash(model),
    }
    save_file(parts, folder / FILE, metadata={"prunescope": json.dumps(about)})
    return about["digest"]


def read_metadata(folder: str | Path) -> dict[str, str]:
    """`dense` (a checkpoint), `dense_digest` and `digest` of a folder with a difference; nothing of any other."""
    from safetensors import SafetensorError, safe_open

    file = Path(folder) / FILE
    if not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as opened:
            return dict(json.loads(opened.metadata()["prunescope"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PruneError(
            f"{file} is broken or cut short; make the weights again from the run's seed. ({str(error)[:120]})"
        ) from None


@torch.no_grad()
def apply(model: Any, folder: Path) -> None:
    """Make the dense model, in place, the pruned one."""
    from safetensors.torch import load_file

    told = read_metadata(folder)
    if weights_hash(model) != told["dense_digest"]:
        raise PruneError(
            f"{folder} was pruned from {told['dense']}, whose weights have changed since; put the old ones back, or run it again."
        )
    parts = load_file(folder / FILE)
    for name, tensor in model.state_dict().items():
        if name + MASK in parts:
            tensor.copy_(_whole(tensor, parts[name + MASK], parts.get(name + VALUES)))
        elif name in parts:
            tensor.copy_(parts[name])
    if weights_hash(model) != told["digest"]:
        raise PruneError(f"{folder} does not give back the weights that were pruned; run it again.")


def _bits(tensor: Tensor) -> Tensor:
    return torch.atleast_1d(tensor.detach().cpu().contiguous()).view(WORDS[tensor.element_size()])


def _difference(name: str, tensor: Tensor, dense: Tensor) -> Mapping[str, Tensor]:
    """The shortest of: nothing, the mask alone, mask and values, the tensor."""
    own, theirs = _bits(tensor), _bits(dense)
    if torch.equal(own, theirs):
        return {}
    left = own != 0
    mask = torch.from_numpy(np.packbits(left.flatten().numpy()))
    if torch.equal(own, theirs.where(left, 0)):
        return {name + MASK: mask}
    values = tensor.detach().cpu()[left.view_as(tensor)]
    if mask.nbytes + values.nbytes < tensor.nbytes:
        return {name + MASK: mask, name + VALUES: values}
    return {name: tensor.detach().cpu().contiguous()}


def _whole(dense: Tensor, mask: Tensor, values: Tensor | None) -> Tensor:
    left = torch.from_numpy(np.unpackbits(mask.numpy(), count=dense.numel()).view(bool)).view(
        dense.shape
    )
    whole = torch.zeros_like(dense)
    whole[left] = dense[left] if values is None else values
    return whole
