"""Attack one text on all models at once and show every accepted change."""

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
from prune_core.formatting import percent, plural, seconds
from prune_core.processes.inspector_client import RunningAttack

SESSION_KEY = "inspect-attack"  # session key of the user's last attack
Paste = Callable[[str, str], None]  # (text, its original)


@dataclass(frozen=True)
class Attempt:
    """An attack on one text, with its settings and the results so far."""

    attack: RunningAttack
    recipe: str
    subject: Subject
    label: int
    names: list[str]

    @property
    def label_name(self) -> str:
        """The name of the correct label."""
        return self.names[self.label]

    def results(self) -> list[tuple[ComparedModel, dict]]:
        """Return the result so far for each model."""
        return list(zip(self.subject.checkpoints, self.attack.results, strict=True))


def section(
    view: View, subject: Subject, predicted: dict[ComparedModel, dict], paste: Paste
) -> None:
    """Draw the settings and the last attack, which continues while other pages are open."""
    if not view.task_type.attackable:
        st.info(
            "These attacks try to change the predicted label, but these models predict "
            f"{view.task_type.output}.",
            icon=":material/info:",
        )
        return
    _choices(subject, predicted)
    attempt: Attempt | None = st.session_state.get(SESSION_KEY)
    if attempt and attempt.attack.is_over:
        _result(view, attempt, paste)
        _transfer(attempt)
    elif attempt:
        st.fragment(_watch, run_every=0.5)(view, attempt, paste)


def _choices(subject: Subject, predicted: dict[ComparedModel, dict]) -> None:
    dense = next(iter(predicted.values()))
    names = dense["labels"]
    recipes = [name for name, entry in catalogue.CATALOGUE.items() if not catalogue.missing(entry)]
    first = next(iter(predicted)).label
    with st.container(horizontal=True, vertical_alignment="bottom", key="attack-choices"):
        recipe = ui.choice_widget(
            st.selectbox, "inspect-recipe", recipes, default=recipes[0], label="Attack", width=240
        )
        titles = {"": f"prediction of {first} ({dense['predictions'][0]})"} | {
            name: name for name in names
        }
        chosen = ui.pick("inspect-label", titles, label="Correct label", width=260)
        if st.button(
            f"Attack {plural(len(predicted), 'model')}",
            key="attack",
            type="primary",
            icon=":material/bolt:",
        ):
            if running := st.session_state.get(SESSION_KEY):
                running.attack.cancel()
            label = names.index(chosen or dense["predictions"][0])
            attack = subject.client.attack(
                list(subject.checkpoints.values()), recipe, subject.text, subject.pair, label
            )
            st.session_state[SESSION_KEY] = Attempt(
                attack, recipe, subject, label=label, names=names
            )
    entry = catalogue.CATALOGUE[recipe]
    place = " of the first sentence" if subject.pair else ""
    changes = "the whole text" if entry.changes == catalogue.EVASION else entry.changes
    st.caption(
        f"{entry.paper}. Changes {changes}{place}; at most 500 queries and 30 s per model. "
        f"{entry.replaces}{entry.caution}"
    )


def _watch(view: View, attempt: Attempt, paste: Paste) -> None:
    """Show progress and a stop button while the attack runs."""
    if attempt.attack.is_over:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", key="attack-running"):
        finished = sum("outcome" in result for _, result in attempt.results())
        state = "Loading the models …"
        if any(result for _, result in attempt.results()):
            state = f"Finished on {finished} of {plural(len(attempt.attack.results), 'model')}"
        st.markdown(f":material/hourglass_top: {state}")
        st.button("Stop", key="attack-stop", icon=":material/stop:", on_click=attempt.attack.cancel)
    _result(view, attempt, paste)


def _result(view: View, attempt: Attempt, paste: Paste) -> None:
    """Draw the chart and one card per model."""
    if attempt.attack.error:
        st.info(attempt.attack.error)
    if not any("steps" in result for _, result in attempt.results()):
        return
    with st.container(
        horizontal=True,
        vertical_alignment="bottom",
        horizontal_alignment="right",
        key="attack-axis",
    ):
        by = ui.segments("attack-axis", plots.AXES, "queries", label="Across")
    ui.chart(
        "How fast does the attack succeed on each model?",
        f"Probability of “{attempt.label_name}” for the best text found so far; each dot is a "
        f"change that {attempt.recipe} accepted, a cross marks success. One text, "
        f"{plural(len(attempt.attack.results), 'model')}.",
        plots.attack_steps(
            attempt.results(),
            by,
            attempt.label_name,
            two_labels=len(attempt.names) == 2,
            dark=view.dark,
        ),
        key="attack-steps",
    )
    with st.grid(2, min_column_width=330, key="attack-cards") as grid:
        for model, result in attempt.results():
            with grid.cell(), st.container(border=True, key=f"attack-card-{model.job}"):
                _card(view, attempt, model, result=result, paste=paste)


def _card(view: View, attempt: Attempt, model: ComparedModel, result: dict, paste: Paste) -> None:
    steps = result.get("steps", [])
    outcome = verdict(result, attempt.recipe, attempt.attack.is_over)
    st.markdown(ui.model_label(model, view.dark) + f" · {outcome}")
    lines = []
    for index, step in enumerate(steps):
        text = ui.marked_words(steps[index - 1]["text"] if index else step["text"], step["text"])
        title = f"change {index} · {_queries(step)}" if index else "original"
        lines.append(
            f'<div class="step">{title} · {ui.escape(attempt.label_name)} '
            f"{percent(step['probability'])}</div>{text}"
        )
    st.html("".join(lines) or "<p>–</p>")
    if len(steps) > 1 and attempt.attack.is_over:
        st.button(
            "Use as text",
            key=f"paste-{model.job}",
            icon=":material/content_paste:",
            help="Copy this text and its original into the fields above and predict with all "
            "models.",
            on_click=paste,
            args=(steps[-1]["text"], attempt.subject.text),
        )


def verdict(result: dict, recipe: str, is_over: bool) -> str:
    """Describe the state or the outcome of an attack on one model."""
    queries, words = _queries(result), catalogue.outcome_words(recipe)
    outcomes = {
        "success": f"{words['success']} after {queries}",
        "failed": f"{words['failed']} after {queries}",
        "skipped": f"{words['skipped']} before the attack",
        "error": "the search failed",
    }
    if "outcome" in result:
        note = f". {result['note']}" if result["note"] and result["outcome"] != "skipped" else ""
        return f"{outcomes[result['outcome']]}, {seconds(result['seconds'])}{note}"
    if is_over:
        return f"stopped after {queries}"
    return f"{queries} so far" if result else "queued"


def _queries(result: dict) -> str:
    number = result.get("queries", 0)
    return "1 query" if number == 1 else f"{number} queries"


def _transfer(attempt: Attempt) -> None:
    """Evaluate the adversarial texts of all models on all models."""
    texts = {
        model.label: result["perturbed"]
        for model, result in attempt.results()
        if result.get("outcome") == "success"
    }
    if not texts:
        return
    st.markdown("#### Do these adversarial examples transfer?")
    subject = attempt.subject
    outputs = (
        ui.run_action(
            subject.client.predict,
            list(subject.checkpoints.values()),
            list(texts.values()),
            None if subject.pair is None else [subject.pair] * len(texts),
        )
        or []
    )
    table = pd.DataFrame({"attacked model": list(texts)})
    for model, output in zip(subject.checkpoints, outputs, strict=bool(outputs)):
        if "error" not in output:
            table[model.label] = [
                f"{label} · {percent(probabilities[attempt.label])}"
                for label, probabilities in zip(
                    output["predictions"], output["probabilities"], strict=True
                )
            ]
    table["text"] = list(texts.values())
    ui.table(table, "transfer-text", {"text": st.column_config.TextColumn(width="large")})
    st.caption(
        "Cells: the prediction of the model above for this text, with its probability of "
        f"“{attempt.label_name}”. This is a single text, not a rate."
    )
