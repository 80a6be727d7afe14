"""What the process behind Inspect says: predictions, saliency, attention, attacks; how it is interrupted, and how it dies."""

import io
import json
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.models import compact, replay
from prune_core.models.checkpoints import loading
from prune_core.models.families import FAMILIES
from prune_core.models.inference import saliency
from prune_core.processes import inspector_client
from prune_core.processes.inspector_server import InspectorServer, ModelCache

TEXT, PAIR = "A fine, unpretentious film.", "Dull."
SHELF = ModelCache()  # one for all desks here: most of the time would go into loading tokenizers


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny checkpoints by name."""
    home = tmp_path_factory.mktemp("checkpoints")
    for name, made in {
        "model": tiny.model(),
        "other": tiny.model(seed=1),
        "regression": tiny.model(kind="regression"),
        "span": tiny.model(kind="span"),
    }.items():
        loading.save(made, tiny.tokenizer(), home / name)
    return home


def asked(*questions: dict, until=lambda said: True) -> list[dict]:
    """All lines that answer; the input stays open `until` the lines so far say so."""
    answers = io.StringIO()
    said = lambda: [json.loads(line) for line in answers.getvalue().splitlines()]  # noqa: E731

    def input():
        for id, question in enumerate(questions):
            yield json.dumps({"id": id, **question})
        while not until(said()):
            time.sleep(0.01)

    serve(input(), answers)
    return said()


def serve(questions, answers) -> None:
    desk = InspectorServer(questions, answers)
    desk.models = SHELF
    desk.serve()


def told(folder: Path, *names: str, ask: str = "predict", **question) -> list[dict]:
    question |= (
        {}
        if ask != "predict"
        else {"texts": question.get("texts", [TEXT]), "pairs": question.get("pairs")}
    )
    [answer] = asked(
        {"ask": ask, "checkpoints": [str(folder / name) for name in names], **question}
    )
    return answer["told"]


def attacking(folder: Path, label: int, *names: str, text: str = tiny.SENTENCES[0]) -> dict:
    checkpoints = [str(folder / name) for name in names]
    return {
        "ask": "attack",
        "checkpoints": checkpoints,
        "recipe": "DeepWordBug",
        "text": text,
        "pair": None,
        "label": label,
    }


def over(*ids: int):
    return lambda said: {line["id"] for line in said if line.get("over")} >= set(ids)


def test_an_answer_a_checkpoint_and_a_sentence_for_a_wrong_one(folder):
    good, bad = told(folder, "model", "missing", texts=[TEXT, "Dull."])
    assert len(good["probabilities"]) == 2 and sum(good["probabilities"][0]) == pytest.approx(1)
    assert set(good["said"]) <= set(good["labels"])
    assert bad["checkpoint"] == str(folder / "missing") and bad["error"]


def test_a_pair_is_read_as_a_pair(folder):
    alone, paired = (told(folder, "model", pairs=pairs)[0] for pairs in (None, [PAIR]))
    assert alone["probabilities"] != paired["probabilities"]


def test_scores_and_answers_of_models_that_give_them(folder):
    [scored] = told(folder, "regression", pairs=[PAIR])
    assert isinstance(scored["said"][0], float)
    [found] = told(folder, "span", texts=["A fine film?"], pairs=["A good film."])
    assert found["said"][0] and found["said"][0] in "A good film."
    [refused] = told(folder, "span")
    assert "give the text as well" in refused["error"]


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_what_spaces_part(family):
    read = saliency.words(tiny.model(family), tiny.tokenizer(family), TEXT, pair=PAIR)
    assert read.names == ["[CLS]", *TEXT.split(), "[SEP]", *PAIR.split(), "[SEP]"]
    assert len(read.owner) > len(read.names), (
        "the comma, the full stops and the long word are pieces of their own"
    )
    assert read.summed(torch.ones(1, len(read.owner))).sum() == len(read.owner)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_times_input_is_the_slope_of_the_logit_as_the_words_embedding_grows(family):
    model, tokenizer = tiny.model(family).double(), tiny.tokenizer(family)
    found = saliency.saliency(model, tokenizer, TEXT)
    read = saliency.words(model, tokenizer, TEXT)
    x = model.get_input_embeddings()(read.batch["input_ids"]).detach()
    rest = {name: tensor for name, tensor in read.batch.items() if name != "input_ids"}
    label = [str(name) for name in model.config.id2label.values()].index(found["label"])

    @torch.no_grad()
    def slopes(moves: torch.Tensor) -> torch.Tensor:
        """Of the logit, along each move of the embeddings."""
        many = {name: tensor.expand(2 * len(moves), -1) for name, tensor in rest.items()}
        logits = model(
            inputs_embeds=torch.cat([x + 1e-5 * moves, x - 1e-5 * moves]), **many
        ).logits[:, label]
        return (logits[: len(moves)] - logits[len(moves) :]) / 2e-5

    assert found["logit"] == pytest.approx(model(**read.batch).logits.max().item())
    own = torch.stack(
        [(read.owner == word).double()[:, None] * x[0] for word in range(len(read.names))]
    )
    # on transformers 5 a difference of two of ModernBERT's logits carries the rounding of single precision
    near = {"rel": 1e-4, "abs": 1e-6} if family != "modernbert" else {"rel": 2e-2, "abs": 2e-4}
    assert found["product"] == pytest.approx(slopes(own).tolist(), **near)
    word = found["words"].index("film.")  # two pieces, so the sum of two norms
    pieces = torch.where(read.owner == word)[0]
    basis = torch.zeros(len(pieces), x.shape[-1], *x.shape[1:], dtype=x.dtype)
    for place, piece in enumerate(pieces):
        basis[place, :, piece] = torch.eye(x.shape[-1])
    norms = slopes(basis.flatten(0, 1)).view(len(pieces), -1).norm(dim=-1)
    assert len(pieces) == 2 and found["norm"][word] == pytest.approx(norms.sum().item(), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_hugging_faces(family):
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
            found = saliency.attention(model, tokenizer, TEXT, pair=PAIR, block=block, head=head)
            assert [sum(row) for row in found["weights"]] == pytest.approx(
                [1.0] * len(read.names), abs=1e-3
            )
            first = weights[0].mean(0)[0] if head is None else weights[0, head, 0]
            assert found["weights"][0] == pytest.approx(read.summed(first).tolist(), abs=1e-4)


def test_a_dead_head_is_gone_and_counts_in_no_mean():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    width = [block for _, block in replay.block_passes(model)][0].head_width
    with torch.no_grad():
        [block for _, block in replay.block_passes(model)][1].linears["attention_output"].weight[
            :, width : 2 * width
        ] = 0
    for each in (model, compact.compact_model(model)):
        found = [
            saliency.attention(each, tokenizer, TEXT, pair=None, block=1, head=head)
            for head in (None, 1, 2)
        ]
        assert all(answer["heads"] == [0, 2, 3] and answer["of"] == 4 for answer in found)
        assert found[0]["weights"] and found[1]["weights"] is None and found[2]["weights"]
        kept = [
            saliency.attention(model, tokenizer, TEXT, pair=None, block=1, head=head)["weights"]
            for head in (0, 2, 3)
        ]
        assert torch.allclose(
            torch.tensor(found[0]["weights"]), torch.tensor(kept).mean(0), atol=1e-4
        )


def test_saliency_of_labels_and_scores_but_not_of_answers(folder):
    label, score, refused = told(
        folder, "model", "regression", "span", ask="saliency", text=TEXT, pair=PAIR
    )
    assert (
        label["label"].startswith("LABEL")
        and score["label"] == "score"
        and len(score["norm"]) == len(score["words"])
    )
    assert "two ends" in refused["error"]


@pytest.mark.parametrize("recipe", ["DeepWordBug", "Pruthi"])  # a greedy search and a beam
def test_the_steps_of_an_attack_end_where_the_engines_ends(folder, recipe):
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.attacks.victim import Victim
    from prune_core.data.examples import Examples

    names, turned = ("model", "other"), 0
    for label in (0, 1):
        question = attacking(folder, label, *names, text=tiny.SENTENCES[2]) | {"recipe": recipe}
        lines = [line for line in asked(question, until=over(0)) if "index" in line]
        for index, name in enumerate(names):
            seen = [line["told"] for line in lines if line["index"] == index]
            shown = inspector_client.RunningAttack(1, lambda: None)
            for each in seen:
                shown.hear({"index": 0, "told": each})
            model, tokenizer = SHELF.get(str(folder / name))
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
            [found] = shown.models
            assert {key: found[key] for key in ("outcome", "perturbed", "queries")} == {
                key: getattr(outcome, key) for key in ("outcome", "perturbed", "queries")
            }
            steps = found["steps"]
            assert steps[0]["text"] == tiny.SENTENCES[2] and steps[0]["queries"] == 1
            assert steps[-1]["text"] == (outcome.perturbed or tiny.SENTENCES[2])
            assert steps[-1]["probability"] == pytest.approx(
                (outcome.perturbed_probabilities or outcome.original_probabilities)[label]
            )
            asked_by = [step["queries"] for step in steps]
            assert asked_by == sorted(set(asked_by)) and asked_by[-1] <= found["queries"]
            changed = [
                len(set(a["text"].split()) ^ set(b["text"].split()))
                for a, b in zip(steps, steps[1:], strict=False)
            ]
            assert all(1 <= words <= 2 for words in changed), (
                "one word gives way to another at each step"
            )
            turned += outcome.outcome == "success"
    assert turned


def test_while_an_attack_runs_others_are_answered_wait_in_line_and_cancel(folder, monkeypatch):
    first = attacking(folder, 0, "model", "other", text=" ".join(tiny.SENTENCES)) | {
        "recipe": "TextFooler (MiniLM)"
    }
    predict = {
        "ask": "predict",
        "checkpoints": [str(folder / "model")],
        "texts": [TEXT],
        "pairs": None,
    }
    second = attacking(folder, 1, "model")
    answers = io.StringIO()
    said = lambda: [json.loads(line) for line in answers.getvalue().splitlines()]  # noqa: E731
    from prune_core.attacks.victim import Victim

    asked_all, logits = threading.Event(), Victim.logits

    def held(self, texts):
        """The first attack must not end before all is asked, however slow the machine."""
        asked_all.wait(60)
        return logits(self, texts)

    monkeypatch.setattr(Victim, "logits", held)

    def input():
        yield json.dumps({"id": 0, **first})
        for id, question in (
            (1, predict),
            (2, second),
            (3, second),
            (2, {"ask": "cancel"}),
            (0, {"ask": "cancel"}),
        ):
            yield json.dumps({"id": id, **question})
        asked_all.set()
        while not over(3)(said()):
            time.sleep(0.01)

    serve(input(), answers)
    ends = [line["id"] for line in said() if line.get("over")]
    assert ends == [1, 2, 0, 3]
    errors = {line["id"]: line["error"] for line in said() if "error" in line}
    assert errors == {0: inspector_client.STOPPED, 2: inspector_client.STOPPED, 3: ""}


def test_an_attack_ends_with_its_input_and_with_a_checkpoint_that_is_not_there(folder):
    assert (
        asked(attacking(folder, 0, "model"), until=lambda said: True)[-1]["error"]
        == inspector_client.STOPPED
    )
    [line] = asked(attacking(folder, 0, "missing"), until=over(0))
    assert "missing" in line["error"]


def test_a_process_that_dies_is_a_sentence_and_the_next_question_starts_another(
    tmp_path, monkeypatch
):
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
    echo = "import json, sys; [print(json.dumps(json.loads(l) | {'over': True, 'told': [l]}), flush=True) for l in sys.stdin]"
    monkeypatch.setattr(inspector_client, "COMMAND", [sys.executable, "-c", echo])
    [line] = inspector.predict(["demo"], [TEXT])
    assert json.loads(line)["texts"] == [TEXT]
    inspector.close()


def test_the_whole_process_attacks_answers_meanwhile_and_is_stopped(folder, tmp_path):
    inspector = inspector_client.Inspector(tmp_path / "inspect.log")
    attack = inspector.attack(
        [str(folder / "model")], "TextFooler (MiniLM)", " ".join(tiny.SENTENCES * 3), None, 0
    )
    while not attack.models[0].get("steps"):
        assert not attack.is_over, attack.error
        time.sleep(0.05)
    assert inspector.predict([str(folder / "model")], [TEXT])[0]["said"] and not attack.is_over
    attack.cancel()
    assert attack.is_over and attack.error == inspector_client.STOPPED
    inspector.close()
