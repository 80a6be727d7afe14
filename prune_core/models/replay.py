"""The only file that knows Hugging Face encoder layouts: load, save, blocks, linears, block replay.

BERT, DistilBERT, RoBERTa and ELECTRA share one post-norm block, so a block is its six Linears, two LayerNorms and an
activation, and one replay serves all four on every transformers version. Knows nothing of pruning or of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..plugins import Batch
from .families import GROUPS, PARTS, layout


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
    """One transformer block, replayed stage by stage: stage g takes the input of GROUPS[g] to the input of the next."""

    def __init__(self, model: nn.Module, module: nn.Module):
        spec = layout(model)
        self.linears: dict[str, nn.Linear] = {
            part: attrgetter(path)(module) for part, path in zip(PARTS, spec.parts, strict=True)
        }
        self.norm1, self.norm2 = (attrgetter(path)(module) for path in spec.norms)
        self.activation = attrgetter(spec.activation)(module)
        config: Any = model.config
        self.head_width = config.hidden_size // getattr(config, spec.heads)

    @property
    def heads(self) -> int:
        """How many there are: fewer in a shrunk model, or none."""
        return self.linears["query"].out_features // self.head_width

    def attend(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed block input (real tokens, width) -> packed context, the input of the attention output."""
        if not self.heads:
            return x.new_empty(len(x), 0)
        q, k, v = (padding.unpack(self.linears[part](x)) for part in GROUPS[0])
        return padding.pack(self.attention(q, k, v, padding.mask[:, None, None, :]))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Padded queries, keys and values -> context, (sentences, tokens, heads * head width) each; mask as torch takes it."""
        q, k, v = (x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def attention_weights(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed block input -> what each token's context is made of: (sentences, heads, tokens, tokens), rows sum to 1."""
        q, k = (padding.unpack(self.linears[part](x)) for part in ("query", "key"))
        q, k = (x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2) for x in (q, k))
        scores = q @ k.transpose(-1, -2) / self.head_width**0.5
        return scores.masked_fill(~padding.mask[:, None, None, :], -torch.inf).softmax(-1)

    def stage(self, group: int, inputs: Tensor, residual: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
        """(input of GROUPS[group], residual) -> the same of the next group; after the last, of the next block."""
        if group == 0:
            return self.attend(inputs, padding), inputs
        if group == 1:
            a = self.norm1(self.linears["attention_output"](inputs) + residual)
            return a, a
        if group == 2:
            return self.activation(self.linears["ffn_in"](inputs)), residual
        y = self.norm2(self.linears["ffn_out"](inputs) + residual)
        return y, y

    def __call__(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed block input -> packed block output, (tokens, width) each."""
        inputs, residual = x, x
        for group in range(len(GROUPS)):
            inputs, residual = self.stage(group, inputs, residual, padding)
        return inputs


def block_modules(model: nn.Module) -> nn.ModuleList:
    """The modules that hold the blocks, from the bottom; who cuts blocks replaces them here."""
    return attrgetter(layout(model).blocks)(model)


def blocks(model: nn.Module) -> list[Block]:
    """The encoder's blocks from the bottom."""
    return [Block(model, module) for module in block_modules(model)]


def linears(model: nn.Module) -> Iterator[tuple[int, str, nn.Linear]]:
    """(block, part, Linear) of every weight that pruning may touch."""
    for index, block in enumerate(blocks(model)):
        for part, linear in block.linears.items():
            yield index, part, linear


def kind_of(model: Any) -> str:
    """What the model's head answers with: "classification" (a label), "regression" (a score) or "span" (an answer's ends)."""
    if type(model).__name__.endswith("ForQuestionAnswering"):
        return "span"
    return "regression" if model.config.num_labels == 1 else "classification"


def head_linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The Linears behind the encoder (pooler, classifier), in the order of the forward pass."""
    paths = ("qa_outputs",) if kind_of(model) == "span" else layout(model).head_linears
    return [(path, attrgetter(path)(model)) for path in paths]


def embed(model: nn.Module, batch: Batch) -> tuple[Tensor, Padding]:
    """(hidden states of the real tokens, packed: (tokens, width); where they are) before block 0."""
    base: Any = getattr(model, layout(model).base)
    kinds = {"token_type_ids": batch["token_type_ids"]} if "token_type_ids" in batch else {}
    hidden = base.embeddings(input_ids=batch["input_ids"], **kinds)
    if hasattr(base, "embeddings_project"):  # ELECTRA's small sizes embed narrower than they think
        hidden = base.embeddings_project(hidden)
    padding = Padding.of(batch["attention_mask"])
    return padding.pack(hidden), padding


NEVER = -1e4  # a logit whose softmax is 0 in every precision, and whose differences are finite


def head(model: Any, hidden: Tensor, padding: Padding) -> Tensor:
    """Packed final hidden states -> logits (sentences, labels); for spans (sentences, 2, tokens), start and end."""
    if kind_of(model) == "span":
        return padding.unpack(model.qa_outputs(hidden), NEVER).transpose(1, 2)
    return layout(model).head(model, padding.unpack(hidden))


@torch.no_grad()
def hidden_states(model: nn.Module, batch: Batch) -> Iterator[tuple[Tensor, Padding]]:
    """(packed hidden states, where they are) before block 0 and after every block."""
    x, padding = embed(model, batch)
    yield x, padding
    for block in blocks(model):
        x = block(x, padding)
        yield x, padding


def longest(model: nn.Module) -> int:
    """The most tokens a text may have; RoBERTa counts positions from behind its padding index."""
    positions = getattr(model, layout(model).base).embeddings.position_embeddings
    return positions.num_embeddings - (0 if positions.padding_idx is None else positions.padding_idx + 1)


def sparsity_by_part(model: nn.Module) -> list[dict[str, Any]]:
    """Realised sparsity of every prunable matrix: block, part, sparsity."""
    found = list(linears(model))
    zeros = torch.stack([(linear.weight == 0).sum() for _, _, linear in found]).tolist()  # one look at the device for all
    return [
        {"block": index, "part": part, "sparsity": count / max(1, linear.weight.numel())}
        for (index, part, linear), count in zip(found, zeros, strict=True)
    ]
