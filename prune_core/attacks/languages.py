"""Whether a text is in the language of an attack's words: all word lists, tables and encoders here are English.

Says no only where it is sure: a short text, or a mixed one, is left to the attack. Knows nothing of textattack.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

MIN_PROBABILITY = 0.9  # probability of another language; of 2,500 English sentences of SST-2, AG News and the demo none is refused
NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def is_not_english(text: str) -> str:
    """The language of a text that is not English, by name; "" where it is, or may be, English."""
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return ""
    language, probability = _identifier().classify(text)
    latin = sum(unicodedata.name(character, "").startswith("LATIN") for character in letters)
    if latin < len(letters) / 2:
        return NAMES.get(language, "another script") if language != "en" else "another script"
    return (
        NAMES.get(language, f"the language {language}")
        if language != "en" and probability >= MIN_PROBABILITY
        else ""
    )


def refusal(recipe: str, language: str) -> str:
    """The sentence for a text that an attack cannot change."""
    return f"{recipe} changes words by English lists, and this text is {language}; choose an attack on letters, such as DeepWordBug."
