"""Magnitude pruning: remove the smallest weights, the baseline of every other method."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from ..errors import PruneError
from ..models.replay import linears, sparsity_by_projection
from ..plugins import Batch, Report, Rows, option
from ..pruning.masks import WeightMethod, lowest


@dataclass(frozen=True)
class Magnitude(WeightMethod):
    """Remove the weights with the smallest absolute values (Han et al. 2015)."""

    name = "magnitude"
    title = "Magnitude"
    summary = "Removes the smallest weights; needs no data"
    paper = "Han et al., Learning both Weights and Connections, NeurIPS 2015"
    scope: str = option(
        "matrix",
        "Compare weights within each matrix, or across the whole encoder",
        choices=("matrix", "global"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern and self.scope == "global":
            raise PruneError(
                "magnitude: an N:M pattern compares weights within a row, so it cannot be global; "
                "set "
                "scope to matrix."
            )

    @torch.no_grad()
    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Zero the smallest weights; uses no data."""
        started = time.perf_counter()
        layers = [linear for _, _, linear in linears(model)]
        if self.scope == "global":
            scores = torch.cat([linear.weight.abs().flatten() for linear in layers])
            masks = lowest(scores, self.sparsity).split(
                [linear.weight.numel() for linear in layers]
            )
        else:
            masks = [self.choose(linear.weight.abs(), per_row=False) for linear in layers]
        for count, (linear, mask) in enumerate(zip(layers, masks, strict=True), start=1):
            linear.weight.masked_fill_(mask.view_as(linear.weight), 0)
            report(count / len(layers), f"matrix {count} of {len(layers)}")
        return {
            "prune": pd.DataFrame(sparsity_by_projection(model)).assign(
                damping=0.0, seconds=(time.perf_counter() - started) / len(layers)
            )
        }
