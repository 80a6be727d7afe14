"""The sidebar of every page: study, models, sparsity, sample and queue.

The selection is stored in the URL. Pages get it from `view()`.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import navigation, ui
from prune_core import formatting, views
from prune_core.analysis import quantities, seeds, takeaways
from prune_core.analysis.compared_models import ComparedModel, models_of
from prune_core.paths import ASSETS
from prune_core.plots import palette
from prune_core.queue import jobs
from prune_core.store.job import Job, Status
from prune_core.store.store import Store
from prune_core.tasks import DEFAULT, TASK_TYPES, TaskType

ACTIVE = (Status.QUEUED, Status.RUNNING)
SEEDS = {"averaged": "averaged", "separate": "separate"}
MAX_EXAMPLES = 300  # a longer list does not fit into a URL
WARM_AFTER = 3.0  # seconds
SEGMENTS = 3  # sparsities shown as segments; more get a slider
CHIPS = 30  # models shown as chips; more get a multiselect


@dataclass(frozen=True)
class View:
    """The study, models and examples selected in the sidebar."""

    store: Store
    study: str  # "" before there is one
    jobs: tuple[Job, ...]  # of the study, the newest of each label
    models: tuple[ComparedModel, ...]  # selected in the sidebar, dense first
    dark: bool
    examples: tuple[int, ...] = ()  # of the evaluation sample, chosen on any page

    def rows(self, table: str) -> pd.DataFrame:
        """Return a table of the selected models, averaged over seeds.

        Of a table that cannot be averaged, rows of the first seed; a caption says so.
        """
        rows = self.single(table)
        if not any(model.runs for model in self.models):
            return rows
        if not views.is_averaged(table, rows):
            self.caption_seed(f"The table {table} is not averaged; values are of")
            return self.first_seed(table)
        return _pooled(str(self.store.home), table, self._stamped, models=self.models)

    def first_seed(self, table: str) -> pd.DataFrame:
        """Return a table of each model's first seed; pages that show it also show `which_seed`."""
        return _rows(str(self.store.home), table, self._stamps(model.job for model in self.models))

    def which_seed(self, opening: str, models: Sequence[ComparedModel] = ()) -> str:
        """Return a sentence that names the seed of `first_seed`; empty if no model has several."""
        note = seeds.seed_note(models or self.models)
        return f"{opening} {note}." if note else ""

    def caption_seed(self, opening: str, models: Sequence[ComparedModel] = ()) -> None:
        """Show `which_seed` as a caption."""
        if sentence := self.which_seed(opening, models):
            st.caption(sentence)

    def means(self) -> str:
        """Describe how `rows` averages: "mean over 3 seeds"; empty if no model has several."""
        return seeds.means(self.models)

    def outcomes(self) -> pd.DataFrame:
        """Return the attacked examples of all seeds, under their model's job."""
        return seeds.seeds_together(self.single("attack_example"), self.models)

    def single(self, table: str) -> pd.DataFrame:
        """Return a table of all runs behind the selected models, each under its own job."""
        return _rows(str(self.store.home), table, self._stamped)

    def pooled(self, table: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Average rows computed from `single` over seeds, as the named table is."""
        return views.pooled(table, rows, self.models)

    def summary(self) -> pd.DataFrame:
        """Return all quantities, one row per selected model; see `quantities.summary`."""
        return _summary(str(self.store.home), self._stamped, self.models)

    def headline(self) -> str:
        """Return the takeaway of retrieval if it was measured, else that of accuracy."""
        tables = {"retrieval": self.rows("retrieval")}
        tables["retrieval_query"] = self.first_seed("retrieval_query")
        takeaway = views.VIEWS["retrieval"].takeaway
        retrieval = takeaway(tables, self.models) if takeaway and len(tables["retrieval"]) else ""
        return retrieval or takeaways.accuracy(self.rows("accuracy"), self.models, self.units)

    @property
    def runs(self) -> list[int]:
        """The jobs of all seeds of the selected models."""
        return [job for model in self.models for job in model.jobs]

    @property
    def labels(self) -> dict[int, str]:
        """The model label of each job in `runs`."""
        return {job: model.label for model in self.models for job in model.jobs}

    @property
    def _stamped(self) -> tuple[tuple[int, float], ...]:
        """All runs with the values that invalidate caches."""
        return self._stamps(self.runs)

    def _stamps(self, jobs: Iterable[int]) -> tuple[tuple[int, float], ...]:
        """Pair jobs with the seconds of all their stages, which change when rows are added."""
        seconds = {job.id: sum(job.seconds.values()) for job in self.jobs}
        return tuple((job, seconds[job]) for job in jobs)

    def job(self, model: ComparedModel) -> Job:
        """Return the job of a model, of its first seed if there are several."""
        return next(job for job in self.jobs if job.id == model.job)

    @property
    def pruned(self) -> list[ComparedModel]:
        """The selected models without the dense baseline."""
        return [model for model in self.models if not model.is_dense]

    @property
    def label_names(self) -> list[str]:
        """The label names of the checkpoint."""
        return next(
            (job.facts["label_names"] for job in self.jobs if "label_names" in job.facts),
            ["0", "1"],
        )

    @property
    def kind(self) -> str:
        """The task type of the study's models, a key of `tasks.TASK_TYPES`."""
        return next((job.facts["kind"] for job in self.jobs if "kind" in job.facts), DEFAULT)

    @property
    def task_type(self) -> TaskType:
        """The task type of the study's models."""
        return TASK_TYPES[self.kind]

    @property
    def pairs(self) -> bool:
        """Whether the study's examples have two texts."""
        return any(job.facts.get("pairs", False) for job in self.jobs)

    @property
    def units(self) -> str:
        """What the study's evaluation consists of: examples or queries."""
        return next((job.units for job in self.jobs if job.units != "examples"), "examples")

    @property
    def is_active(self) -> bool:
        """Whether jobs of the study are queued or running."""
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
    return views.pooled(table, _rows(home, table, stamped), models, predictions=predictions)


@st.cache_data(max_entries=64, show_spinner=False)
def _summary(
    home: str, stamped: tuple[tuple[int, float], ...], models: tuple[ComparedModel, ...]
) -> pd.DataFrame:
    # users switch between a few sparsities and come back to the same ones
    single = {name: _rows(home, name, stamped) for name in views.TABLES}
    tables = single
    if any(model.runs for model in models):
        tables = {name: _pooled(home, name, stamped, models=models) for name in single}
    return quantities.summary(
        tables, models, list(views.quantities(tables).values()), single=single
    )


def view() -> View:
    """Return the selection for this run of the script."""
    if "view" not in st.session_state:
        # until st.navigation is called for the first time, Streamlit runs scripts in a folder named
        # pages by themselves: this happens if the first request after startup is a link to a page
        navigation.navigation()
        st.rerun()
    return st.session_state["view"]


def draw_sidebar() -> None:
    """Draw the sidebar and store the selection; call this once, before the page."""
    ui.update_query_parameters()
    if message := st.session_state.pop("message", ""):
        st.toast(message, icon=":material/inventory_2:", duration="long")
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
        study = ui.pick("study", {name: name for name in studies}, label="Study") if studies else ""
        runs = _newest(store.jobs(study)) if study else []
        models = tuple(_choose_models(runs, dark))
        st.session_state["view"] = View(
            store, study, tuple(runs), models=models, dark=dark, examples=_examples(study)
        )
        _sample(runs)
        is_active = any(job.status in ACTIVE for job in store.jobs())
        st.session_state["queue-state"] = _state(store.jobs())
        st.fragment(_queue, run_every=1.0 if is_active else None)(store)


def choose_examples(study: str, examples: Sequence[int]) -> None:
    """Select examples; an empty sequence clears the selection. It is stored in the URL."""
    st.session_state["selected-examples-by-study"] = (
        study,
        ",".join(str(int(example)) for example in dict.fromkeys(examples)),
    )


def _examples(study: str) -> tuple[int, ...]:
    """Return the selected examples of the study and draw a button that clears them."""
    source, text = st.session_state.setdefault(
        "selected-examples-by-study", (study, st.query_params.get("examples", ""))
    )
    examples: tuple[int, ...] = ()
    if source == study:  # indices of another study's sample have no meaning here
        examples = tuple(int(index) for index in text.split(",") if index.isdigit())[:MAX_EXAMPLES]
    if examples:
        st.query_params["examples"] = ",".join(map(str, examples))
        st.button(
            f"Clear {formatting.plural(len(examples), 'selected example')}",
            key="clear-examples",
            icon=":material/close:",
            width="stretch",
            on_click=choose_examples,
            args=(study, ()),
        )
    elif "examples" in st.query_params:
        del st.query_params["examples"]
    return examples


@st.cache_resource(show_spinner=False)
def _warm(home: str) -> bool:
    """Start an idle worker after the first page is drawn, so that it is loaded when needed."""
    timer = Timer(WARM_AFTER, jobs.ensure_worker, ("auto", Store(Path(home))))
    timer.daemon = True
    timer.start()
    return True


def _newest(runs: list[Job]) -> list[Job]:
    """Keep the newest of jobs with the same key: a recomputed run replaces the old one."""
    return list(
        {job.key: job for job in runs if job.status != Status.CANCELLED or job.done}.values()
    )


def _choose_models(runs: list[Job], dark: bool) -> list[ComparedModel]:
    """Draw the choice of models and sparsity; return the selected models, dense first."""
    models = models_of([job for job in runs if job.done])
    if not models:
        return []
    averaged = seeds.merge_seeds(models, runs)
    # a switch and not part of the choice of models: models selected in one mode do not exist in the
    # other
    if len(averaged) < len(models) and ui.segments("seeds", SEEDS, label="Seeds") == "averaged":
        models = averaged
        st.caption(f"Values are the {seeds.means(models)}, unless a chart or table names a seed.")
    by_job = {model.job: model for model in models}
    widget: Any = st.pills if len(models) <= CHIPS else st.multiselect  # has no colored chips

    def chip(job: int) -> str:
        model = by_job[job]
        if widget is not st.pills:
            return model.label
        return f':color[●]{{foreground="{palette.color(model, dark)}"}} {model.label}'

    # by default one seed and the full variant of each method, as charts would be crowded otherwise
    default = [model.job for model in models if model.seed == models[0].seed and not model.form]
    selected = ui.choice_widget(
        widget,
        "models",
        list(by_job),
        default=default[:12],
        label="Models",
        multi=True,
        format_func=chip,
    )
    levels = list(
        dict.fromkeys(
            model.level
            for model in sorted(models, key=lambda model: (model.pattern != "", model.sparsity))
            if not model.is_dense
        )
    )
    level = "all"
    if len(levels) > 1:
        widget = st.segmented_control if len(levels) <= SEGMENTS else st.select_slider
        level = ui.choice_widget(
            widget, "sparsity", ["all", *levels], default="all", label="Sparsity"
        )
    return [
        model
        for model in models
        if model.job in selected
        and (level in ("all", None) or model.is_dense or model.level == level)
    ]


def _sample(runs: list[Job]) -> None:
    """Show task, sample sizes, seeds and checkpoint in one line."""
    if not runs:
        return
    plan = runs[0].experiment
    facts = next((job.facts for job in runs if job.facts), {})
    units = "queries" if any(job.units == "queries" for job in runs) else "evaluation examples"
    sizes = (
        f"{facts['evaluation_n']} {units}, {facts['calibration_n']} calibration examples"
        if "evaluation_n" in facts
        else "sample size not known yet"
    )
    seeds = sorted({job.experiment["seed"] for job in runs})
    st.caption(
        f"**{os.path.basename(plan['source']['task'])}** · {sizes} · seed "
        f"{', '.join(map(str, seeds))} · checkpoint {os.path.basename(plan['checkpoint'])}"
    )


def _state(runs: Sequence[Job]) -> list[tuple[int, str, int]]:
    return [(job.id, job.status, len(job.done)) for job in runs]


def _queue(store: Store) -> None:
    """Show running jobs with progress, and queued ones; rerun the page after each stage."""
    jobs.housekeeping(store)
    all_jobs = store.jobs()
    if _state(all_jobs) != st.session_state.get("queue-state"):
        st.rerun()
    running = [job for job in all_jobs if job.status == Status.RUNNING]
    queued = [job for job in all_jobs if job.status == Status.QUEUED]
    st.markdown("**Running**" if running or queued else ":gray[Nothing is running.]")
    for job in running:
        text = f"{job.label}: {job.message or job.stage or 'starting'}"
        if job.estimate_left:
            text += f" · {formatting.approximate_seconds(job.estimate_left)} left"
        st.progress(min(1.0, job.progress), text=text)
        if st.button(
            "Stopping …" if job.cancel else "Cancel this job",
            key=f"cancel-{job.id}",
            disabled=job.cancel,
            width="stretch",
        ):
            ui.run_action(jobs.cancel, store, job.id)
    if queued:
        left = formatting.approximate_seconds(jobs.seconds_left(all_jobs))
        st.caption(f"{formatting.plural(len(queued), 'job')} queued · about {left} in total")
        action_button(queued, "Cancel all queued jobs", "cancel-queued")
    titles = [job.facts["device_title"] for job in all_jobs if "device_title" in job.facts]
    st.caption(" · ".join(filter(None, (*titles[-1:], _memory()))))


def _memory() -> str:
    """Return the memory in use on this machine; empty without psutil."""
    try:
        import psutil
    except ImportError:
        return ""
    memory = psutil.virtual_memory()
    used = (memory.total - memory.available) / 1e9
    return f"{used:.1f} of {memory.total / 1e9:.0f} GB memory in use"


def show_stopped(runs: Sequence[Job]) -> None:
    """Show a study's failed and cancelled jobs with buttons that resume them.

    Jobs that were submitted again are left out.
    """
    latest = {job.key: job for job in runs}.values()
    row: dict[str, Any] = {"border": True, "horizontal": True, "vertical_alignment": "center"}
    for job in latest:
        if job.status == Status.FAILED:
            with st.container(**row, key=f"failed-{job.id}"):
                # the last line of a traceback; the job's log has all of it
                message = job.error.strip().splitlines()[-1:] or ["No error message was recorded."]
                st.error(f"**{job.label} failed.** {message[0]}")
                title = "Resume" if job.done else "Retry"
                action_button([job], title, f"resume-{job.id}", resume=True)
    if cancelled := [job for job in latest if job.status == Status.CANCELLED]:
        with st.container(**row, key="cancelled"):
            names = ", ".join(job.label for job in cancelled)
            st.markdown(f"**Cancelled:** {names}. Finished stages are kept.")
            title = f"Resume {formatting.plural(len(cancelled), 'run')}"
            action_button(cancelled, title, "resume-cancelled", resume=True)


def action_button(runs: Sequence[Job], title: str, key: str, *, resume: bool = False) -> None:
    """Draw a button that cancels or resumes these jobs."""
    if st.button(title, key=key, icon=f":material/{'refresh' if resume else 'stop'}:"):
        for job in runs:
            ui.run_action(jobs.resume if resume else jobs.cancel, Store(), job.id)
        st.rerun()
