"""Tokenizers without a fast version, such as BERTweet's.

Word labels are aligned word by word, and features that need character offsets are rejected.
"""

from pathlib import Path

import external_checkpoints
import pytest
import tiny
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    BertweetTokenizer,
)

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.data.examples import Examples
from prune_core.models.checkpoints import loading, verification
from prune_core.models.inference import predict, saliency
from prune_core.tasks import encoding

WORDS = ["ada", "brook", "wri@@", "tes", "in", "oak", "bri@@", "dge", "."]
TAGGED = "Ada B-PER\nBrook I-PER\nwrites O\nin O\nOak B-LOC\nBridge I-LOC\n. O\n\n"


def checkpoint(folder: Path, kind: str = "token") -> str:
    """Save a small RoBERTa with a BERTweet tokenizer; return its folder."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{word} 1\n" for word in WORDS))
    merges = ["w r", "wr i</w>", "t e", "te s</w>", "b r", "br i</w>", "d g", "dg e</w>"]
    (folder / "bpe.codes").write_text("".join(f"{merge} 1\n" for merge in merges))
    tokenizer = BertweetTokenizer(
        str(folder / "vocab.txt"), str(folder / "bpe.codes"), normalization=True
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = tiny.CONFIGS["roberta"]()
    config.update(
        {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": 5}
    )
    config.id2label = (
        dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC")))
        if kind == "token"
        else config.id2label
    )
    model = {"token": AutoModelForTokenClassification, "span": AutoModelForQuestionAnswering}[
        kind
    ].from_config(config)
    model.save_pretrained(folder)
    return str(folder)


def test_word_labels_are_aligned_and_outputs_match_transformers(tmp_path: Path) -> None:
    model, tokenizer = loading.load(checkpoint(tmp_path / "model"))
    assert not tokenizer.is_fast
    examples = Examples(
        ["ada brook writes in oak bridge .", "writes"],
        labels=[[1, 2, 0, 0, 3, 4, 0], [0]],
        kind="token",
    )
    features = encoding.encode(tokenizer, examples, 64)
    assert [[word for word in row if word is not None] for row in features.words] == [
        list(range(7)),
        [0],
    ]
    assert all(row[0] is None and row[-1] is None for row in features.words)
    verification.check(str(tmp_path / "model"), model, tokenizer, examples=examples, max_length=64)
    assert [len(row) for row in predict.predict(model, tokenizer, examples).predicted] == [7, 1]
    truncated = encoding.encode(tokenizer, examples, 5)
    assert len(truncated.inputs["input_ids"][0]) == len(truncated.words[0]) == 5


def test_run_on_a_bertweet_checkpoint_notes_the_missing_emoji_package(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "rows.conll").write_text(TAGGED * 12)
    folder = checkpoint(tmp_path / "model")
    status = main(
        [
            "run",
            "--checkpoint",
            folder,
            "--task",
            str(tmp_path / "rows.conll"),
            "--method",
            "akr",
            "--measure",
            "accuracy",
            "--measure",
            "drift",
            "--set",
            "drift.umap=false",
            "--set",
            "drift.neighbours=3",
            "--device",
            "cpu",
        ]
    )
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert "emoji is not installed" in captured.out, "without emoji, BERTweet's tokens differ"


def test_question_answering_without_offsets_is_rejected(tmp_path: Path) -> None:
    model, tokenizer = loading.load(checkpoint(tmp_path / "model", "span"))
    with pytest.raises(
        PruneError, match=r"BertweetTokenizer does not return character offsets.*tokenizer\.json"
    ):
        predict.predict(model, tokenizer, Examples(["who writes"], ["ada writes ."], kind="span"))


def test_saliency_is_per_token_without_word_boundaries(tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    checkpoint(folder)
    slow_tokenizer = loading.load(str(folder))[1]
    external_checkpoints.save(
        tmp_path / "other", "roberta", "", words=slow_tokenizer, labels=("a", "b")
    )
    model, tokenizer = loading.load(str(tmp_path / "other"))
    units = saliency.words(model, tokenizer, "ada writes")
    assert (units.names[0], units.names[-1]) == ("<s>", "</s>")
    assert units.owner.tolist() == [*range(len(units.names))]
    assert len(saliency.saliency(model, tokenizer, "ada writes")["product"]) == len(units.names)
