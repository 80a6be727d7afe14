"""Load, prune, measure and export one model of each encoder family.

tests/transformers4.sh runs this with the oldest supported transformers; with the current version,
other files test each of these steps for every family.
"""

import pandas as pd
import pytest
import tiny
import torch

import prune_core as pc
from prune_core.models import families
from prune_core.models.checkpoints import loading
from prune_core.models.export.onnx import to_onnx

LABELED = [(text, i % 2) for i, text in enumerate(tiny.SENTENCES)]


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_saved_checkpoint_is_pruned_measured_and_exported(family, tmp_path):
    loading.save(tiny.model(family), tiny.tokenizer(family), tmp_path / "dense")
    dense, tokenizer = loading.load(str(tmp_path / "dense"))
    pruned = pc.prune(dense, tokenizer, tiny.SENTENCES, method="akr", sparsity=0.5)
    rows = pc.compare(
        dense, pruned, tokenizer, LABELED, measures=["accuracy", "reconstruction"]
    ).rows
    assert rows["accuracy"]["n"].tolist() == [12, 12]
    assert isinstance(rows["reconstruction"], pd.DataFrame) and len(rows["reconstruction"])

    loading.save(pruned, tokenizer, tmp_path / "pruned")
    reloaded, _ = pc.load(tmp_path / "pruned")
    for name, tensor in pruned.state_dict().items():
        torch.testing.assert_close(reloaded.state_dict()[name], tensor, rtol=0, atol=0)
    assert to_onnx(reloaded, tokenizer, tmp_path / "model.onnx") < 1e-4
