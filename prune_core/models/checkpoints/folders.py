"""Find checkpoints in folders: a Trainer's output, an outer folder with one model inside, the Hub's
cache.

Reads names and config.json files only, and imports nothing heavy.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import PruneError
from ...paths import ASSETS
from ..module_folders import encoder_folder
from . import foreign_formats

BUNDLED = {  # checkpoints that are part of this package
    "demo": ASSETS / "demo" / "checkpoint",
    "demo-robust": ASSETS / "demo" / "robust",
    "demo-guard": ASSETS / "demo" / "guard" / "checkpoint",
}
# the bundled data of each: they fit without a check
DATA_OF = {"demo": "demo", "demo-robust": "demo", "demo-guard": "demo-guard"}
DIFFERENCE = "difference.safetensors"  # the only file of a model saved as a difference
DEPTH = 3  # levels of subfolders that are searched
HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForSentenceEmbedding",  # of PruneScope: sentence-transformers folders list the encoder's class
)


class CheckpointFolder(NamedTuple):
    """Folder of the model, with a note if it is not the given one."""

    folder: Path
    note: str = ""


def find(folder: Path, checkpoint: str) -> CheckpointFolder:
    """Find the model in a local folder; PruneError if there is none or more than one."""
    if not folder.is_dir():
        raise PruneError(
            f"{checkpoint}: {'this is a file' if folder.exists() else 'there is no such folder'}; "
            "give a folder saved by save_pretrained, a Hub id, or 'demo'."
        )
    if (encoder := encoder_folder(folder)) != folder and _has_model(encoder):
        return CheckpointFolder(encoder)
    steps = {
        int(match[1]): subfolder
        for subfolder in folder.iterdir()
        if (match := re.fullmatch(r"checkpoint-(\d+)", subfolder.name)) and _has_model(subfolder)
    }
    weights = ("*.safetensors", "*.bin", "adapter_config.json")
    has_weights = any(any(folder.glob(pattern)) for pattern in weights)
    if _has_model(folder) and (has_weights or not steps):
        return CheckpointFolder(folder)
    if steps:
        last = steps[max(steps)]
        chosen, why = last, "the last one"
        if best := _best_step(folder, last):
            chosen, why = best, "the best one according to its trainer_state.json"
        return CheckpointFolder(
            chosen, f"{folder.name} is a Trainer's output: {chosen.name} is used, {why}."
        )
    models = [subfolder for subfolder in _subfolders(folder, DEPTH) if _has_model(subfolder)]
    if len(models) == 1:
        return CheckpointFolder(
            models[0], f"The model was found in {models[0].relative_to(folder)}."
        )
    if models:
        names = ", ".join(str(model.relative_to(folder)) for model in sorted(models)[:8])
        raise PruneError(
            f"{checkpoint} contains {len(models)} models ({names}); choose one of them."
        )
    if why := foreign_formats.reason(folder, {}):
        raise PruneError(f"{checkpoint} {why}.")
    raise PruneError(
        f"{checkpoint}: it has no config.json; give a folder saved by save_pretrained, a Hub id, "
        "or 'demo'."
    )


def _has_model(folder: Path) -> bool:
    return any(
        (folder / name).is_file() for name in ("config.json", "adapter_config.json", DIFFERENCE)
    )


def _best_step(folder: Path, last: Path) -> Path | None:
    """The best checkpoint according to the newest trainer_state.json, if it still exists."""
    for state in (folder / "trainer_state.json", last / "trainer_state.json"):
        if state.is_file():
            best = json.loads(state.read_text(encoding="utf-8")).get("best_model_checkpoint")
            if best and _has_model(folder / Path(best).name):
                return folder / Path(best).name
    return None


def _subfolders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield readable subfolders down to `depth` levels, without those inside a model's folder."""
    readable = os.R_OK | os.X_OK
    if not os.access(folder, readable):
        return
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and os.access(path, readable) and path.is_dir():
            yield path
            if depth > 1 and not _has_model(path):
                yield from _subfolders(path, depth - 1)


def weight_bytes(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate fp32 bytes of (the encoder's Linears, the whole model); 0 for an empty config."""

    def get(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name)), 0)

    width, depth = get("hidden_size", "dim"), get("num_hidden_layers", "n_layers")
    ffn_width = get("intermediate_size", "hidden_dim") or 4 * width
    encoder = 4.0 * depth * width * (4 * width + 2 * ffn_width)
    return encoder, encoder + 4.0 * width * get("vocab_size")


def known_checkpoints() -> list[str]:
    """List checkpoints to offer: fine-tuned encoders in PRUNESCOPE_MODELS and the Hub's cache."""
    from ..families import FAMILIES

    def is_supported(folder: Path) -> bool:
        config = config_of(folder)
        class_name = str((config.get("architectures") or [""])[0])
        embeds = (folder / "modules.json").is_file() and not (folder / "model_head.pkl").is_file()
        return config.get("model_type") in FAMILIES and (class_name.endswith(HEADS) or embeds)

    checkpoints = []
    for name in filter(None, os.environ.get("PRUNESCOPE_MODELS", "").split(os.pathsep)):
        root = Path(name).expanduser()
        folders = [root, *_subfolders(root, DEPTH)] if root.is_dir() else []
        checkpoints += [str(folder) for folder in folders if is_supported(folder)]
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return checkpoints + [
        model.name.removeprefix("models--").replace("--", "/")
        for model in sorted(hub.glob("models--*"))
        if any(is_supported(snapshot) for snapshot in model.glob("snapshots/*"))
    ]


def config_of(folder: Path) -> dict[str, Any]:
    """Read the config.json of a folder or its encoder; {} if it is missing or not readable."""
    try:
        content = json.loads((encoder_folder(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
