"""Former names that keep working: measures, options, tables, columns, study files and commands.

This is the only place with former names. `plugins.build`, study files, the store and the command
line translate through it; CHANGELOG.md lists them for users.
"""

from collections.abc import Mapping
from typing import Any

# former name -> current name
MEASURES = {"forms": "formats", "doctor": "quantization"}  # also their stages and tables
METHOD_OPTIONS = {
    "then": "second_stage",
    "then_sparsity": "second_stage_sparsity",
    "then_pattern": "second_stage_pattern",
    "distil_attacked": "distil_adversarial",
}
OPTIONS = {
    "reconstruction": {"sentences": "examples"},
    "sensitivity": {"sentences": "examples"},
    "drift": {"sentences": "examples", "neighbours": "neighbors"},
    "quantization": {"sentences": "examples", "form": "format"},
    "formats": {"files": "formats", "attacked": "attack_examples"},
    "attack": {"never": "protected_words"},
    "osscar": {"together": "units_per_step"},
    "ziplm": {"together": "units_per_step", "tries": "trials"},
    "block_drop": {"by": "criterion"},
}
STUDY_KEYS = {"starts": "checkpoints", "about": "description"}
COMMANDS = {"remake": "reprune"}
# table -> {former column: current column}; `store.packed_rows` reads stored tables through it
COLUMNS = {
    "budget": {"said": "note", "off": "deviation", "turns": "trials"},
    "formats": {"form": "format"},
    "prune": {"part": "projection"},
    "quantization": {"part": "module"},
    "reconstruction": {"part": "projection"},
    "repair": {"form": "format"},
    "sensitivity": {"together": "all_blocks_error"},
    "sensitivity_example": {
        "right": "label",
        "said_dense": "dense_outputs",
        "said_blocks": "block_outputs",
        "said_pruned": "pruned_outputs",
    },
    "unit": {"part": "unit_type"},
}


def current_name(name: str) -> str:
    """The current name of a measure, stage or table."""
    return MEASURES.get(name, name)


def former_name(name: str) -> str:
    """The former name of a measure, stage or table, or the name itself."""
    return next((former for former, current in MEASURES.items() if current == name), name)


def current_columns(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row (column -> value) of a table, whose own name may be a former one, in current names."""
    names = COLUMNS.get(current_name(table), {})
    return {names.get(name, name): value for name, value in row.items()}


def current_options(plugin: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method or measure under their current names."""
    names = METHOD_OPTIONS | OPTIONS.get(plugin, {})
    return {names.get(name, name): value for name, value in options.items()}


def current_plugin(plugin: Mapping[str, Any]) -> dict[str, Any]:
    """`{"name": …, "options": …}` of a method or measure under current names."""
    name = current_name(plugin["name"])
    return {**plugin, "name": name, "options": current_options(name, plugin["options"])}


def former_plugin(plugin: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `current_plugin`: keys of experiments are hashes of the former names."""
    names = METHOD_OPTIONS | OPTIONS.get(plugin["name"], {})
    former = {current: name for name, current in names.items()}
    options = {former.get(name, name): value for name, value in plugin["options"].items()}
    return {**plugin, "name": former_name(plugin["name"]), "options": options}


def current_experiment(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment as plain data, under current names."""
    method = experiment.get("method")
    return {
        **experiment,
        "method": current_plugin(method) if method else None,
        "measures": [current_plugin(measure) for measure in experiment.get("measures") or ()],
    }
