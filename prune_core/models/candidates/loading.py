"""Load a candidate: a model from elsewhere that is compared with the dense one."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from ...data.examples import DataSource, Examples
from ...errors import PruneError
from ...tasks import TaskType, of_head
from ...tasks.encoding import encode
from ...tasks.task_data import Task
from ..checkpoints import folders, verification
from ..checkpoints import loading as checkpoints
from ..checkpoints.tokenizers import prepare_tokenizer
from ..checkpoints.weights import list_names
from ..families import FAMILIES
from ..replay import head_linears, task_type_of
from . import files, kinds, prediction_table
from .external import (
    ExternalModel,
    FileModel,
    TransformersModel,
    are_probabilities,
    with_labels,
)
from .facts import Fact, match_labels, weights_facts
from .programs import load_program

PROBES = 16  # examples on which the outputs of a file are checked
MAX_COMPARED = 1000  # examples whose tokens are compared with the dense model's


class LoadedCandidate(NamedTuple):
    """A candidate on the CPU, its tokenizer and facts about it."""

    model: Any
    tokenizer: Any
    facts: list[Fact]


def load(
    path: str,
    tokenizer: str,
    *,
    dense: Any,
    dense_tokenizer: Any,
    task: Task,
    source: DataSource,
    max_length: int,
) -> LoadedCandidate:
    """Load a candidate; raise PruneError if it cannot be compared with the dense model."""
    kind, file = files.locate(path)
    names, examples = checkpoints.label_names(dense.config), task.evaluation
    form = Fact("format", kind)
    if kind == kinds.TABLE:
        table, facts = prediction_table.load(file, dense, examples, task.label_names, source)
        return LoadedCandidate(table, dense_tokenizer, [form, *facts])
    task_type = task_type_of(dense)
    if kind == kinds.CHECKPOINT:
        model, own_tokenizer, facts = _load_checkpoint(path, tokenizer, dense)
        if not isinstance(model, ExternalModel):
            verification.check(path, model, own_tokenizer, examples=examples, max_length=max_length)
        own_names: Sequence[str] | None = checkpoints.label_names(model.config)
    else:
        model, own_tokenizer, own_names = _load_file(
            kind, file, path, tokenizer=tokenizer, dense=dense
        )
        facts = list(model.program.facts)
        counts = model.program.weights
        facts += weights_facts(counts, _parameters(dense), file.name)
    if task_type.has_label_names:
        order, fact = match_labels(own_names or names, names, path)
        if own_names is None:
            fact = fact._replace(
                warning="The file has no label names (no config.json next to it), so the label "
                "order of the dense model was assumed."
            )
        facts.append(fact)
        _set_labels(model, order, names)
    if isinstance(model, ExternalModel):
        facts += _probe(model, own_tokenizer, examples, path, max_length)
    facts.append(_compare_tokens(own_tokenizer, dense_tokenizer, examples, max_length))
    return LoadedCandidate(model.eval(), own_tokenizer, [form, *facts])


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _load_checkpoint(path: str, tokenizer: str, dense: Any) -> tuple[Any, Any, list[Fact]]:
    """Return (model, tokenizer, facts); blocks are accessible in supported families."""
    if tokenizer:
        raise PruneError(
            f"{path} is a checkpoint with its own tokenizer; leave the tokenizer folder empty."
        )
    task_type = task_type_of(dense)
    source, note = checkpoints.locate(path)
    folder = Path(source)
    raw = folders.config_of(folder)
    is_quantized = bool(raw.get("quantization_config"))
    weight_files = [
        *folder.glob("*.safetensors"),
        *(() if any(folder.glob("*.safetensors")) else folder.glob("pytorch_model*.bin")),
    ]
    size = sum(file.stat().st_size for file in weight_files)
    if raw and (is_quantized or raw.get("model_type") not in FAMILIES) and weight_files:
        model, own_tokenizer = _load_transformers(path, folder, task_type, size)
    else:
        model, own_tokenizer = checkpoints.load(path)
        if size and raw:  # not for a model saved as a difference
            # size of the files; the loaded weights may have been converted to fp32
            model.size, model.path = size, folder
    if task_type_of(model) is not task_type:
        raise PruneError(
            f"{path} predicts {task_type_of(model).output}, the dense model {task_type.output}; "
            "choose models of the same task."
        )
    facts = [Fact("architecture", _architecture(model.config))]
    facts += [Fact("note", each) for each in filter(None, [note, *getattr(model, "notes", [])])]
    if is_quantized:
        method = raw["quantization_config"].get("quant_method", "unknown method")
        facts.append(Fact("quantization", str(method)))
    return model, own_tokenizer, [*facts, *_stored_weights(folder, path, _parameters(dense))]


def _architecture(config: Any) -> str:
    layers, width = (
        next((getattr(config, name) for name in names if hasattr(config, name)), None)
        for names in (("num_hidden_layers", "n_layers"), ("hidden_size", "dim"))
    )
    return f"{(config.architectures or [config.model_type])[0]}, {layers} layers of width {width}"


def _stored_weights(folder: Path, path: str, dense_parameters: int) -> list[Fact]:
    """Describe the weights in the safetensors files of a folder; [] if it has none."""
    counts: Counter[str] = Counter()
    for file in {*folder.glob("*.safetensors")} - {folder / folders.DIFFERENCE}:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                part = tensors.get_slice(name)
                counts[part.get_dtype()] += torch.Size(part.get_shape()).numel()
    return weights_facts(counts, dense_parameters, Path(path).name)


def _load_transformers(
    path: str, folder: Path, task_type: TaskType, size: int
) -> tuple[TransformersModel, Any]:
    """Load a model of an unsupported family, or with quantized weights, with transformers."""
    import transformers

    config = checkpoints.from_pretrained(
        transformers.AutoConfig, "configuration", str(folder), checkpoint=path
    )
    class_name = str((config.architectures or [""])[0])
    if "For" not in class_name or of_head(class_name, config) is not task_type:
        raise PruneError(
            f"{path} is a {class_name or config.model_type}, which does not predict "
            f"{task_type.output} as the dense model does; choose models of the same task."
        )
    tokenizer = checkpoints.from_pretrained(
        transformers.AutoTokenizer, "tokenizer", str(folder), checkpoint=path
    )
    auto_class = getattr(transformers, f"AutoModel{task_type.head_class}")
    try:
        model, info = auto_class.from_pretrained(
            str(folder), trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # of transformers, and of any package for quantized weights
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PruneError(
            f"{path} cannot be run on this machine ({reason}); install the package that it names, "
            "or give an ONNX export of the model."
        ) from None
    if missing := sorted(info["missing_keys"]):
        raise PruneError(
            f"{path} lacks weights that its configuration requires: {list_names(missing)}. They "
            "would be random; save the whole model again with save_pretrained."
        )
    if config.model_type in FAMILIES:
        tokenizer = prepare_tokenizer(tokenizer, config)
    else:
        _limit(tokenizer, getattr(config, "max_position_embeddings", 0))
    return TransformersModel(model.eval(), task_type, size), tokenizer


def _limit(tokenizer: Any, tokens: int | None) -> None:
    """Pad on the right and truncate at a number of tokens, if there is one."""
    tokenizer.padding_side = "right"
    if tokens:
        tokenizer.model_max_length = min(tokenizer.model_max_length, tokens)


def _load_file(
    kind: str, file: Path, path: str, *, tokenizer: str, dense: Any
) -> tuple[FileModel, Any, list[str] | None]:
    """Return (model, tokenizer, label names from a config.json next to the file or tokenizer)."""
    import transformers

    folder = files.tokenizer_folder(path, tokenizer)
    own_tokenizer = checkpoints.from_pretrained(
        transformers.AutoTokenizer, "tokenizer", str(folder), checkpoint=str(folder)
    )
    program = load_program(kind, file)
    config = copy.deepcopy(dense.config)
    config.vocab_size = len(own_tokenizer)
    raw = folders.config_of(file.parent) or folders.config_of(folder)
    positions = raw.get("max_position_embeddings")
    _limit(own_tokenizer, min(filter(None, (positions, program.shape[1])), default=None))
    labels = raw.get("id2label")
    names = [str(labels[key]) for key in sorted(labels, key=int)] if labels else None
    size = sum(each.stat().st_size for each in files.content_files(path))
    model = FileModel(
        kind,
        program,
        file,
        own_tokenizer,
        config=config,
        task_type=task_type_of(dense),
        size=size,
    )
    own_tokenizer.model_input_names = [
        name for name in own_tokenizer.model_input_names if name in model.roles.values()
    ]
    if "attention_mask" not in own_tokenizer.model_input_names:
        own_tokenizer.model_input_names.append("attention_mask")
    return model, own_tokenizer, names


def _set_labels(model: Any, order: Sequence[int] | None, names: Sequence[str]) -> None:
    """Give a candidate the labels of the dense model, in their order."""
    if isinstance(model, ExternalModel):
        model.order = list(order) if order is not None else None
    elif order is not None:
        last = head_linears(model)[-1][1]
        with torch.no_grad():
            last.weight.copy_(last.weight[list(order)].clone())
            if last.bias is not None:
                last.bias.copy_(last.bias[list(order)].clone())
    model.config = with_labels(model.config, names)


@torch.no_grad()
def _probe(
    model: ExternalModel, tokenizer: Any, examples: Examples, path: str, max_length: int
) -> list[Fact]:
    """Run a few examples in a padded batch and alone; check the shapes of the outputs."""
    from ...data.tokens import pad_batch

    task_type = model.task_type
    features = encode(tokenizer, examples.take(range(min(PROBES, len(examples)))), max_length)
    rows = list(range(min(PROBES, len(features))))
    device = torch.device("cpu")

    def outputs_of(places: Sequence[int]) -> list[torch.Tensor]:
        batch = pad_batch(tokenizer, features, list(places), device=device)
        try:
            return task_type.example_outputs(model(**batch))
        except PruneError:
            raise
        except Exception as error:  # of the runtime
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise PruneError(
                f"{path} cannot be run on the evaluation texts ({reason}); export it for any batch "
                "size and length, and check that the tokenizer belongs to it."
            ) from None

    together = outputs_of(rows)
    labels = model.config.num_labels
    if task_type.activation is not None and together[0].shape[-1] != labels:
        raise PruneError(
            f"{path} returns {together[0].shape[-1]} values per text, but the dense model has "
            f"{labels} labels; choose models of the same task."
        )
    facts = []
    if task_type.is_single_label and are_probabilities(torch.stack(together)):
        model.returns_probabilities = True
        facts.append(Fact("outputs", "probabilities; their logarithms are used as logits"))
        together = outputs_of(rows)
    lengths = [len(features.inputs["input_ids"][row]) for row in rows]
    largest, scale = 0.0, 1.0
    for row, output, length in zip(rows, together, lengths, strict=True):
        (alone,) = outputs_of([row])
        if output.dim() > 1:
            output, alone = output[:length], alone[:length]
        largest = max(largest, float((output - alone).abs().max()))
        scale = max(scale, float(alone.abs().max()))
    warning = ""
    if largest > 100 * verification.TOLERANCE * scale:
        warning = (
            "Its outputs for a text depend on the other texts of the batch: it ignores the "
            "attention mask, or quantizes activations per batch."
        )
    return [
        *facts,
        Fact("batching", f"outputs alone and in a batch differ by {largest:.1g}", warning),
    ]


def _compare_tokens(tokenizer: Any, dense: Any, examples: Examples, max_length: int) -> Fact:
    """Compare token ids on the evaluation texts; warn if only the vocabulary size is equal."""
    sample = examples.take(range(min(MAX_COMPARED, len(examples))))
    own, reference = (
        [each(text, truncation=True, max_length=max_length)["input_ids"] for text in sample.texts]
        for each in (tokenizer, dense)
    )
    differ = sum(a != b for a, b in zip(own, reference, strict=True))
    if not differ:
        return Fact("tokenizer", f"equal to the dense model's on {len(sample):,} texts")
    value = f"differs from the dense model's on {differ:,} of {len(sample):,} texts"
    is_same_vocabulary = len(tokenizer) == len(dense)
    warning = (
        "Its tokenizer has as many tokens as the dense model's, but encodes texts differently: "
        "check that it belongs to the file."
        if is_same_vocabulary
        else ""
    )
    return Fact("tokenizer", value, warning)
