"""Models from elsewhere: every file format gives the results of the model it was exported from."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import tiny
import torch
from test_golden_values import NAMES, evaluation_sample
from transformers import (
    AutoTokenizer,
    ErnieConfig,
    ErnieForSequenceClassification,
)

from prune_core import PruneError
from prune_core.analysis import takeaways
from prune_core.analysis.candidate_facts import candidate_facts, warnings
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.evidence import evidence
from prune_core.cli.arguments import main
from prune_core.cli.run_commands import run_in_process
from prune_core.data.examples import DataSource
from prune_core.experiments.candidate import BY_BLOCK, QUERYING, REWRITING, CandidateModel
from prune_core.experiments.experiment import Experiment
from prune_core.experiments.stage_keys import stage_folders
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.models import replay
from prune_core.models.candidates import files, kinds, programs
from prune_core.models.candidates import loading as candidates
from prune_core.models.checkpoints import loading
from prune_core.models.export import formats
from prune_core.models.export.onnx import OnnxWrapper, to_onnx
from prune_core.models.inference.queueing import response_times
from prune_core.plugins import build, no_report
from prune_core.store.job import Status
from prune_core.store.store import Store
from prune_core.tasks import TASK_TYPES, metric_for
from prune_core.tasks.task_data import Task

LABELS = ("negative", "positive")
EXAMPLES = 24


def save(model: torch.nn.Module, folder: Path, labels=LABELS) -> Path:
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    loading.save(model, tiny.tokenizer(), folder)
    return folder


def small_model(seed: int = 1, width: int = 16) -> torch.nn.Module:
    """A model of half the width and one layer less than the dense one."""
    config = tiny.CONFIGS["bert"]()
    config.update(
        {"num_hidden_layers": 1, "hidden_size": width, "intermediate_size": 40, "num_labels": 2}
    )
    torch.manual_seed(seed)
    model = type(tiny.model())(config).eval()
    with torch.no_grad():
        for _, _, linear in replay.linears(model):
            linear.weight.mul_(8)
        model.classifier.weight.mul_(20)
        batch = tiny.tokenizer()(tiny.SENTENCES, padding=True, return_tensors="pt")
        model.classifier.bias.sub_(model(**batch).logits.median(0).values)  # predicts both labels
    return model


def write_files(model: torch.nn.Module, folder: Path) -> dict[str, Path]:
    """Write the model as every kind of file, next to its tokenizer and config.json."""
    tokenizer = tiny.tokenizer()
    written = {kinds.ONNX: folder / "small.onnx"}
    to_onnx(model, tokenizer, written[kinds.ONNX])
    formats.FORMATS[formats.OPENVINO](formats.ExportSource(model, tokenizer, folder, []))
    written[kinds.OPENVINO] = folder / "openvino.xml"
    wrapper = OnnxWrapper(model, tokenizer)
    ids = torch.randint(5, 1000, (2, 12))
    batch = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(wrapper.inputs)]
    written[kinds.TORCHSCRIPT] = folder / "small.pt"
    torch.jit.trace(wrapper, batch).save(str(written[kinds.TORCHSCRIPT]))
    written[kinds.EXPORTED] = folder / "small.pt2"
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=128)}
    shapes = (tuple(sizes for _ in wrapper.inputs),)
    torch.export.save(
        torch.export.export(wrapper, batch, dynamic_shapes=shapes), written[kinds.EXPORTED]
    )
    return written


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The dense model, a smaller one, and the smaller one in every format."""
    home = tmp_path_factory.mktemp("models")
    model = small_model()
    small = save(model, home / "small")
    exported = home / "exported"
    exported.mkdir()
    written = write_files(loading.load(str(small))[0], exported)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(small / name, exported / name)
    return {
        "dense": save(tiny.model(), home / "dense"),
        kinds.CHECKPOINT: small,
        **written,
    }


def experiment(folders, path, measures=("accuracy",), tokenizer="", **options) -> Experiment:
    return Experiment(
        str(folders["dense"]),
        source=DataSource(options.pop("task", "demo")),
        method=CandidateModel(path=str(path), tokenizer=str(tokenizer)),
        measures=tuple(build(MEASURES, name, options.get(name)) for name in measures),
        calibration_size=8,
        evaluation_size=EXAMPLES,
        device="cpu",
        study="S",
    )


def measure(folders, path, *arguments, **options):
    """Run an experiment; return the store and its job."""
    store = Store()
    job = run_in_process(store, experiment(folders, path, *arguments, **options))
    if job.status != Status.DONE:
        raise PruneError(job.error)
    return store, job


def facts_of(store, job) -> dict[str, str]:
    return dict(candidate_facts(evidence(store, job))[["fact", "value"]].itertuples(index=False))


def warnings_of(store, job) -> str:
    return " ".join(warnings(candidate_facts(evidence(store, job))))


@pytest.mark.parametrize("kind", [kinds.ONNX, kinds.OPENVINO, kinds.TORCHSCRIPT, kinds.EXPORTED])
def test_file_gives_the_metrics_of_its_checkpoint(folders, kind):
    rows = {}
    for name in (kinds.CHECKPOINT, kind):
        store, job = measure(folders, folders[name], ("accuracy", "cost"), cost={"repeats": 3})
        rows[name] = {table: store.rows(table, [job.id]) for table in ("accuracy", "prediction")}
        rows[name]["cost"] = store.rows("cost", [job.id]).set_index("model").loc["pruned"]
        facts = facts_of(store, job)
        assert facts["format"] == name
        assert "equal to the dense model's on 24 texts" in facts["tokenizer"]
        assert not warnings_of(store, job)
    expected, actual = rows[kinds.CHECKPOINT], rows[kind]
    assert list(actual["prediction"]["pruned"]) == list(expected["prediction"]["pruned"])
    assert set(expected["prediction"]["pruned"]) == {0, 1}
    columns = ["score", "dense_score", "agreement", "low", "high", "broken", "fixed"]
    pd.testing.assert_frame_equal(actual["accuracy"][columns], expected["accuracy"][columns])
    assert np.allclose(
        [*actual["prediction"]["pruned_probabilities"]],
        [*expected["prediction"]["pruned_probabilities"]],
        atol=1e-5,
    )
    size = sum(file.stat().st_size for file in files.content_files(str(folders[kind])))
    assert actual["cost"]["bytes"] == size
    assert actual["cost"]["latency_p50"] > 0 and np.isnan(actual["cost"]["macs"])
    assert actual["cost"]["parameters"] == pytest.approx(expected["cost"]["parameters"], rel=0.02)


def test_facts_of_an_onnx_file(folders):
    store, job = measure(folders, folders[kinds.ONNX])
    facts = facts_of(store, job)
    model = onnx.load(str(folders[kinds.ONNX]))
    assert facts["opset"] == f"ai.onnx {model.opset_import[0].version}"
    assert facts["precision of weights"] == "float32 100.0%"
    assert facts["labels"] == "negative, positive"
    assert job.label == "small.onnx" and job.is_candidate


def test_int8_file_and_a_misleading_file_name(folders, tmp_path):
    int8 = folders[kinds.ONNX].with_name("small-int8.onnx")
    formats.to_int8(folders[kinds.ONNX], int8)
    store, job = measure(folders, int8)
    assert "int8" in facts_of(store, job)["precision of weights"]
    assert "The name says" not in warnings_of(store, job)
    claimed = folders[kinds.ONNX].with_name("claimed.int8.onnx")
    shutil.copy(folders[kinds.ONNX], claimed)
    store, job = measure(folders, claimed)
    assert "The name says int8, but the weights inside are float32 100.0%" in warnings_of(
        store, job
    )


def test_labels_in_another_order_are_mapped_by_name(folders, tmp_path):
    model = loading.load(str(folders[kinds.CHECKPOINT]))[0]
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter.flip(0).clone())
    swapped = save(model, tmp_path / "swapped", LABELS[::-1])
    to_onnx(model, tiny.tokenizer(), swapped / "swapped.onnx")
    _, expected = _predictions(folders, folders[kinds.CHECKPOINT])
    for path in (swapped, swapped / "swapped.onnx"):
        (store, job), actual = _predictions(folders, path)
        assert actual == expected
        assert "in another order than the dense model's" in warnings_of(store, job)


def _predictions(folders, path, **options):
    store, job = measure(folders, path, **options)
    return (store, job), list(store.rows("prediction", [job.id])["pruned"])


def _with_output(file: Path, out: Path, *nodes: onnx.NodeProto, constants=()) -> Path:
    """Copy an ONNX file with further nodes from `before` to the output `logits`."""
    model = onnx.load(str(file))
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "logits":
                node.output[place] = "before"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    onnx.save(model, str(out))
    return out


def test_unnamed_labels_in_another_order_are_reported(folders, tmp_path):
    tokenizer = tmp_path / "tokenizer"
    tiny.tokenizer().save_pretrained(tokenizer)
    dense = tmp_path / "dense.onnx"
    to_onnx(loading.load(str(folders["dense"]))[0], tiny.tokenizer(), dense)
    order = onnx.numpy_helper.from_array(np.array([1, 0]), "order")
    flip = onnx.helper.make_node("Gather", ["before", "order"], ["logits"], axis=1)
    swapped = _with_output(dense, tmp_path / "swapped.onnx", flip, constants=[order])
    store, job = measure(folders, dense, tokenizer=tokenizer)
    assert "has no label names" in warnings_of(store, job)
    assert "seem to be in another order" not in warnings_of(store, job)
    store, job = measure(folders, swapped, tokenizer=tokenizer)
    found = warnings_of(store, job)
    assert "negative means positive, positive means negative" in found
    assert "less than half of the examples of negative, positive" in found


def test_probabilities_are_recognized(folders):
    softmax = onnx.helper.make_node("Softmax", ["before"], ["logits"], axis=-1)
    file = folders[kinds.ONNX]
    path = _with_output(file, file.with_name("probabilities.onnx"), softmax)
    (store, job), actual = _predictions(folders, path)
    assert actual == _predictions(folders, file)[1]
    assert "probabilities" in facts_of(store, job)["outputs"]


def test_file_of_fixed_shape_is_padded(folders):
    model, _ = loading.load(str(folders[kinds.CHECKPOINT]))
    wrapper = OnnxWrapper(model, tiny.tokenizer())
    ids = torch.randint(5, 1000, (4, 64))
    batch = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(wrapper.inputs)]
    path = folders[kinds.ONNX].with_name("fixed.onnx")
    torch.onnx.export(
        wrapper, batch, str(path), input_names=wrapper.inputs, output_names=wrapper.outputs
    )
    _, actual = _predictions(folders, path)
    assert actual == _predictions(folders, folders[kinds.ONNX])[1]


def test_constant_outputs_are_reported(folders, tmp_path):
    model = small_model()
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([-50.0, 50.0]))
    constant = save(model, tmp_path / "constant")
    store, job = measure(folders, constant)
    assert "predicts 'positive' for 100.0% of the examples" in warnings_of(store, job)


def test_another_tokenizer_is_used_and_reported(folders, tmp_path):
    """A model with another vocabulary is as accurate as with its own tokenizer."""
    file = folders[kinds.ONNX]
    source = loading.resolve(loading.MINILM)
    cased = AutoTokenizer.from_pretrained(source, do_lower_case=False)
    cased.save_pretrained(tmp_path / "cased")
    store, job = measure(folders, file, tokenizer=tmp_path / "cased")
    assert "encodes texts differently" in warnings_of(store, job)
    assert "differs from the dense model's" in facts_of(store, job)["tokenizer"]


def test_half_precision_checkpoint(folders, tmp_path):
    loading.save(small_model(), tiny.tokenizer(), tmp_path / "half", dtype=torch.float16)
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    config["id2label"] = dict(enumerate(LABELS))
    (tmp_path / "half" / "config.json").write_text(json.dumps(config))
    store, job = measure(folders, tmp_path / "half", ("cost",), cost={"repeats": 3})
    cost = store.rows("cost", [job.id]).set_index("model")["bytes"]
    weights = (tmp_path / "half" / "model.safetensors").stat().st_size
    assert cost["pruned"] == weights
    facts = dict(store.rows("candidate", [job.id])[["fact", "value"]].itertuples(index=False))
    assert facts["precision of weights"] == "float16 100.0%"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("spam", "ham"), "has the labels spam, ham, the dense model has negative, positive"),
        (("negative", "neutral", "positive"), "has 3 labels"),
    ],
)
def test_models_of_other_tasks_are_refused(folders, tmp_path, labels, message):
    config = tiny.CONFIGS["bert"]()
    config.num_labels = len(labels)
    other = save(type(tiny.model())(config), tmp_path / "other", labels)
    with pytest.raises(PruneError, match=message):
        measure(folders, other)


def test_another_task_type_is_refused(folders, tmp_path):
    loading.save(tiny.model(kind="regression"), tiny.tokenizer(), tmp_path / "scores")
    with pytest.raises(PruneError, match="predicts a score, the dense model a label"):
        measure(folders, tmp_path / "scores")


def test_missing_tokenizer_is_named_with_its_flag(folders, tmp_path, capsys):
    shutil.copy(folders[kinds.ONNX], tmp_path / "alone.onnx")
    command = ["check", "--dense", str(folders["dense"]), "--candidate"]
    small = ["--evaluation-size", "20", "--calibration-size", "8", "--device", "cpu"]
    assert main([*command, str(tmp_path / "alone.onnx"), *small]) == 2
    assert "give the folder of its tokenizer with --tokenizer" in " ".join(
        capsys.readouterr().err.split()
    )
    policy = tmp_path / "policy.yaml"
    policy.write_text("accuracy_loss: 100\n")
    remedy = ["--tokenizer", str(folders[kinds.CHECKPOINT]), "--policy", str(policy)]
    assert main([*command, str(tmp_path / "alone.onnx"), *small, *remedy]) == 0
    assert main(["check"]) == 2
    assert "check --dense A --candidate B" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("name", "measures", "message"),
    [
        (kinds.ONNX, ("drift",), "no accessible hidden states"),
        (kinds.ONNX, ("formats",), "measured as it is"),
        (kinds.CHECKPOINT, ("reconstruction",), "2 layers of width 32 and small 1 layers of width"),
    ],
)
def test_unsupported_measures_are_refused_before_any_is_run(folders, name, measures, message):
    options = {"drift": {"umap": False, "neighbors": 3}}
    with pytest.raises(PruneError, match=message):
        measure(folders, folders[name], ("accuracy", *measures), **options)
    assert all("accuracy" not in job.done for job in Store().jobs())


def test_pruned_elsewhere_supports_every_comparison(folders, tmp_path):
    """A model of the dense model's shape is compared block by block."""
    model, _ = loading.load(str(folders["dense"]))
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(0.5)
    same = save(model, tmp_path / "same")
    measures = ("accuracy", "drift", "reconstruction", "sensitivity", "cost")
    options = {"drift": {"umap": False, "neighbors": 3}, "cost": {"repeats": 3}}
    store, job = measure(folders, same, measures, **options)
    assert set(measures) <= set(job.done)
    drift = store.rows("drift", [job.id])
    assert drift["cka"].between(0, 1).all() and len(drift) == 2


def test_attack_on_a_model_file(folders):
    attack = {"recipes": "DeepWordBug", "examples": 4, "query_budget": 30}
    outcomes = []
    for name in (kinds.CHECKPOINT, kinds.ONNX):
        store, job = measure(folders, folders[name], ("attack",), attack=attack)
        outcomes.append(store.rows("attack_example", [job.id])[["outcome", "perturbed"]])
    pd.testing.assert_frame_equal(*outcomes)


def test_key_depends_on_the_content_of_the_file(folders, tmp_path):
    copied = tmp_path / "elsewhere"
    shutil.copytree(folders[kinds.ONNX].parent, copied)
    key = stage_folders(experiment(folders, folders[kinds.ONNX]))
    assert stage_folders(experiment(folders, copied / "small.onnx")) == key
    model = onnx.load(str(copied / "small.onnx"))
    model.producer_name = "another"
    onnx.save(model, str(copied / "small.onnx"))
    changed = stage_folders(experiment(folders, copied / "small.onnx"))
    assert not set(changed.values()) & set(key.values())


def test_experiment_of_a_candidate_is_read_from_json(folders):
    plan = experiment(folders, folders[kinds.ONNX])
    assert Experiment.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_pickles_in_torch_export_files_are_read_as_data(folders, monkeypatch):
    load, calls = torch.load, []

    def recorded(*arguments, **options):
        calls.append(options.get("weights_only"))
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", recorded)
    programs.load_program(kinds.EXPORTED, folders[kinds.EXPORTED])
    assert calls and all(calls) and torch.load is recorded


def test_pickled_objects_and_compiled_code_are_refused(folders, tmp_path):
    """An archive whose constants are rewritten as a pickle that writes a file when it is opened."""

    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    malicious, compiled = tmp_path / "malicious.pt2", tmp_path / "compiled.pt2"
    with (
        zipfile.ZipFile(folders[kinds.EXPORTED]) as source,
        zipfile.ZipFile(malicious, "w") as one,
        zipfile.ZipFile(compiled, "w") as two,
    ):
        for name in source.namelist():
            content = source.read(name)
            two.writestr(name, content)
            if name.endswith("model_constants_config.json"):
                root = name.rpartition("/")[0]
                config = json.loads(content)
                config["config"]["payload"] = {
                    "path_name": "opaque_obj_0",
                    "is_param": False,
                    "use_pickle": True,
                    "tensor_meta": None,
                }
                content = json.dumps(config)
                one.writestr(f"{root}/opaque_obj_0", pickle.dumps(Payload()))
            one.writestr(name, content)
        two.writestr("small/data/aotinductor/model/model.so", b"")
    with pytest.raises(PruneError, match="contains pickled objects"):
        programs.load_program(kinds.EXPORTED, malicious)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(PruneError, match="contains compiled code"):
        programs.load_program(kinds.EXPORTED, compiled)


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_task_type(tmp_path, kind):
    """A checkpoint and its ONNX file predict the same."""
    dense, model = (tiny.model(kind=kind, seed=seed) for seed in (0, 1))
    loading.save(model, tiny.tokenizer(), tmp_path)
    to_onnx(model, tiny.tokenizer(), tmp_path / "file.onnx")
    examples = evaluation_sample(kind)
    names = NAMES.get(kind, LABELS)
    task = Task("tiny", names, examples, evaluation=examples, metric=metric_for(kind, len(names)))
    predictions = []
    for path in (tmp_path, tmp_path / "file.onnx"):
        loaded = candidates.load(
            str(path),
            "",
            dense=dense,
            dense_tokenizer=tiny.tokenizer(),
            task=task,
            source=DataSource(),
            max_length=64,
        )
        pair = Pair(
            dense,
            loaded.model,
            tiny.tokenizer(),
            task=task,
            max_length=64,
            pruned_tokenizer=loaded.tokenizer,
        )
        predictions.append(MEASURES["accuracy"](resamples=100).measure(pair, no_report))
    actual, expected = (each["prediction"]["pruned"] for each in predictions)
    if TASK_TYPES[kind].is_discrete:
        assert list(actual) == list(expected)
    else:
        assert np.allclose(np.stack(actual), np.stack(expected), atol=1e-4)


# -- tables of predictions -------------------------------------------------------------------------


@pytest.fixture
def service(folders, tmp_path) -> tuple[Path, pd.DataFrame, list[int]]:
    """Data with ids, what a remote service returns for them, and the checkpoint's predictions."""
    data = pd.DataFrame(
        {
            "id": [f"row-{place}" for place in range(36)],
            "text": [f"{text} {place}" for place, text in enumerate(tiny.SENTENCES * 3)],
            "label": [LABELS[place % 2] for place in range(36)],
        }
    )
    data.to_csv(tmp_path / "data.csv", index=False)
    store, job = measure(folders, folders[kinds.CHECKPOINT], task=str(tmp_path / "data.csv"))
    rows = store.rows("prediction", [job.id])
    answers = pd.DataFrame(
        {
            "text": rows["text"],
            "prediction": [LABELS[label] for label in rows["pruned"]],
            "p_negative": [p[0] for p in rows["pruned_probabilities"]],
            "p_positive": [p[1] for p in rows["pruned_probabilities"]],
        }
    )
    answers = answers.merge(data[["id", "text"]], on="text").sample(frac=1, random_state=0)
    return tmp_path / "data.csv", answers, list(rows["pruned"])


@pytest.mark.parametrize("identity", ["text", "id"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_table_gives_the_metrics_of_the_model(folders, service, tmp_path, identity, suffix):
    data, answers, expected = service
    table = tmp_path / f"answers{suffix}"
    columns = answers[[identity, "p_positive", "p_negative"]]
    if suffix == ".csv":
        columns.to_csv(table, index=False)
    elif suffix == ".parquet":
        columns.to_parquet(table)
    else:
        columns.to_json(table, orient="records", lines=True)
    store, job = measure(folders, table, task=str(data))
    rows = store.rows("prediction", [job.id])
    assert list(rows["pruned"]) == expected
    assert facts_of(store, job)["format"] == kinds.TABLE
    first = store.rows("accuracy", [job.id - 1]).iloc[0]
    row = store.rows("accuracy", [job.id]).iloc[0]
    assert row["score"] == first["score"]
    assert row["divergence"] == pytest.approx(first["divergence"], abs=1e-6)


def test_table_of_labels_has_no_divergence(folders, service, tmp_path):
    data, answers, expected = service
    answers[["id", "prediction"]].to_csv(tmp_path / "labels.csv", index=False)
    store, job = measure(folders, tmp_path / "labels.csv", task=str(data))
    assert list(store.rows("prediction", [job.id])["pruned"]) == expected
    assert np.isnan(store.rows("accuracy", [job.id]).iloc[0]["divergence"])


def _unknown_ids(answers):
    return answers.assign(id=answers["id"] + "x")[["id", "prediction"]]


def _missing_rows(answers):
    return answers.iloc[:-2][["text", "prediction"]]


def _no_identity(answers):
    return answers[["prediction"]]


def _no_prediction(answers):
    return answers[["id"]].assign(note="x")


def _no_probabilities(answers):
    return answers[["id"]].assign(p_negative=3.0, p_positive=-2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_unknown_ids, "24 of 24 evaluation examples have no row by the column 'id'"),
        (_missing_rows, "2 of 24 evaluation examples have no row by the column 'text'"),
        (_no_identity, "no column identifies the examples"),
        (_no_prediction, "no column holds predictions"),
        (_no_probabilities, "not probabilities with a sum of 1"),
    ],
)
def test_tables_that_cannot_be_used(folders, service, tmp_path, change, message):
    data, answers, _ = service
    change(answers).to_csv(tmp_path / "answers.csv", index=False)
    with pytest.raises(PruneError, match=message):
        measure(folders, tmp_path / "answers.csv", task=str(data))


def test_table_supports_accuracy_only(folders, service, tmp_path):
    data, answers, _ = service
    answers.to_csv(tmp_path / "answers.csv", index=False)
    with pytest.raises(PruneError, match="there is no model to run; leave the measure cost out"):
        measure(folders, tmp_path / "answers.csv", ("accuracy", "cost"), task=str(data))


# -- command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ("accuracy_loss: 100\nsize: 100\n", 0),
        ("agreement: 100\nsize: 0.1\n", 1),
        ("accuracy_loss: 0.5\n", 3),
    ],
)
def test_check_of_an_onnx_file_from_elsewhere(folders, tmp_path, capsys, policy, status):
    (tmp_path / "policy.yaml").write_text(policy)
    arguments = [
        *("check", "--dense", str(folders["dense"]), "--candidate", str(folders[kinds.ONNX])),
        *("--task", "demo", "--evaluation-size", "24", "--calibration-size", "8"),
        *("--device", "cpu", "--policy", str(tmp_path / "policy.yaml")),
        *("--set", "accuracy.resamples=100", "--json", str(tmp_path / "out.json")),
    ]
    assert main(arguments) == status
    out = capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text())
    facts = {row["fact"]: row["value"] for row in record["facts"]}
    assert facts["format"] == "ONNX" and "opset" in out
    assert record["decision"] == {0: "ship", 1: "do not ship", 3: "inconclusive"}[status]
    labels = [job.label for job in Store().jobs()]
    assert sorted(labels) == ["Dense", "small.onnx"]
    assert main(["check", str(record["job"]), "--policy", str(tmp_path / "policy.yaml")]) == status


def test_default_policy_of_a_table_has_no_attacks(folders, service, tmp_path, capsys):
    data, answers, _ = service
    answers[["id", "prediction"]].to_csv(tmp_path / "labels.csv", index=False)
    status = main(
        [
            *("check", "--dense", str(folders["dense"]), "--task", str(data)),
            *("--candidate", str(tmp_path / "labels.csv"), "--evaluation-size", "24"),
            *("--calibration-size", "8", "--device", "cpu"),
        ]
    )
    out = capsys.readouterr().out
    assert status in (1, 3) and "attack" not in out.lower()


# -- families that cannot be pruned, fresh processes, load -----------------------------------------


def test_checkpoint_of_another_family(folders, tmp_path):
    """A family without accessible blocks is measured by its outputs."""
    torch.manual_seed(0)
    config = ErnieConfig(**tiny.SIZES, **tiny.WIDE, id2label=dict(enumerate(LABELS)))
    model = ErnieForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "other")
    tiny.tokenizer().save_pretrained(tmp_path / "other")
    store, job = measure(folders, tmp_path / "other", ("accuracy", "cost"), cost={"repeats": 3})
    assert "Ernie" in facts_of(store, job)["architecture"]
    cost = store.rows("cost", [job.id]).set_index("model").loc["pruned"]
    assert cost["parameters"] == sum(each.numel() for each in model.parameters())
    with pytest.raises(PruneError, match="the blocks of other are not accessible"):
        measure(folders, tmp_path / "other", ("drift",), drift={"umap": False, "neighbors": 3})


def test_quantized_checkpoint_names_what_is_missing(folders, tmp_path):
    shutil.copytree(folders[kinds.CHECKPOINT], tmp_path / "quantized")
    file = tmp_path / "quantized" / "config.json"
    quantization = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"quantization_config": quantization})
    )
    with pytest.raises(PruneError, match="cannot be run on this machine .*bitsandbytes"):
        measure(folders, tmp_path / "quantized")


def test_load_time_and_memory_of_fresh_processes(folders, tmp_path, capsys):
    policy = tmp_path / "policy.yaml"
    policy.write_text("resident_memory: 4000\n")
    command = ["check", "--dense", str(folders["dense"]), "--candidate", str(folders[kinds.ONNX])]
    small = ["--evaluation-size", "20", "--calibration-size", "8", "--device", "cpu"]
    assert main([*command, *small, "--policy", str(policy), "--set", "cost.repeats=3"]) == 0
    job = next(job for job in Store().jobs() if job.is_candidate)
    cost = Store().rows("cost", [job.id]).set_index("model")
    assert (cost["load_time"] > 0).all()
    # a process that runs the ONNX file has neither torch nor transformers in memory
    assert 2e7 < cost["resident_memory"]["pruned"] < cost["resident_memory"]["dense"] / 1.5
    policy.write_text("resident_memory: 20\n")
    assert main(["check", str(job.id), "--policy", str(policy)]) == 1


def test_response_times_of_a_queue():
    """Waiting times follow from the arrivals: none wait when idle, all do when overloaded."""
    service = [0.1] * 2000
    idle = response_times(service, 0.01, seed=0)
    assert idle.min() == pytest.approx(0.1) and np.median(idle) == pytest.approx(0.1)
    # mean waiting time of M/D/1: u s / (2 (1 - u)), with utilization u and service time s
    busy = response_times([0.1] * 200_000, 5.0, seed=0)
    assert busy.mean() == pytest.approx(0.1 + 0.5 * 0.1 / (2 * 0.5), rel=0.03)
    overloaded = response_times(service, 20.0, seed=0)
    assert overloaded[-1] > 50 and (response_times(service, 20.0, seed=0) == overloaded).all()


def test_cost_under_load(folders):
    options = {"repeats": 3, "arrivals": 10.0, "length": 16}
    store, job = measure(folders, folders[kinds.ONNX], ("cost",), cost=options)
    cost = store.rows("cost", [job.id])
    assert (cost["response_p50"] <= cost["response_p95"]).all()
    assert (cost["response_p95"] <= cost["response_p99"]).all()
    assert (cost["utilization"] > 0).all() and (cost["requests"] >= 3).all()
    assert store.rows("service_time", [job.id]).groupby("model").size().min() >= 3
    sentence = takeaways.cost(cost, models_of([job]))  # without what is not known of a file
    assert sentence.startswith("small.onnx has ") and "–" not in sentence


def test_drift_of_another_depth_and_width_compares_the_last_blocks(folders):
    options = {"neighbors": 3, "umap": False}
    store, job = measure(folders, folders[kinds.CHECKPOINT], ("drift",), drift=options)
    (row,) = store.rows("drift", [job.id]).itertuples()
    assert row.block == 1 and 0 <= row.cka <= 1 and 0 <= row.overlap <= 1
    assert np.isnan(row.cosine)  # vectors of 32 and 16 numbers
    moves = store.rows("drift_map", [job.id])
    assert set(moves["block"]) == {1} and np.isfinite(moves[["x", "y", "move"]]).all(axis=None)


def test_every_measure_says_what_it_needs_of_a_candidate():
    """A new measure must be listed, or it would be refused with a wrong reason."""
    known = {*QUERYING, *BY_BLOCK, *REWRITING, "corpus_poisoning"}
    assert set(MEASURES) == known


def test_questions_from_a_file_are_all_evaluated(tmp_path, capsys):
    """Nothing is pruned, so no row is reserved for calibration, whatever the task type."""
    for name, seed in (("dense", 0), ("other", 1)):
        model = tiny.model(kind="span", seed=seed)
        loading.save(model, tiny.tokenizer(), tmp_path / name)
    rows = [
        {
            "question": f"Which film is number {number}?",
            "context": f"The film with number {number} is a good one.",
            "answers": {
                "text": ["good"],
                "answer_start": [len(f"The film with number {number} is a ")],
            },
        }
        for number in range(12)
    ]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    (tmp_path / "policy.yaml").write_text("accuracy_loss: 100\n")
    command = ["check", "--dense", str(tmp_path / "dense"), "--candidate", str(tmp_path / "other")]
    data = ["--task", str(tmp_path / "questions.json"), "--policy", str(tmp_path / "policy.yaml")]
    assert main([*command, *data, "--device", "cpu"]) == 0, capsys.readouterr().err
    assert Store().rows("accuracy", [1])["n"].tolist() == [12]


def test_pruning_without_calibration_examples_is_refused(capsys):
    command = ["run", "--method", "akr", "--calibration", "none", "--measure", "accuracy"]
    assert main(command) != 0
    message = " ".join(capsys.readouterr().err.split())
    assert "calibration is none, but AKR prunes on calibration examples" in message
