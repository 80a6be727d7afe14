"""The Pareto front, its knee and the best model within limits: exact small cases."""

import pandas as pd
import pytest

from prune_core.analysis.compared_models import ComparedModel
from prune_core.analysis.tradeoff import Limit, choice_sentence, choose, knee, pareto_front

MODELS = [ComparedModel(job, f"M{job}", "akr", sparsity=job / 10) for job in (1, 2, 3)]
LOSS, SPEED = Limit("accuracy loss", 0.01, "points"), Limit("speed", 2.0, "times")


def table(**columns: list[float]) -> pd.DataFrame:
    names = {"loss": LOSS.words, "speed": SPEED.words, "left": "left"}
    return pd.DataFrame({names[name]: values for name, values in columns.items()}, index=[1, 2, 3])


def test_pareto_front_follows_directions() -> None:
    points = [(1.0, 1.0), (2.0, 2.0), (3.0, 1.0), (2.0, 1.0)]
    assert pareto_front(points, "higher", "higher") == [1, 2]
    assert pareto_front(points, "lower", "lower") == [0]


def test_knee_is_independent_of_units() -> None:
    points = [(0.0, 1.0), (0.5, 0.9), (0.8, 0.8), (1.0, 0.0)]
    assert knee(points, [0, 1, 2, 3]) == 2
    assert knee([(x * 1e6, y / 1e3) for x, y in points], [0, 1, 2, 3]) == 2
    assert knee(points, [0, 3]) is None and knee([(0, 0), (1, 0), (2, 0)], [0, 1, 2]) is None


def test_smallest_model_within_limits_is_chosen() -> None:
    choice = choose(MODELS, table(loss=[0.0, 0.01, 0.02], left=[0.9, 0.5, 0.3]), [LOSS])
    assert choice is not None
    assert choice.model.job == 2
    assert choice.n_within == 2
    assert "**M2**" in choice_sentence(choice)
    assert "the only model" in choice_sentence(
        choose(MODELS, table(loss=[0.02, 0.01, 0.02], left=[0.9, 0.5, 0.3]), [LOSS])
    )


def test_closest_model_is_chosen_if_none_is_within_limits() -> None:
    choice = choose(
        MODELS,
        table(loss=[0.0, 0.016, 0.05], speed=[1.5, 1.8, 2.5], left=[0.9, 0.5, 0.3]),
        [LOSS, SPEED],
    )
    # one violated limit, by a quarter
    assert choice is not None
    assert choice.model.job == 1
    assert choice.missed == {SPEED: pytest.approx(0.5)}
    assert (
        choice_sentence(choice)
        == "No model is within all limits. **M1** is closest: speed 0.50 below the limit."
    )


def test_models_with_missing_values_are_not_chosen() -> None:
    missing = float("nan")
    choice = choose(MODELS, table(loss=[missing, 0.0, missing], left=[0.1, 0.9, 0.1]), [LOSS])
    assert choice is not None and choice.model.job == 2
    assert "No pruned model has been measured" in choice_sentence(
        choose(MODELS, table(loss=[missing] * 3, left=[0.1] * 3), [LOSS])
    )
