"""Which attacks there are, as plain data: what each changes, what it replaces of the published one, what it needs.

Imports nothing of textattack, so that forms and command lines can show it; attacks/recipes.py builds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import environ
from pathlib import Path

LETTERS, WORDS = "letters", "words"
WORDNET = Path("/usr/share/wordnet")  # where Debian's wordnet-base keeps it

SHARED = ("/usr/share/nltk_data", "/usr/local/share/nltk_data")  # where NLTK looks besides the user's own folders


@dataclass(frozen=True)
class Entry:
    """One attack by name."""

    name: str
    paper: str
    changes: str  # LETTERS or WORDS
    replaces: str = ""  # a sentence; empty where nothing of the original is replaced
    needs: str = ""  # a resource that not every machine has: "wordnet"
    seconds: float = 0.3  # a search on a sentence of the demo on two cores, about


_MINILM = "sentence similarity from MiniLM in place of the original's sentence encoder"
_TABLE = "Word neighbours come from a bundled table in place of counter-fitted GloVe vectors"
CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry(
            "DeepWordBug",
            "Gao, Lanchantin, Soffa and Qi 2018, Black-box generation of adversarial text sequences, arXiv 1801.04354",
            LETTERS,
            seconds=0.15,
        ),
        Entry(
            "TextFooler (MiniLM)",
            "Jin, Jin, Zhou and Szolovits 2019, Is BERT really robust?, arXiv 1907.11932",
            WORDS,
            f"{_TABLE}, parts of speech from lemminflect in place of a tagger, and {_MINILM}.",
            seconds=0.4,
        ),
        Entry(
            "Pruthi",
            "Pruthi, Dhingra and Lipton 2019, Combating adversarial misspellings with robust word recognition, arXiv 1905.11268",
            LETTERS,
        ),
        Entry(
            "TextBugger (MiniLM)",
            "Li, Ji, Du, Li and Wang 2018, TextBugger, arXiv 1812.05271",
            WORDS,
            f"{_TABLE}, and {_MINILM}; look-alike letters are our own list, as TextAttack 0.3.11 comes without its file.",
        ),
        Entry(
            "PWWS",
            "Ren, Deng, He and Che 2019, Generating natural language adversarial examples through probability weighted word "
            "saliency, ACL P19-1103",
            WORDS,
            needs="wordnet",
        ),
        Entry(
            "A2T (MiniLM)",
            "Yoo and Qi 2021, Towards improving adversarial training of NLP models, arXiv 2109.00544",
            WORDS,
            f"{_TABLE}, parts of speech from lemminflect in place of a tagger, and {_MINILM}; gradients are taken without dropout.",
        ),
    )
}


def missing(entry: Entry) -> str:
    """What this machine lacks for it and how to get it, as a sentence; "" where it can run."""
    if entry.needs == "wordnet" and not has_wordnet():
        return f"{entry.name} needs WordNet: apt install wordnet-base, or python -m nltk.downloader wordnet."
    return ""


def has_wordnet() -> bool:
    """Debian's files, or NLTK's download in one of the usual places; without importing nltk, which takes seconds."""
    homes = [*environ.get("NLTK_DATA", "").split(":"), str(Path.home() / "nltk_data"), *SHARED]
    corpora = [Path(home) / "corpora" for home in homes if home]
    return (WORDNET / "data.noun").is_file() or any((each / name).exists() for each in corpora for name in ("wordnet", "wordnet.zip"))
