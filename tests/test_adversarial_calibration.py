"""Calibration on adversarial examples: which texts and columns it uses, and data leakage."""

import pandas as pd
import pytest

from prune_core import PruneError
from prune_core.data.examples import DataSource
from prune_core.experiments import adversarial_calibration
from prune_core.store.store import Store

ROWS = pd.DataFrame(
    {
        "outcome": ["success", "failed", "success", "skipped"],
        "text": ["a", "b", "c", "d"],
        "perturbed": ["A", "B", "C", None],
        "label": [0, 1, 1, 0],
    }
)


@pytest.fixture
def store(tmp_path) -> Store:
    """A store in which job 1 has attacked train.csv and job 2 has attacked nothing."""
    store = Store(tmp_path)
    for key in ("one", "two"):
        plan = {
            "source": {"task": "train.csv"},
            "method": None,
            "seed": 0,
            "measures": [],
            "checkpoint": "demo",
        }
        store.submit(plan, "Dense", key, "S", "cpu")
    store.add_rows(
        1,
        {"attack": pd.DataFrame([{"recipe": "X"}]), "attack_example": ROWS},
        "attack",
        seconds=1.0,
        facts={},
    )
    return store


def test_adversarial_examples_become_a_file_with_the_columns_of_the_source(
    store: Store,
) -> None:
    adversarial = adversarial_calibration.resolve(
        store, DataSource("mine.csv", text="review", label="stars", calibration="job:1")
    )
    assert pd.read_csv(adversarial.calibration).to_dict("list") == {
        "review": ["A", "C"],
        "stars": [0, 1],
    }
    both = adversarial_calibration.resolve(store, DataSource("mine.csv", calibration="job:1+clean"))
    assert pd.read_csv(both.calibration).to_dict("list") == {
        "text": ["A", "C", "a", "c"],
        "label": [0, 1, 0, 1],
    }
    assert (
        adversarial_calibration.resolve(store, DataSource("mine.csv", calibration="job:1+clean"))
        == both
    )


def test_other_sources_are_unchanged_and_jobs_without_attacks_are_refused(store: Store) -> None:
    source = DataSource("mine.csv", calibration="own.csv")
    assert adversarial_calibration.resolve(store, source) == source
    assert not adversarial_calibration.check_leakage(store, source)
    with pytest.raises(PruneError, match="choose a job with the measure attack"):
        adversarial_calibration.resolve(store, DataSource(calibration="job:2"))


def test_leakage_is_reported_if_the_job_attacked_the_evaluation_data(store: Store) -> None:
    assert adversarial_calibration.check_leakage(
        store, DataSource("train.csv", calibration="job:1+clean")
    )
    assert not adversarial_calibration.check_leakage(
        store, DataSource("validation.csv", calibration="job:1")
    )
