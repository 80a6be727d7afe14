"""Data sets of the Hub, by id, configuration and split, as tables. The only file that imports `datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..errors import PruneError
from .arrow_tables import class_names
from .tables import Table, part_of


def split(path: str, config: str | None, asked: str, title: str, known: Sequence[str]) -> Table:
    """One split of a data set; without one asked for, the usual one to evaluate on."""
    from datasets import load_dataset

    try:
        name = asked or part_of(_splits(path, config), "", title)
        found = load_dataset(path, config, split=name)
    except (
        OSError,
        ValueError,
    ) as error:  # datasets raises these two when the Hub, or a name, fails
        raise _sentence(error, path, config, asked=asked, title=title, known=known) from None
    names = {
        column: classes
        for column, feature in found.features.to_dict().items()
        if (classes := class_names(feature))
    }
    return Table(found.to_pandas(), description=f"split {name!r}", names=names)


def has_train(path: str, config: str | None, evaluated: str) -> bool:
    """Whether there is a split to calibrate on besides the one that is evaluated."""
    try:
        return "train" in _splits(path, config) and evaluated != "train"
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=64)
def _splits(path: str, config: str | None) -> tuple[str, ...]:
    from datasets import get_dataset_split_names, load_dataset

    try:
        return tuple(get_dataset_split_names(path, config))
    except ConnectionError:
        return tuple(load_dataset(path, config))  # without a network, what its cache holds


def _sentence(
    error: Exception, path: str, config: str | None, asked: str, title: str, known: Sequence[str]
) -> PruneError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
    if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
        return PruneError(
            f"{title}: say which part of it with --config. ({' '.join(str(error).split())[:300]})"
        )
    if "Unknown split" in str(error) or "Bad split" in str(error):
        return PruneError(f"{title} has no split {asked!r}; name another with --split. ({reason})")
    where = (
        ""
        if title in known
        else f"is neither a file here nor a known task ({', '.join(known)}); as a data set of the Hub "
    )
    return PruneError(
        f"{title}{':' if title in known else ''} {where}"
        f"the Hub cannot be reached, or has no such data, and it is not in its cache; go online, or give a local "
        f"file. ({reason})"
    )


def preview(path: str, config: str | None, asked: str, rows: int) -> list[dict[str, Any]]:
    """The first rows of a split, numbered classes as names; OSError or ValueError where they cannot be had."""
    from datasets import load_dataset

    asked = asked or part_of(_splits(path, config), "", path)
    try:
        found = load_dataset(path, config, split=asked, streaming=True)
        taken = list(found.take(rows))
    except (OSError, ValueError):  # without a network, where only its cache can still help
        found = load_dataset(path, config, split=asked)
        taken = list(found.select(range(rows)))
    names = {
        column: list(feature.names)
        for column, feature in (found.features or {}).items()
        if hasattr(feature, "names")
    }
    return [
        {column: _shown(value, names.get(column, [])) for column, value in row.items()}
        for row in taken
    ]


def _shown(value: Any, names: Sequence[str]) -> Any:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
