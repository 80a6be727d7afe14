"""Sentence-embedding models: folders of sentence-transformers, poolings, methods and measures."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file
from transformers import AutoModel

import prune_core as pc
from prune_core import PruneError
from prune_core import tasks as task_types
from prune_core.cli.arguments import main
from prune_core.data import columns, reading
from prune_core.data.examples import DataSource, Examples
from prune_core.experiments import content_hashes
from prune_core.experiments.experiment import Experiment
from prune_core.experiments.stage_keys import stage_folders
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import embedding, replay
from prune_core.models.checkpoints import difference, folders, loading, verification
from prune_core.models.compact import compact_model, dead_units
from prune_core.models.inference.predict import predict
from prune_core.plugins import build, no_report
from prune_core.tasks import METRICS, TASK_TYPES
from prune_core.tasks.embedding import POOLINGS
from prune_core.tasks.task_data import Task

FAMILIES = ("bert", "distilbert", "modernbert")
EMBEDDING = TASK_TYPES["embedding"]
ST = "sentence_transformers.models."


def write_folder(
    folder: Path,
    family: str = "bert",
    pooling: str = "mean",
    *,
    encoder: str = "",
    **settings: Any,
) -> str:
    """Write a sentence-transformers folder with a Dense module, without the product's code.

    `encoder`: the subfolder of the Transformer module.
    """
    config = tiny.CONFIGS[family]()
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder / encoder)
    tiny.tokenizer(family).save_pretrained(folder / encoder)
    files = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": encoder, "type": f"{ST}Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{ST}Pooling"},
            {"idx": 2, "name": "2", "path": "2_Dense", "type": f"{ST}Dense"},
            {"idx": 3, "name": "3", "path": "3_Normalize", "type": f"{ST}Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": 32,
            **{key: name == pooling for name, key in embedding.FLAGS.items()},
        },
        "2_Dense/config.json": {
            "in_features": 32,
            "out_features": 16,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
        f"{encoder}/sentence_bert_config.json".strip("/"): {
            "max_seq_length": 20,
            "do_lower_case": False,
        },
        "config_sentence_transformers.json": settings,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    weights = {"linear.weight": torch.randn(16, 32), "linear.bias": torch.randn(16)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    return str(folder)


def embed(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Unit vectors of the texts by the product, in one padded batch."""
    sample = Examples(texts, kind="embedding")
    return np.array(predict(model, tokenizer, sample, batch_size=len(texts)).predicted)


def by_sentence_transformers(folder: str | Path) -> np.ndarray:
    """Unit vectors of the tiny texts by sentence-transformers."""
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(folder), device="cpu")
    return np.array(model.encode(tiny.SENTENCES, normalize_embeddings=True))


def pair(dense: Any, pruned: Any, sample: Examples, metric: str = "spearman_cosine") -> Pair:
    task = Task("tiny", ("embedding",), sample, evaluation=sample, metric=metric)
    return Pair(dense, pruned, tiny.tokenizer(), task=task, max_length=64)


# -- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sentence_transformers_folder_gives_the_same_vectors(
    family: str, pooling: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "dense", family, pooling)
    model, tokenizer = loading.load(folder)
    assert model.config.sentence_embedding["poolings"] == [pooling]
    assert tokenizer.model_max_length == 20
    sample = tiny.examples(kind="embedding")
    verification.check(folder, model, tokenizer, examples=sample, max_length=64)
    loading.save(model, tokenizer, tmp_path / "saved")
    for place in (folder, tmp_path / "saved"):
        vectors = by_sentence_transformers(place)
        np.testing.assert_allclose(embed(model, tokenizer, tiny.SENTENCES), vectors, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_replay_equals_the_model(family: str, pooling: str) -> None:
    model = tiny.model(family, kind="embedding")
    model.config.sentence_embedding["poolings"] = [pooling]
    assert replay.tokens_read(model) == (1 if pooling == "cls" else None)
    for batch in tiny.calibration(family):
        with torch.no_grad():
            expected = model(**batch).embeddings
        *_, (hidden, padding) = replay.hidden_states(model, batch)
        with torch.no_grad():
            torch.testing.assert_close(
                replay.head(model, hidden, padding), expected, atol=1e-5, rtol=1e-4
            )


def test_the_encoder_may_be_in_a_subfolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "dense", encoder="0_Transformer")
    model, tokenizer = loading.load(folder)
    assert tokenizer.model_max_length == 20
    sample = tiny.examples(kind="embedding")
    verification.check(folder, model, tokenizer, examples=sample, max_length=64)
    pruned = pc.prune(model, tokenizer, tiny.SENTENCES, "magnitude", sparsity=0.5)
    loading.save(pruned, tokenizer, tmp_path / "pruned")
    for each, place in ((model, folder), (pruned, tmp_path / "pruned")):
        vectors = by_sentence_transformers(place)
        np.testing.assert_allclose(embed(each, tokenizer, tiny.SENTENCES), vectors, atol=1e-5)
    monkeypatch.setenv("PRUNESCOPE_MODELS", str(tmp_path))
    assert {folder, str(tmp_path / "pruned")} <= {*folders.known_checkpoints()}
    # a change of any module is a change of the checkpoint
    before = content_hashes.hash_checkpoint(folder)
    names = {name for name, _ in before}
    assert {"modules.json", "0_Transformer/model.safetensors", "1_Pooling/config.json"} <= names
    save_file({"linear.weight": torch.zeros(16, 32)}, f"{folder}/2_Dense/model.safetensors")
    assert content_hashes.hash_checkpoint(folder) != before


def test_several_poolings_are_concatenated(tmp_path: Path) -> None:
    folder = Path(write_folder(tmp_path))
    (folder / "modules.json").write_text(
        json.dumps(json.loads((folder / "modules.json").read_text())[:2])
    )
    config = {"embedding_dimension": 32, "pooling_mode": ["cls", "mean"], "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    model, tokenizer = loading.load(str(folder))
    vectors = embed(model, tokenizer, tiny.SENTENCES)
    assert vectors.shape == (len(tiny.SENTENCES), 64)
    np.testing.assert_allclose(vectors, by_sentence_transformers(folder), atol=1e-5)


def test_the_default_prompt_precedes_every_text(tmp_path: Path) -> None:
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    folder = write_folder(tmp_path / "dense", **settings)
    model, tokenizer = loading.load(folder)
    sample = tiny.examples(kind="embedding")
    verification.check(folder, model, tokenizer, examples=sample, max_length=64)
    vectors = embed(model, tokenizer, tiny.SENTENCES)
    np.testing.assert_allclose(vectors, by_sentence_transformers(folder), atol=1e-5)
    loading.save(model, tokenizer, tmp_path / "saved")
    np.testing.assert_allclose(vectors, by_sentence_transformers(tmp_path / "saved"), atol=1e-5)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", [], "lists nothing where a Transformer"),
        (
            "modules.json",
            [
                {"path": "", "type": f"{ST}Transformer"},
                {"path": "1_Pooling", "type": f"{ST}Pooling"},
                {"path": "2_CNN", "type": f"{ST}CNN"},
            ],
            r"its module 2_CNN \(sentence_transformers.models.CNN\) is not supported",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "its pooling is 'attention'"),
        (
            "2_Dense/config.json",
            {"in_features": 32, "out_features": 9},
            "the weights of its module 2_Dense",
        ),
        (
            "2_Dense/config.json",
            {"in_features": 32, "out_features": 16, "activation_function": "my.code.Act"},
            "is my.code.Act; only those of torch.nn",
        ),
    ],
)
def test_folders_that_cannot_be_read_are_refused(
    file: str, content: Any, message: str, tmp_path: Path
) -> None:
    folder = Path(write_folder(tmp_path))
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(PruneError, match=message):
        loading.load(str(folder))


def test_pooling_is_refused_where_it_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(PruneError, match="leave --pooling out"):
        loading.load(write_folder(tmp_path), pooling="cls")
    with pytest.raises(PruneError, match="does not pool its tokens"):
        loading.load("demo", pooling="cls")
    with pytest.raises(PruneError, match="pooling"):
        Experiment("demo", pooling="middle", measures=(build(MEASURES, "accuracy"),))


# -- pruning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["magnitude", "akr", "akr_plus", "kprune", "kprune_plus"])
def test_methods_prune_embedding_models(name: str, family: str, pooling: str) -> None:
    dense = tiny.model(family, kind="embedding")
    dense.config.sentence_embedding["poolings"] = [pooling]
    pruned = copy.deepcopy(dense)
    build(METHODS, name, {"sparsity": 0.4}).prune(pruned, tiny.calibration(family), no_report)
    zeros = [row["sparsity"] for row in replay.sparsity_by_projection(pruned)]
    assert 0.2 < np.mean(zeros) < 0.6  # of FLOPs, for K-prune
    vectors = [embed(each, tiny.tokenizer(family), tiny.SENTENCES) for each in (dense, pruned)]
    assert (vectors[0] * vectors[1]).sum(1).mean() > 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_compact_models_give_equal_vectors_everywhere(family: str, tmp_path: Path) -> None:
    dense, tokenizer = loading.load(write_folder(tmp_path / "dense", family))
    build(METHODS, "unit_magnitude", {"sparsity": 0.5}).prune(
        dense, tiny.calibration(family), no_report
    )
    assert all(dead_units(dense))
    loading.save(compact_model(dense), tokenizer, tmp_path / "compact")
    small, tokenizer = loading.load(str(tmp_path / "compact"))
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    assert count(small) < count(dense)
    vectors = embed(small, tokenizer, tiny.SENTENCES)
    np.testing.assert_allclose(vectors, embed(dense, tokenizer, tiny.SENTENCES), atol=1e-5)
    # sentence-transformers reads the full shape, with zeros
    np.testing.assert_allclose(vectors, by_sentence_transformers(tmp_path / "compact"), atol=1e-5)


def test_drift_of_the_last_block_is_that_of_the_final_embedding() -> None:
    dense = tiny.model(kind="embedding")
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": 0.6}).prune(pruned, [], no_report)
    pair = tiny.retrieval_pair(dense, pruned)
    measure = build(MEASURES, "drift", {"neighbors": 2, "umap": False})
    drift = measure.measure(pair, no_report)["drift"]
    vectors = [
        np.array(predict(model, pair.tokenizer, pair.task.evaluation).predicted)
        for model in (dense, pruned)
    ]
    assert set(drift["pooling"]) == {"own"}
    assert drift["cosine"].iloc[-1] == pytest.approx((vectors[0] * vectors[1]).sum(1).mean())


def test_onnx_returns_the_embeddings(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from prune_core.models.export.onnx import to_onnx

    model = tiny.model("bert", kind="embedding")
    assert to_onnx(model, tiny.tokenizer(), tmp_path / "model.onnx") < 1e-4
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    assert [each.name for each in session.get_outputs()] == ["embeddings"]


def test_fisher_probe_of_invalid_embeddings_is_invalid() -> None:
    embeddings = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [0.0, 1.0]])
    assert EMBEDDING.fisher_probe(embeddings, torch.ones(3, 2))[1].isnan().all()


def test_fisher_probe_is_the_hessian_of_changed_scores() -> None:
    batch = torch.tensor(
        [[0.5, -1.0, 2.0, 0.25], [1.0, 0.5, -0.5, 2.0], [-1.0, 1.0, 1.0, 0.0]], dtype=torch.float64
    )
    e, unit = batch[0], torch.nn.functional.normalize(batch, dim=1)
    every = torch.tensor([*itertools.product((-1.0, 1.0), repeat=4)], dtype=torch.float64)
    probes = torch.stack([EMBEDDING.fisher_probe(batch, signs.expand(3, -1))[0] for signs in every])
    covariance = probes.T @ probes / len(every)  # over all signs: exact

    def loss(change: torch.Tensor) -> float:
        moved = torch.nn.functional.normalize(e + change, dim=0)
        scores = (unit - unit.mean(0)) @ (moved - unit[0])
        return float(scores.square().mean() / 2)

    step, identity = 1e-4, torch.eye(4, dtype=torch.float64)
    hessian = torch.zeros(4, 4, dtype=torch.float64)
    for i, j in itertools.product(range(4), repeat=2):
        a, b = step * identity[i], step * identity[j]
        hessian[i, j] = (loss(a + b) - loss(a - b) - loss(b - a) + loss(-a - b)) / (4 * step**2)
    torch.testing.assert_close(covariance, hessian, atol=1e-5, rtol=1e-5)
    assert EMBEDDING.divergence(e[None] * 3, e[None]).item() == pytest.approx(0, abs=1e-6)


# -- measures ------------------------------------------------------------------------------------


def test_predictions_of_pairs_are_cosines() -> None:
    model, tokenizer = tiny.model(kind="embedding"), tiny.tokenizer()
    sample = tiny.examples(kind="embedding")
    first, second = (embed(model, tokenizer, texts) for texts in (sample.texts, sample.pairs))
    for batch_size in (5, 64):
        cosines = predict(model, tokenizer, sample, batch_size=batch_size).predicted
        np.testing.assert_allclose(cosines, (first * second).sum(1), atol=1e-5)


def test_similarity_metrics_on_a_small_case() -> None:
    scores, cosines = [0.0, 2.5, 5.0], [0.1, 0.9, 0.5]
    assert METRICS["spearman_cosine"].compute(scores, cosines) == pytest.approx(0.5)
    expected = np.corrcoef(scores, cosines)[0, 1]
    assert METRICS["pearson_cosine"].compute(scores, cosines) == pytest.approx(expected)
    closeness = METRICS["cosine_to_dense"].compute([1.0, 0.5], [0.8, 0.6])
    assert closeness == pytest.approx(0.85)


@pytest.mark.parametrize("are_pairs", [True, False])
def test_data_without_scores_is_compared_with_the_dense_model(are_pairs: bool) -> None:
    dense, sample = tiny.model(kind="embedding"), tiny.examples(kind="embedding")
    sample = Examples(sample.texts, sample.pairs if are_pairs else None, kind="embedding")
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": 0.5}).prune(pruned, tiny.calibration(), no_report)
    metric = task_types.metric_for("embedding", 1, labelled=False)
    assert metric == "cosine_to_dense"
    tables = build(MEASURES, "accuracy").measure(pair(dense, pruned, sample, metric), no_report)
    row = tables["accuracy"].iloc[0]
    outputs = [
        np.array(predict(each, tiny.tokenizer(), sample).predicted) for each in (dense, pruned)
    ]
    if are_pairs:
        expected = 1 - np.abs(outputs[0] - outputs[1]).mean()
    else:
        expected = (outputs[0] * outputs[1]).sum(1).mean()
    assert row["score"] == pytest.approx(expected) and row["dense_score"] == pytest.approx(1)
    assert row["low"] <= row["score"] <= row["high"] and row["agreement"] == row["score"]


def read(rows: dict[str, list], **options: str) -> Examples:
    import pandas as pd

    table, source = pd.DataFrame(rows), DataSource("a", **options)
    chosen = columns.choose_columns(table, source, "a", EMBEDDING)
    return reading.examples(table, source, chosen, task_type=EMBEDDING).examples


def test_pairs_with_scores_are_read() -> None:
    texts = {"sentence1": ["a b", "c d"], "sentence2": ["e f", "g h"]}
    assert read(texts | {"similarity_score": [0.5, 4]}).labels == [0.5, 4.0]
    duplicates = read(texts | {"label": [0, 1]})
    assert duplicates.labels == [0.0, 1.0] and not duplicates.binary
    assert read(texts).labels is None and read(texts).pairs == ["e f", "g h"]


def test_other_data_is_refused_with_advice() -> None:
    reviews = {"text": ["good film", "bad film"], "label": ["positive", "negative"]}
    with pytest.raises(PruneError, match="set the second text with --text-pair"):
        read(reviews)
    assert read(reviews, label="-").labels is None
    words = {"premise": ["a b", "c d"], "hypothesis": ["e f", "g h"], "label": ["yes", "maybe"]}
    with pytest.raises(PruneError, match="is not a number"):
        read(words)
    with pytest.raises(PruneError, match="but the checkpoint's head predicts an embedding"):
        task_types.task_data.load(DataSource(), ("embedding",), kind="embedding")


# -- runs ----------------------------------------------------------------------------------------


def write_pairs(file: Path) -> str:
    sample = tiny.examples(3, kind="embedding")
    lines = [
        {"sentence1": text, "sentence2": other, "score": score}
        for text, other, score in zip(sample.texts, sample.pairs, sample.labels, strict=True)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def test_run_command_with_a_plain_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path / "home"))
    AutoModel.from_config(tiny.CONFIGS["bert"]()).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    command = ["run", "--checkpoint", str(tmp_path / "model"), "--device", "cpu"]
    command += ["--task", write_pairs(tmp_path / "pairs.jsonl"), "--sparsity", "0.5"]
    measures = ["accuracy", "reconstruction", "sensitivity", "cost"]
    akr = [*command, "--method", "akr", *(f"--measure={name}" for name in measures)]
    assert main(akr) == 2 and "name its pooling: --pooling mean" in capsys.readouterr().err
    out = str(tmp_path / "out.json")
    assert main([*akr, "--pooling", "mean", "--json", out]) == 0, capsys.readouterr().err
    result = json.loads(Path(out).read_text())
    assert result["rows"]["accuracy"][0]["metric"] == "spearman_cosine"
    (saved,) = (tmp_path / "home").rglob("difference.safetensors")
    assert difference.read_metadata(saved.parent)["pooling"] == "mean"
    model, _ = loading.load(str(saved.parent))
    zeros = [row["sparsity"] for row in replay.sparsity_by_projection(model)]
    assert np.mean(zeros) == pytest.approx(0.5, abs=0.01)
    capsys.readouterr()
    attack = [*command, "--pooling", "mean", "--method", "akr", "--measure", "attack"]
    assert main(attack) == 2
    assert "cannot be measured on a model that predicts an embedding" in capsys.readouterr().err
    kwon = [*command, "--pooling", "mean", "--method", "kwon", "--measure", "accuracy"]
    assert main(kwon) == 2 and "needs no labels" in capsys.readouterr().err


def test_pooling_is_part_of_the_key_of_stages() -> None:
    keys = {
        stage_folders(Experiment("x/y", pooling=pooling, measures=(build(MEASURES, "cost"),)))[
            "cost"
        ]
        for pooling in ("", "mean", "cls")
    }
    assert len(keys) == 3


def test_python_interface_prunes_and_compares(tmp_path: Path) -> None:
    model, tokenizer = pc.load(write_folder(tmp_path))
    pruned = pc.prune(model, tokenizer, tiny.SENTENCES, method="akr", sparsity=0.5)
    sample = tiny.examples(kind="embedding")
    rows = [*zip(sample.texts, sample.pairs, sample.labels, strict=True)]
    compared = pc.compare(model, pruned, tokenizer, rows, measures=("accuracy", "reconstruction"))
    assert len(compared.rows["accuracy"]) == 2 and "Spearman" in compared.takeaway
