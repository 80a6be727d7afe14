# %% [markdown]
# # From a checkpoint to a chart
# Load a fine-tuned encoder, prune it in memory with two methods, and compare the pruned models with
# the original. Run this file as a script, or cell by cell in an editor that supports `# %%`. Set
# EXAMPLE_SENTENCES to a small number for a quick run.

# %%
import os

import pandas as pd

import prune_core as pc
from prune_core.paths import ASSETS

size = int(os.environ.get("EXAMPLE_SENTENCES", "200"))

# %% [markdown]
# ## A model and data
# The bundled film-review classifier. `pc.load` also accepts a folder or a Hub id; any Hugging Face
# encoder with a head that is already in memory works too.

# %%
model, tokenizer = pc.load("demo")
reviews = pd.read_csv(ASSETS / "demo" / "reviews.csv")
# calibration needs no labels
texts = reviews[reviews["split"] == "calibration"]["text"].tolist()[:size]
evaluation = reviews[reviews["split"] == "evaluation"][["text", "label"]].head(size)

# %% [markdown]
# ## Prune
# The model itself is not changed. `python -m prune_core methods` lists the options of each method.

# %%
by_magnitude = pc.prune(model, tokenizer, texts, method="magnitude", sparsity=0.7)
by_akr = pc.prune(model, tokenizer, texts, method="akr", sparsity=0.7)

# %% [markdown]
# ## Compare
# Every measure evaluates both models on the same examples.

# %%
for name, pruned in (("Magnitude", by_magnitude), ("AKR", by_akr)):
    result = pc.compare(
        model, pruned, tokenizer, evaluation, measures=["accuracy", "reconstruction"], name=name
    )
    print(result.takeaway)

# %% [markdown]
# ## Inspect the results
# Tables are DataFrames, charts are plotly figures.

# %%
print(
    result.rows["reconstruction"].query("job == 1 and projection == 'block'")[
        ["block", "own", "inherited", "total"]
    ]
)
figure = result.figure("reconstruction")
figure.write_html("reconstruction.html") if os.environ.get("EXAMPLE_WRITE") else figure
