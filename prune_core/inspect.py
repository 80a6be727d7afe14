"""What models say of a typed sentence, pair or question, from a process of its own that keeps the models loaded between questions.

`Predictor` is the asking side and imports nothing heavy; `python -m prune_core.inspect` is the answering side. They talk
in JSON lines. The answering process ends when its input closes, so it never outlives whoever asked.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from . import PruneError

COMMAND = [sys.executable, "-m", "prune_core.inspect"]
ROOT = Path(__file__).resolve().parent.parent
MEMORY = 2.5e9  # bytes of weights kept; the model longest unused goes first
PATIENCE = 180.0  # seconds; the first question pays for imports and loading


class Predictor:
    """Asks the answering process, starts it when needed, one question at a time."""

    def __init__(self, log: Path):
        self.log = log
        self.process: subprocess.Popen[str] | None = None
        self.turn = threading.Lock()  # the pages of several readers share one process

    def predict(self, checkpoints: Sequence[str], texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """One answer a checkpoint: what it said of every text, its labels and their probabilities, or an error sentence.

        `pairs` are the second texts, or the contexts of questions.
        """
        with self.turn:
            process = self._running()
            assert process.stdin and process.stdout, "opened with pipes"
            try:
                asked = {"checkpoints": list(checkpoints), "texts": list(texts), "pairs": pairs and list(pairs)}
                process.stdin.write(json.dumps(asked) + "\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
                answer = process.stdout.readline() if ready else ""
            except BrokenPipeError:
                answer = ""
            if not answer:
                self._end()
                raise PruneError(f"The process that answers stopped: {self._last_words()}. Ask again to start a new one.")
            return json.loads(answer)

    def start(self) -> None:
        """Start the process ahead of the first question, so that its imports are over by then."""
        with self.turn:
            self._running()

    def close(self) -> None:
        """End the process."""
        with self.turn:
            self._end()

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("w") as log:
                self.process = subprocess.Popen(
                    COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
                )
        return self.process

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()] if self.log.is_file() else []
        return lines[-1].strip() if lines else f"no answer within {PATIENCE:.0f} s"


def answer(questions: TextIO, answers: TextIO) -> None:
    """The answering side: a line in, a line out, until the input closes."""
    kept: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
    for line in questions:
        question = json.loads(line)
        found = [_one(kept, name, question["texts"], question["pairs"]) for name in question["checkpoints"]]
        print(json.dumps(found), file=answers, flush=True)


def _one(kept: OrderedDict[str, tuple[Any, Any]], checkpoint: str, texts: list[str], pairs: list[str] | None) -> dict[str, Any]:
    """One checkpoint's answer; what the user can mend comes back as a sentence."""
    from .encoders import kind_of, longest
    from .examples import Examples
    from .predict import predict

    started = time.perf_counter()
    try:
        model, tokenizer = _model(kept, checkpoint)
    except PruneError as error:
        return {"checkpoint": checkpoint, "error": str(error)}
    kind = kind_of(model)
    if kind == "span" and not pairs:
        return {"checkpoint": checkpoint, "error": "It finds answers in a text; give the text as well."}
    found = predict(model, tokenizer, Examples(texts, pairs, kind=kind), max_length=longest(model))
    names = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    said = [names[each] for each in found.said] if kind == "classification" else found.said
    answered = {"checkpoint": checkpoint, "labels": names, "said": said, "probabilities": found.probabilities}
    return answered | {"seconds": time.perf_counter() - started}


def _model(kept: OrderedDict[str, tuple[Any, Any]], checkpoint: str) -> tuple[Any, Any]:
    from . import encoders

    if checkpoint not in kept:
        kept[checkpoint] = encoders.load(checkpoint)
    kept.move_to_end(checkpoint)
    size = lambda pair: sum(p.numel() * p.element_size() for p in pair[0].parameters())  # noqa: E731
    while len(kept) > 1 and sum(map(size, kept.values())) > MEMORY:
        kept.popitem(last=False)
    return kept[checkpoint]


if __name__ == "__main__":
    import torch
    import transformers  # noqa: F401  imported before the first question rather than during it

    torch.set_num_threads(1)  # one sentence is too little work to share, and threads would wait for a busy worker's
    answer(sys.stdin, sys.stdout)
