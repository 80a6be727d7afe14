"""Read and sample the data of an experiment as its run does, and check it before a job is submitted.

`python -m prune_core.experiments.data_check EXPERIMENT` prints one line of JSON: how checkpoint and data were
interpreted, or the error message. Reads no weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from ..data import tasks, tokens
from ..data.dropped_rows import RowQuestion
from ..data.examples import TASK_TYPES
from ..data.tasks import Task
from ..errors import PruneError
from ..measures.adversarial_augmentation import check_augmentation
from ..models.checkpoints import loading
from ..models.inference import predict
from . import memory
from .experiment import Experiment

LENGTH_SAMPLE = 256  # evaluation texts whose length is looked at
MIN_LONG_FRACTION = 0.5  # of the sample asked for must be long, for short texts to be left out


class DataReader:
    """How a model reads an experiment's data; `key` is equal where that is the same."""

    def __init__(self, experiment: Experiment, labels: tuple[str, ...], kind: str, tokenizer: Any):
        self.experiment, self.labels, self.kind, self.tokenizer = (
            experiment,
            labels,
            kind,
            tokenizer,
        )
        asked = experiment
        self.key = [
            asdict(asked.source),
            labels,
            kind,
            asked.calibration,
            asked.evaluation,
            asked.seed,
            asked.min_words,
            asked.max_length,
        ]
        self.labelled = asked.method is not None and asked.method.labelled
        if self.labelled and asked.source.calibration:
            self.key.append(
                "labelled"
            )  # labels of a calibration set of its own are read only where they are used

    def __call__(self) -> Task:
        """The sampled task, with what there is to say of it."""
        asked, whole = self.experiment, self.whole
        among, told = self._long_enough(whole)
        task = whole.subsample(asked.calibration, asked.evaluation, asked.seed, among=among)
        if not len(task.calibration):
            raise PruneError(
                f"{asked.source.task}: no calibration text has {asked.min_words} tokens or more; lower min_words, or leave it out."
            )
        return replace(
            task, notes=(*task.notes, *told, *self._same_draw(task, among), *self._cut_off(task))
        )

    def __hash__(self) -> int:
        return hash(json.dumps(self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataReader) and self.key == other.key

    @cached_property
    def whole(self) -> Task:
        """The task before it is sampled."""
        return tasks.load(
            self.experiment.source,
            self.labels,
            self.experiment.seed,
            kind=self.kind,
            labelled=self.labelled,
        )

    def _long_enough(self, task: Task) -> tuple[list[int] | None, list[str]]:
        """Calibration examples that are long enough (None: all), and a sentence where some are not."""
        asked, pool = self.experiment.min_words, task.calibration
        least = tokens.MIN_CALIBRATION_TOKENS if asked is None else asked
        long = tokens.long_enough(self.tokenizer, pool, least) if least else [*range(len(pool))]
        short = len(pool) - len(long)
        if not short:
            return None, []
        if asked is None and len(long) < MIN_LONG_FRACTION * min(
            self.experiment.calibration, len(pool)
        ):
            some = "all" if not long else f"{short:,} of {len(pool):,}"
            return None, [
                f"Calibration: {some} texts are shorter than {least} words (tokens of the model); they were used all the same."
            ]
        return long, [
            f"Calibration: {short:,} of {len(pool):,} texts are shorter than {least} words (tokens of the model) and were left out."
        ]

    def _same_draw(self, task: Task, among: list[int] | None) -> list[str]:
        """Where a seed draws what every seed draws, several seeds are one model, which a mean of them hides."""
        asked, count = self.experiment, len(task.calibration)
        if (
            asked.method is None
            or not asked.seed
            or count < len(self.whole.calibration if among is None else among)
        ):
            return []
        first = DataReader(replace(asked, seed=0), self.labels, self.kind, tokenizer=self.tokenizer)
        others, _ = first._long_enough(first.whole)
        if (
            first.whole.subsample(asked.calibration, 1, 0, among=others).calibration
            != task.calibration
        ):
            return []  # the pool itself was drawn with the seed
        return [
            f"Seed {asked.seed} calibrates on the same {count:,} texts as seed 0, which are all there are: its model is drawn anew only "
            "where the method itself draws. Lower the calibration size for draws that differ."
        ]

    def _cut_off(self, task: Task) -> list[str]:
        """What the longest length takes away."""
        if self.kind == "span":
            return []  # which are read in windows
        looked, longer, lost, enough = tokens.truncation_report(
            self.tokenizer, task.evaluation, self.experiment.max_length
        )
        if not longer:
            return []
        most = self.tokenizer.model_max_length
        could = (
            f"a length of {enough} would keep 95%"
            if enough <= most
            else f"the model takes at most {most}, and {enough} would keep 95%"
        )
        return [
            f"{longer:,} of {looked:,} evaluation texts are longer than {min(self.experiment.max_length, most)} tokens and were cut there: "
            f"{lost:.1%} of all tokens are lost; {could}."
        ]


def check_measures(experiment: Experiment, kind: str) -> None:
    """A measure, or an attack to tune by, that cannot look at this kind of model is an error before anything is computed."""
    if experiment.method is not None:
        check_augmentation(experiment.method, kind)
    for measure in experiment.measures:
        if kind not in measure.kinds:
            raise PruneError(
                f"{measure.title} cannot be measured on a model that gives {TASK_TYPES[kind]}; leave the measure {measure.name} out."
            )


def check(experiment: Experiment, elsewhere: bool = False) -> float:
    """PruneError where checkpoint, data, method, measures and memory do not go together; else bytes of memory that the run takes, about.

    Reads no weights.
    """
    found = inspect_data(experiment)
    if "error" in found:
        raise PruneError(found["error"])
    return check_requirements(experiment, found, elsewhere)


def check_requirements(
    experiment: Experiment, found: Mapping[str, Any], elsewhere: bool = False
) -> float:
    """PruneError where the method or a measure cannot use what was understood, or memory is too small for it; else bytes of it.

    `elsewhere`: another machine will run it, of whose device and memory nothing is known here.
    """
    check_measures(experiment, found["kind"])
    if (
        experiment.method is not None
        and experiment.method.labelled
        and not found["calibration_labelled"]
    ):
        raise PruneError(
            f"{experiment.method.name} measures the task loss: its calibration sentences need labels, and these have none; "
            "name a label column, or choose another method."
        )
    if elsewhere:
        return memory.estimate_memory(experiment, "cpu", **found["sizes"]).total
    return memory.check(experiment, found["sizes"])


def inspect_data(experiment: Experiment) -> dict[str, Any]:
    """Of checkpoint and data, without weights: kind, labels, what values mean and how often they occur, sizes, notes.

    If the data cannot be used, `error` says why; `counts` are the label values in question, `rows` is true if rows are.
    """
    config, tokenizer, notes = loading.describe(experiment.checkpoint)
    kind, labels = loading.task_type_of(config), loading.label_names(config)
    found: dict[str, Any] = {
        "kind": kind,
        "labels": labels,
        "notes": [*filter(None, [loading.locate(experiment.checkpoint)[1]]), *notes],
    }
    try:
        task = DataReader(experiment, labels, kind, tokenizer=tokenizer)()
    except PruneError as error:
        return found | {
            "error": str(error),
            "counts": getattr(error, "counts", None),
            "rows": isinstance(error, RowQuestion),
        }
    binary = [predict.binary_note(config)] if task.evaluation.binary else []
    return found | {
        "labels": task.label_names,
        "meant": task.label_map,
        "counts": task.counts,
        "notes": [*found["notes"], *task.notes, *binary],
        "calibration": len(task.calibration),
        "evaluation": len(task.evaluation),
        "labelled": task.evaluation.labels is not None,
        "metric": task.metric,
        "calibration_labelled": task.calibration.labels is not None,
        "sizes": _sizes(experiment, config, task, tokenizer=tokenizer),
    }


def _sizes(experiment: Experiment, config: Any, task: Task, tokenizer: Any) -> dict[str, float]:
    """What memory is counted by, of the model, of the calibration sentences and of some to be evaluated."""
    rows = [
        tokens.encode(tokenizer, sample, experiment.max_length).inputs["input_ids"]
        for sample in (
            task.calibration,
            task.evaluation.take(range(min(LENGTH_SAMPLE, len(task.evaluation)))),
        )
    ]
    calibration, longest = (
        sum(map(len, rows[0])),
        max((len(row) for each in rows for row in each), default=0),
    )
    return memory.widths(config.to_dict()) | {"tokens": calibration, "longest": longest}


if __name__ == "__main__":
    try:
        print(json.dumps(inspect_data(Experiment.from_dict(json.loads(sys.argv[1])))))
    except PruneError as error:
        sys.exit(str(error))
