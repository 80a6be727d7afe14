"""A long command that outlives the page which started it: its own folder with arguments, log and lock; stopped, and gone on with.

Imports nothing heavy. Knows nothing of what the command does; what it prints last is its progress.
"""

from __future__ import annotations

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
# the shell writes how the command ended, as nobody may be waiting for it
SCRIPT = '"$@" > command.log 2>&1; echo $? > command.exit'


class CommandState(NamedTuple):
    """How a command stands."""

    status: str  # running, done, failed, or stopped (by a person, or with the machine)
    progress: float
    detail: str  # what it said last


def start(folder: Path, arguments: Sequence[str]) -> None:
    """Run `python -m prune_core …` with its output in `folder`; PruneError where one runs there already."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / LOCK)
    if not lock.take() or lock.file is None:
        raise PruneError(f"{folder} has a run at work; stop it first, or choose another name.")
    (folder / EXIT).unlink(missing_ok=True)
    # the module is found by its path, as the shell works in the folder
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
    lock.release()  # this process's hold; the command has its own


def state(folder: Path) -> CommandState | None:
    """How the command of that folder stands; None where there never was one."""
    if not (folder / COMMAND).is_file():
        return None
    told = last_line(folder / LOG)
    share, percent, message = told.partition("%")
    progress = int(share) / 100 if percent and share.strip().isdigit() else 0.0
    if Lock(folder / LOCK).is_held():
        return CommandState("running", progress, message.strip() or "starting")
    ended = (folder / EXIT).read_text().strip() if (folder / EXIT).is_file() else ""
    status = {"0": "done", "": "stopped", "130": "stopped"}.get(ended, "failed")
    return CommandState(status, progress, told.removeprefix("prune_core: "))


def stop(folder: Path) -> None:
    """End it; what it has finished stays."""
    if Lock(folder / LOCK).is_held():  # so the number is still its own
        os.killpg(json.loads((folder / COMMAND).read_text())["group"], signal.SIGTERM)


def resume(folder: Path) -> None:
    """Run the same command again, which goes on behind what it had finished."""
    start(folder, json.loads((folder / COMMAND).read_text())["arguments"])
