"""Catalogue of attacks as plain data: what each changes, what it replaces of the published version,
what it needs.

Does not import textattack, so that forms and command lines can show it; attacks/recipes.py builds
the attacks. An attack under its published name is TextAttack 0.3.11's recipe unchanged; if a
component is replaced, the name says so.
"""

from dataclasses import dataclass
from shlex import quote

from . import requirements as needs
from .requirements import Resource

LETTERS, WORDS, EVASION = "letters", "words", "evasion"
# titles of the groups in which the page Attack shows recipes
GROUPS = {LETTERS: "Letters", WORDS: "Words", EVASION: "Evasion"}
FEW_WORDS = 3  # Input reduction succeeds with at most this many words besides stop words


@dataclass(frozen=True)
class CatalogueEntry:
    """An attack in the catalogue."""

    name: str
    paper: str
    changes: str  # LETTERS, WORDS or EVASION
    replaces: str = ""  # replaced components, a sentence; "" for the published recipe
    needs: tuple[Resource, ...] = ()  # resources that may be missing
    cannot: str = ""  # why it cannot run on any machine, as the end of a sentence
    caution: str = ""  # why a success may not be a valid text, a sentence
    success: str = "attack succeeded"  # short name of a success
    goal: str = "the prediction becomes wrong"  # exact definition of a success
    skipped: str = "already wrong"  # why an example is not attacked
    seconds: float = 0.3  # approximate time per demo example on two cores


_MINILM = "sentence similarity from MiniLM instead of the original's sentence encoder"
_TABLE = "Word neighbors come from a bundled table instead of counter-fitted GloVe vectors"
_POS = "parts of speech from lemminflect instead of a tagger"
_TEXTFOOLER = "Jin, Jin, Zhou and Szolovits 2019, Is BERT really robust?, arXiv 1907.11932"
_TEXTBUGGER = "Li, Ji, Du, Li and Wang 2018, TextBugger, arXiv 1812.05271"
_A2T = "Yoo and Qi 2021, Towards improving adversarial training of NLP models, arXiv 2109.00544"
_CHECKLIST = (
    "Ribeiro, Wu, Guestrin and Singh 2020, Beyond accuracy: behavioral testing of NLP models with "
    "CheckList, arXiv 2005.04118"
)
_JAILBROKEN = (
    "Wei, Haghtalab and Steinhardt 2023, Jailbroken: how does LLM safety training fail?, "
    "arXiv 2307.02483"
)
_LLAMA = "github.com/meta-llama/llama"
_ENCODED = (
    "People cannot read the encoded text; a language model behind the detector may decode it."
)
_TAGGER = (needs.TAGGER, needs.TAGSET)
_USE = (needs.TENSORFLOW_HUB, needs.USE)
CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            "DeepWordBug",
            "Gao, Lanchantin, Soffa and Qi 2018, Black-box generation of adversarial text "
            "sequences, arXiv 1801.04354",
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
            "Pruthi, Dhingra and Lipton 2019, Combating adversarial misspellings with robust word "
            "recognition, arXiv 1905.11268",
            LETTERS,
        ),
        CatalogueEntry(
            "TextBugger (MiniLM)",
            _TEXTBUGGER,
            WORDS,
            replaces=f"{_TABLE}, and {_MINILM}; look-alike letters are our own list, as TextAttack "
            "0.3.11 does not include its file.",
        ),
        CatalogueEntry(
            "PWWS",
            "Ren, Deng, He and Che 2019, Generating natural language adversarial examples through "
            "probability weighted word "
            "saliency, ACL P19-1103",
            WORDS,
            needs=(needs.WORDNET,),
        ),
        CatalogueEntry(
            "A2T (MiniLM)",
            _A2T,
            WORDS,
            replaces=f"{_TABLE}, {_POS}, and {_MINILM}; gradients are computed without dropout.",
        ),
        CatalogueEntry(
            "Checklist (word lists)",
            _CHECKLIST,
            WORDS,
            replaces="Names and places are capitalized words of TextAttack's own lists instead of "
            "those found by flair's tagger; listed words that are also ordinary words, such as "
            "Will "
            "or Reading, are not changed.",
            seconds=0.05,
        ),
        CatalogueEntry(
            "Input reduction",
            "Feng, Wallace, Grissom, Iyyer, Rodriguez and Boyd-Graber 2018, Pathologies of neural "
            "models make interpretations "
            "difficult, arXiv 1804.07781",
            WORDS,
            success="reduced to a few words",
            goal="the prediction remains the same with at most "
            f"{FEW_WORDS} words besides stop words",
        ),
        CatalogueEntry(
            "LEAP",
            "Xiao, Xiao, Dong, Ji and Zhang 2023, LEAP: efficient and automated test method for "
            "NLP software, arXiv 2308.11284",
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
            replaces="Gradients are computed without dropout, so that they are deterministic.",
            needs=(needs.STOPWORDS, needs.VECTORS, *_TAGGER, needs.SBERT),
            seconds=2.0,
        ),
        CatalogueEntry(
            "BERT-Attack",
            "Li, Ma, Guo, Xue and Qiu 2020, BERT-ATTACK: adversarial attack against BERT using "
            "BERT, arXiv 2004.09984",
            WORDS,
            needs=(needs.STOPWORDS, needs.BERT, *_USE),
            seconds=10.0,
        ),
        CatalogueEntry(
            "BAE",
            "Garg and Ramakrishnan 2020, BAE: BERT-based adversarial examples for text "
            "classification, arXiv 2004.01970",
            WORDS,
            needs=(needs.STOPWORDS, needs.BERT, *_TAGGER, *_USE),
            seconds=5.0,
        ),
        CatalogueEntry(
            "CLARE",
            "Li, Zhang, Peng, Chen, Brockett, Sun and Dolan 2020, Contextualized perturbation for "
            "textual adversarial attack, "
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
            "Wang, Jin and He 2019, Natural language adversarial attacks and defenses in word "
            "level, arXiv 1909.06723",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS),
            seconds=1.5,
        ),
        CatalogueEntry(
            "Alzantot genetic",
            "Alzantot, Sharma, Elgohary, Ho, Srivastava and Chang 2018, Generating natural "
            "language adversarial examples, "
            "arXiv 1804.07998",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS, needs.TENSORFLOW, needs.GOOGLE_LM),
            seconds=20.0,
        ),
        CatalogueEntry(
            "Faster genetic",
            "Jia, Raghunathan, Göksel and Liang 2019, Certified robustness to adversarial word "
            "substitutions, arXiv 1909.00986",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS, needs.TORCHFILE, needs.L2W_LM),
            seconds=5.0,
        ),
        CatalogueEntry(
            "PSO",
            "Zang, Qi, Yang, Liu, Zhang, Liu and Sun 2020, Word-level textual adversarial "
            "attacking as combinatorial optimization, "
            "arXiv 1910.12196",
            WORDS,
            needs=(needs.STOPWORDS, needs.HOWNET, needs.FLAIR, needs.FLAIR_POS),
            seconds=5.0,
        ),
        CatalogueEntry(
            "Kuleshov",
            "Kuleshov, Thakoor, Lau and Ermon 2018, Adversarial examples for natural language "
            "classification problems, "
            "OpenReview r1QZ3zbAZ",
            WORDS,
            needs=(needs.STOPWORDS, needs.VECTORS, needs.GPT2),
            success="probability below 70%",
            goal="the probability of the correct label falls below 70%",
            skipped="already below 70%",
            seconds=5.0,
        ),
        CatalogueEntry(
            "HotFlip",
            "Ebrahimi, Rao, Lowd and Dou 2018, HotFlip: white-box adversarial examples for text "
            "classification, arXiv 1712.06751",
            WORDS,
            cannot="swaps whole words by the gradient of their embeddings, but these models use "
            "subword tokens; TextAttack runs it on its own LSTM only",
        ),
        CatalogueEntry(
            "BadCharacters",
            "Boucher, Shumailov, Anderson and Papernot 2021, Bad characters: imperceptible NLP "
            "attacks, arXiv 2106.09898",
            LETTERS,
            cannot="targets one fixed label and counts every example predicted as that label as a "
            "success, so a success is not a changed prediction; TextAttack 0.3.11 also does not "
            "include its look-alike letters",
        ),
        *(
            CatalogueEntry(name, paper, EVASION, caution=caution, seconds=0.02)
            for name, paper, caution in (
                ("Line breaks", "Each word on a separate line", ""),
                ("Two turns", "The text is split into two turns of a conversation", ""),
                ("Repeated punctuation", "Three periods after every word", ""),
                ("Zero-width spaces", f"Between all letters of a word: {_LLAMA} #1382", ""),
                ("Homoglyphs", f"All letters are replaced by look-alikes: {_LLAMA} #1382", ""),
                ("Leetspeak", f"Digits for letters: {_JAILBROKEN}", ""),
                ("Spaced letters", f"Spaces between all characters: {_LLAMA}-models #50", ""),
                ("ROT13", _JAILBROKEN, _ENCODED),
                ("Base64", _JAILBROKEN, _ENCODED),
                ("Obfuscation", "The best of the nine attacks above", _ENCODED),
            )
        ),
        CatalogueEntry(
            "Padding words",
            "Harmless words before and after the text, selected by querying the model: "
            "github.com/vllm-project/semantic-router #3174",
            EVASION,
            caution="The text is complete, but has up to 8 unrelated words around it.",
            seconds=1.0,
        ),
    )
}


def changes_of(recipe: str) -> str:
    """Return the group of a stored recipe; WORDS if it is no longer in the catalogue."""
    return CATALOGUE[recipe].changes if recipe in CATALOGUE else WORDS


def outcome_words(recipe: str) -> dict[str, str]:
    """Names of the outcomes for an attack."""
    entry = CATALOGUE.get(recipe, CatalogueEntry)  # the class has the default names
    return {
        "success": entry.success,
        "failed": "attack failed",
        "skipped": entry.skipped,
        "error": "error",
    }


def missing(entry: CatalogueEntry) -> str:
    """Explain why this machine cannot run an attack and how to fix it; "" if it can."""
    if entry.cannot:
        return f"{entry.name} cannot run here: it {entry.cannot}."
    resources = [resource for resource in entry.needs if not resource.present]
    if not resources:
        return ""
    commands = {resource.advice or f"{needs.FETCH} {quote(entry.name)}" for resource in resources}
    names = ", ".join(resource.name for resource in resources)
    return f"{entry.name} needs {names}. To get it: {'; '.join(sorted(commands))}."
