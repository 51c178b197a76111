"""Policies of mining: they choose negatives and positives from an anchor's row of similarities.

Dimension legend: Q anchors, D dimensions, R anchors of a tile, P positives of a row at most, K keys, k negatives drawn
for a pair.

A policy does not list triplets. A :class:`Pick` chooses k single negatives for each anchor and positive. It computes
Q·K similarities without gradient, and then the gradient of the chosen pairs alone. A :class:`Filter` leaves out some
pairs of the row; the objective gets all others. :class:`likewise.objectives.Mined` combines a policy with any
pair-level objective whose loss is a function of one anchor's row.

Similarities are those of unit rows, D² = 2 − 2s: a near key has a large similarity. Among equal similarities a policy
chooses any.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from likewise.errors import LikewiseError, at_least_one, finite, number

Positives = Literal["all", "hard", "easy"]
POSITIVES = ("all", "hard", "easy")
GROUP = 16  # columns per group when the smallest value is searched
SORTED_FROM = 48  # with more positives per row, one sort of the negatives is faster than one pass for each positive
LEAST = 4e-8  # lower bound of 1 − s² under the logarithm
SMALLEST = -80.0  # lower bound of the logarithm of a weight; smaller weights are subnormal numbers, ten times slower


class Pick(ABC):
    """A policy that chooses k single negatives for each anchor and positive. Abstract: subclasses are final.

    Attributes:
        draws: the number of random numbers for each pair; 0 where the choice is not random.
        of_pair: whether the choice depends on the positive. Otherwise all positives of an anchor have the same choice.
    """

    draws: int = 0
    of_pair: ClassVar[bool] = False

    @abstractmethod
    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The columns of the chosen negatives, and whether each one exists.

        Args:
            s_p: (R, 1) similarities of the positives; used only if ``of_pair``.
            s_n: (R, K) similarities of the negatives, −inf for other keys. Overwritten in some policies, but never if
                ``of_pair``.
            drawn: (R, n) uniform random numbers in [0, 1), one for each negative to draw; (R, 0) where none is drawn.
            dim: D.

        Returns:
            (R, n) int64 columns, and (R, n) bool whether such a negative exists; n = 1 where none is drawn.
        """

    def pick_each(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """``pick`` for each of (R, P) positives, if ``of_pair``: (R, P, 1) columns, and whether each one exists."""
        picks = [self.pick(column, s_n, drawn, dim) for column in torch.split(s_p, 1, 1)]
        columns, there = (torch.stack(x, 1) for x in zip(*picks, strict=True))
        return columns, there


class Filter(ABC):
    """A policy that leaves out some pairs of an anchor. Abstract: subclasses are final.

    Attributes:
        of_pair: whether the choice depends on the positive. ``keep`` is then called for one positive at a time, with
            one pass over the row for each.
    """

    of_pair: ClassVar[bool] = False

    @abstractmethod
    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """(R, P) and (R, K) similarities with their bool masks → the masks of the pairs to keep. No gradient."""

    def inside(self) -> tuple[float, bool] | None:
        """Its margin, and whether distances are squared, if it keeps the negatives inside a margin; otherwise None."""
        return None


Policy = Pick | Filter


@dataclass(frozen=True)
class All(Filter):
    """Keeps every positive and negative: batch-all (Hermans et al. 2017)."""

    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """The masks unchanged."""
        return positive, negative


@dataclass(frozen=True)
class MultiSimilarity(Filter):
    """Keeps pairs that are hard compared with other pairs of the anchor (Wang et al. 2019, eqs. 11–12).

    A negative is kept when ``s_n > min_P s_p − ε``, a positive when ``s_p < max_N s_n + ε``.
    Paper: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019; ε = 0.1.

    Args:
        epsilon: ε.
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        finite("epsilon", self.epsilon)

    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eqs. 11 and 12."""
        hardest_p = torch.where(positive, s_p.detach(), torch.inf).amin(1, keepdim=True)
        negatives = torch.where(negative, s_n.detach(), -torch.inf)
        hardest_n = negatives.amax(1, keepdim=True)
        return positive & (s_p < hardest_n + self.epsilon), negatives > hardest_p - self.epsilon


@dataclass(frozen=True)
class InsideMargin(Filter):
    """Semi-hard, first meaning: keeps every negative inside the margin, ``D_p < D_n < D_p + α`` (FaceNet §3.2).

    Such a negative is further than the positive, but by less than the margin. D is the squared distance, as in FaceNet,
    or the Euclidean distance. pytorch-metric-learning's ``TripletMarginMiner("semihard")`` does the same.

    Args:
        margin: α, 0 or more.
        squared: whether D is the squared distance.
    """

    margin: float = 0.2
    squared: bool = True
    of_pair: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(0 <= number("margin", self.margin) < math.inf, "margin", self.margin, "0 or more")

    def inside(self) -> tuple[float, bool] | None:
        """α, and whether D is squared."""
        return self.margin, self.squared

    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """The negatives inside the margin of one positive, (R, 1)."""
        s_p, s_n = s_p.detach(), s_n.detach()
        furthest = s_p - self.margin / 2 if self.squared else 1 - (distance(s_p) + self.margin).square() / 2
        return positive, negative & (s_n < s_p) & (s_n > furthest)


@dataclass(frozen=True)
class HardestBeyond(Pick):
    """Semi-hard, second meaning: the nearest negative that is further than the positive (FaceNet eq. 4).

    ``argmin D_n over D_n > D_p``. A pair without such a negative is left out. With a hinge of margin α, a negative
    further than D_p + α has loss 0, so only negatives inside the margin push. CDML also has one negative for each
    anchor and positive. So has TensorFlow's semi-hard loss; where no negative is further than the positive, it takes
    the furthest one.
    """

    of_pair: ClassVar[bool] = True

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The column with the smallest ``s_p − s_n`` above 0.

        The bits of positive floats, read as integers, have the order of the floats. Adding the largest integer wraps
        them around to the smallest integers. The bits of 0 and of negative floats come after them. These two passes are
        ten times faster on a CPU than a comparison and a choice.
        """
        gaps = s_p - s_n
        codes = gaps.view(torch.int32 if gaps.dtype == torch.float32 else torch.int64)
        codes += torch.iinfo(codes.dtype).max  # wraps around
        column = _smallest(codes)
        gap = s_p - s_n.gather(1, column)
        return column, (gap > 0) & (gap < torch.inf)

    def pick_each(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """With many positives, by one sort. Among equal similarities the choice may differ from that of ``pick``."""
        if s_p.shape[1] <= SORTED_FROM:
            return super().pick_each(s_p, s_n, drawn, dim)
        ordered, order = s_n.sort(dim=1, stable=True)
        place = torch.searchsorted(ordered, s_p.contiguous()) - 1  # the largest s_n below s_p; −inf comes first
        column = place.clamp(min=0)
        there = (place >= 0) & (ordered.gather(1, column) > -torch.inf)
        return order.gather(1, column).unsqueeze(2), there.unsqueeze(2)


@dataclass(frozen=True)
class Hard(Pick):
    """The nearest negative. With positives="hard" it is batch-hard (Hermans et al. 2017).

    Early in training it may collapse the embedding (FaceNet §3.2): all distances become 0, and the loss stays at the
    margin.
    """

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The largest similarity."""
        column = _smallest(s_n.neg())
        return column, s_n.gather(1, column) > -torch.inf


@dataclass(frozen=True)
class Easy(Pick):
    """The furthest negative. A curriculum may begin with this policy."""

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The smallest similarity."""
        column = _smallest(torch.where(s_n > -torch.inf, s_n, torch.inf))
        return column, s_n.gather(1, column) > -torch.inf


@dataclass(frozen=True)
class Random(Pick):
    """k negatives, drawn uniformly with replacement for each anchor and positive.

    Args:
        count: k, at least 1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        at_least_one("count", self.count, "it is a number of negatives")

    @property
    def draws(self) -> int:  # type: ignore[override]
        """k."""
        return self.count

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Each negative has the same probability."""
        return _draw(s_n > -torch.inf, drawn)


@dataclass(frozen=True)
class DistanceWeighted(Pick):
    """Negatives drawn so that all distances are equally likely (Wu et al. 2017, eq. 6).

    ``P(n) ∝ 1 / q(d)`` with ``q(d) ∝ d^(D−2) (1 − d²/4)^((D−3)/2)``, the density of distances d on the unit sphere in D
    dimensions. A distance below ``least`` counts as ``least``, so that no single negative has all the weight. Negatives
    beyond ``most`` are not drawn, since their margin loss is 0. An anchor with no negative within ``most`` is left out.

    Advice: the weights grow like d^−D. With more than about 64 dimensions almost only the nearest negatives are drawn
    (pytorch-metric-learning's documentation says the same). Use a smaller embedding, or another policy.
    Departures: none from the paper. The authors of multi-similarity found the upper cut-off slightly harmful and do not
    use it in their code; ``most=2`` does the same.
    Paper: Wu, Manmatha, Smola, Krähenbühl, Sampling Matters in Deep Embedding Learning, ICCV 2017, eq. 6.

    Args:
        count: k, at least 1.
        least: the lower cut-off, a distance above 0; the paper uses 0.5.
        most: the upper cut-off, a distance up to 2; the default 1.4 is β + α of the paper's margin loss.
    """

    count: int = 1
    least: float = 0.5
    most: float = 1.4

    def __post_init__(self) -> None:
        at_least_one("count", self.count, "it is a number of negatives")
        _check(
            0 < number("least", self.least) < number("most", self.most), "least", self.least, "above 0 and below most"
        )
        _check(self.most <= 2, "most", self.most, "at most 2, the largest distance of unit rows")

    @property
    def draws(self) -> int:  # type: ignore[override]
        """k."""
        return self.count

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Draws by eq. 6. With d² = 2 − 2s, 1 / q ∝ (1 − s²)^((3−D)/2) / √(1 − s), which needs one logarithm."""
        kept = (s_n >= 1 - self.most**2 / 2).to(s_n.dtype)  # 0 or 1: a product is faster than torch.where
        near = s_n.clamp_(-1, 1 - self.least**2 / 2).mul_(kept)  # 0 where not kept: this has the smallest weight
        weights = near.square().neg_().add_(1).clamp_(min=LEAST).log_().mul_((3 - dim) / 2)
        weights.sub_(weights.amax(1, keepdim=True)).clamp_(min=SMALLEST).exp_()
        weights.mul_(near.neg_().add_(1).rsqrt_())
        return _draw(weights.mul_(kept), drawn)


def choose_positives(how: Positives, s_p: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """All positives, the furthest ("hard") or the nearest ("easy"): columns of ``s_p``, and whether a positive exists.

    (R, P) and (R, P) bool → (R, P) int64 and (R, P) bool, with P = 1 unless ``how`` is "all".
    """
    if how == "all":
        return torch.arange(s_p.shape[1], device=s_p.device).expand_as(s_p), positive
    best, column = torch.where(positive, -s_p if how == "hard" else s_p, -torch.inf).max(1, keepdim=True)
    return column, best > -torch.inf


def check_positives(how: Positives) -> Positives:
    """Returns the value. Raises LikewiseError when it is not "all", "hard" or "easy"."""
    if how not in POSITIVES:
        raise LikewiseError(f"positives={how!r} must be 'all', 'hard' or 'easy'.")
    return how


def distance(similarities: Tensor) -> Tensor:
    """The Euclidean distance of unit rows, √(2 − 2s). It is for values without gradient."""
    return (2 - 2 * similarities).clamp(min=0).sqrt()


def _check(fine: bool, name: str, value: float, wanted: str) -> None:
    if not fine:
        raise LikewiseError(f"{name}={value} of the policy must be {wanted}.")


def _smallest(values: Tensor) -> Tensor:
    """(R, K) → (R, 1) the column of the smallest value of each row.

    ``amin`` is ten times faster than ``argmin``, so ``amin`` first makes K/16 minima, and ``argmin`` searches these.
    """
    width, groups = values.shape[1], math.gcd(values.shape[1], GROUP)
    if groups == 1 or width < GROUP * GROUP:
        return values.argmin(1, keepdim=True)
    step = width // groups
    place = values.view(len(values), groups, step).amin(1).argmin(1, keepdim=True)
    candidates = place + step * torch.arange(groups, device=values.device)
    return candidates.gather(1, values.gather(1, candidates).argmin(1, keepdim=True))


def _draw(weights: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Draws columns by weight, with replacement: (R, K) weights ≥ 0 and (R, n) uniform numbers → (R, n) columns.

    Also (R, n) bool: whether the row has a weight above 0.
    """
    ends = weights.double().cumsum_(1)
    whole = ends[:, -1:]
    columns = torch.searchsorted(ends, drawn.double() * whole, right=True).clamp_(max=weights.shape[1] - 1)
    return columns, (whole > 0).expand_as(columns)


@dataclass(frozen=True)
class Curriculum:
    """Policies one after the other, for example from easy to hard as in FaceNet.

    The next policy begins at a step, at an epoch, or when few triplets are active.

    Args:
        policies: at least one.
        at: one value for each change, so one fewer than policies: the step, the epoch (also a fraction), or, with
            by="active", the share of active triplets below which the next policy begins.
        by: "step", "epoch" or "active": the meaning of ``at``.

    Raises:
        LikewiseError: no policies or other objects, a wrong number of ``at``, or ``at`` out of order or out of range.
    """

    policies: tuple[Policy, ...]
    at: tuple[float, ...]
    by: Literal["step", "epoch", "active"] = "step"

    def __post_init__(self) -> None:
        wrong = [policy for policy in self.policies if not isinstance(policy, Pick | Filter)]
        if wrong or not self.policies:
            given = repr(wrong[0]) if wrong else "none"
            raise LikewiseError(f"a policy of negatives is an object, such as Hard() or Random(4), but got {given}.")
        if len(self.at) != len(self.policies) - 1:
            raise LikewiseError(
                f"a curriculum of {len(self.policies)} policies changes {len(self.policies) - 1} times, but at= has "
                f"{len(self.at)} values."
            )
        if self.by not in ("step", "epoch", "active"):
            raise LikewiseError(f"by={self.by!r} must be 'step', 'epoch' or 'active'.")
        if self.by == "active" and not all(0 < share < 1 for share in self.at):
            raise LikewiseError(f"at={self.at} must be shares of active triplets, above 0 and below 1.")
        if self.by != "active" and list(self.at) != sorted(self.at):
            raise LikewiseError(f"at={self.at} must not decrease: the policies come one after the other.")

    def stage(self, now: int, *, step: int, epoch: float, active: float) -> int:
        """The number of the policy to use, given the current number ``now``. It never becomes smaller."""
        if self.by == "active":
            return now + (now < len(self.at) and active < self.at[now])
        reached = step if self.by == "step" else epoch
        return max(now, sum(reached >= start for start in self.at))
