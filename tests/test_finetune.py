"""A fine-tune learns, keeps what is best, and leaves a checkpoint that loads."""

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny

from prune_core import PruneError, encoders
from prune_core.data import Source
from prune_core.finetune import Recipe, finetune
from prune_core.plugins import quiet


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    """A tiny encoder with an old head of another size."""
    encoders.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    return str(tmp_path / "backbone")


@pytest.fixture
def reviews(tmp_path: Path) -> Source:
    """Three classes that a single word gives away."""
    words = ("bad", "fair", "good")
    rows = [{"text": f"{'one more ' * (i % 5)}{words[i % 3]} film", "label": words[i % 3]} for i in range(90)]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    return Source(str(tmp_path / "train.csv"))


@pytest.mark.parametrize("average", [0.0, 0.8])
def test_it_learns_and_the_checkpoint_loads(tmp_path: Path, backbone: str, reviews: Source, average: float) -> None:
    recipe = Recipe(checkpoint=backbone, epochs=8, batch_size=8, learning_rate=3e-3, average=average, half=True)
    seen: list[float] = []
    card = finetune(recipe, reviews, reviews, tmp_path / "out", lambda progress, _: seen.append(progress))
    assert card["accuracy"] == max(each["accuracy"] for each in card["history"]) > 0.9
    assert seen == sorted(seen) and seen[-1] == 1.0
    model, _ = encoders.load(str(tmp_path / "out"))
    assert tuple(model.config.id2label.values()) == ("bad", "fair", "good")
    assert json.loads((tmp_path / "out" / "finetune.json").read_text()) == card


def test_the_demo_sentences_are_not_for_training(tmp_path: Path, backbone: str, reviews: Source) -> None:
    with pytest.raises(PruneError, match="fine-tune on a known task or your own file"):
        finetune(Recipe(checkpoint=backbone), Source("demo"), reviews, tmp_path / "out", quiet)
