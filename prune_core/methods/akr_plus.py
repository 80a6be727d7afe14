"""AKR-plus: AKR with the options that measured best at high sparsity; the evidence is in benchmarks/akr_plus.py and the README."""

from __future__ import annotations

from dataclasses import dataclass

from ..plugins import preset
from .akr import AKR


@dataclass(frozen=True)
class AKRPlus(AKR):
    """AKR whose masks are chosen by ADMM at sparsities shared out by error, where an error counts by what it does to the prediction."""

    name = "akr_plus"
    title = "AKR-plus"
    summary = "AKR that counts errors by what they do to the prediction, with a mask that moves: best at high sparsity, slower"
    paper = "AKR (Li et al., EMNLP 2023), with ADMM as in Boža, Fast and Effective Weight Update for Pruned LLMs, TMLR 2024"
    solver: str = preset(AKR, "solver", "admm")
    rounds: int = preset(AKR, "rounds", 12)
    refit_steps: int = preset(AKR, "refit_steps", 8)
    allocation: str = preset(AKR, "allocation", "error")
    fisher: bool = preset(AKR, "fisher", True)
