"""Cuts dead heads and neurons out of a pruned model, and builds the cut shape again when such a folder is loaded.

Head i of a block is dead when its input columns of the attention output are all zero, neuron j when column j of the
second feed-forward matrix is: nothing of it reaches the block's output, so without it the logits stay as they were.
Widths stay at multiples of 8. Which units were kept stands in the model's config. Knows encoders through `Block` alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import PruneError
from .families import GROUPS
from .replay import CUT as KEY
from .replay import Block, block_modules, blocks, head_linears

WIDTH = 8  # neurons; head widths are multiples of it in every encoder


class Units(NamedTuple):
    """Some of a block's heads and neurons, as indices."""

    heads: list[int]
    neurons: list[int]


def live_units(block: Block) -> Units:
    """The heads and neurons that reach the block's output."""
    heads = (
        block.linears["attention_output"]
        .weight.unflatten(1, (block.heads, block.head_width))
        .ne(0)
        .any(2)
        .any(0)
    )
    neurons = block.linears["ffn_out"].weight.ne(0).any(0)
    return Units(heads.nonzero().flatten().tolist(), neurons.nonzero().flatten().tolist())


def kept_units(block: Block) -> Units:
    """What `shrink` leaves: the alive, and as many dead neurons as make the width a multiple of 8, below which cutting does not pay.

    Odd widths are slow: a block of 1,536 neurons without 4 of them takes longer than the whole one.
    """
    units, width = live_units(block), block.linears["ffn_out"].in_features
    lacking = min(-len(units.neurons) % WIDTH, width - len(units.neurons))
    dead = sorted(set(range(width)) - set(units.neurons))[:lacking]
    return Units(units.heads, sorted([*units.neurons, *dead]))


def dead_units(model: nn.Module) -> tuple[int, int]:
    """How many heads and neurons `shrink` would cut."""
    found = [(block, kept_units(block)) for block in blocks(model)]
    heads = sum(block.heads - len(kept.heads) for block, kept in found)
    return heads, sum(
        block.linears["ffn_out"].in_features - len(kept.neurons) for block, kept in found
    )


def padding(model: nn.Module) -> int:
    """How many dead neurons `shrink` leaves for the sake of the widths."""
    return sum(
        len(kept_units(block).neurons) - len(live_units(block).neurons) for block in blocks(model)
    )


def compact_model(model: nn.Module) -> nn.Module:
    """A copy of a full-shape model without its dead heads and neurons; the same logits, for inference only."""
    refuse_compact(model, "This model")
    small = copy.deepcopy(model)
    remove_units(small, [kept_units(block) for block in blocks(small)])
    return small


@torch.no_grad()
def expand_into(small: nn.Module, model: nn.Module) -> None:
    """Write a cut model's weights, and all that stands behind its blocks, into the full-shape model that it was cut from."""
    for cut_block, block in zip(blocks(small), blocks(model), strict=True):
        units = kept_units(block)
        columns, rows = unit_indices(block, units)
        lines = {**dict.fromkeys((*GROUPS[0], *block.more), columns), "ffn_in": rows}
        for name, linear in {**block.linears, **block.more}.items():
            own = cut_block.more[name] if name in block.more else cut_block.linears[name]
            line = lines.get(name)
            if line is None:
                linear.weight[:, columns if name == "attention_output" else units.neurons] = (
                    own.weight
                )
            else:
                linear.weight[line] = own.weight
            if linear.bias is not None and own.bias is not None:
                linear.bias[slice(None) if line is None else line] = own.bias
    for (_, one), (_, other) in zip(head_linears(small), head_linears(model), strict=True):
        other.load_state_dict(one.state_dict())


def refuse_compact(model: Any, checkpoint: str) -> None:
    """The sentence for whoever would prune, shrink or fine-tune what is cut already."""
    if hasattr(model.config, KEY):
        raise PruneError(
            f"{checkpoint} is shrunk already: measure or deploy it, and prune or fine-tune the checkpoint it was cut from."
        )


@torch.no_grad()
def remove_units(model: Any, kept: Sequence[Units]) -> None:
    """Leave only these units of every block, in place, and write them into the config."""
    size = block_output_count(model)
    for index, ((own, place), (heads, neurons)) in enumerate(
        zip(block_modules(model), kept, strict=True)
    ):
        original = own[place]
        block = Block(model, original, index, heads=heads)
        columns, rows = unit_indices(block, Units(heads, neurons))
        parts = block.linears
        if (fused := block.fused) is not None:
            _keep_outputs(
                fused,
                [row + third * fused.out_features // 3 for third in range(3) for row in columns],
            )
        else:
            for linear in [*(parts[part] for part in GROUPS[0]), *block.more.values()]:
                _keep_outputs(linear, columns)
        _keep_inputs(parts["attention_output"], columns)
        _keep_outputs(parts["ffn_in"], rows)
        _keep_inputs(parts["ffn_out"], neurons)
        own[place] = CompactBlock(model, original, index, heads=heads, outputs=size)
    setattr(
        model.config,
        KEY,
        {"heads": [units.heads for units in kept], "neurons": [units.neurons for units in kept]},
    )


def unit_indices(block: Block, units: Units) -> tuple[list[int], list[int]]:
    """(columns of the attention output, rows of the first feed-forward matrix) that belong to these units of a whole block."""
    columns = [head * block.head_width + i for head in units.heads for i in range(block.head_width)]
    return columns, units.neurons + [
        block.neurons + row for row in units.neurons
    ] if block.spec.gated else units.neurons


def _keep_outputs(linear: nn.Linear, rows: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[rows])
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows])
    linear.out_features = len(rows)


def _keep_inputs(linear: nn.Linear, columns: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[:, columns].contiguous())
    linear.in_features = len(columns)


class CompactBlock(nn.Module):
    """Stands in the place of the family's own block, with its submodules under their names, and runs only what is left.

    The modules around it differ in what they pass on (head masks, caches) and expect back between families and versions
    of transformers: of the first only hidden states and mask matter here, the second is found out by asking a whole block.
    """

    def __init__(
        self, model: nn.Module, original: nn.Module, index: int, heads: Sequence[int], outputs: int
    ):
        super().__init__()
        for name, module in original.named_children():
            self.add_module(name, module)
        for name in ("attention_type", "layer_type"):  # what the encoder around it may look at
            if hasattr(original, name):
                setattr(self, name, getattr(original, name))
        self.block = Block(model, self, index, heads=heads)
        self.outputs = outputs

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor | tuple[Tensor | None, ...]:
        """(sentences, tokens, width) -> the same; where a sub-layer lost everything, its bias is all that it says."""
        block, hidden, mask = (
            self.block,
            hidden_states,
            attention_mask,
        )  # under the names by which some families pass them
        attention_output, ffn_in, ffn_out = (
            block.linears[part] for part in ("attention_output", "ffn_in", "ffn_out")
        )
        if mask is not None and mask.dim() == 2:  # (sentences, tokens), 1 for a real one
            mask = mask[:, None, None, :]
        if (
            mask is not None
        ):  # floats are added to the scores, 0 for a real one; of all queries' rows one tells which keys are real
            mask = (mask == 0 if mask.is_floating_point() else mask.bool()).any(-2, keepdim=True)
        seen, said = block.enter(hidden), attention_output.bias
        if block.heads:
            query, key, value = block.projected(seen)
            said = attention_output(block.attention(query, key, value, mask))
        hidden = block.leave(hidden if said is None else said + hidden, 1)
        seen, said = block.enter(hidden, 2), ffn_out.bias
        if block.neurons:
            said = ffn_out(block.activated(ffn_in(seen)))
        hidden = block.leave(hidden if said is None else said + hidden, 3)
        return (hidden, *[None] * (self.outputs - 1)) if self.outputs else hidden


@torch.no_grad()
def block_output_count(model: Any) -> int:
    """How long the tuple is that a block of this family and version gives; 0 where it gives hidden states alone."""
    own, place = block_modules(model)[0]
    sizes: list[int] = []
    hook = own[place].register_forward_hook(
        lambda _, __, output: sizes.append(len(output) if isinstance(output, tuple) else 0)
    )
    try:
        ids = torch.ones(1, 2, dtype=torch.long, device=next(model.parameters()).device)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        hook.remove()
    return sizes[0]


def restore(model: Any, source: str, checkpoint: str, new_head: str = "") -> None:
    """Cut a fresh model of a shrunk checkpoint's config to the shape that stands there, and fill in the weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    if new_head:
        refuse_compact(model, checkpoint)
    try:
        kept = getattr(model.config, KEY)
        remove_units(
            model, [Units(*units) for units in zip(kept["heads"], kept["neurons"], strict=True)]
        )
        model.load_state_dict(load_file(str(cached_file(source, "model.safetensors"))))
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
        SafetensorError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise PruneError(
            f"{checkpoint}: config.json and model.safetensors do not agree on what was cut; export it again. ({reason})"
        ) from None
