"""The commands on the store as a whole: checked, backed up, rescued, compacted, and who did what."""

from __future__ import annotations

import argparse
import time

from ..store import maintenance
from ..store.schema import FILE
from ..store.store import Store, default_home


def check(options: argparse.Namespace) -> int:
    """Whether every page and every row can be read; 1 where not."""
    found = maintenance.integrity_errors(default_home() / FILE)
    print("\n".join(found or [f"{default_home() / FILE}: every page and every row can be read."]))
    if found:
        print("What can be read is saved by: python -m prune_core store rescue FOLDER")
    return int(bool(found))


def backup(options: argparse.Namespace) -> None:
    """Copy the store."""
    size = maintenance.backup(Store(), options.folder, options.weights)
    what = "with" if options.weights else "without"
    print(
        f"{options.folder} holds the store as it is now, {what} weights and logs, {size / 1e6:.1f} MB."
    )
    print(f"Use it by PRUNESCOPE_HOME={options.folder}")


def rescue(options: argparse.Namespace) -> None:
    """Save what can be read."""
    for table, (saved, lost) in maintenance.recover(default_home() / FILE, options.folder).items():
        print(f"{table}: {saved} entries saved" + (f", {lost} could not be read" if lost else ""))
    print(f"Use it by PRUNESCOPE_HOME={options.folder}")


def compact(options: argparse.Namespace) -> None:
    """Give space back."""
    print(f"{maintenance.compact(Store()) / 1e6:.1f} MB given back.")


def events(options: argparse.Namespace) -> None:
    """Who submitted, cancelled, resumed, renamed, deleted."""
    for event in Store().events(options.last).itertuples():
        job = "" if event.job != event.job else f"job {event.job:.0f}"
        print(
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(event.at))}  {event.who:20}  {event.what}  {job}  {event.study}"
        )
