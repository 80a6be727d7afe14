"""The asking side of Inspect: what models say of a text, why, and what becomes of it under attack. Imports nothing heavy.

`python -m prune_core.processes.inspector_server` answers, in JSON lines, from a process of its own that keeps the models loaded. It ends when
its input closes, so it never outlives whoever asked.
"""

from __future__ import annotations

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

COMMAND = [sys.executable, "-m", "prune_core.processes.inspector_server"]
TIMEOUT = 180.0  # seconds for an answer; the first question pays for imports and loading
STOPPED = "Stopped."  # what an attack says that somebody ended
Result = dict[str, Any]


class RunningAttack:
    """An attack on its way or over: what is known of each model, which grows while the searches run."""

    def __init__(self, models: int, stop: Callable[[], object]):
        self.models: list[Result] = [
            {} for _ in range(models)
        ]  # `queries` and `steps`, at the end an outcome's fields
        self.is_over, self.error = False, ""
        self._stop = stop

    def hear(self, told: Result) -> None:
        """A line of the answering process; after the last nothing changes."""
        if not self.is_over and "index" in told:
            self.models[told["index"]].update(told["told"])
        elif not self.is_over:
            self.is_over, self.error = True, told["error"]

    def cancel(self) -> None:
        """Over at once for whoever looks; the searches end with their next round of queries."""
        if not self.is_over:
            self.hear({"error": STOPPED})
            self._stop()


class Inspector:
    """Asks the answering process and starts it when needed. Several readers share it, each from a thread of their own."""

    def __init__(self, log: Path):
        self.log = log
        self._process: subprocess.Popen[str] | None = None
        self._hearing: dict[
            int, Callable[[Result], None]
        ] = {}  # by question, of the process at work
        self._turn, self._numbers = Lock(), count()

    def predict(
        self, checkpoints: Sequence[str], texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> list[Result]:
        """One answer a checkpoint: what it `said` of every text, its `labels` and their `probabilities`, or an `error`.

        `pairs` are the second texts, or the contexts of questions.
        """
        return self._asked(
            ask="predict",
            checkpoints=list(checkpoints),
            texts=list(texts),
            pairs=pairs and list(pairs),
        )

    def saliency(self, checkpoints: Sequence[str], text: str, pair: str | None) -> list[Result]:
        """One answer a checkpoint, as saliency.saliency gives it, or an `error`."""
        return self._asked(ask="saliency", checkpoints=list(checkpoints), text=text, pair=pair)

    def attention(
        self,
        checkpoints: Sequence[str],
        text: str,
        pair: str | None,
        block: int | None,
        head: int | None,
    ) -> list[Result]:
        """One answer a checkpoint, as saliency.attention gives it, or an `error`."""
        return self._asked(
            ask="attention",
            checkpoints=list(checkpoints),
            text=text,
            pair=pair,
            block=block,
            head=head,
        )

    def small_layer(self, method: str, sparsity: float, inherited: float = 0.0) -> Result:
        """The lesson's layer, pruned, as lesson.small_layer gives it."""
        return self._asked(
            ask="small_layer", method=method, sparsity=sparsity, inherited=inherited
        )[0]

    def attack(
        self, checkpoints: Sequence[str], recipe: str, text: str, pair: str | None, label: int
    ) -> RunningAttack:
        """Begin an attack on all these; it goes on while its caller does other things."""
        id = next(self._numbers)
        attack = RunningAttack(len(checkpoints), lambda: self._send(id, ask="cancel"))
        question = {
            "checkpoints": list(checkpoints),
            "recipe": recipe,
            "text": text,
            "pair": pair,
            "label": label,
        }
        self._send(id, attack.hear, ask="attack", **question)
        return attack

    def start(self) -> None:
        """Start the process ahead of the first question, so that its imports are over by then."""
        with self._turn:
            self._running()

    def close(self) -> None:
        """End the process."""
        with self._turn:
            if self._process is not None:
                self._process.kill()
                self._process = None

    def _asked(self, **question: Any) -> list[Result]:
        """The one answer to a question that has one."""
        answers: SimpleQueue[Result] = SimpleQueue()
        self._send(next(self._numbers), answers.put, **question)
        try:
            answer = answers.get(timeout=TIMEOUT)
        except Empty:
            self.close()
            raise PruneError(
                f"No answer within {TIMEOUT:.0f} s. Ask again to start a new process."
            ) from None
        if "error" in answer:
            raise PruneError(answer["error"])
        return answer["told"]

    def _send(self, id: int, hear: Callable[[Result], None] | None = None, **question: Any) -> None:
        """Put a question; `hear` gets every line that answers it, from the thread that listens."""
        with self._turn:
            process = self._running()
            assert process.stdin, "opened with a pipe"
            if hear:
                self._hearing[id] = hear
            with suppress(
                BrokenPipeError
            ):  # the process is gone, which the thread that listens tells
                process.stdin.write(json.dumps({"id": id, **question}) + "\n")
                process.stdin.flush()

    def _running(self) -> subprocess.Popen[str]:
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
            self._hearing = {}
            Thread(target=self._listen, args=(self._process, self._hearing), daemon=True).start()
        return self._process

    def _listen(
        self, process: subprocess.Popen[str], hearing: dict[int, Callable[[Result], None]]
    ) -> None:
        """Hand out the process's lines; when it ends, tell those who still wait."""
        assert process.stdout, "opened with a pipe"
        for line in process.stdout:
            told = json.loads(line)
            hear = hearing.pop(told["id"]) if told.get("over") else hearing[told["id"]]
            hear(told)
        process.wait()
        with self._turn:  # whoever has asked by now is in `hearing`, and whoever asks from now on gets another process
            if self._process is process:
                self._process = None
        for hear in hearing.values():
            hear({"error": self._stopped()})

    def _stopped(self) -> str:
        lines = (
            [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
            if self.log.is_file()
            else []
        )
        why = lines[-1].strip() if lines else "it was ended"
        return f"The process that answers stopped: {why}. Ask again to start a new one."
