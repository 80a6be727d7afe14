"""Downloads what an attack needs, or one thing by its name, to the place where attacks look for it.

python -m prune_core.attacks.download TextFooler
python -m prune_core.attacks.download bert-base-uncased
"""

from __future__ import annotations

import sys
from importlib import import_module

from ..errors import PruneError
from .catalogue import CATALOGUE
from .requirements import RESOURCES, Resource, flair_folder
from .resources import load_textattack

_WEIGHTS = [
    "*.json",
    "*.txt",
    "*.model",
    "*.safetensors",
]  # not the same weights for other libraries


def download_resource(resource: Resource) -> None:
    """Get it; OSError where it cannot be reached, PruneError where it must be installed by hand."""
    if resource.advice:
        raise PruneError(f"To get {resource.name}: {resource.advice}.")
    if resource.kind == "nltk":
        import nltk

        nltk.download(resource.what.split("/")[-1])
    elif resource.kind == "textattack":
        load_textattack()
        from textattack.shared.utils import download_from_s3

        download_from_s3(resource.what)
    elif resource.kind == "tensorflow hub":
        import_module("tensorflow_hub").load(resource.what)
    else:
        from huggingface_hub import hf_hub_download, snapshot_download

        if resource.kind == "flair":
            hf_hub_download(
                resource.what, "pytorch_model.bin", cache_dir=flair_folder(resource.what)
            )
        else:
            snapshot_download(resource.what, allow_patterns=_WEIGHTS)


def main(name: str) -> int:
    """Everything that is missing of the attack or resource of that name."""
    entry = CATALOGUE.get(name)
    wanted = entry.needs if entry else [resource for resource in RESOURCES if resource.key == name]
    try:
        if not wanted:
            raise PruneError(
                f"{name!r} is no attack that needs something, and nothing that one needs; the Attack page lists both."
            )
        for resource in wanted:
            if not resource.present:
                download_resource(resource)
            print(f"{resource.name}: {'here' if resource.present else 'still missing'}")
    except (PruneError, OSError) as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 2
    return 0 if all(resource.present for resource in wanted) else 2


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
