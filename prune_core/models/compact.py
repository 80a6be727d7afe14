"""Remove dead heads and neurons from a pruned model physically, and rebuild the compact shape on
loading.

Head i of a block is dead when its input columns of the attention output are all zero, neuron j when
column j of the second feed-forward matrix is. A dead unit does not reach the block's output, so
removing it leaves the logits unchanged. The last dimensions of a block's heads are removed if they
are dead in all of them. Widths remain multiples of 8. What is kept is in the model's config.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..formatting import plural
from .replay import COMPACT_KEY as KEY
from .replay import Block, block_modules, blocks, head_linears, head_width

WIDTH = 8  # neurons and head widths are multiples of it


class Units(NamedTuple):
    """Indices of heads and neurons of a block, and the dimensions of its heads."""

    heads: list[int]
    neurons: list[int]
    width: int


def live_units(block: Block) -> Units:
    """Heads and neurons that reach the block's output."""
    columns = (
        block.linears["attention_output"]
        .weight.ne(0)
        .any(0)
        .unflatten(0, (block.heads, block.width))
    )
    heads = columns.any(1)
    neurons = block.linears["ffn_out"].weight.ne(0).any(0)
    return Units(
        heads.nonzero().flatten().tolist(),
        neurons.nonzero().flatten().tolist(),
        _live_width(block, columns, heads),
    )


def _live_width(block: Block, columns: Tensor, heads: Tensor) -> int:
    """Dimensions of the live heads up to the last one that reaches the block's output, in multiples
    of 8.

    `columns` (heads, width) are live values, `heads` (heads,) the live heads. A dimension of
    queries and keys is dead if either is zero for all inputs.
    """
    if not block.spec.only_products or not heads.any():
        return block.width
    query, key = (
        _rows(block.linears[projection]).unflatten(0, (block.heads, block.width))
        for projection in ("query", "key")
    )
    last = int((columns | (query & key))[heads].any(0).nonzero().max()) + 1
    return min(block.width, -(-last // WIDTH) * WIDTH)


def _rows(linear: nn.Linear) -> Tensor:
    """(outputs,) bool: whether an output depends on anything."""
    rows = linear.weight.ne(0).any(1)
    return rows if linear.bias is None else rows | linear.bias.ne(0)


def kept_units(block: Block) -> Units:
    """Units that `compact_model` keeps: live ones, and dead neurons up to a multiple of 8.

    Odd widths are slow: a block of 1,536 neurons without 4 of them takes longer than the whole one.
    """
    units, width = live_units(block), block.linears["ffn_out"].in_features
    dead = sorted(set(range(width)) - set(units.neurons))[: -len(units.neurons) % WIDTH]
    return units._replace(neurons=sorted([*units.neurons, *dead]))


def dead_units(model: nn.Module) -> tuple[int, int]:
    """Number of (heads, neurons) that `compact_model` removes."""
    kept = [(block, kept_units(block)) for block in blocks(model)]
    return (
        sum(block.heads - len(units.heads) for block, units in kept),
        sum(block.neurons - len(units.neurons) for block, units in kept),
    )


def narrowed_blocks(model: nn.Module) -> int:
    """Number of blocks in which `compact_model` makes heads narrower."""
    return sum(live_units(block).width < block.width for block in blocks(model))


def is_compactable(model: nn.Module) -> bool:
    """Whether `compact_model` removes anything."""
    return any(dead_units(model)) or narrowed_blocks(model) > 0


def removed_units(model: nn.Module) -> str:
    """Describe what `compact_model` removes: "2 heads and 480 neurons"."""
    heads, neurons = dead_units(model)
    text = f"{plural(heads, 'head')} and {plural(neurons, 'neuron')}"
    if narrow := narrowed_blocks(model):
        text += f", and dimensions of the heads in {plural(narrow, 'layer')}"
    return text


def alignment_neurons(model: nn.Module) -> int:
    """Number of dead neurons that `compact_model` keeps to make widths multiples of 8."""
    return sum(
        len(kept_units(block).neurons) - len(live_units(block).neurons) for block in blocks(model)
    )


def compact_model(model: nn.Module) -> nn.Module:
    """Copy of a full-shape model without dead heads, dimensions of heads and neurons; same logits,
    inference only.
    """
    refuse_compact(model, "This model")
    small = copy.deepcopy(model)
    remove_units(small, [kept_units(block) for block in blocks(small)])
    return small


@torch.no_grad()
def expand_into(small: nn.Module, model: nn.Module, kept: Sequence[Units] | None = None) -> None:
    """Write a compact model's weights and head into a full-shape model.

    `kept` are the units of the compact model; None: `model` is the one it was made from.
    """
    stack = blocks(model)
    kept = kept or [kept_units(block) for block in stack]
    for compact_block, block, units in zip(blocks(small), stack, kept, strict=True):
        columns, rows = unit_indices(block, units)
        rows_of = {
            **dict.fromkeys((*block.groups[0], *block.extra_linears), columns),
            **dict.fromkeys(block.groups[2], rows),
        }
        for name, linear in {**block.linears, **block.extra_linears}.items():
            source = (
                compact_block.extra_linears[name]
                if name in block.extra_linears
                else compact_block.linears[name]
            )
            selected = rows_of.get(name)
            if selected is None:
                linear.weight[:, columns if name == "attention_output" else units.neurons] = (
                    source.weight
                )
            else:
                linear.weight[selected] = source.weight
            if linear.bias is not None and source.bias is not None:
                linear.bias[slice(None) if selected is None else selected] = source.bias
    for (_, compact_linear), (_, linear) in zip(
        head_linears(small), head_linears(model), strict=True
    ):
        linear.load_state_dict(compact_linear.state_dict())


def refuse_compact(model: Any, checkpoint: str) -> None:
    """Raise PruneError if the model is compact: it cannot be pruned, compacted or fine-tuned."""
    if hasattr(model.config, KEY):
        raise PruneError(
            f"{checkpoint} is already compact (shrunk): measure or deploy it, and prune or "
            "fine-tune "
            "the full-shape checkpoint it was made from."
        )


@torch.no_grad()
def remove_units(model: Any, kept: Sequence[Units]) -> None:
    """Keep only the given units of every block, in place, and record them in the config."""
    size = block_output_count(model)
    for index, ((modules, place), units) in enumerate(zip(block_modules(model), kept, strict=True)):
        original = modules[place]
        block = Block(model, original, index)
        columns, rows = unit_indices(block, units)
        linears = block.linears
        if (fused := block.fused) is not None:
            size_of_third = fused.out_features // 3
            _keep_outputs(
                fused, [row + third * size_of_third for third in range(3) for row in columns]
            )
        else:
            for linear in [
                *(linears[projection] for projection in block.groups[0]),
                *block.extra_linears.values(),
            ]:
                _keep_outputs(linear, columns)
        _keep_inputs(linears["attention_output"], columns)
        for projection in block.groups[2]:
            _keep_outputs(linears[projection], rows)
        _keep_inputs(linears["ffn_out"], units.neurons)
        modules[place] = CompactBlock(model, original, index, units=units, outputs=size)
    record: dict[str, list[Any]] = {
        "heads": [units.heads for units in kept],
        "neurons": [units.neurons for units in kept],
    }
    if any(units.width < block.head_width for units in kept):
        record |= {"widths": [units.width for units in kept]}
    setattr(model.config, KEY, record)


def unit_indices(block: Block, units: Units) -> tuple[list[int], list[int]]:
    """Return (columns of the attention output, rows of the first FFN matrices) of the given units.

    The indices refer to a full-shape block.
    """
    columns = [head * block.width + i for head in units.heads for i in range(units.width)]
    gates = [block.neurons + row for row in units.neurons] if block.spec.fused_gate else []
    return columns, units.neurons + gates


def _keep_outputs(linear: nn.Linear, rows: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[rows])
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows])
    linear.out_features = len(rows)


def _keep_inputs(linear: nn.Linear, columns: list[int]) -> None:
    linear.weight = nn.Parameter(linear.weight[:, columns].contiguous())
    linear.in_features = len(columns)


class CompactBlock(nn.Module):
    """Replaces a family's block: the same submodules under the same names, only the kept units.

    Families and versions of transformers differ in what they pass to a block (head masks, caches)
    and expect back. Of the inputs only hidden states and mask matter; the number of outputs is
    determined by running an original block (`block_output_count`).
    """

    def __init__(
        self, model: nn.Module, original: nn.Module, index: int, units: Units, outputs: int
    ):
        super().__init__()
        for name, module in original.named_children():
            self.add_module(name, module)
        for name in ("attention_type", "layer_type"):  # attributes that the encoder may read
            if hasattr(original, name):
                setattr(self, name, getattr(original, name))
        self.block = Block(model, self, index, heads=units.heads, width=units.width)
        self.outputs = outputs

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor | tuple[Tensor | None, ...]:
        """Map (examples, tokens, width) to the same shape.

        The output of a sub-layer without units is its bias. Some families pass the arguments by
        keyword, so their names are fixed.
        """
        block, hidden, mask = self.block, hidden_states, attention_mask
        attention_output, ffn_out = block.linears["attention_output"], block.linears["ffn_out"]
        if mask is not None and mask.dim() == 2:  # (examples, tokens), 1 for real tokens
            mask = mask[:, None, None, :]
        if mask is not None:
            # floats are added to the scores: 0 for real keys; any query's row identifies these
            is_real = mask == 0 if mask.is_floating_point() else mask.bool()
            mask = is_real.any(-2, keepdim=True)
        output = attention_output.bias
        if block.heads:
            query, key, value = block.projected(block.enter(hidden))
            output = attention_output(block.attention(query, key, value, mask))
        hidden = block.leave(hidden if output is None else output + hidden, 1)
        output = ffn_out.bias
        if block.neurons:
            output = ffn_out(block.ffn_features(block.enter(hidden, 2)))
        hidden = block.leave(hidden if output is None else output + hidden, 3)
        return (hidden, *[None] * (self.outputs - 1)) if self.outputs else hidden


@torch.no_grad()
def block_output_count(model: Any) -> int:
    """Length of the tuple returned by this model's blocks; 0 if they return hidden states only."""
    modules, place = block_modules(model)[0]
    sizes: list[int] = []
    hook = modules[place].register_forward_hook(
        lambda _, __, output: sizes.append(len(output) if isinstance(output, tuple) else 0)
    )
    try:
        ids = torch.ones(1, 2, dtype=torch.long, device=next(model.parameters()).device)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        hook.remove()
    return sizes[0]


def recorded_units(config: Any) -> list[Units]:
    """Units of every block that the config of a compact model records as kept."""
    kept = getattr(config, KEY)
    widths = kept.get("widths", [head_width(config)] * len(kept["heads"]))
    return [Units(*units) for units in zip(kept["heads"], kept["neurons"], widths, strict=True)]


def restore(model: Any, source: str, checkpoint: str, new_head: str = "") -> None:
    """Reduce a fresh model with a compact checkpoint's config to its shape; load the weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    if new_head:
        refuse_compact(model, checkpoint)
    try:
        remove_units(model, recorded_units(model.config))
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
        raise PruneError(
            f"{checkpoint}: config.json and model.safetensors disagree on the removed heads and "
            f"neurons; export it again. ({' '.join(str(error).split())[:200]})"
        ) from None
