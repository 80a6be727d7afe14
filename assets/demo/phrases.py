"""Write phrases.csv: 2,000 labeled film-review sentences for the fine-tuning example.

They are generated from templates and phrases written for this project, so they are easier than reviews.csv and not meant for evaluation.
Run as `python assets/demo/phrases.py`.
"""

import csv
import random
from pathlib import Path

N = 2000
WHO = [
    "the film", "this comedy", "the thriller", "the sequel", "this drama", "the remake", "the documentary", "this small picture",
    "the western", "the love story",
]  # fmt: skip
WHAT = [
    "the acting", "the script", "the photography", "the music", "the last act", "the dialogue", "the editing", "the lead performance",
    "the opening half hour", "the direction", "the humour", "the ending",
]  # fmt: skip
GOOD = [
    "is a quiet triumph", "earns every one of its tears", "is funnier than it has any right to be", "never loses its nerve",
    "glows with care", "finds something new in an old tale", "is as sharp as a tack", "left me grinning all the way home",
    "holds together beautifully", "is full of small surprises", "moves with real grace", "deserves a much larger audience",
    "is warm without being soft", "knows exactly when to stop", "is a pleasure from first to last",
]  # fmt: skip
BAD = [
    "is a chore to sit through", "mistakes noise for drama", "has not one believable moment", "runs out of ideas within minutes",
    "is as flat as a table", "wastes everyone involved", "collapses under its own weight", "left me looking at my watch",
    "is clumsy and dull", "repeats itself without shame", "never comes to life", "is a hollow imitation of better work",
    "is too long by an hour",
    "explains what nobody asked", "insults its audience",
]  # fmt: skip
FRAMES = [
    "{who} {one}", "{what} {one}", "{who} {one}, and {what} {two}", "{what} of {who} {one}", "say what you like about {what}, {who} {one}",
    "although {what} {other}, {who} {one}", "{what} {other}, but in the end {who} {one}", "i expected little, yet {who} {one}",
    "after all the praise it is plain that {who} {one}", "from the first scene {what} {one}", "even where {what} {other}, {who} {one}",
]  # fmt: skip


def sentences() -> list[tuple[str, str]]:
    """Return N distinct sentences with their labels, half of them positive."""
    rng, labels = random.Random(0), dict[str, str]()
    while len(labels) < N:
        label = "positive" if len(labels) % 2 else "negative"
        same, opposite = (GOOD, BAD) if label == "positive" else (BAD, GOOD)
        frame = rng.choice(FRAMES)
        if frame.startswith(
            {"positive": "after all the praise", "negative": "i expected little"}[label]
        ):
            continue
        one, two = rng.sample(same, 2)
        text = frame.format(
            who=rng.choice(WHO), what=rng.choice(WHAT), one=one, two=two, other=rng.choice(opposite)
        )
        labels.setdefault(text[0].upper() + text[1:] + ".", label)
    return list(labels.items())


if __name__ == "__main__":
    with (Path(__file__).parent / "phrases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("text", "label"), *sentences()])
