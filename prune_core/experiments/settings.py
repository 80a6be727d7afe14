"""Settings of a run besides data, method and measures. Does not import torch."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from ..plugins import Options, option
from ..tasks.embedding import POOLINGS

KEEP = {
    "difference": "as differences from the dense weights",
    "full": "as whole checkpoints",
    "none": "not at all",
}


@dataclass(frozen=True)
class RunSettings(Options):
    """Checkpoint, sample sizes and how a run computes; PruneError for values out of range."""

    checkpoint: str = option("demo", "demo, a local folder, or a Hub id", title="Checkpoint")
    _: KW_ONLY
    pooling: str = option(
        "",
        "how an encoder without a head and without a sentence-transformers configuration turns its "
        "tokens into an embedding, such as mean or cls; empty: as the checkpoint says",
        choices={"": "as the checkpoint says", **POOLINGS},
        title="Pooling",
        expert=True,
    )
    calibration_size: int = option(
        256,
        "number of calibration examples, for methods that need activations",
        low=1,
        title="Calibration examples",
        metavar="N",
    )
    evaluation_size: int = option(
        0,
        "number of evaluation examples; 0: all",
        low=0,
        title="Evaluation examples (0 = all)",
        metavar="N",
    )
    min_words: int | None = option(
        None,
        "minimum length of a calibration text in tokens of the model; 0: any; auto: nine if enough "
        "texts have as many",
        kind=int,
        none="auto",
        low=0,
        title="Minimum length (tokens)",
        metavar="N",
    )
    seed: int = option(0, "random seed of samples, methods and measures", low=0)
    device: str = option(
        "auto",
        "auto (CUDA if available, then MPS, then the CPU), cpu, cuda, cuda:1 or mps",
        title="Device",
        suggestions=("auto", "cpu", "cuda", "mps"),
        expert=True,
    )
    batch_size: int = option(
        32,
        "examples per batch; halved automatically if memory runs out",
        low=1,
        title="Batch size",
        metavar="N",
        expert=True,
    )
    max_length: int = option(
        128,
        "truncate longer texts",
        low=4,
        title="Maximum length (tokens)",
        metavar="TOKENS",
        expert=True,
    )
    tf32: bool = option(
        False,
        "let CUDA's matrix products round to TF32 (10 bits): faster, results change slightly",
        title="TF32 on CUDA",
        expert=True,
    )
    keep: str = option(
        "difference",
        "how to save pruned weights: as a difference from the dense ones, full, or none; they can "
        "be re-pruned from the seed at any time",
        choices=KEEP,
        title="Save pruned weights",
        expert=True,
    )
