"""Explain predictions by word: gradients at the input embeddings, and attention weights of a head.

Values are given per word of the text; special tokens such as [CLS] and [SEP] are words of their
own.
"""

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


class TokenizedWords(NamedTuple):
    """A tokenized text or pair, and the word of each token."""

    batch: Batch  # one row
    names: list[str]
    owner: Tensor  # (tokens,) index of each token's word in names

    def summed(self, values: Tensor) -> Tensor:
        """Sum over the tokens of each word: (..., tokens) -> (..., words)."""
        return values.new_zeros(*values.shape[:-1], len(self.names)).index_add_(
            -1, self.owner, values
        )


def words(model: Any, tokenizer: Any, text: str, pair: str | None = None) -> TokenizedWords:
    """Tokenize and assign tokens to words, which are separated by whitespace.

    A text that is too long is truncated. Tokenizers written in Python return no offsets; each of
    their tokens is a word.
    """
    encoded = tokenizer(
        text,
        pair,
        truncation=True,
        max_length=max_tokens(model),
        return_offsets_mapping=tokenizer.is_fast,
    )
    device = device_of(model)
    batch = {
        name: torch.tensor([encoded[name]], device=device)
        for name in tokenizer.model_input_names
        if name in encoded
    }
    if not tokenizer.is_fast:
        tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        return TokenizedWords(batch, tokens, torch.arange(len(tokens), device=device))
    texts = (text, pair or "")
    spans = [[match.span() for match in re.finditer(r"\S+", part)] for part in texts]
    names: list[str] = []
    owner: list[int] = []
    previous: tuple[int, int] | None = None
    for token, part, (_, end) in zip(
        encoded.tokens(), encoded.sequence_ids(), encoded["offset_mapping"], strict=True
    ):
        word: tuple[int, int] | None = None  # (index of the text, index of the word)
        if part is not None:
            word = (part, next(i for i, (_, last) in enumerate(spans[part]) if end <= last))
        if word is None:
            names.append(token)
        elif word != previous:
            start, stop = spans[word[0]][word[1]]
            names.append(texts[word[0]][start:stop])
        owner.append(len(names) - 1)
        previous = word
    return TokenizedWords(batch, names, torch.tensor(owner, device=device))


def saliency(model: Any, tokenizer: Any, text: str, pair: str | None = None) -> dict[str, Any]:
    """Attribute the logit of the predicted label, or the score, to words; summed over their tokens.

    `product` is gradient times input, g·x: the change of the logit with the length of x, signed.
    `norm` is |g|: the sensitivity of the logit to the embedding x. Simonyan, Vedaldi and Zisserman
    2014, arXiv 1312.6034; Shrikumar et al. 2016, arXiv 1605.01713.
    """
    task_type = task_type_of(model)
    if task_type.not_explained:
        raise PruneError(
            f"{task_type.not_explained}, so there is no single logit to explain. "
            "View its attention instead."
        )
    tokens = words(model, tokenizer, text, pair=pair)
    inputs = {name: tensor for name, tensor in tokens.batch.items() if name != "input_ids"}
    x = model.get_input_embeddings()(tokens.batch["input_ids"]).detach().requires_grad_()
    logits = model(inputs_embeds=x, **inputs).logits[0]
    predicted = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[predicted], x)
    attributions = {"product": (gradient * x).sum(-1)[0], "norm": gradient.norm(dim=-1)[0]}
    label = str(model.config.id2label[predicted]) if task_type.has_label_names else "score"
    return {
        "words": tokens.names,
        "label": label,
        "logit": logits[predicted].item(),
        **{name: tokens.summed(values.detach()).tolist() for name, values in attributions.items()},
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
    """Attention weights between words: `weights` (words, words), rows sum to 1.

    Of one head, or the mean over the live heads of a block. For a word of several tokens, attention
    is averaged over its tokens as queries and summed as keys. Indices count from 0 in the unpruned
    shape; the default is the last block. `heads` are the live heads of the block's `head_count`;
    `weights` is None if the head, or every head, is pruned.
    """
    tokens = words(model, tokenizer, text, pair=pair)
    all_blocks = [current for _, current in block_passes(model)]
    index = len(all_blocks) - 1 if block is None else block
    selected = all_blocks[index]
    live = live_units(selected).heads
    heads = [selected.head_numbers[place] for place in live]
    result = {
        "words": tokens.names,
        "block": index,
        "block_count": len(all_blocks),
        "heads": heads,
        "head_count": model.config.hidden_size // selected.head_width,
        "weights": None,
    }
    if not heads or (head is not None and head not in heads):
        return result
    x, padding = next(islice(hidden_states(model, tokens.batch), index, None))
    places = live if head is None else [live[heads.index(head)]]
    weights = selected.attention_weights(x, padding)[0, places].mean(0)
    by_key = tokens.summed(weights)  # (tokens, words)
    by_word = tokens.summed(by_key.T).T / torch.bincount(tokens.owner)[:, None]
    return result | {"weights": [[round(value, 5) for value in row] for row in by_word.tolist()]}
