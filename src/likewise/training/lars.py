"""LARS, the optimizer for large batches. Plain SGD comes from torch."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from likewise.errors import LikewiseError


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman & Ginsburg 2017) in the form of SimCLR's code.

    For a tensor w of two dimensions or more, with gradient g::

        d = g + weight_decay · w
        ratio = trust · ‖w‖ / ‖d‖          (1 where either norm is 0)
        v ← momentum · v + lr · ratio · d
        w ← w − v

    Tensors of one dimension or none (biases, BatchNorm's weights) have ratio 1 and no weight decay, as in SimCLR. So a
    step moves each layer by about ``lr · trust`` of its own length, for any size of the gradient.

    Departures: as in SimCLR's code, the ratio divides by ‖d‖; the paper divides by ‖g‖ + weight_decay · ‖w‖ (its eq.
    6), and it treats tensors of all shapes in the same way. v contains the learning rate, as in the paper's algorithm
    1 and as with ``classic_momentum=True`` in SimCLR's code: after a change of the rate, v still contains the old
    rate. In torch's SGD and in the other branch of SimCLR's code, v does not contain the rate. SimCLR's code excludes
    tensors by name; here the shape decides. There is no Nesterov momentum.
    Cost: one copy of the gradients, one buffer per parameter, two norms per tensor. All state is in ``state_dict()``.
    Paper: You, Gitman, Ginsburg, Large Batch Training of Convolutional Networks, 2017, algorithm 1.

    Args:
        params: tensors, or groups of tensors with their own values of the other arguments.
        lr: learning rate, 0 or more; SimCLR uses 0.3 · batch_size / 256, and 0.075 · √batch_size in short trainings.
        momentum: in [0, 1).
        weight_decay: 0 or more; SimCLR uses 1e-6.
        trust: η, above 0.

    Raises:
        LikewiseError: a value out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})
        for group in self.param_groups:
            rules = {
                "lr": (group["lr"] >= 0, "0 or more"),
                "momentum": (0 <= group["momentum"] < 1, "in [0, 1)"),
                "weight_decay": (group["weight_decay"] >= 0, "0 or more"),
                "trust": (group["trust"] > 0, "above 0"),
            }
            for name, (fine, wanted) in rules.items():
                if not fine:
                    raise LikewiseError(f"LARS has {name}={group[name]}; it must be {wanted}.")

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
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            self._move([p for p in moved if p.ndim > 1], group, group["weight_decay"], group["trust"])
            self._move([p for p in moved if p.ndim <= 1], group, 0.0, None)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any], weight_decay: float, trust: float | None) -> None:
        """One step of some tensors of a group. Without ``trust`` the ratio is 1."""
        if not weights:
            return
        grads = [weight.grad for weight in weights if weight.grad is not None]
        changes = torch._foreach_add(grads, weights, alpha=weight_decay)
        if trust is not None:
            lengths, pulls = torch.stack(torch._foreach_norm(weights)), torch.stack(torch._foreach_norm(changes))
            ratios = torch.where((lengths > 0) & (pulls > 0), trust * lengths / pulls, 1.0)
            torch._foreach_mul_(changes, list(ratios.unbind()))
        velocities = [self._velocity(weight) for weight in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, changes, alpha=group["lr"])
        torch._foreach_sub_(weights, velocities)

    def _velocity(self, weight: Tensor) -> Tensor:
        """The velocity v of a tensor; 0 before its first step."""
        state: dict[str, Tensor] = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        return state["velocity"]
