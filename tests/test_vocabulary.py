"""Trimmed vocabularies: tokenizers of every type, families, coverage, command line."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import external_checkpoints
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from streamlit.testing.v1 import AppTest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AddedToken,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertModel,
    BertweetTokenizer,
    PreTrainedTokenizerFast,
)

import prune_core as pc
from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.experiments import trimming
from prune_core.models import compact
from prune_core.models.checkpoints import loading, trimmed_checkpoint, trimmed_tokenizer
from prune_core.paths import ROOT
from prune_core.plugins import no_report
from prune_core.pruning import vocabulary
from prune_core.store.store import Store

ROBERTA, BERT = external_checkpoints.ROBERTA, external_checkpoints.BERT
OTHER = ["Ein völlig anderer Satz 😀", "фильм 42%", "zzz qqq"]
TYPES = ("WordPiece", "Unigram", "byte-level BPE", "BPE with byte fallback", "WordLevel")


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Train a tokenizer of this type on the texts."""
    if kind == "WordLevel":
        return external_checkpoints.tokenizer(tiny.SENTENCES, BERT, whole_words=True)
    if kind in ("Unigram", "byte-level BPE"):
        is_bytes = kind.startswith("byte")
        return external_checkpoints.tokenizer(tiny.SENTENCES, ROBERTA, byte_level=is_bytes)
    special = BERT if kind == "WordPiece" else ROBERTA
    names = list(special.values())
    if kind == "WordPiece":
        result = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        result.normalizer = normalizers.BertNormalizer()
        result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=300, special_tokens=names)
    else:
        result = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        result.normalizer = normalizers.Replace(" ", "\u2581")
        result.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        names += [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=names)
    result.train_from_iterator(tiny.SENTENCES, trainer)
    ends = [
        (special[name], result.token_to_id(special[name])) for name in ("sep_token", "cls_token")
    ]
    processor = processors.BertProcessing if kind == "WordPiece" else processors.RobertaProcessing
    result.post_processor = processor(*ends)
    if kind != "WordPiece":  # bytes are ordinary tokens of the model
        content = json.loads(result.to_str())
        content["added_tokens"] = [
            token for token in content["added_tokens"] if not token["content"].startswith("<0x")
        ]
        result = Tokenizer.from_str(json.dumps(content))
    return PreTrainedTokenizerFast(tokenizer_object=result, model_max_length=128, **special)


def read(kind: str) -> tuple[Any, trimmed_tokenizer.Vocabulary]:
    words = tokenizer(kind)
    return words, trimmed_tokenizer.read(words, "tiny")


def trimmed(kind: str, texts: list[str]) -> tuple[Any, Any, list[int]]:
    """The tokenizer, that with the tokens of the texts and required ones, and the kept ids."""
    words, full = read(kind)
    used = {id for ids in full.encode(texts) for id in ids} | full.required
    kept = sorted({part for id in used for part in full.with_parts(id)})
    assert len(kept) < len(full.ids), "something is removed"
    return words, trimmed_tokenizer.build(full.select(kept), words, "tiny"), kept


@pytest.mark.parametrize("kind", TYPES)
def test_texts_of_kept_tokens_are_tokenized_as_before(kind: str, tmp_path: Path) -> None:
    words, small, kept = trimmed(kind, tiny.SENTENCES[:6])
    small.save_pretrained(tmp_path)
    for each in (small, AutoTokenizer.from_pretrained(tmp_path)):
        for text in (*tiny.SENTENCES[:6], f"{tiny.SENTENCES[1]} {words.mask_token}"):
            for pair in (None, tiny.SENTENCES[2]):
                new, old = each(text, pair), words(text, pair)
                assert [kept[id] for id in new["input_ids"]] == old["input_ids"]
                assert new["attention_mask"] == old["attention_mask"]
        assert each.special_tokens_map == words.special_tokens_map
        names = ("pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
        assert [kept[getattr(each, name)] for name in names] == [
            getattr(words, name) for name in names
        ]


def test_added_tokens_keep_their_settings() -> None:
    words = tokenizer("byte-level BPE")
    words.add_special_tokens(
        {
            "mask_token": AddedToken("<mask>", lstrip=True, special=True),
            "additional_special_tokens": ["<e1>"],
        }
    )
    words.add_tokens(["Covid-19"])
    full = trimmed_tokenizer.read(words, "tiny")
    small = trimmed_tokenizer.build(full.select(full.required), words, "tiny")
    text = "a  <mask><e1> Covid-19."
    kept = sorted(full.required)
    expected = [id for id in words(text)["input_ids"] if id in full.required]
    assert [kept[id] for id in small(text)["input_ids"]] == expected
    assert small.all_special_tokens == words.all_special_tokens
    assert small.decode(small(text)["input_ids"]) == words.decode(words(text)["input_ids"])


@pytest.mark.parametrize("kind", TYPES)
def test_other_texts_are_encoded_and_bytes_keep_all_characters(kind: str) -> None:
    _, small, kept = trimmed(kind, tiny.SENTENCES[:6])
    for text in (*tiny.SENTENCES[6:], *OTHER):
        ids = small(text)["input_ids"]
        assert max(ids) < len(kept)
        if "BPE" in kind:
            decoded = small.decode(ids, skip_special_tokens=True)
            assert decoded.replace("\u2581", " ") == text


@pytest.mark.parametrize("kind", ["byte-level BPE", "BPE with byte fallback"])
def test_kept_tokens_have_the_merges_that_build_them(kind: str) -> None:
    _, full = read(kind)
    longest = max(full.ids, key=len)
    parts = full.with_parts(full.ids[longest])
    names = [full.tokens[id] for id in parts]
    assert parts[-1] == full.ids[longest] and len(names) > 2
    assert all(any(a + b == name for a in names for b in names) for name in names if len(name) > 1)
    kept = full.select({*full.required, *parts})
    assert {"".join(merge) for merge in kept.model["merges"]} >= {
        name for name in names if len(name) > 1
    }
    merged = {piece for merge in kept.model["merges"] for piece in (*merge, "".join(merge))}
    assert merged <= kept.ids.keys()


def test_unigram_scores_stay_and_unknown_characters_keep_their_penalty() -> None:
    _, full = read("Unigram")
    kept = full.select(full.required)
    scores = dict(full.model["vocab"])
    assert all(scores[token] == score for token, score in kept.model["vocab"])
    assert min(score for _, score in kept.model["vocab"]) == min(scores.values())
    assert kept.model["vocab"][kept.model["unk_id"]][0] == "<unk>"


def test_slow_tokenizers_are_refused_and_so_are_unknown_models(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("ada 1\n")
    (tmp_path / "bpe.codes").write_text("a d 1\n")
    slow = BertweetTokenizer(str(tmp_path / "vocab.txt"), str(tmp_path / "bpe.codes"))
    with pytest.raises(PruneError, match="BertweetTokenizer has no fast version.*tokenizer.json"):
        trimmed_tokenizer.read(slow, "tiny")


def test_scripts_are_those_of_letters() -> None:
    expected = {"a": "Latin", "ﬁ": "Latin", "ß": "Latin", "я": "Cyrillic", "中": "Han", "ก": "Thai"}
    assert {letter: trimmed_tokenizer.script_of(letter) for letter in expected} == expected
    assert {trimmed_tokenizer.script_of(each) for each in "1.€😀 \u0301"} == {""}
    assert vocabulary.scripts_of(["ab", "я 1"]) == {"Latin": 2, "Cyrillic": 1}


# -- checkpoints -----------------------------------------------------------------------------------


def checkpoint(folder: Path, family: str, kind: str, head: str = "") -> Path:
    """Save a random classifier, or an encoder with a language-model head; padded embeddings."""
    words = tokenizer(kind)
    size = len(words) + 3  # more rows than tokens, as in DeBERTa
    special = {
        f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("pad", "cls", "sep")
    }
    if head == "mlm":
        config = tiny.CONFIGS[family]()
        config.update({"vocab_size": size, **special, "tie_word_embeddings": False})
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(config)
        for tensor in model.parameters():
            if tensor.shape == (size,):
                torch.nn.init.normal_(tensor)
        model.save_pretrained(folder)
        words.save_pretrained(folder)
        return folder
    external_checkpoints.save(
        folder, family, "", words=words, labels=("a", "b"), **{**special, "vocab_size": size}
    )
    return folder


def write(source: Path, out: Path, **options: Any) -> tuple[list[int], int]:
    """Trim to the tokens of six texts; return the kept ids and the number of compared texts."""
    found = trimmed_checkpoint.read(str(source))
    used = {id for ids in found.vocabulary.encode(tiny.SENTENCES[:6]) for id in ids}
    kept = {part for id in used | found.required for part in found.vocabulary.with_parts(id)}
    return sorted(kept), trimmed_checkpoint.write(found, kept, out, tiny.SENTENCES, **options)


CASES = {
    "bert": "WordPiece",
    "roberta": "byte-level BPE",
    "xlm-roberta": "Unigram",
    "distilbert": "WordPiece",
    "electra": "WordPiece",
    "albert": "Unigram",
    "mpnet": "WordLevel",
    "deberta-v2": "Unigram",
    "modernbert": "BPE with byte fallback",
    "camembert": "Unigram",
}


@pytest.mark.parametrize("family", CASES)
def test_outputs_of_kept_tokens_are_equal_in_every_family(family: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "full", family, CASES[family])
    kept, compared = write(source, tmp_path / "small")
    assert compared >= 6
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert config["vocab_size"] == len(kept)
    model, words = loading.load(str(tmp_path / "small"))
    full, full_words = loading.load(str(source))
    assert len(words) == len(kept) == model.get_input_embeddings().num_embeddings
    plain = AutoModel.from_pretrained(tmp_path / "small")
    assert torch.equal(
        plain.get_input_embeddings().weight, full.get_input_embeddings().weight[kept]
    )
    # padded batches: positions depend on the padding id in some families
    texts = tiny.SENTENCES[:6]
    names = ("input_ids", "attention_mask")
    logits = [
        each(**{name: inputs[name] for name in names}).logits
        for each, inputs in (
            (full, full_words(texts, padding=True, return_tensors="pt")),
            (model, words(texts, padding=True, return_tensors="pt")),
        )
    ]
    torch.testing.assert_close(*logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_language_model_heads_keep_the_same_rows(family: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "full", family, CASES[family], head="mlm")
    kept, _ = write(source, tmp_path / "small")
    logits = []
    for folder in (source, tmp_path / "small"):
        model = AutoModelForMaskedLM.from_pretrained(folder).eval()
        inputs = AutoTokenizer.from_pretrained(folder)(tiny.SENTENCES[0], return_tensors="pt")
        names = ("input_ids", "attention_mask")
        logits.append(model(**{name: inputs[name] for name in names}).logits)
    torch.testing.assert_close(logits[0][..., kept], logits[1], atol=1e-6, rtol=0)


def test_encoders_without_head_and_pooler_are_trimmed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = tokenizer("WordPiece")
    config = tiny.CONFIGS["bert"]()
    config.vocab_size = len(words)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "full")
    words.save_pretrained(tmp_path / "full")
    _, compared = write(tmp_path / "full", tmp_path / "small")
    assert compared >= 6
    model, small = pc.load(tmp_path / "small", pooling="mean")
    full, words = pc.load(tmp_path / "full", pooling="mean")
    before, after = (
        each(**inputs(tiny.SENTENCES[0], return_tensors="pt")).embeddings
        for each, inputs in ((full, words), (model, small))
    )
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


def test_ids_up_to_the_padding_id_are_kept_where_positions_depend_on_it(tmp_path: Path) -> None:
    """Otherwise the padding id, and with it every position, would change."""
    words = tokenizer("Unigram")
    folder = tmp_path / "full"
    content = json.loads(words.backend_tokenizer.to_str())
    content["model"]["vocab"].insert(1, ["never", -50.0])  # before the padding token
    content["model"]["unk_id"] += 1
    for token in content["added_tokens"]:
        token["id"] += token["id"] > 0
    for entry in content["post_processor"]["special_tokens"].values():
        entry["ids"] = [id + (id > 0) for id in entry["ids"]]
    shifted = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), model_max_length=99, **ROBERTA
    )
    assert shifted.pad_token_id == 2
    external_checkpoints.save(folder, "xlm-roberta", "", words=shifted, labels=("a", "b"))
    kept, compared = write(folder, tmp_path / "small")
    assert kept[:3] == [0, 1, 2] and compared >= 6
    assert loading.load(str(tmp_path / "small"))[0].config.pad_token_id == 2


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_positions_are_cut(family: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "full", family, CASES[family])
    _, compared = write(source, tmp_path / "small", positions=9)
    model, words = loading.load(str(tmp_path / "small"))
    assert compared >= 6 and words.model_max_length == 9
    rows = {"bert": 9, "roberta": 9 + model.config.pad_token_id + 1, "mpnet": 11}[family]
    assert model.config.max_position_embeddings == rows
    with pytest.raises(PruneError, match="positions is 999; .* choose 8 to"):
        write(source, tmp_path / "other", positions=999)


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2"])
def test_relative_positions_are_not_cut(family: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "full", family, CASES[family])
    with pytest.raises(PruneError, match="relative or rotary positions"):
        write(source, tmp_path / "small", positions=64)
    assert not (tmp_path / "small").exists()


def test_a_changed_output_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoint(tmp_path / "full", "bert", "WordPiece")
    correct = trimmed_checkpoint._selected

    def wrong(*arguments: Any) -> Any:
        for name, tensor in correct(*arguments):
            yield name, tensor.flip(0) if "word_embeddings" in name else tensor

    monkeypatch.setattr(trimmed_checkpoint, "_selected", wrong)
    with pytest.raises(PruneError, match="outputs that differ by .* nothing is written"):
        write(source, tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_sentence_transformers_folders_stay_complete(tmp_path: Path) -> None:
    from test_embedding import by_sentence_transformers, write_folder

    source = write_folder(tmp_path / "full", encoder="0_Transformer", prompts={"query": "ask: "})
    result = pc.trim(source, [*tiny.SENTENCES, *OTHER], tmp_path / "small", vocabulary=0)
    assert result.compared >= 12 and (tmp_path / "small" / "0_Transformer").is_dir()
    before, after = by_sentence_transformers(source), by_sentence_transformers(tmp_path / "small")
    np.testing.assert_allclose(before, after, atol=1e-6)
    known = AutoTokenizer.from_pretrained(tmp_path / "small" / "0_Transformer").get_vocab()
    assert "ask" in known, "the tokens of prompts are kept"


def test_compact_models_are_trimmed_and_trimmed_models_are_pruned(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "full", "bert", "WordPiece")
    write(source, tmp_path / "small")
    model, words = pc.load(tmp_path / "small")
    pruned = pc.prune(model, words, tiny.SENTENCES, method="kprune", sparsity=0.5)
    small = compact.compact_model(pruned)
    loading.save(small, words, tmp_path / "compact")
    found = trimmed_checkpoint.read(str(tmp_path / "compact"))
    kept = {id for ids in found.vocabulary.encode(tiny.SENTENCES[:3]) for id in ids}
    compared = trimmed_checkpoint.write(found, kept, tmp_path / "both", tiny.SENTENCES)
    assert compared >= 3
    assert hasattr(pc.load(tmp_path / "both")[0].config, compact.KEY)


# -- choice of the size ----------------------------------------------------------------------------


def corpus(size: int) -> list[str]:
    """Distinct texts of common words, with a rare word in some."""
    words = sorted({word for text in tiny.SENTENCES for word in text.split()})
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words[: 10 + i % 60], 8)) for i in range(size)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> trimmed_checkpoint.TrimSource:
    folder = checkpoint(tmp_path_factory.mktemp("bert") / "full", "bert", "WordPiece")
    return trimmed_checkpoint.read(str(folder))


def test_coverage_counts_tokens_and_unchanged_texts(source: Any) -> None:
    texts = corpus(200)
    found = vocabulary.coverage(source, texts, {"Latin"}, report=no_report)
    table, full = found.table, found.table.iloc[-1]
    assert (found.fit, found.held_out) == (160, 40)
    assert full["vocabulary"] == source.config.vocab_size
    assert (full["ratio"], full["unchanged"]) == (1, 1)
    assert full["parameters"] == sum(tensor.numel() for tensor in source.tensors.values())
    assert (table["ratio"].diff().dropna() <= 0).all() and table["ratio"].iloc[0] > 1
    assert found.seen in table["vocabulary"].tolist()
    assert (table["ratio_low"] <= table["ratio"]).all()
    assert (table["ratio"] <= table["ratio_high"]).all()
    row = table.iloc[0]
    width = source.config.hidden_size
    assert full["parameters"] - row["parameters"] == width * (
        full["vocabulary"] - row["vocabulary"]
    )
    # by hand: the tokens of the held-out texts with the smallest vocabulary
    import random

    order = random.Random(0).sample(range(200), 200)
    held_out = [texts[i] for i in order[:40]]
    fit = [np.array(ids) for ids in source.vocabulary.encode([texts[i] for i in order[40:]])]
    kept = vocabulary.rank(source, fit, {"Latin"}).first(int(row["vocabulary"]))
    small = source.vocabulary.select(kept)
    lengths = [sum(map(len, each.encode(held_out))) for each in (small, source.vocabulary)]
    assert row["ratio"] == pytest.approx(lengths[0] / lengths[1])


def test_the_smallest_size_within_the_limit_is_chosen(source: Any) -> None:
    found = vocabulary.coverage(source, corpus(400), {"Latin"}, report=no_report)
    choice = vocabulary.choose(found, 300)
    smaller = found.table[found.table["vocabulary"] < choice.size]
    assert not choice.warning and (smaller["ratio_high"] > 1.01).all() and len(smaller)
    assert vocabulary.choose(found, 300, max_ratio=9).size == found.table["vocabulary"].min()
    size = found.ranking.base + 5
    assert vocabulary.choose(found, 300, size=size).size == size
    with pytest.raises(PruneError, match="cannot have 3 tokens: .* are always kept"):
        vocabulary.choose(found, 300, size=3)


def test_too_few_texts_are_warned_about(source: Any) -> None:
    found = vocabulary.coverage(source, tiny.SENTENCES, {"Latin"}, report=no_report)
    choice = vocabulary.choose(found, 300)
    assert "too few to choose a vocabulary: with all tokens of 10 texts, 2 others" in choice.warning
    larger = found.table[found.table["vocabulary"] > found.seen]
    assert len(larger) >= 2 and larger["ratio"].iloc[-1] == 1
    within = larger[larger["ratio_high"] <= 1.01]["vocabulary"].iloc[:-1]
    largest = larger["vocabulary"].iloc[-2]
    assert choice.size == (within.min() if len(within) else largest) > found.ranking.seen
    assert f"Therefore {choice.size:,} tokens are kept" in choice.warning
    assert vocabulary.choose(found, 300, max_ratio=1.0).size == largest
    assert "upper bound is still" in vocabulary.choose(found, 300, max_ratio=0.9).warning
    with pytest.raises(PruneError, match="There are 3 distinct texts; give at least 10"):
        vocabulary.coverage(source, OTHER, {"Latin"}, report=no_report)


def test_single_characters_of_scripts_are_kept(source: Any) -> None:
    letters = {id for id, each in source.vocabulary.characters.items() if each.isalpha()}
    texts = [np.array(ids) for ids in source.vocabulary.encode(["a film"])]
    for scripts, is_kept in (({"Latin"}, True), ((), False)):
        ranking = vocabulary.rank(source, texts, scripts)
        assert (letters <= set(ranking.ids[: ranking.base])) == is_kept
    assert vocabulary.chosen_scripts(source.vocabulary, ["film"], ()) == {"Latin"}
    assert vocabulary.chosen_scripts(source.vocabulary, [], ["latin"]) == {"Latin"}
    with pytest.raises(PruneError, match="no characters of the script 'Greek'; it has Latin"):
        vocabulary.chosen_scripts(source.vocabulary, [], ["Greek"])
    with pytest.raises(PruneError, match="leave scripts out"):
        vocabulary.chosen_scripts(read("byte-level BPE")[1], [], ["Latin"])


# -- interfaces ------------------------------------------------------------------------------------


def test_command_line_writes_a_checkpoint_that_run_accepts(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = checkpoint(tmp_path / "full", "roberta", "byte-level BPE")
    texts = corpus(60)
    rows = pd.DataFrame({"text": texts, "label": ["a", "b"] * 30})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "more.txt").write_text("\n".join(tiny.SENTENCES))
    files = [str(tmp_path / "rows.csv"), str(tmp_path / "more.txt")]
    out, record = tmp_path / "small", tmp_path / "trim.json"
    arguments = ["trim", str(folder), "--texts", *files]
    assert main([*arguments, "--out", str(out), "--json", str(record)]) == 0
    printed = capsys.readouterr()
    assert "14 held-out texts of 72" in printed.out and "→" in printed.out
    assert "Warning: The texts are too few" in printed.err
    written = json.loads(record.read_text())
    assert written["vocabulary"] == json.loads((out / "config.json").read_text())["vocab_size"]
    assert written["compared"] > 0 and json.loads((out / "trim.json").read_text())["seed"] == 0
    assert main([*arguments, "--max-ratio", "3"]) == 0 and "→" in capsys.readouterr().out
    assert main([*arguments, "--out", str(out)]) == 2
    assert "exists and is not empty; name a new folder." in capsys.readouterr().err
    run = ["run", "--checkpoint", str(out), "--task", files[0], "--measure", "accuracy"]
    assert main([*run, "--method", "magnitude", "--sparsity", "0.5", "--device", "cpu"]) == 0


def test_sweeps_compare_a_full_and_a_trimmed_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    full, small = checkpoint(tmp_path / "full", "bert", "WordPiece"), tmp_path / "small"
    write(full, small)
    rows = pd.DataFrame({"text": corpus(60), "label": ["a", "b"] * 30})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"{{study: trimming, checkpoints: [{full}, {small}], task: {tmp_path / 'rows.csv'}, "
        "methods: [magnitude], sparsities: [0.5], device: cpu}"
    )
    assert main(["sweep", str(sweep)]) == 0
    jobs = Store().jobs("trimming")
    assert [(job.experiment["checkpoint"], job.label) for job in jobs] == [
        (str(folder), label) for folder in (full, small) for label in ("Dense", jobs[1].label)
    ]
    assert all("accuracy" in job.done for job in jobs)


def test_python_interface_takes_texts_and_tables(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "full", "bert", "WordPiece")
    table = pd.DataFrame({"sentence1": corpus(40), "sentence2": tiny.SENTENCES[:10] * 4})
    result = pc.trim(folder, table, scripts=["Latin"])
    assert result.texts == 50 and result.folder is None and result.scripts == ("Latin",)
    assert result.table["chosen"].sum() <= 1
    assert trimming.texts_in(["b c", "a"]) == ["b c", "a"]
    with pytest.raises(PruneError, match="ratio of tokens is 0.5; it must be at least 1"):
        pc.trim(folder, corpus(20), max_ratio=0.5)


class RunsHere:
    """Stands for a child process: runs the command line in this process, at once."""

    def __init__(self, _: str, *arguments: str, timeout: float) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.status = main(arguments)
        self.text, self.is_over, self.latest = out.getvalue().strip(), True, ""

    def output(self) -> str:
        assert self.status == 0
        return self.text


def test_the_page_measures_vocabularies_and_writes_a_checkpoint(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.widgets.child_process.ChildProcess", RunsHere)
    folder = checkpoint(tmp_path / "full", "bert", "WordPiece")
    (tmp_path / "texts.txt").write_text("\n".join(corpus(60)))
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page("pages/vocabulary.py").run()
    assert at.button(key="vocabulary-measure").disabled
    at.text_input(key="vocabulary-checkpoint").set_value(str(folder))
    at.text_input(key="vocabulary-path").set_value(str(tmp_path / "texts.txt")).run()
    at.number_input(key="vocabulary-ratio").set_value(2.0).run()
    at.button(key="vocabulary-measure").click().run()
    assert not at.exception and len(at.get("plotly_chart")) == 1
    assert "tokens suffice" in at.get("html")[-1].proto.body + str(at)
    at.button(key="vocabulary-write").click().run()
    assert not at.exception
    (written,) = (home / "trimmed").iterdir()
    size = at.number_input(key="vocabulary-size").value
    assert json.loads((written / "config.json").read_text())["vocab_size"] == size
    at.button(key="vocabulary-prune").click().run()
    assert at.text_input(key="checkpoint").value == str(written)
    assert str(written) in at.selectbox(key="known-checkpoint").options
