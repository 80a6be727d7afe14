"""The command `serve`: the dashboard and the supervisor of its queue, to run unattended."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from .. import access
from ..errors import PruneError
from ..paths import ROOTS
from ..queue.supervisor import Dashboard, supervise
from ..store.store import Store, default_home


def serve(options: argparse.Namespace) -> None:
    """Run dashboard and supervisor until SIGTERM, SIGINT or SIGHUP; PruneError if unsafe."""
    if options.show_token:
        token = access.access_token(default_home(), create=False)
        print(access.dashboard_url(options.address, options.port, token=token))
        return
    settings = _configure_access(options)
    roots = _configure_roots(options)
    store = Store()
    os.environ["PRUNESCOPE_HOME"] = str(store.home)
    if settings.needs_token:
        access.access_token(store.home)  # an error is reported here, not by the dashboard's process
    files = ", ".join(map(str, roots)) if roots else "any folder that this user may read"
    _log(
        f"The dashboard on port {options.port} is for {_audience(settings)}; "
        f"it opens files below {files}; the store is {store.home}."
    )
    received: list[int] = []
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda number, _: received.append(number))
    dashboard = Dashboard(
        [f"--server.address={options.address}", f"--server.port={options.port}"], _log
    )

    def is_over() -> bool:
        if not received:  # the supervisor's loop calls this between two housekeeping runs
            dashboard.ensure_running()
        return bool(received)

    try:
        supervise(store, is_over, _log)
    finally:
        dashboard.stop()


def _configure_access(options: argparse.Namespace) -> access.Access:
    """Set the environment variables that the dashboard's process reads; return their meaning.

    Raise PruneError if other machines could reach a dashboard without a login.
    """
    flags = {
        access.ALLOW: ";".join(options.allow),
        access.GROUPS_CLAIM: options.groups_claim,
        access.CONTACT: options.contact,
        access.USER_HEADER: options.user_header,
        access.SECRET_FILE: options.proxy_secret_file and str(options.proxy_secret_file.resolve()),
        access.SECRET_HEADER: options.proxy_secret_header,
        access.NO_TOKEN: options.no_token and "1",
    }
    os.environ.update({name: value for name, value in flags.items() if value})
    settings = access.Access.from_environment()
    if not access.is_loopback(options.address) and not settings.identifies_users:
        raise PruneError(
            f"{options.address} can be reached from other machines, and nothing would identify "
            "users: set up a login in .streamlit/secrets.toml, or name the header in which a "
            "reverse proxy passes the user, with --user-header; docs/serving.md has an example of "
            "each. For this machine alone leave --address out."
        )
    settings.check()
    return settings


def _configure_roots(options: argparse.Namespace) -> list[Path]:
    """Return the folders below which pages may open files; an empty list means any folder.

    Raise PruneError if one of them does not exist.
    """
    roots = options.root or ([] if access.is_loopback(options.address) else [Path.cwd()])
    if missing := [str(root) for root in roots if not root.is_dir()]:
        raise PruneError(f"--root {missing[0]}: there is no such folder.")
    if roots:
        os.environ[ROOTS] = os.pathsep.join(str(root.resolve()) for root in roots)
    return roots


def _audience(settings: access.Access) -> str:
    """Describe who may open the dashboard."""
    listed = ", ".join(settings.allow.entries)
    if settings.user_header:
        named = f"users named in the header {settings.user_header}"
        if not settings.secret_file:
            named += " (by anyone who can reach the port: consider --proxy-secret-file)"
        return f"{named}, limited to {listed}" if listed else named
    if settings.login is not None:
        return f"people who log in, limited to {listed}"
    return (
        "browsers with the access token" if settings.needs_token else "every user of this machine"
    )


def _log(message: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}", file=sys.stderr, flush=True)
