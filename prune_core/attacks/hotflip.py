"""HotFlip on a passage: replace its words until its embedding is close to those of many queries.

Ebrahimi et al. 2018, arXiv 1712.06751; on retrieval, Zhong et al. 2023, "Poisoning Retrieval
Corpora by Injecting Adversarial Passages", arXiv 2310.19156.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..data.examples import Examples
from ..data.tokens import Features, encode_texts, pad_batch
from ..models.devices import device_of
from ..plugins import Report, no_report
from ..tasks.encoding import embeddings


def whole_words(tokenizer: Any) -> dict[str, int]:
    """Return the tokens that are one word of letters: text -> token id.

    Special and unused tokens, digits, punctuation and parts of words are left out.
    """
    first = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    ids = sorted({*tokenizer.get_vocab().values()} - {*tokenizer.all_special_ids})
    texts = tokenizer.batch_decode([[first, token] for token in ids])
    pairs = [text.strip().partition(" ") for text in texts]  # without a space: part of a word
    return {word: token for (_, _, word), token in zip(pairs, ids, strict=True) if word.isalpha()}


@dataclass(frozen=True)
class PassageTarget:
    """A model, and the queries whose mean similarity to a passage is increased."""

    model: Any
    tokenizer: Any
    vocabulary: Mapping[str, int]  # words that may be inserted, see `whole_words`
    queries: Tensor  # (queries, dimensions)
    is_cosine: bool  # whether the similarity is the cosine, else the dot product
    prompt: str = ""  # text before every passage
    limit: int = 128  # tokens

    def similarities(self, passages: Sequence[Sequence[str]]) -> Tensor:
        """Return the mean similarity of each passage to the queries: (passages,) on the CPU."""
        vectors = embeddings(
            self.model, self.tokenizer, self._encoded(passages), len(passages), report=no_report
        )
        return self._mean(vectors)

    def replacements(self, words: Sequence[str], place: int, count: int) -> list[str]:
        """Return the words that increase the similarity most in that place, to first order.

        The best first, at most `count`, without the word itself; only words whose passage is read
        by the tokenizer as the same tokens.
        """
        (ids,) = self._ids([words])
        suffix = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        token = len(ids) - suffix[::-1].index(0) - len(words) + place
        names, scores = list(self.vocabulary), self._word_vectors @ self._gradient(words)[token]
        order = scores.topk(min(count + 1, len(names))).indices.tolist()
        best = [names[row] for row in order if names[row] != words[place]][:count]
        found = self._ids([replaced(words, place, word) for word in best]) if best else []
        return [
            word
            for word, read in zip(best, found, strict=True)
            if read == [*ids[:token], self.vocabulary[word], *ids[token + 1 :]]
        ]

    @cached_property
    def _word_vectors(self) -> Tensor:
        """Token embeddings of the vocabulary: (words, width)."""
        table = self.model.get_input_embeddings().weight.detach()
        return table[torch.tensor([*self.vocabulary.values()], device=table.device)]

    def _encoded(self, passages: Sequence[Sequence[str]]) -> Features:
        texts = [self.prompt + " ".join(words) for words in passages]
        return encode_texts(self.tokenizer, Examples(texts), self.limit)

    def _ids(self, passages: Sequence[Sequence[str]]) -> list[list[int]]:
        return self._encoded(passages).inputs["input_ids"]

    def _mean(self, vectors: Tensor) -> Tensor:
        """Return the mean similarity of each vector to the queries, with gradients."""
        queries = self.queries.to(vectors)
        if self.is_cosine:
            vectors, queries = normalize(vectors), normalize(queries)
        return vectors @ queries.mean(0)

    def _gradient(self, words: Sequence[str]) -> Tensor:
        """Gradient of the mean similarity at the token embeddings: (tokens, width)."""
        inputs: list[Tensor] = []

        def capture(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
            inputs.append(output.detach().requires_grad_())
            return inputs[0]

        device = device_of(self.model)
        batch = pad_batch(self.tokenizer, self._encoded([words]), [0], device=device)
        hook = self.model.get_input_embeddings().register_forward_hook(capture)
        try:
            with torch.enable_grad():
                similarity = self._mean(self.model(**batch).embeddings)
                (gradient,) = torch.autograd.grad(similarity.sum(), inputs)
        finally:
            hook.remove()
        return gradient[0]


def replaced(words: Sequence[str], place: int, word: str) -> list[str]:
    """Return the words with another one in that place."""
    return [*words[:place], word, *words[place + 1 :]]


def optimize(
    target: PassageTarget, start: Sequence[str], steps: int, *, candidates: int, report: Report
) -> tuple[list[str], list[float]]:
    """Replace one word per step, in turn from the first to the last, if the similarity increases.

    Of the `candidates` best replacements to first order, the best by a forward pass is taken.
    Return the words and the mean similarity at the start and after each step, which never
    decreases. Ends early if no word can be replaced.
    """
    words, trace = list(start), target.similarities([start]).tolist()
    unchanged = 0  # places in a row whose word was not replaced
    for step in range(steps):
        if unchanged == len(words):
            break
        report(step / steps, f"optimizing a passage, step {step + 1} of {steps}")
        place = step % len(words)
        passages = [
            replaced(words, place, word) for word in target.replacements(words, place, candidates)
        ]
        values = target.similarities(passages) if passages else torch.tensor([trace[-1]])
        is_better = values.max().item() > trace[-1]
        if is_better:
            words = passages[int(values.argmax())]
        unchanged = 0 if is_better else unchanged + 1
        trace.append(max(trace[-1], values.max().item()))
    return words, trace
