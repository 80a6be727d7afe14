"""Rankings of candidates by rerankers: quality, agreement with the dense order, time per query."""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, ClassVar

import numpy as np

from ..analysis.reranking import compare_rankings
from ..data.examples import Examples
from ..errors import PruneError
from ..models.devices import device_of
from ..models.inference.timing import time_interleaved
from ..plugins import Report, Rows, option
from ..tasks.encoding import batches
from .base import Measure, Pair
from .cost import as_deployed


@dataclass(frozen=True)
class Reranking(Measure):
    """nDCG@10 and MRR@10 of the candidates of queries, and their difference from the first stage.

    Also Kendall's tau with the order of the dense model, with 95% intervals over queries, and the
    median time of scoring the documents of one query in one batch, without tokenization.
    """

    name = "reranking"
    title = "Reranking"
    summary = "Rankings compared with the first stage and the dense reranker, and time per query"
    estimate = 3.0
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    is_default = False  # it needs candidates of queries
    documents: int = option(30, "Documents of one query when timing", low=1, high=1000)
    repeats: int = option(10, "Timed passes", low=3, high=10_000)
    resamples: int = option(
        10_000, "Bootstrap resamples of the queries", low=100, high=1_000_000, expert=True
    )

    @property
    def reads(self) -> str:
        """The predictions of both models."""
        return "accuracy"

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `reranking` (one row) and `reranking_query` (one row per query)."""
        examples = pair.task.evaluation
        if not examples.queries or examples.labels is None:
            raise PruneError(
                f"reranking: {pair.task.name} has no candidates of queries with grades; give a "
                "table with the columns query, document and relevance and two or more documents "
                "per query, or a folder with a run file, as the data."
            )
        compared = compare_rankings(
            pair.rows["prediction"], examples.first_stage, self.resamples, pair.seed
        )
        times = self._times(pair, examples, report)
        report(1.0, "reranking measured")
        return {
            "reranking": compared.table.assign(**times),
            "reranking_query": compared.by_query,
        }

    def _times(self, pair: Pair, examples: Examples, report: Report) -> dict[str, Any]:
        """Return the columns on the time for one query, in seconds.

        If queries have fewer candidates, documents of others are added.
        """
        documents = list(islice(cycle(examples.pairs or ()), self.documents))
        query = Examples([examples.texts[0]] * self.documents, documents, kind=examples.kind)
        ((batch, _),) = batches(
            pair.tokenizer,
            query,
            self.documents,
            max_length=pair.max_length,
            device=device_of(pair.dense),
        )
        models = [pair.dense, *([] if pair.is_dense else [as_deployed(pair.pruned)])]
        times, other_load = time_interleaved(models, batch, self.repeats, report)
        return {
            "documents": self.documents,
            "latency_p50": float(np.median(times[-1])),
            "dense_latency_p50": float(np.median(times[0])),
            "other_load": other_load,
        }
