"""The sidebar of every page: study, models, sparsity, sample and queue.

What is on view lives in the URL. Pages ask for it with `view()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import navigation as _navigation
from pages.widgets import ui
from prune_core import formatting
from prune_core.analysis import quantities, seeds
from prune_core.analysis.compared_models import ComparedModel, models_of
from prune_core.paths import ASSETS
from prune_core.plots import palette
from prune_core.queue import jobs
from prune_core.store.job import Job, Status
from prune_core.store.store import Store

ACTIVE = (Status.QUEUED, Status.RUNNING)


SEEDS = {"one": "averaged", "apart": "separate"}
MOST_EXAMPLES = 300  # an address holds no more
WARM_AFTER = 3.0  # seconds
# so many sparsities stand beside each other in the sidebar; of more, a slider flips through them
SEGMENTS = 3
CHIPS = 30  # so many models are shown as chips of their own


@dataclass(frozen=True)
class View:
    """What the reader looks at."""

    store: Store
    study: str  # "" before there is one
    jobs: tuple[Job, ...]  # of the study, the newest of each label
    models: tuple[ComparedModel, ...]  # chosen in the sidebar, dense first
    dark: bool
    examples: tuple[int, ...] = ()  # of the evaluation sample, chosen on any page

    def rows(self, table: str) -> pd.DataFrame:
        """A table of the models on view, averaged over seeds; PruneError if it has no mean."""
        seeds.identity(table)  # also for a study of one seed, where there is nothing to average
        if not any(model.runs for model in self.models):
            return self.single(table)
        return _pooled(str(self.store.home), table, self._stamped, models=self.models)

    def first_seed(self, table: str) -> pd.DataFrame:
        """A table of each model's first seed; a page that shows it also shows `which_seed`."""
        return _rows(str(self.store.home), table, self._stamps(model.job for model in self.models))

    def which_seed(self, opening: str, models: Sequence[ComparedModel] = ()) -> str:
        """A sentence that names the seed behind `first_seed`; empty if no model has several."""
        shown = seeds.seed_note(models or self.models)
        return f"{opening} {shown}." if shown else ""

    def caption_seed(self, opening: str, models: Sequence[ComparedModel] = ()) -> None:
        """Draw `which_seed` as a caption."""
        if sentence := self.which_seed(opening, models):
            st.caption(sentence)

    def means(self) -> str:
        """How `rows` averages: "mean over 3 seeds"; empty if no model on view has several."""
        return seeds.means(self.models)

    def outcomes(self) -> pd.DataFrame:
        """Every attacked example of every seed, under its model's job."""
        return seeds.seeds_together(self.single("attack_example"), self.models)

    def single(self, table: str) -> pd.DataFrame:
        """A table of every run behind the models on view, each under its own job."""
        return _rows(str(self.store.home), table, self._stamped)

    def pooled(self, table: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows computed from `single`, averaged over seeds as the named table is."""
        return seeds.pooled(table, rows, self.models)

    def summary(self) -> pd.DataFrame:
        """Every quantity of the models on view, a row a model, as quantities.summary gives it."""
        return _summary(str(self.store.home), self._stamped, self.models)

    @property
    def runs(self) -> list[int]:
        """The jobs behind the models on view, of all their seeds."""
        return [job for model in self.models for job in model.jobs]

    @property
    def labels(self) -> dict[int, str]:
        """The model label of each of these jobs."""
        return {job: model.label for model in self.models for job in model.jobs}

    @property
    def _stamped(self) -> tuple[tuple[int, float], ...]:
        """Every run behind the models on view."""
        return self._stamps(self.runs)

    def _stamps(self, jobs: Iterable[int]) -> tuple[tuple[int, float], ...]:
        """Jobs with the seconds of all their stages, by which caches notice new rows."""
        seconds = {job.id: sum(job.seconds.values()) for job in self.jobs}
        return tuple((job, seconds[job]) for job in jobs)

    def job(self, model: ComparedModel) -> Job:
        """The job behind a model."""
        return next(job for job in self.jobs if job.id == model.job)

    @property
    def pruned(self) -> list[ComparedModel]:
        """The models on view without the dense baseline."""
        return [model for model in self.models if not model.is_dense]

    @property
    def label_names(self) -> list[str]:
        """The labels' names as the checkpoint gives them."""
        return next(
            (job.facts["label_names"] for job in self.jobs if "label_names" in job.facts),
            ["0", "1"],
        )

    @property
    def kind(self) -> str:
        """What the study's models answer with, a key of examples.KINDS."""
        return next(
            (job.facts["kind"] for job in self.jobs if "kind" in job.facts), "classification"
        )

    @property
    def pairs(self) -> bool:
        """Whether the study's examples have two texts."""
        return any(job.facts.get("pairs", False) for job in self.jobs)

    @property
    def waiting(self) -> bool:
        """Whether some of this study is still to come."""
        return any(job.status in ACTIVE for job in self.jobs)


@st.cache_data(max_entries=64, show_spinner=False)
def _rows(home: str, table: str, stamped: tuple[tuple[int, float], ...]) -> pd.DataFrame:
    return Store(Path(home)).rows(table, [job for job, _ in stamped])


@st.cache_data(max_entries=64, show_spinner=False)
def _pooled(
    home: str, table: str, stamped: tuple[tuple[int, float], ...], models: tuple[ComparedModel, ...]
) -> pd.DataFrame:
    # the hierarchical bootstrap takes too long for every rerun of a page
    predictions = _rows(home, "prediction", stamped) if table == "accuracy" else None
    return seeds.pooled(table, _rows(home, table, stamped), models, predictions=predictions)


@st.cache_data(max_entries=64, show_spinner=False)
def _summary(
    home: str, stamped: tuple[tuple[int, float], ...], models: tuple[ComparedModel, ...]
) -> pd.DataFrame:
    # whoever flips through the sparsities comes back to the same few
    single = {name: _rows(home, name, stamped) for name in quantities.TABLES}
    several = any(model.runs for model in models)
    tables = (
        {name: _pooled(home, name, stamped, models=models) for name in single}
        if several
        else single
    )
    return quantities.summary(
        tables, models, list(quantities.available(tables).values()), single=single
    )


def view() -> View:
    """What the frame has put on view for this run of the script."""
    if "view" not in st.session_state:
        # Streamlit runs the scripts of a folder named pages by themselves until somebody has called
        # st.navigation:
        # so it does when the first request after a start is a link to a page
        _navigation.navigation()
        st.rerun()
    return st.session_state["view"]


def draw() -> None:
    """The sidebar; to be called once, before the page."""
    if sentence := st.session_state.pop("said", ""):
        st.toast(sentence, icon=":material/inventory_2:", duration="long")
    store, dark = Store(), st.context.theme.type == "dark"
    st.logo(
        str(ASSETS / ("logo-dark.svg" if dark else "logo.svg")),
        size="large",
        icon_image=str(ASSETS / "logo-icon.svg"),
    )
    st.html(ASSETS / "style.css")
    _warm(str(store.home))
    studies = store.studies()
    with st.sidebar:
        study = (
            ui.choice_widget(
                st.selectbox, "study", studies, default=studies[0], label="Study on view"
            )
            if studies
            else ""
        )
        found = _newest(store.jobs(study)) if study else []
        models = tuple(_choose_models(found, dark))
        st.session_state["view"] = View(
            store, study, tuple(found), models=models, dark=dark, examples=_examples(study)
        )
        _sample(found)
        active = [job for job in store.jobs() if job.status in ACTIVE]
        st.session_state["seen"] = _state(store.jobs())
        st.fragment(_queue, run_every=1.0 if active else None)(store)


def choose_examples(study: str, examples: Sequence[int]) -> None:
    """Select examples; an empty sequence clears the selection. They are stored in the URL."""
    some = ",".join(str(int(example)) for example in dict.fromkeys(examples))
    st.session_state["examples-chosen"] = (study, some)


def _examples(study: str) -> tuple[int, ...]:
    """Those chosen, with a way to let them go; of another study they mean nothing."""
    of, some = st.session_state.setdefault(
        "examples-chosen", (study, st.query_params.get("examples", ""))
    )
    found = (
        tuple(int(each) for each in some.split(",") if each.isdigit())[:MOST_EXAMPLES]
        if of == study
        else ()
    )
    if found:
        st.query_params["examples"] = ",".join(map(str, found))
        st.button(
            f"{formatting.plural(len(found), 'example')} chosen · let go",
            key="let-go",
            icon=":material/close:",
            width="stretch",
            on_click=choose_examples,
            args=(study, ()),
        )
    elif "examples" in st.query_params:
        del st.query_params["examples"]
    return found


@st.cache_resource(show_spinner=False)
def _warm(home: str) -> bool:
    """Start an idle worker shortly after the first page is drawn, so that it has loaded."""
    later = Timer(WARM_AFTER, jobs.ensure_worker, ("auto", Store(Path(home))))
    later.daemon = True
    later.start()
    return True


def _newest(found: list[Job]) -> list[Job]:
    """Of jobs with the same key only the newest: a run computed again replaces the old one."""
    return list(
        {job.key: job for job in found if job.status != Status.CANCELLED or job.done}.values()
    )


def _choose_models(found: list[Job], dark: bool) -> list[ComparedModel]:
    """Choose models, and one sparsity to which all views are narrowed."""
    models = models_of([job for job in found if job.done])
    if not models:
        return []
    together = seeds.merge_seeds(models, found)
    if len(together) < len(models):
        # a switch, and not a choice among models: what was chosen of the ones is not among the
        # others
        apart = ui.choice_widget(
            st.segmented_control,
            "seeds",
            ["one", "apart"],
            default="one",
            label="Seeds",
            format_func=SEEDS.get,
        )
        models = models if apart == "apart" else together
        if apart != "apart":
            mean = seeds.means(models)
            st.caption(f"Values are the {mean}, unless a chart or table names a seed.")
    by_job = {model.job: model for model in models}
    draw: Any = st.pills if len(models) <= CHIPS else st.multiselect  # whose chips take no colour

    def dot(model: ComparedModel) -> str:
        return (
            f':color[●]{{foreground="{palette.color(model, dark)}"}} ' if draw is st.pills else ""
        )

    # of several seeds one, and of several forms of a method the full one: the pages would be
    # crowded
    first = [model.job for model in models if model.seed == models[0].seed and not model.form]
    picked = ui.choice_widget(
        draw,
        "models",
        list(by_job),
        default=first[:12],
        label="Models on view",
        multi=True,
        format_func=lambda job: dot(by_job[job]) + by_job[job].label,
    )
    levels = list(
        dict.fromkeys(
            m.level
            for m in sorted(models, key=lambda m: (m.pattern != "", m.sparsity))
            if not m.is_dense
        )
    )
    level = "all"
    if len(levels) > 1:
        draw = st.segmented_control if len(levels) <= SEGMENTS else st.select_slider
        level = ui.choice_widget(
            draw, "sparsity", ["all", *levels], default="all", label="Sparsity on view"
        )
    return [
        m
        for m in models
        if m.job in picked and (level in ("all", None) or m.is_dense or m.level == level)
    ]


def _sample(found: list[Job]) -> None:
    """Task, n and seed in one line."""
    if not found:
        return
    plan, facts = found[0].experiment, next((job.facts for job in found if job.facts), {})
    task = os.path.basename(plan["source"]["task"])
    n = (
        f"{facts['evaluation_n']} evaluation and {facts['calibration_n']} calibration sentences"
        if "evaluation_n" in facts
        else "sample not drawn yet"
    )
    seeds = sorted({job.experiment["seed"] for job in found})
    st.caption(
        f"**{task}** · {n} · seed {', '.join(map(str, seeds))} · checkpoint "
        f"{os.path.basename(plan['checkpoint'])}"
    )


def _state(found: Sequence[Job]) -> list[tuple[int, str, int]]:
    return [(job.id, job.status, len(job.done)) for job in found]


def _queue(store: Store) -> None:
    """Running jobs with their progress, and queued ones; reruns the page after each stage."""
    jobs.housekeeping(store)
    found = store.jobs()
    if _state(found) != st.session_state.get("seen"):
        st.rerun()
    running = [job for job in found if job.status == Status.RUNNING]
    queued = [job for job in found if job.status == Status.QUEUED]
    st.markdown("**Running**" if running or queued else ":gray[Nothing is running.]")
    for job in running:
        left = (
            f" · {formatting.approximate_seconds(job.estimate_left)} left"
            if job.estimate_left
            else ""
        )
        st.progress(
            min(1.0, job.progress),
            text=f"{job.label}: {job.message or job.stage or 'starting'}{left}",
        )
        if st.button(
            "Stopping …" if job.cancel else "Cancel this job",
            key=f"cancel-{job.id}",
            disabled=job.cancel,
            width="stretch",
        ):
            ui.run_action(jobs.cancel, store, job.id)
    if queued:
        left = formatting.approximate_seconds(jobs.seconds_left(found))
        st.caption(f"{formatting.plural(len(queued), 'job')} queued · about {left} in all")
        act(queued, "Cancel all queued jobs", "cancel-waiting")
    titles = [job.facts["device_title"] for job in found if "device_title" in job.facts]
    st.caption(" · ".join(filter(None, (*titles[-1:], _memory()))))


def _memory() -> str:
    """Memory in use on this machine, where the system tells."""
    try:
        import psutil
    except ImportError:
        return ""
    memory = psutil.virtual_memory()
    return (
        f"{(memory.total - memory.available) / 1e9:.1f} of {memory.total / 1e9:.0f} GB memory "
        "in use"
    )


def stopped(found: Sequence[Job]) -> None:
    """A study's failed and cancelled jobs, each with a button that resumes it.

    Jobs that were submitted again are left out.
    """
    latest = {job.key: job for job in found}.values()
    row: dict[str, Any] = {"border": True, "horizontal": True, "vertical_alignment": "center"}
    for job in latest:
        if job.status == Status.FAILED:
            with st.container(**row, key=f"failed-{job.id}"):
                # the last line of a traceback; the log of the job has all of it
                message = job.error.strip().splitlines()[-1:] or ["No message was left."]
                st.error(f"**{job.label} failed.** {message[0]}")
                act([job], "Resume" if job.done else "Try again", f"resume-{job.id}", resume=True)
    if cancelled := [job for job in latest if job.status == Status.CANCELLED]:
        with st.container(**row, key="cancelled"):
            names = ", ".join(job.label for job in cancelled)
            st.markdown(f"**Cancelled:** {names}. Finished stages are kept.")
            title = f"Resume {formatting.plural(len(cancelled), 'run')}"
            act(cancelled, title, "resume-cancelled", resume=True)


def act(some: Sequence[Job], title: str, key: str, *, resume: bool = False) -> None:
    """A button that cancels these jobs, or resumes them."""
    if st.button(title, key=key, icon=f":material/{'refresh' if resume else 'stop'}:"):
        for job in some:
            ui.run_action(jobs.resume if resume else jobs.cancel, Store(), job.id)
        st.rerun()
