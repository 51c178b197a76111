"""The class-level objective for very many classes: a query against the proxies of its own class and of a few others.

Dimension legend: Q queries, D dimensions, K proxies, L labels per row, m samples.
"""

import torch
from torch import Tensor

from likewise.errors import above_zero, at_least_one
from likewise.objectives.base import ClassObjective, How
from likewise.objectives.sampled import Noise, sampled_logsumexp

__all__ = ["SampledClasses"]


class SampledClasses(ClassObjective):
    """Sampled softmax (Jean et al. 2015, §3) over classes: NormFace against m drawn classes in place of all K.

    ``L = −log[e^{s_y} / (e^{s_y} + Σ_{j ∈ S, j ≠ y} e^{s_j − log(m/K)})]`` with ``s_j = s cos θ_j`` and m draws S, one
    set for the batch, each class with the same chance 1/K. Draws of a row's own class, or of any of its own classes
    (accidental hits), are left out of this row.

    Relations: estimates NormFace: the sum under the logarithm is expected to be that over all classes, and loss and
    gradient tend to NormFace's as m grows. It is SampledSoftmax with the unit proxies as keys, temperature 1/s and
    uniform Q. The chance level is about log K.
    Departures: those of SampledSoftmax, and cosines in place of inner products. The scale is not learned.
    Cost: 6·Q·m·D flops with the gradients, and Q·m floats. Only the row's own and the drawn proxies are read and have
    a gradient, but it is stored as a dense K·D, and the optimizer's step is over all proxies. With m near K or above,
    NormFace costs no more and is exact: draws come with replacement, so even m = K misses a third of the classes.
    Paper: Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, ACL 2015, §3; the cosines
    are of Wang et al., NormFace, ACM MM 2017.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        samples: m, drawn with replacement; less than K is meant.
        scale: s, above 0.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        noise_generator: draws the classes; on the proxies' device. None: torch's global generator, which a full
            compiled graph needs.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    joins_rows = True  # what is drawn is the whole batch's
    unit_queries = True
    unit_proxies = True
    whole = False

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        samples: int = 4096,
        scale: float = 20.0,
        generator: torch.Generator | None = None,
        noise_generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        self.samples = at_least_one("samples", samples, "thousands are usual")
        self.scale = above_zero("scale", scale, "20 to 64 is usual")
        self.noise = Noise(generator=noise_generator)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"{self.sizes()}, samples={self.samples}, scale={self.scale}, reduction={self.reduce.how!r}"

    def logit_scale(self) -> Tensor | float:
        """s."""
        return self.scale

    def target(self, similarity: Tensor) -> Tensor:
        """s cos θ."""
        return self.scale * similarity

    def push(self, queries: Tensor, keys: Tensor, rows: Tensor, scale: float) -> Tensor:
        """Over m drawn classes, each logit less log(m/K)."""

        def hits(drawn: Tensor) -> Tensor:
            return (rows.unsqueeze(2) == drawn).any(1)  # (Q, m)

        return sampled_logsumexp(queries * scale, keys, self.noise, self.samples, hits, unit_keys=True)
