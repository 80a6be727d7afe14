"""Resources that attacks need besides the installed packages: whether each is available, and how to
get it.

Only checks files: does not import textattack, nltk or tensorflow, and does not use the network.
attacks/download.py downloads them.
"""

import hashlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from os import environ
from pathlib import Path

FETCH = "python -m prune_core.attacks.download"
MARKER = "post_install_check_3"  # if in its cache, TextAttack 0.3.11 downloads nothing on import
WORDNET_FILES = Path("/usr/share/wordnet")  # of Debian's package wordnet-base
_PREFIXES = (sys.prefix, "/usr", "/usr/local")


@dataclass(frozen=True)
class Resource:
    """A download or package that an attack needs."""

    name: str  # for use in a sentence
    kind: str  # one of LOOK
    what: str  # identifier at its source
    advice: str = ""  # how to get it, if it cannot be downloaded automatically

    @property
    def present(self) -> bool:
        """Whether it is available on this machine."""
        return CHECKS[self.kind](self.what)

    @property
    def key(self) -> str:
        """Name for the download command: the last component that is not a version number."""
        return [part for part in self.what.split("/") if not part.isdigit()][-1]

    @property
    def instructions(self) -> str:
        """Command that downloads or installs it."""
        return self.advice or f"{FETCH} {self.key}"


def prepared_folder_path() -> Path:
    """Folder of prepared files: under $PRUNESCOPE_HOME, else in the user's cache folder."""
    home = environ.get("PRUNESCOPE_HOME")
    root = Path(home) if home else _cache() / "prunescope"
    return root.expanduser().resolve() / "attacks"


def textattack_folder() -> Path:
    """TextAttack's download folder: the default one if TextAttack has created it, else our own."""
    default = Path(environ.get("TA_CACHE_DIR") or Path.home() / ".cache" / "textattack")
    return default if (default / MARKER).exists() else prepared_folder_path() / "textattack"


def flair_folder(model: str) -> Path:
    """Folder of a flair tagger, a separate Hub cache."""
    root = Path(environ.get("FLAIR_CACHE_ROOT") or Path.home() / ".flair")
    return root / "models" / model.split("/")[-1]


def homoglyph_file() -> Path:
    """File that TextAttack 0.3.11 reads but does not include."""
    spec = find_spec("textattack")
    package = Path(spec.origin).parent if spec and spec.origin else Path("textattack")
    return package / "shared" / "intentional_homoglyphs.txt"


def _cache() -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _in_nltk(what: str) -> bool:
    """Whether one of NLTK's folders contains a corpus or tagger, extracted or zipped."""
    homes = [Path(home) for home in environ.get("NLTK_DATA", "").split(":") if home]
    homes += [
        Path.home() / "nltk_data",
        *(Path(prefix, part, "nltk_data") for prefix in _PREFIXES for part in ("", "share", "lib")),
    ]
    return any((home / (what + end)).exists() for home in homes for end in ("", ".zip"))


def _in_hub(what: str, cache: Path | None = None) -> bool:
    """Whether a Hub cache (default: the shared one) contains a model with its weights."""
    home = Path(environ.get("HF_HOME") or _cache() / "huggingface")
    hub = cache or Path(environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = hub / f"models--{what.replace('/', '--')}" / "snapshots"
    return any(file.suffix in (".safetensors", ".bin") for file in snapshots.glob("*/*"))


def _in_tensorflow_hub(what: str) -> bool:
    home = Path(environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules")
    digest = hashlib.sha1(what.encode(), usedforsecurity=False).hexdigest()
    return (home / digest / "saved_model.pb").is_file()


CHECKS: dict[str, Callable[[str], bool]] = {
    "nltk": _in_nltk,
    "textattack": lambda what: (textattack_folder() / what).exists(),
    "hub": _in_hub,
    "flair": lambda what: _in_hub(what, flair_folder(what)),
    "tensorflow hub": _in_tensorflow_hub,
    "package": lambda what: all(find_spec(name) for name in what.split()),
    "wordnet": lambda what: (WORDNET_FILES / "data.noun").is_file() or _in_nltk(what),
    "homoglyphs": lambda _: homoglyph_file().is_file(),
}

WORDNET = Resource(
    "WordNet",
    "wordnet",
    "corpora/wordnet",
    advice="apt install wordnet-base, or python -m nltk.downloader wordnet",
)
STOPWORDS = Resource("NLTK's stop words", "nltk", "corpora/stopwords")
TAGGER = Resource("NLTK's part-of-speech tagger", "nltk", "taggers/averaged_perceptron_tagger_eng")
TAGSET = Resource("NLTK's universal tag set", "nltk", "taggers/universal_tagset")
VECTORS = Resource("counter-fitted word vectors", "textattack", "word_embeddings/paragramcf")
HOWNET = Resource(
    "HowNet's word candidates", "textattack", "transformations/hownet/word_candidates_sense.pkl"
)
GOOGLE_LM = Resource(
    "Google's billion-word language model",
    "textattack",
    "constraints/semantics/language-models/alzantot-goog-lm",
)
L2W_LM = Resource(
    "the learning-to-write language model",
    "textattack",
    "constraints/grammaticality/language-models/learning-to-write",
)
TENSORFLOW = Resource("TensorFlow", "package", "tensorflow", advice="pip install tensorflow")
TENSORFLOW_HUB = Resource(
    "TensorFlow Hub",
    "package",
    "tensorflow tensorflow_hub",
    advice="pip install tensorflow tensorflow_hub",
)
TORCHFILE = Resource("torchfile", "package", "torchfile", advice="pip install torchfile")
USE = Resource(
    "the Universal Sentence Encoder",
    "tensorflow hub",
    "https://tfhub.dev/google/universal-sentence-encoder/3",
)
BERT = Resource("the masked language model bert-base-uncased", "hub", "bert-base-uncased")
ROBERTA = Resource("the masked language model distilroberta-base", "hub", "distilroberta-base")
SBERT = Resource(
    "the sentence encoder stsb-distilbert-base", "hub", "sentence-transformers/stsb-distilbert-base"
)
GPT2 = Resource("the language model GPT-2", "hub", "gpt2")
FLAIR = Resource(
    "flair",
    "package",
    "flair",
    advice="pip install flair==0.15.1, which replaces transformers 5 by 4.57",
)
FLAIR_POS = Resource("flair's part-of-speech tagger", "flair", "flair/upos-english-fast")
FLAIR_NER = Resource("flair's tagger of names", "flair", "flair/ner-english")
HOMOGLYPHS = Resource(
    "a list of look-alike letters",
    "homoglyphs",
    "intentional_homoglyphs.txt",
    advice="save https://www.unicode.org/Public/security/latest/intentional.txt as "
    "textattack/shared/intentional_homoglyphs.txt",
)
RESOURCES = (
    WORDNET,
    STOPWORDS,
    TAGGER,
    TAGSET,
    VECTORS,
    TENSORFLOW_HUB,
    USE,
    BERT,
    ROBERTA,
    SBERT,
    GPT2,
    FLAIR,
    FLAIR_POS,
    FLAIR_NER,
    HOWNET,
    HOMOGLYPHS,
    TENSORFLOW,
    GOOGLE_LM,
    TORCHFILE,
    L2W_LM,
)
