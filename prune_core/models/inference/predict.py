"""Examples in, answers out: probabilities, scores or spans of text, in length-sorted batches on the model's own device."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data.examples import Examples
from ...data.metrics import THRESHOLD
from ...data.tokens import Features, batches, batches_by_length, encode
from ...errors import PruneError
from ...plugins import Report, no_report
from ..devices import device_of
from ..replay import NEVER

ANSWER_TOKENS = 30  # the official baselines' longest answer


# what logits say: one of the labels, any number of them, or a score
SHARES = {
    "classification": lambda logits: logits.softmax(-1),
    "multilabel": Tensor.sigmoid,
    "regression": lambda logits: logits,
}


def threshold(config: Any) -> float:
    """The output above which a binary classifier with one output predicts label 1.

    There the probability of label 1 is 0.5. The output is a logit, unless the model was trained
    with squared error on labels 0 and 1.
    """
    return THRESHOLD if config.problem_type == "regression" else 0.0


def binary_note(config: Any) -> str:
    """How a binary classifier with one output is evaluated, for the notes of a run."""
    output = "the output" if threshold(config) else "the sigmoid of the output"
    return (
        "The model has one output and the labels are 0 and 1: it is evaluated as a binary "
        f"classifier with threshold {THRESHOLD} on {output}."
    )


class Predictions(NamedTuple):
    """What a model says of every example, in the examples' order."""

    predicted: list[
        Any
    ]  # class numbers, 1 or 0 for every label, a class number for every word, scores, or answer texts ("" for none)
    probabilities: list[
        list[float]
    ]  # of every label; of what is said, for spans and words; empty lists for scores


def predict(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = no_report,
) -> Predictions:
    """The model's answers, whatever its kind."""
    if examples.kind == "span":
        return predict_answers(
            model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
        )
    if examples.kind == "token":
        return predict_tags(
            model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
        )
    found = outputs(
        model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
    )
    if examples.kind == "regression":
        if examples.binary:
            return _binary(found[:, 0], model.config)
        return Predictions(found[:, 0].tolist(), [[] for _ in found])
    if examples.kind == "multilabel":
        return Predictions((found > 0.5).astype(int).tolist(), found.tolist())
    return Predictions(found.argmax(-1).tolist(), found.tolist())


def _binary(outputs: np.ndarray, config: Any) -> Predictions:
    """Labels 0 or 1 and (1 - p, p) of a binary classifier with one output, (examples,)."""
    cut = threshold(config)
    wide = torch.from_numpy(outputs).double()  # in fp32 the sigmoid of large logits would tie
    p = (wide if cut else wide.sigmoid()).tolist()
    return Predictions((outputs > cut).astype(int).tolist(), [[1 - each, each] for each in p])


def probabilities(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = no_report,
) -> np.ndarray:
    """(examples, labels) softmax probabilities of a classifier in the examples' order."""
    return outputs(
        model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
    )


@torch.no_grad()
def outputs(
    model: Any, tokenizer: Any, examples: Examples, batch_size: int, max_length: int, report: Report
) -> np.ndarray:
    """(examples, labels) probabilities of each label, or (examples, 1) scores; the report counts finished examples."""
    found: list[Tensor] = []
    order: list[int] = []
    for batch, indices in batches(
        tokenizer, examples, batch_size, max_length=max_length, device=device_of(model)
    ):
        logits = model(**batch).logits.float()
        found.append(SHARES[examples.kind](logits))
        order += indices
        report(len(order) / len(examples), f"predicted {len(order)} of {len(examples)}")
    out = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    if found:
        out[order] = (
            torch.cat(found).cpu().numpy()
        )  # fetched once: on a GPU, batches need not wait for each other
    _are_numbers(out, len(examples))
    return out


def _are_numbers(said: np.ndarray, examples: int) -> None:
    """An answer of NaN would count as some label's."""
    if bad := int((~np.isfinite(said)).reshape(len(said), -1).any(-1).sum()):
        raise PruneError(
            f"The model's answers to {bad} of {examples} examples are no numbers (NaN or infinite): its weights or what passes through "
            "them grew beyond what floats hold. Prune less or by another method; where it is the dense model, take another checkpoint."
        )


@torch.no_grad()
def predict_tags(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int,
    max_length: int,
    report: Report = no_report,
) -> Predictions:
    """A label for every word, by its first token; a word that was cut off or has none gets the label of nothing, O or the first."""
    features = encode(tokenizer, examples, max_length)
    assert features.words is not None, "words have first tokens"
    nothing = next((index for index, name in model.config.id2label.items() if name == "O"), 0)
    said = [[nothing] * len(text.split(" ")) for text in examples.texts]
    sure = [[1.0] * len(own) for own in said]
    done = 0
    for batch, rows in batches_by_length(tokenizer, features, batch_size, device=device_of(model)):
        highest, labels = model(**batch).logits.float().softmax(-1).max(-1)
        _are_numbers(highest.cpu().numpy(), len(rows))
        shares, labels = highest.tolist(), labels.tolist()
        for row, own_shares, own_labels in zip(rows, shares, labels, strict=True):
            for word, share, label in zip(
                features.words[row], own_shares, own_labels, strict=False
            ):
                if word is not None:
                    said[row][word], sure[row][word] = label, share
        done += len(rows)
        report(done / len(features), f"predicted {done} of {len(features)}")
    return Predictions(said, sure)


@torch.no_grad()
def predict_answers(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int,
    max_length: int,
    report: Report = no_report,
) -> Predictions:
    """The best span of every question over all windows of its context; "" where no answer scores higher and is allowed."""
    features = encode(tokenizer, examples, max_length)
    best = np.full(len(examples), -np.inf)
    nothing = np.full(
        len(examples), np.inf
    )  # the lowest score of "no answer" over the windows, as in the official baseline
    said, sure = [""] * len(examples), [[0.0]] * len(examples)
    done = 0
    for batch, rows in batches_by_length(tokenizer, features, batch_size, device=device_of(model)):
        found = model(**batch)
        _are_numbers((found.start_logits + found.end_logits).float().cpu().numpy(), len(rows))
        chosen = zip(
            rows,
            *best_spans(
                found.start_logits,
                found.end_logits,
                batch["attention_mask"],
                features=features,
                rows=rows,
            ),
            strict=True,
        )
        for row, score, first, last, null, share in chosen:
            example = features.example[row]
            nothing[example] = min(nothing[example], null)
            if score > best[example]:
                best[example] = score
                said[example], sure[example] = (
                    _text(examples, features, row, first=first, last=last),
                    [share],
                )
        done += len(rows)
        report(done / len(features), f"read {done} of {len(features)} windows")
    if examples.labels and any(not right.texts for right in examples.labels):
        said = [
            "" if none > score else text
            for text, score, none in zip(said, best, nothing, strict=True)
        ]
    return Predictions(said, sure)


def best_spans(
    start: Tensor, end: Tensor, mask: Tensor, features: Features, rows: list[int]
) -> tuple[list[Any], ...]:
    """For every window (logits are (windows, tokens)): best score, its first and last token, the score of [CLS], probability."""
    assert features.offsets is not None, "spans have offsets"
    tokens = start.shape[1]
    context = torch.tensor(
        [
            [span is not None for span in features.offsets[row]]
            + [False] * (tokens - len(features.offsets[row]))
            for row in rows
        ],
        device=start.device,
    )
    start, end = (logits.float().masked_fill(~mask.bool(), NEVER) for logits in (start, end))
    null = start[:, 0] + end[:, 0]
    log_share = start.log_softmax(-1)[:, :, None] + end.log_softmax(-1)[:, None, :]
    band = (
        torch.ones(tokens, tokens, dtype=torch.bool, device=start.device)
        .triu()
        .tril(ANSWER_TOKENS - 1)
    )
    allowed = band & context[:, :, None] & context[:, None, :]
    share, place = (
        log_share.masked_fill(~allowed, -torch.inf).flatten(1).max(-1)
    )  # one order with the sum of logits
    first, last = place // tokens, place % tokens
    score = start.gather(1, first[:, None])[:, 0] + end.gather(1, last[:, None])[:, 0]
    return tuple(values.tolist() for values in (score, first, last, null, share.exp()))


def _text(examples: Examples, features: Features, row: int, first: int, last: int) -> str:
    assert features.offsets is not None and examples.pairs is not None, (
        "spans have offsets and contexts"
    )
    left, right = features.offsets[row][first], features.offsets[row][last]
    assert left and right, "only tokens of the context are allowed"
    return examples.pairs[features.example[row]][left[0] : right[1]]
