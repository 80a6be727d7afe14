"""Contract tests for all measures, and the dense model compared with itself."""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from test_seeds import assert_declared

from benchmarks.quantization import add_outlier_heads, add_outlier_neurons
from prune_core import Cancelled, PruneError
from prune_core.analysis.certified import VALUES as CERTIFIED
from prune_core.analysis.noise import VALUES
from prune_core.data.retrieval_metrics import RETRIEVAL_METRICS
from prune_core.measures import MEASURES
from prune_core.measures.accuracy import summary
from prune_core.measures.drift import adversarial_examples, distances
from prune_core.methods import METHODS
from prune_core.models.export.formats import FORMATS, ONNX, ExportSource
from prune_core.models.inference.predict import predict
from prune_core.plugins import build, no_report
from prune_core.statistics import mcnemar, paired_difference, wilson
from prune_core.tasks import TASK_TYPES
from prune_core.views.reranking import AVERAGED

SMALL = {
    "drift": {"neighbors": 3, "umap": False, "examples": 16},
    "cost": {"batch": 2, "length": 8, "repeats": 3},
    "formats": {
        "formats": ", ".join(FORMATS),
        "batch": 2,
        "length": 8,
        "repeats": 3,
        "attack_examples": 3,
    },
    "quantization": {"examples": 4},
    "threshold": {"resamples": 500},
    "retrieval": {"resamples": 500},
    "reranking": {"documents": 3, "repeats": 3, "resamples": 500},
    "query_attack": {"examples": 3, "recipes": "DeepWordBug", "query_budget": 30, "k": 2},
    "corpus_poisoning": {"k": 2, "words": 4, "steps": 2, "candidates": 2},
    "noise": {"resamples": 100},
    "certified": {"samples": 40, "label_samples": 10},
    "attack": {"examples": 2, "recipes": "DeepWordBug", "query_budget": 30},
}
KINDS = {
    "reranking": "regression",
    **dict.fromkeys(("retrieval", "query_attack", "corpus_poisoning"), "embedding"),
}
PAIRS = {"embedding": tiny.retrieval_pair, "regression": tiny.reranking_pair}
DIFFERENCE = ("_difference", "_difference_low", "_difference_high")
COLUMNS = {
    "accuracy": "metric n score dense_score f1 dense_f1 matthews dense_matthews dense_accuracy "
    "dense_low dense_high accuracy low high difference difference_low difference_high "
    "agreement divergence broken fixed p_value",
    "prediction": "example text pair label dense pruned dense_probabilities pruned_probabilities",
    "retrieval": " ".join(
        [
            "queries index n depth overlap_at_10 overlap_at_100 query_cosine document_cosine",
            *(
                f"{name}{end}"
                for name in RETRIEVAL_METRICS
                for end in ("", "_low", "_high", *DIFFERENCE, "_p")
            ),
        ]
    ),
    "retrieval_query": "queries index query overlap_at_10 overlap_at_100 "
    + " ".join(RETRIEVAL_METRICS),
    "corpus_poisoning": "passage k n succeeded success_rate success_low success_high start_rate "
    "train_rate start_similarity similarity steps start text",
    "corpus_poisoning_query": "passage example text split start_rank rank outcome",
    "reranking": "documents latency_p50 dense_latency_p50 other_load n candidates "
    + " ".join(f"{name}{end}" for name in AVERAGED for end in ("", "_low", "_high")),
    "reranking_query": "query candidates tau ndcg_at_10 mrr_at_10 first_stage_ndcg_at_10 "
    "first_stage_mrr_at_10",
    "noise": "perturbation strength directional n copies "
    + " ".join(f"{name}{end}" for name in VALUES for end in ("", "_low", "_high")),
    "noise_count": "example text copies failed dense_failed correct dense_correct",
    "noise_example": "perturbation strength example text pair noisy noisy_pair dense_failed failed "
    "dense_before before dense_after after",
    "certified": "removal rate changed n abstained dense_abstained most_frequent "
    + " ".join(f"{name}{end}" for name in CERTIFIED for end in ("", "_low", "_high")),
    "certified_example": "example text pair words label dense_predicted dense_correct "
    "dense_probability dense_radius predicted correct probability radius",
    "reconstruction": "block projection own inherited total cosine sparsity",
    "sensitivity": "block weights sparsity error all_blocks_error",
    "sensitivity_example": "label dense_outputs block_outputs pruned_outputs",
    "drift": "block pooling cka cosine procrustes overlap k n",
    "drift_map": "block projection example x_dense y_dense x y move",
    "drift_example": "example text label dense pruned",
    "formats": "model format metric n score low high difference difference_low difference_high "
    "agreement divergence attacked under_attack under_attack_low under_attack_high latency_p50 "
    "speedup bytes other_load",
    "quantization": "module divergence changed proposed",
    "repair": "format metric n score low high difference difference_low difference_high agreement "
    "divergence bytes own_divergence own_changed",
    "cost": "model parameters nonzeros sparsity macs bytes shrunk batch length passes latency_p50 "
    "latency_p95 throughput peak_memory speedup_theoretical speedup_measured limit device "
    "other_load note",
}


def rows(name: str, sparsity: float | None = 0.6, report=no_report, **options):
    dense = tiny.model(kind=KINDS.get(name, "classification"))
    pruned = dense
    if sparsity is not None:
        pruned = copy.deepcopy(dense)
        build(METHODS, "magnitude", {"sparsity": sparsity}).prune(pruned, [], no_report)
    pair = PAIRS.get(KINDS.get(name, ""), partial(tiny.pair, copies=2))(dense, pruned)
    return build(MEASURES, name, {**SMALL.get(name, {}), **options}).measure(pair, report)


@cache
def reported_rows(name: str) -> tuple[dict[str, pd.DataFrame], list[float]]:
    """The tables of a measure with SMALL options, and the progress it reported."""
    seen: list[float] = []
    return rows(name, report=lambda progress, _: seen.append(progress)), seen


@pytest.mark.parametrize("name", MEASURES)
def test_contract(name: str) -> None:
    tables, seen = reported_rows(name)
    assert next(iter(tables)) == name and seen == sorted(seen) and seen[-1] == 1.0
    assert_declared(tables)
    is_query = name in ("query_attack", "corpus_poisoning")
    texts = tiny.collection().queries if is_query else tiny.examples(copies=2).texts
    assert_evaluation_indices(tables, list(texts))
    for table, frame in tables.items():
        assert len(frame)
        if table in COLUMNS:
            assert set(frame.columns) == set(COLUMNS[table].split())
    assert MEASURES[name].title and MEASURES[name].summary


def assert_evaluation_indices(tables: dict[str, pd.DataFrame], texts: list[str]) -> None:
    """The column `example` of every table is an index into the evaluation sample."""
    numbered = {name: frame for name, frame in tables.items() if "example" in frame}
    with_text = [frame for frame in numbered.values() if "text" in frame]
    for frame in with_text:
        assert frame["text"].tolist() == [texts[index] for index in frame["example"]]
    known = {index for frame in with_text for index in frame["example"]}
    for name, frame in numbered.items():
        assert set(frame["example"]) <= known, f"{name} has examples without a text"


def test_drift_samples_from_the_whole_evaluation_set() -> None:
    tables = rows("drift", examples=8)
    indices = tables["drift_example"]["example"].tolist()
    assert len(indices) == 8 and indices == sorted(indices) and max(indices) > 7
    for _, layer in tables["drift_map"].groupby("block"):
        assert layer["example"].tolist() == indices


# the exports are compared with recorded values in test_golden_values.py
@pytest.mark.parametrize("name", sorted({*MEASURES} - {"cost", "formats", "quantization"}))
def test_same_seed_same_rows(name: str) -> None:
    one, two = reported_rows(name)[0], rows(name)
    for table in one:
        for column in one[table].columns.difference(
            ["seconds", "latency_p50", "dense_latency_p50", "speedup", "other_load"]
        ):
            assert (
                one[table][column].astype(str).tolist() == two[table][column].astype(str).tolist()
            ), (table, column)


@pytest.mark.parametrize("name", MEASURES)
def test_cancelling_report_stops_measure(name: str) -> None:
    def stop(progress: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        rows(name, report=stop)


def test_dense_against_itself_has_no_loss() -> None:
    accuracy = rows("accuracy", None)["accuracy"].iloc[0]
    assert accuracy.agreement == accuracy.p_value == 1
    assert accuracy.divergence == accuracy.broken == accuracy.fixed == accuracy.difference == 0
    reconstruction = rows("reconstruction", None)["reconstruction"]
    assert (reconstruction[["own", "inherited", "total"]] == 0).all(axis=None)
    assert np.allclose(reconstruction.cosine.dropna(), 1)
    tables = rows("drift", None)
    assert np.allclose(tables["drift"].cka, 1) and (tables["drift"].overlap == 1).all()
    assert np.allclose(tables["drift"].procrustes, 0, atol=1e-4)
    assert (tables["drift_map"].move == 0).all()


def test_first_matrix_inherits_no_error_and_later_ones_do() -> None:
    table = rows("reconstruction")["reconstruction"].set_index(["block", "projection"])
    first = table.loc[(0, "query")]
    # nothing precedes the first Linear
    assert first.inherited == 0
    assert first.own == first.total > 0
    assert table.loc[(1, "query")].inherited > 0
    assert abs(table.loc[(0, "value")].sparsity - 0.6) < 0.01


def test_reconstruction_error_of_a_zeroed_matrix_is_one() -> None:
    dense, pruned = tiny.model(), tiny.model()
    with torch.no_grad():
        pruned.bert.encoder.layer[0].attention.self.query.weight.zero_()
        pruned.bert.encoder.layer[0].attention.self.query.bias.zero_()
        dense.bert.encoder.layer[0].attention.self.query.bias.zero_()
    table = build(MEASURES, "reconstruction").measure(tiny.pair(dense, pruned), no_report)[
        "reconstruction"
    ]
    query = table[(table.block == 0) & (table.projection == "query")].iloc[0]
    assert query.own == pytest.approx(1) and query.total == pytest.approx(1)


def test_sensitivity_exchanges_one_block_at_a_time() -> None:
    """Compare with a forward pass of the encoder with that block's module exchanged."""
    dense, pruned = tiny.model(), tiny.model()
    build(METHODS, "magnitude", {"sparsity": 0.6}).prune(pruned, [], no_report)
    pair = tiny.pair(dense, pruned)
    tables = build(MEASURES, "sensitivity").measure(pair, no_report)
    layers, examples = tables["sensitivity"], tables["sensitivity_example"]
    dense_probabilities = predict(dense, pair.tokenizer, pair.task.evaluation).probabilities
    assert np.allclose(examples.dense_outputs.tolist(), dense_probabilities, atol=1e-5)
    assert np.allclose(
        examples.pruned_outputs.tolist(),
        predict(pruned, pair.tokenizer, pair.task.evaluation).probabilities,
        atol=1e-5,
    )
    for index in range(2):
        mixed = copy.deepcopy(dense)
        mixed.bert.encoder.layer[index] = pruned.bert.encoder.layer[index]
        expected = predict(mixed, pair.tokenizer, pair.task.evaluation).probabilities
        assert np.allclose([each[index] for each in examples.block_outputs], expected, atol=1e-5)
        assert not np.allclose(expected, dense_probabilities, atol=1e-5)
    assert np.allclose(layers.sparsity, 0.6, atol=0.01)
    assert (layers.error > 0).all()
    assert (layers.all_blocks_error > layers.error).all()
    assert (
        rows("sensitivity", None)["sensitivity"][["error", "all_blocks_error", "sparsity"]] == 0
    ).all(axis=None), "the dense model has no error"


def test_distances_are_invariant_to_rotation_and_scale_but_not_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60, 8, generator=generator)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    rotated = distances(X, 3 * X @ rotation, 5)
    assert rotated["cka"] == pytest.approx(1, abs=1e-4)
    assert rotated["procrustes"] < 1e-3
    assert rotated["overlap"] == 1
    random = distances(X, torch.randn(60, 8, generator=generator), 5)
    assert random["cka"] < 0.5 and random["procrustes"] > 0.5 and random["overlap"] < 0.4


def test_umap_is_reproducible() -> None:
    one, two = (rows("drift", umap=True)["drift_map"] for _ in range(2))
    umap = one[one.projection == "umap"]
    assert len(umap) == 16 and set(umap.block) == {1}
    assert np.array_equal(one[["x", "y"]], two[["x", "y"]])


def test_too_few_examples_for_the_neighbors_is_an_error() -> None:
    with pytest.raises(PruneError, match="too few for 50 neighbors"):
        rows("drift", neighbors=50)


def test_adversarial_drift_uses_successful_attacks_only() -> None:
    dense, pruned = tiny.model(), tiny.model()
    build(METHODS, "magnitude", {"sparsity": 0.6}).prune(pruned, [], no_report)

    def row(example, outcome, text):
        return {
            "example": example,
            "outcome": outcome,
            "perturbed": text,
            "perturbed_pair": None,
        }

    succeeded = [
        row(index, "success", f"changed {text}") for index, text in enumerate(tiny.SENTENCES[:3])
    ]
    unsuccessful = [row(5, outcome, "not this one") for outcome in ("failed", "skipped", "error")]
    pair = replace(
        tiny.pair(dense, pruned),
        rows={"attack_example": pd.DataFrame([*succeeded, succeeded[0], *unsuccessful])},
    )
    assert adversarial_examples(pair).texts == [f"changed {text}" for text in tiny.SENTENCES[:3]]
    tables = build(MEASURES, "drift", {**SMALL["drift"], "adversarial": True}).measure(
        pair, no_report
    )
    assert_declared(tables)
    drift = tables["drift_adversarial"]
    assert set(drift.columns) == set(COLUMNS["drift"].split())
    assert (drift.n == 3).all()
    assert (drift.k == 2).all()
    assert (drift.cosine != tables["drift"].cosine).all()
    without_success = replace(pair, rows={"attack_example": pd.DataFrame(unsuccessful)})
    assert "drift_adversarial" not in build(
        MEASURES, "drift", {**SMALL["drift"], "adversarial": True}
    ).measure(without_success, no_report)


def test_adversarial_drift_uses_the_perturbed_second_text_of_a_pair() -> None:
    pair = tiny.pair(tiny.model(), tiny.model())
    examples = replace(pair.task.evaluation, pairs=list(pair.task.evaluation.texts))
    rows = pd.DataFrame(
        {
            "example": [0, 0],
            "outcome": "success",
            "perturbed": "the same",
            "perturbed_pair": ["one", "other"],
        }
    )
    perturbed = adversarial_examples(
        replace(pair, task=replace(pair.task, evaluation=examples), rows={"attack_example": rows})
    )
    assert perturbed.texts == ["the same"] * 2 and perturbed.pairs == ["one", "other"]


def test_divergence_is_the_mean_kl_divergence_over_examples() -> None:
    assert TASK_TYPES["classification"].label_divergence(
        [[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [1.0, 0.0]]
    ) == pytest.approx(0.5 * np.log(4 / 3) / 2)
    assert np.isnan(
        TASK_TYPES["classification"].label_divergence([[0.5, 0.5]], [[np.nan, np.nan]])
    ), "NaN probabilities are not agreement"


def test_accuracy_counts_broken_and_fixed_predictions() -> None:
    row = summary("accuracy", 2, [0, 0, 1, 1], dense=[0, 0, 1, 0], pruned=[0, 1, 1, 1])
    assert (row["broken"], row["fixed"], row["agreement"], row["difference"]) == (1, 1, 0.5, 0.0)
    assert row["difference_low"] < 0 < row["difference_high"] and row["p_value"] == 1.0


def test_statistics_have_textbook_values() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert mcnemar(0, 6) == pytest.approx(2 * 0.5**6)
    assert wilson(0, 0) == (0.0, 1.0)
    difference, low, high = paired_difference(20, 5, 100)
    assert difference == pytest.approx(-0.15) and low < -0.15 < high < 0


def test_exported_formats_agree_with_model_and_int8_is_smaller() -> None:
    table = reported_rows("formats")[0]["formats"].set_index(["model", "format"])
    assert list(table.index) == [
        (model, format_name)
        for model in ("dense", "pruned")
        for format_name in ("PyTorch fp32", *FORMATS)
    ]
    for model in ("dense", "pruned"):
        rows_of_model = table.loc[model]
        assert (
            rows_of_model.loc["ONNX fp32", "agreement"]
            == rows_of_model.loc["PyTorch fp32", "agreement"]
        )
        assert rows_of_model.loc["ONNX fp32", "divergence"] == pytest.approx(
            rows_of_model.loc["PyTorch fp32", "divergence"], abs=1e-6
        )
        assert (
            rows_of_model.loc["ONNX int8", "divergence"]
            != rows_of_model.loc["ONNX fp32", "divergence"]
        )  # weights are rounded
        assert rows_of_model.loc["ONNX int8", "bytes"] < rows_of_model.loc["ONNX fp32", "bytes"]
        for format_name in ("ONNX int8 static", "OpenVINO int8", "PyTorch bf16"):
            assert (
                0
                < rows_of_model.loc[format_name, "bytes"]
                < rows_of_model.loc["ONNX fp32", "bytes"]
            )
        assert rows_of_model.loc["OpenVINO fp32", "divergence"] == pytest.approx(
            rows_of_model.loc["PyTorch fp32", "divergence"], abs=1e-6
        )
    assert table.loc[
        ("dense", "PyTorch fp32"), ["agreement", "divergence", "speedup"]
    ].tolist() == [1, 0, 1]


def test_attack_outcomes_of_onnx_session_and_its_model_are_equal(tmp_path) -> None:
    dense = tiny.model()
    pair = tiny.pair(dense, dense, copies=2)
    session = FORMATS[ONNX](ExportSource(dense, pair.tokenizer, tmp_path, calibration=[]))
    attack = build(
        MEASURES,
        "attack",
        {"examples": 4, "recipes": "DeepWordBug", "query_budget": 60, "precision": "fp32"},
    )
    one, two = (
        attack.measure(replace(pair, pruned=model, memo={}), no_report)["attack_example"]
        for model in (dense, session)
    )
    assert one["outcome"].tolist() == two["outcome"].tolist()
    assert one["perturbed"].tolist() == two["perturbed"].tolist()
    attacked = reported_rows("formats")[0]["formats"]["attacked"]
    assert (attacked == 3).all()


def test_openvino_and_nncf_send_no_telemetry(tmp_path) -> None:
    program = """
import socket, sys
from pathlib import Path
import tiny
from prune_core.models.export.formats import FORMATS, OPENVINO_INT8, ExportSource
def refuse(*arguments, **keywords):
    raise SystemExit("tried to open a connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
calibration = [next(iter(tiny.calibration()))]
source = ExportSource(tiny.model(), tiny.tokenizer(), Path(sys.argv[1]), calibration)
FORMATS[OPENVINO_INT8](source)
import openvino.tools.ovc.telemetry_utils as telemetry
assert telemetry.tm.__name__ == "openvino.tools.ovc.telemetry_stub", telemetry.tm
"""
    folder, root = Path(tiny.__file__).parent, Path(tiny.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{folder}:{root}"},
    )
    assert process.returncode == 0, process.stderr[-2000:]


@pytest.mark.parametrize("format_name", ["ONNX int8", "ONNX int8 static"])
@pytest.mark.parametrize("damage", [add_outlier_neurons, add_outlier_heads])
def test_quantization_sensitivity_finds_and_repairs_int8_errors(damage, format_name) -> None:
    dense, blocks = tiny.model(), (0, 1)
    with torch.no_grad():
        dense.classifier.weight *= 50  # confident predictions that depend on attention
        for block in blocks:
            dense.bert.encoder.layer[block].attention.output.dense.weight *= 30
    damaged = damage(dense, blocks)
    # compared with itself, not with `dense`: a large neuron that a bias cancels costs fp32
    # precision, by an amount that depends on the processor
    pair = tiny.pair(damaged, copy.deepcopy(damaged), copies=2)
    tables = build(MEASURES, "quantization", {"format": format_name, "examples": 12}).measure(
        pair, no_report
    )
    name = "attention.output.dense" if damage is add_outlier_heads else "output.dense"
    proposed = tables["quantization"].loc[tables["quantization"]["proposed"], "module"].tolist()
    assert set(proposed) >= {f"bert.encoder.layer.{block}.{name}" for block in blocks}
    assert len(proposed) <= 5
    fp32, int8, repaired = tables["repair"].to_dict("records")
    assert fp32["own_divergence"] == 0
    assert repaired["own_divergence"] <= 0.1 * int8["own_divergence"]
    assert repaired["divergence"] < int8["divergence"]
    assert int8["bytes"] < repaired["bytes"] < fp32["bytes"]


def test_latency_grid_is_declared() -> None:
    tables = rows("cost", grid=True)
    assert_declared(tables)
    assert len(tables["latency"]) == 18


def test_cost_matches_manual_count() -> None:
    table = rows("cost")["cost"].set_index("model")
    dense, pruned = table.loc["dense"], table.loc["pruned"]
    per_block = 4 * 32 * 32 + 2 * 32 * 64
    assert dense.macs == 2 * (per_block * 8 + 2 * 8 * 8 * 32) + 32 * 32 + 32 * 2
    assert dense.sparsity == 0
    assert abs(pruned.sparsity - 0.6) < 0.01
    assert pruned.nonzeros < dense.nonzeros
    assert (
        pruned.parameters == dense.parameters == sum(p.numel() for p in tiny.model().parameters())
    )
    assert "no speed-up" in pruned.note and 0 < pruned.latency_p50 <= pruned.latency_p95
