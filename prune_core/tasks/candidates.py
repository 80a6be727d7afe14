"""Candidates of queries, which rerankers score as pairs: their grades, and those of a run file."""

from __future__ import annotations

from dataclasses import replace

from ..data import retrieval_files, tables
from ..data.examples import DataSource, Examples
from ..data.reading import ReadExamples
from . import METRICS
from .regression import Regression


def as_grades(examples: Examples, metric: str) -> Examples:
    """Read labels 0 and 1 of candidates as grades, unless a metric of classes is requested."""
    names = {metric, f"binary_{metric}"} & {*METRICS}
    is_ranking = examples.binary and examples.has_grades
    if not is_ranking or any(METRICS[name].binary for name in names):
        return examples
    return replace(examples, binary=False, labels=[float(each) for each in examples.labels or ()])


def ranking_notes(examples: Examples, metric: str) -> list[str]:
    """Return how candidates of queries are evaluated; [] for other examples or metrics."""
    if not METRICS[metric].by_query:
        return []
    queries = len(set(examples.queries))
    order = "their order before reranking is known"
    if examples.first_stage is None:
        order = (
            "without a column rank or first_stage_score, their order before reranking is unknown"
        )
    return [
        f"Candidates are ranked for each query ({METRICS[metric].title}; queries: {queries:,}, "
        f"{len(examples) / queries:.0f} candidates on average); {order}."
    ]


def read_run_candidates(source: DataSource) -> ReadExamples:
    """Read the candidates of a collection's run file as pairs, with their grades as labels."""
    collection = retrieval_files.read_collection(
        source.task, source.split, tables.dialect_of(source), has_run=True
    )
    texts = dict(zip(collection.document_ids, collection.documents, strict=True))
    rows = [
        (query, texts[document], collection.judgements[name].get(document, 0.0), -float(place))
        for name, query in zip(collection.query_ids, collection.queries, strict=True)
        for place, document in enumerate(collection.candidates.get(name, ()), start=1)
    ]
    relevant = {
        (query, document)
        for query, grades in collection.judgements.items()
        for document, grade in grades.items()
        if grade > 0
    }
    missing = relevant - {
        (query, document) for query, found in collection.candidates.items() for document in found
    }
    note = (
        f"{len(missing):,} of {len(relevant):,} relevant documents are not among the candidates; "
        "they do not count."
    )
    queries, documents, grades, order = (list(column) for column in zip(*rows, strict=True))
    examples = Examples(queries, documents, grades, Regression.name, first_stage=order)
    return ReadExamples(examples, [*collection.notes, *([note] if missing else [])])
