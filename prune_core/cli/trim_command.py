"""The command `trim`: keep only the tokens that texts need."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import formatting as f
from ..data.examples import DataSource
from ..errors import PruneError
from .experiment_arguments import add_command, argument, arguments_of
from .progress import PrintedProgress

if TYPE_CHECKING:
    from ..experiments.trimming import Trimmed

NOT_READ = ("task", "label", "calibration", "metric", "labels")


ARGUMENTS = (
    argument("checkpoint", metavar="CHECKPOINT", help="folder, Hub id, demo or minilm"),
    argument(
        "--texts",
        nargs="+",
        required=True,
        metavar="FILE",
        help="texts like those that the model will read: what run --task takes, such as "
        "tables, text files, folders, known tasks, demo",
    ),
    argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write the trimmed checkpoint to a new folder (only the table)",
    ),
    argument(
        "--vocabulary",
        type=int,
        default=0,
        metavar="N",
        help="number of tokens to keep (the smallest within --max-ratio)",
    ),
    argument(
        "--max-ratio",
        type=float,
        default=1.01,
        metavar="RATIO",
        help="maximum ratio of tokens per held-out text to the full vocabulary's, at 95%% "
        "confidence (1.01)",
    ),
    argument(
        "--scripts",
        default="",
        metavar="NAME,…",
        help="scripts whose single characters are kept, such as Latin,Greek (those of the texts)",
    ),
    argument(
        "--positions",
        type=int,
        default=0,
        metavar="N",
        help="also cut learned position embeddings to texts of N tokens (all are kept)",
    ),
    argument("--seed", type=int, default=0, help="seed of the held-out texts (0)"),
    argument("--json", type=Path, metavar="FILE", help="write the table and choice as JSON"),
    *arguments_of(DataSource, leave_out=NOT_READ),
)


def add_trim(commands: Any) -> None:
    """Add the command `trim`."""
    about = "remove the tokens that texts do not need from a checkpoint's vocabulary"
    add_command(commands, "trim", trim, *ARGUMENTS, help=about)


def trim(options: argparse.Namespace) -> None:
    """Print what vocabularies of several sizes cost; write a checkpoint with the chosen one."""
    from ..experiments import trimming

    if options.json and not options.json.absolute().parent.is_dir():
        parent = options.json.absolute().parent
        raise PruneError(f"{options.json}: there is no folder {parent}; make it first.")
    texts: list[str] = []
    for name in options.texts:
        texts += trimming.texts_of(DataSource.from_keys({**vars(options), "task": name}))
    progress = PrintedProgress()
    result = trimming.trim(
        options.checkpoint,
        texts,
        options.out,
        size=options.vocabulary,
        max_ratio=options.max_ratio,
        scripts=tuple(filter(None, options.scripts.split(","))),
        positions=options.positions,
        seed=options.seed,
        report=progress,
    )
    progress.end()
    print(summary(result))
    if options.json:
        text = json.dumps(result.as_json(), indent=2, ensure_ascii=False)
        options.json.write_text(f"{text}\n", encoding="utf-8")
    if result.warning:
        print(f"prune_core: Warning: {result.warning}", file=sys.stderr)


def summary(result: Trimmed) -> str:
    """Format the table and the choice."""
    lines = [
        f"{result.held_out:,} held-out texts of {result.texts:,}; intervals are 95%",
        f"  {'vocabulary':>10}  {'tokens per text, ratio':24}{'texts unchanged':25}"
        f"{'parameters':>10}{'weights':>11}{'tokenizer':>11}",
    ]
    for row in result.table.to_dict("records"):
        ratio = f"{row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})"
        low, high = f.percent(row["unchanged_low"]), f.percent(row["unchanged_high"])
        unchanged = f"{f.percent(row['unchanged'])} ({low} to {high})"
        sizes = f"{f.size(row['weight_bytes']):>11}{f.size(row['tokenizer_bytes']):>11}"
        mark = "→" if row["chosen"] else " "
        lines.append(
            f"{mark} {row['vocabulary']:>10,}  {ratio:24}{unchanged:25}"
            f"{f.millions(row['parameters']):>10}{sizes}"
        )
    scripts = ", ".join(result.scripts) or "none"
    lines.append(
        f"Chosen: {result.vocabulary:,} tokens, {result.always_kept:,} of them always kept "
        f"(special tokens, bytes, single characters; scripts: {scripts})."
    )
    if result.folder:
        lines.append(
            f"{result.folder}: outputs equal those of the original on {result.compared} texts "
            "whose tokens are all kept."
        )
    return "\n".join(lines)
