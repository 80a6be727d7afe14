"""Predict examples: probabilities, scores or answer spans, in batches sorted by length on the
model's device.
"""

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
from ..replay import MASKED_LOGIT

ANSWER_TOKENS = 30  # maximum length of an answer, as in the official baselines


# from logits to probabilities of labels (softmax or sigmoid), or scores
ACTIVATIONS = {
    "classification": lambda logits: logits.softmax(-1),
    "multilabel": Tensor.sigmoid,
    "regression": lambda logits: logits,
}


def threshold(config: Any) -> float:
    """Output above which a binary classifier with one output predicts label 1.

    There the probability of label 1 is 0.5. The output is a logit, unless the model was trained
    with squared error on labels 0 and 1.
    """
    return THRESHOLD if config.problem_type == "regression" else 0.0


def binary_note(config: Any) -> str:
    """Note on how a binary classifier with one output is evaluated."""
    output = "the output" if threshold(config) else "the sigmoid of the output"
    return (
        "The model has one output and the labels are 0 and 1: it is evaluated as a binary "
        f"classifier with threshold {THRESHOLD} on {output}."
    )


class Predictions(NamedTuple):
    """A model's predictions, in the order of the examples."""

    # class indices; multi-label: 1 or 0 per label; token classification: a class index per word;
    # regression: scores; spans: answer texts ("" for none)
    predicted: list[Any]
    # per label; for spans and words, of the prediction; empty lists for scores
    probabilities: list[list[float]]


def predict(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = no_report,
) -> Predictions:
    """Predict examples of any task type."""
    special = {"span": predict_answers, "token": predict_tags}
    if examples.kind in special:
        return special[examples.kind](
            model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
        )
    values = outputs(
        model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
    )
    if examples.kind == "regression":
        if examples.binary:
            return _binary(values[:, 0], model.config)
        return Predictions(values[:, 0].tolist(), [[] for _ in values])
    if examples.kind == "multilabel":
        return Predictions((values > 0.5).astype(int).tolist(), values.tolist())
    return Predictions(values.argmax(-1).tolist(), values.tolist())


def _binary(outputs: np.ndarray, config: Any) -> Predictions:
    """Predictions 0 or 1 and (1 - p, p) of a binary classifier with one output (examples,)."""
    boundary = threshold(config)
    logits = torch.from_numpy(outputs).double()  # fp32 sigmoids of large logits would be equal
    p = (logits if boundary else logits.sigmoid()).tolist()
    return Predictions(
        (outputs > boundary).astype(int).tolist(), [[1 - value, value] for value in p]
    )


def probabilities(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = no_report,
) -> np.ndarray:
    """Softmax probabilities of a classifier in the order of the examples: (examples, labels)."""
    return outputs(
        model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
    )


@torch.no_grad()
def outputs(
    model: Any, tokenizer: Any, examples: Examples, batch_size: int, max_length: int, report: Report
) -> np.ndarray:
    """Probabilities per label (examples, labels), or scores (examples, 1).

    `report` is called with the fraction of finished examples.
    """
    values: list[Tensor] = []
    order: list[int] = []
    for batch, indices in batches(
        tokenizer, examples, batch_size, max_length=max_length, device=device_of(model)
    ):
        values.append(ACTIVATIONS[examples.kind](model(**batch).logits.float()))
        order += indices
        report(len(order) / len(examples), f"predicted {len(order)} of {len(examples)}")
    result = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    if values:
        # transferred once: on a GPU, batches need not wait for each other
        result[order] = torch.cat(values).cpu().numpy()
    _check_finite(result, len(examples))
    return result


def _check_finite(outputs: np.ndarray, examples: int) -> None:
    """Refuse NaN, which argmax would count as some label."""
    if count := int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(-1).sum()):
        raise PruneError(
            f"The model's outputs for {count} of {examples} examples are NaN or infinite: its "
            "weights or activations overflow. Prune less or with another method; if it is the "
            "dense model, use another checkpoint."
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
    """Predict a label per word, by its first token.

    A word that was truncated or has no token gets the label O, or the first if there is no O.
    """
    features = encode(tokenizer, examples, max_length)
    assert features.words is not None, "words have first tokens"
    outside = next((index for index, name in model.config.id2label.items() if name == "O"), 0)
    predicted = [[outside] * len(text.split(" ")) for text in examples.texts]
    confidence = [[1.0] * len(tags) for tags in predicted]
    done = 0
    for batch, rows in batches_by_length(tokenizer, features, batch_size, device=device_of(model)):
        highest, labels = model(**batch).logits.float().softmax(-1).max(-1)
        _check_finite(highest.cpu().numpy(), len(rows))
        for row, row_highest, row_labels in zip(
            rows, highest.tolist(), labels.tolist(), strict=True
        ):
            for word, probability, label in zip(
                features.words[row], row_highest, row_labels, strict=False
            ):
                if word is not None:
                    predicted[row][word] = label
                    confidence[row][word] = probability
        done += len(rows)
        report(done / len(features), f"predicted {done} of {len(features)}")
    return Predictions(predicted, confidence)


@torch.no_grad()
def predict_answers(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int,
    max_length: int,
    report: Report = no_report,
) -> Predictions:
    """Predict the best span of every question over all windows of its context.

    "" if "no answer" scores higher and some examples have no answer.
    """
    features = encode(tokenizer, examples, max_length)
    best = np.full(len(examples), -np.inf)
    # lowest score of "no answer" over the windows, as in the official baseline
    no_answer = np.full(len(examples), np.inf)
    predicted, confidence = [""] * len(examples), [[0.0]] * len(examples)
    done = 0
    for batch, rows in batches_by_length(tokenizer, features, batch_size, device=device_of(model)):
        output = model(**batch)
        _check_finite((output.start_logits + output.end_logits).float().cpu().numpy(), len(rows))
        spans = best_spans(
            output.start_logits,
            output.end_logits,
            batch["attention_mask"],
            features=features,
            rows=rows,
        )
        for row, score, first, last, null, probability in zip(rows, *spans, strict=True):
            example = features.example_index[row]
            no_answer[example] = min(no_answer[example], null)
            if score > best[example]:
                best[example] = score
                predicted[example] = _text(examples, features, row, first=first, last=last)
                confidence[example] = [probability]
        done += len(rows)
        report(done / len(features), f"predicted {done} of {len(features)} windows")
    if examples.labels and any(not answers.texts for answers in examples.labels):
        predicted = [
            "" if null > score else text
            for text, score, null in zip(predicted, best, no_answer, strict=True)
        ]
    return Predictions(predicted, confidence)


def best_spans(
    start: Tensor, end: Tensor, mask: Tensor, features: Features, rows: list[int]
) -> tuple[list[Any], ...]:
    """Best span per window: (score, first token, last token, score of [CLS], probability).

    Logits are (windows, tokens).
    """
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
    start, end = (logits.float().masked_fill(~mask.bool(), MASKED_LOGIT) for logits in (start, end))
    null = start[:, 0] + end[:, 0]
    log_probability = start.log_softmax(-1)[:, :, None] + end.log_softmax(-1)[:, None, :]
    all_spans = torch.ones(tokens, tokens, dtype=torch.bool, device=start.device)
    band = all_spans.triu().tril(ANSWER_TOKENS - 1)
    allowed = band & context[:, :, None] & context[:, None, :]
    # ordered as the sums of logits
    highest, place = log_probability.masked_fill(~allowed, -torch.inf).flatten(1).max(-1)
    first, last = place // tokens, place % tokens
    score = start.gather(1, first[:, None])[:, 0] + end.gather(1, last[:, None])[:, 0]
    return tuple(values.tolist() for values in (score, first, last, null, highest.exp()))


def _text(examples: Examples, features: Features, row: int, first: int, last: int) -> str:
    assert features.offsets is not None and examples.pairs is not None, (
        "spans have offsets and contexts"
    )
    left, right = features.offsets[row][first], features.offsets[row][last]
    assert left and right, "only tokens of the context are allowed"
    return examples.pairs[features.example_index[row]][left[0] : right[1]]
