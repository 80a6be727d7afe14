"""Which words a prediction hangs on, by two accounts: the gradient at the input embeddings, and the attention of a head.

Both are given per word as it stands in the text; [CLS] and [SEP] count as words of their own. Knows nothing of pages.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import PruneError
from ...plugins import Batch
from ..compact import live_units
from ..devices import device_of
from ..replay import block_passes, hidden_states, max_tokens, task_type_of

UNEXPLAINED = {
    "span": "It finds answers in a text: an answer has two ends",
    "token": "It labels every word: there are as many answers as words",
}


class TokenizedWords(NamedTuple):
    """A text or a pair as the model reads it, and whose piece each token is."""

    batch: Batch  # one row
    names: list[str]
    owner: Tensor  # (tokens,) index into names

    def summed(self, values: Tensor) -> Tensor:
        """(..., tokens) -> (..., words)."""
        return values.new_zeros(*values.shape[:-1], len(self.names)).index_add_(
            -1, self.owner, values
        )


def words(model: Any, tokenizer: Any, text: str, pair: str | None = None) -> TokenizedWords:
    """Words are what spaces part; a text that is too long ends where the model stops reading."""
    if not tokenizer.is_fast:  # one written in Python does not say where tokens lie in the text
        return _pieces(model, tokenizer, text, pair=pair)
    encoded = tokenizer(
        text, pair, truncation=True, max_length=max_tokens(model), return_offsets_mapping=True
    )
    spans = [[match.span() for match in re.finditer(r"\S+", each)] for each in (text, pair or "")]
    names: list[str] = []
    owner: list[int] = []
    before: Any = None
    for token, part, (_, end) in zip(
        encoded.tokens(), encoded.sequence_ids(), encoded["offset_mapping"], strict=True
    ):
        word = (
            None
            if part is None
            else (part, next(i for i, (_, last) in enumerate(spans[part]) if end <= last))
        )
        if word is None or word != before:
            names.append(
                token
                if word is None
                else (text, pair or "")[word[0]][slice(*spans[word[0]][word[1]])]
            )
        owner.append(len(names) - 1)
        before = word
    device = device_of(model)
    batch = {
        name: torch.tensor([encoded[name]], device=device)
        for name in tokenizer.model_input_names
        if name in encoded
    }
    return TokenizedWords(batch, names, torch.tensor(owner, device=device))


def _pieces(model: Any, tokenizer: Any, text: str, pair: str | None) -> TokenizedWords:
    """Each token as a word."""
    device = device_of(model)
    encoded = tokenizer(text, pair, truncation=True, max_length=max_tokens(model))
    batch = {
        name: torch.tensor([encoded[name]], device=device)
        for name in tokenizer.model_input_names
        if name in encoded
    }
    names = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    return TokenizedWords(batch, names, torch.arange(len(names), device=device))


def saliency(model: Any, tokenizer: Any, text: str, pair: str | None = None) -> dict[str, Any]:
    """Of each word, summed over its pieces, what the predicted label's logit (or the score) owes to its embedding x.

    `product` is gradient times input, g·x: by how much the logit grows with the length of x, so signed. `norm` is |g|:
    how much the logit moves with the embedding at all. Simonyan, Vedaldi and Zisserman 2014, arXiv 1312.6034; Shrikumar
    and others 2016, arXiv 1605.01713.
    """
    if task_type_of(model) in UNEXPLAINED:
        raise PruneError(
            f"{UNEXPLAINED[task_type_of(model)]}, and no one logit to explain. Look at its attention."
        )
    read = words(model, tokenizer, text, pair=pair)
    rest = {name: tensor for name, tensor in read.batch.items() if name != "input_ids"}
    x = model.get_input_embeddings()(read.batch["input_ids"]).detach().requires_grad_()
    logits = model(inputs_embeds=x, **rest).logits[0]
    said = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[said], x)
    accounts = {"product": (gradient * x).sum(-1)[0], "norm": gradient.norm(dim=-1)[0]}
    label = "score" if task_type_of(model) == "regression" else str(model.config.id2label[said])
    return {
        "words": read.names,
        "label": label,
        "logit": logits[said].item(),
        **{name: read.summed(values.detach()).tolist() for name, values in accounts.items()},
    }


@torch.no_grad()
def attention(
    model: Any,
    tokenizer: Any,
    text: str,
    pair: str | None = None,
    block: int | None = None,
    head: int | None = None,
) -> dict[str, Any]:
    """How much each word attends to each: `weights` (words, words), rows sum to 1; of a head, or the mean over those left.

    A word of several pieces pays with their mean and gets their sum. Indices count from 0 in the unpruned shape; without a
    block it is the last. `heads` are those left in the block, of `of`; `weights` are None where the head is gone, or all are.
    """
    read, all_blocks = (
        words(model, tokenizer, text, pair=pair),
        [own for _, own in block_passes(model)],
    )
    block = len(all_blocks) - 1 if block is None else block
    own = all_blocks[block]
    left = live_units(own).heads
    heads = [own.head_numbers[place] for place in left]
    of = model.config.hidden_size // own.head_width
    answer = {
        "words": read.names,
        "block": block,
        "blocks": len(all_blocks),
        "heads": heads,
        "of": of,
        "weights": None,
    }
    if not heads or head is not None and head not in heads:
        return answer
    x, padding = next(islice(hidden_states(model, read.batch), block, None))
    weights = own.attention_weights(x, padding)[
        0, left if head is None else [left[heads.index(head)]]
    ].mean(0)
    received = read.summed(weights)  # (tokens, words)
    paid = read.summed(received.T).T / torch.bincount(read.owner)[:, None]
    return answer | {"weights": [[round(value, 5) for value in row] for row in paid.tolist()]}
