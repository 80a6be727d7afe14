"""Inspect for retrieval collections: the first documents of the dense and a pruned model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from pages.sections import missing_weights
from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import PruneError, formatting
from prune_core.analysis.compared_models import ComparedModel
from prune_core.data.examples import DataSource
from prune_core.processes.inspector_client import Inspector
from prune_core.store.store import Store
from prune_core.tasks import task_data

INDEXES = {"old_index": "Old index", "reembedded": "Re-embedded"}
SHOWN = 240  # characters of a document
Hit = dict[str, Any]


def is_available(view: View) -> bool:
    """Whether the study embeds the documents of a retrieval collection."""
    job = view.job(view.models[0])
    source = job.experiment["source"]
    if not task_data.is_file(source["task"]) and source["task"] != task_data.RETRIEVAL_DEMO:
        # pages do not ask the Hub: what was measured tells
        return job.units == "queries"
    return _is_collection(tuple(source.items()), view.kind)


@st.cache_data(max_entries=64, show_spinner=False)
def _is_collection(source: tuple[tuple[str, Any], ...], kind: str) -> bool:
    try:
        return task_data.is_collection(DataSource(**dict(source)), kind)
    except PruneError:  # moved or deleted
        return False


def section(view: View, client: Inspector) -> None:
    """Draw the query, the choice of model and index, and the two rankings."""
    ui.stop_without(view.pruned, view.is_active)
    with st.container(horizontal=True, vertical_alignment="bottom", key="search-form"):
        query = _query(view)
        index = ui.segments("search-index", INDEXES, label="Index")
    saved = missing_weights.saved_models(view, view.pruned)
    if not (query and saved):
        st.stop()
    model = ui.one_model(saved, "search-model", "Pruned model", dark=view.dark)
    comparison(view, client, model, query, index=index)
    ui.how_to_read(
        "With the **old index**, the pruned model embeds the query and searches the documents as "
        "embedded by the dense model; **re-embedded**, it embeds the documents as well. Arrows are "
        "changes of the rank; *left* marks documents that are not among the pruned model's first "
        "ten, *new* those that are not among the dense model's. Relevance is known for the queries "
        "of the collection only."
    )


def comparison(
    view: View, client: Inspector, model: ComparedModel, query: str, *, index: str
) -> None:
    """Draw the first documents of the dense and a pruned model side by side."""
    with st.spinner("Searching (documents are embedded once per model) …", show_time=True):
        results = ui.run_action(_search, view, client, model, query)
    if results is None:
        return
    dense, pruned = (result[index] for result in results)
    ui.takeaway(summary_sentence(model, dense, pruned, relevant=results[0]["relevant"]))
    titles = st.columns(2, gap="medium")
    titles[0].markdown("#### Dense model")
    titles[1].markdown(f"#### {ui.escape(model.label)}")
    after = {hit["document"] for hit in pruned}
    left_out = ["" if hit["document"] in after else "left" for hit in dense]
    rows = zip(dense, left_out, pruned, moves(pruned, dense), strict=True)
    for rank, (before, left, now, move) in enumerate(rows, start=1):
        left_column, right_column = st.columns(2, gap="medium")
        with left_column:
            _document(rank, before, left)
        with right_column:
            _document(rank, now, move)


def _query(view: View) -> str:
    """Draw the field with the evaluated queries; return the chosen or typed one."""
    job = view.job(view.models[0])
    key = f"query-{job.experiment['source']['task']}"
    queries = evaluated_queries(str(view.store.home), job.id, job.done)
    if chosen := st.session_state.pop("inspect-texts", None):
        st.session_state[key] = chosen[0]
    typed = st.session_state.get(key)
    options = list(dict.fromkeys([*queries, *([typed] if typed else [])]))
    query = st.selectbox(
        "Query",
        options,
        accept_new_options=True,
        key=key,
        persist_state="session",
        placeholder="Type a query",
        help="One of the evaluated queries, or any text that you type.",
    )
    return (query or "").strip()


@st.cache_data(max_entries=64, show_spinner=False)
def evaluated_queries(home: str, job: int, done: tuple[str, ...]) -> list[str]:
    """Return the evaluated queries; `done`, the finished stages, changes with the rows."""
    rows = Store(Path(home)).rows("prediction", [job]) if "accuracy" in done else None
    return [] if rows is None else [str(text) for text in rows["text"]]


def _search(view: View, client: Inspector, model: ComparedModel, query: str) -> list[Hit]:
    job = view.job(model)
    experiment = job.experiment
    checkpoints = [experiment["checkpoint"], view.store.checkpoint(job)]
    data = {"source": experiment["source"], "max_length": experiment.get("max_length", 128)}
    return client.search(checkpoints, query, data, experiment.get("pooling", ""))


def moves(hits: Sequence[Hit], before: Sequence[Hit]) -> list[str]:
    """Compare each rank with that in an earlier ranking: "", "▲ 2", "▼ 1", or "new"."""
    ranks = {hit["document"]: rank for rank, hit in enumerate(before)}
    texts = []
    for rank, hit in enumerate(hits):
        gain = ranks.get(hit["document"], rank) - rank
        arrow = "▲" if gain > 0 else "▼"
        unmoved = "" if hit["document"] in ranks else "new"
        texts.append(f"{arrow} {abs(gain)}" if gain else unmoved)
    return texts


def summary_sentence(
    model: ComparedModel, dense: Sequence[Hit], pruned: Sequence[Hit], relevant: int | None
) -> str:
    """State how many documents remain, and how many relevant ones both models find."""
    common = {hit["document"] for hit in dense} & {hit["document"] for hit in pruned}
    sentence = (
        f"{model.label} keeps {len(common)} of the dense model's first {len(dense)} documents."
    )
    if relevant is None:
        return f"{sentence} The query is not in the collection, so no document is judged."
    found, before = (sum(hit["grade"] > 0 for hit in hits) for hits in (pruned, dense))
    documents = formatting.plural(relevant, "relevant document")
    return f"{sentence} Of {documents}, it finds {found}, and the dense model {before}."


def _document(rank: int, hit: Hit, change: str) -> None:
    """Draw a document with its rank, grade and change of rank."""
    marks = [f"**{rank}**"]
    if hit["grade"] > 0:
        marks.append(f":green-badge[relevant, grade {hit['grade']:g}]")
    if change:
        marks.append(f":gray-badge[{change}]")
    text = hit["text"]
    if len(text) > SHOWN:
        text = f"{text[:SHOWN]}…"
    with st.container(gap=None):
        st.markdown(" ".join(marks))
        st.html(f'<p class="document">{ui.escape(text)}</p>')
