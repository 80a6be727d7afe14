"""Checkpoints and data files as users have them, in many families, languages and file formats."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import tiny
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

INTENTS = ("termin_vereinbaren", "rechnung_bezahlen", "kündigung", "öffnungszeiten")
GERMAN = {
    "termin_vereinbaren": "Ich möchte gern einen Termin bei Frau Müller am {} vereinbaren",
    "rechnung_bezahlen": "Wie kann ich die Rechnung vom {} über mein Konto bezahlen",
    "kündigung": "Hiermit kündige ich meinen Vertrag zum {} und bitte um Bestätigung",
    "öffnungszeiten": "Haben Sie am {} geöffnet",
}
DAYS = (
    "Montag",
    "Dienstag",
    "Mittwoch",
    "Donnerstag",
    "Freitag",
    "Samstag",
    "ersten März",
    "zweiten Mai",
)
NLI = ("entailment", "neutral", "contradiction")
FRENCH = (
    ("Marie", "B-PER"),
    ("Dupont", "I-PER"),
    ("habite", "O"),
    ("à", "O"),
    ("Lyon", "B-LOC"),
    ("depuis", "O"),
    ("mars", "O"),
    (".", "O"),
)


class ExternalModel(NamedTuple):
    """A checkpoint folder, a data file, and the command-line arguments that they need."""

    folder: Path
    file: Path
    kind: str
    arguments: tuple[str, ...] = ()


def tokenizer(
    texts: list[str], special: dict[str, str], byte_level: bool = False, whole_words: bool = False
) -> PreTrainedTokenizerFast:
    """Train a small tokenizer: SentencePiece-like, GPT-like over bytes, or of whole words.

    Training is deterministic.
    """
    names = list(dict.fromkeys(special.values()))
    if byte_level:
        result = Tokenizer(models.BPE())
        result.pre_tokenizer, result.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
        )
        trainer: Any = trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=names,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    elif whole_words:
        result = Tokenizer(models.WordLevel(unk_token=special["unk_token"]))
        result.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=names)
    else:
        result = Tokenizer(models.Unigram())
        result.normalizer, result.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=names, unk_token=special["unk_token"]
        )
    result.train_from_iterator(texts, trainer)
    first, last = special["cls_token"], special["sep_token"]
    pair = (
        f"{first} $A {last} {last} $B {last}"
        if first == "<s>"
        else f"{first} $A {last} $B:1 {last}:1"
    )
    result.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=pair,
        special_tokens=[(name, result.token_to_id(name)) for name in (first, last)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=result, model_max_length=128, **special)


ROBERTA = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
BERT = {
    "cls_token": "[CLS]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


def save(
    folder: Path,
    family: str,
    kind: str,
    words: PreTrainedTokenizerFast,
    labels: tuple[str, ...],
    **more: Any,
) -> Any:
    """Save a random model of that family with these labels and its tokenizer; return the model."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    torch.manual_seed(0)
    config = tiny.CONFIGS[family]()
    config.update({"vocab_size": len(words), "pad_token_id": words.pad_token_id, **more})
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    model = (
        (AutoModelForTokenClassification if kind == "token" else AutoModelForSequenceClassification)
        .from_config(config)
        .eval()
    )
    words.save_pretrained(folder)
    model.save_pretrained(folder)
    return model


def intents(home: Path) -> ExternalModel:
    """German requests exported by Excel: semicolons, Windows-1252, German column names.

    The checkpoint is in the output folder of a Trainer.
    """
    rng = random.Random(0)
    rows = [(GERMAN[name].format(rng.choice(DAYS)), name) for _ in range(12) for name in INTENTS]
    file = home / "Anfragen.csv"
    lines = ["Satz;Absicht", *(f"{text};{name.replace('_', ' ').title()}" for text, name in rows)]
    file.write_bytes("\r\n".join(lines).encode("cp1252"))
    save(
        home / "absicht" / "checkpoint-120",
        "xlm-roberta",
        "",
        words=tokenizer([text for text, _ in rows], ROBERTA),
        labels=INTENTS,
    )
    return ExternalModel(home / "absicht", file, "classification")


def overfit(model: Any, batch: Any, labels: torch.Tensor) -> None:
    """Overfit a batch within seconds.

    A learning rate may fail on another machine, so several are tried.
    """
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for learning_rate in (3e-3, 1e-3, 1e-2, 3e-4):
        model.load_state_dict(initial)
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
        for _ in range(300):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(**batch).logits, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if loss.item() < 0.05:
                return
    raise AssertionError("no learning rate fits the batch")


def entailment(home: Path) -> ExternalModel:
    """Text pairs with numeric labels in another order than those of the model.

    The model has no label names and is accurate on the file.
    """
    rng, rows = random.Random(0), []
    for i in range(60):
        subject, place = (
            rng.choice(("A man", "A woman", "A child", "A dog")),
            rng.choice(("park", "street", "house", "garden")),
        )
        second = {
            0: f"{subject} sleeps",
            1: f"The {place} is large",
            2: f"Nobody sleeps in the {place}",
        }[i % 3]
        rows.append((f"{subject} sleeps in the {place}", second, i % 3))
    file = home / "pairs.tsv"
    file.write_text(
        "premise\thypothesis\tlabel\n"
        + "".join(f"{one}\t{other}\t{label}\n" for one, other, label in rows)
    )
    words = tokenizer([text for row in rows for text in row[:2]], BERT, whole_words=True)
    folder = home / "nli"
    model = save(
        folder,
        "deberta-v2",
        "",
        words=words,
        labels=("LABEL_0", "LABEL_1", "LABEL_2"),
        type_vocab_size=0,
    )
    batch = words(
        [row[0] for row in rows], [row[1] for row in rows], padding=True, return_tensors="pt"
    )
    batch.pop("token_type_ids", None)
    labels = torch.tensor(
        [{0: 2, 1: 0, 2: 1}[label] for _, _, label in rows]
    )  # the order of the model
    overfit(model, batch, labels)
    model.save_pretrained(folder)
    return ExternalModel(folder, file, "classification")


def news(home: Path) -> ExternalModel:
    """Headlines with labels from 1, without the fourth class; labels of the model are from 0."""
    rng, times = random.Random(0), ("again", "today", "late", "early")
    topics = ("minister visits capital", "striker scores goal", "shares fall sharply")
    rows = [(f"{topics[i % 3]} {rng.choice(times)} {i}", i % 3) for i in range(90)]
    file = home / "news.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label + 1}\n" for text, label in rows))
    words = tokenizer([text for text, _ in rows], BERT, whole_words=True)
    model = save(
        home / "news", "bert", "", words=words, labels=("World", "Sports", "Business", "Sci/Tech")
    )
    batch = words([text for text, _ in rows], padding=True, return_tensors="pt")
    overfit(model, batch, torch.tensor([label for _, label in rows]))
    model.save_pretrained(home / "news")
    return ExternalModel(home / "news", file, "classification")


def sentiment(home: Path) -> ExternalModel:
    """Short tweets with star labels in nested JSON lines; a model saved from torch.compile."""
    import json

    rows = [
        {"tweet": {"text": f"{word} {thing} {i}"}, "user": {"stars": stars}}
        for i in range(8)
        for word, thing, stars in (
            ("great", "phone", "5 stars"),
            ("awful", "battery", "1 star"),
            ("okay", "screen", "3 stars"),
        )
    ]
    file = home / "tweets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = tokenizer([row["tweet"]["text"] for row in rows], BERT, byte_level=True)
    folder = home / "stars"
    names = tuple(f"{n} star{'s' * (n > 1)}" for n in range(1, 6))
    model = save(
        folder,
        "modernbert",
        "",
        words=words,
        labels=names,
        cls_token_id=words.cls_token_id,
        sep_token_id=words.sep_token_id,
    )
    (folder / "model.safetensors").unlink()
    torch.save(
        {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()},
        folder / "pytorch_model.bin",
    )
    return ExternalModel(
        folder, file, "classification", arguments=("--text", "tweet.text", "--label", "user.stars")
    )


def entities(home: Path) -> ExternalModel:
    """French words and tags in a compressed CoNLL file."""
    import gzip

    file = home / "noms.conll.gz"
    text = "\n".join("\n".join(f"{word} {tag}" for word, tag in FRENCH) + "\n" for _ in range(12))
    file.write_bytes(gzip.compress(text.encode()))
    words = tokenizer(
        [" ".join(word for word, _ in FRENCH), "Paul Martin travaille à Paris ."], ROBERTA
    )
    save(
        home / "noms",
        "camembert",
        "token",
        words=words,
        labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    )
    return ExternalModel(home / "noms", file, "token")


ALL = {
    "german-intents": intents,
    "nli-swapped-labels": entailment,
    "star-rating": sentiment,
    "french-ner": entities,
}
