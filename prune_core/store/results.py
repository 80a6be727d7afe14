"""Results of stages: one folder per stage with its tables as Parquet files and a record.

    <model>/checkpoint/                       weights of the pruned model
    <model>/prune/record.json                 duration, facts and versions; names of the tables
    <model>/prune/prune.parquet               one file per table
    <model>/accuracy-1f4e09ab/...             one folder per measure

Local runs, shards and Ray tasks write the same folders. A folder is written under another name and
then renamed, so a stage is finished if its record exists. Independent of torch and of SQL.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import PruneError
from ..versions import versions
from .tables import read_table, write_table

PRUNE = "prune"  # the stage before the measures, and its table
RECORD = "record.json"
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class StageRecord:
    """What is known of a finished stage besides its tables."""

    stage: str
    tables: list[str]  # in the order of the measure
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """The results of one experiment; `folders` maps its stages to folders below `root`."""

    root: Path
    folders: Mapping[str, str]

    def folder(self, stage: str) -> Path:
        """Folder of a stage, which exists if the stage is finished."""
        return self.root / self.folders[stage]

    @property
    def checkpoint(self) -> Path:
        """Folder of the pruned weights; KeyError for an experiment that does not prune."""
        return self.folder(PRUNE).parent / CHECKPOINT

    def is_done(self, stage: str) -> bool:
        """Whether the stage is finished."""
        return (self.folder(stage) / RECORD).is_file()

    def record(self, stage: str) -> StageRecord:
        """Record of a finished stage; PruneError if it is damaged."""
        return read_record(self.folder(stage))

    def read(self, stage: str) -> dict[str, pd.DataFrame]:
        """Tables of a finished stage."""
        names = self.record(stage).tables
        return {name: read_table(self.folder(stage) / f"{name}.parquet") for name in names}

    def write(
        self,
        stage: str,
        tables: Mapping[str, pd.DataFrame],
        seconds: float,
        facts: Mapping[str, Any],
    ) -> None:
        """Write a finished stage; results of an earlier run of it are replaced."""
        record = StageRecord(stage, [*tables], seconds, facts=dict(facts), versions=versions())
        folder = self.folder(stage)
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
        part.mkdir(parents=True)
        try:
            for name, table in tables.items():
                write_table(table, part / f"{name}.parquet")
            (part / RECORD).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def stage_of(folder: str) -> str:
    """Name of the stage whose results are in a folder."""
    return folder.rpartition("/")[2].partition("-")[0]


def read_record(folder: Path) -> StageRecord:
    """Record of the stage in a folder; PruneError if it is damaged."""
    try:
        return StageRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise PruneError(
            f"{folder / RECORD} cannot be read ({str(error)[:120]}); delete the folder {folder} "
            "and resume the job, which computes this stage again."
        ) from None
