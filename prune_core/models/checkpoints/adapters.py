"""PEFT adapters, merged into the model that they were trained on. The only file that imports peft."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ...errors import PruneError, require
from .weights import list_names, silence_load_report

CONFIG = "adapter_config.json"
FILES = ("adapter_model.safetensors", "adapter_model.bin")
HEAD_WEIGHTS = ("classifier.weight", "classifier.out_proj.weight", "qa_outputs.weight")
TASKS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}


def _written(folder: str) -> dict[str, Any]:
    try:
        found = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PruneError(
            f"{Path(folder) / CONFIG} cannot be read as an adapter's description; save the adapter again."
        )
    return found


def base(folder: str, checkpoint: str) -> str:
    """The model that the adapter was trained on: a Hub id, or a folder, also beside the adapter."""
    named = str(_written(folder).get("base_model_name_or_path") or "")
    near = Path(folder).parent / Path(named).name
    if not named:
        raise PruneError(
            f"{checkpoint}: its {CONFIG} names no base model; write base_model_name_or_path there."
        )
    return str(near) if not Path(named).exists() and (near / "config.json").is_file() else named


def read_config(folder: str, checkpoint: str) -> dict[str, Any]:
    """The adapter's own weights by name, from a .safetensors or an older .bin file."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = next((each for name in FILES if (each := Path(folder) / name).is_file()), None)
    if file is None:
        raise PruneError(
            f"{checkpoint}: the adapter's weights are not there ({' or '.join(FILES)}); copy them too."
        )
    try:
        return (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (OSError, SafetensorError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PruneError(
            f"{checkpoint}: {file.name} cannot be read ({reason}); copy it again from where it was saved."
        ) from None


def config(folder: str, checkpoint: str) -> Any:
    """The base model's configuration, with the head that the adapter brings along."""
    from transformers import AutoConfig

    require("peft", "peft")
    task, own = str(_written(folder).get("task_type")), Path(folder) / "config.json"
    if task not in TASKS:
        raise PruneError(
            f"{checkpoint} is an adapter for {task}; PruneScope takes those for {', '.join(TASKS)}."
        )
    try:
        found = AutoConfig.from_pretrained(
            str(own.parent) if own.is_file() else base(folder, checkpoint)
        )
    except (OSError, ValueError) as error:
        raise PruneError(
            f"{checkpoint}: the model that this adapter was trained on, {base(folder, checkpoint)}, cannot be had: "
            f"{str(error).splitlines()[0][:120]}. Put it beside the adapter's folder, or go online."
        ) from None
    heads = [
        tensor
        for name, tensor in read_config(folder, checkpoint).items()
        if name.endswith(HEAD_WEIGHTS)
    ]
    if not heads:
        raise PruneError(
            f"{checkpoint}: the adapter holds no weights of the head ({', '.join(HEAD_WEIGHTS)}), which are trained with a {task} adapter; "
            f"save it again with PeftModel.save_pretrained, or merge it where it was trained (merge_and_unload, save_pretrained)."
        )
    if not own.is_file():
        found.num_labels = heads[0].shape[0]
    prefix = (found.architectures or ["BertModel"])[0].split("For")[0].removesuffix("Model")
    found.architectures = [prefix + TASKS[task]]
    return found


def load_merged(kind: Any, settings: Any, folder: str, checkpoint: str) -> tuple[Any, list[str]]:
    """(the base model with the adapter merged into its weights, notes); PruneError if neither provides a weight."""
    from peft import PeftModel, get_peft_model_state_dict

    origin, own = base(folder, checkpoint), read_config(folder, checkpoint)
    with silence_load_report():
        model, info = kind.from_pretrained(
            origin, config=settings, ignore_mismatched_sizes=True, output_loading_info=True
        )
        _covered(
            [*info["missing_keys"], *(each[0] for each in info["mismatched_keys"])],
            own,
            origin,
            checkpoint=checkpoint,
        )
        try:
            model = PeftModel.from_pretrained(model, folder)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise PruneError(
                f"{checkpoint}: the adapter does not fit {origin} ({reason}); name the model it was trained on as "
                f"base_model_name_or_path in its {CONFIG}."
            ) from None
    wanted = set(get_peft_model_state_dict(model))
    for names, what in (
        (wanted - set(own), "lacks"),
        (set(own) - wanted, "has weights without a place:"),
    ):
        if names:
            raise PruneError(
                f"{checkpoint}: the adapter {what} {list_names(sorted(names))}; it is incomplete, or of another model than "
                f"{origin}: copy it again, or correct base_model_name_or_path in its {CONFIG}."
            )
    return model.merge_and_unload(), [f"The adapter was merged into {origin}."]


def _covered(missing: Sequence[str], own: Mapping[str, Any], origin: str, checkpoint: str) -> None:
    """Refuse weights that the base lacks and the adapter does not bring: they would be random."""
    brought = {
        name.removeprefix("base_model.model.").replace(".modules_to_save", "") for name in own
    }
    if lacking := sorted(name for name in missing if name not in brought):
        raise PruneError(
            f"{checkpoint}: neither the adapter nor its base {origin} holds {list_names(lacking)}, which would be random; give the base with "
            "these weights, or train the adapter with them in modules_to_save and save it again."
        )
