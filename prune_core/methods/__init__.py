"""The pruning methods by name; a new one is a file here and a line below."""

from ..plugins import Method
from .akr import AKR
from .akr_plus import AKRPlus
from .alps import ALPS
from .dsnot import DSnoT
from .exact_obs import ExactOBS
from .kprune import KPrune
from .kwon import Kwon
from .magnitude import Magnitude
from .ria import RIA
from .sparsegpt import SparseGPT
from .unit_baselines import UnitMagnitude, UnitRandom
from .wanda import Wanda

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (
        Magnitude, Wanda, SparseGPT, AKR, AKRPlus, KPrune, Kwon,  # then what they are measured against
        RIA, DSnoT, ExactOBS, ALPS, UnitMagnitude, UnitRandom,
    )  # fmt: skip
}
