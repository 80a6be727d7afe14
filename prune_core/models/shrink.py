"""Cuts dead heads and neurons out of a pruned model, and builds the cut shape again when such a folder is loaded.

Head i of a block is dead when its input columns of the attention output are all zero, neuron j when column j of the
second feed-forward matrix is: nothing of it reaches the block's output, so without it the logits stay as they were.
Which of them were kept stands in the model's config. Knows encoders through `Block` alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import PruneError
from .families import GROUPS
from .replay import Block, block_modules, blocks

KEY = "prunescope"  # in config.json: {"heads": [[...] per block], "neurons": [[...] per block]}, indices in the full shape


class Units(NamedTuple):
    """Some of a block's heads and neurons, as indices."""

    heads: list[int]
    neurons: list[int]


def alive(block: Block) -> Units:
    """The heads and neurons that reach the block's output."""
    heads = block.linears["attention_output"].weight.unflatten(1, (block.heads, block.head_width)).ne(0).any(2).any(0)
    neurons = block.linears["ffn_out"].weight.ne(0).any(0)
    return Units(heads.nonzero().flatten().tolist(), neurons.nonzero().flatten().tolist())


def dead_units(model: nn.Module) -> tuple[int, int]:
    """How many heads and neurons `shrink` would cut."""
    found = [(block, alive(block)) for block in blocks(model)]
    heads = sum(block.heads - len(kept.heads) for block, kept in found)
    return heads, sum(block.linears["ffn_out"].in_features - len(kept.neurons) for block, kept in found)


def shrink(model: nn.Module) -> nn.Module:
    """A copy of a full-shape model without its dead heads and neurons; the same logits, for inference only."""
    refuse_shrunk(model, "This model")
    small = copy.deepcopy(model)
    cut(small, [alive(block) for block in blocks(small)])
    return small


def refuse_shrunk(model: Any, checkpoint: str) -> None:
    """The sentence for whoever would prune, shrink or fine-tune what is cut already."""
    if hasattr(model.config, KEY):
        raise PruneError(f"{checkpoint} is shrunk already: measure or deploy it, and prune or fine-tune the checkpoint it was cut from.")


@torch.no_grad()
def cut(model: Any, kept: Sequence[Units]) -> None:
    """Leave only these units of every block, in place, and write them into the config."""
    modules = block_modules(model)
    for index, (heads, neurons) in enumerate(kept):
        small = ShrunkBlock(model, modules[index])
        linears, width = small.block.linears, small.block.head_width
        columns = [head * width + i for head in heads for i in range(width)]
        for part in GROUPS[0]:
            _keep_outputs(linears[part], columns)
        _keep_inputs(linears["attention_output"], columns)
        _keep_outputs(linears["ffn_in"], neurons)
        _keep_inputs(linears["ffn_out"], neurons)
        modules[index] = small
    setattr(model.config, KEY, {"heads": [units.heads for units in kept], "neurons": [units.neurons for units in kept]})


def _keep_outputs(linear: nn.Linear, rows: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[rows])
    linear.bias = nn.Parameter(linear.bias[rows])
    linear.out_features = len(rows)


def _keep_inputs(linear: nn.Linear, columns: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[:, columns].contiguous())
    linear.in_features = len(columns)


class ShrunkBlock(nn.Module):
    """Stands in the place of the family's own block, with its submodules under their names, and runs only what is left.

    The modules around it differ in what they pass on (head masks, caches) and expect back between families and versions
    of transformers: of the first only hidden states and mask matter here, the second is found out by asking the original.
    """

    def __init__(self, model: nn.Module, original: nn.Module):
        super().__init__()
        for name, module in original.named_children():
            self.add_module(name, module)
        self.block = Block(model, self)
        weight = self.block.linears["query"].weight
        self.gives_tuple = isinstance(original(weight.new_zeros(1, 1, weight.shape[1])), tuple)

    def forward(self, hidden: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor | tuple[Tensor]:
        """(sentences, tokens, width) -> the same; where a sub-layer lost everything, its bias is all that it says."""
        block = self.block
        query, key, value, attention_output, ffn_in, ffn_out = block.linears.values()
        if mask is not None and mask.dim() == 2:  # (sentences, tokens), 1 for a real one
            mask = mask[:, None, None, :].bool()
        elif mask is not None and mask.is_floating_point():  # added to the scores, 0 for a real one
            mask = mask == 0
        said = attention_output.bias
        if block.heads:
            said = attention_output(block.attention(query(hidden), key(hidden), value(hidden), mask))
        hidden = block.norm1(said + hidden)
        said = ffn_out(block.activation(ffn_in(hidden))) if ffn_out.in_features else ffn_out.bias
        hidden = block.norm2(said + hidden)
        return (hidden,) if self.gives_tuple else hidden


def restore(model: Any, source: str, checkpoint: str, new_head: str = "") -> None:
    """Cut a fresh model of a shrunk checkpoint's config to the shape that stands there, and fill in the weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    if new_head:
        refuse_shrunk(model, checkpoint)
    try:
        kept = getattr(model.config, KEY)
        cut(model, [Units(*units) for units in zip(kept["heads"], kept["neurons"], strict=True)])
        model.load_state_dict(load_file(str(cached_file(source, "model.safetensors"))))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PruneError(
            f"{checkpoint}: config.json and model.safetensors do not agree on what was cut; export it again. ({reason})"
        ) from None
