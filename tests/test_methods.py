"""One contract for all pruning methods, and the exact cases of AKR."""

import copy
import json

import pytest
import tiny
import torch
from test_seeds import assert_declared

from benchmarks.gpu.waits import Waits
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
UNITS = [
    name for name, kind in METHODS.items() if issubclass(kind, UnitMethod)
]  # test_structured.py has more of these
WEIGHTS = [name for name in METHODS if name not in UNITS]


def calibration(family: str = "bert") -> list[dict[str, torch.Tensor]]:
    """The tiny sentences with labels, which some methods need."""
    return [
        batch | {"labels": torch.arange(len(batch["input_ids"])) % 2}
        for batch in tiny.calibration(family)
    ]


def pruned(name: str, model: torch.nn.Module, **options) -> torch.nn.Module:
    model = copy.deepcopy(model)
    tables = build(METHODS, name, options).prune(
        model, calibration(model.config.model_type), no_report
    )
    assert_declared(tables)
    return model


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"{block}.{part}": linear.weight for block, part, linear in replay.linears(model)}


@pytest.mark.parametrize("sparsity", [0.3, 0.7])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", WEIGHTS)
def test_reaches_the_sparsity_asked_for_and_stays_finite(
    name: str, family: str, sparsity: float
) -> None:
    model = pruned(name, tiny.model(family), sparsity=sparsity)
    found = [row["sparsity"] for row in replay.sparsity_by_projection(model)]
    if name == "akr_plus":  # which shares the total out among the matrices
        every = torch.cat([weight.flatten() for weight in weights(model).values()])
        found = [float((every == 0).float().mean())]
    # rows round down: of 32 columns that is at most 1/32
    assert all(sparsity - 1 / 32 <= share <= sparsity + 1e-6 for share in found)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "1:4", "16:32"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_patterns_hold_in_every_group(name: str, pattern: str) -> None:
    keep, group = map(int, pattern.split(":"))
    for weight in weights(pruned(name, tiny.model(), pattern=pattern)).values():
        assert ((weight != 0).unflatten(-1, (-1, group)).sum(-1) == keep).all()


@pytest.mark.parametrize("name", METHODS)
def test_touches_nothing_else_and_leaves_no_trace(name: str) -> None:
    model = tiny.model()
    options = {"refit_head": False, "bias": False} if name in ("akr", "akr_plus") else {}
    after = pruned(name, model, **options)
    linears = [linear for _, _, linear in replay.linears(after)]
    # with a whole unit goes its bias
    allowed = {id(linear.weight) for linear in linears} | (
        {id(linear.bias) for linear in linears} if name in UNITS else set()
    )
    for (key, old), new in zip(model.named_parameters(), after.parameters(), strict=True):
        assert old.shape == new.shape
        if id(new) not in allowed:
            assert torch.equal(old, new), key
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in after.modules())


@pytest.mark.parametrize("name", METHODS)
def test_same_data_same_weights(name: str) -> None:
    one, two = (weights(pruned(name, tiny.model())) for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", METHODS)
def test_sparsity_zero_changes_nothing(name: str) -> None:
    model = tiny.model()
    for old, new in zip(
        model.parameters(), pruned(name, model, sparsity=0.0).parameters(), strict=True
    ):
        torch.testing.assert_close(old, new, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("name", METHODS)
def test_reports_rise_to_one_and_a_cancelling_report_stops_it(name: str) -> None:
    seen: list[float] = []
    rows = build(METHODS, name).prune(
        tiny.model(), calibration(), lambda progress, _: seen.append(progress)
    )["prune"]
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert (
        list(rows.columns) == ["block", "part", "sparsity", "damping", "seconds"]
        and len(rows) == 12
    )

    def stop(progress: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        build(METHODS, name).prune(tiny.model(), calibration(), stop)


@pytest.mark.parametrize("name", METHODS)
def test_options_survive_json_and_refuse_nonsense(name: str) -> None:
    method = build(METHODS, name, {"sparsity": 0.6})
    assert build(METHODS, name, json.loads(json.dumps(method.to_dict()))) == method
    assert method.title and method.summary and method.paper and "60%" in method.label
    assert all(spec["help"] for spec in option_specs(METHODS[name]))
    for options, words in (
        ({"sparsity": 3}, "between 0.0 and 0.99"),
        ({"sparsity": float("nan")}, "between"),
        ({"sparsity": "lots"}, "must be a number"),
        ({"sparsty": 0.5}, "Did you mean 'sparsity'"),
        *([({"pattern": "4:2"}, "N:M with 0 < N < M")] if name in WEIGHTS else []),
    ):
        with pytest.raises(PruneError, match=words):
            build(METHODS, name, options)


def test_a_wrong_name_suggests_the_right_one() -> None:
    with pytest.raises(PruneError, match="Did you mean 'sparsegpt'"):
        build(METHODS, "sparsgpt")


def test_global_magnitude_meets_the_total_not_each_matrix() -> None:
    found = pruned("magnitude", tiny.model(), sparsity=0.5, scope="global")
    every = torch.cat([weight.flatten() for weight in weights(found).values()])
    assert abs(float((every == 0).float().mean()) - 0.5) < 1e-3
    with pytest.raises(PruneError, match="cannot be global"):
        build(METHODS, "magnitude", {"scope": "global", "pattern": "2:4"})


def test_akr_exact_removes_the_requested_number_of_weights_in_each_row() -> None:
    for weight in weights(pruned("akr", tiny.model(), sparsity=0.7, solver="exact")).values():
        assert set((weight == 0).sum(1).tolist()) == {int(weight.shape[1] * 0.7)}


@pytest.mark.parametrize("solver", ["blocked", "exact", "admm"])
def test_akr_without_sparsity_is_the_identity(solver: str) -> None:
    """Nothing is inherited and nothing removed, so every fit returns the weights it started
    from.
    """
    model = tiny.model()
    after = pruned("akr", model, sparsity=0.0, solver=solver)
    with torch.no_grad():
        for batch in tiny.calibration():
            torch.testing.assert_close(
                after(**batch).logits, model(**batch).logits, atol=1e-4, rtol=1e-4
            )


def test_akr_inherits_less_error_than_sparsegpt() -> None:
    """The point of the method: outputs of the whole encoder stay nearer to the dense model's."""
    model = tiny.model()
    far = {
        name: far_from(model, pruned(name, model, sparsity=0.5)) for name in ("sparsegpt", "akr")
    }
    assert far["akr"] < far["sparsegpt"]


def test_akr_makes_up_for_what_the_residual_lacks() -> None:
    """Where the missing part is a linear map of the layer's own input, weights and bias take it
    in whole.
    """
    dice = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=dice, dtype=torch.float64)  # noqa: E731
    x, weight, lack, offset = draw(500, 8), draw(6, 8), draw(6, 8), draw(6)
    gap = x @ lack.T + offset
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
    torch.testing.assert_close(fitted, weight + lack)
    torch.testing.assert_close(
        fitted_bias(weight, fitted, torch.zeros(6, dtype=torch.float64), centered=stats), offset
    )


def test_akr_with_the_residual_ends_nearer_to_the_dense_model() -> None:
    model = tiny.model()
    batch = tiny.calibration()[0]
    *_, (dense, _) = replay.hidden_states(model, batch)
    far = {}
    for residual in ("on", "off"):
        *_, (after, _) = replay.hidden_states(
            pruned("akr", model, sparsity=0.7, residual=residual), batch
        )
        far[residual] = (after - dense).norm()
    assert far["on"] < far["off"]
    modes = [
        AKR(sparsity=0.7),
        AKR(sparsity=0.8),
        AKR(pattern="2:4"),
        AKR(pattern="2:4", residual="off"),
    ]
    assert ["carry" in method.needs for method in modes] == [False, True, True, False]


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_the_refit_keeps_the_mask_and_comes_nearer_to_the_dense_outputs(name: str) -> None:
    model = tiny.model()
    plain, refitted = (
        pruned(name, model, sparsity=0.7),
        pruned(name, model, sparsity=0.7, refit_steps=20),
    )
    first = [
        next(iter(weights(each).values())) for each in (plain, refitted)
    ]  # the first matrix sees the same inputs in both
    assert torch.equal(first[0] == 0, first[1] == 0) and not torch.equal(*first)
    assert far_from(model, refitted) < far_from(model, plain)


def far_from(dense: torch.nn.Module, model: torch.nn.Module) -> float:
    """How far the last hidden states are from the dense model's."""
    pairs = [
        [list(replay.hidden_states(each, batch))[-1][0] for each in (dense, model)]
        for batch in tiny.calibration()
    ]
    return sum(float((x - y).square().sum()) for x, y in pairs)


@pytest.mark.parametrize(
    "off", ["adaptive_hessian", "adaptive_weights", "recollect", "bias", "refit_head"]
)
def test_each_part_of_akr_can_be_switched_off(off: str) -> None:
    full, without = (
        pruned("akr", tiny.model(), sparsity=0.8, **options) for options in ({}, {off: False})
    )
    assert any(
        not torch.equal(old, new)
        for old, new in zip(full.parameters(), without.parameters(), strict=True)
    )


def test_akr_without_its_parts_is_sparsegpt() -> None:
    bare = {
        "adaptive_weights": False,
        "bias": False,
        "refit_head": False,
        "refit_steps": 0,
        "epsilon": 0.01,
    }
    ours, theirs = pruned("akr", tiny.model(), **bare), pruned("sparsegpt", tiny.model())
    assert all(
        torch.equal(one, other)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def test_statistics_taken_once_for_a_block_are_those_of_its_dense_weights() -> None:
    """So nothing of a block knows of its own pruning: Q, K and V of the first block are the same
    in both, others are not.
    """
    anew, once = (
        weights(pruned("wanda", tiny.model(), recollect=recollect)) for recollect in (True, False)
    )
    assert all(
        torch.equal(anew[f"0.{part}"], once[f"0.{part}"]) for part in ("query", "key", "value")
    )
    assert any(not torch.equal(anew[key], once[key]) for key in anew)


@pytest.mark.parametrize("name", ["wanda", "akr"])
def test_a_list_gives_every_block_its_own_sparsity(name: str) -> None:
    rows = build(METHODS, name, {"allocation": "0.25, 0.75"}).prune(
        tiny.model(), calibration(), no_report
    )["prune"]
    found = rows.groupby("block")["sparsity"].mean().tolist()
    assert (
        found == pytest.approx([0.25, 0.75])
        and build(METHODS, name, {"allocation": "0.25, 0.75"}).sparsity == 0.5
    )


def test_allocation_by_error_keeps_the_total_and_differs_between_matrices() -> None:
    model = tiny.model()
    rows = build(METHODS, "sparsegpt", {"sparsity": 0.7, "allocation": "error"}).prune(
        model, calibration(), no_report
    )["prune"]
    removed = sum(int((weight == 0).sum()) for weight in weights(model).values())
    total = sum(weight.numel() for weight in weights(model).values())
    assert removed / total == pytest.approx(0.7, abs=2e-3) and rows["sparsity"].std() > 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"allocation": "lots"}, "write uniform, error, owl, or a sparsity"),
        ({"allocation": "0.5, 1.2"}, "from 0 to 0.99"),
        ({"allocation": "0.5, 0.6, 0.7"}, "lists 3 blocks, but the model has 2"),
    ],
)
def test_allocations_that_cannot_be_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(PruneError, match=words):
        pruned("sparsegpt", tiny.model(), **options)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_gpu_would_rarely_wait_for_its_host(name: str) -> None:
    """Never per batch (but to find its real tokens), never per column, and no more than a few
    times a group of matrices.
    """
    counts = []
    for size in (2, 6):
        batches, model = tiny.calibration(batch_size=size), tiny.model()
        with Waits() as waits:
            build(METHODS, name, {"sparsity": 0.5}).prune(model, batches, no_report)
        counts.append(waits.total - waits.counts["nonzero.default"])
        assert waits.counts["nonzero.default"] <= 2 * len(batches)
    groups = len(replay.blocks(tiny.model())) * len(families.GROUPS)
    assert counts[0] == counts[1] <= 7 * groups


def test_a_head_that_hears_the_same_of_every_sentence_keeps_its_weights() -> None:
    """Its inputs' centered statistics are rounding, which no fit may take for knowledge; the
    bias answers for the mean.
    """
    linear, alike, x = torch.nn.Linear(8, 2), torch.randn(8), torch.randn(20, 8)
    before, said = linear.weight.detach().clone(), linear(x).mean(0)
    with torch.no_grad():
        AKR()._refit(linear, x, alike.repeat(20, 1) * (1 + 1e-7 * torch.randn(20, 1)))
        torch.testing.assert_close(linear.weight, before)
        torch.testing.assert_close(linear(alike), said)


# -- what the methods are measured against: exact small cases
# ------------------------------------------------------


def inputs_and_weight(rows: int = 12, columns: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs that hang together, (200, columns), and a weight."""
    torch.manual_seed(0)
    return torch.randn(200, columns) @ torch.randn(
        columns, columns
    ) / columns**0.5 + 0.5, torch.randn(rows, columns)


def stats_of(x: torch.Tensor) -> InputStatistics:
    return InputStatistics(x.T @ x, total=x.sum(0), tokens=len(x), sentences=20)


def test_ria_counts_a_weight_beside_its_row_and_its_column() -> None:
    weight = torch.tensor([[4.0, -1.0], [2.0, 0.5]])
    # by row and column: 4/5 + 4/6, 1/5 + 1/1.5, 2/2.5 + 2/6, 0.5/2.5 + 0.5/1.5 = 1.47, 0.87, 1.13,
    # 0.53; roots of the inputs: 1, 2
    for share, left in (
        (0.25, [[4.0, -1.0], [2.0, 0.0]]),
        (0.5, [[4.0, -1.0], [0.0, 0.0]]),
    ):  # 1.47, 1.73, 1.13, 1.07 with the inputs
        method = build(METHODS, "ria", {"sparsity": share})
        assert (
            method.solve(
                weight, torch.zeros(2), InputStatistics(torch.tensor([1.0, 16.0]))
            ).weight.tolist()
            == left
        )
    bare = build(METHODS, "ria", {"sparsity": 0.5, "power": 0.0}).solve(
        weight, torch.zeros(2), InputStatistics(torch.tensor([1.0, 16.0]))
    )
    assert bare.weight.tolist() == [[4.0, 0.0], [2.0, 0.0]]


def test_dsnot_exchanges_what_lowers_the_mean_error_and_keeps_the_count() -> None:
    # one row: what is gone sums to +5; the 4 comes back, and of the two negative ones the one of
    # least score goes
    expected = torch.tensor([[4.0, 1.0, -1.0, -2.0, 3.0]])
    gone = torch.tensor([[True, True, False, False, False]])
    scores = torch.tensor([[1.0, 1.0, 9.0, 8.0, 7.0]])
    even, none = torch.ones(5), torch.zeros_like(gone)
    assert exchange(gone, scores, expected, variance=even, cycles=1, threshold=0.1).tolist() == [
        [False, True, False, True, False]
    ]
    assert (
        exchange(gone, scores, expected, variance=even, cycles=50, threshold=5.0).tolist()
        == gone.tolist()
    ), "small enough as it is"
    assert (
        exchange(none, scores, expected, variance=even, cycles=50, threshold=0.1).tolist()
        == none.tolist()
    ), "nothing is gone"
    assert exchange(
        gone,
        scores,
        expected,
        variance=torch.tensor([9.0, 1.0, 1.0, 1.0, 1.0]),
        cycles=1,
        threshold=0.1,
    )[0, 0], "a restless input counts for less"
    x, weight = inputs_and_weight()
    found = (
        build(METHODS, name, {"sparsity": 0.5}).solve(weight, torch.zeros(12), stats_of(x))
        for name in ("wanda", "dsnot")
    )
    plain, better = (each.weight for each in found)
    assert torch.equal((plain == 0).sum(1), (better == 0).sum(1))
    error = lambda found: (x.mean(0) @ (weight - found).T).abs().mean()  # noqa: E731
    assert error(better) < 0.7 * error(plain)


def test_careful_solvers_lose_less_of_a_layers_outputs() -> None:
    x, weight = inputs_and_weight()
    lost = {}
    stats = stats_of(x)
    pruned_weights = {
        name: build(METHODS, name, {"sparsity": 0.6}).fit(weight, torch.zeros(12), stats).weight
        for name in ("wanda", "sparsegpt", "alps")
    }
    inverse = torch.cholesky_inverse(stats.damped(0.01)[1])
    pruned_weights["exact_obs"] = exact_obs(weight, inverse, int(0.6 * weight.shape[1]))
    for name, found in pruned_weights.items():
        assert abs(float((found == 0).float().mean()) - 0.6) < 0.02, name
        lost[name] = float((x @ (weight - found).T).square().sum())
    assert (
        lost["alps"] < lost["sparsegpt"] < lost["wanda"] and lost["exact_obs"] < lost["sparsegpt"]
    ), lost


def test_owl_spares_blocks_with_outliers_and_keeps_the_mean() -> None:
    assert by_outliers([0.0, 0.1, 0.2], 0.7) == pytest.approx([0.78, 0.70, 0.62])
    assert by_outliers([0.1, 0.1], 0.7) == [0.7, 0.7]
    plain = torch.ones(2, 10)
    assert outliers([(plain, torch.ones(10))]) == 0.0
    one = plain.clone()
    one[0, 0] = 100.0  # against a mean of 5.95 times 5
    assert outliers([(one, torch.ones(10))]) == pytest.approx(1 / 20)
    found = build(METHODS, "wanda", {"sparsity": 0.5, "allocation": "owl"})
    rows = found.prune(tiny.model(), calibration(), no_report)["prune"]
    shares = rows.groupby("block")["sparsity"].mean()
    # counts of a row are rounded down, and rows here are short
    assert shares.mean() == pytest.approx(
        0.5, abs=0.03
    ) and shares.max() - shares.min() == pytest.approx(0.16, abs=0.06)
