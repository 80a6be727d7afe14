"""Time and accuracy of structured methods by the fraction of FLOPs removed.

    python -m benchmarks.structured --checkpoint ../shared/models/sst2-minilm --max-length 64 \\
        --task ../shared/data/sst2/validation.parquet \\
        --calibration ../shared/data/sst2/train.parquet
    python -m benchmarks.structured --checkpoint my-squad --task … --calibration … \\
        --max-length 192 --methods kprune kwon

All methods use the same calibration samples; FLOPs are counted at the mean length of the evaluation
examples, and the compact model is scored.
"""

from __future__ import annotations

import argparse

from benchmarks.pruning_task import PruningTask
from prune_core.data.examples import Examples
from prune_core.methods import METHODS
from prune_core.models import devices
from prune_core.models.compact import compact_model
from prune_core.pruning.unitwise import UnitMethod
from prune_core.tasks import METRICS, encoding

UNITS = [name for name, kind in METHODS.items() if issubclass(kind, UnitMethod)]


def main() -> None:
    """Print one line per method and sparsity, with the mean over calibration samples."""
    options = arguments()
    pruning_task = PruningTask(
        options.task,
        options.calibration,
        options.checkpoint,
        evaluation=options.evaluation,
        max_length=options.max_length,
        metric=options.metric,
        device=options.device,
        batch_size=options.batch_size,
    )
    task = pruning_task.task
    length, calibration_length = (
        mean_length(pruning_task.loaded[1], examples, options)
        for examples in (task.evaluation, pruning_task.calibration_sample(1000, 0))
    )
    size = max(1, round(options.tokens / calibration_length))
    print(
        f"{devices.device_title(devices.pick_device(options.device))}; "
        f"{METRICS[task.metric].title} on {len(task.evaluation)} examples of "
        f"{length:.1f} tokens; calibration {size} rows (about {options.tokens} tokens), batch "
        f"{options.batch_size}; "
        f"dense {pruning_task.score(pruning_task.loaded[0]):.2f}"
    )
    print(f"{'method':16}{'removed':>9}{'realised':>10}{'seconds':>9}{'score':>8}   each sample")
    for sparsity in options.sparsities:
        for name in options.methods:
            runs = []
            for seed in range(options.seeds):
                pruned, rows, elapsed = pruning_task.pruned(
                    name,
                    {"sparsity": sparsity, "length": length},
                    pruning_task.calibration_sample(size, seed),
                    seed,
                )
                runs.append(
                    (
                        elapsed,
                        pruning_task.score(compact_model(pruned)),
                        1 - rows["budget"]["realised"].iloc[0],
                    )
                )
            seconds, scores, removed = zip(*runs, strict=True)
            mean = sum(scores) / len(scores)
            all_scores = ", ".join(f"{value:.2f}" for value in scores)
            print(
                f"{name:16}{sparsity:9.0%}{min(removed):10.2%}{min(seconds):9.1f}{mean:8.2f}   "
                f"{all_scores}",
                flush=True,
            )


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--task", default="../shared/data/sst2/validation.parquet")
    parser.add_argument("--calibration", default="../shared/data/sst2/train.parquet")
    parser.add_argument("--metric", default="", help="default: the metric of the task")
    parser.add_argument("--methods", nargs="*", default=UNITS, choices=UNITS)
    parser.add_argument(
        "--sparsities",
        nargs="*",
        type=float,
        default=[0.5, 0.6, 0.7, 0.8],
        help="fractions of FLOPs to remove",
    )
    parser.add_argument("--tokens", type=int, default=20_000, help="size of the calibration sample")
    parser.add_argument("--evaluation", type=int, default=0, help="evaluation examples; 0 = all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def mean_length(tokenizer: object, examples: Examples, options: argparse.Namespace) -> float:
    """Return the mean number of tokens per row."""
    rows = encoding.encode(tokenizer, examples, options.max_length).inputs["input_ids"]
    return sum(map(len, rows)) / len(rows)


if __name__ == "__main__":
    main()
