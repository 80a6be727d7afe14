"""What the rows of exported files (table `formats`) were measured on, in words."""

from __future__ import annotations

import pandas as pd

from .. import formatting as f
from ..tasks import METRICS


def description(files: pd.DataFrame) -> str:
    """Describe the metric, the sample and the reference of the rows, in two sentences."""
    row = files.iloc[0]
    title, n = METRICS[row["metric"]].title, f.count(row["n"])
    sample = f"n = {n}"
    if is_retrieval(files):
        documents = f.count(row["documents"])
        sample = f"{n} queries, each file embeds queries and {documents} documents"
        if row["documents"] < row["collection_documents"]:
            total = f.count(row["collection_documents"])
            sample += f" (the judged ones and a random sample, of {total}; values are higher than "
            sample += "on all)"
    return (
        f"{title} of the exported files ({sample}), with the 95% interval of the difference from "
        "dense PyTorch fp32. Speed-up over dense PyTorch fp32 on the CPU."
    )


def is_retrieval(files: pd.DataFrame) -> bool:
    """Whether the files embedded a retrieval collection."""
    return "documents" in files and bool(files["documents"].notna().all())
