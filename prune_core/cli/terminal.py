"""Jobs and results as text and JSON for the command line."""

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
    import pandas as pd

    from ..analysis.criteria import Verdict
    from ..analysis.evidence import Evidence
    from ..analysis.label_order import LabelOrder
    from ..deployment.combined_check import CombinedCheck
    from ..deployment.joint_search_run import JointSearchResult
    from ..deployment.policy import Policy


def plugin_list(registry: Mapping[str, type[Options]]) -> str:
    """Format every plug-in with its options, defaults and help."""
    lines = []
    for name, kind in registry.items():
        paper = getattr(kind, "paper", "")
        title = kind.title.removesuffix(".")  # "Kwon et al." ends with a period
        lines.append(f"{name}: {title}. {kind.summary}." + (f"\n    {paper}" if paper else ""))
        for spec in option_specs(kind):
            choices = ", ".join(str(choice) for choice in spec.get("choices") or () if choice != "")
            choices = f" ({choices})" if choices else ""
            default = f"{spec['name']} = {spec['default']}"
            lines.append(f"    {default:28} {spec.get('help', '')}{choices}")
        lines.append("")
    return "\n".join(lines).rstrip()


def job_table(jobs: Sequence[Job]) -> str:
    """Format jobs, one per line."""
    if not jobs:
        return (
            "There are no jobs yet. Queue the demo study with python -m prune_core demo, or start "
            "one with run."
        )
    rows = [("ID", "STATUS", "DONE", "TIME", "LABEL", "STUDY", "")]
    for job in jobs:
        notes = {Status.FAILED: job.error, Status.RUNNING: f"{job.stage}: {job.message}"}
        note = notes.get(job.status, job.message)
        spent = f.seconds(sum(job.seconds.values())) if job.seconds else ""
        rows.append(
            (str(job.id), job.status, f"{job.progress:.0%}", spent, job.label, job.study, note[:80])
        )
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Align the first six columns; the seventh is free text."""
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[6]]
        for row in rows
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


def soup_table(record: Mapping[str, Any]) -> str:
    """Format a soup.json: one line per candidate, then one per attempted average."""
    rows = [(row["name"], row) for row in record["candidates"]]
    rows += [
        (f"{'+' if row['taken'] else 'without'} {row['added'] or 'all'}", row)
        for row in record["attempts"]
    ]
    width = max(len(name) for name, _ in rows)

    def interval(row: Any, key: str) -> str:
        low, high = f.percent(row[f"{key}_low"]), f.percent(row[f"{key}_high"])
        return f"{f.percent(row[key])} ({low} to {high})"

    return "\n".join(
        f"{name:{width}}  accuracy {interval(row, 'accuracy')}  "
        f"accuracy under attack {interval(row, 'under_attack')}"
        for name, row in rows
    )


def headline(store: Store, job: Job) -> str:
    """Format a job in one line, with its first four metrics."""
    if job.status != Status.DONE:
        return f"  job {job.id}: {job.label}: {job.status}. {job.error}".rstrip()
    metrics = [f"{f.inline(title)} {text}" for title, text, _ in _metrics(store, job)[:4]]
    line = f"  job {job.id}: {job.label}: {', '.join(metrics) or 'done'}"
    order = label_order(store, job) if not job.experiment.get("method") else None
    if order is None:
        return line
    quoted = order.labels.replace("'", "''")  # as YAML escapes them
    return f"{line}\n  Warning: {order.sentence} To use this mapping, add labels: '{quoted}'"


def label_order(store: Store, job: Job) -> LabelOrder | None:
    """Return a mapping of the label values that fits the dense model better, if there is one."""
    from ..analysis.label_order import better_order

    if "accuracy" not in job.done:
        return None
    return better_order(store.rows("prediction", [job.id]), job.facts)


def summary(store: Store, job: Job) -> str:
    """Format a job with its settings, notes, metrics and tables."""
    facts, experiment = job.facts, job.experiment
    lines = [
        f"Job {job.id}: {job.label}, {job.status}, in study {job.study!r}",
        f"  {experiment['checkpoint']} on {experiment['source']['task']}, "
        f"seed {experiment['seed']}",
    ]
    if facts:
        lines.append(
            f"  {facts['calibration_n']} calibration examples, {facts['evaluation_n']} evaluation "
            f"{job.units}, batch size {facts['batch_size']}, {facts['dtype']} on {facts['device']} "
            f"({facts['device_title']})"
        )
    if job.seconds:
        spent = (f"{stage} {f.seconds(spent)}" for stage, spent in job.seconds.items())
        lines.append("  " + ", ".join(spent))
    notes = [*(facts.get("notes") or ()), *_not_attacked(store, job), *_disturbed(store, job)]
    lines += [f"  Note: {note}" for note in notes]
    if order := label_order(store, job):
        quoted = order.labels.replace("'", "'\"'\"'")  # as a POSIX shell escapes them
        advice = f"To use this mapping, run again with --labels '{quoted}'"
        lines.append(f"  Warning: {order.sentence} {advice}")
    if job.error:
        lines.append(f"  {job.error}\n  Log: {store.folder(job.id) / 'log.txt'}")
    metrics = _metrics(store, job)
    if metrics:
        width = max(len(title) for title, _, _ in metrics)
        lines.append("")
        lines += [
            f"  {title.ljust(width)}  {text:>14}  {note}".rstrip() for title, text, note in metrics
        ]
    lines += [line for sentence in _advice(store, job) for line in ("", f"  {sentence}")]
    lines += formats_table(store.rows("formats", [job.id]))
    lines += _facts(store, job)
    counts = {name: len(rows) for name, rows in store.records(job.id).items()}
    if counts:
        tables = (f"{name} ({f.plural(count, 'row')})" for name, count in counts.items())
        lines += ["", "  Tables: " + ", ".join(tables)]
    return "\n".join(lines)


def _advice(store: Store, job: Job) -> list[str]:
    """Return what the measures advise for a pruned model; warn of a dense reranker that harms."""
    from .. import views
    from ..analysis.compared_models import models_of
    from ..analysis.evidence import evidence

    if job.experiment["method"]:
        return views.advice(evidence(store, job), {})
    rows = store.rows("reranking", [job.id])
    return views.reranking.warnings({"reranking": rows}, models_of([job])) if len(rows) else []


def _facts(store: Store, job: Job) -> list[str]:
    """Return the facts about a candidate; [] for other jobs."""
    from ..analysis.candidate_facts import candidate_facts
    from ..analysis.evidence import evidence

    facts = candidate_facts(evidence(store, job)) if job.is_candidate else []
    return [facts_report(facts)] if len(facts) else []


def _not_attacked(store: Store, job: Job) -> Sequence[str]:
    """Return why an attack could not run on any example."""
    from ..analysis import takeaways

    if "attack" not in job.done:
        return ()
    return list(takeaways.unable_to_attack(store.rows("attack_example", [job.id])).values())


def _disturbed(store: Store, job: Job) -> Iterator[str]:
    """Warn of timings that other processes have disturbed."""
    from ..analysis.cost_evidence import disturbance

    for measure in ("cost", "formats", "reranking"):
        if busy := disturbance(store.rows(measure, [job.id])):
            yield (
                f"The timings of {measure} are unreliable: {busy}; on an idle machine, run "
                f"python -m prune_core remeasure {job.id} {measure}"
            )


def _metrics(store: Store, job: Job) -> list[tuple[str, str, str]]:
    """Return (title, value, interval and n) of every metric in the job's tables."""
    from .. import views

    tables = {name: store.rows(name, [job.id]) for name in store.tables(job.id)}
    metrics = []
    for quantity in views.quantities(tables).values():
        value, low, high, n = quantity.read(tables[quantity.table])
        interval = "" if math.isnan(low) else f"{quantity.show(low)} to {quantity.show(high)}"
        count = "" if math.isnan(n) else f"n = {n:.0f}"
        metrics.append(
            (quantity.title, quantity.show(value), ", ".join(filter(None, (interval, count))))
        )
    return metrics


def formats_table(files: pd.DataFrame) -> list[str]:
    """Format the rows of exported files, one line each, after a sentence on what was measured."""
    from ..analysis.exported_files import description
    from ..tasks import METRICS

    if files.empty:
        return []
    metric = METRICS[files["metric"].iloc[0]]
    show, change = (f.percent, f.points) if metric.share else (f.plain, f.plain)
    difference = f"DIFFERENCE{' (POINTS)' if metric.share else ''}"
    rows = [("MODEL", "FORMAT", metric.title, difference, "SPEED-UP", "SIZE", "")]
    for file in files.to_dict("records"):
        low, high = (change(file[f"difference_{end}"]) for end in ("low", "high"))
        interval = f"{change(file['difference'])} ({low} to {high})".replace(" points", "")
        speedup, size = f"{file['speedup']:.2f}", f.size(file["bytes"])
        rows.append(
            (file["model"], file["format"], show(file["score"]), interval, speedup, size, "")
        )
    return ["", f"  {description(files)}", *(f"  {line}" for line in _aligned(rows).split("\n"))]


def search_table(result: JointSearchResult) -> str:
    """Format the files of a joint search, one line each, the smallest first."""
    rows = [("", "FILE", "SCORE", "SIZE", "MS", "SPEED-UP", "MEMORY")]
    for file in result.table.sort_values("bytes").to_dict("records"):
        if math.isnan(file["bytes"]):
            continue
        low, high = f.percent(file["score_low"]), f.percent(file["score_high"])
        marks = ("→" if file["chosen"] else " ") + ("*" if file["front"] else " ")
        rows.append(
            (
                marks,
                file["label"],
                f"{f.percent(file['score'])} ({low} to {high})",
                f.size(file["bytes"]),
                f"{1e3 * file['latency']:.1f}",
                f"{file['speedup']:.2f}",
                f.size(file["memory"]),
            )
        )
    return f"{_aligned(rows)}\n(→ chosen, * on the Pareto front)"


def transfer_table(store: Store, ids: Sequence[int]) -> str:
    """Format success rates of adversarial examples: rows are source jobs, columns target jobs."""
    from ..experiments.attack_transfer import TABLE, transfer_matrix

    rows = store.rows(TABLE, ids)
    matrix = transfer_matrix(rows[rows["source"].isin(ids)])
    matrix["cell"] = [f"{f.percent(row.share)} of {row.n}" for row in matrix.itertuples()]
    table = matrix.pivot(index="source", columns="job", values="cell").fillna(f.MISSING)
    labels = {job.id: f"{job.id} {job.label}" for job in map(store.job, ids)}
    return (
        table.rename(index=labels, columns=labels)
        .rename_axis(index="made on", columns="evaluated on")
        .to_string()
    )


def check_report(results: Evidence, verdicts: Sequence[Verdict], policy: Policy) -> str:
    """Format the decision, then one line per test."""
    from ..deployment.deployment_check import advice, summary_sentence

    sentences = [summary_sentence(list(verdicts), policy), *advice(results, policy)]
    head = "\n".join([f"Job {results.job.id}: {results.job.label}", *sentences])
    return f"{head}\n\n{_verdict_table(verdicts, policy)}"


def combined_report(label: str, result: CombinedCheck) -> str:
    """Format the decision over several test sets, then one line per test."""
    verdicts = [verdict for of_set in result.verdicts.values() for verdict in of_set]
    head = f"{label}\n{result.summary}"
    return f"{head}\n\n{_verdict_table(verdicts, result.policy)}"


def _verdict_table(verdicts: Sequence[Verdict], policy: Policy) -> str:
    rows = [("", "MEASURED", "LIMIT", "RESULT", "N", f"RULED OUT ({policy.confidence:g}%)", "")]
    for verdict in verdicts:
        measured = f"{verdict.value:.2f}" if math.isfinite(verdict.value) else f.MISSING
        rows.append(
            (
                verdict.title,
                measured,
                verdict.limit_text,
                verdict.result,
                str(verdict.n),
                verdict.excluded or f.MISSING,
                verdict.detail,
            )
        )
    return _aligned(rows)


def facts_report(facts: pd.DataFrame) -> str:
    """Format the facts about a candidate, one line each, and its warnings."""
    width = max(map(len, facts["fact"]))
    lines = [f"  {row.fact.ljust(width)}  {row.value}" for row in facts.itertuples()]
    lines += [f"  Warning: {warning}" for warning in facts["warning"] if warning]
    return "\n".join(["", *lines])


def job_record(store: Store, job: Job) -> dict[str, Any]:
    """Return the content of the --json file."""
    return {
        "experiment": job.experiment,
        "versions": job.versions,
        "facts": job.facts,
        "seconds": job.seconds,
        "rows": store.records(job.id),
    }


def write_json(store: Store, job: Job, path: Path) -> None:
    """Write the job's experiment, versions, seconds and rows as JSON."""
    path.write_text(
        json.dumps(job_record(store, job), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
