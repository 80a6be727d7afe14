"""Does quantization sensitivity find the matrices that int8 breaks?

Tested on two replicas of reported problems, each the demo model with unchanged outputs in fp32.
`python -m benchmarks.quantization` prints a table: accuracy on the demo's 440 examples in fp32, in
int8 and repaired.
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
def add_outlier_neurons(model: Any, blocks: tuple[int, ...], size: float = 3000.0) -> nn.Module:
    """Make the first neuron of some layers always output `size`, which the next bias subtracts.

    Dynamic quantization uses one range for all neurons (onnxruntime #9599: a multilingual MiniLM
    classifier close to random in int8).
    """
    changed = copy.deepcopy(model)
    for block in blocks:
        layer = changed.base_model.encoder.layer[block]
        layer.intermediate.dense.weight[0], layer.intermediate.dense.bias[0] = 0.0, size
        layer.output.dense.bias -= size * layer.output.dense.weight[:, 0]
    return changed


@torch.no_grad()
def add_outlier_heads(model: Any, blocks: tuple[int, ...], size: float = 1000.0) -> nn.Module:
    """Make four value dimensions of some layers `size` times larger, their readers smaller.

    In optimum #151, a small set of such matrices was found by leaving out one at a time.
    """
    changed = copy.deepcopy(model)
    for block in blocks:
        attention = changed.base_model.encoder.layer[block].attention
        attention.self.value.weight[:4] *= size
        attention.self.value.bias[:4] *= size
        attention.output.dense.weight[:, :4] /= size
    return changed


REPLICAS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], str]] = {
    "outlier neurons": (add_outlier_neurons, (2, 4), "output.dense"),
    "outlier heads": (add_outlier_heads, (1, 3, 5), "attention.output.dense"),
}


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    dense, tokenizer = loading.load("demo")
    task = DataReader(
        Experiment(measures=(Accuracy(),)),
        loading.label_names(dense.config),
        replay.task_type_of(dense).name,
        tokenizer=tokenizer,
    )()
    print(
        "| | format | fp32 | int8 | repaired | recovered | matrices in fp32 | broken ones found "
        "| seconds |\n|" + "---|" * 9
    )
    for name, (modify, blocks, module) in REPLICAS.items():
        broken = modify(dense, blocks)
        for format_name in (INT8, STATIC):
            started = time.perf_counter()
            rows = QuantizationSensitivity(format=format_name).measure(
                Pair(dense, broken, tokenizer, task=task), no_report
            )
            fp32, int8, repaired = 100 * rows["repair"]["score"]
            matrices = rows["quantization"].loc[rows["quantization"]["proposed"], "module"].tolist()
            found = sum(
                f"encoder.layer.{block}.{module}" in matrix
                for matrix in matrices
                for block in blocks
            )
            recovered = f"{(repaired - int8) / (fp32 - int8):.0%}" if fp32 > int8 else "–"
            print(
                f"| {name} in {len(blocks)} layers | {format_name} | {fp32:.1f} | {int8:.1f} | "
                f"{repaired:.1f} | {recovered} | {len(matrices)} "
                f"| {found} of {len(blocks)} | {time.perf_counter() - started:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
