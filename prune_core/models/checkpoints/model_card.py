"""Write a checkpoint's README.md with the metadata that the Hub reads."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from ...tasks import METRICS, TASK_TYPES
from ...tasks.regression import activation_path
from . import folders

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


def is_cross_encoder(folder: Path) -> bool:
    """Whether a saved folder is a CrossEncoder of sentence-transformers with one output."""
    config = folders.config_of(folder)
    has_one_output = len(config.get("id2label") or ()) == 1
    return has_one_output and bool(activation_path(SimpleNamespace(**config)))


def write(
    folder: Path, base: str, kind: str, data: str, metrics: Mapping[str, float], text: str
) -> None:
    """Write README.md.

    `base` is listed as the base model if it is a Hub id; `metrics` maps names of METRICS to values.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    task, library, tags = TASK_TYPES[kind].hub_task, TASK_TYPES[kind].library, ["prunescope"]
    if is_cross_encoder(folder):
        task, library = "text-ranking", "sentence-transformers"
        tags += ["cross-encoder", "reranker"]
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
        library_name=library,
        tags=tags,
        eval_results=results or None,
    )
    ModelCard(f"---\n{card_data.to_yaml()}\n---\n\n# {folder.name}\n\n{text}").save(
        folder / "README.md"
    )
