"""Export to MLflow, Weights & Biases and the Hub; the trackers are optional packages."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import PruneError, require
from ..store.job import Job
from ..store.store import Store
from .export_card import metrics_of


def log(store: Store, job: Job, tracker: str, project: str) -> str:
    """Log the job's settings and metrics as one run of a project; return where to find it.

    `tracker` is a key of TRACKERS. Raise PruneError if its package is not installed, if it refuses,
    or if the job has no results yet.
    """
    metrics = _metrics(store, job)
    if not metrics:
        raise PruneError(f"Job {job.id} has no results yet; wait until a stage has finished.")
    require(tracker, tracker)
    return TRACKERS[tracker](job, project, _flat(job.experiment), metrics)


def _log_to_mlflow(
    job: Job, project: str, settings: dict[str, str], metrics: dict[str, float]
) -> str:
    import mlflow

    try:
        mlflow.set_experiment(project)
        with mlflow.start_run(
            run_name=job.label,
            tags={"prunescope.job": str(job.id), "prunescope.study": job.study},
        ):
            mlflow.log_params(settings)
            mlflow.log_metrics(metrics)
    except mlflow.exceptions.MlflowException as error:
        raise PruneError(
            f"MLflow refused: {' '.join(str(error).split())[:200]} Check MLFLOW_TRACKING_URI."
        ) from None
    uri = mlflow.get_tracking_uri()
    return f"Job {job.id} is in the MLflow experiment {project!r} ({uri})."


def _log_to_wandb(
    job: Job, project: str, settings: dict[str, str], metrics: dict[str, float]
) -> str:
    import wandb

    try:
        run = wandb.init(
            project=project, name=job.label, group=job.study, config=settings | {"job": job.id}
        )
        run.log(metrics)
        run.finish()
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise PruneError(
            f"Weights & Biases refused: {reason} Log in with wandb login, or set "
            "WANDB_MODE=offline."
        ) from None
    url = f" ({run.url})" if run.url else ""
    return f"Job {job.id} is in the Weights & Biases project {project!r}{url}."


# by the name of the package, which is also the name of prunescope's optional dependency
TRACKERS = {"mlflow": _log_to_mlflow, "wandb": _log_to_wandb}


def push(folder: Path, name: str) -> str:
    """Upload an exported folder to the Hub as a private model; return its URL.

    Raise PruneError if the Hub refuses, for example without a login.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        api = HfApi()
        api.create_repo(name, private=True, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="Pruned by PruneScope"
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise PruneError(
            f"{name} cannot be written on the Hub: log in with hf auth login, and give USER/NAME. "
            f"({reason})"
        ) from None


def _metrics(store: Store, job: Job) -> dict[str, float]:
    """Return every metric with its interval limits, under names that trackers accept."""
    quantities, row = metrics_of(store, job)
    keys = [f"{q.key}{end}" for q in quantities for end in ("", "_low", "_high")]

    def plain(key: str) -> str:
        letters = (letter if letter.isalnum() or letter in "_-. " else " " for letter in key)
        return "".join(letters).strip()

    return {plain(key): float(row[key]) for key in keys if not math.isnan(row[key])}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested options to dotted names."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif key == "measures":
            for measure in value:
                flat |= _flat(measure["options"], f"{measure['name']}.")
        else:
            flat[prefix + key] = str(value)
    return flat
