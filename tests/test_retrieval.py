"""Retrieval: collections from files, metrics against judgements, exact search."""

import gzip
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from prune_core import PruneError
from prune_core.data.delimited import Dialect
from prune_core.data.dropped_rows import RowQuestion
from prune_core.data.exact_search import first_largest, top_k
from prune_core.data.retrieval import collection
from prune_core.data.retrieval_files import (
    FILES,
    is_collection,
    read_collection,
    read_judgements,
    read_run,
    read_texts,
    read_trec,
)
from prune_core.data.retrieval_metrics import (
    RETRIEVAL_METRICS,
    Judged,
    mean_precision,
    mrr_at,
    ndcg_at,
    overlap_at,
    ranked_grades,
    recall_at,
    values_by_query,
)
from prune_core.data.retrieval_pairs import read_pairs

CRANFIELD = Path(__file__).resolve().parents[2] / "shared" / "data" / "cranfield"
SKIP = Dialect(bad_rows="skip")
CORPUS = [
    {"_id": "d1", "title": "Cats", "text": "They sleep.", "metadata": {}},
    {"_id": "d2", "title": "", "text": "Dogs bark.", "metadata": {}},
    {"_id": "d3", "title": "Birds", "text": "They sing.", "metadata": {}},
]
QUERIES = [{"_id": "q1", "text": "which pet sleeps"}, {"_id": "q2", "text": "which pet barks"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t1\nq2\td2\t1\n"


def write_lines(path: Path, records) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def beir(folder: Path, corpus=CORPUS, queries=QUERIES, qrels=QRELS) -> str:
    """Write a BEIR folder."""
    (folder / "qrels").mkdir(parents=True)
    write_lines(folder / "corpus.jsonl", corpus)
    write_lines(folder / "queries.jsonl", queries)
    (folder / "qrels" / "test.tsv").write_text(qrels, encoding="utf-8")
    return str(folder)


# ---- collections


def test_beir_folder(tmp_path):
    read = read_collection(beir(tmp_path / "beir"))
    assert read.query_ids == ("q1", "q2") and read.queries == (
        "which pet sleeps",
        "which pet barks",
    )
    assert read.document_ids == ("d1", "d2", "d3")
    assert read.documents == ("Cats They sleep.", "Dogs bark.", "Birds They sing.")
    assert read.judgements == {"q1": {"d1": 2, "d3": 1}, "q2": {"d2": 1}}
    assert read.candidates == {} and read.notes == ()
    assert [each.documents.tolist() for each in read.judged] == [[0, 2], [1]]
    assert [each.grades.tolist() for each in read.judged] == [[2, 1], [1]]


def test_beir_folder_compressed_without_split(tmp_path):
    folder = Path(beir(tmp_path))
    for name in ("corpus", "queries"):
        plain = folder / f"{name}.jsonl"
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    (folder / "qrels" / "test.tsv").unlink()
    (folder / "qrels.tsv.gz").write_bytes(gzip.compress(QRELS.encode()))
    assert read_collection(str(folder)).judgements["q1"] == {"d1": 2, "d3": 1}


def test_choice_of_split(tmp_path):
    folder = Path(beir(tmp_path))
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td3\t1\n")
    assert read_collection(str(folder)).judgements["q2"] == {"d2": 1}
    dev = read_collection(str(folder), split="dev")
    assert dev.judgements == {"q2": {"d3": 1}}
    assert dev.notes == ("1 query without judgement or text left out.",)
    with pytest.raises(PruneError, match=r"no judgements qrels/train.tsv; it has dev, test"):
        read_collection(str(folder), split="train")


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("collection.tsv", "queries.dev.small.tsv", "qrels.dev.small.tsv"), ""),
        (("collection.tsv", "queries.dev.tsv", "qrels.dev.small.tsv"), "dev.small"),
        (("docs.tsv", "msmarco-test2019-queries.tsv", "2019qrels-pass.txt"), ""),
        (("documents.tsv", "topics.tsv", "qrels.txt"), ""),
    ],
)
def test_folders_of_ms_marco_and_trec(tmp_path, names, split):
    contents = (
        '7\tCats "sleep.\n8\tDogs bark.\n9\tBirds sing.\n',
        "1\twhich pet sleeps\n2\twhich pet barks\n",
        "1 0 7 2\n2 0 8 1\n",
    )
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_text(content)
    if "collection.tsv" in names:  # other splits are not chosen
        (tmp_path / "queries.train.tsv").write_text("3\twhich pet sings\n")
        (tmp_path / "qrels.train.tsv").write_text("3\t0\t9\t1\n")
    assert is_collection(str(tmp_path))
    read = read_collection(str(tmp_path), split)
    assert read.documents == ('Cats "sleep.', "Dogs bark.", "Birds sing.")
    assert read.queries == ("which pet sleeps", "which pet barks")
    assert read.judgements == {"1": {"7": 2}, "2": {"8": 1}}
    assert {name for pattern in FILES for name in tmp_path.glob(pattern)} == {*tmp_path.iterdir()}
    if "collection.tsv" in names:
        assert read_collection(str(tmp_path), "train").judgements == {"3": {"9": 1}}


def test_queries_that_fit_no_judgements_are_named(tmp_path):
    for name in ("collection.tsv", "queries.a.tsv", "queries.b.tsv", "qrels.tsv"):
        (tmp_path / name).write_text("1\ta\n2\tb\n")
    with pytest.raises(PruneError, match=r"files of queries \(queries.a.tsv, .*queries.tsv"):
        read_collection(str(tmp_path))


def test_missing_files_are_named(tmp_path):
    folder = Path(beir(tmp_path / "a"))
    (folder / "queries.jsonl").unlink()
    with pytest.raises(PruneError, match=r"has no queries.jsonl; a retrieval folder holds"):
        read_collection(str(folder))
    folder = Path(beir(tmp_path / "b"))
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(PruneError, match="has no judgements; add qrels/test.tsv"):
        read_collection(str(folder))
    with pytest.raises(PruneError, match="no such file"):
        read_collection(str(tmp_path / "absent.csv"))


def test_judgements_of_unknown_documents_and_queries_are_counted(tmp_path):
    folder = beir(tmp_path, qrels=QRELS + "q2\td9\t1\nq2\td8\t1\nq7\td1\t1\n")
    message = r"3 of 6 judgements cannot .* 1 of unknown queries \('q7'\), 2 of unknown documents"
    with pytest.raises(RowQuestion, match=message):
        read_collection(folder)
    read = read_collection(folder, form=SKIP)
    assert read.judgements == {"q1": {"d1": 2, "d3": 1}, "q2": {"d2": 1}}
    assert "3 of 6 judgements left out" in read.notes[0]


def test_no_judgement_fits(tmp_path):
    folder = beir(tmp_path, qrels="query-id\tcorpus-id\tscore\n1\t1\t1\n")
    for form in (Dialect(), SKIP):
        with pytest.raises(PruneError, match="ids of the judgements must be those of the queries"):
            read_collection(folder, form=form)


def test_repeated_ids_and_conflicting_grades(tmp_path):
    folder = beir(tmp_path / "a", corpus=[*CORPUS, CORPUS[0]])
    with pytest.raises(PruneError, match=r"the id 'd1' occurs again in line 4 \(1 such row\)"):
        read_collection(folder)
    twice = pd.Series(["a", "b"], index=["d1", "d1"])
    with pytest.raises(PruneError, match=r"x: more than one document has the id 'd1' \(1 such id"):
        collection(twice, twice, pd.DataFrame(), name="x")
    folder = beir(tmp_path / "b", qrels=QRELS + "q1\td1\t1\n")
    with pytest.raises(PruneError, match="query 'q1' and document 'd1' have two different grades"):
        read_collection(folder)
    folder = beir(tmp_path / "c", qrels=QRELS + "q1\td1\t2\n")  # the same judgement twice
    assert read_collection(folder).judgements["q1"] == {"d1": 2, "d3": 1}


def test_empty_texts(tmp_path):
    queries = [QUERIES[0], {"_id": "q2", "text": " "}]
    folder = beir(tmp_path / "a", queries=queries)
    with pytest.raises(RowQuestion, match=r"1 judged query without text \('q2'\)"):
        read_collection(folder)
    assert read_collection(folder, form=SKIP).query_ids == ("q1",)
    folder = beir(tmp_path / "b", corpus=[*CORPUS, {"_id": "d4", "title": "", "text": ""}])
    with pytest.raises(PruneError, match=r"1 of 4 documents without text \('d4'\)"):
        read_collection(folder)
    many = [{"_id": f"e{i}", "text": f"text {i}"} for i in range(40)]
    folder = beir(tmp_path / "c", corpus=[*CORPUS, *many, {"_id": "d4", "text": ""}])
    assert read_collection(folder).notes == (
        "1 document without text remains in the index ('d4').",
    )
    folder = beir(tmp_path / "d", queries=[{"_id": "", "text": "x"}, *QUERIES])
    with pytest.raises(PruneError, match="line 1: the id is empty"):
        read_collection(folder)


def test_query_without_relevant_document_is_noted(tmp_path):
    folder = beir(tmp_path, qrels="query-id\tcorpus-id\tscore\nq1\td1\t0\nq2\td2\t1\n")
    assert read_collection(folder).notes == (
        "1 query without a relevant document, with the value 0.",
    )


def test_encodings(tmp_path):
    file = tmp_path / "documents.tsv"
    file.write_bytes("id\ttext\n1\tÜber große Änderungen\n2\tKöln\n".encode("utf-16"))
    assert read_texts(str(file)).tolist() == ["Über große Änderungen", "Köln"]
    file = tmp_path / "qrels.txt"
    file.write_bytes("1 0 dé 1\n".encode() + b"1 0 d\xe9 1\n" + "2 0 dé 1\n".encode() * 3)
    with pytest.raises(PruneError, match="line 2: the byte 0xe9 is not UTF-8"):
        read_judgements(str(file))
    assert read_judgements(str(file), Dialect(encoding="latin-1"))["document"].iloc[1] == "dé"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("qrels.trec", "q1 0 d1 2\nq1 0  d3\t1\nq2 0 d2 1 \n".replace("\t", " ")),
        ("qrels.txt", "q1\t0\td1\t2\nq1\t0\td3\t1\nq2\t0\td2\t1\n"),
        ("qrels", "q1 d1 2\r\nq1 d3 1\r\n\r\nq2 d2 1\r\n"),
        ("qrels.tsv", QRELS),
        ("qrels.csv", QRELS.replace("\t", ",")),
        ("qrels.csv", "qid,docno,label\nq1,d1,2\nq1,d3,1\nq2,d2,1\n"),
    ],
)
def test_forms_of_judgements(tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content, newline="")
    read = read_judgements(str(file))
    assert read.reset_index(drop=True).equals(
        pd.DataFrame(
            {"query": ["q1", "q1", "q2"], "document": ["d1", "d3", "d2"], "grade": [2.0, 1.0, 1.0]}
        )
    )


def test_judgements_as_parquet_without_grades_and_with_integer_ids(tmp_path):
    file = tmp_path / "qrels.parquet"
    pd.DataFrame({"query-id": [1, 2], "corpus-id": [10, 20]}).to_parquet(file)
    read = read_judgements(str(file))
    assert read["query"].tolist() == ["1", "2"] and read["document"].tolist() == ["10", "20"]
    assert read["grade"].tolist() == [1.0, 1.0]


def test_malformed_judgements_name_the_line(tmp_path):
    file = tmp_path / "qrels.txt"
    file.write_text("q1 0 d1 2\nq1 0 d3\n")
    with pytest.raises(PruneError, match="line 2, has 3 fields instead of 4"):
        read_judgements(str(file))
    file.write_text("q1 0 d1 2\nq1 0 d3 high\n")
    with pytest.raises(PruneError, match="line 2, column 'grade': 'high' is not a number"):
        read_judgements(str(file))
    csv = tmp_path / "qrels.csv"
    csv.write_text("a,b,score\n1,2,3\n4,5,6\n")
    with pytest.raises(PruneError, match="has the columns a, b, score; judgements need query-id"):
        read_judgements(str(csv))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("documents.tsv", '0012\tThe quick brown fox jumps\n0013\tIt said "no" again and again\n'),
        (
            "documents.tsv",
            'docno\ttext\n0012\tThe quick brown fox jumps\n0013\tIt said "no" again and again\n',
        ),
        (
            "documents.csv",
            'id,text\n0012,The quick brown fox jumps\n0013,"It said ""no"" again and again"\n',
        ),
    ],
)
def test_tables_of_documents(tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content)
    read = read_texts(str(file))
    assert read.index.tolist() == ["0012", "0013"]
    assert read.tolist() == ["The quick brown fox jumps", 'It said "no" again and again']


def test_tables_without_ids_or_texts_are_refused(tmp_path):
    file = write_lines(tmp_path / "corpus.jsonl", [{"name": "a", "text": "b"}])
    with pytest.raises(PruneError, match="no column of ids among name, text; name it _id"):
        read_texts(file)
    file = write_lines(tmp_path / "corpus.jsonl", [{"_id": "a", "words": "b"}])
    with pytest.raises(PruneError, match="no column of texts among _id, words; name it text"):
        read_texts(file)


def test_trec_files_with_a_run(tmp_path):
    documents = write_lines(tmp_path / "corpus.jsonl", CORPUS)
    queries = tmp_path / "topics.tsv"
    queries.write_text("q1\twhich of the pets sleeps\nq2\twhich of the pets barks\n")
    qrels, run = tmp_path / "qrels", tmp_path / "bm25.run"
    qrels.write_text("q1 0 d1 2\nq1 0 d3 1\nq2 0 d2 1\n")
    run.write_text(
        "q1 Q0 d2 1 7.5 bm25\nq1 Q0 d1 3 2.5 bm25\nq1 Q0 d3 2 2.5 bm25\nq2 Q0 d2 1 1e1 bm25\n"
    )
    read = read_trec(documents, str(queries), str(qrels), str(run))
    assert read.candidates == {"q1": ("d2", "d3", "d1"), "q2": ("d2",)}  # ties by rank
    assert read.is_first_stage_order
    assert read.candidate_positions("q1").tolist() == [1, 2, 0]
    assert read_run(str(run), depth=1)["q1"] == ("d2",)
    run.write_text("q1 Q0 d2 1 7.5 bm25\nq1 Q0 d9 2 2.5 bm25\n")
    with pytest.raises(
        RowQuestion, match=r"1 candidate not in the collection's documents \('d9'\)"
    ):
        read_trec(documents, str(queries), str(qrels), str(run))
    skipped = read_trec(documents, str(queries), str(qrels), str(run), form=SKIP)
    assert skipped.candidates == {"q1": ("d2",)}
    run.write_text("q9 Q0 d2 1 7.5 bm25\n")
    with pytest.raises(PruneError, match="no judged query has candidates"):
        read_trec(documents, str(queries), str(qrels), str(run))


def test_malformed_runs(tmp_path):
    run = tmp_path / "run.txt"
    run.write_text("q1 Q0 d2 1 7.5 a\nq1 Q0 d2 2 2.5 a\n")
    with pytest.raises(PruneError, match="line 2: document 'd2' occurs twice for query 'q1'"):
        read_run(str(run))
    run.write_text("q1 Q0 d2 1 high a\n")
    with pytest.raises(PruneError, match="line 1, column 'score': 'high' is not a number"):
        read_run(str(run))
    run.write_text("q1 d2 1\nq1 d3 2\n")
    with pytest.raises(PruneError, match="has 3 columns; a run file has six"):
        read_run(str(run))


SMART = """.I 1
.T
a title
.A
author
.W
a title
the text of one
.I 2
.T
.W
the text of two
.A
ignored
.W
continued
"""


def test_smart_files(tmp_path):
    file = tmp_path / "docs.all"
    file.write_text(SMART.replace("\n", "\r\n"), newline="")
    read = read_texts(str(file))
    assert read.to_dict() == {"1": "a title the text of one", "2": "the text of two continued"}


@pytest.mark.skipif(not CRANFIELD.is_dir(), reason="needs ../shared/data/cranfield")
def test_cranfield():
    read = read_collection(str(CRANFIELD))
    assert (len(read.queries), len(read.documents)) == (225, 1400)
    assert read.query_ids == tuple(str(number) for number in range(1, 226))
    assert read.queries[2].startswith("what problems of heat conduction in composite slabs")
    assert read.judgements["1"]["184"] == 7 and read.judgements["1"]["486"] == 0
    assert {grade for grades in read.judgements.values() for grade in grades.values()} == {
        *(0, 1, 3, 7, 15)
    }
    assert read.notes == ("2 documents without text remain in the index ('471', '995').",)


def test_pairs_share_documents_and_have_no_candidates(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("anchor,positive\nhow,by foot\nwhy,for fun\nhow,by bus\nwhere,by foot\n")
    read = read_pairs(str(file))
    assert read.queries == ("how", "why", "where")
    assert read.documents == ("by foot", "for fun", "by bus")
    assert read.judgements == {"q1": {"d1": 1, "d3": 1}, "q2": {"d2": 1}, "q3": {"d1": 1}}
    assert read.candidates == {}


def test_triples_and_lists(tmp_path):
    records = [
        {"query": "how", "pos": ["by foot", "by bus"], "neg": ["for fun", "by foot"]},
        {"query": "why", "pos": ["for fun"], "neg": ["by bus"]},
    ]
    read = read_collection(write_lines(tmp_path / "triples.jsonl", records))
    assert read.documents == ("by foot", "by bus", "for fun")
    assert read.judgements == {"q1": {"d1": 1, "d2": 1, "d3": 0}, "q2": {"d3": 1, "d2": 0}}
    assert read.candidates == {"q1": ("d1", "d2", "d3"), "q2": ("d3", "d2")}
    assert not read.is_first_stage_order  # positives are listed first


def test_candidates_per_query(tmp_path):
    rows = "query,passage,label,rank\nhow,by foot,2,2\nhow,for fun,0,1\nwhy,for fun,1,1\n"
    file = tmp_path / "candidates.csv"
    file.write_text(rows)
    read = read_pairs(str(file))
    assert read.judgements == {"q1": {"d1": 0, "d2": 2}, "q2": {"d1": 1}}
    assert read.documents == ("for fun", "by foot")
    assert read.candidates == {"q1": ("d1", "d2"), "q2": ("d1",)} and read.is_first_stage_order
    file.write_text(rows.replace("rank", "other"))
    assert not read_pairs(str(file)).is_first_stage_order
    with pytest.raises(PruneError, match="no column 'relevant'; it has query, passage"):
        read_pairs(str(file), positive="relevant")
    file.write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(PruneError, match="no column named query or question or anchor among a, b"):
        read_pairs(str(file))


def test_samples():
    ids = [f"d{i}" for i in range(50)]
    documents = pd.Series([f"text {i}" for i in range(50)], index=ids)
    queries = pd.Series(["a", "b", "c"], index=["q1", "q2", "q3"])
    judgements = pd.DataFrame(
        {"query": ["q1", "q2", "q3"], "document": ["d40", "d3", "d7"], "grade": [1.0, 1.0, 1.0]}
    )
    whole = collection(documents, queries, judgements, {"q2": ("d9", "d3")}, name="x")
    few = whole.sample_documents(10, seed=0)
    assert len(few.documents) == 10 and {"d40", "d3", "d7", "d9"} <= {*few.document_ids}
    assert few.documents == tuple(f"text {name[1:]}" for name in few.document_ids)
    assert few.document_ids[few.judged[0].documents[0]] == "d40"
    assert "10 of 50 documents" in few.notes[0] and whole.sample_documents(0, 0) is whole
    assert len(whole.sample_documents(1, seed=0).documents) == 4
    two = whole.sample_queries(2, seed=1)
    assert len(two.queries) == 2 == len(two.judged) and {*two.judgements} == {*two.query_ids}


# ---- metrics


def test_values_by_hand():
    judged = Judged(np.array([5, 2, 9, 7]), np.array([3.0, 1.0, 2.0, -1.0]))  # 9 is not retrieved
    ranked = ranked_grades([4, 2, 7, 5, -1], judged)
    assert ranked.tolist() == [0, 1, 0, 3, 0]
    ideal = 3 + 2 / np.log2(3) + 1 / 2
    assert ndcg_at(ranked, judged.grades) == pytest.approx(
        (1 / np.log2(3) + 3 / np.log2(5)) / ideal
    )
    assert ndcg_at(ranked, judged.grades, k=2) == pytest.approx(
        (1 / np.log2(3)) / (3 + 2 / np.log2(3))
    )
    ideal = 7 + 3 / np.log2(3) + 1 / 2
    assert ndcg_at(ranked, judged.grades, exponential=True) == pytest.approx(
        (1 / np.log2(3) + 7 / np.log2(5)) / ideal
    )
    assert mrr_at(ranked, judged.grades) == 1 / 2 and mrr_at(ranked, judged.grades, k=1) == 0
    assert recall_at(ranked, judged.grades) == 2 / 3
    assert recall_at(ranked, judged.grades, k=3) == 1 / 3
    assert mean_precision(ranked, judged.grades) == pytest.approx((1 / 2 + 2 / 4) / 3)


@pytest.mark.parametrize("metric", RETRIEVAL_METRICS.values())
def test_no_relevant_document_or_no_result_is_0(metric):
    assert metric(np.zeros(3), np.array([0.0, -1.0])) == 0.0
    assert metric(np.zeros(0), np.array([1.0])) == 0.0


def brute_force(ranking, grades, k):
    """(nDCG, MRR, recall at k, MAP) by the definitions; `grades`: document -> grade."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    gain = sum(
        max(grades.get(document, 0), 0) / np.log2(rank + 2)
        for rank, document in enumerate(ranking[:k])
    )
    ideal = sum(
        grade / np.log2(rank + 2)
        for rank, grade in enumerate(sorted((grades[d] for d in relevant), reverse=True)[:k])
    )
    first = next((rank for rank, d in enumerate(ranking[:k], 1) if d in relevant), None)
    precisions = [
        len(relevant & {*ranking[:rank]}) / rank
        for rank, document in enumerate(ranking, 1)
        if document in relevant
    ]
    if not relevant:
        return 0.0, 0.0, 0.0, 0.0
    recall = len(relevant & {*ranking[:k]}) / len(relevant)
    return gain / ideal, 1 / first if first else 0.0, recall, sum(precisions) / len(relevant)


def test_values_equal_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, k = int(rng.integers(2, 40)), int(rng.integers(1, 15))
        documents = rng.permutation(n)[: rng.integers(1, n + 1)]
        judged = Judged(documents, rng.integers(-1, 4, len(documents)).astype(float))
        ranking = rng.permutation(n)[: rng.integers(1, n + 1)].tolist()
        metrics = {
            "ndcg": partial(ndcg_at, k=k),
            "mrr": partial(mrr_at, k=k),
            "recall": partial(recall_at, k=k),
            "map": mean_precision,
        }
        values = values_by_query([ranking], [judged], metrics).iloc[0].tolist()
        grades = dict(zip(documents.tolist(), judged.grades.tolist(), strict=True))
        assert values == pytest.approx(brute_force(ranking, grades, k))


def test_overlap():
    first, second = (
        np.array([[1, 2, 3, 4], [5, 6, -1, -1]]),
        np.array([[2, 1, 9, 3], [7, 8, -1, -1]]),
    )
    assert overlap_at(first, second, 2).tolist() == [1.0, 0.0]
    assert overlap_at(first, second, 3).tolist() == pytest.approx([2 / 3, 0.0])
    assert overlap_at(first, second, 10).tolist() == [3 / 4, 0.0]


# ---- search


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
@pytest.mark.parametrize("normalize", [True, False])
def test_search_equals_a_full_sort_with_ties_by_position(chunk, normalize):
    rng = np.random.default_rng(2)
    documents = rng.normal(size=(23, 5)).astype(np.float32)
    documents[[20, 11, 4]] = documents[8]  # equal documents
    documents[17] = 0
    queries = rng.normal(size=(300, 5)).astype(np.float32)
    scores = queries.astype(float) @ documents.astype(float).T
    if normalize:
        scores /= np.linalg.norm(queries, axis=1, keepdims=True)
        scores /= np.maximum(np.linalg.norm(documents.astype(float), axis=1), 1e-30)
    order = np.lexsort((np.tile(np.arange(23), (300, 1)), -scores.round(8)))
    for k in (1, 6, 23, 50):
        found = top_k(queries, torch.tensor(documents), k, normalize=normalize, chunk=chunk)
        assert np.array_equal(found.positions, order[:, :k])
        expected = np.take_along_axis(scores, order[:, :k], axis=1)
        assert np.allclose(found.similarities, expected, atol=1e-6)


def test_search_converts_a_chunk_at_a_time():
    class Recorded:
        """Records the largest slice that is requested."""

        def __init__(self, rows):
            self.rows, self.largest = rows, 0

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, part):
            chosen = self.rows[part]
            self.largest = max(self.largest, len(chosen))
            return chosen

    documents = Recorded(torch.randn(100, 4).bfloat16())
    found = top_k(np.eye(4), documents, 3, chunk=16)
    assert found.positions.shape == (4, 3) and documents.largest == 16
    assert top_k(np.empty((0, 4)), documents, 3).positions.shape == (0, 3)


def test_vectors_that_are_no_numbers_are_refused():
    documents = np.ones((4, 2))
    documents[2, 0] = np.nan
    with pytest.raises(PruneError, match="1 of 4 document vectors from position 0 contains NaN"):
        top_k(np.ones((1, 2)), documents, 2)
    with pytest.raises(PruneError, match="1 of 1 query vector from position 0"):
        top_k(np.full((1, 2), np.inf), np.ones((4, 2)), 2)


def test_first_largest_takes_the_first_of_ties():
    scores = np.array([[1.0, 3, 3, 2, 3], [0, 0, 0, 0, 0], [5, 4, 3, 2, 1]])
    assert first_largest(scores, 2).tolist() == [[1, 2], [0, 1], [0, 1]]
    assert first_largest(scores, 9).tolist() == [[0, 1, 2, 3, 4]] * 3
