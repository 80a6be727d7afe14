"""Runs a joint search: trims, prunes, writes files and measures each as it would be deployed.

Every file is a candidate (`experiments/candidate.py`) in the study of the search, compared with the
full, unpruned model in PyTorch fp32; pruned models are jobs of a study of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis.evidence import evidence
from ..errors import PruneError
from ..experiments import deployed_files, trimming
from ..experiments.candidate import CandidateModel
from ..experiments.experiment import Experiment
from ..experiments.reprune import reprune_job
from ..measures import MEASURES
from ..measures.base import Measure
from ..plugins import Report, build
from ..store.job import Job
from ..store.store import Store
from . import joint_search, size_search
from .joint_search import FormatTrial
from .policy import Policy
from .test_sets import needed_measures

RECORD = "search.json"
P95_PASSES = 60  # timed passes that give a bound on the 95th percentile
Run = Callable[[Experiment], Job]


@dataclass(frozen=True)
class JointSearchResult:
    """Result of a joint search."""

    # one row per file: the fields of `FormatTrial`, `front` and `chosen`; see `joint_search.table`
    table: pd.DataFrame
    sentence: str
    chosen: FormatTrial | None  # None: no file is within all limits
    folder: Path | None = None  # with the chosen file, its tokenizer and the record of the search
    vocabulary: int = 0  # tokens of the trimmed vocabulary; 0: not trimmed
    warning: str = ""  # if the texts are too few to choose the vocabulary

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; values that were not measured are null."""
        rows = json.loads(self.table.drop(columns="path").to_json(orient="records"))
        values = {"result": self.sentence, "vocabulary": self.vocabulary}
        return {**values, "warning": self.warning, "table": rows}


@dataclass(frozen=True)
class JointSearch:
    """The settings of a search; `run` finishes the job of an experiment, or raises PruneError."""

    store: Store
    template: Experiment  # with a method that removes heads and neurons
    policy: Policy
    formats: Sequence[str]
    run: Run
    report: Report
    objective: str = joint_search.FASTEST
    # texts whose tokens are kept; empty: the calibration pool; None: the whole vocabulary
    texts: Sequence[str] | None = None

    def result(
        self, out: Path | None, show: Callable[[FormatTrial], None] | None = None
    ) -> JointSearchResult:
        """Search, calling `show` after every trial; copy the best file to the new folder `out`."""
        joint_search.check_method(self.template.method)
        if self.objective not in joint_search.OBJECTIVES:
            names = " or ".join(joint_search.OBJECTIVES)
            raise PruneError(f"objective is {self.objective!r}; it must be {names}.")
        if out and out.exists():
            raise PruneError(f"{out} exists; name a new folder.")
        trials: list[FormatTrial] = []
        for trial in self.trials():
            trials.append(trial)
            if show:
                show(trial)
        chosen = joint_search.best(trials, self.objective)
        record = trimming.read_record(self._trimmed) if self._trimmed else {}
        result = JointSearchResult(
            joint_search.table(trials, self.objective),
            joint_search.result_sentence(trials, self.policy, self.objective),
            chosen,
            folder=out if chosen else None,
            vocabulary=record.get("vocabulary", 0),
            warning=record.get("warning", ""),
        )
        if out and chosen:
            deployed_files.ship(Path(chosen.path), out)
            text = json.dumps(result.as_json(), indent=2, ensure_ascii=False)
            (out / RECORD).write_text(f"{text}\n", encoding="utf-8")
        return result

    def trials(self) -> Iterator[FormatTrial]:
        """Try what `joint_search.next_trials` asks for, until it asks for nothing."""
        number = joint_search.most_trials(self.formats)
        base = self._base()
        size_search.check_sample_size(self.store, self.run(base), self.policy, number)
        trials: list[FormatTrial] = []
        while pending := joint_search.next_trials(trials, self.formats, self.objective):
            sparsity = pending[0][0]
            for trial in self._tried(base, sparsity, [name for _, name in pending]):
                trials.append(trial)
                yield trial

    def _base(self) -> Experiment:
        """Return the experiment of the full, unpruned model, with all measures of the search."""
        measures = {each.name: each for each in needed_measures(self.template, self.policy)}
        cost = measures.get("cost") or build(MEASURES, "cost", {})
        options: dict[str, Any] = {"fresh_process": True}
        if "latency_p95" in self.policy.limits:
            options["repeats"] = max(P95_PASSES, cost.to_dict()["repeats"])
        measures["cost"] = replace(cost, **options)
        ordered: tuple[Measure, ...] = tuple(measures.values())
        return replace(self.template, method=None, measures=ordered, device="cpu")

    def _tried(
        self, base: Experiment, sparsity: float, names: Sequence[str]
    ) -> Iterator[FormatTrial]:
        """Yield the trials of one sparsity in these formats."""
        label, checkpoint, folder = self._unpruned
        plan = replace(self.template, checkpoint=checkpoint)
        if sparsity:
            plan = self._pruning(plan, sparsity)
            assert plan.method is not None, "the search prunes"
            label = plan.method.label
            try:
                job = self.run(plan)
            except PruneError as error:
                # one head per layer, the minimum, may be more than this sparsity leaves
                yield from (_failed(sparsity, name, label, str(error)) for name in names)
                return
            folder = self.store.folder(job.id) / "files"
            if not self.store.weights(job).is_dir():
                reprune_job(self.store, job, self.report)
            checkpoint = str(self.store.weights(job))
        written = deployed_files.write_files(checkpoint, plan, names, folder, self.report)
        for name, path in written.items():
            if isinstance(path, PruneError):
                yield _failed(sparsity, name, label, str(path))
                continue
            candidate = CandidateModel(path=str(path), shown_as=f"{label} · {name}")
            measured = evidence(self.store, self.run(replace(base, method=candidate)))
            yield joint_search.judge(measured, self._criteria, sparsity, name, str(path))

    def _pruning(self, plan: Experiment, sparsity: float) -> Experiment:
        assert plan.method is not None, "the search prunes"
        is_fastest = self.objective == joint_search.FASTEST
        return replace(
            plan,
            method=size_search.with_target(plan.method, sparsity, is_fastest),
            measures=(),
            keep="difference" if plan.keep == "none" else plan.keep,
            study=f"{plan.study}: pruned models",
        )

    @property
    def _criteria(self) -> Policy:
        number = joint_search.most_trials(self.formats)
        return size_search.trial_criteria(self.policy, number)

    @cached_property
    def _trimmed(self) -> Path | None:
        """The checkpoint with a trimmed vocabulary, if there is one."""
        if self.texts is None:
            return None
        folder = self.store.home / "trimmed"
        return trimming.trimmed_copy(self.template, self.texts, folder, self.report)

    @cached_property
    def _unpruned(self) -> tuple[str, str, Path]:
        """Label and checkpoint of the model to prune, and the folder of its files."""
        label = "Trimmed" if self._trimmed else "Unpruned"
        checkpoint = str(self._trimmed or self.template.checkpoint)
        return label, checkpoint, self.store.home / "files" / trimming.digest_of(checkpoint)


def _failed(sparsity: float, name: str, label: str, reason: str) -> FormatTrial:
    return FormatTrial(sparsity, name, f"{label} · {name}", 0, False, False, reason)
