"""Charts: pure functions from rows to plotly figures."""

from ..analysis.compared_models import DENSE, Model, ordered
from .ablation import parts
from .attack import against_budget, probability_bars, success
from .attack_steps import AXES, attack_steps
from .chart_data import data_of
from .cost import saved
from .curves import against_sparsity, scatter
from .deploy import allowances
from .drift import SIMILARITIES, Similarity, by_block, moves, prediction_changed
from .layers import (
    PART_TITLES,
    by_depth,
    heat_maps,
    own_and_inherited,
    parts_of_block,
)
from .lesson import averaged, matrix
from .papers import beside
from .robustness import slices, transfer
from .saliency import attention_maps
from .soup import path as soup_path
from .units import kept_units
from .whatif import contributions, predicted

__all__ = [
    "AXES",
    "DENSE",
    "PART_TITLES",
    "SIMILARITIES",
    "Model",
    "Similarity",
    "against_budget",
    "against_sparsity",
    "allowances",
    "attack_steps",
    "attention_maps",
    "averaged",
    "beside",
    "by_block",
    "by_depth",
    "contributions",
    "data_of",
    "heat_maps",
    "kept_units",
    "matrix",
    "moves",
    "ordered",
    "own_and_inherited",
    "parts",
    "parts_of_block",
    "predicted",
    "prediction_changed",
    "probability_bars",
    "saved",
    "scatter",
    "soup_path",
    "slices",
    "success",
    "transfer",
]
