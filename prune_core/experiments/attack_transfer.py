"""Do texts made to fool one model fool another? Saved adversarial texts tried on other jobs' models, and the shares that fool them.

No search: every model predicts texts that the store has. Labels are kept by name, as two checkpoints may number them differently.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd

from ..analysis.attack_success import successes
from ..errors import PruneError
from ..plugins import Report, subrange
from ..statistics import wilson
from ..store.job import Job
from ..store.store import Store

# A row a text, kept with the job whose model predicted. `source` is the job whose model it was made on; the last three are
# names of labels: the right one, and what the model says of the original and of the changed text.
TABLE = "transfer"
COLUMNS = ["recipe", "source", "example", "truth", "original", "changed"]
TEXTS = {
    "original": ("text", "pair"),
    "changed": ("perturbed", "perturbed_pair"),
}  # columns of `attack_example`


def missing_pairs(examples: pd.DataFrame, rows: pd.DataFrame) -> list[int]:
    """The jobs among the examples' whose models have not predicted all of the adversarial texts."""
    made = successes(examples)
    wanted = set(zip(made["recipe"], made["job"], made["example"], strict=True))
    there = (
        set(zip(rows["job"], rows["recipe"], rows["source"], rows["example"], strict=True))
        if len(rows)
        else set()
    )
    return [
        int(job)
        for job in examples["job"].unique()
        if any((job, *text) not in there for text in wanted)
    ]


def transfer_matrix(rows: pd.DataFrame, by: str = "source") -> pd.DataFrame:
    """Columns `by`, `job`, `fooled`, `n`, `share`, `low`, `high` (Wilson): of the texts whose original the job's model gets right.

    `by` is "source" or "recipe"; a recipe's texts are those made on the other models.
    """
    met = rows[rows["original"] == rows["truth"]]
    if by == "recipe":
        met = met[met["source"] != met["job"]]
    out = []
    for (key, job), own in met.groupby([by, "job"], sort=False):
        fooled, n = int((own["changed"] != own["truth"]).sum()), len(own)
        low, high = wilson(fooled, n)
        out.append(
            {
                by: key,
                "job": job,
                "fooled": fooled,
                "n": n,
                "share": fooled / n,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(out, columns=[by, "job", "fooled", "n", "share", "low", "high"])


def run(store: Store, ids: Sequence[int], report: Report) -> None:
    """Each job's model predicts every adversarial text of these jobs and its original; stored model by model."""
    jobs = [store.job(id) for id in dict.fromkeys(ids)]
    examples = store.rows("attack_example", [job.id for job in jobs])
    if examples.empty or (made := successes(examples)).empty:
        raise PruneError(
            f"No attack has succeeded in job {', '.join(str(job.id) for job in jobs)}; measure attack success first."
        )
    _check(jobs, made)
    names = {job.id: job.facts["label_names"] for job in jobs}
    made = made.rename(columns={"job": "source"})
    made["truth"] = [names[row.source][row.label] for row in made.itertuples()]
    for column in ("pair", "perturbed_pair"):
        if column not in made:
            made[column] = None
    for place, job in enumerate(jobs):
        started = time.perf_counter()
        said = _said(
            store, job, made, report=subrange(report, place / len(jobs), (place + 1) / len(jobs))
        )
        for column, texts in TEXTS.items():
            made[column] = [
                said[both] for both in zip(*(made[text] for text in texts), strict=True)
            ]
        before = store.rows(TABLE, [job.id])
        kept = [before.loc[~before["source"].isin(made["source"]), COLUMNS]] if len(before) else []
        rows = pd.concat([*kept, made[COLUMNS]], ignore_index=True)
        store.add_rows(
            job.id, {TABLE: rows}, TABLE, seconds=time.perf_counter() - started, facts={}
        )


def _check(jobs: Sequence[Job], made: pd.DataFrame) -> None:
    first, *others = jobs
    for job in others:
        if set(job.facts["label_names"]) != set(first.facts["label_names"]):
            told = [
                f"job {each.id} {', '.join(each.facts['label_names'])}" for each in (first, job)
            ]
            raise PruneError(
                f"Texts can be tried only on models with the same labels; {told[0]}, {told[1]}."
            )
        if job.facts.get("pairs") != first.facts.get("pairs"):
            raise PruneError(
                f"Jobs {first.id} and {job.id} read one and two texts an example; choose jobs that read alike."
            )
    if first.facts.get("pairs") and ("pair" not in made or made["pair"].isna().any()):
        raise PruneError(
            "Some of these attacks were saved without the second text of each pair; run them again."
        )


def _said(
    store: Store, job: Job, made: pd.DataFrame, report: Report
) -> dict[tuple[str, str | None], str]:
    """(text, pair) -> the label that the job's model gives it, each distinct one asked once, as the job's attack asked."""
    from ..data.examples import Examples
    from ..models import devices
    from ..models.checkpoints import loading
    from ..models.inference.predict import predict

    report(0.0, f"{job.label}: loading")
    model, tokenizer = loading.load(store.checkpoint(job))
    model.to(devices.pick_device(job.device))
    asked = list(
        dict.fromkeys(
            both
            for texts in TEXTS.values()
            for both in zip(*(made[text] for text in texts), strict=True)
        )
    )
    examples = Examples(
        [text for text, _ in asked], [pair for _, pair in asked] if job.facts.get("pairs") else None
    )
    told = lambda progress, message: report(progress, f"{job.label}: {message}")  # noqa: E731
    found = predict(
        model,
        tokenizer,
        examples,
        batch_size=job.experiment["batch_size"],
        max_length=job.experiment["max_length"],
        report=told,
    )
    return {
        both: job.facts["label_names"][label]
        for both, label in zip(asked, found.predicted, strict=True)
    }
