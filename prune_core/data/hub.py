"""Datasets of the Hugging Face Hub as tables, by id, configuration and split.

The only module that imports `datasets`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..errors import PruneError
from .arrow_tables import class_names
from .tables import Table, choose_split


def load_split(
    path: str, config: str | None, requested: str, title: str, known: Sequence[str]
) -> Table:
    """Load one split of a dataset; without `requested`, the default one to evaluate on.

    PruneError if there is no such dataset, configuration or split, or the Hub cannot be reached;
    it names the dataset `title`, and the tasks that are `known`.
    """
    from datasets import load_dataset

    try:
        split = requested or choose_split(_splits(path, config), "", title)
        dataset = load_dataset(path, config, split=split)
    except (OSError, ValueError) as error:  # datasets raises both for network errors and bad names
        raise _explain(error, requested, title, known) from None
    names = {
        column: classes
        for column, feature in dataset.features.to_dict().items()
        if (classes := class_names(feature))
    }
    return Table(dataset.to_pandas(), description=f"split {split!r}", names=names)


def has_train(path: str, config: str | None, evaluated: str) -> bool:
    """Whether there is a training split for calibration, other than the evaluated one."""
    return evaluated != "train" and has_split(path, config, "train")


def has_split(path: str, config: str | None, split: str) -> bool:
    """Whether a split exists.

    False if the splits cannot be listed; loading the data then explains why.
    """
    try:
        return split in _splits(path, config)
    except (OSError, ValueError):
        return False


def has_configuration(path: str, name: str) -> bool:
    """Whether a data set has a configuration, on the Hub or, offline, in the cache.

    False if it cannot be reached; loading the data then explains why.
    """
    try:
        return _has_configuration(path, name)
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=64)
def _has_configuration(path: str, name: str) -> bool:
    """Whether a configuration exists; OSError or ValueError if the data set cannot be reached."""
    from datasets import load_dataset_builder

    try:
        load_dataset_builder(path, name)
    except ValueError as error:
        if "BuilderConfig" in str(error):  # it lists those that exist
            return False
        raise
    return True


@lru_cache(maxsize=64)
def _splits(path: str, config: str | None) -> tuple[str, ...]:
    """Names of the splits; OSError or ValueError if they cannot be listed."""
    from datasets import get_dataset_split_names, load_dataset

    try:
        return tuple(get_dataset_split_names(path, config))
    except ConnectionError:
        return tuple(load_dataset(path, config))  # offline: use the cache


def _explain(error: Exception, requested: str, title: str, known: Sequence[str]) -> PruneError:
    """Convert an error of `datasets` to a message with a remedy."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
    if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
        return PruneError(
            f"{title}: choose a configuration with --config. ({' '.join(str(error).split())[:300]})"
        )
    if "Unknown split" in str(error) or "Bad split" in str(error):
        return PruneError(
            f"{title} has no split {requested!r}; choose another with --split. ({reason})"
        )
    subject = f"{title}:"
    if title not in known:
        subject = f"{title} is neither a local file nor a known task ({', '.join(known)});"
    return PruneError(
        f"{subject} the Hub cannot be reached or has no such dataset, and it is not in the local "
        f"cache; go online, or give a local file. ({reason})"
    )


def preview(path: str, config: str | None, requested: str, rows: int) -> list[dict[str, Any]]:
    """First rows of a split, with class names; OSError or ValueError if it cannot be loaded."""
    from datasets import load_dataset

    split = requested or choose_split(_splits(path, config), "", path)
    try:
        dataset = load_dataset(path, config, split=split, streaming=True)
        head = list(dataset.take(rows))
    except (OSError, ValueError):  # offline: streaming fails, the cache may have it
        dataset = load_dataset(path, config, split=split)
        head = list(dataset.select(range(rows)))
    names = {
        column: list(feature.names)
        for column, feature in (dataset.features or {}).items()
        if hasattr(feature, "names")
    }
    return [
        {column: _class_name(value, names.get(column, [])) for column, value in row.items()}
        for row in head
    ]


def _class_name(value: Any, names: Sequence[str]) -> Any:
    """The name of a class index; anything else unchanged."""
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
