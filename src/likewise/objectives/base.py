"""The interface of every objective, its default answers, and the reduction of the row losses."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from likewise.alike import Listed
from likewise.dictionaries.keys import Keys
from likewise.distributed import processes
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.kernels.numerics import Distance

How = Literal["mean", "sum", "none"]


class Reduction:
    """The mean or the sum of the row losses, or the row losses themselves ("none").

    A row counts when it has what its loss needs, for example a positive and a negative. Other rows have loss 0 and no
    gradient. "mean" divides the sum by the number of rows that count, also when some of them have loss 0; it is 0 when
    no row counts. When fewer than half of the rows count, the first such batch gives a LikewiseWarning.

    If several processes divide the rows of a batch (``across``), "mean" divides by the number of rows that count in all
    processes. The losses of the processes then add up to the loss of the batch, and the gradients to its gradient.

    Args:
        how: "mean", "sum" or "none".
        owner: the objective's name, for the warning.
        need: what a row needs to count, and what to do, for the warning.

    Raises:
        LikewiseError: any other ``how``.
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
        """(Q,) float losses and (Q,) bool → a scalar, or the (Q,) losses with "none".

        ``able`` (Q,) bool marks the rows that could count before mining; if given, the warning is about these rows.
        """
        if not torch.compiler.is_compiling():
            self._watch(counted if able is None else able)
        if self.how != "mean":
            return losses if self.how == "none" else losses.sum()
        number = processes.sum_over(counted.sum()) if self.across else counted.sum()
        return losses.sum() / number.clamp(min=1)

    def _watch(self, counted: Tensor) -> None:
        """Warns once. A check waits for the device, so off the CPU only calls 1, 2, 4, 8 ... check."""
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


class Objective(Protocol):
    """What training needs of an objective. Every objective is a ``torch.nn.Module``.

    Attributes:
        joins_rows: True if the loss is not a sum over queries, or if its random numbers are drawn for the whole batch.
            Each process then computes the loss of the whole batch.
        can_be_zero: whether a row that counts can have loss 0, as with a hinge.
        of_pairs: whether a row needs a positive and a negative among the keys.
    """

    joins_rows: bool
    can_be_zero: bool
    of_pairs: bool

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss of queries against the keys of a dictionary. The training step calls it."""

    def chance(self, n: int) -> float | None:
        """The loss of an embedding that can't distinguish items, with ``n`` keys; None where it is not known."""

    def triplet_margin(self) -> tuple[float, Distance] | None:
        """The margin and distance of a triplet loss; None for other losses."""

    def log_values(self) -> dict[str, float | str]:
        """Values of the objective's state that the log keeps."""

    def advance(self, step: int, epoch: float) -> None:
        """Sets what changes during training to its value at ``step``; ``epoch`` may be a fraction."""

    def share_rows(self) -> None:
        """Call it before training if processes divide the rows of a batch: a mean is then over all processes' rows."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As ``nn.Module.parameters``."""

    def state_dict(self) -> dict[str, Any]:
        """As ``nn.Module.state_dict``."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """As ``nn.Module.load_state_dict``."""

    def to(self, device: torch.device) -> Self:
        """As ``nn.Module.to``."""


# The answers of most objectives. A class that answers otherwise defines its own method.


def unknown_chance(self: object, n: int) -> float | None:
    """None: the loss at chance level is not known."""
    return None


def no_triplet_margin(self: object) -> tuple[float, Distance] | None:
    """None: this is not a triplet loss."""
    return None


def no_values(self: object) -> dict[str, float | str]:
    """Empty: this objective has no state to log."""
    return {}


def changes_nothing(self: object, step: int, epoch: float) -> None:
    """Does nothing: this objective does not change during training, except by gradients."""
