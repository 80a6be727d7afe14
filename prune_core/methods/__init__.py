"""The registry of pruning methods."""

from ..plugins import Method
from .akr import AKR
from .akr_plus import AKRPlus
from .alps import ALPS
from .block_drop import BlockDrop
from .dsnot import DSnoT
from .kprune import KPrune
from .kprune_plus import KPrunePlus
from .kwon import Kwon
from .magnitude import Magnitude
from .osscar import OSSCAR
from .ria import RIA
from .sparsegpt import SparseGPT
from .unit_baselines import UnitMagnitude, UnitRandom
from .wanda import Wanda
from .ziplm import ZipLM

_BASELINES = (
    RIA,
    DSnoT,
    ALPS,
    UnitMagnitude,
    UnitRandom,
    BlockDrop,
    OSSCAR,
    ZipLM,
)
METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (Magnitude, Wanda, SparseGPT, AKR, AKRPlus, KPrune, KPrunePlus, Kwon, *_BASELINES)
}
BASELINES = tuple(kind.name for kind in _BASELINES)  # comparison methods
