"""A job's pruned checkpoint as a folder of one's own: full, cut, or with ONNX and int8."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import PruneError
from ..plugins import Report, no_report
from ..store.job import Job
from ..store.store import Store


def export_checkpoint(
    store: Store,
    job: Job,
    folder: Path,
    shrunk: bool = False,
    onnx: bool = False,
    int8: bool = False,
    report: Report = no_report,
) -> list[str]:
    """The pruned checkpoint with a note of how it was made: an ordinary Hugging Face folder, or cut; with ONNX and its int8 if wanted.

    What the job's quantisation doctor proposed to leave in fp32 stays there in int8's file.

    Weights that were not kept are made again first. What is cut or converted is compared with the checkpoint; the sentences say
    how much they differ.
    """
    source = store.folder(job.id) / "checkpoint"
    if job.experiment["method"] is None:
        raise PruneError(
            f"Job {job.id} is a dense baseline; it has no pruned checkpoint. Its weights are {job.experiment['checkpoint']}."
        )
    if "prune" not in job.done:
        raise PruneError(
            f"Job {job.id} has not been pruned yet (it is {job.status}); resume it first."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PruneError(f"{folder} exists and is not empty; name a new folder.")
    from ..models.checkpoints import loading
    from ..models.export import onnx as export
    from ..models.export import quantization_sensitivity
    from .reprune import reprune_job

    said = [] if source.is_dir() else [reprune_job(store, job, report)]
    if shrunk:
        said.append(export.write_compact(source, folder))
    else:
        loading.save(*loading.load(str(source)), folder)
    if onnx or int8:
        said.append(export.write_onnx(folder))
    if int8:
        found = store.rows("doctor", [job.id])
        said.append(
            quantization_sensitivity.write_int8(
                folder, [] if found.empty else found.loc[found["proposed"], "part"].tolist()
            )
        )
    card = {"experiment": job.experiment, "versions": job.versions, "facts": job.facts}
    (folder / "prunescope.json").write_text(
        json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return said
