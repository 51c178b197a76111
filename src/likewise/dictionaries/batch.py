"""Dictionaries without state: the batch itself, and the weights of the objective."""

from torch import Tensor, nn

from likewise.dictionaries.keys import Fresh, Keys


class Batch(nn.Module):
    """The keys of this step, with their gradient: end-to-end learning (He et al. 2020, Fig. 2a; SimCLR).

    Every key pulls where its id agrees and pushes elsewhere. The keys of all processes come gathered, and the gradient
    goes back to the process that encoded them (``likewise.gather_rows``), so that n processes have the
    negatives, and learn, as one with their whole batch.
    """

    def keys(self, ids: Tensor, fresh: Fresh) -> Keys:
        """The new keys."""
        return Keys(fresh.rows, fresh.ids)

    def update(self, rows: Tensor, ids: Tensor) -> None:
        """Nothing is kept."""


class Proxies(nn.Module):
    """The keys are weights of the objective, one per item or class, that the optimizer moves."""

    def keys(self, ids: Tensor, fresh: Fresh) -> Keys | None:
        """None: the objective has them."""
        return None

    def update(self, rows: Tensor, ids: Tensor) -> None:
        """Nothing is kept."""
