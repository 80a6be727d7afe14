"""Checkpoint folders with a part of the vocabulary: rows of the embedding, its head and the ids in
config.json.

The folder is rewritten file by file, so that heads, sentence-transformers modules and compact
shapes stay as they are. Before it appears, its outputs are compared with those of the original.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...errors import PruneError
from .. import embedding
from ..families import FAMILIES
from ..module_folders import MODULES, root_folder, subfolders
from . import adapters, difference, folders, loading, tokenizers, trimmed_tokenizer, weights
from .trimmed_tokenizer import Vocabulary

# tensors with one row per token: embeddings, and the decoder and bias of a language-model head
PER_TOKEN = re.compile(
    r"(word_embeddings|tok_embeddings|decoder|lm_head|vocab_projector)\.(weight|bias)$|"
    r"predictions\.bias$"
)
PER_POSITION = re.compile(r"position_embeddings\.weight$")
WRITTEN = ("config.json", embedding.TRANSFORMER)  # of the encoder's folder
COPIED = (MODULES, embedding.SETTINGS, "README.md", "LICENSE*", "NOTICE*")  # of the root folder
HUB_FILES = ("*.json", "*.md", "LICENSE*", "NOTICE*", "*.safetensors")
TOLERANCE = 1e-6  # of outputs, relative to max(1, largest output)
COMPARED = 64  # texts whose outputs are compared
MIN_POSITIONS = 8


@dataclass(frozen=True)
class TrimSource:
    """A checkpoint to be trimmed."""

    checkpoint: str
    folder: Path  # of the encoder
    root: Path  # of modules.json; the same folder without one
    config: Any
    tokenizer: Any  # prepared, see prepare_tokenizer
    vocabulary: Vocabulary
    tensors: Mapping[str, Tensor]
    pooling: str  # with which the project loads an encoder without a head

    @property
    def per_token(self) -> dict[str, Tensor]:
        """Tensors with one row per token."""
        return {
            name: tensor
            for name, tensor in self.tensors.items()
            if PER_TOKEN.search(name) and len(tensor) == self.config.vocab_size
        }

    @property
    def offset(self) -> int:
        """Positions before the first one, in families that count from the padding id; else 0."""
        positions = getattr(self.config, "max_position_embeddings", 0)
        limit = FAMILIES[self.config.model_type].max_tokens(self.config)
        return max(0, positions - limit)

    @property
    def required(self) -> set[int]:
        """Ids that are kept: of the tokenizer, of config.json and of prompts.

        In families that count positions from the padding id, also the ids up to it: it must not
        change, because the rows of the position embedding depend on it.
        """
        known = self.vocabulary.tokens
        ids = {*self.vocabulary.required, *range(self.offset), *_config_ids(self.config.to_dict())}
        description = getattr(self.config, "sentence_embedding", {})
        prompts = description.get("settings", {}).get("prompts") or {}
        for encoded in self.vocabulary.encode([*map(str, prompts.values())]):
            ids |= {*encoded}
        return ids & known.keys()


def read(checkpoint: str) -> TrimSource:
    """Read the checkpoint in a folder, of the Hub, or bundled; PruneError if it is not supported.

    An encoder without a head, such as one with a language-model head, needs no pooling.
    """
    source = loading.resolve(checkpoint)
    for file, remedy in (
        (difference.FILE, "export it first: python -m prune_core export ID FOLDER"),
        (adapters.CONFIG, "merge it into its base model first (merge_and_unload)"),
    ):
        if (Path(source) / file).is_file():
            raise PruneError(f"{checkpoint} contains {file} in place of all weights; {remedy}.")
    pooling = _pooling(source)
    config, tokenizer, _ = loading.describe(checkpoint, pooling=pooling)
    folder = Path(source) if Path(source).is_dir() else _download(source)
    tensors = weights.tensors(folder)
    vocabulary = trimmed_tokenizer.read(tokenizer, checkpoint)
    found = TrimSource(
        checkpoint,
        folder,
        root=Path(root_folder(str(folder))),
        config=config,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        tensors=tensors,
        pooling=pooling,
    )
    rows = config.vocab_size
    others = [
        name
        for name, tensor in tensors.items()
        if tensor.dim() and len(tensor) == rows and name not in found.per_token
    ]
    if others or not found.per_token:
        problem = f"{others[0]} may have one row per token" if others else "no embedding is known"
        raise PruneError(
            f"{checkpoint}: {problem} (vocab_size {rows:,}), which trim does not support; use a "
            "checkpoint that save_pretrained of transformers wrote."
        )
    return found


def _pooling(source: str) -> str:
    """Pooling with which a folder or Hub id without a head can be loaded as a model; else ""."""
    config = embedding.read_json(source, "config.json", source)
    class_name = str((config.get("architectures") or [weights.head_of(Path(source))])[0])
    has_modules = embedding.read_json(root_folder(source), MODULES, source)
    return "" if class_name.endswith(folders.HEADS) or has_modules else "mean"


def _download(source: str) -> Path:
    """Download a model of the Hub; return its folder in the cache."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(source, allow_patterns=[*HUB_FILES]))
    if not any(folder.glob("*.safetensors")):
        folder = Path(snapshot_download(source, allow_patterns=[*HUB_FILES, "*.bin"]))
    return folder


def write(
    source: TrimSource,
    kept: Collection[int],
    target: Path,
    texts: Sequence[str],
    positions: int = 0,
) -> int:
    """Write the checkpoint with the tokens `kept` into a new or empty folder.

    `positions`: cut the learned position embeddings to this number of tokens (0: keep all). Outputs
    are compared with those of the original on the first `COMPARED` of `texts` that consist of kept
    tokens; return their number. If they differ by more than `TOLERANCE`, raise PruneError and write
    nothing.
    """
    check_target(target)
    kept = sorted({*kept, *source.required})
    rows = _position_rows(source, positions)
    vocabulary = source.vocabulary.select(kept)
    tokenizer = trimmed_tokenizer.build(vocabulary, source.tokenizer, source.checkpoint)
    if positions:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".trim-") as scratch:
        root = Path(scratch) / "checkpoint"
        _copy_modules(source, root)
        folder = root / source.folder.relative_to(source.root)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(folder)
        _write_settings(source, kept, folder, rows=rows, positions=positions)
        index = torch.tensor(kept)
        save_file(
            dict(_selected(source, index, rows)), folder / "model.safetensors", {"format": "pt"}
        )
        compared = compare_outputs(source, root, kept, texts)
        if target.exists():
            target.rmdir()
        shutil.move(root, target)
    return compared


def check_target(folder: Path) -> None:
    """Raise PruneError if the folder exists and is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PruneError(f"{folder} exists and is not empty; name a new folder.")


def _position_rows(source: TrimSource, positions: int) -> int:
    """Rows of the position embedding that are kept for `positions` tokens; 0 for all."""
    if not positions:
        return 0
    name = source.checkpoint
    has_table = any(map(PER_POSITION.search, source.tensors))
    if not has_table or getattr(source.config, "relative_attention", False):
        raise PruneError(
            f"{name} has relative or rotary positions, which have no rows to cut; leave positions "
            "out."
        )
    limit = source.config.max_position_embeddings - source.offset
    if not MIN_POSITIONS <= positions <= limit:
        raise PruneError(
            f"positions is {positions:,}; {name} has {limit:,}, so choose {MIN_POSITIONS} to "
            f"{limit:,}."
        )
    return positions + source.offset


def _selected(source: TrimSource, index: Tensor, rows: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the trimmed checkpoint by name."""
    per_token = source.per_token
    for name, tensor in source.tensors.items():
        if name in per_token:
            yield name, tensor.index_select(0, index)
        elif rows and PER_POSITION.search(name):
            yield name, tensor[:rows].clone()
        elif not (rows and name.endswith("position_ids")):  # a buffer that models build themselves
            yield name, tensor.clone(memory_format=torch.contiguous_format)


def _copy_modules(source: TrimSource, root: Path) -> None:
    """Copy what a sentence-transformers folder has besides the encoder, and licenses."""
    root.mkdir()
    for pattern in COPIED:
        for file in filter(Path.is_file, source.root.glob(pattern)):
            shutil.copyfile(file, root / file.name)
    for name in subfolders(source.root):
        if name and source.root / name != source.folder and (source.root / name).is_dir():
            shutil.copytree(source.root / name, root / name)


def _write_settings(
    source: TrimSource, kept: Sequence[int], folder: Path, *, rows: int, positions: int
) -> None:
    """Write config.json and the settings of the Transformer module."""
    for name in WRITTEN:
        if not (source.folder / name).is_file():
            continue
        content = json.loads((source.folder / name).read_text(encoding="utf-8"))
        if name == "config.json":
            new = {old: place for place, old in enumerate(kept)}
            for key in filter(_is_id, content):
                content[key] = _renumbered(content[key], new)
            content["vocab_size"] = len(kept)
            if rows:
                content["max_position_embeddings"] = rows
        elif positions and content.get("max_seq_length"):
            content["max_seq_length"] = min(content["max_seq_length"], positions)
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


def _is_id(key: str) -> bool:
    return key.endswith("_token_id")


def _config_ids(config: Mapping[str, Any]) -> set[int]:
    """Token ids in a configuration."""
    values = [config[key] for key in filter(_is_id, config)]
    listed = [value for value in values if isinstance(value, list)]
    values += [each for value in listed for each in value]
    return {value for value in values if isinstance(value, int)}


def _renumbered(value: Any, new: Mapping[int, int]) -> Any:
    """New ids of an entry of config.json; None for an id without a token."""
    if isinstance(value, list):
        return [new[each] for each in value if each in new]
    return new.get(value)


@torch.no_grad()
def compare_outputs(
    source: TrimSource, folder: Path, kept: Sequence[int], texts: Sequence[str]
) -> int:
    """Compare outputs with those of the original; return the number of texts.

    PruneError if a text that consists of kept tokens has other tokens or outputs.
    """
    known, encoded = set(kept), source.vocabulary.encode(texts)
    of_kept = (text for text, ids in zip(texts, encoded, strict=True) if known.issuperset(ids))
    chosen = [*islice(of_kept, COMPARED)]
    _, tokenizer, _ = loading.describe(str(folder), pooling=source.pooling)
    old_tokenizer, index = source.tokenizer, torch.tensor(kept)
    old_model, model = _model(source.checkpoint, source), _model(str(folder), source)
    limit = min(tokenizer.model_max_length, old_tokenizer.model_max_length)
    for text in chosen:
        old, new = (
            each(text, truncation=True, max_length=limit, return_tensors="pt")
            for each in (old_tokenizer, tokenizer)
        )
        problem = "" if torch.equal(index[new["input_ids"]], old["input_ids"]) else "other tokens"
        if not problem:
            before, after = _outputs(old_model, old, index), _outputs(model, new, index)
            deviation = (after - before).abs().max() / before.abs().max().clamp_min(1)
            problem = "" if deviation <= TOLERANCE else f"outputs that differ by {deviation:.1e}"
        if problem:
            raise PruneError(
                f"{source.checkpoint}: after trimming, {text[:60]!r} has {problem}, although all "
                "its tokens are kept; nothing is written; please report this with the "
                "checkpoint's tokenizer.json."
            )
    return len(chosen)


def _model(checkpoint: str, source: TrimSource) -> Any:
    """Load a model; with plain transformers if it has no head, or that of a language model."""
    import transformers

    if not source.pooling:
        return loading.load(checkpoint)[0]
    folder = loading.resolve(checkpoint)
    name = str((embedding.read_json(folder, "config.json", checkpoint)["architectures"] or [""])[0])
    kind = getattr(transformers, name, transformers.AutoModel)
    with weights.silence_load_report():
        return kind.from_pretrained(folder, trust_remote_code=False).float().eval()


def _outputs(model: Any, encoded: Any, index: Tensor) -> Tensor:
    """Logits, hidden states or the embedding of one text, (values,).

    Logits of tokens that the trimmed vocabulary lacks are left out, and so is the pooler of the
    pre-training, which many encoders are saved without.
    """
    output = model(**tokenizers.accepted_inputs(model, encoded))
    named = output if isinstance(output, Mapping) else output._asdict()
    full = model.config.vocab_size
    return torch.cat(
        [
            (value[..., index] if value.shape[-1] == full > len(index) else value).flatten()
            for name, value in named.items()
            if name != "pooler_output"
        ]
    )
