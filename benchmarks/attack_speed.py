"""Our engine against TextAttack's own wrapper: same recipe, seeds and sentences. Prints seconds, queries, and what differs.

    python -m benchmarks.attack_speed                                      # the demo checkpoint, its own sentences
    python -m benchmarks.attack_speed --checkpoint ../shared/models/sst2-minilm \\
        --task ../shared/data/sst2/validation.parquet --examples 30
    python -m benchmarks.attack_speed --neighbours ../shared/data/synonyms/counterfitted_neighbors.json    # judge the table

TextAttack's side is its Attack.attack with HuggingFaceModelWrapper, which pads to the model's full length, its own text
class and its own batches of 32; the recipe's replaced parts (the neighbour table, MiniLM) are the same on both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from prune_core import encoders
from prune_core.data import Examples, load
from prune_core.examples import Source
from prune_core.experiment import seed_everything
from prune_core.plugins import quiet


def main() -> None:
    """Judge the neighbour table, or run both sides for every recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--task", default="demo")
    parser.add_argument("--examples", type=int, default=30)
    parser.add_argument("--recipe", action="append", help="one recipe by name; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--bf16", action="store_true", help="run ours in bf16 too, and count the outcomes that change")
    parser.add_argument("--ours", action="store_true", help="leave TextAttack's side out: seconds per example only")
    parser.add_argument("--neighbours", type=Path, help="a JSON file word -> neighbours to judge assets/neighbours.npz by")
    options = parser.parse_args()
    if options.neighbours:
        judge(json.loads(options.neighbours.read_text()))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """A line for every recipe."""
    started = time.perf_counter()
    from prune_core.attacks.recipes import RECIPES
    from prune_core.attacks.sentences import encode

    print(f"importing textattack and what it imports: {time.perf_counter() - started:.1f} s", flush=True)
    model, tokenizer = encoders.load(options.checkpoint)
    device = encoders.pick_device(options.device)
    model.to(device)
    for dtype in (torch.float32, torch.bfloat16):
        encode(["the sentence encoder is loaded before the clock starts"], device, dtype=dtype)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    examples = load(Source(options.task), tuple(names)).evaluation.sample(options.examples, options.seed)
    print(f"{len(examples)} sentences on {encoders.device_title(device)}, {torch.get_num_threads()} torch threads")
    for name in options.recipe or RECIPES:
        mine, seconds = ours(name, model, tokenizer, examples, options.seed)
        line = f"{name}: ours {seconds} ({seconds.wall / len(examples):.2f} s a sentence, {sum(row[2] for row in mine)} queries)"
        quick = ours(name, model, tokenizer, examples, options.seed, torch.bfloat16) if options.bf16 else None
        if quick:
            changed = sum(a[0] != b[0] for a, b in zip(mine, quick[0], strict=True))
            line += f", in bf16 {quick[1]} ({changed / len(examples):.1%} of the outcomes changed)"
        if not options.ours:
            reference, slow = theirs(name, model, tokenizer, examples, options.seed)
            same = [sum(a[part] == b[part] for a, b in zip(mine, reference, strict=True)) for part in range(3)]
            line += (
                f", TextAttack's {slow} ({sum(row[2] for row in reference)} queries): {slow.wall / seconds.wall:.1f} times faster "
                f"({slow.cpu / seconds.cpu:.1f} in processor time); "
                + (f"in bf16 {slow.wall / quick[1].wall:.1f} times; " if quick else "")
                + f"same outcomes {same[0]}, texts {same[1]}, queries {same[2]} of {len(examples)}"
            )
        print(line, flush=True)


class Seconds:
    """Wall and processor seconds since made; processor time is the fairer figure on a busy machine (with OMP_NUM_THREADS=1)."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> Seconds:
        """The clock is read."""
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return self

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, processor {self.cpu:.1f} s"


def ours(
    name: str, model: torch.nn.Module, tokenizer: object, examples: Examples, seed: int, dtype: torch.dtype = torch.float32
) -> tuple[list[tuple], Seconds]:
    """(outcome, perturbed text, queries) of each sentence, and seconds."""
    from prune_core.attacks import engine
    from prune_core.attacks.budget import Budget, Pulse
    from prune_core.attacks.victim import Victim

    pulse = Pulse(quiet)
    seconds = Seconds()
    victim = Victim(model, tokenizer, pulse.beat, dtype=dtype)
    budget = Budget(queries=10**6, seconds=10**6)
    found = engine.run(name, victim, pulse, examples, range(len(examples)), budget, seed)
    outcomes = sorted(found, key=lambda outcome: outcome.example)
    return [(outcome.outcome, outcome.perturbed, outcome.queries) for outcome in outcomes], seconds.stop()


def theirs(name: str, model: torch.nn.Module, tokenizer: object, examples: Examples, seed: int) -> tuple[list[tuple], Seconds]:
    """The same from TextAttack's own loop over its own wrapper."""
    from textattack.attack_results import SkippedAttackResult, SuccessfulAttackResult
    from textattack.models.wrappers import HuggingFaceModelWrapper

    from prune_core.attacks.engine import example_seed
    from prune_core.attacks.recipes import RECIPES
    from prune_core.attacks.sentences import Encoder

    seconds = Seconds()
    wrapper = HuggingFaceModelWrapper(model, tokenizer)
    attack = RECIPES[name](wrapper, Encoder(encoders.device_of(model), lambda: None))
    rows: list[tuple] = []
    for index, (text, label) in enumerate(zip(examples.texts, examples.labels or [], strict=True)):
        seed_everything(example_seed(seed, index))
        result = attack.attack(text, label)
        skipped, succeeded = isinstance(result, SkippedAttackResult), isinstance(result, SuccessfulAttackResult)
        outcome = "skipped" if skipped else "success" if succeeded else "failed"
        rows.append((outcome, None if skipped else result.perturbed_text(), result.num_queries))
    return rows, seconds.stop()


def judge(reference: dict[str, list[str]]) -> None:
    """How many of a reference table's neighbours ours finds among its first 10 and first 50."""
    from prune_core.attacks.neighbours import TABLE
    from prune_core.attacks.neighbours import load as load_table

    table = load_table()
    asked = {word: near for word, near in reference.items() if near}
    known = {word: near for word, near in asked.items() if word in table.index}
    print(f"{TABLE.name}: {len(table.words)} words, {TABLE.stat().st_size / 1e6:.1f} MB; "
          f"{len(known)} of the reference's {len(asked)} words with neighbours ({len(known) / len(asked):.0%})")  # fmt: skip
    for most in (10, 50):
        whole, inside = [], []
        for word, near in known.items():
            found = {other for other, _ in table.of(word, most)}
            whole.append(len(found & set(near)) / len(near))
            possible = set(near) & table.index.keys()
            if possible:
                inside.append(len(found & possible) / len(possible))
        print(f"overlap@{most}: {statistics.mean(whole):.1%} of the reference's neighbours; "
              f"{statistics.mean(inside):.1%} of those in the vocabulary")  # fmt: skip


if __name__ == "__main__":
    main()
