"""The measure `reranking`: values by hand, the first stage, criteria, sentences and the product."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import tiny
from test_pages import open_page
from test_ranking import write_run

from prune_core import PruneError, views
from prune_core.analysis.compared_models import ComparedModel
from prune_core.analysis.reranking import (
    compare_rankings,
    first_stage_loss,
    kendall_tau,
    order_change,
)
from prune_core.cli.arguments import main
from prune_core.measures import MEASURES
from prune_core.methods import METHODS
from prune_core.models.checkpoints import loading
from prune_core.plugins import build, no_report
from prune_core.views import reranking as view

# two queries with three candidates: the second candidate of each is relevant
PREDICTIONS = pd.DataFrame(
    {
        "text": ["q"] * 3 + ["r"] * 3,
        "label": [0.0, 1.0, 0.0] * 2,
        "dense": [1.0, 3.0, 2.0, 1.0, 2.0, 3.0],
        "pruned": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0],
        "dense_probabilities": [[]] * 6,
        "pruned_probabilities": [[]] * 6,
    }
)
FIRST_STAGE = [-2.0, -1.0, -3.0] * 2  # the relevant one first
SECOND = 1 / np.log2(3)  # nDCG of a relevant candidate at rank 2


def test_values_by_hand():
    table, by_query = compare_rankings(PREDICTIONS, FIRST_STAGE, resamples=200)
    assert by_query["ndcg_at_10"].tolist() == pytest.approx([SECOND, SECOND])
    assert by_query["mrr_at_10"].tolist() == [0.5, 0.5]
    assert by_query["first_stage_ndcg_at_10"].tolist() == [1, 1]
    assert by_query["tau"].tolist() == pytest.approx([1 / 3, 1])  # one of three pairs exchanged
    row = table.iloc[0]
    assert row["n"] == 2 and row["candidates"] == 3 and row["tau"] == pytest.approx(2 / 3)
    assert (
        row["ndcg_at_10_difference"]
        == row["ndcg_at_10_difference_high"]
        == pytest.approx(SECOND - 1)
    )
    assert row["tau_low"] == pytest.approx(1 / 3) and row["tau_high"] == pytest.approx(1)
    loss = first_stage_loss(by_query)
    assert loss.value == pytest.approx(1 - SECOND) and loss.n == 2
    assert order_change(by_query).value == pytest.approx(1 / 3)


def test_without_a_first_stage_there_is_no_baseline():
    table, by_query = compare_rankings(PREDICTIONS, None, resamples=200)
    assert table["ndcg_at_10_difference"].isna().all() and table["tau"].notna().all()
    assert "add a column rank" in first_stage_loss(by_query)
    assert view.first_stage_sentence(table.iloc[0], "AKR") == ""


def test_scores_without_an_order_have_no_agreement():
    assert kendall_tau([1, 2, 3], [0.5] * 3) == 0
    assert kendall_tau([1, 2, 3], [30, 20, 10]) == -1 and kendall_tau([1], [2]) == 1


def study(change: float, half: float) -> tuple[dict[str, pd.DataFrame], list[ComparedModel]]:
    """Rows of a dense and a pruned model with the same difference from the first stage."""
    table = compare_rankings(PREDICTIONS, FIRST_STAGE, resamples=200).table
    column = view.DIFFERENCE
    table = table.assign(**{column: change, f"{column}_low": change - half})
    table = table.assign(**{f"{column}_high": change + half})
    models = [ComparedModel(1, "Dense"), ComparedModel(2, "AKR 50%", "akr", 0.5)]
    return {"reranking": pd.concat([table.assign(job=1), table.assign(job=2)])}, models


def test_a_reranker_that_makes_results_worse_is_named():
    tables, models = study(-0.03, 0.02)
    dense, pruned = view.warnings(tables, models)
    assert pruned.startswith("AKR at 50% makes results worse than the first stage: nDCG@10 is 3.0")
    assert "points below it (95% interval 1.0 to 5.0, n = 2)" in pruned
    assert dense.startswith("The dense model makes results worse")
    takeaway = view.VIEW.takeaway(tables, models)
    assert takeaway.count(pruned) == 1 and "Kendall's tau of AKR at 50%" in takeaway


@pytest.mark.parametrize(
    ("change", "words"),
    [(-0.01, "1.0 points below the first stage, within noise"), (0.05, "5.0 points above")],
)
def test_a_difference_within_noise_is_no_warning(change, words):
    tables, models = study(change, 0.02)
    assert view.warnings(tables, models) == []
    assert words in view.VIEW.takeaway(tables, models)


@pytest.mark.parametrize("first_stage", [FIRST_STAGE, None])
def test_means_over_seeds_keep_negative_bounds(first_stage):
    models = [ComparedModel(1, "AKR 50%", "akr", 0.5, runs=(1, 2))]
    table = compare_rankings(PREDICTIONS, first_stage, resamples=200).table
    rows = pd.concat([table.assign(job=job, label="AKR 50%", seed=job - 1) for job in (1, 2)])
    mean = views.pooled("reranking", rows.assign(tau=-0.2, tau_low=-0.3), models).iloc[0]
    assert mean["tau"] == -0.2 and mean["tau_low"] == pytest.approx(-0.3)
    if first_stage:
        assert mean[f"{view.DIFFERENCE}_low"] == pytest.approx(SECOND - 1)
    assert np.isnan(mean[view.DIFFERENCE]) == (first_stage is None)


def test_a_task_without_candidates_is_an_error():
    model = tiny.model(kind="regression")
    with pytest.raises(PruneError, match="no candidates of queries with grades"):
        build(MEASURES, "reranking").measure(tiny.pair(model, model), no_report)


def test_the_timed_query_has_the_requested_documents():
    dense = tiny.model(kind="regression")
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": 0.7}).prune(pruned, [], no_report)
    pair = tiny.reranking_pair(dense, pruned)
    shapes = []
    dense.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    options = {"documents": 7, "repeats": 3, "resamples": 100}
    rows = build(MEASURES, "reranking", options).measure(pair, no_report)
    assert set(shapes) == {7} and rows["reranking"]["documents"].item() == 7
    assert rows["reranking"]["latency_p50"].item() > 0
    scores = rows["reranking_query"]
    accuracy = pair.rows["accuracy"].iloc[0]
    assert scores["ndcg_at_10"].mean() == pytest.approx(accuracy["ndcg_at_10"])


def test_from_folder_to_verdict(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    folder = write_run(tmp_path / "beir")
    run = folder / "run.trec"
    run.write_text(run.read_text().replace(" -", " "))  # relevant ones first: an ideal first stage
    model = tiny.model(kind="regression")
    model.config.sentence_transformers = {"version": "4.1.0"}
    loading.save(model, tiny.tokenizer(), tmp_path / "model")
    command = ["run", "--checkpoint", str(tmp_path / "model"), "--device", "cpu", "--task"]
    command += [str(folder), "--measure", "accuracy", "--measure", "reranking"]
    command += ["--set", "reranking.repeats=3", "--set", "reranking.resamples=200"]
    assert main(command) == 0, capsys.readouterr().err
    assert main([*command, "--method", "magnitude", "--sparsity", "0.7"]) == 0
    capsys.readouterr()
    assert main(["show", "2"]) == 0
    shown = capsys.readouterr().out
    for title in ("nDCG@10 over first stage", "MRR@10", "Order agreement", "Time per query"):
        assert title in shown
    assert "after its Sigmoid" in shown
    assert "The pruned model reranks with an nDCG@10" in shown
    assert main(["show", "1"]) == 0
    worse = "The dense model makes results worse than the first stage: nDCG@10 is"
    assert worse in capsys.readouterr().out
    policy = tmp_path / "policy.yaml"
    policy.write_text("accuracy_loss: 1\norder_agreement: 90\nfirst_stage_loss: 0\n")
    checked = tmp_path / "check.json"
    assert main(["check", "2", "--policy", str(policy), "--json", str(checked)]) in (0, 1, 3)
    verdicts = json.loads(checked.read_text())["verdicts"]
    assert {verdict["criterion"]: verdict["n"] for verdict in verdicts} == {
        "accuracy_loss": 4,
        "order_agreement": 4,
        "first_stage_loss": 4,
    }
    assert main(["export", "2", str(tmp_path / "export")]) == 0
    card = (tmp_path / "export" / "README.md").read_text()
    assert 'CrossEncoder("export")' in card and "pipeline_tag: text-ranking" in card
    report = tmp_path / "report.html"
    assert main(["report", "1", "2", "--out", str(report)]) == 0
    text = report.read_text()
    assert "nDCG@10 over first stage against sparsity" in text and "Kendall" in text
    page = open_page("compare", **{"compare-section": "reranking"})
    assert any("Kendall's tau of" in each.value for each in (*page.markdown, *page.warning))
