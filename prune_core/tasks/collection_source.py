"""Which data are retrieval collections, and reading them: folders, tables, the Hub, the demo."""

from __future__ import annotations

from ..data import hub_collections, retrieval_files, tables
from ..data.examples import DataSource
from ..data.retrieval import RetrievalCollection
from ..paths import ASSETS, resolve_allowed
from .embedding import Embedding
from .known_tasks import KNOWN_TASKS
from .regression import Regression

RETRIEVAL_DEMO = "demo-retrieval"  # name of the bundled retrieval collection
RETRIEVAL_FOLDER = ASSETS / "demo" / "retrieval"


def is_file(task: str) -> bool:
    """Whether a task is a local file or folder, not `demo`, a known task or a Hub id."""
    return task != "demo" and task not in KNOWN_TASKS and tables.is_path(task)


def is_collection(source: DataSource, kind: str) -> bool:
    """Whether a source is a retrieval collection, for an embedding model or a reranker.

    A reranker reads tables as pairs of texts, and so does an embedding model if the user sets their
    columns. Data of the Hub are collections for embedding models only.
    """
    if kind == Embedding.name and source.task == RETRIEVAL_DEMO:
        return True
    if kind == Regression.name:
        return is_file(source.task) and is_collection_folder(source.task)
    if kind != Embedding.name or source.text or source.text_pair or source.label:
        return False
    if source.task == "demo" or source.task in KNOWN_TASKS:
        return False
    if not is_file(source.task):
        return hub_collections.is_collection(source.task, source.config)
    return retrieval_files.is_collection(source.task, source.split, tables.dialect_of(source))


def is_collection_folder(task: str) -> bool:
    """Whether a path is a folder with a retrieval collection."""
    return resolve_allowed(task).is_dir() and retrieval_files.is_collection(task)


def read_collection(source: DataSource) -> RetrievalCollection:
    """Read the retrieval collection of a source for which `is_collection` is true."""
    dialect = tables.dialect_of(source)
    if source.task == RETRIEVAL_DEMO or is_file(source.task):
        path = str(RETRIEVAL_FOLDER) if source.task == RETRIEVAL_DEMO else source.task
        return retrieval_files.read_collection(path, source.split, dialect)
    known, skip = [*KNOWN_TASKS], dialect.bad_rows == "skip"
    return hub_collections.read_collection(
        source.task, source.config, source.split, known=known, skip=skip
    )
