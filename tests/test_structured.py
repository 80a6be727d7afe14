"""Heads and neurons under a FLOPs budget: exact small cases with known answers, then every
method, family and kind of head.
"""

import copy
from functools import partial

import pytest
import tiny
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prune_core import PruneError
from prune_core.data.examples import TASK_TYPES
from prune_core.methods import METHODS
from prune_core.methods.kprune import PART, TRIES, KPrune
from prune_core.methods.kwon import Kwon, least_fisher, rearranged, task_loss
from prune_core.models import families, replay
from prune_core.models.replay import tokens_read
from prune_core.models.units import execution_order, flops, mask_gradients, sublayers
from prune_core.plugins import build, no_report
from prune_core.pruning.unitwise import SLACK, Ranking, UnitMethod, search

NAMES = [name for name, kind in METHODS.items() if issubclass(kind, UnitMethod)]
FAMILIES = list(families.FAMILIES)


def labelled(model: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
    """The tiny sentences with labels of the model's kind."""
    found = []
    for batch in tiny.calibration(model.config.model_type):
        plain = {key: value for key, value in batch.items() if key != "labels"}
        ids = batch["input_ids"]
        alternating = torch.arange(len(batch["input_ids"])) % 2
        kinds = {
            "classification": alternating,
            "regression": alternating.float(),
            "span": torch.stack([alternating, alternating + 1], 1),
            "multilabel": torch.stack([alternating, 1 - alternating], 1).float(),
            "token": (torch.arange(ids.numel()) % 3).view_as(ids).masked_fill(ids % 4 == 0, -100),
        }
        found.append(plain | {"labels": kinds[replay.task_type_of(model)]})
    return found


def pruned(name: str, model: torch.nn.Module, **options):
    """(pruned copy, its tables)."""
    model = copy.deepcopy(model)
    torch.manual_seed(0)
    return model, build(METHODS, name, options).prune(model, labelled(model), no_report)


def answers(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """As the model itself gives them."""
    out = model(**{key: value for key, value in batch.items() if key != "labels"})
    return (
        torch.stack([out.start_logits, out.end_logits], 1)
        if hasattr(out, "start_logits")
        else out.logits
    )


# -- units
# ----------------------------------------------------------------------------------------------


def test_flops_are_those_that_a_forward_pass_takes() -> None:
    model = tiny.model()
    x, padding = torch.randn(17, 32), replay.Padding.of(torch.ones(1, 17, dtype=torch.bool))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        for block in replay.blocks(model):
            x = block.run_pass(x, padding)
    assert flops(model, 17) == (counter.get_total_flops(), counter.get_total_flops())


@pytest.mark.parametrize("kind", TASK_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_mask_gradients_are_autograds_own(family: str, kind: str) -> None:
    """Against a mask of ones multiplied onto the output projections' inputs of the Hugging Face
    model.
    """
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
        gate = lambda mask: lambda _, inputs: (inputs[0] * mask,)  # noqa: E731
        hooks = [
            sub.output.register_forward_pre_hook(gate(each))
            for sub, each in zip(subs, masks, strict=True)
        ]
        out, labels = answers(model, batch), batch["labels"]
        if kind == "regression":
            loss = (out.squeeze(1) - labels).square().sum()
        elif kind == "classification":
            loss = torch.nn.functional.cross_entropy(out, labels, reduction="sum")
        elif kind == "multilabel":
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                out, labels, reduction="sum"
            )
        elif kind == "token":
            right = labels.masked_fill(~padding.mask, -100)
            loss = torch.nn.functional.cross_entropy(
                out.flatten(0, 1), right.flatten(), reduction="sum"
            )
        else:
            filled = out.masked_fill(~padding.mask[:, None], replay.MASKED_LOGIT)
            loss = (
                sum(
                    torch.nn.functional.cross_entropy(
                        filled[:, end], labels[:, end], reduction="sum"
                    )
                    for end in (0, 1)
                )
                / 2
            )
        for ours, theirs in zip(gradients, torch.autograd.grad(loss, masks), strict=True):
            torch.testing.assert_close(ours.sum(0), theirs, atol=1e-4, rtol=1e-3)
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_a_mask_is_multiplying_it(family: str) -> None:
    """A dead unit's columns are zero, and that its own rows are zero too changes no logit."""
    model = tiny.model(family)
    gated, folded = copy.deepcopy(model), copy.deepcopy(model)
    dice = torch.Generator().manual_seed(1)
    for one, two in zip(sublayers(gated), sublayers(folded), strict=True):
        kept = torch.rand(one.units, generator=dice) < 0.5
        columns = one.columns(kept)
        one.output.register_forward_pre_hook(lambda _, inputs, mask=columns: (inputs[0] * mask,))
        two.fold(kept)
        assert torch.equal((two.output.weight != 0).any(0), two.columns(kept))
        rows = two.columns(kept).repeat(two.rows_per_column)
        assert all(
            torch.equal((linear.weight != 0).any(1), rows) for linear in two.input_linears.values()
        )
    with torch.no_grad():
        for batch in tiny.calibration(family):
            torch.testing.assert_close(answers(gated, batch), answers(folded, batch))


# -- choosing
# ----------------------------------------------------------------------------------------------


def rankings(seed: int = 0) -> list[Ranking]:
    """Heads and neurons of two blocks."""
    dice = torch.Generator().manual_seed(seed)
    found = []
    for units, cost in ((4, 7.0), (20, 2.0), (4, 7.0), (20, 2.0)):
        scores, order = torch.rand(units, generator=dice).sort(descending=True)
        found.append(Ranking(order, scores, cost))
    return found


@pytest.mark.parametrize("budget", [0.0, 6.9, 30.0, 68.0, 135.9, 136.0])
def test_the_threshold_is_the_lowest_that_fits(budget: float) -> None:
    """Against the paper's scan, which recounts for every threshold."""
    for seed in range(5):
        lines = rankings(seed)
        scores = torch.cat([line.scores for line in lines]).double()
        costs = torch.tensor([line.cost for line in lines for _ in line.scores])
        fitting = [
            threshold for threshold in scores.tolist() if costs[scores >= threshold].sum() <= budget
        ]
        found = search(lines, budget)
        assert found.threshold == min(fitting, default=torch.inf)
        for line, groups in zip(lines, found.groups, strict=True):
            above = int((line.scores.double() >= found.threshold).sum())
            assert groups == above or (line.cost == 2.0 and groups > above)  # only neurons fill up
        spent = sum(groups * line.cost for line, groups in zip(lines, found.groups, strict=True))
        assert spent <= budget and (budget - spent < 2 or found.groups[1::2] == [20, 20])


def test_groups_of_unlike_cost_stay_in_their_order() -> None:
    """A sub-layer's first head may cost more than the next: what is counted is what is paid."""
    dice = torch.Generator().manual_seed(0)
    for budget in (3.0, 9.0, 20.0, 45.0, 70.0):
        lines = [
            each._replace(cost=torch.rand(len(each.scores), generator=dice) * 8)
            for each in rankings()
        ]
        spent = sum(
            float(line.cost[:groups].sum())
            for line, groups in zip(lines, search(lines, budget).groups, strict=True)
        )
        assert spent <= budget * SLACK


@pytest.mark.parametrize("budget", [0.0, 9.0, 30.0, 68.0, 136.0])
def test_kwons_search_is_the_best_of_all_head_counts(budget: float) -> None:
    for seed in range(5):
        lines = rankings(seed)
        heads, neurons = (
            torch.cat([line.scores for line in half]).sort(descending=True).values
            for half in (lines[::2], lines[1::2])
        )
        lost = []
        for count in range(9):
            if count * 7 <= budget:
                fitting = min(40, int((budget - count * 7) // 2))
                lost.append(float(heads[count:].sum() + neurons[fitting:].sum()))
        groups = least_fisher(lines, budget)
        kept = sum(float(line.scores[n:].sum()) for line, n in zip(lines, groups, strict=True))
        assert (
            kept == pytest.approx(min(lost))
            and sum(n * line.cost for line, n in zip(lines, groups, strict=True)) <= budget
        )


def test_rearranging_lowers_the_information_lost_and_keeps_the_count() -> None:
    dice = torch.Generator().manual_seed(0)
    root = torch.randn(40, 12, generator=dice)
    root[:, 7] = -root[:, 6]  # two that cancel: without both nothing is lost
    fisher = root.T @ root
    best, first = (torch.tensor([i not in gone for i in range(12)]) for gone in ((6, 7), (5, 6)))
    assert torch.equal(rearranged(fisher, best), best) and torch.equal(
        rearranged(fisher, first), best
    )
    largest = fisher.diag() > fisher.diag().median()
    assert torch.equal(
        rearranged(fisher.diag().diag(), largest), largest
    )  # nothing in pairs: the search's choice stands


# -- tuning
# ----------------------------------------------------------------------------------------------


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Survivors' features A (tokens, k), what they have to reach B (tokens, d), their columns
    (d, k); in fp64.
    """
    dice = torch.Generator().manual_seed(0)
    A, B, W = (
        torch.randn(*shape, generator=dice, dtype=torch.float64)
        for shape in ((60, 8), (60, 5), (5, 8))
    )
    return A, B, W


def test_refitting_is_least_squares() -> None:
    A, B, W = problem()
    found, used = KPrune(damping=0.0).refit(W, A.T @ A, A.T @ B)
    torch.testing.assert_close(found, torch.linalg.lstsq(A, B).solution.T)
    assert used == 0


@pytest.mark.parametrize("width", [1, 4])
def test_rescaling_is_least_squares(width: int) -> None:
    A, B, W = problem()
    parts = [
        A[:, i : i + width] @ W[:, i : i + width].T for i in range(0, 8, width)
    ]  # what each unit adds, (tokens, d)
    factors = torch.linalg.lstsq(
        torch.stack([part.flatten() for part in parts], 1), B.flatten()[:, None]
    ).solution
    found, _ = Kwon(damping=0.0).rescale(W, A.T @ A, A.T @ B, width=width)
    torch.testing.assert_close(found, W * factors.flatten().repeat_interleave(width))


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_where_nothing_is_lost_tuning_is_the_identity(damping: float) -> None:
    """As at the first sub-layer with all units kept; the ridge pulls to where the columns are
    already.
    """
    A, _, W = problem()
    B = A @ W.T
    for found, _ in (
        KPrune(damping=damping).refit(W, A.T @ A, A.T @ B),
        Kwon(damping=damping).rescale(W, A.T @ A, A.T @ B, width=1),
    ):
        torch.testing.assert_close(found, W)


# -- methods
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TASK_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_the_budget_is_met_from_below(name: str, family: str, kind: str) -> None:
    dense = tiny.model(family, kind=kind)
    for sparsity in (0.35, 0.8):
        model, rows = pruned(name, dense, sparsity=sparsity, length=20)
        alive, total = flops(model, 20)
        ffn = [sub for sub in sublayers(model) if sub.kind == "neuron"]
        all_there = all(
            (sub.output.weight != 0).any(0).all() for sub in ffn
        )  # then there is none to fill the budget with
        step = total / len(ffn) if name == "block_drop" else ffn[0].cost(20)  # what leaves together
        least = 0 if all_there else 1 - sparsity - step / total
        assert least <= alive / total <= (1 - sparsity) * SLACK
        budget = rows["budget"].iloc[0]
        assert (
            budget.realised == alive / total
            and budget.allowed == pytest.approx(1 - sparsity)
            and budget.length == 20
        )
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_table_says_what_the_weights_say(name: str) -> None:
    model, rows = pruned(name, tiny.model())
    table = rows["unit"].set_index(["block", "part"])
    for sub in sublayers(model):
        kept = torch.tensor(table.loc[(sub.index, sub.kind), "kept"].tolist())
        assert torch.equal((sub.output.weight != 0).any(0), sub.columns(kept))
    assert list(rows["unit"].columns) == [
        "block",
        "part",
        "unit",
        "kept",
        "predictive",
        "representational",
        "score",
        "threshold",
    ]
    assert len(rows["unit"]) == 2 * (4 + 64) and rows["unit"]["score"].notna().all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_remove_changes_nothing(name: str) -> None:
    model = tiny.model()
    after, rows = pruned(name, model, sparsity=0.0)
    assert all(
        torch.equal(old, new)
        for old, new in zip(model.parameters(), after.parameters(), strict=True)
    )
    assert rows["unit"]["kept"].all() and rows["budget"]["realised"].iloc[0] == 1


@pytest.mark.parametrize("name", NAMES)
def test_one_head_stays_in_every_block_and_neurons_come_in_multiples(name: str) -> None:
    model, rows = pruned(name, tiny.model(), sparsity=0.8, keep_one_head=True, multiple=8)
    kept = rows["unit"].groupby(["block", "part"])["kept"].sum().unstack()
    assert (kept["head"] >= 1).all() and (kept["neuron"] % 8 == 0).all()
    alive, total = flops(model, rows["budget"]["length"].iloc[0])
    assert alive / total <= 0.2
    with pytest.raises(PruneError, match="turn keep_one_head off"):
        pruned(name, tiny.model(), sparsity=0.99, keep_one_head=True)
    with pytest.raises(PruneError, match="must divide the 64 neurons"):
        pruned(name, tiny.model(), multiple=7)


def test_kwon_needs_labels_and_all_need_a_length() -> None:
    plain = [
        {key: value for key, value in batch.items() if key != "labels"}
        for batch in tiny.calibration()
    ]
    with pytest.raises(PruneError, match="need labels"):
        Kwon().prune(tiny.model(), plain, no_report)
    with pytest.raises(PruneError, match="give some, or set length"):
        build(METHODS, "unit_magnitude").prune(tiny.model(), [], no_report)
    build(METHODS, "unit_magnitude", {"length": 25}).prune(tiny.model(), [], no_report)


def test_nothing_predictive_is_lost_before_anything_is_removed() -> None:
    """At the first sub-layer student = teacher; its representational knowledge is the norm of
    what a unit adds.
    """
    model = tiny.model()
    _, rows = pruned("kprune", model, precision="fp32")
    first = rows["unit"].query("block == 0 and part == 'head'")
    assert (first["predictive"] == 0).all() and (
        rows["unit"].query("block == 1")["predictive"] > 0
    ).all()
    sub = sublayers(model)[0]
    with torch.no_grad():
        features = torch.cat(
            [sub.features(*replay.embed(model, batch)) for batch in tiny.calibration()]
        )
    by_hand = (
        (features.square().mean(0) * sub.output.weight.square().mean(0))
        .unflatten(0, (4, 8))
        .mean(1)
    )
    torch.testing.assert_close(torch.tensor(first["representational"].tolist()), by_hand)


def test_tuning_and_knowledge_bring_the_model_nearer_to_the_dense_one() -> None:
    model = tiny.model()
    far = {}
    for name, options in (("kprune", {}), ("kprune", {"tune": False}), ("unit_random", {})):
        after, _ = pruned(name, model, sparsity=0.5, **options)
        with torch.no_grad():
            pairs = [
                (list(replay.hidden_states(m, batch))[-1][0] for m in (model, after))
                for batch in tiny.calibration()
            ]
            far[name, *options] = sum(float((x - y).square().sum()) for x, y in pairs)
    assert far["kprune",] < far["kprune", "tune"] < far["unit_random",]


def test_half_precision_gradients_choose_nearly_the_same() -> None:
    one, two = (
        pruned("kprune", tiny.model(), precision=precision)[1]["unit"]["kept"]
        for precision in ("fp32", "bf16")
    )
    assert (one == two).mean() > 0.9


def test_k_prune_does_not_depend_on_the_size_of_its_batches() -> None:
    """Memory may halve it."""
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


def test_the_weight_taken_is_that_which_keeps_the_predictions_best() -> None:
    """Against pruning by hand with each, judged on sentences that it has not seen."""
    model, batches = tiny.model(), tiny.calibration(batch_size=1)
    with torch.no_grad():
        model.classifier.weight.mul_(
            200
        )  # a random head minds so little that no weight would change a choice
    options = {"sparsity": 0.7, "length": 20.0, "precision": "fp32"}
    rows = KPrune(**options).prune(copy.deepcopy(model), batches, no_report)
    lost = {}
    for weight in TRIES:
        student = copy.deepcopy(model)
        KPrune(**options, adapt=False, lambda_pred=weight).prune(
            student, batches[::PART], no_report
        )
        with torch.no_grad():
            said = [
                [(m(**batch).logits / 2).log_softmax(-1) for m in (student, model)]
                for batch in batches[1::PART]
            ]
        lost[weight] = sum(float((one.exp() * (one - other)).sum()) for one, other in said)
    assert len(set(lost.values())) == len(TRIES)
    assert rows["budget"]["lambda_pred"].iloc[0] == min(lost, key=lambda weight: lost[weight])


def test_a_token_limit_takes_part_of_the_sample() -> None:
    batches = labelled(tiny.model())
    assert len(KPrune(tokens=1)._sample(batches)) == 1 and KPrune()._sample(batches) is batches


# -- baselines
# ----------------------------------------------------------------------------------------------


def idle_units(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of which every other head and neuron says nothing, though its own rows are there."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.classifier.weight.mul_(50)  # so that the predictions hang on something
        for sub in sublayers(model):
            sub.output.weight.mul_(5)[:, sub.columns(torch.arange(sub.units) % 2 == 1)] = 0
    return model


def divergence_of(model: torch.nn.Module, after: torch.nn.Module) -> float:
    """From a model's answers, summed over the tiny sentences."""
    with torch.no_grad():
        pairs = [
            (answers(after, batch).log_softmax(-1), answers(model, batch).log_softmax(-1))
            for batch in tiny.calibration()
        ]
    return sum(float((one.exp() * (one - two)).sum()) for one, two in pairs)


@pytest.mark.parametrize("name", ["osscar", "ziplm", "kprune", "kprune_plus"])
def test_units_that_say_nothing_go_first(name: str) -> None:
    """At half of the FLOPs exactly they go, and the model stays as it was."""
    model = idle_units(tiny.model())
    after, rows = pruned(name, model, sparsity=0.5, length=20)
    assert (rows["unit"]["kept"] == (rows["unit"]["unit"] % 2 == 0)).all()
    with torch.no_grad():
        for batch in tiny.calibration():
            torch.testing.assert_close(
                answers(after, batch), answers(model, batch), atol=1e-3, rtol=1e-3
            )


def test_the_block_that_changes_least_is_dropped() -> None:
    model = tiny.model()
    with torch.no_grad():
        for part in ("attention_output", "ffn_out"):
            replay.blocks(model)[0].linears[part].weight.mul_(1e-3)
            replay.blocks(model)[1].linears[part].weight.mul_(10)
    by_influence, on_top = (
        pruned("block_drop", model, sparsity=0.5, by=by)[1]["unit"] for by in ("influence", "top")
    )
    assert by_influence.query("kept")["block"].unique().tolist() == [1]
    assert on_top.query("kept")["block"].unique().tolist() == [0]


def test_the_search_comes_nearer_to_the_dense_model_the_longer_it_takes() -> None:
    model = idle_units(tiny.model())
    short, long = (
        divergence_of(model, pruned("ziplm", model, sparsity=0.7, tries=tries, length=20)[0])
        for tries in (1, 40)
    )
    assert long < short


def test_units_chosen_together_leave_a_smaller_error_than_each_by_its_score() -> None:
    """Of two neurons that say the same, K-prune keeps both; together one is enough, and its
    place is another's.
    """
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
