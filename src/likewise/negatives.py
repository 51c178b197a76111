"""Policies (mining) that choose negatives and positives from an anchor's row of similarities.

Dimension legend: R rows of a tile (anchors), P positives of a row at most, K keys, k negatives drawn for a pair.

A policy never lists triplets. A :class:`Pick` takes, for each anchor and positive, k single negatives out of the row:
the work is Q·K·D for the similarities, which need no gradient, and the gradient is that of the chosen pairs alone. A
:class:`Filter` leaves some of the row's pairs out, and the objective sees all that is left. Either goes with any
pair-level objective that judges an anchor's row, through :class:`likewise.objectives.Mined`.

Similarities are those of unit rows, so near is large: D² = 2 − 2s. Of equal similarities any one is taken.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from likewise.errors import LikewiseError

Positives = Literal["all", "hard", "easy"]
POSITIVES = ("all", "hard", "easy")
GROUP = 16  # columns per group when the smallest value is searched
SORTED_FROM = 48  # with more positives per row, a sort of the negatives is faster than a pass for each positive
LEAST = 4e-8  # lower bound of 1 − s² in the logarithm of the density
SMALLEST = -80.0  # lower bound of a weight's logarithm: subnormal numbers are ten times slower


class Pick(ABC):
    """k single negatives for each anchor and positive. Abstract: subclasses are final.

    Attributes:
        draws: random numbers for each pair; 0 where nothing is drawn.
        of_pair: whether the choice depends on the positive; otherwise it is made once for an anchor.
    """

    draws: int = 0
    of_pair: ClassVar[bool] = False

    @abstractmethod
    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The columns of the chosen negatives, and whether each one exists.

        Args:
            s_p: (R, 1) similarity of the positive; of no meaning unless ``of_pair``.
            s_n: (R, K) of the negatives, −inf for the other keys. May be overwritten, unless ``of_pair``.
            drawn: (R, n) uniform numbers in [0, 1), n negatives to draw; (R, 0) where nothing is drawn.
            dim: D.

        Returns:
            (R, n) int64 columns and (R, n) bool; n = 1 where nothing is drawn.
        """

    def pick_each(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """``pick`` for each of (R, P) positives, where the choice is ``of_pair``: (R, P, 1) columns, there or not."""
        picks = [self.pick(column, s_n, drawn, dim) for column in torch.split(s_p, 1, 1)]
        columns, there = (torch.stack(x, 1) for x in zip(*picks, strict=True))
        return columns, there


class Filter(ABC):
    """Some of an anchor's pairs are left out. Abstract: subclasses are final.

    Attributes:
        of_pair: whether what is kept depends on the positive; each positive is then judged by itself, in as many passes
            over the row as it has positives.
    """

    of_pair: ClassVar[bool] = False

    @abstractmethod
    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """(R, P) and (R, K) similarities with their masks → the masks of what is kept. No gradient."""

    def inside(self) -> tuple[float, bool] | None:
        """Its margin, and whether distances are squared, if it keeps the negatives inside a margin; otherwise None."""
        return None


Policy = Pick | Filter


@dataclass(frozen=True)
class All(Filter):
    """Every negative pushes: batch-all."""

    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """All of them."""
        return positive, negative


@dataclass(frozen=True)
class MultiSimilarity(Filter):
    """Pairs that are hard relative to the anchor's others (Wang et al. 2019, eqs. 11–12).

    A negative is kept when ``s_n > min_P s_p − ε``, a positive when ``s_p < max_N s_n + ε``.
    Paper: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019; ε = 0.1.

    Args:
        epsilon: ε.
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        _check(math.isfinite(self.epsilon), "epsilon", self.epsilon, "a number")

    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eqs. 11 and 12."""
        hardest_p = torch.where(positive, s_p.detach(), torch.inf).amin(1, keepdim=True)
        negatives = torch.where(negative, s_n.detach(), -torch.inf)
        hardest_n = negatives.amax(1, keepdim=True)
        return positive & (s_p < hardest_n + self.epsilon), negatives > hardest_p - self.epsilon


@dataclass(frozen=True)
class InsideMargin(Filter):
    """Semi-hard, first meaning: every negative inside the margin, ``D_p < D_n < D_p + α`` (FaceNet §3.2).

    It is further than the positive, but not by the margin. D is the squared distance, as in FaceNet, or the Euclidean
    one. pytorch-metric-learning's ``TripletMarginMiner("semihard")`` is this.

    Args:
        margin: α.
        squared: D is squared.
    """

    margin: float = 0.2
    squared: bool = True
    of_pair: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(0 <= self.margin < math.inf, "margin", self.margin, "0 or more")

    def inside(self) -> tuple[float, bool] | None:
        """α, and whether D is squared."""
        return self.margin, self.squared

    def keep(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Of one positive, (R, 1)."""
        s_p, s_n = s_p.detach(), s_n.detach()
        furthest = s_p - self.margin / 2 if self.squared else 1 - (distance(s_p) + self.margin).square() / 2
        return positive, negative & (s_n < s_p) & (s_n > furthest)


@dataclass(frozen=True)
class HardestBeyond(Pick):
    """Semi-hard, second meaning: the nearest negative that is further than the positive (FaceNet eq. 4).

    ``argmin D_n over D_n > D_p``; a pair that has none is left out. With a hinge of margin α the pairs further than
    D_p + α have no loss, so that what pushes is the hardest negative inside the margin. It is one negative for each
    anchor and positive, as in CDML and in TensorFlow's semi-hard loss, which takes the furthest negative where there is
    none.
    """

    of_pair: ClassVar[bool] = True

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The smallest positive ``s_p − s_n``.

        As whole numbers the bits of positive floats have their order. Adding the largest whole number brings them to
        the front: two quick passes where a comparison and a choice would take ten times as long on a CPU.
        """
        gaps = s_p - s_n
        codes = gaps.view(torch.int32 if gaps.dtype == torch.float32 else torch.int64)
        codes += torch.iinfo(codes.dtype).max  # 0 and less, and so their bits, wrap around to the end
        column = _smallest(codes)
        gap = s_p - s_n.gather(1, column)
        return column, (gap > 0) & (gap < torch.inf)

    def pick_each(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Of many positives by one sort of the negatives; of equal ones it may then be another."""
        if s_p.shape[1] <= SORTED_FROM:
            return super().pick_each(s_p, s_n, drawn, dim)
        ordered, order = s_n.sort(dim=1, stable=True)
        place = torch.searchsorted(ordered, s_p.contiguous()) - 1  # the last one below; absent ones come first
        column = place.clamp(min=0)
        there = (place >= 0) & (ordered.gather(1, column) > -torch.inf)
        return order.gather(1, column).unsqueeze(2), there.unsqueeze(2)


@dataclass(frozen=True)
class Hard(Pick):
    """The nearest negative: batch-hard (Hermans et al. 2017) with positives="hard".

    Early in training it may collapse the embedding (FaceNet §3.2): all distances 0, and the loss stuck at the margin.
    """

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The largest similarity."""
        column = _smallest(s_n.neg())
        return column, s_n.gather(1, column) > -torch.inf


@dataclass(frozen=True)
class Easy(Pick):
    """The furthest negative: what a curriculum may begin with."""

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The smallest similarity."""
        column = _smallest(torch.where(s_n > -torch.inf, s_n, torch.inf))
        return column, s_n.gather(1, column) > -torch.inf


@dataclass(frozen=True)
class Random(Pick):
    """k negatives, drawn uniformly with replacement for each anchor and positive.

    Args:
        count: k.
    """

    count: int = 1

    def __post_init__(self) -> None:
        _check(self.count >= 1, "count", self.count, "at least 1")

    @property
    def draws(self) -> int:  # type: ignore[override]
        """k."""
        return self.count

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Each negative has the same share."""
        return _draw(s_n > -torch.inf, drawn)


@dataclass(frozen=True)
class DistanceWeighted(Pick):
    """Negatives drawn so that all distances are equally likely (Wu et al. 2017, eq. 6).

    ``P(n) ∝ 1 / q(d)`` with ``q(d) ∝ d^(D−2) (1 − d²/4)^((D−3)/2)``, the density of distances d on the unit sphere in D
    dimensions. Distances below ``least`` are taken for it, so that no negative has all the weight; those above ``most``
    are not drawn, since the margin loss leaves them alone: an anchor without a nearer negative is left out.

    Advice: the weights grow like d^−D. Beyond some 64 dimensions nearly always the nearest few are drawn
    (pytorch-metric-learning says so too): take a smaller embedding, or another policy.
    Departures: none from the paper; a later code of others found the upper cut-off slightly harmful (``most=2``).
    Paper: Wu, Manmatha, Smola, Krähenbühl, Sampling Matters in Deep Embedding Learning, ICCV 2017.

    Args:
        count: k.
        least: the lower cut-off; the paper's 0.5.
        most: the upper one; 1.4 in its code: β + α of its margin loss.
    """

    count: int = 1
    least: float = 0.5
    most: float = 1.4

    def __post_init__(self) -> None:
        _check(self.count >= 1, "count", self.count, "at least 1")
        _check(0 < self.least < self.most, "least", self.least, "above 0 and below most")
        _check(self.most <= 2, "most", self.most, "at most 2, the largest distance of unit rows")

    @property
    def draws(self) -> int:  # type: ignore[override]
        """k."""
        return self.count

    def pick(self, s_p: Tensor, s_n: Tensor, drawn: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Drawn by eq. 6; with d² = 2 − 2s it is 1 / q ∝ (1 − s²)^((3−D)/2) / √(1 − s), one logarithm."""
        kept = (s_n >= 1 - self.most**2 / 2).to(s_n.dtype)  # products with 0 and 1: a choice of each would be slower
        near = s_n.clamp_(-1, 1 - self.least**2 / 2).mul_(kept)  # what is not kept as s = 0: no weight is less than its
        weights = near.square().neg_().add_(1).clamp_(min=LEAST).log_().mul_((3 - dim) / 2)
        weights.sub_(weights.amax(1, keepdim=True)).clamp_(min=SMALLEST).exp_()
        weights.mul_(near.neg_().add_(1).rsqrt_())
        return _draw(weights.mul_(kept), drawn)


def choose_positives(how: Positives, s_p: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (R, P) of ``s_p`` and whether they are there: all positives, or the furthest, or the nearest one."""
    if how == "all":
        return torch.arange(s_p.shape[1], device=s_p.device).expand_as(s_p), positive
    best, column = torch.where(positive, -s_p if how == "hard" else s_p, -torch.inf).max(1, keepdim=True)
    return column, best > -torch.inf


def check_positives(how: Positives) -> Positives:
    """The value, or a LikewiseError that names it."""
    if how not in POSITIVES:
        raise LikewiseError(f"positives={how!r} must be 'all', 'hard' or 'easy'.")
    return how


def distance(similarities: Tensor) -> Tensor:
    """Of unit rows: √(2 − 2s). No gradient is meant to pass."""
    return (2 - 2 * similarities).clamp(min=0).sqrt()


def _check(fine: bool, name: str, value: float, wanted: str) -> None:
    if not fine:
        raise LikewiseError(f"{name}={value} of the policy must be {wanted}.")


def _smallest(values: Tensor) -> Tensor:
    """(R, 1) columns of a smallest value of each row: (R, K).

    Which of K is smallest is asked of K/16 minima, since minima alone are ten times as quick as minima with places.
    """
    width, groups = values.shape[1], math.gcd(values.shape[1], GROUP)
    if groups == 1 or width < GROUP * GROUP:
        return values.argmin(1, keepdim=True)
    step = width // groups
    place = values.view(len(values), groups, step).amin(1).argmin(1, keepdim=True)
    candidates = place + step * torch.arange(groups, device=values.device)
    return candidates.gather(1, values.gather(1, candidates).argmin(1, keepdim=True))


def _draw(weights: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Columns by weight, with replacement: (R, K) weights ≥ 0 and (R, n) uniform numbers → (R, n), there or not."""
    ends = weights.double().cumsum_(1)
    whole = ends[:, -1:]
    columns = torch.searchsorted(ends, drawn.double() * whole, right=True).clamp_(max=weights.shape[1] - 1)
    return columns, (whole > 0).expand_as(columns)


@dataclass(frozen=True)
class Curriculum:
    """Policies in turn (FaceNet's easy to hard): the next one from a step, an epoch, or when few triplets are active.

    Args:
        policies: at least one.
        at: for each change, one fewer than policies: the step, the epoch (a fraction will do), or, with by="active",
            the share of active triplets below which the next policy comes.
        by: what ``at`` counts.
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
        """The stage (the number of the policy) that is due, given the current stage ``now``. It never goes back."""
        if self.by == "active":
            return now + (now < len(self.at) and active < self.at[now])
        reached = step if self.by == "step" else epoch
        return max(now, sum(reached >= start for start in self.at))
