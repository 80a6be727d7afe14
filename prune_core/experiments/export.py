"""Export of a job's pruned checkpoint: full or compact, optionally with ONNX and int8."""

import json
from pathlib import Path

from ..errors import PruneError
from ..plugins import Report, no_report
from ..store.job import Job
from ..store.store import Store

ROTATION = "retrieval_rotation"  # table of the measure retrieval with the option align


def export_checkpoint(
    store: Store,
    job: Job,
    folder: Path,
    shrunk: bool = False,
    onnx: bool = False,
    int8: bool = False,
    align: bool = False,
    report: Report = no_report,
) -> list[str]:
    """Write the pruned checkpoint and a record of how it was made into a new folder.

    The folder is an ordinary Hugging Face checkpoint, or a compact model if `shrunk`. int8
    quantization leaves the weight matrices in fp32 that the job's quantization sensitivity measure
    proposed. `align` rotates the embeddings into the space of the dense model's index, for queries
    only. Weights that were not saved are re-pruned first. Return sentences on how much compact and
    converted models differ from the checkpoint.
    """
    if job.experiment["method"] is None:
        raise PruneError(
            f"Job {job.id} is a dense baseline and has no pruned checkpoint; its weights are "
            f"{job.experiment['checkpoint']}."
        )
    if job.is_candidate:
        raise PruneError(
            f"Job {job.id} measured a model from elsewhere, which was not pruned here; its file is "
            f"{job.experiment['method']['options']['path']}."
        )
    if "prune" not in job.done:
        raise PruneError(
            f"Job {job.id} has not been pruned yet (it is {job.status}); resume it first."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PruneError(f"{folder} exists and is not empty; name a new folder.")
    from ..models.export import onnx as export
    from ..models.export import quantization_sensitivity
    from .reprune import reprune_job

    rotation = stored_rotation(store, job) if align else None
    source = store.weights(job)
    messages = [] if source.is_dir() else [reprune_job(store, job, report)]
    messages += _write(source, folder, shrunk, rotation=rotation)
    if onnx or int8:
        messages.append(export.write_onnx(folder))
    if int8:
        sensitivity = store.rows("quantization", [job.id])
        in_fp32 = [] if sensitivity.empty else sensitivity.loc[sensitivity["proposed"], "module"]
        messages.append(quantization_sensitivity.write_int8(folder, list(in_fp32)))
    card = {"experiment": job.experiment, "versions": job.versions, "facts": job.facts}
    (folder / "prunescope.json").write_text(
        json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return messages


def stored_rotation(store: Store, job: Job) -> list[list[float]]:
    """Return the rotation that the measure `retrieval` fitted; PruneError if there is none."""
    rows = store.rows(ROTATION, [job.id])
    if rows.empty:
        raise PruneError(
            f"Job {job.id} has no rotation of its embeddings; measure it (python -m prune_core "
            f"remeasure {job.id} retrieval --set retrieval.align=true), or omit --align."
        )
    return list(rows.sort_values("dimension")["rotation"])


def _write(
    source: Path, folder: Path, shrunk: bool, *, rotation: list[list[float]] | None
) -> list[str]:
    """Write the full or compact checkpoint, rotated or not; return notes."""
    import numpy as np
    import torch

    from ..models import embedding
    from ..models.checkpoints import loading
    from ..models.export.onnx import write_compact

    model, tokenizer = loading.load(str(source))
    notes = []
    if rotation is not None:
        embedding.add_rotation(model, torch.from_numpy(np.stack(rotation)).float())
        notes.append(
            "Embeddings are rotated into the space of the dense model's index: embed queries "
            "only, and do not embed documents with this model."
        )
    if shrunk:
        return [*notes, write_compact(model, tokenizer, folder)]
    loading.save(model, tokenizer, folder)
    return notes
