"""The measure `retrieval`: collections as data of a run, values, criteria, report and pages."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
import tiny
import torch
from streamlit.testing.v1 import AppTest
from test_embedding import by_sentence_transformers, write_folder

import prune_core as pc
from prune_core import PruneError, plots, views
from prune_core.analysis.compared_models import ComparedModel
from prune_core.cli.arguments import main
from prune_core.cli.terminal import formats_table
from prune_core.data import in_memory, retrieval_files
from prune_core.data.examples import DataSource, Examples
from prune_core.data.retrieval_metrics import ndcg_at
from prune_core.deployment.policy import default_policy
from prune_core.experiments.content_hashes import hash_data
from prune_core.experiments.data_check import inspect_data
from prune_core.experiments.experiment import Experiment
from prune_core.measures import MEASURES, retrieval
from prune_core.measures.cost import as_deployed, size_on_disk
from prune_core.measures.deployment_formats import deployed_quality, source
from prune_core.measures.retrieval import (
    embed,
    embed_collection,
    embed_documents,
    pruned_embeddings,
)
from prune_core.methods import METHODS
from prune_core.models import embedding
from prune_core.models.devices import seed_everything
from prune_core.models.export.formats import FORMATS
from prune_core.models.inference.predict import predict
from prune_core.plugins import build, no_report
from prune_core.processes import inspector_client
from prune_core.queue import jobs
from prune_core.store.store import Store
from prune_core.tasks import task_data
from prune_core.tasks.encoding import encode
from prune_core.views import retrieval as view

APP = str(Path(__file__).resolve().parent.parent / "app.py")
LABELS = ("embedding",)
CRITERIA = {"old_index_loss", "index_keeping_loss"}


def write_collection(folder: Path) -> Path:
    """Write the tiny collection as a BEIR folder, with one query without judgements."""
    found = tiny.collection()
    texts = {
        "corpus": zip(found.document_ids, found.documents, strict=True),
        "queries": [*zip(found.query_ids, found.queries, strict=True), ("q99", "a quiet film")],
    }
    (folder / "qrels").mkdir(parents=True)
    for name, rows in texts.items():
        lines = [json.dumps({"_id": id, "text": text}) + "\n" for id, text in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    lines = [
        f"{query}\t{document}\t{grade:g}\n"
        for query, grades in found.judgements.items()
        for document, grade in grades.items()
    ]
    (folder / "qrels" / "test.tsv").write_text("".join(["query-id\tcorpus-id\tscore\n", *lines]))
    (folder / "qrels" / "dev.tsv").write_text("".join(["query-id\tcorpus-id\tscore\n", *lines[:4]]))
    return folder


def load(task: Path | str, **options) -> task_data.Task:
    return task_data.load(DataSource(str(task), **options), LABELS, kind="embedding")


# -- data ----------------------------------------------------------------------------------------


def test_a_folder_is_read_as_a_collection(tmp_path):
    task = load(write_collection(tmp_path / "beir"))
    found = tiny.collection()
    assert task.evaluation == Examples(list(found.queries), kind="embedding")
    assert task.collection is not None and task.collection.documents == found.documents
    # queries with judgements are not used for calibration
    assert task.calibration.texts == [*found.documents, "a quiet film"]
    assert task.metric == "cosine_to_dense" and "6 judged queries" in task.notes[0]
    assert "12 documents, 12 judgements" in task.notes[0]
    assert len(load(tmp_path / "beir", split="dev").evaluation) == 2
    with pytest.raises(PruneError, match=r"no judgements qrels/train.tsv; it has dev, test"):
        load(tmp_path / "beir", split="train")


def test_a_sample_of_queries_keeps_all_documents(tmp_path):
    task = load(write_collection(tmp_path / "beir")).subsample(5, 3, seed=1)
    assert task.collection is not None
    assert len(task.calibration) == 5 and len(task.collection.documents) == 12
    assert list(task.collection.queries) == task.evaluation.texts and len(task.evaluation) == 3
    again = load(tmp_path / "beir").subsample(5, 3, seed=1)
    assert again.calibration == task.calibration and again.evaluation == task.evaluation


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("query positive", True),
        ("query positive negative", True),
        ("anchor positive", True),
        ("query document", True),
        ("question answer", True),
        ("question answer label", False),
        ("query document score", False),  # no query has two documents
        ("sentence1 sentence2 score", False),
        ("sentence1 sentence2", False),
        ("text label", False),
    ],
)
def test_tables_of_queries_are_collections_and_scored_pairs_are_not(columns, expected):
    names = columns.split()
    rows = [[f"{name} {place}" for name in names] for place in range(4)]
    assert retrieval_files.holds_queries(pd.DataFrame(rows, columns=names)) is expected


def test_candidates_of_queries_are_a_collection_unless_columns_are_set(tmp_path):
    file = tmp_path / "candidates.csv"
    rows = [(f"query {place // 3}", f"text {place}", place % 3 == 0) for place in range(12)]
    pd.DataFrame(rows, columns=["query", "document", "label"]).astype({"label": int}).to_csv(
        file, index=False
    )
    task = load(file)
    assert task.collection is not None and len(task.evaluation) == 4
    pairs = load(file, text="query", text_pair="document", label="label")
    assert pairs.collection is None and pairs.evaluation.pairs is not None
    assert task_data.is_collection(DataSource(str(file)), "classification") is False


def test_another_collection_can_be_used_for_calibration(tmp_path):
    folder = write_collection(tmp_path / "beir")
    pairs = tmp_path / "pairs.csv"
    pd.DataFrame({"query": ["who", "what"], "positive": ["a man", "a plan"]}).to_csv(
        pairs, index=False
    )
    assert load(folder, calibration=str(pairs)).calibration.texts == ["a man", "a plan"]


def test_every_file_of_a_collection_is_hashed(tmp_path):
    folder = write_collection(tmp_path / "beir")
    (folder / "README.md").write_text("not data")
    names = [name for name, _ in hash_data(str(folder))]
    assert names == ["corpus.jsonl", "qrels/dev.tsv", "qrels/test.tsv", "queries.jsonl"]
    cranfield = tmp_path / "cranfield"
    cranfield.mkdir()
    for name in retrieval_files.CRANFIELD:
        (cranfield / name).write_text(name)
    assert [name for name, _ in hash_data(str(cranfield))] == sorted(retrieval_files.CRANFIELD)


def test_the_data_check_accepts_a_collection(tmp_path):
    folder = write_collection(tmp_path / "beir")
    checkpoint = write_folder(tmp_path / "model")
    experiment = Experiment(
        checkpoint,
        source=DataSource(str(folder)),
        evaluation_size=4,
        measures=(build(MEASURES, "retrieval"),),
    )
    checked = inspect_data(experiment)
    assert "error" not in checked and checked["kind"] == "embedding"
    assert checked["evaluation"] == 4 and not checked["labelled"]
    assert any(note.startswith("Retrieval collection: 6 judged") for note in checked["notes"])


# -- values --------------------------------------------------------------------------------------


def brute_force(queries: np.ndarray, documents: np.ndarray) -> list[float]:
    """Return nDCG@10 of each query from the full matrix of cosines."""
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        documents / np.linalg.norm(documents, axis=1, keepdims=True)
    ).T
    values = []
    for row, judged in zip(cosines, tiny.collection().judged, strict=True):
        grades = np.zeros(len(row))
        grades[judged.documents] = judged.grades
        values.append(ndcg_at(grades[np.argsort(-row)], judged.grades))
    return values


def test_values_equal_those_of_a_full_search():
    dense = tiny.model(kind="embedding")
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": 0.7}).prune(pruned, [], no_report)
    pair, found = tiny.retrieval_pair(dense, pruned), tiny.collection()
    rows = build(MEASURES, "retrieval", {"resamples": 200}).measure(pair, no_report)
    vectors = {
        (side, part): np.array(
            predict(model, pair.tokenizer, Examples(list(texts), kind="embedding")).predicted
        )
        for side, model in (("dense", dense), ("pruned", pruned))
        for part, texts in (("queries", found.queries), ("documents", found.documents))
    }
    assert len(rows["retrieval"]) == 4
    for (queries, index), chosen in rows["retrieval_query"].groupby(["queries", "index"]):
        expected = brute_force(vectors[queries, "queries"], vectors[index, "documents"])
        np.testing.assert_allclose(chosen["ndcg_at_10"], expected, atol=1e-9)
    kept = view.cell_rows(rows["retrieval"], view.KEPT).iloc[0]
    cosine = (vectors["dense", "queries"] * vectors["pruned", "queries"]).sum(1).mean()
    assert kept["query_cosine"] == pytest.approx(cosine, abs=1e-6)
    assert kept["n"] == 6 and kept["ndcg_at_10_low"] <= kept["ndcg_at_10"]
    alone = build(MEASURES, "retrieval", {"resamples": 200}).measure(
        tiny.retrieval_pair(dense, dense), no_report
    )
    assert alone["retrieval"].equals(rows["retrieval"].iloc[:1])


def test_prompts_of_queries_and_documents_are_used():
    model = tiny.model(kind="embedding")
    pair = tiny.retrieval_pair(model, model)
    plain = build(MEASURES, "retrieval", {"resamples": 100}).measure(pair, no_report)
    model.config.sentence_embedding["settings"] = {
        "prompts": {"query": "query: ", "document": "passage: "}
    }
    pair = tiny.retrieval_pair(model, model)
    build(MEASURES, "retrieval", {"resamples": 100}).measure(pair, no_report)
    queries, documents = pair.memo["retrieval"]
    for vectors, texts, prompt in (
        (queries, pair.task.evaluation.texts, "query: "),
        (documents, tiny.SENTENCES, "passage: "),
    ):
        expected = embed(pair, model, texts, prompt=prompt, noun="", report=no_report)
        np.testing.assert_allclose(vectors, expected)
    assert len(plain["retrieval"]) == 1


def test_calibration_texts_have_the_prompt_of_their_role(tmp_path):
    model = tiny.model(kind="embedding")
    model.config.sentence_embedding["settings"] = {
        "prompts": {"query": "query: ", "passage": "passage: ", "other": "other: "},
        "default_prompt_name": "other",
    }
    tokenizer = copy.deepcopy(tiny.tokenizer())
    embedding.prepare_tokenizer(tokenizer, model.config, "tiny")
    sample = load(write_collection(tmp_path / "beir")).calibration.take([0, 12])
    assert sample.texts == [tiny.SENTENCES[0], "a quiet film"]
    for examples, prompts in (
        (sample, ("passage: ", "query: ")),
        (dataclasses.replace(sample, roles=None), ("other: ", "other: ")),
    ):
        texts = [prompt + text for prompt, text in zip(prompts, sample.texts, strict=True)]
        assert encode(tokenizer, examples, 64).inputs["input_ids"] == tokenizer(texts)["input_ids"]


def test_python_functions_take_collections(tmp_path):
    folder = write_collection(tmp_path / "beir")
    found = tiny.collection()
    queries = dict(zip(found.query_ids, found.queries, strict=True)) | {"q99": "a quiet film"}
    corpus = {
        name: {"title": "", "text": text}
        for name, text in zip(found.document_ids, found.documents, strict=True)
    }
    dicts = (corpus, queries, found.judgements)
    model, tokenizer = tiny.model(kind="embedding"), tiny.tokenizer()
    pruned, *others = (
        pc.prune(model, tokenizer, each, "wanda", sparsity=0.5)
        for each in ([*found.documents, "a quiet film"], folder, dicts)
    )
    for other in others:
        expected = pruned.state_dict()
        assert all(torch.equal(expected[name], each) for name, each in other.state_dict().items())

    named = dict(zip(("corpus", "queries", "qrels"), dicts, strict=True))
    options = {"retrieval": {"resamples": 100}}
    of_folder, of_dicts = (
        pc.compare(model, pruned, tokenizer, data, ["retrieval"], options=options)
        for data in (folder, dicts)
    )
    assert len(of_folder.rows["retrieval"]) == 1 + 4 and "6 judged queries" in of_folder.notes[0]
    pd.testing.assert_frame_equal(of_folder.rows["retrieval"], of_dicts.rows["retrieval"])
    assert in_memory.read_collection(named) == in_memory.read_collection(dicts)
    assert in_memory.read_collection(found) is found
    with pytest.raises(PruneError, match="for embedding models, and this is a BertForSequence"):
        pc.compare(tiny.model(), tiny.model(), tokenizer, dicts)
    with pytest.raises(PruneError, match="is not a retrieval collection of an embedding model"):
        pc.prune(tiny.model(), tokenizer, str(folder))


def test_a_task_without_a_collection_is_an_error():
    model = tiny.model(kind="embedding")
    pair = tiny.retrieval_pair(model, model)
    object.__setattr__(pair.task, "collection", None)
    with pytest.raises(PruneError, match="the columns query and positive"):
        build(MEASURES, "retrieval").measure(pair, no_report)


# -- product -------------------------------------------------------------------------------------


def test_default_policy_depends_on_scored_pairs():
    assert set(default_policy("embedding", "cosine_to_dense").limits) == CRITERIA
    assert set(default_policy("embedding", "spearman_cosine").limits) == {"accuracy_loss"}


def test_means_over_seeds_keep_negative_bounds():
    models = [ComparedModel(1, "AKR 50%", "akr", 0.5, runs=(1, 2))]
    rows = pd.DataFrame(
        {"queries": "pruned", "index": "dense", "ndcg_at_10_p": 0.5, "n": 6}, index=[0, 1]
    ).assign(job=[1, 2], label="AKR 50%", seed=[0, 1])
    for value, low, high in view.VIEW.tables["retrieval"].intervals:
        rows = rows.assign(**{value: [-0.1, -0.2], low: -0.3, high: 0.1})
    mean = views.pooled("retrieval", rows, models).iloc[0]
    assert mean["ndcg_at_10_difference"] == pytest.approx(-0.15)
    assert mean["ndcg_at_10_difference_low"] < -0.2 and mean["ndcg_at_10_low"] == 0
    assert np.isnan(mean["ndcg_at_10_p"])


def test_from_folder_to_verdict(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    folder = write_collection(tmp_path / "beir")
    command = ["run", "--checkpoint", write_folder(tmp_path / "model"), "--device", "cpu"]
    command += ["--task", str(folder), "--measure", "retrieval", "--set", "retrieval.resamples=500"]
    assert main(command) == 0, capsys.readouterr().err
    out = tmp_path / "out.json"
    pruned = [*command, "--method", "akr", "--sparsity", "0.5", "--json", str(out)]
    assert main(pruned) == 0, capsys.readouterr().err
    result = json.loads(out.read_text())
    assert len(result["rows"]["retrieval"]) == 4 and len(result["rows"]["retrieval_query"]) == 24
    capsys.readouterr()
    assert main(["show", "2"]) == 0
    shown = capsys.readouterr().out
    assert "nDCG@10, old index" in shown and "Top 10 kept" in shown
    assert "against re-embedding" in shown, "the verdict"
    checked = tmp_path / "check.json"
    assert main(["check", "2", "--json", str(checked)]) in (0, 1, 3)
    assert "against re-embedding" in capsys.readouterr().out
    assert len(json.loads(checked.read_text())["advice"]) == 1
    verdicts = json.loads(checked.read_text())["verdicts"]
    assert {verdict["criterion"] for verdict in verdicts} == CRITERIA
    assert all(verdict["n"] == 6 for verdict in verdicts)
    report = tmp_path / "report.html"
    assert main(["report", "1", "2", "--out", str(report)]) == 0
    text = report.read_text()
    assert "Can the old index be kept?" in text and "against re-embedding" in text


def hits(*documents: str, relevant: str = "") -> list[dict]:
    return [
        {"document": name, "text": name, "grade": float(name in relevant)} for name in documents
    ]


def test_inspect_shows_what_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    before, after = hits("a", "b", "c", relevant="c"), hits("b", "a", "d")

    def search(self, checkpoints, text, data, pooling):
        found = {"old_index": before, "reembedded": before, "relevant": 1}
        return [found, found | {"old_index": after}]

    monkeypatch.setattr(inspector_client.Inspector, "search", search)
    monkeypatch.setattr(inspector_client.Inspector, "start", lambda self: None)
    folder = str(write_collection(tmp_path / "beir"))
    command = ["run", "--checkpoint", write_folder(tmp_path / "model"), "--device", "cpu"]
    command += ["--task", folder, "--measure", "accuracy", "--study", "Search"]
    command += ["--measure", "retrieval", "--set", "retrieval.resamples=100"]
    for method in ([], ["--method", "magnitude"]):
        assert main([*command, *method]) == 0
    st.cache_data.clear()
    at = AppTest.from_file(APP, default_timeout=60).run()
    at.switch_page("pages/inspect.py").run()
    assert (
        not at.exception and at.selectbox(key=f"query-{folder}").value in tiny.collection().queries
    )
    assert_moves(at)
    at.query_params["step"] = "9"
    assert_moves(at.switch_page("pages/lesson.py").run())


def assert_moves(at):
    """The page shows what the second ranking changed of the first."""
    shown = {each.value for each in at.markdown}
    assert not at.exception
    assert any("keeps 2 of the dense model" in each.proto.body for each in at.get("html"))
    assert "**3** :green-badge[relevant, grade 1] :gray-badge[left]" in shown
    assert shown >= {
        f"**{rank}** :gray-badge[{move}]" for rank, move in enumerate(("▲ 1", "▼ 1", "new"), 1)
    }


# -- exported files ------------------------------------------------------------------------------


COLUMNS = {  # of the table formats: column of the table retrieval
    "score": "ndcg_at_10",
    "low": "ndcg_at_10_low",
    "high": "ndcg_at_10_high",
    "difference": "ndcg_at_10_difference",
    "difference_low": "ndcg_at_10_difference_low",
    "difference_high": "ndcg_at_10_difference_high",
    "agreement": "overlap_at_10",
}


def test_exported_files_embed_queries_and_documents(tmp_path):
    dense = tiny.model(kind="embedding")
    pruned = copy.deepcopy(dense)
    build(METHODS, "unit_magnitude", {"sparsity": 0.5}).prune(pruned, tiny.calibration(), no_report)
    pair = tiny.retrieval_pair(dense, pruned)
    measured = build(MEASURES, "retrieval").measure(pair, no_report)["retrieval"]
    expected = view.cell_rows(measured, view.REEMBEDDED).iloc[0]
    exported = source(pair, compact := as_deployed(pruned), tmp_path / "files")
    assert size_on_disk(compact) < size_on_disk(pruned)
    fp32, int8 = (FORMATS[format_name](exported) for format_name in ("ONNX fp32", "ONNX int8"))
    for model in (compact, fp32):
        row = deployed_quality(pair, model)
        assert (row["metric"], row["n"], row["documents"]) == ("ndcg_at_10", 6, 12)
        np.testing.assert_allclose(
            [row[name] for name in COLUMNS], [*expected[[*COLUMNS.values()]]], atol=1e-6
        )
    queries, documents = embed_collection(pair, int8, tiny.collection(), no_report)
    assert (queries - pruned_embeddings(pair, tiny.collection(), no_report)[0]).abs().max() > 1e-6
    score = np.mean(brute_force(queries.numpy(), documents.numpy()))
    row = deployed_quality(pair, int8)
    assert row["score"] == pytest.approx(score, abs=1e-9)
    dense_score = view.cell_rows(measured, view.BASELINE).iloc[0]["ndcg_at_10"]
    assert row["difference"] == pytest.approx(score - dense_score, abs=1e-9)


def test_exported_files_embed_a_sample_of_the_documents():
    dense = tiny.model(kind="embedding")
    pair = tiny.retrieval_pair(dense, dense)
    found = pair.task.collection.sample_queries(2, seed=0)
    pair = dataclasses.replace(pair, task=dataclasses.replace(pair.task, collection=found))
    options = {"formats": "PyTorch bf16", "batch": 2, "length": 8, "repeats": 3, "documents": 7}
    rows = build(MEASURES, "formats", options).measure(pair, no_report)["formats"]
    assert rows["documents"].tolist() == [7, 7] and rows["n"].tolist() == [2, 2]
    assert rows.loc[0, ["difference", "agreement"]].tolist() == [0, 1]
    assert deployed_quality(pair, dense, documents=0)["documents"] == 12


def test_exported_models_are_evaluated_on_scored_pairs():
    dense = tiny.model(kind="embedding")
    texts = tiny.SENTENCES
    scores = [place / len(texts) for place in range(len(texts))]
    found = Examples(list(texts), list(reversed(texts)), scores, "embedding")
    task = task_data.Task("tiny", LABELS, found, evaluation=found, metric="spearman_cosine")
    pair = dataclasses.replace(tiny.retrieval_pair(dense, dense), task=task)
    accuracy = build(MEASURES, "accuracy").measure(pair, no_report)["accuracy"].iloc[0]
    row = deployed_quality(pair, dense)
    assert (row["metric"], row["n"], row["difference"]) == ("spearman_cosine", 12, 0)
    assert row["score"] == accuracy["score"] and "documents" not in row


def test_show_has_a_table_of_exported_files():
    row = {"model": "pruned", "format": "ONNX int8", "metric": "ndcg_at_10", "n": 60}
    row |= {"score": 0.609, "difference": -0.101, "difference_low": -0.152}
    row |= {"difference_high": -0.048, "speedup": 1.389, "bytes": 20_600_000}
    files = pd.DataFrame([row | {"documents": 5000, "collection_documents": 9000}])
    _, sentence, header, line = formats_table(files)
    assert "(60 queries, each file embeds queries and 5\u2009000 documents (the judged" in sentence
    assert "of 9\u2009000; values are higher than on all)" in sentence
    columns = "MODEL FORMAT nDCG@10 DIFFERENCE (POINTS) SPEED-UP SIZE"
    assert header.split() == columns.split()
    expected = "pruned ONNX int8 60.9% −10.1 (−15.2 to −4.8) 1.39 20.6 MB"
    assert line.split() == expected.split()
    assert formats_table(files.iloc[:0]) == []


def test_exported_rerankers_are_evaluated_by_query():
    dense = tiny.model(kind="regression")
    pair = tiny.reranking_pair(dense, dense)
    row, accuracy = deployed_quality(pair, dense), pair.rows["accuracy"].iloc[0]
    assert (row["metric"], row["n"]) == ("ndcg_at_10", 3)
    assert row["score"] == pytest.approx(accuracy["score"], abs=1e-9)


def test_embeddings_of_the_pruned_model_are_computed_once(monkeypatch):
    dense = tiny.model(kind="embedding")
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": 0.5}).prune(pruned, [], no_report)
    names = {
        "retrieval": {"resamples": 200},
        "query_attack": {"examples": 3, "recipes": "DeepWordBug", "query_budget": 30, "k": 2},
        "corpus_poisoning": {"k": 2, "words": 4, "steps": 2, "candidates": 2},
    }
    measures = [build(MEASURES, name, options) for name, options in names.items()]
    separate = {}
    for measure in measures:
        seed_everything(0)
        separate |= measure.measure(tiny.retrieval_pair(dense, pruned), no_report)
    models = []
    monkeypatch.setattr(
        retrieval,
        "embed_documents",
        lambda pair, model, *others: models.append(model) or embed_documents(pair, model, *others),
    )
    pair, together = tiny.retrieval_pair(dense, pruned), {}
    for measure in measures:
        seed_everything(0)
        together |= measure.measure(pair, no_report)
    assert models == [dense, pruned], "each model embeds the documents once"
    assert together.keys() == separate.keys()
    for name, rows in separate.items():
        measured = [column for column in rows if column != "seconds"]
        pd.testing.assert_frame_equal(together[name][measured], rows[measured])
    assert not dataclasses.replace(pair, pruned=dense).pruned_memo


def test_rotated_queries_are_exported(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    command = ["run", "--checkpoint", write_folder(tmp_path / "model"), "--device", "cpu"]
    command += ["--task", str(write_collection(tmp_path / "beir")), "--method", "magnitude"]
    command += ["--measure", "retrieval", "--set", "retrieval.resamples=500"]
    assert main([*command, "--set", "retrieval.align=true"]) == 0, capsys.readouterr().err
    assert main(["export", "1", str(tmp_path / "plain")]) == 0
    assert "do not embed documents" not in capsys.readouterr().out
    assert main(["export", "1", str(tmp_path / "rotated"), "--align"]) == 0
    assert "do not embed documents" in capsys.readouterr().out
    card = (tmp_path / "rotated" / "README.md").read_text()
    assert "**For queries only.**" in card and 'SentenceTransformer("rotated")' in card
    modules = json.loads((tmp_path / "rotated" / "modules.json").read_text())
    names = ["", "1_Pooling", "2_Dense", "3_Dense", "4_Normalize"]
    assert [module["path"] for module in modules] == names
    rotation = np.stack(Store().rows("retrieval_rotation", [1])["rotation"])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(16), atol=1e-9)
    plain, rotated = (by_sentence_transformers(tmp_path / name) for name in ("plain", "rotated"))
    np.testing.assert_allclose(rotated, plain @ rotation, atol=1e-5)
    assert np.abs(rotated - plain).max() > 1e-3
    assert main(command) == 0 and main(["export", "2", str(tmp_path / "none"), "--align"]) == 2
    advice = "remeasure 2 retrieval --set retrieval.align=true"
    assert advice in capsys.readouterr().err and main(advice.split()) == 0
    job = str(Store().jobs()[-1].id)
    assert main(["export", job, str(tmp_path / "none"), "--align"]) == 0


def test_the_axis_of_index_cells_starts_near_the_values():
    model = ComparedModel(1, "Magnitude 50%", "magnitude", 0.5)
    columns = ["queries", "index", "ndcg_at_10", "ndcg_at_10_low", "ndcg_at_10_high"]
    cells = [("dense", "dense", 0.7, 0.6, 0.8), ("pruned", "dense", 0.65, 0.55, 0.75)]
    rows = pd.DataFrame(cells, columns=columns).assign(job=1)
    low, high = plots.index_cells(rows, [model]).layout.yaxis.range
    assert (low, high) == pytest.approx((0.53, 0.82))
