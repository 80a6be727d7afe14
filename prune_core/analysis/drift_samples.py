"""Example numbers of the drift tables, also of those written by earlier versions."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from ..data.examples import sample_indices
from ..store.job import Job


def with_evaluation_indices(rows: pd.DataFrame, jobs: Collection[Job]) -> pd.DataFrame:
    """Convert `example` in `drift_map` or `drift_example` to indices into the evaluation sample.

    Earlier versions numbered the n examples of a drift sample from 0 to n - 1. Such a sample is
    drawn again with the job's seed and the size of its evaluation sample to convert the numbers.
    """
    if rows.empty:
        return rows
    by_id = {job.id: job for job in jobs}
    parts = []
    for id, group in rows.groupby("job", sort=False):
        n, job = group["example"].nunique(), by_id[id]
        size = job.facts.get("evaluation_n", n)
        if n < size and group["example"].max() == n - 1:
            indices = np.array(sample_indices(range(size), n, job.experiment["seed"]))
            group = group.assign(example=indices[group["example"]])
        parts.append(group)
    return pd.concat(parts)
