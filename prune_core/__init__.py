"""PruneScope's core: prune a fine-tuned encoder and measure what it cost. This file imports nothing heavy."""

__version__ = "0.1.0"


class PruneError(Exception):
    """Something the user can mend; its message is shown to the user as it is."""


class Cancelled(Exception):
    """Raised by a report when the user asked for the work to stop."""
