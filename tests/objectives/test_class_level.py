"""The class-level objectives against the papers' formulas, written as loops in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from likewise.errors import LikewiseError
from likewise.kernels.class_losses import Form, class_losses, naive_class_losses
from likewise.kernels.logsumexp import naive_row_logsumexp, row_logsumexp
from likewise.objectives.base import ClassObjective
from likewise.objectives.class_level import (
    AMSoftmax,
    ArcFace,
    ASoftmax,
    CircleClassifier,
    CosFace,
    L2Softmax,
    LargeMarginSoftmax,
    NormFace,
    Softmax,
    SphereFace,
)
from likewise.objectives.pair_level import Circle, UnifiedPairSimilarity

K, DIM, BATCH = 11, 5, 7
IDS = torch.tensor([3, 0, 10, 3, 7, 1, 9])
ONE = {"reduction": "none"}


def normal(rows: int, seed: int, dim: int = DIM) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs, retain_graph=True))


def make(kind: type[ClassObjective], **settings: object) -> ClassObjective:
    """float64, proxies of mixed lengths."""
    objective = kind(K, DIM, generator=torch.Generator().manual_seed(1), **settings).double()  # type: ignore[arg-type, call-arg]
    with torch.no_grad():
        objective.proxies.mul_(torch.linspace(0.5, 2, K, dtype=torch.float64).unsqueeze(1))
    return objective


# The papers' logits of one row x with its class y, one class j at a time: (cosine, |x|, |w|, is the target) → logit.
Logit = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


def psi(cosine: Tensor, m: int) -> Tensor:
    theta = torch.acos(cosine)
    k = min(int(float(theta.detach()) / (math.pi / m)), m - 1)
    return (-1) ** k * torch.cos(m * theta) - 2 * k


def folded(m: int, mix: float, proxy_length: bool) -> Logit:
    def logit(c: Tensor, x: Tensor, w: Tensor, own: bool) -> Tensor:
        length = x * w if proxy_length else x
        return length * ((mix * c + psi(c, m)) / (1 + mix) if own else c)

    return logit


def circle_logit(gamma: float, m: float) -> Logit:
    def logit(c: Tensor, x: Tensor, w: Tensor, own: bool) -> Tensor:
        value = float(c.detach())
        if own:
            return gamma * max(1 + m - value, 0) * (c - (1 - m))
        return gamma * max(value + m, 0) * (c - m)

    return logit


CASES: dict[str, tuple[type[ClassObjective], dict[str, object], Logit]] = {
    "softmax": (Softmax, {}, lambda c, x, w, own: c * x * w),
    "l2": (L2Softmax, {"alpha": 6.0}, lambda c, x, w, own: 6.0 * c * w),
    "large-margin-1": (LargeMarginSoftmax, {"margin": 1}, folded(1, 0.0, True)),
    "large-margin-2": (LargeMarginSoftmax, {"margin": 2}, folded(2, 0.0, True)),
    "large-margin-4": (LargeMarginSoftmax, {}, folded(4, 0.0, True)),
    "large-margin-mixed": (LargeMarginSoftmax, {"margin": 3, "mix": 5.0}, folded(3, 5.0, True)),
    "a-softmax-4": (ASoftmax, {}, folded(4, 0.0, False)),
    "a-softmax-mixed": (ASoftmax, {"margin": 4, "mix": 2.5}, folded(4, 2.5, False)),
    "normface": (NormFace, {}, lambda c, x, w, own: 20 * c),
    "am-softmax": (AMSoftmax, {}, lambda c, x, w, own: 30 * (c - 0.35 * own)),
    "arcface": (ArcFace, {"scale": 20.0}, lambda c, x, w, own: 20 * torch.cos(torch.acos(c) + 0.5 * own)),
    "arcface-wide": (
        ArcFace,
        {"scale": 8.0, "margin": 2.0},
        lambda c, x, w, own: 8 * torch.cos(torch.acos(c) + 2 * own),
    ),
    "circle": (CircleClassifier, {"gamma": 16.0}, circle_logit(16.0, 0.25)),
    "circle-negative": (CircleClassifier, {"gamma": 40.0, "margin": -0.05}, circle_logit(40.0, -0.05)),
}
NAMES = list(CASES)


def by_loops(logit: Logit, queries: Tensor, proxies: Tensor, labels: list[list[int]]) -> Tensor:
    """−log softmax with the modified target; several labels: each among the classes that are none of the row's."""
    losses = []
    for x, own in zip(queries, labels, strict=True):
        terms = []
        for y in own:
            logits = {}
            for j, w in enumerate(proxies):
                if j == y or j not in own:
                    cosine = (x * w).sum() / (x.norm() * w.norm())
                    logits[j] = logit(cosine, x.norm(), w.norm(), j == y)
            terms.append(-torch.log(logits[y].exp() / sum(value.exp() for value in logits.values())))
        losses.append(sum(terms, x.new_zeros(())) / max(len(terms), 1))
    return torch.stack(losses)


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_the_papers(name: str) -> None:
    kind, settings, logit = CASES[name]
    objective, queries = make(kind, **settings), normal(BATCH, 2).requires_grad_()
    inputs = queries, objective.proxies
    expected = by_loops(logit, *inputs, [[y] for y in IDS.tolist()])
    torch.testing.assert_close(objective(queries, IDS), expected.mean(), rtol=1e-9, atol=1e-12)
    objective.reduce.how = "none"
    found = objective(queries, IDS)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    weight = torch.linspace(1, 2, BATCH, dtype=torch.float64)
    torch.testing.assert_close(
        gradient(found @ weight, *inputs), gradient(expected @ weight, *inputs), rtol=1e-7, atol=1e-10
    )


@pytest.mark.parametrize("name", NAMES)
def test_several_labels_and_none(name: str) -> None:
    kind, settings, logit = CASES[name]
    objective, queries = make(kind, **settings, **ONE), normal(4, 3).requires_grad_()
    ids = torch.tensor([[3, 5, -1], [-1, 10, -7], [-1, -1, -1], [0, 10, 4]])
    inputs = queries, objective.proxies
    found, expected = objective(queries, ids), by_loops(logit, *inputs, [[3, 5], [10], [], [0, 10, 4]])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    grads = gradient(found.sum(), *inputs)
    torch.testing.assert_close(grads, gradient(expected.sum(), *inputs), rtol=1e-7, atol=1e-10)
    assert (grads[0][2] == 0).all()
    objective.reduce.how = "mean"
    torch.testing.assert_close(objective(queries, ids), expected.sum() / 3)
    one, labels = torch.tensor([3, -1, 7, -1]), torch.tensor([[3], [-1], [7], [-1]])
    torch.testing.assert_close(objective(queries, one), objective(queries, labels))
    torch.testing.assert_close(objective(queries, one), objective(queries[[0, 2]], one[[0, 2]]))


def test_learned_scalars_have_gradients() -> None:
    queries = normal(BATCH, 2)
    for kind, name, value in ((L2Softmax, "alpha", 16.0), (NormFace, "scale", 20.0)):
        fixed, learned = make(kind), make(kind, learn=True)
        assert [n for n, _ in fixed.named_parameters()] == ["proxies"]
        parameter = dict(learned.named_parameters())[name]
        assert float(parameter.detach()) == value
        torch.testing.assert_close(learned(queries, IDS), fixed(queries, IDS))
        found = float(gradient(learned(queries, IDS), parameter)[0])
        up, down = (float(make(kind, **{name: value + step})(queries, IDS).detach()) for step in (1e-5, -1e-5))
        assert found == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_the_bias_is_a_linear_layers() -> None:
    objective, queries = make(Softmax, bias=True), normal(BATCH, 2).requires_grad_()
    assert objective.bias is not None
    with torch.no_grad():
        objective.bias.copy_(torch.linspace(-1, 1, K))
    inputs = queries, objective.proxies, objective.bias
    found = objective(queries, IDS)
    expected = functional.cross_entropy(functional.linear(*inputs), IDS)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, *inputs), gradient(expected, *inputs))
    part = torch.tensor([9, 3, 0, 7])
    found = objective(queries[[0, 1]], IDS[[0, 1]], objective.proxies[part], part)
    logits = functional.linear(*inputs)[[0, 1]][:, part]
    torch.testing.assert_close(found, functional.cross_entropy(logits, torch.tensor([1, 2])))
    with pytest.raises(LikewiseError, match="11 biases"):
        objective(queries, IDS, normal(30, 1))


def both(a: ClassObjective, b: ClassObjective) -> None:
    """Equal in value and gradient."""
    queries = normal(BATCH, 2).requires_grad_()
    one, other = a(queries, IDS), b(queries, IDS)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(gradient(one, queries, a.proxies), gradient(other, queries, b.proxies))


def test_degenerations_within_the_level() -> None:
    both(AMSoftmax(K, DIM, scale=20.0, margin=0.0, generator=g()).double(), NormFace(K, DIM, generator=g()).double())
    for how in ("true", "insightface"):
        both(make(ArcFace, scale=20.0, margin=0.0, gradient=how), make(NormFace))
    both(make(LargeMarginSoftmax, margin=1), make(Softmax))
    both(make(LargeMarginSoftmax, margin=4, mix=1e12), make(Softmax))
    free = make(ASoftmax, margin=1)
    plain = make(Softmax)
    with torch.no_grad():
        for objective in (free, plain):
            objective.proxies.copy_(functional.normalize(objective.proxies))
    torch.testing.assert_close(free(normal(BATCH, 2), IDS), plain(normal(BATCH, 2), IDS))
    objective = make(ASoftmax, mix=0.0)
    before = objective(normal(BATCH, 2), IDS)
    objective.mix = 5.0  # what an annealing loop does
    torch.testing.assert_close(objective(normal(BATCH, 2), IDS), make(ASoftmax, mix=5.0)(normal(BATCH, 2), IDS))
    assert objective(normal(BATCH, 2), IDS) < before
    assert CosFace is AMSoftmax
    assert SphereFace is ASoftmax


def g() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_equation_1_becomes_am_softmax_normface_softmax() -> None:
    """Sun et al., sec. 3.1: one positive, the own proxy; negatives, the others."""
    queries, unit = normal(BATCH, 2), functional.normalize
    for gamma, margin, kind, settings in (
        (30.0, 0.35, AMSoftmax, {}),
        (20.0, 0.0, NormFace, {}),
        (256.0, 0.25, CircleClassifier, {}),
    ):
        objective = make(kind, **settings)
        eq = Circle if kind is CircleClassifier else UnifiedPairSimilarity
        expected = eq(gamma=gamma, margin=margin)(unit(queries), IDS, unit(objective.proxies), torch.arange(K))
        torch.testing.assert_close(objective(queries, IDS), expected)
    softmax = make(Softmax)
    eq1 = UnifiedPairSimilarity(gamma=1.0, margin=0.0)
    eq1.unit_rows = False
    torch.testing.assert_close(softmax(queries, IDS), eq1(queries, IDS, softmax.proxies, torch.arange(K)))


def test_agreement_with_pytorch_metric_learning() -> None:
    """Its W is (D, K). Where it does not coincide, and why:

    ArcFaceLoss takes degrees and continues with cos θ − m sin m beyond θ + m > π: no case here goes there.
    LargeMarginSoftmaxLoss is ours with scale 1; its arccosine is for k alone, so gradients coincide.
    SphereFaceLoss likewise, with unit W. CircleLoss, L2-softmax and λ are not class-level there.
    """
    from pytorch_metric_learning import losses

    pairs = [
        (make(ArcFace), losses.ArcFaceLoss(K, DIM, margin=math.degrees(0.5), scale=64)),
        (make(AMSoftmax, scale=64.0), losses.CosFaceLoss(K, DIM, margin=0.35, scale=64)),
        (make(NormFace), losses.NormalizedSoftmaxLoss(K, DIM, temperature=0.05)),
        (make(LargeMarginSoftmax, margin=4), losses.LargeMarginSoftmaxLoss(K, DIM, margin=4, scale=1)),
        (make(LargeMarginSoftmax, margin=3), losses.LargeMarginSoftmaxLoss(K, DIM, margin=3, scale=1)),
        (make(ASoftmax, margin=4), losses.SphereFaceLoss(K, DIM, margin=4, scale=1)),
    ]
    for ours, theirs in pairs:
        queries = normal(BATCH, 2).requires_grad_()
        cosine = (functional.normalize(queries) * functional.normalize(ours.proxies)[IDS]).sum(1)
        assert cosine.min() > -math.cos(0.5)
        theirs = theirs.double()
        theirs.W.data = ours.proxies.detach().T.clone()
        found, expected = ours(queries, IDS), theirs(queries, IDS)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
        mine, reference = gradient(found, queries, ours.proxies), gradient(expected, queries, theirs.W)
        torch.testing.assert_close(mine, [reference[0], reference[1].T], rtol=1e-6, atol=1e-9)


def test_insightface_gradient() -> None:
    """Same value; the slope of the target is s, not s sin(θ + m) / sin θ."""
    cosine = torch.tensor([0.9, 0.3, -0.5, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    true, theirs = make(ArcFace), make(ArcFace, gradient="insightface")
    torch.testing.assert_close(true.target(cosine), theirs.target(cosine))
    torch.testing.assert_close(gradient(theirs.target(cosine).sum(), cosine)[0], torch.full_like(cosine, 64.0))
    theta = torch.acos(cosine.detach()[:3])
    slope = gradient(true.target(cosine).sum(), cosine)[0]
    torch.testing.assert_close(slope[:3], 64 * torch.sin(theta + 0.5) / torch.sin(theta))
    assert slope.isfinite().all()


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5])
def test_psi_falls_and_its_slope_is_finite(margin: int) -> None:
    objective = make(LargeMarginSoftmax, margin=margin)
    cosine = torch.linspace(-1, 1, 1001, dtype=torch.float64).requires_grad_()
    value = objective.target(cosine)
    assert (value.diff() > -1e-12).all()
    assert float(value[-1].detach()) == pytest.approx(1)
    assert float(value[0].detach()) == pytest.approx(1 - 2 * margin)
    slope = gradient(value.sum(), cosine)[0]
    assert slope.isfinite().all()
    assert float(slope[-1]) == pytest.approx(margin**2)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_vectors_are_finite(name: str) -> None:
    """Zero rows, rows on their proxy, opposite rows, huge rows; all in float32 at a scale of 1024."""
    kind, settings, _ = CASES[name]
    sharp = {NormFace: "scale", AMSoftmax: "scale", ArcFace: "scale", CircleClassifier: "gamma", L2Softmax: "alpha"}
    if kind in sharp:
        settings = {**settings, sharp[kind]: 1024.0}
    objective = make(kind, **settings, **ONE).float()
    with torch.no_grad():
        objective.proxies[0] = 0
    w = objective.proxies.detach()
    queries = torch.stack([w[3], w[0], -w[10], w[0], w[7] * 100, w[1], -w[9] * 1e-3]).requires_grad_()
    losses = objective(queries, IDS)
    assert losses.isfinite().all()
    assert all(grad.isfinite().all() for grad in gradient(losses.sum(), queries, objective.proxies))
    exact = make(kind, **settings, **ONE)
    with torch.no_grad():
        exact.proxies.copy_(w)
    kept = torch.ones(BATCH, dtype=torch.bool)
    if kind is ArcFace:
        kept[[0, 4]] = False  # θ ≈ 0: the sine of a rounded cosine is only good to 3e-4, times the scale
        kept[[2, 6]] = False
    expected = exact(queries.detach().double(), IDS).float()
    torch.testing.assert_close(losses[kept], expected[kept], rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_pair_loss_and_chance(name: str) -> None:
    """Two proxies at given cosines; n orthogonal proxies."""
    kind, settings, _ = CASES[name]
    s_p, s_n = torch.tensor([0.8, 0.1], dtype=torch.float64), torch.tensor([-0.2, 0.6], dtype=torch.float64)
    objective = make(kind, **settings, **ONE)
    query = torch.eye(1, DIM, dtype=torch.float64)
    for p, n, found in zip(s_p, s_n, objective.pair_loss(s_p, s_n), strict=True):
        pair = torch.zeros(2, DIM, dtype=torch.float64)
        pair[:, 0] = torch.stack([p, n])
        pair[0, 1], pair[1, 2] = (1 - p * p).sqrt(), (1 - n * n).sqrt()
        torch.testing.assert_close(objective(query, torch.tensor([0]), pair)[0], found.detach())
    flat = torch.zeros(6, DIM, dtype=torch.float64)
    flat[:, 1] = 1
    objective.reduce.how = "mean"
    assert objective.chance(6) == pytest.approx(float(objective(query, torch.tensor([2]), flat).detach()))


@pytest.mark.parametrize("tile", [1, 4, 11, 64])
@pytest.mark.parametrize("circle", [None, 0.25, -0.1])
@pytest.mark.parametrize(("scale", "unit"), [(1.0, False), (1024.0, False), (30.0, True)])
def test_row_logsumexp_is_its_twin(tile: int, circle: float | None, scale: float, unit: bool) -> None:
    queries = functional.normalize(normal(5, 1)).requires_grad_()
    keys = (normal(K, 2) if unit else functional.normalize(normal(K, 2))).requires_grad_()
    everything = torch.arange(K)
    weight = torch.linspace(1, 2, 5, dtype=torch.float64)
    for skip in (
        None,
        torch.tensor([3, -1, 0, 10, 5]),
        torch.tensor([[3, 4, -1], [-1, -1, -1], [0, 10, 0], [10, 9, 8], [-1, 5, 6]]),
        everything.expand(5, K).clone().index_fill_(0, torch.tensor([1, 3]), -1),  # rows 0, 2, 4: nothing left
    ):
        how: dict[str, Any] = {"skip": skip, "circle": circle, "unit_keys": unit}
        found = row_logsumexp(queries, keys, scale, tile=tile, **how)
        expected = naive_row_logsumexp(queries, keys, scale, **how)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
        some = expected.isfinite()
        assert some.sum() in (2, 5)
        grads = gradient(found[some] @ weight[some], queries, keys)
        dense = gradient(expected[some] @ weight[some], queries, keys)
        torch.testing.assert_close(grads, dense, rtol=1e-8, atol=1e-10)
        all_rows = gradient(functional.softplus(found) @ weight, queries, keys)
        assert all(x.isfinite().all() for x in all_rows)
        assert (all_rows[0][~some] == 0).all()
        for only in (queries, keys):  # one gradient at a time
            other = [x if x is only else x.detach() for x in (queries, keys)]
            alone = row_logsumexp(*other, scale, tile=tile, **how)  # type: ignore[misc]
            torch.testing.assert_close(
                gradient(alone[some] @ weight[some], only), gradient(expected[some] @ weight[some], only)
            )
        with torch.no_grad():
            torch.testing.assert_close(row_logsumexp(queries, keys, scale, tile=tile, **how), found)


@pytest.mark.parametrize("tile_rows", [1, 2, 7])
@pytest.mark.parametrize("circle", [None, 0.25])
@pytest.mark.parametrize("unit", [False, True])
def test_class_losses_are_their_twin(tile_rows: int, circle: float | None, unit: bool) -> None:
    queries, keys = normal(5, 1).requires_grad_(), normal(K, 2).requires_grad_()
    own, stretch = torch.tensor([3, -1, 0, 10, 3]), torch.linspace(1, 2, 5, dtype=torch.float64, requires_grad=True)
    inputs = queries, keys, stretch
    bent = Form(lambda s, length: length * s.sin(), 7.0, circle, unit, unit)
    straight = Form(lambda s: 7 * (s - 0.2), 7.0, circle, unit, unit, slope=7.0)
    for form, sought in ((bent, inputs), (straight, inputs[:2])):
        twin = naive_class_losses(form, queries, keys, own, sought[2:])
        for ahead in (True, False):
            found = class_losses(form, queries, keys, own, sought[2:], ahead=ahead, tile_rows=tile_rows)
            torch.testing.assert_close(found, twin, rtol=1e-11, atol=1e-11)
            for weight in (torch.tensor(0.3, dtype=torch.float64), torch.linspace(1, 2, 5, dtype=torch.float64)):
                grads = gradient((found * weight).sum(), *sought)
                torch.testing.assert_close(grads, gradient((twin * weight).sum(), *sought), rtol=1e-9, atol=1e-10)
        for only in sought:  # one gradient at a time
            some = [x if x is only else x.detach() for x in sought]
            alone = class_losses(form, some[0], some[1], own, some[2:], tile_rows=tile_rows)
            torch.testing.assert_close(gradient(alone.sum(), only), gradient(twin.sum(), only), rtol=1e-9, atol=1e-10)
        with torch.no_grad():
            torch.testing.assert_close(class_losses(form, queries, keys, own, sought[2:]), found)


def test_row_logsumexp_twin_is_a_loop() -> None:
    """The twin of the twin: eq. 6's negatives, written out."""
    queries, keys, skip = functional.normalize(normal(3, 1)), functional.normalize(normal(K, 2)), [[2, 4], [-1, 0], [5]]
    padded = torch.tensor([[2, 4], [-1, 0], [5, -1]])
    for i, left_out in enumerate(skip):
        s = [float(queries[i] @ keys[j]) for j in range(K) if j not in left_out]
        plain = math.log(sum(math.exp(7 * x) for x in s))
        circle = math.log(sum(math.exp(7 * max(x + 0.25, 0) * (x - 0.25)) for x in s))
        assert float(naive_row_logsumexp(queries, keys, 7.0, skip=padded)[i]) == pytest.approx(plain)
        assert float(naive_row_logsumexp(queries, keys, 7.0, skip=padded, circle=0.25)[i]) == pytest.approx(circle)


def test_memory_is_flat_in_the_number_of_classes() -> None:
    """Nothing of size Q×K is made or kept."""
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            results = result if isinstance(result, tuple) else (result,)
            sizes.extend(x.numel() for x in results if isinstance(x, Tensor))
            return result

    for kind in (AMSoftmax, CircleClassifier):
        objective = kind(500_000, 16)
        with Watch():
            objective(torch.randn(64, 16, requires_grad=True), torch.arange(64)).backward()
        assert max(sizes) == 500_000 * 16  # the proxies, and a tile of 16 rows; Q×K is 32,000,000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(name: str, dtype: torch.dtype) -> None:
    """Inputs are rounded once; products and sums are float32, in autocast too."""
    kind, settings, _ = CASES[name]
    objective, queries = make(kind, **settings).float(), normal(BATCH, 2).to(dtype).requires_grad_()
    single = queries.detach().float().requires_grad_()
    expected = objective(single, IDS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective(queries, IDS)
        again = objective(single, IDS)
    assert found.dtype == torch.float32
    torch.testing.assert_close([found, again], [expected, expected], rtol=0, atol=0)
    torch.testing.assert_close(gradient(found, queries)[0], gradient(expected, single)[0].to(dtype))
    objective.to(dtype)  # half proxies are raised too
    assert gradient(objective(queries, IDS), objective.proxies)[0].dtype == dtype


def test_keys_in_place_of_proxies() -> None:
    objective, queries = make(AMSoftmax), normal(BATCH, 2)
    order = torch.randperm(K, generator=g())
    whole = objective(queries, IDS)
    torch.testing.assert_close(objective(queries, IDS, objective.proxies[order], order), whole)
    torch.testing.assert_close(objective(queries, IDS * 5 + 2, objective.proxies, torch.arange(K) * 5 + 2), whole)
    unlabelled = torch.where(order < 4, -1, order)  # keys of no class are others to every row
    labelled = IDS.where(IDS >= 4, 7)
    torch.testing.assert_close(
        objective(queries, labelled, objective.proxies[order], unlabelled), objective(queries, labelled)
    )
    with pytest.raises(LikewiseError, match=r"no key has the id.*\[9\]"):
        objective(queries, IDS, objective.proxies[:9], torch.tensor([3, 0, 10, 7, 1, 2, 4, 5, 6]))
    with pytest.raises(LikewiseError, match=r"\[3\] come more than once"):
        objective(queries, IDS.where(IDS == 3, -1), objective.proxies[:3], torch.tensor([3, 3, 0]))


@pytest.mark.parametrize("name", NAMES)
def test_state_and_training(name: str) -> None:
    """A few SGD steps move the proxies and lower the loss; the state goes round."""
    kind, settings, _ = CASES[name]
    objective, queries = kind(K, DIM, generator=g(), **settings), normal(BATCH, 2).float()  # type: ignore[arg-type, call-arg]
    start, first = objective.proxies.detach().clone(), objective(queries, IDS)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        loss = objective(queries, IDS)
        loss.backward()
        optimizer.step()
    assert objective(queries, IDS) < first
    assert ((objective.proxies - start).norm(dim=1) > 0).all()
    other = kind(K, DIM, **settings)  # type: ignore[arg-type, call-arg]
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other(queries, IDS), objective(queries, IDS))


SEVERAL = torch.tensor([[1, 2], [3, -1], [-1, -1], [10, 4], [0, 1], [2, 3], [5, -1]])


@pytest.mark.parametrize(("name", "ids"), [("circle", SEVERAL)])
def test_compiled_traces_whole(name: str, ids: Tensor) -> None:
    """Forwards and backwards."""
    kind, settings, _ = CASES[name]
    objective, queries = make(kind, **settings), normal(BATCH, 2).requires_grad_()
    torch._dynamo.reset()
    found = torch.compile(objective, fullgraph=True, backend="aot_eager")(queries, ids)
    expected = objective(queries, ids)
    torch.testing.assert_close(found, expected)
    inputs = queries, objective.proxies
    torch.testing.assert_close(gradient(found, *inputs), gradient(expected, *inputs))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Softmax(1, 5), "classes=1: give at least 2"),
        (lambda: Softmax(3, 5, reduction="max"), "reduction='max'"),  # type: ignore[arg-type]
        (lambda: NormFace(3, 5, scale=0.0), "scale=0.0 must be above 0"),
        (lambda: AMSoftmax(3, 5, scale=-1.0), "scale=-1.0"),
        (lambda: AMSoftmax(3, 5, margin=-0.1), "margin=-0.1"),
        (lambda: ArcFace(3, 5, margin=28.6), "in radians"),
        (lambda: ArcFace(3, 5, gradient="other"), "gradient='other'"),  # type: ignore[arg-type]
        (lambda: L2Softmax(3, 5, alpha=math.nan), "alpha=nan"),
        (lambda: ASoftmax(3, 5, margin=0), "margin=0 must be an integer"),
        (lambda: LargeMarginSoftmax(3, 5, margin=2.5), "margin=2.5 must be an integer"),  # type: ignore[arg-type]
        (lambda: LargeMarginSoftmax(3, 5, mix=-1.0), "mix=-1.0"),
        (lambda: CircleClassifier(3, 5, gamma=0.0), "gamma=0.0"),
        (lambda: CircleClassifier(3, 5, margin=1.5), "margin=1.5"),
        (
            lambda: Softmax(3, 5)(torch.ones(2, 5), torch.tensor([0, 3])),
            r"ids\[1\] is 3, but there are 3 classes, numbered from 0",
        ),
        (
            lambda: Softmax(3, 5)(torch.ones(2, 5), torch.tensor([[0, -1], [1, 4]])),
            r"ids\[1, 1\] is 4, but there are 3 classes",
        ),
        (lambda: Softmax(3, 5)(torch.ones(2, 4), torch.tensor([0, 1])), "same D"),
        (lambda: Softmax(3, 5)(torch.ones(2, 5), torch.tensor([0])), "one per query"),
        (lambda: Softmax(3, 5)(torch.ones(0, 5), torch.tensor([], dtype=torch.int64)), "0 queries"),
        (lambda: Softmax(3, 5)(torch.ones(2, 5), torch.tensor([0.0, 1.0])), "must be integers"),
        (lambda: Softmax(3, 5)(torch.ones(1, 5), torch.tensor([0]), torch.ones(2, 5), torch.arange(3)), "one per key"),
    ],
)
def test_misuse_is_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        call()
