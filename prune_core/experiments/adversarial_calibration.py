"""Calibration on adversarial examples: successful attacks of a job, as a file for any experiment.

Uses the store and the columns of a data source; independent of models and of attack algorithms.
"""

import re
from dataclasses import replace

import pandas as pd

from ..analysis.attack_success import successes
from ..data import uploads
from ..data.examples import DataSource
from ..errors import PruneError
from ..store.store import Store

LEAK = (
    "The adversarial examples were made from evaluation texts of the same data, so a model "
    "calibrated on them is evaluated on texts it has seen. To avoid this, attack other texts: run "
    "the attack with the training file as its data."
)


def resolve(store: Store, source: DataSource) -> DataSource:
    """Replace a calibration set `job:3` or `job:3+clean` by a file in the home folder.

    `job:3` is the adversarial examples of job 3; `job:3+clean` adds the original texts, half and
    half. Other sources are returned unchanged.
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
    """Whether a source calibrates (as `job:3…`) on texts of the data that it evaluates on."""
    match = re.match(r"job:(\d+)", source.calibration)
    if match is None:
        return False
    return store.job(int(match[1])).experiment["source"]["task"] == source.task
