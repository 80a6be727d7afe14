"""Run the data check of an experiment in a child process, so that a page imports nothing heavy."""

from __future__ import annotations

import json
from typing import Any

from ..experiments.experiment import Experiment
from .child_process import ChildProcess

TIMEOUT = 180.0  # seconds


class DataCheck(ChildProcess):
    """The data check of one experiment, running or finished."""

    def __init__(self, experiment: Experiment):
        plan = json.dumps(experiment.to_dict())
        super().__init__("prune_core.experiments.data_check", plan, patience=TIMEOUT)

    def result(self) -> dict[str, Any]:
        """The dictionary of `data_check.understood`; with the key `error` if the data cannot be used."""
        return json.loads(self.output())
