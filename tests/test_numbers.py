"""Numbers that are none, and samples that say little: a stated result or a sentence, from every
method and every measure.
"""

import copy
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from test_measures import SMALL

from prune_core import PruneError
from prune_core.data.examples import Examples
from prune_core.data.tasks import Task
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.plugins import build, no_report
from prune_core.pruning import pipeline


@torch.no_grad()
def changed(what: str) -> torch.nn.Module:
    """A tiny model with something wrong."""
    model = tiny.model()
    for module in model.modules():
        if what == "dead columns" and isinstance(module, torch.nn.LayerNorm):
            module.weight[::2] = 0.0
            module.bias[::2] = 0.0
    first = replay.blocks(model)[0].linears["query"].weight
    if what == "NaN weights":
        first[0, 0] = float("nan")
    elif what == "infinite activations":
        model.bert.embeddings.LayerNorm.weight.fill_(3e38)
    elif what == "huge activations":
        model.bert.embeddings.LayerNorm.weight.mul_(1e4)
    elif what == "a constant model":
        model.classifier.weight.zero_()
    elif what == "all weights zero":
        for _, _, linear in replay.linears(model):
            linear.weight.zero_()
    return model


MODELS = (
    "sound",
    "dead columns",
    "NaN weights",
    "infinite activations",
    "huge activations",
    "a constant model",
    "all weights zero",
)
SAMPLES = {
    "usual": tiny.SENTENCES,
    "one sentence": tiny.SENTENCES[:1],
    "duplicates only": tiny.SENTENCES[:1] * 12,
    "one token": ["Dull"],
}


@cache
def batches(sample):
    rows = tiny.tokenizer()(SAMPLES[sample], padding=True, return_tensors="pt")
    return [{**rows, "labels": torch.arange(len(SAMPLES[sample])) % 2}]


CASES = [(what, "usual", 0.5) for what in MODELS]
CASES += [("sound", sample, 0.5) for sample in SAMPLES]
CASES += [
    (what, "usual", sparsity) for what in ("sound", "dead columns") for sparsity in (0.0, 0.99)
]


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    for what, sample, sparsity in CASES:
        try:
            after, _ = pipeline.prune(
                build(METHODS, name, {"sparsity": sparsity}),
                changed(what),
                batches(sample),
                report=no_report,
                methods=METHODS,
            )
        except PruneError as error:
            assert str(error).strip(), (what, sample, sparsity)
            continue
        assert all(torch.isfinite(value).all() for value in after.state_dict().values()), (
            what,
            sample,
            sparsity,
        )
        assert what != "NaN weights", f"{name} prunes {what} without a word"


@pytest.mark.parametrize("name", MEASURES)
def test_measures(name):
    export = name in ("formats", "quantization")  # which takes seconds a model
    for what in ("infinite activations",) if export else MODELS[1:]:
        for count in (12,) if export else (12, 1):
            dense = tiny.model()
            few = Examples(tiny.SENTENCES[:count], labels=[i % 2 for i in range(count)])
            try:
                pair = Pair(
                    dense,
                    changed(what),
                    tiny.tokenizer(),
                    task=Task("tiny", ("negative", "positive"), tiny.examples(), evaluation=few),
                )
                tables = build(MEASURES, name, SMALL.get(name, {})).measure(pair, no_report)
            except PruneError as error:
                assert str(error).strip(), (what, count)
                continue
            assert all(len(frame) for frame in tables.values()), (what, count)
            assert what != "NaN weights", f"{name} measures {what} without a word"
            infinite = [
                (table, column)
                for table, frame in tables.items()
                for column in frame.select_dtypes("number")
                if np.isinf(frame[column].to_numpy(float)).any()
            ]
            assert not infinite, (what, count, infinite)


def test_a_broken_dense_model_is_said_too():
    model = changed("infinite activations")
    pair = Pair(
        model,
        copy.deepcopy(model),
        tiny.tokenizer(),
        task=Task("tiny", ("negative", "positive"), tiny.examples(), evaluation=tiny.examples()),
    )
    with pytest.raises(PruneError, match="NaN or infinite"):
        build(MEASURES, "accuracy").measure(pair, no_report)
