"""Class-level objectives: a query against one proxy of each class, softmax with a modified target logit.

Dimension legend: Q queries, D dimensions, K proxies (one per class) or keys in their place, L labels per row.

Every class here says two things: how queries and proxies are scaled before their product, and the *target*, the logit
of the row's own class as a function of their similarity. The loss of a row is
``softplus(log Σ_{j not own} exp(logit_j) − target)``, which is −log softmax with that target. The sum over the other
classes comes from :func:`likewise.kernels.logsumexp.row_logsumexp`: nothing of size Q×K exists.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from likewise.derivatives import traced
from likewise.errors import LikewiseError
from likewise.objectives.base import ClassObjective, How
from likewise.objectives.checks import above_zero

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
SQUARE_FLOOR = 1e-8  # of sin² θ under a root: angles below 1e-4 have no slope, and none is infinite


def _learnable(value: float, learn: bool) -> nn.Parameter | float:
    return nn.Parameter(torch.tensor(value)) if learn else value


class Softmax(ClassObjective):
    """Softmax cross-entropy over the classes: the classifier that the others of this level modify.

    ``L = −log[exp(w_y·x + b_y) / Σ_j exp(w_j·x + b_j)]``, with free lengths of x and w.

    Relations: UnifiedPairSimilarity (Circle paper, eq. 1) on inner products with γ = 1, m = 0; NormFace with x and w of
    unit length and a scale; ParametricSoftmax with items for classes. Chance level is log K.
    Departures: no bias by default, as in the softmaxes that its descendants start from.
    Cost: 6 to 8·Q·K·D flops; memory of a tile, whatever K is.
    Paper: the classifier of Sun et al., Circle Loss, CVPR 2020, sec. 3; Wu et al., NPID, CVPR 2018, eq. 1.

    Args:
        classes: K.
        dim: D.
        bias: learn b, from zero.
        generator: for the initial proxies.
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
        """As they are, or with 1 and b as a last dimension."""
        if self.bias is None:
            return queries, keys
        if not traced():
            highest = len(keys) - 1 if key_ids is None else int(key_ids.max())
            if highest >= len(self.bias):
                raise LikewiseError(f"a key has id {highest}, but there are {len(self.bias)} biases; take bias=False.")
        bias = self.bias[: len(keys)] if key_ids is None else self.bias[key_ids.clamp(min=0)]
        ones = queries.new_ones(len(queries), 1)
        return torch.cat([queries, ones], 1), torch.cat([keys, bias.to(keys.dtype).unsqueeze(1)], 1)

    def target(self, similarity: Tensor) -> Tensor:
        """w_y·x + b_y."""
        return similarity


class L2Softmax(ClassObjective):
    """L2-constrained softmax (Ranjan, Castillo and Chellappa 2017): features on a sphere of radius α, free proxies.

    ``L = −log[exp(w_y·f) / Σ_j exp(w_j·f)]`` with ``f = α x/‖x‖``.

    Relations: Softmax on features of one length; NormFace where the proxies' lengths are fixed too.
    Departures: no bias. The default α = 16 is fixed; ``learn=True`` starts from it.
    Cost: 6 to 8·Q·K·D flops; memory of a tile, whatever K is.
    Paper: Ranjan et al., L2-constrained Softmax Loss for Discriminative Face Verification, 2017.

    Args:
        classes: K.
        dim: D.
        alpha: α, the radius.
        learn: learn α, a parameter ``alpha``, with the rest.
        generator: for the initial proxies.
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

    def target(self, similarity: Tensor) -> Tensor:
        """α w_y·x/‖x‖."""
        return self.alpha * similarity


def _folded_cosine(cosine: Tensor, margin: int) -> Tensor:
    """``ψ(θ) = (−1)^k cos(mθ) − 2k`` on ``θ ∈ [kπ/m, (k+1)π/m]``, from cos θ: falls from 1 to 1 − 2m.

    cos(mθ) is the Chebyshev polynomial T_m of cos θ: no arccosine, hence a finite slope at cos θ = ±1 too.
    """
    before, multiple = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, multiple = multiple, 2 * cosine * multiple - before
    if margin == 1:
        return multiple
    edges = torch.arange(1, margin, device=cosine.device, dtype=cosine.dtype).mul_(math.pi / margin).cos_()
    k = (cosine.detach().unsqueeze(-1) < edges).sum(-1)
    return torch.where(k % 2 == 0, multiple, -multiple) - 2 * k


def _annealed(cosine: Tensor, margin: int, mix: float) -> Tensor:
    """``(λ cos θ + ψ(θ)) / (1 + λ)``."""
    return (_folded_cosine(cosine, margin) + mix * cosine) / (1 + mix)


def _check_folds(margin: int, mix: float) -> None:
    if isinstance(margin, bool) or not isinstance(margin, int) or margin < 1:
        raise LikewiseError(f"margin={margin} must be an integer of at least 1; it multiplies the angle, usually by 4.")
    if not 0 <= mix < math.inf:
        raise LikewiseError(f"mix={mix} must be 0 or above: the weight of the plain softmax target beside 1.")


class LargeMarginSoftmax(ClassObjective):
    """Large-margin softmax, L-softmax (Liu et al. 2016): the angle to the own class counts m-fold.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(w_j·x))]`` with ``t = ‖w_y‖‖x‖ (λ cos θ_y + ψ(θ_y)) / (1 + λ)`` and
    ``ψ(θ) = (−1)^k cos(mθ) − 2k`` for ``θ ∈ [kπ/m, (k+1)π/m]``.

    Relations: m = 1, or λ → ∞, is Softmax; ASoftmax fixes ‖w‖ = 1.
    Departures: λ is ``mix``, 0 by default and constant: a training loop that anneals it, from large to small, sets
    ``objective.mix`` between steps. No bias.
    Cost: 6 to 8·Q·K·D flops; memory of a tile, whatever K is.
    Paper: Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks, ICML 2016.

    Args:
        classes: K.
        dim: D.
        margin: m, an integer from 1.
        mix: λ, the weight of the plain target.
        generator: for the initial proxies.
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
        """(λ cos θ + ψ(θ)) / (1 + λ), to be multiplied by ‖w‖‖x‖."""
        return _annealed(similarity, self.margin, self.mix)


class ASoftmax(ClassObjective):
    """A-softmax, SphereFace (Liu et al. 2017): L-softmax with unit proxies, so that only angles decide.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(‖x‖ cos θ_j))]`` with ``t = ‖x‖ (λ cos θ_y + ψ(θ_y)) / (1 + λ)`` and
    ``ψ(θ) = (−1)^k cos(mθ) − 2k`` for ``θ ∈ [kπ/m, (k+1)π/m]``.

    Relations: LargeMarginSoftmax with ‖w‖ = 1; with m = 1 a softmax over unit proxies. AMSoftmax and ArcFace put an
    additive margin on cos θ and θ in place of the multiplicative one, and fix ‖x‖ too.
    Departures: λ is ``mix``, 0 by default and constant: a training loop that anneals it, from large to small, sets
    ``objective.mix`` between steps. No bias.
    Cost: 6 to 8·Q·K·D flops; memory of a tile, whatever K is.
    Paper: Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, CVPR 2017.

    Args:
        classes: K.
        dim: D.
        margin: m, an integer from 1.
        mix: λ, the weight of the plain target.
        generator: for the initial proxies.
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
        """(λ cos θ + ψ(θ)) / (1 + λ), to be multiplied by ‖x‖."""
        return _annealed(similarity, self.margin, self.mix)


SphereFace = ASoftmax


class NormFace(ClassObjective):
    """NormFace (Wang et al. 2017): softmax over scaled cosines.

    ``L = −log[exp(s cos θ_y) / Σ_j exp(s cos θ_j)]``, features and proxies at unit length.

    Relations: AMSoftmax and ArcFace with margin 0; UnifiedPairSimilarity (eq. 1) with the unit proxies as keys, γ = s
    and m = 0; the normalised softmax of Zhai and Wu with temperature 1/s.
    Departures: s is fixed at 20 by default; ``learn=True`` starts from it.
    Cost: 6 to 8·Q·K·D flops; memory of a tile, whatever K is.
    Paper: Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, ACM MM 2017.

    Args:
        classes: K.
        dim: D.
        scale: s.
        learn: learn s, a parameter ``scale``, with the rest.
        generator: for the initial proxies.
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

    def target(self, similarity: Tensor) -> Tensor:
        """s cos θ."""
        return self.scale * similarity


class AMSoftmax(ClassObjective):
    """Additive-margin softmax, CosFace (Wang et al. 2018, twice): the own cosine must win by a margin.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(s cos θ_j))]`` with ``t = s (cos θ_y − m)``.

    Relations: UnifiedPairSimilarity (Circle paper, eq. 1) with the unit proxies as keys and γ = s; m = 0 is NormFace.
    Departures: none. The defaults are in common use for AM-softmax; CosFace has s = 64, m = 0.35, insightface m = 0.4.
    Cost: 6 to 8·Q·K·D flops; memory of a tile, whatever K is.
    Paper: Wang et al., Additive Margin Softmax for Face Verification, 2018; Wang et al., CosFace, CVPR 2018.

    Args:
        classes: K.
        dim: D.
        scale: s.
        margin: m, of the cosine.
        generator: for the initial proxies.
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
        if not 0 <= margin <= 2:
            raise LikewiseError(f"margin={margin} must be in [0, 2], of a cosine; 0.35 is usual.")
        self.margin = float(margin)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"{self.sizes()}, scale={self.scale}, margin={self.margin}, reduction={self.reduce.how!r}"

    def logit_scale(self) -> Tensor | float:
        """s."""
        return self.scale

    def target(self, similarity: Tensor) -> Tensor:
        """s (cos θ − m)."""
        return self.scale * (similarity - self.margin)


CosFace = AMSoftmax


class ArcFace(ClassObjective):
    """ArcFace (Deng et al. 2019): an additive margin on the angle to the own proxy.

    ``L = −log[e^t / (e^t + Σ_{j≠y} exp(s cos θ_j))]`` with ``t = s cos(θ_y + m)``.

    Relations: m = 0 is NormFace; AMSoftmax has its margin on the cosine instead.
    Departures: none in the value: cos(θ + m) as in the paper for every θ. Beyond θ = π − m (151° at m = 0.5) it rises
    again and pushes away from the proxy; features hardly get there, and pytorch-metric-learning continues with
    cos θ − m sin m instead. The slope is the true ``s sin(θ + m) / sin θ`` by default, with sin θ at least 1e-4;
    ``gradient="insightface"`` has dt/dcos θ = s, as in insightface's code, which computes the margin outside autograd.
    Cost: 6 to 8·Q·K·D flops; memory of a tile, whatever K is.
    Paper: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019, eq. 3.

    Args:
        classes: K.
        dim: D.
        scale: s.
        margin: m, in radians, below π.
        gradient: "true" or "insightface"; the loss is the same.
        generator: for the initial proxies.
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
        if not 0 <= margin < math.pi:
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
    ``α_p = [1 + m − s_y]₊``, ``α_n^j = [s_j + m]₊`` taken as constants.

    Relations: Circle with the unit proxies as keys and one positive a row. AMSoftmax is eq. 1 where this is eq. 6.
    Departures: none. α carries no gradient, as eqs. 9–10 need.
    Cost: 6 to 8·Q·K·D flops and two more passes over a tile; memory of a tile, whatever K is.
    Paper: Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020.

    Args:
        classes: K.
        dim: D.
        gamma: γ; the paper's 256 for faces, 128 for re-identification.
        margin: m, the relaxation; the paper's 0.25.
        generator: for the initial proxies.
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
        if not -1 < margin < 1:
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
