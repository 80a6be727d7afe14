"""Retrieval collections of the Hub: the layouts of BEIR, MTEB and NanoBEIR."""

from pathlib import Path

import pandas as pd
import pytest
import tiny

from prune_core import PruneError
from prune_core.data import hub
from prune_core.data.examples import DataSource
from prune_core.processes.dataset_preview import fetch_rows
from prune_core.tasks import task_data

COLLECTION = tiny.collection()
CORPUS = pd.DataFrame({"_id": COLLECTION.document_ids, "title": "", "text": COLLECTION.documents})
QUERIES = pd.DataFrame({"_id": COLLECTION.query_ids, "text": COLLECTION.queries})
QRELS = pd.DataFrame(
    [
        (query, document, int(grade))
        for query, grades in COLLECTION.judgements.items()
        for document, grade in grades.items()
    ],
    columns=["query-id", "corpus-id", "score"],
)
REPOSITORIES = {  # id -> configuration -> split -> table
    "mteb/tiny": {
        "default": {"train": QRELS[:2], "test": QRELS},
        "corpus": {"corpus": CORPUS},
        "queries": {"queries": QUERIES},
    },
    "BeIR/tiny": {"corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}},
    "BeIR/tiny-qrels": {"default": {"validation": QRELS[:2], "test": QRELS}},
    "zeta-alpha-ai/NanoTiny": {
        "corpus": {"train": CORPUS.drop(columns="title")},
        "queries": {"train": QUERIES},
        "qrels": {"train": QRELS.drop(columns="score")},
    },
    "mteb/several": {
        f"de-{name}": {"test": table}
        for name, table in (("corpus", CORPUS), ("queries", QUERIES), ("qrels", QRELS))
    },
    "someone/no-judgements": {"corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}},
    "someone/pairs": {
        "default": {
            "test": pd.DataFrame({"sentence1": ["a", "b", "c"], "sentence2": ["a", "d", "e"]}),
        }
    },
}


def write_repository(folder: Path, configurations: dict[str, dict[str, pd.DataFrame]]) -> None:
    """Write parquet files and a README that lists configurations, as repositories of the Hub."""
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, table in splits.items():
            file = folder / name / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            table.to_parquet(file)
            lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


@pytest.fixture(scope="module", autouse=True)
def repositories(tmp_path_factory: pytest.TempPathFactory):
    """Make `datasets` read the repositories from folders instead of the Hub."""
    import datasets

    root = tmp_path_factory.mktemp("hub")
    for name, configurations in REPOSITORIES.items():
        write_repository(root / name, configurations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        for name in ("load_dataset", "load_dataset_builder", "get_dataset_split_names"):
            original = getattr(datasets, name)
            patch.setattr(
                datasets,
                name,
                lambda path, *args, _original=original, **options: _original(
                    str(root / path), *args, **options
                ),
            )
        yield
    hub._splits.cache_clear()
    hub._has_configuration.cache_clear()


def load(name: str, **options: str) -> task_data.Task:
    return task_data.load(DataSource(name, **options), ("embedding",), kind="embedding")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("mteb/tiny", ""),
        ("BeIR/tiny", ""),
        ("zeta-alpha-ai/NanoTiny", ""),
        ("mteb/several", "de"),
    ],
)
def test_collections_are_read_by_their_id(name: str, config: str) -> None:
    collection = load(name, config=config).collection
    assert collection is not None
    assert collection.documents == COLLECTION.documents
    assert collection.queries == COLLECTION.queries
    is_graded = "Nano" not in name
    assert collection.judgements["q2"] == {"d2": 2.0 if is_graded else 1.0, "d3": 1.0}


def test_the_split_chooses_the_judgements() -> None:
    collection = load("mteb/tiny", split="train").collection
    assert collection is not None and collection.query_ids == ("q0",)
    with pytest.raises(PruneError, match="mteb/tiny has no split 'dev'; choose another with --sp"):
        load("mteb/tiny", split="dev")


def test_missing_judgements_are_named() -> None:
    with pytest.raises(PruneError, match="someone/no-judgements-qrels is neither a local file nor"):
        load("someone/no-judgements")


def test_other_data_sets_and_models_are_read_as_before() -> None:
    pairs = load("someone/pairs")
    assert pairs.collection is None and pairs.evaluation.pairs is not None
    assert not task_data.is_collection(DataSource("mteb/tiny"), "classification")
    assert not task_data.is_collection(DataSource("mteb/tiny"), "regression")


def test_the_preview_shows_the_queries() -> None:
    assert [row["text"] for row in fetch_rows("mteb/tiny")] == list(COLLECTION.queries[:5])
