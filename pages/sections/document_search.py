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
    source = view.job(view.models[0]).experiment["source"]
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
        index = ui.segments("search-index", INDEXES, label="Documents embedded by")
    saved = missing_weights.saved_models(view, view.pruned)
    if not (query and saved):
        st.stop()
    model = ui.one_model(saved, "search-model", "Pruned model", dark=view.dark)
    with st.spinner("Searching (documents are embedded once per model) …", show_time=True):
        results = ui.run_action(_search, view, client, model, query)
    if results is None:
        st.stop()
    dense, pruned = (result[index] for result in results)
    ui.takeaway(summary_sentence(model, dense, pruned, relevant=results[0]["relevant"]))
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("#### Dense model")
        _ranking(dense, moves(dense, pruned, "left"))
    with right:
        st.markdown(f"#### {ui.escape(model.label)}")
        _ranking(pruned, moves(pruned, dense, "new"))
    ui.how_to_read(
        "With the **old index**, the pruned model embeds the query and searches the documents as "
        "embedded by the dense model; **re-embedded**, it embeds the documents as well. Arrows "
        "compare the rank with the dense model's; *new* and *left* are documents that only one of "
        "the two first tens contains. Relevance is known for the queries of the collection only."
    )


def _query(view: View) -> str:
    """Draw the field with the evaluated queries; return the chosen or typed one."""
    job = view.job(view.models[0])
    key = f"query-{job.experiment['source']['task']}"
    queries = _queries(str(view.store.home), job.id, job.done)
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
def _queries(home: str, job: int, done: tuple[str, ...]) -> list[str]:
    """Return the evaluated queries; `done`, the finished stages, changes with the rows."""
    rows = Store(Path(home)).rows("prediction", [job]) if "accuracy" in done else None
    return [] if rows is None else [str(text) for text in rows["text"]]


def _search(view: View, client: Inspector, model: ComparedModel, query: str) -> list[Hit]:
    job = view.job(model)
    experiment = job.experiment
    checkpoints = [experiment["checkpoint"], view.store.checkpoint(job)]
    data = {"source": experiment["source"], "max_length": experiment.get("max_length", 128)}
    return client.search(checkpoints, query, data, experiment.get("pooling", ""))


def moves(hits: Sequence[Hit], others: Sequence[Hit], missing: str) -> list[str]:
    """Compare each rank with that in another ranking: "", "▲ 2", "▼ 1", or `missing`."""
    ranks = {hit["document"]: rank for rank, hit in enumerate(others)}
    texts = []
    for rank, hit in enumerate(hits):
        gain = ranks.get(hit["document"], rank) - rank
        arrow = "▲" if gain > 0 else "▼"
        same_or_missing = "" if hit["document"] in ranks else missing
        texts.append(f"{arrow} {abs(gain)}" if gain else same_or_missing)
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


def _ranking(hits: Sequence[Hit], changes: Sequence[str]) -> None:
    """Draw the documents of a ranking with their changes of rank."""
    for rank, (hit, change) in enumerate(zip(hits, changes, strict=True), start=1):
        marks = [f"**{rank}**"]
        if hit["grade"] > 0:
            marks.append(f":green-badge[relevant, grade {hit['grade']:g}]")
        if change:
            marks.append(f":gray-badge[{change}]")
        text = hit["text"]
        if len(text) > SHOWN:
            text = f"{text[:SHOWN]}…"
        with st.container(gap="xsmall"):
            st.markdown(" ".join(marks))
            st.html(f"<p>{ui.escape(text)}</p>")
