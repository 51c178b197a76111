"""Policies of negatives: ties, draws, tiles, curricula, and what they refuse. Their values: tests/conformance."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from likewise import negatives
from likewise.alike import relate
from likewise.errors import LikewiseError
from likewise.kernels.numerics import Distance
from likewise.negatives import (
    All,
    Curriculum,
    DistanceWeighted,
    Easy,
    Hard,
    HardestBeyond,
    InsideMargin,
    MultiSimilarity,
    Pick,
    Policy,
    Positives,
    Random,
)
from likewise.objectives import (
    Angular,
    Circle,
    Contrastive,
    Histogram,
    Margin,
    Mined,
    Triplet,
    from_triplets,
    hinge,
    triplet_shares,
)
from likewise.objectives.base import PairObjective
from likewise.objectives.mined import choose


def unit(count: int, dim: int = 4, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)).double(), dim=1)


def coarse(count: int, seed: int) -> Tensor:
    """Rows of few values, so that many similarities are equal to the bit."""
    return torch.randint(-1, 2, (count, 3), generator=torch.Generator().manual_seed(seed)).double() / 2


def picks_by_loops(policy: Pick, positives: str, z: Tensor, ids: Sequence[int]) -> list[tuple[int, float, float]]:
    """(anchor, positive) → the similarity of the positive, and of the negative."""
    found = []
    for a, label in enumerate(ids):
        similarity = [float(z[a] @ z[j]) for j in range(len(z))]
        alike = [similarity[j] for j, x in enumerate(ids) if x == label and j != a]
        others = [similarity[j] for j, x in enumerate(ids) if x != label]
        if not alike or not others:
            continue
        if positives != "all":
            alike = [min(alike) if positives == "hard" else max(alike)]
        for near in sorted(alike):
            allowed = [far for far in others if far < near] if isinstance(policy, HardestBeyond) else others
            if allowed:
                found.append((a, near, min(allowed) if isinstance(policy, Easy) else max(allowed)))
    return found


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=14),
    seed=st.integers(0, 1000),
    policy=st.sampled_from([Hard(), Easy(), HardestBeyond()]),
    positives=st.sampled_from(["all", "hard", "easy"]),
    tile=st.sampled_from([1, 3, 100]),
)
def test_picks_equal_loops_with_ties(labels: list[int], seed: int, policy: Pick, positives: str, tile: int) -> None:
    z, ids = coarse(len(labels), seed), torch.tensor(labels)
    chosen = choose(policy, positives, z, z, relate(z, ids, None, None, None), tile_rows=tile)  # type: ignore[arg-type]
    assert bool(chosen.there.all())
    similarity = z @ z.T
    found = sorted(
        (a, float(similarity[a, p]), float(similarity[a, n]))
        for a, p, (n,) in zip(
            chosen.anchors.tolist(), chosen.positives.tolist(), chosen.negatives.tolist(), strict=True
        )
    )
    assert found == picks_by_loops(policy, positives, z, labels)
    assert (ids[chosen.anchors] == ids[chosen.positives]).all()
    assert (ids[chosen.anchors] != ids[chosen.negatives[:, 0]]).all()
    assert (chosen.anchors != chosen.positives).all()
    assert chosen.anchors.tolist() == sorted(chosen.anchors.tolist())


@pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")
@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=12),
    seed=st.integers(0, 1000),
    margin=st.sampled_from([0.0, 0.25, 0.5]),
)
def test_inside_the_margin_equals_loops_with_ties(labels: list[int], seed: int, margin: float) -> None:
    """All its triplets, added up; those on the border are outside."""
    z, ids = coarse(len(labels), seed), torch.tensor(labels)
    objective = Mined(Triplet(margin=margin, pairs="sum"), negatives=InsideMargin(margin), pairs="sum", reduction="sum")
    wanted = 0.0
    for a, label in enumerate(labels):
        for p in (j for j, x in enumerate(labels) if x == label and j != a):
            for n in (j for j, x in enumerate(labels) if x != label):
                near, far = float(2 - 2 * z[a] @ z[p]), float(2 - 2 * z[a] @ z[n])
                wanted += (near - far + margin) if near < far < near + margin else 0.0
    assert float(objective(z, ids)) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [16, 255, 256, 272, 512])
def test_the_nearest_of_many_columns(dtype: torch.dtype, width: int) -> None:
    """Every width, with equal values, zeros of both signs, and rows without a negative."""
    generator = torch.Generator().manual_seed(width)
    s_n = (torch.randint(-8, 9, (64, width), generator=generator) / 8).to(dtype)
    s_n[torch.rand(64, width, generator=generator) < 0.3] = -torch.inf
    s_n[:3] = -torch.inf
    s_n[3] = 1.0
    s_p = (torch.randint(-8, 9, (64, 1), generator=generator) / 8).to(dtype)
    s_p[4], s_n[4, 0] = 0.0, -0.0
    below = torch.where(s_n < s_p, s_n, -torch.inf).amax(1)
    nothing = s_n.new_empty(64, 0)
    for policy, wanted in (
        (HardestBeyond(), below),
        (Hard(), s_n.amax(1)),
        (Easy(), torch.where(s_n > -torch.inf, s_n, torch.inf).amin(1)),
    ):
        column, there = policy.pick(s_p, s_n, nothing, 8)
        assert torch.equal(there[:, 0], wanted.isfinite())
        assert torch.equal(s_n.gather(1, column)[there], wanted[:, None][there])


@pytest.mark.parametrize("kind", ["squared", "euclidean"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3] * 6, [0] * 3 + [1] * 7 + [2] * 2 + [3] + [4] * 11])
def test_the_quick_way_inside_the_margin_is_its_twin(
    kind: Distance, labels: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradient, of each row and of their mean."""
    ids, answers = torch.tensor(labels), []
    for quick in (True, False):
        if not quick:
            monkeypatch.setattr(Mined, "_hinge_inside", lambda *_: None)
        for how in ("mean", "none"):
            z = unit(24, 6, seed=3).requires_grad_()
            objective = Mined(
                Triplet(margin=0.5, distance=kind), negatives=InsideMargin(0.5, kind == "squared"), reduction=how
            )
            loss = objective(z, ids)
            (loss * torch.arange(1.0, 1 + loss.numel())).sum().backward()
            answers.append((loss.detach(), z.grad))
    torch.testing.assert_close(answers[:2], answers[2:])
    assert answers[0][0] > 0


def test_beyond_with_a_hinge_is_the_hardest_inside_the_margin() -> None:
    z, ids = unit(24), torch.arange(8).repeat(3)
    beyond = Mined(Triplet(margin=0.4), negatives=HardestBeyond(), pairs="sum", reduction="sum")(z, ids)
    wanted = 0.0
    for a in range(24):
        for p in (j for j in range(24) if j % 8 == a % 8 and j != a):
            near = float(2 - 2 * z[a] @ z[p])
            inside = [
                far for j in range(24) if j % 8 != a % 8 and near < (far := float(2 - 2 * z[a] @ z[j])) < near + 0.4
            ]
            wanted += near - min(inside) + 0.4 if inside else 0.0
    assert float(beyond) == pytest.approx(wanted)


def frequencies(policy: Pick, z: Tensor, keys: Tensor, draws: int) -> Tensor:
    """How often each key is drawn for the one query of class 0, whose only positive is key 0."""
    ids, key_ids = torch.zeros(draws, dtype=torch.long), torch.arange(len(keys))
    queries = z.expand(draws, -1)
    generator = torch.Generator().manual_seed(1)
    chosen = choose(policy, "all", queries, keys, relate(queries, ids, keys, key_ids, None), generator)
    return torch.bincount(chosen.negatives.flatten(), minlength=len(keys)) / chosen.negatives.numel()


def test_random_draws_every_negative_alike() -> None:
    keys = unit(6, seed=3)
    share = frequencies(Random(2), unit(1), keys, 5000)
    assert share[0] == 0
    assert (share[1:] - 0.2).abs().max() < 0.02


@pytest.mark.parametrize("dim", [3, 8, 32])
def test_distance_weighted_draws_by_one_over_the_density(dim: int) -> None:
    """Wu et al. 2017, eqs. 5 and 6, with both cut-offs."""
    policy = DistanceWeighted(1, least=0.5, most=1.4)
    keys, z = unit(40, dim, seed=3), unit(1, dim, seed=4)
    keys[5] = functional.normalize(z[0] + 0.1 * keys[5], dim=0)  # nearer than 0.5
    keys[6] = functional.normalize(-z[0] + 0.1 * keys[6], dim=0)  # further than 1.4
    weights = []
    for j, key in enumerate(keys):
        d = math.sqrt(max(0.0, 2 - 2 * float(z[0] @ key)))
        bounded = max(d, 0.5)
        density = bounded ** (dim - 2) * (1 - bounded**2 / 4) ** ((dim - 3) / 2)
        weights.append(0.0 if j == 0 or d > 1.4 else 1 / density)
    share = frequencies(policy, z, keys, 20_000)
    assert share[0] == share[6] == 0
    wanted = torch.tensor(weights) / sum(weights)
    assert (share - wanted).abs().max() < 0.02


def test_distance_weighted_draws_are_flat_in_distance() -> None:
    """What it is for: uniform rows' distances crowd at √2; those drawn are as many in each band of distances."""
    keys, z = unit(4000, 6, seed=5), unit(1, 6, seed=6)
    distances = (2 - 2 * z @ keys.T).sqrt()[0]
    share = frequencies(DistanceWeighted(1, least=0.5, most=2.0), z, keys, 4000)
    bands = [(distances >= low) & (distances < low + 0.3) for low in (0.6, 0.9, 1.2, 1.5)]
    assert float(bands[2].sum() / bands[0].sum()) > 4
    drawn = [float(share[band].sum()) for band in bands]
    assert max(drawn) < 1.5 * min(drawn)


def test_an_anchor_whose_negatives_are_all_too_far_has_none() -> None:
    queries, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    ids, key_ids = torch.tensor([0]), torch.tensor([0, 1])
    objective = Mined(Margin(), negatives=DistanceWeighted())
    assert float(objective(queries, ids, keys, key_ids)) == 0


@pytest.mark.parametrize("policy", [Random(3), DistanceWeighted(2)])
def test_draws_are_the_same_in_any_tile(policy: Pick) -> None:
    z, ids = unit(20, seed=2), torch.tensor([0] * 3 + [1] * 7 + [2] * 4 + [3] * 6)[torch.randperm(20)]
    several = torch.stack([ids, torch.full_like(ids, -1)], 1)
    for labels in (ids, several):
        relation = relate(z, labels, None, None, None)
        chosen = [
            choose(policy, "all", z, z, relation, torch.Generator().manual_seed(0), tile_rows=tile)
            for tile in (1, 3, 7, 20)
        ]
        for other in chosen[1:]:
            for a, b in zip(chosen[0], other, strict=True):
                assert torch.equal(a, b)
        assert chosen[0].negatives.shape[1] == policy.draws
        assert not (
            labels.reshape(20, -1)[:, 0][chosen[0].negatives] == labels.reshape(20, -1)[:, :1][chosen[0].anchors]
        ).any()


def test_draws_come_from_the_generator() -> None:
    z, ids = unit(32), torch.arange(8).repeat(4)
    values = []
    for seed in (0, 0, 1):
        objective = Mined(Triplet(), negatives=Random(), generator=torch.Generator().manual_seed(seed))
        values.append(float(objective(z, ids)))
    assert values[0] == values[1] != values[2]


def test_mining_does_not_see_what_may_not_push_or_pull() -> None:
    """Against a queue: an item's own older keys neither pull nor push (roles)."""
    queries, keys = unit(4), unit(9, seed=7)
    ids, key_ids = torch.arange(4), torch.tensor([0, 1, 2, 3, 0, 1, 7, 8, 9])
    pulls = torch.arange(9) < 4
    relation = relate(queries, ids, keys, key_ids, None, pulls, ~pulls)
    chosen = choose(Hard(), "all", queries, keys, relation)
    assert chosen.positives.tolist() == [0, 1, 2, 3]
    for a, (n,) in zip(chosen.anchors.tolist(), chosen.negatives.tolist(), strict=True):
        allowed = [j for j in range(4, 9) if key_ids[j] != a]
        assert n == max(allowed, key=lambda j: float(queries[a] @ keys[j]))


def test_triplets_of_ones_own_can_be_mined() -> None:
    """Explicit triplets have one negative each: every policy takes that one."""
    z, triplets = unit(6), torch.tensor([[0, 1, 2], [3, 4, 5], [0, 2, 4]])
    plain = Triplet(margin=1.0, pairs="all")(*from_triplets(z, triplets))
    for policy in (Hard(), Easy(), All(), Random()):
        assert float(Mined(Triplet(margin=1.0), negatives=policy)(*from_triplets(z, triplets))) == pytest.approx(
            float(plain)
        )


def test_nothing_left_has_loss_zero_and_a_gradient_of_zero() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    loss = Mined(Triplet(), negatives=InsideMargin(0.2))(z, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert float(loss.detach()) == 0
    z.grad = None
    loss = Mined(Triplet(), negatives=DistanceWeighted(most=1.0))(z, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not z.grad.any()


def test_active_follows_the_share_of_pairs_with_a_loss() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # distance² 0 within, 2 between
    ids = torch.tensor([0, 0, 1, 1])
    for margin, share in ((0.2, 0.0), (2.5, 1.0)):
        objective = Mined(Triplet(margin=margin), negatives=Hard())
        for _ in range(60):
            objective(z, ids)
        assert float(objective.active) == pytest.approx(share, abs=0.01)
        objective.eval()(z, ids)
        assert float(objective.active) == pytest.approx(share, abs=0.01)


def test_a_curriculum_moves_by_step_by_epoch_and_by_the_share_of_active_triplets() -> None:
    policies = (Easy(), HardestBeyond(), Hard())
    by_step = Mined(Triplet(), negatives=Curriculum(policies, (10, 20)))
    stages = []
    for step in range(0, 30, 5):
        by_step.advance(step, step / 10)
        stages.append(type(by_step.policy).__name__)
    assert stages == ["Easy", "Easy", "HardestBeyond", "HardestBeyond", "Hard", "Hard"]
    by_epoch = Mined(Triplet(), negatives=Curriculum(policies, (0.5, 0.5), by="epoch"))
    by_epoch.advance(3, 0.4)
    assert by_epoch.policy == Easy()
    by_epoch.advance(5, 0.5)  # both at once
    assert by_epoch.policy == Hard()
    by_active = Mined(Triplet(), negatives=Curriculum(policies, (0.3, 0.1), by="active"))
    seen = []
    for active in (0.9, 0.2, 0.2, 0.05, 0.9):
        by_active.active.fill_(active)
        by_active.advance(0, 0.0)
        seen.append(int(by_active.stage))
    assert seen == [0, 1, 1, 2, 2]  # never back


def test_a_curriculum_is_saved_with_its_stage() -> None:
    make = lambda: Mined(Triplet(), negatives=Curriculum((Easy(), Hard()), (5,)))  # noqa: E731
    one, other = make(), make()
    one.advance(7, 0.0)
    other.load_state_dict(one.state_dict())
    assert other.policy == Hard()


def test_parameters_of_the_objective_are_trained() -> None:
    objective = Mined(
        Margin(learn=True, classes=8), negatives=DistanceWeighted(), generator=torch.Generator().manual_seed(0)
    )
    z, ids = unit(32).float().requires_grad_(), torch.arange(8).repeat(4)
    objective(z, ids).backward()
    assert isinstance(objective.objective, Margin)
    assert objective.objective.beta.grad is not None
    assert objective.objective.beta.grad.any()


def test_refusals() -> None:
    with pytest.raises(LikewiseError, match="Angular is not a loss over an anchor's row of pairs"):
        Mined(Angular(), negatives=Hard())
    with pytest.raises(LikewiseError, match="Histogram is not a loss over an anchor's row of pairs"):
        Mined(Histogram(), negatives=Hard())  # type: ignore[arg-type]
    with pytest.raises(LikewiseError, match="positives='most' must be 'all', 'hard' or 'easy'"):
        Mined(Circle(), negatives=Hard(), positives="most")  # type: ignore[arg-type]
    with pytest.raises(LikewiseError, match="a curriculum of 2 policies changes 1 times, but at= has 0"):
        Curriculum((Easy(), Hard()), ())
    with pytest.raises(LikewiseError, match="must not decrease"):
        Curriculum((Easy(), Hard(), MultiSimilarity()), (5, 3))
    with pytest.raises(LikewiseError, match="by='loss' must be 'step', 'epoch' or 'active'"):
        Curriculum((Easy(), Hard()), (5,), by="loss")  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=12), seed=st.integers(0, 100), tile=st.integers(1, 12))
def test_triplet_shares_equal_loops(labels: list[int], seed: int, tile: int) -> None:
    z, ids = unit(len(labels), seed=seed), torch.tensor(labels)
    gaps, valid = [], 0
    for a, label in enumerate(labels):
        near = [float(2 - 2 * z[a] @ z[j]) for j, x in enumerate(labels) if x == label and j != a]
        far = [float(2 - 2 * z[a] @ z[j]) for j, x in enumerate(labels) if x != label]
        valid += bool(near and far)
        gaps += [p + 0.3 - n for p in near for n in far]
    active = [gap for gap in gaps if gap > 0]
    found = triplet_shares(z, ids, margin=0.3, tile_rows=tile)
    assert found.valid == valid / len(labels)
    assert found.active == pytest.approx(len(active) / max(1, len(gaps)))
    assert found.violation == pytest.approx(sum(active) / max(1, len(active)))


# Every policy with every choice of positives, beside loops over lists of pairs


def labels_of(row: int | list[int]) -> set[int]:
    return {label for label in (row if isinstance(row, list) else [row]) if label >= 0}


def kept_by_lists(
    policy: object, near: list[int], far: list[int], s: Callable[[int], float]
) -> list[tuple[list[int], list[int]]]:
    """The (positives, negatives) that are judged together: one whole row, or one list for each positive."""
    if isinstance(policy, All):
        return [(near, far)]
    if isinstance(policy, MultiSimilarity):
        if not near or not far:
            return [([], [])]
        hard = [j for j in far if s(j) > min(map(s, near)) - policy.epsilon]
        return [([j for j in near if s(j) < max(map(s, far)) + policy.epsilon], hard)]
    found = []
    for p in near:
        beyond = [j for j in far if s(j) < s(p)]
        if isinstance(policy, InsideMargin):
            power = 1.0 if policy.squared else 0.5
            chosen = [j for j in beyond if (2 - 2 * s(j)) ** power < (2 - 2 * s(p)) ** power + policy.margin]
        else:
            allowed = beyond if isinstance(policy, HardestBeyond) else far
            chosen = [(min if isinstance(policy, Easy) else max)(allowed, key=s)] if allowed else []
        found += [([p], chosen)] if chosen else []
    return found


def loss_by_lists(objective: PairObjective, s_p: list[Tensor], s_n: list[Tensor]) -> Tensor:
    zero = torch.zeros((), dtype=torch.float64)
    if isinstance(objective, Triplet):
        terms = [2 * n - 2 * p + objective.margin for p in s_p for n in s_n if 2 * n - 2 * p + objective.margin > 0]
        return sum(terms, zero) / max(1, len(terms))
    if isinstance(objective, Circle):
        pull = sum((torch.exp(-8 * (1.3 - p).clamp(min=0).detach() * (p - 0.7)) for p in s_p), zero)
        push = sum((torch.exp(8 * (n + 0.3).clamp(min=0).detach() * (n - 0.3)) for n in s_n), zero)
        return torch.log(1 + pull * push)
    apart = [(2 - 2 * p) / 2 for p in s_p]
    close = [(1.3 - (2 - 2 * n).sqrt()) ** 2 / 2 for n in s_n if (2 - 2 * n).sqrt() < 1.3]
    return sum(apart, zero) / max(1, len(apart)) + sum(close, zero) / max(1, len(close))


OBJECTIVES: dict[str, Callable[[], PairObjective]] = {
    "triplet": lambda: Triplet(margin=0.3),
    "circle": lambda: Circle(gamma=8, margin=0.3),
    "contrastive": lambda: Contrastive(negative_margin=1.3),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("positives", ["all", "hard", "easy"])
@pytest.mark.parametrize(
    "policy",
    [All(), InsideMargin(0.5), InsideMargin(0.4, squared=False), MultiSimilarity(0.2), Hard(), Easy(), HardestBeyond()],
)
def test_mining_equals_lists_of_pairs(policy: Policy, positives: Positives, name: str) -> None:
    """With several labels, rows without any, and keys that only pull or only push."""
    for trial in range(4):
        random = torch.Generator().manual_seed(trial)
        q, k = (unit(count, seed=seed).requires_grad_() for count, seed in ((7, trial), (11, 100 + trial)))
        several = trial % 2
        ids = torch.randint(-1, 4, (7, 2) if several else (7,), generator=random)
        key_ids = torch.randint(-1, 4, (11, 3) if several else (11,), generator=random)
        pulls, pushes = (torch.rand(11, generator=random) < 0.8 for _ in range(2))
        objective = OBJECTIVES[name]()
        mined = Mined(OBJECTIVES[name](), negatives=policy, positives=positives, pairs="all")
        total, counted = torch.zeros((), dtype=torch.float64), 0
        for a in range(7):
            alike = [bool(labels_of(ids[a].tolist()) & labels_of(row)) for row in key_ids.tolist()]
            near = [j for j in range(11) if alike[j] and pulls[j]]
            far = [j for j in range(11) if not alike[j] and pushes[j]]
            score = (q[a] @ k.T).detach().tolist().__getitem__
            if positives != "all" and near:
                near = [(min if positives == "hard" else max)(near, key=score)]
            judged = kept_by_lists(policy, near, far, score)
            if name != "contrastive":
                judged = [(p, n) for p, n in judged if p and n]
            judged = [(p, n) for p, n in judged if p or n]
            each = [loss_by_lists(objective, [q[a] @ k[j] for j in p], [q[a] @ k[j] for j in n]) for p, n in judged]
            if each:
                total, counted = total + sum(each, torch.zeros((), dtype=torch.float64)) / len(each), counted + 1
        wanted, found = total / max(1, counted), mined(q, ids, k, key_ids, pulls=pulls, pushes=pushes)
        assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-9)
        for one, other in zip(
            torch.autograd.grad(found, [q, k], allow_unused=True, materialize_grads=True),
            torch.autograd.grad(wanted + 0 * (q.sum() + k.sum()), [q, k]),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("objective", [Margin, Contrastive])
def test_an_item_alone_of_its_label_has_no_loss_inside_the_margin(objective: Callable[..., PairObjective]) -> None:
    mined = Mined(objective(reduction="mean"), negatives=InsideMargin(0.5), reduction="none")
    losses = mined(unit(9), torch.tensor([0, 0, 0, 1, 1, 1, 2, 3, 4]))
    assert losses[6:].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("most", [1.4, 2.0])
@pytest.mark.parametrize("dim", [3, 64, 128, 512])
def test_distance_weights_in_many_dimensions_and_without_the_cut_off(dim: int, most: float) -> None:
    s = torch.tensor([[0.8, 0.79, 0.6, 0.5, 0.0, -0.2, -torch.inf]])
    d = (2 - 2 * s.double()).clamp(min=0.25).sqrt()
    log_q = (dim - 2) * d.log() + (dim - 3) / 2 * (1 - d.square() / 4).clamp(min=1e-12).log()
    there = (d <= most) & s.isfinite()
    wanted = torch.where(there, -log_q, -torch.inf).softmax(1)
    drawn = torch.linspace(0, 1, 20_001)[:-1].unsqueeze(0)
    columns, _ = DistanceWeighted(20_000, most=most).pick(s[:, :1], s, drawn, dim)
    shares = torch.bincount(columns[0], minlength=7) / 20_000
    torch.testing.assert_close(shares.double(), wanted[0], rtol=0, atol=2e-4)


def test_a_new_policy_begins_with_a_share_of_its_own() -> None:
    mined = Mined(Triplet(), negatives=Curriculum((Easy(), HardestBeyond(), Hard()), (0.5, 0.4), by="active"))
    mined.active.fill_(0.2)
    mined.advance(0, 0.0)
    assert (int(mined.stage), float(mined.active)) == (1, 1.0)
    mined.advance(1, 0.0)
    assert int(mined.stage) == 1


def test_inside_the_margin_the_share_is_of_the_anchors_that_could() -> None:
    z = functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1], [1.0, 0.3]]), dim=1)
    mined = Mined(Triplet(), negatives=InsideMargin(0.2))
    for _ in range(200):
        mined(z, torch.tensor([0, 0, 1, 1, 2]))
    assert float(mined.active) == pytest.approx(0.5, abs=1e-6)  # of four anchors two have one inside; the last can't


def test_policies_say_what_they_refuse() -> None:
    for make, wrong in (
        (lambda: Random(0), "count=0"),
        (lambda: DistanceWeighted(0), "count=0"),
        (lambda: DistanceWeighted(least=1.5), "least=1.5"),
        (lambda: DistanceWeighted(most=2.5), "most=2.5"),
        (lambda: InsideMargin(-1.0), "margin=-1.0"),
        (lambda: MultiSimilarity(math.nan), "epsilon=nan"),
        (lambda: Mined(Triplet(), negatives="hard"), "but got 'hard'"),  # type: ignore[arg-type]
        (lambda: Mined(Triplet(), negatives=Hard), "such as Hard()"),  # type: ignore[arg-type]
        (lambda: Curriculum((Easy(), Hard()), (500,), by="active"), "shares of active triplets"),
        (lambda: Mined(Circle(), negatives=Curriculum((Easy(), Hard()), (0.5,), by="active")), "Circle is never 0"),
    ):
        with pytest.raises(LikewiseError) as error:
            make()
        assert wrong in str(error.value)


# Many positives: one sort instead of a pass for each


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), margin=st.sampled_from([0.1, 0.4, 1.0]), classes=st.sampled_from([1, 2, 3, 6]))
def test_sorted_negatives_are_passes_over_them(seed: int, margin: float, classes: int) -> None:
    """With ties, absent positives and negatives, float32 and float64."""
    random = torch.Generator().manual_seed(seed)
    near, far = (torch.randint(0, 12, (5, n), generator=random).double() / 8 for n in (7, 19))
    if seed % 2:
        near, far = torch.rand(5, 7, generator=random) * 2, torch.rand(5, 19, generator=random) * 2
    no_near, no_far = (torch.rand(5, n, generator=random) < 0.3 for n in (7, 19))
    rtol = 1e-12 if near.dtype == torch.float64 else 2e-6
    for absent, plain, by_sort in (
        (torch.inf, partial(hinge._violations, soft=False), hinge._sorted_violations),
        (hinge.ABSENT, partial(hinge._inside_violations, margin=margin), partial(hinge._sorted_inside, margin=margin)),
    ):
        one, two = near.masked_fill(no_near, -absent), far.masked_fill(no_far, absent)
        for found, wanted in zip(by_sort(one, two), plain(one, two), strict=True):
            torch.testing.assert_close(found, wanted, rtol=rtol, atol=rtol)
    s_n = far.neg().masked_fill(no_far, -torch.inf)
    policy, drawn = HardestBeyond(), torch.empty(5, 0)
    columns, there = Pick.pick_each(policy, near.neg(), s_n, drawn, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "SORTED_FROM", 0)
        sorted_columns, sorted_there = policy.pick_each(near.neg(), s_n, drawn, 4)
    assert torch.equal(there, sorted_there)
    chosen, other = (s_n.gather(1, x.squeeze(2))[there.squeeze(2)] for x in (columns, sorted_columns))
    assert torch.equal(chosen, other)


@pytest.mark.parametrize("policy", [All(), InsideMargin(0.2), HardestBeyond()])
def test_two_classes_of_many_items(policy: Policy) -> None:
    """A row with 79 positives goes the sorted way: against every triplet, value and gradient."""
    z = unit(160, 8).requires_grad_()
    ids = torch.arange(160) % 2
    loss = Mined(Triplet(), negatives=policy)(z, ids)
    d = 2 - 2 * z @ z.T
    alike = (ids[:, None] == ids) & ~torch.eye(160, dtype=torch.bool)
    other = ids[:, None] != ids
    gap = d[:, :, None] + 0.2 - d[:, None, :]
    beyond = (d[:, None, :] > d[:, :, None]) & alike[:, :, None] & other[:, None, :]
    if isinstance(policy, All):
        there = alike[:, :, None] & other[:, None, :] & (gap > 0)
        each = torch.where(there, gap, 0.0).sum((1, 2)) / there.sum((1, 2)).clamp(min=1)
    elif isinstance(policy, InsideMargin):
        there = beyond & (gap > 0)
        pairs = torch.where(there, gap, 0.0).sum(2) / there.sum(2).clamp(min=1)
        each = pairs.sum(1) / there.any(2).sum(1).clamp(min=1)
    else:
        pairs = torch.where(beyond, gap, -torch.inf).amax(2).clamp(min=0)
        each = pairs.sum(1) / (pairs > 0).sum(1).clamp(min=1)
    counted = there.any(2).any(1) if isinstance(policy, InsideMargin) else torch.ones(160, dtype=torch.bool)
    wanted = each.sum() / counted.sum()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(x, z)[0] for x in (loss, wanted)))
