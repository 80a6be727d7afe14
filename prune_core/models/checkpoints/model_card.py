"""Write a checkpoint's README.md with the metadata that the Hub reads."""

import re
from collections.abc import Mapping
from pathlib import Path

from ...tasks import METRICS, TASK_TYPES

# metrics whose names differ on the Hub
HUB_NAMES = {
    "answer_f1": "f1",
    "matthews": "matthews_correlation",
    "spearman": "spearmanr",
    "pearson": "pearsonr",
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[a-z][\w.-]*-[\w.-]+")


def table(metrics: Mapping[str, float]) -> str:
    """Format metrics as a Markdown table."""
    rows = [f"| {METRICS[name].title} | {value:.4f} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def write(
    folder: Path, base: str, kind: str, data: str, metrics: Mapping[str, float], text: str
) -> None:
    """Write README.md.

    `base` is listed as the base model if it is a Hub id; `metrics` maps names of METRICS to values.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    task = TASK_TYPES[kind].hub_task
    results = [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            metric_type=HUB_NAMES.get(name, name),
            metric_value=value,
        )
        for name, value in metrics.items()
    ]
    on_hub = HUB_ID.fullmatch(base) and not Path(base).exists()
    card_data = ModelCardData(
        model_name=folder.name,
        base_model=base if on_hub else None,
        pipeline_tag=task,
        library_name=TASK_TYPES[kind].library,
        tags=["prunescope"],
        eval_results=results or None,
    )
    ModelCard(f"---\n{card_data.to_yaml()}\n---\n\n# {folder.name}\n\n{text}").save(
        folder / "README.md"
    )
