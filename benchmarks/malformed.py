"""Malformed inputs: each must give a one-line error message or be accepted, never a traceback.

    python -m benchmarks.malformed

Checkpoints, configurations, tokenizers, data files, YAML studies, policies, jobs and stores; pages
with malformed URLs are in tests/test_malformed.py, which also generates inputs. A separate store
must not change.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import sqlite3
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from prune_core import PruneError
from prune_core.data.examples import DataSource
from prune_core.deployment import policy
from prune_core.experiments import study
from prune_core.experiments.experiment import Experiment
from prune_core.models.checkpoints import folders, loading
from prune_core.store import maintenance
from prune_core.store.schema import FILE
from prune_core.store.store import Store
from prune_core.tasks import task_data

LABELS = ("negative", "positive")
ROWS = [
    ("A fine film that never lies.", "positive"),
    ("Dull from end to end, and long.", "negative"),
] * 6
Attempt = Callable[[], object]


class Case(NamedTuple):
    """An input and the action that reads it."""

    kind: str
    name: str
    attempt: Attempt


def outcome(case: Case) -> tuple[str, str]:
    """Return (sentence, accepted or traceback; message)."""
    try:
        case.attempt()
    except PruneError as error:
        message = str(error)
        return (
            "sentence" if message.strip() and "Traceback" not in message else "traceback"
        ), message
    except Exception:  # unexpected errors are what this benchmark looks for
        return "traceback", traceback.format_exc()
    return "accepted", ""


def tiny_checkpoint(folder: Path) -> Path:
    """Save a BERT with one small layer and the demo's tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folders.BUNDLED["demo"])
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cases(scratch: Path) -> Iterator[Case]:
    """Yield all cases; files are created below `scratch`."""
    yield from _configurations(scratch / "configurations")
    yield from _checkpoints(scratch / "checkpoints")
    yield from _data(scratch / "data")
    yield from _plans(scratch / "plans")
    yield from _stores(scratch / "stores")


def _copies(base: Path, scratch: Path) -> Iterator[Path]:
    """Yield new copies of a folder."""
    number = 0
    while True:
        number += 1
        yield Path(shutil.copytree(base, scratch / str(number)))


def _configurations(scratch: Path) -> Iterator[Case]:
    base = tiny_checkpoint(scratch / "base")
    copies = _copies(base, scratch)
    plain = json.loads((base / "config.json").read_text())
    changes: list[tuple[str, Any]] = [
        (key, value)
        for key in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "vocab_size",
            "max_position_embeddings",
            "type_vocab_size",
        )
        for value in (0, -1, 10**9, 3.5, "many", None, [4], True)
    ]
    changes += [("model_type", value) for value in ("", "gpt2", "../bert", 7, None, "unheard_of")]
    changes += [
        ("architectures", value)
        for value in ([], ["BertModel"], ["os.system"], "BertForSequenceClassification", [3], None)
    ]
    names = (
        {},
        {"0": "a"},
        {"x": "a", "y": "b"},
        ["a", "b"],
        "ab",
        {"0": None, "1": None},
        {"5": "a", "9": "b"},
    )
    changes += [("id2label", value) for value in names]
    changes += [("num_labels", value) for value in (0, -2, 10**8, "two")]
    changes += [("hidden_act", value) for value in ("", "exec", 3, None)]
    changes += [("layer_norm_eps", value) for value in (-1.0, "small", None)]
    changes += [("problem_type", value) for value in ("unheard of", 4)]
    changes += [
        ("auto_map", value)
        for value in ({"AutoModel": "evil.Model"}, {"AutoConfig": "owner/name--evil.Config"})
    ]
    changes += [
        ("dtype", "float7"),
        ("torch_dtype", "float7"),
        ("position_embedding_type", "none at all"),
        ("is_decoder", True),
    ]
    for key, value in changes:
        folder = next(copies)
        (folder / "config.json").write_text(json.dumps(plain | {key: value}))
        yield Case("configuration", f"{key}={value!r}", lambda folder=folder: _load_and_run(folder))
    for name, text in {
        "empty": "",
        "cut": json.dumps(plain)[:40],
        "a list": "[]",
        "a number": "7",
        "null": "null",
        "deep": "[" * 5000,
        "no object": "{}",
        "binary": "\x00\x01",
    }.items():
        folder = next(copies)
        (folder / "config.json").write_text(text)
        yield Case("configuration", name, lambda folder=folder: _load_and_run(folder))


def _load_and_run(folder: Path) -> None:
    """Load a checkpoint and run one example."""
    model, tokenizer = loading.load(str(folder))
    with torch.no_grad():
        model(**tokenizer(["A fine film."], return_tensors="pt"))


def _checkpoints(scratch: Path) -> Iterator[Case]:
    base = tiny_checkpoint(scratch / "base")
    copies = _copies(base, scratch)
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    raw = (base / "model.safetensors").read_bytes()

    def with_file(name: str, content: bytes | None, title: str) -> Case:
        folder = next(copies)
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
        return Case("checkpoint", f"{name}: {title}", lambda: _load_and_run(folder))

    for title, content in {
        "missing": None,
        "empty": b"",
        "truncated": raw[: len(raw) // 2],
        "header truncated": raw[:20],
        "zeros": bytes(5000),
        "text": b"weights",
        "wrong length": b"\xff" * 8 + raw[8:],
    }.items():
        yield with_file("model.safetensors", content, title)
    for title, changed in {
        "a matrix is missing": {
            name: t for name, t in tensors.items() if "query.weight" not in name
        },
        "no classifier": {name: t for name, t in tensors.items() if "classifier" not in name},
        "a matrix of another shape": {
            name: t[:8].clone() if "query.weight" in name else t for name, t in tensors.items()
        },
        "whole numbers": {name: t.to(torch.int8) for name, t in tensors.items()},
        "another model's names": {f"gpt.{name}": t for name, t in tensors.items()},
        "NaN": {name: t * float("nan") for name, t in tensors.items()},
        "infinite": {name: t + float("inf") for name, t in tensors.items()},
        "no tensors": {},
        "empty tensors": {name: t[:0].clone() for name, t in tensors.items()},
        "fp16": {name: t.half() for name, t in tensors.items()},
    }.items():
        folder = next(copies)
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        yield Case("checkpoint", title, lambda folder=folder: _load_and_run(folder))

    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return open, (str(scratch / "payload-ran"), "w")  # type: ignore[return-value]

    buffer = io.BytesIO()
    torch.save({"payload": Payload()}, buffer)
    for title, content in {
        "a pickle that runs code": buffer.getvalue(),
        "empty": b"",
        "text": b"x" * 100,
    }.items():
        folder = next(copies)
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)
        yield Case(
            "checkpoint", f"pytorch_model.bin: {title}", lambda folder=folder: _load_and_run(folder)
        )
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if not (base / name).is_file():
            continue
        for title, content in {
            "missing": None,
            "empty": b"",
            "cut": (base / name).read_bytes()[:50],
            "a list": b"[]",
            "null": b"null",
            "binary": bytes(range(256)),
            "another kind": b'{"model": {"type": "none"}}',
        }.items():
            yield with_file(name, content, title)
    for title, content in {"cut": raw[:100], "not ours": raw, "empty": b""}.items():
        yield with_file(folders.DIFFERENCE, content, title)
    for title, content in {
        "empty": b"",
        "a list": b"[]",
        "unknown kind": b'{"peft_type": "NONE"}',
        "missing base": b'{"task_type": "SEQ_CLS", "base_model_name_or_path": "/none"}',
    }.items():
        yield with_file("adapter_config.json", content, title)
    names = [
        "",
        "/",
        ".",
        "..",
        "\0",
        "a" * 5000,
        "owner/name/more",
        "https://example.org/x",
        "~nobody/x",
        "-",
        "%00",
        "日本語",
        " ",
        "\n",
    ]
    for name in names:
        yield Case("checkpoint", f"named {name[:20]!r}", lambda name=name: loading.load(name))


def _data(scratch: Path) -> Iterator[Case]:
    scratch.mkdir(parents=True)
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    good = {
        ".csv": frame.to_csv(index=False).encode(),
        ".tsv": frame.to_csv(index=False, sep="\t").encode(),
        ".json": frame.to_json(orient="records").encode(),
        ".jsonl": frame.to_json(orient="records", lines=True).encode(),
    }
    excel = lambda buffer: frame.to_excel(buffer, index=False)  # noqa: E731
    for suffix, write in (
        (".parquet", frame.to_parquet),
        (".arrow", frame.to_feather),
        (".xlsx", excel),
    ):
        buffer = io.BytesIO()
        write(buffer)
        good[suffix] = buffer.getvalue()
    good[".csv.gz"] = gzip.compress(good[".csv"])
    rng = random.Random(0)
    broken: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda b: b"",
        "cut": lambda b: b[: len(b) // 2],
        "first byte": lambda b: b[:1],
        "no head": lambda b: b[10:],
        "zeros": lambda b: bytes(len(b)),
        "noise": lambda b: bytes(rng.randrange(256) for _ in range(len(b))),
        "bits flipped": lambda b: bytes(x ^ 0xFF if i % 7 == 0 else x for i, x in enumerate(b)),
        "doubled": lambda b: b + b,
        "of another kind": lambda b: (
            good[".parquet"] if not b.startswith(b"PAR1") else good[".csv"]
        ),
        "spaces": lambda b: b" \n" * 50,
    }
    number = 0
    for suffix, content in good.items():
        for title, change in broken.items():
            number += 1
            file = scratch / f"{number}{suffix}"
            file.write_bytes(change(content))
            yield Case("data file", f"{suffix} {title}", lambda file=file: _read_data(file))
    text = {
        "only a head": "text,label\n",
        "no text": "text,label\n,positive\n,negative\n",
        "no label": "text,label\nA film.,\nA film.,\n",
        "unknown labels": "text,label\nA,maybe\nB,perhaps\n",
        "one column": "text\nA film.\nAnother.\n",
        "columns alike": "text,text\nA,B\nC,D\n",
        "a thousand columns": ",".join(f"c{i}" for i in range(1000))
        + "\n"
        + ",".join("x" for _ in range(1000))
        + "\n",
        "an open quote": 'text,label\n"A film,positive\nB,negative\n',
        "a long line": "text,label\n" + "word " * 200_000 + ",positive\n",
        "NUL inside": "text,label\nA \0 film,positive\n",
        "numbers": "1,2\n3,4\n5,6\n",
        "emoji": "text,label\n🎬🎬,positive\n💤,negative\n",
        "formulas": "text,label\n=1+1,positive\n@x,negative\n",
        "html": "text,label\n<script>alert(1)</script>,positive\nB,negative\n",
        "labels too many": "text,label\n" + "".join(f"A film.,{i}\n" for i in range(500)),
        "bidi": "text,label\n\u202eA film,positive\nB,negative\n",
        "infinite labels": "text,label\nA,inf\nB,nan\nC,-inf\n",
        "lone carriage returns": "text,label\rA,positive\rB,negative\r",
    }
    for title, content in text.items():
        file = scratch / f"{title.replace(' ', '-')}.csv"
        file.write_text(content, newline="")
        yield Case("data file", title, lambda file=file: _read_data(file))
    shapes: dict[str, Any] = {
        "a number": 7,
        "a string": "text",
        "empty list": [],
        "list of lists": [[1], [2]],
        "nested": {"data": {"data": {"data": []}}},
        "mixed": [{"text": 1}, "x", None],
        "objects as text": [{"text": {"a": 1}, "label": [1, {}]}] * 3,
        "keys alone": [{}] * 5,
        "columns of other lengths": {"text": ["a"], "label": [1, 2]},
        "null text": [{"text": None, "label": None}] * 3,
    }
    for title, content in shapes.items():
        file = scratch / f"{title.replace(' ', '-')}.json"
        file.write_text(json.dumps(content))
        yield Case("data file", f"json: {title}", lambda file=file: _read_data(file))
    (scratch / "deep.json").write_text("[" * 100_000)
    yield Case("data file", "json: deep", lambda: _read_data(scratch / "deep.json"))
    with zipfile.ZipFile(scratch / "up.zip", "w") as packed:
        packed.writestr("../../out.csv", "text,label\nA,positive\n")
    yield Case("data file", "zip: a name that leads out", lambda: _read_data(scratch / "up.zip"))
    (scratch / "folder.csv").mkdir()
    yield Case(
        "data file", "a folder named like a file", lambda: _read_data(scratch / "folder.csv")
    )
    for column in ("none", "", "text;drop", "a.b.c"):
        file = scratch / "good.csv"
        file.write_bytes(good[".csv"])
        yield Case(
            "data file",
            f"column {column!r}",
            lambda file=file, column=column: _read_data(file, text=column, label=column),
        )
    for option in ("separator", "encoding", "header", "quotes", "labels", "metric", "split"):
        yield Case(
            "data file",
            f"{option} unheard of",
            lambda option=option: _read_data(scratch / "good.csv", **{option: "unheard of"}),
        )


def _read_data(file: Path, **source: str) -> None:
    task_data.load(DataSource(str(file), **source), LABELS)


PLANS = [
    "",
    "[]",
    "7",
    "null",
    "study: [",
    "study: x\nmethods: magnitude\nsparsities: [0.5]\nbatch: 3",
    "sweeps: 3",
    "sweeps: [3]",
    "sweeps: [{}]",
    "study: x\ncheckpoint: [demo]\nmethods: [{method: magnitude, sparsity: 0.5}]",
    "study: x\nmethods: [{method: none_such}]",
    "study: x\nmethods: [{method: magnitude, sparsity: 2}]",
    "study: x\nmethods: [{method: magnitude, sparsity: .nan}]",
    "study: x\nmethods: [{method: magnitude, sparsity: half}]",
    "study: x\nmethods: [{method: akr, rounds: 1.5}]",
    "study: x\nmethods: [{method: akr, pattern: '4:2'}]",
    "study: x\nseeds: [-1]",
    "study: x\nseeds: zero",
    "study: x\nmeasures: [none_such]",
    "study: x\nmeasures: {accuracy: {n: 3}}",
    "study: x\nkeep: perhaps",
    "study: x\ndevice: abacus",
    "study: x\nevaluation_size: -4",
    "study: x\ncalibration_size: 0",
    "study: x\nmax_length: 0",
    "study: !!python/object/apply:os.system ['true']",
    "a: &a [*a]",
    "? - x\n: y",
    "study: x\nstarts: []",
    "study: x\nstarts: [demo, demo]",
    "\t",
    "study: " + "x" * 10_000,
    "study: x\ntask: /none.csv",
    "study: x\nbatch_size: 0",
]
POLICIES = [
    "",
    "[]",
    "7",
    "accuracy_loss: much",
    "accuracy_loss: -1",
    "accuracy_loss: .nan",
    "accuracy_loss: .inf",
    "none_such: 3",
    "slices: length",
    "slices: [none]",
    "confidence: 2",
    "confidence: high",
    "accuracy_loss: [1]",
    "accuracy_loss: {a: 1}",
    "!!python/name:os.system",
    "a: &a [*a]",
    "accuracy_loss: 1\naccuracy_loss: 2",
    "{",
    "speed: 0",
    "1: 2",
]
EXPERIMENTS: list[dict[str, Any]] = [
    {"none_such": 1},
    {"method": {"name": "none_such", "options": {}}},
    {"method": {"name": "akr", "options": {"none": 1}}},
    {"measures": [{"name": "none_such", "options": {}}]},
    {"seed": -1},
    {"batch_size": 0},
    {"calibration_size": -1},
    {"max_length": 0},
]


def _plans(scratch: Path) -> Iterator[Case]:
    scratch.mkdir(parents=True)
    for number, text in enumerate(PLANS):
        file = scratch / f"{number}.yaml"
        file.write_text(text)
        yield Case("study", text[:60].replace("\n", " | "), lambda file=file: study.load(file))
    (scratch / "binary.yaml").write_bytes(bytes(range(256)))
    yield Case("study", "binary", lambda: study.load(scratch / "binary.yaml"))
    yield Case("study", "a folder", lambda: study.load(scratch))
    for text in POLICIES:
        yield Case(
            "policy",
            text[:60].replace("\n", " | "),
            lambda text=text: policy.parse(text, "policy.yaml"),
        )
    for plain in EXPERIMENTS:
        yield Case("experiment", str(plain)[:60], lambda plain=plain: Experiment.from_dict(plain))


def _stores(scratch: Path) -> Iterator[Case]:
    home = Store(scratch / "base").home
    Store(home).submit(
        {"checkpoint": "demo", "method": None, "seed": 0, "source": {"task": "demo"}},
        "dense",
        "k",
        "S",
        "cpu",
    )
    maintenance.compact(Store(home))
    raw = (home / FILE).read_bytes()
    changes = {
        "text": b"not a store" * 100,
        "cut": raw[: len(raw) // 2],
        "head only": raw[:100],
        "zeros behind the head": raw[:100] + bytes(len(raw) - 100),
        "ones in the middle": raw[:4096] + b"\xff" * 4096 + raw[8192:],
    }
    for title, content in changes.items():
        folder = scratch / title.replace(" ", "-")
        folder.mkdir()
        (folder / FILE).write_bytes(content)
        yield Case("store", title, lambda folder=folder: Store(folder).jobs())
        yield Case(
            "store",
            f"{title}: checked",
            lambda folder=folder: maintenance.integrity_errors(folder / FILE),
        )
        yield Case(
            "store",
            f"{title}: rescued",
            lambda folder=folder: maintenance.recover(folder / FILE, folder / "saved"),
        )
    newer = scratch / "newer"
    shutil.copytree(home, newer)
    db = sqlite3.connect(newer / FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()
    yield Case("store", "of a later version", lambda: Store(newer))
    (scratch / "file").write_text("")
    yield Case("store", "below a file", lambda: Store(scratch / "file" / "home"))
    for id in (-1, 0, 2**40):
        yield Case("store", f"job {id}", lambda id=id: Store(home).job(id))


def run(scratch: Path, show: Callable[[str], None] = print) -> Counter[tuple[str, str]]:
    """Run every case, show tracebacks and return counts by (kind, outcome)."""
    home = Store(scratch / "beside").home
    before = hashlib.sha256((home / FILE).read_bytes()).hexdigest()
    counts: Counter[tuple[str, str]] = Counter()
    for case in cases(scratch):
        result, message = outcome(case)
        counts[case.kind, result] += 1
        if result == "traceback":
            show(f"{case.kind}, {case.name}:\n{message}")
    assert hashlib.sha256((home / FILE).read_bytes()).hexdigest() == before, (
        "the separate store was changed"
    )
    assert not list(scratch.rglob("payload-ran")), "a payload ran"
    return counts


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # never look up names on the Hub
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder))
    print(f"\n{'':16}{'sentence':>10}{'accepted':>10}{'traceback':>11}")
    for kind in dict.fromkeys(kind for kind, _ in counts):
        print(
            f"{kind:16}{counts[kind, 'sentence']:10}{counts[kind, 'accepted']:10}"
            f"{counts[kind, 'traceback']:11}"
        )
    print(f"{sum(counts.values())} inputs")


if __name__ == "__main__":
    main()
