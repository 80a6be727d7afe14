"""Evidence from attacks: by how much their success rates increase."""

from __future__ import annotations

from ..store.job import Job
from .attack_success import ATTACKED, join_dense
from .bounded_metrics import BoundedMetric, paired_loss
from .evidence import Evidence
from .prediction_evidence import decidable_loss

CHURN = 0.1  # typical fraction of attack outcomes that pruning changes, half in each direction


def attack_success(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the increase of each recipe's success rate, where both models are correct."""
    attacks, dense_attacks = (
        tables["attack_example"] for tables in (measured.tables, measured.dense_tables)
    )
    if dense_attacks.empty:
        return {
            "": "the dense model with the same data and seed was not attacked; run it with the "
            "measure attack"
        }
    if measured.dense and _attack_options(measured.dense) != _attack_options(measured.job):
        return {
            "": "the dense model was attacked with different settings, so rates are not "
            "comparable; attack both with the same settings"
        }
    found: dict[str, BoundedMetric | str] = {}
    for recipe, rows in attacks.groupby("recipe", sort=False):
        both = join_dense(dense_attacks[dense_attacks["recipe"] == recipe], rows)
        both = both[both["outcome"].isin(ATTACKED) & both["outcome_dense"].isin(ATTACKED)]
        if both.empty:
            found[str(recipe)] = "no correctly classified example was attacked on both models"
            continue
        dense, pruned = (both[column] == "success" for column in ("outcome_dense", "outcome"))
        gained, lost = int((~dense & pruned).sum()), int((dense & ~pruned).sum())
        found[str(recipe)] = paired_loss(gained, lost, len(both))
    return found


def decidable_increase(measured: Evidence) -> float:
    """Return the increase that the smallest sample rules out if CHURN of outcomes change."""
    metrics = [
        each for each in attack_success(measured).values() if isinstance(each, BoundedMetric)
    ]
    sizes = [metric.n for metric in metrics]
    return decidable_loss(min(sizes), measured.alpha, CHURN) if sizes else 0.0


def _attack_options(job: Job) -> dict[str, object] | None:
    """Return the settings of a job's attacks, without those on which examples may differ."""
    for measure in job.experiment.get("measures", ()):
        if measure["name"] == "attack":
            # recipes and examples are paired one by one
            paired = ("recipes", "examples", "word_examples", "only_label")
            return {name: value for name, value in measure["options"].items() if name not in paired}
    return None
