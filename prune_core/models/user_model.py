"""An encoder inside a user's model of any kind, which is called by the user's own function.

The function runs the user's model on one batch. The inputs of the encoder's calls become the
calibration batches; where a method needs the model's outputs, the function is called again with
other hidden states in place of the encoder's last ones.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import PruneError
from ..plugins import Batch
from ..tasks import TaskType
from .compact import refuse_compact
from .families import layout
from .replay import Padding, block_modules, hidden_states, linears

TOLERANCE = 1e-4  # of replayed hidden states, relative to max(1, the largest one)
# Maps of a model's outputs, after which half the squared distance is the divergence: exactly 1 -
# cosine for embeddings, the Kullback-Leibler divergence to second order for logits
OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "values": lambda x: x,
    "logits": lambda x: 2 * (x.log_softmax(-1) / 2).exp(),
    "binary_logits": lambda x: 2 * (F.logsigmoid(torch.stack([x, -x], -1)) / 2).exp(),
    "embeddings": lambda x: F.normalize(x, dim=-1),
}
Run = Callable[[Any], Any]  # runs the user's model on one batch


class EncoderCall(NamedTuple):
    """A call of the encoder: the user's batch, and the call's place among those of the batch."""

    batch: Any
    place: int


class RunOutputs(TaskType):
    """Task type of a user's model: what `run` returns takes the place of logits."""

    name = "run"
    reads_all_tokens = True

    def __init__(self, model: UserModel, run: Run, outputs: str):
        self.run, self.transform = run, OUTPUTS[outputs]
        self.encoder, self.final_module = model.encoder, _final_module(model)
        self.calls: dict[int, EncoderCall] = {}  # by id() of the attention mask of its batch

    def __deepcopy__(self, memo: Any) -> RunOutputs:
        """Return the same object: copies of an encoder share the user's model."""
        return self

    def head_linears(self, layout: Any, config: Any) -> tuple[str, ...]:
        """Return no paths: only the encoder is pruned and refitted."""
        return ()

    def head(self, layout: Any, model: Any, hidden: Tensor, padding: Padding) -> Tensor:
        """Map packed final hidden states to the transformed outputs, (rows, values).

        Without outputs (None) these are the hidden states, divided by the root of their number.
        """
        batch, place = self.calls[id(padding.mask)]
        padded = padding.unpack(hidden)
        with self._final_states(padded, place):
            output = self.run(batch)
        if output is None:
            return padded.flatten(1) * (len(padded) / hidden.numel()) ** 0.5
        tensors = _float_tensors(output)
        if not tensors or hidden.requires_grad and not any(each.requires_grad for each in tensors):
            raise PruneError(
                f"run returns a {type(output).__name__} without gradients, which this method "
                "needs: return tensors that are computed with gradients, or None to compare the "
                "encoder's hidden states instead."
            )
        values = [self.transform(each.float()) for each in tensors]
        rows = math.gcd(*(len(each) if each.dim() else 1 for each in values))
        return torch.cat([each.reshape(rows, -1) for each in values], 1)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return half the squared distance of each row; there is no temperature."""
        return (student - teacher).square().sum(1) / 2

    def fisher_probe(self, logits: Tensor, signs: Tensor) -> Tensor:
        """Return the signs: the outputs are transformed, so their metric is the identity."""
        return signs

    @contextmanager
    def _final_states(self, hidden: Tensor, place: int) -> Iterator[None]:
        """Replace the padded final hidden states of one call of the encoder in a batch."""
        calls = itertools.count()
        original = self.encoder.forward

        def replace(_: nn.Module, __: Any, output: Any) -> Any:
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        def forward(*inputs: Any, **options: Any) -> Any:
            if next(calls) != place:
                return original(*inputs, **options)
            hook = self.final_module.register_forward_hook(replace)
            try:
                return original(*inputs, **options)
            finally:
                hook.remove()

        with _patched(self.encoder, forward):
            yield


class UserModel(nn.Module):
    """An encoder with the attributes that replay and methods expect of a model with a head."""

    def __init__(self, encoder: nn.Module, run: Run, outputs: str = "values"):
        """Wrap an encoder of a supported family, not a copy; PruneError if it cannot be pruned."""
        super().__init__()
        _check_encoder(encoder)
        if outputs not in OUTPUTS:
            raise PruneError(f"outputs is {outputs!r}; choose one of {', '.join(OUTPUTS)}.")
        self.config: Any = encoder.config
        setattr(self, layout(self).base, encoder)
        _check_linears(self)
        self.task_type = RunOutputs(self, run, outputs)

    @property
    def encoder(self) -> Any:
        """The encoder itself."""
        return getattr(self, layout(self).base)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Run the encoder alone."""
        return self.encoder(*inputs, **options)

    @torch.no_grad()
    def capture(self, user_batches: Iterable[Any]) -> list[Batch]:
        """Run the user's model on every batch; return the inputs of each call of the encoder.

        PruneError if a batch does not call it, or if the blocks do not reproduce its output.
        """
        batches: list[Batch] = []
        original, calls = self.encoder.forward, list[tuple[dict[str, Any], Tensor]]()
        signature = inspect.signature(original)

        def forward(*inputs: Any, **options: Any) -> Any:
            output = original(*inputs, **options)
            calls.append((signature.bind(*inputs, **options).arguments, output[0]))
            return output

        for number, user_batch in enumerate(user_batches, 1):
            calls.clear()
            with _patched(self.encoder, forward):
                self.task_type.run(user_batch)
            if not calls:
                raise PruneError(
                    f"run does not call the encoder, a {type(self.encoder).__name__}, for batch "
                    f"{number}; pass the module that run calls, and not a copy of it."
                )
            for place, (inputs, output) in enumerate(calls):
                batch = _calibration_batch(self.encoder, inputs)
                if not batches:
                    self._check_replay(batch, output)
                self.task_type.calls[id(batch["attention_mask"])] = EncoderCall(user_batch, place)
                batches.append(batch)
        return batches

    def _check_replay(self, batch: Batch, output: Tensor) -> None:
        """Raise PruneError if the blocks do not reproduce the encoder's hidden states."""
        *_, (hidden, padding) = hidden_states(self, batch)
        if name := layout(self).final_norm:
            hidden = attrgetter(name)(self.encoder)(hidden)
        expected = padding.pack(output)
        difference = float((hidden - expected).abs().max())
        if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise PruneError(
                f"Computed block by block, the encoder's hidden states differ by {difference:.2g}; "
                "call it in eval mode, without changed position ids, embeddings or hooks."
            )


def _check_encoder(encoder: Any) -> None:
    """Raise PruneError if it is not just an encoder, in full shape and fp32."""
    kind, spec = type(encoder).__name__, layout(encoder)
    modules = dict(encoder.named_modules())
    if spec.blocks.removeprefix(f"{spec.base}.") not in modules:
        inside = f".{spec.base} of it" if spec.base in modules else "the encoder inside it"
        raise PruneError(f"The encoder is a {kind}, which is more than an encoder; pass {inside}.")
    refuse_compact(encoder, f"The {kind}")
    if (dtype := next(encoder.parameters()).dtype) != torch.float32:
        raise PruneError(f"The encoder's weights are {dtype}; prune it in fp32: encoder.float().")


def _check_linears(model: UserModel) -> None:
    for index, projection, linear in linears(model):
        if not isinstance(linear, nn.Linear):
            raise PruneError(
                f"The {projection} matrix of block {index + 1} is a {type(linear).__name__}, not "
                "a Linear: merge adapters into the encoder, and prune before quantizing."
            )


def _final_module(model: UserModel) -> nn.Module:
    """Return the module whose output is the encoder's last hidden state."""
    if name := layout(model).final_norm:
        return attrgetter(name)(model.encoder)
    modules, place = block_modules(model)[-1]
    return modules[place]


def _calibration_batch(encoder: Any, inputs: Mapping[str, Any]) -> Batch:
    """Return the inputs of a call that embeddings read, and its mask as bool.

    Clones: tensors of inference mode cannot be used with gradients. PruneError if the call has
    no token ids, or a mask per pair of tokens.
    """
    ids = inputs.get("input_ids")
    if ids is None:
        raise PruneError("run calls the encoder without input_ids; call it with token ids.")
    mask = inputs.get("attention_mask")
    if mask is not None and mask.dim() != 2:
        raise PruneError(
            f"run calls the encoder with an attention mask of {mask.dim()} dimensions; only masks "
            "of shape (texts, tokens) are supported."
        )
    names = inspect.signature(encoder.embeddings.forward).parameters
    batch = {
        name: inputs[name].clone()
        for name in ("input_ids", "token_type_ids", "position_ids")
        if name in names and inputs.get(name) is not None
    }
    return batch | {"attention_mask": (torch.ones_like(ids) if mask is None else mask) != 0}


def _float_tensors(output: Any) -> list[Tensor]:
    """Return the floating-point tensors in a tensor, a sequence or a dict of them."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [tensor for each in output for tensor in _float_tensors(each)]
    return []


@contextmanager
def _patched(encoder: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the encoder's `forward`, which some libraries call without the module's hooks."""
    previous = encoder.__dict__.get("forward")
    encoder.forward = forward
    try:
        yield
    finally:
        del encoder.forward
        if previous is not None:
            encoder.forward = previous


@contextmanager
def in_place_of(encoder: nn.Module, other: nn.Module) -> Iterator[None]:
    """Exchange the contents of two modules of a class, whoever refers to them."""

    def exchange() -> None:
        encoder.__dict__, other.__dict__ = other.__dict__, encoder.__dict__

    exchange()
    try:
        yield
    finally:
        exchange()
