"""The process behind Inspect: keeps models loaded and answers JSON lines until its input closes; `inspect` asks.

A question has an `id`, and `ask` says what: predict, saliency, attention and small_layer are answered by one line, an
attack by many, the last of which says `over`; cancel bears the id of an attack, and ends it. While an attack runs, other
questions are answered between two of its rounds of queries, and further attacks wait in line. So one thread does all that
touches models.
"""

from __future__ import annotations

import json
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from queue import SimpleQueue
from threading import Thread
from typing import Any, TextIO

import torch

from ..data.examples import Examples
from ..data.metrics import entities
from ..errors import Cancelled, PruneError
from ..models import replay
from ..models.checkpoints import difference, loading, verification
from ..models.inference.predict import predict
from ..models.inference.saliency import attention, saliency
from .inspector_client import STOPPED
from .lesson_layer import small_layer

MAX_MODELS = 2.5e9  # bytes of weights kept; the model longest unused goes first
Request = dict[str, Any]


class ModelCache:
    """Loaded models with their tokenizers, by checkpoint."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Any, Any]] = OrderedDict()

    def get(self, checkpoint: str) -> tuple[Any, Any]:
        """(model, tokenizer); PruneError where there is none."""
        if checkpoint not in self._kept:
            model, tokenizer = loading.load(checkpoint)
            if not difference.read_metadata(
                loading.resolve(checkpoint)
            ):  # else its weights have been compared with their hash
                examples = verification.sample_examples(replay.task_type_of(model))
                verification.check(
                    checkpoint,
                    model,
                    tokenizer,
                    examples=examples,
                    max_length=replay.max_tokens(model),
                )
            self._kept[checkpoint] = model, tokenizer
        self._kept.move_to_end(checkpoint)
        size = lambda pair: sum(p.numel() * p.element_size() for p in pair[0].parameters())  # noqa: E731
        while len(self._kept) > 1 and sum(map(size, self._kept.values())) > MAX_MODELS:
            self._kept.popitem(last=False)
        return self._kept[checkpoint]


def predict_texts(
    model: Any, tokenizer: Any, texts: list[str], pairs: list[str] | None
) -> dict[str, Any]:
    """What the model says of every text, its labels and their probabilities; of words their `tags` too."""
    started, kind = time.perf_counter(), replay.task_type_of(model)
    if kind == "span" and not pairs:
        raise PruneError("It finds answers in a text; give the text as well.")
    if kind == "token":  # words are what spaces part
        texts = [" ".join(text.split()) for text in texts]
    found = predict(
        model, tokenizer, Examples(texts, pairs, kind=kind), max_length=replay.max_tokens(model)
    )
    names = loading.label_names(model.config)
    told = {
        "labels": names,
        "probabilities": found.probabilities,
        "seconds": time.perf_counter() - started,
    }
    if kind == "token":
        each = [[names[label] for label in row] for row in found.predicted]
        return told | {
            "said": [_entities(text, tags) for text, tags in zip(texts, each, strict=True)],
            "tags": each,
        }
    if kind == "multilabel":
        return told | {
            "said": [
                ", ".join(names[i] for i, holds in enumerate(row) if holds) or "none"
                for row in found.predicted
            ]
        }
    return told | {
        "said": [names[label] for label in found.predicted]
        if kind == "classification"
        else found.predicted
    }


def _entities(text: str, tags: list[str]) -> str:
    """The entities of a text, each with its type, or that there are none."""
    words = text.split(" ")
    found = sorted(entities(tags), key=lambda entity: entity[1])
    return (
        ", ".join(f"{' '.join(words[first : last + 1])} ({kind})" for kind, first, last in found)
        or "no entity"
    )


QUICK: dict[str, Callable[..., dict[str, Any]]] = {
    "predict": predict_texts,
    "saliency": saliency,
    "attention": attention,
}


class InspectorServer:
    """Takes questions in their order; an attack is the only work that others may interrupt."""

    def __init__(self, questions: Iterable[str], answers: TextIO):
        self.answers, self.models = answers, ModelCache()
        self.inbox: SimpleQueue[Request | None] = SimpleQueue()  # None: the input has closed
        self.attacks: deque[Request] = deque()  # the first is at work, the others wait

        def read() -> None:
            for line in questions:
                self.inbox.put(json.loads(line))
            self.inbox.put(None)

        Thread(target=read, daemon=True).start()

    def serve(self) -> None:
        """Until the input closes."""
        while (question := self.inbox.get()) is not None:
            self.take(**question)
            while self.attacks:
                self.attack(**self.attacks[0])
                self.attacks.popleft()

    def take(self, id: int, ask: str, **question: Any) -> None:
        """Answer at once, or put in line; Cancelled where the question is to stop the attack at work."""
        if ask == "small_layer":
            self.say(id, over=True, told=[small_layer(**question)])
        elif ask == "attack":
            self.attacks.append({"id": id, **question})
        elif ask == "cancel":
            if self.attacks and self.attacks[0]["id"] == id:
                raise Cancelled
            if waiting := [each for each in self.attacks if each["id"] == id]:
                self.attacks.remove(waiting[0])
                self.say(id, over=True, error=STOPPED)
        else:
            checkpoints = question.pop("checkpoints")
            self.say(
                id,
                over=True,
                told=[self.one(QUICK[ask], checkpoint, **question) for checkpoint in checkpoints],
            )

    def one(
        self, work: Callable[..., dict[str, Any]], checkpoint: str, **question: Any
    ) -> dict[str, Any]:
        """One checkpoint's answer; what the user can mend comes back as a sentence."""
        try:
            return {"checkpoint": checkpoint, **work(*self.models.get(checkpoint), **question)}
        except PruneError as error:
            return {"checkpoint": checkpoint, "error": str(error)}

    def say(self, id: int, **told: Any) -> None:
        """One line."""
        print(json.dumps({"id": id, **told}), file=self.answers, flush=True)

    def attack(
        self, id: int, checkpoints: list[str], recipe: str, text: str, pair: str | None, label: int
    ) -> None:
        """All checkpoints at once; their steps and outcomes as they come, by index into `checkpoints`."""
        error = ""
        try:
            self.look()
            from ..attacks import attack_steps
            from ..attacks.budget import AttackBudget, ProgressReporter
            from ..attacks.victim import Victim

            reporter, victims = ProgressReporter(lambda *_: self.look()), []
            for checkpoint in checkpoints:
                self.look()
                model, tokenizer = self.models.get(checkpoint)
                victims.append(
                    Victim(
                        model,
                        tokenizer,
                        reporter.report_if_due,
                        max_length=replay.max_tokens(model),
                    )
                )
            example = Examples([text], None if pair is None else [pair], [label])
            tell = lambda index, told: self.say(id, index=index, told=told)  # noqa: E731
            for index, outcome in attack_steps.run(
                recipe, victims, reporter, example=example, budget=AttackBudget(), seed=0, tell=tell
            ):
                tell(index, asdict(outcome))
        except Cancelled:
            error = STOPPED
        except PruneError as reason:
            error = str(reason)
        self.say(id, over=True, error=error)

    def look(self) -> None:
        """See to what came in during an attack; Cancelled where it is to stop, or where nobody is left to hear it."""
        while not self.inbox.empty():
            question = self.inbox.get()
            if question is None:
                self.inbox.put(None)  # for those who wait in line, and for `serve`
                raise Cancelled
            self.take(**question)


if __name__ == "__main__":
    import transformers  # noqa: F401  imported before the first question rather than during it

    torch.set_num_threads(
        1
    )  # one sentence is too little work to share, and threads would wait for a busy worker's
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print, which is no answer
    InspectorServer(sys.stdin, answers).serve()
