"""Replaying a model block by block: equal outputs for every family and with padding."""

import json

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.models import devices, families, replay
from prune_core.models.checkpoints import loading
from prune_core.pruning.streams import collect, stream


@pytest.mark.parametrize("family", families.FAMILIES)
def test_replay_equals_forward(family: str) -> None:
    model = tiny.model(family)
    for batch in tiny.calibration(family):
        with torch.no_grad():
            expected = model(**batch, output_hidden_states=True)
            states = list(replay.hidden_states(model, batch))
            logits = replay.head(model, *states[-1])
        final = (
            len(states) - 1 if replay.layout(model).final_norm else len(states)
        )  # transformers returns the last hidden states after that norm
        for (hidden, padding), reference in zip(
            states[:final], expected.hidden_states, strict=False
        ):
            torch.testing.assert_close(hidden, padding.pack(reference), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_padding_changes_no_statistic(family: str) -> None:
    model = tiny.model(family)
    unpadded_batches = tiny.calibration(family, batch_size=1)
    padded_batches = []
    for batch in unpadded_batches:
        filler = {key: torch.zeros(1, 7, dtype=value.dtype) for key, value in batch.items()}
        padded_batches.append(
            {key: torch.cat([value, filler[key]], 1) for key, value in batch.items()}
        )
    with torch.no_grad():
        for group in range(len(replay.blocks(model)[0].groups)):
            plain, padded = (stream(model, data) for data in (unpadded_batches, padded_batches))
            for activations in (plain, padded):
                for earlier in range(group):
                    activations.advance(replay.blocks(model)[0], earlier)
            expected, actual = (
                collect("gram", activations, None) for activations in (plain, padded)
            )
            assert (
                expected.tokens
                == actual.tokens
                == sum(int(batch["attention_mask"].sum()) for batch in unpadded_batches)
            )
            torch.testing.assert_close(expected.gram, actual.gram, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_saved_model_loads_with_equal_weights(family: str, tmp_path) -> None:
    model = tiny.model(family)
    loading.save(model, tiny.tokenizer(), tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded, _ = loading.load(str(tmp_path))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("./nowhere", "no such folder"),
        ("someone/no-such-model", "Hub"),
    ],
)
def test_invalid_checkpoints_raise(checkpoint: str, message: str) -> None:
    with pytest.raises(PruneError, match=message):
        loading.load(checkpoint)


def test_a_decoder_is_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"]})
    )
    with pytest.raises(PruneError, match="gpt2 model; PruneScope prunes encoders"):
        loading.load(str(tmp_path))


def test_a_missing_tokenizer_raises(tmp_path) -> None:
    tiny.model().save_pretrained(tmp_path)
    with pytest.raises(PruneError, match="no usable tokenizer"):
        loading.load(str(tmp_path))


def test_a_pickle_is_never_executed(tmp_path) -> None:
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return open, (str(ran), "w")

    torch.save({"weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(PruneError, match="no usable weights"):
        loading.load(str(tmp_path))
    assert not ran.exists()


def test_unknown_devices_raise() -> None:
    assert devices.pick_device("cpu").type == "cpu"
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(PruneError, match="device"):
            devices.pick_device(name)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_statistics_without_recollect_are_equal_at_zero_sparsity(family: str) -> None:
    """Without recollect, statistics are collected once per block, before it is pruned.

    At sparsity 0 they equal those collected one weight matrix after another.
    """
    import copy

    from prune_core.methods import METHODS
    from prune_core.plugins import build, no_report

    statistics = []
    for recollect in (True, False):
        model = tiny.model(family)
        seen: list[torch.Tensor] = []
        method = build(METHODS, "wanda", {"sparsity": 0.0, "recollect": recollect})
        solve = type(method).solve

        def record(self, weight, bias, stats, solve=solve, seen=seen):
            seen.append(stats.diagonal.clone())
            return solve(self, weight, bias, stats)

        try:
            type(method).solve = record
            method.prune(copy.deepcopy(model), tiny.calibration(family), no_report)
        finally:
            type(method).solve = solve
        statistics.append(seen)
    assert len(statistics[0]) == len(statistics[1]) > 0
    for recollected, collected_once in zip(*statistics, strict=True):
        torch.testing.assert_close(recollected, collected_once, atol=1e-3, rtol=1e-4)
