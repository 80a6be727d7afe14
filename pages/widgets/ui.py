"""Components of all pages: choices kept in the URL, charts, tables and empty states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from prune_core import PruneError, plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.attacks import changed_words
from prune_core.data.metrics import entities
from prune_core.formatting import answer
from prune_core.plots import palette
from prune_core.queue import jobs
from prune_core.store.store import Store

CHART = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


def choice_widget(
    draw: Callable[..., Any],
    name: str,
    options: Sequence[Any],
    default: Any,
    *,
    multi: bool = False,
    **keywords: Any,
) -> Any:
    """A widget over `options` whose value is kept in the URL and when the page is left.

    Streamlit drops the value of a widget when its page is left, so it is stored under another key.
    """
    kept = st.session_state.setdefault("kept", {})
    key, scope, begun = f"choice-{name}", f"options-{name}", f"start-{name}"
    known = st.session_state.get(scope)
    if key not in st.session_state or known != list(options):  # first drawn, or another study
        start = _start(name, options, default, multi=multi, known=known)
        st.session_state.update({key: start, scope: list(options), begun: start})
    # the start is given twice, as state and as default: a first run that is cut short would
    # otherwise leave the browser's
    # widget with nothing chosen, which it then reports as the reader's choice
    start = st.session_state[begun]
    if draw is st.selectbox:
        keywords["index"] = list(options).index(start)
    else:
        keywords["value" if draw is st.select_slider else "default"] = start
    if multi and draw is not st.multiselect:
        keywords["selection_mode"] = "multi"
    value = draw(options=list(options), key=key, **keywords)
    if value is None:
        value = default  # a segmented control can be clicked off
    if multi:
        value = [v for v in options if v in value] or list(default)[:1]
    kept[name] = value
    text = ",".join(map(str, value)) if multi else str(value)
    usual = ",".join(map(str, default)) if multi else str(default)
    if text != usual and st.query_params.get(name) != text:
        st.query_params[name] = text
    elif text == usual and name in st.query_params:
        del st.query_params[name]
    return value


def _start(
    name: str, options: Sequence[Any], default: Any, *, multi: bool, known: Sequence[Any] | None
) -> Any:
    """The first value of a choice: that of the URL, else the kept one, else the default."""
    by_text = {str(option): option for option in options}
    linked = st.query_params.get(name, "")
    texts = linked.split(",") if multi else [linked]
    kept = st.session_state["kept"].get(name, [])
    usable = [value for value in (kept if multi else [kept]) if value in options]
    start = [by_text[text] for text in texts if text in by_text and name in st.query_params]
    start = start or usable or (list(default) if multi else [default])
    if multi and known:
        # models that appear while a study runs join the view; those taken off it stay off
        start = [value for value in options if value in start or value not in known]
    return start if multi else start[0]


def segments(name: str, titles: Mapping[Any, str], default: Any = None, **keywords: Any) -> Any:
    """A segmented control over the keys of `titles`; the first one is the default."""
    return _titled(st.segmented_control, name, titles, default=default, **keywords)


def pick(name: str, titles: Mapping[Any, str], default: Any = None, **keywords: Any) -> Any:
    """A select box over the keys of `titles`; the first one is the default."""
    return _titled(st.selectbox, name, titles, default=default, **keywords)


def _titled(draw: Any, name: str, titles: Mapping, *, default: Any, **keywords: Any) -> Any:
    start = next(iter(titles)) if default is None else default
    keywords["format_func"] = titles.__getitem__
    return choice_widget(draw, name, list(titles), default=start, **keywords)


def block_slider(blocks: int) -> int:
    """The index of one of so many layers, chosen on any page."""
    numbers = list(range(1, blocks + 1))
    return int(choice_widget(st.select_slider, "block", numbers, default=blocks, label="Block")) - 1


def named(model: ComparedModel, dark: bool, text: str = "") -> str:
    """A model's label in Markdown behind a dot in its colour, followed by `text`."""
    return f':color[●]{{foreground="{palette.color(model, dark)}"}} **{model.label}**{text}'


def percent_bar(title: str, **keywords: Any) -> Any:
    """A table column that shows percentages as bars."""
    return st.column_config.ProgressColumn(
        title, format="%.1f%%", min_value=0, max_value=100, **keywords
    )


def set_choice(name: str, value: Any) -> None:
    """Make a choice for the reader, from the next run on."""
    st.session_state.setdefault("kept", {})[name] = value
    st.session_state.pop(f"options-{name}", None)
    if name in st.query_params:
        del st.query_params[name]


def show_message(sentence: str) -> None:
    """A note on the next run, after a rerun or a switch of pages."""
    st.session_state["said"] = sentence


def run_action(action: Callable[..., Any], *arguments: Any) -> Any:
    """The action's result, or its PruneError shown as it is."""
    try:
        return action(*arguments)
    except PruneError as error:
        st.error(str(error))
        return None


def page_header(title: str, sentence: str, about: str = "") -> None:
    """Title, what the page is, and the takeaway."""
    st.title(title, anchor=False)
    if about:
        st.caption(about)
    if sentence:
        takeaway(sentence)


def takeaway(sentence: str) -> None:
    """What the page says in one sentence."""
    st.html(f'<div class="takeaway">{escape(sentence)}</div>')


def escape(text: str) -> str:
    """Text as HTML shows it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def chart(
    question: str,
    looking_at: str,
    figure: Any,
    key: str,
    small: bool = False,
    selects: Callable[[list[Any]], None] | None = None,
    lasso: bool = False,
) -> None:
    """A chart under the question it answers and one sentence on what it shows.

    `selects` receives the custom data of the marks that are clicked (with `lasso`, selected).
    """
    name = {"format": st.session_state.get("image-format", "svg"), "scale": 2, "filename": key}
    # the key's beginning is what style.css knows small charts by
    with st.container(gap="xsmall", key=f"{'small' if small else 'large'}-{key}"):
        with st.container(
            horizontal=True, vertical_alignment="top", gap="xsmall", key=f"head-{key}"
        ):
            st.markdown(
                f"{'#####' if small else '####'} {question}\n:small[:gray[{looking_at}]]",
                width="stretch",
            )
            st.download_button(
                "",
                lambda: csv(plots.to_table(figure)),
                f"{key}.csv",
                key=f"csv-{key}",
                icon=":material/table_view:",
                type="tertiary",
                on_click="ignore",
                help="The chart's figures as CSV; the camera above the chart saves it as an image.",
            )
        config = {**CHART, "toImageButtonOptions": name} | (
            {"modeBarButtonsToRemove": ["autoScale2d"]} if lasso else {}
        )
        common: Any = {
            "width": "stretch",
            "theme": None,
            "key": f"chart-{key}",
            "config": config,
            "alt": question,
        }
        if selects is None:
            st.plotly_chart(figure, **common)
            return

        def changed() -> None:
            points = st.session_state[f"chart-{key}"]["selection"]["points"]
            marked = [point["customdata"] for point in points if "customdata" in point]
            if marked:  # a chart drawn anew reports nothing, which is no choice
                selects([each[0] if isinstance(each, list) else each for each in marked])

        modes: Any = ("points", "box", "lasso") if lasso else "points"
        st.plotly_chart(figure, on_select=changed, selection_mode=modes, **common)


def parts(views: Mapping[str, tuple[str, Callable[[], None]]], name: str) -> None:
    """Parts of a page of which one is drawn, and computed: key -> (title, what draws it)."""
    titles = {key: title for key, (title, _) in views.items()}
    which = segments(name, titles, label="Look closer")
    views[which][1]()


def how_to_read(text: str) -> None:
    """Two or three sentences, with the formula where there is one."""
    with st.expander("How to read this", icon=":material/menu_book:"):
        st.markdown(text)


def table(
    frame: pd.DataFrame,
    key: str,
    columns: dict[str, Any] | None = None,
    plain: pd.DataFrame | None = None,
    height: int | Literal["auto"] = "auto",
    **keywords: Any,
) -> Any:
    """A sortable table; `plain` (default: `frame`) is the data to download."""
    shown = st.dataframe(
        frame,
        width="stretch",
        hide_index=True,
        placeholder="–",
        column_config=columns or {},
        key=f"table-{key}",
        height=height,
        **keywords,
    )
    downloads(frame if plain is None else plain, key)
    return shown


def csv(frame: pd.DataFrame) -> str:
    """CSV in which texts that a spreadsheet would run as a formula begin with an apostrophe."""

    def safe(cell: Any) -> Any:
        return (
            f"'{cell}"
            if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            else cell
        )

    return frame.rename(columns=safe).map(safe).to_csv(index=False)


def downloads(frame: pd.DataFrame, key: str) -> None:
    """The rows as CSV and as JSON lines; the text is made when the button is clicked."""
    with st.container(horizontal=True, key=f"downloads-{key}"):
        for kind, suffix, text in (
            ("CSV", "csv", lambda: csv(frame)),
            ("JSON lines", "jsonl", lambda: frame.to_json(orient="records", lines=True)),
        ):
            st.download_button(
                kind,
                text,
                f"{key}.{suffix}",
                key=f"download-{key}-{suffix}",
                icon=":material/download:",
                type="tertiary",
                on_click="ignore",
            )


def readable_labels(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The rows with what is right and what was said as a reader calls it."""
    return rows.assign(
        **{
            column: rows[column].map(lambda value: answer(value, names))
            for column in ("label", "dense", "pruned")
        }
    )


def marked_words(text: str, perturbed: str) -> str:
    """The sentence with struck and inserted words marked."""
    marks = {
        changed_words.UNCHANGED: "{}",
        changed_words.DELETED: "<del>{}</del>",
        changed_words.INSERTED: "<ins>{}</ins>",
    }
    told = (
        marks[kind].format(escape(words))
        for kind, words in changed_words.word_diff(text, perturbed)
    )
    return '<p class="sentence">' + " ".join(told) + "</p>"


def underlined(text: str, found: Sequence[tuple[str, str]]) -> str:
    """The text with each (answer, colour) underlined where it first stands; answers may overlap."""
    places = [(text.find(answer), len(answer), color) for answer, color in found if answer]
    edges = sorted(
        {
            0,
            len(text),
            *(start + shift for start, size, _ in places if start >= 0 for shift in (0, size)),
        }
    )
    out = []
    for left, right in zip(edges, edges[1:], strict=False):
        colors = [
            color
            for start, size, color in places
            if start >= 0 and start <= left and right <= start + size
        ]
        line = ", ".join(f"inset 0 -{3 * (i + 1)}px 0 {color}" for i, color in enumerate(colors))
        piece = escape(text[left:right])
        out.append(
            f'<span style="box-shadow: {line}; padding-bottom: {3 * len(colors)}px">{piece}</span>'
            if colors
            else piece
        )
    return '<p class="sentence">' + "".join(out) + "</p>"


def tagged(words: Sequence[str], tags: Sequence[str], color: str) -> str:
    """The words with the entities that their labels name marked, each with its type behind it."""
    out: list[str] = []
    end = 0
    for kind, first, last in sorted(entities(tags), key=lambda entity: entity[1]):
        inside = escape(" ".join(words[first : last + 1]))
        mark = (
            f'<span style="box-shadow: inset 0 -3px 0 {color}; padding-bottom: '
            f'3px">{inside}</span> <small>{escape(kind)}</small>'
        )
        out += [escape(" ".join(words[end:first])), mark]
        end = last + 1
    return (
        '<p class="sentence">'
        + " ".join(filter(None, [*out, escape(" ".join(words[end:]))]))
        + "</p>"
    )


def demo_button(store: Store, key: str, type: Literal["primary", "secondary"] = "primary") -> None:
    """The one button that fills an empty page."""
    if st.button("Run the demo study", key=key, type=type, icon=":material/play_arrow:"):
        with st.spinner("Queueing nine models …"):
            run_action(_submit_demo, store)


def offer_demo(store: Store, key: str) -> None:
    """What an empty page can be filled with: the demo, or the reader's own checkpoint."""
    demo_button(store, key)
    st.caption(
        "Nine models of bundled film reviews: first charts within 30 s, everything within about "
        "4 min on two cores; no download."
    )
    st.page_link(
        "pages/prune.py", label="or prune a checkpoint of your own", icon=":material/content_cut:"
    )


def _submit_demo(store: Store) -> None:
    from prune_core.experiments import study

    submitted = [jobs.submit(store, experiment) for experiment in study.demo_experiments()]
    set_choice("study", study.DEMO)
    if all(reused for _, reused in submitted):
        show_message("The demo study is there already; nothing was computed again.")
    st.rerun()


def empty(store: Store, title: str, promise: str, key: str, waiting: bool = False) -> None:
    """An empty page: what it will show, and a button that runs the demo; ends the script."""
    st.title(title, anchor=False)
    with st.container(border=True, key=f"empty-{key}"):
        st.markdown(promise)
        if waiting:
            st.info(
                "The study is at work; this page fills in by itself as stages finish.",
                icon=":material/hourglass_top:",
            )
        else:
            offer_demo(store, f"demo-{key}")
    st.stop()


def stop_without(pruned: Sequence[ComparedModel], waiting: bool) -> None:
    """End the script where only the dense model is on view: there is nothing to compare it with."""
    if not pruned:
        st.info(
            "The pruned models are still to come."
            if waiting
            else "Only the dense model is on view: choose a pruned model in the sidebar."
        )
        st.stop()


def one_model(
    models: Sequence[ComparedModel],
    name: str,
    label: str,
    dark: bool,
    default: ComparedModel | None = None,
) -> ComparedModel:
    """One of several models, by its chip."""
    by_job = {model.job: model for model in models}

    def chip(job: int) -> str:
        return f':color[●]{{foreground="{palette.color(by_job[job], dark)}"}} {by_job[job].label}'

    start = (default or models[-1]).job
    return by_job[
        choice_widget(st.pills, name, list(by_job), default=start, label=label, format_func=chip)
    ]


def dense_of(models: Sequence[ComparedModel], rows: pd.DataFrame) -> ComparedModel | None:
    """The dense model on view, where it has rows among these."""
    return next(
        (model for model in models if model.is_dense and (rows["job"] == model.job).any()), None
    )
