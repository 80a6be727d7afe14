"""Quantization sensitivity: find the weight matrices to keep in fp32 in an int8 ONNX model.

Needs example texts, no labels.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...plugins import Batch, Report, subrange
from ...tasks import TaskType
from .formats import OPERATIONS, onnx_runtime, to_int8
from .onnx import ONNX, Outputs

# suffix of names copied from the fp32 graph: the quantized one may use them for something else
FP32_SUFFIX = "_fp32"
MIN_DIVERGENCE = (
    0.01  # divergence below which nothing is proposed: only borderline predictions change
)
MAX_REFINED = 12  # a proposal of up to this many matrices is pruned by leaving out each in turn


class Deviation(NamedTuple):
    """Deviation of a model's outputs from those of the fp32 model."""

    divergence: float  # mean KL divergence in nats; regression: mean squared difference / variance
    changed: float  # fraction of examples with another prediction


class SensitivityAnalysis(NamedTuple):
    """Result of a sensitivity analysis; weight matrices are named by the paths of their modules."""

    without: dict[str, Deviation]  # with each matrix alone in fp32; the most sensitive one first
    proposed: list[str]  # matrices to keep in fp32
    before: Deviation
    after: Deviation  # with the proposed matrices in fp32


def analyze(
    fp32: Any,
    int8: Any,
    sentences: Sequence[Batch],
    task_type: TaskType,
    share: float,
    report: Report,
) -> SensitivityAnalysis:
    """Propose weight matrices to keep in fp32.

    Keeps each matrix in fp32 once, then as many of the most sensitive ones as recover the fraction
    `share` of the divergence and of the changed predictions. `fp32` and `int8` are ONNX models, the
    second made from the first; `sentences` are batches of one example each. From a short proposal,
    matrices are removed one by one, the least sensitive first, if the rest is sufficient.
    """
    run, layers = onnx_runtime(fp32.SerializeToString()), quantized_layers(fp32, int8)
    reference = [run(batch) for batch in sentences]

    def deviation_with(names: Collection[str]) -> Deviation:
        mixed = keep_fp32(int8, fp32, nodes_of(layers, names))
        return _deviation(
            task_type, reference, sentences, run=onnx_runtime(mixed.SerializeToString())
        )

    before, without = deviation_with(()), dict[str, Deviation]()
    report_single = subrange(report, 0.0, 0.5)
    for index, layer in enumerate(layers):
        report_single(index / len(layers), f"int8 except matrix {index + 1} of {len(layers)}")
        without[layer] = deviation_with([layer])
    without = dict(sorted(without.items(), key=lambda item: item[1]))
    proposed, after = _proposal(
        [*without], deviation_with, before, share=share, report=subrange(report, 0.5, 0.6)
    )
    if len(proposed) > MAX_REFINED:
        # several matrices are sensitive, so that fixing a single one shows little: order them by
        # the deviation of a model with only this matrix in int8
        alone, report_alone = dict[str, Deviation](), subrange(report, 0.6, 0.9)
        for index, layer in enumerate(layers):
            report_alone(index / len(layers), f"only matrix {index + 1} of {len(layers)} in int8")
            alone[layer] = deviation_with([other for other in layers if other != layer])
        alternative = _proposal(
            sorted(layers, key=alone.__getitem__, reverse=True),
            deviation_with,
            before,
            share=share,
            report=subrange(report, 0.9, 1.0),
        )
        proposed, after = min((proposed, after), alternative, key=lambda item: len(item[0]))
    return SensitivityAnalysis(without, proposed, before, after=after)


def _proposal(
    order: Sequence[str],
    deviation_with: Callable[[Collection[str]], Deviation],
    initial: Deviation,
    share: float,
    report: Report,
) -> tuple[list[str], Deviation]:
    """Return (shortest sufficient prefix of `order`, deviation with it in fp32), by bisection."""

    def is_enough(deviation: Deviation) -> bool:
        return all(
            after <= (1 - share) * before for before, after in zip(initial, deviation, strict=True)
        )

    if initial.divergence < MIN_DIVERGENCE:
        return [], initial
    low, high, after = 0, len(order), Deviation(0.0, 0.0)  # all in fp32: the fp32 model
    while high - low > 1:
        middle = (low + high) // 2
        report(0.3, f"int8 except the {middle} most sensitive matrices")
        deviation = deviation_with(order[:middle])
        if is_enough(deviation):
            high, after = middle, deviation
        else:
            low = middle
    proposed = list(order[:high])
    if not 1 < high <= MAX_REFINED:
        return proposed, after
    for count, name in enumerate(proposed[::-1]):
        report(0.5 + 0.5 * count / high, f"checking whether all {high} matrices are needed")
        rest = [other for other in proposed if other != name]
        deviation = deviation_with(rest)
        if is_enough(deviation):
            proposed, after = rest, deviation
    return proposed, after


def quantized_layers(fp32: Any, int8: Any) -> dict[str, list[str]]:
    """Return the quantized nodes by module path: module -> names of nodes in the fp32 graph.

    These are nodes that multiply or look up a weight and are missing in the int8 graph; several per
    module if blocks share it.
    """
    weights = {tensor.name for tensor in fp32.graph.initializer}
    unchanged = {(node.op_type, *node.input) for node in int8.graph.node}
    layers: dict[str, list[str]] = {}
    for node in fp32.graph.node:
        if (
            node.op_type in OPERATIONS
            and weights.intersection(node.input)
            and (node.op_type, *node.input) not in unchanged
        ):
            layers.setdefault(_module(node), []).append(node.name)
    return layers


def nodes_of(modules: Mapping[str, list[str]], kept: Collection[str]) -> list[str]:
    """Node names of the given modules; unknown modules are ignored."""
    return [name for module in kept for name in modules.get(module, ())]


def _module(node: Any) -> str:
    """Module path, as recorded by the exporter, else the node's name."""
    scopes = next(
        (prop.value for prop in node.metadata_props if prop.key == "pkg.torch.onnx.name_scopes"),
        "[]",
    )
    inner = [scope for scope in scopes.strip("[]").replace("'", "").split(", ")[:-1] if scope]
    return inner[-1].removeprefix("model.") if inner else str(node.name)


def keep_fp32(int8: Any, fp32: Any, names: Collection[str]) -> Any:
    """Replace nodes of the int8 model by the given nodes of the fp32 model."""
    import onnx

    mixed = onnx.ModelProto.FromString(int8.SerializeToString())
    weights = {tensor.name: tensor for tensor in fp32.graph.initializer}
    fp32_nodes = {
        node.output[0]: onnx.NodeProto.FromString(node.SerializeToString())
        for node in fp32.graph.node
        if node.name in names
    }
    for name in dict.fromkeys(
        name for node in fp32_nodes.values() for name in node.input if name in weights
    ):
        mixed.graph.initializer.add().CopyFrom(weights[name])
        mixed.graph.initializer[-1].name = name + FP32_SUFFIX
    for node in fp32_nodes.values():
        node.name += FP32_SUFFIX
        node.input[:] = [name + FP32_SUFFIX if name in weights else name for name in node.input]
    nodes = [fp32_nodes.get(next(iter(node.output), ""), node) for node in mixed.graph.node]
    del mixed.graph.node[:]
    mixed.graph.node.extend(nodes)
    return mixed


def write_repaired(fp32: Path, int8: Path, out: Path, modules: Collection[str]) -> None:
    """Write the int8 model with some modules in fp32, without nodes that are then unused."""
    import onnx
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    fp32_model, int8_model = onnx.load(str(fp32)), onnx.load(str(int8))
    mixed = onnx_ir.from_proto(
        keep_fp32(
            int8_model, fp32_model, nodes_of(quantized_layers(fp32_model, int8_model), modules)
        )
    )
    RemoveUnusedNodesPass()(mixed)
    onnx.save(onnx_ir.to_proto(mixed), str(out))


def write_int8(folder: Path, modules: Collection[str]) -> str:
    """Write model.int8.onnx next to the folder's model.onnx; return a note on sizes and fp32
    modules.
    """
    out = folder / "model.int8.onnx"
    to_int8(folder / ONNX, out)
    fp32_note = ""
    if modules:
        write_repaired(folder / ONNX, out, out, modules=modules)
        fp32_note = (
            f"; {', '.join(modules)} stay in fp32, as proposed by the quantization sensitivity "
            "analysis"
        )
    size, fp32_size = (file.stat().st_size / 1e6 for file in (out, folder / ONNX))
    return f"{out.name} has {size:,.1f} MB, the fp32 model {fp32_size:,.1f} MB{fp32_note}."


def _deviation(
    task_type: TaskType,
    reference: Sequence[Outputs],
    examples: Sequence[Batch],
    run: Callable[[Batch], Outputs],
) -> Deviation:
    return Deviation(*task_type.rounding_error(reference, [run(batch) for batch in examples]))
