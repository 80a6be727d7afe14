"""Calibration on attacked sentences: the texts with which an attack flipped a model, as a file that any experiment can read.

Knows the store and the columns of a source. Knows nothing of models or of how attacks work.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd

from ..analysis.attack_success import successes
from ..data import uploads
from ..data.examples import DataSource
from ..errors import PruneError
from ..store.store import Store

LEAK = (
    "The attacked sentences are evaluation sentences of this same data, so a model calibrated on them is then judged on what it has "
    "seen. Attack other sentences for this: run the attack with the training file as its data."
)


def resolve(store: Store, source: DataSource) -> DataSource:
    """The source with calibration `job:3` (what flipped the model of job 3), or `job:3+clean` (half that, half the same sentences
    as they were), as a file under the home folder; any other source as it is."""
    asked = re.fullmatch(r"job:(\d+)(\+clean)?", source.calibration)
    if not asked:
        return source
    job = store.job(int(asked[1]))
    if job.facts.get("pairs"):
        raise PruneError(
            f"Job {job.id} attacked pairs of texts, and calibration takes single ones; choose a job on single sentences."
        )
    rows = store.rows("attack_example", [job.id])
    won = successes(rows) if len(rows) else rows
    if won.empty:
        raise PruneError(
            f"Job {job.id} has no sentence that an attack flipped; choose a job with the measure attack."
        )
    texts = ["perturbed", "text"] if asked[2] else ["perturbed"]
    own = [
        pd.DataFrame({source.text or "text": won[text], source.label or "label": won["label"]})
        for text in texts
    ]
    content = pd.concat(own).to_csv(index=False).encode()
    return replace(
        source,
        calibration=str(
            uploads.save(store.home, f"attacked-{asked[0].replace(':', '-')}.csv", content)
        ),
    )


def check_leakage(store: Store, source: DataSource) -> bool:
    """Whether a source calibrates (as `job:3…`) on sentences of the data that it evaluates on."""
    asked = re.match(r"job:(\d+)", source.calibration)
    return (
        asked is not None and store.job(int(asked[1])).experiment["source"]["task"] == source.task
    )
