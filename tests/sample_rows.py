"""A small synthetic study with realistic values, for tests of charts, takeaways and pages."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from prune_core.analysis import certified as certificates
from prune_core.analysis import noise as noise_rates
from prune_core.data.masked_words import MASK
from prune_core.measures.noise import IN_EXAMPLES, PREDICTED
from prune_core.models.families import FAMILIES

PROJECTIONS = [projection for group in FAMILIES["bert"].groups for projection in group]
BLOCKS = 6
RUNS = (
    ("dense", 0.0),
    ("magnitude", 0.5),
    ("magnitude", 0.7),
    ("sparsegpt", 0.5),
    ("sparsegpt", 0.7),
    ("akr", 0.5),
    ("akr", 0.7),
)
TITLES = {
    "dense": "Dense",
    "magnitude": "Magnitude",
    "wanda": "Wanda",
    "sparsegpt": "SparseGPT",
    "akr": "AKR",
}
ACCURACY = {
    ("dense", 0.0): 0.92,
    ("magnitude", 0.5): 0.862,
    ("magnitude", 0.7): 0.77,
    ("sparsegpt", 0.5): 0.905,
    ("sparsegpt", 0.7): 0.845,
    ("akr", 0.5): 0.917,
    ("akr", 0.7): 0.893,
    ("akr", 0.3): 0.919,
    ("akr", 0.6): 0.905,
}
ERROR_SCALE = {"dense": 0.0, "magnitude": 1.0, "wanda": 0.8, "sparsegpt": 0.6, "akr": 0.35}
TEXTS = (
    "A film that asks little of its audience and gives back even less.",
    "The dialogue is not as clever as it believes, yet the last hour quietly broke my heart.",
    "Hardly the disaster the trailers promised; I left the cinema smiling.",
    "Three good jokes do not make a comedy, however often they are repeated.",
    "Every frame looks painted, and the story is just as carefully composed.",
    "I wanted to like it, and for twenty minutes I nearly did.",
    "The lead carries scenes that would sink a lesser actor without a trace.",
    "An expensive nap.",
)


def label(method: str, sparsity: float) -> str:
    """Return the label of a run: "AKR 50%"."""
    return "Dense" if method == "dense" else f"{TITLES[method]} {sparsity:.0%}"


def wilson(fraction: float, n: int) -> tuple[float, float]:
    """Return the 95% Wilson interval of a proportion, without scipy."""
    z = 1.96
    middle = (fraction + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def probabilities(confidence: float, prediction: int) -> list[float]:
    """Return the probabilities of both labels, with `confidence` for the predicted one."""
    return [1 - confidence, confidence] if prediction else [confidence, 1 - confidence]


def predictions(method: str, sparsity: float, n: int) -> pd.DataFrame:
    """Return the table `prediction`; the dense predictions are the same in all runs."""
    shared_rng = np.random.default_rng(0)
    run_rng = np.random.default_rng(hash_of(method, sparsity))
    labels = shared_rng.integers(0, 2, n)
    dense = np.where(shared_rng.random(n) < ACCURACY[("dense", 0.0)], labels, 1 - labels)
    flip = run_rng.random(n) < (ACCURACY[("dense", 0.0)] - ACCURACY[(method, sparsity)]) * 1.3
    pruned = np.where(flip, 1 - dense, dense)
    confidence = 0.55 + 0.44 * shared_rng.random(n)
    return pd.DataFrame(
        [
            {
                "example": i,
                "text": TEXTS[i % len(TEXTS)],
                "pair": None,
                "label": int(labels[i]),
                "dense": int(dense[i]),
                "pruned": int(pruned[i]),
                "dense_probabilities": probabilities(confidence[i], dense[i]),
                "pruned_probabilities": probabilities(0.5 + (confidence[i] - 0.5) * 0.8, pruned[i]),
            }
            for i in range(n)
        ]
    )


def hash_of(method: str, sparsity: float) -> int:
    """Return a seed of a run that is the same in every process."""
    return sum(map(ord, method)) * 1000 + round(sparsity * 100)


def accuracy(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table `accuracy` of the rows of `prediction`."""
    n = len(rows)
    dense_correct, pruned_correct = rows["dense"] == rows["label"], rows["pruned"] == rows["label"]
    broken = int((dense_correct & ~pruned_correct).sum())
    fixed = int((~dense_correct & pruned_correct).sum())
    difference = (fixed - broken) / n
    spread = 1.96 * math.sqrt(max(broken + fixed - (fixed - broken) ** 2 / n, 0)) / n
    dense_low, dense_high = wilson(dense_correct.mean(), n)
    low, high = wilson(pruned_correct.mean(), n)
    tail = sum(math.comb(broken + fixed, k) for k in range(min(broken, fixed) + 1)) / 2 ** (
        broken + fixed
    )
    return pd.DataFrame(
        [
            {
                "metric": "accuracy",
                "n": n,
                "score": pruned_correct.mean(),
                "dense_score": dense_correct.mean(),
                "dense_accuracy": dense_correct.mean(),
                "dense_low": dense_low,
                "dense_high": dense_high,
                "accuracy": pruned_correct.mean(),
                "low": low,
                "high": high,
                "difference": difference,
                "difference_low": difference - spread,
                "difference_high": difference + spread,
                "agreement": (rows["dense"] == rows["pruned"]).mean(),
                "divergence": 0.4 * (rows["dense"] != rows["pruned"]).mean(),
                "broken": broken,
                "fixed": fixed,
                "p_value": min(1.0, 2 * tail),
            }
        ]
    )


def error_scale(method: str, sparsity: float) -> float:
    """Return the size of a run's errors, relative to magnitude pruning at 70%."""
    return ERROR_SCALE[method] * (sparsity / 0.7) ** 2


def reconstruction(method: str, sparsity: float) -> pd.DataFrame:
    """Return the table `reconstruction`, with errors that grow with depth."""
    rows, scale = [], error_scale(method, sparsity)
    for block in range(BLOCKS):
        for position, projection in enumerate(PROJECTIONS):
            local = scale * (0.16 + 0.03 * (position % 3) + 0.02 * block)
            inherited = scale * 0.09 * block * (1.15 if position < 3 else 0.9)
            rows.append(
                {
                    "block": block,
                    "projection": projection,
                    "own": local,
                    "inherited": inherited,
                    "total": math.hypot(local, inherited),
                    "cosine": np.nan,
                    "sparsity": sparsity,
                }
            )
        total = scale * (0.12 + 0.075 * block)
        rows.append(
            {
                "block": block,
                "projection": "block",
                "own": np.nan,
                "inherited": np.nan,
                "total": total,
                "cosine": 1 - total**2 / 2,
                "sparsity": np.nan,
            }
        )
    return pd.DataFrame(rows)


def sensitivity(method: str, sparsity: float, n: int) -> dict[str, pd.DataFrame]:
    """Return the sensitivity tables, with independent errors and additive log-odds."""
    errors = [error_scale(method, sparsity) * (0.1 + 0.02 * block) for block in range(BLOCKS)]
    rows = [
        {
            "block": block,
            "weights": 1_769_472,
            "sparsity": sparsity,
            "error": error,
            "all_blocks_error": math.hypot(*errors),
        }
        for block, error in enumerate(errors)
    ]
    rows_by_example = predictions(method, sparsity, n)
    log_odds = [
        np.log(np.array(rows_by_example[column].tolist()))
        for column in ("dense_probabilities", "pruned_probabilities")
    ]
    mixed_log_odds = [log_odds[0] + (log_odds[1] - log_odds[0]) / BLOCKS for _ in range(BLOCKS)]
    mixed_probabilities = [
        np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in mixed_log_odds
    ]
    examples = {
        "label": rows_by_example["label"],
        "dense_outputs": rows_by_example["dense_probabilities"],
        "pruned_outputs": rows_by_example["pruned_probabilities"],
        "block_outputs": np.stack(mixed_probabilities, 1).tolist(),
    }
    return {"sensitivity": pd.DataFrame(rows), "sensitivity_example": pd.DataFrame(examples)}


def drift(method: str, sparsity: float, n: int) -> dict[str, pd.DataFrame]:
    """Return the drift tables; the dense embeddings are the same in all runs."""
    scale = error_scale(method, sparsity)
    by_block = pd.DataFrame(
        [
            {
                "block": b,
                "pooling": pooling,
                "cka": 1 - scale * 0.03 * (b + 1),
                "cosine": 1 - scale * 0.04 * (b + 1),
                "procrustes": scale * 0.06 * (b + 1),
                "overlap": 1 - scale * 0.09 * (b + 1),
                "k": 10,
                "n": n,
            }
            for b in range(BLOCKS)
            for pooling in ("cls", "mean")
        ]
    )
    examples = predictions(method, sparsity, n)[["example", "text", "label", "dense", "pruned"]]
    return {
        "drift": by_block,
        "drift_map": _maps(scale, examples, run_seed=hash_of(method, sparsity)),
        "drift_example": examples,
    }


def _maps(scale: float, examples: pd.DataFrame, run_seed: int) -> pd.DataFrame:
    """Return the table `drift_map`: PCA of every block, and UMAP of the last one."""
    shared_rng, run_rng = np.random.default_rng(1), np.random.default_rng(run_seed)
    n, maps = len(examples), []
    for block in range(BLOCKS):
        for projection in ("pca", "umap") if block == BLOCKS - 1 else ("pca",):
            side = np.where(examples["dense"] == 1, 1.0, -1.0) * (0.4 + 0.5 * block)
            dense = np.stack([side + shared_rng.normal(0, 0.8, n), shared_rng.normal(0, 1.1, n)], 1)
            moved = dense * (1 - 0.12 * scale) + run_rng.normal(0, 0.05 + 0.35 * scale, (n, 2))
            maps.append(
                pd.DataFrame(
                    {
                        "block": block,
                        "projection": projection,
                        "example": range(n),
                        "x_dense": dense[:, 0],
                        "y_dense": dense[:, 1],
                        "x": moved[:, 0],
                        "y": moved[:, 1],
                        "move": np.linalg.norm(moved - dense, axis=1),
                    }
                )
            )
    return pd.concat(maps, ignore_index=True)


def cost(method: str, sparsity: float) -> pd.DataFrame:
    """Return the table `cost`, in which pruning saves nothing."""
    prunable, all_weights = 10_616_832, 22_713_986
    rows = [
        {
            "model": model,
            "parameters": all_weights,
            "nonzeros": all_weights - round(fraction * prunable),
            "sparsity": fraction,
            "macs": 3.1e8,
            "bytes": 90_900_000,
            "batch": 32,
            "length": 32,
            "latency_p50": 0.094,
            "latency_p95": 0.101,
            "throughput": 341.0,
            "speedup_measured": 1.0,
            "device": "cpu",
            "note": "Unstructured zeros give no speed-up with standard kernels.",
        }
        for model, fraction in (("dense", 0.0), ("pruned", sparsity))
    ]
    return pd.DataFrame(rows)


def noise(method: str, sparsity: float) -> dict[str, pd.DataFrame]:
    """Return the noise tables of 40 examples, computed from copies that fail at random."""
    shared_rng = np.random.default_rng(7)
    copies = pd.DataFrame(
        [
            {
                "perturbation": name,
                "strength": strength,
                "example": i,
                "text": TEXTS[i % len(TEXTS)],
                "pair": None,
                "noisy": TEXTS[i % len(TEXTS)].upper(),
                "noisy_pair": None,
                "directional": name == "negated praise",
            }
            for name in ("keyboard typos", "casing", "OCR errors", "negated praise")
            for strength in ("light", "medium", "heavy")
            for i in range(40)
        ]
    )
    rates = copies["strength"].map({"light": 0.03, "medium": 0.08, "heavy": 0.2})
    more = (0.5 + shared_rng.random(len(copies))) * error_scale(method, sparsity) / 5
    luck, labels = shared_rng.random(len(copies)), copies["example"] % 2
    clean = shared_rng.random(40)[copies["example"]]
    copies["dense_failed"], copies["failed"] = luck < rates, luck < rates + more
    for prefix, accuracy in (
        ("dense_", ACCURACY[("dense", 0.0)]),
        ("", ACCURACY[(method, sparsity)]),
    ):
        before = labels.where(clean < accuracy, 1 - labels)
        after = before.where(~copies[f"{prefix}failed"], 1 - before)
        copies[f"{prefix}clean"], copies[f"{prefix}correct"] = before == labels, after == labels
        for column, values in (("before", before), ("after", after)):
            copies[f"{prefix}{column}"] = np.array(["negative", "positive"])[values]
    return {
        "noise": noise_rates.rates(copies, resamples=200, seed=0),
        "noise_count": noise_rates.by_example(copies, TEXTS * 5),
        "noise_example": copies[[*IN_EXAMPLES, *PREDICTED]],
    }


def certified(method: str, sparsity: float) -> dict[str, pd.DataFrame]:
    """Return the tables of certified robustness of 40 examples, whose radii shrink with pruning."""
    rng = np.random.default_rng(8)
    labels = np.array(["negative", "positive"])[np.arange(40) % 2]
    spread, luck = rng.uniform(0.4, 1.0, 40), rng.random(40)
    examples = pd.DataFrame(
        {
            "example": range(40),
            "text": (TEXTS * 8)[:40],
            "pair": None,
            "words": [len(text.split()) for text in (TEXTS * 8)[:40]],
            "label": labels,
        }
    )
    for prefix, run in (("dense_", ("dense", 0.0)), ("", (method, sparsity))):
        correct = luck < ACCURACY[run] - 0.1
        examples[f"{prefix}predicted"] = np.where(correct, labels, labels[::-1])
        examples[f"{prefix}correct"] = correct
        examples[f"{prefix}probability"] = spread - error_scale(*run) / 10
        examples[f"{prefix}radius"] = [
            certificates.radius(bound, words, rate=0.8, removal=MASK)
            for bound, words in zip(
                examples[f"{prefix}probability"], examples["words"], strict=True
            )
        ]
    table = certificates.accuracies(examples, certificates.largest_radius(0.8))
    return {
        "certified": table.assign(removal=MASK, rate=0.8),
        "certified_example": examples,
    }


def attack(method: str, sparsity: float) -> dict[str, pd.DataFrame]:
    """Return the attack tables of two recipes, which succeed more often on larger errors."""
    summary, examples = [], []
    clean, scale = ACCURACY[(method, sparsity)], error_scale(method, sparsity)
    for recipe, n, strength in (("DeepWordBug", 40, 0.62), ("TextFooler (MiniLM)", 20, 0.78)):
        generator = np.random.default_rng(5)
        rows = [
            _attacked(
                recipe,
                i,
                generator.random(),
                luck=generator.random(),
                effort=generator.random(),
                clean=clean,
                strength=strength + 0.3 * scale,
            )
            for i in range(n)
        ]
        examples += rows
        summary.append({"recipe": recipe, **_attack_summary([row["outcome"] for row in rows])})
    return {"attack": pd.DataFrame(summary), "attack_example": pd.DataFrame(examples)}


def _attack_summary(outcomes: list[str]) -> dict[str, float]:
    """Return counts and rates with their 95% intervals."""
    n = len(outcomes)
    succeeded, failed, skipped = map(outcomes.count, ("success", "failed", "skipped"))
    attacked = succeeded + failed
    rates = {
        "accuracy": (attacked, n),
        "under_attack": (failed, n),
        "success": (succeeded, attacked),
    }
    bounds = {name: wilson(hits / total, total) for name, (hits, total) in rates.items()}
    return {
        "n": n,
        "accuracy": attacked / n,
        "under_attack": failed / n,
        "success_rate": succeeded / attacked,
        **{f"{name}_low": low for name, (low, _) in bounds.items()},
        **{f"{name}_high": high for name, (_, high) in bounds.items()},
        "attacked": attacked,
        "succeeded": succeeded,
        "failed": failed,
        "skipped": skipped,
        "errored": 0,
        "words_changed": 0.17,
        "queries": 31.4,
        "seconds": 6.2,
    }


def _attacked(
    recipe: str,
    i: int,
    difficulty: float,
    luck: float,
    effort: float,
    clean: float,
    strength: float,
) -> dict[str, object]:
    """Return the row of example i: misclassified if `difficulty` exceeds the `clean` accuracy.

    The attack succeeds if `luck` is below its `strength`; `effort` sets how much it changes.
    """
    text, label = TEXTS[i % len(TEXTS)], i % 2
    outcome = "success" if luck < strength else "failed"
    if difficulty > clean:  # misclassified without an attack
        outcome = "skipped"
    words, changed = text.split(), []
    if outcome != "skipped":
        changed = [k for k in (1, 3, 5)[: 1 + int(3 * effort)] if k < len(words)]
    for k in changed:
        word = words[k]
        words[k] = {"film": "movie"}.get(word, "rather")
        if recipe == "DeepWordBug":
            words[k] = word[:-2] + word[-2:][::-1]
    original = label if outcome != "skipped" else 1 - label
    perturbed = 1 - original if outcome == "success" else original
    return {
        "recipe": recipe,
        "example": i,
        "outcome": outcome,
        "text": text,
        "perturbed": " ".join(words),
        "label": label,
        "original_prediction": original,
        "perturbed_prediction": perturbed,
        "original_probabilities": probabilities(0.99 - 0.4 * luck, original),
        "perturbed_probabilities": probabilities(0.61, perturbed),
        "words_changed": len(changed),
        "share_changed": len(changed) / len(words),
        "queries": 10 + int(90 * effort),
        "seconds": 0.2,
        "note": "",
        "pair": None,
        "similarity": 0.95 - 0.3 * effort if outcome == "success" else np.nan,
        "grammar": np.nan,
        "meaning": "“not” was removed" if outcome == "success" and luck < 0.1 else "",
    }


def transfer(job: int, examples: pd.DataFrame) -> pd.DataFrame:
    """Return the table `transfer` of one job: the adversarial examples of all jobs on its model."""
    names, rng = np.array(["negative", "positive"]), np.random.default_rng(job)
    examples = examples[examples["outcome"] == "success"]
    labels, opposite = names[examples["label"]], names[1 - examples["label"]]
    succeeded = (examples["job"] == job) | (
        rng.random(len(examples)) < 0.9 / (1 + (examples["job"] - job).abs())
    )
    original = np.where(
        (rng.random(len(examples)) < 0.1) & (examples["job"] != job), opposite, labels
    )
    changed = np.where(succeeded, opposite, labels)
    return pd.DataFrame(
        {
            "recipe": examples["recipe"],
            "source": examples["job"],
            "example": examples["example"],
            "truth": labels,
            "original": original,
            "changed": changed,
        }
    )


def prune(sparsity: float) -> pd.DataFrame:
    """Return the table `prune`."""
    return pd.DataFrame(
        [
            {
                "block": b,
                "projection": projection,
                "sparsity": sparsity,
                "damping": 0.01,
                "seconds": 0.1,
            }
            for b in range(BLOCKS)
            for projection in PROJECTIONS
        ]
    )


def tables(method: str, sparsity: float, n: int = 80) -> dict[str, pd.DataFrame]:
    """Return every table of one run."""
    rows = predictions(method, sparsity, n)
    out = {
        "accuracy": accuracy(rows),
        "prediction": rows,
        "reconstruction": reconstruction(method, sparsity),
        **sensitivity(method, sparsity, n),
        **drift(method, sparsity, n),
        "cost": cost(method, sparsity),
        **attack(method, sparsity),
        **noise(method, sparsity),
        **certified(method, sparsity),
    }
    return out if method == "dense" else {"prune": prune(sparsity), **out}


def study(n: int = 80, runs: tuple[tuple[str, float], ...] = RUNS) -> dict[str, pd.DataFrame]:
    """Return every table of the study with the job number of each row, as the store does."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for job, (method, sparsity) in enumerate(runs, start=1):
        for name, rows in tables(method, sparsity, n).items():
            parts.setdefault(name, []).append(
                rows.assign(
                    job=job, **({} if "label" in rows else {"label": label(method, sparsity)})
                )
            )
    result = {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
    attacked = result["attack_example"]
    return result | {
        "transfer": pd.concat(
            [transfer(job, attacked).assign(job=job) for job in attacked["job"].unique()],
            ignore_index=True,
        )
    }


# stage -> its tables
STAGES = {
    "prune": ["prune"],
    "accuracy": ["accuracy", "prediction"],
    "reconstruction": ["reconstruction"],
    "sensitivity": ["sensitivity", "sensitivity_example"],
    "drift": ["drift", "drift_map", "drift_example"],
    "cost": ["cost"],
    "attack": ["attack", "attack_example"],
    "noise": ["noise", "noise_count", "noise_example"],
    "certified": ["certified", "certified_example"],
}


def fill(
    store,
    n: int = 80,
    study_name: str = "Demo",
    runs: tuple[tuple[str, float], ...] = RUNS,
    task: str = "demo",
) -> list[int]:
    """Write the study to a store, with every run finished; return the IDs of its jobs."""
    facts = {
        "device": "cpu",
        "device_title": "CPU, 2 cores",
        "label_names": ["negative", "positive"],
        "calibration_n": 256,
        "evaluation_n": n,
    }
    ids = []
    for method, sparsity in runs:
        id = store.submit(
            _experiment(method, sparsity, task, study_name=study_name),
            label(method, sparsity),
            f"{study_name}-{method}-{sparsity}",
            study_name,
            "auto",
            worker="sample",
        )
        rows = tables(method, sparsity, n)
        for stage, names in STAGES.items():
            if names[0] in rows:
                stage_rows = {name: rows[name] for name in names}
                store.add_rows(id, stage_rows, stage, seconds=3.0, facts=facts)
        store.update(id, status="done", progress=1.0, finished=1.0)
        ids.append(id)
    attacked = store.rows("attack_example", ids)
    for id in ids:
        store.add_rows(id, {"transfer": transfer(id, attacked)}, "transfer", seconds=1.0, facts={})
    return ids


def _experiment(method: str, sparsity: float, task: str, study_name: str) -> dict[str, object]:
    options: dict[str, object] = {"sparsity": sparsity, "pattern": ""}
    if method in ("sparsegpt", "akr"):
        options["allocation"] = "uniform"
    return {
        "checkpoint": "demo",
        "source": {"task": task, "text": "", "text_pair": "", "label": "", "calibration": ""},
        "method": None if method == "dense" else {"name": method, "options": options},
        "measures": [],
        "calibration_size": 256,
        "evaluation_size": 0,
        "seed": 0,
        "device": "auto",
        "study": study_name,
    }


def soup() -> dict:
    """Return a soup.json: a standard, accurate candidate, and a robust average of two others."""

    def row(accuracy: float, under_attack: float, **other: object) -> dict:
        estimates = {"accuracy": (accuracy, 0.02), "under_attack": (under_attack, 0.05)}
        bounds = {
            f"{key}{end}": value + sign * half_width
            for key, (value, half_width) in estimates.items()
            for end, sign in (("", 0), ("_low", -1), ("_high", 1))
        }
        return {**other, **bounds, "n": 500, "attack_n": 200}

    freelb = {"epochs": 1, "adversarial": "freelb"}
    return {
        "plan": {"way": "greedy-attack", "attack": "TextFooler (MiniLM)", "allowed_loss": 0.015},
        "candidates": [
            row(
                0.91,
                0.10,
                name="plain",
                recipe={"epochs": 1, "adversarial": "none", "adversarial_norm": 0.6},
            ),
            row(0.90, 0.25, name="strong", recipe=freelb | {"adversarial_norm": 0.6}),
            row(0.905, 0.20, name="weak", recipe=freelb | {"adversarial_norm": 0.3}),
        ],
        "attempts": [
            row(0.90, 0.25, ingredients=["strong"], added="strong", taken=True),
            row(0.906, 0.28, ingredients=["strong", "weak"], added="weak", taken=True),
            row(0.91, 0.15, ingredients=["strong", "weak", "plain"], added="plain", taken=False),
        ],
        "ingredients": ["strong", "weak"],
        "most_accurate": "plain",
        "versus": {
            "n": 200,
            "dense": 0.10,
            "pruned": 0.28,
            "difference": 0.18,
            "low": 0.12,
            "high": 0.24,
            "p_value": 1e-5,
        },
    }
