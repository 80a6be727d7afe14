"""The usual names of columns that hold texts and labels."""

from __future__ import annotations

PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"), ("text", "text_pair"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"), ("query", "passage"),
    ("query", "document"), ("question", "context"),
)  # fmt: skip
TEXTS = (
    "text", "sentence", "review", "content", "sentence1", "question1", "premise", "tweet", "message", "comment", "comment_text",
    "utterance", "query",
    "document", "body", "question", "texts", "sms", "review_text", "reviewtext", "headline", "description", "title", "full_text", "satz",
    "texte", "texto", "nachricht",
)  # fmt: skip
LABELS = (
    "label", "labels", "sentiment", "class", "category", "target", "intent", "topic", "gold_label", "gold", "rating", "stars", "polarity",
    "score",
    "emotion", "annotation", "klasse", "etikett", "etiquette", "etiqueta", "kategorie", "absicht", "coarse_label", "is_duplicate", "y",
)  # fmt: skip
USUAL = {
    "span": (("question",), ("context",), ("answers", "answer")),
    "token": (("tokens", "words"), (), ("ner_tags", "tags", "labels", "ner", "pos_tags", "label")),
}

_OF_KINDS = (name for group in USUAL.values() for each in group for name in each)
KNOWN = {*TEXTS, *LABELS, *(name for pair in PAIRS for name in pair), *_OF_KINDS}
