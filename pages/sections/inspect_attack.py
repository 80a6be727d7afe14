"""Attack one text on all models at once and show every accepted change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from pages.sections.word_importance import Subject
from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.attacks import catalogue
from prune_core.data.examples import TASK_TYPES
from prune_core.formatting import percent, plural, seconds
from prune_core.processes.inspector_client import RunningAttack

KEPT = "inspect-attack"  # the reader's last attack, in the session
Paste = Callable[[str, str], None]  # (text, its original)


@dataclass(frozen=True)
class Attempt:
    """What was attacked how, and what has come of it so far."""

    attack: RunningAttack
    recipe: str
    subject: Subject
    label: int
    names: list[str]

    @property
    def right(self) -> str:
        """The right label's name."""
        return self.names[self.label]

    def results(self) -> list[tuple[ComparedModel, dict]]:
        """What is known of each model."""
        return list(zip(self.subject.checkpoints, self.attack.models, strict=True))


def section(
    view: View, subject: Subject, predicted: dict[ComparedModel, dict], paste: Paste
) -> None:
    """The choices and the button; below, the last attack, which continues on other pages."""
    if view.kind != "classification":
        gives = f"give {TASK_TYPES[view.kind]}"
        st.info(
            f"The attacks here try to flip a label, and these models {gives}: there is no label "
            "to flip.",
            icon=":material/info:",
        )
        return
    _choices(subject, predicted)
    attempt: Attempt | None = st.session_state.get(KEPT)
    if attempt and attempt.attack.is_over:
        _result(view, attempt, paste)
        _transfer(attempt)
    elif attempt:
        st.fragment(_watch, run_every=0.5)(view, attempt, paste)


def _choices(subject: Subject, predicted: dict[ComparedModel, dict]) -> None:
    dense, names = next(iter(predicted.values())), next(iter(predicted.values()))["labels"]
    recipes = [name for name, entry in catalogue.CATALOGUE.items() if not catalogue.missing(entry)]
    first = next(iter(predicted)).label
    with st.container(horizontal=True, vertical_alignment="bottom", key="attack-choices"):
        recipe = ui.choice_widget(
            st.selectbox, "inspect-recipe", recipes, default=recipes[0], label="Attack", width=240
        )
        title = lambda label: label or f"as {first} says ({dense['said'][0]})"  # noqa: E731
        said = ui.choice_widget(
            st.selectbox,
            "inspect-right",
            ["", *names],
            default="",
            label="Right label",
            format_func=title,
            width=260,
        )
        if st.button(
            f"Attack {plural(len(predicted), 'model')}",
            key="attack",
            type="primary",
            icon=":material/bolt:",
        ):
            if running := st.session_state.get(KEPT):
                running.attack.cancel()
            label = names.index(said or dense["said"][0])
            attack = subject.asking.attack(
                list(subject.checkpoints.values()), recipe, subject.text, subject.pair, label
            )
            st.session_state[KEPT] = Attempt(attack, recipe, subject, label=label, names=names)
    entry = catalogue.CATALOGUE[recipe]
    st.caption(
        f"{entry.paper}. Changes "
        f"{entry.changes}{' of the first sentence' if subject.pair else ''}; at most 500 queries "
        f"and 30 s for each model. {entry.replaces}"
    )


def _watch(view: View, attempt: Attempt, paste: Paste) -> None:
    """While the searches run."""
    if attempt.attack.is_over:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", key="attack-running"):
        over = sum("outcome" in told for _, told in attempt.results())
        begun = any(told for _, told in attempt.results())
        state = (
            f"over on {over} of {plural(len(attempt.attack.models), 'model')}"
            if begun
            else "Waiting for the first answers …"
        )
        st.markdown(f":material/hourglass_top: {state}")
        st.button("Stop", key="attack-stop", icon=":material/stop:", on_click=attempt.attack.cancel)
    _result(view, attempt, paste)


def _result(view: View, attempt: Attempt, paste: Paste) -> None:
    """The chart and a card a model."""
    if attempt.attack.error:
        st.info(attempt.attack.error)
    if not any("steps" in told for _, told in attempt.results()):
        return
    with st.container(
        horizontal=True,
        vertical_alignment="bottom",
        horizontal_alignment="right",
        key="attack-axis",
    ):
        by = ui.segments("attack-by", plots.AXES, "queries", label="Across")
    two = len(attempt.names) == 2
    ui.chart(
        "How fast does each model give way?",
        f"Probability of “{attempt.right}” for the best text found so far; each dot is a change "
        f"that {attempt.recipe} kept, a cross is where the attack succeeded. One sentence, "
        f"{plural(len(attempt.attack.models), 'model')}.",
        plots.attack_steps(attempt.results(), by, attempt.right, two_labels=two, dark=view.dark),
        key="attack-steps",
    )
    with st.grid(2, min_column_width=330, key="attack-cards") as grid:
        for model, told in attempt.results():
            with grid.cell(), st.container(border=True, key=f"attack-card-{model.job}"):
                _card(view, attempt, model, told=told, paste=paste)


def _card(view: View, attempt: Attempt, model: ComparedModel, told: dict, paste: Paste) -> None:
    steps = told.get("steps", [])
    ended = verdict(told, attempt.recipe, attempt.attack.is_over)
    st.markdown(ui.named(model, view.dark) + f" · {ended}")
    lines = []
    for place, step in enumerate(steps):
        marked = ui.marked_words(steps[place - 1]["text"] if place else step["text"], step["text"])
        what = f"change {place} · {_queries(step)}" if place else "original"
        lines.append(
            f'<div class="step">{what} · {ui.escape(attempt.right)} '
            f"{percent(step['probability'])}</div>{marked}"
        )
    st.html("".join(lines) or "<p>–</p>")
    if len(steps) > 1 and attempt.attack.is_over:
        st.button(
            "Paste it",
            key=f"paste-{model.job}",
            icon=":material/content_paste:",
            help="Put this text and its original into the fields above, and see what all models "
            "say of it.",
            on_click=paste,
            args=(steps[-1]["text"], attempt.subject.text),
        )


def verdict(told: dict, recipe: str, is_over: bool) -> str:
    """What became of the search, in words."""
    asked, words = _queries(told), catalogue.outcome_words(recipe)
    ends = {
        "success": f"{words['success']} after {asked}",
        "failed": f"{words['failed']} after {asked}",
        "skipped": f"{words['skipped']} before the attack",
        "error": "the search broke off",
    }
    if "outcome" in told:
        note = f". {told['note']}" if told["note"] and told["outcome"] != "skipped" else ""
        return f"{ends[told['outcome']]}, {seconds(told['seconds'])}{note}"
    if is_over:
        return f"stopped after {asked}"
    return f"{asked} so far" if told else "waiting"


def _queries(told: dict) -> str:
    number = told.get("queries", 0)
    return "1 query" if number == 1 else f"{number} queries"


def _transfer(attempt: Attempt) -> None:
    """The adversarial texts of all models, evaluated on all models."""
    texts = {
        model.label: found["perturbed"]
        for model, found in attempt.results()
        if found.get("outcome") == "success"
    }
    if not texts:
        return
    st.markdown("#### Do these adversarial examples transfer?")
    subject = attempt.subject
    pairs = None if subject.pair is None else [subject.pair] * len(texts)
    checkpoints = list(subject.checkpoints.values())
    outputs = ui.run_action(subject.asking.predict, checkpoints, list(texts.values()), pairs) or []
    table = pd.DataFrame({"attacked model": list(texts)})
    for model, output in zip(subject.checkpoints, outputs, strict=bool(outputs)):
        if "error" not in output:
            table[model.label] = [
                f"{label} · {percent(probabilities[attempt.label])}"
                for label, probabilities in zip(
                    output["said"], output["probabilities"], strict=True
                )
            ]
    table["text"] = list(texts.values())
    ui.table(table, "transfer-text", {"text": st.column_config.TextColumn(width="large")})
    st.caption(
        "Cells: the prediction of the model above for that text, with its probability of "
        f"“{attempt.right}”. One sentence, so not a rate."
    )
