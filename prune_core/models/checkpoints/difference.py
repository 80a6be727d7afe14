"""Save a pruned checkpoint as its difference from the dense one; it loads back bit for bit.

One file, difference.safetensors. A weight equal to the dense one is omitted; of others it stores
one bit per entry (nonzero or not) and, unless the nonzero entries equal the dense ones, their
values in order.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...errors import PruneError
from .folders import DIFFERENCE as FILE

MASK, VALUES = ".mask", ".values"  # suffixes of a weight's name; without one, the whole tensor
# integer types for comparing bits, where NaN equals itself and -0 differs from 0
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_hash(model: nn.Module) -> str:
    """Hash of all weights by name, from their bits on the CPU."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bits(tensor).numpy().data)
    return digest.hexdigest()


def save(model: nn.Module, dense: nn.Module, checkpoint: str, folder: Path) -> str:
    """Write the difference of `model` from `dense`, loaded as `checkpoint`; return the model's
    hash.
    """

    dense_state, parts = dense.state_dict(), dict[str, Tensor]()
    for name, tensor in model.state_dict().items():
        parts |= _difference(name, tensor, dense_state[name])
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "dense": checkpoint,
        "dense_digest": weights_hash(dense),
        "digest": weights_hash(model),
    }
    save_file(parts, folder / FILE, metadata={"prunescope": json.dumps(metadata)})
    return metadata["digest"]


def read_metadata(folder: str | Path) -> dict[str, str]:
    """Read `dense` (a checkpoint), `dense_digest` and `digest` of a difference; {} for other
    folders.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as tensors:
            return dict(json.loads(tensors.metadata()["prunescope"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PruneError(
            f"{file} is damaged or truncated; re-prune from the run's seed. ({str(error)[:120]})"
        ) from None


@torch.no_grad()
def apply(model: Any, folder: Path) -> None:
    """Turn the dense model into the pruned one, in place."""

    metadata = read_metadata(folder)
    if weights_hash(model) != metadata["dense_digest"]:
        raise PruneError(
            f"{folder} was pruned from {metadata['dense']}, whose weights have changed since; "
            "restore the old ones, or run it again."
        )
    parts = load_file(folder / FILE)
    for name, tensor in model.state_dict().items():
        if name + MASK in parts:
            tensor.copy_(_restore(tensor, parts[name + MASK], parts.get(name + VALUES)))
        elif name in parts:
            tensor.copy_(parts[name])
    if weights_hash(model) != metadata["digest"]:
        raise PruneError(f"{folder} does not restore the pruned weights; run it again.")


def _bits(tensor: Tensor) -> Tensor:
    return torch.atleast_1d(tensor.detach().cpu().contiguous()).view(WORDS[tensor.element_size()])


def _difference(name: str, tensor: Tensor, dense: Tensor) -> Mapping[str, Tensor]:
    """The shortest of: nothing, the mask, mask and values, the tensor."""
    bits, dense_bits = _bits(tensor), _bits(dense)
    if torch.equal(bits, dense_bits):
        return {}
    nonzero = bits != 0
    mask = torch.from_numpy(np.packbits(nonzero.flatten().numpy()))
    if torch.equal(bits, dense_bits.where(nonzero, 0)):
        return {name + MASK: mask}
    values = tensor.detach().cpu()[nonzero.view_as(tensor)]
    if mask.nbytes + values.nbytes < tensor.nbytes:
        return {name + MASK: mask, name + VALUES: values}
    return {name: tensor.detach().cpu().contiguous()}


def _restore(dense: Tensor, mask: Tensor, values: Tensor | None) -> Tensor:
    nonzero = torch.from_numpy(np.unpackbits(mask.numpy(), count=dense.numel()).view(bool)).view(
        dense.shape
    )
    restored = torch.zeros_like(dense)
    restored[nonzero] = dense[nonzero] if values is None else values
    return restored
