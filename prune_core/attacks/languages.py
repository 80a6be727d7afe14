"""Detection of texts that are not English, because the attacks have English word lists only.

Only confident detections count: short and mixed texts are attacked.
"""

import unicodedata
from functools import cache
from typing import Any

# with this minimum, none of 2,500 English texts of SST-2, AG News and the demo is refused
MIN_PROBABILITY = 0.9
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
    """Load py3langid's model, once."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def foreign_language(text: str) -> str:
    """Return the name of the text's language; "" if it is, or may be, English."""
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return ""
    language, probability = _identifier().classify(text)
    latin = sum(unicodedata.name(character, "").startswith("LATIN") for character in letters)
    if latin < len(letters) / 2:
        return NAMES.get(language, "another script")  # NAMES does not contain English
    if language == "en" or probability < MIN_PROBABILITY:
        return ""
    return NAMES.get(language, f"the language {language}")


def refusal(recipe: str, language: str) -> str:
    """Explain why an attack skips a text in this language."""
    return (
        f"{recipe} changes words with English word lists, and this text is {language}; choose an "
        "attack on letters, such as DeepWordBug."
    )
