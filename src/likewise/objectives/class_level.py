"""Class-level objectives: a query against one proxy of each class, softmax with a modified target logit.

Dimension legend: Q queries, D dimensions, K proxies (one per class) or keys in their place, L labels per row.

Every class here defines how queries and proxies are scaled before their inner product, and the *target*: the logit of
the row's own class y as a function of its similarity. The loss of a row is ``softplus(log Σ_{j≠y} exp(logit_j) −
target)``, which equals −log softmax with this target. :func:`likewise.kernels.class_losses.class_losses` computes it in
tiles of rows. With several labels in a row, and with a learned scale, :func:`likewise.kernels.logsumexp.row_logsumexp`
sums over the other classes in tiles of classes.

In the equations w_j is the proxy of class j, x a query, θ_j the angle between them, and y the class of the query.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from likewise.alike import traced
from likewise.errors import LikewiseError, above_zero, number
from likewise.objectives.base import ClassObjective, How

__all__ = [
    "AMSoftmax",
    "ASoftmax",
    "ArcFace",
    "CircleClassifier",
    "CosFace",
    "L2Softmax",
    "LargeMarginSoftmax",
    "NormFace",
    "Softmax",
    "SphereFace",
]

Gradient = Literal["true", "insightface"]
SQUARE_FLOOR = 1e-8  # lower bound of sin² θ under the root: no slope below θ = 1e-4, and no infinite slope


def _learnable(value: float, learn: bool) -> nn.Parameter | float:
    return nn.Parameter(torch.tensor(value)) if learn else value


class Softmax(ClassObjective):
    """Softmax cross-entropy over the classes. The other class-level objectives modify it.

    ``L = −log[exp(w_y·x + b_y) / Σ_j exp(w_j·x + b_j)]``, with x and w of any length.

    Relations: UnifiedPairSimilarity (Circle paper, eq. 1) on inner products with γ = 1 and m = 0. NormFace is this with
    unit length and a scale. ParametricSoftmax is this with one class for each item. The chance level is log K.
    Departures: no bias by default, as in the other class-level objectives.
    Cost: 6·Q·K·D flops with the gradients; memory for a tile beyond the proxies, never for Q×K.
    Paper: the classifier of Sun et al., Circle Loss, CVPR 2020, sec. 3; Wu et al., NPID, CVPR 2018, eq. 1.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        bias: whether to learn b, which starts at 0.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        bias: bool = False,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        self.bias = nn.Parameter(torch.zeros(classes)) if bias else None

    def extra_repr(self) -> str:
        """The parameters."""
        return f"{self.sizes()}, bias={self.bias is not None}, reduction={self.reduce.how!r}"

    def vectors(self, queries: Tensor, keys: Tensor, key_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Without bias unchanged; with a bias, queries get a last dimension 1 and keys a last dimension b."""
        if self.bias is None:
            return queries, keys
        if not traced():
            highest = len(keys) - 1 if key_ids is None else int(key_ids.max())
            if highest >= len(self.bias):
                raise LikewiseError(f"a key has id {highest}, but there are {len(self.bias)} biases; take bias=False.")
        bias = self.bias[: len(keys)] if key_ids is None else self.bias[key_ids.clamp(min=0)]
        ones = queries.new_ones(len(queries), 1)
        return torch.cat([queries, ones], 1), torch.cat([keys, bias.to(keys.dtype).unsqueeze(1)], 1)

    def target_slope(self) -> float | None:
        """1."""
        return 1.0

    def target(self, similarity: Tensor) -> Tensor:
        """w_y·x + b_y."""
        return similarity


class L2Softmax(ClassObjective):
    """L2-constrained softmax (Ranjan, Castillo and Chellappa 2017): queries of length α, proxies of any length.

    ``L = −log[exp(w_y·f) / Σ_j exp(w_j·f)]`` with ``f = α x/‖x‖``.

    Relations: Softmax on queries of one length. With unit proxies as well it is NormFace.
    Departures: there is no bias. α is fixed at 16 by default; with ``learn=True`` it starts there.
    Cost: 6·Q·K·D flops with the gradients; memory for a tile beyond the proxies, never for Q×K.
    Paper: Ranjan et al., L2-constrained Softmax Loss for Discriminative Face Verification, 2017.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        alpha: α, the length of the queries; above 0.
        learn: whether to learn α, then the parameter ``alpha``.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    unit_queries = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        alpha: float = 16.0,
        learn: bool = False,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        self.alpha = _learnable(above_zero("alpha", alpha, "16 is a usual radius"), learn)

    def extra_repr(self) -> str:
        """The parameters."""
        alpha, learn = torch.as_tensor(self.alpha).item(), isinstance(self.alpha, nn.Parameter)
        return f"{self.sizes()}, alpha={alpha:.6g}, learn={learn}, reduction={self.reduce.how!r}"

    def logit_scale(self) -> Tensor | float:
        """α."""
        return self.alpha

    def target_slope(self) -> float | None:
        """α, where it is no parameter."""
        return self.alpha if isinstance(self.alpha, float) else None

    def target(self, similarity: Tensor) -> Tensor:
        """α w_y·x/‖x‖."""
        return self.alpha * similarity


def _folded_cosine(cosine: Tensor, margin: int) -> Tensor:
    """``ψ(θ) = (−1)^k cos(mθ) − 2k`` for ``θ ∈ [kπ/m, (k+1)π/m]``, from cos θ. It falls from 1 to 1 − 2m.

    cos(mθ) is computed as the Chebyshev polynomial T_m of cos θ. Without an arccosine the slope is finite at
    cos θ = ±1 too.
    """
    if margin == 1:
        return cosine
    before, multiple, twice = cosine, 2 * cosine * cosine - 1, 2 * cosine
    for _ in range(margin - 2):
        before, multiple = multiple, twice * multiple - before
    edges = cosine.new_tensor([math.cos(fold * math.pi / margin) for fold in range(1, margin)])
    k = (cosine.detach().unsqueeze(-1) < edges).sum(-1)
    return (1 - 2 * (k % 2)) * multiple - 2 * k


def _annealed(cosine: Tensor, margin: int, mix: float) -> Tensor:
    """``(λ cos θ + ψ(θ)) / (1 + λ)``."""
    return (_folded_cosine(cosine, margin) + mix * cosine) / (1 + mix)


def _check_folds(margin: int, mix: float) -> None:
    if isinstance(margin, bool) or not isinstance(margin, int) or margin < 1:
        raise LikewiseError(f"margin={margin} must be an integer of at least 1; it multiplies the angle, usually by 4.")
    if not 0 <= number("mix", mix) < math.inf:
        raise LikewiseError(f"mix={mix} must be 0 or above: the weight of the plain softmax target beside 1.")


class LargeMarginSoftmax(ClassObjective):
    """Large-margin softmax, L-softmax (Liu et al. 2016): multiplies the angle to the row's own proxy by m.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(w_j·x))]`` with ``t = ‖w_y‖‖x‖ (λ cos θ_y + ψ(θ_y)) / (1 + λ)`` and
    ``ψ(θ) = (−1)^k cos(mθ) − 2k`` for ``θ ∈ [kπ/m, (k+1)π/m]``.

    Relations: with m = 1, or as λ → ∞, it is Softmax. ASoftmax is this with ‖w‖ = 1.
    Departures: λ is ``mix``, 0 by default and constant. To anneal λ from large to small, a training loop sets
    ``objective.mix`` between steps. There is no bias.
    Cost: 6·Q·K·D flops with the gradients; memory for a tile beyond the proxies, never for Q×K.
    Paper: Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks, ICML 2016.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        margin: m, an integer, at least 1.
        mix: λ, the weight of the target without margin; 0 or more.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    times_lengths = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        margin: int = 4,
        mix: float = 0.0,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        _check_folds(margin, mix)
        self.margin, self.mix = margin, float(mix)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"{self.sizes()}, margin={self.margin}, mix={self.mix}, reduction={self.reduce.how!r}"

    def target(self, similarity: Tensor) -> Tensor:
        """(λ cos θ + ψ(θ)) / (1 + λ); the base class multiplies it by ‖w‖‖x‖."""
        return _annealed(similarity, self.margin, self.mix)


class ASoftmax(ClassObjective):
    """A-softmax, SphereFace (Liu et al. 2017): L-softmax with unit proxies.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(‖x‖ cos θ_j))]`` with ``t = ‖x‖ (λ cos θ_y + ψ(θ_y)) / (1 + λ)`` and
    ``ψ(θ) = (−1)^k cos(mθ) − 2k`` for ``θ ∈ [kπ/m, (k+1)π/m]``.

    Relations: LargeMarginSoftmax with ‖w‖ = 1. With m = 1 it is a softmax over unit proxies. AMSoftmax subtracts a
    margin from cos θ, ArcFace adds one to θ; both scale x to unit length as well.
    Departures: λ is ``mix``, 0 by default and constant. To anneal λ from large to small, a training loop sets
    ``objective.mix`` between steps. There is no bias.
    Cost: 6·Q·K·D flops with the gradients; memory for a tile beyond the proxies, never for Q×K.
    Paper: Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, CVPR 2017.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        margin: m, an integer, at least 1.
        mix: λ, the weight of the target without margin; 0 or more.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    unit_proxies = True
    times_lengths = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        margin: int = 4,
        mix: float = 0.0,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        _check_folds(margin, mix)
        self.margin, self.mix = margin, float(mix)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"{self.sizes()}, margin={self.margin}, mix={self.mix}, reduction={self.reduce.how!r}"

    def target(self, similarity: Tensor) -> Tensor:
        """(λ cos θ + ψ(θ)) / (1 + λ); the base class multiplies it by ‖x‖."""
        return _annealed(similarity, self.margin, self.mix)


SphereFace = ASoftmax


class NormFace(ClassObjective):
    """NormFace (Wang et al. 2017): softmax over scaled cosines.

    ``L = −log[exp(s cos θ_y) / Σ_j exp(s cos θ_j)]``, with queries and proxies scaled to unit length.

    Relations: AMSoftmax and ArcFace with margin 0; UnifiedPairSimilarity (eq. 1) with the unit proxies as keys, γ = s
    and m = 0; the normalised softmax of Zhai and Wu with temperature 1/s.
    Departures: s is fixed at 20 by default; with ``learn=True`` it starts there.
    Cost: 6·Q·K·D flops with the gradients; memory for a tile beyond the proxies, never for Q×K.
    Paper: Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, ACM MM 2017.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        scale: s, above 0.
        learn: whether to learn s, then the parameter ``scale``.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    unit_queries = True
    unit_proxies = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        scale: float = 20.0,
        learn: bool = False,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        self.scale = _learnable(above_zero("scale", scale, "20 to 64 is usual"), learn)

    def extra_repr(self) -> str:
        """The parameters."""
        scale, learn = torch.as_tensor(self.scale).item(), isinstance(self.scale, nn.Parameter)
        return f"{self.sizes()}, scale={scale:.6g}, learn={learn}, reduction={self.reduce.how!r}"

    def logit_scale(self) -> Tensor | float:
        """s."""
        return self.scale

    def target_slope(self) -> float | None:
        """s, where it is no parameter."""
        return self.scale if isinstance(self.scale, float) else None

    def target(self, similarity: Tensor) -> Tensor:
        """s cos θ."""
        return self.scale * similarity


class AMSoftmax(ClassObjective):
    """Additive-margin softmax, CosFace (both 2018): subtracts a margin from the cosine with the row's own proxy.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(s cos θ_j))]`` with ``t = s (cos θ_y − m)``.

    Relations: UnifiedPairSimilarity (Circle paper, eq. 1) with the unit proxies as keys and γ = s. With m = 0 it is
    NormFace.
    Departures: none. The defaults are in common use for AM-softmax. CosFace uses s = 64 and m = 0.35; insightface uses
    m = 0.4.
    Cost: 6·Q·K·D flops with the gradients; memory for a tile beyond the proxies, never for Q×K.
    Paper: Wang et al., Additive Margin Softmax for Face Verification, 2018; Wang et al., CosFace, CVPR 2018.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        scale: s, above 0.
        margin: m, subtracted from a cosine; from 0 to 2.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    unit_queries = True
    unit_proxies = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        scale: float = 30.0,
        margin: float = 0.35,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        self.scale = above_zero("scale", scale, "30 and 64 are usual")
        if not 0 <= number("margin", margin) <= 2:
            raise LikewiseError(f"margin={margin} must be in [0, 2], of a cosine; 0.35 is usual.")
        self.margin = float(margin)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"{self.sizes()}, scale={self.scale}, margin={self.margin}, reduction={self.reduce.how!r}"

    def logit_scale(self) -> Tensor | float:
        """s."""
        return self.scale

    def target_slope(self) -> float | None:
        """s."""
        return self.scale

    def target(self, similarity: Tensor) -> Tensor:
        """s (cos θ − m)."""
        return self.scale * (similarity - self.margin)


CosFace = AMSoftmax


class ArcFace(ClassObjective):
    """ArcFace (Deng et al. 2019): adds a margin to the angle to the row's own proxy.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(s cos θ_j))]`` with ``t = s cos(θ_y + m)``.

    Relations: with m = 0 it is NormFace. AMSoftmax has the margin on the cosine.
    Departures: none in the value: it is cos(θ + m), as in the paper, for every θ. Beyond θ = π − m (151° at m = 0.5)
    the target rises again with θ, so that it pushes away from the proxy. Queries are rarely there. For these angles
    pytorch-metric-learning uses cos θ − m sin m. The gradient dt/dcos θ is the exact ``s sin(θ + m) / sin θ`` by
    default, with sin θ at least 1e-4. With ``gradient="insightface"`` it is s, as in insightface's code, which computes
    the margin outside autograd.
    Cost: 6·Q·K·D flops with the gradients; memory for a tile beyond the proxies, never for Q×K.
    Paper: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019, eq. 3.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        scale: s, above 0.
        margin: m, in radians, from 0 to below π.
        gradient: "true" or "insightface"; the value of the loss is the same.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    unit_queries = True
    unit_proxies = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        scale: float = 64.0,
        margin: float = 0.5,
        gradient: Gradient = "true",
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        self.scale = above_zero("scale", scale, "64 is usual")
        if not 0 <= number("margin", margin) < math.pi:
            raise LikewiseError(f"margin={margin} must be in [0, π), in radians; 0.5 (28.6°) is usual.")
        if gradient not in ("true", "insightface"):
            raise LikewiseError(f"gradient={gradient!r} must be 'true' or 'insightface'.")
        self.margin, self.gradient = float(margin), gradient

    def extra_repr(self) -> str:
        """The parameters."""
        return (
            f"{self.sizes()}, scale={self.scale}, margin={self.margin}, gradient={self.gradient!r}, "
            f"reduction={self.reduce.how!r}"
        )

    def logit_scale(self) -> Tensor | float:
        """s."""
        return self.scale

    def target(self, similarity: Tensor) -> Tensor:
        """s cos(θ + m) = s (cos θ cos m − sin θ sin m)."""
        cosine = similarity.detach() if self.gradient == "insightface" else similarity
        sine = ((1 - cosine) * (1 + cosine)).clamp(min=SQUARE_FLOOR).sqrt()
        moved = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        return self.scale * (moved if cosine is similarity else moved + (similarity - cosine))


class CircleClassifier(ClassObjective):
    """Circle loss against class proxies (Sun et al. 2020, eq. 6 at the class level, sec. 3).

    ``L = log[1 + Σ_{j≠y} exp(γ α_n^j (s_j − m)) exp(−γ α_p (s_y − (1 − m)))]`` with cosines s, and
    ``α_p = [1 + m − s_y]₊``, ``α_n^j = [s_j + m]₊`` constants for the gradient.

    Relations: Circle with the unit proxies as keys and one positive for each row. AMSoftmax is the class-level form of
    eq. 1.
    Departures: none. No gradient of any order passes through α, as in the paper's eqs. 9–10.
    Cost: 6·Q·K·D flops with the gradients, and three more passes over a tile; memory for two tiles beyond the proxies,
    never for Q×K.
    Paper: Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, eq. 6.

    Args:
        classes: K, the number of classes; at least 2.
        dim: D, the length of a row.
        gamma: γ, above 0; the paper uses 256 for faces and 128 for re-identification.
        margin: m, of a cosine, between −1 and 1; the paper uses 0.25.
        generator: draws the first proxies; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    unit_queries = True
    unit_proxies = True

    def __init__(
        self,
        classes: int,
        dim: int,
        *,
        gamma: float = 256.0,
        margin: float = 0.25,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(classes, dim, generator, reduction)
        self.gamma = above_zero("gamma", gamma, "the paper uses 128 and 256")
        if not -1 < number("margin", margin) < 1:
            raise LikewiseError(f"margin={margin} must be in (−1, 1); the paper uses 0.25.")
        self.margin = self.circle = float(margin)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"{self.sizes()}, gamma={self.gamma}, margin={self.margin}, reduction={self.reduce.how!r}"

    def logit_scale(self) -> Tensor | float:
        """γ."""
        return self.gamma

    def target(self, similarity: Tensor) -> Tensor:
        """γ α_p (s_y − (1 − m))."""
        m = self.margin
        return self.gamma * (1 + m - similarity.detach()).relu() * (similarity - (1 - m))

    def other(self, similarity: Tensor) -> Tensor:
        """γ α_n (s_j − m)."""
        m = self.margin
        return self.gamma * (similarity.detach() + m).relu() * (similarity - m)
