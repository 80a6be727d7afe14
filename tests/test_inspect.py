"""The inspector server: predictions, saliency, attention, attacks; interruption and crashes."""

import io
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from test_retrieval_measure import write_collection

from prune_core import PruneError
from prune_core.data.examples import DataSource, Examples
from prune_core.methods import METHODS
from prune_core.models import compact, replay
from prune_core.models.checkpoints import loading
from prune_core.models.families import FAMILIES
from prune_core.models.inference import saliency
from prune_core.models.inference.predict import predict
from prune_core.plugins import build, no_report
from prune_core.processes import inspector_client
from prune_core.processes.inspector_server import InspectorServer, ModelCache

TEXT, PAIR = "A fine, unpretentious film.", "Dull."
MODELS = ModelCache()  # shared by all servers here: most time would go into loading tokenizers


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with tiny checkpoints."""
    home = tmp_path_factory.mktemp("checkpoints")
    for name, model in {
        "model": tiny.model(),
        "other": tiny.model(seed=1),
        "regression": tiny.model(kind="regression"),
        "span": tiny.model(kind="span"),
    }.items():
        loading.save(model, tiny.tokenizer(), home / name)
    encoder = tiny.model(kind="embedding")
    encoder.bert.save_pretrained(home / "encoder")
    tiny.tokenizer().save_pretrained(home / "encoder")
    pruned, tokenizer = loading.load(str(home / "encoder"), pooling="cls")
    build(METHODS, "magnitude", {"sparsity": 0.6}).prune(pruned, [], no_report)
    loading.save(pruned, tokenizer, home / "pruned")
    return home


def respond(*requests: dict, until=lambda messages: True) -> list[dict]:
    """Return all messages of a server; its input stays open `until` a condition holds for them."""
    output = io.StringIO()

    def lines():
        for id, request in enumerate(requests):
            yield json.dumps({"id": id, **request})
        while not until(messages(output)):
            time.sleep(0.01)

    serve(lines(), output)
    return messages(output)


def messages(output: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def serve(requests, output) -> None:
    server = InspectorServer(requests, output)
    server.models = MODELS
    server.serve()


def results(folder: Path, *names: str, request: str = "predict", **arguments) -> list[dict]:
    if request == "predict":
        arguments = {"texts": [TEXT], "pairs": None} | arguments
    checkpoints = [str(folder / name) for name in names]
    [message] = respond({"request": request, "checkpoints": checkpoints, **arguments})
    return message["result"]


def attack_request(folder: Path, label: int, *names: str, text: str = tiny.SENTENCES[0]) -> dict:
    checkpoints = [str(folder / name) for name in names]
    return {
        "request": "attack",
        "checkpoints": checkpoints,
        "recipe": "DeepWordBug",
        "text": text,
        "pair": None,
        "label": label,
    }


def done(*ids: int):
    return lambda messages: {line["id"] for line in messages if line.get("done")} >= set(ids)


def test_each_checkpoint_has_a_result_or_an_error(folder):
    good, bad = results(folder, "model", "missing", texts=[TEXT, "Dull."])
    assert len(good["probabilities"]) == 2 and sum(good["probabilities"][0]) == pytest.approx(1)
    assert set(good["predictions"]) <= set(good["labels"])
    assert bad["checkpoint"] == str(folder / "missing") and bad["error"]


def test_second_text_changes_the_prediction(folder):
    single, paired = (results(folder, "model", pairs=pairs)[0] for pairs in (None, [PAIR]))
    assert single["probabilities"] != paired["probabilities"]


def test_search_ranks_documents_of_both_models(folder, tmp_path):
    collection = write_collection(tmp_path / "beir")
    dense, pruned = (str(folder / name) for name in ("encoder", "pruned"))
    data = {"source": DataSource(str(collection)).to_dict(), "max_length": 64}
    found = tiny.collection()
    request = {"request": "search", "checkpoints": [dense, pruned], "data": data, "pooling": "cls"}
    known, typed = respond(*(request | {"text": text} for text in (found.queries[1], "a film")))
    texts = [Examples(list(side), kind="embedding") for side in (found.queries, found.documents)]
    vectors = {
        path: [np.array(predict(*MODELS.get(path, "cls"), sample).predicted) for sample in texts]
        for path in (dense, pruned)
    }
    for path, result in zip((dense, pruned), known["result"], strict=True):
        for name, index in (("old_index", dense), ("reembedded", path)):
            order = np.argsort(-vectors[index][1] @ vectors[path][0][1])[:10]
            ids = [hit["document"] for hit in result[name]]
            assert ids == [found.document_ids[place] for place in order]
        assert result["relevant"] == 2
        grades = {hit["document"]: hit["grade"] for hit in result["old_index"]}
        assert grades == {id: found.judgements["q2"].get(id, 0.0) for id in grades}
    assert typed["result"][0]["relevant"] is None
    [refused] = respond(request | {"text": "a film", "pooling": ""})
    assert "pooling" in refused["error"]


def test_predictions_of_regression_and_span_models(folder):
    [score] = results(folder, "regression", pairs=[PAIR])
    assert isinstance(score["predictions"][0], float)
    [span] = results(folder, "span", texts=["A fine film?"], pairs=["A good film."])
    assert span["predictions"][0] and span["predictions"][0] in "A good film."
    [refused] = results(folder, "span")
    assert "enter the context as well" in refused["error"]


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_separated_by_spaces(family):
    read = saliency.words(tiny.model(family), tiny.tokenizer(family), TEXT, pair=PAIR)
    assert read.names == ["[CLS]", *TEXT.split(), "[SEP]", *PAIR.split(), "[SEP]"]
    assert len(read.owner) > len(read.names), (
        "the comma, the full stops and parts of the long word are separate tokens"
    )
    assert read.summed(torch.ones(1, len(read.owner))).sum() == len(read.owner)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_times_input_is_the_slope_of_the_logit_along_the_embedding(family):
    model, tokenizer = tiny.model(family).double(), tiny.tokenizer(family)
    result = saliency.saliency(model, tokenizer, TEXT)
    read = saliency.words(model, tokenizer, TEXT)
    x = model.get_input_embeddings()(read.batch["input_ids"]).detach()
    other_inputs = {name: tensor for name, tensor in read.batch.items() if name != "input_ids"}
    label = [str(name) for name in model.config.id2label.values()].index(result["label"])

    @torch.no_grad()
    def slopes(moves: torch.Tensor) -> torch.Tensor:
        """Slopes of the logit along each move of the embeddings."""
        expanded = {
            name: tensor.expand(2 * len(moves), -1) for name, tensor in other_inputs.items()
        }
        logits = model(
            inputs_embeds=torch.cat([x + 1e-5 * moves, x - 1e-5 * moves]), **expanded
        ).logits[:, label]
        return (logits[: len(moves)] - logits[len(moves) :]) / 2e-5

    assert result["logit"] == pytest.approx(model(**read.batch).logits.max().item())
    embeddings = torch.stack(
        [(read.owner == word).double()[:, None] * x[0] for word in range(len(read.names))]
    )
    # in transformers 5, differences of ModernBERT's logits have single-precision rounding errors
    tolerance = {"rel": 1e-4, "abs": 1e-6} if family != "modernbert" else {"rel": 2e-2, "abs": 2e-4}
    assert result["product"] == pytest.approx(slopes(embeddings).tolist(), **tolerance)
    word = result["words"].index("film.")  # two tokens, so the sum of two norms
    pieces = torch.where(read.owner == word)[0]
    basis = torch.zeros(len(pieces), x.shape[-1], *x.shape[1:], dtype=x.dtype)
    for index, piece in enumerate(pieces):
        basis[index, :, piece] = torch.eye(x.shape[-1])
    norms = slopes(basis.flatten(0, 1)).view(len(pieces), -1).norm(dim=-1)
    assert len(pieces) == 2 and result["norm"][word] == pytest.approx(norms.sum().item(), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_weights_equal_those_of_transformers(family):
    model, tokenizer = tiny.model(family), tiny.tokenizer(family)
    model.set_attn_implementation("eager")
    read = saliency.words(model, tokenizer, TEXT, pair=PAIR)
    for block, weights in enumerate(model(**read.batch, output_attentions=True).attentions):
        x, mask = list(replay.hidden_states(model, read.batch))[block]
        assert torch.allclose(
            [block for _, block in replay.block_passes(model)][block].attention_weights(x, mask),
            weights,
            atol=1e-5,
        )
        for head in (None, 2):
            result = saliency.attention(model, tokenizer, TEXT, pair=PAIR, block=block, head=head)
            assert [sum(row) for row in result["weights"]] == pytest.approx(
                [1.0] * len(read.names), abs=1e-3
            )
            first = weights[0].mean(0)[0] if head is None else weights[0, head, 0]
            assert result["weights"][0] == pytest.approx(read.summed(first).tolist(), abs=1e-4)


def test_a_dead_head_is_reported_and_excluded_from_means():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    width = [block for _, block in replay.block_passes(model)][0].head_width
    with torch.no_grad():
        [block for _, block in replay.block_passes(model)][1].linears["attention_output"].weight[
            :, width : 2 * width
        ] = 0
    for candidate in (model, compact.compact_model(model)):
        outputs = [
            saliency.attention(candidate, tokenizer, TEXT, pair=None, block=1, head=head)
            for head in (None, 1, 2)
        ]
        assert all(output["heads"] == [0, 2, 3] and output["head_count"] == 4 for output in outputs)
        assert outputs[0]["weights"] and outputs[1]["weights"] is None and outputs[2]["weights"]
        live = [
            saliency.attention(model, tokenizer, TEXT, pair=None, block=1, head=head)["weights"]
            for head in (0, 2, 3)
        ]
        assert torch.allclose(
            torch.tensor(outputs[0]["weights"]), torch.tensor(live).mean(0), atol=1e-4
        )


def test_saliency_of_classifiers_and_regressors_but_not_of_span_models(folder):
    label, score, refused = results(
        folder, "model", "regression", "span", request="saliency", text=TEXT, pair=PAIR
    )
    assert label["label"].startswith("LABEL")
    assert score["label"] == "score"
    assert len(score["norm"]) == len(score["words"])
    assert "two ends" in refused["error"]


@pytest.mark.parametrize("recipe", ["DeepWordBug", "Pruthi"])  # a greedy search and a beam
def test_attack_steps_end_with_the_outcome_of_the_engine(folder, recipe):
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.attacks.victim import Victim
    from prune_core.data.examples import Examples

    names, successes = ("model", "other"), 0
    for label in (0, 1):
        request = attack_request(folder, label, *names, text=tiny.SENTENCES[2])
        responses = respond(request | {"recipe": recipe}, until=done(0))
        lines = [line for line in responses if "index" in line]
        for index, name in enumerate(names):
            step_results = [line["result"] for line in lines if line["index"] == index]
            running = inspector_client.RunningAttack(1, lambda: None)
            for step_result in step_results:
                running.on_message({"index": 0, "result": step_result})
            model, tokenizer = MODELS.get(str(folder / name))
            reporter = ProgressReporter(lambda *_: None)
            victim = Victim(
                model, tokenizer, reporter.report_if_due, max_length=replay.max_tokens(model)
            )
            [outcome] = engine.run(
                recipe,
                victim,
                reporter,
                examples=Examples([tiny.SENTENCES[2]], labels=[label]),
                indices=[0],
                budget=AttackBudget(),
                seed=0,
            )
            [result] = running.results
            assert {key: result[key] for key in ("outcome", "perturbed", "queries")} == {
                key: getattr(outcome, key) for key in ("outcome", "perturbed", "queries")
            }
            steps = result["steps"]
            assert steps[0]["text"] == tiny.SENTENCES[2] and steps[0]["queries"] == 1
            assert steps[-1]["text"] == (outcome.perturbed or tiny.SENTENCES[2])
            assert steps[-1]["probability"] == pytest.approx(
                (outcome.perturbed_probabilities or outcome.original_probabilities)[label]
            )
            queries = [step["queries"] for step in steps]
            assert queries == sorted(set(queries)) and queries[-1] <= result["queries"]
            changed = [
                len(set(a["text"].split()) ^ set(b["text"].split()))
                for a, b in zip(steps, steps[1:], strict=False)
            ]
            assert all(1 <= words <= 2 for words in changed), "each step replaces one word"
            successes += outcome.outcome == "success"
    assert successes


def test_requests_are_handled_queued_and_cancelled_during_an_attack(folder, monkeypatch):
    from prune_core.attacks.victim import Victim

    first = attack_request(folder, 0, "model", "other", text=" ".join(tiny.SENTENCES)) | {
        "recipe": "TextFooler (MiniLM)"
    }
    predict = {
        "request": "predict",
        "checkpoints": [str(folder / "model")],
        "texts": [TEXT],
        "pairs": None,
    }
    second = attack_request(folder, 1, "model")
    output = io.StringIO()
    all_sent, logits = threading.Event(), Victim.logits

    def wait_for_requests(self, texts):
        """Keep the first attack running until all requests are sent, on any machine."""
        all_sent.wait(60)
        return logits(self, texts)

    monkeypatch.setattr(Victim, "logits", wait_for_requests)

    def lines():
        yield json.dumps({"id": 0, **first})
        for id, request in (
            (1, predict),
            (2, second),
            (3, second),
            (2, {"request": "cancel"}),
            (0, {"request": "cancel"}),
        ):
            yield json.dumps({"id": id, **request})
        all_sent.set()
        while not done(3)(messages(output)):
            time.sleep(0.01)

    serve(lines(), output)
    ends = [line["id"] for line in messages(output) if line.get("done")]
    assert ends == [1, 2, 0, 3]
    errors = {line["id"]: line["error"] for line in messages(output) if "error" in line}
    assert errors == {0: inspector_client.STOPPED, 2: inspector_client.STOPPED, 3: ""}


def test_attack_stops_when_input_closes_or_checkpoint_is_missing(folder):
    last = respond(attack_request(folder, 0, "model"))[-1]
    assert last["error"] == inspector_client.STOPPED
    [line] = respond(attack_request(folder, 0, "missing"), until=done(0))
    assert "missing" in line["error"]


def test_crashed_server_gives_an_error_and_the_next_request_restarts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(
        inspector_client,
        "COMMAND",
        [sys.executable, "-c", "import sys; sys.exit('no memory left')"],
    )
    inspector = inspector_client.Inspector(tmp_path / "inspect.log")
    with pytest.raises(PruneError, match="no memory left"):
        inspector.predict(["demo"], [TEXT])
    attack = inspector.attack(["demo"], "DeepWordBug", TEXT, None, 0)
    while not attack.is_over:
        time.sleep(0.01)
    assert "no memory left" in attack.error
    echo = (
        "import json, sys; [print(json.dumps(json.loads(l) | {'done': True, 'result': [l]}), "
        "flush=True) for l in sys.stdin]"
    )
    monkeypatch.setattr(inspector_client, "COMMAND", [sys.executable, "-c", echo])
    [line] = inspector.predict(["demo"], [TEXT])
    assert json.loads(line)["texts"] == [TEXT]
    inspector.close()


def test_server_process_responds_during_an_attack_and_can_be_stopped(folder, tmp_path):
    inspector = inspector_client.Inspector(tmp_path / "inspect.log")
    attack = inspector.attack(
        [str(folder / "model")], "TextFooler (MiniLM)", " ".join(tiny.SENTENCES * 3), None, 0
    )
    while not attack.results[0].get("steps"):
        assert not attack.is_over, attack.error
        time.sleep(0.05)
    assert (
        inspector.predict([str(folder / "model")], [TEXT])[0]["predictions"] and not attack.is_over
    )
    attack.cancel()
    assert attack.is_over and attack.error == inspector_client.STOPPED
    inspector.close()
