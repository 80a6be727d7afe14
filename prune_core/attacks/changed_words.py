"""Word-level diff of a text and its adversarial example."""

from difflib import SequenceMatcher

UNCHANGED, DELETED, INSERTED = "kept", "struck", "inserted"


def word_diff(text: str, perturbed: str) -> list[tuple[str, str]]:
    """Return (KEPT, STRUCK or INSERTED, words) in reading order; a replacement is struck, then
    inserted.
    """
    old, new = text.split(), perturbed.split()
    runs = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            runs.append((UNCHANGED, " ".join(old[old_start:old_end])))
            continue
        struck, inserted = old[old_start:old_end], new[new_start:new_end]
        runs += [
            (kind, " ".join(words))
            for kind, words in ((DELETED, struck), (INSERTED, inserted))
            if words
        ]
    return runs
