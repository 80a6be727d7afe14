"""Save a pruned checkpoint as its difference from the dense one; it loads back bit for bit.

The file difference.safetensors omits weights that equal the dense ones. Of the others it stores a
mask, one bit per entry (nonzero or not), and the nonzero values in order, unless these equal the
dense ones. A weight for which that would be larger is stored whole.
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
# bytes per entry -> integer type for comparing bits, where NaN equals itself and -0 differs from 0
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_hash(model: nn.Module) -> str:
    """Hash of all weights by name, from their bits on the CPU."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bits(tensor).numpy().data)
    return digest.hexdigest()


def save(
    model: nn.Module, dense: nn.Module, checkpoint: str, folder: Path, *, pooling: str = ""
) -> str:
    """Write the difference of `model` from `dense`, which was loaded from `checkpoint`.

    `pooling`: that with which it was loaded.

    Returns the hash of the model's weights, which `apply` verifies.
    """
    dense_state = dense.state_dict()
    stored: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        stored |= _difference(name, tensor, dense_state[name])
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "dense": checkpoint,
        "dense_digest": weights_hash(dense),
        "digest": weights_hash(model),
    }
    if pooling:
        metadata["pooling"] = pooling
    save_file(stored, folder / FILE, metadata={"prunescope": json.dumps(metadata)})
    return metadata["digest"]


def read_metadata(folder: str | Path) -> dict[str, str]:
    """Read `dense` (a checkpoint), `dense_digest`, `digest` and `pooling` of a difference.

    {} for a folder without one; PruneError for a damaged file.
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
    """Turn the dense model into the pruned one, in place.

    PruneError if `model` is not the dense model that was pruned, or the result is not the model
    that was saved.
    """
    metadata = read_metadata(folder)
    if weights_hash(model) != metadata["dense_digest"]:
        raise PruneError(
            f"{folder} was pruned from {metadata['dense']}, whose weights have changed since; "
            "restore the old ones, or run it again."
        )
    stored = load_file(folder / FILE)
    for name, tensor in model.state_dict().items():
        if name + MASK in stored:
            tensor.copy_(_restore(tensor, stored[name + MASK], stored.get(name + VALUES)))
        elif name in stored:
            tensor.copy_(stored[name])
    if weights_hash(model) != metadata["digest"]:
        raise PruneError(f"{folder} does not restore the pruned weights; run it again.")


def _bits(tensor: Tensor) -> Tensor:
    """The bits of a tensor as integers, on the CPU."""
    return torch.atleast_1d(tensor.detach().cpu().contiguous()).view(
        INTEGERS[tensor.element_size()]
    )


def _difference(name: str, tensor: Tensor, dense: Tensor) -> Mapping[str, Tensor]:
    """The smallest of: nothing, the mask, mask and values, the whole tensor."""
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
    """Invert `_difference`; without `values`, the nonzero entries are those of `dense`."""
    bits = np.unpackbits(mask.numpy(), count=dense.numel())
    nonzero = torch.from_numpy(bits.view(bool)).view(dense.shape)
    restored = torch.zeros_like(dense)
    restored[nonzero] = dense[nonzero] if values is None else values
    return restored
