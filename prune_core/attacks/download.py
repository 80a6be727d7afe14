"""Download the resources of an attack, or a single resource by name, to where attacks expect them.

python -m prune_core.attacks.download TextFooler
python -m prune_core.attacks.download bert-base-uncased
"""

import sys
from importlib import import_module

from ..errors import PruneError
from .catalogue import CATALOGUE
from .requirements import RESOURCES, Resource, flair_folder
from .resources import load_textattack

# without duplicate weights for other libraries
_WEIGHTS = ["*.json", "*.txt", "*.model", "*.safetensors"]


def download_resource(resource: Resource) -> None:
    """Download a resource.

    OSError if it cannot be reached, PruneError if it must be installed manually.
    """
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
    """Download everything that the attack or resource with that name is missing."""
    resources = (
        CATALOGUE[name].needs
        if name in CATALOGUE
        else tuple(resource for resource in RESOURCES if resource.key == name)
    )
    try:
        if not resources:
            raise PruneError(
                f"{name!r} is neither an attack that needs downloads nor such a resource; "
                "the Attack page lists both."
            )
        for resource in resources:
            if not resource.present:
                download_resource(resource)
            print(f"{resource.name}: {'available' if resource.present else 'still missing'}")
    except (PruneError, OSError) as error:
        print(f"download: {error}", file=sys.stderr)
        return 2
    return 0 if all(resource.present for resource in resources) else 2


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
