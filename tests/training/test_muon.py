"""Muon against its equations in loops; what its step is whatever the gradient, and that it goes on bit for bit."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from likewise.errors import LikewiseError
from likewise.training.muon import QUINTIC, ROUNDS, Muon, orthogonalised

SETTINGS: dict[str, Any] = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1}
SHAPES = ((3, 4), (4,), (2, 3, 3, 3), (), (1, 1), (5, 2))


def weights(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]


def give_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def rounds(matrix: Tensor) -> Tensor:
    """The docstring's rounds on the matrix itself."""
    a, b, c = QUINTIC
    x = matrix / matrix.norm()
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4), (1, 5), (5, 1), (1, 1)])
def test_the_gram_matrix_gives_what_the_rounds_give(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(orthogonalised(matrix), rounds(matrix), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(orthogonalised(1e6 * matrix), rounds(matrix), rtol=1e-10, atol=1e-12)


def test_all_directions_come_near_one_and_stay_theirs() -> None:
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(40, 16, generator=generator, dtype=torch.float64))
    found = u.T @ orthogonalised(u * torch.logspace(0, -2, 16, dtype=torch.float64) @ v.T) @ v
    values = found.diagonal()
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.2
    torch.testing.assert_close(found, torch.diag(values), rtol=0, atol=1e-9)
    assert not orthogonalised(torch.zeros(3, 5)).any()


def test_it_follows_the_equations_while_the_rate_changes() -> None:
    parameters = weights()
    optimizer = Muon(parameters, **SETTINGS)
    expected = [(p.detach().clone(), torch.zeros_like(p)) for p in parameters]
    for step, lr in enumerate((0.3, 0.1, 0.7, 0.0, 0.2)):
        optimizer.param_groups[0]["lr"] = lr
        give_gradients(parameters, step)
        if step == 2:
            parameters[0].grad = None  # has no part in this step: neither it nor its velocity moves
        for place, parameter in enumerate(parameters):
            if (g := parameter.grad) is None:
                continue
            w, v = expected[place]
            v = 0.9 * v + 0.1 * g
            d = 0.9 * v + 0.1 * g
            if parameter.ndim > 1:
                matrix = d.reshape(len(d), -1)
                moved = rounds(matrix).reshape(d.shape) * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
                w = (1 - lr * 0.1) * w - lr * moved
            else:
                w = w - lr * d.numel() ** 0.5 * d / d.norm()
            expected[place] = w, v
        before = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
        optimizer.step()
        after = [parameter.grad for parameter in parameters if parameter.grad is not None]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        for parameter, (w, _) in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.detach(), w, rtol=1e-10, atol=1e-12)


def test_a_step_has_the_same_length_whatever_the_gradient() -> None:
    moved = []
    for size in (1e-6, 1.0, 1e6):
        w = nn.Parameter(torch.zeros(8, 8))
        w.grad = size * torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
        Muon([w], lr=0.02).step()
        moved.append(w.detach())
    torch.testing.assert_close(moved[0], moved[1])
    torch.testing.assert_close(moved[2], moved[1])


def test_a_gradient_of_zero_moves_nothing_nor_do_weights_without_numbers() -> None:
    parameters = [*weights(), nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.zeros(0))]
    start = [p.detach().clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    Muon(parameters, lr=0.5).step()
    assert all(torch.equal(a, b.detach()) for a, b in zip(start, parameters, strict=True))


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    def run(parameters: list[nn.Parameter], optimizer: Muon, steps: range) -> None:
        for step in steps:
            optimizer.param_groups[0]["lr"] = 0.1 * (step + 1)
            give_gradients(parameters, step)
            optimizer.step()

    straight = weights()
    run(straight, Muon(straight, **SETTINGS), range(6))
    first = weights()
    optimizer = Muon(first, **SETTINGS)
    run(first, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"weights": [p.detach() for p in first], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = [nn.Parameter(w) for w in saved["weights"]]
    optimizer = Muon(second, lr=9.0, momentum=0.1)  # the saved values replace these
    optimizer.load_state_dict(saved["optimizer"])
    run(second, optimizer, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(straight, second, strict=True))


def test_groups_have_values_of_their_own_and_a_closure_is_run_with_gradients() -> None:
    still, moving = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([{"params": [still], "lr": 0.0}, {"params": [moving]}], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = still.square().sum() + moving.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 8.0
    assert float(still.detach().sum()) == 4.0
    assert float(moving.detach().sum()) < 4


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -0.1}])
def test_impossible_values_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(LikewiseError, match=next(iter(bad))):
        Muon(weights(), **(SETTINGS | bad))
