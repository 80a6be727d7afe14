"""python -m prune_core …: the arguments of every command. Errors are one line on stderr and exit status 2.

What the commands do is in the files beside this one; nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import Cancelled, PruneError
from . import job_commands, run_commands, shard_commands, store_commands, training_commands
from .serve import serve
from .shrink_to import shrink_to


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 for a mistake of the user's, 130 when cancelled; `check` answers with 1 and 3 too."""
    options = parser().parse_args(arguments)
    try:
        status = options.command(options)
        sys.stdout.flush()
    except PruneError as error:
        print(f"prune_core: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (Cancelled, KeyboardInterrupt):
        print("prune_core: cancelled", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status or 0


def parser() -> argparse.ArgumentParser:
    """Of every command."""
    parser = argparse.ArgumentParser(
        prog="python -m prune_core",
        description="Prune a fine-tuned encoder and measure what it cost.",
    )
    added = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(added, "methods", run_commands.methods, help="the pruning methods and their options")
    _command(added, "measures", run_commands.measures, help="the measures and their options")
    _command(added, "tasks", run_commands.tasks, help="the known tasks")
    _add_run(added)
    _add_shrink_to(added)
    _add_studies(added)
    _add_jobs(added)
    _add_store(added)
    _add_serve(added)
    _add_finetune(added)
    _add_soup(added)
    worker = added.add_parser("worker")  # the queue starts it, so it has no help and is not listed
    worker.add_argument("--device", default="auto")
    worker.add_argument("--lock", type=int, default=None)
    worker.set_defaults(command=job_commands.worker)
    return parser


def _command(added: Any, name: str, command: Any, help: str) -> argparse.ArgumentParser:
    parser = added.add_parser(name, help=help, description=help.capitalize() + ".")
    parser.set_defaults(command=command)
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    task = "demo, a known task, a file (.csv .tsv .txt .json .jsonl .parquet .arrow .xlsx .conll, also packed), a saved folder, a Hub id"
    parser.add_argument("--task", default="demo", help=task)
    parser.add_argument(
        "--text",
        default="",
        metavar="COLUMN",
        help="text column; nested fields by their dotted name",
    )
    parser.add_argument("--text-pair", default="", metavar="COLUMN", help="second text column")
    label = "label column; several separated by commas for columns of 1 and 0; - to use none"
    parser.add_argument("--label", default="", metavar="COLUMN", help=label)
    parser.add_argument(
        "--labels",
        default="",
        metavar="VALUE=LABEL,…",
        help="which of the model's labels values mean, or 'leave out'",
    )
    parser.add_argument(
        "--separator",
        default="",
        help="of a text table, where it is not found rightly: comma, tab, semicolon, bar, none",
    )
    parser.add_argument(
        "--encoding",
        default="",
        help="of a text file, where it is not found rightly, such as cp1252",
    )
    parser.add_argument(
        "--header",
        default="",
        help="yes or no: whether the first row of a text table names its columns",
    )
    quotes = "yes: quotes enclose cells of a text table; backslash: so, escaped by a backslash; no: quotes are text"
    parser.add_argument("--quotes", default="", help=quotes)
    bad = "skip: leave out rows that cannot be used; merge: put extra cells of a row into the text column (an error asks)"
    parser.add_argument("--bad-rows", default="", metavar="skip|merge", help=bad)
    parser.add_argument(
        "--config", default="", metavar="NAME", help="configuration of a Hub data set"
    )
    parser.add_argument(
        "--split",
        default="",
        metavar="NAME",
        help="split to evaluate on (a file's by its column split), or an Excel file's sheet",
    )
    parser.add_argument(
        "--metric",
        default="",
        help="the figure to judge by, such as matthews; the task's own without it",
    )


def _add_run(added: Any) -> None:
    parser = _command(added, "run", run_commands.run, help="run one experiment in this process")
    _add_experiment(parser)
    share = (
        "share of the weights to remove, of the FLOPs where whole heads and neurons go; 0 to 0.99"
    )
    parser.add_argument("--sparsity", metavar="SHARE", help=share)
    parser.add_argument(
        "--pattern", metavar="N:M", help="keep at most N of every M weights, such as 2:4"
    )
    parser.add_argument(
        "--study",
        default=run_commands.STUDY,
        help=f"the study it is kept in ({run_commands.STUDY})",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write experiment, versions, seconds and rows here",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write the pruned checkpoint here"
    )


def _add_shrink_to(added: Any) -> None:
    told = "as small as it gets within limits: exit 0 where a share holds them, 1 where none does"
    parser = _command(added, "shrink-to", shrink_to, help=told)
    _add_experiment(parser)
    parser.add_argument(
        "--job",
        type=int,
        metavar="ID",
        help="take checkpoint, data, method and options from that job",
    )
    parser.add_argument(
        "--loss",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="most that accuracy may fall, at 95%% confidence (1)",
    )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="other limits, as YAML; the Deploy page writes one",
    )
    parser.add_argument(
        "--fastest",
        action="store_true",
        help="by measured speed, not by share; of heads and neurons",
    )
    parser.add_argument("--study", default="", help="the study that keeps the tries")
    parser.set_defaults(sparsity=None, pattern=None)


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="demo", help="demo, a local folder, or a Hub id")
    _add_source(parser)
    calibration = "a file, a known task or demo; needs no labels. job:ID: texts that flipped its model; job:ID+clean: half of each"
    parser.add_argument("--calibration", default="", metavar="FILE", help=calibration)
    least = "least length of a calibration text in tokens of the model; 0 is any; auto is nine where enough have as many (auto)"
    parser.add_argument("--min-words", default="auto", metavar="N", help=least)
    parser.add_argument(
        "--calibration-size", type=int, default=256, metavar="N", help="calibration sentences (256)"
    )
    parser.add_argument(
        "--evaluation-size",
        type=int,
        default=0,
        metavar="N",
        help="evaluation sentences (0, which is all)",
    )
    parser.add_argument(
        "--method", help="a pruning method; without one the dense model is measured"
    )
    parser.add_argument(
        "--measure", action="append", default=[], metavar="NAME", help="a measure; may be repeated"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the method, or of a measure as measure.option=value; may be repeated",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the samples and of everything random (0)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument(
        "--tf32",
        action="store_true",
        help="let CUDA's matrix products round to TF32: faster, and figures move a little",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="sentences per batch (32)"
    )
    parser.add_argument(
        "--max-length", type=int, default=128, metavar="TOKENS", help="longer texts are cut (128)"
    )
    keep = "pruned weights: as a difference from the dense ones, full, or none; export makes them again from the seed (difference)"
    parser.add_argument("--keep", default="difference", help=keep)


def _add_studies(added: Any) -> None:
    _command(
        added,
        "studies",
        run_commands.studies,
        help="the bundled studies, which sweep takes by name",
    )
    parser = _command(
        added,
        "sweep",
        run_commands.sweep,
        help="run a grid of experiments from a YAML file in this process",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a file or a bundled study; keys: checkpoint, task, methods, sparsities …",
    )
    parser.add_argument(
        "--again", action="store_true", help="compute anew what is finished already"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the file with another value; may be repeated",
    )
    parser.add_argument("--plan", action="store_true", help="list the experiments and run none")
    parser.add_argument(
        "--queue", action="store_true", help="leave them to the worker, as the pages do"
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="leave them to the worker and show its progress until it is over",
    )
    elsewhere = parser.add_argument_group("on other machines")
    elsewhere.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="run nothing; write it down in N parts for run-shard",
    )
    elsewhere.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run it on a Ray cluster: host:port, auto, or local for one on this machine",
    )
    elsewhere.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the parts, on a disk that all machines share"
    )
    elsewhere.add_argument(
        "--cpus", type=int, default=2, metavar="N", help="processors of a Ray task (2)"
    )
    elsewhere.add_argument(
        "--chunk",
        type=int,
        default=100,
        metavar="N",
        help="sentences that one Ray task attacks (100)",
    )
    shard = _command(
        added,
        "run-shard",
        shard_commands.run_shard,
        help="run one part of a sweep that was written down by --shards",
    )
    shard.add_argument("folder", type=Path, metavar="FOLDER")
    shard.add_argument("number", type=int, metavar="N", help="from 1")
    told = "bring what parts of a sweep have finished into the store; as often as you like"
    _command(added, "collect", shard_commands.collect, help=told).add_argument(
        "folder", type=Path, metavar="FOLDER"
    )
    parser = _command(
        added, "demo", run_commands.demo, help="queue the demo study, which the pages show"
    )
    parser.add_argument("--wait", action="store_true", help="show its progress until it is over")


def _add_jobs(added: Any) -> None:
    _command(added, "jobs", job_commands.jobs, help="all jobs")
    show = _command(added, "show", job_commands.show, help="one job with its rows")
    cancel = _command(added, "cancel", job_commands.cancel, help="stop a job")
    resume = _command(
        added, "resume", job_commands.resume, help="go on with a failed or cancelled job"
    )
    export = _command(
        added,
        "export",
        job_commands.export,
        help="write a job's pruned checkpoint as a Hugging Face folder",
    )
    for parser in (show, cancel, resume, export):
        parser.add_argument("id", type=int, metavar="ID")
    show.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write experiment, versions, seconds and rows here",
    )
    export.add_argument("folder", type=Path, metavar="FOLDER")
    export.add_argument(
        "--shrink",
        action="store_true",
        help="cut dead heads and neurons; loads again by prune_core.load(FOLDER)",
    )
    export.add_argument(
        "--onnx", action="store_true", help="write model.onnx too, for any batch size and length"
    )
    told = (
        "write model.int8.onnx beside it; what the job's quantisation doctor proposed stays in fp32"
    )
    export.add_argument("--int8", action="store_true", help=told)
    again = _command(
        added,
        "remake",
        job_commands.reprune,
        help="make pruned weights again that were not kept, from the seed",
    )
    again.add_argument("ids", type=int, nargs="+", metavar="ID")
    measure = _command(
        added,
        "remeasure",
        run_commands.remeasure,
        help="run measures of a finished job again, in this process",
    )
    measure.add_argument("id", type=int, metavar="ID")
    measure.add_argument(
        "measures", nargs="+", metavar="MEASURE", help="such as cost; may be new to the job"
    )
    changes = "an option of such a measure, as cost.repeats=60; may be repeated"
    measure.add_argument(
        "--set", action="append", default=[], metavar="MEASURE.OPTION=VALUE", help=changes
    )
    export.add_argument(
        "--push", metavar="USER/NAME", help="upload the folder to the Hub too, as a private model"
    )
    check = _command(
        added,
        "check",
        job_commands.check,
        help="may a job's model ship? exit 0: yes, 1: no, 3: inconclusive",
    )
    check.add_argument("id", type=int, metavar="ID")
    check.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="limits as YAML; the Deploy page writes one (the usual limits)",
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write decision and tests here")
    told = "try the adversarial texts of some jobs on each other's models"
    _command(added, "transfer", job_commands.transfer, help=told).add_argument(
        "ids", type=int, nargs="+", metavar="ID"
    )
    rows = _command(
        added,
        "rows",
        job_commands.rows,
        help="write all rows of some jobs as Parquet, a file a table",
    )
    rows.add_argument("ids", type=int, nargs="+", metavar="ID")
    rows.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    log = _command(
        added,
        "log",
        job_commands.log,
        help="log jobs to MLflow or Weights & Biases (optional packages)",
    )
    log.add_argument("ids", type=int, nargs="+", metavar="ID")
    log.add_argument("--to", required=True, choices=("mlflow", "wandb"))
    log.add_argument(
        "--project", default="PruneScope", help="the tracker's experiment or project (PruneScope)"
    )
    report = _command(
        added,
        "report",
        job_commands.report,
        help="write jobs side by side into one HTML file",
    )
    report.add_argument("ids", type=int, nargs="+", metavar="ID")
    report.add_argument("--out", type=Path, required=True, metavar="FILE")


def _add_serve(added: Any) -> None:
    parser = _command(
        added, "serve", serve, help="run the dashboard and the supervisor of its queue"
    )
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="address to listen on; a wider one needs a login or a proxy (127.0.0.1)",
    )
    parser.add_argument("--port", type=int, default=8501, help="(8501)")
    told = "a folder below which pages may open files; repeatable (any folder; with a wider address, the current one)"
    parser.add_argument(
        "--root", type=Path, action="append", default=[], metavar="FOLDER", help=told
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="let every user of this machine in, without the access token",
    )
    parser.add_argument(
        "--show-token", action="store_true", help="print the address with the access token and exit"
    )
    login = parser.add_argument_group("login and reverse proxy")
    told = "who may enter: an address, a domain (@lab.example.org), group:NAME, or anyone; repeatable, required with a login"
    login.add_argument("--allow", action="append", default=[], metavar="WHO", help=told)
    login.add_argument(
        "--groups-claim",
        metavar="NAME",
        help="claim of the ID token that lists the user's groups (groups)",
    )
    login.add_argument(
        "--contact", metavar="WHO", help="whom people who may not enter are told to ask"
    )
    login.add_argument(
        "--user-header",
        metavar="NAME",
        help="header in which a reverse proxy passes the user, such as X-Forwarded-User",
    )
    told = "file with a secret that the proxy must send, readable only by this user"
    login.add_argument("--proxy-secret-file", type=Path, metavar="FILE", help=told)
    login.add_argument(
        "--proxy-secret-header",
        metavar="NAME",
        help="header that carries the secret (X-Proxy-Secret)",
    )


def _add_store(added: Any) -> None:
    parser = added.add_parser(
        "store", help="check, back up or rescue the store", description="Look after the store."
    )
    inner = parser.add_subparsers(required=True, metavar="WHAT")
    _command(
        inner,
        "check",
        store_commands.check,
        help="whether every page and every row can be read; exit 1 where not",
    )
    backup = _command(
        inner,
        "backup",
        store_commands.backup,
        help="copy the store into an empty folder, also while jobs run",
    )
    backup.add_argument(
        "--no-weights",
        dest="weights",
        action="store_false",
        help="figures only, without pruned weights and logs",
    )
    rescue = _command(
        inner,
        "rescue",
        store_commands.rescue,
        help="save what can be read of a damaged store into an empty folder",
    )
    for each in (backup, rescue):
        each.add_argument("folder", type=Path, metavar="FOLDER")
    _command(
        inner,
        "compact",
        store_commands.compact,
        help="give space that deletions left back to the disk",
    )
    events = _command(
        inner,
        "events",
        store_commands.events,
        help="who submitted, cancelled, resumed, renamed and deleted",
    )
    events.add_argument("--last", type=int, default=100, metavar="N", help="how many (100)")


def _add_finetune(added: Any) -> None:
    parser = _command(
        added, "finetune", training_commands.finetune, help="fine-tune an encoder for a task"
    )
    _add_source(parser)
    parser.add_argument(
        "--validation", required=True, help="file or known task to choose the best epoch by"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for the checkpoint")
    parser.add_argument(
        "--adversarial",
        default="none",
        help="none, or freelb: also against small changes of the word embeddings (none)",
    )
    # names only: importing the recipe here would cost every command torch
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the recipe: checkpoint epochs learning_rate batch_size examples max_length warmup optimizer "
        "weight_decay dropout adversarial_steps adversarial_step_size adversarial_norm average checks patience "
        "mixed_precision half seed device",
    )


def _add_soup(added: Any) -> None:
    parser = _command(
        added,
        "soup",
        training_commands.soup,
        help="average fine-tunes of one encoder into a model that attacks hurt less",
    )
    _add_source(parser)
    parser.add_argument(
        "--validation", required=True, help="file or known task to measure accuracy and attacks on"
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a fine-tune; may be repeated",
    )
    parser.add_argument(
        "--recipes",
        type=Path,
        metavar="FILE",
        help="a YAML list of fine-tuning options: these are made first",
    )
    parser.add_argument(
        "--each",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of every recipe; may be repeated",
    )
    parser.add_argument(
        "--epochs-share",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of every recipe's epochs, at least one stays (1)",
    )
    parser.add_argument(
        "--way",
        default="greedy-attack",
        help="greedy-attack, greedy-accuracy or uniform (greedy-attack)",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help="folder for the average, its record and what was measured",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the soup: attack attack_examples examples allowed_loss query_budget time_budget max_changed precision "
        "max_length seed device",
    )
