"""Build assets/neighbours.npz: frequent English words and their nearest neighbors.

The vectors are MiniLM embeddings of the words, counter-fitted with WordNet.

    apt-get install wordnet-base && pip install wordfreq
    python -m tools.counterfit --out assets/neighbours.npz

Counter-fitting after Mrksic et al. 2016 (arXiv 1603.00892): attract synonyms, repel antonyms,
preserve the vector space. Evaluated with `python -m benchmarks.attack --neighbours
../shared/data/synonyms/counterfitted_neighbors.json` against the counter-fitted vectors that
TextFooler uses: 62% of that table's words with neighbors are in ours; of their neighbors within
our vocabulary, our first 10 contain 51% and our first 50 contain 67% (before counter-fitting 44%
and 62%).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prune_core.attacks.neighbours import TABLE, Neighbours, pack
from prune_core.attacks.sentence_similarity import encode
from prune_core.errors import PruneError
from tools.wordnet import Lexicon, Pairs, parts_of_speech

WORDS = 20_000
NEIGHBOURS = 50
# a sentence encoder needs context; the second template refers to the meaning
TEMPLATES = ("{}", "the word {} means the same as")


@dataclass(frozen=True)
class Fit:
    """Weights and margins, chosen by the overlap with the neighbors of TextFooler's vectors."""

    dimensions: int = 150  # of 768: more dimensions do not change the neighbors
    steps: int = 50
    rate: float = 0.01
    synonyms: float = 1.0
    synonym_distance: float = 0.3  # cosine distance below which synonyms have no loss
    relatives: float = 0.1
    relative_distance: float = 0.4
    antonyms: float = 0.5
    antonym_distance: float = 1.0
    preserve: float = 0.3
    lowest: float = 0.4  # minimum cosine of neighbors


def frequent_words(count: int) -> list[str]:
    """Return the most frequent English nouns, verbs, adjectives and adverbs.

    Frequencies are from wordfreq, parts of speech from lemminflect.
    """
    try:
        from wordfreq import top_n_list
    except ImportError:
        raise PruneError(
            "Building the table needs the word frequencies: pip install wordfreq"
        ) from None
    words = [
        word
        for word in top_n_list("en", 4 * count)
        if word.isascii() and word.isalpha() and len(word) > 1
    ]
    return [word for word in words if parts_of_speech(word)][:count]


def word_vectors(words: Sequence[str], dimensions: int) -> Tensor:
    """Return unit vectors (words, dimensions).

    The MiniLM embeddings of each template are centered, concatenated and reduced by PCA.
    """
    parts = []
    for template in TEMPLATES:
        vectors = encode([template.format(word) for word in words], torch.device("cpu"))
        parts.append(F.normalize(vectors - vectors.mean(0), dim=-1))
    joined = torch.cat(parts, 1)
    joined -= joined.mean(0)
    _, directions = torch.linalg.eigh(joined.T @ joined)  # ascending
    return F.normalize(joined @ directions[:, -dimensions:], dim=-1)


def counterfit(
    start: Tensor, synonyms: Pairs, relatives: Pairs, antonyms: Pairs, fit: Fit
) -> Tensor:
    """Counter-fit unit vectors (words, dimensions) by gradient descent.

    A pair that is both synonym and antonym is an antonym.

    The space is preserved by keeping every vector near its initial value (Mrksic et al. 2017):
    preserving only the distances to its neighbors, as in 2016, let unrelated words coincide
    (overlap@10 rose from 44% to 48%, not to 51%).
    """
    synonym_pairs, synonym_weights = _tensors(
        {pair: weight for pair, weight in synonyms.items() if pair not in antonyms}
    )
    relative_pairs, relative_weights = _tensors(
        {pair: weight for pair, weight in relatives.items() if pair not in antonyms}
    )
    antonym_pairs, _ = _tensors(antonyms)
    vectors = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=fit.rate)
    for _ in range(fit.steps):
        unit = F.normalize(vectors, dim=-1)
        loss = (  # weights are squared: synonyms in rare senses have little influence
            fit.synonyms
            * (
                synonym_weights**2 * F.relu(_distance(unit, synonym_pairs) - fit.synonym_distance)
            ).sum()
            + fit.relatives
            * (
                relative_weights**2
                * F.relu(_distance(unit, relative_pairs) - fit.relative_distance)
            ).sum()
            + fit.antonyms * F.relu(fit.antonym_distance - _distance(unit, antonym_pairs)).sum()
            + fit.preserve * (unit - start).square().sum()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.normalize(vectors.detach(), dim=-1)


def _tensors(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return indices (pairs, 2) and weights (pairs,), sorted, as a sum depends on the order."""
    indices = sorted(pairs)
    return torch.tensor(indices).reshape(-1, 2), torch.tensor([pairs[pair] for pair in indices])


def _distance(unit: Tensor, pairs: Tensor) -> Tensor:
    return 1 - (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(-1)


def table(words: Sequence[str], unit: Tensor, antonyms: Pairs, lowest: float) -> Neighbours:
    """Return the nearest words of each word with a cosine of at least `lowest`, no antonyms."""
    nearest, similarity = [], []
    opposite = {pair for first, second in antonyms for pair in ((first, second), (second, first))}
    for rows in torch.arange(len(unit)).split(2000):
        cosine = unit[rows] @ unit.T
        cosine[torch.arange(len(rows)), rows] = -1
        for pair in opposite:
            if rows[0] <= pair[0] <= rows[-1]:
                cosine[pair[0] - rows[0], pair[1]] = -1
        best = cosine.topk(NEIGHBOURS)
        nearest.append(best.indices.numpy())
        similarity.append(np.where(best.values.numpy() >= lowest, best.values.numpy(), 0.0))
    pos = np.array([parts_of_speech(word) for word in words])
    return pack(words, np.concatenate(nearest), np.concatenate(similarity), pos=pos)


def main() -> int:
    """Build and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.counterfit", description=__doc__.split(":")[0]
    )
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    fit = Fit()
    try:
        words = frequent_words(WORDS)
        lexicon = Lexicon(words)
        antonyms = lexicon.antonyms()
        start = word_vectors(words, fit.dimensions)
        unit = counterfit(
            start, lexicon.synonyms(), lexicon.relatives(), antonyms=antonyms, fit=fit
        )
        table(words, unit, antonyms, lowest=fit.lowest).save(options.out)
    except PruneError as error:
        print(f"counterfit: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {len(words)} words, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
