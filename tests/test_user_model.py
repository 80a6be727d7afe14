"""Encoders inside models of any kind: `prune_encoder` with the user's own forward function."""

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2Model

import prune_core as pc
from prune_core.methods import METHODS
from prune_core.models import families, replay
from prune_core.models.user_model import OUTPUTS, UserModel, in_place_of
from prune_core.tasks import TASK_TYPES


@pytest.fixture(scope="module")
def dense():
    return tiny.model()


def encoder_of(model):
    return getattr(model, families.layout(model).base)


def matrices(encoder, model):
    """Return the weights of an encoder's blocks; `model` is of its class with a head."""
    with in_place_of(encoder_of(model), encoder):
        return torch.cat([each.weight.detach().flatten() for *_, each in replay.linears(model)])


def runner(model, family="bert"):
    """Return a function that runs a model on texts, as its user would write it."""
    tokenizer = tiny.tokenizer(family)
    return lambda texts: model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def by_tokens(family="bert"):
    """Return the texts in the order in which `prune` sorts them."""
    ids = tiny.tokenizer(family)(tiny.SENTENCES)["input_ids"]
    order = sorted(range(len(ids)), key=lambda place: (len(ids[place]), place))
    texts = [tiny.SENTENCES[place] for place in order]
    return [texts[:5], texts[5:10], texts[10:]]


CALIBRATION = tiny.SENTENCES[:6]  # where results are not compared


@pytest.mark.parametrize(
    ("method", "family", "tolerance"),
    [
        ("akr", "bert", 1e-6),
        ("osscar", "bert", 1e-6),
        # gradients of √p are those of the Fisher information of logits, up to rounding
        ("akr_plus", "bert", 1e-3),
        *(("wanda", family, 1e-6) for family in families.FAMILIES if "-roberta" not in family),
    ],
)
def test_the_result_equals_that_of_prune(method, family, tolerance):
    model = tiny.model(family)
    before = [parameter.clone() for parameter in model.parameters()]
    expected = pc.prune(
        model, tiny.tokenizer(family), tiny.SENTENCES, method=method, sparsity=0.5, batch_size=5
    )
    pruned, result = pc.prune_encoder(
        encoder_of(model),
        runner(model, family),
        by_tokens(family),
        method,
        sparsity=0.5,
        outputs="logits",
    )
    weights, reference = matrices(pruned, model), matrices(encoder_of(expected), model)
    assert torch.equal(weights == 0, reference == 0) and (weights == 0).float().mean() > 0.3
    torch.testing.assert_close(weights, reference, rtol=0, atol=tolerance)
    assert result.sparsity["sparsity"].tolist() == [
        row["sparsity"] for row in replay.sparsity_by_projection(expected)
    ]
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "kwon"])
def test_every_method_prunes_without_outputs(dense, method):
    run = runner(dense)

    def run_without_output(texts):
        run(texts)

    pruned, result = pc.prune_encoder(
        dense.bert, run_without_output, CALIBRATION, method, sparsity=0.4
    )
    assert 0.2 < result.sparsity["sparsity"].mean() < 0.6
    assert torch.isfinite(matrices(pruned, dense)).all()


@pytest.mark.parametrize("kind", OUTPUTS)
def test_half_the_squared_distance_of_transformed_outputs_is_their_divergence(kind):
    torch.manual_seed(0)
    rows = torch.randn(2, 3, dtype=torch.float64)
    moved = rows + 1e-2 * torch.randn(2, 3, dtype=torch.float64)
    task_type = {
        "values": "regression",
        "logits": "classification",
        "binary_logits": "multilabel",
        "embeddings": "embedding",
    }[kind]
    scale = {"values": 0.5, "binary_logits": 3}.get(kind, 1)  # sums, where that is a mean
    expected = scale * TASK_TYPES[task_type].divergence(moved, rows)
    distance = OUTPUTS[kind](moved) - OUTPUTS[kind](rows)
    torch.testing.assert_close(
        distance.square().flatten(1).sum(1) / 2, expected.double(), rtol=0.05, atol=1e-7
    )


def test_outputs_are_those_of_the_model_with_these_hidden_states(dense):
    """Also of a run that calls the encoder twice, and returns several tensors."""
    run = runner(dense)
    model = UserModel(dense.bert, lambda pair: {"first": run(pair[:1]), "both": [run(pair)]})
    batches = model.capture([CALIBRATION[:2]])
    assert [len(batch["input_ids"]) for batch in batches] == [1, 2]
    first, both = (run(texts).detach() for texts in (CALIBRATION[:1], CALIBRATION[:2]))
    of_first, of_both = [True] * 2 + [False] * 4, [False] * 2 + [True] * 4
    for batch, depends in zip(batches, (of_first, of_both), strict=True):
        *_, (hidden, padding) = replay.hidden_states(model, batch)
        outputs = replay.head(model, hidden, padding)
        torch.testing.assert_close(outputs[0], torch.cat([first[0], both.flatten()]))
        changed = replay.head(model, 0 * hidden, padding)[0] != outputs[0]
        assert changed.tolist() == depends


def test_scores_are_of_the_model_with_either_encoder(dense):
    run = runner(dense)
    pruned, result = pc.prune_encoder(
        dense.bert,
        run,
        CALIBRATION,
        "unit_magnitude",
        sparsity=0.5,
        compact=True,
        score=lambda: run(CALIBRATION).sum().item(),
    )
    assert pruned.num_parameters() < dense.bert.num_parameters()
    assert result.dense_score == pytest.approx(run(CALIBRATION).sum().item())
    with in_place_of(dense.bert, pruned):
        assert result.pruned_score == pytest.approx(run(CALIBRATION).sum().item())
    assert result.pruned_score != pytest.approx(result.dense_score)


def test_tensors_of_inference_mode_and_left_padding_are_supported(dense):
    tokenizer = tiny.tokenizer()

    def run(texts):
        encoded = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        with torch.inference_mode():  # sentence-transformers calls `forward` itself
            dense.bert.forward(encoded["input_ids"], encoded["attention_mask"])

    _, result = pc.prune_encoder(dense.bert, run, CALIBRATION, "kprune_plus", sparsity=0.5)
    assert result.sparsity["sparsity"].mean() > 0.3


def with_adapter():
    encoder = tiny.model().bert
    encoder.encoder.layer[1].output.dense = torch.nn.Sequential()
    return encoder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": with_adapter()}, "ffn_out matrix of block 2 is a Sequential, .*adapters"),
        ({"encoder": torch.nn.Linear(2, 2)}, "is a Linear; pass the encoder .* families: bert, "),
        ({"encoder": GPT2Model(GPT2Config(n_layer=1, n_embd=4, n_head=1))}, "is a gpt2 model"),
        ({"encoder": tiny.model()}, "more than an encoder; pass .bert of it"),
        ({"encoder": tiny.model().bert}, "does not call the encoder, a BertModel, for batch 1"),
        ({"encoder": tiny.model().bert.half()}, r"torch.float16; .*encoder.float\(\)"),
        ({"outputs": "scores"}, "outputs is 'scores'; choose one of values, logits"),
        ({"method": "kwon"}, "kwon needs labels"),
        ({"distil": 1.0}, "distil is 1; prune_encoder does not distill"),
        ({"texts_or_batches": []}, "no calibration examples"),
    ],
)
def test_errors_say_what_to_change(dense, change, message):
    call = {"encoder": dense.bert, "run": runner(dense), "texts_or_batches": CALIBRATION} | change
    with pytest.raises(pc.PruneError, match=message):
        pc.prune_encoder(**call)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda bert, ids: bert(inputs_embeds=torch.zeros(1, 2, 32)), "without input_ids"),
        (lambda bert, ids: bert(ids, torch.ones(1, 1, 3, 3)), "attention mask of 4 dimensions"),
        (lambda bert, ids: bert(ids).last_hidden_state.detach(), "a Tensor without gradients"),
        (lambda bert, ids: bert(ids).last_hidden_state.argmax(-1), "a Tensor without gradients"),
    ],
)
def test_errors_of_run_say_what_to_change(dense, run, message):
    ids = torch.tensor([[101, 2054, 102]])
    with pytest.raises(pc.PruneError, match=message):
        pc.prune_encoder(dense.bert, lambda batch: run(dense.bert, batch), [ids], "akr_plus")


def test_blocks_that_compute_something_else_are_refused(dense):
    hook = dense.bert.encoder.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1,))
    try:
        with pytest.raises(pc.PruneError, match="hidden states differ by"):
            pc.prune_encoder(dense.bert, runner(dense), CALIBRATION)
    finally:
        hook.remove()
