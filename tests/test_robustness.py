"""Paired comparisons of attack outcomes: exact small cases, and words that claim no more than the figures."""

import pandas as pd
import pytest

from prune_core import robustness


def rows(outcomes: str, job: int = 1) -> pd.DataFrame:
    """s(uccess), f(ailed), k(skipped) or e(rror), a letter an example."""
    names = {"s": "success", "f": "failed", "k": "skipped", "e": "error"}
    return pd.DataFrame({"job": job, "recipe": "R", "example": range(len(outcomes)), "outcome": [names[letter] for letter in outcomes]})


def test_success_counts_only_examples_that_both_models_got_right():
    dense, pruned = rows("ssffkkfe"), rows("sfsfsfke")
    found = robustness.success_rate(dense, pruned)
    assert (found.n, found.dense, found.pruned, found.difference) == (4, 0.5, 0.5, 0)
    under = robustness.under_attack(dense, pruned)
    assert under.n == 7 and under.dense == pytest.approx(3 / 7) and under.pruned == pytest.approx(3 / 7)


def test_a_clear_difference_is_named_with_its_test():
    found = robustness.success_rate(rows("f" * 60 + "s" * 40), rows("s" * 30 + "f" * 30 + "s" * 40))
    assert found.p_value < 1e-6 and found.difference == pytest.approx(0.3) and found.low < 0.3 < found.high
    assert robustness.verdict(found).startswith("Attacks succeed on 30 points more (p < 0.001")


def test_no_difference_says_what_would_be_missed():
    same = robustness.success_rate(rows("sf" * 100), rows("sf" * 100))
    assert same.p_value == 1 and same.low < 0 < same.high
    told = robustness.verdict(same)
    assert told.startswith("No detectable change at n = 200") and "points would often be missed" in told
    some = robustness.success_rate(rows("sf" * 100), rows("fs" * 12 + "sf" * 88))
    assert some.missed == pytest.approx(2.8 * (24 / 200 / 200) ** 0.5) and "under 7 points" in robustness.verdict(some)


def test_a_smaller_difference_than_the_detectable_one_is_mostly_missed():
    """The 80% of the definition, by drawing samples whose true difference is just that."""
    import numpy as np

    dice, n, missed = np.random.default_rng(0), 200, 2.8 * (0.12 / 200) ** 0.5
    found = 0
    for _ in range(200):
        gap = dice.choice([1, -1, 0], size=n, p=[(0.12 + missed) / 2, (0.12 - missed) / 2, 0.88])
        dense = "".join("s" if value < 0 else "f" for value in gap)
        pruned = "".join("s" if value > 0 else "f" for value in gap)
        found += robustness.success_rate(rows(dense), rows(pruned)).p_value < 0.05
    assert 0.65 < found / 200 < 0.9  # the exact test is a little shy


def test_nothing_to_compare_is_said():
    assert robustness.verdict(robustness.success_rate(rows("kk"), rows("ss"))) == "No sentence to compare on"


def test_table_has_a_row_a_model():
    found = robustness.table(pd.concat([rows("sf", 1), rows("ss", 2), rows("ff", 3)]), 1, [2, 3])
    assert found["job"].tolist() == [2, 3] and found["difference"].tolist() == [0.5, -0.5]
    assert found["under_attack_difference"].tolist() == [-0.5, 0.5] and found["verdict"].str.contains("No detectable").all()
