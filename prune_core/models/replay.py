"""Run any encoder block by block ("replay"): every family's block is groups of Linears, two norms
and an activation.

Attribute paths and attention variants are in families/. A block is a transformer layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import tasks
from ..plugins import Batch
from ..tasks import TaskType
from .families import FAMILIES, attend, layout

# key in a compact model's config: {"heads": [[…] per block], "neurons": [[…] per block]}, the
# indices of the kept units in the full shape, and, if heads are narrower, {"widths": [per block]}
COMPACT_KEY = "prunescope"


class Padding(NamedTuple):
    """Positions of a batch's real tokens.

    Computed once per batch, because nonzero() makes a GPU wait for its host.
    """

    mask: Tensor  # (examples, tokens) bool
    places: Tensor  # (real tokens,) indices in the flattened batch

    @classmethod
    def of(cls, mask: Tensor) -> Padding:
        """Create from an attention mask."""
        return cls(mask.bool(), mask.flatten().nonzero()[:, 0])

    def pack(self, padded: Tensor) -> Tensor:
        """Drop padding: (examples, tokens, width) -> (real tokens, width)."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def unpack(self, packed: Tensor, fill: float = 0.0) -> Tensor:
        """Restore padding with `fill`: (real tokens, width) -> (examples, tokens, width)."""
        padded = packed.new_full((self.mask.numel(), packed.shape[-1]), fill)
        return padded.index_copy_(0, self.places, packed).unflatten(0, self.mask.shape)

    def first(self, tokens: int | None) -> Padding:
        """Padding of each example's first tokens; None: of all tokens."""
        return self if tokens is None else Padding.of(self.mask[:, :tokens])


class Block:
    """One transformer block that can be run stage by stage.

    Stage g maps the input of groups[g] to the input of the next group. The Linears are the model's
    own, or views of rows of a fused one; in-place changes change the model. A shared block is
    passed `passes` times in a row.
    """

    def __init__(
        self,
        model: nn.Module,
        module: nn.Module,
        index: int = 0,
        heads: Sequence[int] | None = None,
        width: int | None = None,
    ):
        spec, config = layout(model), cast(Any, model.config)
        self.spec, self.module, self.passes = spec, module, spec.passes(config)
        self.context = spec.context(model, index)
        # of the full shape, which determines the scale of attention scores
        self.head_width = head_width(config)
        self.width = self.head_width if width is None else width  # of the heads of this block
        self.linears: dict[str, nn.Linear] = {
            projection: attrgetter(path)(module)
            for group in spec.groups
            for projection, path in group.items()
        }
        self.groups = [tuple(group) for group in spec.groups]  # names of the projections
        query = self.linears["query"]
        self.fused = query if query is self.linears["key"] else None
        if self.fused is not None:
            self.linears |= dict(zip(self.groups[0], _split_fused(self.fused), strict=True))
        modules = dict(module.named_modules())
        self.extra_linears = {
            path.split(".")[-1]: modules[path]
            for path in spec.extra_head_linears
            if path in modules
        }
        self.norm1, self.norm2 = (attrgetter(path)(module) for path in spec.norms)
        self.activation = attrgetter(spec.activation)(module)
        # compute queries, keys and values in one product, so that a fused matrix receives gradients
        self.fuse_projections = False
        # indices of the heads in the full shape, for per-head parameters outside of the block
        self.head_numbers = list(range(self.heads)) if heads is None else list(heads)

    @property
    def heads(self) -> int:
        """Number of heads; a compact model has fewer, possibly none."""
        return self.linears["query"].out_features // self.width

    @property
    def neurons(self) -> int:
        """Number of neurons; a gated neuron has a row for its gate too."""
        return self.linears["ffn_out"].in_features

    def split(self, x: Tensor) -> Tensor:
        """Split heads: (…, tokens, heads * width) -> (…, heads, tokens, width)."""
        return x.unflatten(-1, (self.heads, self.width)).transpose(-2, -3)

    def enter(self, x: Tensor, group: int = 0) -> Tensor:
        """Input of groups[group], the first of a sub-layer; a pre-norm is applied here."""
        if not self.spec.pre_norm:
            return x
        return (self.norm1 if group == 0 else self.norm2)(x)

    def leave(self, total: Tensor, group: int) -> Tensor:
        """Residual stream after groups[group], the last of a sub-layer.

        A post-norm is applied here.
        """
        if self.spec.pre_norm:
            return total
        return (self.norm1 if group == 1 else self.norm2)(total)

    def projected(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values; one product if the matrix is fused."""
        if self.fused is not None:
            return self.fused(x).chunk(3, dim=-1)
        return tuple(self.linears[projection](x) for projection in self.groups[0])

    def attend(self, x: Tensor, padding: Padding) -> Tensor:
        """Attention: packed input (real tokens, width) -> packed context, the attention output's
        input.
        """
        if not self.heads:
            return x.new_empty(len(x), 0)
        separate = (self.linears[projection](x) for projection in self.groups[0])  # lazy
        q, k, v = map(padding.unpack, self.projected(x) if self.fuse_projections else separate)
        return padding.pack(self.attention(q, k, v, padding.mask[:, None, None, :]))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Context of padded queries, keys and values, (examples, tokens, heads * width) each.

        `mask` as for torch's scaled_dot_product_attention.
        """
        q, k, v = map(self.split, (q, k, v))
        return attend(self.spec.scores(self, q, k, mask), v).transpose(1, 2).flatten(2)

    def attention_weights(self, x: Tensor, padding: Padding) -> Tensor:
        """Attention weights of a packed block input.

        (examples, heads, tokens, tokens), rows sum to 1.
        """
        q, k = (
            self.split(padding.unpack(self.linears[projection](self.enter(x))))
            for projection in ("query", "key")
        )
        query, key, scale, bias = self.spec.scores(self, q, k, padding.mask[:, None, None, :])
        assert bias is not None, "there is a mask"
        logits = query @ key.transpose(-1, -2) * scale
        if bias.dtype == torch.bool:
            return logits.masked_fill(~bias, -torch.inf).softmax(-1)
        return (logits + bias).softmax(-1)

    def ffn_features(self, x: Tensor) -> Tensor:
        """Map the input of the feed-forward network to the input of its last matrix."""
        x, *gates = [self.linears[projection](x) for projection in self.groups[2]]
        if self.spec.fused_gate:
            x, *gates = x.chunk(2, dim=-1)
        x = self.activation(x)
        return x * gates[0] if gates else x

    def stage(
        self, group: int, inputs: Tensor, residual: Tensor, padding: Padding
    ) -> tuple[Tensor, Tensor]:
        """Map (input of groups[group], residual) to the same of the next group.

        After the last group: the residual stream, twice.
        """
        if group == 0:
            return self.attend(inputs, padding), residual
        if group == 1:
            a = self.leave(self.linears["attention_output"](inputs) + residual, group)
            return self.enter(a, 2), a
        if group == 2:
            return self.ffn_features(inputs), residual
        y = self.leave(self.linears["ffn_out"](inputs) + residual, group)
        return y, y

    def run_pass(self, x: Tensor, padding: Padding) -> Tensor:
        """Run one pass: packed input -> packed output, (tokens, width) each."""
        inputs, residual = self.enter(x), x
        for group in range(len(self.groups)):
            inputs, residual = self.stage(group, inputs, residual, padding)
        return residual


def head_width(config: Any) -> int:
    """Dimensions of a head in the full shape."""
    return int(config.hidden_size // getattr(config, FAMILIES[config.model_type].heads))


def _split_fused(fused: nn.Linear) -> list[nn.Linear]:
    """Views of query, key and value in a fused matrix with the three below each other."""
    biases = (None, None, None) if fused.bias is None else fused.bias.chunk(3)
    return [*map(linear_view, fused.weight.chunk(3), biases)]


def linear_view(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Wrap tensors in a Linear, without the random initialization of a new one."""
    linear = nn.Linear(1, 1, bias=bias is not None, device="meta")
    linear.out_features, linear.in_features = weight.shape
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def block_modules(model: nn.Module) -> list[tuple[nn.ModuleList, int]]:
    """Return (list, index) for every module with a block, from the bottom; blocks can be replaced
    there.
    """
    spec = layout(model)
    modules = attrgetter(spec.blocks)(model)
    if spec.within:
        return [(getattr(group, spec.within), 0) for group in modules]
    return [(modules, index) for index in range(len(modules))]


def blocks(model: nn.Module) -> list[Block]:
    """Distinct encoder blocks, from the bottom."""
    kept = getattr(model.config, COMPACT_KEY, {})
    heads, widths = kept.get("heads"), kept.get("widths")
    return [
        Block(
            model,
            modules[place],
            index,
            heads=heads and heads[index],
            width=widths and widths[index],
        )
        for index, (modules, place) in enumerate(block_modules(model))
    ]


def block_passes(model: nn.Module) -> list[tuple[int, Block]]:
    """Return (index, block) for every pass, in the order of the forward pass."""
    return [
        (index, block) for index, block in enumerate(blocks(model)) for _ in range(block.passes)
    ]


def linears(model: nn.Module) -> Iterator[tuple[int, str, nn.Linear]]:
    """Yield (block index, projection, Linear) for every prunable weight matrix."""
    for index, block in enumerate(blocks(model)):
        for projection, linear in block.linears.items():
            yield index, projection, linear


def task_type_of(model: Any) -> TaskType:
    """Task type of a model: that of its head, or the one it has as an attribute."""
    task_type: TaskType | None = getattr(model, "task_type", None)
    return task_type or tasks.of_head(type(model).__name__, model.config)


def head_linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Linears after the encoder (pooler, classifier), in the order of the forward pass."""
    paths = task_type_of(model).head_linears(layout(model), model.config)
    return [(path, attrgetter(path)(model)) for path in paths]


def embed(model: nn.Module, batch: Batch) -> tuple[Tensor, Padding]:
    """Embed a batch: (packed hidden states of the real tokens before block 0, their positions)."""
    spec = layout(model)
    base: Any = getattr(model, spec.base)
    names = ("input_ids", "token_type_ids", "position_ids")
    hidden = base.embeddings(**{name: batch[name] for name in names if name in batch})
    # ELECTRA's large sizes have no projection: embeddings are as wide as hidden states
    if spec.embedding_projection and spec.embedding_projection in dict(base.named_modules()):
        hidden = attrgetter(spec.embedding_projection)(base)(hidden)
    padding = Padding.of(batch["attention_mask"])
    return padding.pack(hidden), padding


def head(model: Any, hidden: Tensor, padding: Padding) -> Tensor:
    """Map packed final hidden states to logits.

    Shapes: (examples, labels); for spans (examples, 2, tokens), start and end; for token
    classification (real tokens, labels).
    """
    spec = layout(model)
    if spec.final_norm:
        hidden = attrgetter(spec.final_norm)(getattr(model, spec.base))(hidden)
    return task_type_of(model).head(spec, model, hidden, padding)


def tokens_read(model: Any) -> int | None:
    """Number of first tokens that the head reads; None for all."""
    return None if task_type_of(model).reads_all(layout(model), model.config) else 1


@torch.no_grad()
def hidden_states(model: nn.Module, batch: Batch) -> Iterator[tuple[Tensor, Padding]]:
    """Yield (packed hidden states, positions) before block 0 and after every pass of a block."""
    x, padding = embed(model, batch)
    yield x, padding
    for _, block in block_passes(model):
        x = block.run_pass(x, padding)
        yield x, padding


def max_tokens(model: Any) -> int:
    """Maximum number of tokens of a text."""
    return layout(model).max_tokens(model.config)


def sparsity_by_projection(model: nn.Module) -> list[dict[str, Any]]:
    """Sparsity of every prunable weight matrix: block, projection, sparsity."""
    matrices = list(linears(model))
    # one device synchronization for all
    zeros = torch.stack([(linear.weight == 0).sum() for _, _, linear in matrices]).tolist()
    return [
        {
            "block": index,
            "projection": projection,
            "sparsity": count / max(1, linear.weight.numel()),
        }
        for (index, projection, linear), count in zip(matrices, zeros, strict=True)
    ]
