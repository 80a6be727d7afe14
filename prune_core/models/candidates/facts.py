"""Facts about a candidate, one row per fact, some with a warning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ...data.spelling import find, is_generic
from ...errors import PruneError
from ...formatting import percent, plural

# names of data types in the formats -> common name; others are shown unchanged
PRECISIONS = {
    **dict.fromkeys(("F32", "FLOAT", "f32", "torch.float32"), "float32"),
    **dict.fromkeys(("F16", "FLOAT16", "f16", "torch.float16"), "float16"),
    **dict.fromkeys(("BF16", "BFLOAT16", "bf16", "torch.bfloat16"), "bfloat16"),
    **dict.fromkeys(("F64", "DOUBLE", "f64", "torch.float64"), "float64"),
    **dict.fromkeys(("I8", "INT8", "i8", "torch.int8"), "int8"),
    **dict.fromkeys(("U8", "UINT8", "u8", "torch.uint8"), "uint8"),
    **dict.fromkeys(("F8_E4M3", "FLOAT8E4M3FN", "f8e4m3", "torch.float8_e4m3fn"), "float8"),
    **dict.fromkeys(("INT4", "i4", "UINT4", "u4"), "int4"),
}
# pattern of a precision in a file name -> data types of weights that match it
CLAIMS = {
    r"int8|uint8|q8|8bit|quanti[sz]ed": ("int8", "uint8", "int4", "float8"),
    r"int4|q4|4bit": ("int4", "uint8"),
    r"fp16|float16|half": ("float16",),
    r"bf16|bfloat16": ("bfloat16",),
}
MIN_FRACTION = 0.05  # fraction of the weights that must have the precision in the name


class Fact(NamedTuple):
    """A property of a candidate as text, with a warning if something is wrong."""

    fact: str
    value: str
    warning: str = ""


def weights_facts(counts: Counter[str], dense_parameters: int, name: str) -> list[Fact]:
    """Describe number and precision of the weights; warn if the file name contradicts them.

    `counts` has the number of weights by data type, under any name in PRECISIONS.
    """
    precisions: Counter[str] = Counter()
    for kind, count in counts.items():
        precisions[PRECISIONS.get(kind, kind)] += count
    total = precisions.total()
    if not total:
        return []
    shares = ", ".join(f"{kind} {percent(n / total)}" for kind, n in precisions.most_common())
    warning = ""
    for claim, kinds in CLAIMS.items():
        found = re.search(rf"(?<![a-z0-9])({claim})(?![0-9a-z])", name, re.IGNORECASE)
        if found and sum(precisions[kind] for kind in kinds) < MIN_FRACTION * total:
            warning = f"The name says {found[1]}, but the weights inside are {shares}."
    return [
        Fact("parameters", f"{total:,} (dense model: {dense_parameters:,})"),
        Fact("precision of weights", shares, warning),
    ]


def match_labels(
    names: Sequence[str], dense: Sequence[str], path: str
) -> tuple[list[int] | None, Fact]:
    """Match a candidate's labels to the dense model's by name.

    Return (order, fact). `order` has the candidate's index for each label of the dense model; None
    if the order is the same. Labels without names are assumed to be in the dense model's order,
    with a warning. Raise PruneError if the labels differ.
    """
    if len(names) != len(dense):
        raise PruneError(
            f"{path} has {plural(len(names), 'label')} ({', '.join(names[:8])}), the dense model "
            f"{len(dense)} ({', '.join(dense[:8])}); choose models of the same task."
        )
    found = [find(name, names) for name in dense]
    order = [index for index in found if index is not None]
    if len(set(order)) == len(dense):
        if order == list(range(len(dense))):
            return None, Fact("labels", ", ".join(names))
        return order, Fact(
            "labels",
            ", ".join(names),
            "Its labels are in another order than the dense model's "
            f"({', '.join(dense)}); they were matched by name.",
        )
    if is_generic(names) or is_generic(dense):
        return None, Fact(
            "labels",
            ", ".join(names),
            "Its labels cannot be matched by name; the order of the dense model was assumed "
            f"({', '.join(dense)}).",
        )
    raise PruneError(
        f"{path} has the labels {', '.join(names[:8])}, the dense model has "
        f"{', '.join(dense[:8])}; correct id2label in its config.json, or choose models of the "
        "same task."
    )
