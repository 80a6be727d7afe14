"""Another order of labels is offered where the dense model's answers speak for it, and nowhere else."""

import numpy as np
import pandas as pd
import pytest

from prune_core.analysis.label_order import better_order
from prune_core.data.labels import told


def rows(right: list[int], said: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"label": right, "dense": said})


def facts(names: list[str], **more) -> dict:
    return {"kind": "classification", "label_names": names, "labels": {str(i): i for i in range(len(names))}, **more}


def answers(order: list[int], accuracy: float, n: int = 200) -> pd.DataFrame:
    """What a model of that accuracy says whose labels are in that order."""
    dice = np.random.default_rng(0)
    right = dice.integers(len(order), size=n)
    said = np.where(dice.random(n) < accuracy, np.array(order)[right], dice.integers(len(order), size=n))
    return rows(right.tolist(), said.tolist())


@pytest.mark.parametrize("order", [[1, 0], [1, 2, 0], [2, 0, 1], [3, 2, 1, 0]])
def test_the_order_of_a_model_that_counts_otherwise(order: list[int]) -> None:
    names = [f"LABEL_{i}" for i in range(len(order))]
    found = better_order(answers(order, 0.9), facts(names))
    assert found is not None and told(found.labels) == {str(i): names[label] for i, label in enumerate(order)}
    assert "no better than chance" in found.sentence and "no names to go by" in found.sentence


@pytest.mark.parametrize(
    "case",
    [
        (answers([0, 1], 0.9), facts(["LABEL_0", "LABEL_1"])),  # as it is counted
        (answers([0, 1], 0.0), facts(["LABEL_0", "LABEL_1"])),  # a model that guesses
        (answers([1, 0], 0.9, n=4), facts(["LABEL_0", "LABEL_1"])),  # too few to say
        (rows([1] * 90 + [0] * 10, [0] * 100), facts(["LABEL_0", "LABEL_1"])),  # always the same answer
        (answers([1, 0], 0.9), facts(["LABEL_0", "LABEL_1"], kind="multilabel")),
        (rows([], []), facts(["LABEL_0", "LABEL_1"])),
        (answers([0, 2, 1], 0.9), facts(["a", "b", "c"], labels=None)),  # of a study from before values were kept
    ],
)
def test_nothing_is_offered_without_reason(case: tuple) -> None:
    assert better_order(*case) is None
