"""The command `prunescope`: without arguments the dashboard, else `python -m prune_core`."""

import os
import sys

from ..paths import ROOT


def main() -> int:
    """Replace this process by the dashboard's server, or run the command in the arguments."""
    if sys.argv[1:]:
        from .arguments import main

        return main(sys.argv[1:])
    os.chdir(ROOT)  # where Streamlit reads its settings and pages find their images
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", "app.py"])
