"""Data sources: file formats, sampling, and error messages for invalid data."""

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.data import tables
from prune_core.data.delimited import Dialect
from prune_core.data.encodings import decode
from prune_core.data.examples import DataSource
from prune_core.tasks import encoding, task_data
from prune_core.tasks.known_tasks import KNOWN_TASKS

LABELS = ("negative", "positive")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LONG = "a film that is long enough to calibrate with, word after word"

EXTENSIONS = (
    *(".csv", ".tsv", ".txt", ".json", ".jsonl"),
    *(".conll", ".parquet", ".arrow", ".gz"),
)


def write_table(tmp_path: Path, rows: list[dict], name: str = "reviews.csv") -> str:
    path = tmp_path / name
    table = pd.DataFrame(rows)
    {
        ".csv": lambda: table.to_csv(path, index=False),
        ".jsonl": lambda: table.to_json(path, orient="records", lines=True),
        ".parquet": lambda: table.to_parquet(path),
    }[path.suffix]()
    return str(path)


def reviews(count: int = 12) -> list[dict]:
    return [{"text": f"{LONG} {i}", "label": i % 2} for i in range(count)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_every_format_gives_the_same_examples(tmp_path: Path, name: str) -> None:
    task = task_data.load(DataSource(write_table(tmp_path, reviews(), name)), LABELS)
    both = sorted(task.calibration.texts + task.evaluation.texts)
    assert both == sorted(row["text"] for row in reviews())
    assert not set(task.calibration.texts) & set(task.evaluation.texts)
    assert all(
        int(text[-1]) % 2 == label
        for text, label in zip(task.evaluation.texts, task.evaluation.labels, strict=True)
    )


def test_columns_can_be_selected_and_labels_can_be_words(tmp_path: Path) -> None:
    rows = [
        {"a": LONG, "b": f"second {i}", "mood": ("Positive", "negative")[i % 2]} for i in range(9)
    ]
    path = write_table(tmp_path, rows)
    task = task_data.load(DataSource(path, text="a", text_pair="b", label="mood"), LABELS)
    assert task.evaluation.pairs and task.evaluation.pairs[0].startswith("second")
    assert set(task.evaluation.labels) == {0, 1}


def test_a_calibration_file_needs_no_labels(tmp_path: Path) -> None:
    calibration = write_table(tmp_path, [{"text": LONG}, {"text": "short"}], "calibration.jsonl")
    task = task_data.load(
        DataSource(write_table(tmp_path, reviews()), calibration=calibration), LABELS
    )
    assert task.calibration.texts == [LONG, "short"] and task.calibration.labels is None
    assert len(task.evaluation) == 12


@pytest.mark.parametrize(
    ("rows", "source", "message"),
    [
        (
            [{"text": " ", "label": i % 2} for i in range(4)],
            {},
            "no row has a text in column 'text'",
        ),
        (
            [{"text": LONG, "label": i} for i in (0, 1, 7)],
            {},
            r"'0', '1', '7' means.*The file has 3 values .*the model 2 labels \\(negative, "
            r"positive\\)",
        ),
        (
            [{"text": LONG, "label": name} for name in ("good", "meh")],
            {},
            "label of the model 'meh' means.*--labels 'meh=negative'",
        ),
        ([{"text": LONG, "label": 0.5}, {"text": LONG, "label": 1}], {}, "'0.5'"),
        (
            reviews(),
            {"text": "review"},
            "no column 'review'; it has text, label. Choose one with --text",
        ),
        (reviews(), {"label": "stars"}, "no column 'stars'.*--label"),
        ([{"x": LONG, "y": LONG, "label": 0}], {}, "no column is known to contain a text"),
        (reviews(2), {}, "2 rows are too few"),
        (reviews(), {"labels": "0=meh"}, "'meh', which is not a label of the model"),
        (reviews(), {"labels": "5=positive"}, "'5', which does not occur in the data"),
        (reviews(), {"labels": "nonsense"}, "write value=label"),
    ],
)
def test_invalid_rows_and_options_raise(
    tmp_path: Path, rows: list[dict], source: dict, message: str
) -> None:
    with pytest.raises(PruneError, match=message.replace("\\\\", "\\")):
        task_data.load(DataSource(write_table(tmp_path, rows), **source), LABELS)


def test_rows_without_a_text_or_label_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [
        *reviews(40),
        {"text": " ", "label": 1},
        {"text": LONG, "label": None},
        {"text": LONG, "label": -1},
        {"text": "NA", "label": 1},
        {"text": "null", "label": 0},
    ]
    task = task_data.load(DataSource(write_table(tmp_path, rows)), LABELS)
    texts = task.calibration.texts + task.evaluation.texts
    assert len(texts) == 42 and {"NA", "null"} <= set(texts)
    assert {"1 row without a text left out.", "2 rows without a label left out."} <= set(task.notes)


@pytest.mark.parametrize(
    "columns", [{"text": LONG}, {"text": LONG, "label": -1}, {"text": LONG, "label": None}]
)
def test_unlabelled_data_is_supported(tmp_path: Path, columns: dict) -> None:
    task = task_data.load(DataSource(write_table(tmp_path, [columns] * 9, "a.jsonl")), LABELS)
    assert task.evaluation.labels is None
    assert task.metric == "same_label"
    assert any("compared with the dense" in note for note in task.notes)


TABLE = [
    ("a film that is fine, they said", "0"),
    ('a "fine" film; really', "1"),
    ("caf\u00e9 noir, a film to see", "0"),
    ("NA", "1"),
    ("nothing much happens in it", "0"),
    ("it is far too long", "1"),
]


def delimited_table(separator: str, quote: bool = True) -> str:
    def escape(cell):
        return (
            '"' + cell.replace('"', '""') + '"'
            if quote and (separator in cell or '"' in cell)
            else cell
        )

    return "".join(
        f"{escape(text)}{separator}{label}\n" for text, label in [("sentence", "label"), *TABLE]
    )


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_separators_and_encodings_are_detected(
    tmp_path: Path, separator: str, encoding: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(delimited_table(separator).replace("\n", "\r\n").encode(encoding))
    table = tables.read(str(file))
    assert list(table.rows.itertuples(index=False, name=None)) == TABLE
    assert ("Windows-1252" in table.description) == (encoding == "cp1252")
    assert ("separated" in table.description) == (separator != ",")


@pytest.mark.parametrize("extension", ["gz", "bz2", "xz", "zip"])
def test_compressed_files_are_read(tmp_path: Path, extension: str) -> None:
    file, content = tmp_path / f"a.tsv.{extension}", delimited_table("\t").encode()
    if extension == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.tsv", content)
    else:
        file.write_bytes(
            {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[extension](content)
        )
    assert list(tables.read(str(file)).rows["sentence"]) == [text for text, _ in TABLE]


def test_unbalanced_quotes_are_read_as_text(tmp_path: Path) -> None:
    """In GLUE's files, a cell that begins with a quote does not have to end with one."""
    file = tmp_path / "a.tsv"
    file.write_text(
        'sentence\tlabel\n"a fine film\t1\nnot a "fine" film\t0\n"fine" is the word\t1\n"who '
        'knows"\t0\n'
    )
    table = tables.read(str(file))
    assert list(table.rows["sentence"]) == [
        '"a fine film',
        'not a "fine" film',
        '"fine" is the word',
        '"who knows"',
    ]
    assert table.form.quotes == "no" and len(table.rows) == 4


@pytest.mark.parametrize(
    ("content", "header", "width"),
    [
        ("text,label\na fine film to see,1\na dull one indeed,0\n", "yes", 2),
        ("1,Film one,a fine film to see\n2,Film two,a dull one indeed\n", "no", 3),
        (
            "a fine film to see\tpositive\na dull one indeed\tnegative\nno film at all\tpositive\n",
            "no",
            2,
        ),
        ("id,sentence\n1,fine\n2,dull\n", "yes", 2),
        ("a fine film, to see\na dull one indeed\nnot much, really, of a film\n", "no", 1),
        ("sentence\na fine film to see\na dull one indeed\n", "yes", 1),
    ],
)
def test_a_missing_header_is_detected(
    tmp_path: Path, content: str, header: str, width: int
) -> None:
    file = tmp_path / "a.txt"
    file.write_text(content)
    table = tables.read(str(file))
    assert (table.form.header, len(table.rows.columns)) == (header, width)
    assert len(table.rows) == len(content.splitlines()) - (header == "yes")


def test_the_detected_dialect_can_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("a;b\ncaf\xe9;1\n".encode("cp1252"))
    assert list(tables.read(str(file), Dialect(";", "cp1252", "no")).rows["column 1"]) == [
        "a",
        "caf\xe9",
    ]
    assert list(tables.read(str(file), Dialect("none", "cp437")).rows.iloc[:, 0]) != []
    with pytest.raises(PruneError, match="is not utf-8"):
        tables.read(str(file), Dialect(encoding="utf-8"))
    with pytest.raises(PruneError, match="header is 'maybe'"):
        Dialect(header="maybe")


RECORDS = [{"text": LONG, "label": i % 2} for i in range(4)]
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "The mill was built in 1902.",
                    "qas": [
                        {"question": "When?", "answers": [{"text": "1902", "answer_start": 22}]},
                        {"question": "Who?", "is_impossible": True, "answers": []},
                    ],
                }
            ]
        }
    ]
}


@pytest.mark.parametrize(
    "content",
    [
        RECORDS,
        {"data": RECORDS},
        {"version": 1, "rows": RECORDS},
        {"train": RECORDS[:1], "test": RECORDS},
        {"text": [LONG] * 4, "label": [0, 1, 0, 1]},
        {f"id {i}": record for i, record in enumerate(RECORDS)},
    ],
)
def test_every_json_layout_is_read(tmp_path: Path, content: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert (
        tables.read(str(tmp_path / "a.json")).rows[["text", "label"]].to_dict("records") == RECORDS
    )


def test_json_lines_nested_fields_and_squad_are_read(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    assert len(tables.read(str(tmp_path / "lines.json")).rows) == 4
    (tmp_path / "nested.jsonl").write_text(
        "".join(
            json.dumps({"input": {"text": LONG}, "gold": {"label": i % 2}}) + "\n" for i in range(9)
        )
    )
    assert task_data.load(
        DataSource(str(tmp_path / "nested.jsonl"), "input.text", label="gold.label"), LABELS
    ).evaluation.labels
    (tmp_path / "squad.json").write_text(json.dumps(SQUAD))
    rows = tables.read(str(tmp_path / "squad.json")).rows
    assert list(rows["question"]) == ["When?", "Who?"]
    assert rows["answers"].iloc[0] == {
        "text": ["1902"],
        "answer_start": [22],
    }
    assert rows["answers"].iloc[1]["text"] == []


def test_excel_arrow_and_saved_dataset_folders_are_read(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict

    pd.DataFrame(RECORDS).to_excel(tmp_path / "a.xlsx", index=False)
    assert list(tables.read(str(tmp_path / "a.xlsx")).rows["label"]) == ["0", "1", "0", "1"]
    data = Dataset.from_list(RECORDS * 3).cast_column(
        "label", ClassLabel(names=["positive", "negative"])
    )
    data.save_to_disk(tmp_path / "one")
    DatasetDict({"train": data, "validation": data.select(range(6))}).save_to_disk(
        tmp_path / "both"
    )
    data.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.arrow").write_bytes(next((tmp_path / "one").glob("*.arrow")).read_bytes())
    for name, rows in (("one", 12), ("both", 18), ("a.parquet", 12), ("a.arrow", 12)):
        task = task_data.load(DataSource(str(tmp_path / name)), LABELS)
        assert len(task.calibration) + len(task.evaluation) == rows
        assert task.label_map == {
            "negative": 0,
            "positive": 1,
        }  # by name: the dataset has the reverse order
    assert (
        len(task_data.load(DataSource(str(tmp_path / "both"), split="train"), LABELS).evaluation)
        == 8
    )


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet"])
def test_splits_are_selected_by_a_split_column(name, tmp_path):
    rows = pd.DataFrame(RECORDS * 6).assign(Split=["train"] * 12 + ["test"] * 12)
    path = str(tmp_path / name)
    write = {
        ".csv": lambda: rows.to_csv(path, index=False),
        ".parquet": lambda: rows.to_parquet(path),
    }
    write.get(name[1:], lambda: rows.to_json(path, orient="records", lines=name.endswith("l")))()
    selected = tables.read(path, part="test").rows
    assert len(selected) == 12 and set(selected["Split"]) == {"test"}
    task = task_data.load(DataSource(path), LABELS)
    assert (len(task.calibration), len(task.evaluation)) == (12, 12)
    assert "Split 'train' is used for calibration and 'test' for evaluation" in " ".join(task.notes)
    assert (
        len(task_data.training_examples(DataSource(path), LABELS))
        == len(task_data.evaluation_examples(DataSource(path), LABELS))
        == 12
    )
    assert task_data.load(DataSource(path, split="test"), LABELS).evaluation == task.evaluation
    assert (
        len(task_data.load(DataSource(path, split="train"), LABELS).evaluation) == 8
    )  # a third is used for calibration
    with pytest.raises(PruneError, match="no part 'dev'; it has train, test"):
        tables.read(path, part="dev")
    rows.to_excel(tmp_path / "a.xlsx", index=False)
    (tmp_path / "key.json").write_text(json.dumps({"rows": rows.to_dict("records")}))
    for single in (
        "a.xlsx",
        "key.json",
    ):  # one sheet or one key: the suggested split works too
        assert len(tables.read(str(tmp_path / single), part="test").rows) == 12
    rows.drop(columns="Split").to_csv(tmp_path / "plain.csv", index=False)
    (tmp_path / "lists.json").write_text('[["good", 1], ["bad", 0]]')
    for without_splits in ("plain.csv", "lists.json"):
        with pytest.raises(PruneError, match="single table"):
            tables.read(str(tmp_path / without_splits), part="test")


def test_a_hub_dataset_is_read_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from prune_core.data import hub

    dataset = datasets.Dataset.from_list(RECORDS * 3).cast_column(
        "label", datasets.ClassLabel(names=["positive", "negative"])
    )
    hub._splits.cache_clear()
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda path, config: ["train", "test"])
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda path, config, split: dataset if split == "train" else dataset.select(range(6)),
    )
    task = task_data.load(DataSource("someone/reviews", config="en"), LABELS)
    assert (len(task.calibration), len(task.evaluation)) == (12, 6)
    assert "split 'test'" in " ".join(task.notes)
    assert (
        len(task_data.load(DataSource("someone/reviews", split="train"), LABELS).evaluation) == 8
    )  # a third is used for calibration, as train cannot serve for both
    hub._splits.cache_clear()


def test_unreadable_files_raise(tmp_path: Path) -> None:
    empty, broken, unknown, multiple = (
        tmp_path / name for name in ("empty.csv", "broken.jsonl", "notes.docx", "two.zip")
    )
    empty.write_text("")
    broken.write_text(json.dumps({"text": "a"}) + "\n{oops\n")
    unknown.write_bytes(b"PK\x03\x04\x00\x00")
    with zipfile.ZipFile(multiple, "w") as archive:
        archive.writestr("a.csv", "a")
        archive.writestr("b.csv", "b")
    (tmp_path / "not.xlsx").write_bytes(b"no")
    (tmp_path / "not.parquet").write_bytes(b"no")
    for path, message in (
        (empty, "empty"),
        (broken, "line 2 is not JSON"),
        (unknown, "unknown table format"),
        (multiple, "contains 2 files"),
        (tmp_path / "not.xlsx", "cannot be read as .xlsx"),
        (tmp_path / "not.parquet", "cannot be read as .parquet"),
        (tmp_path, "a folder without a dataset"),
        (tmp_path / "gone.csv", "no such file"),
    ):
        with pytest.raises(PruneError, match=message):
            tables.read(str(path))


def test_random_bytes_give_a_table_or_a_one_line_error(tmp_path: Path) -> None:
    import random

    rng = random.Random(0)
    for count in range(40):
        file = tmp_path / f"{count}{rng.choice(EXTENSIONS)}"
        file.write_bytes(
            bytes(rng.choice(b'a",;\t\n{}[]:\xe9\xff\x00 -1') for _ in range(rng.randint(1, 300)))
        )
        try:
            assert len(tables.read(str(file)).rows)
        except PruneError as error:
            assert "\n" not in str(error)


def test_labels_that_do_not_match_the_model_raise(tmp_path: Path) -> None:
    rows = [
        {"text": LONG, "label": name} for name in ("World", "Sports", "Business", "Sci/Tech") * 3
    ]
    with pytest.raises(
        PruneError, match=r"The file has 4 .*World.* the model 2 labels \(negative, positive\)"
    ):
        task_data.load(DataSource(write_table(tmp_path, rows)), LABELS)


def test_an_unreachable_hub_raises() -> None:
    with pytest.raises(PruneError, match="sst2: the Hub cannot be reached"):
        task_data.load(DataSource("sst2"), LABELS)


def test_demo_data_is_unique_balanced_and_large_enough() -> None:
    task = task_data.load(DataSource(), LABELS)
    assert len(task.calibration) == 256 and len(task.calibration) + len(task.evaluation) >= 600
    texts = task.calibration.texts + task.evaluation.texts
    assert len(set(texts)) == len(texts) and all(5 <= len(text.split()) <= 40 for text in texts)
    assert 0.45 < sum(task.evaluation.labels) / len(task.evaluation) < 0.55
    assert len(task.subsample(256, 0, 0).calibration) == 256


def test_demo_collection_has_an_answer_to_each_query_and_fits_embedding_models_only() -> None:
    source = DataSource(task_data.RETRIEVAL_DEMO)
    task = task_data.load(source, ("embedding",), kind="embedding")
    collection = task.collection
    assert len(set(collection.documents)) == 300 and len(set(collection.queries)) == 60
    assert {max(grades.values()) for grades in collection.judgements.values()} == {2.0}
    assert set(task.calibration.texts) == set(collection.documents)
    with pytest.raises(PruneError, match="demo-retrieval needs an embedding"):
        task_data.load(source, LABELS)
    with pytest.raises(PruneError, match="fine-tune on a known task"):
        task_data.training_examples(source, LABELS)


def test_samples_are_seeded_and_keep_their_order() -> None:
    pool = task_data.load(DataSource(), LABELS).evaluation
    first, repeated, other = (pool.sample(20, seed) for seed in (1, 1, 2))
    assert first == repeated != other and len(first) == 20
    assert [pool.texts.index(text) for text in first.texts] == sorted(
        pool.texts.index(text) for text in first.texts
    )


def test_batches_contain_every_example_once_with_little_padding() -> None:
    batches = list(
        encoding.batches(
            tiny.tokenizer(), tiny.examples(3), 5, max_length=64, device=torch.device("cpu")
        )
    )
    assert sorted(index for _, indices in batches for index in indices) == list(range(36))
    padding = sum(int((batch["attention_mask"] == 0).sum()) for batch, _ in batches)
    assert padding < 0.1 * sum(batch["attention_mask"].numel() for batch, _ in batches)
    truncated = next(
        iter(
            encoding.batches(
                tiny.tokenizer(), tiny.examples(), 12, max_length=6, device=torch.device("cpu")
            )
        )
    )[0]
    assert truncated["input_ids"].shape == (12, 6)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real datasets are not next to this checkout")
def test_real_datasets_load() -> None:
    task = task_data.load(DataSource(str(SHARED / "sst2" / "validation.parquet")), LABELS)
    assert len(task.calibration) + len(task.evaluation) == 872
    news = task_data.load(
        DataSource(str(SHARED / "ag_news" / "test.parquet")), KNOWN_TASKS["ag_news"].labels
    )
    assert set(news.evaluation.labels) == {0, 1, 2, 3}
    pairs = DataSource(
        str(SHARED / "mrpc" / "test.parquet"), text="sentence1", text_pair="sentence2"
    )
    assert task_data.load(pairs, KNOWN_TASKS["mrpc"].labels).evaluation.pairs


def test_nested_fields_are_flattened_into_dotted_columns(tmp_path: Path) -> None:
    rows = [{"tweet": {"text": f"fine phone {i}"}, "user": {"label": i % 2}} for i in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(tables.read(str(tmp_path / "a.jsonl")).rows) == ["tweet.text", "user.label"]
    task = task_data.load(
        DataSource(str(tmp_path / "a.jsonl")), LABELS
    )  # columns detected by their content
    assert task.evaluation.texts[0].startswith("fine phone") and task.evaluation.labels


@pytest.mark.parametrize("name", ["reviews", "reviews.dat", "reviews.text.gz"])
def test_unknown_extensions_are_read_by_content(tmp_path: Path, name: str) -> None:
    content = delimited_table("\t").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(tables.read(str(tmp_path / name)).rows["sentence"]) == [text for text, _ in TABLE]
    (tmp_path / "records.data").write_text(json.dumps(RECORDS))
    assert len(tables.read(str(tmp_path / "records.data")).rows) == 4
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps([LONG, i % 2]) + "\n" for i in range(4))
    )
    assert list(tables.read(str(tmp_path / "rows.jsonl")).rows) == ["column 1", "column 2"]


def test_parquet_bytes_are_read_as_text_and_nulls_as_none(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [f"{LONG} é {i}".encode() for i in range(4)]
    for arrow_type in (pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())):
        plain = pa.array(texts, pa.binary())
        column = (
            plain.dictionary_encode()
            if pa.types.is_dictionary(arrow_type)
            else plain.cast(arrow_type)
        )
        words = pa.array([[b"a", b"b"]] * 4, pa.list_(pa.binary()))
        pq.write_table(pa.table({"text": column, "words": words}), tmp_path / "a.parquet")
        rows = tables.read(str(tmp_path / "a.parquet")).rows
        assert rows["text"].tolist() == [text.decode() for text in texts]
        assert list(rows["words"].iloc[0]) == ["a", "b"]
    pq.write_table(pa.table({"text": ["a"], "thumb": [b"\xff\xd8"]}), tmp_path / "b.parquet")
    with pytest.raises(PruneError, match="column 'thumb' contains bytes that are not UTF-8"):
        tables.read(str(tmp_path / "b.parquet"))
    nullable = pd.DataFrame(
        {"text": pd.array(["a", None], "string"), "n": pd.array([1, None], "Int64")}
    )
    nullable.to_parquet(tmp_path / "c.parquet")
    rows = tables.read(str(tmp_path / "c.parquet")).rows
    assert rows["text"].tolist() == ["a", None] and rows["n"].tolist() == [1, None]


LEGACY_TEXTS = {
    "cp1250": (
        "Zażółć gęślą jaźń, miłość",
        "Výborný film, příliš žluťoučký kůň",
        "Árvíztűrő tükörfúrógép",
    ),
    "cp1257": ("Labai geras filmas, žiūrėjau jį visą, ačiū",),
    "cp1254": ("Bu film çok güzeldi, ağladım", "Işıklar söndü, yağmur yağıyor"),
    "cp1252": (
        "C’était à l’hôtel, une soirée",
        "Þetta var mjög góð mynd",
        "¿Qué mañana?",
        "Schöne Grüße",
    ),
    "cp1251": ("Это очень хороший фильм",),
    "cp932": ("この映画はとても面白かったです。",),
    "gb18030": ("这部电影非常好看，我很喜欢。",),
}


@pytest.mark.parametrize(
    ("encoding", "text"), [(name, text) for name in LEGACY_TEXTS for text in LEGACY_TEXTS[name]]
)
def test_legacy_encodings_are_detected(encoding: str, text: str) -> None:
    assert (
        decode(f"text,label\n{text},1\n".encode(encoding), "", "a.csv")[0]
        == f"text,label\n{text},1\n"
    )


def test_invalid_bytes_are_reported_and_rare_encodings_are_not_guessed() -> None:
    valid = "".join(f"café número {i}\n" for i in range(20)).encode()
    with pytest.raises(
        PruneError,
        match=r"line 21: the byte 0xe9 is not UTF-8.*'caf. noir'.*--encoding, such as cp1252",
    ) as excinfo:
        decode(valid + b"caf\xe9 noir\n" + valid, "", "a.csv")
    assert "\n" not in str(excinfo.value)
    with pytest.raises(PruneError, match="truncated: it ends inside a character"):
        decode(valid + "é".encode()[:1], "", "a.csv")
    assert decode(valid.decode().encode("utf-32"), "", "a.csv")[0] == valid.decode()
    with pytest.raises(PruneError, match="cannot be detected"):
        decode("ภาพยนตร์เรื่องนี้ดีมาก\n".encode("tis_620"), "", "a.csv")
    with pytest.raises(
        PruneError,
        match="not certain; decoded as cp125. it contains 'K.*--encoding, such as cp1252",
    ):
        decode("text\nKöln ³u schön fa¹n größe und übel\n".encode("cp1252"), "", "a.csv")


def test_file_content_takes_precedence_over_the_extension(tmp_path: Path) -> None:
    table = pd.DataFrame(RECORDS)
    table.to_excel(tmp_path / "a.xlsx", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    table.to_feather(tmp_path / "a.feather")
    table.to_csv(tmp_path / "plain.csv", index=False)
    compressed = {"gzip.csv": gzip.compress, "bzip.txt": bz2.compress, "xz.tsv": lzma.compress}
    for name, compress in compressed.items():
        (tmp_path / name).write_bytes(compress((tmp_path / "plain.csv").read_bytes()))
    for name in ("a.xlsx", "a.parquet", "a.feather"):
        (tmp_path / f"{name[2:]}.csv").write_bytes((tmp_path / name).read_bytes())
    for name in (*compressed, "xlsx.csv", "parquet.csv", "feather.csv"):
        assert tables.read(str(tmp_path / name)).rows["text"].tolist() == table["text"].tolist(), (
            name
        )
    table.to_pickle(tmp_path / "pickle.csv")
    with pytest.raises(PruneError, match="Python pickle.*to_parquet"):
        tables.read(str(tmp_path / "pickle.csv"))
    table.to_json(tmp_path / "split.json", orient="split")
    assert tables.read(str(tmp_path / "split.json")).rows.to_dict("records") == RECORDS


def test_the_sheet_with_most_rows_is_read(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"Export of": ["reviews"]}).to_excel(book, sheet_name="Info", index=False)
        pd.DataFrame(RECORDS).to_excel(book, sheet_name="Rows", index=False)
    table = tables.read(str(tmp_path / "a.xlsx"))
    assert len(table.rows) == 4 and table.description == "sheet 'Rows' of 2"


GERMEVAL = (
    "#\tn-tv.de\n1\tJohn\tB-PER\tO\n2\tsang\tO\tO\n\n#\tx\n1\tHallo\tO\tO\n2\tBonn\tB-LOC\tB-X\n"
)
SENTENCES = [["John", "sang"], ["Hallo", "Bonn"]]
KAGGLE = (
    "Sentence #,Word,POS,Tag\nSentence: 1,John,NNP,B-PER\n,sang,VB,O\nSentence: "
    "2,Hallo,UH,O\n,Bonn,NNP,B-LOC\n"
)


@pytest.mark.parametrize(
    ("name", "content", "description"),
    [
        ("a.conll", GERMEVAL, "word in cell 2 and tag in cell 3"),
        ("a.txt", GERMEVAL, "word in cell 2"),
        (
            "a.conll",
            "# id 1 domain=en\nJohn NNP x B-PER\nsang VB x O\n\n# id 2 domain=en\nHallo UH x "
            "O\nBonn N x B-LOC\n",
            "per line",
        ),
        (
            "a.tsv",
            "word\ttag\nJohn\tB-PER\nsang\tO\n\nHallo\tO\nBonn\tB-LOC\n",
            "one word per line",
        ),
        ("a.csv", KAGGLE, "grouped by column 'Sentence #'"),
        (
            "a.csv",
            "sentence_id,words,labels\n0,John,B-PER\n0,sang,O\n1,Hallo,O\n1,Bonn,B-LOC\n",
            "column 'sentence_id'",
        ),
    ],
)
def test_files_with_one_word_per_line_or_row_are_grouped_into_sentences(
    tmp_path: Path, name: str, content: str, description: str
) -> None:
    (tmp_path / name).write_text(content)
    table = tables.read(str(tmp_path / name))
    assert table.rows["tokens"].tolist() == SENTENCES and description in table.description
    assert table.rows["ner_tags"].tolist() == [["B-PER", "O"], ["O", "B-LOC"]]
    assert table.rows.index.name == "line"
    task = task_data.load(
        DataSource(str(tmp_path / name), calibration=str(tmp_path / name)),
        tiny.TAGS + ("B-LOC",),
        kind="token",
    )
    assert task.evaluation.labels == [[1, 0], [0, 3]]


def test_hashtags_are_words_and_word_numbers_without_tags_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("#bonn B-LOC\nis O\n\n# O\nyes O\n")
    assert tables.read(str(tmp_path / "a.conll")).rows["tokens"].tolist() == [
        ["#bonn", "is"],
        ["#", "yes"],
    ]
    (tmp_path / "b.conll").write_text("1\tJohn\tNNP\n2\tsang\tVB\n\n1\tBonn\tNNP\n2\tis\tVB\n")
    with pytest.raises(
        PruneError, match="running number.*write the word in the first cell and its tag in the last"
    ):
        tables.read(str(tmp_path / "b.conll"))
    (tmp_path / "c.csv").write_text(
        "sentence,word,label\nthe bank is closed,bank,1\na river bank,bank,0\n"
    )
    assert "tokens" not in tables.read(str(tmp_path / "c.csv")).rows


def test_a_title_above_the_column_names_of_a_sheet_raises(tmp_path: Path) -> None:
    rows = [
        ["Reviews of 2024", None],
        ["text", "label"],
        *([f"{LONG} {i}", i % 2] for i in range(9)),
    ]
    pd.DataFrame(rows).to_excel(tmp_path / "a.xlsx", index=False, header=False)
    with pytest.raises(PruneError, match=r"row 2: the column names .* below 1 other row; delete"):
        tables.read(str(tmp_path / "a.xlsx"))
    pd.DataFrame(rows[1:]).to_excel(tmp_path / "a.xlsx", index=False, header=False)
    assert len(tables.read(str(tmp_path / "a.xlsx")).rows) == 9
