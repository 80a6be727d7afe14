"""The registry of measures."""

from .accuracy import Accuracy
from .attack import Attack
from .base import Measure
from .certified import Certified
from .corpus_poisoning import CorpusPoisoning
from .cost import Cost
from .deployment_formats import DeploymentFormats
from .drift import Drift
from .noise import Noise
from .quantization_sensitivity import QuantizationSensitivity
from .query_attack import QueryAttack
from .reconstruction import Reconstruction
from .reranking import Reranking
from .retrieval import Retrieval
from .sensitivity import Sensitivity
from .threshold import Threshold

MEASURES: dict[str, type[Measure]] = {
    kind.name: kind
    for kind in (
        Accuracy,
        Threshold,
        Retrieval,
        Reranking,
        Reconstruction,
        Sensitivity,
        Drift,
        Cost,
        DeploymentFormats,
        QuantizationSensitivity,
        Noise,
        Certified,
        Attack,
        QueryAttack,
        CorpusPoisoning,
    )
}
