"""Store maintenance commands: check, backup, rescue, rebuild, compact, events."""

import argparse
import time

from ..formatting import plural
from ..store import maintenance
from ..store.schema import FILE
from ..store.store import Store, default_home


def check(options: argparse.Namespace) -> int:
    """Test whether every page and every row can be read; return 1 if not."""
    errors = maintenance.integrity_errors(default_home() / FILE)
    print("\n".join(errors or [f"{default_home() / FILE}: every page and every row can be read."]))
    if errors:
        print("Recover what can be read with: python -m prune_core store rescue FOLDER")
    return int(bool(errors))


def backup(options: argparse.Namespace) -> None:
    """Copy the store to an empty folder."""
    size = maintenance.backup(Store(), options.folder, options.weights)
    content = "with" if options.weights else "without"
    print(
        f"{options.folder} is a copy of the store {content} weights and logs, {size / 1e6:.1f} MB."
    )
    print(f"To use it, set PRUNESCOPE_HOME={options.folder}")


def rescue(options: argparse.Namespace) -> None:
    """Recover what can be read from a damaged store."""
    for table, (saved, lost) in maintenance.recover(default_home() / FILE, options.folder).items():
        lost_note = f", {lost} could not be read" if lost else ""
        print(f"{table}: {saved} entries recovered{lost_note}")
    print(f"To use it, set PRUNESCOPE_HOME={options.folder}")


def rebuild(options: argparse.Namespace) -> None:
    """Add jobs whose folders are here and that the index lacks."""
    added = plural(maintenance.rebuild(Store()), "job")
    print(f"Added to the index from the folders of results: {added}.")


def compact(options: argparse.Namespace) -> None:
    """Free the disk space of deleted rows."""
    print(f"{maintenance.compact(Store()) / 1e6:.1f} MB freed.")


def events(options: argparse.Namespace) -> None:
    """List who submitted, cancelled, resumed, renamed and deleted."""
    for event in Store().events(options.last).itertuples():
        job = "" if event.job != event.job else f"job {event.job:.0f}"  # NaN: not about a job
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
        print(f"{at}  {event.who:20}  {event.what}  {job}  {event.study}")
