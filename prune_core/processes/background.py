"""A long-running command that outlives the page that started it, and can be stopped and resumed.

Its arguments, log and lock are in a folder of its own. Does not import torch; knows nothing of what
the command does, except that the last line it prints is its progress.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import PruneError
from ..paths import ROOT
from ..queue.jobs import last_line
from ..store.locks import Lock

COMMAND, LOG, LOCK, EXIT = "command.json", "command.log", "command.lock", "command.exit"
# the shell writes the exit status, because no process may be waiting for it
SCRIPT = '"$@" > command.log 2>&1; echo $? > command.exit'


class CommandState(NamedTuple):
    """State of a background command."""

    status: str  # running, done, failed, or stopped (by the user or a shutdown)
    progress: float  # 0 to 1
    detail: str  # the last message of the command


def start(folder: Path, arguments: Sequence[str]) -> None:
    """Run `python -m prune_core …` with its output in `folder`.

    Raise PruneError if a command is running there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / LOCK)
    if not lock.acquire() or lock.file is None:
        raise PruneError(
            f"A command is running in {folder}; stop it first, or choose another name."
        )
    (folder / EXIT).unlink(missing_ok=True)
    # PYTHONPATH, because the shell runs in the folder and would not find the package
    process = subprocess.Popen(
        ["sh", "-c", SCRIPT, "sh", sys.executable, "-m", "prune_core", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        pass_fds=(lock.file,),
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        },
    )
    (folder / COMMAND).write_text(json.dumps({"arguments": list(arguments), "group": process.pid}))
    lock.release()  # the command has inherited the lock


def state(folder: Path) -> CommandState | None:
    """Return the state of the command of a folder; None if there never was one."""
    if not (folder / COMMAND).is_file():
        return None
    line = last_line(folder / LOG)
    percentage, percent, message = line.partition("%")
    progress = int(percentage) / 100 if percent and percentage.strip().isdigit() else 0.0
    if Lock(folder / LOCK).is_held():
        return CommandState("running", progress, message.strip() or "starting")
    code = (folder / EXIT).read_text().strip() if (folder / EXIT).is_file() else ""
    status = {"0": "done", "": "stopped", "130": "stopped"}.get(code, "failed")
    return CommandState(status, progress, line.removeprefix("prune_core: "))


def stop(folder: Path) -> None:
    """Stop the command, if it runs; results of its finished steps stay in the folder."""
    if Lock(folder / LOCK).is_held():  # otherwise the process ID may belong to another process
        os.killpg(json.loads((folder / COMMAND).read_text())["group"], signal.SIGTERM)


def resume(folder: Path) -> None:
    """Run the same command again; it skips the steps that it had finished.

    Raise PruneError if it is running.
    """
    start(folder, json.loads((folder / COMMAND).read_text())["arguments"])
