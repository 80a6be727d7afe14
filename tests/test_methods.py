"""Contract tests for all pruning methods, and exact small cases."""

import copy
import json

import pytest
import tiny
import torch
from test_seeds import assert_declared

from benchmarks.gpu.synchronizations import SynchronizationCounter
from prune_core import Cancelled, PruneError
from prune_core.methods import METHODS
from prune_core.methods.akr import AKR
from prune_core.methods.dsnot import exchange
from prune_core.models import families, replay
from prune_core.plugins import build, no_report, option_specs
from prune_core.pruning.allocation import by_outliers, outliers
from prune_core.pruning.input_statistics import InputStatistics, adaptive_weight, fitted_bias
from prune_core.pruning.solvers import exact_obs
from prune_core.pruning.unitwise import UnitMethod

FAMILIES = list(families.FAMILIES)
# test_structured.py has more tests of structured methods
UNITS = [name for name, kind in METHODS.items() if issubclass(kind, UnitMethod)]
WEIGHTS = [name for name in METHODS if name not in UNITS]


def calibration(family: str = "bert") -> list[dict[str, torch.Tensor]]:
    """Return the tiny examples with labels, which some methods need."""
    return [
        batch | {"labels": torch.arange(len(batch["input_ids"])) % 2}
        for batch in tiny.calibration(family)
    ]


def pruned(name: str, model: torch.nn.Module, **options) -> torch.nn.Module:
    """Return a copy of the model, pruned with the tiny calibration examples."""
    model = copy.deepcopy(model)
    tables = build(METHODS, name, options).prune(
        model, calibration(model.config.model_type), no_report
    )
    assert_declared(tables)
    return model


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the prunable weight matrices by block and name."""
    return {f"{block}.{part}": linear.weight for block, part, linear in replay.linears(model)}


@pytest.mark.parametrize("sparsity", [0.3, 0.7])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", WEIGHTS)
def test_reaches_the_requested_sparsity_and_stays_finite(
    name: str, family: str, sparsity: float
) -> None:
    model = pruned(name, tiny.model(family), sparsity=sparsity)
    sparsities = [row["sparsity"] for row in replay.sparsity_by_projection(model)]
    if name == "akr_plus":  # which allocates the total sparsity among the matrices
        all_weights = torch.cat([weight.flatten() for weight in weights(model).values()])
        sparsities = [float((all_weights == 0).float().mean())]
    # counts per row are rounded down: at most 1/32 of 32 columns
    assert all(sparsity - 1 / 32 <= fraction <= sparsity + 1e-6 for fraction in sparsities)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "1:4", "16:32"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_pattern_holds_in_every_group(name: str, pattern: str) -> None:
    keep, group = map(int, pattern.split(":"))
    for weight in weights(pruned(name, tiny.model(), pattern=pattern)).values():
        assert ((weight != 0).unflatten(-1, (-1, group)).sum(-1) == keep).all()


@pytest.mark.parametrize("name", METHODS)
def test_changes_only_linear_layers_and_leaves_no_hooks(name: str) -> None:
    model = tiny.model()
    options = {"refit_head": False, "bias": False} if name in ("akr", "akr_plus") else {}
    result = pruned(name, model, **options)
    linears = [linear for _, _, linear in replay.linears(result)]
    # the bias of a unit is removed with it
    allowed = {id(linear.weight) for linear in linears} | (
        {id(linear.bias) for linear in linears} if name in UNITS else set()
    )
    for (key, old), new in zip(model.named_parameters(), result.parameters(), strict=True):
        assert old.shape == new.shape
        if id(new) not in allowed:
            assert torch.equal(old, new), key
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in result.modules()
    )


@pytest.mark.parametrize("name", METHODS)
def test_same_data_same_weights(name: str) -> None:
    first, second = (weights(pruned(name, tiny.model())) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", METHODS)
def test_sparsity_zero_changes_nothing(name: str) -> None:
    model = tiny.model()
    for old, new in zip(
        model.parameters(), pruned(name, model, sparsity=0.0).parameters(), strict=True
    ):
        torch.testing.assert_close(old, new, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("name", METHODS)
def test_progress_rises_to_one_and_a_cancelling_report_stops_method(name: str) -> None:
    seen: list[float] = []
    rows = build(METHODS, name).prune(
        tiny.model(), calibration(), lambda progress, _: seen.append(progress)
    )["prune"]
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert list(rows.columns) == ["block", "projection", "sparsity", "damping", "seconds"]
    assert len(rows) == 12

    def stop(progress: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        build(METHODS, name).prune(tiny.model(), calibration(), stop)


@pytest.mark.parametrize("name", METHODS)
def test_options_round_trip_as_json_and_invalid_values_are_refused(name: str) -> None:
    method = build(METHODS, name, {"sparsity": 0.6})
    assert build(METHODS, name, json.loads(json.dumps(method.to_dict()))) == method
    assert method.title
    assert method.summary
    assert method.paper
    assert "60%" in method.label
    assert all(spec["help"] for spec in option_specs(METHODS[name]))
    for options, message in (
        ({"sparsity": 3}, "between 0.0 and 0.99"),
        ({"sparsity": float("nan")}, "between"),
        ({"sparsity": "lots"}, "must be a number"),
        ({"sparsty": 0.5}, "Did you mean 'sparsity'"),
        *([({"pattern": "4:2"}, "N:M with 0 < N < M")] if name in WEIGHTS else []),
    ):
        with pytest.raises(PruneError, match=message):
            build(METHODS, name, options)


def test_misspelled_method_name_suggests_the_correct_one() -> None:
    with pytest.raises(PruneError, match="Did you mean 'sparsegpt'"):
        build(METHODS, "sparsgpt")


def test_global_magnitude_reaches_the_total_sparsity() -> None:
    model = pruned("magnitude", tiny.model(), sparsity=0.5, scope="global")
    all_weights = torch.cat([weight.flatten() for weight in weights(model).values()])
    assert abs(float((all_weights == 0).float().mean()) - 0.5) < 1e-3
    with pytest.raises(PruneError, match="cannot be global"):
        build(METHODS, "magnitude", {"scope": "global", "pattern": "2:4"})


def test_akr_exact_removes_the_requested_number_of_weights_in_each_row() -> None:
    for weight in weights(pruned("akr", tiny.model(), sparsity=0.7, solver="exact")).values():
        assert set((weight == 0).sum(1).tolist()) == {int(weight.shape[1] * 0.7)}


@pytest.mark.parametrize("solver", ["blocked", "exact", "admm"])
def test_akr_without_sparsity_is_the_identity(solver: str) -> None:
    """With no inherited error and nothing removed, every fit returns the original weights."""
    model = tiny.model()
    result = pruned("akr", model, sparsity=0.0, solver=solver)
    with torch.no_grad():
        for batch in tiny.calibration():
            torch.testing.assert_close(
                result(**batch).logits, model(**batch).logits, atol=1e-4, rtol=1e-4
            )


def test_akr_inherits_less_error_than_sparsegpt() -> None:
    """Hidden states of the last layer stay closer to those of the dense model."""
    model = tiny.model()
    distance = {
        name: distance_to_dense(model, pruned(name, model, sparsity=0.5))
        for name in ("sparsegpt", "akr")
    }
    assert distance["akr"] < distance["sparsegpt"]


def test_akr_absorbs_a_linear_residual_error() -> None:
    """If the residual error is a linear map of the layer's input, weights and bias absorb it."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, weight, gap_weight, offset = normal(500, 8), normal(6, 8), normal(6, 8), normal(6)
    gap = x @ gap_weight.T + offset
    stats = InputStatistics(
        x.T @ x,
        x.T @ x,
        x.sum(0),
        dense_total=x.sum(0),
        carry=gap.T @ x,
        carry_total=gap.sum(0),
        tokens=len(x),
    ).centered()
    fitted, _ = adaptive_weight(weight, stats, 0.0)
    torch.testing.assert_close(fitted, weight + gap_weight)
    torch.testing.assert_close(
        fitted_bias(weight, fitted, torch.zeros(6, dtype=torch.float64), centered=stats), offset
    )


def test_akr_residual_reduces_the_error_of_the_last_layer() -> None:
    model = tiny.model()
    batch = tiny.calibration()[0]
    *_, (dense, _) = replay.hidden_states(model, batch)
    distance = {}
    for residual in ("on", "off"):
        *_, (hidden, _) = replay.hidden_states(
            pruned("akr", model, sparsity=0.7, residual=residual), batch
        )
        distance[residual] = (hidden - dense).norm()
    assert distance["on"] < distance["off"]
    modes = [
        AKR(sparsity=0.7),
        AKR(sparsity=0.8),
        AKR(pattern="2:4"),
        AKR(pattern="2:4", residual="off"),
    ]
    assert ["carry" in method.needs for method in modes] == [False, True, True, False]


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_refit_keeps_the_mask_and_reduces_the_output_error(name: str) -> None:
    model = tiny.model()
    plain, refitted = (
        pruned(name, model, sparsity=0.7),
        pruned(name, model, sparsity=0.7, refit_steps=20),
    )
    # the first matrix has the same inputs in both models
    before, after = (next(iter(weights(model).values())) for model in (plain, refitted))
    assert torch.equal(before == 0, after == 0)
    assert not torch.equal(before, after)
    assert distance_to_dense(model, refitted) < distance_to_dense(model, plain)


def distance_to_dense(dense: torch.nn.Module, model: torch.nn.Module) -> float:
    """Return the squared distance of the last hidden states from those of the dense model."""
    pairs = [
        [list(replay.hidden_states(each, batch))[-1][0] for each in (dense, model)]
        for batch in tiny.calibration()
    ]
    return sum(float((x - y).square().sum()) for x, y in pairs)


@pytest.mark.parametrize(
    "off", ["adaptive_hessian", "adaptive_weights", "recollect", "bias", "refit_head"]
)
def test_each_component_of_akr_can_be_disabled(off: str) -> None:
    full, without = (
        pruned("akr", tiny.model(), sparsity=0.8, **options) for options in ({}, {off: False})
    )
    assert any(
        not torch.equal(old, new)
        for old, new in zip(full.parameters(), without.parameters(), strict=True)
    )


def test_akr_without_its_components_is_sparsegpt() -> None:
    bare = {
        "adaptive_weights": False,
        "bias": False,
        "refit_head": False,
        "refit_steps": 0,
        "epsilon": 0.01,
    }
    akr, sparsegpt = pruned("akr", tiny.model(), **bare), pruned("sparsegpt", tiny.model())
    pairs = zip(akr.parameters(), sparsegpt.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_statistics_collected_once_per_block_are_those_of_dense_weights() -> None:
    """Statistics collected once per block do not depend on the pruning of that block.

    Without and with recollection, Q, K and V of the first block are equal, other matrices differ.
    """
    recollected, once = (
        weights(pruned("wanda", tiny.model(), recollect=recollect)) for recollect in (True, False)
    )
    assert all(
        torch.equal(recollected[f"0.{projection}"], once[f"0.{projection}"])
        for projection in ("query", "key", "value")
    )
    assert any(not torch.equal(recollected[key], once[key]) for key in recollected)


@pytest.mark.parametrize("name", ["wanda", "akr"])
def test_allocation_list_sets_the_sparsity_of_each_block(name: str) -> None:
    rows = build(METHODS, name, {"allocation": "0.25, 0.75"}).prune(
        tiny.model(), calibration(), no_report
    )["prune"]
    sparsities = rows.groupby("block")["sparsity"].mean().tolist()
    assert sparsities == pytest.approx([0.25, 0.75])
    assert build(METHODS, name, {"allocation": "0.25, 0.75"}).sparsity == 0.5


def test_allocation_by_error_keeps_the_total_and_differs_between_matrices() -> None:
    model = tiny.model()
    rows = build(METHODS, "sparsegpt", {"sparsity": 0.7, "allocation": "error"}).prune(
        model, calibration(), no_report
    )["prune"]
    removed = sum(int((weight == 0).sum()) for weight in weights(model).values())
    total = sum(weight.numel() for weight in weights(model).values())
    assert removed / total == pytest.approx(0.7, abs=2e-3)
    assert rows["sparsity"].std() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allocation": "lots"}, "write uniform, error, owl, or a sparsity"),
        ({"allocation": "0.5, 1.2"}, "from 0 to 0.99"),
        ({"allocation": "0.5, 0.6, 0.7"}, "lists 3 blocks, but the model has 2"),
    ],
)
def test_invalid_allocations_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(PruneError, match=message):
        pruned("sparsegpt", tiny.model(), **options)


@pytest.mark.parametrize("name", WEIGHTS)
def test_gpu_synchronizations_do_not_grow_with_the_number_of_batches(name: str) -> None:
    """Synchronizations: one per batch, to find its tokens, and a few per group of matrices."""
    counts = []
    for size in (2, 6):
        batches, model = tiny.calibration(batch_size=size), tiny.model()
        with SynchronizationCounter() as synchronizations:
            build(METHODS, name, {"sparsity": 0.5}).prune(model, batches, no_report)
        counts.append(synchronizations.total - synchronizations.counts["nonzero.default"])
        assert synchronizations.counts["nonzero.default"] <= 2 * len(batches)
    groups = sum(len(block.groups) for block in replay.blocks(tiny.model()))
    assert counts[0] == counts[1] <= 7 * groups


def test_refit_of_a_head_with_constant_inputs_keeps_its_weights() -> None:
    """Centered statistics are then rounding errors, to be ignored; the bias corrects the mean."""
    linear, constant, x = torch.nn.Linear(8, 2), torch.randn(8), torch.randn(20, 8)
    before, dense_mean = linear.weight.detach().clone(), linear(x).mean(0)
    with torch.no_grad():
        AKR()._refit(linear, x, constant.repeat(20, 1) * (1 + 1e-7 * torch.randn(20, 1)))
        torch.testing.assert_close(linear.weight, before)
        torch.testing.assert_close(linear(constant), dense_mean)


# Exact small cases


def inputs_and_weight(rows: int = 12, columns: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return correlated inputs (200, columns) and a weight (rows, columns)."""
    torch.manual_seed(0)
    inputs = torch.randn(200, columns) @ torch.randn(columns, columns) / columns**0.5 + 0.5
    return inputs, torch.randn(rows, columns)


def stats_of(x: torch.Tensor) -> InputStatistics:
    """Return the statistics of inputs (tokens, width)."""
    return InputStatistics(x.T @ x, total=x.sum(0), tokens=len(x), examples=20)


def test_ria_scores_weights_relative_to_row_and_column() -> None:
    weight = torch.tensor([[4.0, -1.0], [2.0, 0.5]])
    # relative to row and column sums: 4/5 + 4/6, 1/5 + 1/1.5, 2/2.5 + 2/6, 0.5/2.5 + 0.5/1.5
    # = 1.47, 0.87, 1.13, 0.53; times the square roots of the input norms, 1 and 2:
    # 1.47, 1.73, 1.13, 1.07
    bias, stats = torch.zeros(2), InputStatistics(torch.tensor([1.0, 16.0]))
    for sparsity, expected in (
        (0.25, [[4.0, -1.0], [2.0, 0.0]]),
        (0.5, [[4.0, -1.0], [0.0, 0.0]]),
    ):
        method = build(METHODS, "ria", {"sparsity": sparsity})
        assert method.solve(weight, bias, stats).weight.tolist() == expected
    without_inputs = build(METHODS, "ria", {"sparsity": 0.5, "power": 0.0}).solve(
        weight, bias, stats
    )
    assert without_inputs.weight.tolist() == [[4.0, 0.0], [2.0, 0.0]]


def test_dsnot_exchanges_reduce_the_mean_error_and_keep_the_count() -> None:
    # one row: the pruned inputs sum to +5; the 4 is restored, and of the two negative inputs the
    # one with the lower score is pruned
    contributions = torch.tensor([[4.0, 1.0, -1.0, -2.0, 3.0]])
    is_pruned = torch.tensor([[True, True, False, False, False]])
    scores = torch.tensor([[1.0, 1.0, 9.0, 8.0, 7.0]])
    variance, nothing_pruned = torch.ones(5), torch.zeros_like(is_pruned)
    assert exchange(
        is_pruned, scores, contributions, variance=variance, cycles=1, threshold=0.1
    ).tolist() == [[False, True, False, True, False]]
    assert (
        exchange(
            is_pruned, scores, contributions, variance=variance, cycles=50, threshold=5.0
        ).tolist()
        == is_pruned.tolist()
    ), "the error is below the threshold"
    assert (
        exchange(
            nothing_pruned, scores, contributions, variance=variance, cycles=50, threshold=0.1
        ).tolist()
        == nothing_pruned.tolist()
    ), "nothing is pruned"
    assert exchange(
        is_pruned,
        scores,
        contributions,
        variance=torch.tensor([9.0, 1.0, 1.0, 1.0, 1.0]),
        cycles=1,
        threshold=0.1,
    )[0, 0], "an input of high variance has a smaller weight"
    x, weight = inputs_and_weight()
    results = (
        build(METHODS, name, {"sparsity": 0.5}).solve(weight, torch.zeros(12), stats_of(x))
        for name in ("wanda", "dsnot")
    )
    wanda, dsnot = (each.weight for each in results)
    assert torch.equal((wanda == 0).sum(1), (dsnot == 0).sum(1))
    error = lambda fitted: (x.mean(0) @ (weight - fitted).T).abs().mean()  # noqa: E731
    assert error(dsnot) < 0.7 * error(wanda)


def test_second_order_solvers_have_a_lower_output_error() -> None:
    x, weight = inputs_and_weight()
    error = {}
    stats = stats_of(x)
    pruned_weights = {
        name: build(METHODS, name, {"sparsity": 0.6}).fit(weight, torch.zeros(12), stats).weight
        for name in ("wanda", "sparsegpt", "alps")
    }
    inverse = torch.cholesky_inverse(stats.damped(0.01)[1])
    pruned_weights["exact_obs"] = exact_obs(weight, inverse, int(0.6 * weight.shape[1]))
    for name, result in pruned_weights.items():
        assert abs(float((result == 0).float().mean()) - 0.6) < 0.02, name
        error[name] = float((x @ (weight - result).T).square().sum())
    assert (
        error["alps"] < error["sparsegpt"] < error["wanda"]
        and error["exact_obs"] < error["sparsegpt"]
    ), error


def test_owl_prunes_blocks_with_outliers_less_and_keeps_the_mean() -> None:
    assert by_outliers([0.0, 0.1, 0.2], 0.7) == pytest.approx([0.78, 0.70, 0.62])
    assert by_outliers([0.1, 0.1], 0.7) == [0.7, 0.7]
    without_outlier = torch.ones(2, 10)
    assert outliers([(without_outlier, torch.ones(10))]) == 0.0
    with_outlier = without_outlier.clone()
    with_outlier[0, 0] = 100.0  # above 5 times the mean of 5.95
    assert outliers([(with_outlier, torch.ones(10))]) == pytest.approx(1 / 20)
    method = build(METHODS, "wanda", {"sparsity": 0.5, "allocation": "owl"})
    rows = method.prune(tiny.model(), calibration(), no_report)["prune"]
    sparsities = rows.groupby("block")["sparsity"].mean()
    # counts of a row are rounded down, and rows here are short
    assert sparsities.mean() == pytest.approx(0.5, abs=0.03)
    assert sparsities.max() - sparsities.min() == pytest.approx(0.16, abs=0.06)
