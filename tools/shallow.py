"""Write a copy of all-MiniLM-L6-v2 with fewer layers, from which the guard demo is fine-tuned.

Run as `python tools/shallow.py FOLDER 0 1`, with the layers to keep.
"""

import sys
from pathlib import Path

from torch import nn


def write(folder: Path, layers: list[int]) -> None:
    """Write the encoder with these layers, in this order, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    from prune_core.models.checkpoints import loading

    source = loading.resolve(loading.MINILM)
    model = AutoModel.from_pretrained(source)
    model.encoder.layer = nn.ModuleList(model.encoder.layer[index] for index in layers)
    model.config.num_hidden_layers = len(layers)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]), [int(layer) for layer in sys.argv[2:]])
