"""A retrieval collection: documents, queries, relevance judgements and first-stage candidates.

`retrieval_files.py` reads them from files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from .dropped_rows import MAX_DROPPED_FRACTION, RowQuestion
from .examples import DOCUMENT, QUERY, Examples, sample_indices
from .retrieval_metrics import Judged

SHOWN = 3  # examples in a message

Judgements = Mapping[str, Mapping[str, float]]  # query id -> {document id: grade}
Candidates = Mapping[str, tuple[str, ...]]  # query id -> document ids


@dataclass(frozen=True)
class RetrievalCollection:
    """Documents, and queries with judgements; made by `collection`, which checks them."""

    query_ids: tuple[str, ...]
    queries: tuple[str, ...]  # texts, in the order of the ids
    document_ids: tuple[str, ...]
    documents: tuple[str, ...]
    judgements: Judgements  # of every query; grades above 0 are relevant
    candidates: Candidates  # documents to rerank; {} without a first stage
    is_first_stage_order: bool = True  # whether the order of the candidates is one to compare with
    notes: tuple[str, ...] = ()  # on what was left out or is unusual
    unjudged: tuple[str, ...] = ()  # texts of queries without a judgement

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of each document by its id."""
        return {document: place for place, document in enumerate(self.document_ids)}

    @cached_property
    def judged(self) -> list[Judged]:
        """Judgements of each query by document position, in the order of the queries."""
        found = []
        for query in self.query_ids:
            grades = self.judgements[query]
            places = np.array([self.positions[document] for document in grades], dtype=np.int64)
            found.append(Judged(places, np.array(list(grades.values()), dtype=float)))
        return found

    def candidate_positions(self, query: str) -> np.ndarray:
        """(candidates,) int64 document positions of a query's candidates, in their order."""
        places = [self.positions[document] for document in self.candidates.get(query, ())]
        return np.array(places, dtype=np.int64)

    def calibration_examples(self, size: int, seed: int) -> Examples:
        """Return a random sample of texts for calibration: at most `size` documents.

        Queries without a judgement are added, at most a quarter as many. Judged queries are left
        out, because the pruned model is evaluated on them.
        """
        documents = [text for text in self.documents if text.strip()]
        chosen = sample_indices(range(len(documents)), size, seed)
        asked = min(len(self.unjudged), len(chosen) // 4)
        queries = sample_indices(range(len(self.unjudged)), asked, seed) if asked else []
        texts = [documents[index] for index in chosen] + [self.unjudged[index] for index in queries]
        roles = [DOCUMENT] * len(chosen) + [QUERY] * len(queries)
        return Examples(texts, kind="embedding", roles=roles)

    def sample_queries(self, size: int, seed: int) -> RetrievalCollection:
        """Return the collection with a random sample of its queries (0 = all) and all documents."""
        chosen = sample_indices(range(len(self.queries)), size, seed)
        ids = tuple(self.query_ids[index] for index in chosen)
        return replace(
            self,
            query_ids=ids,
            queries=tuple(self.queries[index] for index in chosen),
            judgements={query: self.judgements[query] for query in ids},
            candidates={query: self.candidates[query] for query in ids if query in self.candidates},
        )

    def sample_documents(self, size: int, seed: int) -> RetrievalCollection:
        """Return the collection with about `size` documents (0 = all).

        Judged documents and candidates remain, others are a random sample. Metrics of a smaller
        collection are higher; values are comparable for the same sample only.
        """
        needed = {document for grades in self.judgements.values() for document in grades}
        needed |= {document for found in self.candidates.values() for document in found}
        others = [place for place, name in enumerate(self.document_ids) if name not in needed]
        if size == 0 or size >= len(self.documents) or not others:
            return self
        room = size - len(needed)
        added = sample_indices(others, room, seed) if room > 0 else []
        kept = sorted([*added, *(self.positions[document] for document in needed)])
        note = f"{len(kept):,} of {len(self.documents):,} documents: all judged ones and a sample."
        return replace(
            self,
            document_ids=tuple(self.document_ids[place] for place in kept),
            documents=tuple(self.documents[place] for place in kept),
            notes=(*self.notes, note),
        )


def collection(
    documents: pd.Series,
    queries: pd.Series,
    judgements: pd.DataFrame,
    candidates: Candidates | None = None,
    *,
    name: str,
    is_first_stage_order: bool = True,
    skip: bool = False,
) -> RetrievalCollection:
    """Check and join the parts of a collection.

    `documents` and `queries`: texts, indexed by id; `judgements`: columns query, document, grade.
    Queries without a judgement are left out. RowQuestion for judgements or candidates of unknown
    documents or queries and for judged queries without text, which `skip` leaves out; PruneError
    for repeated ids, conflicting judgements, too many documents without text, or no judged query.
    `name` names the data in messages.
    """
    for texts, noun in ((documents, "document"), (queries, "query")):
        _check_unique(texts, noun, name)
    empty = _check_documents(documents, name)
    known, notes = _known_judgements(judgements, documents, queries, name=name, skip=skip)
    graded = _by_query(known, name)
    judged = queries[queries.index.isin(list(graded))]
    without_text = [query for query, text in judged.items() if not text.strip()]
    if without_text and not skip:
        raise RowQuestion(
            f"{name}: {_queries(len(without_text), 'judged ')} without text "
            f"({_first(without_text)}); write the text, or leave them out with --bad-rows skip."
        )
    judged = judged.drop(without_text)
    if judged.empty:
        raise PruneError(
            f"{name}: none of {len(queries):,} queries has a judgement ({_first(queries.index)}); "
            "choose another split, or compare the ids of queries and judgements."
        )
    if unjudged := len(queries) - len(judged):
        notes.append(f"{_queries(unjudged)} without judgement or text left out.")
    if irrelevant := sum(max(graded[query].values()) <= 0 for query in judged.index):
        notes.append(f"{_queries(irrelevant)} without a relevant document, with the value 0.")
    ids = tuple(judged.index)
    chosen = _known_candidates(candidates or {}, ids, documents, name=name, skip=skip)
    return RetrievalCollection(
        ids,
        tuple(judged),
        tuple(documents.index),
        tuple(documents),
        {query: graded[query] for query in ids},
        chosen,
        is_first_stage_order,
        (*empty, *notes),
        unjudged=tuple(text for text in queries[~queries.index.isin(list(graded))] if text.strip()),
    )


def _queries(number: int, before: str = "") -> str:
    return f"{number:,} {before}{'query' if number == 1 else 'queries'}"


def _first(values: Sequence[object] | pd.Index) -> str:
    shown = ", ".join(repr(str(value)[:40]) for value in list(values)[:SHOWN])
    return shown + (", …" if len(values) > SHOWN else "")


def _check_unique(texts: pd.Series, noun: str, name: str) -> None:
    if not texts.index.is_unique:
        repeated = texts.index[texts.index.duplicated()].unique()
        raise PruneError(
            f"{name}: more than one {noun} has the id {str(repeated[0])[:40]!r} "
            f"({plural(len(repeated), 'such id')}); give every {noun} a unique id."
        )


def _check_documents(documents: pd.Series, name: str) -> list[str]:
    """Return a note on documents without text; PruneError if they are too many."""
    empty = documents.index[documents.str.strip() == ""]
    if len(empty) > MAX_DROPPED_FRACTION * len(documents):
        raise PruneError(
            f"{name}: {len(empty):,} of {plural(len(documents), 'document')} without text "
            f"({_first(empty)}); check that the column of the text is called text."
        )
    verb = "remains" if len(empty) == 1 else "remain"
    kept = f"{plural(len(empty), 'document')} without text {verb} in the index ({_first(empty)})."
    return [kept] if len(empty) else []


def _known_judgements(
    judgements: pd.DataFrame,
    documents: pd.Series,
    queries: pd.Series,
    *,
    name: str,
    skip: bool,
) -> tuple[pd.DataFrame, list[str]]:
    """Return (judgements of known queries and documents, notes)."""
    has_query = judgements["query"].isin(queries.index)
    has_document = judgements["document"].isin(documents.index)
    known = judgements[has_query & has_document]
    if len(known) == len(judgements):
        return known, []
    parts = [
        f"{(~has).sum():,} of unknown {noun} ({_first(judgements.loc[~has, column].unique())})"
        for has, noun, column in (
            (has_query, "queries", "query"),
            (has_document, "documents", "document"),
        )
        if not has.all()
    ]
    left_out = f"{len(judgements) - len(known):,} of {plural(len(judgements), 'judgement')}"
    if skip and len(known):
        return known, [f"{left_out} left out: {', '.join(parts)}."]
    raise RowQuestion(
        f"{name}: {left_out} cannot be used: {', '.join(parts)}; "
        + (
            "add them, or leave these judgements out with --bad-rows skip."
            if len(known)
            else "the ids of the judgements must be those of the queries and documents."
        )
    )


def _by_query(judgements: pd.DataFrame, name: str) -> dict[str, dict[str, float]]:
    """Return {query: {document: grade}}; PruneError if a pair has two grades."""
    pairs = judgements.drop_duplicates(["query", "document", "grade"])
    conflicts = pairs[pairs.duplicated(["query", "document"])]
    if len(conflicts):
        row = conflicts.iloc[0]
        raise PruneError(
            f"{name}: query {row['query']!r} and document {row['document']!r} have two different "
            f"grades ({plural(len(conflicts), 'such pair')}); keep one grade for each pair."
        )
    graded: dict[str, dict[str, float]] = {}
    for query, document, grade in pairs[["query", "document", "grade"]].itertuples(index=False):
        graded.setdefault(query, {})[document] = float(grade)
    return graded


def _known_candidates(
    candidates: Candidates, queries: Sequence[str], documents: pd.Series, *, name: str, skip: bool
) -> dict[str, tuple[str, ...]]:
    """Return the candidates of the judged queries that are documents of the collection."""
    known = set(documents.index)
    chosen = {query: candidates[query] for query in queries if query in candidates}
    unknown = [each for found in chosen.values() for each in found if each not in known]
    if unknown and not skip:
        raise RowQuestion(
            f"{name}: {plural(len(unknown), 'candidate')} not in the collection's documents "
            f"({_first(unknown)}); add them, or leave them out with --bad-rows skip."
        )
    if candidates and not chosen:
        raise PruneError(
            f"{name}: no judged query has candidates ({_first(list(candidates))}); compare the ids "
            "of the queries in the run file with those in the query file."
        )
    return {
        query: tuple(each for each in found if each in known) for query, found in chosen.items()
    }
