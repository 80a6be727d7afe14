"""Usual names of columns that contain texts and labels."""

from collections.abc import Collection, Sequence

import pandas as pd

from .spelling import fold

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "context"),
)
# a query and one of its candidates, for models that score pairs
CANDIDATE_QUERIES = ("query", "question", "anchor")
PASSAGES = ("document", "passage", "text", "candidate", "sentence2", "text2", "answer")
CANDIDATE_PAIRS = tuple((query, passage) for query in CANDIDATE_QUERIES for passage in PASSAGES)
RANKS = ("rank", "first_stage_rank", "bm25_rank", "position")
FIRST_STAGE_SCORES = ("first_stage_score", "first_stage", "bm25_score", "bm25", "retrieval_score")
TEXTS = (
    "text",
    "sentence",
    "review",
    "content",
    "sentence1",
    "question1",
    "premise",
    "tweet",
    "message",
    "comment",
    "comment_text",
    "utterance",
    "query",
    "document",
    "body",
    "question",
    "texts",
    "sms",
    "review_text",
    "reviewtext",
    "headline",
    "description",
    "title",
    "full_text",
    "satz",
    "texte",
    "texto",
    "nachricht",
)
LABELS = (
    "label",
    "labels",
    "sentiment",
    "class",
    "category",
    "target",
    "intent",
    "topic",
    "gold_label",
    "gold",
    "rating",
    "stars",
    "polarity",
    "score",
    "emotion",
    "annotation",
    "klasse",
    "etikett",
    "etiquette",
    "etiqueta",
    "kategorie",
    "absicht",
    "coarse_label",
    "is_duplicate",
    "y",
)
WORDS_AND_ANSWERS = (
    *("question", "context", "answers", "answer"),
    *("tokens", "words", "ner_tags", "tags", "labels", "ner", "pos_tags", "label"),
)

KNOWN = {*TEXTS, *LABELS, *WORDS_AND_ANSWERS, *(name for pair in PAIRS for name in pair)}


def first_usual(
    table: pd.DataFrame, names: Sequence[str], used: Collection[str | None] = ()
) -> str | None:
    """Return the first of `names` that is a column.

    For nested fields the last component counts as the name, if no column matches as a whole.
    """
    for part in (slice(None), slice(-1, None)):
        known = {
            fold(".".join(name.split(".")[part])): name
            for name in reversed(list(table))
            if name not in used
        }
        if present := [known[fold(name)] for name in names if fold(name) in known]:
            return present[0]
    return None
