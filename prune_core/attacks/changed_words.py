"""What an attack changed in a sentence, word by word. Knows nothing of attacks or pages."""

from __future__ import annotations

from difflib import SequenceMatcher

KEPT, STRUCK, INSERTED = "kept", "struck", "inserted"


def word_diff(text: str, perturbed: str) -> list[tuple[str, str]]:
    """(kind, words) in reading order; a replaced run is struck, then inserted."""
    old, new = text.split(), perturbed.split()
    out = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            out.append((KEPT, " ".join(old[a:b])))
            continue
        out += [
            (kind, " ".join(words))
            for kind, words in ((STRUCK, old[a:b]), (INSERTED, new[c:d]))
            if words
        ]
    return out
