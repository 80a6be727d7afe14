"""Paired comparisons of attack outcomes: exact small cases and their descriptions."""

import pandas as pd
import pytest

from prune_core.analysis import attack_success


def rows(outcomes: str, job: int = 1) -> pd.DataFrame:
    """s(uccess), f(ailed), k(skipped) or e(rror), one letter per example."""
    names = {"s": "success", "f": "failed", "k": "skipped", "e": "error"}
    outcomes_table = {
        "example": range(len(outcomes)),
        "text": "A sentence.",
        "outcome": [names[letter] for letter in outcomes],
    }
    return pd.DataFrame(
        {"job": job, "recipe": "R", **outcomes_table, "share_changed": 0.1, "queries": 9}
    )


def test_success_counts_commonly_correct_examples():
    dense, pruned = rows("ssffkkfe"), rows("sfsfsfke")
    success = attack_success.success_rate(dense, pruned)
    assert (success.n, success.dense, success.pruned, success.difference) == (4, 0.5, 0.5, 0)
    accuracy = attack_success.under_attack(dense, pruned)
    assert accuracy.n == 7
    assert accuracy.dense == pytest.approx(3 / 7)
    assert accuracy.pruned == pytest.approx(3 / 7)


def test_significant_difference_is_described():
    difference = attack_success.success_rate(
        rows("f" * 60 + "s" * 40), rows("s" * 30 + "f" * 30 + "s" * 40)
    )
    assert difference.p_value < 1e-6
    assert difference.difference == pytest.approx(0.3)
    assert difference.low < 0.3 < difference.high
    assert attack_success.describe_difference(difference).startswith(
        "Attack success is 30 points higher (p < 0.001"
    )


def test_insignificant_difference_states_detectable_size():
    same = attack_success.success_rate(rows("sf" * 100), rows("sf" * 100))
    assert same.p_value == 1 and same.low < 0 < same.high
    sentence = attack_success.describe_difference(same)
    assert sentence.startswith("No detectable change at n = 200")
    assert "points are often missed" in sentence
    different = attack_success.success_rate(rows("sf" * 100), rows("fs" * 12 + "sf" * 88))
    assert different.missed == pytest.approx(2.8 * (24 / 200 / 200) ** 0.5)
    assert "below 7 points" in attack_success.describe_difference(different)


def test_detectable_difference_has_eighty_percent_power():
    """Samples with exactly this true difference are detected in about 80%."""
    import numpy as np

    rng, n, missed = np.random.default_rng(0), 200, 2.8 * (0.12 / 200) ** 0.5
    detected = 0
    for _ in range(200):
        change = rng.choice([1, -1, 0], size=n, p=[(0.12 + missed) / 2, (0.12 - missed) / 2, 0.88])
        dense = "".join("s" if value < 0 else "f" for value in change)
        pruned = "".join("s" if value > 0 else "f" for value in change)
        detected += attack_success.success_rate(rows(dense), rows(pruned)).p_value < 0.05
    assert 0.65 < detected / 200 < 0.9  # the exact test is slightly conservative


def test_empty_comparison_is_described():
    assert (
        attack_success.describe_difference(attack_success.success_rate(rows("kk"), rows("ss")))
        == "No example to compare"
    )


def test_table_has_one_row_per_model():
    table = attack_success.table(
        pd.concat([rows("sf", 1), rows("ss", 2), rows("ff", 3)]), 1, [2, 3]
    )
    assert table["job"].tolist() == [2, 3] and table["difference"].tolist() == [0.5, -0.5]
    assert table["under_attack_difference"].tolist() == [-0.5, 0.5]
    assert table["verdict"].str.contains("No detectable").all()


def test_examples_are_paired_by_text():
    other = rows("ss").assign(text=["A sentence.", "Of another sample."])
    assert attack_success.success_rate(rows("ss"), other).n == 1


def test_rates_by_group():
    rates = attack_success.rates(pd.concat([rows("ssfk", 1), rows("fffe", 2)])).set_index("job")
    assert rates["success_rate"].tolist() == [pytest.approx(2 / 3), 0.0]
    assert rates["under_attack"].tolist() == [0.25, 1.0]
    assert rates.loc[2, "success_high"] == pytest.approx(0.5615, abs=1e-4), "Wilson, 0 of 3"


def test_slices_keep_equal_values_together():
    words = [1, 2, 2, 4, 5, 6]
    texts, probabilities = (
        [" ".join("w" * n) for n in words],
        [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5], [0.05, 0.95]],
    )
    dense = rows("ssffsk", 1).assign(
        text=texts, label=[0, 1, 0, 1, 0, 1], original_probabilities=probabilities
    )
    both, names = pd.concat([dense, dense.assign(job=2, outcome="failed")]), ["no", "yes"]
    slices = attack_success.slices(both, [1], names)
    dense_rows = slices[slices["job"] == 1]
    assert dense_rows["slice"].tolist() == [
        "short, ≤ 2",
        "middle, ≤ 4",
        "long, > 4",
        "no",
        "yes",
        "low, ≤ 60.0%",
        "middle, ≤ 80.0%",
        "high, > 80.0%",
    ]
    assert dense_rows["n"].tolist() == [3, 1, 2, 3, 3, 2, 2, 2]
    assert dense_rows["succeeded"].tolist() == [2, 0, 1, 2, 1, 1, 1, 1]
    assert not slices.loc[slices["job"] == 2, "succeeded"].any()
    assert "Confidence of dense" not in set(attack_success.slices(dense, (), names)["kind"])


def test_invalid_successes_count_as_failed():
    outcomes_table = rows("sssssf").assign(
        similarity=[0.9, 0.7, 0.9, 0.9, 0.7, float("nan")],
        meaning=["", "", "“not” was removed", "", "", ""],
    )
    outcomes_table["share_changed"] = [0.1, 0.1, 0.1, 0.5, 0.1, 0.1]
    outcomes_table.loc[4, "recipe"] = "Letters"
    invalid = attack_success.invalid_examples(outcomes_table, 0.8, 0.4, spared=["Letters"])
    assert invalid.sum().to_dict() == {"unlike": 1, "meaning": 1, "many": 1}
    valid_only = attack_success.only_valid(outcomes_table, ~invalid.any(axis=1))
    assert valid_only["outcome"].tolist() == [
        "success",
        "failed",
        "failed",
        "failed",
        "success",
        "failed",
    ]
