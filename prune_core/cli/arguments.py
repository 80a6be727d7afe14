"""Command line `python -m prune_core`: the arguments of every command.

The commands are functions of the other modules of this package, which import torch only when they
run. An error is one line on stderr, with exit status 2.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..aliases import COMMANDS
from ..errors import Cancelled, PruneError
from . import job_commands, run_commands, shard_commands, store_commands
from .check_command import check
from .experiment_arguments import (
    CANDIDATE,
    EXPERIMENT,
    add_arguments,
    add_command,
    argument,
    repeatable,
    switch,
)
from .serve import serve
from .shrink_to import shrink_to
from .training_arguments import add_finetune, add_soup
from .trim_command import add_trim

# of several commands
ID = argument("id", type=int, metavar="ID", help="ID of a job, as listed by jobs")
IDS = argument("ids", type=int, nargs="+", metavar="ID", help="IDs of jobs, as listed by jobs")
NEW_FOLDER = argument("folder", type=Path, metavar="FOLDER", help="a new or empty folder")
PLAN_FOLDER = argument("folder", type=Path, metavar="FOLDER", help="folder of the planned sweep")
RESULTS_AS_JSON = argument(
    "--json",
    type=Path,
    metavar="FILE",
    help="write experiment, versions, durations and rows as JSON",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: success, 2: user error, 130: cancelled; `check` also returns 1 and 3, `shrink-to` 1.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given:
        given[0] = COMMANDS.get(given[0], given[0])  # former names
    options = build_parser().parse_args(given)
    try:
        status = options.command(options)
        sys.stdout.flush()
    except PruneError as error:
        print(f"prune_core: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (Cancelled, KeyboardInterrupt):
        print("prune_core: cancelled", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status or 0


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m prune_core",
        description="Prune a fine-tuned encoder and measure what it cost.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_command(commands, "methods", run_commands.methods, help="list pruning methods with options")
    add_command(commands, "measures", run_commands.measures, help="list measures with options")
    add_command(commands, "tasks", run_commands.tasks, help="list the known tasks")
    _add_run(commands)
    _add_shrink_to(commands)
    _add_studies(commands)
    _add_sweep(commands)
    _add_shards(commands)
    _add_demo(commands)
    _add_jobs(commands)
    _add_export(commands)
    _add_rerun(commands)
    _add_check(commands)
    _add_results(commands)
    _add_store(commands)
    _add_serve(commands)
    add_finetune(commands)
    add_soup(commands)
    add_trim(commands)
    # without help, so that it is not listed: only the queue starts it
    worker = commands.add_parser("worker")
    add_arguments(worker, argument("--device", default="auto"), argument("--lock", type=int))
    worker.set_defaults(command=job_commands.worker)
    return parser


def _add_run(commands: Any) -> None:
    add_command(
        commands,
        "run",
        run_commands.run,
        *EXPERIMENT,
        argument(
            "--sparsity",
            metavar="FRACTION",
            help="fraction to remove, 0 to 0.99: of the weights, or of the FLOPs for methods that "
            "remove whole heads and neurons",
        ),
        argument("--pattern", metavar="N:M", help="keep at most N of every M weights, such as 2:4"),
        argument(
            "--study",
            default=run_commands.STUDY,
            help=f"study to save the run in ({run_commands.STUDY})",
        ),
        switch("--again", "recompute all stages, also finished ones"),
        RESULTS_AS_JSON,
        argument(
            "--out", type=Path, metavar="FOLDER", help="write the pruned checkpoint to a new folder"
        ),
        help="run one experiment in this process",
    )


def _add_shrink_to(commands: Any) -> None:
    add_command(
        commands,
        "shrink-to",
        shrink_to,
        *EXPERIMENT,
        argument(
            "--job",
            type=int,
            metavar="ID",
            help="take checkpoint, data, method and options from that job",
        ),
        argument(
            "--loss",
            type=float,
            default=1.0,
            metavar="POINTS",
            help="maximum loss of accuracy in percentage points, at 95%% confidence (1)",
        ),
        argument(
            "--policy",
            type=Path,
            metavar="FILE",
            help="other limits, as a YAML file, which the page Deploy can write",
        ),
        switch(
            "--fastest",
            "minimize the measured latency instead of the size; for methods that remove heads "
            "and neurons",
        ),
        repeatable(
            "--limit",
            "NAME=VALUE",
            "another limit of a policy, such as size=20 (MB), latency_p95=30 (ms) or "
            "resident_memory=300 (MB); repeatable",
        ),
        argument(
            "--formats",
            default="",
            metavar="NAME,…",
            help="search exported files in these formats, such as 'ONNX fp32,ONNX int8', or all",
        ),
        argument(
            "--trim",
            nargs="*",
            metavar="FILE",
            help="trim the vocabulary to these texts first (no FILE: the calibration pool)",
        ),
        argument(
            "--out",
            type=Path,
            metavar="FOLDER",
            help="with --formats or --trim: write the best file to a new folder",
        ),
        argument("--json", type=Path, metavar="FILE", help="write all tested files as JSON"),
        argument("--study", default="", help="study to save the trials in"),
        help="find the smallest model within limits; exit status 0 if a sparsity meets them, 1 if "
        "none does",
    ).set_defaults(sparsity=None, pattern=None)


def _add_studies(commands: Any) -> None:
    add_command(
        commands,
        "studies",
        run_commands.studies,
        help="list the bundled studies, which sweep accepts by name",
    )


def _add_sweep(commands: Any) -> None:
    parser = add_command(
        commands,
        "sweep",
        run_commands.sweep,
        argument(
            "file",
            type=Path,
            metavar="FILE",
            help="sweep file or bundled study; keys: checkpoint, task, methods, sparsities …",
        ),
        switch("--again", "recompute all stages, also finished ones"),
        repeatable("--set", "KEY=VALUE", "override a key of the file; repeatable"),
        switch("--plan", "list the experiments without running them"),
        switch("--queue", "queue them for the worker, as the pages do"),
        switch("--wait", "queue them for the worker and show the progress until they finish"),
        help="run a grid of experiments from a YAML file in this process",
    )
    add_arguments(
        parser.add_argument_group("on other machines"),
        argument(
            "--shards",
            type=int,
            metavar="N",
            help="run nothing; write a plan of N shards for run-shard",
        ),
        argument(
            "--ray",
            metavar="ADDRESS",
            help="run on a Ray cluster: host:port, auto, or local for one on this machine",
        ),
        argument("--out", type=Path, metavar="FOLDER", help="folder of the plan, on a shared disk"),
        argument("--cpus", type=int, default=2, metavar="N", help="processors per Ray task (2)"),
        argument(
            "--chunk",
            type=int,
            default=100,
            metavar="N",
            help="examples attacked per Ray task (100)",
        ),
    )


def _add_shards(commands: Any) -> None:
    add_command(
        commands,
        "run-shard",
        shard_commands.run_shard,
        PLAN_FOLDER,
        argument("number", type=int, metavar="N", help="number of the shard, from 1"),
        help="run one shard of a sweep planned with --shards",
    )
    add_command(
        commands,
        "collect",
        shard_commands.collect,
        PLAN_FOLDER,
        help="import the results of a planned sweep into the store; may be repeated at any time",
    )


def _add_demo(commands: Any) -> None:
    add_command(
        commands,
        "demo",
        run_commands.demo,
        switch("--embedding", "the demo of an embedding model with a retrieval collection"),
        switch("--guard", "the demo of a guard model that detects prompt injections"),
        switch("--wait", "show the progress until it finishes"),
        help="queue the demo study, which the pages show",
    )


def _add_jobs(commands: Any) -> None:
    add_command(commands, "jobs", job_commands.jobs, help="list all jobs")
    add_command(
        commands,
        "show",
        job_commands.show,
        ID,
        RESULTS_AS_JSON,
        help="show one job with its results",
    )
    add_command(commands, "cancel", job_commands.cancel, ID, help="stop a job")
    add_command(
        commands, "resume", job_commands.resume, ID, help="resume a failed or cancelled job"
    )


def _add_export(commands: Any) -> None:
    add_command(
        commands,
        "export",
        job_commands.export,
        ID,
        NEW_FOLDER,
        switch(
            "--shrink",
            "remove dead heads and neurons physically; load with prune_core.load(FOLDER)",
        ),
        switch("--onnx", "also write model.onnx, for any batch size and length"),
        switch(
            "--int8",
            "also write model.int8.onnx; weight matrices stay in fp32 if the job's "
            "quantization sensitivity measure proposed it",
        ),
        switch(
            "--align",
            "rotate the embeddings of queries into the space of the dense model's index, as "
            "measured by retrieval with align; documents must not be embedded with this model",
        ),
        argument(
            "--push",
            metavar="USER/NAME",
            help="also upload the folder to the Hub, as a private model",
        ),
        help="write a job's pruned checkpoint as a Hugging Face folder",
    )


def _add_rerun(commands: Any) -> None:
    add_command(
        commands,
        "reprune",
        job_commands.reprune,
        IDS,
        help="re-prune weights that were not saved, from the seed",
    )
    add_command(
        commands,
        "remeasure",
        run_commands.remeasure,
        ID,
        argument(
            "measures", nargs="+", metavar="MEASURE", help="such as cost; may be new to the job"
        ),
        repeatable(
            "--set",
            "MEASURE.OPTION=VALUE",
            "option of one of these measures, such as cost.repeats=60; repeatable",
        ),
        help="run measures of a finished job again, in this process",
    )


def _add_check(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
        check,
        argument("id", type=int, nargs="?", metavar="ID", help="ID of a job, as listed by jobs"),
        argument(
            "--policy",
            type=Path,
            metavar="FILE",
            help="limits as a YAML file, which the page Deploy can write, or the name of a preset "
            "such as mlperf-99 (the default limits)",
        ),
        argument("--json", type=Path, metavar="FILE", help="write decision and tests as JSON"),
        help="test a job's model, or a model from elsewhere, against limits; exit status 0: met, "
        "1: violated, 3: inconclusive",
    )
    add_arguments(parser.add_argument_group("a model from elsewhere"), *CANDIDATE)
    parser.set_defaults(method=None, sparsity=None, pattern=None, keep="none")


def _add_results(commands: Any) -> None:
    add_command(
        commands,
        "transfer",
        job_commands.transfer,
        IDS,
        help="test the adversarial examples of some jobs on each other's models",
    )
    add_command(
        commands,
        "rows",
        job_commands.rows,
        IDS,
        argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the files"),
        help="write all rows of some jobs as Parquet, one file per table",
    )
    add_command(
        commands,
        "log",
        job_commands.log,
        IDS,
        argument("--to", required=True, choices=("mlflow", "wandb"), help="the tracker"),
        argument(
            "--project",
            default="PruneScope",
            help="the tracker's experiment or project (PruneScope)",
        ),
        help="log jobs to MLflow or Weights & Biases (optional packages)",
    )
    add_command(
        commands,
        "report",
        job_commands.report,
        IDS,
        argument("--out", type=Path, required=True, metavar="FILE", help="an .html file"),
        help="compare jobs in one HTML file",
    )


def _add_serve(commands: Any) -> None:
    parser = add_command(
        commands,
        "serve",
        serve,
        argument(
            "--address",
            default="127.0.0.1",
            help="address to listen on; a wider one needs a login or a proxy (127.0.0.1)",
        ),
        argument("--port", type=int, default=8501, help="port to listen on (8501)"),
        argument(
            "--root",
            type=Path,
            action="append",
            default=[],
            metavar="FOLDER",
            help="a folder below which pages may open files; repeatable (any folder; with a wider "
            "address, the current one)",
        ),
        switch("--no-token", "let every user of this machine in, without the access token"),
        switch("--show-token", "print the address with the access token and exit"),
        help="run the dashboard and the supervisor of its queue",
    )
    _add_access(parser)


def _add_access(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve` that decide who may open the dashboard."""
    add_arguments(
        parser.add_argument_group("login and reverse proxy"),
        repeatable(
            "--allow",
            "WHO",
            "who may open the dashboard: an address, a domain (@lab.example.org), group:NAME, or "
            "anyone; repeatable, required with a login",
        ),
        argument(
            "--groups-claim",
            metavar="NAME",
            help="claim of the ID token that lists the user's groups (groups)",
        ),
        argument(
            "--contact",
            metavar="WHO",
            help="contact shown to users who are refused",
        ),
        argument(
            "--user-header",
            metavar="NAME",
            help="header in which a reverse proxy passes the user, such as X-Forwarded-User",
        ),
        argument(
            "--proxy-secret-file",
            type=Path,
            metavar="FILE",
            help="file with a secret that the proxy must send, readable only by this user",
        ),
        argument(
            "--proxy-secret-header",
            metavar="NAME",
            help="header that carries the secret (X-Proxy-Secret)",
        ),
    )


def _add_store(commands: Any) -> None:
    parser = commands.add_parser(
        "store", help="check, back up or recover the store", description="Maintain the store."
    )
    actions = parser.add_subparsers(required=True, metavar="WHAT")
    add_command(
        actions,
        "check",
        store_commands.check,
        help="test whether every page and row can be read; exit status 1 if not",
    )
    add_command(
        actions,
        "backup",
        store_commands.backup,
        argument(
            "--no-weights",
            dest="weights",
            action="store_false",
            help="results only, without pruned weights and logs",
        ),
        NEW_FOLDER,
        help="copy the store to an empty folder, also while jobs run",
    )
    add_command(
        actions,
        "rescue",
        store_commands.rescue,
        NEW_FOLDER,
        help="recover what can be read of a damaged store to an empty folder",
    )
    add_command(
        actions,
        "rebuild",
        store_commands.rebuild,
        help="add jobs to the index whose folders are here: of a deleted index, or copied",
    )
    add_command(
        actions, "compact", store_commands.compact, help="free the disk space of deleted rows"
    )
    add_command(
        actions,
        "events",
        store_commands.events,
        argument("--last", type=int, default=100, metavar="N", help="how many (100)"),
        help="list who submitted, cancelled, resumed, renamed and deleted",
    )
