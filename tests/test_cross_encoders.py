"""CrossEncoders of sentence-transformers: reading their folders, activations, and saving them."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from prune_core import PruneError
from prune_core.data.examples import Examples
from prune_core.models.checkpoints import loading
from prune_core.models.inference.predict import predict
from prune_core.tasks.regression import IDENTITY, SIGMOID

PAIRS = Examples(["who?"] * 3, ["a man", "a plan", "a film that never lies"], kind="regression")
# what version 6 writes besides config.json
SETTINGS = "config_sentence_transformers.json"
MODULE = {
    **{"idx": 0, "name": "0", "path": ""},
    "type": "sentence_transformers.base.modules.transformer.Transformer",
}
OUTPUT = {"text": {"method": "forward", "method_output_name": "logits"}}
TRANSFORMER = {
    "transformer_task": "sequence-classification",
    "modality_config": OUTPUT,
    "module_output_name": "scores",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A folder of transformers with one output."""
    folder = tmp_path_factory.mktemp("plain")
    loading.save(tiny.model(kind="regression"), tiny.tokenizer(), folder)
    return folder


def write_folder(plain: Path, folder: Path, settings: dict | None = None, **keys) -> Path:
    """Copy the folder, with keys in its config.json and the settings of version 6."""
    folder.mkdir()
    for file in plain.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((plain / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))
    if settings is not None:
        (folder / SETTINGS).write_text(json.dumps({"model_type": "CrossEncoder", **settings}))
        (folder / "modules.json").write_text(json.dumps([MODULE]))
        (folder / "sentence_bert_config.json").write_text(json.dumps(TRANSFORMER))
    return folder


def scores(folder: Path) -> np.ndarray:
    model, tokenizer = loading.load(str(folder))
    return np.array(predict(model, tokenizer, PAIRS).predicted)


FOLDERS = {
    "version 6": ({"activation_fn": SIGMOID}, {}, "Sigmoid"),
    "version 6, identity": ({"activation_fn": IDENTITY}, {}, "Identity"),
    "version 4": (None, {"sentence_transformers": {"activation_fn": IDENTITY}}, "Identity"),
    "version 4, default": (None, {"sentence_transformers": {"version": "4.1.0"}}, "Sigmoid"),
    "version 3": (None, {"sbert_ce_default_activation_function": SIGMOID}, "Sigmoid"),
}


@pytest.fixture(scope="module")
def folders(plain, tmp_path_factory) -> dict[str, Path]:
    """The folder of every version, and "saved …" as the product saves it."""
    root, found = tmp_path_factory.mktemp("versions"), {}
    for version, (settings, keys, _) in FOLDERS.items():
        found[version] = write_folder(plain, root / version, settings, **keys)
        found[f"saved {version}"] = root / f"saved {version}"
        loading.save(*loading.load(str(found[version])), root / f"saved {version}")
    return found


@pytest.mark.parametrize("version", FOLDERS)
def test_scores_are_shown_after_the_activation(version, plain, folders):
    activation = FOLDERS[version][2]
    assert loading.load(str(folders[version]))[0].notes == [
        f"CrossEncoder of sentence-transformers: scores are shown after its {activation}."
    ]
    found, logits = scores(folders[version]), scores(plain)
    expected = 1 / (1 + np.exp(-logits)) if activation == "Sigmoid" else logits
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(scores(folders[f"saved {version}"]), found)


def test_sentence_transformers_gives_the_same_scores(folders):
    library = pytest.importorskip("sentence_transformers")
    for version, folder in folders.items():
        found = library.CrossEncoder(str(folder), device="cpu").predict(
            list(zip(PAIRS.texts, PAIRS.pairs, strict=True))
        )
        np.testing.assert_allclose(found, scores(folder), atol=1e-5, err_msg=version)


def test_other_models_have_no_activation(plain, tmp_path):
    assert loading.load(str(plain))[0].notes == []
    embeds = write_folder(plain, tmp_path / "other", {"model_type": "SentenceTransformer"})
    np.testing.assert_array_equal(scores(embeds), scores(plain))


def test_an_unknown_activation_is_noted_and_broken_settings_are_an_error(plain, tmp_path):
    folder = write_folder(plain, tmp_path / "model", {"activation_fn": "mine.Steps"})
    assert "mine.Steps, which is not applied" in loading.load(str(folder))[0].notes[0]
    np.testing.assert_array_equal(scores(folder), scores(plain))
    (folder / SETTINGS).write_text("{")
    with pytest.raises(PruneError, match=f"{SETTINGS} is not valid JSON"):
        loading.load(str(folder))


def test_large_logits_are_no_ties(plain):
    config = tiny.model(kind="regression").config
    config.sentence_transformers = {"activation_fn": SIGMOID}
    outputs = np.array([[25.0], [26.0]], dtype=np.float32)
    first, second = loading.task_type_of(config).decode(outputs, PAIRS, config).predicted
    assert first < second < 1


def test_fine_tuning_trains_the_score_itself(plain, tmp_path):
    folder = write_folder(plain, tmp_path / "model", None, **FOLDERS["version 3"][1])
    model, _ = loading.load(str(folder), "regression", ("score",))
    assert model.config.problem_type == "regression"
    assert model.config.sentence_transformers == {"activation_fn": IDENTITY}
    assert not hasattr(model.config, "sbert_ce_default_activation_function")
