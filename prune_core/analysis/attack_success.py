"""Attack success from rows of `attack_example`: rates, paired tests, slices and validity.

Pruning changes which examples a model classifies correctly, so success rates are compared over the
examples that both models classify correctly.
"""

from collections.abc import Collection, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..formatting import p_value, plural
from ..statistics import mcnemar, nested_bootstrap, wilson

ATTACKED = ("success", "failed")  # outcomes of correctly classified examples
RESAMPLES = 2000
# standard errors: such a difference is detected in 80 of 100 samples at the 5% level
POWER = 1.96 + 0.84


def summarize(outcomes: Sequence[Any]) -> dict[str, Any]:
    """Return counts, rates with 95% Wilson intervals and means; a rate without examples is None."""
    counts = {
        name: sum(outcome.outcome == name for outcome in outcomes)
        for name in ("success", "failed", "skipped", "error")
    }
    attacked = counts["success"] + counts["failed"]
    evaluated = attacked + counts["skipped"]  # without examples whose attack raised an error
    return {
        "n": len(outcomes),
        **_rate("accuracy", attacked, evaluated),
        **_rate("under_attack", counts["failed"], evaluated),
        **_rate("success", counts["success"], attacked, title="success_rate"),
        "attacked": attacked,
        "succeeded": counts["success"],
        "failed": counts["failed"],
        "skipped": counts["skipped"],
        "errored": counts["error"],
        "words_changed": _mean(
            [outcome.share_changed for outcome in outcomes if outcome.outcome == "success"]
        ),
        "queries": _mean([outcome.queries for outcome in outcomes if outcome.outcome in ATTACKED]),
    }


def _rate(name: str, hits: int, total: int, title: str = "") -> dict[str, float | None]:
    """Return a rate and its 95% interval: name, name_low, name_high."""
    low, high = wilson(hits, total) if total else (None, None)
    return {
        title or name: hits / total if total else None,
        f"{name}_low": low,
        f"{name}_high": high,
    }


def _mean(values: Sequence[Any]) -> float | None:
    return sum(values) / len(values) if values else None


def rates(examples: pd.DataFrame, by: Sequence[str] = ("recipe", "job")) -> pd.DataFrame:
    """Return `summarize` for each group, in the order of the rows."""
    return pd.DataFrame(
        [
            dict(zip(by, key, strict=True)) | summarize(list(group.itertuples()))
            for key, group in examples.groupby(list(by), sort=False)
        ]
    )


class PairedRates(NamedTuple):
    """A rate of the dense and of a pruned model on the same `n` examples."""

    n: int
    dense: float
    pruned: float
    low: float  # 95% bootstrap interval of the difference
    high: float
    p_value: float  # McNemar's exact test
    missed: float  # a smaller difference is detected in fewer than 80 of 100 samples

    @property
    def difference(self) -> float:
        """Pruned minus dense."""
        return self.pruned - self.dense


def successes(examples: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with an adversarial text."""
    return examples[examples["outcome"] == "success"]


def under_attack(dense: pd.DataFrame, pruned: pd.DataFrame) -> PairedRates:
    """Compare accuracy under attack over all examples; rows of one recipe, one table per model."""
    both = join_dense(dense, pruned)
    return _compare(both["outcome_dense"] == "failed", both["outcome"] == "failed", both["seed"])


def success_rate(dense: pd.DataFrame, pruned: pd.DataFrame) -> PairedRates:
    """Compare attack success over the examples that both models classify correctly."""
    both = join_dense(dense, pruned)
    both = both[both["outcome"].isin(ATTACKED) & both["outcome_dense"].isin(ATTACKED)]
    return _compare(both["outcome_dense"] == "success", both["outcome"] == "success", both["seed"])


def join_dense(dense: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    """Join the outcomes of both models by example, text and seed, without errors.

    The text is a key because numbers mean different texts in different samples.
    """
    keys = ["example", "text", "seed"]
    left, right = (
        (rows if "seed" in rows else rows.assign(seed=0))[[*keys, "outcome"]]
        for rows in (pruned, dense)
    )
    if not set(left["seed"]) & set(right["seed"]):
        # the dense model was attacked with another seed, on the same examples
        keys, right = keys[:2], right.drop(columns="seed")
    both = left.merge(right, on=keys, suffixes=("", "_dense"))
    return both[(both["outcome"] != "error") & (both["outcome_dense"] != "error")]


def _compare(dense: pd.Series, pruned: pd.Series, seeds: pd.Series) -> PairedRates:
    n = len(dense)
    if not n:
        return PairedRates(0, *[float("nan")] * 6)
    change = pruned.to_numpy(float) - dense.to_numpy(float)
    if seeds.nunique() > 1:
        low, high, p_value = nested_bootstrap(
            [change[(seeds == seed).to_numpy()] for seed in seeds.unique()], RESAMPLES
        )
        return PairedRates(
            n,
            float(dense.mean()),
            float(pruned.mean()),
            low=low,
            high=high,
            p_value=p_value,
            missed=min(1.0, POWER * (high - low) / (2 * 1.96)),
        )
    more, fewer = int((change > 0).sum()), int((change < 0).sum())
    if more + fewer:
        from scipy.stats import bootstrap

        result = bootstrap(
            (change,),
            np.mean,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        low, high = map(float, result.confidence_interval)
    else:  # no example differs: the bootstrap would give 0 to 0, as if n were infinite
        high = wilson(0, n)[1]
        low = -high
    return PairedRates(
        n,
        float(dense.mean()),
        float(pruned.mean()),
        low=low,
        high=high,
        p_value=mcnemar(more, fewer),
        # Connor (1987): the standard error of a paired difference is √(ψ/n), ψ the discordant
        # fraction
        missed=min(1.0, POWER * sqrt(max(more + fewer, 1) / n / n)),
    )


def describe_difference(versus: PairedRates) -> str:
    """Describe a difference in words, without claiming more than its test shows."""
    if not versus.n:
        return "No example to compare"
    if versus.p_value < 0.05:
        direction = "higher" if versus.difference > 0 else "lower"
        points = plural(round(100 * abs(versus.difference)), "point")
        return f"Attack success is {points} {direction} ({p_value(versus.p_value)})"
    return (
        f"No detectable change at n = {versus.n}; differences below {100 * versus.missed:.0f} "
        "points are often missed"
    )


def table(examples: pd.DataFrame, dense: int, jobs: Sequence[int]) -> pd.DataFrame:
    """Compare each pruned job with dense on one recipe's rows: success rate, accuracy, verdict."""

    def rows_of(job: int) -> pd.DataFrame:
        return examples[examples["job"] == job]

    records = []
    for job in jobs:
        rate = success_rate(rows_of(dense), rows_of(job))
        accuracy = under_attack(rows_of(dense), rows_of(job))
        records.append(
            {
                "job": job,
                **rate._asdict(),
                "difference": rate.difference,
                "under_attack": accuracy.pruned,
                "under_attack_difference": accuracy.difference,
                "under_attack_p": accuracy.p_value,
                "verdict": describe_difference(rate),
            }
        )
    return pd.DataFrame(records)


def slices(examples: pd.DataFrame, dense: Collection[int], labels: Sequence[str]) -> pd.DataFrame:
    """Return `summarize` per job and slice: thirds by length, labels, thirds by dense confidence.

    Takes one recipe's rows; returns columns `kind`, `slice`, `job`, slices in their order. An
    example that none of the dense model's jobs attacked has no confidence.
    """
    keys = ["example", "text"]
    confident = (
        examples[examples["job"].isin(dense) & examples["original_probabilities"].notna()]
        .assign(confidence=lambda attacked: attacked["original_probabilities"].map(max))
        .drop_duplicates(keys)
    )
    examples = examples.merge(confident[[*keys, "confidence"]], on=keys, how="left")
    kinds = {
        "Length in words": thirds(
            examples["text"].str.split().str.len(), ("short", "middle", "long"), "{:.0f}"
        ),
        "Label": pd.Categorical.from_codes(examples["label"], categories=list(labels)),
        "Confidence of dense": thirds(
            100 * examples["confidence"], ("low", "middle", "high"), "{:.1f}%"
        ),
    }
    tables = [
        rates(
            examples.assign(kind=kind, slice=names).dropna(subset="slice"), ("kind", "slice", "job")
        )
        for kind, names in kinds.items()
    ]
    order = [str(name) for names in kinds.values() for name in names.categories]
    return pd.concat(tables).sort_values(
        "slice", key=lambda names: names.map(order.index), kind="stable", ignore_index=True
    )


def thirds(values: pd.Series, names: Sequence[str], show: str) -> pd.Categorical:
    """Divide values into thirds; equal values stay together, so sizes differ. NaN is in none."""
    known = values.dropna()
    edges = np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf") if len(known) else [0.0, 0.0]
    low, high = map(show.format, edges)
    return pd.Categorical.from_codes(
        np.where(values.isna(), -1, np.searchsorted(edges, values, side="left")),
        [f"{names[0]}, ≤ {low}", f"{names[1]}, ≤ {high}", f"{names[2]}, > {high}"],
    )


def invalid_examples(
    examples: pd.DataFrame, similarity: float, changed: float, spared: Collection[str] = ()
) -> pd.DataFrame:
    """Return the failed checks of each text as booleans; a text without any is valid.

    `unlike`: similarity too low (not checked for the recipes in `spared`), `meaning`: flagged,
    `many`: too large a fraction of words changed.
    """
    return pd.DataFrame(
        {
            "unlike": (examples["similarity"] < similarity) & ~examples["recipe"].isin(spared),
            "meaning": examples["meaning"] != "",
            "many": examples["share_changed"] > changed,
        }
    )


def only_valid(examples: pd.DataFrame, valid: pd.Series) -> pd.DataFrame:
    """Return the rows with invalid successes counted as failed."""
    return examples.assign(
        outcome=examples["outcome"].mask((examples["outcome"] == "success") & ~valid, "failed")
    )
