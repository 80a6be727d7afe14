"""Checkpoint folders as people have them: a Trainer's output, an outer folder with one model inside, what is cached of the Hub.

Reads names and config.json files alone: imports nothing heavy, and knows nothing of weights.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import PruneError
from ...paths import ASSETS
from . import foreign_formats

BUNDLED = {
    "demo": ASSETS / "demo" / "checkpoint",
    "demo-robust": ASSETS / "demo" / "robust",
}  # names that this package brings along
DIFFERENCE = "difference.safetensors"  # all that a pruned model kept as a difference has
DEPTH = 3  # folders within folders that are looked into
HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


class CheckpointFolder(NamedTuple):
    """The folder that holds the model, and a sentence where that is not the one that was named."""

    folder: Path
    note: str = ""


def find(folder: Path, checkpoint: str) -> CheckpointFolder:
    """Where in a local folder the model is; PruneError where there is none, or several."""
    if not folder.is_dir():
        raise PruneError(
            f"{checkpoint}: {'that is a file' if folder.exists() else 'there is no such folder'}; point at a folder saved by "
            "save_pretrained, a Hub id, or 'demo'."
        )
    steps = {
        int(found[1]): each
        for each in folder.iterdir()
        if (found := re.fullmatch(r"checkpoint-(\d+)", each.name)) and _holds(each)
    }
    if _holds(folder) and (_has_weights(folder) or not steps):
        return CheckpointFolder(folder)
    if steps:
        last = steps[max(steps)]
        best = _best(folder, last)
        chosen, why = (
            (best, "the best one by its trainer_state.json") if best else (last, "the last one")
        )
        return CheckpointFolder(
            chosen, f"{folder.name} is a Trainer's output: {chosen.name} was taken, {why}."
        )
    inside = [each for each in _below(folder, DEPTH) if _holds(each)]
    if len(inside) == 1:
        return CheckpointFolder(
            inside[0], f"The model was found in {inside[0].relative_to(folder)}."
        )
    if inside:
        names = ", ".join(str(each.relative_to(folder)) for each in sorted(inside)[:8])
        raise PruneError(f"{checkpoint} holds {len(inside)} models ({names}); name one of them.")
    if why := foreign_formats.reason(folder, {}):
        raise PruneError(f"{checkpoint} {why}.")
    raise PruneError(
        f"{checkpoint}: no config.json there; point at a folder saved by save_pretrained, a Hub id, or 'demo'."
    )


def _holds(folder: Path) -> bool:
    return any(
        (folder / name).is_file() for name in ("config.json", "adapter_config.json", DIFFERENCE)
    )


def _has_weights(folder: Path) -> bool:
    return (
        any(folder.glob("*.safetensors"))
        or any(folder.glob("*.bin"))
        or (folder / "adapter_config.json").is_file()
    )


def _best(folder: Path, last: Path) -> Path | None:
    """What the newest trainer_state.json calls the best, where it is still there."""
    for state in (folder / "trainer_state.json", last / "trainer_state.json"):
        if state.is_file():
            named = json.loads(state.read_text(encoding="utf-8")).get("best_model_checkpoint")
            if named and _holds(folder / Path(named).name):
                return folder / Path(named).name
    return None


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for each in sorted(folder.iterdir()) if os.access(folder, os.R_OK | os.X_OK) else ():
        if not each.name.startswith(".") and os.access(each, os.R_OK | os.X_OK) and each.is_dir():
            yield each
            if depth > 1 and not _holds(each):
                yield from _below(each, depth - 1)


def weight_bytes(config: Mapping[str, Any]) -> tuple[float, float]:
    """(of the encoder's Linears, of the whole model) in fp32, about; zeros for an empty configuration."""
    get = lambda *names: next((config[name] for name in names if config.get(name)), 0)  # noqa: E731
    wide, deep = get("hidden_size", "dim"), get("num_hidden_layers", "n_layers")
    inside = get("intermediate_size", "hidden_dim") or 4 * wide
    encoder = 4.0 * deep * wide * (4 * wide + 2 * inside)
    return encoder, encoder + 4.0 * wide * get("vocab_size")


def known_checkpoints() -> list[str]:
    """Checkpoints to offer: fine-tuned encoders under the folders of PRUNESCOPE_MODELS, and ids of those in the Hub's cache."""
    from ..families import FAMILIES

    def fits(config: dict[str, Any]) -> bool:
        return config.get("model_type") in FAMILIES and str(
            (config.get("architectures") or [""])[0]
        ).endswith(HEADS)

    offered = []
    for root in filter(None, os.environ.get("PRUNESCOPE_MODELS", "").split(os.pathsep)):
        folders = (
            [Path(root).expanduser(), *_below(Path(root).expanduser(), DEPTH)]
            if Path(root).expanduser().is_dir()
            else []
        )
        offered += [str(each) for each in folders if fits(config_of(each))]
    hub = Path(
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"
    )
    for model in sorted(hub.glob("models--*")):
        if any(fits(config_of(snapshot)) for snapshot in model.glob("snapshots/*")):
            offered.append(model.name.removeprefix("models--").replace("--", "/"))
    return offered


def config_of(folder: Path) -> dict[str, Any]:
    """A folder's config.json; nothing where there is none to read."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # a folder without a configuration that can be read is no model to offer
    return content if isinstance(content, dict) else {}
