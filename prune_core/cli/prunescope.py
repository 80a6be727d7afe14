"""The command `prunescope`: the dashboard without arguments, `python -m prune_core` with them."""

from __future__ import annotations

import os
import sys

from ..paths import ROOT


def main() -> int:
    """Become the dashboard's server, or do what the arguments say."""
    if sys.argv[1:]:
        from .arguments import main

        return main(sys.argv[1:])
    os.chdir(ROOT)  # where Streamlit looks for its settings and pages for their pictures
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", "app.py"])
