"""Progress on stderr, rewritten in place in a terminal."""

import sys


class PrintedProgress:
    """A report callback that prints one line, in a terminal in place; repetitions are left out."""

    def __init__(self) -> None:
        self.shown = ""

    def __call__(self, progress: float, message: str) -> None:
        """Print the line if it has changed."""
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
        """Keep the last line in the terminal."""
        if self.shown and sys.stderr.isatty():
            print(file=sys.stderr)
