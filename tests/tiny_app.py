"""The dashboard with a tiny demo study, for the browser test: python tests/tiny_app.py PORT."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from streamlit.web import cli  # noqa: E402

from prune_core.experiments import study  # noqa: E402
from prune_core.experiments.experiment import Experiment  # noqa: E402
from prune_core.measures import MEASURES  # noqa: E402
from prune_core.methods import METHODS  # noqa: E402


def tiny() -> list[Experiment]:
    """Return dense and two methods on few examples, without attacks, whose import is slow."""
    options = {
        "reconstruction": {"examples": 8},
        "drift": {"examples": 16, "neighbors": 3, "umap": False},
        "cost": {"repeats": 3},
    }
    measures = tuple(
        MEASURES[name](**options.get(name, {}))
        for name in ("accuracy", "reconstruction", "drift", "cost")
    )
    methods = [None, METHODS["magnitude"](sparsity=0.5), METHODS["akr"](sparsity=0.5)]
    return [
        Experiment(
            method=method,
            measures=measures,
            calibration_size=8,
            evaluation_size=24,
            device="cpu",
            study=study.DEMO,
        )
        for method in methods
    ]


if __name__ == "__main__":
    study.DEMOS[""] = tiny
    sys.argv = ["streamlit", "run", str(ROOT / "app.py"), "--server.port", sys.argv[1]]
    cli.main()
