"""Forms generated from the options of any plug-in."""

from collections.abc import Mapping
from math import floor, log10
from types import MappingProxyType
from typing import Any

import streamlit as st

from prune_core import formatting
from prune_core.plugins import Options, option_specs


def option_widget(
    spec: Mapping[str, Any], key: str, unavailable: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """Draw the widget of an option (a dict of `option_specs`) and return its value.

    `unavailable` has the choices that are not available on this machine, with the reasons.
    """
    label = spec["title"] or spec["name"].replace("_", " ")
    label += f" ({spec['unit']})" if spec["unit"] else ""
    help = spec["help"][0].upper() + spec["help"][1:]
    common = {"key": key, "help": help, "persist_state": "session"}
    if spec["several"]:
        return _multiselect(spec, label, unavailable, common)
    if options := [*(spec["choices"] or spec["suggestions"])]:
        titles = spec["choices"] if isinstance(spec["choices"], Mapping) else {}
        return st.selectbox(
            label,
            options,
            index=options.index(spec["default"]),
            format_func=lambda choice: titles.get(choice, str(choice) or "none"),
            accept_new_options=bool(spec["suggestions"]),
            **common,
        )
    if spec["type"] is bool:
        return st.toggle(label, value=spec["default"], **common)
    if spec["type"] is int:
        return st.number_input(
            label,
            value=spec["default"],
            min_value=_integer(spec["low"]),
            max_value=_integer(spec["high"]),
            step=1,
            placeholder=spec["none"] or None,
            **common,
        )
    if spec["type"] is float:
        # no limits here: the plug-in reports an invalid value with a message, and a widget's limit
        # would hide the value
        step = 0.1
        if size := abs(spec["default"] or 0.0):
            step = 10.0 ** (floor(log10(size)) - (size < 1))
        return st.number_input(
            label,
            value=spec["default"],
            step=step,
            format="%g",
            placeholder=spec["none"] or None,
            **common,
        )
    return st.text_input(label, value=spec["default"], **common)


def _multiselect(
    spec: Mapping[str, Any], label: str, unavailable: Mapping[str, str], common: Mapping[str, Any]
) -> str:
    """Draw the choice of several values; return them separated by commas."""
    choices = [choice for choice in spec["choices"] if choice not in unavailable]
    selected = st.multiselect(label, choices, spec["default"].split(", "), **common)
    reasons = [f"- {unavailable[choice]}" for choice in spec["choices"] if choice in unavailable]
    if reasons:
        with st.expander(
            f":gray[{len(reasons)} more are not available on this machine]",
            key=f"unavailable-{common['key']}",
        ):
            st.caption("\n".join(reasons))
    return ", ".join(selected or spec["default"].split(", "))


def _integer(limit: float | None) -> int | None:
    return None if limit is None else int(limit)


def options_form(kind: type[Options], leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Draw a plug-in's options, expert ones collapsed; return those that differ from defaults."""
    specs = [spec for spec in option_specs(kind) if spec["name"] not in leave_out]
    values: dict[str, Any] = {}
    unavailable: dict[str, str] = getattr(kind, "unavailable_choices", dict)()
    for expert in (False, True):
        group = [spec for spec in specs if spec["expert"] is expert]
        if not group:
            continue
        if expert:
            place: Any = st.expander(
                "Expert options", icon=":material/tune:", key=f"expert-{kind.name}"
            )
        else:
            place = st.container(key=f"options-of-{kind.name}")
        with place, st.grid(2, min_column_width=150, gap="xsmall"):
            for spec in group:
                values[spec["name"]] = option_widget(
                    spec, f"option-{kind.name}-{spec['name']}", unavailable
                )
    return {
        spec["name"]: values[spec["name"]]
        for spec in specs
        if values[spec["name"]] != spec["default"]
    }


def cards(
    registry: Mapping[str, type[Options]],
    key: str,
    default: tuple[str, ...],
    leave_out: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> dict[str, dict[str, Any]]:
    """Draw one card per plug-in; return the chosen ones with their changed options.

    Plug-ins in `default` are on; those in `more` are shown on request.
    """
    chosen: dict[str, dict[str, Any]] = {}
    shown = more and st.toggle(
        f"Show {len(more)} more baselines", key=f"more-{key}", persist_state="session"
    )
    with st.grid(3, min_column_width=230, border=True, key=f"cards-{key}") as grid:
        for name, kind in registry.items():
            if name in more and not shown:
                continue
            with grid.cell():
                is_on = st.toggle(
                    f"**{kind.title}**",
                    value=name in default,
                    key=f"use-{key}-{name}",
                    persist_state="session",
                )
                st.markdown(f":small[{kind.summary}]")
                notes = [getattr(kind, "paper", "")]
                if hasattr(kind, "estimate"):
                    notes.append(
                        f"about {formatting.approximate_seconds(kind.estimate)} per model on the "
                        "demo"
                    )
                st.caption(" · ".join(filter(None, notes)))
                if is_on:
                    chosen[name] = {}
                    if any(spec["name"] not in leave_out for spec in option_specs(kind)):
                        with st.expander("Options", key=f"fold-{key}-{name}"):
                            chosen[name] = options_form(kind, leave_out)
    return chosen
