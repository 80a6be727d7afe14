"""What saved attack outcomes say: rates with intervals, dense and pruned paired, weak spots, and successes that are valid.

From rows of `attack_example` alone. Pruning moves the set of examples that a model gets right, so success rates are compared
over those that both get right. Knows nothing of models or of textattack.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..formatting import p_value, plural
from ..statistics import mcnemar, nested_bootstrap, wilson

ATTACKED = ("success", "failed")  # outcomes of examples that the model got right
RESAMPLES = 2000
POWER = (
    1.96 + 0.84
)  # standard errors: a difference of so many is found in 80 of 100 samples at the 5% level


def summarize(outcomes: Sequence[Any]) -> dict[str, Any]:
    """Counts, shares with 95% Wilson intervals, and means, of rows of `attack_example`; a share of nothing is None."""
    count = {
        kind: sum(outcome.outcome == kind for outcome in outcomes)
        for kind in ("success", "failed", "skipped", "error")
    }
    attacked = count["success"] + count["failed"]
    judged = attacked + count["skipped"]  # an example that raised says nothing of the model
    tried = [outcome for outcome in outcomes if outcome.outcome in ("success", "failed")]
    changed = [outcome.share_changed for outcome in tried if outcome.outcome == "success"]
    return {
        "n": len(outcomes),
        **_share("accuracy", attacked, judged),
        **_share("under_attack", count["failed"], judged),
        **_share("success", count["success"], attacked, title="success_rate"),
        "attacked": attacked,
        "succeeded": count["success"],
        "failed": count["failed"],
        "skipped": count["skipped"],
        "errored": count["error"],
        "words_changed": _mean(changed),
        "queries": _mean([outcome.queries for outcome in tried]),
    }


def _share(name: str, hits: int, of: int, title: str = "") -> dict[str, float | None]:
    """The share and its 95% interval: name, name_low, name_high."""
    low, high = wilson(hits, of) if of else (None, None)
    return {title or name: hits / of if of else None, f"{name}_low": low, f"{name}_high": high}


def _mean(values: Sequence[Any]) -> float | None:
    return sum(values) / len(values) if values else None


def rates(examples: pd.DataFrame, by: Sequence[str] = ("recipe", "job")) -> pd.DataFrame:
    """A `summary` a group, groups in the rows' order."""
    groups = examples.groupby(list(by), sort=False)
    return pd.DataFrame(
        [dict(zip(by, key, strict=True)) | summarize(list(own.itertuples())) for key, own in groups]
    )


class PairedRates(NamedTuple):
    """A share on the same `n` examples for dense and for a pruned model; differences are pruned minus dense."""

    n: int
    dense: float
    pruned: float
    low: float  # 95% bootstrap interval of the difference
    high: float
    p_value: float  # McNemar's exact test
    missed: float  # a smaller difference would be found in less than 80 of 100 such samples

    @property
    def difference(self) -> float:
        """Pruned minus dense."""
        return self.pruned - self.dense


def successes(examples: pd.DataFrame) -> pd.DataFrame:
    """The rows of `attack_example` that hold an adversarial text."""
    return examples[examples["outcome"] == "success"]


def under_attack(dense: pd.DataFrame, pruned: pd.DataFrame) -> PairedRates:
    """Accuracy under attack over all examples; rows of `attack_example` of one recipe, a model each."""
    both = join_dense(dense, pruned)
    return _versus(both["outcome_dense"] == "failed", both["outcome"] == "failed", both["seed"])


def success_rate(dense: pd.DataFrame, pruned: pd.DataFrame) -> PairedRates:
    """Attack success over the examples that both models got right before the attack."""
    both = join_dense(dense, pruned)
    both = both[both["outcome"].isin(ATTACKED) & both["outcome_dense"].isin(ATTACKED)]
    return _versus(both["outcome_dense"] == "success", both["outcome"] == "success", both["seed"])


def join_dense(dense: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    """Outcomes of the examples on which neither search broke; in another sample the same number is another text. Several seeds of a
    model are paired with the same seeds of the other."""
    keys = ["example", "text", "seed"]
    sides = [
        rows[[*keys, "outcome"]] if "seed" in rows else rows[[*keys[:2], "outcome"]].assign(seed=0)
        for rows in (pruned, dense)
    ]
    if not set(sides[0]["seed"]) & set(sides[1]["seed"]):
        keys, sides = (
            keys[:2],
            [sides[0], sides[1].drop(columns="seed")],
        )  # another seed's dense model, on the same sentences
    both = sides[0].merge(sides[1], on=keys, suffixes=("", "_dense"))
    return both[(both["outcome"] != "error") & (both["outcome_dense"] != "error")]


def _versus(dense: pd.Series, pruned: pd.Series, seeds: pd.Series) -> PairedRates:
    n = len(dense)
    if not n:
        return PairedRates(0, *[float("nan")] * 6)
    gap = pruned.to_numpy(float) - dense.to_numpy(float)
    if seeds.nunique() > 1:
        low, high, p = nested_bootstrap(
            [gap[(seeds == seed).to_numpy()] for seed in seeds.unique()], RESAMPLES
        )
        return PairedRates(
            n,
            float(dense.mean()),
            float(pruned.mean()),
            low=low,
            high=high,
            p_value=p,
            missed=min(1.0, POWER * (high - low) / (2 * 1.96)),
        )
    more, fewer = int((gap > 0).sum()), int((gap < 0).sum())
    if more + fewer:
        from scipy.stats import bootstrap

        found = bootstrap(
            (gap,),
            np.mean,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        low, high = map(float, found.confidence_interval)
    else:  # no example differs: the bootstrap would say 0 to 0, as if n were infinite
        high = wilson(0, n)[1]
        low = -high
    # Connor (1987): the standard error of a paired difference is √(ψ/n), ψ the share of examples that differ
    apart = max(more + fewer, 1) / n
    return PairedRates(
        n,
        float(dense.mean()),
        float(pruned.mean()),
        low=low,
        high=high,
        p_value=mcnemar(more, fewer),
        missed=min(1.0, POWER * sqrt(apart / n)),
    )


def describe_difference(versus: PairedRates) -> str:
    """In plain words, no more than the figures show."""
    if not versus.n:
        return "No sentence to compare on"
    if versus.p_value < 0.05:
        more = "more" if versus.difference > 0 else "fewer"
        return f"Attacks succeed on {plural(round(100 * abs(versus.difference)), 'point')} {more} ({p_value(versus.p_value)})"
    return f"No detectable change at n = {versus.n}; under {100 * versus.missed:.0f} points would often be missed"


def table(examples: pd.DataFrame, dense: int, jobs: Sequence[int]) -> pd.DataFrame:
    """A row a pruned job, of one recipe's rows: success where both were right, accuracy under attack, and the verdict."""
    of = lambda job: examples[examples["job"] == job]  # noqa: E731
    out = []
    for job in jobs:
        rate, under = success_rate(of(dense), of(job)), under_attack(of(dense), of(job))
        out.append(
            {
                "job": job,
                **rate._asdict(),
                "difference": rate.difference,
                "under_attack": under.pruned,
                "under_attack_difference": under.difference,
                "under_attack_p": under.p_value,
                "verdict": describe_difference(rate),
            }
        )
    return pd.DataFrame(out)


def slices(examples: pd.DataFrame, dense: Collection[int], labels: Sequence[str]) -> pd.DataFrame:
    """A `summary` per job and slice: thirds by length, labels, thirds by dense confidence.

    Takes one recipe's rows; returns columns `kind`, `slice`, `job`, slices in their order. An
    example that none of the dense model's jobs attacked has no confidence.
    """
    met = examples[examples["job"].isin(dense) & examples["original_probabilities"].notna()]
    keys = ["example", "text"]
    sure = met.assign(sure=met["original_probabilities"].map(max)).drop_duplicates(keys)
    examples = examples.merge(sure[[*keys, "sure"]], on=keys, how="left")
    kinds = {
        "Length in words": thirds(
            examples["text"].str.split().str.len(), ("short", "middle", "long"), "{:.0f}"
        ),
        "Label": pd.Categorical.from_codes(examples["label"], categories=list(labels)),
        "Confidence of dense": thirds(100 * examples["sure"], ("low", "middle", "high"), "{:.1f}%"),
    }
    parts = [
        rates(examples.assign(kind=kind, slice=of).dropna(subset="slice"), ("kind", "slice", "job"))
        for kind, of in kinds.items()
    ]
    order = [str(name) for of in kinds.values() for name in of.categories]
    return pd.concat(parts).sort_values(
        "slice", key=lambda found: found.map(order.index), kind="stable", ignore_index=True
    )


def thirds(values: pd.Series, names: Sequence[str], show: str) -> pd.Categorical:
    """Equal values stay together, so that thirds of few values differ in size; not-a-number is in none."""
    known = values.dropna()
    edges = np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf") if len(known) else [0.0, 0.0]
    low, high = map(show.format, edges)
    codes = np.where(values.isna(), -1, np.searchsorted(edges, values, side="left"))
    return pd.Categorical.from_codes(
        codes, [f"{names[0]}, ≤ {low}", f"{names[1]}, ≤ {high}", f"{names[2]}, > {high}"]
    )


def invalid_examples(
    examples: pd.DataFrame, similarity: float, changed: float, spared: Collection[str] = ()
) -> pd.DataFrame:
    """What speaks against each text, as booleans: `unlike` (less similar; recipes `spared` are not judged by it), `meaning`
    (flagged) and `many` (a larger share of words changed). A text without any is valid."""
    unlike = (examples["similarity"] < similarity) & ~examples["recipe"].isin(spared)
    return pd.DataFrame(
        {
            "unlike": unlike,
            "meaning": examples["meaning"] != "",
            "many": examples["share_changed"] > changed,
        }
    )


def only_valid(examples: pd.DataFrame, valid: pd.Series) -> pd.DataFrame:
    """The rows as if the attacker had failed wherever its text is not valid."""
    return examples.assign(
        outcome=examples["outcome"].mask((examples["outcome"] == "success") & ~valid, "failed")
    )
