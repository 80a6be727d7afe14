"""Arguments that several commands share: the data and the settings of an experiment."""

import argparse
from typing import Any, TypeAlias

Argument: TypeAlias = tuple[tuple[str, ...], dict[str, Any]]


def argument(*flags: str, **options: Any) -> Argument:
    """Describe an argument of a command, with the parameters of `add_argument`."""
    return flags, options


def switch(flag: str, help: str) -> Argument:
    """Describe an option without a value, which is off by default."""
    return argument(flag, action="store_true", help=help)


def repeatable(flag: str, metavar: str, help: str) -> Argument:
    """Describe an option whose values are collected in a list."""
    return argument(flag, action="append", default=[], metavar=metavar, help=help)


def add_arguments(parser: Any, *arguments: Argument) -> None:
    """Add the arguments to a parser or to a group of it."""
    for flags, options in arguments:
        parser.add_argument(*flags, **options)


def add_command(
    commands: Any, name: str, command: Any, *arguments: Argument, help: str
) -> argparse.ArgumentParser:
    """Add a command, implemented by the function `command`; return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}."
    )
    parser.set_defaults(command=command)
    add_arguments(parser, *arguments)
    return parser


def _text(flag: str, metavar: str | None, help: str) -> Argument:
    return argument(flag, default="", metavar=metavar, help=help)


# of a data source
SOURCE = (
    argument(
        "--task",
        default="demo",
        help="demo, a known task, a file (.csv .tsv .txt .json .jsonl .parquet .arrow .xlsx "
        ".conll, optionally compressed), a folder made by save_to_disk, or a Hub id",
    ),
    _text("--text", "COLUMN", "text column; nested fields by their dotted name"),
    _text("--text-pair", "COLUMN", "second text column"),
    _text(
        "--label",
        "COLUMN",
        "label column; several, separated by commas, for columns of 1 and 0; - for no labels",
    ),
    _text(
        "--labels",
        "VALUE=LABEL,…",
        "the model's label for each label value, or 'leave out'",
    ),
    _text(
        "--separator",
        None,
        "column separator of a text table, if detected incorrectly: comma, tab, semicolon, bar, "
        "none",
    ),
    _text("--encoding", None, "encoding of a text file, if detected incorrectly, such as cp1252"),
    _text(
        "--header",
        None,
        "yes or no: whether the first row of a text table contains the column names",
    ),
    _text(
        "--quotes",
        None,
        "quotes in a text table; yes: they enclose cells; backslash: the same, with quotes inside "
        "escaped by a backslash; no: they are text",
    ),
    _text(
        "--bad-rows",
        "skip|merge",
        "skip: leave out invalid rows; merge: merge extra cells of a row into the text column (set "
        "this when an error message asks for it)",
    ),
    _text("--config", "NAME", "configuration of a Hub dataset"),
    _text(
        "--split",
        "NAME",
        "split to evaluate on (for files: value of the column split), or sheet of an Excel file",
    ),
    _text(
        "--metric",
        None,
        "metric to evaluate by, such as matthews (default: the metric of the task)",
    ),
)
# of an experiment, its data source included
EXPERIMENT = (
    argument("--checkpoint", default="demo", help="demo, a local folder, or a Hub id"),
    *SOURCE,
    _text(
        "--calibration",
        "FILE",
        "a file, a known task or demo; needs no labels. job:ID: adversarial examples of that job; "
        "job:ID+clean: half of them, half their original texts",
    ),
    argument(
        "--min-words",
        default="auto",
        metavar="N",
        help="minimum length of a calibration text in tokens of the model; 0: any; auto: nine if "
        "enough texts have as many (auto)",
    ),
    argument(
        "--calibration-size",
        type=int,
        default=256,
        metavar="N",
        help="number of calibration examples (256)",
    ),
    argument(
        "--evaluation-size",
        type=int,
        default=0,
        metavar="N",
        help="number of evaluation examples; 0: all (0)",
    ),
    argument("--method", help="pruning method; without one the dense model is measured"),
    repeatable("--measure", "NAME", "measure to run; repeatable"),
    repeatable(
        "--set",
        "OPTION=VALUE",
        "option of the method, or of a measure as measure.option=value; repeatable",
    ),
    argument(
        "--seed", type=int, default=0, help="random seed of samples, methods and measures (0)"
    ),
    argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps"),
    switch("--tf32", "let CUDA's matrix products round to TF32: faster, results change slightly"),
    argument("--batch-size", type=int, default=32, metavar="N", help="examples per batch (32)"),
    argument(
        "--max-length",
        type=int,
        default=128,
        metavar="TOKENS",
        help="truncate longer texts (128)",
    ),
    argument(
        "--keep",
        default="difference",
        help="how to save pruned weights: as a difference from the dense ones, full, or none; "
        "export re-prunes from the seed if needed (difference)",
    ),
)
