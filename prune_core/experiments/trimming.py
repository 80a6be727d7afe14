"""Vocabulary trimming: texts and a checkpoint in, a table of vocabularies and a checkpoint out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..data import columns, hub, in_memory
from ..data.cells import is_empty, parse_words
from ..data.examples import DataSource
from ..data.retrieval import RetrievalCollection
from ..errors import PruneError
from ..models.checkpoints import loading, trimmed_checkpoint
from ..plugins import Report, no_report, subrange
from ..pruning import vocabulary
from ..tasks import DEFAULT, TASK_TYPES, task_data
from ..tasks.embedding import Embedding
from ..tasks.known_tasks import KNOWN_TASKS
from .content_hashes import hash_checkpoint
from .data_check import DataReader
from .experiment import Experiment

RECORD = "trim.json"


@dataclass(frozen=True)
class Trimmed:
    """Result of `trim`."""

    # one row per vocabulary: vocabulary, tokens, ratio, unchanged, parameters …; see
    # pruning.vocabulary.coverage. `chosen` marks the row of the smallest vocabulary that suffices.
    table: pd.DataFrame
    vocabulary: int  # tokens of the chosen vocabulary
    always_kept: int  # of them: special tokens, single characters, bytes
    texts: int  # distinct texts
    held_out: int  # of them: texts on which the table was measured
    scripts: tuple[str, ...]  # whose single characters are kept
    folder: Path | None = None  # of the trimmed checkpoint
    compared: int = 0  # texts on which its outputs were compared with those of the original
    warning: str = ""  # if the texts are too few to choose a vocabulary from their tokens

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        values = asdict(self) | {"folder": str(self.folder) if self.folder else None}
        return values | {"table": self.table.to_dict("records")}


def trim(
    checkpoint: str,
    texts: Sequence[str],
    out: Path | None = None,
    *,
    size: int = 0,
    max_ratio: float = 1.01,
    scripts: Sequence[str] = (),
    positions: int = 0,
    seed: int = 0,
    report: Report = no_report,
) -> Trimmed:
    """Choose a vocabulary for the texts and, with `out`, write the checkpoint with it.

    `size`: number of tokens; 0 chooses the smallest vocabulary with which held-out texts have at
    most `max_ratio` times as many tokens as before. `scripts`: scripts whose single characters are
    kept (default: those of the texts). `positions`: see `trimmed_checkpoint.write`.
    """
    if max_ratio < 1:
        raise PruneError(f"The ratio of tokens is {max_ratio:g}; it must be at least 1.")
    if out:
        trimmed_checkpoint.check_target(out)
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    report(0.0, f"reading {checkpoint}")
    source = trimmed_checkpoint.read(checkpoint)
    kept_scripts = vocabulary.chosen_scripts(source.vocabulary, distinct, scripts)
    found = vocabulary.coverage(
        source, distinct, kept_scripts, size=size, seed=seed, report=subrange(report, 0.1, 0.7)
    )
    choice = vocabulary.choose(found, len(source.vocabulary.ids), size=size, max_ratio=max_ratio)
    table = found.table.assign(chosen=found.table["vocabulary"] == choice.size)
    result = Trimmed(
        table,
        choice.size,
        always_kept=found.ranking.base,
        texts=len(distinct),
        held_out=found.held_out,
        scripts=tuple(sorted(kept_scripts)),
        warning=choice.warning,
    )
    if out is None:
        return result
    report(0.7, "writing the checkpoint and comparing its outputs")
    kept = found.ranking.first(choice.size)
    compared = trimmed_checkpoint.write(source, kept, out, distinct, positions)
    result = replace(result, folder=out, compared=compared)
    _write_record(result, checkpoint=checkpoint, seed=seed, max_ratio=max_ratio)
    return result


def _write_record(result: Trimmed, **settings: Any) -> None:
    """Write how the checkpoint was made into its folder."""
    assert result.folder, "the checkpoint is written"
    text = json.dumps({**settings, **result.as_json()}, indent=2, ensure_ascii=False)
    (result.folder / RECORD).write_text(f"{text}\n", encoding="utf-8")


def trimmed_copy(
    experiment: Experiment, texts: Sequence[str], folder: Path, report: Report
) -> Path:
    """Return a checkpoint with the vocabulary that the texts need, written on first use.

    Without texts, the vocabulary is chosen for the calibration pool of the experiment; its
    evaluation examples are never read. The folder, below `folder`, depends on checkpoint and texts.
    """
    texts = texts or calibration_pool(experiment)
    digest = digest_of(experiment.checkpoint, texts)
    out = folder / f"{Path(experiment.checkpoint).name}-{digest}"
    if not (out / RECORD).is_file():
        shutil.rmtree(out, ignore_errors=True)  # of an interrupted run
        trim(experiment.checkpoint, texts, out, report=report)
    return out


def digest_of(checkpoint: str, texts: Sequence[str] = ()) -> str:
    """Return a short hash of the content of a checkpoint, and of texts."""
    content = [hash_checkpoint(checkpoint) or checkpoint, *texts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def read_record(folder: Path) -> dict[str, Any]:
    """Read how a trimmed checkpoint was made: the values of `Trimmed` and the settings."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def calibration_pool(experiment: Experiment) -> list[str]:
    """Return all texts that an experiment may calibrate on, both of pairs."""
    config, tokenizer, _ = loading.describe(experiment.checkpoint, pooling=experiment.pooling)
    kind = loading.task_type_of(config).name
    reader = DataReader(experiment, loading.label_names(config), kind, tokenizer=tokenizer)
    pool = reader.whole.calibration
    return [*pool.texts, *(pool.pairs or [])]


def texts_of(source: DataSource) -> list[str]:
    """Read all texts of a source, both of pairs: a table of any split, or a retrieval collection.

    Of a known task or a Hub dataset, the training split and the one to evaluate on.
    """
    if task_data.is_collection(source, Embedding.name):
        return _texts_of_collection(task_data.read_collection(source))
    return [
        text
        for split in _splits(source)
        for text in _texts_of_table(task_data.table_of(source, split).rows, source)
    ]


def texts_in(data: Any) -> list[str]:
    """Read all texts of data given in Python: what `api.compare` takes, or a list of texts."""
    if isinstance(data, str | Path):
        return texts_of(DataSource(str(data)))
    if collection := in_memory.read_collection(data):
        return _texts_of_collection(collection)
    table, source = in_memory.read_table(data)
    return list(_texts_of_table(table.rows, source))


def requested_texts(data: Any) -> list[str] | None:
    """Return the texts of `texts_in`; for True none, the calibration pool; None for False."""
    if isinstance(data, bool):
        return [] if data else None
    return texts_in(data)


def _splits(source: DataSource) -> tuple[str, ...]:
    is_hub = not task_data.is_file(source.task) and source.task != "demo"
    known = KNOWN_TASKS.get(source.task)
    evaluated = known.evaluation if known else ""
    if not is_hub or source.split:
        return ("",)
    has_train = known or hub.has_train(source.task, source.config or None, "")
    return ("train", evaluated) if has_train else (evaluated,)


def _texts_of_table(rows: pd.DataFrame, source: DataSource) -> Iterator[str]:
    unlabelled = replace(source, label=columns.NO_LABELS)
    chosen = columns.choose_columns(rows, unlabelled, source.task, TASK_TYPES[DEFAULT])
    for name in filter(None, (chosen.text, chosen.pair)):
        for cell in rows[name]:
            if isinstance(cell, str):
                yield cell
            elif not is_empty(cell):
                yield " ".join(parse_words(cell))


def _texts_of_collection(collection: RetrievalCollection) -> list[str]:
    return [*collection.documents, *collection.queries, *collection.unjudged]
