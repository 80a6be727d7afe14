"""Former names that keep working: options, tables, commands, keys of files, JSON and links.

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
EXPERIMENT_KEYS = {"calibration": "calibration_size", "evaluation": "evaluation_size"}
STUDY_KEYS = {"starts": "checkpoints", "about": "description"}
COMMANDS = {"remake": "reprune"}
# table -> {former column: current column}; `store.former_rows` reads older stores through it
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
# query parameters of the dashboard's addresses, and values of some of them: links can be bookmarked
QUERY_PARAMETERS = {
    "closer": "compare-section",
    "ask": "attack-section",
    "layers-part": "layers-section",
    "drift-part": "drift-section",
    "deploy-part": "deploy-section",
    "study-part": "study-section",
    "answers": "answer-group",
    "attack-by": "attack-axis",
    "beside": "other-study",
    "beside-figure": "comparison-quantity",
    "flips": "prediction-change",
    "inspect-beside": "inspect-second-model",
    "inspect-right": "inspect-label",
    "limit-attacked": "limit-under-attack",
    "limit-faster": "limit-speedup",
    "limit-left": "limit-weights",
    "part": "layer-output",
    "plan": "what-if-method",
    "shade": "matrix-value",
    "smallest-way": "search-objective",
    "turned": "attack-group",
}
QUERY_VALUES = {
    "compare-section": {"figures": "values", "parts": "ablation"},
    "attack-section": {
        "chance": "significance",
        "cost": "budget",
        "figures": "values",
        "read": "examples",
        "valid": "validity",
        "weak": "slices",
    },
    "layers-section": {"block": "model", "figures": "values", "whatif": "what-if"},
    "drift-section": {"blocks": "layers"},
    "deploy-section": {"flips": "changes", "forms": "formats", "smallest": "size-search"},
    "study-section": {"beside": "comparison"},
    "seeds": {"one": "averaged", "apart": "separate"},
}
TRAINING_STATE_KEYS = {"dice": "rng"}  # keys of the state of an unfinished fine-tune
# keys of `check --json`, and of each verdict in it; the former ones are written too
CHECK_KEYS = {"told": "summary"}
VERDICT_KEYS = {
    "told": "detail",
    "of": "group",
    "answer": "result",
    "needs": "examples_needed",
}


def current_name(name: str) -> str:
    """The current name of a measure, stage or table."""
    return MEASURES.get(name, name)


def current_options(plugin: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method or measure under their current names."""
    return current_keys(options, METHOD_OPTIONS | OPTIONS.get(plugin, {}))


def current_keys(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The record under current keys; `names` maps former keys to them."""
    return {names.get(key, key): value for key, value in record.items()}


def current_plugin(plugin: Mapping[str, Any]) -> dict[str, Any]:
    """`{"name": …, "options": …}` of a method or measure under current names."""
    name = current_name(plugin["name"])
    return {**plugin, "name": name, "options": current_options(name, plugin["options"])}


def current_experiment(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment as plain data, under current names."""
    method = experiment.get("method")
    if method:
        method = current_plugin(method)
        # stored since 2026-11-30; an option of every method that removes units
        method.setdefault("removes", "units" if "keep_one_head" in method["options"] else "weights")
    return {
        **current_keys(experiment, EXPERIMENT_KEYS),
        "method": method,
        "measures": [current_plugin(measure) for measure in experiment.get("measures") or ()],
    }


def current_query(parameters: Mapping[str, str]) -> dict[str, str]:
    """The query parameters of an address under their current names, with current values."""
    renamed = current_keys(parameters, QUERY_PARAMETERS)
    return {name: QUERY_VALUES.get(name, {}).get(value, value) for name, value in renamed.items()}


def with_former_keys(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The record with each value of a renamed key under its former key as well."""
    return {**record, **{former: record[current] for former, current in names.items()}}
