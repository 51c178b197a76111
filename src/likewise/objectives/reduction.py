"""How the losses of the rows become the loss of the batch: defined once, for every objective."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from likewise.distributed import processes
from likewise.errors import LikewiseError, LikewiseWarning

How = Literal["mean", "sum", "none"]


class Reduction:
    """Mean, sum or none over the rows that counted.

    A row counts when it has what its loss needs (say a positive and a negative); the others have loss 0 and no
    gradient. "mean" divides the sum by the number of rows that counted (0 when none did), whatever their loss is;
    "none" returns one loss per row. When fewer than half of the rows count, a warning says so, once.

    Where several processes share the rows of a batch (``across``), the mean is over the rows of all of them: the values
    of the processes add up to the batch's loss, and their gradients to its gradient.

    Args:
        how: "mean", "sum" or "none".
        owner: the objective's name, for the warning.
        need: what a row needs to count, and what to do, for the warning.
    """

    def __init__(self, how: How, owner: str, need: str) -> None:
        if how not in ("mean", "sum", "none"):
            raise LikewiseError(f"reduction={how!r} must be 'mean', 'sum' or 'none'.")
        self.how, self.owner, self.need = how, owner, need
        self.across = False
        self.calls, self.warned = 0, False

    def __repr__(self) -> str:
        return f"Reduction(how={self.how!r}, owner={self.owner!r}, need={self.need!r})"

    def __call__(self, losses: Tensor, counted: Tensor, able: Tensor | None = None) -> Tensor:
        """(Q,) losses and (Q,) bool → a scalar, or the (Q,) losses.

        ``able`` (Q,) are the rows that could have counted, where mining left some out: the warning is about those.
        """
        if not torch.compiler.is_compiling():
            self._watch(counted if able is None else able)
        if self.how != "mean":
            return losses if self.how == "none" else losses.sum()
        number = processes.sum_over(counted.sum()) if self.across else counted.sum()
        return losses.sum() / number.clamp(min=1)

    def _watch(self, counted: Tensor) -> None:
        """Looks at every call on the CPU; elsewhere, where looking waits for the device, at calls 1, 2, 4, 8, ..."""
        self.calls += 1
        if self.warned or (counted.device.type != "cpu" and self.calls & (self.calls - 1)):
            return
        number = int(counted.sum())
        if 2 * number < len(counted):
            self.warned = True
            warnings.warn(
                f"{self.owner}: {number} of {len(counted)} anchors counted in this batch; the others have no "
                f"gradient, as each needs {self.need}. (Said once.)",
                LikewiseWarning,
                stacklevel=4,
            )
