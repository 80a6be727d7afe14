"""A candidate: a model from elsewhere instead of a pruned one, and the measures it supports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PruneError
from ..measures.base import Measure, Pair
from ..models.candidates import files, kinds
from ..plugins import CANDIDATE, Method, option, preset

# measures that only need outputs, which every model file has
OF_PREDICTIONS = ("accuracy", "threshold")  # measures that a table of predictions suffices for
QUERYING = (
    *OF_PREDICTIONS,
    *("retrieval", "reranking", "attack", "query_attack", "noise", "certified", "cost"),
)
REWRITING = ("formats", "quantization")  # measures that write other files from a model
BY_MATRIX = ("reconstruction", "sensitivity")  # measures that compare each weight matrix
BY_BLOCK = ("drift", *BY_MATRIX)  # measures that need hidden states of every block
# measures that run both models on the same token ids
SAME_TOKENS = (*BY_MATRIX, "corpus_poisoning", "reranking")
GENERIC_NAMES = ("model", "pytorch_model", "openvino_model", "checkpoint", "predictions")


@dataclass(frozen=True)
class CandidateModel(Method):
    """A model from elsewhere: a checkpoint, a model file or a table of predictions.

    It prunes nothing, so it is not in the registry of methods: the stage `prune` loads the file and
    returns facts about it.
    """

    name = CANDIDATE
    title = "Candidate"
    summary = "A model from elsewhere, compared with the dense one"
    estimate = 5.0
    sparsity: float = preset(Method, "sparsity", 0.0)
    path: str = option("", "checkpoint folder, model file or table of predictions")
    tokenizer: str = option(
        "", "folder of a model file's tokenizer; empty: the folder of the file, or its parent"
    )

    shown_as: str = option("", "name in charts; empty: the name of the file or folder")

    @property
    def label(self) -> str:
        """The given name, else the file or folder name, with its parent if it is generic."""
        if self.shown_as:
            return self.shown_as
        path = Path(self.path)
        is_generic = path.name.split(".")[0] in GENERIC_NAMES
        return f"{path.parent.name}/{path.name}" if is_generic else path.name


def supported_measures(path: str) -> tuple[str, ...]:
    """Return the names of the measures that this kind of file may support."""
    kind = files.locate(path).kind
    if kind == kinds.CHECKPOINT:
        return (*QUERYING, *BY_BLOCK, "corpus_poisoning")
    return OF_PREDICTIONS if kind == kinds.TABLE else QUERYING


def check_kind(measures: Iterable[Measure], candidate: CandidateModel) -> None:
    """Raise PruneError for a measure that the candidate cannot support, without loading it."""
    kind, supported = files.locate(candidate.path).kind, supported_measures(candidate.path)
    for measure in measures:
        if measure.name in supported:
            continue
        reason = f"{candidate.label} is {kinds.TITLES[kind]} and has no accessible hidden states"
        if measure.name in REWRITING:
            reason = "a candidate is measured as it is, and no other files are written from it"
        elif kind == kinds.TABLE:
            reason = f"{candidate.label} is a table of predictions, so there is no model to run"
        _refuse(measure, reason)
    if kind not in (kinds.CHECKPOINT, kinds.TABLE):
        files.tokenizer_folder(candidate.path, candidate.tokenizer)


def check_loaded(measures: Iterable[Measure], candidate: CandidateModel, pair: Pair) -> None:
    """Raise PruneError for a measure that the loaded candidate does not support."""
    from ..models.candidates.external import ExternalModel
    from ..models.devices import device_of

    is_external = isinstance(pair.pruned, ExternalModel)
    vocabularies = [each.get_vocab() for each in (pair.tokenizer, pair.tokenizer_of(pair.pruned))]
    shapes = [] if is_external else [*map(_shapes, (pair.dense, pair.pruned))]
    for measure in measures:
        if is_external and measure.name not in QUERYING:
            _refuse(measure, f"the blocks of {candidate.label} are not accessible")
        if is_external and getattr(measure, "precision", "fp32") != "fp32":
            raise PruneError(
                f"{measure.name}: {candidate.label} runs in the precision of its file; set the "
                "precision to 'fp32'."
            )
        if measure.name == "cost" and is_external and device_of(pair.dense).type != "cpu":
            _refuse(measure, f"{candidate.label} runs on the CPU, but the dense model does not")
        if measure.name in BY_MATRIX and shapes[0][0] != shapes[1][0]:
            depths = "{} layers of width {}".format
            _refuse(
                measure,
                f"it compares hidden states block by block, but the dense model has "
                f"{depths(*shapes[0][0])} and {candidate.label} {depths(*shapes[1][0])}",
            )
        if measure.name in BY_MATRIX and shapes[0][1] != shapes[1][1]:
            _refuse(measure, f"the weight matrices of {candidate.label} have different shapes")
        if measure.name in SAME_TOKENS and vocabularies[0] != vocabularies[1]:
            _refuse(measure, f"{candidate.label} has a different vocabulary than the dense model")


def _refuse(measure: Measure, reason: str) -> None:
    raise PruneError(
        f"{measure.title} cannot be measured: {reason}; leave the measure {measure.name} out."
    )


def _shapes(model: Any) -> tuple[tuple[int, int], list[tuple[int, str, tuple[int, ...]]]]:
    """Return ((passes of blocks, width of hidden states), shape of each weight matrix)."""
    from ..models.replay import block_passes, linears

    matrices = [(block, name, tuple(linear.weight.shape)) for block, name, linear in linears(model)]
    return (len(block_passes(model)), model.config.hidden_size), matrices
