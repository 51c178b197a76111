"""Which rows a step sees: a pure function of (n, batch_size, seed, step), so resuming needs the step alone."""

from hashlib import blake2b

import torch
from torch import Tensor


def stable_seed(seed: int, use: str, number: int) -> int:
    """A seed for one use in one epoch or step. 32 bits, since torch's CPU generator looks at no more of them."""
    return int.from_bytes(blake2b(f"{seed}/{use}/{number}".encode(), digest_size=4).digest(), "big")


class EpochSampler:
    """Every row once per epoch, in a fresh order, in ``ceil(n / batch_size)`` batches of nearly one size.

    Sizes differ by one at most, instead of a short last batch: no row is dropped, none is alone with BatchNorm.

    Args:
        n: number of rows, at least 1.
        batch_size: the largest batch, at least 2 (with 2 and an odd ``n`` one batch has 3, so that none has 1).
        seed: the orders' seed; epoch e's order depends on (seed, e) alone.
        smallest: no batch has fewer rows, unless there are fewer: two for every BatchNorm group, say.
    """

    def __init__(self, n: int, batch_size: int, seed: int, *, smallest: int = 2) -> None:
        self.n, self.seed = n, seed
        self.steps_per_epoch = max(1, min(-(-n // batch_size), n // smallest))
        self._epoch, self._batches = -1, ()  # type: tuple[int, tuple[Tensor, ...]]

    def rows(self, step: int) -> Tensor:
        """(B,) int64 rows of step ``step``. Cost: one permutation per epoch, n·8 bytes."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(stable_seed(self.seed, "order", epoch))
            order = torch.randperm(self.n, generator=generator)
            self._epoch, self._batches = epoch, torch.tensor_split(order, self.steps_per_epoch)
        return self._batches[place]
