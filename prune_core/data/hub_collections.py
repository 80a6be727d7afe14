"""Retrieval collections of the Hugging Face Hub: data sets in the layout of BEIR and MTEB.

Their configurations are `corpus` and `queries`; the judgements are in `qrels`, in `default` (MTEB)
or in a data set of their own, such as BeIR/scifact-qrels. Those of a data set with several
collections have a prefix, such as `de-corpus`, which is the configuration of the source.
"""

from collections.abc import Sequence

from . import hub
from .retrieval import RetrievalCollection, collection
from .retrieval_files import judgements_of, texts_of


def is_collection(path: str, config: str = "") -> bool:
    """Whether a data set has the configurations of a collection; False if it cannot be reached."""
    return all(_has(path, config, name) for name in ("corpus", "queries"))


def _has(path: str, config: str, name: str) -> bool:
    return hub.has_configuration(path, _named(config, name))


def _named(config: str, name: str) -> str:
    return f"{config}-{name}" if config else name


def read_collection(
    path: str, config: str = "", split: str = "", *, known: Sequence[str] = (), skip: bool = False
) -> RetrievalCollection:
    """Read a collection of the Hub; `split` chooses the judgements (default: test, if it exists).

    `known` and PruneErrors: see `hub.load_split`; `skip` and further PruneErrors: see `collection`.
    """
    documents, queries = (
        texts_of(
            hub.load_split(path, _named(config, name), "", title=path, known=known).rows,
            f"{path}, configuration {_named(config, name)!r}",
        )
        for name in ("corpus", "queries")
    )
    judged_path, judged_config = _judgements(path, config)
    requested = split or ("test" if hub.has_split(judged_path, judged_config, "test") else "")
    judged = hub.load_split(judged_path, judged_config, requested, title=judged_path, known=known)
    judgements = judgements_of(judged.rows, judged_path)
    return collection(documents, queries, judgements, name=path, skip=skip)


def _judgements(path: str, config: str) -> tuple[str, str | None]:
    """Return data set and configuration of the judgements."""
    if _has(path, config, "qrels"):
        return path, _named(config, "qrels")
    if not config and hub.has_configuration(path, "default"):
        return path, "default"
    return f"{path}-qrels", config or None
