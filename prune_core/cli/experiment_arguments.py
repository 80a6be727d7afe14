"""Arguments that several commands share: the data and the settings of an experiment."""

import argparse
from collections.abc import Collection
from typing import Any, TypeAlias

from ..data.examples import DataSource
from ..experiments.settings import RunSettings
from ..plugins import Options, option_specs

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


def arguments_of(kind: type[Options], leave_out: Collection[str] = ()) -> tuple[Argument, ...]:
    """Return a flag for each option; creating an object of `kind` validates the values."""
    return tuple(_flag(spec) for spec in option_specs(kind) if spec["name"] not in leave_out)


def _flag(spec: dict[str, Any]) -> Argument:
    flag, help = f"--{spec['name'].replace('_', '-')}", spec["help"].replace("%", "%%")
    if spec["type"] is bool:
        return switch(flag, help)
    default = spec["none"] or spec["default"]
    shown = "" if default == "" else f" ({default})"
    return argument(flag, default=default, metavar=spec["metavar"] or None, help=help + shown)


# for commands that read data but do not prune
SOURCE = arguments_of(DataSource, leave_out=("calibration",))
EXPERIMENT = (
    *arguments_of(RunSettings),
    *arguments_of(DataSource),
    argument("--method", help="pruning method; without one the dense model is measured"),
    repeatable("--measure", "NAME", "measure to run; repeatable"),
    repeatable(
        "--set",
        "OPTION=VALUE",
        "option of the method, or of a measure as measure.option=value; repeatable",
    ),
)
# for a model from elsewhere, which is compared with a dense one
CANDIDATE = (
    argument(
        "--dense",
        dest="checkpoint",
        default=RunSettings.checkpoint,
        metavar="CHECKPOINT",
        help="the dense model: demo, a local folder, or a Hub id (demo)",
    ),
    argument(
        "--candidate",
        default="",
        metavar="PATH",
        help="the model to test: a checkpoint folder, an ONNX, OpenVINO (.xml), TorchScript or "
        "torch.export file, or a table of predictions",
    ),
    argument(
        "--tokenizer",
        default="",
        metavar="FOLDER",
        help="tokenizer of a model file, if it is neither in the file's folder nor in its parent",
    ),
    *arguments_of(RunSettings, leave_out=("checkpoint", "keep")),
    *arguments_of(DataSource),
    repeatable(
        "--measure",
        "NAME",
        "additional measure to run, besides those that the limits need; repeatable",
    ),
    repeatable("--set", "MEASURE.OPTION=VALUE", "option of a measure; repeatable"),
    argument("--study", default="", help="study to save the results in (Candidates for A)"),
    switch("--again", "recompute all stages, including finished ones"),
)
