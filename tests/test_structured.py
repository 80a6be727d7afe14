"""Structured pruning under a FLOPs budget: known results, every method, family and task type."""

import copy
from functools import partial

import pytest
import tiny
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prune_core import PruneError
from prune_core.methods import METHODS
from prune_core.methods.kprune import LAMBDA_FACTORS, STRIDE, KPrune
from prune_core.methods.kwon import Kwon, least_fisher, rearranged, task_loss
from prune_core.models import families, replay
from prune_core.models.replay import tokens_read
from prune_core.models.units import execution_order, flops, mask_gradients, sublayers
from prune_core.plugins import build, no_report
from prune_core.pruning.unitwise import SLACK, Ranking, UnitMethod, search
from prune_core.tasks import TASK_TYPES
from prune_core.tasks.base import MASKED_LOGIT

NAMES = [name for name, kind in METHODS.items() if issubclass(kind, UnitMethod)]
FAMILIES = list(families.FAMILIES)


def labelled(model: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
    """Return the tiny examples in batches, with labels for the model's task type."""
    batches = []
    for batch in tiny.calibration(model.config.model_type):
        plain = {key: value for key, value in batch.items() if key != "labels"}
        ids = batch["input_ids"]
        alternating = torch.arange(len(batch["input_ids"])) % 2
        labels = {
            "classification": alternating,
            "regression": alternating.float(),
            "span": torch.stack([alternating, alternating + 1], 1),
            "multilabel": torch.stack([alternating, 1 - alternating], 1).float(),
            "token": (torch.arange(ids.numel()) % 3).view_as(ids).masked_fill(ids % 4 == 0, -100),
        }
        kind = replay.task_type_of(model).name
        batches.append(plain | ({"labels": labels[kind]} if kind in labels else {}))
    return batches


def pruned(name: str, model: torch.nn.Module, **options):
    """Return (pruned copy, tables of the method)."""
    model = copy.deepcopy(model)
    torch.manual_seed(0)
    return model, build(METHODS, name, options).prune(model, labelled(model), no_report)


def model_logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the model's own logits, start and end stacked for spans."""
    out = model(**{key: value for key, value in batch.items() if key != "labels"})
    return (
        torch.stack([out.start_logits, out.end_logits], 1)
        if hasattr(out, "start_logits")
        else out.logits
    )


# -- units
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_flops_match_a_counted_forward_pass(family: str) -> None:
    model = tiny.model(family)
    x, padding = torch.randn(17, 32), replay.Padding.of(torch.ones(1, 17, dtype=torch.bool))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        for block in replay.blocks(model):
            x = block.run_pass(x, padding)
    assert flops(model, 17) == (counter.get_total_flops(), counter.get_total_flops())


@pytest.mark.parametrize("kind", [name for name, each in TASK_TYPES.items() if each.has_loss])
@pytest.mark.parametrize("family", FAMILIES)
def test_mask_gradients_equal_autograd(family: str, kind: str) -> None:
    """Compared with a mask of ones on the inputs of the output projections in transformers."""
    model = tiny.model(family, kind=kind)
    subs = sublayers(model)
    for batch in labelled(model):
        with torch.no_grad():
            x, padding = replay.embed(model, batch)
        loss = partial(task_loss, model, batch["labels"])
        features: list[torch.Tensor] = []
        gradients = mask_gradients(
            subs,
            padding.unpack(x),
            padding,
            loss=loss,
            reads=tokens_read(model),
            seen=lambda _, a, seen=features: seen.append(a),
        )
        for sub, a in zip([subs[place] for place in execution_order(subs)], features, strict=True):
            torch.testing.assert_close(
                padding.pack(a), sub.features(x, padding), atol=1e-4, rtol=1e-4
            )
            x = sub.norm(sub.close(padding.pack(a), x))
        masks = [torch.ones(sub.output.in_features, requires_grad=True) for sub in subs]
        multiply = lambda mask: lambda _, inputs: (inputs[0] * mask,)  # noqa: E731
        hooks = [
            sub.output.register_forward_pre_hook(multiply(each))
            for sub, each in zip(subs, masks, strict=True)
        ]
        out, labels = model_logits(model, batch), batch["labels"]
        if kind == "regression":
            loss = (out.squeeze(1) - labels).square().sum()
        elif kind == "classification":
            loss = torch.nn.functional.cross_entropy(out, labels, reduction="sum")
        elif kind == "multilabel":
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                out, labels, reduction="sum"
            )
        elif kind == "token":
            token_labels = labels.masked_fill(~padding.mask, -100)
            loss = torch.nn.functional.cross_entropy(
                out.flatten(0, 1), token_labels.flatten(), reduction="sum"
            )
        else:
            filled = out.masked_fill(~padding.mask[:, None], MASKED_LOGIT)
            loss = (
                sum(
                    torch.nn.functional.cross_entropy(
                        filled[:, end], labels[:, end], reduction="sum"
                    )
                    for end in (0, 1)
                )
                / 2
            )
        for gradient, expected in zip(gradients, torch.autograd.grad(loss, masks), strict=True):
            torch.testing.assert_close(gradient.sum(0), expected, atol=1e-4, rtol=1e-3)
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_a_mask_equals_multiplying_by_it(family: str) -> None:
    """A dead unit's columns are zero; setting its rows to zero as well changes no logit."""
    model = tiny.model(family)
    gated, folded = copy.deepcopy(model), copy.deepcopy(model)
    rng = torch.Generator().manual_seed(1)
    for gated_sublayer, folded_sublayer in zip(sublayers(gated), sublayers(folded), strict=True):
        kept = torch.rand(gated_sublayer.units, generator=rng) < 0.5
        columns = gated_sublayer.columns(kept)
        gated_sublayer.output.register_forward_pre_hook(
            lambda _, inputs, mask=columns: (inputs[0] * mask,)
        )
        folded_sublayer.fold(kept)
        assert torch.equal(
            (folded_sublayer.output.weight != 0).any(0), folded_sublayer.columns(kept)
        )
        rows = folded_sublayer.columns(kept).repeat(folded_sublayer.rows_per_column)
        assert all(
            torch.equal((linear.weight != 0).any(1), rows)
            for linear in folded_sublayer.input_linears.values()
        )
    with torch.no_grad():
        for batch in tiny.calibration(family):
            torch.testing.assert_close(model_logits(gated, batch), model_logits(folded, batch))


# -- selection
# ----------------------------------------------------------------------------------------------


def rankings(seed: int = 0) -> list[Ranking]:
    """Return rankings of the heads and neurons of two layers."""
    rng = torch.Generator().manual_seed(seed)
    ranked = []
    for units, cost in ((4, 7.0), (20, 2.0), (4, 7.0), (20, 2.0)):
        scores, order = torch.rand(units, generator=rng).sort(descending=True)
        ranked.append(Ranking(order, scores, cost))
    return ranked


@pytest.mark.parametrize("budget", [0.0, 6.9, 30.0, 68.0, 135.9, 136.0])
def test_search_finds_the_lowest_threshold_within_the_budget(budget: float) -> None:
    """Compared with the paper's scan, which recounts the cost for every threshold."""
    for seed in range(5):
        ranked = rankings(seed)
        scores = torch.cat([ranking.scores for ranking in ranked]).double()
        costs = torch.tensor([ranking.cost for ranking in ranked for _ in ranking.scores])
        fitting = [
            threshold for threshold in scores.tolist() if costs[scores >= threshold].sum() <= budget
        ]
        selection = search(ranked, budget)
        assert selection.threshold == min(fitting, default=torch.inf)
        for ranking, groups in zip(ranked, selection.groups, strict=True):
            above = int((ranking.scores.double() >= selection.threshold).sum())
            assert groups == above or (
                ranking.cost == 2.0 and groups > above
            )  # only neurons use up the rest
        spent = sum(
            groups * ranking.cost for ranking, groups in zip(ranked, selection.groups, strict=True)
        )
        assert spent <= budget and (budget - spent < 2 or selection.groups[1::2] == [20, 20])


def test_search_with_unequal_costs_stays_within_the_budget() -> None:
    """A sublayer's first head may cost more than the next one: actual costs are summed."""
    rng = torch.Generator().manual_seed(0)
    for budget in (3.0, 9.0, 20.0, 45.0, 70.0):
        ranked = [
            ranking._replace(cost=torch.rand(len(ranking.scores), generator=rng) * 8)
            for ranking in rankings()
        ]
        spent = sum(
            float(ranking.cost[:groups].sum())
            for ranking, groups in zip(ranked, search(ranked, budget).groups, strict=True)
        )
        assert spent <= budget * SLACK


@pytest.mark.parametrize("budget", [0.0, 9.0, 30.0, 68.0, 136.0])
def test_kwon_search_is_optimal_over_all_head_counts(budget: float) -> None:
    for seed in range(5):
        ranked = rankings(seed)
        heads, neurons = (
            torch.cat([ranking.scores for ranking in half]).sort(descending=True).values
            for half in (ranked[::2], ranked[1::2])
        )
        losses = []
        for count in range(9):
            if count * 7 <= budget:
                fitting = min(40, int((budget - count * 7) // 2))
                losses.append(float(heads[count:].sum() + neurons[fitting:].sum()))
        groups = least_fisher(ranked, budget)
        loss = sum(
            float(ranking.scores[n:].sum()) for ranking, n in zip(ranked, groups, strict=True)
        )
        assert loss == pytest.approx(min(losses))
        assert sum(n * ranking.cost for ranking, n in zip(ranked, groups, strict=True)) <= budget


def test_rearranging_lowers_the_fisher_loss_and_keeps_the_count() -> None:
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(40, 12, generator=rng)
    root[:, 7] = -root[:, 6]  # these two cancel out: removing both loses nothing
    fisher = root.T @ root
    best, first = (
        torch.tensor([i not in removed for i in range(12)]) for removed in ((6, 7), (5, 6))
    )
    assert torch.equal(rearranged(fisher, best), best)
    assert torch.equal(rearranged(fisher, first), best)
    largest = fisher.diag() > fisher.diag().median()
    assert torch.equal(
        rearranged(fisher.diag().diag(), largest), largest
    )  # without interactions, the result of the search is kept


# -- tuning
# ----------------------------------------------------------------------------------------------


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features A (tokens, k) of the kept units, targets B (tokens, d), columns W (d, k)."""
    rng = torch.Generator().manual_seed(0)
    A, B, W = (
        torch.randn(*shape, generator=rng, dtype=torch.float64)
        for shape in ((60, 8), (60, 5), (5, 8))
    )
    return A, B, W


def test_kprune_refit_is_least_squares() -> None:
    A, B, W = problem()
    refitted, damping = KPrune(damping=0.0).refit(W, A.T @ A, A.T @ B)
    torch.testing.assert_close(refitted, torch.linalg.lstsq(A, B).solution.T)
    assert damping == 0


@pytest.mark.parametrize("width", [1, 4])
def test_kwon_rescaling_is_least_squares(width: int) -> None:
    A, B, W = problem()
    contributions = [
        A[:, i : i + width] @ W[:, i : i + width].T for i in range(0, 8, width)
    ]  # contribution of each unit, (tokens, d)
    factors = torch.linalg.lstsq(
        torch.stack([contribution.flatten() for contribution in contributions], 1),
        B.flatten()[:, None],
    ).solution
    rescaled, _ = Kwon(damping=0.0).rescale(W, A.T @ A, A.T @ B, width=width)
    torch.testing.assert_close(rescaled, W * factors.flatten().repeat_interleave(width))


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_tuning_is_the_identity_if_nothing_was_removed(damping: float) -> None:
    """In the first sublayer with all units kept: the ridge pulls towards the current columns."""
    A, _, W = problem()
    B = A @ W.T
    for tuned, _ in (
        KPrune(damping=damping).refit(W, A.T @ A, A.T @ B),
        Kwon(damping=damping).rescale(W, A.T @ A, A.T @ B, width=1),
    ):
        torch.testing.assert_close(tuned, W)


# -- methods
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *((family, "classification") for family in FAMILIES),
        *(("bert", kind) for kind in TASK_TYPES if kind != "classification"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_flops_are_just_below_the_budget(name: str, family: str, kind: str) -> None:
    if METHODS[name].labelled and not TASK_TYPES[kind].has_loss:
        return  # refused: test_embedding.py
    dense = tiny.model(family, kind=kind)
    for sparsity in (0.35, 0.8):
        model, rows = pruned(name, dense, sparsity=sparsity, length=20)
        alive, total = flops(model, 20)
        ffn = [sub for sub in sublayers(model) if sub.kind == "neuron"]
        all_alive = all(
            (sub.output.weight != 0).any(0).all() for sub in ffn
        )  # then no neuron can use up the rest
        step = total / len(ffn) if name == "block_drop" else ffn[0].cost(20)  # removed together
        lowest = 0 if all_alive else 1 - sparsity - step / total
        assert lowest <= alive / total <= (1 - sparsity) * SLACK
        budget = rows["budget"].iloc[0]
        assert budget.realised == alive / total
        assert budget.allowed == pytest.approx(1 - sparsity)
        assert budget.length == 20
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_unit_table_matches_the_weights(name: str) -> None:
    model, rows = pruned(name, tiny.model())
    table = rows["unit"].set_index(["block", "unit_type"])
    for sub in sublayers(model):
        kept = torch.tensor(table.loc[(sub.index, sub.kind), "kept"].tolist())
        assert torch.equal((sub.output.weight != 0).any(0), sub.columns(kept))
    assert list(rows["unit"].columns) == [
        "block",
        "unit_type",
        "unit",
        "kept",
        "width",
        "predictive",
        "representational",
        "score",
        "threshold",
    ]
    assert len(rows["unit"]) == 2 * (4 + 64) and rows["unit"]["score"].notna().all()


@pytest.mark.parametrize("name", NAMES)
def test_zero_sparsity_changes_no_weight(name: str) -> None:
    model = tiny.model()
    after, rows = pruned(name, model, sparsity=0.0)
    assert all(
        torch.equal(old, new)
        for old, new in zip(model.parameters(), after.parameters(), strict=True)
    )
    assert rows["unit"]["kept"].all() and rows["budget"]["realised"].iloc[0] == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_keeps_a_head_and_a_multiple_of_neurons(name: str) -> None:
    model, rows = pruned(name, tiny.model(), sparsity=0.8, keep_one_head=True, multiple=8)
    kept = rows["unit"].groupby(["block", "unit_type"])["kept"].sum().unstack()
    assert (kept["head"] >= 1).all() and (kept["neuron"] % 8 == 0).all()
    alive, total = flops(model, rows["budget"]["length"].iloc[0])
    assert alive / total <= 0.2
    with pytest.raises(PruneError, match="turn keep_one_head off"):
        pruned(name, tiny.model(), sparsity=0.99, keep_one_head=True)
    with pytest.raises(PruneError, match="must divide the 64 neurons"):
        pruned(name, tiny.model(), multiple=7)


def test_kwon_needs_labels_and_all_methods_need_a_length() -> None:
    plain = [
        {key: value for key, value in batch.items() if key != "labels"}
        for batch in tiny.calibration()
    ]
    with pytest.raises(PruneError, match="need labels"):
        Kwon().prune(tiny.model(), plain, no_report)
    with pytest.raises(PruneError, match="give some, or set length"):
        build(METHODS, "unit_magnitude").prune(tiny.model(), [], no_report)
    build(METHODS, "unit_magnitude", {"length": 25}).prune(tiny.model(), [], no_report)


def test_predictive_knowledge_is_zero_in_the_first_sublayer() -> None:
    """The first sublayer's student equals the teacher; representational: norm of the output."""
    model = tiny.model()
    _, rows = pruned("kprune", model, precision="fp32")
    first = rows["unit"].query("block == 0 and unit_type == 'head'")
    assert (first["predictive"] == 0).all()
    assert (rows["unit"].query("block == 1")["predictive"] > 0).all()
    sub = sublayers(model)[0]
    with torch.no_grad():
        features = torch.cat(
            [sub.features(*replay.embed(model, batch)) for batch in tiny.calibration()]
        )
    expected = (
        (features.square().mean(0) * sub.output.weight.square().mean(0))
        .unflatten(0, (4, 8))
        .mean(1)
    )
    torch.testing.assert_close(torch.tensor(first["representational"].tolist()), expected)


def test_tuning_and_knowledge_reduce_the_distance_to_dense() -> None:
    model = tiny.model()
    distances = {}
    for name, options in (("kprune", {}), ("kprune", {"tune": False}), ("unit_random", {})):
        after, _ = pruned(name, model, sparsity=0.5, **options)
        with torch.no_grad():
            pairs = [
                (list(replay.hidden_states(m, batch))[-1][0] for m in (model, after))
                for batch in tiny.calibration()
            ]
            distances[name, *options] = sum(float((x - y).square().sum()) for x, y in pairs)
    assert distances["kprune",] < distances["kprune", "tune"] < distances["unit_random",]


def test_bf16_gradients_select_nearly_the_same_units() -> None:
    one, two = (
        pruned("kprune", tiny.model(), precision=precision)[1]["unit"]["kept"]
        for precision in ("fp32", "bf16")
    )
    assert (one == two).mean() > 0.9


def test_kprune_is_independent_of_the_batch_size() -> None:
    """The batch size is halved when memory runs out."""
    tables = []
    for size in (2, 5):
        rows = KPrune(precision="fp32", adapt=False, length=20).prune(
            tiny.model(), tiny.calibration(batch_size=size), no_report
        )
        tables.append(rows["unit"])
    assert tables[0]["kept"].equals(tables[1]["kept"])
    for knowledge in ("predictive", "representational"):
        assert tables[0][knowledge].tolist() == pytest.approx(
            tables[1][knowledge].tolist(), rel=1e-3
        )


def test_kprune_picks_the_lambda_with_the_lowest_held_out_divergence() -> None:
    """Compared with a run for every candidate, evaluated on held-out examples."""
    model, batches = tiny.model(), tiny.calibration(batch_size=1)
    with torch.no_grad():
        model.classifier.weight.mul_(
            200
        )  # the random classifier is so insensitive that no candidate would change the selection
    options = {"sparsity": 0.7, "length": 20.0, "precision": "fp32"}
    rows = KPrune(**options).prune(copy.deepcopy(model), batches, no_report)
    divergences = {}
    for candidate in LAMBDA_FACTORS:
        student = copy.deepcopy(model)
        KPrune(**options, adapt=False, lambda_pred=candidate).prune(
            student, batches[::STRIDE], no_report
        )
        with torch.no_grad():
            log_probabilities = [
                [(m(**batch).logits / 2).log_softmax(-1) for m in (student, model)]
                for batch in batches[1::STRIDE]
            ]
        divergences[candidate] = sum(
            float((one.exp() * (one - other)).sum()) for one, other in log_probabilities
        )
    assert len(set(divergences.values())) == len(LAMBDA_FACTORS)
    assert rows["budget"]["lambda_pred"].iloc[0] == min(
        divergences, key=lambda candidate: divergences[candidate]
    )


def test_token_limit_selects_part_of_the_sample() -> None:
    batches = labelled(tiny.model())
    assert len(KPrune(tokens=1)._sample(batches)) == 1 and KPrune()._sample(batches) is batches


# -- baselines
# ----------------------------------------------------------------------------------------------


def idle_units(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in which every other head and neuron has zero output but nonzero inputs."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.classifier.weight.mul_(50)  # so that the predictions depend on the units
        for sub in sublayers(model):
            sub.output.weight.mul_(5)[:, sub.columns(torch.arange(sub.units) % 2 == 1)] = 0
    return model


def divergence_of(model: torch.nn.Module, after: torch.nn.Module) -> float:
    """Return the KL divergence from the model's predictions, summed over the tiny examples."""
    with torch.no_grad():
        pairs = [
            (model_logits(after, batch).log_softmax(-1), model_logits(model, batch).log_softmax(-1))
            for batch in tiny.calibration()
        ]
    return sum(float((one.exp() * (one - two)).sum()) for one, two in pairs)


@pytest.mark.parametrize("name", ["osscar", "ziplm", "kprune", "kprune_plus"])
def test_units_with_zero_output_are_removed_first(name: str) -> None:
    """At exactly half of the FLOPs all of them are removed and the outputs are unchanged."""
    model = idle_units(tiny.model())
    after, rows = pruned(name, model, sparsity=0.5, length=20)
    assert (rows["unit"]["kept"] == (rows["unit"]["unit"] % 2 == 0)).all()
    with torch.no_grad():
        for batch in tiny.calibration():
            torch.testing.assert_close(
                model_logits(after, batch), model_logits(model, batch), atol=1e-3, rtol=1e-3
            )


def test_layer_with_the_least_influence_is_dropped() -> None:
    model = tiny.model()
    with torch.no_grad():
        for projection in ("attention_output", "ffn_out"):
            replay.blocks(model)[0].linears[projection].weight.mul_(1e-3)
            replay.blocks(model)[1].linears[projection].weight.mul_(10)
    by_influence, from_top = (
        pruned("block_drop", model, sparsity=0.5, by=by)[1]["unit"] for by in ("influence", "top")
    )
    assert by_influence.query("kept")["block"].unique().tolist() == [1]
    assert from_top.query("kept")["block"].unique().tolist() == [0]


def test_more_ziplm_tries_reduce_the_divergence() -> None:
    model = idle_units(tiny.model())
    short, long = (
        divergence_of(model, pruned("ziplm", model, sparsity=0.7, tries=tries, length=20)[0])
        for tries in (1, 40)
    )
    assert long < short


def test_joint_unit_selection_reduces_the_divergence() -> None:
    """K-prune keeps both of two identical neurons; joint selection replaces one of them."""
    model = tiny.model()
    with torch.no_grad():
        model.classifier.weight.mul_(50)
        for sub in sublayers(model)[1::2]:
            sub.output.weight.mul_(5)
            for linear in sub.input_linears.values():
                linear.weight[::2], linear.bias[::2] = linear.weight[1::2], linear.bias[1::2]
    alone, together = (
        divergence_of(model, pruned(name, model, sparsity=0.6, length=20)[0])
        for name in ("kprune", "kprune_plus")
    )
    assert together < alone
