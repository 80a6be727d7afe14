"""Inspector client: requests predictions, saliency, attention and attacks from the server.

`python -m prune_core.processes.inspector_server` runs in a child process that keeps models loaded.
Both exchange messages as lines of JSON. The server ends when its input closes, so it never outlives
the client. Does not import torch.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from ..errors import PruneError
from ..paths import ROOT
from ..queue.jobs import last_line

COMMAND = [sys.executable, "-m", "prune_core.processes.inspector_server"]
TIMEOUT = 180.0  # seconds for a response; the first request includes imports and loading
STOPPED = "Stopped."  # the error of an attack that was cancelled
Result = dict[str, Any]


class RunningAttack:
    """An attack, running or finished, with one result per model, updated while it runs."""

    def __init__(self, models: int, stop: Callable[[], object]):
        # `queries` and `steps` so far; after the search the fields of AttackOutcome as well
        self.results: list[Result] = [{} for _ in range(models)]
        self.is_over, self.error = False, ""
        self._stop = stop

    def on_message(self, message: Result) -> None:
        """Update a result, or end the attack; called with every message of the server."""
        if not self.is_over and "index" in message:
            self.results[message["index"]].update(message["result"])
        elif not self.is_over:
            self.is_over, self.error = True, message["error"]

    def cancel(self) -> None:
        """Mark the attack as over; the searches end after their current batch of queries."""
        if not self.is_over:
            self.on_message({"error": STOPPED})
            self._stop()


class Inspector:
    """Sends requests to the server and starts it when needed; several threads may share it.

    Methods raise PruneError if the server does not respond or stops. An error of a single
    checkpoint is in its result, as `error`.
    """

    def __init__(self, log: Path):
        self.log = log
        self._process: subprocess.Popen[str] | None = None
        # callbacks by request, for the current process
        self._callbacks: dict[int, Callable[[Result], None]] = {}
        self._lock, self._ids = Lock(), count()

    def predict(
        self,
        checkpoints: Sequence[str],
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        pooling: str = "",
    ) -> list[Result]:
        """Return one result of `inspector_server.predict_texts` per checkpoint.

        `pairs` are the second texts, or the contexts of questions; `pooling` is that of encoders
        without a head.
        """
        return self._request(
            "predict",
            checkpoints=list(checkpoints),
            texts=list(texts),
            pairs=pairs and list(pairs),
            pooling=pooling,
        )

    def search(
        self, checkpoints: Sequence[str], text: str, data: Result, pooling: str = ""
    ) -> list[Result]:
        """Return the rankings of a dense and a pruned model, see `DocumentSearch.search`.

        `data`: the source and the maximum length of the experiment.
        """
        return self._request(
            "search", checkpoints=list(checkpoints), text=text, data=data, pooling=pooling
        )

    def saliency(self, checkpoints: Sequence[str], text: str, pair: str | None) -> list[Result]:
        """Return one result of `saliency.saliency` per checkpoint."""
        return self._request("saliency", checkpoints=list(checkpoints), text=text, pair=pair)

    def attention(
        self,
        checkpoints: Sequence[str],
        text: str,
        pair: str | None,
        block: int | None,
        head: int | None,
        pooling: str = "",
    ) -> list[Result]:
        """Return one result of `saliency.attention` per checkpoint."""
        return self._request(
            "attention",
            checkpoints=list(checkpoints),
            text=text,
            pair=pair,
            block=block,
            head=head,
            pooling=pooling,
        )

    def small_layer(self, method: str, sparsity: float, inherited: float = 0.0) -> Result:
        """Return the pruned small layer of the lesson, see `lesson_layer.small_layer`."""
        layers = self._request("small_layer", method=method, sparsity=sparsity, inherited=inherited)
        return layers[0]

    def attack(
        self, checkpoints: Sequence[str], recipe: str, text: str, pair: str | None, label: int
    ) -> RunningAttack:
        """Start an attack on all checkpoints; return at once, the results follow.

        `label` is the index of the correct label.
        """
        id = next(self._ids)
        attack = RunningAttack(len(checkpoints), lambda: self._send(id, "cancel"))
        self._send(
            id,
            "attack",
            attack.on_message,
            checkpoints=list(checkpoints),
            recipe=recipe,
            text=text,
            pair=pair,
            label=label,
        )
        return attack

    def start(self) -> None:
        """Start the server before the first request, so that its imports are done by then."""
        with self._lock:
            self._start_process()

    def close(self) -> None:
        """Stop the server."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process = None

    def _request(self, request: str, **arguments: Any) -> list[Result]:
        """Send a request that has one response and return its result."""
        responses: SimpleQueue[Result] = SimpleQueue()
        self._send(next(self._ids), request, responses.put, **arguments)
        try:
            response = responses.get(timeout=TIMEOUT)
        except Empty:
            self.close()
            raise PruneError(
                f"No response within {TIMEOUT:.0f} s. Try again to start a new process."
            ) from None
        if "error" in response:
            raise PruneError(response["error"])
        return response["result"]

    def _send(
        self,
        id: int,
        request: str,
        callback: Callable[[Result], None] | None = None,
        **arguments: Any,
    ) -> None:
        """Send a request; `callback` gets every response, from the listening thread."""
        with self._lock:
            process = self._start_process()
            assert process.stdin, "opened with a pipe"
            if callback:
                self._callbacks[id] = callback
            # if the process has ended, the listening thread reports it
            with suppress(BrokenPipeError):
                message = {"id": id, "request": request, **arguments}
                print(json.dumps(message), file=process.stdin, flush=True)

    def _start_process(self) -> subprocess.Popen[str]:
        """Return the server's process, started if needed."""
        if self._process is None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("w") as log:
                self._process = subprocess.Popen(
                    COMMAND,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    bufsize=1,
                )
            self._callbacks = {}
            Thread(target=self._listen, args=(self._process, self._callbacks), daemon=True).start()
        return self._process

    def _listen(
        self, process: subprocess.Popen[str], callbacks: dict[int, Callable[[Result], None]]
    ) -> None:
        """Pass the server's messages to their callbacks; report its end to those still waiting."""
        assert process.stdout, "opened with a pipe"
        for line in process.stdout:
            message = json.loads(line)
            id = message["id"]
            callback = callbacks.pop(id) if message.get("done") else callbacks[id]
            callback(message)
        process.wait()
        # requests sent before this point are in `callbacks`; later ones get another process
        with self._lock:
            if self._process is process:
                self._process = None
        reason = last_line(self.log, "it was killed")
        message = f"The inspector process stopped: {reason}. Try again to start a new one."
        for callback in callbacks.values():
            callback({"error": message})
