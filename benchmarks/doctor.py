"""Does the quantisation doctor find what int8 breaks? Two replicas of reports, each the demo model
with the same answers in fp32.

`python -m benchmarks.doctor` prints a table: accuracy on the demo's 440 sentences in fp32, in int8
and repaired.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from prune_core.experiments.data_check import DataReader
from prune_core.experiments.experiment import Experiment
from prune_core.measures.accuracy import Accuracy
from prune_core.measures.base import Pair
from prune_core.measures.quantization_sensitivity import QuantizationSensitivity
from prune_core.models import replay
from prune_core.models.checkpoints import loading
from prune_core.models.export.formats import INT8, STATIC
from prune_core.plugins import no_report


@torch.no_grad()
def loud_neurons(model: Any, blocks: tuple[int, ...], size: float = 3000.0) -> nn.Module:
    """Some blocks' first neuron always says `size`, which the bias behind takes back: dynamic
    quantisation gives all neurons one range (onnxruntime #9599: a multilingual MiniLM
    classifier next to random in int8).
    """
    own = copy.deepcopy(model)
    for block in blocks:
        layer = own.base_model.encoder.layer[block]
        layer.intermediate.dense.weight[0], layer.intermediate.dense.bias[0] = 0.0, size
        layer.output.dense.bias -= size * layer.output.dense.weight[:, 0]
    return own


@torch.no_grad()
def loud_heads(model: Any, blocks: tuple[int, ...], size: float = 1000.0) -> nn.Module:
    """Some blocks' first four value dimensions are `size` times larger, and the matrix that
    reads them as much smaller (optimum #151: a small set of matrices, found by leaving out
    one at a time).
    """
    own = copy.deepcopy(model)
    for block in blocks:
        attention = own.base_model.encoder.layer[block].attention
        attention.self.value.weight[:4] *= size
        attention.self.value.bias[:4] *= size
        attention.output.dense.weight[:, :4] /= size
    return own


REPLICAS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], str]] = {
    "loud neurons": (loud_neurons, (2, 4), "output.dense"),
    "loud heads": (loud_heads, (1, 3, 5), "attention.output.dense"),
}


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    dense, tokenizer = loading.load("demo")
    task = DataReader(
        Experiment(measures=(Accuracy(),)),
        loading.label_names(dense.config),
        replay.task_type_of(dense),
        tokenizer=tokenizer,
    )()
    print(
        "| | form | fp32 | int8 | repaired | of the loss | matrices left in fp32 | of them broken "
        "| seconds |\n|" + "---|" * 9
    )
    for name, (break_it, blocks, part) in REPLICAS.items():
        broken = break_it(dense, blocks)
        for form in (INT8, STATIC):
            started = time.perf_counter()
            rows = QuantizationSensitivity(format=form).measure(
                Pair(dense, broken, tokenizer, task=task), no_report
            )
            whole, lost, repaired = 100 * rows["repair"]["score"]
            left = rows["doctor"].loc[rows["doctor"]["proposed"], "part"].tolist()
            found = sum(
                f"encoder.layer.{block}.{part}" in each for each in left for block in blocks
            )
            back = f"{(repaired - lost) / (whole - lost):.0%}" if whole > lost else "–"
            print(
                f"| {name} in {len(blocks)} blocks | {form} | {whole:.1f} | {lost:.1f} | "
                f"{repaired:.1f} | {back} | {len(left)} "
                f"| {found} of {len(blocks)} | {time.perf_counter() - started:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
