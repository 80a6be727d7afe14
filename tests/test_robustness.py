"""Paired comparisons of attack outcomes: exact small cases, and words that claim no more than the figures."""

import pandas as pd
import pytest

from prune_core.analysis import attack_success


def rows(outcomes: str, job: int = 1) -> pd.DataFrame:
    """s(uccess), f(ailed), k(skipped) or e(rror), a letter an example."""
    names = {"s": "success", "f": "failed", "k": "skipped", "e": "error"}
    made = {
        "example": range(len(outcomes)),
        "text": "A sentence.",
        "outcome": [names[letter] for letter in outcomes],
    }
    return pd.DataFrame({"job": job, "recipe": "R", **made, "share_changed": 0.1, "queries": 9})


def test_success_counts_only_examples_that_both_models_got_right():
    dense, pruned = rows("ssffkkfe"), rows("sfsfsfke")
    found = attack_success.success_rate(dense, pruned)
    assert (found.n, found.dense, found.pruned, found.difference) == (4, 0.5, 0.5, 0)
    under = attack_success.under_attack(dense, pruned)
    assert (
        under.n == 7
        and under.dense == pytest.approx(3 / 7)
        and under.pruned == pytest.approx(3 / 7)
    )


def test_a_clear_difference_is_named_with_its_test():
    found = attack_success.success_rate(
        rows("f" * 60 + "s" * 40), rows("s" * 30 + "f" * 30 + "s" * 40)
    )
    assert (
        found.p_value < 1e-6
        and found.difference == pytest.approx(0.3)
        and found.low < 0.3 < found.high
    )
    assert attack_success.describe_difference(found).startswith(
        "Attacks succeed on 30 points more (p < 0.001"
    )


def test_no_difference_says_what_would_be_missed():
    same = attack_success.success_rate(rows("sf" * 100), rows("sf" * 100))
    assert same.p_value == 1 and same.low < 0 < same.high
    told = attack_success.describe_difference(same)
    assert (
        told.startswith("No detectable change at n = 200")
        and "points would often be missed" in told
    )
    some = attack_success.success_rate(rows("sf" * 100), rows("fs" * 12 + "sf" * 88))
    assert some.missed == pytest.approx(
        2.8 * (24 / 200 / 200) ** 0.5
    ) and "under 7 points" in attack_success.describe_difference(some)


def test_a_smaller_difference_than_the_detectable_one_is_mostly_missed():
    """The 80% of the definition, by drawing samples whose true difference is just that."""
    import numpy as np

    dice, n, missed = np.random.default_rng(0), 200, 2.8 * (0.12 / 200) ** 0.5
    found = 0
    for _ in range(200):
        gap = dice.choice([1, -1, 0], size=n, p=[(0.12 + missed) / 2, (0.12 - missed) / 2, 0.88])
        dense = "".join("s" if value < 0 else "f" for value in gap)
        pruned = "".join("s" if value > 0 else "f" for value in gap)
        found += attack_success.success_rate(rows(dense), rows(pruned)).p_value < 0.05
    assert 0.65 < found / 200 < 0.9  # the exact test is a little shy


def test_nothing_to_compare_is_said():
    assert (
        attack_success.describe_difference(attack_success.success_rate(rows("kk"), rows("ss")))
        == "No sentence to compare on"
    )


def test_table_has_a_row_a_model():
    found = attack_success.table(
        pd.concat([rows("sf", 1), rows("ss", 2), rows("ff", 3)]), 1, [2, 3]
    )
    assert found["job"].tolist() == [2, 3] and found["difference"].tolist() == [0.5, -0.5]
    assert (
        found["under_attack_difference"].tolist() == [-0.5, 0.5]
        and found["verdict"].str.contains("No detectable").all()
    )


def test_the_same_number_in_another_sample_is_another_sentence():
    other = rows("ss").assign(text=["A sentence.", "Of another sample."])
    assert attack_success.success_rate(rows("ss"), other).n == 1


def test_rates_count_a_group_at_a_time():
    found = attack_success.rates(pd.concat([rows("ssfk", 1), rows("fffe", 2)])).set_index("job")
    assert found["success_rate"].tolist() == [pytest.approx(2 / 3), 0.0] and found[
        "under_attack"
    ].tolist() == [0.25, 1.0]
    assert found.loc[2, "success_high"] == pytest.approx(0.5615, abs=1e-4), "Wilson, 0 of 3"


def test_slices_are_thirds_that_keep_equal_values_together():
    words = [1, 2, 2, 4, 5, 6]
    texts, sure = (
        [" ".join("w" * n) for n in words],
        [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5], [0.05, 0.95]],
    )
    dense = rows("ssffsk", 1).assign(
        text=texts, label=[0, 1, 0, 1, 0, 1], original_probabilities=sure
    )
    both, names = pd.concat([dense, dense.assign(job=2, outcome="failed")]), ["no", "yes"]
    found = attack_success.slices(both, [1], names)
    own = found[found["job"] == 1]
    assert own["slice"].tolist() == [
        "short, ≤ 2",
        "middle, ≤ 4",
        "long, > 4",
        "no",
        "yes",
        "low, ≤ 60.0%",
        "middle, ≤ 80.0%",
        "high, > 80.0%",
    ]
    assert own["n"].tolist() == [3, 1, 2, 3, 3, 2, 2, 2]
    assert (
        own["succeeded"].tolist() == [2, 0, 1, 2, 1, 1, 1, 1]
        and not found.loc[found["job"] == 2, "succeeded"].any()
    )
    assert "Confidence of dense" not in set(attack_success.slices(dense, (), names)["kind"])


def test_a_success_that_is_not_valid_counts_as_held():
    made = rows("sssssf").assign(
        similarity=[0.9, 0.7, 0.9, 0.9, 0.7, float("nan")],
        meaning=["", "", "“not” was removed", "", "", ""],
    )
    made["share_changed"] = [0.1, 0.1, 0.1, 0.5, 0.1, 0.1]
    made.loc[4, "recipe"] = "Letters"
    found = attack_success.invalid_examples(made, 0.8, 0.4, spared=["Letters"])
    assert found.sum().to_dict() == {"unlike": 1, "meaning": 1, "many": 1}
    held = attack_success.only_valid(made, ~found.any(axis=1))
    assert held["outcome"].tolist() == [
        "success",
        "failed",
        "failed",
        "failed",
        "success",
        "failed",
    ]
