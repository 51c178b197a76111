"""The sampled softmax over classes beside NormFace, which it estimates."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from likewise.errors import LikewiseError
from likewise.objectives.class_level import NormFace
from likewise.objectives.sampled import SampledSoftmax
from likewise.objectives.sampled_classes import SampledClasses

K, DIM, BATCH, SCALE = 31, 6, 5, 6.0
IDS = torch.tensor([3, 0, 30, 11, 20])
SEVERAL = torch.tensor([[3, 7], [0, -1], [30, 1], [-1, -1], [20, 4]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normface() -> NormFace:
    return NormFace(K, DIM, scale=SCALE, generator=seeded(1)).double()


def sampled(samples: int, seed: int = 0) -> SampledClasses:
    """Its first proxies are those of :func:`normface`."""
    objective = SampledClasses(
        *(K, DIM), samples=samples, scale=SCALE, generator=seeded(1), noise_generator=seeded(seed)
    )
    return objective.double()


@pytest.fixture
def queries() -> Tensor:
    return torch.randn(BATCH, DIM, generator=seeded(2), dtype=torch.float64).requires_grad_()


def gradients(objective: NormFace | SampledClasses, queries: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, its gradient by the queries, and by the proxies."""
    loss = objective(queries, ids)
    return loss.detach(), *torch.autograd.grad(loss, [queries, objective.proxies])


@pytest.mark.parametrize("ids", [IDS, SEVERAL], ids=["one label", "several labels"])
def test_every_class_drawn_once_is_normface(ids: Tensor, queries: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """m = K: log(m/K) = 0, and the draw of the own class is the accidental hit."""
    objective = sampled(K)
    monkeypatch.setattr(objective.noise, "draw", lambda *known: torch.randperm(K, generator=seeded(3)))
    found, wanted = gradients(objective, queries, ids), gradients(normface(), queries, ids)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-13)


def test_the_mean_over_draws_tends_to_normface(queries: Tensor) -> None:
    """Loss and gradients: the error of the mean falls as m grows, to within the noise of the draws."""
    wanted, errors = gradients(normface(), queries, IDS), []
    for samples in (8, 64, 2000):
        objective = sampled(samples)
        draws = [gradients(objective, queries, IDS) for _ in range(60)]
        means = [torch.stack(each).mean(0) for each in zip(*draws, strict=True)]
        errors.append([float((a - b).norm() / b.norm()) for a, b in zip(means, wanted, strict=True)])
    assert all(small < large for small, large in zip(errors[2], errors[0], strict=True)), errors
    assert max(errors[2]) < 0.01, errors


def test_it_is_the_sampled_softmax_against_the_unit_proxies(queries: Tensor) -> None:
    """The same draws of the same generator, among them some accidental hits: so its partition has no bias either."""
    objective = sampled(20)
    keys = functional.normalize(objective.proxies.detach())
    twin = SampledSoftmax(samples=20, temperature=1 / SCALE, generator=seeded())
    assert (torch.randint(K, (20,), generator=seeded()) == IDS[:, None]).any()
    torch.testing.assert_close(objective(queries, IDS), twin(functional.normalize(queries), IDS, keys))


def test_only_the_own_and_the_drawn_proxies_have_a_gradient(queries: Tensor) -> None:
    objective = sampled(4)
    read = {*IDS.tolist(), *torch.randint(K, (4,), generator=seeded()).tolist()}
    slope = gradients(objective, queries, IDS)[2]
    assert set(slope.any(1).nonzero()[:, 0].tolist()) == read
    assert 5 < len(read) < K


def test_a_draw_of_nothing_but_the_own_class_is_no_loss(queries: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = sampled(4)
    objective.reduce.how = "none"
    monkeypatch.setattr(objective.noise, "draw", lambda *known: torch.full((4,), 3))
    losses = objective(queries, IDS)
    assert losses[0] == 0
    assert (losses[1:] > 0).all()
    slopes = torch.autograd.grad(losses.sum(), [queries, objective.proxies])
    assert all(slope.isfinite().all() for slope in slopes)
    assert not slopes[0][0].any()


def test_some_of_the_proxies(queries: Tensor) -> None:
    """Against a few classes' proxies the draws are among those classes: with two of them the other one, or none."""
    part = torch.tensor([11, 3])
    objective = sampled(400)
    loss = objective(queries[[0, 3]], IDS[[0, 3]], objective.proxies[part], part)
    exact = normface()(queries[[0, 3]], IDS[[0, 3]], objective.proxies[part], part)
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0)


def test_compiled_whole(queries: Tensor) -> None:
    """Without a generator, forwards and backwards."""
    torch.compiler.reset()
    results = []
    objective = SampledClasses(K, DIM, samples=9, generator=seeded(1)).double()
    for call in (objective, torch.compile(objective, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        loss = call(queries, IDS)
        results.append((loss.detach(), *torch.autograd.grad(loss, [queries, objective.proxies])))
    torch.testing.assert_close(results[1], results[0])


def test_chance_is_the_loss_of_an_embedding_that_tells_nothing_apart() -> None:
    objective = sampled(20_000)
    assert float(objective(torch.zeros(BATCH, DIM), IDS).detach()) == pytest.approx(objective.chance(K), rel=0.01)
    assert objective.chance(K) == pytest.approx(math.log(K))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SampledClasses(1, 5), "classes=1: give at least 2"),
        (lambda: SampledClasses(3, 5, samples=0), "samples=0 must be at least 1"),
        (lambda: SampledClasses(3, 5, scale=0.0), "scale=0.0 must be above 0"),
        (lambda: SampledClasses(3, 5)(torch.ones(2, 5), torch.tensor([0, 3])), r"ids\[1\] is 3, but there are 3 class"),
    ],
)
def test_misuse_is_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        call()
