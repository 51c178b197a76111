"""Row-wise AdaGrad: every row of a table has one sum of squares, and a step touches only the rows it is given."""

import torch
from torch import Tensor

SMALL = 1e-8  # keeps a row that never had a gradient where it is


def descend(table: Tensor, sums: Tensor, rows: Tensor, gradient: Tensor, lr: float) -> None:
    """Steps down the gradient, in place: ``s_r += mean(g²)``, then ``x_r −= lr · g / √(s_r + 1e-8)``.

    A row that occurs several times gets every one of its gradients, each divided by the root of the row's sum after
    all of them.

    Departures: AdaGrad (Duchi et al. 2011, §1.1) has a sum for each number; one for each row needs 1/D of the memory.
    It adds the square of a row's whole gradient, where this adds the squares of its parts.
    Cost: 4·R·D reads and writes, wherever the rows are; sparse, as the other rows do not matter.

    Args:
        table: (n, D) float, changed.
        sums: (n,) float, of squares, changed.
        rows: (R,) int64, which may repeat.
        gradient: (R, D) float, overwritten.
        lr: the learning rate.
    """
    sums.index_add_(0, rows, gradient.square().mean(1))
    gradient *= (sums.index_select(0, rows) + SMALL).rsqrt_().mul_(lr).unsqueeze_(1)
    table.index_add_(0, rows, gradient, alpha=-1)


def descend_number(value: Tensor, total: Tensor, gradient: Tensor, lr: float) -> None:
    """The same for a single number: ``value`` and ``total`` () float are changed."""
    total += gradient.square()
    value -= lr * gradient / torch.sqrt(total + SMALL)
