"""A stand-in for flair while TextAttack is imported.

TextAttack 0.3.11 imports flair in modules that every recipe loads, but only recipes that list
`requirements.FLAIR` use its taggers. flair 0.15 requires transformers below 5, so it is optional
here.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType

from ..errors import PruneError
from .requirements import FLAIR


class _Tagger:
    """The class SequenceTagger, which can be imported but not loaded."""

    @staticmethod
    def load(name: str) -> None:
        """Raise PruneError with the command that installs flair."""
        raise PruneError(f"The tagger {name} needs flair. To get it: {FLAIR.instructions}.")


@contextmanager
def flair_or_stand_in() -> Iterator[None]:
    """Import flair if it is installed; else provide the names that TextAttack imports from it.

    The stand-in exists only within the `with` block, so that other code does not mistake it for
    flair.
    """
    try:
        import flair  # noqa: F401
    except ImportError:
        modules = _modules()
        sys.modules.update(modules)
        try:
            yield
        finally:
            for name in modules:
                del sys.modules[name]
    else:
        yield


def _modules() -> dict[str, ModuleType]:
    """Return modules `flair`, `flair.data` and `flair.models` with empty classes, by name."""
    data = _module(
        "flair.data", Sentence=type("Sentence", (), {}), Tokenizer=type("Tokenizer", (), {})
    )
    models = _module("flair.models", SequenceTagger=_Tagger)
    flair = _module("flair", data=data, models=models)
    return {module.__name__: module for module in (flair, data, models)}


def _module(name: str, **names: object) -> ModuleType:
    """Return a new module that contains these names."""
    module = module_from_spec(ModuleSpec(name, None, is_package=True))
    vars(module).update(names)
    return module
