"""Progress as a line that rewrites itself."""

from __future__ import annotations

import sys


class PrintedProgress:
    """A report: one line on stderr, rewritten in a terminal; what would only repeat itself is left out."""

    def __init__(self) -> None:
        self.shown = ""

    def __call__(self, progress: float, message: str) -> None:
        """Write the line anew where it says something else."""
        line = f"{progress:4.0%}  {message}"
        if line != self.shown:
            in_place = sys.stderr.isatty()
            print(
                f"{line}\x1b[K" if in_place else line,
                end="\r" if in_place else "\n",
                file=sys.stderr,
                flush=True,
            )
            self.shown = line

    def end(self) -> None:
        """Leave the last line standing."""
        if self.shown and sys.stderr.isatty():
            print(file=sys.stderr)
