"""`serve`: the dashboard and the supervisor of its queue together, for a machine that is left alone.

Who may come in and which files the pages may open is decided here; the pages ask the environment that this sets.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from ..errors import PruneError
from ..paths import ROOTS, USER_HEADER, has_login, is_loopback
from ..runs.store import Store
from ..runs.supervisor import Dashboard, supervise


def serve(options: argparse.Namespace) -> None:
    """Run both until a signal ends them."""
    wide = not is_loopback(options.address)
    if options.user_header:
        os.environ[USER_HEADER] = options.user_header
    if wide and not (os.environ.get(USER_HEADER) or has_login()):
        raise PruneError(
            f"{options.address} can be reached from other machines, and nobody would be asked who they are: set up a login in "
            ".streamlit/secrets.toml, or name the header in which a reverse proxy says who asks, with --user-header; docs/serving.md "
            "has an example of each. For this machine alone leave --address out."
        )
    roots = options.root or ([Path.cwd()] if wide else [])
    if missing := [str(root) for root in roots if not root.is_dir()]:
        raise PruneError(f"--root {missing[0]}: there is no such folder.")
    if roots:
        os.environ[ROOTS] = os.pathsep.join(str(root.resolve()) for root in roots)
    store = Store()
    os.environ["PRUNESCOPE_HOME"] = str(store.home)
    header = os.environ.get(USER_HEADER)
    who = f"whom the header {header} names" if header else "those who log in" if has_login() else "this machine"
    _say(f"The dashboard is for {who}, at http://{options.address}:{options.port}; it opens files below "
         f"{', '.join(map(str, roots)) if roots else 'any folder that this user may read'}; the store is {store.home}.")  # fmt: skip
    over: list[int] = []
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda number, _: over.append(number))
    dashboard = Dashboard([f"--server.address={options.address}", f"--server.port={options.port}"], _say)

    def is_over() -> bool:
        if not over:
            dashboard.tend()
        return bool(over)

    try:
        supervise(store, is_over, _say)
    finally:
        dashboard.stop()


def _say(sentence: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}", file=sys.stderr, flush=True)
