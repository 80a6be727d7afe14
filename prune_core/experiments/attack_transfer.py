"""Transfer of adversarial examples: the success rate of saved adversarial texts on other models.

No search is run: every model predicts texts that the store has. Labels are stored by name, because
two checkpoints may number them differently.
"""

import time
from collections.abc import Sequence

import pandas as pd

from ..analysis.attack_success import successes
from ..errors import PruneError
from ..plugins import Report, subrange
from ..statistics import wilson
from ..store.job import Job
from ..store.store import Store

# One row per text, stored with the job whose model predicted it. `source` is the job whose model
# the text was crafted on; the last three columns are label names: the correct one, and the
# predictions for the original and for the perturbed text.
TABLE = "transfer"
COLUMNS = ["recipe", "source", "example", "truth", "original", "changed"]
# columns of `attack_example`
TEXTS = {"original": ("text", "pair"), "changed": ("perturbed", "perturbed_pair")}


def missing_pairs(examples: pd.DataFrame, rows: pd.DataFrame) -> list[int]:
    """Return the jobs among the examples' whose models have not predicted all adversarial texts."""
    adversarial = successes(examples)
    required = set(zip(*(adversarial[key] for key in ("recipe", "job", "example")), strict=True))
    existing = set()
    if len(rows):
        columns = ("job", "recipe", "source", "example")
        existing = set(zip(*(rows[column] for column in columns), strict=True))
    return [
        int(job)
        for job in examples["job"].unique()
        if any((job, *key) not in existing for key in required)
    ]


def transfer_matrix(rows: pd.DataFrame, by: str = "source") -> pd.DataFrame:
    """Return the success rate of each source (or recipe) on each job's model, with intervals.

    Columns: `by`, `job`, `fooled`, `n`, `share`, `low`, `high` (Wilson); n counts the texts whose
    original the job's model classifies correctly. `by` is "source" or "recipe"; a recipe's texts
    are those crafted on the other models.
    """
    correct = rows[rows["original"] == rows["truth"]]
    if by == "recipe":
        correct = correct[correct["source"] != correct["job"]]
    out = []
    for (key, job), group in correct.groupby([by, "job"], sort=False):
        fooled, n = int((group["changed"] != group["truth"]).sum()), len(group)
        out.append((key, job, fooled, n, fooled / n, *wilson(fooled, n)))
    return pd.DataFrame(out, columns=[by, "job", "fooled", "n", "share", "low", "high"])


def run_transfer(store: Store, ids: Sequence[int], report: Report) -> None:
    """Predict every adversarial text and its original with each job's model; store job by job."""
    jobs = [store.job(id) for id in dict.fromkeys(ids)]
    outcomes = store.rows("attack_example", [job.id for job in jobs])
    if outcomes.empty or (examples := successes(outcomes)).empty:
        raise PruneError(
            f"No attack has succeeded in job {', '.join(str(job.id) for job in jobs)}; run the "
            "measure attack there first."
        )
    _check(jobs, examples)
    label_names = {job.id: job.facts["label_names"] for job in jobs}
    examples = examples.rename(columns={"job": "source"})
    examples["truth"] = [label_names[row.source][row.label] for row in examples.itertuples()]
    for column in {"pair", "perturbed_pair"} - {*examples}:
        examples[column] = None
    for index, job in enumerate(jobs):
        started = time.perf_counter()
        part = subrange(report, index / len(jobs), (index + 1) / len(jobs))
        predictions = _predict_labels(store, job, examples, report=part)
        for column, texts in TEXTS.items():
            examples[column] = [
                predictions[text_and_pair]
                for text_and_pair in zip(*(examples[text] for text in texts), strict=True)
            ]
        rows = examples[COLUMNS]
        stored = store.rows(TABLE, [job.id])
        if len(stored):
            others = stored.loc[~stored["source"].isin(examples["source"]), COLUMNS]
            rows = pd.concat([others, rows], ignore_index=True)
        store.add_rows(
            job.id, {TABLE: rows}, TABLE, seconds=time.perf_counter() - started, facts={}
        )


def _check(jobs: Sequence[Job], examples: pd.DataFrame) -> None:
    """Raise PruneError unless the jobs have the same labels and the same number of inputs."""
    first, *others = jobs
    for job in others:
        if set(job.facts["label_names"]) != set(first.facts["label_names"]):
            labels = "; ".join(
                f"job {each.id} has {', '.join(each.facts['label_names'])}" for each in (first, job)
            )
            raise PruneError(
                f"Transfer needs models with the same labels, but {labels}; "
                "choose jobs of one task."
            )
        if job.facts.get("pairs") != first.facts.get("pairs"):
            raise PruneError(
                f"One of the jobs {first.id} and {job.id} takes single texts, the other pairs; "
                "choose jobs with the same input."
            )
    if first.facts.get("pairs") and ("pair" not in examples or examples["pair"].isna().any()):
        raise PruneError(
            "Some of these attacks were saved without the second text of each pair; run them again."
        )


def _predict_labels(
    store: Store, job: Job, adversarial: pd.DataFrame, report: Report
) -> dict[tuple[str, str | None], str]:
    """Return the label that the job's model predicts for each distinct (text, pair).

    Batch size and maximum length are those of the job.
    """
    from ..data.examples import Examples
    from ..models import devices
    from ..models.checkpoints import loading
    from ..models.inference.predict import predict

    report(0.0, f"{job.label}: loading")
    model, tokenizer = loading.load(store.checkpoint(job))
    model.to(devices.pick_device(job.device))
    inputs = list(
        dict.fromkeys(
            text_and_pair
            for texts in TEXTS.values()
            for text_and_pair in zip(*(adversarial[text] for text in texts), strict=True)
        )
    )
    examples = Examples(
        [text for text, _ in inputs],
        [pair for _, pair in inputs] if job.facts.get("pairs") else None,
    )
    predictions = predict(
        model,
        tokenizer,
        examples,
        batch_size=job.experiment["batch_size"],
        max_length=job.experiment["max_length"],
        report=lambda progress, message: report(progress, f"{job.label}: {message}"),
    )
    return {
        text_and_pair: job.facts["label_names"][label]
        for text_and_pair, label in zip(inputs, predictions.predicted, strict=True)
    }
