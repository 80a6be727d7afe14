"""Check a loaded model against plain transformers before anything is measured.

A few short and long examples are run through the model class's own forward, one at a time, without
padding, with the tokenizer as saved; and through the product's path: its tokenizer, padded batches,
and the replayed blocks that pruning works on. Both must give the same outputs, and two loads the
same weights. This catches random weights, padding on the wrong side, missing token types, shifted
positions and reduced precision, whatever the cause.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data.examples import Examples
from ...data.tokens import Features, pad_batch
from ...errors import PruneError
from ...tasks import TASK_TYPES
from ...tasks.encoding import encode
from .. import compact, embedding, replay
from ..devices import device_of, matrix_precision
from ..families import FAMILIES
from . import adapters, difference, loading, weights
from .plain_embedding import PlainEmbedder
from .tokenizers import accepted_inputs

EXAMPLES = 16
# relative to max(1, largest output): fp32 kernels round differently, mistakes differ in the first
# digits
TOLERANCE = 1e-4
MAX_CANDIDATES = 2000  # examples from which short and long ones are chosen
REPORT = (
    "nothing is measured; please report this with the checkpoint's config.json and tokenizer files"
)
SENTENCES = (
    "Good.",
    "It is not what was promised, and it came two weeks late.",
    "Ada Brook wrote in 1902 that the mill at Oak Bridge ground flour for nine villages until the "
    "flood came; today it is a school, and nobody who learns to read there knows what the great "
    "stone in the yard once was for, or who carried it up the hill.",
)


class Reference(NamedTuple):
    """A model and its tokenizer as loaded by plain transformers."""

    model: Any
    tokenizer: Any


def reference(checkpoint: str, pooling: str = "") -> Reference:
    """Load the checkpoint a second time.

    With plain transformers if it is an ordinary folder or Hub id. `pooling`: see `loading.load`.
    """
    import transformers

    source = loading.resolve(checkpoint)
    config, _, _ = loading.describe(checkpoint, pooling=pooling)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        loading.tokenizer_source(source, checkpoint), trust_remote_code=False
    )
    with torch.random.fork_rng(devices=[]):
        # another seed: weights that are not in the files differ between loads
        torch.manual_seed(torch.initial_seed() + 1)
        if not _is_ordinary(source, config):
            model, _ = loading.load(checkpoint, pooling=pooling)
        elif embedding.is_embedding(config):
            with weights.silence_load_report():
                model = PlainEmbedder(source, config, FAMILIES[config.model_type].base)
        else:
            with weights.silence_load_report():
                model = getattr(transformers, config.architectures[0]).from_pretrained(
                    source, config=config, trust_remote_code=False
                )
    if embedding.is_embedding(config):
        embedding.prepare_tokenizer(tokenizer, config, checkpoint)
    return Reference(model.float().eval(), tokenizer)


def _is_ordinary(source: str, config: Any) -> bool:
    """Whether from_pretrained can read it without help.

    It cannot read adapters, compact models, differences, and weights with a wrapper's names.
    """
    folder = Path(source)
    return not (
        hasattr(config, compact.KEY)
        or (folder / adapters.CONFIG).is_file()
        or difference.read_metadata(source)
        or (folder.is_dir() and weights.is_wrapped(folder, config))
    )


def check(
    checkpoint: str,
    model: Any,
    tokenizer: Any,
    examples: Examples,
    max_length: int,
    *,
    pooling: str = "",
) -> None:
    """Raise PruneError if a loaded checkpoint differs from what plain transformers loads."""
    plain = reference(checkpoint, pooling)
    _check_weights(model, plain.model, checkpoint)
    check_outputs(
        checkpoint, model, tokenizer, examples=examples, max_length=max_length, plain=plain
    )


def _check_weights(model: Any, other: Any, checkpoint: str) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    differ = sorted(ours.keys() ^ theirs.keys()) or [
        name for name, tensor in ours.items() if not _equal(tensor, theirs[name])
    ]
    if differ:
        raise PruneError(
            f"{checkpoint}: two loads give different weights in {weights.list_names(differ)}: "
            "these "
            "are in none of its files, so they would be random; save the whole model again with "
            "save_pretrained where it was trained."
        )


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(
        first.detach().cpu().to(second.dtype), second
    )


def check_outputs(
    name: str,
    model: Any,
    tokenizer: Any,
    examples: Examples,
    max_length: int,
    *,
    plain: Reference | None = None,
    tolerance: float = TOLERANCE,
    deployed: Any = None,
) -> None:
    """Raise PruneError if the product's outputs differ from the model's own forward.

    The latter runs one example at a time. The outputs are compared with those of `plain` (default:
    the model itself). `deployed` replaces the model in the product's path, such as an exported
    file, whose blocks cannot be replayed.
    """
    plain = plain or Reference(model, tokenizer)
    sample = _sample(examples)
    outputs_of = TASK_TYPES[examples.kind].example_outputs
    features = encode(tokenizer, sample, max_length)
    rows = [features.example_index.index(place) for place in range(len(sample))]
    with torch.no_grad(), matrix_precision(tf32=False):
        inputs = [
            _encode(plain, sample, place, limit=min(max_length, tokenizer.model_max_length))
            for place in range(len(sample))
        ]
        _check_tokens(name, sample, features, rows=rows, inputs=inputs)
        expected = [
            outputs_of(plain.model(**_to_tensors(plain.model, encoded)))[0].cpu()
            for encoded in inputs
        ]
        paths: list[tuple[str, Callable[[Any], list[Tensor]]]] = [
            ("in a padded batch", lambda batch: outputs_of((deployed or model)(**batch)))
        ]
        if deployed is None:
            paths.append(("replayed block by block", lambda batch: _replay(model, batch)))
        batch = pad_batch(tokenizer, features, rows, device=device_of(deployed or model))
        lengths = [len(features.inputs["input_ids"][row]) for row in rows]
        for description, path in paths:
            outputs = zip(path(batch), lengths, strict=True)
            _compare(
                name,
                sample,
                expected,
                actual=[
                    (output if output.dim() == 1 else output[:length]).float().cpu()
                    for output, length in outputs
                ],
                tolerance=tolerance,
                description=description,
            )


def _sample(examples: Examples) -> Examples:
    """Choose short and long examples, evenly over the lengths.

    Without leading spaces: the product strips them from questions. After the default prompt.
    """
    usable = [
        place
        for place in range(min(len(examples), MAX_CANDIDATES))
        if examples.texts[place] == examples.texts[place].lstrip()
    ]
    by_length = sorted(usable or [0], key=lambda place: len(examples.full_text(place)))
    places = np.linspace(0, len(by_length) - 1, min(EXAMPLES, len(by_length))).round().astype(int)
    chosen = examples.take([by_length[place] for place in dict.fromkeys(places.tolist())])
    return replace(chosen, roles=None)


def _encode(plain: Reference, examples: Examples, place: int, limit: int) -> dict[str, Any]:
    """Encode one example with the tokenizer alone."""
    text, pair = examples.texts[place], examples.pairs[place] if examples.pairs else None
    task_type = TASK_TYPES[examples.kind]
    encoded = task_type.encode_alone(plain.tokenizer, text, pair, limit=limit)
    return accepted_inputs(plain.model, {key: [value] for key, value in encoded.items()})


def _to_tensors(model: Any, encoded: dict[str, Any]) -> dict[str, Tensor]:
    return {key: torch.tensor(value, device=device_of(model)) for key, value in encoded.items()}


def _check_tokens(
    name: str,
    examples: Examples,
    features: Features,
    rows: Sequence[int],
    inputs: Sequence[dict[str, Any]],
) -> None:
    """Raise PruneError if the product's token ids or masks differ from the tokenizer's."""
    for place, (row, plain) in enumerate(zip(rows, inputs, strict=True)):
        for key, expected in plain.items():
            if (
                key in features.inputs
                and features.inputs[key][row] != expected[0]
                and not _is_shortened(examples, place)
            ):
                raise PruneError(
                    f"{name}: PruneScope encodes {examples.texts[place][:40]!r} differently from "
                    f"the tokenizer itself ({key}); {REPORT}."
                )


def _is_shortened(examples: Examples, place: int) -> bool:
    """Whether a question may have been truncated to leave room for its context."""
    return TASK_TYPES[examples.kind].has_windows and len(examples.texts[place]) > 60


def _replay(model: Any, batch: dict[str, Tensor]) -> list[Tensor]:
    *_, (hidden, padding) = replay.hidden_states(model, batch)
    return replay.task_type_of(model).unpacked(replay.head(model, hidden, padding), padding)


def _compare(
    name: str,
    examples: Examples,
    expected: Sequence[Tensor],
    actual: Sequence[Tensor],
    tolerance: float,
    description: str,
) -> None:
    for place, (reference, output) in enumerate(zip(expected, actual, strict=True)):
        if _is_shortened(examples, place) and reference.shape != output.shape:
            continue
        difference = float((reference - output).abs().max())
        scale = max(1.0, float(reference.abs().max()))
        if not difference <= tolerance * scale or not np.isfinite(difference):
            raise PruneError(
                f"{name}: the outputs for {examples.texts[place][:40]!r} {description} differ by "
                f"{difference:.2g} from the model's own for this example alone "
                f"({reference.flatten()[0]:.4g}, {output.flatten()[0]:.4g} …; "
                f"{tolerance:g} is allowed); {REPORT}."
            )


def sample_examples(kind: str) -> Examples:
    """Examples to check a model that comes without data: one short, one medium, one long."""
    pairs = [*SENTENCES[::-1]] if TASK_TYPES[kind].needs_pair else None
    return Examples([*SENTENCES], pairs, kind=kind)
