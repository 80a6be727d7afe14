"""Takeaways: the sentence at the top of each page, with values and intervals.

Functions return plain text, "" without data. Sentences claim no more than an interval shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..formatting import (
    error,
    inline,
    mean_count,
    milliseconds,
    missing,
    p_value,
    percent,
    plain,
    plural,
    seconds,
    signed,
)
from ..plugins import CANDIDATE
from ..tasks import METRICS
from .attack_success import PairedRates, success_rate
from .compared_models import ComparedModel, ordered
from .cost_evidence import disturbance
from .quantities import headline
from .seeds import means


def rows_of(rows: pd.DataFrame, model: ComparedModel) -> pd.DataFrame:
    """Return the rows of a model."""
    return rows[rows["job"] == model.job] if len(rows) else rows


def pruned_models(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> list[ComparedModel]:
    """Return the pruned models that have rows, sorted."""
    return [model for model in ordered(models) if not model.is_dense and len(rows_of(rows, model))]


def most_pruned(models: Sequence[ComparedModel]) -> list[ComparedModel]:
    """Return the models at the highest sparsity; N:M patterns only if there is nothing else."""
    unpatterned = [model for model in models if not model.pattern] or list(models)
    top = max((model.sparsity for model in unpatterned), default=0.0)
    return [model for model in unpatterned if model.sparsity == top]


def sentence_name(model: ComparedModel) -> str:
    """Return a model's name for a sentence: "AKR at 70%"."""
    if model.is_dense:
        return f"the dense model {model.start}".rstrip()
    return model.label.replace(f" {model.level}", f" at {model.level}", 1)


def difference_words(
    value: float, low: float, high: float, n: float, reference: str = "dense"
) -> str:
    """Describe a difference from dense, without claiming more than its interval shows."""
    bounds = f"95% interval {signed(100 * low)} to {signed(100 * high)} points"
    if value == 0 and low <= 0 <= high:
        return f"the same as {reference} ({bounds}, n = {n:.0f})"
    side, size = ("below", -value) if value < 0 else ("above", value)
    if low <= 0 <= high:
        return f"{100 * size:.1f} points {side} {reference}, within noise at n = {n:.0f} ({bounds})"
    ends = sorted((abs(low), abs(high)))
    interval = f"95% interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
    return f"{100 * size:.1f} points {side} {reference} ({interval}, n = {n:.0f})"


def accuracy(rows: pd.DataFrame, models: Sequence[ComparedModel], units: str = "examples") -> str:
    """State the accuracy of the best and the worst of the most pruned models.

    `units`: what the evaluation consists of, see `Job.units`.
    """
    shown = pruned_models(rows, models)
    if not shown:
        dense = next(
            (model for model in models if model.is_dense and len(rows_of(rows, model))), None
        )
        if dense is None:
            return ""
        row = rows_of(rows, dense).iloc[0]
        quantity, _ = headline(row["metric"])
        if METRICS[row["metric"]].against_dense:
            return (
                f"The data has no labels: the dense model's predictions on {row['n']:.0f} {units} "
                "are the reference; no pruned model is selected."
            )
        return (
            f"The dense model reaches {quantity.show(row['score'])} {inline(quantity.title)} on "
            f"{row['n']:.0f} examples (95% interval {quantity.show(row['low'])} to "
            f"{quantity.show(row['high'])}); no pruned model is selected."
        )
    candidates = most_pruned(shown)
    best = max(candidates, key=lambda model: rows_of(rows, model).iloc[0]["score"])
    row = rows_of(rows, best).iloc[0]
    quantity, _ = headline(row["metric"])
    if METRICS[row["metric"]].against_dense:
        opening = "Models are" if units == "queries" else "The data has no labels, so models are"
        return (
            f"{opening} compared with the dense model: {sentence_name(best)} reaches "
            f"{quantity.show(row['score'])} {inline(quantity.title)} on {row['n']:.0f} {units} "
            f"(95% interval {quantity.show(row['low'])} to {quantity.show(row['high'])})."
        )
    change = difference_words(
        row["difference"], row["difference_low"], row["difference_high"], n=row["n"]
    )
    score = f"{quantity.show(row['score'])} {inline(quantity.title)}"
    sentence = f"{sentence_name(best)} has {score}, {change}"
    if len(candidates) > 1:
        worst = min(candidates, key=lambda model: rows_of(rows, model).iloc[0]["score"])
        last = rows_of(rows, worst).iloc[0]
        other = (
            sentence_name(worst)
            if worst.family == best.family or worst.method == CANDIDATE
            else f"{worst.family} at the same sparsity"
        )
        ends = f"{quantity.show(last['low'])} to {quantity.show(last['high'])}"
        sentence += f"; {other} has {quantity.show(last['score'])} ({ends})"
    return sentence + "."


def broken_predictions(rows: pd.DataFrame, model: ComparedModel) -> str:
    """Return the numbers of newly broken and fixed examples of a model, with the test."""
    row = rows_of(rows, model).iloc[0]
    if missing(row["broken"]):
        return "not defined for scores, which are neither correct nor incorrect"
    broken, fixed, n = (mean_count(row[column]) for column in ("broken", "fixed", "n"))
    test = "bootstrap" if model.runs else "McNemar"
    p = "" if missing(row["p_value"]) else f"{test} {p_value(row['p_value'])}"
    notes = ", ".join(filter(None, (means([model]), p)))
    return f"{broken} newly broken, {fixed} newly fixed of {n} ({notes})"


def dense_and_most_pruned(
    rows: pd.DataFrame, models: Sequence[ComparedModel]
) -> tuple[ComparedModel, ComparedModel] | None:
    """Return the dense model and the first of the most pruned ones; None without rows of both."""
    dense = next((model for model in models if model.is_dense and len(rows_of(rows, model))), None)
    shown = most_pruned(pruned_models(rows, models))
    return (dense, shown[0]) if dense and shown else None


def success_change(versus: PairedRates) -> str:
    """Describe the change of an attack's success rate from dense to pruned, with its test."""
    return (
        f"{signed(100 * versus.difference)} points, 95% interval {signed(100 * versus.low)} to "
        f"{signed(100 * versus.high)}, {p_value(versus.p_value)}"
    )


def attack(rows: pd.DataFrame, examples: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """State the success of the recipe with most examples on dense, and which models differ."""
    if rows.empty:
        return ""
    recipe = rows.groupby("recipe", sort=False)["n"].max().idxmax()
    rows, examples = rows[rows["recipe"] == recipe], examples[examples["recipe"] == recipe]
    dense = next((model for model in models if model.is_dense and len(rows_of(rows, model))), None)
    shown = pruned_models(rows, models)
    if dense is None:
        return _rates_without_dense(rows, shown, recipe)
    base = rows_of(rows, dense).iloc[0]
    if not base["attacked"]:
        return (
            f"{recipe} attacked no example of the dense model: of {base['n']:.0f}, "
            f"{base['skipped']:.0f} are misclassified and {base['errored']:.0f} ended in an error, "
            "which is shown with the example."
        )
    average = f"{means([dense])}, " if dense.runs else ""
    succeeded, attacked = mean_count(base["succeeded"]), mean_count(base["attacked"])
    low, high = (percent(base[f"success_{end}"]) for end in ("low", "high"))
    opening = (
        f"{recipe} succeeds on {succeeded} of the {attacked} examples on which it attacks the "
        f"dense model ({percent(base['success_rate'])}, {average}95% interval {low} to {high})"
    )
    comparisons = [
        (model, success_rate(rows_of(examples, dense), rows_of(examples, model))) for model in shown
    ]
    comparisons = [(model, versus) for model, versus in comparisons if versus.n]
    if not comparisons:
        return opening + "."
    clear = [(model, versus) for model, versus in comparisons if versus.p_value < 0.05]
    model, versus = max(clear or comparisons, key=lambda item: abs(item[1].difference))
    test = f"{p_value(versus.p_value)}, n = {versus.n} examples that both classify correctly"
    if not clear:
        subject = "no pruned model is" if len(comparisons) > 1 else f"{sentence_name(model)} is not"
        return (
            f"{opening}; {subject} detectably easier or harder to attack at this sample size "
            f"(largest difference: {sentence_name(model)}, {signed(100 * versus.difference)} "
            "points, "
            f"{test})."
        )
    others = len(comparisons) - len(clear)
    rest = ""
    if others:
        rest = f"; {plural(others, 'other model')} do not differ detectably at this sample size"
    direction = "higher" if versus.difference > 0 else "lower"
    ends = sorted((abs(versus.low), abs(versus.high)))
    return (
        f"{opening}; on {sentence_name(model)} its success rate is "
        f"{100 * abs(versus.difference):.0f} "
        f"points {direction} (95% interval {100 * ends[0]:.0f} to {100 * ends[1]:.0f}, "
        f"{test}){rest}."
    )


def _rates_without_dense(rows: pd.DataFrame, shown: Sequence[ComparedModel], recipe: str) -> str:
    shown = [model for model in shown if rows_of(rows, model).iloc[0]["attacked"]]
    if not shown:
        return ""
    worst = max(shown, key=lambda model: rows_of(rows, model).iloc[0]["success_rate"])
    row = rows_of(rows, worst).iloc[0]
    return (
        f"{recipe} succeeds most often on {sentence_name(worst)}: {percent(row['success_rate'])} "
        "of "
        f"{row['attacked']:.0f} attacked examples (95% interval {percent(row['success_low'])} to "
        f"{percent(row['success_high'])}); the dense model has not been attacked yet."
    )


def unable_to_attack(examples: pd.DataFrame) -> dict[str, str]:
    """Return recipe -> sentence for attacks that failed with an error on all examples."""
    if examples.empty:
        return {}
    sentences = {}
    for recipe, rows in examples.groupby("recipe", sort=False):
        if (rows["outcome"] == "error").all():
            reason = rows["note"].mode().iloc[0]  # the most frequent one
            sentences[recipe] = (
                f"{recipe} attacked none of {plural(rows['example'].nunique(), 'example')}. "
                f"{reason}"
            )
    return sentences


def attack_settings(options: Mapping[str, Mapping[str, Any]]) -> str:
    """Describe the settings of attacks and whether models differ.

    `options` are the stored options of the measure by model label.
    """
    groups: dict[str, list[str]] = {}
    for label, settings in options.items():
        groups.setdefault(_settings(settings), []).append(label)
    if len(groups) < 2:
        return "".join(groups)
    listed = " ".join(f"{', '.join(labels)}: {text}" for text, labels in groups.items())
    return (
        f"These models were attacked with different settings, so rates are not comparable. {listed}"
    )


def _settings(settings: Mapping[str, Any]) -> str:
    fraction, similarity, protected, column = (
        settings.get(key) for key in ("max_changed", "similarity", "protected_words", "column")
    )
    parts = [
        f"Limits per example: {settings['query_budget']} queries, "
        f"{seconds(settings['time_budget'])}",
        "any number of changed words",
    ]
    if fraction not in (None, 1):
        parts[-1] = f"at most {percent(fraction)} of words changed"
    if similarity:
        parts.append(f"similarity of at least {similarity:g} to the original")
    if protected:
        parts.append(f"without changes to {protected}")
    if settings.get("only_label"):
        parts.append(f"only examples of {settings['only_label']!r}")
    if column not in (None, "first"):
        parts.append(f"column {column} of a pair")
    return f"{', '.join(parts)}. Precision: {settings.get('precision', 'fp32')}."


def layers(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """State how errors grow with depth for the best and worst of the most pruned models."""
    if rows.empty:
        return ""
    blocks = rows[rows["projection"] == "block"]
    shown = most_pruned(pruned_models(blocks, models))
    if not shown:
        return ""
    last = {model.job: rows_of(blocks, model).sort_values("block").iloc[-1] for model in shown}
    best = min(shown, key=lambda model: last[model.job]["total"])
    first = rows_of(blocks, best).sort_values("block").iloc[0]
    deepest = last[best.job]
    sentence = (
        f"In {sentence_name(best)}, the relative error of hidden states increases from "
        f"{error(first['total'])} in layer {first['block'] + 1:.0f} to {error(deepest['total'])} "
        f"in layer {deepest['block'] + 1:.0f}"
    )
    if len(shown) > 1:
        worst = max(shown, key=lambda model: last[model.job]["total"])
        sentence += f"; in {sentence_name(worst)}, it reaches {error(last[worst.job]['total'])}"
    by_layer = (
        rows_of(rows[rows["projection"] != "block"], best)
        .groupby("block")[["own", "inherited"]]
        .mean()
    )
    inherited = [block + 1 for block, row in by_layer.iterrows() if row["inherited"] > row["own"]]
    if inherited and inherited == list(range(inherited[0], len(by_layer) + 1)):
        sentence += f". From layer {inherited[0]} on, the inherited error exceeds the layer's own"
    return sentence + "."


def drift(
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    pooling: str = "",
    units: str = "examples",
) -> str:
    """State which models preserve most and fewest neighbors in the last layer.

    `pooling`: of the embeddings, by default the first; `units`: see `Job.units`.
    """
    if rows.empty:
        return ""
    pooling = pooling or rows["pooling"].iloc[0]
    rows = rows[(rows["pooling"] == pooling) & (rows["block"] == rows["block"].max())]
    shown = pruned_models(rows, models)
    if not shown:
        return ""
    best, worst = (
        choose(shown, key=lambda model: rows_of(rows, model).iloc[0]["overlap"])
        for choose in (max, min)
    )
    row = rows_of(rows, best).iloc[0]
    sentence = (
        f"In the last layer, {sentence_name(best)} preserves {percent(row['overlap'])} of each "
        f"{'query' if units == 'queries' else 'example'}'s "
        f"{row['k']:.0f} nearest neighbors (CKA {plain(row['cka'])}, mean cosine "
        f"{plain(row['cosine'])})"
    )
    if worst is not best:
        other = rows_of(rows, worst).iloc[0]
        sentence += (
            f"; {sentence_name(worst)} preserves {percent(other['overlap'])} (CKA "
            f"{plain(other['cka'])})"
        )
    return f"{sentence}. n = {row['n']:.0f} {units}."


def cost(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """State what the last of the most pruned models saves, with the note of the measure."""
    shown = most_pruned(pruned_models(rows, models))
    if not shown:
        return ""
    costs = rows_of(rows, shown[-1]).set_index("model")
    dense, pruned_costs = costs.loc["dense"], costs.loc["pruned"]

    titles = {"nonzeros": "weights", "bytes": "file size", "macs": "FLOPs"}
    # some costs of a model file are unknown
    known = [column for column in titles if not missing(pruned_costs[column])]
    owners = ("the dense model's", "its", "its")
    parts = [
        f"{percent(pruned_costs[column] / dense[column])} of {owner} {titles[column]}"
        for owner, column in zip(owners, known, strict=False)
    ]
    remaining = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    note = "" if missing(pruned_costs.get("note")) else f" {pruned_costs['note']}"
    return (
        f"{sentence_name(shown[-1])} has {remaining}; a batch of "
        f"{pruned_costs['batch']:.0f} examples takes {milliseconds(pruned_costs['latency_p50'])}, "
        f"compared with {milliseconds(dense['latency_p50'])} for dense.{note}"
    ).strip()


def busy_machine_note(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """State which models' times are unreliable and how to measure them again; "" if none."""
    busy = {
        model: reason
        for model in models
        if len(costs := rows_of(rows, model)) and (reason := disturbance(costs))
    }
    if not busy:
        return ""
    worst = max(busy, key=lambda model: rows_of(rows, model)["other_load"].max())
    models_text = sentence_name(worst)
    if len(busy) > 1:
        models_text += f" and {plural(len(busy) - 1, 'other model')}"
    return (
        f"The times of {models_text} are unreliable: {busy[worst]}. On an idle machine, measure "
        f"again (python -m prune_core remeasure {worst.job} cost)."
    )


def capital(text: str) -> str:
    """Return a sentence with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def soup(record: Mapping[str, Any]) -> str:
    """Compare a soup with its most accurate candidate, from soup.json."""
    versus, reference = record["versus"], record["most_accurate"]
    final = [attempt for attempt in record["attempts"] if attempt["taken"]][-1]
    used, count = len(record["ingredients"]), len(record["candidates"])
    if record["ingredients"] == [reference]:
        return f"No average is better than {reference}, the most accurate of {count} fine-tunes."
    gap = final["accuracy"] - next(
        row["accuracy"] for row in record["candidates"] if row["name"] == reference
    )
    direction = "more" if gap > 0 else "less"
    relation = (
        "as accurate as"
        if abs(gap) < 5e-4
        else f"{100 * abs(gap):.1f} points {direction} accurate than"
    )
    subject = (
        record["ingredients"][0] if used == 1 else f"The average of {used} of {count} fine-tunes"
    )
    interval = f"{signed(100 * versus['low'])} to {signed(100 * versus['high'])}"
    return (
        f"{subject} has {percent(versus['pruned'])} accuracy under attack, {reference}, the most "
        f"accurate candidate, {percent(versus['dense'])}: {signed(100 * versus['difference'])} "
        f"points (95% interval {interval}, {p_value(versus['p_value'])}, n = {versus['n']}). It is "
        f"{relation} {reference}."
    )
