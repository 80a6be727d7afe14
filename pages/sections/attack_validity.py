"""Attack success with valid adversarial examples only, under adjustable rules."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import attack_success
from prune_core.attacks import catalogue
from prune_core.attacks.requirements import WORDNET

SIMILARITY, CHANGED = 0.8, 40  # cosine; percent of the words, the most that BERT-Attack may change
LETTERS = [
    name for name, entry in catalogue.CATALOGUE.items() if entry.changes == catalogue.LETTERS
]


def show(view: View, recipe: str) -> None:
    """The validity rule as widgets, its effect on every rate, and why texts fail it."""
    examples = view.single("attack_example")
    own = examples[examples["recipe"] == recipe]
    examples = examples.dropna(subset="meaning") if "meaning" in examples else examples.iloc[:0]
    unjudged = set(own["job"]) - set(examples["job"])
    older = [model.label for model in view.models if unjudged & set(model.jobs)]
    if older:
        st.info(
            f"The texts made on {', '.join(older)} are not judged: the attack ran before texts "
            "were. To have similarity, grammar and flags for changed meaning, queue the plan "
            "again on the Prune page with “Compute again what is there”.",
            icon=":material/info:",
        )
    if examples.empty:
        return
    own = own[own["job"].isin(examples["job"])]
    with st.container(horizontal=True, vertical_alignment="bottom", key="valid-rule"):
        least = st.slider(
            "Similarity at least",
            0.0,
            1.0,
            value=SIMILARITY,
            step=0.05,
            key="valid-similarity",
            help=(
                "Cosine of the MiniLM sentence vectors of the original and the changed text: 1 "
                "is the same."
            ),
        )
        most = st.slider(
            "Words changed at most (%)", 5, 100, value=CHANGED, step=5, key="valid-changed"
        )
        strict = st.toggle(
            "Judge misspellings by similarity too",
            key="valid-letters",
            help=(
                "Off: misspelt texts are judged by the share of words changed and the flags "
                "alone; see How to read this."
            ),
        )
    flaws = attack_success.invalid_examples(
        examples, least, most / 100, spared=() if strict else LETTERS
    )
    counted = attack_success.only_valid(examples, ~flaws.any(axis=1))
    rates = [attack_success.rates(rows) for rows in (counted, examples)]
    valid, every = (view.pooled("attack", rows) for rows in rates)
    mean = view.means()
    interval = "interval over seeds and examples" if mean else "Wilson interval"
    ui.chart(
        "How often do attacks succeed with a valid text?",
        f"Dot: only valid texts count as a success, with its 95% {interval}; ring: all texts count"
        f"{mean and f', {mean}'}. n is the number of examples{mean and ' per seed'}.",
        plots.success(valid, view.models, view.dark, rings=every),
        key="valid-success",
    )
    _reasons(view, own, flaws)
    unseen = "" if WORDNET.present else " (WordNet is not on this machine, so opposites go unseen)"
    ui.how_to_read(
        f"A success counts as failed when its text is less similar than {least:g}, is flagged for "
        f"its meaning, or has more than {most}% of its words changed. **Flagged**: a negation "
        "(not, n't, never, no, without …) is gone, new or misspelt, or a word gave way to its "
        f"opposite in WordNet{unseen}. These rules are rough, a fair text may fail and a bad one "
        "pass, so read some below.  \n**Misspellings.** The sentence encoder cuts a broken word "
        "into pieces that mean nothing to it. On the demo one wrong letter in nineteen words "
        "(*minutes* to *mivutes*) takes similarity to 0.77, and 19 of 30 DeepWordBug texts on "
        "the dense model are below 0.8, though a reader sees the words through the slips. "
        "*Earned, surprising* to *earned, disappointing* by TextFooler stays at 0.92. So attacks "
        "that change letters alone are not held to the similarity unless you say so."
    )


def _reasons(view: View, own: pd.DataFrame, flaws: pd.DataFrame) -> None:
    """One line per model: its valid successes over all seeds, and which checks the others fail."""
    made = attack_success.successes(own)
    if made.empty:
        return
    flaws = flaws.loc[made.index]
    told = (
        made[["similarity", "grammar", "share_changed"]]
        .join(flaws)
        .assign(valid=~flaws.any(axis=1), run=made["job"].map(view.labels))
    )
    found = (
        told.groupby("run", sort=False)
        .agg(
            successes=("valid", "size"),
            valid=("valid", "sum"),
            unlike=("unlike", "sum"),
            meaning=("meaning", "sum"),
            many=("many", "sum"),
            similarity=("similarity", "mean"),
            grammar=("grammar", "mean"),
            share_changed=("share_changed", "mean"),
        )
        .reset_index()
    )
    st.markdown(f"##### Which checks do the texts of {own['recipe'].iloc[0]} fail?")
    if view.means():
        st.caption("Counts are totals over all seeds.")
    ui.table(
        found.assign(share_changed=100 * found["share_changed"]),
        "validity",
        {
            "run": st.column_config.TextColumn("Run", pinned=True),
            "unlike": st.column_config.NumberColumn("too unlike"),
            "meaning": st.column_config.NumberColumn("meaning flagged"),
            "many": st.column_config.NumberColumn("too many words"),
            "similarity": st.column_config.NumberColumn("similarity (mean)", format="%.2f"),
            "grammar": st.column_config.NumberColumn("grammar errors added (mean)", format="%.1f"),
            "share_changed": st.column_config.NumberColumn(
                "words changed (mean, %)", format="%.0f"
            ),
        },
        plain=found,
    )
    if told["grammar"].isna().all():
        st.caption(
            "Grammar errors are not there: Java, or LanguageTool itself, was missing when the "
            'attack ran. This fetches LanguageTool (250 MB): `python -c "import '
            "language_tool_python as l; l.LanguageTool('en-US')\"`"
        )
