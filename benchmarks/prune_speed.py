"""Pruning time compared with a lower bound: the necessary FLOPs at the measured rate.

    python -m benchmarks.prune_speed [--checkpoint demo] [--train FILE] [--sentences 512] \\
        [--device auto] [--bert-base]

Prints tokens, the measured matrix rate, the counted FLOPs, and for each method seconds, lower bound
and their ratio. --bert-base prunes a random model of that size (12 layers, width 768), for a GPU.
"""

from __future__ import annotations

import argparse
import copy

import torch

from benchmarks.gpu.device_setup import DeviceSetup
from benchmarks.gpu.pruning_time import matrix_rate
from benchmarks.lower_bounds import flops
from prune_core.data import tokens
from prune_core.data.examples import DataSource
from prune_core.methods import METHODS
from prune_core.models import devices
from prune_core.models.checkpoints import loading
from prune_core.plugins import build, no_report
from prune_core.pruning.masks import WeightMethod
from prune_core.tasks import encoding, task_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument(
        "--train",
        default="../shared/data/sst2/train.parquet",
        help="file with the calibration examples",
    )
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--bert-base", action="store_true")
    parser.add_argument("--exact", action="store_true", help="time AKR's exact solver too")
    options = parser.parse_args()
    device = devices.pick_device(options.device)
    model, tokenizer = loading.load(options.checkpoint)
    setup = DeviceSetup(device)
    model = setup.shape("BERT-base") if options.bert_base else model.to(device)
    pool = task_data.training_examples(DataSource(options.train), ("negative", "positive"))
    examples = pool.sample(
        options.sentences, 0, tokens.long_enough(tokenizer, pool, tokens.MIN_CALIBRATION_TOKENS)
    )
    batches = [
        batch
        for batch, _ in encoding.batches(
            tokenizer, examples, options.batch_size, max_length=128, device=device
        )
    ]
    count = sum(int(batch["attention_mask"].sum()) for batch in batches)
    rate = matrix_rate(setup, torch.float32)
    print(
        f"{devices.device_title(device)}: {rate / 1e9:.0f} GFLOP/s in fp32; {len(examples)} "
        f"examples, {count} tokens"
    )
    print(f"{'method':20}{'seconds':>9}{'GFLOP':>9}{'floor s':>9}{'ratio':>7}")
    # without AKR-plus: its number of rounds is a choice, so there is no lower bound
    weightwise = [
        name
        for name, kind in METHODS.items()
        if issubclass(kind, WeightMethod) and name != "akr_plus"
    ]
    runs = [(name, {}) for name in weightwise] + (
        [("akr", {"solver": "exact"})] if options.exact else []
    )
    for name, extra in runs:
        method = build(METHODS, name, {"sparsity": options.sparsity, **extra})
        copies = [copy.deepcopy(model) for _ in range(1 if extra else options.repeats)]
        seconds = min(
            setup.seconds(
                lambda pruned=pruned, method=method: method.prune(pruned, batches, no_report)
            )
            for pruned in copies
        )
        work = sum(flops(method, model, batches).values())
        floor = work / rate
        title = name + "".join(f" {value}" for value in extra.values())
        print(
            f"{title:20}{seconds:9.2f}{work / 1e9:9.0f}{floor:9.2f}"
            f"{seconds / floor if floor else float('nan'):7.2f}"
        )
    print(
        "AKR's FLOPs:",
        ", ".join(
            f"{purpose} {count / 1e9:.0f} G"
            for purpose, count in flops(METHODS["akr"](), model, batches).items()
        ),
    )
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
