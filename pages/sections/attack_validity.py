"""Attack success with valid adversarial examples only, under adjustable rules."""

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import attack_success
from prune_core.attacks import catalogue
from prune_core.attacks.requirements import WORDNET

MIN_SIMILARITY, MAX_CHANGED = (
    0.8,
    40,
)  # cosine; percent of the words, the most that BERT-Attack may change
LETTER_ATTACKS = [
    name for name, entry in catalogue.CATALOGUE.items() if entry.changes == catalogue.LETTERS
]


def show(view: View, recipe: str) -> None:
    """Draw the validity rule as widgets, its effect on every rate, and which checks texts fail."""
    examples = view.single("attack_example")
    attacked = examples[examples["recipe"] == recipe]
    examples = examples.dropna(subset="meaning") if "meaning" in examples else examples.iloc[:0]
    without_checks = set(attacked["job"]) - set(examples["job"])
    unchecked = [model.label for model in view.models if without_checks & set(model.jobs)]
    if unchecked:
        st.info(
            f"The adversarial examples of {', '.join(unchecked)} were not checked for validity: "
            "their attacks ran with an older version. To compute similarity, grammar and flags for "
            "changed meaning, queue the plan again on the Prune page with “Recompute finished "
            "runs”.",
            icon=":material/info:",
        )
    if examples.empty:
        return
    attacked = attacked[attacked["job"].isin(examples["job"])]
    with st.container(horizontal=True, vertical_alignment="bottom", key="validity-rule"):
        min_similarity = st.slider(
            "Similarity at least",
            0.0,
            1.0,
            value=MIN_SIMILARITY,
            step=0.05,
            key="validity-similarity",
            help=(
                "Cosine of the MiniLM sentence embeddings of the original and the adversarial "
                "text; 1 is identical."
            ),
        )
        max_changed = st.slider(
            "Words changed at most (%)", 5, 100, value=MAX_CHANGED, step=5, key="validity-changed"
        )
        strict = st.toggle(
            "Apply the similarity threshold to misspellings too",
            key="validity-misspellings",
            help=(
                "Off: misspelled texts are checked by the percentage of changed words and the "
                "flags only; see How to read this."
            ),
        )
    flaws = attack_success.invalid_examples(
        examples, min_similarity, max_changed / 100, spared=() if strict else LETTER_ATTACKS
    )
    counted = attack_success.only_valid(examples, ~flaws.any(axis=1))
    valid, all_texts = (
        view.pooled("attack", attack_success.rates(rows)) for rows in (counted, examples)
    )
    interval, seed_notes = "Wilson interval", ("", "")
    if mean := view.means():
        interval, seed_notes = "interval over seeds and examples", (f", {mean}", " per seed")
    ui.chart(
        "How often do attacks succeed with a valid text?",
        f"Dot: only valid texts count as a success, with its 95% {interval}; ring: all texts count"
        f"{seed_notes[0]}. n is the number of examples{seed_notes[1]}.",
        plots.success(valid, view.models, view.dark, rings=all_texts),
        key="validity-success",
    )
    _reasons(view, attacked, flaws)
    note = ""
    if not WORDNET.present:
        note = " (WordNet is missing on this machine, so antonyms are not detected)"
    ui.how_to_read(
        f"A success counts as failed if its similarity is below {min_similarity:g}, if it is "
        f"flagged for its meaning, or if more than {max_changed}% of its words are changed. "
        "**Flagged**: a negation (not, n't, never, no, without …) is removed, added or misspelled, "
        f"or a word is replaced by its antonym in WordNet{note}. These "
        "rules are heuristics with false positives and false negatives, so read some texts below."
        "  \n**Misspellings.** "
        "The tokenizer of the sentence encoder splits a misspelled word into unrelated pieces. On "
        "the demo, one wrong letter in nineteen words (*minutes* to *mivutes*) lowers similarity "
        "to 0.77, and 19 of 30 DeepWordBug texts on the dense model are below 0.8, although "
        "readers recognize the words. *Earned, surprising* to *earned, disappointing* by "
        "TextFooler stays at 0.92. The similarity threshold is therefore not applied to attacks "
        "that change letters only, unless you enable it."
    )


def _reasons(view: View, examples: pd.DataFrame, flaws: pd.DataFrame) -> None:
    """Show one row per model: valid successes over all seeds, and which checks the others fail."""
    successes = attack_success.successes(examples)
    if successes.empty:
        return
    flaws = flaws.loc[successes.index]
    checked = (
        successes[["similarity", "grammar", "share_changed"]]
        .join(flaws)
        .assign(valid=~flaws.any(axis=1), run=successes["job"].map(view.labels))
    )
    summary = (
        checked.groupby("run", sort=False)
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
    st.markdown(f"##### Which checks do the texts of {examples['recipe'].iloc[0]} fail?")
    if view.means():
        st.caption("Counts are totals over all seeds.")
    ui.table(
        summary.assign(share_changed=100 * summary["share_changed"]),
        "validity",
        {
            "run": st.column_config.TextColumn("Run", pinned=True),
            "unlike": st.column_config.NumberColumn("similarity too low"),
            "meaning": st.column_config.NumberColumn("meaning flagged"),
            "many": st.column_config.NumberColumn("too many words changed"),
            "similarity": st.column_config.NumberColumn("similarity (mean)", format="%.2f"),
            "grammar": st.column_config.NumberColumn("grammar errors added (mean)", format="%.1f"),
            "share_changed": st.column_config.NumberColumn(
                "words changed (mean, %)", format="%.0f"
            ),
        },
        plain=summary,
    )
    if checked["grammar"].isna().all():
        st.caption(
            "Grammar errors are not available: Java or LanguageTool was missing when the attack "
            'ran. This command downloads LanguageTool (250 MB): `python -c "import '
            "language_tool_python as l; l.LanguageTool('en-US')\"`"
        )
