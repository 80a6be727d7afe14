"""Accuracy, size and latency of the dense and the pruned model in every deployment format.

The exported files themselves are measured; of a retrieval collection, each one embeds queries and
documents. A pruned model is exported without its dead heads and neurons.
"""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from torch import nn

from ..analysis.index_compatibility import BASELINE, REEMBEDDED, Embeddings, compare_indexes
from ..models.checkpoints import verification
from ..models.devices import device_of
from ..models.export.formats import (
    CALIBRATION_EXAMPLES,
    FORMATS,
    INT8,
    ONNX,
    OPENVINO,
    OPENVINO_INT8,
    TOLERANCES,
    DeployedModel,
    ExportSource,
)
from ..models.inference.timing import refuse_longer, time_interleaved, timing_batch
from ..plugins import Report, Rows, no_report, option, preset, subrange
from ..tasks import TASK_TYPES
from ..tasks.encoding import batches
from .accuracy import dense_predictions, predictions, summary
from .attack import Attack
from .base import Measure, Pair
from .cost import Cost, as_deployed, size_on_disk
from .retrieval import (
    collection_of,
    dense_embeddings,
    embed_collection,
    is_cosine,
    pruned_embeddings,
)

PYTORCH = "PyTorch fp32"
ACCURACY_COLUMNS = (  # copied from a row of the accuracy table
    "score",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "agreement",
)
NDCG = "ndcg_at_10"  # the metric of a retrieval collection
DOCUMENTS = 5000  # of a collection, by default


@dataclass(frozen=True)
class DeploymentFormats(Measure):
    """Accuracy, agreement with the dense model, bytes and latency of every format.

    Of an embedding model on a retrieval collection, nDCG@10 of exact search with the queries and
    documents that each file embeds; agreement is the overlap of the first 10 documents.
    Optionally accuracy under DeepWordBug. All formats run on the CPU and are timed in turn with the
    dense model in PyTorch. ONNX int8 is dynamic quantization with one scale per column; static
    formats take the input ranges from calibration examples.
    """

    name = "formats"
    title = "Deployment formats"
    summary = (
        "Both models as PyTorch, ONNX and int8: accuracy, agreement, size and latency of the files"
    )
    version = 2
    slow = True
    is_default = False
    estimate = 30.0
    formats: str = option(
        f"{ONNX}, {INT8}",
        "Formats to export, in addition to PyTorch fp32",
        choices=tuple(FORMATS),
        several=True,
    )
    batch: int = preset(Cost, "batch", 8)
    length: int = preset(Cost, "length", 64)
    repeats: int = preset(Cost, "repeats", 10)
    attack_examples: int = option(
        0, "Examples to attack with DeepWordBug in every format (classifiers only); 0 = none", low=0
    )
    documents: int = option(
        DOCUMENTS,
        "Documents of a retrieval collection that every file embeds: all judged ones and a random "
        "sample of the others; 0 = all",
        low=0,
    )

    @staticmethod
    def unavailable_choices() -> dict[str, str]:
        """Formats that cannot be written on this machine, with the reason."""
        if find_spec("openvino") and find_spec("nncf"):
            return {}
        reason = (
            "{} needs openvino and nncf, which are not installed here: "
            "pip install 'prunescope[openvino]'."
        )
        return {
            format_name: reason.format(format_name) for format_name in (OPENVINO, OPENVINO_INT8)
        }

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The table `formats`: one row per model and format."""
        refuse_longer(pair.dense, self.length, "formats: length")
        models = {"dense": pair.dense}
        if not pair.is_dense:
            models["pruned"] = as_deployed(pair.pruned)
        with tempfile.TemporaryDirectory() as folder:
            deployed = {
                (name, format_name): exported
                for count, (name, model) in enumerate(models.items())
                for format_name, exported in _all_formats(
                    source(pair, model, Path(folder) / name),
                    self.formats.split(", "),
                    pair,
                    subrange(report, 0.3 * count, 0.3 * count + 0.3),
                )
            }
            report(0.6, "timing all formats in turn")
            batch = timing_batch(next(iter(deployed.values())), self.batch, self.length)
            seconds, other_load = time_interleaved(
                [*deployed.values()],
                batch,
                self.repeats,
                report=subrange(report, 0.6, 0.8),
                settle=True,
            )
            times = dict(zip(deployed, map(median, seconds), strict=True))
            rows = []
            for place, ((name, format_name), model) in enumerate(deployed.items()):
                start, end = (0.8 + 0.2 * each / len(deployed) for each in (place, place + 1))
                report(start, f"evaluating {name} as {format_name}")
                size = model.size if isinstance(model, DeployedModel) else size_on_disk(model)
                rows.append(
                    {
                        "model": name,
                        "format": format_name,
                        **deployed_quality(
                            pair, model, self.documents, subrange(report, start, end)
                        ),
                        **self._under_attack(pair, model),
                        "latency_p50": times[name, format_name],
                        "speedup": times["dense", PYTORCH] / times[name, format_name],
                        "bytes": size,
                        "other_load": other_load,
                    }
                )
        report(1.0, "deployment formats measured")
        return {"formats": pd.DataFrame(rows)}

    def _under_attack(self, pair: Pair, model: nn.Module) -> dict[str, Any]:
        """Return the columns of accuracy under attack; none if attacks are not requested."""
        if not self.attack_examples or not TASK_TYPES[pair.task.evaluation.kind].attackable:
            return {}
        attack = Attack(recipes="DeepWordBug", examples=self.attack_examples, precision="fp32")
        tables = attack.measure(replace(pair, pruned=model, folder=None), no_report)
        row = tables["attack"].iloc[0]
        columns = ("under_attack", "under_attack_low", "under_attack_high")
        return {"attacked": int(row["n"]), **{name: row[name] for name in columns}}


def _all_formats(
    source: ExportSource, names: Sequence[str], pair: Pair, report: Report
) -> Iterator[tuple[str, nn.Module]]:
    """Yield (format, model that runs it), PyTorch fp32 first."""
    yield PYTORCH, source.model
    yield from write_formats(source, names, pair, report)


def write_formats(
    source: ExportSource, names: Sequence[str], pair: Pair, report: Report
) -> Iterator[tuple[str, DeployedModel]]:
    """Write the formats; yield (format, model that runs its files).

    The outputs of each are compared with the model's on evaluation examples of the pair; PruneError
    if they differ by more than the tolerance of the format.
    """
    for place, format_name in enumerate(names):
        report(place / len(names), f"writing {source.folder.name} as {format_name}")
        exported = FORMATS[format_name](source)
        verification.check_outputs(
            format_name,
            source.model,
            source.tokenizer,
            examples=pair.task.evaluation,
            max_length=pair.max_length,
            deployed=exported,
            tolerance=TOLERANCES.get(format_name, verification.TOLERANCE),
        )
        yield format_name, exported


def deployed_quality(
    pair: Pair, model: nn.Module, documents: int = DOCUMENTS, report: Report = no_report
) -> dict[str, Any]:
    """Return metrics of an exported model on the evaluation sample, compared with the dense one.

    Of a retrieval collection, those of searching `documents` documents (0 = all).
    """
    task = pair.task
    if task.collection is not None:
        return _retrieval_quality(pair, model, documents, report)
    dense, exported = dense_predictions(pair, no_report), predictions(pair, model, report)
    labels: list[Any] = task.evaluation.labels or dense.predicted
    task_type = TASK_TYPES[task.evaluation.kind]
    labels, before, after = task_type.comparable(
        task.label_names, labels, dense.predicted, exported.predicted
    )
    row = summary(
        task.metric,
        len(task.label_names),
        labels,
        dense=before,
        pruned=after,
        seed=pair.seed,
        probabilities=(dense.probabilities, exported.probabilities),
        queries=task.evaluation.queries,
    )
    return {
        "metric": task.metric,
        "n": row["n"],
        **{column: row[column] for column in ACCURACY_COLUMNS},
        "divergence": task_type.label_divergence(dense.probabilities, exported.probabilities),
    }


def _retrieval_quality(
    pair: Pair, model: nn.Module, documents: int, report: Report
) -> dict[str, Any]:
    """Return nDCG@10 with the queries and documents that an exported model embeds."""
    full = collection_of(pair, "formats")
    collection = full.sample_documents(documents, pair.seed)
    dense = dense_embeddings(pair, collection, subrange(report, 0.0, 0.5))
    if model is pair.pruned:  # embeddings that other measures share
        exported = pruned_embeddings(pair, collection, report)
    elif model is pair.dense:
        exported = dense
    else:
        exported = Embeddings(*embed_collection(pair, model, collection, report))
    compared = compare_indexes(
        dense,
        exported,
        collection.judged,
        cells=(BASELINE, REEMBEDDED),
        normalize=is_cosine(pair.dense),
        depth=10,
        seed=pair.seed,
    )
    row = compared.table.iloc[-1]
    columns = [f"{NDCG}{end}" for end in ("", "_low", "_high")]
    columns += [f"{NDCG}_difference{end}" for end in ("", "_low", "_high")]
    values = row[[*columns, "overlap_at_10"]]
    return {
        "metric": NDCG,
        "n": row["n"],
        **dict(zip(ACCURACY_COLUMNS, values, strict=True)),
        "divergence": None,
        "documents": len(collection.documents),
        "collection_documents": len(full.documents),
    }


def source(pair: Pair, model: nn.Module, folder: Path) -> ExportSource:
    """Return the model on the CPU with calibration examples, for files in a new folder."""
    folder.mkdir()
    on_cpu = model if device_of(model).type == "cpu" else copy.deepcopy(model).cpu()
    sample = pair.task.calibration.sample(CALIBRATION_EXAMPLES, pair.seed)
    calibration = [
        batch
        for batch, _ in batches(
            pair.tokenizer, sample, 1, max_length=pair.max_length, device=device_of(on_cpu)
        )
    ]
    return ExportSource(on_cpu, pair.tokenizer, folder, calibration=calibration)
