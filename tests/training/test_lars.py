"""LARS against its equations in loops; what it leaves alone, what it does at zero, and that it goes on bit for bit."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from likewise.encoders import resnet_small
from likewise.errors import LikewiseError
from likewise.training.lars import Lars

SETTINGS: dict[str, Any] = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1, "trust": 0.02}
SHAPES = ((3, 4), (4,), (2, 3, 3, 3), (), (1, 1), (5, 2))


def weights(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]


def give_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def norm(numbers: list[float]) -> float:
    return float(sum(number * number for number in numbers) ** 0.5)


def oracle_step(
    w: list[float], g: list[float], v: list[float], *, layer: bool, lr: float, momentum: float, **rest: float
) -> tuple[list[float], list[float]]:
    """The docstring's equations, number by number."""
    if layer:
        g = [a + rest["weight_decay"] * b for a, b in zip(g, w, strict=True)]
        ratio = rest["trust"] * norm(w) / norm(g) if norm(w) > 0 and norm(g) > 0 else 1.0
    else:
        ratio = 1.0
    v = [momentum * a + lr * ratio * b for a, b in zip(v, g, strict=True)]
    return [a - b for a, b in zip(w, v, strict=True)], v


def flat(x: Tensor | None) -> list[float]:
    assert x is not None
    return [float(number) for number in x.detach().reshape(-1)]


def test_it_follows_the_equations_while_the_rate_changes() -> None:
    parameters = weights()
    optimizer = Lars(parameters, **SETTINGS)
    expected = [(flat(p), [0.0] * p.numel()) for p in parameters]
    for step, lr in enumerate((0.3, 0.1, 0.7, 0.0, 0.2)):
        optimizer.param_groups[0]["lr"] = lr
        give_gradients(parameters, step)
        if step == 2:
            parameters[0].grad = None  # has no part in this step: neither it nor its velocity moves
        for place, parameter in enumerate(parameters):
            if parameter.grad is not None:
                w, v = expected[place]
                now = SETTINGS | {"lr": lr}
                expected[place] = oracle_step(w, flat(parameter.grad), v, layer=parameter.ndim > 1, **now)
        before = [flat(parameter.grad) for parameter in parameters if parameter.grad is not None]
        optimizer.step()
        assert before == [flat(parameter.grad) for parameter in parameters if parameter.grad is not None]
        for parameter, (w, _) in zip(parameters, expected, strict=True):
            torch.testing.assert_close(
                torch.tensor(flat(parameter), dtype=torch.float64),
                torch.tensor(w, dtype=torch.float64),
                rtol=1e-12,
                atol=1e-14,
            )


def test_groups_have_values_of_their_own() -> None:
    parameters = weights()
    optimizer = Lars([{"params": parameters[:1], "lr": 0.01, "trust": 0.5}, {"params": parameters[1:]}], **SETTINGS)
    give_gradients(parameters, 0)
    expected, _ = oracle_step(
        flat(parameters[0]),
        flat(parameters[0].grad),
        [0.0] * 12,
        layer=True,
        lr=0.01,
        trust=0.5,
        momentum=0.9,
        weight_decay=0.1,
    )
    optimizer.step()
    torch.testing.assert_close(parameters[0].detach().reshape(-1), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0)])
def test_zero_weights_or_gradients_have_ratio_one(weight: float, gradient: float) -> None:
    w = nn.Parameter(torch.full((2, 2), weight, dtype=torch.float64))
    w.grad = torch.full((2, 2), gradient, dtype=torch.float64)
    Lars([w], lr=0.5, weight_decay=0.0, trust=1e-3).step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), weight - 0.5 * gradient, dtype=torch.float64))


def test_a_first_step_moves_a_layer_by_its_length_times_rate_and_trust_whatever_the_gradient() -> None:
    for size in (1e-6, 1.0, 1e6):
        w = nn.Parameter(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
        start = w.detach().clone()
        w.grad = size * torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
        Lars([w], lr=2.0, trust=0.01).step()
        torch.testing.assert_close((w.detach() - start).norm(), 0.02 * start.norm())


def test_biases_and_batchnorm_are_plain_momentum_without_decay() -> None:
    encoder = nn.Sequential(resnet_small(), nn.Linear(256, 4)).double()
    twin = copy.deepcopy(encoder)
    small = {name for name, p in encoder.named_parameters() if p.ndim <= 1}
    assert any(name.endswith("bn1.weight") for name in small)
    ours, plain = Lars(encoder.parameters(), lr=0.1, weight_decay=0.5), torch.optim.SGD(twin.parameters(), 0.1, 0.9)
    for step in range(3):
        give_gradients(list(encoder.parameters()), step)
        give_gradients(list(twin.parameters()), step)
        ours.step()
        plain.step()
    others = dict(twin.named_parameters())
    for name, parameter in encoder.named_parameters():
        same = torch.allclose(parameter, others[name], rtol=1e-12, atol=0)
        assert same == (name in small), name


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    def run(parameters: list[nn.Parameter], optimizer: Lars, steps: range) -> None:
        for step in steps:
            optimizer.param_groups[0]["lr"] = 0.1 * (step + 1)
            give_gradients(parameters, step)
            optimizer.step()

    straight = weights()
    run(straight, Lars(straight, **SETTINGS), range(6))
    first = weights()
    optimizer = Lars(first, **SETTINGS)
    run(first, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"weights": [p.detach() for p in first], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = [nn.Parameter(w) for w in saved["weights"]]
    optimizer = Lars(second, lr=9.0, momentum=0.1)  # the saved values replace these
    optimizer.load_state_dict(saved["optimizer"])
    run(second, optimizer, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(straight, second, strict=True))


def test_a_closure_is_run_with_gradients() -> None:
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = Lars([w], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 4.0
    assert float(w.detach().sum()) < 4


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -0.1}, {"trust": 0.0}])
def test_impossible_values_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(LikewiseError, match=next(iter(bad))):
        Lars(weights(), **(SETTINGS | bad))
