"""Pruning time against the floor: the FLOPs that AKR cannot do without, at the matrix rate this machine reaches.

    python -m benchmarks.prune_speed [--checkpoint demo] [--train FILE] [--sentences 512] [--device auto] [--bert-base]

Prints tokens, the measured matrix rate, the counted FLOPs, and per method seconds, floor and their ratio. --bert-base
prunes a random model of that size (12 blocks, 768 wide), for a GPU.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
from torch import nn

from prune_core import data, encoders
from prune_core.examples import Source
from prune_core.masks import WeightMethod
from prune_core.methods import METHODS
from prune_core.plugins import build, quiet
from prune_core.timing import wait


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--train", default="../shared/data/sst2/train.parquet", help="file with the calibration sentences")
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--bert-base", action="store_true")
    parser.add_argument("--exact", action="store_true", help="time AKR's exact solver too")
    options = parser.parse_args()
    device = encoders.pick_device(options.device)
    model, tokenizer = encoders.load(options.checkpoint)
    model = (bert_base() if options.bert_base else model).to(device)
    pool = data.training_examples(Source(options.train), ("negative", "positive"))
    examples = pool.sample(options.sentences, 0, data.CALIBRATION_WORDS)
    batches = [batch for batch, _ in data.batches(tokenizer, examples, options.batch_size, 128, device)]
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    rate = matrix_rate(device)
    print(f"{encoders.device_title(device)}: {rate / 1e9:.0f} GFLOP/s in fp32; {len(examples)} sentences, {tokens} tokens")
    print(f"{'method':20}{'seconds':>9}{'GFLOP':>9}{'floor s':>9}{'ratio':>7}")
    # AKR-plus is left out: how many rounds it needs is a choice, so there is no floor
    weightwise = [name for name, kind in METHODS.items() if issubclass(kind, WeightMethod) and name != "akr_plus"]
    runs = [(name, {}) for name in weightwise] + ([("akr", {"solver": "exact"})] if options.exact else [])
    for name, extra in runs:
        method = build(METHODS, name, {"sparsity": options.sparsity, **extra})
        seconds = min(timed(method, model, batches, device) for _ in range(1 if extra else options.repeats))
        flops = sum(counted(model, batches, method).values())
        floor = flops / rate
        title = name + "".join(f" {value}" for value in extra.values())
        print(f"{title:20}{seconds:9.2f}{flops / 1e9:9.0f}{floor:9.2f}{seconds / floor if floor else float('nan'):7.2f}")
    print("AKR's FLOPs:", ", ".join(f"{what} {flops / 1e9:.0f} G" for what, flops in counted(model, batches, method).items()))
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB")


def timed(method: object, model: nn.Module, batches: list, device: torch.device) -> float:
    """Seconds of one pruning of a fresh copy."""
    pruned = copy.deepcopy(model)
    wait(device)
    started = time.perf_counter()
    method.prune(pruned, batches, quiet)
    wait(device)
    return time.perf_counter() - started


def counted(model: nn.Module, batches: list, method: WeightMethod) -> dict[str, float]:
    """FLOPs by purpose; a multiply-accumulate is two. Magnitude needs none."""
    name = method.name
    if name == "magnitude":
        return {}
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    squares = sum(int(batch["attention_mask"].sum(1).square().sum()) for batch in batches)
    linears = [linear for _, _, linear in encoders.linears(model)]
    inputs = [block.linears[parts[0]].in_features for block in encoders.blocks(model) for parts in encoders.GROUPS]
    width = encoders.blocks(model)[0].linears["query"].in_features
    forward = 2.0 * tokens * sum(linear.weight.numel() for linear in linears) + 4.0 * squares * width * len(encoders.blocks(model))
    gram = sum(2.0 * tokens * d * d for d in inputs)
    sweep = sum(1.0 * linear.weight.numel() * linear.in_features for linear in linears)
    invert = sum(2 / 3 * d**3 for d in inputs)
    if name == "wanda":
        return {"forward": forward}
    if name == "sparsegpt":
        return {"forward": forward, "gram": gram, "invert": invert, "sweep": sweep}
    cross = gram - 2.0 * tokens * inputs[0] ** 2  # the first group inherits nothing
    # ε's own factorisation, its two triangular solves for d right-hand sides, and W times the result
    adapt = sum(1 / 3 * d**3 + 2.0 * d**3 for d in inputs[1:]) + sum(2.0 * linear.weight.numel() * linear.in_features for linear in linears)
    onto_residual = [block.linears[part] for block in encoders.blocks(model) for part in ("attention_output", "ffn_out")]
    carry = sum(2.0 * tokens * linear.weight.numel() + 2.0 * linear.weight.numel() * linear.in_features for linear in onto_residual)
    found = {"forward of both paths": 2 * forward, "gram": gram, "cross": cross, "carry": carry if "carry" in method.needs else 0.0}
    return found | {"invert": invert, "adapt": adapt, "sweep": sweep}


def matrix_rate(device: torch.device) -> float:
    """FLOP/s of a large fp32 product, the best of several."""
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        wait(device)
        started = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best


def bert_base() -> nn.Module:
    """A random BERT-base classifier."""
    from transformers import AutoModelForSequenceClassification, BertConfig

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(BertConfig(num_labels=2)).eval()


if __name__ == "__main__":
    main()
