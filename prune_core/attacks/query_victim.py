"""An embedding model whose queries are attacked: a search over documents as a classifier."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .queries import Input
from .resources import load_textattack
from .scheduler import query_model
from .victim import Victim

load_textattack()
from textattack.models.wrappers import ModelWrapper  # noqa: E402

NO_DOCUMENT = -1e4  # best similarity of a query without a relevant document
SCALE = 20.0  # of cosines, so that their differences are visible in probabilities


class QueryVictim(Victim):
    """Embeds queries and compares them with a fixed index of documents."""

    def use_index(
        self, documents: Tensor, relevant: Sequence[Tensor], k: int, *, prompt: str, normalize: bool
    ) -> None:
        """Set the index, (documents, dimensions), and the positions relevant to each query."""
        self.documents = torch.nn.functional.normalize(documents) if normalize else documents
        self.relevant, self.k, self.prompt, self.normalize = relevant, k, prompt, normalize

    def encoded(self, texts: Sequence[Input]) -> Any:
        """Token ids and masks of the texts after the prompt, not padded."""
        return super().encoded([f"{self.prompt}{text}" for text in texts])

    def for_example(self, index: int) -> ModelWrapper:
        """Return the search for one query."""
        return QuerySearch(self, self.relevant[index])

    def _outputs(self, batch: Any) -> Tensor:
        return self.model(**batch).embeddings


class QuerySearch(ModelWrapper):
    """Classifies versions of one query: label 1 if a relevant document is in the top k.

    The logits are the similarities of the k-th other document and of the best relevant one, so the
    larger one decides, and an attack lowers their difference.
    """

    def __init__(self, victim: QueryVictim, relevant: Tensor):
        self.victim, self.relevant = victim, relevant

    def __call__(self, text_input_list: Sequence[Input], **_: Any) -> Tensor:
        """Logits (texts, 2) on the CPU."""
        victim = self.victim
        embeddings = torch.stack(query_model(victim.logits, text_input_list))
        if victim.normalize:
            embeddings = SCALE * torch.nn.functional.normalize(embeddings)
        similarities = embeddings @ victim.documents.T
        without = similarities.new_full((len(similarities), 1), NO_DOCUMENT)
        best = torch.cat([similarities[:, self.relevant], without], 1).amax(1)
        similarities[:, self.relevant] = -torch.inf
        return torch.stack([similarities.topk(victim.k).values[:, -1], best], 1)
