"""Word-level diff of a text and its adversarial example."""

from difflib import SequenceMatcher

UNCHANGED, DELETED, INSERTED = "kept", "struck", "inserted"


def word_diff(text: str, perturbed: str) -> list[tuple[str, str]]:
    """Return (UNCHANGED, DELETED or INSERTED, words) in reading order; a replacement is deleted,
    then inserted.
    """
    old, new = text.split(), perturbed.split()
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [
        (kind, " ".join(words))
        for tag, old_start, old_end, new_start, new_end in opcodes
        for kind, words in (
            (UNCHANGED if tag == "equal" else DELETED, old[old_start:old_end]),
            (INSERTED, [] if tag == "equal" else new[new_start:new_end]),
        )
        if words
    ]
