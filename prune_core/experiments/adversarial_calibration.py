"""Calibration on adversarial examples: a job's successful attacks as a data file.

Knows nothing of models or of attack algorithms.
"""

import re
from dataclasses import replace

import pandas as pd

from ..analysis.attack_success import successes
from ..data import uploads
from ..data.examples import DataSource
from ..errors import PruneError
from ..store.store import Store

LEAKAGE_WARNING = (
    "The adversarial examples were made from evaluation texts of the same data, so a model "
    "calibrated on them is evaluated on texts it has seen. To avoid this, attack other texts: run "
    "the attack with the training file as its data."
)


def resolve(store: Store, source: DataSource) -> DataSource:
    """Replace a calibration set `job:3` or `job:3+clean` by a file in the store's folder.

    `job:3` stands for the adversarial examples of job 3; `job:3+clean` adds their original texts,
    so that each is half of the file. Other sources are returned unchanged. Raise PruneError if the
    job has no adversarial examples or attacked pairs of texts.
    """
    match = re.fullmatch(r"job:(\d+)(\+clean)?", source.calibration)
    if not match:
        return source
    job = store.job(int(match[1]))
    if job.facts.get("pairs"):
        raise PruneError(
            f"Job {job.id} attacked pairs of texts, but calibration needs single texts; choose a "
            "job on single texts."
        )
    rows = store.rows("attack_example", [job.id])
    adversarial = successes(rows) if len(rows) else rows
    if adversarial.empty:
        raise PruneError(
            f"Job {job.id} has no adversarial example; choose a job with the measure attack in "
            "which an attack succeeded."
        )
    tables = [
        pd.DataFrame(
            {
                source.text or "text": adversarial[column],
                source.label or "label": adversarial["label"],
            }
        )
        for column in (("perturbed", "text") if match[2] else ("perturbed",))
    ]
    content = pd.concat(tables).to_csv(index=False).encode()
    name = f"attacked-{match[0].replace(':', '-')}.csv"
    return replace(source, calibration=str(uploads.save(store.home, name, content)))


def check_leakage(store: Store, source: DataSource) -> bool:
    """Whether a source calibrates on adversarial examples of the data that it evaluates on."""
    match = re.match(r"job:(\d+)", source.calibration)
    if match is None:
        return False
    return store.job(int(match[1])).experiment["source"]["task"] == source.task
