"""Muon, the optimizer that turns all directions of a layer by the same amount: it learns more in few steps than SGD."""

from collections.abc import Callable, Iterable
from typing import Any, Final, overload

import torch
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.kernels.numerics import at_least_float32

ROUNDS: Final = 5
QUINTIC: Final = (3.4445, -4.7750, 2.0315)  # coefficients of s, s³ and s⁵ that bring small s near 1 in few rounds
_SMALLEST_NORM: Final = 1e-7


def orthogonalised(matrix: Tensor) -> Tensor:
    """About ``U Vᵀ`` of a matrix ``U S Vᵀ``: each singular value comes near 1, the directions stay.

    With a = 3.4445, b = −4.7750, c = 2.0315, from ``X = matrix / ‖matrix‖``, five times::

        X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X

    Each round changes a singular value s to a s + b s³ + c s⁵. Values from 0.002 on end within 0.3 of 1; smaller ones
    stay below, and 0 stays 0.

    All rounds are polynomials of ``A = X Xᵀ``, which is small where the matrix is flat. So they are made of A alone,
    ``X ← P X`` becomes ``Q ← P Q`` and ``A ← P A P``, and the result is the last Q times the first X.

    Args:
        matrix: (m, n), any floating dtype.

    Returns:
        (m, n), float32 at least.

    Cost: 4 r² l + 34 r³ flops for r = min(m, n) and l = max(m, n); the rounds on X itself take 20 r² l + 10 r³, which
    is 2.7 times as much for a 3×3 convolution (l = 9 r).
    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """
    wide = at_least_float32(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
    x = wide / wide.norm().clamp(min=_SMALLEST_NORM)
    gram = x @ x.T
    one = whole = _round(gram)
    for _ in range(ROUNDS - 1):
        gram = one @ gram @ one
        one = _round(gram)
        whole = one @ whole
    result: Tensor = whole @ x
    return result if matrix.shape[0] <= matrix.shape[1] else result.T


def _round(gram: Tensor) -> Tensor:
    """P = a + b A + c A² of a round."""
    a, b, c = QUINTIC
    one = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    one.diagonal().add_(a)
    return one


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024).

    For a tensor w with gradient g, seen as a matrix of a row for each output::

        v ← momentum · v + (1 − momentum) · g
        d = momentum · v + (1 − momentum) · g            (Nesterov)
        w ← (1 − lr · weight_decay) · w − lr · √max(1, rows / columns) · orthogonalised(d)

    A step changes all directions of a layer by about the same amount, for any size of the gradient; steps of SGD go
    along the few directions with the largest gradients. So ``lr`` is about the largest change of a layer's output in a
    step, relative to its input, and suits layers of any width.

    Departures: a tensor of one dimension (biases, BatchNorm's weights) is a matrix of one column, so it moves by
    ``lr · √n · d / ‖d‖``, and it has no weight decay; the paper leaves such tensors, and the first and last layer, to
    AdamW. The rounds are made on the Gram matrix, in float32 instead of bfloat16. v is the mean of gradients, of which
    only the direction counts.
    Cost: that of :func:`orthogonalised` for each layer, whatever the size of the batch, and one buffer per parameter.
    All state is in ``state_dict()``.
    Paper: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024 (kellerjordan.github.io).

    Args:
        params: tensors, or groups of tensors with their own values of the other arguments.
        lr: learning rate, 0 or more; 0.02 to 0.05 are usual.
        momentum: in [0, 1).
        weight_decay: 0 or more.

    Raises:
        LikewiseError: a value out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            rules = {
                "lr": (group["lr"] >= 0, "0 or more"),
                "momentum": (0 <= group["momentum"] < 1, "in [0, 1)"),
                "weight_decay": (group["weight_decay"] >= 0, "0 or more"),
            }
            for name, (fine, wanted) in rules.items():
                if not fine:
                    raise LikewiseError(f"Muon has {name}={group[name]}; it must be {wanted}.")

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates every parameter that has a gradient. A closure runs first, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight.numel():
                    self._move(weight, weight.grad, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, lr: float, momentum: float, weight_decay: float) -> None:
        state: dict[str, Tensor] = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity = state["velocity"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(velocity, momentum)
        if weight.ndim > 1:
            weight.mul_(1 - lr * weight_decay)
            rows = weight.shape[0]
            direction, length = orthogonalised(ahead.reshape(rows, -1)), max(1.0, rows * rows / weight.numel()) ** 0.5
        else:  # one column needs no rounds
            direction, length = ahead / ahead.norm().clamp(min=_SMALLEST_NORM), weight.numel() ** 0.5
        weight.add_(direction.reshape(weight.shape).to(weight.dtype), alpha=-lr * length)
