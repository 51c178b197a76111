"""Which pairs push: labels, several or none, own rows, explicit pairs and triplets; and what degenerates to what.

The conformance table (tests/conformance) holds what all objectives share; here is what relates them.
"""

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from likewise.alike import Listed, Relation, positive_pairs
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.kernels import row_losses as evaluator
from likewise.kernels.numerics import masked_logsumexp
from likewise.negatives import Hard
from likewise.objectives import (
    Angular,
    Circle,
    Contrastive,
    Histogram,
    InfoNCE,
    LiftedStructure,
    Margin,
    Mined,
    MultiSimilarity,
    NPair,
    SupCon,
    Triplet,
    UnifiedPairSimilarity,
    from_pairs,
    from_triplets,
)
from likewise.objectives.hinge import violations

ROW_OBJECTIVES = [
    UnifiedPairSimilarity(gamma=8.0),
    Circle(gamma=8.0),
    InfoNCE(),
    InfoNCE(positives="sum"),
    MultiSimilarity(epsilon=None),
    Contrastive(),
    Contrastive(squared=False, pairs="sum"),
    Margin(nu=0.1),
    Triplet(),
    Triplet(distance="euclidean", pairs="all"),
    Triplet(soft=True),
    LiftedStructure(generalised=True),
]


def unit(rows: int, dim: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("objective", ROW_OBJECTIVES, ids=lambda o: type(o).__name__)
def test_triplets_push_exactly_as_given(objective: torch.nn.Module) -> None:
    """The mean over triplets of the loss of one positive and one negative, which nothing else joins."""
    z = unit(9).requires_grad_()
    triplets = torch.tensor([[0, 1, 2], [0, 3, 4], [5, 3, 1], [8, 0, 4], [0, 1, 2]])
    loss = objective(*from_triplets(z, triplets))
    a, p, n = (z[column] for column in triplets.T)
    expected = objective.pair_loss((a * p).sum(1), (a * n).sum(1)).mean()
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, z)[0]
    torch.testing.assert_close(found, torch.autograd.grad(expected, z)[0])


def test_triplets_of_angular_and_lifted_structure() -> None:
    z = unit(9)
    triplets = torch.tensor([[0, 1, 2], [0, 3, 4], [5, 3, 6]])
    a, p, n = (z[column] for column in triplets.T)
    tan2 = torch.tensor(40.0, dtype=torch.float64).deg2rad().tan() ** 2
    logit = 4 * tan2 * ((a + p) * n).sum(1) - 2 * (1 + tan2) * (a * p).sum(1)
    torch.testing.assert_close(Angular()(*from_triplets(z, triplets)), torch.log1p(logit.exp()).mean())
    near, far = (a - p).norm(dim=1), (a - n).norm(dim=1)
    expected = ((1 - far + near).clamp(min=0) ** 2 / 2).mean()  # no query is listed as unlike a positive
    torch.testing.assert_close(LiftedStructure()(*from_triplets(z, triplets)), expected)


def test_pairs_reach_both_ends_and_no_others() -> None:
    z = unit(7)
    pairs, alike = torch.tensor([[0, 1], [1, 2], [5, 0]]), torch.tensor([True, False, False])
    loss = UnifiedPairSimilarity(gamma=4.0, reduction="none")(*from_pairs(z, pairs, alike))

    def row(anchor: int, positive: int, negative: int) -> Tensor:
        return torch.log1p((4 * (z[anchor] @ z[negative] - z[anchor] @ z[positive] + 0.4)).exp())

    zero = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(loss, torch.stack([row(0, 1, 5), row(1, 0, 2), zero, zero]))  # of rows 0, 1, 2, 5


@pytest.mark.parametrize(
    "objective",
    [*ROW_OBJECTIVES, Angular(), LiftedStructure(), Histogram(bins=7), Mined(Triplet(), negatives=Hard())],
    ids=lambda o: type(o).__name__,
)
def test_pairs_that_are_alike_push_all_others(objective: torch.nn.Module) -> None:
    """The same as with every positive and negative listed by loops."""
    z = unit(9).requires_grad_()
    pairs, neither = [(0, 1), (1, 2), (5, 0), (7, 8)], [(0, 2), (1, 5)]
    alike = {*pairs, *((b, a) for a, b in pairs)}
    left_out = {*neither, *((b, a) for a, b in neither), *((i, i) for i in range(9))}
    others = [(i, j) for i in range(9) for j in range(9) if (i, j) not in alike | left_out]
    loss = objective(*from_pairs(z, torch.tensor(pairs), neither=torch.tensor(neither)))
    listed = Listed(torch.tensor(sorted(alike)), torch.tensor(others), 9, 9)
    expected = objective(z, listed, z)
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, z)[0]
    torch.testing.assert_close(found, torch.autograd.grad(expected, z)[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z: from_triplets(z, torch.zeros(3, 2, dtype=torch.int64)), "must be (·, 3)"),
        (lambda z: from_triplets(z, torch.tensor([[0, 1, 9]])), "triplets[0] is [0, 1, 9], but there are only 4"),
        (lambda z: from_pairs(z, torch.tensor([[0, 1], [2, 2]]), torch.tensor([True, True])), "pair 1 joins row 2"),
        (lambda z: from_pairs(z, torch.tensor([[0, 1]]), torch.tensor([1])), "torch.bool"),
        (lambda z: from_pairs(z, [[0, 1]], torch.tensor([True]), [[1, 2]]), "leave neither and planted out"),
        (lambda z: from_pairs(z, [[0, 1]], neither=[[1, 9]]), "neither[0] is [1, 9], but there are only 4"),
        (lambda z: Circle()(z, torch.zeros(3, dtype=torch.int64)), "ids (3,) must be (4,)"),
        (lambda z: Circle()(z, torch.zeros(4)), "must be integers"),
        (lambda z: Circle()(z[:0], torch.zeros(0, dtype=torch.int64)), "at least one"),
        (lambda z: Circle()(z, torch.arange(4), z[:, :2]), "same D"),
        (lambda z: Circle()(z, torch.arange(4), None, torch.arange(4)), "give keys too"),
        (lambda z: Circle()(z, torch.arange(4), z, torch.arange(3)), "key_ids (3,)"),
        (lambda z: Circle()(z[:2], from_triplets(z, torch.tensor([[0, 1, 2]]))[1], z), "listed pairs"),
        (lambda z: Circle(gamma=0), "gamma=0"),
        (lambda z: InfoNCE(temperature=-1), "temperature=-1"),
        (lambda z: InfoNCE(positives="all"), "positives='all'"),  # type: ignore[arg-type]
        (lambda z: Circle(reduction="avg"), "reduction='avg'"),  # type: ignore[arg-type]
        (lambda z: Angular(degrees=90), "degrees=90"),
        (lambda z: Triplet(distance="cosine"), "distance='cosine'"),  # type: ignore[arg-type]
        (lambda z: Triplet(pairs="mean"), "pairs='mean'"),  # type: ignore[arg-type]
        (lambda z: Histogram(reduction="sum"), "whole batch"),
        (lambda z: Histogram(bins=0), "bins=0"),
        (
            lambda z: Margin(classes=3)(z, torch.tensor([0, 0, 1, 3])),
            "ids[3] is 3, but there are 3 classes that Margin",
        ),
        (lambda z: Margin(classes=3)(*from_triplets(z, torch.tensor([[0, 1, 2]]))), "one class id per row"),
    ],
)
def test_a_mistake_gets_one_clear_sentence(call: object, words: str) -> None:
    with pytest.raises(LikewiseError) as caught:
        call(unit(4))  # type: ignore[operator]
    assert words in str(caught.value)


def test_lengths_that_are_not_one_are_said_once() -> None:
    objective = SupCon()
    with pytest.warns(LikewiseWarning, match="not unit rows"):
        objective(3 * unit(4), torch.tensor([0, 0, 1, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective(3 * unit(4), torch.tensor([0, 0, 1, 1]))
        NPair()(3 * unit(4), torch.tensor([0, 0, 1, 1]))  # raw features are meant there


# ---- relations ----


def brute(ids: Tensor, key_ids: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positives and negatives, pair by pair."""
    positive = torch.zeros(len(ids), len(key_ids), dtype=torch.bool)
    negative = positive.clone()
    for i, mine in enumerate(ids.reshape(len(ids), -1).tolist()):
        for j, theirs in enumerate(key_ids.reshape(len(key_ids), -1).tolist()):
            if own is not None and int(own[i]) == j:
                continue
            shared = {x for x in mine if x >= 0} & {x for x in theirs if x >= 0}
            (positive if shared else negative)[i, j] = True
    return positive, negative


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("tile", [1, 4, 50])
def test_masks_are_those_of_a_loop_over_pairs(seed: int, labels: int, tile: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (17,) if labels == 1 else (17, labels)
    ids = torch.randint(-1, 6, shape, generator=generator)
    if seed % 2:
        keys, own = ids, torch.arange(17)
    else:
        keys = torch.randint(-1, 7, (23, *shape[1:]), generator=generator)
        own = torch.randperm(23, generator=generator)[:17] if seed % 4 else None
        if own is not None:
            own[5] = -1
            keys[own[own >= 0]] = ids[own >= 0]  # its own row has its ids
    expected_positive, expected_negative = brute(ids, keys, own)
    relation = Relation(ids, keys, own)
    whole = relation.whole()
    assert torch.equal(whole.positive, expected_positive)
    assert torch.equal(whole.negative, expected_negative)

    positive, negative = torch.zeros_like(expected_positive), torch.zeros_like(expected_negative)
    for start in range(0, 17, tile):
        rows = slice(start, min(start + tile, 17))
        columns, near, far = relation.masks(rows.start, rows.stop)
        part = near if columns is None else torch.zeros_like(far).scatter_add(1, columns, near)
        positive[rows], negative[rows] = part, far
    if relation.query_order is not None and relation.key_order is not None:
        back_q, back_k = relation.query_order.argsort(), relation.key_order.argsort()
        positive, negative = positive[back_q][:, back_k], negative[back_q][:, back_k]
    assert torch.equal(positive, expected_positive)
    assert torch.equal(negative, expected_negative)

    pairs = positive_pairs(relation, 17, tile)
    assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, expected_positive.nonzero().tolist()))
    chosen = torch.tensor([3, 3, 0, 16])
    assert torch.equal(relation.select(chosen).whole().negative, expected_negative[chosen])
    if own is None or seed % 2:
        assert torch.equal(relation.transposed().whole().positive, expected_positive.T)


def test_listed_relations_select_and_transpose() -> None:
    listed = Listed(torch.tensor([[2, 0], [0, 1], [2, 1]]), torch.tensor([[1, 0], [0, 0]]), 3, 2)
    positive, negative = listed.whole().positive, listed.whole().negative
    assert positive.tolist() == [[False, True], [False, False], [True, True]]
    assert negative.tolist() == [[True, False], [True, False], [False, False]]
    assert torch.equal(listed.transposed().whole().positive, positive.T)
    rows = torch.tensor([2, 2, 1, 0])
    assert torch.equal(listed.select(rows).whole().positive, positive[rows])
    assert torch.equal(listed.select(rows).whole().negative, negative[rows])
    assert torch.equal(listed.masks(1, 3).positive, positive[1:3])


# ---- what degenerates to what ----

IDS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3])


def test_unified_over_gamma_is_the_hardest_triplet() -> None:
    """lim 1/γ L_uni = [max(s_n − s_p + m)]₊."""
    z = unit(11)
    positive, negative = Relation(IDS, IDS, torch.arange(11)).whole()[1:]
    s = z @ z.T
    hardest = s.masked_fill(~negative, -2).amax(1) - s.masked_fill(~positive, 2).amin(1) + 0.3
    limit = UnifiedPairSimilarity(gamma=1e5, margin=0.3, reduction="none")(z, IDS) / 1e5
    torch.testing.assert_close(limit, hardest.clamp(min=0), atol=1e-4, rtol=0)
    triplet = Triplet(margin=0.6, pairs="sum", reduction="none")  # D² = 2 − 2s: twice the similarity's margin
    alone = triplet(z, IDS, z, IDS, own=torch.arange(11))
    assert bool((alone >= 2 * hardest.clamp(min=0) - 1e-9).all())


def test_npair_is_infonce_at_temperature_one() -> None:
    z = unit(11)
    torch.testing.assert_close(NPair(penalty=0.0)(z, IDS), InfoNCE(temperature=1.0)(z, IDS))
    torch.testing.assert_close(NPair(penalty=0.5)(z, IDS), InfoNCE(temperature=1.0)(z, IDS) + 0.5)


@pytest.mark.parametrize(
    "objective",
    [
        InfoNCE(temperature=0.2, positives="sum"),
        UnifiedPairSimilarity(gamma=5.0, margin=0.0),
        SupCon(temperature=0.2),
    ],
    ids=lambda o: type(o).__name__,
)
def test_with_one_positive_these_are_infonce(objective: torch.nn.Module) -> None:
    z, pairs = unit(12), torch.arange(6).repeat(2)
    torch.testing.assert_close(objective(z, pairs), InfoNCE(temperature=0.2)(z, pairs))


def test_margin_is_contrastive_with_two_margins() -> None:
    z = unit(11)
    margin = Margin(alpha=0.2, beta=1.0, pairs="sum")(z, IDS)
    two = Contrastive(positive_margin=0.8, negative_margin=1.2, squared=False, pairs="sum")(z, IDS)
    torch.testing.assert_close(margin, two)


def test_triplet_is_a_hinge_of_similarities() -> None:
    """On unit rows D² = 2 − 2s: the squared form is 2 [s_n − s_p + α/2]₊."""
    z = unit(11)
    positive, negative = Relation(IDS, IDS, torch.arange(11)).whole()[1:]
    s = z @ z.T
    cube = (s[:, None, :] - s[:, :, None] + 0.1).clamp(min=0) * (positive[:, :, None] & negative[:, None, :])
    torch.testing.assert_close(Triplet(margin=0.2, pairs="sum", reduction="sum")(z, IDS), 2 * cube.sum())


# ---- the evaluator's own parts ----


def test_violations_equal_their_twin() -> None:
    near, far = unit(5, 7).requires_grad_(), unit(5, 9, seed=1).requires_grad_()
    absent = torch.rand(5, 7) < 0.3
    for soft in (False, True):
        kept = near.masked_fill(absent, -torch.inf)
        total, active = violations(kept, far, soft)
        gap = kept.unsqueeze(2) - far.unsqueeze(1)
        expected = (functional.softplus(gap) if soft else gap.clamp(min=0)).sum((1, 2))
        torch.testing.assert_close(total, expected)
        if not soft:
            assert active.tolist() == (gap > 0).sum((1, 2)).tolist()
        upstream = torch.arange(5, dtype=torch.float64)
        mine = torch.autograd.grad(total, (near, far), upstream, retain_graph=True)
        twin = torch.autograd.grad(expected, (near, far), upstream, retain_graph=True)
        torch.testing.assert_close(mine, twin)


def test_masked_logsumexp_equals_its_twin_and_runs_backward_once() -> None:
    x, mask = unit(4, 9).requires_grad_(), torch.rand(4, 9) < 0.5
    mask[2] = False
    mask[0, 0] = True
    found = masked_logsumexp(x, mask, 30.0)
    assert found[2] == -torch.inf
    twin = (30 * x).masked_fill(~mask, -torch.inf).logsumexp(1)
    torch.testing.assert_close(found, twin)
    keep = torch.tensor([0, 1, 3])
    grad = torch.autograd.grad(found[keep].sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(grad[keep], torch.autograd.grad(twin[keep].sum(), x)[0][keep])
    assert not grad[2].any()
    with pytest.raises(RuntimeError, match="backward runs once"):
        found.sum().backward()
    with pytest.raises(LikewiseError, match="first-order gradients only"):
        torch.autograd.grad(masked_logsumexp(x, mask, 30.0)[keep].sum(), x, create_graph=True)


def test_the_hessian_is_the_differences_of_gradients() -> None:
    """What took the second order for a constant gave 0, and a wrong number through normalised rows."""
    x, ids = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)), torch.arange(6) // 2

    def loss(rows: Tensor) -> Tensor:
        return InfoNCE()(functional.normalize(rows, dim=1), ids)

    def grad(rows: Tensor) -> Tensor:
        leaf = rows.clone().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)[0]

    step = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    wanted = (grad(x + 1e-5 * step) - grad(x - 1e-5 * step)) / 2e-5
    for vectorize in (False, True):
        hessian = torch.autograd.functional.hessian(loss, x, vectorize=vectorize)
        assert isinstance(hessian, Tensor)
        torch.testing.assert_close((hessian * step).sum((2, 3)), wanted, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.func.hessian(loss)(x), hessian)


@pytest.mark.filterwarnings("ignore:.*not unit rows")
def test_histogram_beyond_one_is_clamped_and_so_is_its_gradient() -> None:
    rows, ids = 1.4 * unit(8), torch.arange(8) % 3
    assert float((rows @ rows.T).fill_diagonal_(0).abs().max()) > 1
    found, wanted = (rows.detach().clone().requires_grad_() for _ in range(2))
    Histogram(bins=10)(found, ids).backward()
    torch.compile(Histogram(bins=10), fullgraph=True, backend="eager")(wanted, ids).backward()
    torch.testing.assert_close(found.grad, wanted.grad)


def test_picks_say_why_no_whole_graph_can_hold_them() -> None:
    objective, rows, ids = Mined(Triplet(), negatives=Hard()), unit(6), torch.arange(6) // 2
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"Hard picks pairs by their values.* leave fullgraph out"):
        torch.compile(objective, fullgraph=True, backend="eager")(rows, ids)
    torch.testing.assert_close(torch.compile(objective, backend="eager")(rows, ids), objective(rows, ids))


def test_the_share_of_active_pairs_keeps_its_precision() -> None:
    assert Mined(Triplet(), negatives=Hard()).bfloat16().active.dtype == torch.float32


@pytest.mark.parametrize("objective", [Circle(), Triplet(), Margin(learn=True)], ids=lambda o: type(o).__name__)
def test_the_fused_rule_equals_the_plain_one(objective: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on CUDA, here with a compiler that needs no toolchain; the GPU's own test is below."""
    torch._dynamo.reset()
    monkeypatch.setattr(evaluator, "FUSED_BACKEND", "aot_eager")
    results = []
    for fuse in (False, True):
        monkeypatch.setattr(evaluator, "can_fuse", lambda device, fuse=fuse: fuse)
        z = unit(11).requires_grad_()
        loss = objective(z, IDS)
        results.append((loss, torch.autograd.grad(loss, z)[0]))
    torch.testing.assert_close(*results)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("objective", ROW_OBJECTIVES, ids=lambda o: type(o).__name__)
def test_cuda_equals_cpu(objective: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    z = functional.normalize(torch.randn(3000, 64, generator=generator), dim=1)
    ids = torch.randint(0, 500, (3000,), generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        rows = z.to(device).requires_grad_()
        loss = objective.to(device)(rows, ids.to(device))
        results.append((loss.cpu(), torch.autograd.grad(loss, rows)[0].cpu()))
    objective.cpu()
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)
