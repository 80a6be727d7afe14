"""Sentence-embedding models: an encoder, pooling over its tokens, and the modules after pooling.

They are read from and written to folders of sentence-transformers: the encoder in the folder
itself or (reading only) in a subfolder, and modules.json, which lists a Pooling and optional Dense,
LayerNorm and Normalize modules. In memory these are described by `config.sentence_embedding`, a
plain dict.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.examples import DOCUMENT, QUERY
from ..errors import PruneError
from ..tasks import TASK_TYPES
from ..tasks.embedding import POOLINGS
from .compact import expand_into, recorded_units
from .families import FAMILIES
from .module_folders import MODULES, root_folder
from .replay import COMPACT_KEY, linears

HEAD = TASK_TYPES["embedding"].head_class
POOLING = "1_Pooling"
# settings of the Transformer module and of the whole model
TRANSFORMER, SETTINGS = "sentence_bert_config.json", "config_sentence_transformers.json"
FLAGS = {  # pooling -> key in the config.json of a Pooling module
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
# role of a text -> names of its prompt, as in sentence-transformers
PROMPTS = {QUERY: ("query",), DOCUMENT: ("document", "passage", "corpus")}
TOKENS = "sentence_embedding"  # what modules after pooling read, by default


class EmbeddingOutput(NamedTuple):
    """Output of a sentence-embedding model."""

    embeddings: Tensor  # (texts, width)


class _SentenceEmbedding:
    """Methods of the model classes; see `model_class`."""

    config: Any

    def __init__(self, config: Any, encoder: nn.Module | None = None):
        super().__init__(config)  # type: ignore[call-arg]
        base = FAMILIES[config.model_type].base
        setattr(self, base, encoder or EncoderLoader.from_config(config))
        self.after = nn.ModuleList(map(_module, config.sentence_embedding["modules"]))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> EmbeddingOutput:
        """Embed a batch of texts, (texts, tokens) each."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        encoder = getattr(self, FAMILIES[self.config.model_type].base)
        hidden = encoder(**inputs).last_hidden_state
        return EmbeddingOutput(self.pooled(hidden, attention_mask.bool()))

    def pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map final hidden states (texts, tokens, width) and a bool mask to embeddings."""
        poolings = self.config.sentence_embedding["poolings"]
        x = torch.cat([pool(hidden, mask, name) for name in poolings], dim=-1)
        for module in self.after:
            x = module(x)
        return x


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool hidden states (texts, tokens, width) over real tokens; padding is on the right."""
    if pooling == "cls":
        return hidden[:, 0]
    real = mask[..., None].to(hidden.dtype)
    if pooling == "max":
        return hidden.masked_fill(real == 0, torch.finfo(hidden.dtype).min).amax(1)
    if pooling == "lasttoken":
        last = real.sum(1, keepdim=True).long() - 1
        return hidden.gather(1, last.expand(-1, -1, hidden.shape[-1]))[:, 0]
    if pooling == "weightedmean":  # by position, from 1
        real = real * real.cumsum(1)
    total, count = (hidden * real).sum(1), real.sum(1)
    return total / (count.sqrt() if pooling == "mean_sqrt_len_tokens" else count)


class _Dense(nn.Module):
    """A Linear with an activation, named as in sentence-transformers."""

    def __init__(self, options: Mapping[str, Any]):
        super().__init__()
        self.linear = nn.Linear(
            options["in_features"], options["out_features"], bias=options["bias"]
        )
        self.activation = getattr(nn, options["activation"])()

    def forward(self, x: Tensor) -> Tensor:
        """Map (texts, width) to another width."""
        return self.activation(self.linear(x))


class _LayerNorm(nn.Module):
    """A LayerNorm, named as in sentence-transformers."""

    def __init__(self, options: Mapping[str, Any]):
        super().__init__()
        self.norm = nn.LayerNorm(options["dimension"])

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each embedding."""
        return self.norm(x)


class _Normalize(nn.Module):
    """Scales embeddings to unit length."""

    def __init__(self, options: Mapping[str, Any]):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Scale each embedding to length 1."""
        return F.normalize(x, dim=-1)


CLASSES = {"Dense": _Dense, "LayerNorm": _LayerNorm, "Normalize": _Normalize}


def _module(description: Mapping[str, Any]) -> nn.Module:
    return CLASSES[description["type"]](description)


def model_class(config: Any) -> Any:
    """Model class for a configuration, such as BertForSentenceEmbedding."""
    encoder: Any = _encoder_class(config)
    return _class_of(encoder)


def _encoder_class(config: Any) -> Any:
    from transformers import MODEL_MAPPING

    return MODEL_MAPPING[type(config)]


@lru_cache
def _class_of(encoder: Any) -> Any:
    parent = next(each for each in encoder.__mro__ if each.__name__.endswith("PreTrainedModel"))
    name = encoder.__name__.removesuffix("Model") + HEAD
    return type(name, (_SentenceEmbedding, parent), {"__module__": __name__})


class EncoderLoader:
    """AutoModel without the pooler of the pre-training, which embeddings do not read."""

    @staticmethod
    def from_config(config: Any) -> Any:
        """Create an encoder with random weights."""
        from transformers import AutoModel

        return AutoModel.from_config(config, **_without_pooler(config))

    @staticmethod
    def from_pretrained(source: str, config: Any, **options: Any) -> Any:
        """Load the encoder of a folder or Hub id."""
        from transformers import AutoModel

        return AutoModel.from_pretrained(
            source, config=config, **_without_pooler(config), **options
        )


def _without_pooler(config: Any) -> dict[str, bool]:
    parameters = inspect.signature(_encoder_class(config)).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


def is_embedding(config: Any) -> bool:
    """Whether a configuration is that of a sentence-embedding model."""
    return hasattr(config, "sentence_embedding")


# -- reading -------------------------------------------------------------------------------------


def configure(config: Any, source: str, checkpoint: str, pooling: str = "") -> None:
    """Set up the configuration of an encoder without a head as a sentence-embedding model.

    The modules after the encoder are those of a sentence-transformers folder or Hub id, or only the
    given pooling. The configuration stays unchanged if there are neither.
    """
    description = _read(source, checkpoint)
    if description and pooling:
        raise PruneError(
            f"{checkpoint} specifies its pooling itself (modules.json); leave --pooling out."
        )
    if pooling:
        description = {"poolings": [pooling], "modules": [], "transformer": {}, "settings": {}}
    if description:
        config.sentence_embedding = description
        config.architectures = [model_class(config).__name__]
        config.num_labels = 1


def _read(source: str, checkpoint: str) -> dict[str, Any]:
    """Description of the modules after the encoder; {} without modules.json."""
    transformer = read_json(source, TRANSFORMER, checkpoint)
    source = root_folder(source)
    listed = read_json(source, MODULES, checkpoint)
    if listed == {}:
        return {}
    first, second, *others = [*listed, {}, {}][: max(2, len(listed))]
    for module, expected in ((first, "Transformer"), (second, "Pooling")):
        if _type(module) != expected:
            raise PruneError(
                f"{checkpoint}: modules.json lists {_type(module) or 'nothing'} where a "
                f"{expected} is expected; supported are a Transformer, a Pooling, and "
                f"{', '.join(CLASSES)} after it."
            )
    modules = [_describe(each, source, checkpoint) for each in others if _type(each) != "Dropout"]
    settings = read_json(source, SETTINGS, checkpoint)
    pooling = read_json(source, f"{second['path']}/config.json", checkpoint)
    if not pooling.get("include_prompt", True) and default_prompt(settings):
        raise PruneError(
            f"{checkpoint} leaves its prompt out of the pooling (include_prompt), which is not "
            "supported."
        )
    return {
        "poolings": _poolings(pooling, checkpoint),
        "modules": modules,
        "transformer": transformer,
        "settings": settings,
    }


def _type(module: Mapping[str, Any]) -> str:
    """Class name of a module in modules.json."""
    return str(module.get("type", "")).rpartition(".")[2]


def read_json(source: str, name: str, checkpoint: str) -> Any:
    """Content of a JSON file of a folder or Hub id; {} if it is missing."""
    file = _file(source, name)
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file else {}
    except ValueError:
        raise PruneError(f"{checkpoint}: {name} is not valid JSON; copy it again.") from None


def _file(source: str, name: str) -> Path | None:
    from transformers.utils import cached_file

    quiet = ("missing_entries", "connection_errors", "gated_repo")
    options = {f"_raise_exceptions_for_{each}": False for each in quiet}
    file = cached_file(source, name, **options)
    return Path(file) if file else None


def _poolings(config: Mapping[str, Any], checkpoint: str) -> list[str]:
    """Poolings whose results are concatenated, from the configuration of a Pooling module."""
    named = config.get("pooling_mode") or [name for name, key in FLAGS.items() if config.get(key)]
    poolings = [named] if isinstance(named, str) else [*named] or ["mean"]
    if unknown := [name for name in poolings if name not in POOLINGS]:
        raise PruneError(
            f"{checkpoint}: its pooling is {unknown[0]!r}; supported are {', '.join(POOLINGS)}."
        )
    return poolings


def _describe(module: Mapping[str, Any], source: str, checkpoint: str) -> dict[str, Any]:
    """Description of a module after pooling; PruneError if it is not supported."""
    name, path = _type(module), module.get("path", "")
    options = read_json(source, f"{path}/config.json", checkpoint)
    reads = options.get("module_input_name", TOKENS), options.get("module_output_name") or TOKENS
    if name not in CLASSES or options.get("use_residual") or {*reads} != {TOKENS}:
        raise PruneError(
            f"{checkpoint}: its module {path or name} ({module.get('type')}) is not supported; "
            f"after the pooling there may be {', '.join(CLASSES)}, on the embedding and without "
            "a residual connection."
        )
    described = {"type": name, "path": path}
    if name == "LayerNorm":
        described["dimension"] = options["dimension"]
    if name == "Dense":
        activation = options.get("activation_function", "torch.nn.Tanh")
        if not activation.startswith("torch.nn.") or not hasattr(nn, _type({"type": activation})):
            raise PruneError(
                f"{checkpoint}: the activation of its module {path} is {activation}; only those "
                "of torch.nn are supported."
            )
        described |= {key: options[key] for key in ("in_features", "out_features")}
        described |= {"bias": options.get("bias", True), "activation": _type({"type": activation})}
    return described


def default_prompt(settings: Mapping[str, Any]) -> str:
    """Text that sentence-transformers puts before every text by default."""
    return str((settings.get("prompts") or {}).get(settings.get("default_prompt_name")) or "")


def prompt_of(settings: Mapping[str, Any], role: str) -> str:
    """Text before a query or document: the first prompt with one of its names, else the default."""
    prompts = settings.get("prompts") or {}
    named = next((prompts[name] for name in PROMPTS[role] if name in prompts), None)
    return default_prompt(settings) if named is None else str(named)


def prepare_tokenizer(tokenizer: Any, config: Any, checkpoint: str) -> None:
    """Set the maximum length and the prompts of a sentence-embedding model, in place."""
    transformer = config.sentence_embedding["transformer"]
    if limit := transformer.get("max_seq_length"):
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    if transformer.get("do_lower_case") and tokenizer.tokenize("A") != tokenizer.tokenize("a"):
        raise PruneError(
            f"{checkpoint} lowercases texts (do_lower_case in {TRANSFORMER}), but its tokenizer "
            "does not; save the tokenizer with do_lower_case=True."
        )
    settings = config.sentence_embedding["settings"]
    tokenizer.prompt = default_prompt(settings)
    tokenizer.prompts = {role: prompt_of(settings, role) for role in PROMPTS}


def with_encoder(config: Any, encoder: nn.Module, source: str, checkpoint: str) -> Any:
    """Model from a loaded encoder and the weights of the modules after it."""
    model = model_class(config)(config, encoder)
    for description, module in zip(config.sentence_embedding["modules"], model.after, strict=True):
        if not module.state_dict():
            continue
        try:
            module.load_state_dict(_weights(root_folder(source), description["path"]))
        except (RuntimeError, OSError, AttributeError) as error:
            raise PruneError(
                f"{checkpoint}: the weights of its module {description['path']} are missing or do "
                f"not fit its config.json; save it again. ({str(error)[:120]})"
            ) from None
    return model


def _weights(source: str, path: str) -> dict[str, Tensor]:
    """Weights of a module; AttributeError if there is no file."""
    if file := _file(source, f"{path}/model.safetensors"):
        return load_file(file)
    pickled = _file(source, f"{path}/pytorch_model.bin")
    if pickled is None:
        raise AttributeError("no model.safetensors")
    return dict(torch.load(pickled, map_location="cpu", weights_only=True))


@torch.no_grad()
def add_rotation(model: Any, rotation: Tensor) -> None:
    """Multiply the embeddings of a model by a (dimensions, dimensions) matrix, in place.

    Adds a Dense module without bias and activation; before a final Normalize, which commutes with a
    rotation.
    """
    width = len(rotation)
    description = {
        "type": "Dense",
        "path": "",  # set when saved
        "in_features": width,
        "out_features": width,
        "bias": False,
        "activation": "Identity",
    }
    modules = model.config.sentence_embedding["modules"]
    is_normalized = bool(modules) and modules[-1]["type"] == "Normalize"
    place = len(modules) - is_normalized
    module = _Dense(description)
    module.linear.weight.copy_(rotation.T)
    modules.insert(place, description)
    model.after.insert(place, module.to(next(model.parameters())))


# -- writing -------------------------------------------------------------------------------------


def save(model: Any, folder: Path) -> None:
    """Write a sentence-transformers folder.

    A compact model is written in the full shape, with zeros for the removed heads and neurons,
    because sentence-transformers builds the encoder from the sizes in config.json; `loading.load`
    removes them again.
    """
    config = copy.deepcopy(model.config)
    description = config.sentence_embedding
    del config.sentence_embedding
    config.num_labels = 2  # the default of transformers
    if hasattr(config, COMPACT_KEY):
        model = padded(model)
    encoder = copy.copy(getattr(model, FAMILIES[config.model_type].base))
    encoder.config = config
    encoder.save_pretrained(folder, safe_serialization=True, max_shard_size="100GB")
    listed = [_entry(0, "Transformer", ""), _entry(1, "Pooling", POOLING)]
    width = config.hidden_size
    flags = {key: name in description["poolings"] for name, key in FLAGS.items()}
    _write(folder / POOLING / "config.json", {"word_embedding_dimension": width, **flags})
    for place, (each, module) in enumerate(
        zip(description["modules"], model.after, strict=True), start=2
    ):
        path = f"{place}_{each['type']}"
        listed.append(_entry(place, each["type"], path))
        _write(folder / path / "config.json", _options(each))
        if weights := module.state_dict():
            tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
            save_file(tensors, folder / path / "model.safetensors", metadata={"format": "pt"})
    _write(folder / MODULES, listed)
    for name, content in (
        (TRANSFORMER, description["transformer"]),
        (SETTINGS, description["settings"]),
    ):
        if content:
            _write(folder / name, content)


@torch.no_grad()
def padded(model: Any) -> Any:
    """Full-shape copy of a compact model: zeros for the removed heads and neurons."""
    config = copy.deepcopy(model.config)
    delattr(config, COMPACT_KEY)
    full = model_class(config)(config)
    for _, _, linear in linears(full):
        linear.weight.zero_()
        if linear.bias is not None:
            linear.bias.zero_()
    shapes = {name: tensor.shape for name, tensor in full.state_dict().items()}
    fitting = {
        name: tensor for name, tensor in model.state_dict().items() if tensor.shape == shapes[name]
    }
    full.load_state_dict(fitting, strict=False)
    expand_into(model, full, recorded_units(model.config))
    return full.to(next(model.parameters()).dtype)


def _entry(place: int, name: str, path: str) -> dict[str, Any]:
    kind = f"sentence_transformers.models.{name}"  # a name that every version reads
    return {"idx": place, "name": str(place), "path": path, "type": kind}


def _options(description: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in description.items() if name not in ("type", "path")}
    if activation := options.pop("activation", ""):
        module = getattr(nn, activation).__module__
        options["activation_function"] = f"{module}.{activation}"
    return options


def _write(file: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
