"""Tiny random encoders and a few example texts, used by tests in place of downloads."""

from __future__ import annotations

import copy
from functools import cache

import pandas as pd
import torch
from transformers import (
    AlbertConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from prune_core.data import retrieval
from prune_core.data.examples import Examples
from prune_core.data.retrieval import RetrievalCollection
from prune_core.measures.accuracy import Accuracy
from prune_core.measures.base import Pair
from prune_core.models import embedding, replay
from prune_core.models.checkpoints import loading
from prune_core.models.checkpoints.tokenizers import prepare_tokenizer
from prune_core.models.families import FAMILIES
from prune_core.plugins import no_report
from prune_core.tasks.encoding import batches
from prune_core.tasks.task_data import Task

SENTENCES = [
    "A warm and funny film that never lies about how hard it is to grow up.",
    "Dull.",
    "The plot is thin, the jokes are thinner, and the running time is the only generous thing "
    "here.",
    "I left the cinema lighter than I came, which no film has managed for a long while.",
    "It looks expensive and feels cheap.",
    "Somewhere between the second chase and the third betrayal I stopped caring who lived.",
    "Every actor seems to be in a different film, and oddly all of them are good.",
    "Not a bad idea in it, and not a good scene either, so it simply passes by.",
    "The camera finds faces that most directors would walk past without a glance.",
    "A sequel that forgets why anyone loved the first one and remembers only its noise.",
    "Quiet, patient and in the end quite devastating in what it chooses to leave out.",
    "If you like this sort of thing, you will like this sort of thing more than most.",
]
TAGS = ("O", "B-PER", "I-PER")
EMBEDDING = {  # modules after the encoder of a sentence-embedding model
    "poolings": ["mean"],
    "modules": [
        {
            "type": "Dense",
            "path": "2_Dense",
            "in_features": 32,
            "out_features": 24,
            "bias": True,
            "activation": "Tanh",
        },
        {"type": "Normalize", "path": "3_Normalize"},
    ],
    "transformer": {"max_seq_length": 64},
    "settings": {},
}
# measures that need a collection, candidates, or a label to detect
OWN_DATA = {"retrieval", "reranking", "query_attack", "corpus_poisoning", "threshold"}
SIZES = {"num_labels": 2, "vocab_size": 30522, "pad_token_id": 0}
WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
}
CONFIGS = {
    "bert": lambda: BertConfig(**SIZES, **WIDE),
    "roberta": lambda: RobertaConfig(**SIZES, **WIDE),
    "electra": lambda: ElectraConfig(**SIZES, **WIDE, embedding_size=16),
    "xlm-roberta": lambda: XLMRobertaConfig(**SIZES, **WIDE),
    "camembert": lambda: CamembertConfig(**SIZES, **WIDE),
    "mpnet": lambda: MPNetConfig(**SIZES, **WIDE),
    "albert": lambda: AlbertConfig(
        **SIZES, **{**WIDE, "num_hidden_layers": 4}, num_hidden_groups=2, embedding_size=16
    ),
    "deberta-v2": lambda: DebertaV2Config(
        **SIZES,
        **WIDE,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        share_att_key=True,
        position_buckets=8,
        position_biased_input=False,
        norm_rel_ebd="layer_norm",
        type_vocab_size=0,
    ),
    "modernbert": lambda: ModernBertConfig(
        **SIZES,
        **WIDE,
        global_attn_every_n_layers=2,
        local_attention=8,
        cls_token_id=101,
        sep_token_id=102,
        reference_compile=False,
    ),
    "distilbert": lambda: DistilBertConfig(
        **SIZES, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=130
    ),
}


def model(
    family: str = "bert", seed: int = 0, kind: str = "classification", head_count: int = 4
) -> torch.nn.Module:
    """Return a random model of that family and task type, 32 wide.

    Weights are scaled up so that predictions differ between examples.
    """
    torch.manual_seed(seed)
    config = CONFIGS[family]()
    setattr(config, FAMILIES[config.model_type].heads, head_count)
    config.num_labels = {"regression": 1, "embedding": 1, "token": len(TAGS)}.get(kind, 2)
    if kind == "multilabel":
        config.problem_type = "multi_label_classification"
    if kind == "token":
        config.id2label = dict(enumerate(TAGS))
    if kind == "embedding":
        config.sentence_embedding = copy.deepcopy(EMBEDDING)
    heads = {"span": AutoModelForQuestionAnswering, "token": AutoModelForTokenClassification}
    if kind == "embedding":
        network = embedding.model_class(config)(config)
    else:
        network = heads.get(kind, AutoModelForSequenceClassification).from_config(config)
    with torch.no_grad():
        for _, _, linear in replay.linears(network):
            linear.weight.mul_(8)
            if linear.bias is not None:
                linear.bias.normal_(0, 0.1)
    return network.eval()


def tokenizer(family: str = "bert") -> AutoTokenizer:
    """Return the tokenizer of the bundled backbone, prepared for the family as loading does.

    A shallow copy, as loading takes longer than most tests: deep-copy it to change its vocabulary.
    """
    return copy.copy(_tokenizer(family))


@cache
def _tokenizer(family: str) -> AutoTokenizer:
    return prepare_tokenizer(
        AutoTokenizer.from_pretrained(loading.resolve(loading.MINILM)), CONFIGS[family]()
    )


def examples(copies: int = 1, kind: str = "classification") -> Examples:
    """Return the texts with alternating labels."""
    texts = SENTENCES * copies
    labels = {
        "multilabel": [[i % 2, 1] for i in range(len(texts))],
        "token": [[position % 3 for position, _ in enumerate(text.split(" "))] for text in texts],
        "regression": [float(i % 5) for i in range(len(texts))],
        "embedding": [float(i % 5) for i in range(len(texts))],
    }
    pairs = texts[1:] + texts[:1] if kind == "embedding" else None
    return Examples(texts, pairs, labels.get(kind, [i % 2 for i in range(len(texts))]), kind=kind)


def calibration(family: str = "bert", batch_size: int = 5) -> list[dict[str, torch.Tensor]]:
    """Return the texts as padded batches."""
    return [
        batch
        for batch, _ in batches(
            tokenizer(family), examples(), batch_size, max_length=64, device=torch.device("cpu")
        )
    ]


def collection() -> RetrievalCollection:
    """Return a collection: each text is a document, and the end of every second one a query."""
    ids = [f"d{place}" for place in range(len(SENTENCES))]
    queries = {f"q{place}": SENTENCES[place][-24:] for place in range(0, len(SENTENCES), 2)}
    rows = [(query, f"d{query[1:]}", 2.0) for query in queries]
    rows += [(query, f"d{int(query[1:]) + 1}", 1.0) for query in queries]
    return retrieval.collection(
        pd.Series(SENTENCES, index=ids),
        pd.Series(queries),
        pd.DataFrame(rows, columns=["query", "document", "grade"]),
        name="tiny",
    )


def retrieval_pair(dense: torch.nn.Module, pruned: torch.nn.Module) -> Pair:
    """Return the input of the measure `retrieval`."""
    found = collection()
    task = Task(
        "tiny",
        ("embedding",),
        Examples(SENTENCES, kind="embedding"),
        evaluation=Examples(list(found.queries), kind="embedding"),
        metric="cosine_to_dense",
        collection=found,
    )
    return Pair(dense, pruned, tokenizer(), task=task, max_length=64)


def reranking_pair(dense: torch.nn.Module, pruned: torch.nn.Module) -> Pair:
    """Return the input of the measure `reranking`, with the rows of `accuracy`."""
    queries = [query for query in ("a film", "the plot", "a scene") for _ in range(4)]
    grades = [float(place % 4 == 0) for place in range(12)]
    first_stage = [-float(place % 4) for place in range(12)]
    found = Examples(queries, SENTENCES, grades, "regression", first_stage=first_stage)
    task = Task("tiny", ("score",), found, evaluation=found, metric="ndcg_at_10")
    measured = Pair(dense, pruned, tokenizer(), task=task, max_length=64)
    measured.rows.update(Accuracy(resamples=100).measure(measured, no_report))
    return measured


def pair(dense: torch.nn.Module, pruned: torch.nn.Module, copies: int = 1) -> Pair:
    """Return the input of a measure."""
    task = Task("tiny", ("negative", "positive"), examples(), evaluation=examples(copies))
    return Pair(dense, pruned, tokenizer(), task=task)
