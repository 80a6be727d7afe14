"""Inspector server: a process that keeps models loaded and handles requests in JSON lines.

It ends when its input closes; inspector_client.py is the client. A request has an `id` and a
`request` name. predict, search, saliency, attention and small_layer get one line in response; an
attack gets many, the last of which has `done`; cancel has the id of an attack and ends it. While
an attack runs, other requests are handled between two of its batches of queries, and further
attacks are queued. So one thread does all the work with models.
"""

from __future__ import annotations

import json
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TextIO

import torch

from ..data.examples import Examples
from ..errors import Cancelled, PruneError
from ..models import embedding, replay
from ..models.checkpoints import difference, loading, verification
from ..models.inference.predict import predict
from ..models.inference.saliency import attention, saliency
from .document_search import DocumentSearch
from .inspector_client import STOPPED
from .lesson_layer import small_layer

if TYPE_CHECKING:
    from ..attacks.victim import Victim

MAX_MODELS = 2.5e9  # bytes of cached weights; the least recently used model is evicted first
Request = dict[str, Any]


class ModelCache:
    """Loaded models with their tokenizers, by checkpoint; evicts the least recently used."""

    def __init__(self) -> None:
        self._cache: OrderedDict[tuple[str, str], tuple[Any, Any]] = OrderedDict()

    def get(self, checkpoint: str, pooling: str = "") -> tuple[Any, Any]:
        """Return (model, tokenizer); raise PruneError if the checkpoint cannot be loaded.

        `pooling` is that of an encoder without a head; a saved pruned model has its own.
        """
        key = checkpoint, pooling
        if key not in self._cache:
            if (Path(loading.resolve(checkpoint)) / embedding.MODULES).is_file():
                pooling = ""
            model, tokenizer = loading.load(checkpoint, pooling=pooling)
            # weights saved as a difference have been verified with their hash
            if not difference.read_metadata(loading.resolve(checkpoint)):
                examples = verification.sample_examples(replay.task_type_of(model).name)
                verification.check(
                    checkpoint,
                    model,
                    tokenizer,
                    examples=examples,
                    max_length=replay.max_tokens(model),
                    pooling=pooling,
                )
            self._cache[key] = model, tokenizer
        self._cache.move_to_end(key)
        while len(self._cache) > 1 and self._bytes() > MAX_MODELS:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _bytes(self) -> int:
        models = (model for model, _ in self._cache.values())
        return sum(p.numel() * p.element_size() for model in models for p in model.parameters())


def predict_texts(
    model: Any, tokenizer: Any, texts: list[str], pairs: list[str] | None
) -> dict[str, Any]:
    """Predict the texts with one model.

    Keys, with one value per text: `predictions` (label names, scores, answers or listed entities),
    `probabilities`, and for token classification `tags`, one label per word. `labels` are the
    label names of the model, `seconds` the time taken.
    """
    started, task_type = time.perf_counter(), replay.task_type_of(model)
    if task_type.asks_question and not pairs:
        raise PruneError("The model finds answers in a context; enter the context as well.")
    texts = [task_type.typed_text(text) for text in texts]
    predictions = predict(
        model,
        tokenizer,
        Examples(texts, pairs, kind=task_type.name),
        max_length=replay.max_tokens(model),
    )
    predicted, names = predictions.predicted, loading.label_names(model.config)
    result = {
        "labels": names,
        "probabilities": predictions.probabilities,
        "seconds": time.perf_counter() - started,
    }
    shown = [
        task_type.text_prediction(text, prediction, names)
        for text, prediction in zip(texts, predicted, strict=True)
    ]
    result["predictions"] = [each["prediction"] for each in shown]
    if shown and "tags" in shown[0]:
        result["tags"] = [each["tags"] for each in shown]
    return result


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "predict": predict_texts,
    "saliency": saliency,
    "attention": attention,
}


class InspectorServer:
    """Handles requests in order; only an attack can be interrupted by other requests."""

    def __init__(self, requests: Iterable[str], responses: TextIO):
        self.responses, self.models = responses, ModelCache()
        self.inbox: SimpleQueue[Request | None] = SimpleQueue()  # None: the input has closed
        self.attacks: deque[Request] = deque()  # the first is running, the others are queued
        self.searches: dict[str, DocumentSearch] = {}  # the last one, by its data

        def read() -> None:
            for line in requests:
                self.inbox.put(json.loads(line))
            self.inbox.put(None)

        Thread(target=read, daemon=True).start()

    def serve(self) -> None:
        """Handle requests until the input closes."""
        while (message := self.inbox.get()) is not None:
            self.handle(**message)
            while self.attacks:
                self.attack(**self.attacks[0])
                self.attacks.popleft()

    def handle(self, id: int, request: str, **arguments: Any) -> None:
        """Respond at once, or queue an attack; raise Cancelled to stop the running attack."""
        if request == "small_layer":
            self.send(id, done=True, result=[small_layer(**arguments)])
        elif request == "search":
            self.send(id, done=True, **self.search(**arguments))
        elif request == "attack":
            self.attacks.append({"id": id, **arguments})
        elif request == "cancel":
            if self.attacks and self.attacks[0]["id"] == id:
                raise Cancelled
            if queued := [attack for attack in self.attacks if attack["id"] == id]:
                self.attacks.remove(queued[0])
                self.send(id, done=True, error=STOPPED)
        else:
            checkpoints, pooling = arguments.pop("checkpoints"), arguments.pop("pooling", "")
            results = [
                self.apply(FUNCTIONS[request], path, pooling, **arguments) for path in checkpoints
            ]
            self.send(id, done=True, result=results)

    def apply(
        self,
        function: Callable[..., dict[str, Any]],
        checkpoint: str,
        pooling: str = "",
        **arguments: Any,
    ) -> dict[str, Any]:
        """Apply a function to one checkpoint; a PruneError is returned as its message."""
        try:
            return {
                "checkpoint": checkpoint,
                **function(*self.models.get(checkpoint, pooling), **arguments),
            }
        except PruneError as error:
            return {"checkpoint": checkpoint, "error": str(error)}

    def search(
        self, checkpoints: list[str], text: str, data: dict[str, Any], pooling: str
    ) -> dict[str, Any]:
        """Search a collection with a dense and a pruned model; a PruneError is in `error`."""
        key = json.dumps([data, pooling])
        try:
            if key not in self.searches:
                self.searches = {key: DocumentSearch(**data)}
            models = [self.models.get(checkpoint, pooling) for checkpoint in checkpoints]
            return {"result": self.searches[key].search(checkpoints, models, text)}
        except PruneError as error:
            return {"error": str(error)}

    def send(self, id: int, **message: Any) -> None:
        """Write one line of JSON."""
        print(json.dumps({"id": id, **message}), file=self.responses, flush=True)

    def attack(
        self, id: int, checkpoints: list[str], recipe: str, text: str, pair: str | None, label: int
    ) -> None:
        """Attack all checkpoints at the same time.

        Steps and outcomes are sent as they come, with their index in `checkpoints`.
        """
        error = ""
        try:
            self.handle_pending()
            from ..attacks import attack_steps
            from ..attacks.budget import AttackBudget, ProgressReporter

            reporter = ProgressReporter(lambda *_: self.handle_pending())
            victims = self._victims(checkpoints, reporter.report_if_due)
            example = Examples([text], None if pair is None else [pair], [label])

            def send_step(index: int, result: dict[str, Any]) -> None:
                self.send(id, index=index, result=result)

            for index, outcome in attack_steps.run(
                recipe,
                victims,
                reporter,
                example=example,
                budget=AttackBudget(),
                seed=0,
                on_progress=send_step,
            ):
                send_step(index, asdict(outcome))
        except Cancelled:
            error = STOPPED
        except PruneError as reason:
            error = str(reason)
        self.send(id, done=True, error=error)

    def _victims(self, checkpoints: list[str], report_if_due: Callable[[], None]) -> list[Victim]:
        """Load the attacked models; other requests are handled between two of them."""
        from ..attacks.victim import Victim

        victims = []
        for checkpoint in checkpoints:
            self.handle_pending()
            model, tokenizer = self.models.get(checkpoint)
            victims.append(
                Victim(model, tokenizer, report_if_due, max_length=replay.max_tokens(model))
            )
        return victims

    def handle_pending(self) -> None:
        """Handle requests that arrived during an attack.

        Raise Cancelled if the attack is to stop, or if the client has gone.
        """
        while not self.inbox.empty():
            message = self.inbox.get()
            if message is None:
                self.inbox.put(None)  # for the queued attacks and for `serve`
                raise Cancelled
            self.handle(**message)


if __name__ == "__main__":
    import transformers  # noqa: F401  imported before the first request rather than during it

    # one text is too little work for several threads, which would wait for a busy worker's
    torch.set_num_threads(1)
    # libraries may print to stdout, which is for responses only
    responses, sys.stdout = sys.stdout, sys.stderr
    InspectorServer(sys.stdin, responses).serve()
