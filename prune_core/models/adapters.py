"""PEFT adapters, merged into the model that they were trained on. The only file that imports peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import PruneError, require

CONFIG = "adapter_config.json"
HEAD_WEIGHTS = ("classifier.weight", "classifier.out_proj.weight", "qa_outputs.weight")
TASKS = {"SEQ_CLS": "ForSequenceClassification", "TOKEN_CLS": "ForTokenClassification", "QUESTION_ANS": "ForQuestionAnswering"}


def _written(folder: str) -> dict[str, Any]:
    try:
        found = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PruneError(f"{Path(folder) / CONFIG} cannot be read as an adapter's description; save the adapter again.")
    return found


def base(folder: str, checkpoint: str) -> str:
    """The model that the adapter was trained on: a Hub id, or a folder, also beside the adapter."""
    named = str(_written(folder).get("base_model_name_or_path") or "")
    near = Path(folder).parent / Path(named).name
    if not named:
        raise PruneError(f"{checkpoint}: its {CONFIG} names no base model; write base_model_name_or_path there.")
    return str(near) if not Path(named).exists() and (near / "config.json").is_file() else named


def config(folder: str, checkpoint: str) -> Any:
    """The base model's configuration, with the head that the adapter brings along."""
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig

    require("peft", "peft")
    task, own = str(_written(folder).get("task_type")), Path(folder) / "config.json"
    if task not in TASKS:
        raise PruneError(f"{checkpoint} is an adapter for {task}; PruneScope takes those for {', '.join(TASKS)}.")
    try:
        found = AutoConfig.from_pretrained(str(own.parent) if own.is_file() else base(folder, checkpoint))
    except (OSError, ValueError) as error:
        raise PruneError(f"{checkpoint}: the model that this adapter was trained on, {base(folder, checkpoint)}, cannot be had: "
                         f"{str(error).splitlines()[0][:120]}. Put it beside the adapter's folder, or go online.") from None  # fmt: skip
    try:
        with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as opened:
            heads = [name for name in opened.keys() if name.endswith(HEAD_WEIGHTS)]  # noqa: SIM118
            if heads and not own.is_file():
                found.num_labels = opened.get_slice(heads[0]).get_shape()[0]
    except (OSError, SafetensorError) as error:
        raise PruneError(f"{checkpoint}: its adapter_model.safetensors cannot be read ({str(error)[:120]}); copy it again.") from None
    prefix = (found.architectures or ["BertModel"])[0].split("For")[0].removesuffix("Model")
    found.architectures = [prefix + TASKS[task]]
    return found


def merged(kind: Any, settings: Any, folder: str, checkpoint: str) -> tuple[Any, list[str]]:
    """(the base model with the adapter's change in its weights, what there is to say)."""
    from peft import PeftModel

    origin = base(folder, checkpoint)
    model = kind.from_pretrained(origin, config=settings, ignore_mismatched_sizes=True)
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    return model, [f"The adapter was merged into {origin}."]
