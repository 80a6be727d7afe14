# %% [markdown]
# # From a checkpoint to a figure
# A fine-tuned encoder is loaded, pruned in memory by two methods, and compared with itself. Run it as a script, or cell by cell
# in an editor that knows `# %%`. Set EXAMPLE_SENTENCES to a small number to see it run quickly.

# %%
import os

import pandas as pd

import prune_core as pc
from prune_core.paths import ASSETS

size = int(os.environ.get("EXAMPLE_SENTENCES", "200"))

# %% [markdown]
# ## A model and data
# The bundled film-review classifier; `pc.load` takes a folder or a Hub id as well, and any Hugging Face encoder with a head that is
# in memory already does.

# %%
model, tokenizer = pc.load("demo")
reviews = pd.read_csv(ASSETS / "demo" / "reviews.csv")
texts = reviews[reviews["split"] == "calibration"]["text"].tolist()[
    :size
]  # no labels are needed to calibrate
judged = reviews[reviews["split"] == "evaluation"][["text", "label"]].head(size)

# %% [markdown]
# ## Prune
# The model itself stays as it is; options are the method's own (`python -m prune_core methods` lists them).

# %%
by_magnitude = pc.prune(model, tokenizer, texts, method="magnitude", sparsity=0.7)
by_akr = pc.prune(model, tokenizer, texts, method="akr", sparsity=0.7)

# %% [markdown]
# ## Compare
# Every measure looks at both models on the same sentences.

# %%
for name, pruned in (("Magnitude", by_magnitude), ("AKR", by_akr)):
    result = pc.compare(
        model, pruned, tokenizer, judged, measures=["accuracy", "reconstruction"], name=name
    )
    print(result.takeaway)

# %% [markdown]
# ## Look
# Tables are DataFrames, charts are plotly figures.

# %%
print(
    result.rows["reconstruction"].query("job == 1 and part == 'block'")[
        ["block", "own", "inherited", "total"]
    ]
)
figure = result.figure("reconstruction")
figure.write_html("reconstruction.html") if os.environ.get("EXAMPLE_WRITE") else figure
