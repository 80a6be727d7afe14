"""Check a loaded model against plain transformers before anything is measured.

A few short and long examples go through the model class's own forward, one at a time, without padding, with the tokenizer as
it was saved; and through the product's path: its tokenizer, padded batches, and the replayed blocks that pruning works on. Both
must give the same outputs, and two loads the same weights. It catches random weights, padding on the wrong side, missing token
types, shifted positions and reduced precision, whatever their cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data.examples import Examples
from ...data.tokens import Features, encode, pad_batch
from ...errors import PruneError
from .. import compact, replay
from ..devices import device_of, matrix_precision
from . import adapters, difference, loading, weights
from .tokenizers import accepted_inputs

EXAMPLES = 16
TOLERANCE = 1e-4  # relative to the largest output, at least 1: fp32 kernels round differently, mistakes differ in the first digits
LOOKED_AT = 2000  # examples among which short and long ones are chosen
REPORT = (
    "nothing is measured; please report this with the checkpoint's config.json and tokenizer files"
)
SENTENCES = (
    "Good.",
    "It is not what was promised, and it came two weeks late.",
    "Ada Brook wrote in 1902 that the mill at Oak Bridge ground flour for nine villages until the flood came; today it is a school, and "
    "nobody who learns to read there knows what the great stone in the yard once was for, or who carried it up the hill.",
)


class Reference(NamedTuple):
    """A model and its tokenizer as plain transformers has them."""

    model: Any
    tokenizer: Any


def reference(checkpoint: str) -> Reference:
    """The checkpoint loaded a second time: by plain transformers, where it is an ordinary folder or Hub id."""
    import transformers

    source = loading.resolve(checkpoint)
    config, _, _ = loading.describe(checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        loading.tokenizer_source(source, checkpoint), trust_remote_code=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            torch.initial_seed() + 1
        )  # weights that are not in the files differ from load to load
        if _is_ordinary(source, config):
            kind = getattr(transformers, config.architectures[0])
            with weights.silence_load_report():
                model = kind.from_pretrained(source, config=config, trust_remote_code=False)
        else:
            model, _ = loading.load(checkpoint)
    return Reference(model.float().eval(), tokenizer)


def _is_ordinary(source: str, config: Any) -> bool:
    """Whether from_pretrained reads it without help: no adapter, no shrunk model, no difference, no wrapper's names."""
    folder = Path(source)
    special = (
        hasattr(config, compact.KEY)
        or (folder / adapters.CONFIG).is_file()
        or bool(difference.read_metadata(source))
    )
    return not special and not (folder.is_dir() and weights.is_wrapped(folder, config))


def check(checkpoint: str, model: Any, tokenizer: Any, examples: Examples, max_length: int) -> None:
    """PruneError if a checkpoint that was loaded is not what plain transformers makes of it."""
    plain = reference(checkpoint)
    _same_weights(model, plain.model, checkpoint)
    check_outputs(
        checkpoint, model, tokenizer, examples=examples, max_length=max_length, plain=plain
    )


def _same_weights(model: Any, other: Any, checkpoint: str) -> None:
    own, theirs = model.state_dict(), other.state_dict()
    differ = sorted(own.keys() ^ theirs.keys()) or [
        name for name, tensor in own.items() if not _equal(tensor, theirs[name])
    ]
    if differ:
        raise PruneError(
            f"{checkpoint}: two loads give different weights in {weights.list_names(differ)}: they are in none of its files, so they would be "
            "random; save the whole model again with save_pretrained where it was trained."
        )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.detach().cpu().to(other.dtype), other)


def check_outputs(
    name: str,
    model: Any,
    tokenizer: Any,
    examples: Examples,
    max_length: int,
    *,
    plain: Reference | None = None,
    tolerance: float = TOLERANCE,
    own: Any = None,
) -> None:
    """PruneError if the product's outputs for a model differ from its own forward's, one example at a time.

    `plain` is what to compare with (the model itself). `own` answers in the product's path in the model's place, such as an
    exported file, whose blocks cannot be replayed.
    """
    plain = plain or Reference(model, tokenizer)
    some = _some(examples)
    features = encode(tokenizer, some, max_length)
    rows = [features.example.index(place) for place in range(len(some))]
    with torch.no_grad(), matrix_precision(tf32=False):
        inputs = [
            _encoded(plain, some, place, limit=min(max_length, tokenizer.model_max_length))
            for place in range(len(some))
        ]
        _same_tokens(name, some, features, rows=rows, inputs=inputs)
        wanted = [_outputs(plain.model(**_on(plain.model, each)))[0].cpu() for each in inputs]
        paths: list[tuple[str, Callable[[Any], list[Tensor]]]] = [
            ("in a padded batch", lambda batch: _outputs((own or model)(**batch)))
        ]
        if own is None:
            paths.append(("replayed block by block", lambda batch: _replayed(model, batch)))
        batch = pad_batch(tokenizer, features, rows, device=device_of(own or model))
        lengths = [len(features.inputs["input_ids"][row]) for row in rows]
        for how, path in paths:
            found = [each.float().cpu() for each in path(batch)]
            _compare(
                name, some, wanted, found=_cut(found, wanted, lengths), tolerance=tolerance, how=how
            )


def _some(examples: Examples) -> Examples:
    """Short and long examples, evenly over their lengths; questions begin with a letter, as the product takes spaces off."""
    usable = [
        place
        for place in range(min(len(examples), LOOKED_AT))
        if examples.texts[place] == examples.texts[place].lstrip()
    ]
    by_length = sorted(usable or [0], key=lambda place: len(examples.whole(place)))
    places = np.linspace(0, len(by_length) - 1, min(EXAMPLES, len(by_length))).round().astype(int)
    return examples.take([by_length[place] for place in dict.fromkeys(places.tolist())])


def _encoded(plain: Reference, examples: Examples, place: int, limit: int) -> dict[str, Any]:
    """One example as the tokenizer encodes it by itself."""
    text, pair = examples.texts[place], examples.pairs[place] if examples.pairs else None
    cut: Any = "only_second" if examples.kind == "span" else True
    if examples.kind == "token" and not plain.tokenizer.is_fast:
        encoded = plain.tokenizer(
            text.split(" "), is_split_into_words=True, truncation=True, max_length=limit
        )
    else:
        encoded = plain.tokenizer(
            text, pair, truncation=cut, max_length=limit, return_attention_mask=True
        )
    return accepted_inputs(plain.model, {key: [value] for key, value in encoded.items()})


def _on(model: Any, encoded: dict[str, Any]) -> dict[str, Tensor]:
    return {key: torch.tensor(value, device=device_of(model)) for key, value in encoded.items()}


def _same_tokens(
    name: str,
    examples: Examples,
    features: Features,
    rows: Sequence[int],
    inputs: Sequence[dict[str, Any]],
) -> None:
    for place, (row, plain) in enumerate(zip(rows, inputs, strict=True)):
        for key, wanted in plain.items():
            if (
                key in features.inputs
                and features.inputs[key][row] != wanted[0]
                and not _is_shortened(examples, place)
            ):
                raise PruneError(
                    f"{name}: PruneScope encodes {examples.texts[place][:40]!r} otherwise than its tokenizer by itself ({key}); {REPORT}."
                )


def _is_shortened(examples: Examples, place: int) -> bool:
    """Whether a question may be cut before it is encoded, which leaves room for its context."""
    return examples.kind == "span" and len(examples.texts[place]) > 60


def _outputs(found: Any) -> list[Tensor]:
    """What a model answers each row of a batch with: (labels,), (tokens, labels), or (tokens, 2) of starts and ends."""
    if getattr(found, "start_logits", None) is not None:
        return [*torch.stack([found.start_logits, found.end_logits], dim=-1).float()]
    return [*found.logits.float()]


def _replayed(model: Any, batch: dict[str, Tensor]) -> list[Tensor]:
    *_, (hidden, padding) = replay.hidden_states(model, batch)
    found = replay.head(model, hidden, padding)
    if replay.task_type_of(model) == "span":
        return [*found.transpose(1, 2)]
    return [*padding.unpack(found)] if replay.task_type_of(model) == "token" else [*found]


def _cut(found: list[Tensor], wanted: list[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """Without the outputs of padding."""
    return [
        own if own.dim() == 1 else own[:length] for own, length in zip(found, lengths, strict=True)
    ]


def _compare(
    name: str,
    examples: Examples,
    wanted: Sequence[Tensor],
    found: Sequence[Tensor],
    tolerance: float,
    how: str,
) -> None:
    for place, (one, other) in enumerate(zip(wanted, found, strict=True)):
        if _is_shortened(examples, place) and one.shape != other.shape:
            continue
        off, scale = float((one - other).abs().max()), max(1.0, float(one.abs().max()))
        if not off <= tolerance * scale or not np.isfinite(off):
            raise PruneError(
                f"{name}: the outputs for {examples.texts[place][:40]!r} {how} differ by {off:.2g} from the model's own for this example "
                f"alone ({one.flatten()[0]:.4g}, {other.flatten()[0]:.4g} …; {tolerance:g} is allowed); {REPORT}."
            )


def sample_examples(kind: str) -> Examples:
    """Examples to check a model by that comes without data: a short, a middling and a long one."""
    pairs = list(reversed(SENTENCES)) if kind == "span" else None
    return Examples([*SENTENCES], pairs, kind=kind)
