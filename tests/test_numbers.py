"""NaN, infinite and degenerate inputs: every method and measure gives a result or an error."""

import copy
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from test_measures import SMALL

from prune_core import PruneError
from prune_core.data.examples import Examples
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.plugins import build, no_report
from prune_core.pruning import pipeline
from prune_core.tasks.task_data import Task


@torch.no_grad()
def defective_model(defect: str) -> torch.nn.Module:
    """Return a tiny model with that defect."""
    model = tiny.model()
    for module in model.modules():
        if defect == "dead columns" and isinstance(module, torch.nn.LayerNorm):
            module.weight[::2] = 0.0
            module.bias[::2] = 0.0
    first = replay.blocks(model)[0].linears["query"].weight
    if defect == "NaN weights":
        first[0, 0] = float("nan")
    elif defect == "infinite activations":
        model.bert.embeddings.LayerNorm.weight.fill_(3e38)
    elif defect == "huge activations":
        model.bert.embeddings.LayerNorm.weight.mul_(1e4)
    elif defect == "constant model":
        model.classifier.weight.zero_()
    elif defect == "all weights zero":
        for _, _, linear in replay.linears(model):
            linear.weight.zero_()
    return model


MODELS = (
    "none",
    "dead columns",
    "NaN weights",
    "infinite activations",
    "huge activations",
    "constant model",
    "all weights zero",
)
SAMPLES = {
    "usual": tiny.SENTENCES,
    "one example": tiny.SENTENCES[:1],
    "duplicates only": tiny.SENTENCES[:1] * 12,
    "one token": ["Dull"],
}


@cache
def batches(sample):
    rows = tiny.tokenizer()(SAMPLES[sample], padding=True, return_tensors="pt")
    return [{**rows, "labels": torch.arange(len(SAMPLES[sample])) % 2}]


CASES = [(defect, "usual", 0.5) for defect in MODELS]
CASES += [("none", sample, 0.5) for sample in SAMPLES]
CASES += [
    (defect, "usual", sparsity) for defect in ("none", "dead columns") for sparsity in (0.0, 0.99)
]


@pytest.mark.parametrize("name", METHODS)
def test_methods_with_degenerate_inputs(name):
    for defect, sample, sparsity in CASES:
        try:
            pruned, _ = pipeline.prune(
                build(METHODS, name, {"sparsity": sparsity}),
                defective_model(defect),
                batches(sample),
                report=no_report,
                methods=METHODS,
            )
        except PruneError as error:
            assert str(error).strip(), (defect, sample, sparsity)
            continue
        assert all(torch.isfinite(value).all() for value in pruned.state_dict().values()), (
            defect,
            sample,
            sparsity,
        )
        assert defect != "NaN weights", f"{name} prunes {defect} without an error"


@pytest.mark.parametrize("name", sorted({*MEASURES} - tiny.OWN_DATA))
def test_measures_of_degenerate_models(name):
    export = name in ("formats", "quantization")  # which takes seconds per model and format
    options = {} if export else SMALL.get(name, {})
    for defect in ("infinite activations",) if export else MODELS[1:]:
        for count in (12,) if export else (12, 1):
            dense = tiny.model()
            evaluation = Examples(tiny.SENTENCES[:count], labels=[i % 2 for i in range(count)])
            try:
                pair = Pair(
                    dense,
                    defective_model(defect),
                    tiny.tokenizer(),
                    task=Task(
                        "tiny", ("negative", "positive"), tiny.examples(), evaluation=evaluation
                    ),
                )
                tables = build(MEASURES, name, options).measure(pair, no_report)
            except PruneError as error:
                assert str(error).strip(), (defect, count)
                continue
            assert all(len(frame) for frame in tables.values()), (defect, count)
            assert defect != "NaN weights", f"{name} measures {defect} without an error"
            infinite = [
                (table, column)
                for table, frame in tables.items()
                for column in frame.select_dtypes("number")
                if np.isinf(frame[column].to_numpy(float)).any()
            ]
            assert not infinite, (defect, count, infinite)


def test_defective_dense_model_is_reported():
    model = defective_model("infinite activations")
    pair = Pair(
        model,
        copy.deepcopy(model),
        tiny.tokenizer(),
        task=Task("tiny", ("negative", "positive"), tiny.examples(), evaluation=tiny.examples()),
    )
    with pytest.raises(PruneError, match="NaN or infinite"):
        build(MEASURES, "accuracy").measure(pair, no_report)
