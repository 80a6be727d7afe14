"""Read and sample the data of an experiment as its run does, and check it before submission.

`python -m prune_core.experiments.data_check EXPERIMENT` prints one line of JSON: how checkpoint and
data were interpreted, or the error message. Reads no weights.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from ..data import tokens
from ..data.dropped_rows import RowQuestion
from ..data.examples import NO_CALIBRATION, Examples
from ..errors import PruneError
from ..measures.adversarial_augmentation import check_augmentation
from ..measures.base import Measure
from ..models.checkpoints import loading
from ..plugins import Method
from ..tasks import TASK_TYPES, encoding, regression, task_data
from ..tasks.task_data import Task
from . import memory
from .candidate import CandidateModel, check_kind
from .experiment import Experiment

LENGTH_SAMPLE = 256  # evaluation texts whose token lengths are measured
MIN_LONG_FRACTION = 0.5  # of the calibration size: short texts are dropped if as many are long


class DataReader:
    """Reads an experiment's data for a model; equal `key`s mean the same data."""

    def __init__(self, experiment: Experiment, labels: tuple[str, ...], kind: str, tokenizer: Any):
        self.experiment, self.labels = experiment, labels
        self.kind, self.tokenizer = kind, tokenizer
        self.key = [
            asdict(experiment.source),
            labels,
            kind,
            experiment.calibration_size,
            experiment.evaluation_size,
            experiment.seed,
            experiment.min_words,
            experiment.max_length,
        ]
        self.labelled = experiment.method is not None and experiment.method.labelled
        if self.labelled and experiment.source.calibration:
            # labels of a separate calibration set are read only if they are used
            self.key.append("labelled")

    def __call__(self) -> Task:
        """Return the sampled task, with notes on how it was read."""
        experiment, unsampled = self.experiment, self.whole
        among, notes = self._long_enough(unsampled)
        task = unsampled.subsample(
            experiment.calibration_size, experiment.evaluation_size, experiment.seed, among=among
        )
        if experiment.source.calibration == NO_CALIBRATION:
            if experiment.method and not isinstance(experiment.method, CandidateModel):
                raise PruneError(
                    f"calibration is none, but {experiment.method.title} prunes on calibration "
                    "examples; leave calibration empty, or give a file."
                )
        elif not len(task.calibration):
            raise PruneError(
                f"{experiment.source.task}: no calibration text has {experiment.min_words} tokens "
                "or more; lower min_words, or leave it out."
            )
        notes = [*task.notes, *notes, *self._same_sample(task, among), *self._truncation(task)]
        return replace(task, notes=tuple(notes))

    def __hash__(self) -> int:
        return hash(json.dumps(self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataReader) and self.key == other.key

    @cached_property
    def whole(self) -> Task:
        """The task before it is sampled."""
        return task_data.load(
            self.experiment.source,
            self.labels,
            self.experiment.seed,
            kind=self.kind,
            labelled=self.labelled,
        )

    def _long_enough(self, task: Task) -> tuple[list[int] | None, list[str]]:
        """Return the calibration examples that are long enough (None: all), with notes."""
        requested, pool = self.experiment.min_words, task.calibration
        minimum = tokens.MIN_CALIBRATION_TOKENS if requested is None else requested
        long = tokens.long_enough(self.tokenizer, pool, minimum) if minimum else [*range(len(pool))]
        short = len(pool) - len(long)
        if not short:
            return None, []
        size = min(self.experiment.calibration_size, len(pool))
        if requested is None and len(long) < MIN_LONG_FRACTION * size:
            number = "all" if not long else f"{short:,} of {len(pool):,}"
            return None, [
                f"Calibration: {number} texts are shorter than {minimum} words (tokens of the "
                "model); they were used anyway, because too few are longer."
            ]
        return long, [
            f"Calibration: {short:,} of {len(pool):,} texts are shorter than {minimum} words "
            "(tokens of the model) and were left out."
        ]

    def _same_sample(self, task: Task, among: list[int] | None) -> list[str]:
        """Warn if every seed has the same calibration sample, so that seeds give one model.

        A mean over such seeds would hide that.
        """
        experiment, count = self.experiment, len(task.calibration)
        pool = self.whole.calibration if among is None else among
        if experiment.method is None or not experiment.seed or count < len(pool):
            return []
        first = DataReader(
            replace(experiment, seed=0), self.labels, self.kind, tokenizer=self.tokenizer
        )
        others, _ = first._long_enough(first.whole)
        sample = first.whole.subsample(experiment.calibration_size, 1, 0, among=others)
        if sample.calibration != task.calibration:
            return []  # the pool itself was sampled with the seed
        return [
            f"Seed {experiment.seed} calibrates on the same {count:,} texts as seed 0, which are "
            "all there are: its model differs only if the method itself is random. Lower the "
            "calibration size to get different samples."
        ]

    def _truncation(self, task: Task) -> list[str]:
        """Report how much of the evaluation texts is lost to truncation at the maximum length."""
        if TASK_TYPES[self.kind].has_windows:
            return []
        evaluation = task.evaluation
        if evaluation.pairs and TASK_TYPES[self.kind].separates_pairs:
            evaluation = Examples([*evaluation.texts, *evaluation.pairs], kind=self.kind)
        checked, longer, lost, enough = tokens.truncation_report(
            self.tokenizer, evaluation, self.experiment.max_length
        )
        if not longer:
            return []
        limit = self.tokenizer.model_max_length
        most = f"the model takes at most {limit}, and {enough}"
        advice = most if enough > limit else f"a length of {enough}"
        return [
            f"{longer:,} of {checked:,} evaluation texts are longer than "
            f"{min(self.experiment.max_length, limit)} tokens and were truncated: "
            f"{lost:.1%} of all tokens are lost; {advice} would keep 95%."
        ]


def check_measures(measures: Iterable[Measure], kind: str, method: Method | None = None) -> None:
    """Raise PruneError if a measure or the augmentation does not support the task type."""
    if method is not None:
        check_augmentation(method, kind)
        if method.labelled and not TASK_TYPES[kind].has_loss:
            raise PruneError(
                f"{method.name} computes the loss of labeled examples, which a model that predicts "
                f"{TASK_TYPES[kind].output} does not have; choose a method that needs no labels."
            )
    for measure in measures:
        if kind not in measure.kinds:
            raise PruneError(
                f"{measure.title} cannot be measured on a model that predicts "
                f"{TASK_TYPES[kind].output}; leave the measure {measure.name} out."
            )


def check(experiment: Experiment, elsewhere: bool = False) -> float:
    """Check that checkpoint, data, method, measures and memory fit together; read no weights.

    Return the estimated bytes of memory; raise PruneError if something does not fit.
    """
    inspected = inspect_data(experiment)
    if "error" in inspected:
        raise PruneError(inspected["error"])
    return check_requirements(experiment, inspected, elsewhere)


def check_requirements(
    experiment: Experiment, inspected: Mapping[str, Any], elsewhere: bool = False
) -> float:
    """Check the method, the measures and the memory against the result of `inspect_data`.

    Return the estimated bytes of memory; raise PruneError if something does not fit. `elsewhere`:
    the run is for another machine, whose device and memory are unknown here.
    """
    check_measures(experiment.measures, inspected["kind"], experiment.method)
    if isinstance(experiment.method, CandidateModel):
        check_kind(experiment.measures, experiment.method)
    if (
        experiment.method is not None
        and experiment.method.labelled
        and not inspected["calibration_labelled"]
    ):
        raise PruneError(
            f"{experiment.method.name} computes the task loss, so its calibration examples need "
            "labels, and these have none; name a label column, or choose another method."
        )
    if elsewhere:
        return memory.estimate_memory(experiment, "cpu", **inspected["sizes"]).total
    return memory.check(experiment, inspected["sizes"])


def inspect_data(experiment: Experiment) -> dict[str, Any]:
    """Return how checkpoint and data are interpreted, without reading weights.

    Keys: task type (`kind`), labels, meaning and counts of label values, sizes, notes and more. If
    the data cannot be used, `error` has the reason; `counts` are then the label values in question,
    and `rows` is true if rows are in question.
    """
    config, tokenizer, notes = loading.describe(experiment.checkpoint, pooling=experiment.pooling)
    kind, labels = loading.task_type_of(config).name, loading.label_names(config)
    result: dict[str, Any] = {
        "kind": kind,
        "labels": labels,
        "notes": [*filter(None, [loading.locate(experiment.checkpoint)[1]]), *notes],
    }
    try:
        task = DataReader(experiment, labels, kind, tokenizer=tokenizer)()
    except PruneError as error:
        return result | {
            "error": str(error),
            "counts": getattr(error, "counts", None),
            "rows": isinstance(error, RowQuestion),
        }
    binary = [regression.binary_note(config)] if task.evaluation.binary else []
    return result | {
        "labels": task.label_names,
        "label_map": task.label_map,
        "counts": task.counts,
        "notes": [*result["notes"], *task.notes, *binary],
        "calibration": len(task.calibration),
        "evaluation": len(task.evaluation),
        "labelled": task.evaluation.labels is not None,
        "is_collection": task.collection is not None,
        "metric": task.metric,
        "calibration_labelled": task.calibration.labels is not None,
        "sizes": _sizes(experiment, config, task, tokenizer=tokenizer),
    }


def _sizes(experiment: Experiment, config: Any, task: Task, tokenizer: Any) -> dict[str, float]:
    """Return what the memory estimate needs: model dimensions and token counts of the samples."""
    rows = [
        encoding.encode(tokenizer, sample, experiment.max_length).inputs["input_ids"]
        if len(sample)
        else []
        for sample in (
            task.calibration,
            task.evaluation.take(range(min(LENGTH_SAMPLE, len(task.evaluation)))),
        )
    ]
    lengths = [len(row) for each in rows for row in each]
    return memory.model_sizes(config.to_dict()) | {
        "tokens": sum(map(len, rows[0])),
        "longest": max(lengths, default=0),
    }


if __name__ == "__main__":
    try:
        print(json.dumps(inspect_data(Experiment.from_dict(json.loads(sys.argv[1])))))
    except PruneError as error:
        sys.exit(str(error))
