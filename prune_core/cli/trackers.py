"""A job's figures in MLflow or Weights & Biases, and an exported folder on the Hub: each an optional package, asked for by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import PruneError, require
from ..store.job import Job
from ..store.store import Store
from .export_card import metrics_of

TRACKERS = ("mlflow", "wandb")


def log(store: Store, job: Job, tracker: str, project: str) -> str:
    """Write the job's plan and figures as one run of a project; where it can be seen."""
    figures, plan = _figures(store, job), _flat(job.experiment)
    if not figures:
        raise PruneError(f"Job {job.id} has no figures yet; wait until a stage is finished.")
    if tracker == "mlflow":
        require("mlflow", "mlflow")
        import mlflow

        try:
            mlflow.set_experiment(project)
            with mlflow.start_run(
                run_name=job.label,
                tags={"prunescope.job": str(job.id), "prunescope.study": job.study},
            ):
                mlflow.log_params(plan)
                mlflow.log_metrics(figures)
        except mlflow.exceptions.MlflowException as error:
            raise PruneError(
                f"MLflow refused: {' '.join(str(error).split())[:200]} Check MLFLOW_TRACKING_URI."
            ) from None
        return f"Job {job.id} is in MLflow's experiment {project!r} ({mlflow.get_tracking_uri()})."
    require("wandb", "wandb")
    import wandb

    try:
        run = wandb.init(
            project=project, name=job.label, group=job.study, config=plan | {"job": job.id}
        )
        run.log(figures)
        run.finish()
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise PruneError(
            f"Weights & Biases refused: {reason} Log in with wandb login, or set WANDB_MODE=offline."
        ) from None
    return f"Job {job.id} is in the Weights & Biases project {project!r}{f' ({run.url})' if run.url else ''}."


def push(folder: Path, name: str) -> str:
    """Upload an exported folder to the Hub as a private model; where it is."""
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
            f"{name} cannot be written on the Hub: log in with hf auth login, and give USER/NAME. ({reason})"
        ) from None


def _figures(store: Store, job: Job) -> dict[str, float]:
    """Every figure with the ends of its interval, by names that trackers take."""
    quantities, row = metrics_of(store, job)
    named = {
        f"{q.key}{end}": row[f"{q.key}{end}"] for q in quantities for end in ("", "_low", "_high")
    }

    def plain(key: str) -> str:
        return "".join(
            letter if letter.isalnum() or letter in "_-. " else " " for letter in key
        ).strip()

    return {plain(key): float(value) for key, value in named.items() if not math.isnan(value)}


def _flat(plan: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested options by dotted names."""
    out: dict[str, str] = {}
    for key, value in plan.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{before}{key}.")
        elif key == "measures":
            for each in value:
                out |= _flat(each["options"], f"{each['name']}.")
        else:
            out[before + key] = str(value)
    return out
