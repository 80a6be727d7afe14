"""AKR-plus: AKR with the options that were best at high sparsity (benchmarks/akr_plus.py)."""

from dataclasses import dataclass

from ..plugins import preset
from .akr import AKR


@dataclass(frozen=True)
class AKRPlus(AKR):
    """AKR with masks chosen by ADMM, sparsity allocated by error, and errors weighted by the
    output Fisher.
    """

    name = "akr_plus"
    title = "AKR-plus"
    version = 2  # 2: weights of errors for embedding models
    summary = (
        "AKR with ADMM masks and errors weighted by their effect on the prediction: best at high "
        "sparsity, slower"
    )
    paper = (
        "AKR (Li et al., EMNLP 2023), with ADMM as in Boža, Fast and Effective Weight Update for "
        "Pruned LLMs, TMLR 2024"
    )
    solver: str = preset(AKR, "solver", "admm")
    rounds: int = preset(AKR, "rounds", 12)
    refit_steps: int = preset(AKR, "refit_steps", 8)
    allocation: str = preset(AKR, "allocation", "error")
    fisher: bool = preset(AKR, "fisher", True)
