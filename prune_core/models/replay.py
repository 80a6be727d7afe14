"""Blocks, replayed: every family's block is its six Linears, two norms and an activation, and one replay serves them all.

Where things are and how a family attends stands in families/. Knows nothing of pruning or of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..plugins import Batch
from .families import GROUPS, PROJECTIONS, attend, layout

CUT = "prunescope"  # in a shrunk model's config: {"heads": [[…] per block], "neurons": [[…] per block]}, indices in the full shape


class Padding(NamedTuple):
    """Where a batch's real tokens are: looked for once, as looking makes a GPU wait for its host."""

    mask: Tensor  # (sentences, tokens) bool
    places: Tensor  # (real tokens,) in the batch laid out flat

    @classmethod
    def of(cls, mask: Tensor) -> Padding:
        """From an attention mask."""
        return cls(mask.bool(), mask.flatten().nonzero()[:, 0])

    def pack(self, padded: Tensor) -> Tensor:
        """(sentences, tokens, width) -> (real tokens, width)."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def unpack(self, packed: Tensor, fill: float = 0.0) -> Tensor:
        """(real tokens, width) -> (sentences, tokens, width), `fill` where padding is."""
        padded = packed.new_full((self.mask.numel(), packed.shape[-1]), fill)
        return padded.index_copy_(0, self.places, packed).unflatten(0, self.mask.shape)

    def first(self, tokens: int | None) -> Padding:
        """Of each sentence's first tokens alone; None: of all."""
        return self if tokens is None else Padding.of(self.mask[:, :tokens])


class Block:
    """One transformer block, replayed stage by stage: stage g takes the input of GROUPS[g] to the input of the next.

    Its Linears are the model's own, or views of rows of one that holds several; what is written into them in place is written
    into the model. Where blocks are shared, it is passed `passes` times in a row.
    """

    def __init__(
        self,
        model: nn.Module,
        module: nn.Module,
        index: int = 0,
        heads: Sequence[int] | None = None,
    ):
        spec, config = layout(model), cast(Any, model.config)
        self.spec, self.module, self.passes = spec, module, spec.passes(config)
        self.context = spec.context(model, index)
        self.head_width = config.hidden_size // getattr(config, spec.heads)
        self.linears: dict[str, nn.Linear] = {
            part: attrgetter(path)(module)
            for part, path in zip(PROJECTIONS, spec.parts, strict=True)
        }
        self.fused = self.linears["query"] if spec.parts[0] == spec.parts[1] else None
        if self.fused is not None:
            self.linears |= dict(zip(GROUPS[0], _thirds(self.fused), strict=True))
        own = dict(module.named_modules())
        self.more = {path.split(".")[-1]: own[path] for path in spec.more_rows if path in own}
        self.norm1, self.norm2 = (attrgetter(path)(module) for path in spec.norms)
        self.activation = attrgetter(spec.activation)(module)
        self.together = False  # whether attention takes queries, keys and values of one product, by which a matrix of all three learns
        # the heads' numbers in the full shape, for what the model keeps a head outside of the block
        self.head_numbers = list(range(self.heads)) if heads is None else list(heads)

    @property
    def heads(self) -> int:
        """How many there are: fewer in a shrunk model, or none."""
        return self.linears["query"].out_features // self.head_width

    @property
    def neurons(self) -> int:
        """How many there are; a gated one has two rows of the first matrix."""
        return self.linears["ffn_out"].in_features

    def split(self, x: Tensor) -> Tensor:
        """(…, tokens, heads * head width) -> (…, heads, tokens, head width)."""
        return x.unflatten(-1, (self.heads, self.head_width)).transpose(-2, -3)

    def enter(self, x: Tensor, group: int = 0) -> Tensor:
        """What GROUPS[group], the first of a sub-layer, reads of the residual stream: normed where the norm comes first."""
        if not self.spec.pre_norm:
            return x
        return (self.norm1 if group == 0 else self.norm2)(x)

    def leave(self, total: Tensor, group: int) -> Tensor:
        """The residual stream behind GROUPS[group], the last of a sub-layer: normed where the norm comes last."""
        if self.spec.pre_norm:
            return total
        return (self.norm1 if group == 1 else self.norm2)(total)

    def projected(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, in one product where one matrix holds them."""
        if self.fused is not None:
            return self.fused(x).chunk(3, dim=-1)
        return tuple(self.linears[part](x) for part in GROUPS[0])

    def attend(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed input of the attention (real tokens, width) -> packed context, the input of the attention output."""
        if not self.heads:
            return x.new_empty(len(x), 0)
        q, k, v = map(
            padding.unpack,
            self.projected(x) if self.together else (self.linears[part](x) for part in GROUPS[0]),
        )
        return padding.pack(self.attention(q, k, v, padding.mask[:, None, None, :]))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Padded queries, keys and values -> context, (sentences, tokens, heads * head width) each; mask as torch takes it."""
        q, k, v = map(self.split, (q, k, v))
        return attend(self.spec.scores(self, q, k, mask), v).transpose(1, 2).flatten(2)

    def attention_weights(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed block input -> what each token's context is made of: (sentences, heads, tokens, tokens), rows sum to 1."""
        q, k = (
            self.split(padding.unpack(self.linears[part](self.enter(x))))
            for part in ("query", "key")
        )
        query, key, scale, bias = self.spec.scores(self, q, k, padding.mask[:, None, None, :])
        assert bias is not None, "there is a mask"
        products = query @ key.transpose(-1, -2) * scale
        products = (
            products.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else products + bias
        )
        return products.softmax(-1)

    def activated(self, x: Tensor) -> Tensor:
        """Output of the first feed-forward matrix -> input of the second."""
        if not self.spec.gated:
            return self.activation(x)
        x, gate = x.chunk(2, dim=-1)
        return self.activation(x) * gate

    def stage(
        self, group: int, inputs: Tensor, residual: Tensor, padding: Padding
    ) -> tuple[Tensor, Tensor]:
        """(input of GROUPS[group], residual) -> the same of the next group; after the last, the residual stream twice."""
        if group == 0:
            return self.attend(inputs, padding), residual
        if group == 1:
            a = self.leave(self.linears["attention_output"](inputs) + residual, group)
            return self.enter(a, 2), a
        if group == 2:
            return self.activated(self.linears["ffn_in"](inputs)), residual
        y = self.leave(self.linears["ffn_out"](inputs) + residual, group)
        return y, y

    def once(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed block input -> packed output of one pass, (tokens, width) each."""
        inputs, residual = self.enter(x), x
        for group in range(len(GROUPS)):
            inputs, residual = self.stage(group, inputs, residual, padding)
        return residual


def _thirds(fused: nn.Linear) -> list[nn.Linear]:
    """Query, key and value of a matrix that holds them below each other, as views of it."""
    size = fused.out_features // 3
    rows = [slice(third * size, (third + 1) * size) for third in range(3)]
    return [
        view(fused.weight[own], None if fused.bias is None else fused.bias[own]) for own in rows
    ]


def view(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear of these; a new one would draw its first weights by lot."""
    linear = nn.Linear(1, 1, bias=bias is not None, device="meta")
    linear.out_features, linear.in_features = weight.shape
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def block_modules(model: nn.Module) -> list[tuple[nn.ModuleList, int]]:
    """(list, place) of every module that holds a block, from the bottom; who cuts blocks replaces them there."""
    spec = layout(model)
    found = attrgetter(spec.blocks)(model)
    if spec.within:
        return [(getattr(group, spec.within), 0) for group in found]
    return [(found, place) for place in range(len(found))]


def blocks(model: nn.Module) -> list[Block]:
    """The encoder's distinct blocks from the bottom."""
    kept = getattr(model.config, CUT, {}).get("heads")
    return [
        Block(model, own[place], index, heads=kept and kept[index])
        for index, (own, place) in enumerate(block_modules(model))
    ]


def block_passes(model: nn.Module) -> list[tuple[int, Block]]:
    """(its number, block) of every pass, in the order of the forward pass."""
    return [
        (index, block) for index, block in enumerate(blocks(model)) for _ in range(block.passes)
    ]


def linears(model: nn.Module) -> Iterator[tuple[int, str, nn.Linear]]:
    """(block, part, Linear) of every weight that pruning may touch."""
    for index, block in enumerate(blocks(model)):
        for part, linear in block.linears.items():
            yield index, part, linear


def task_type_of(model: Any) -> str:
    """What the model's head answers with, a key of examples.KINDS."""
    return head_task_type(type(model).__name__, model.config)


def head_task_type(made: str, config: Any) -> str:
    """The same, of the class by that name with that configuration."""
    if made.endswith("ForQuestionAnswering"):
        return "span"
    if made.endswith("ForTokenClassification"):
        return "token"
    if getattr(config, "problem_type", None) == "multi_label_classification":
        return "multilabel"
    return "regression" if config.num_labels == 1 else "classification"


def head_linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The Linears behind the encoder (pooler, classifier), in the order of the forward pass."""
    spec, kind = layout(model), task_type_of(model)
    paths = {"span": spec.span_linears, "token": spec.token_linears}.get(kind, spec.head_linears)
    return [(path, attrgetter(path)(model)) for path in paths]


def embed(model: nn.Module, batch: Batch) -> tuple[Tensor, Padding]:
    """(hidden states of the real tokens, packed: (tokens, width); where they are) before block 0."""
    spec = layout(model)
    base: Any = getattr(model, spec.base)
    kinds = {"token_type_ids": batch["token_type_ids"]} if "token_type_ids" in batch else {}
    hidden = base.embeddings(input_ids=batch["input_ids"], **kinds)
    narrow = attrgetter(spec.narrow)(base) if spec.narrow and _has(base, spec.narrow) else None
    padding = Padding.of(batch["attention_mask"])
    return padding.pack(hidden if narrow is None else narrow(hidden)), padding


def _has(module: Any, path: str) -> bool:
    """Whether there is such a submodule: ELECTRA's large sizes embed as wide as they think."""
    return path in dict(module.named_modules())


NEVER = -1e4  # a logit whose softmax is 0 in every precision, and whose differences are finite


def head(model: Any, hidden: Tensor, padding: Padding) -> Tensor:
    """Packed final hidden states -> logits (sentences, labels); for spans (sentences, 2, tokens), start and end; for token
    labels (real tokens, labels)."""
    spec, kind = layout(model), task_type_of(model)
    if spec.final_norm:
        hidden = attrgetter(spec.final_norm)(getattr(model, spec.base))(hidden)
    if kind == "span":
        return padding.unpack(spec.of_ends(model, hidden), NEVER).transpose(1, 2)
    if kind == "token":
        return spec.of_tokens(model, hidden)
    return spec.head(model, padding.unpack(hidden), padding.mask)


def used_token(model: Any) -> int | None:
    """How many first tokens the head looks at; None for all."""
    return (
        None
        if task_type_of(model) in ("span", "token") or layout(model).reads_all(model.config)
        else 1
    )


@torch.no_grad()
def hidden_states(model: nn.Module, batch: Batch) -> Iterator[tuple[Tensor, Padding]]:
    """(packed hidden states, where they are) before block 0 and behind every pass of a block."""
    x, padding = embed(model, batch)
    yield x, padding
    for _, block in block_passes(model):
        x = block.once(x, padding)
        yield x, padding


def max_tokens(model: Any) -> int:
    """The most tokens a text may have."""
    return layout(model).longest(model.config)


def sparsity_by_projection(model: nn.Module) -> list[dict[str, Any]]:
    """Realised sparsity of every prunable matrix: block, part, sparsity."""
    found = list(linears(model))
    zeros = torch.stack(
        [(linear.weight == 0).sum() for _, _, linear in found]
    ).tolist()  # one look at the device for all
    return [
        {"block": index, "part": part, "sparsity": count / max(1, linear.weight.numel())}
        for (index, part, linear), count in zip(found, zeros, strict=True)
    ]
