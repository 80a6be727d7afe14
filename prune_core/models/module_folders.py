"""Folders of sentence-transformers, whose modules.json says where each module is.

The encoder (module Transformer) is in the folder itself or in a subfolder such as 0_Transformer.
"""

import json
from pathlib import Path

MODULES = "modules.json"


def subfolders(root: Path) -> list[str]:
    """Names of the subfolders of the modules, the encoder's first; "" is the folder itself.

    [] without a valid modules.json, or if a path in it is not the name of a subfolder.
    """
    try:
        listed = json.loads((root / MODULES).read_text(encoding="utf-8"))
        paths = [str(module.get("path", "")) for module in listed]
    except (OSError, ValueError, AttributeError, TypeError):
        return []
    are_names = all(path in ("", Path(path).name) and path != ".." for path in paths)
    return paths if are_names else []


def encoder_folder(root: Path) -> Path:
    """Folder of the encoder of a model, with its config.json, weights and tokenizer."""
    return root / next(iter(subfolders(root)), "")


def root_folder(source: str) -> str:
    """Folder with the modules.json of the encoder in `source`; a Hub id is returned unchanged."""
    folder = Path(source)
    is_module = folder.name != "" and encoder_folder(folder.parent) == folder
    return str(folder.parent) if is_module else source
