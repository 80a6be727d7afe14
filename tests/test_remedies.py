"""Every error message that proposes a flag is tested by applying the proposal."""

import ast
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny

from prune_core import PruneError
from prune_core.cli import run_commands
from prune_core.cli.arguments import build_parser, main
from prune_core.data.examples import DataSource
from prune_core.experiments.data_check import inspect_data
from prune_core.models.checkpoints import loading
from prune_core.paths import ROOT
from prune_core.store.store import Store
from prune_core.tasks import task_data

LONG = "a film that is long enough to calibrate with, word after word"
PLAIN = LONG.replace(",", "")


def rows(count: int = 12, text: str = LONG, label: str = "{label}", start: int = 0) -> str:
    names = ("negative", "positive")
    return "".join(
        f'"{text} {i}",{label.format(label=i % 2, name=names[i % 2])}\n'
        for i in range(start, start + count)
    )


class Case(NamedTuple):
    """A file that raises a message, and the flags that the message proposes."""

    fragment: str  # of the message, as in the source code
    content: str | bytes
    remedy: tuple[str, ...]
    examples: int  # calibration and evaluation together, with the remedy
    name: str = "rows.csv"
    flags: tuple[str, ...] = ()  # of the failing command
    checkpoint: str = "demo"
    labelled: bool = True


JSON = json.dumps(
    {
        "good": [{"text": f"{LONG} {i}", "label": i % 2} for i in range(9)],
        "more": [{"text": LONG, "label": 0}],
    }
)
SPLITS = "text,label,split\n" + "".join(
    f'"{LONG} {i}",{i % 2},{("train", "test")[i % 2]}\n' for i in range(12)
)
TAGS = "".join(
    json.dumps({"tokens": ["Ada", "writes"], "ner_tags": ["B-PER", "O"]}) + "\n" for _ in range(9)
)
QUESTIONS = [
    {"question": f"When was mill {i} built?", "context": "It was built in 1902.", "answers": "1902"}
    for i in range(9)
]
SCORES = "".join(f'"{LONG} {i}",{i / 3:.2f}\n' for i in range(12))
INDICATORS = "".join(f'"{LONG} {i}",{i % 2},{i % 3 % 2}\n' for i in range(12))
CHINESE = "text,label\n" + "".join(
    f"{'剧情拖沓毫无意义浪费时间' * 5}{chr(0x4E00 + i)},{i % 2}\n" for i in range(12)
)
WRONG_BYTE = ("text,label\n" + rows(text=f"{PLAIN} café")).encode() + f"{PLAIN} café,1\n".encode(
    "cp1252"
)
UNCERTAIN = (
    "text,label\n" + "".join(f"Köln ³u schön fa¹n größe und übel {i},{i % 2}\n" for i in range(12))
).encode("cp1252")
CASES = [
    Case(
        "use --quotes no if quotes",
        "text,label\n" + '"one, two",1\n"three, four",0\n' * 6 + '"a" film,1\n',
        ("--quotes", "no", "--bad-rows", "merge"),
        examples=13,
    ),
    Case(
        "with --quotes",
        "text,label\n" + "plain,0\n" * 9 + '",1\n",1\n',
        ("--quotes", "no"),
        examples=11,
    ),
    Case(
        "with --quotes",
        "text,label\n" + "plain,0\n" * 9 + '",1\n",1\n',
        ("--quotes", "yes"),
        examples=10,
    ),
    Case(
        "use --bad-rows merge",
        "text,label\n" + rows() + "Well, this has a comma,1\n",
        ("--bad-rows", "merge"),
        examples=13,
    ),
    Case(
        "use --bad-rows skip to leave",
        "text,label\n" + rows() + "Well, this has a comma,1\n",
        ("--bad-rows", "skip"),
        examples=12,
    ),
    Case(
        "set another --separator",
        "text,label\n" + rows() + "Well, this has a comma,1\n",
        ("--separator", "none"),
        examples=13,
        labelled=False,
    ),
    Case(
        "receives extra cells with --text",
        "a,b\nWell, this is one,1\nWell, this is two,0\nNo, this is three,1\n",
        ("--bad-rows", "merge", "--text", "a"),
        examples=3,
        flags=("--bad-rows", "merge"),
    ),
    Case("set it with --encoding", "", ("--encoding", "utf-16-le"), examples=12),
    Case(
        "set the encoding of the whole file with --encoding",
        WRONG_BYTE,
        ("--encoding", "cp1252"),
        examples=13,
    ),
    Case("set it with --encoding", UNCERTAIN, ("--encoding", "cp1252"), examples=12),
    Case(
        "Set it with --",
        "review one,review two,label\n"
        + "".join(f"{PLAIN} {i},{PLAIN} x{i},{i % 2}\n" for i in range(12)),
        ("--text", "review one", "--label", "label"),
        examples=12,
    ),
    Case(
        "Set it with --text and --text-pair",
        json.dumps(QUESTIONS).replace("context", "passage of text"),
        ("--text", "question", "--text-pair", "passage of text"),
        examples=9,
        name="questions.json",
        checkpoint="span",
    ),
    Case(
        "Choose one with",
        "text,label\n" + rows(),
        ("--label", "label"),
        examples=12,
        flags=("--label", "stars"),
    ),
    Case(
        "use --header no",
        "a nice film,Positive\n"
        + "".join(f"film no {i},{('negative', 'positive')[i % 2]}\n" for i in range(12)),
        ("--header", "no"),
        examples=13,
    ),
    Case(
        "Set it with --labels",
        "text,label\n" + rows(label="{name}") + rows(1, label="positve"),
        ("--labels", "positve=leave out"),
        examples=12,
    ),
    Case(
        "Use --bad-rows skip",
        "text,label\n" + rows() + ",1\n" * 9,
        ("--bad-rows", "skip"),
        examples=12,
    ),
    Case(
        "Use --bad-rows skip",
        "text,label\n" + rows() + rows(9, label=""),
        ("--bad-rows", "skip"),
        examples=12,
    ),
    Case(
        "choose another with --text",
        "text,body,label\n" + "".join(f" ,{PLAIN} {i},{i % 2}\n" for i in range(12)),
        ("--text", "body"),
        examples=12,
    ),
    Case(
        "choose another column with --text",
        "text,body,label\n" + "".join(f"{'x' * (i % 2)},b {i},{i % 2}\n" for i in range(12)),
        ("--text", "body"),
        examples=12,
    ),
    Case(
        "Use --bad-rows skip",
        "text,label\n" + SCORES + f'"{LONG}",high\n',
        ("--bad-rows", "skip"),
        examples=12,
        checkpoint="regression",
    ),
    Case(
        "leave these rows out with",
        "text,negative,positive\n" + INDICATORS + f'"{LONG}",1,maybe\n',
        ("--bad-rows", "skip"),
        examples=12,
        checkpoint="multilabel",
    ),
    Case(
        "--label - ignores labels",
        "text,fun,sad\n" + INDICATORS,
        ("--label", "-"),
        examples=12,
        checkpoint="multilabel",
        labelled=False,
    ),
    Case(
        "use --labels",
        "text,fun,sad\n" + INDICATORS,
        ("--labels", "fun=positive,sad=negative"),
        examples=12,
        checkpoint="multilabel",
    ),
    Case(
        "list them in the model's order with --label",
        "text,fun,sad\n" + INDICATORS,
        ("--label", "sad,fun"),
        examples=12,
        checkpoint="generic",
    ),
    Case(
        "choose one with --label, or use --label -",
        "text,a,b\n" + INDICATORS,
        ("--label", "a"),
        examples=12,
        flags=("--label", "a,b"),
    ),
    Case(
        "choose one with --label, or use --label -",
        "text,a,b\n" + INDICATORS,
        ("--label", "-"),
        examples=12,
        flags=("--label", "a,b"),
        labelled=False,
    ),
    Case(
        "leave such rows out with --bad-rows",
        TAGS + json.dumps({"tokens": ["one"], "ner_tags": ["O", "O"]}) + "\n",
        ("--bad-rows", "skip"),
        examples=9,
        name="rows.jsonl",
        checkpoint="token",
    ),
    Case(
        "leave such rows out with --bad-rows",
        json.dumps([*QUESTIONS, {**QUESTIONS[0], "answers": "1999"}]),
        ("--bad-rows", "skip"),
        examples=9,
        name="questions.json",
        checkpoint="span",
    ),
    Case("omit --split", "text,label\n" + rows(), (), examples=12, flags=("--split", "test")),
    Case("choose one with --split", JSON, ("--split", "good"), examples=9, name="rows.json"),
    Case("choose another to evaluate on with --split", SPLITS, ("--split", "train"), examples=6),
    Case(
        "set it with --label",
        "text,mood\n" + rows().replace(",0", ",glum").replace(",1", ",merry"),
        ("--label", "mood", "--labels", "glum=negative,merry=positive"),
        examples=12,
    ),
    Case(
        "choose the column of its text with --text",
        json.dumps([{"text": [LONG], "body": f"{LONG} {i}", "label": i % 2} for i in range(12)]),
        ("--text", "body"),
        examples=12,
        name="rows.json",
    ),
    Case(
        "or a file with --calibration",
        "text,label\n" + rows(2),
        ("--calibration", "OTHER"),
        examples=2 + 12,
    ),
    Case(
        "set the second text with --text-pair",
        "text,label\n" + rows(),
        ("--label", "-"),
        examples=12,
        checkpoint="embedding",
        labelled=False,
    ),
    Case(
        "choose another column with --label",
        "sentence1,sentence2,label\n"
        + "".join(f'"{LONG} {i}","{PLAIN} {i}",near\n' for i in range(12)),
        ("--label", "-"),
        examples=12,
        checkpoint="embedding",
        labelled=False,
    ),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One checkpoint per task type, and a multi-label one without label names."""
    home, paths = tmp_path_factory.mktemp("models"), {"demo": "demo"}
    for kind in ("multilabel", "token", "regression", "span", "embedding"):
        model = tiny.model(kind=kind)
        if kind == "multilabel":
            model.config.id2label = {0: "negative", 1: "positive"}
        loading.save(model, tiny.tokenizer(), home / kind)
        paths[kind] = str(home / kind)
    model = tiny.model(kind="multilabel")
    model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    loading.save(model, tiny.tokenizer(), home / "generic")
    return paths | {"generic": str(home / "generic")}


def check(checkpoint: str, file: Path, flags: tuple[str, ...]) -> dict:
    options = build_parser().parse_args(
        ["run", "--checkpoint", checkpoint, "--task", str(file), "--measure", "accuracy", *flags]
    )
    return inspect_data(run_commands.experiment_from_options(options, Store()))


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{i} {case.fragment}" for i, case in enumerate(CASES)]
)
def test_flag_proposed_by_a_data_message_works(
    case: Case, checkpoints: dict, tmp_path: Path
) -> None:
    file = tmp_path / case.name
    if case.content:
        file.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    else:  # without a byte order mark, and with few bytes that are zero
        file.write_text(CHINESE, encoding="utf-16-le")
    (tmp_path / "other.csv").write_text("text,label\n" + rows())
    try:
        report = check(checkpoints[case.checkpoint], file, case.flags)
        message = report.get("error") or " ".join(report["notes"])
    except PruneError as error:
        message = str(error)
    assert case.fragment in message
    remedy = tuple(str(tmp_path / "other.csv") if flag == "OTHER" else flag for flag in case.remedy)
    again = check(checkpoints[case.checkpoint], file, remedy)
    assert "error" not in again, again["error"]
    assert again["calibration"] + again["evaluation"] == case.examples
    assert again["labelled"] == case.labelled


COMMANDS = [
    (
        "add --measure",
        ["run", "--measure", "accuracy", "--set", "drift.neighbours=3"],
        [
            "run",
            "--measure",
            "accuracy",
            "--measure",
            "drift",
            "--set",
            "drift.neighbours=3",
            "--set",
            "drift.umap=false",
        ],
    ),
    (
        "add --method, or write measure.option",
        ["run", "--measure", "accuracy", "--set", "block_size=64"],
        ["run", "--measure", "accuracy", "--method", "sparsegpt", "--set", "block_size=64"],
    ),
    (
        "it must be a whole number, or auto",
        ["run", "--measure", "accuracy", "--min-words", "few"],
        ["run", "--measure", "accuracy", "--min-words", "auto"],
    ),
    (
        "write it as option=value",
        ["run", "--measure", "accuracy", "--method", "akr", "--set", "damping"],
        ["run", "--measure", "accuracy", "--method", "akr", "--set", "damping=0.02"],
    ),
    (
        "leave --pooling out",
        ["run", "--measure", "accuracy", "--pooling", "mean"],
        ["run", "--measure", "accuracy"],
    ),
    ("omit --shrink", ["export", "1", "OUT", "--shrink"], ["export", "1", "OUT"]),
    (
        "write measure.option=value for one of",
        ["remeasure", "1", "accuracy", "--set", "resamples=200"],
        ["remeasure", "1", "accuracy", "--set", "accuracy.resamples=200"],
    ),
    (
        "shrink-to needs a method",
        ["shrink-to", "--loss", "50"],
        ["shrink-to", "--loss", "50", "--method", "magnitude"],
    ),
    (
        "leave --fastest out",
        ["shrink-to", "--loss", "50", "--method", "magnitude", "--fastest"],
        ["shrink-to", "--loss", "50", "--method", "magnitude"],
    ),
    (
        "leave --formats and --trim out",
        ["shrink-to", "--loss", "50", "--method", "magnitude", "--formats", "ONNX int8"],
        ["shrink-to", "--loss", "50", "--method", "magnitude"],
    ),
    (
        "write it as size=20",
        ["shrink-to", "--loss", "50", "--method", "magnitude", "--limit", "size=big"],
        ["shrink-to", "--loss", "50", "--method", "magnitude", "--limit", "size=20"],
    ),
    (
        "or --method",
        ["shrink-to", "--loss", "50", "--job", "2"],
        ["shrink-to", "--loss", "50", "--method", "magnitude"],
    ),
    (
        "give a folder that all of them can access: --out",
        ["sweep", "STUDY", "--shards", "1"],
        ["sweep", "STUDY", "--shards", "1", "--out", "OUT"],
    ),
    ("contains no plan", ["collect", "OUT"], ["sweep", "STUDY", "--shards", "1", "--out", "OUT"]),
]


WORKING: set[tuple[str, ...]] = set()  # proposed commands that have succeeded


@pytest.fixture(scope="module")
def sentiment_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tiny model with the labels of the demo."""
    model = tiny.model()
    model.config.id2label = {0: "negative", 1: "positive"}
    model.config.label2id = {"negative": 0, "positive": 1}
    folder = tmp_path_factory.mktemp("model")
    loading.save(model, tiny.tokenizer(), folder)
    return str(folder)


@pytest.mark.parametrize(
    ("fragment", "failing", "proposed"), COMMANDS, ids=[each[0] for each in COMMANDS]
)
def test_flag_proposed_by_a_command_message_works(
    fragment: str,
    failing: list,
    proposed: list,
    sentiment_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "study.yaml").write_text(
        f"{{study: s, checkpoint: {sentiment_model}, methods: [magnitude], sparsities: [0.5], "
        "evaluation_size: 20, device: cpu}"
    )
    places = {"OUT": str(tmp_path / "out"), "STUDY": str(tmp_path / "study.yaml")}
    small = ["--checkpoint", sentiment_model, "--calibration-size", "16"]
    small += ["--evaluation-size", "20", "--device", "cpu"]
    if "1" in failing[1:2] or "--job" in failing:  # commands on jobs: add a pruned and a dense run
        run = ["run", "--measure", "accuracy", *small]
        assert main([*run, "--method", "magnitude"]) == main(run) == 0
    if failing[0] not in ("run", "shrink-to"):
        small = []
    capsys.readouterr()
    assert main([*(places.get(word, word) for word in failing), *small]) == 2
    assert fragment in " ".join(capsys.readouterr().err.split())
    if tuple(proposed) not in WORKING:  # several messages propose the same command
        status = main([*(places.get(word, word) for word in proposed), *small])
        assert status in (0, 1), capsys.readouterr().err
        WORKING.add(tuple(proposed))


TESTED_ELSEWHERE = {  # messages whose advice is tested elsewhere or cannot be tested
    "prune_core/access.py": "tests/test_access.py",
    "prune_core/cli/serve.py": "tests/test_access.py and test_serve.py",
    "prune_core/training": "tests/test_finetune.py and test_soup.py",
    "prune_core/models/checkpoints/loading.py": "finetune: tests/test_finetune.py",
    "prune_core/data/hub.py": "needs the Hub: test_data.py and test_unresponsive_hub.py",
    "prune_core/distributed/ray_cluster.py": "needs a cluster: tests/test_shards.py",
    "prune_core/experiments/run.py": "needs memory to run out: tests/test_memory.py",
    "prune_core/attacks": "builds an asset",
    "prune_core/data/retrieval.py": "tests/test_retrieval.py, and below for judgements",
}


def test_every_message_that_proposes_a_flag_is_tested() -> None:
    known = [case.fragment for case in CASES] + [fragment for fragment, *_ in COMMANDS]
    known += ["no row has a label to train on"]  # tested below
    known += ["has no rotation of its embeddings"]  # tested in test_retrieval_measure.py
    # tested in test_candidates.py
    known += [
        "no tokenizer (tokenizer.json) is next to the file",
        "check needs either the ID of a job",
    ]
    missing = []
    for path in sorted((ROOT / "prune_core").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(tuple(TESTED_ELSEWHERE)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            text = "".join(
                str(each.value) for each in ast.walk(node.exc) if isinstance(each, ast.Constant)
            )
            if re.search(r"--[a-z]", text) and not any(fragment in text for fragment in known):
                missing.append(f"{name}:{node.lineno}: {text[:100]}")
    assert not missing


def test_fine_tuning_asks_for_a_label_column(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,mood\n" + rows().replace(",0", ",glum").replace(",1", ",merry"))
    with pytest.raises(
        PruneError, match="no row has a label to train on; set the column with --label"
    ):
        task_data.training_examples(DataSource(str(file), label="-"), ("glum", "merry"))
    assert (
        len(task_data.training_examples(DataSource(str(file), label="mood"), ("glum", "merry")))
        == 12
    )


def test_unknown_judgements_of_a_collection_can_be_left_out(
    checkpoints: dict, tmp_path: Path
) -> None:
    texts = [{"_id": str(i), "text": f"{LONG} {i}"} for i in range(8)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(each) + "\n" for each in texts))
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(each) + "\n" for each in texts[:4]))
    (tmp_path / "qrels").mkdir()
    judgements = "".join(f"{i}\t{i}\t1\n" for i in (0, 1, 2, 3))
    qrels = tmp_path / "qrels" / "test.tsv"
    qrels.write_text(f"query-id\tcorpus-id\tscore\n{judgements}3\t99\t1\n")
    message = check(checkpoints["embedding"], tmp_path, ())["error"]
    assert "leave these judgements out with --bad-rows skip" in message
    report = check(checkpoints["embedding"], tmp_path, ("--bad-rows", "skip"))
    assert "error" not in report and report["evaluation"] == 4
