"""PEFT adapters, merged into the model they were trained on.

The only module that imports peft.
"""

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


def _adapter_config(folder: str) -> dict[str, Any]:
    try:
        content = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise PruneError(
            f"{Path(folder) / CONFIG} cannot be read as an adapter's configuration; "
            "save the adapter again."
        )
    return content


def base_model(folder: str, checkpoint: str) -> str:
    """Model that the adapter was trained on: a Hub id, or a folder, also next to the adapter."""
    name = str(_adapter_config(folder).get("base_model_name_or_path") or "")
    sibling = Path(folder).parent / Path(name).name
    if not name:
        raise PruneError(
            f"{checkpoint}: its {CONFIG} names no base model; set base_model_name_or_path in it."
        )
    if not Path(name).exists() and (sibling / "config.json").is_file():
        return str(sibling)
    return name


def read_weights(folder: str, checkpoint: str) -> dict[str, Any]:
    """Read the adapter's weights by name, from a .safetensors or an older .bin file."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = next((path for name in FILES if (path := Path(folder) / name).is_file()), None)
    if file is None:
        raise PruneError(
            f"{checkpoint}: the adapter's weights are missing ({' or '.join(FILES)}); copy them "
            "too."
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, RuntimeError, EOFError, UnpicklingError) as error:
        raise PruneError(
            f"{checkpoint}: {file.name} cannot be read ({' '.join(str(error).split())[:120]}); "
            "copy it again from where it was saved."
        ) from None


def load_config(folder: str, checkpoint: str) -> Any:
    """Configuration of the base model, with the head of the adapter."""
    from transformers import AutoConfig

    require("peft", "peft")
    task, file = str(_adapter_config(folder).get("task_type")), Path(folder) / "config.json"
    if task not in TASKS:
        raise PruneError(
            f"{checkpoint} is an adapter for {task}; supported are {', '.join(TASKS)}."
        )
    try:
        settings = AutoConfig.from_pretrained(
            folder if file.is_file() else base_model(folder, checkpoint)
        )
    except (OSError, ValueError) as error:
        raise PruneError(
            f"{checkpoint}: the model that this adapter was trained on, "
            f"{base_model(folder, checkpoint)}, "
            f"cannot be loaded: {str(error).splitlines()[0][:120]}. "
            "Put it next to the adapter's folder, or go online."
        ) from None
    heads = [
        tensor
        for name, tensor in read_weights(folder, checkpoint).items()
        if name.endswith(HEAD_WEIGHTS)
    ]
    if not heads:
        raise PruneError(
            f"{checkpoint}: the adapter contains no weights of the head "
            f"({', '.join(HEAD_WEIGHTS)}), which are trained with a {task} adapter; save it again "
            "with PeftModel.save_pretrained, or merge it where it was trained (merge_and_unload, "
            "save_pretrained)."
        )
    if not file.is_file():
        settings.num_labels = heads[0].shape[0]
    prefix = (settings.architectures or ["BertModel"])[0].split("For")[0].removesuffix("Model")
    settings.architectures = [prefix + TASKS[task]]
    return settings


def load_merged(kind: Any, settings: Any, folder: str, checkpoint: str) -> tuple[Any, list[str]]:
    """Return (base model with the adapter merged, notes).

    PruneError if neither of the two provides a weight, or if the adapter does not fit.
    """
    from peft import PeftModel, get_peft_model_state_dict

    origin, saved = base_model(folder, checkpoint), read_weights(folder, checkpoint)
    with silence_load_report():
        model, info = kind.from_pretrained(
            origin, config=settings, ignore_mismatched_sizes=True, output_loading_info=True
        )
        missing = [*info["missing_keys"], *(mismatch[0] for mismatch in info["mismatched_keys"])]
        _check_coverage(missing, saved, origin, checkpoint=checkpoint)
        try:
            model = PeftModel.from_pretrained(model, folder)
        except (KeyError, ValueError, RuntimeError) as error:
            raise PruneError(
                f"{checkpoint}: the adapter does not fit {origin} "
                f"({' '.join(str(error).split())[:160]}); set "
                f"base_model_name_or_path in its {CONFIG} to the model it was trained on."
            ) from None
    expected = set(get_peft_model_state_dict(model))
    for names, problem in (
        (expected - set(saved), "lacks"),
        (set(saved) - expected, "has unexpected weights:"),
    ):
        if names:
            raise PruneError(
                f"{checkpoint}: the adapter {problem} {list_names(sorted(names))}; it is "
                "incomplete, "
                f"or belongs to another model than {origin}: copy it again, or correct "
                f"base_model_name_or_path in its {CONFIG}."
            )
    return model.merge_and_unload(), [f"The adapter was merged into {origin}."]


def _check_coverage(
    missing: Sequence[str], saved: Mapping[str, Any], origin: str, checkpoint: str
) -> None:
    """Refuse weights that neither the base nor the adapter contains: they would be random."""
    provided = {
        name.removeprefix("base_model.model.").replace(".modules_to_save", "") for name in saved
    }
    if random := sorted(name for name in missing if name not in provided):
        raise PruneError(
            f"{checkpoint}: neither the adapter nor its base {origin} contains "
            f"{list_names(random)}, "
            "which would be random; give a base with these weights, or train the adapter with them "
            "in modules_to_save and save it again."
        )
