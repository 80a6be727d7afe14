"""README.md of a checkpoint's folder, with the head that the Hub reads. Knows nothing of how the model was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...data.metrics import METRICS

# what the Hub calls our figures where it calls them otherwise
HUB_NAMES = {
    "answer_f1": "f1",
    "matthews": "matthews_correlation",
    "spearman": "spearmanr",
    "pearson": "pearsonr",
}
HUB_TASKS = {"span": "question-answering", "token": "token-classification"}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[a-z][\w.-]*-[\w.-]+")


def table(figures: Mapping[str, float]) -> str:
    """Figures by their names as Markdown."""
    return "\n".join(
        [
            "| figure | value |",
            "|---|---|",
            *(f"| {METRICS[name].title} | {value:.4f} |" for name, value in figures.items()),
        ]
    )


def write(
    folder: Path, base: str, kind: str, data: str, figures: Mapping[str, float], text: str
) -> None:
    """README.md; `base` is named to the Hub where it is an id there, and `figures` by their metrics."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    task = HUB_TASKS.get(kind, "text-classification")
    results = [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            metric_type=HUB_NAMES.get(name, name),
            metric_value=value,
        )
        for name, value in figures.items()
    ]
    on_hub = HUB_ID.fullmatch(base) and not Path(base).exists()
    about = ModelCardData(
        model_name=folder.name,
        base_model=base if on_hub else None,
        pipeline_tag=task,
        library_name="transformers",
        tags=["prunescope"],
        eval_results=results or None,
    )
    ModelCard(f"---\n{about.to_yaml()}\n---\n\n# {folder.name}\n\n{text}").save(
        folder / "README.md"
    )
