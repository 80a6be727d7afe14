"""Search of a retrieval collection for one query, with a dense and a pruned model."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..data.exact_search import top_k
from ..data.examples import DataSource
from ..measures.base import Pair
from ..measures.retrieval import embed_documents, embed_queries, is_cosine
from ..plugins import no_report
from ..tasks import task_data

MAX_DOCUMENTS = 2000  # of a collection; all judged ones and a sample
DEPTH = 10  # documents shown of a ranking


class DocumentSearch:
    """The documents of a collection, embedded once for each model."""

    def __init__(self, source: dict[str, Any], max_length: int):
        task = task_data.load(DataSource(**source), ("embedding",), kind="embedding")
        assert task.collection, "the page asks only for collections"
        self.task, self.max_length = task, max_length
        self.collection = task.collection.sample_documents(MAX_DOCUMENTS, seed=0)
        self._embeddings: dict[str, Tensor] = {}  # (documents, dimensions) by checkpoint

    def search(
        self, checkpoints: Sequence[str], models: Sequence[tuple[Any, Any]], text: str
    ) -> list[dict[str, Any]]:
        """Search with the dense and the pruned model, in this order.

        Each result has `old_index`, the ranking on the dense model's documents, and `reembedded`,
        that on the model's own: lists of document id, text and grade (0: not relevant).
        `relevant` is the number of relevant documents, None if the query is not in the collection.
        """
        (dense, tokenizer), (pruned, _) = models
        pair = Pair(dense, pruned, tokenizer, self.task, max_length=self.max_length)
        texts, cosine = self.collection.documents, is_cosine(dense)
        known = dict(zip(self.collection.queries, self.collection.query_ids, strict=True))
        grades = self.collection.judgements[known[text]] if text in known else {}
        results = []
        for checkpoint, (model, _) in zip(checkpoints, models, strict=True):
            if checkpoint not in self._embeddings:
                self._embeddings[checkpoint] = embed_documents(pair, model, texts, no_report)
            query = embed_queries(pair, model, [text], no_report)
            indexes = {"old_index": checkpoints[0], "reembedded": checkpoint}
            rankings: dict[str, Any] = {
                name: self._hits(query, self._embeddings[index], grades, cosine=cosine)
                for name, index in indexes.items()
            }
            relevant = sum(grade > 0 for grade in grades.values()) if grades else None
            results.append({"checkpoint": checkpoint, "relevant": relevant, **rankings})
        return results

    def _hits(
        self, query: Tensor, documents: Tensor, grades: Mapping[str, float], *, cosine: bool
    ) -> list[dict[str, Any]]:
        """Return the first documents of the ranking of a query, (1, dimensions)."""
        places = top_k(query, documents, DEPTH, normalize=cosine).positions[0].tolist()
        ids = self.collection.document_ids
        return [
            {
                "document": ids[place],
                "text": self.collection.documents[place],
                "grade": grades.get(ids[place], 0.0),
            }
            for place in places
        ]
