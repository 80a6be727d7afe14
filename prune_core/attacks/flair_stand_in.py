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
    @staticmethod
    def load(name: str) -> None:
        raise PruneError(f"The tagger {name} needs flair. To get it: {FLAIR.how}.")


@contextmanager
def flair_or_stand_in() -> Iterator[None]:
    """Import flair if possible; otherwise provide the names that TextAttack imports, within the
    `with` block.
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
    """The packages `flair`, `flair.data` and `flair.models` with classes that can be subclassed but
    do nothing.
    """
    data = _module(
        "flair.data", Sentence=type("Sentence", (), {}), Tokenizer=type("Tokenizer", (), {})
    )
    models = _module("flair.models", SequenceTagger=_Tagger)
    flair = _module("flair", data=data, models=models)
    return {module.__name__: module for module in (flair, data, models)}


def _module(name: str, **names: object) -> ModuleType:
    module = module_from_spec(ModuleSpec(name, None, is_package=True))
    vars(module).update(names)
    return module
