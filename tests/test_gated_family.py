"""A family whose FFN has a matrix for inputs and one for gates is one file: its Layout.

Here it is NomicBERT (Nussbaum et al. 2024), which is not in the registry.
"""

import copy

import pandas as pd
import pytest
import sample_rows
import test_encoders
import test_shrink
import test_structured
import tiny
import torch
import transformers
from test_plots import MODELS

import prune_core as pc
from prune_core import plots
from prune_core.models import compact, families, replay
from prune_core.models.families.modernbert import MODERNBERT, LocalAttention
from prune_core.models.units import sublayers

FAMILY = "nomic_bert"
NOMIC_BERT = families.Layout(
    base="nomic_bert",
    blocks="nomic_bert.layers",
    groups=(
        {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"},
        {"attention_output": "self_attn.o_proj"},
        {"ffn_gate": "mlp.gate_proj", "ffn_in": "mlp.up_proj"},
        {"ffn_out": "mlp.down_proj"},
    ),
    norms=("post_attention_layernorm", "post_mlp_layernorm"),
    activation="mlp.act_fn",
    heads="num_attention_heads",
    head=lambda model, hidden, mask: model.classifier(model.nomic_bert.pooler(hidden)),
    head_linears=("nomic_bert.pooler.dense", "classifier"),
    scores=MODERNBERT.scores,
    context=lambda model, index: LocalAttention(model.config.rope_parameters["rope_theta"], None),
)
NAMES = ["query", "key", "value", "attention_output", "ffn_gate", "ffn_in", "ffn_out"]
LABELED = [(text, i % 2) for i, text in enumerate(tiny.SENTENCES)]
pytestmark = pytest.mark.skipif(
    not hasattr(transformers, "NomicBertConfig"), reason="needs a newer transformers"
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families.FAMILIES, FAMILY, NOMIC_BERT)
    monkeypatch.setitem(
        tiny.CONFIGS,
        FAMILY,
        lambda: transformers.NomicBertConfig(**tiny.SIZES, **tiny.WIDE),
    )


def test_it_passes_the_tests_of_the_other_families() -> None:
    test_encoders.test_replay_equals_forward(FAMILY)
    test_encoders.test_padding_changes_no_statistic(FAMILY)
    test_structured.test_mask_gradients_equal_autograd(FAMILY, "classification")
    test_structured.test_flops_match_a_counted_forward_pass(FAMILY)
    for removals in test_shrink.REMOVALS:
        test_shrink.test_compact_model_has_the_same_logits_and_fewer_parameters(
            FAMILY, "classification", removals
        )


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt", "akr", "akr_plus"])
def test_all_seven_matrices_are_pruned_and_measured(method: str) -> None:
    dense, tokenizer = tiny.model(FAMILY), tiny.tokenizer(FAMILY)
    pruned = pc.prune(dense, tokenizer, tiny.SENTENCES, method=method, sparsity=0.5)
    result = pc.compare(dense, pruned, tokenizer, LABELED, measures=["reconstruction"])
    rows = result.rows["reconstruction"].query("job == 1")
    assert rows["projection"].tolist() == [*NAMES, "block"] * 2
    matrices = rows[rows["projection"] != "block"]
    assert matrices["sparsity"].mean() == pytest.approx(0.5, abs=0.02)
    assert (matrices["own"] > 0).all()
    fig = plots.heat_maps(result.rows["reconstruction"], result.models)
    assert list(fig.data[0].x) == [
        *("query", "key", "value", "attn. output", "FFN gate", "FFN in", "FFN out")
    ]
    assert fig.data[0].z.shape == (2, 7)
    assert len(plots.errors_of_layer(rows, result.models[1], 0).data[0].y) == 8


@pytest.mark.parametrize("method", ["kprune", "kprune_plus", "osscar", "unit_magnitude"])
def test_a_removed_neuron_has_zero_rows_in_both_matrices(method: str) -> None:
    dense = tiny.model(FAMILY)
    after, _ = test_structured.pruned(method, dense, sparsity=0.5, length=20)
    for sub in sublayers(after):
        if sub.kind == "neuron":
            dead = (sub.output.weight == 0).all(0)
            assert dead.any() and list(sub.input_linears) == ["ffn_gate", "ffn_in"]
            for linear in sub.input_linears.values():
                assert ((linear.weight == 0).all(1) == dead).all()
    small, other = compact.compact_model(after), copy.deepcopy(after)
    expected = test_shrink.logits(after, FAMILY)
    assert test_shrink.close(test_shrink.logits(small, FAMILY), expected)
    with torch.no_grad():
        for _, _, linear in replay.linears(other):
            linear.weight.mul_(2)
    compact.expand_into(small, other)
    assert test_shrink.close(test_shrink.logits(other, FAMILY), expected)


def test_charts_of_two_families_have_the_projections_of_both() -> None:
    """A family without gates comes first; a projection without a title is shown by its name."""
    six = sample_rows.study()["reconstruction"]
    six = six[six["job"].isin([2, 3])]
    gates = six.query("job == 3 and projection == 'ffn_in'").assign(projection="ffn_mixer")
    seven = pd.concat([six, gates]).sort_values(["job", "block"], kind="stable")
    titles = plots.projection_titles(seven)
    assert list(titles) == [*NAMES[:4], "ffn_in", "ffn_out", "ffn_mixer", "block"]
    assert titles["ffn_mixer"] == "ffn mixer" and titles["block"] == "layer output"
    fig = plots.heat_maps(seven, MODELS[1:3])
    labels = [text for trace in fig.data if trace.text is not None for text in trace.text]
    assert len(labels) == sample_rows.BLOCKS * (6 + 7) and "nan" not in labels
