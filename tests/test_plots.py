"""Charts, colors, number formats and takeaways from synthetic rows, without models or pages."""

import json

import pandas as pd
import pytest
import sample_rows

from prune_core import formatting, plots, views
from prune_core.analysis import attack_success, takeaways
from prune_core.analysis.compared_models import ComparedModel, ordered
from prune_core.analysis.quantities import summary
from prune_core.attacks.changed_words import DELETED, INSERTED, UNCHANGED, word_diff
from prune_core.experiments import attack_transfer
from prune_core.plots import palette, style
from prune_core.plots.annotations import (
    NARROW,
    End,
    label_line_ends,
    room,
    spread_positions,
    tick_format,
)
from prune_core.plots.palette import HUES, hue_of
from prune_core.views.attack import recipes
from prune_core.views.noise import accuracy_quantities

MODELS = [
    ComparedModel(job, sample_rows.label(method, sparsity), method, sparsity=sparsity)
    for job, (method, sparsity) in enumerate(sample_rows.RUNS, 1)
]
NAMES = ["negative", "positive"]


@pytest.fixture(scope="module")
def study() -> dict[str, pd.DataFrame]:
    return sample_rows.study()


def all_charts(
    study: dict[str, pd.DataFrame], models: list[ComparedModel], dark: bool
) -> dict[str, object]:
    """Return all charts."""
    quantities = views.quantities(study)
    table = summary(study, models, list(quantities.values()))
    examples = study["attack_example"]
    single = examples[(examples["recipe"] == "DeepWordBug") & (examples["example"] == 0)]
    bars = pd.DataFrame(
        {
            "job": single["job"],
            "state": "original",
            "probabilities": single["original_probabilities"],
        }
    )
    of_one_recipe = examples[examples["recipe"] == "DeepWordBug"]

    def slices_of(dense):
        return attack_success.slices(of_one_recipe, dense, NAMES)

    six_recipes = pd.concat(
        [study["attack"].assign(recipe=study["attack"]["recipe"] + f" {copy}") for copy in range(3)]
    )
    sources, by_recipe = (
        {model.job: model.short for model in models},
        {name: name for name in examples["recipe"].unique()},
    )
    three_labels = bars.assign(probabilities=[[0.2, 0.3, 0.5]] * len(bars))
    errors, drift = study["reconstruction"], study["drift"]
    charts = {
        f"against {key}": plots.against_sparsity(table, models, quantity, dark)
        for key, quantity in quantities.items()
    }
    charts |= {
        f"by block {s.column}": plots.by_block(drift, models, s, "cls", dark)
        for s in plots.SIMILARITIES
    }
    return charts | {
        "scatter": plots.scatter(
            table, models, quantities["accuracy"], y=quantities["error"], dark=dark
        ),
        "scatter with sizes": plots.scatter(
            table,
            models,
            quantities["accuracy"],
            y=quantities["error"],
            dark=dark,
            size=quantities["bytes"],
        ),
        "depth": plots.by_depth(errors, models, "block", dark),
        "own": plots.local_and_inherited_error(errors, models[-1], dark),
        "heat": plots.heat_maps(errors, models, "total", dark=dark),
        "sparsity map": plots.heat_maps(errors, models, "sparsity", dark=dark),
        "block": plots.errors_of_layer(errors, models[-1], 0, dark=dark),
        "map": plots.embedding_shifts(
            study["drift_map"],
            models[-1],
            5,
            projection="umap",
            texts=study["drift_example"],
            names=NAMES,
            dark=dark,
        ),
        "saved": plots.cost_savings(study["cost"], models, dark),
        "soup": plots.soup_path(sample_rows.soup(), dark),
        "success": plots.success(study["attack"], models, dark),
        "six recipes": plots.success(
            six_recipes, models, dark, rings=six_recipes.assign(success_rate=0.9)
        ),
        "slices": plots.slices(slices_of([1]), models, "success_rate", dark),
        "slices under attack": plots.slices(slices_of(()), models, "under_attack", dark),
        "transfer": plots.transfer(
            attack_transfer.transfer_matrix(study["transfer"]), sources, models, "source", dark
        ),
        "transfer by recipe": plots.transfer(
            attack_transfer.transfer_matrix(study["transfer"], "recipe"),
            by_recipe,
            models,
            "recipe",
            dark,
        ),
        "matrix": plots.matrix(
            [[1.0, 0.0], [0.5, -1.0]], [[1.0, 0.2], [0.4, -1.0]], [0.5, 2.0], dark
        ),
        "averaged": plots.averaging_errors(0.4, dark),
        "queries": plots.against_budget(
            examples, models, "DeepWordBug", spending="queries", dark=dark
        ),
        "certified": plots.certified_accuracy(study["certified"], models, dark),
        "noise": plots.noise_failures(study["noise"], models, dark),
        "noise by strength": plots.noise_by_strength(study["noise"], models, dark),
        "robustness": plots.robustness_by_text(
            summary(study, models, list(accuracy_quantities(study).values())),
            models,
            accuracy_quantities(study),
            dark,
        ),
        "vocabulary": plots.vocabulary_sizes(vocabularies(), 20_000, 1.01, dark),
        "words": plots.against_budget(
            examples, models, "DeepWordBug", spending="share_changed", dark=dark
        ),
        "bars": plots.probability_bars(bars, models, NAMES, dark=dark, truth=1),
        "three labels": plots.probability_bars(three_labels, models, ["a", "b", "c"], dark=dark),
    }


def vocabularies() -> pd.DataFrame:
    """Return the table of a trimmed vocabulary."""
    rows = [(10_000, 1.2, 1.15, 1.25, 5e7), (20_000, 1.0, 1.0, 1.0, 9e7)]
    columns = ("vocabulary", "ratio", "ratio_low", "ratio_high", "weight_bytes")
    return pd.DataFrame(rows, columns=columns).assign(tokenizer_bytes=1e6)


@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_has_data_and_axis_titles(study, dark):
    for name, figure in all_charts(study, MODELS, dark).items():
        plain = json.loads(figure.to_json())
        assert plain["data"] and not plots.to_table(figure).empty, name
        if (
            name in ("success", "six recipes") or "slices" in name
        ):  # tables of dots, whose one title serves all panels
            continue
        across, upwards = (
            any(axis.title.text for axis in axes())
            for axes in (figure.select_xaxes, figure.select_yaxes)
        )
        assert across or name in ("heat", "sparsity map"), (
            f"{name}: the x axis names neither parts nor a quantity"
        )
        assert upwards or name in ("saved", "block", "bars", "three labels", "noise"), (
            f"{name}: no models or labels upwards"
        )


def test_charts_work_with_one_model():
    study = sample_rows.study(runs=(("dense", 0.0), ("akr", 0.5)))
    for models in (MODELS[:1], [MODELS[0], ComparedModel(2, "AKR 50%", "akr", sparsity=0.5)]):
        assert all_charts(study, models, False)


def test_charts_work_with_empty_tables(study):
    quantity = views.quantities(study)["accuracy"]
    empty_summary = summary({"accuracy": study["accuracy"].iloc[:0]}, MODELS, [])
    assert not plots.against_sparsity(empty_summary, MODELS, quantity).data
    assert not plots.local_and_inherited_error(study["reconstruction"].iloc[:0], MODELS[-1]).data


def test_lines_start_at_dense(study):
    quantity = views.quantities(study)["accuracy"]
    figure = plots.against_sparsity(summary(study, MODELS, [quantity]), MODELS, quantity)
    dense = study["accuracy"].iloc[0]["accuracy"]
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert len(lines) == 3 and all(line.x[0] == 0 and line.y[0] == dense for line in lines)


def test_colors_are_fixed_by_method_and_distinct():
    for dark in (False, True):
        assert len({palette.color(model, dark) for model in MODELS}) == len(MODELS)
    assert palette.color(ComparedModel(9, "AKR 50%", "akr", sparsity=0.5)) == palette.color(
        MODELS[5]
    ), "the color depends on the method, not on the position"
    assert hue_of("something new") == hue_of("something new") not in list(HUES.values())[:4]


def test_models_are_sorted_by_method_and_sparsity():
    assert ordered(reversed(MODELS)) == MODELS
    assert MODELS[-1].family == "AKR"
    assert (
        ComparedModel(
            1, "SparseGPT 2:4 · seed 1", "sparsegpt", sparsity=0.5, pattern="2:4", seed=1
        ).family
        == "SparseGPT"
    )


def test_other_checkpoints_are_labelled_and_marked():
    from prune_core.analysis.compared_models import models_of
    from prune_core.store.job import Job

    def job(id: int, checkpoint: str, method: dict | None) -> Job:
        plan = {"checkpoint": checkpoint, "method": method, "seed": 0}
        return Job(
            **{
                **dict.fromkeys(Job.__dataclass_fields__, ""),
                "id": id,
                "label": "AKR 70%" if method else "Dense",
                "experiment": plan,
            }
        )

    akr = {"name": "akr", "options": {"sparsity": 0.7}, "removes": "weights"}
    models = models_of(
        [
            job(1, "demo", None),
            job(2, "demo", akr),
            job(3, "/models/robust", None),
            job(4, "/models/robust", akr),
        ]
    )
    assert [model.label for model in models] == [
        "Dense",
        "Dense · robust",
        "AKR 70%",
        "AKR 70% · robust",
    ]
    assert palette.symbol(models[3]) == palette.symbol(models[2]) + "-dot"
    assert palette.color(models[3]) == palette.color(models[2])
    assert takeaways.sentence_name(models[3]) == "AKR at 70% · robust"
    assert takeaways.sentence_name(models[1]) == "the dense model robust"


def test_labels_keep_their_order_and_distance():
    positions = spread_positions([10.0, 11.0, 12.0, 50.0], 15, 0, high=200)
    assert positions == sorted(positions)
    assert all(b - a > 14.5 for a, b in zip(positions, positions[1:], strict=False))


def test_long_labels_are_wrapped():
    long = "K-prune −60% · distilled 0.5 min"
    for widest, text in ((240, long), (NARROW, long.replace(" · ", "<br>"))):
        fig = style.figure(False, 300, margin={"r": 72})
        label_line_ends(
            fig,
            [End(1.0, 0.5, "Dense", color="black"), End(1.0, 0.5, long, color="black")],
            (0.0, 1.0),
            height=240,
            widest=widest,
        )
        assert [each.text for each in fig.layout.annotations] == ["Dense", text]
        assert fig.layout.margin.r == room([text]) <= widest
        assert fig.layout.margin.r > 6 * max(map(len, text.split("<br>")))


@pytest.mark.parametrize(
    ("form", "limits", "shown"),
    [
        (".0%", (0.2, 0.95), ".0~%"),
        (".0%", (0.934, 0.945), ".1~%"),
        (".2~f", (0.03, 0.046), ".3~f"),
        (".1f", (0.0, 3.0), ".1~f"),
        ("", (0, 1), ""),
    ],
)
def test_tick_format_distinguishes_ticks(form, limits, shown):
    assert tick_format(form, limits) == shown


def test_failed_attack_states_reason():
    rows = [
        {
            "recipe": "by words",
            "example": i,
            "outcome": "error",
            "note": f"{'Turkish' if i else 'Azeri'}.",
        }
        for i in range(3)
    ]
    rows += [
        {"recipe": "by letters", "example": i, "outcome": outcome, "note": ""}
        for i, outcome in enumerate(["error", "succeeded"])
    ]
    assert takeaways.unable_to_attack(pd.DataFrame(rows)) == {
        "by words": "by words attacked none of 3 examples. Turkish."
    }
    assert takeaways.unable_to_attack(pd.DataFrame()) == {}


def test_savings_are_relative_to_dense(study):
    figure = plots.cost_savings(study["cost"], MODELS)
    bars = {(bar.y[0], bar.xaxis): bar.x[0] for bar in figure.data}
    assert len(bars) == 6 * 4
    assert bars["AKR 70%", "x"] == pytest.approx(
        1 - 0.7 * 10_616_832 / 22_713_986, abs=1e-6
    )  # the embeddings stay
    assert bars["AKR 70%", "x2"] == bars["AKR 70%", "x3"] == 1.0  # file and work


def test_budget_curve_ends_at_accuracy_under_attack(study):
    figure = plots.against_budget(
        study["attack_example"], MODELS, "DeepWordBug", spending="queries"
    )
    expected = study["attack"].query("recipe == 'DeepWordBug'").set_index("label")["under_attack"]
    for trace in figure.data:
        assert trace.y[-1] == pytest.approx(expected[trace.name])


def test_recipes_are_sorted_by_sample_size(study):
    assert recipes(study["attack"]) == ["DeepWordBug", "TextFooler (MiniLM)"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (formatting.percent(0.8804), "88.0%"),
        (formatting.points(-0.019), "−1.9 points"),
        (formatting.points(-0.0001), "0.0 points"),
        (formatting.points(0.02), "+2.0 points"),
        (formatting.seconds(8.44), "8.4 s"),
        (formatting.seconds(130), "2 min 10 s"),
        (formatting.seconds(3900), "1 h 5 min"),
        (formatting.error(0.00052), "5.2e-04"),
        (formatting.error(0.1234), "0.123"),
        (formatting.size(45_430_000), "45.4 MB"),
        (formatting.size(12_300), "12.3 kB"),
        (formatting.percent(float("nan")), "–"),
        (formatting.p_value(0.0004), "p < 0.001"),
        (formatting.milliseconds(0.094), "94.0 ms"),
        (formatting.millions(22_713_986), "22.7 M"),
        (formatting.approximate_seconds(2.2), "2 s"),
    ],
)
def test_number_formats(value, shown):
    assert value == shown


def test_word_diff_marks_deletions_and_insertions():
    assert word_diff("a fine film indeed", "a fnie film") == [
        (UNCHANGED, "a"),
        (DELETED, "fine"),
        (INSERTED, "fnie"),
        (UNCHANGED, "film"),
        (DELETED, "indeed"),
    ]


def test_takeaways_respect_intervals():
    assert "within noise at n = 200" in takeaways.difference_words(-0.02, -0.05, 0.01, n=200)
    assert (
        takeaways.difference_words(-0.02, -0.035, -0.005, n=200)
        == "2.0 points below dense (95% interval 0.5 to 3.5, n = 200)"
    )
    assert takeaways.difference_words(0.0, -0.01, 0.01, n=99).startswith("the same as dense")


def attacked(job: int, succeeded: int, n: int) -> pd.DataFrame:
    outcomes = ["success"] * succeeded + ["failed"] * (n - succeeded)
    return pd.DataFrame(
        {
            "job": job,
            "recipe": "DeepWordBug",
            "example": range(n),
            "text": "A film.",
            "outcome": outcomes,
            "share_changed": 0.1,
            "queries": 9,
        }
    )


def test_attack_takeaway_names_only_significant_differences():
    near, far = (
        pd.concat([attacked(1, 20, 100), attacked(2, succeeded, 100)]) for succeeded in (24, 60)
    )
    models = [MODELS[0], ComparedModel(2, "AKR 70%", "akr", sparsity=0.7)]
    sentences = [
        takeaways.attack(attack_success.rates(examples), examples, models)
        for examples in (near, far)
    ]
    assert "AKR at 70% is not detectably easier or harder to attack" in sentences[0]
    assert "+4.0 points, p = 0.12, n = 100" in sentences[0]
    assert "on AKR at 70% its success rate is 40 points higher (95% interval 3" in sentences[1]
    assert "p < 0.001, n = 100 examples that both" in sentences[1]


def test_attack_takeaway_compares_commonly_correct_examples():
    """Rates of 1 of 10 and 5 of 5 differ only on examples that one model misclassifies."""
    dense, pruned = attacked(1, 1, 10), attacked(2, 5, 5).assign(example=[0, 20, 21, 22, 23])
    skipped = attacked(2, 0, 9).assign(example=range(1, 10), outcome="skipped")
    examples = pd.concat([dense, pruned, skipped])
    sentences = takeaways.attack(
        attack_success.rates(examples),
        examples,
        [MODELS[0], ComparedModel(2, "AKR 70%", "akr", sparsity=0.7)],
    )
    assert "not detectably" in sentences
    assert "0.0 points" in sentences
    assert "n = 1 examples" in sentences


def test_every_takeaway_is_a_sentence(study):
    kinds = {"accuracy": "accuracy", "layers": "reconstruction", "drift": "drift", "cost": "cost"}
    sentences = [getattr(takeaways, kind)(study[table], MODELS) for kind, table in kinds.items()]
    sentences.append(takeaways.attack(study["attack"], study["attack_example"], MODELS))
    assert all(sentence.endswith(".") and "nan" not in sentence for sentence in sentences)
    assert "no pruned model is selected" in takeaways.accuracy(study["accuracy"], MODELS[:1])
    empty = pd.DataFrame()
    assert [f(empty, MODELS) for f in (takeaways.accuracy, takeaways.layers, takeaways.drift)] == [
        ""
    ] * 3
    assert takeaways.attack(empty, empty, MODELS) == ""


def test_soup_takeaway_compares_with_most_accurate_candidate():
    record = sample_rows.soup()
    sentences = takeaways.soup(record)
    assert sentences.startswith(
        "The average of 2 of 3 fine-tunes has 28.0% accuracy under attack, plain,"
    )
    assert "+18.0 points (95% interval +12.0 to +24.0, p < 0.001, n = 200)" in sentences
    assert sentences.endswith("It is 0.4 points less accurate than plain.")
    record |= {
        "ingredients": ["plain"],
        "attempts": [record["attempts"][2] | {"ingredients": ["plain"], "taken": True}],
    }
    assert (
        takeaways.soup(record)
        == "No average is better than plain, the most accurate of 3 fine-tunes."
    )


def test_vocabulary_sizes_show_the_ratio_and_megabytes():
    ratio, size = plots.vocabulary_sizes(vocabularies(), 20_000, 1.01).data
    assert list(ratio.y) == [1.2, 1.0] and list(size.y) == [51, 91]
    assert list(ratio.error_y.array) == pytest.approx([0.05, 0])


def test_soup_path_connects_accepted_averages():
    traces = {trace.name: trace for trace in plots.soup_path(sample_rows.soup()).data}
    assert list(traces["average"].y) == [0.25, 0.28]
    assert traces["average"].marker.symbol[-1] == "star"
    assert list(traces["rejected average"].y) == [0.15]
    assert list(traces["standard fine-tune"].x) == [0.91]


def test_axis_title_of_attack_chart_is_below_the_tick_labels(study):
    figure = plots.success(study["attack"], MODELS)
    [title] = [each for each in figure.layout.annotations if "success rate" in each.text]
    assert title.yanchor == "top" and title.yshift <= -20
