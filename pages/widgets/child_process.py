"""Commands that a page starts in a child process: start one, show its progress, then its output."""

from collections.abc import Callable

import streamlit as st

from pages.widgets import ui
from prune_core.processes.child_process import ChildProcess


def start(key: str, *arguments: str, timeout: float) -> None:
    """Run `python -m prune_core ARGUMENTS` as the session's process `key` and rerun the page.

    It is killed after `timeout` seconds.
    """
    st.session_state[key] = ChildProcess("prune_core", *arguments, timeout=timeout)
    st.rerun()


def is_running(key: str) -> bool:
    """Whether the session's process `key` has started and not yet ended."""
    process = st.session_state.get(key)
    return process is not None and not process.is_over


def show(key: str, message: str, done: Callable[[str], object], *, once: bool = False) -> None:
    """Show the progress of the process `key`, if there is one; pass its output to `done`.

    With `once`, output and error are shown only on the first run after its end.
    """
    process = st.session_state.get(key)
    if process:
        running = not process.is_over
        if once and not running:
            del st.session_state[key]
        st.fragment(_watch, run_every=1.0 if running else None)(
            process, running, message, done=done
        )


def _watch(
    process: ChildProcess, was_running: bool, message: str, *, done: Callable[[str], object]
) -> None:
    if not process.is_over:
        percentage, _, stage = process.latest.partition("%")
        if percentage.isdigit():
            st.progress(int(percentage) / 100, text=stage.strip() or message)
        else:
            st.info(message, icon=":material/hourglass_top:")
    elif was_running:
        st.rerun()
    elif (output := ui.run_action(process.output)) is not None:
        done(output)
