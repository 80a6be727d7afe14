"""Import textattack without a network: stop words and cache folder are prepared before the import.

Existing downloads take precedence.
"""

import logging
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

from ..errors import PruneError
from .flair_stand_in import flair_or_stand_in
from .requirements import MARKER, WORDNET, WORDNET_FILES, prepared_folder_path, textattack_folder

# set by TextAttack if TA_CACHE_DIR is set; restored, as the Hub caches of this process and its
# children must not move
_MOVED = ("TFHUB_CACHE_DIR", "PYTORCH_TRANSFORMERS_CACHE", "HF_HOME", "XDG_CACHE_HOME")

# the English list of NLTK's corpus `stopwords` as published, 179 words, which TextAttack needs to
# be imported
_STOPWORDS = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves
he him his himself she she's her hers herself it it's its itself they them their theirs themselves
what which who whom this that that'll these those am is are was were be been being have has had
having do does did doing a an the and but if or because as until while of at by for with about
against between into through during before after above below to from up down in out on off over
under again further then once here there when where why how all any both each few more most other
some such no nor not only own same so than too very s t can will just don don't should should've now
d ll m o re ve y ain aren aren't couldn couldn't didn didn't doesn doesn't hadn hadn't hasn hasn't
haven haven't isn isn't ma mightn mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't
wasn wasn't weren weren't won won't wouldn wouldn't
"""

# WordNet's lexicographer files by number (lexnames(5WN)), which NLTK needs and Debian omits
_LEXNAMES = """
adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location
noun.motive noun.object noun.person noun.phenomenon noun.plant noun.possession noun.process
noun.quantity noun.relation noun.shape noun.state noun.substance noun.time verb.body verb.change
verb.cognition verb.communication verb.competition verb.consumption verb.contact verb.creation
verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative verb.weather
adj.ppl
"""
_SYNTACTIC = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


def load_textattack() -> None:
    """Import textattack, offline if necessary; idempotent and safe in concurrent processes."""
    if "textattack" in sys.modules:
        return
    # transformers reads its Hub constants here, before TextAttack moves the cache folders
    import transformers  # noqa: F401

    home = prepared_folder()
    _provide_stopwords(home)
    environment = {name: os.environ.get(name) for name in (*_MOVED, "TA_CACHE_DIR")}
    cache = textattack_folder()
    if cache.is_relative_to(home):
        _write_once(cache / MARKER, "")
        os.environ["TA_CACHE_DIR"] = str(cache)
    existing = [
        each for each in logging.root.manager.loggerDict.values() if hasattr(each, "disabled")
    ]
    enabled = [logger for logger in existing if not logger.disabled]
    try:
        with flair_or_stand_in():
            import textattack
    finally:
        for logger in enabled:
            logger.disabled = False  # textattack configures logging, which disables all others
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    # one warning per recipe about unknown model classes
    textattack.shared.utils.logger.setLevel(logging.ERROR)
    logging.getLogger("jieba").setLevel(logging.ERROR)


def prepared_folder() -> Path:
    """Folder of prepared files, private to the user."""
    return _private(prepared_folder_path())


@cache  # called by every running search
def stopwords() -> list[str]:
    """NLTK's English stop words, which TextAttack does not change."""
    return _STOPWORDS.split()


def _provide_stopwords(home: Path) -> None:
    """Point NLTK to the bundled stop words unless they are downloaded."""
    import nltk

    try:
        nltk.data.find("corpora/stopwords/english")
    except (LookupError, OSError):  # not downloaded, or refused because others may write it
        data = home / "nltk_data"
        _write_once(data / "corpora" / "stopwords" / "english", "\n".join(stopwords()) + "\n")
        nltk.data.path.insert(0, str(data))


def provide_wordnet() -> None:
    """Point NLTK to Debian's WordNet unless it is downloaded.

    The files are copied, because NLTK only reads files owned by the user.
    """
    import nltk

    for name in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            nltk.data.find(name)
            return
        except (LookupError, OSError):
            continue
    if not (WORDNET_FILES / "data.noun").is_file():
        raise PruneError(f"WordNet is not installed: {WORDNET.instructions}.")
    data = prepared_folder() / "nltk_data"
    for file in sorted(WORDNET_FILES.iterdir()):
        _write_once(data / "corpora" / "wordnet" / file.name, file.read_text(encoding="utf-8"))
    names = [
        f"{number:02d}\t{name}\t{_SYNTACTIC[name.split('.')[0]]}"
        for number, name in enumerate(_LEXNAMES.split())
    ]
    _write_once(data / "corpora" / "wordnet" / "lexnames", "\n".join(names) + "\n")
    # omitted by Debian too; it must exist, but synonyms do not need it
    _write_once(data / "corpora" / "wordnet" / "index.sense", "")
    nltk.data.path.insert(0, str(data))


def _private(path: Path) -> Path:
    """Create a folder with mode 0700: NLTK 3.10 refuses data that others can write."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as error:
        raise PruneError(
            f"{path} cannot be written ({error.strerror}); set PRUNESCOPE_HOME to a writable "
            "folder."
        ) from None
    return path


def _write_once(path: Path, text: str) -> None:
    """Write a file atomically, so that concurrent processes can do so."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    for part in reversed([path.parent, *path.parent.parents]):
        if not part.exists():
            _private(part)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as draft:
        draft.write(text)
    Path(draft.name).chmod(0o600)
    os.replace(draft.name, path)
