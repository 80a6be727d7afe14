"""Which attacks there are, as plain data: what each changes, what it replaces of the published one, what it needs.

Imports nothing of textattack, so that forms and command lines can show it; attacks/recipes.py builds them. An attack under its
published name is TextAttack 0.3.11's recipe as it is; where a part is replaced, the name says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

from . import requirements as needs
from .requirements import Resource

LETTERS, WORDS = "letters", "words"
FEW_WORDS = (
    3  # Input reduction: a sentence is cut when no more than these are left besides stop words
)


@dataclass(frozen=True)
class CatalogueEntry:
    """One attack by name."""

    name: str
    paper: str
    changes: str  # LETTERS or WORDS
    replaces: str = ""  # a sentence; empty where nothing of the original is replaced
    needs: tuple[Resource, ...] = ()  # what not every machine has
    cannot: str = ""  # why no machine can run it, as the end of a sentence
    success: str = "attack succeeded"  # what becomes of a sentence on which it succeeds, in short
    goal: str = "the answer turns wrong"  # the same exactly
    skipped: str = "already wrong"  # what a sentence is that it leaves alone
    seconds: float = 0.3  # a search on a sentence of the demo on two cores, about


_MINILM = "sentence similarity from MiniLM in place of the original's sentence encoder"
_TABLE = "Word neighbours come from a bundled table in place of counter-fitted GloVe vectors"
_POS = "parts of speech from lemminflect in place of a tagger"
_TEXTFOOLER = "Jin, Jin, Zhou and Szolovits 2019, Is BERT really robust?, arXiv 1907.11932"
_TEXTBUGGER = "Li, Ji, Du, Li and Wang 2018, TextBugger, arXiv 1812.05271"
_A2T = "Yoo and Qi 2021, Towards improving adversarial training of NLP models, arXiv 2109.00544"
_CHECKLIST = "Ribeiro, Wu, Guestrin and Singh 2020, Beyond accuracy: behavioral testing of NLP models with CheckList, arXiv 2005.04118"
_TAGGER = (needs.TAGGER, needs.TAGSET)
_USE = (needs.TENSORFLOW_HUB, needs.USE)
CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            "DeepWordBug",
            "Gao, Lanchantin, Soffa and Qi 2018, Black-box generation of adversarial text sequences, arXiv 1801.04354",
            LETTERS,
            seconds=0.15,
        ),
        CatalogueEntry(
            "TextFooler (MiniLM)",
            _TEXTFOOLER,
            WORDS,
            replaces=f"{_TABLE}, {_POS}, and {_MINILM}.",
            seconds=0.4,
        ),
        CatalogueEntry(
            "Pruthi",
            "Pruthi, Dhingra and Lipton 2019, Combating adversarial misspellings with robust word recognition, arXiv 1905.11268",
            LETTERS,
        ),
        CatalogueEntry(
            "TextBugger (MiniLM)",
            _TEXTBUGGER,
            WORDS,
            replaces=f"{_TABLE}, and {_MINILM}; look-alike letters are our own list, as TextAttack 0.3.11 comes without its file.",
        ),
        CatalogueEntry(
            "PWWS",
            "Ren, Deng, He and Che 2019, Generating natural language adversarial examples through probability weighted word "
            "saliency, ACL P19-1103",
            WORDS,
            needs=(needs.WORDNET,),
        ),
        CatalogueEntry(
            "A2T (MiniLM)",
            _A2T,
            WORDS,
            replaces=f"{_TABLE}, {_POS}, and {_MINILM}; gradients are taken without dropout.",
        ),
        CatalogueEntry(
            "Checklist (word lists)",
            _CHECKLIST,
            WORDS,
            replaces="Names and places are capitalised words of TextAttack's own lists in place of what flair's tagger takes for one; listed "
            "words that are ordinary words too, such as Will or Reading, are left alone.",
            seconds=0.05,
        ),
        CatalogueEntry(
            "Input reduction",
            "Feng, Wallace, Grissom, Iyyer, Rodriguez and Boyd-Graber 2018, Pathologies of neural models make interpretations "
            "difficult, arXiv 1804.07781",
            WORDS,
            success="cut to a few words",
            goal=f"the answer stays, with {FEW_WORDS} words or fewer left besides stop words",
        ),
        CatalogueEntry(
            "LEAP",
            "Xiao, Xiao, Dong, Ji and Zhang 2023, LEAP: efficient and automated test method for NLP software, arXiv 2308.11284",
            WORDS,
            needs=(needs.WORDNET,),
            seconds=1.5,
        ),
        CatalogueEntry(
            "TextFooler", _TEXTFOOLER, WORDS, needs=(needs.VECTORS, *_TAGGER, *_USE), seconds=2.0
        ),
        CatalogueEntry(
            "TextBugger",
            _TEXTBUGGER,
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS, needs.HOMOGLYPHS, *_USE),
            seconds=2.0,
        ),
        CatalogueEntry(
            "A2T (no dropout)",
            _A2T,
            WORDS,
            replaces="Gradients are taken without dropout, so that they are the same each time.",
            needs=(needs.STOPWORDS, needs.VECTORS, *_TAGGER, needs.SBERT),
            seconds=2.0,
        ),
        CatalogueEntry(
            "BERT-Attack",
            "Li, Ma, Guo, Xue and Qiu 2020, BERT-ATTACK: adversarial attack against BERT using BERT, arXiv 2004.09984",
            WORDS,
            needs=(needs.STOPWORDS, needs.BERT, *_USE),
            seconds=10.0,
        ),
        CatalogueEntry(
            "BAE",
            "Garg and Ramakrishnan 2020, BAE: BERT-based adversarial examples for text classification, arXiv 2004.01970",
            WORDS,
            needs=(needs.STOPWORDS, needs.BERT, *_TAGGER, *_USE),
            seconds=5.0,
        ),
        CatalogueEntry(
            "CLARE",
            "Li, Zhang, Peng, Chen, Brockett, Sun and Dolan 2020, Contextualized perturbation for textual adversarial attack, "
            "arXiv 2009.07502",
            WORDS,
            needs=(needs.STOPWORDS, needs.ROBERTA, needs.FLAIR, needs.FLAIR_POS, *_USE),
            seconds=20.0,
        ),
        CatalogueEntry(
            "Checklist",
            _CHECKLIST,
            WORDS,
            needs=(
                needs.FLAIR,
                needs.FLAIR_NER,
            ),
            seconds=1.0,
        ),
        CatalogueEntry(
            "IGA",
            "Wang, Jin and He 2019, Natural language adversarial attacks and defenses in word level, arXiv 1909.06723",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS),
            seconds=1.5,
        ),
        CatalogueEntry(
            "Alzantot genetic",
            "Alzantot, Sharma, Elgohary, Ho, Srivastava and Chang 2018, Generating natural language adversarial examples, "
            "arXiv 1804.07998",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS, needs.TENSORFLOW, needs.GOOGLE_LM),
            seconds=20.0,
        ),
        CatalogueEntry(
            "Faster genetic",
            "Jia, Raghunathan, Göksel and Liang 2019, Certified robustness to adversarial word substitutions, arXiv 1909.00986",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS, needs.TORCHFILE, needs.L2W_LM),
            seconds=5.0,
        ),
        CatalogueEntry(
            "PSO",
            "Zang, Qi, Yang, Liu, Zhang, Liu and Sun 2020, Word-level textual adversarial attacking as combinatorial optimization, "
            "arXiv 1910.12196",
            WORDS,
            needs=(needs.STOPWORDS, needs.HOWNET, needs.FLAIR, needs.FLAIR_POS),
            seconds=5.0,
        ),
        CatalogueEntry(
            "Kuleshov",
            "Kuleshov, Thakoor, Lau and Ermon 2018, Adversarial examples for natural language classification problems, "
            "OpenReview r1QZ3zbAZ",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS, needs.GPT2),
            success="pushed below 70%",
            goal="the right answer's probability falls below 70%",
            skipped="already below 70%",
            seconds=5.0,
        ),
        CatalogueEntry(
            "HotFlip",
            "Ebrahimi, Rao, Lowd and Dou 2018, HotFlip: white-box adversarial examples for text classification, arXiv 1712.06751",
            WORDS,
            cannot="swaps whole words by the gradient of their own embeddings, and these models read pieces of words; TextAttack runs "
            "it on its own LSTM only",
        ),
        CatalogueEntry(
            "BadCharacters",
            "Boucher, Shumailov, Anderson and Papernot 2021, Bad characters: imperceptible NLP attacks, arXiv 2106.09898",
            LETTERS,
            cannot="steers every sentence to one label named in advance and counts those that bear it as won, so its success is no "
            "flipped label; TextAttack 0.3.11 also comes without its look-alike letters",
        ),
    )
}


def outcome_words(recipe: str) -> dict[str, str]:
    """What becomes of a sentence, by outcome, in words that are true of this attack."""
    entry = CATALOGUE.get(
        recipe, CatalogueEntry
    )  # of one that is gone from the catalogue, the usual words
    return {
        "success": entry.success,
        "failed": "attack failed",
        "skipped": entry.skipped,
        "error": "error",
    }


def missing(entry: CatalogueEntry) -> str:
    """Why this machine cannot run it and what to do, as a sentence; "" where it can."""
    if entry.cannot:
        return f"{entry.name} cannot run here: it {entry.cannot}."
    lacking = [resource for resource in entry.needs if not resource.present]
    if not lacking:
        return ""
    ways = [resource.advice or f"{needs.FETCH} {quote(entry.name)}" for resource in lacking]
    return f"{entry.name} needs {', '.join(resource.name for resource in lacking)}. To get it: {'; '.join(sorted({*ways}))}."
