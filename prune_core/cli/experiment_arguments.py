"""Arguments for the data and the settings of an experiment, shared by several commands."""

import argparse


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a data source."""
    task = (
        "demo, a known task, a file (.csv .tsv .txt .json .jsonl .parquet .arrow .xlsx .conll, "
        "optionally compressed), a folder made by save_to_disk, or a Hub id"
    )
    parser.add_argument("--task", default="demo", help=task)
    parser.add_argument(
        "--text",
        default="",
        metavar="COLUMN",
        help="text column; nested fields by their dotted name",
    )
    parser.add_argument("--text-pair", default="", metavar="COLUMN", help="second text column")
    label = "label column; several, separated by commas, for columns of 1 and 0; - for no labels"
    parser.add_argument("--label", default="", metavar="COLUMN", help=label)
    parser.add_argument(
        "--labels",
        default="",
        metavar="VALUE=LABEL,…",
        help="the model's label for each label value, or 'leave out'",
    )
    parser.add_argument(
        "--separator",
        default="",
        help="column separator of a text table, if detected incorrectly: comma, tab, semicolon, "
        "bar, none",
    )
    parser.add_argument(
        "--encoding",
        default="",
        help="encoding of a text file, if detected incorrectly, such as cp1252",
    )
    parser.add_argument(
        "--header",
        default="",
        help="yes or no: whether the first row of a text table contains the column names",
    )
    quotes = (
        "quotes in a text table; yes: they enclose cells; backslash: the same, with quotes inside "
        "escaped by a backslash; no: they are text"
    )
    parser.add_argument("--quotes", default="", help=quotes)
    bad = (
        "skip: leave out invalid rows; merge: merge extra cells of a row into the text column (set "
        "this when an error message asks for it)"
    )
    parser.add_argument("--bad-rows", default="", metavar="skip|merge", help=bad)
    parser.add_argument(
        "--config", default="", metavar="NAME", help="configuration of a Hub dataset"
    )
    parser.add_argument(
        "--split",
        default="",
        metavar="NAME",
        help="split to evaluate on (for files: value of the column split), or sheet of an Excel "
        "file",
    )
    parser.add_argument(
        "--metric",
        default="",
        help="metric to evaluate by, such as matthews (default: the metric of the task)",
    )


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of an experiment, its data source included."""
    parser.add_argument("--checkpoint", default="demo", help="demo, a local folder, or a Hub id")
    add_source(parser)
    calibration = (
        "a file, a known task or demo; needs no labels. job:ID: adversarial examples of that job; "
        "job:ID+clean: half of them, half their original texts"
    )
    parser.add_argument("--calibration", default="", metavar="FILE", help=calibration)
    minimum = (
        "minimum length of a calibration text in tokens of the model; 0: any; auto: nine if enough "
        "texts have as many (auto)"
    )
    parser.add_argument("--min-words", default="auto", metavar="N", help=minimum)
    parser.add_argument(
        "--calibration-size",
        type=int,
        default=256,
        metavar="N",
        help="number of calibration examples (256)",
    )
    parser.add_argument(
        "--evaluation-size",
        type=int,
        default=0,
        metavar="N",
        help="number of evaluation examples (0, which is all)",
    )
    parser.add_argument("--method", help="pruning method; without one the dense model is measured")
    parser.add_argument(
        "--measure", action="append", default=[], metavar="NAME", help="measure to run; repeatable"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="option of the method, or of a measure as measure.option=value; repeatable",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of samples, methods and measures (0)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument(
        "--tf32",
        action="store_true",
        help="let CUDA's matrix products round to TF32: faster, results change slightly",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="examples per batch (32)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        default=128,
        metavar="TOKENS",
        help="truncate longer texts (128)",
    )
    keep = (
        "how to save pruned weights: as a difference from the dense ones, full, or none; export "
        "re-prunes from the seed if needed (difference)"
    )
    parser.add_argument("--keep", default="difference", help=keep)
