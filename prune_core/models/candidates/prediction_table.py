"""Tables of predictions, for example from a remote service, matched to evaluation examples.

Rows are matched by the text, by the column `example` (the index into the evaluation sample, as in
the table `prediction`), or by any column that the data also has, such as an id. Predictions are one
column of labels or scores, or one column of probabilities per label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...data import columns, tables
from ...data.column_names import first_usual
from ...data.examples import DataSource, Examples
from ...data.label_pairs import to_text
from ...data.labels import map_labels
from ...data.spelling import find
from ...errors import PruneError
from ...formatting import plural
from ...tasks import TASK_TYPES, Predictions, task_data
from ...tasks.known_tasks import KNOWN_TASKS
from ..replay import task_type_of
from .external import StoredPredictions, Texts, texts_of
from .facts import Fact

EXAMPLE = "example"
PREDICTED = ("prediction", "predicted", "predicted_label", "pred", "label", "score", "output")
PREFIXES = ("", "probability_", "prob_", "p_", "score_")  # of columns with probabilities
LIST = "probabilities"  # a column with the probabilities of all labels


def load(
    file: Path, dense: Any, examples: Examples, names: Sequence[str], source: DataSource
) -> tuple[StoredPredictions, list[Fact]]:
    """Return (model with the stored predictions of a table, facts).

    Raise PruneError if rows cannot be matched to examples or predictions cannot be read.
    """
    task_type = TASK_TYPES[examples.kind]
    if examples.binary or not (task_type.is_single_label or task_type.ranks_candidates):
        raise PruneError(
            f"{file}: a table of predictions is supported for models that predict one label or one "
            f"score per text, not for {task_type.output}; give the model itself."
        )
    rows = tables.read(str(file)).rows
    texts = texts_of(examples)
    column, keys = _text_of_rows(rows, texts, source, file)
    _check_complete(keys, texts, column, file)
    wanted = {*texts}
    used = {place: key for place, key in enumerate(keys) if key is not None and key in wanted}
    read = _classes if task_type.is_single_label else _scores
    predictions, form = read(rows.iloc[list(used)], names, file)
    by_text: dict[Texts, Any] = {}
    for (place, key), prediction in zip(used.items(), zip(*predictions, strict=True), strict=True):
        if by_text.setdefault(key, prediction) != prediction:
            raise PruneError(
                f"{file}: several rows of the same example have different predictions, including "
                f"row {place + 1}; keep one row per example."
            )
    model = StoredPredictions(by_text, dense.config, task_type_of(dense))
    facts = [
        Fact("rows", f"{len(rows):,}, matched by the column {column!r}"),
        Fact("predictions", form),
    ]
    return model, facts


def _text_of_rows(
    rows: pd.DataFrame, texts: Sequence[Texts], source: DataSource, file: Path
) -> tuple[str, list[Texts | None]]:
    """Return (column that identifies examples, texts of the example or None for each row)."""
    if EXAMPLE in rows:
        numbers = pd.to_numeric(rows[EXAMPLE], errors="coerce")
        return EXAMPLE, [
            texts[int(number)] if number in range(len(texts)) else None for number in numbers
        ]
    known = KNOWN_TASKS.get(source.task)
    data = task_data.table_of(source, known.evaluation if known else "").rows
    chosen = columns.choose_columns(data, source, source.task, TASK_TYPES["classification"])
    text_columns = [name for name in (chosen.text, chosen.pair) if name]
    if all(name in rows for name in text_columns):
        return chosen.text, _texts(rows, chosen)
    shared = [name for name in rows if name in data and name != chosen.label]
    ids = [name for name in shared if data[name].map(to_text).is_unique]
    if not ids:
        raise PruneError(
            f"{file}: no column identifies the examples; it has {', '.join(rows.columns[:8])}. Add "
            f"the text column {chosen.text!r} of the data, a column with unique values that the "
            f"data also has, or {EXAMPLE!r} with the index of the evaluation example."
        )
    by_id = dict(zip(data[ids[0]].map(to_text), _texts(data, chosen), strict=True))
    return ids[0], [by_id.get(to_text(value)) for value in rows[ids[0]]]


def _texts(rows: pd.DataFrame, chosen: columns.Columns) -> list[Texts | None]:
    read = TASK_TYPES["classification"].text
    pairs = rows[chosen.pair].map(read) if chosen.pair else [None] * len(rows)
    return list(zip(rows[chosen.text].map(read), pairs, strict=True))


def _check_complete(
    keys: Sequence[Texts | None], texts: Sequence[Texts], column: str, file: Path
) -> None:
    """Raise PruneError if an example has no row."""
    known = {*keys}
    missing = [place for place, text in enumerate(texts) if text not in known]
    if missing:
        raise PruneError(
            f"{file}: {len(missing):,} of {plural(len(texts), 'evaluation example')} have no row "
            f"by the column {column!r}, such as example {missing[0]} "
            f"({texts[missing[0]][0][:40]!r}); give predictions for all of them."
        )


def _classes(rows: pd.DataFrame, names: Sequence[str], file: Path) -> tuple[Predictions, str]:
    """Return predicted labels with their probabilities, and a description of the columns."""
    for prefix in PREFIXES:
        headers = [str(name).removeprefix(prefix) for name in rows if str(name).startswith(prefix)]
        found = [find(name, headers) for name in names]
        if None not in found:
            picked = [prefix + headers[place] for place in found if place is not None]
            values = rows[picked].apply(pd.to_numeric, errors="coerce").to_numpy(float)
            return _probabilities(values, file), f"probabilities in {', '.join(picked)}"
    if LIST in rows:
        lists = [list(cell) if isinstance(cell, list | np.ndarray) else [] for cell in rows[LIST]]
        if any(len(each) != len(names) for each in lists):
            raise PruneError(
                f"{file}: the column {LIST!r} must hold {len(names)} probabilities in each row, in "
                f"the order {', '.join(names)}."
            )
        return _probabilities(np.array(lists, dtype=float), file), f"probabilities in {LIST}"
    column = _predicted_column(
        rows, file, f"or add one column of probabilities for each of {', '.join(names)}"
    )
    labels = map_labels(rows[column], names, "", f"{file}, column {column!r}").labels
    predicted = [labels[to_text(value)] for value in rows[column]]
    if None in predicted:
        raise PruneError(
            f"{file}: {predicted.count(None):,} rows of the column {column!r} have no label of the "
            f"model; the labels are {', '.join(names)}."
        )
    unknown = [float("nan")] * len(names)  # labels alone have no probabilities
    return Predictions(predicted, [unknown for _ in predicted]), f"labels in {column!r}"


def _probabilities(values: np.ndarray, file: Path) -> Predictions:
    """Return predictions from probabilities (examples, labels); raise PruneError if invalid."""
    is_valid = (values >= 0).all(1) & (np.abs(values.sum(1) - 1) < 0.02)  # rounded to two decimals
    if not is_valid.all():
        row = int((~is_valid).argmax())
        raise PruneError(
            f"{file}: {int((~is_valid).sum()):,} rows have values that are not probabilities with "
            f"a sum of 1, such as {', '.join(f'{value:g}' for value in values[row])}; give "
            "probabilities, or a column with the predicted label."
        )
    return Predictions(values.argmax(1).tolist(), values.tolist())


def _scores(rows: pd.DataFrame, names: Sequence[str], file: Path) -> tuple[Predictions, str]:
    column = _predicted_column(rows, file, "with the scores")
    values = pd.to_numeric(rows[column], errors="coerce")
    if values.isna().any():
        raise PruneError(
            f"{file}: {int(values.isna().sum()):,} rows of the column {column!r} are not numbers; "
            "correct them."
        )
    return Predictions(values.tolist(), [[] for _ in values]), f"scores in {column!r}"


def _predicted_column(rows: pd.DataFrame, file: Path, alternative: str) -> str:
    column = first_usual(rows, PREDICTED)
    if column is None:
        raise PruneError(
            f"{file}: no column holds predictions; it has {', '.join(rows.columns[:8])}. Name it "
            f"{PREDICTED[0]!r}, {alternative}."
        )
    return column
