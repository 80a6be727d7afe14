"""Transfer of adversarial examples: success rates by hand, checkpoints with permuted labels."""

import copy
from pathlib import Path

import pandas as pd
import pytest
import tiny

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.experiments import attack_transfer
from prune_core.models.checkpoints import loading
from prune_core.plugins import no_report
from prune_core.processes.child_process import ChildProcess
from prune_core.store.job import Status
from prune_core.store.store import Store

NAMES = ["negative", "positive"]


def row(job, source, example, original, changed, recipe="R"):
    return {
        "job": job,
        "recipe": recipe,
        "source": source,
        "example": example,
        "truth": "good",
        "original": original,
        "changed": changed,
    }


def test_the_rate_counts_texts_whose_original_the_model_classifies_correctly():
    rows = pd.DataFrame(
        [
            row(2, 1, 0, original="good", changed="bad"),
            row(2, 1, 1, original="good", changed="good"),
            row(2, 1, 2, original="bad", changed="bad"),
            row(2, 2, 0, original="good", changed="bad"),
            row(1, 2, 0, original="good", changed="good"),
        ]
    )
    matrix = attack_transfer.transfer_matrix(rows).set_index(["source", "job"])
    assert matrix[["fooled", "n"]].apply(tuple, axis=1).to_dict() == {
        (1, 2): (1, 2),
        (2, 2): (1, 1),
        (2, 1): (0, 1),
    }
    assert matrix.loc[(1, 2), "low"] == pytest.approx(0.0945, abs=1e-4), "Wilson, 1 of 2"
    by_recipe = attack_transfer.transfer_matrix(rows, "recipe").set_index("job")
    assert by_recipe["n"].to_dict() == {2: 2, 1: 1}, "a model's own texts are left out"


def attacked_job(
    store: Store, checkpoint: Path, outcome: str, names: list[str] = NAMES, **facts
) -> int:
    """Add a finished job with six attacked examples of that outcome; return its ID."""
    plan = {
        "checkpoint": str(checkpoint),
        "source": {"task": "demo"},
        "method": None,
        "batch_size": 5,
        "max_length": 64,
    }
    id = store.submit(plan, "Dense", f"{checkpoint}", "Study", "cpu", worker="test")
    texts = pd.DataFrame(
        {
            "recipe": "R",
            "example": range(6),
            "outcome": outcome,
            "text": tiny.SENTENCES[:6],
            "label": 0,
            "pair": None,
        }
    )
    texts["perturbed"] = tiny.SENTENCES[6:]
    store.add_rows(
        id,
        {"attack_example": texts},
        "attack",
        seconds=1.0,
        facts={"label_names": names, "pairs": False, **facts},
    )
    store.update(id, status=Status.DONE)
    return id


@pytest.fixture
def checkpoints(tmp_path) -> list[Path]:
    """Two checkpoints of one model; the second has the same outputs with permuted labels."""
    model = tiny.model()
    model.config.id2label = dict(enumerate(NAMES))
    permuted = copy.deepcopy(model)
    permuted.config.id2label = dict(enumerate(NAMES[::-1]))
    permuted.classifier.weight.data = model.classifier.weight.data.flip(0)
    permuted.classifier.bias.data = model.classifier.bias.data.flip(0)
    for checkpoint, name in ((model, "one"), (permuted, "two")):
        loading.save(checkpoint, tiny.tokenizer(), tmp_path / name)
    return [tmp_path / "one", tmp_path / "two"]


def test_checkpoints_are_compared_by_label_names(home, checkpoints, capsys):
    store = Store(home)
    first, second = (
        attacked_job(store, checkpoints[0], "success"),
        attacked_job(store, checkpoints[1], "failed", names=NAMES[::-1]),
    )
    third = attacked_job(store, checkpoints[1], "success", names=NAMES[::-1])
    examples = store.rows("attack_example", [first, second, third])
    assert attack_transfer.missing_pairs(examples, pd.DataFrame()) == [first, second, third]
    assert main(["transfer", str(first), str(second)]) == 0
    assert f"{first} Dense" in capsys.readouterr().out
    rows = store.rows("transfer", [first, second])
    one, two = (rows[rows["job"] == job] for job in (first, second))
    assert one["source"].unique().tolist() == [first] and len(one) == 6, (
        "texts of failed attacks are not used"
    )
    assert one["original"].tolist() == two["original"].tolist()
    assert one["changed"].tolist() == two["changed"].tolist()
    assert set(rows["truth"]) == {"negative"} and set(rows["original"]) == set(NAMES)
    assert attack_transfer.missing_pairs(examples, rows) == [first, second, third]
    attack_transfer.run_transfer(store, [second, third], no_report)
    attack_transfer.run_transfer(store, [first, third], no_report)
    assert (
        attack_transfer.missing_pairs(examples, store.rows("transfer", [first, second, third]))
        == []
    )
    assert len(store.rows("transfer", [second])) == 12, "rows of other texts are preserved"


def test_jobs_that_cannot_be_compared_are_rejected(home, checkpoints, tmp_path):
    store = Store(home)
    first, failed = (
        attacked_job(store, checkpoints[0], "success"),
        attacked_job(store, checkpoints[0], "failed"),
    )
    with pytest.raises(PruneError, match="No attack has succeeded"):
        attack_transfer.run_transfer(store, [failed], no_report)
    others = (
        ({"names": ["a", "b"]}, "same labels, but job 1 has negative, positive; job 3 has a, b"),
        ({"pairs": True}, "takes single texts, the other pairs"),
    )
    for facts, message in others:
        other = attacked_job(store, checkpoints[0], "success", **facts)
        with pytest.raises(PruneError, match=message):
            attack_transfer.run_transfer(store, [first, other], no_report)
    with pytest.raises(PruneError, match="without the second text"):
        attack_transfer.run_transfer(store, [other], no_report)
    pruned = store.submit(
        {"method": {"name": "akr", "options": {}}}, "AKR 50%", "akr", "Study", "cpu"
    )
    with pytest.raises(PruneError, match="pruned weights of job"):
        store.checkpoint(store.job(pruned))


def test_child_process_reports_its_last_line_and_its_error(home):
    process = ChildProcess("prune_core", "transfer", "99", timeout=60)
    with pytest.raises(PruneError, match="no job 99"):
        process.output()
    assert "no job 99" in process.latest and process.is_over
