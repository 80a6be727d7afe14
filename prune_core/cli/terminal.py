"""Jobs and results as text and files for the command line: lists, summaries, JSON, an exported checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import formatting as f
from ..plugins import Options, option_specs
from ..store.job import Job, Status
from ..store.store import Store

if TYPE_CHECKING:
    from ..analysis.deployment_check import Verdict
    from ..analysis.evidence import Evidence
    from ..analysis.label_order import LabelOrder
    from ..analysis.policy import Policy


def plugins(registry: Mapping[str, type[Options]]) -> str:
    """Every plug-in with its options, defaults and help."""
    lines = []
    for name, kind in registry.items():
        paper = getattr(kind, "paper", "")
        lines.append(f"{name}: {kind.title}. {kind.summary}." + (f"\n    {paper}" if paper else ""))
        for spec in option_specs(kind):
            choices = f" ({', '.join(map(str, spec['choices']))})" if spec.get("choices") else ""
            lines.append(
                f"    {spec['name'] + ' = ' + str(spec['default']):28} {spec.get('help', '')}{choices}"
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def job_table(jobs: Sequence[Job]) -> str:
    """One line a job."""
    if not jobs:
        return "There are no jobs yet. Queue the demo study with python -m prune_core demo, or start one with run."
    rows = [("ID", "STATUS", "DONE", "TIME", "LABEL", "STUDY", "")]
    for job in jobs:
        note = (
            job.error
            if job.status == Status.FAILED
            else f"{job.stage}: {job.message}"
            if job.status == Status.RUNNING
            else job.message
        )
        spent = f.seconds(sum(job.seconds.values())) if job.seconds else ""
        rows.append(
            (str(job.id), job.status, f"{job.progress:.0%}", spent, job.label, job.study, note[:80])
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[6]]
        ).rstrip()
        for row in rows
    )


def soup_table(record: Mapping[str, Any]) -> str:
    """A line a candidate, then a line a tried average; the record is a soup.json."""
    rows = [(row["name"], row) for row in record["candidates"]]
    rows += [
        (f"{'+' if row['taken'] else 'without'} {row['added'] or 'all'}", row)
        for row in record["attempts"]
    ]
    wide = max(len(name) for name, _ in rows)

    def span(row: Any, key: str) -> str:
        return f"{f.percent(row[key])} ({f.percent(row[key + '_low'])} to {f.percent(row[key + '_high'])})"

    return "\n".join(
        f"{name:{wide}}  accuracy {span(row, 'accuracy')}  under attack {span(row, 'under_attack')}"
        for name, row in rows
    )


def headline(store: Store, job: Job) -> str:
    """A job in one line."""
    if job.status != Status.DONE:
        return f"  job {job.id}: {job.label}: {job.status}. {job.error}".rstrip()
    figures = [f"{f.inline(title)} {text}" for title, text, _ in _figures(store, job)[:4]]
    told = f"  job {job.id}: {job.label}: {', '.join(figures) or 'done'}"
    order = label_order(store, job) if not job.experiment.get("method") else None
    if order is None:
        return told
    quoted = order.labels.replace("'", "''")  # as YAML escapes them
    return f"{told}\n  Warning: {order.sentence} To use this mapping, add labels: '{quoted}'"


def label_order(store: Store, job: Job) -> LabelOrder | None:
    """Return a better mapping of the label values, if the dense model fits one."""
    from ..analysis.label_order import better_order

    return (
        better_order(store.rows("prediction", [job.id]), job.facts)
        if "accuracy" in job.done
        else None
    )


def summary(store: Store, job: Job) -> str:
    """A job and its main figures."""
    facts, experiment = job.facts, job.experiment
    lines = [f"Job {job.id}: {job.label}, {job.status}, in study {job.study!r}"]
    lines.append(
        f"  {experiment['checkpoint']} on {experiment['source']['task']}, seed {experiment['seed']}"
    )
    if facts:
        lines.append(
            f"  {facts['calibration_n']} calibration and {facts['evaluation_n']} evaluation sentences, batches of {facts['batch_size']}, "
            f"{facts['dtype']} on {facts['device']} ({facts['device_title']})"
        )
    if job.seconds:
        lines.append(
            "  " + ", ".join(f"{stage} {f.seconds(spent)}" for stage, spent in job.seconds.items())
        )
    notes = [*(facts.get("notes") or ()), *_unable(store, job), *_disturbed(store, job)]
    lines += [f"  Note: {note}" for note in notes]
    if order := label_order(store, job):
        quoted = order.labels.replace("'", "'\"'\"'")  # as a POSIX shell escapes them
        advice = f"To use this mapping, run again with --labels '{quoted}'"
        lines.append(f"  Warning: {order.sentence} {advice}")
    if job.error:
        lines.append(f"  {job.error}\n  Log: {store.folder(job.id) / 'log.txt'}")
    figures = _figures(store, job)
    if figures:
        width = max(len(title) for title, _, _ in figures)
        lines += [
            "",
            *(
                f"  {title.ljust(width)}  {text:>14}  {note}".rstrip()
                for title, text, note in figures
            ),
        ]
    counts = {name: len(rows) for name, rows in store.records(job.id).items()}
    if counts:
        lines += [
            "",
            "  Tables: "
            + ", ".join(f"{name} ({f.plural(count, 'row')})" for name, count in counts.items()),
        ]
    return "\n".join(lines)


def _unable(store: Store, job: Job) -> Sequence[str]:
    """Why an attack tried no sentence."""
    from ..analysis import takeaways

    return (
        list(takeaways.unable_to_attack(store.rows("attack_example", [job.id])).values())
        if "attack" in job.done
        else ()
    )


def _disturbed(store: Store, job: Job) -> Iterator[str]:
    """Warn of times that other processes disturbed."""
    from ..analysis.evidence import disturbance

    for measure in ("cost", "forms"):
        if busy := disturbance(store.rows(measure, [job.id])):
            yield f"The times of {measure} are unreliable: {busy}; on an idle machine: python -m prune_core remeasure {job.id} {measure}"


def _figures(store: Store, job: Job) -> list[tuple[str, str, str]]:
    """(title, value, interval and n) of every quantity that the job's tables give."""
    from ..analysis import quantities

    tables = {name: store.rows(name, [job.id]) for name in store.tables(job.id)}
    found = []
    for quantity in quantities.available(tables).values():
        value, low, high, n = quantity.read(tables[quantity.table])
        interval = "" if math.isnan(low) else f"{quantity.show(low)} to {quantity.show(high)}"
        size = "" if math.isnan(n) else f"n = {n:.0f}"
        found.append(
            (quantity.title, quantity.show(value), ", ".join(filter(None, (interval, size))))
        )
    return found


def transfers(store: Store, ids: Sequence[int]) -> str:
    """A line a job whose texts were tried, a column a job whose model they met: the share that fooled it, and of how many."""
    from ..experiments.attack_transfer import TABLE, transfer_matrix

    rows = store.rows(TABLE, ids)
    found = transfer_matrix(rows[rows["source"].isin(ids)])
    found["cell"] = [f"{f.percent(row.share)} of {row.n}" for row in found.itertuples()]
    table = found.pivot(index="source", columns="job", values="cell").fillna(f.MISSING)
    labels = {job.id: f"{job.id} {job.label}" for job in map(store.job, ids)}
    return (
        table.rename(index=labels, columns=labels)
        .rename_axis(index="made on", columns="tried on")
        .to_string()
    )


def verdicts(found: Evidence, judged: Sequence[Verdict], policy: Policy) -> str:
    """The decision, then one line per test."""
    from ..analysis.deployment_check import summary_sentence

    rows = [("", "MEASURED", "LIMIT", "RESULT", "N", f"RULED OUT ({policy.confidence:g}%)", "")]
    for each in judged:
        measured = f"{each.value:.2f}" if math.isfinite(each.value) else f.MISSING
        rows.append(
            (
                each.title,
                measured,
                each.asked,
                each.answer,
                str(each.n),
                each.excluded or f.MISSING,
                each.detail,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[6]]
        ).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            f"Job {found.job.id}: {found.job.label}",
            summary_sentence(list(judged), policy),
            "",
            *lines,
        ]
    )


def result(store: Store, job: Job) -> dict[str, Any]:
    """What --json writes."""
    made = {
        "experiment": job.experiment,
        "versions": job.versions,
        "facts": job.facts,
        "seconds": job.seconds,
    }
    return made | {"rows": store.records(job.id)}


def write_json(store: Store, job: Job, path: Path) -> None:
    """The job's experiment, versions, seconds and rows as JSON."""
    path.write_text(
        json.dumps(result(store, job), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
