# %% [markdown]
# # Prune the encoder inside a model of your own
# `pc.prune_encoder` needs the encoder and a function that runs your model on one batch. Run this
# file as a script, or cell by cell in an editor that supports `# %%`. Set EXAMPLE_SENTENCES to a
# small number for a quick run.

# %%
import os

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import prune_core as pc
from prune_core.paths import ASSETS

size = int(os.environ.get("EXAMPLE_SENTENCES", "200"))
# faster methods for a quick run
weights_method, units_method = ("akr", "kprune") if size > 50 else ("wanda", "block_drop")
model, tokenizer = pc.load("demo")
encoder = model.bert
reviews = pd.read_csv(ASSETS / "demo" / "reviews.csv")
calibration = reviews[reviews["split"] == "calibration"].head(size)
evaluation = reviews[reviews["split"] == "evaluation"].head(size)
texts = calibration["text"].tolist()


def tokens(batch):
    return tokenizer(batch, padding=True, truncation=True, return_tensors="pt")


# %% [markdown]
# ## Sentence embeddings with a logistic regression
# As in SetFit: the head is a scikit-learn model, so it is not part of any checkpoint. `score`
# judges the whole model, with the dense and then with the pruned encoder.


# %%
@torch.no_grad()
def embeddings(batch):
    return encoder(**tokens(batch)).pooler_output.numpy()


def features(table):
    return [row for text in table["text"] for row in embeddings([text])]


classifier = LogisticRegression().fit(features(calibration), calibration["label"])
pruned, result = pc.prune_encoder(
    encoder,
    embeddings,
    texts,
    method=weights_method,
    sparsity=0.5,
    score=lambda: classifier.score(features(evaluation), evaluation["label"]),
)
print(f"Accuracy {result.dense_score:.1%} dense, {result.pruned_score:.1%} pruned")
print(result.sparsity.groupby("block")["sparsity"].mean())

# %% [markdown]
# ## Two heads on one backbone
# K-prune measures how much the outputs change, so `run`, here the model itself, returns those of
# both heads, with gradients. `compact=True` removes the pruned heads and neurons physically.


# %%
class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = encoder
        self.sentiment = model.classifier
        self.words = nn.Linear(encoder.config.hidden_size, 1)

    def forward(self, batch):
        pooled = self.encoder(**tokens(batch)).pooler_output
        return self.sentiment(pooled), self.words(pooled)


two_heads = TwoHeads().eval()
smaller, _ = pc.prune_encoder(
    two_heads.encoder, two_heads, texts, method=units_method, sparsity=0.3, compact=True
)
with torch.no_grad():
    dense_outputs = two_heads(evaluation["text"].tolist()[:8])
    two_heads.encoder = smaller
    pruned_outputs = two_heads(evaluation["text"].tolist()[:8])
for name, dense, changed in zip(("sentiment", "words"), dense_outputs, pruned_outputs, strict=True):
    print(f"{name}: largest change {(changed - dense).abs().max():.3f}")
print(f"{encoder.num_parameters():,} parameters before, {smaller.num_parameters():,} after")
