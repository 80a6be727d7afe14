"""Which matrices cost a quantised ONNX model its answers, and which to leave in fp32. Needs sentences, no labels.

Knows nothing of measures, and not how the model was quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ...plugins import Batch, Report, subrange
from .formats import OPERATIONS, onnx_runtime, to_int8
from .onnx import ONNX, Outputs

OWN = "_fp32"  # ends the names of what is taken from the fp32 graph: the quantised one may have made something else of them
LITTLE = 0.01  # divergence below which nothing is proposed: what changes then are answers that hung by a hair
FEW = 12  # matrices of a proposal, up to which each is tried without


class Deviation(NamedTuple):
    """How far a model's answers are from the fp32 model's."""

    divergence: float  # mean KL from the fp32 model's labels in nats; of scores the mean squared difference, as a share of their variance
    changed: float  # share of sentences with another answer


class Diagnosis(NamedTuple):
    """What was found, parts by the paths of their modules."""

    without: dict[
        str, Deviation
    ]  # of every matrix: how far the model is apart with this one in fp32; the one that costs most first
    proposed: list[str]  # what to leave in fp32
    before: Deviation
    after: Deviation  # with these in fp32


def diagnose(
    fp32: Any, int8: Any, sentences: Sequence[Batch], kind: str, share: float, report: Report
) -> Diagnosis:
    """Leave every matrix in fp32 once, then as many of those that matter most as take back `share` of the divergence and of the
    changed answers.

    `fp32` and `int8` are ONNX models, the second made from the first; `sentences` are batches of one each. Of a short proposal
    every part is tried without, the least first, and dropped where the rest is enough.
    """
    run, parts = onnx_runtime(fp32.SerializeToString()), quantized_layers(fp32, int8)
    right = [run(batch) for batch in sentences]

    def within(kept: Collection[str]) -> Deviation:
        return _apart(
            kind,
            right,
            sentences,
            run=onnx_runtime(keep_fp32(int8, fp32, nodes_of(parts, kept)).SerializeToString()),
        )

    before, without, first = within(()), dict[str, Deviation](), subrange(report, 0.0, 0.5)
    for place, part in enumerate(parts):
        first(place / len(parts), f"int8 but for matrix {place + 1} of {len(parts)}")
        without[part] = within([part])
    without = dict(sorted(without.items(), key=lambda found: found[1]))
    proposed, after = _proposal(
        [*without], within, before, share=share, report=subrange(report, 0.5, 0.6)
    )
    if (
        len(proposed) > FEW
    ):  # several are broken, and to mend one of them shows little: the others in fp32, each alone shows what it costs
        alone, second = dict[str, Deviation](), subrange(report, 0.6, 0.9)
        for place, part in enumerate(parts):
            second(place / len(parts), f"only matrix {place + 1} of {len(parts)} in int8")
            alone[part] = within([each for each in parts if each != part])
        other = _proposal(
            sorted(parts, key=alone.__getitem__, reverse=True),
            within,
            before,
            share=share,
            report=subrange(report, 0.9, 1.0),
        )
        proposed, after = min((proposed, after), other, key=lambda way: len(way[0]))
    return Diagnosis(without, proposed, before, after=after)


def _proposal(
    order: Sequence[str],
    within: Callable[[Collection[str]], Deviation],
    before: Deviation,
    share: float,
    report: Report,
) -> tuple[list[str], Deviation]:
    def enough(found: Sequence[float]) -> bool:
        return all(now <= (1 - share) * was for was, now in zip(before, found, strict=True))

    if before.divergence < LITTLE:
        return [], before
    low, high, after = 0, len(order), Deviation(0.0, 0.0)  # all in fp32 is the fp32 model
    while high - low > 1:
        report(0.3, f"int8 but for the {(low + high) // 2} that cost most")
        if enough(found := within(order[: (middle := (low + high) // 2)])):
            high, after = middle, found
        else:
            low = middle
    proposed = list(order[:high])
    for count, name in enumerate(proposed[::-1] if 1 < high <= FEW else ()):
        report(0.5 + 0.5 * count / high, f"is every one of these {high} needed?")
        if enough(found := within(fewer := [each for each in proposed if each != name])):
            proposed, after = fewer, found
    return proposed, after


def quantized_layers(fp32: Any, int8: Any) -> dict[str, list[str]]:
    """By the module that they come from, the nodes of the fp32 graph that multiply or look up a weight and do it otherwise in the
    other graph; several where blocks share a module."""
    weights = {each.name for each in fp32.graph.initializer}
    same, found = {(node.op_type, *node.input) for node in int8.graph.node}, dict[str, list[str]]()
    for node in fp32.graph.node:
        if (
            node.op_type in OPERATIONS
            and weights.intersection(node.input)
            and (node.op_type, *node.input) not in same
        ):
            found.setdefault(_module(node), []).append(node.name)
    return found


def nodes_of(parts: Mapping[str, list[str]], kept: Collection[str]) -> list[str]:
    """The nodes of some parts; of parts that are not there, none."""
    return [name for part in kept for name in parts.get(part, ())]


def _module(node: Any) -> str:
    """The module's path, which the exporter notes, or the node's own name."""
    scopes = next(
        (each.value for each in node.metadata_props if each.key == "pkg.torch.onnx.name_scopes"),
        "[]",
    )
    inner = [scope for scope in scopes.strip("[]").replace("'", "").split(", ")[:-1] if scope]
    return inner[-1].removeprefix("model.") if inner else str(node.name)


def keep_fp32(int8: Any, fp32: Any, names: Collection[str]) -> Any:
    """The quantised model with these nodes of the fp32 one in the place of whatever gives their outputs there."""
    import onnx

    mixed = onnx.ModelProto.FromString(int8.SerializeToString())
    weights = {each.name: each for each in fp32.graph.initializer}
    own = {
        node.output[0]: onnx.NodeProto.FromString(node.SerializeToString())
        for node in fp32.graph.node
        if node.name in names
    }
    for name in dict.fromkeys(
        name for node in own.values() for name in node.input if name in weights
    ):
        mixed.graph.initializer.add().CopyFrom(weights[name])
        mixed.graph.initializer[-1].name = name + OWN
    for node in own.values():
        node.name += OWN
        node.input[:] = [name + OWN if name in weights else name for name in node.input]
    nodes = [own.get(next(iter(node.output), ""), node) for node in mixed.graph.node]
    del mixed.graph.node[:]
    mixed.graph.node.extend(nodes)
    return mixed


def write_repaired(fp32: Path, int8: Path, out: Path, kept: Collection[str]) -> None:
    """Write the int8 file with some parts in fp32, without what nothing reads then."""
    import onnx
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    whole, rounded = onnx.load(str(fp32)), onnx.load(str(int8))
    mixed = onnx_ir.from_proto(
        keep_fp32(rounded, whole, nodes_of(quantized_layers(whole, rounded), kept))
    )
    RemoveUnusedNodesPass()(mixed)
    onnx.save(onnx_ir.to_proto(mixed), str(out))


def write_int8(folder: Path, kept: Collection[str]) -> str:
    """Write model.int8.onnx beside the folder's model.onnx; a sentence with what stays in fp32."""
    out = folder / "model.int8.onnx"
    to_int8(folder / ONNX, out)
    if kept:
        write_repaired(folder / ONNX, out, out, kept=kept)
    told = f"; in fp32 stay, as the doctor proposed, {', '.join(kept)}" if kept else ""
    return f"{out.name} has {out.stat().st_size / 1e6:,.1f} MB for {(folder / ONNX).stat().st_size / 1e6:,.1f} in fp32{told}."


def _apart(
    kind: str, right: Sequence[Outputs], sentences: Sequence[Batch], run: Callable[[Batch], Outputs]
) -> Deviation:
    said = [run(batch) for batch in sentences]
    if kind == "regression":
        wanted, found = (
            np.concatenate([scores.ravel() for (scores,) in side]) for side in (right, said)
        )
        return Deviation(float(np.square(wanted - found).mean() / max(wanted.var(), 1e-12)), 0.0)
    pairs = [_pair(kind, wanted, found) for wanted, found in zip(right, said, strict=True)]
    return Deviation(*(float(np.mean(each)) for each in zip(*pairs, strict=True)))


def _pair(kind: str, right: Outputs, said: Outputs) -> tuple[float, float]:
    """(divergence, 1.0 where an answer is another) of one sentence."""
    divergence, changed = 0.0, False
    for wanted, found in (
        (torch.from_numpy(one), torch.from_numpy(two)) for one, two in zip(right, said, strict=True)
    ):
        if kind == "multilabel":  # a yes or no each: of two labels the other one's logit is 0
            wanted, found = (
                torch.stack([logits, torch.zeros_like(logits)], -1) for logits in (wanted, found)
            )
        p, q = wanted.log_softmax(-1), found.log_softmax(-1)
        divergence += float(F.kl_div(q, p, log_target=True, reduction="none").sum(-1).mean())
        changed |= bool((p.argmax(-1) != q.argmax(-1)).any())
    return divergence, float(changed)
