"""Components shared by all pages: choices stored in the URL, charts, tables, empty states."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from prune_core import PruneError, plots
from prune_core.aliases import current_query
from prune_core.analysis.compared_models import ComparedModel
from prune_core.attacks import changed_words
from prune_core.data.metrics import entities
from prune_core.formatting import prediction_text
from prune_core.plots import palette
from prune_core.queue import jobs
from prune_core.store.store import Store


def choice_widget(
    widget: Callable[..., Any],
    name: str,
    options: Sequence[Any],
    default: Any,
    *,
    multi: bool = False,
    **keywords: Any,
) -> Any:
    """Draw a widget over `options` whose value is stored in the URL and survives page changes.

    Streamlit drops the value of a widget when its page is left, so it is stored under another key.
    """
    choices = st.session_state.setdefault("choices", {})
    key, scope, initial_key = f"choice-{name}", f"options-{name}", f"initial-{name}"
    known = st.session_state.get(scope)
    if key not in st.session_state or known != list(
        options
    ):  # drawn for the first time, or for another study
        initial = _initial_value(name, options, default, multi=multi, known=known)
        st.session_state.update({key: initial, scope: list(options), initial_key: initial})
    # the initial value is passed twice, as state and as default: if the first run is interrupted,
    # the widget in the browser would otherwise be empty and report that as the user's choice
    initial = st.session_state[initial_key]
    if widget is st.selectbox:
        keywords["index"] = list(options).index(initial)
    else:
        keywords["value" if widget is st.select_slider else "default"] = initial
    if multi and widget is not st.multiselect:
        keywords["selection_mode"] = "multi"
    value = widget(options=list(options), key=key, **keywords)
    if value is None:
        value = default  # a segmented control can be deselected
    if multi:
        value = [option for option in options if option in value] or list(default)[:1]
    choices[name] = value
    text, default_text = (
        ",".join(map(str, each)) if multi else str(each) for each in (value, default)
    )
    if text != default_text and st.query_params.get(name) != text:
        st.query_params[name] = text
    elif text == default_text and name in st.query_params:
        del st.query_params[name]
    return value


def _initial_value(
    name: str, options: Sequence[Any], default: Any, *, multi: bool, known: Sequence[Any] | None
) -> Any:
    """Return the first value of a choice: from the URL, else the last one, else the default."""
    by_text = {str(option): option for option in options}
    parameter = st.query_params.get(name, "")
    texts = parameter.split(",") if multi else [parameter]
    last = st.session_state["choices"].get(name, [])
    usable = [value for value in (last if multi else [last]) if value in options]
    initial = [by_text[text] for text in texts if text in by_text and name in st.query_params]
    initial = initial or usable or (list(default) if multi else [default])
    if multi and known:
        # models that finish while a study runs are selected; deselected ones stay deselected
        initial = [value for value in options if value in initial or value not in known]
    return initial if multi else initial[0]


def update_query_parameters() -> None:
    """Rename parameters of a link from an earlier version; call this before any choice is drawn."""
    parameters = st.query_params.to_dict()
    if (current := current_query(parameters)) != parameters:
        st.query_params.from_dict(current)


def segments(name: str, titles: Mapping[Any, str], default: Any = None, **keywords: Any) -> Any:
    """Draw a segmented control over the keys of `titles`; the first one is the default."""
    return _titled(st.segmented_control, name, titles, default=default, **keywords)


def segments_if_several(name: str, titles: Mapping[Any, str], label: str) -> Any:
    """Return the only key of `titles`, or the one chosen with a segmented control."""
    return segments(name, titles, label=label) if len(titles) > 1 else next(iter(titles))


def pick(name: str, titles: Mapping[Any, str], default: Any = None, **keywords: Any) -> Any:
    """Draw a select box over the keys of `titles`; the first one is the default."""
    return _titled(st.selectbox, name, titles, default=default, **keywords)


def _titled(widget: Any, name: str, titles: Mapping, *, default: Any, **keywords: Any) -> Any:
    return choice_widget(
        widget,
        name,
        list(titles),
        default=next(iter(titles)) if default is None else default,
        format_func=titles.__getitem__,
        **keywords,
    )


def block_slider(blocks: int) -> int:
    """Draw a slider over layers that all pages share; return the index, from 0."""
    return (
        choice_widget(
            st.select_slider, "block", range(1, blocks + 1), default=blocks, label="Layer"
        )
        - 1
    )


def model_label(model: ComparedModel, dark: bool, text: str = "") -> str:
    """Return a model's label in Markdown after a dot in its color, followed by `text`."""
    return f':color[●]{{foreground="{palette.color(model, dark)}"}} **{model.label}**{text}'


def percent_bar(title: str, **keywords: Any) -> Any:
    """Return a table column that shows percentages as bars."""
    return st.column_config.ProgressColumn(
        title, format="%.1f%%", min_value=0, max_value=100, **keywords
    )


def set_choice(name: str, value: Any) -> None:
    """Set the value of a choice from the next run on."""
    st.session_state.setdefault("choices", {})[name] = value
    st.session_state.pop(f"options-{name}", None)
    if name in st.query_params:
        del st.query_params[name]


def show_message(message: str) -> None:
    """Show a message on the next run, after a rerun or a change of pages."""
    st.session_state["message"] = message


def run_action(action: Callable[..., Any], *arguments: Any) -> Any:
    """Return the action's result; show a PruneError and return None."""
    try:
        return action(*arguments)
    except PruneError as error:
        st.error(str(error))
        return None


def page_header(title: str, sentence: str, about: str = "") -> None:
    """Draw the title, a description of the page and the takeaway."""
    st.title(title, anchor=False)
    if about:
        st.caption(about)
    if sentence:
        takeaway(sentence)


def takeaway(sentence: str) -> None:
    """Draw the main result of a page as one sentence."""
    st.html(f'<div class="takeaway">{escape(sentence)}</div>')


def escape(text: str) -> str:
    """Escape text for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def chart(
    question: str,
    description: str,
    figure: Any,
    key: str,
    small: bool = False,
    selects: Callable[[list[Any]], None] | None = None,
    lasso: bool = False,
) -> None:
    """Draw a chart below the question it answers and a description of what it shows.

    `selects` receives the custom data of the clicked marks, or of the selected ones with `lasso`.
    """
    # style.css identifies small charts by the prefix of the key
    with st.container(gap="xsmall", key=f"{'small' if small else 'large'}-{key}"):
        with st.container(
            horizontal=True, vertical_alignment="top", gap="xsmall", key=f"head-{key}"
        ):
            st.markdown(
                f"{'#####' if small else '####'} {question}\n:small[:gray[{description}]]",
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
                help="Download the chart's values as CSV; the camera above the chart saves an "
                "image.",
            )
        image_format = st.session_state.get("image-format", "svg")
        config: dict[str, Any] = {
            "displaylogo": False,
            "modeBarButtonsToRemove": [*([] if lasso else ["lasso2d", "select2d"]), "autoScale2d"],
            "toImageButtonOptions": {"format": image_format, "scale": 2, "filename": key},
        }
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
            if marked:  # a redrawn chart reports an empty selection, which is not a choice
                selects([mark[0] if isinstance(mark, list) else mark for mark in marked])

        modes: Any = ("points", "box", "lasso") if lasso else "points"
        st.plotly_chart(figure, on_select=changed, selection_mode=modes, **common)


def sections(views: Mapping[str, tuple[str, Callable[[], None]]], name: str) -> None:
    """Draw one section of a page, chosen by the user: key -> (title, function that draws it)."""
    chosen = segments(name, {key: title for key, (title, _) in views.items()}, label="Section")
    views[chosen][1]()


def how_to_read(text: str) -> None:
    """Draw a folded explanation: a few sentences, with the formula if there is one."""
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
    """Draw a sortable table; `plain` (default: `frame`) is the data to download."""
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
    """Return CSV; an apostrophe precedes texts that a spreadsheet would run as a formula."""

    def safe(cell: Any) -> Any:
        if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
            return f"'{cell}"
        return cell

    return frame.rename(columns=safe).map(safe).to_csv(index=False)


def downloads(frame: pd.DataFrame, key: str) -> None:
    """Draw CSV and JSON lines buttons; the file is created when its button is clicked."""
    with st.container(horizontal=True, key=f"downloads-{key}"):
        for title, suffix, text in (
            ("CSV", "csv", lambda: csv(frame)),
            ("JSON lines", "jsonl", lambda: frame.to_json(orient="records", lines=True)),
        ):
            st.download_button(
                title,
                text,
                f"{key}.{suffix}",
                key=f"download-{key}-{suffix}",
                icon=":material/download:",
                type="tertiary",
                on_click="ignore",
            )


def readable_labels(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Replace labels and predictions in the rows by their names."""
    return rows.assign(
        **{
            column: rows[column].map(lambda value: prediction_text(value, names))
            for column in ("label", "dense", "pruned")
        }
    )


def marked_words(text: str, perturbed: str) -> str:
    """Return the text as HTML with deleted and inserted words marked."""
    marks = {
        changed_words.UNCHANGED: "{}",
        changed_words.DELETED: "<del>{}</del>",
        changed_words.INSERTED: "<ins>{}</ins>",
    }
    parts = (
        marks[kind].format(escape(words))
        for kind, words in changed_words.word_diff(text, perturbed)
    )
    return '<p class="sentence">' + " ".join(parts) + "</p>"


def underlined(text: str, answers: Sequence[tuple[str, str]]) -> str:
    """Return the text as HTML; underline the first occurrence of each (answer, color)."""
    spans = [(text.find(answer), len(answer), color) for answer, color in answers if answer]
    edges = sorted(
        {
            0,
            len(text),
            *(start + shift for start, size, _ in spans if start >= 0 for shift in (0, size)),
        }
    )
    parts = []
    for first, last in zip(edges, edges[1:], strict=False):
        colors = [
            color
            for start, size, color in spans
            if start >= 0 and start <= first and last <= start + size
        ]
        shadow = ", ".join(f"inset 0 -{3 * (i + 1)}px 0 {color}" for i, color in enumerate(colors))
        part = escape(text[first:last])
        if colors:
            style = f"box-shadow: {shadow}; padding-bottom: {3 * len(colors)}px"
            part = f'<span style="{style}">{part}</span>'
        parts.append(part)
    return '<p class="sentence">' + "".join(parts) + "</p>"


def tagged(words: Sequence[str], tags: Sequence[str], color: str) -> str:
    """Return the words as HTML with each entity marked and followed by its type."""
    parts: list[str] = []
    end = 0
    for kind, first, last in sorted(entities(tags), key=lambda entity: entity[1]):
        inside = escape(" ".join(words[first : last + 1]))
        mark = (
            f'<span style="box-shadow: inset 0 -3px 0 {color}; padding-bottom: '
            f'3px">{inside}</span> <small>{escape(kind)}</small>'
        )
        parts += [escape(" ".join(words[end:first])), mark]
        end = last + 1
    return (
        '<p class="sentence">'
        + " ".join(filter(None, [*parts, escape(" ".join(words[end:]))]))
        + "</p>"
    )


def demo_button(store: Store, key: str, type: Literal["primary", "secondary"] = "primary") -> None:
    """Draw a button that queues the demo study."""
    if st.button("Run the demo study", key=key, type=type, icon=":material/play_arrow:"):
        with st.spinner("Queueing nine models …"):
            run_action(_submit_demo, store)


def embedding_demo_button(store: Store, key: str) -> None:
    """Draw a button that queues the embedding demo."""
    if st.button("Run the embedding demo", key=f"embedding-{key}", icon=":material/search:"):
        with st.spinner("Queueing three models …"):
            run_action(_submit_demo, store, "embedding")


def guard_demo_button(store: Store, key: str) -> None:
    """Draw a button that queues the guard demo."""
    if st.button("Run the guard demo", key=f"guard-{key}", icon=":material/security:"):
        with st.spinner("Queueing three models …"):
            run_action(_submit_demo, store, "guard")


def offer_demo(store: Store, key: str) -> None:
    """Offer the demo studies, or a link to prune the user's own checkpoint."""
    with st.container(horizontal=True, key=f"offer-{key}"):
        demo_button(store, key)
        embedding_demo_button(store, key)
        guard_demo_button(store, key)
    st.caption(
        "Nine models on bundled film reviews: first charts within 30 s, all results within "
        "4 to 9 min on two cores. Or three embedding models on a bundled retrieval collection, "
        "about 3 min; or three guard models that detect prompt injections, about 2 min. "
        "No download."
    )
    st.page_link("pages/prune.py", label="Prune your own checkpoint", icon=":material/content_cut:")


def _submit_demo(store: Store, name: str = "") -> None:
    from prune_core.experiments import study

    experiments = study.DEMOS[name]()
    submitted = [jobs.submit(store, experiment) for experiment in experiments]
    set_choice("study", experiments[0].study)
    if not any(new for _, new in submitted):
        show_message("The demo study already exists; nothing was recomputed.")
    st.rerun()


def empty(
    store: Store,
    title: str,
    promise: str,
    key: str,
    is_active: bool = False,
    more: Callable[[], None] | None = None,
) -> None:
    """Draw an empty page: what it will show, the demo button and `more`; stop the script."""
    st.title(title, anchor=False)
    with st.container(border=True, key=f"empty-{key}"):
        st.markdown(promise)
        if is_active:
            st.info(
                "The study is running; this page updates automatically as stages finish.",
                icon=":material/hourglass_top:",
            )
        else:
            offer_demo(store, f"demo-{key}")
    if more:
        more()
    st.stop()


def stop_without(pruned: Sequence[ComparedModel], is_active: bool) -> None:
    """Stop the script with a message if no pruned model is selected."""
    if not pruned:
        st.info(
            "No pruned model is finished yet."
            if is_active
            else "Only the dense model is selected: select a pruned model in the sidebar."
        )
        st.stop()


def one_model(models: Sequence[ComparedModel], name: str, label: str, dark: bool) -> ComparedModel:
    """Draw the models as chips; return the chosen one, by default the last."""
    by_job = {model.job: model for model in models}

    def chip(job: int) -> str:
        return f':color[●]{{foreground="{palette.color(by_job[job], dark)}"}} {by_job[job].label}'

    return by_job[
        choice_widget(
            st.pills,
            name,
            list(by_job),
            default=models[-1].job,
            label=label,
            format_func=chip,
        )
    ]


def dense_of(models: Sequence[ComparedModel], rows: pd.DataFrame) -> ComparedModel | None:
    """Return the selected dense model, or None if it has no rows in the table."""
    return next(
        (model for model in models if model.is_dense and (rows["job"] == model.job).any()), None
    )
