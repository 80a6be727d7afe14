"""Client of the data check, which runs in a child process so that pages import nothing heavy."""

import json
from typing import Any

from ..experiments.experiment import Experiment
from .child_process import ChildProcess

TIMEOUT = 180.0  # seconds


class DataCheck(ChildProcess):
    """The data check of one experiment, running or finished."""

    def __init__(self, experiment: Experiment):
        plan = json.dumps(experiment.to_dict())
        super().__init__("prune_core.experiments.data_check", plan, timeout=TIMEOUT)

    def result(self) -> dict[str, Any]:
        """Return the result of `data_check.inspect_data`, with `error` if the data is unusable."""
        return json.loads(self.output())
