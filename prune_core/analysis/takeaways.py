"""The one sentence each page opens with, from rows: figures with intervals, and no claim that an interval does not show.

Pure functions that return Markdown-free text; "" where there is nothing to say yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..data.metrics import METRICS
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
from .attack_success import success_rate
from .compared_models import ComparedModel, ordered
from .evidence import disturbance
from .quantities import Quantity, headline
from .seeds import means


def of(rows: pd.DataFrame, model: ComparedModel) -> pd.DataFrame:
    """A model's own rows."""
    return rows[rows["job"] == model.job] if len(rows) else rows


def pruned(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> list[ComparedModel]:
    """The pruned models that have rows, in their usual order."""
    return [m for m in ordered(models) if not m.is_dense and len(of(rows, m))]


def most_pruned(models: Sequence[ComparedModel]) -> list[ComparedModel]:
    """Those at the highest sparsity asked for; patterns are left out where anything else is there."""
    plain_ones = [m for m in models if not m.pattern] or list(models)
    top = max((m.sparsity for m in plain_ones), default=0.0)
    return [m for m in plain_ones if m.sparsity == top]


def name(model: ComparedModel) -> str:
    """A model inside a sentence: AKR at 70%."""
    if model.is_dense:
        return f"the dense model {model.start}".rstrip()
    return model.label.replace(f" {model.level}", f" at {model.level}", 1)


def difference_words(value: float, low: float, high: float, n: float) -> str:
    """A difference of shares against dense as words that its interval allows."""
    if value == 0 and low <= 0 <= high:
        return f"the same as dense (95% interval {signed(100 * low)} to {signed(100 * high)} points, n = {n:.0f})"
    side, size = ("below", -value) if value < 0 else ("above", value)
    if low <= 0 <= high:
        return (
            f"{100 * size:.1f} points {side} dense, within noise at n = {n:.0f} "
            f"(95% interval {signed(100 * low)} to {signed(100 * high)} points)"
        )
    ends = sorted((abs(low), abs(high)))
    return f"{100 * size:.1f} points {side} dense (95% interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f}, n = {n:.0f})"


def accuracy(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """How much accuracy the best of the most pruned models keeps."""
    shown = pruned(rows, models)
    if not shown:
        dense = next((m for m in models if m.is_dense and len(of(rows, m))), None)
        if dense is None:
            return ""
        row = of(rows, dense).iloc[0]
        figure, _ = headline(row["metric"])
        if METRICS[row["metric"]].against_dense:
            return (
                f"The data has no labels: the dense model's predictions on {row['n']:.0f} examples "
                "are the reference; no pruned model is selected."
            )
        return (
            f"The dense model reaches {figure.show(row['score'])} {inline(figure.title)} on {row['n']:.0f} examples "
            f"(95% interval {figure.show(row['low'])} to {figure.show(row['high'])}); no pruned model is on view."
        )
    metric = of(rows, shown[0]).iloc[0]["metric"]
    figure, _ = headline(metric)
    if METRICS[metric].against_dense:
        return _against_dense(rows, most_pruned(shown), figure)
    rivals = most_pruned(shown)
    best = max(rivals, key=lambda m: of(rows, m).iloc[0]["score"])
    row = of(rows, best).iloc[0]
    told = difference_words(
        row["difference"], row["difference_low"], row["difference_high"], n=row["n"]
    )
    sentence = (
        f"{_capital(name(best))} keeps {figure.show(row['score'])} {inline(figure.title)}, {told}"
    )
    if len(rivals) > 1:
        worst = min(rivals, key=lambda m: of(rows, m).iloc[0]["score"])
        last = of(rows, worst).iloc[0]
        whom = (
            name(worst) if worst.family == best.family else f"{worst.family} at the same sparsity"
        )
        sentence += f"; {whom} keeps {figure.show(last['score'])} ({figure.show(last['low'])} to {figure.show(last['high'])})"
    return sentence + "."


def _against_dense(rows: pd.DataFrame, rivals: Sequence[ComparedModel], figure: Quantity) -> str:
    """Of data without labels: who stays closest to the dense model."""
    best = max(rivals, key=lambda m: of(rows, m).iloc[0]["score"])
    row = of(rows, best).iloc[0]
    return (
        f"The data has no labels, so models are compared with the dense one: {name(best)} reaches {figure.show(row['score'])} "
        f"{inline(figure.title)} on {row['n']:.0f} examples "
        f"(95% interval {figure.show(row['low'])} to {figure.show(row['high'])})."
    )


def broken_predictions(rows: pd.DataFrame, model: ComparedModel) -> str:
    """Newly broken and newly fixed examples of one model, with the exact test."""
    row = of(rows, model).iloc[0]
    if missing(row["broken"]):
        return "scores are not right or wrong, so none is broken or fixed"
    broken, fixed, n = (mean_count(row[column]) for column in ("broken", "fixed", "n"))
    test = "bootstrap" if model.runs else "McNemar"
    p = "" if missing(row["p_value"]) else f"{test} {p_value(row['p_value'])}"
    notes = ", ".join(filter(None, (means([model]), p)))
    return f"{broken} newly broken, {fixed} newly fixed of {n} ({notes})"


def attack(rows: pd.DataFrame, examples: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """What the recipe with most sentences does to dense, and which pruned models differ on the sentences both get right."""
    if rows.empty:
        return ""
    recipe = rows.groupby("recipe", sort=False)["n"].max().idxmax()
    rows, examples = rows[rows["recipe"] == recipe], examples[examples["recipe"] == recipe]
    dense = next((m for m in models if m.is_dense and len(of(rows, m))), None)
    shown = pruned(rows, models)
    if dense is None:
        return _rates_alone(rows, shown, recipe)
    base = of(rows, dense).iloc[0]
    if not base["attacked"]:
        return (
            f"{recipe} had no sentence of the dense model to attack: of {base['n']:.0f}, {base['skipped']:.0f} were wrong already and "
            f"{base['errored']:.0f} ended in an error, which is told beside the sentence."
        )
    average = f"{means([dense])}, " if dense.runs else ""
    succeeded, attacked = mean_count(base["succeeded"]), mean_count(base["attacked"])
    rate = percent(base["success_rate"])
    low, high = (percent(base[f"success_{end}"]) for end in ("low", "high"))
    opening = (
        f"{recipe} succeeds on {succeeded} of the {attacked} examples on which it attacks the "
        f"dense model ({rate}, {average}95% interval {low} to {high})"
    )
    found = [(m, success_rate(of(examples, dense), of(examples, m))) for m in shown]
    found = [(m, versus) for m, versus in found if versus.n]
    if not found:
        return opening + "."
    clear = [(m, versus) for m, versus in found if versus.p_value < 0.05]
    model, versus = max(clear or found, key=lambda each: abs(each[1].difference))
    told = f"{p_value(versus.p_value)}, n = {versus.n} sentences that both get right"
    if not clear:
        among = "no pruned model is" if len(found) > 1 else f"{name(model)} is not"
        return (
            f"{opening}; {among} detectably easier or harder to fool at this sample size (largest difference: {name(model)}, "
            f"{signed(100 * versus.difference)} points, {told})."
        )
    others = len(found) - len(clear)
    rest = (
        f"; {plural(others, 'other model')} cannot be told from dense at this sample size"
        if others
        else ""
    )
    way, ends = (
        ("more" if versus.difference > 0 else "fewer"),
        sorted((abs(versus.low), abs(versus.high))),
    )
    return (
        f"{opening}; on {name(model)} it succeeds on {100 * abs(versus.difference):.0f} points {way} "
        f"(95% interval {100 * ends[0]:.0f} to {100 * ends[1]:.0f}, {told}){rest}."
    )


def _rates_alone(rows: pd.DataFrame, shown: Sequence[ComparedModel], recipe: str) -> str:
    shown = [m for m in shown if of(rows, m).iloc[0]["attacked"]]
    if not shown:
        return ""
    worst = max(shown, key=lambda m: of(rows, m).iloc[0]["success_rate"])
    row = of(rows, worst).iloc[0]
    return (
        f"{recipe} succeeds most often on {name(worst)}: {percent(row['success_rate'])} of {row['attacked']:.0f} attacked sentences "
        f"(95% interval {percent(row['success_low'])} to {percent(row['success_high'])}); the dense model has not been attacked yet."
    )


def unable_to_attack(examples: pd.DataFrame) -> dict[str, str]:
    """Of each attack that could try no sentence at all (recipe -> a sentence), with the reason it gave most often."""
    if examples.empty:
        return {}
    return {
        recipe: f"{recipe} tried none of {plural(own['example'].nunique(), 'sentence')}. {own['note'].mode().iloc[0]}"
        for recipe, own in examples.groupby("recipe", sort=False)
        if (own["outcome"] == "error").all()
    }


def attack_settings(options: Mapping[str, Mapping[str, Any]]) -> str:
    """What the attacks on each model were allowed (label -> the measure's options as stored), and whether models differ in it."""
    told: dict[str, list[str]] = {}
    for label, own in options.items():
        told.setdefault(_allowed(own), []).append(label)
    if len(told) < 2:
        return "".join(told)
    each = " ".join(f"{', '.join(labels)}: {text}" for text, labels in told.items())
    return f"These models were attacked under different settings, so their figures do not compare. {each}"


def _allowed(own: Mapping[str, Any]) -> str:
    share, least, never, column = (
        own.get(key) for key in ("max_changed", "similarity", "protected_words", "column")
    )
    parts = [
        f"An attack may ask the model {own['query_budget']} times and take {seconds(own['time_budget'])} on a sentence",
        f"and change {'any share' if share in (None, 1) else f'at most {percent(share)}'} of its words",
        f"at a similarity of at least {least:g} to the original" if least else "",
        f"but not the words {never}" if never else "",
        f"(of a pair: {column})" if column not in (None, "first") else "",
    ]
    return f"{' '.join(filter(None, parts))}; the model computes in {own.get('precision', 'fp32')}."


def layers(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """How the best and worst of the most pruned models' errors grow with depth, and what of it is inherited."""
    if rows.empty:
        return ""
    blocks = rows[rows["part"] == "block"]
    shown = most_pruned(pruned(blocks, models))
    if not shown:
        return ""
    last = {m.job: of(blocks, m).sort_values("block").iloc[-1] for m in shown}
    best = min(shown, key=lambda m: last[m.job]["total"])
    first = of(blocks, best).sort_values("block").iloc[0]
    end = last[best.job]
    sentence = (
        f"In {name(best)} the hidden states' relative error goes from {error(first['total'])} in block {first['block'] + 1:.0f} "
        f"to {error(end['total'])} in block {end['block'] + 1:.0f}"
    )
    if len(shown) > 1:
        worst = max(shown, key=lambda m: last[m.job]["total"])
        sentence += f"; in {name(worst)} it reaches {error(last[worst.job]['total'])}"
    parts = of(rows[rows["part"] != "block"], best).groupby("block")[["own", "inherited"]].mean()
    mostly = [block + 1 for block, row in parts.iterrows() if row["inherited"] > row["own"]]
    if mostly and mostly == list(range(mostly[0], len(parts) + 1)):
        sentence += (
            f". From block {mostly[0]} on, {best.family}'s inherited error is larger than its own"
        )
    return sentence + "."


def drift(rows: pd.DataFrame, models: Sequence[ComparedModel], pooling: str = "cls") -> str:
    """Who keeps the last block's neighbours best, and who worst."""
    if rows.empty:
        return ""
    rows = rows[(rows["pooling"] == pooling) & (rows["block"] == rows["block"].max())]
    shown = pruned(rows, models)
    if not shown:
        return ""
    best, worst = (pick(shown, key=lambda m: of(rows, m).iloc[0]["overlap"]) for pick in (max, min))
    row = of(rows, best).iloc[0]
    sentence = (
        f"In the last block {name(best)} keeps {percent(row['overlap'])} of each sentence's {row['k']:.0f} nearest neighbours "
        f"(CKA {plain(row['cka'])}, mean cosine {plain(row['cosine'])})"
    )
    if worst is not best:
        other = of(rows, worst).iloc[0]
        sentence += f"; {name(worst)} keeps {percent(other['overlap'])} (CKA {plain(other['cka'])})"
    return f"{sentence}. n = {row['n']:.0f} sentences."


def cost(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """What the last of the most pruned models saves against dense, counted and measured, with the measure's own note."""
    shown = most_pruned(pruned(rows, models))
    if not shown:
        return ""
    own = of(rows, shown[-1]).set_index("model")
    was, now = own.loc["dense"], own.loc["pruned"]
    left = lambda column: percent(now[column] / was[column])  # noqa: E731
    note = "" if missing(now.get("note")) else f" {now['note']}"
    return (
        f"{_capital(name(shown[-1]))} is left with {left('nonzeros')} of the dense model's weights, {left('bytes')} of its file and "
        f"{left('macs')} of its FLOPs; a batch of {now['batch']:.0f} sentences takes {milliseconds(now['latency_p50'])}, "
        f"dense {milliseconds(was['latency_p50'])}.{note}"
    ).strip()


def busy_machine_note(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> str:
    """Which models' times other processes disturbed, and how to measure them again; "" if none."""
    busy = {m: why for m in models if len(own := of(rows, m)) and (why := disturbance(own))}
    if not busy:
        return ""
    worst = max(busy, key=lambda m: of(rows, m)["other_load"].max())
    whose = name(worst) + (f" and {plural(len(busy) - 1, 'other model')}" if len(busy) > 1 else "")
    command = f"python -m prune_core remeasure {worst.job} cost"
    return f"The times of {whose} are unreliable: {busy[worst]}. On an idle machine, measure again ({command})."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def soup(record: Mapping[str, Any]) -> str:
    """An average of fine-tunes against the most accurate of them, of its soup.json."""
    versus, reference = record["versus"], record["most_accurate"]
    final = [attempt for attempt in record["attempts"] if attempt["taken"]][-1]
    used, count = len(record["ingredients"]), len(record["candidates"])
    if record["ingredients"] == [reference]:
        return f"No average did better: {reference}, the most accurate of {count} fine-tunes, stands alone."
    before = next(row["accuracy"] for row in record["candidates"] if row["name"] == reference)
    gap = final["accuracy"] - before
    side = (
        "as accurate as"
        if abs(gap) < 5e-4
        else f"{100 * abs(gap):.1f} points {'more' if gap > 0 else 'less'} accurate than"
    )
    what = (
        f"The average of {used} of {count} fine-tunes"
        if used > 1
        else f"{record['ingredients'][0]}, alone,"
    )
    return (
        f"{what} stays right on {percent(versus['pruned'])} of the sentences under attack, {reference}, the most accurate of them, on "
        f"{percent(versus['dense'])}: {signed(100 * versus['difference'])} points (95% interval {signed(100 * versus['low'])} to "
        f"{signed(100 * versus['high'])}, {p_value(versus['p_value'])}, n = {versus['n']}). It is {side} {reference}."
    )
