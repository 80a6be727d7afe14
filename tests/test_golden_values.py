"""Values of every method and measure for every task type, compared with recorded ones.

A value that moves without a new `version` of its method or measure would mix old and new rows of
one study. After an intended change, raise the version and record the values again:

    python tests/test_golden_values.py
"""

import copy
import json
import math
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch

from prune_core import tasks as task_types
from prune_core.data.examples import AnswerSpans, Examples
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.plugins import build, no_report
from prune_core.tasks import TASK_TYPES, encoding
from prune_core.tasks.task_data import Task

RECORDED = Path(__file__).with_name("golden_values.json")
NAMES = {
    "token": tiny.TAGS,
    "regression": ("score",),
    "span": ("start", "end"),
    "embedding": ("embedding",),
}
OPTIONS = {
    "drift": {"neighbors": 3, "umap": False},
    "cost": {"repeats": 3, "length": 16},
    "formats": {"batch": 2, "length": 8, "repeats": 3},
    "quantization": {"examples": 4},
    "certified": {"samples": 40, "label_samples": 10},
    "attack": {"examples": 3, "recipes": "DeepWordBug", "query_budget": 30},
}
# relative; the choice of a whole head of a tiny model may depend on the processor's rounding
TOLERANCES = {"weights": 1e-2, "units": 0.1, "measure": 1e-3}
# times and versions of file formats: they depend on the machine, not on the code
MEASURED = {
    *("latency_p50", "latency_p95", "throughput", "speedup_measured", "speedup", "seconds"),
    *("other_load", "bytes", "peak_memory", "passes", "p_value"),
}


def evaluation_sample(kind: str) -> Examples:
    """The sentences of tiny.py, labeled for this task type."""
    if kind != "span":
        return tiny.examples(2, kind)
    contexts = tiny.SENTENCES * 2
    answers = [
        AnswerSpans([text.split()[-1]], [text.rindex(text.split()[-1])]) for text in contexts
    ]
    return Examples(["What is it like?"] * len(contexts), contexts, answers, kind="span")


def pruned_pair(kind: str, method: str) -> Pair:
    """A tiny dense model of this task type, and the same model pruned to 50%."""
    dense, sample = tiny.model(kind=kind), evaluation_sample(kind)
    pruned = copy.deepcopy(dense)
    torch.manual_seed(0)
    batches = encoding.batches(
        tiny.tokenizer(), sample, 5, max_length=64, device=torch.device("cpu"), labelled=True
    )
    build(METHODS, method, {"sparsity": 0.5}).prune(
        pruned, [batch for batch, _ in batches], no_report
    )
    names = NAMES.get(kind, ("negative", "positive"))
    task = Task(
        "tiny", names, sample, evaluation=sample, metric=task_types.metric_for(kind, len(names))
    )
    return Pair(dense, pruned, tiny.tokenizer(), task=task, max_length=64)


def method_values(kind: str, method: str) -> dict[str, float]:
    """Sparsity of the model and norm of its weights.

    Not the weights themselves: other processors round differently, which moves single zeros.
    """
    pruned = pruned_pair(kind, method).pruned
    matrices = (linear.weight.detach() for _, _, linear in replay.linears(pruned))
    weights = torch.cat([matrix.flatten() for matrix in matrices])
    return {"sparsity": float((weights == 0).float().mean()), "norm": float(weights.norm())}


def measure_values(kind: str, measure: str) -> dict[str, float]:
    """Root mean square of the numbers in each column of all tables, and numbers of rows."""
    tables = build(MEASURES, measure, OPTIONS.get(measure, {})).measure(
        pruned_pair(kind, "magnitude"), no_report
    )
    values: dict[str, float] = {}
    for name, table in tables.items():
        values[f"{name}: rows"] = len(table)
        for column in table.columns.difference(MEASURED):
            numbers = pd.to_numeric(table[column].explode(), errors="coerce").dropna()
            if len(numbers):
                values[f"{name}: {column}"] = float((numbers.astype(float) ** 2).mean() ** 0.5)
    return values


CASES = [
    *(
        ("method", name, kind)
        for name, method in METHODS.items()
        for kind, task_type in TASK_TYPES.items()
        if task_type.has_loss or not method.labelled
    ),
    *(
        ("measure", name, kind)
        for name, measure in MEASURES.items()
        for kind in TASK_TYPES
        # these two write files, which takes seconds
        if kind in measure.kinds
        and name not in tiny.OWN_DATA  # test_retrieval_measure.py, test_reranking.py
        and (name not in ("formats", "quantization") or kind == "classification")
    ),
]


def compute(role: str, name: str, kind: str) -> dict[str, float]:
    values = (method_values if role == "method" else measure_values)(kind, name)
    return {key: value for key, value in values.items() if math.isfinite(value)}


@pytest.mark.parametrize(("role", "name", "kind"), CASES)
def test_values_move_only_with_the_version(role: str, name: str, kind: str) -> None:
    record = json.loads(RECORDED.read_text())[f"{role} {name}"]
    plugin = (METHODS if role == "method" else MEASURES)[name]
    assert plugin.version == record["version"], "record the values of the new version"
    values, expected = compute(role, name, kind), record[kind]
    tolerance = TOLERANCES[plugin.removes if role == "method" else role]
    moved = {
        key: (expected.get(key), values.get(key))
        for key in {*expected, *values}
        if values.get(key) != pytest.approx(expected.get(key), rel=tolerance, abs=1e-5)
    }
    assert not moved, f"{role} {name}: raise its version if this change is intended"


def main() -> None:
    """Record the values of all methods and measures."""
    recorded: dict[str, dict] = {}
    for role, name, kind in CASES:
        plugin = (METHODS if role == "method" else MEASURES)[name]
        entry = recorded.setdefault(f"{role} {name}", {"version": plugin.version})
        entry[kind] = {
            key: float(f"{value:.6g}") for key, value in compute(role, name, kind).items()
        }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
