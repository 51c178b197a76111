"""Verification decides whether a pair is alike: ROC, AUC, TAR at a FAR, accuracy by LFW's ten folds.

Dimension legend: N rows, D columns, P pairs, F folds, T distinct scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.alike import Flags, Ids, as_flags, as_ids, refuse_masked
from likewise.errors import LikewiseError, at_least_one, number
from likewise.metrics.checks import Rows, as_labels, as_rows, check_finite
from likewise.metrics.exact_scores import snap

_TILE = 2**21  # float64 numbers in memory at once
_MOST_PAIRS = 2 * 10**7


class Roc(NamedTuple):
    """The curve over all thresholds. A pair is called alike if its score is at least the threshold."""

    fpr: Tensor  # (T + 1,) float64, false positive rate at each threshold
    tpr: Tensor  # (T + 1,) float64, true positive rate at each threshold
    thresholds: Tensor  # (T + 1,) float64, ∞ and then every distinct score, descending
    auc: float  # area under the curve


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result of ``verification``. A different pair is one that is not alike."""

    accuracy: float  # mean over the folds
    standard_error: float  # of that mean: standard deviation over the folds (n − 1), divided by √F
    thresholds: tuple[float, ...]  # of each fold, chosen on the other folds
    fold_accuracies: tuple[float, ...]
    auc: float
    tar_at_far: dict[float, float | None]  # None: too few different pairs for this rate
    alike: int  # number of alike pairs
    different: int  # number of different pairs
    roc: Roc


def verification(
    rows: Rows,
    pairs: Ids,
    alike: Flags,
    *,
    fars: Sequence[float] = (1e-1, 1e-2, 1e-3),
    folds: int | Ids = 10,
) -> Verification:
    """Measures how well the inner product of two rows (cosine, for unit rows) tells alike pairs from different ones.

    Accuracy follows the protocol of Labeled Faces in the Wild (Huang et al. 2007, image-restricted). Each fold is
    tested with the threshold that is best on the other folds; the result is the mean ± standard error over the folds.
    The best threshold lies midway between two neighbouring scores; of equally good ones it is the highest.

    TAR@FAR f (true accept rate at a false accept rate) is the largest true positive rate at a threshold whose false
    positive rate is at most f. It is None if f is smaller than 1 / (number of different pairs).

    Args:
        rows: (N, D) float.
        pairs: (P, 2) integers, the two rows of each pair. ``fold_pairs`` and ``random_pairs`` draw pairs from labels.
        alike: (P,) bool.
        fars: false accept rates, each in (0, 1].
        folds: number of folds: the pairs, in the given order, are divided into so many equal parts (a fold of LFW's
            file is 300 alike and then 300 different pairs). Or (P,) integers, the fold of each pair.

    Raises:
        LikewiseError: wrong shapes or dtypes, NaN or infinity (by row), rows out of range, pairs all alike or all
            different, fewer than two folds or more than pairs.

    Cost: O(P·(D + log P + F)) time; memory about 100 bytes a pair. Scores are exact before they become float32, as in
    ``top_k``, so pairs of equal rows tie.
    """
    scores = pair_scores(rows, pairs)
    curve = roc(scores, alike)
    alike = as_flags("alike", alike).to(scores.device)
    places = _folds(folds, len(scores), scores.device)
    thresholds, accuracies = _by_folds(scores, alike, places)
    mean = math.fsum(accuracies) / len(accuracies)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in accuracies) / (len(accuracies) - 1))
    return Verification(
        accuracy=mean,
        standard_error=spread / math.sqrt(len(accuracies)),
        thresholds=tuple(thresholds),
        fold_accuracies=tuple(accuracies),
        auc=curve.auc,
        tar_at_far={far: tar_at_far(curve, far, int((~alike).sum())) for far in fars},
        alike=int(alike.sum()),
        different=int((~alike).sum()),
        roc=curve,
    )


@torch.no_grad()
def pair_scores(rows: Rows, pairs: Ids) -> Tensor:
    """float32 (P,) inner products of pairs of rows, computed exactly and then rounded, as in ``top_k``.

    ``rows`` are (N, D) float, ``pairs`` (P, 2) integers. Raises LikewiseError on wrong shapes or dtypes, on NaN or
    infinity (by row), and on rows out of range. Cost: O(P·D) time, 8 bytes a pair and about 100 MiB.
    """
    rows, pairs = as_rows("rows", rows), as_ids("pairs", pairs)
    check_finite("rows", rows)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise LikewiseError(f"pairs must be (P, 2) integers, but have shape {tuple(pairs.shape)}.")
    if int(pairs.min()) < 0 or int(pairs.max()) >= len(rows):
        raise LikewiseError(
            f"pairs name rows {int(pairs.min())} to {int(pairs.max())}, but there are {len(rows)} rows, from 0."
        )
    pairs = pairs.to(rows.device)
    scores = torch.empty(len(pairs), device=rows.device)
    step = max(1, _TILE // rows.shape[1])
    for start in range(0, len(pairs), step):
        left, right = (snap("rows", rows[pairs[start : start + step, side]], 0) for side in (0, 1))
        scores[start : start + step] = (left * right).sum(1)  # exact, so the same in any order
    return scores


def roc(scores: Tensor | npt.NDArray[np.floating[Any]] | Sequence[float], alike: Flags) -> Roc:
    """The receiver operating characteristic over all distinct scores, and the exact area under it (ties count half).

    Args:
        scores: (P,) float, larger for more alike.
        alike: (P,) bool.

    Raises:
        LikewiseError: wrong shapes or dtypes, NaN (by pair), or pairs that are all alike or all different.

    Cost: O(P log P) time.
    """
    alike = as_flags("alike", alike)
    refuse_masked("scores", scores)
    scores = scores if isinstance(scores, Tensor) else torch.from_numpy(np.array(scores))
    if scores.ndim != 1 or not scores.is_floating_point():
        raise LikewiseError(f"scores must be (P,) float, but are {scores.dtype} of shape {tuple(scores.shape)}.")
    if alike.shape != scores.shape:
        raise LikewiseError(f"alike must be ({len(scores)},), one per pair, but has shape {tuple(alike.shape)}.")
    if bool(scores.isnan().any()):
        raise LikewiseError(f"the score of pair {int(scores.isnan().nonzero()[0])} is NaN; leave that pair out.")
    positives = int(alike.sum())
    negatives = len(alike) - positives
    if not positives or not negatives:
        raise LikewiseError(f"all {len(alike)} pairs are {'alike' if positives else 'different'}; give some of each.")
    thresholds, true, false = _counts(scores, alike.to(scores.device))
    steps = false.diff() * (true[1:] + true[:-1])
    return Roc(
        fpr=false.double() / negatives,
        tpr=true.double() / positives,
        thresholds=thresholds,
        auc=int(steps.sum()) / (2 * positives * negatives),
    )


def tar_at_far(curve: Roc, far: float, different: int) -> float | None:
    """The largest true positive rate of a threshold whose false positive rate is at most ``far``.

    ``different`` is the number of different pairs. None if ``far`` is below 1 / ``different``, the smallest rate above
    0 that so many pairs can have. Raises LikewiseError on a rate outside (0, 1] and on a number below 1.
    """
    if not 0 < number("far", far) <= 1:
        raise LikewiseError(f"a false accept rate must be above 0 and at most 1, but is {far}.")
    if 1 / at_least_one("different", different, "a false accept is one of the different pairs") > far:
        return None
    return float(curve.tpr[curve.fpr <= far].max())


def random_pairs(labels: Ids, count: int | None = None, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs of rows and whether their labels are equal: all pairs, or ``count`` drawn ones, half of them alike.

    Alike and different pairs are drawn separately, uniformly and without replacement, and then shuffled. Any
    consecutive part of them can therefore be a fold.

    Args:
        labels: (N,) integers ≥ 0.
        count: P, even, ≥ 2; None: all N·(N − 1)/2 pairs, in order, at most twenty million.
        seed: seed of the draw.

    Returns:
        int64 (P, 2), the smaller row first, and bool (P,); on the CPU.

    Raises:
        LikewiseError: labels of another shape or dtype, an odd count, or too few pairs of either sort.

    Cost: O(N log N + P log P).
    """
    labels = as_labels("labels", labels).cpu()
    if count is None:
        total = len(labels) * (len(labels) - 1) // 2
        if total > _MOST_PAIRS:
            raise LikewiseError(f"{len(labels)} rows make {total} pairs; give a count to draw some of them.")
        pairs = torch.triu_indices(len(labels), len(labels), 1).T
        return pairs, labels[pairs[:, 0]] == labels[pairs[:, 1]]
    if at_least_one("count", count, "it is a number of pairs") % 2:
        raise LikewiseError(f"count must be an even number of pairs, half of them alike, but is {count}.")
    generator = torch.Generator().manual_seed(seed)
    values, order = labels.sort(stable=True)
    place = torch.arange(len(labels))
    end = torch.searchsorted(values, values, right=True)  # the place after the last row of the same label
    same = _draw(place + 1, end - place - 1, count // 2, "alike", generator)
    other = _draw(end, len(labels) - end, count // 2, "different", generator)
    pairs = order[torch.cat([same, other])].sort(1).values
    mixed = torch.randperm(count, generator=generator)
    return pairs[mixed], mixed < count // 2


def fold_pairs(labels: Ids, most: int = 6000, *, folds: int = 10, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs in folds that share no label, as in LFW. All folds have the same number of pairs, half of them alike.

    The labels are given to the folds in turn, those with most items first, so that folds have about the same size.
    ``random_pairs`` draws the pairs of a fold. A threshold is therefore tested on other labels than it was chosen on.

    Args:
        labels: (N,) integers ≥ 0.
        most: largest number of pairs over all folds; there are fewer if a fold can't make enough. LFW has 6,000.
        folds: F, at least 2.
        seed: seed of the division into folds and of the draw.

    Returns:
        int64 (P, 2), bool (P,) and int64 (P,), the fold of each pair, for ``verification(..., folds=...)``; on the CPU.

    Raises:
        LikewiseError: labels of another shape or dtype, fewer than two folds, or a fold without an alike or a different
            pair, which happens with fewer than 2·F labels.

    Cost: O(N log N + P log P).
    """
    labels = as_labels("labels", labels).cpu()
    at_least_one("most", most, "it is a number of pairs")
    if at_least_one("folds", folds, "LFW has 10") < 2:
        raise LikewiseError(f"folds must be at least 2, but are {folds}.")
    values, number, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    mixed = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    order = mixed[sizes[mixed].argsort(descending=True, stable=True)]
    fold_of = torch.empty_like(order)
    fold_of[order] = torch.arange(len(order)) % folds
    nothing = torch.zeros(folds, dtype=torch.int64)
    items = nothing.index_add(0, fold_of, sizes)
    alike = nothing.index_add(0, fold_of, sizes * (sizes - 1) // 2)
    half = min(most // (2 * folds), int(alike.min()), int((items * (items - 1) // 2 - alike).min()))
    if half < 1:
        raise LikewiseError(
            f"{len(values)} labels do not make alike and different pairs in each of {folds} folds that share "
            "no label; use fewer folds."
        )
    pairs, same = [], []
    for fold in range(folds):
        rows = (fold_of[number] == fold).nonzero().squeeze(1)
        drawn, are_alike = random_pairs(labels[rows], 2 * half, seed=seed)
        pairs.append(rows[drawn])
        same.append(are_alike)
    return torch.cat(pairs), torch.cat(same), torch.arange(folds).repeat_interleave(2 * half)


def _draw(first: Tensor, partners: Tensor, count: int, sort: str, generator: torch.Generator) -> Tensor:
    """(count, 2) distinct random pairs of places: p can pair with the ``partners[p]`` places from ``first[p]`` on."""
    ends = partners.cumsum(0)
    total = int(ends[-1])
    if total < count:
        raise LikewiseError(f"the labels make {total} {sort} pairs, fewer than the {count} asked for; ask for fewer.")
    if total <= 4 * count:
        drawn = torch.randperm(total, generator=generator)[:count]
    else:
        drawn = torch.empty(0, dtype=torch.int64)
        while len(drawn) < count:  # a round adds more than two thirds of what is missing
            more = torch.randint(total, (count - len(drawn),), generator=generator)
            drawn = torch.unique(torch.cat([drawn, more]))
    place = torch.searchsorted(ends, drawn, right=True)
    return torch.stack([place, first[place] + drawn - (ends - partners)[place]], 1)


def _counts(scores: Tensor, alike: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """∞ and the distinct scores, descending, float64 (T + 1,); the numbers of alike and of different pairs that reach
    each, int64 (T + 1,)."""
    ordered, order = scores.double().sort(descending=True)
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    right = alike[order].long()
    nothing = torch.zeros(1, dtype=torch.int64, device=scores.device)
    true, false = (torch.cat([nothing, hits.cumsum(0)[last]]) for hits in (right, 1 - right))
    return torch.cat([ordered.new_full((1,), torch.inf), ordered[last]]), true, false


def _folds(folds: int | Ids, count: int, device: torch.device) -> Tensor:
    """The fold of each pair, (P,) int64 from 0; no fold is empty."""
    if isinstance(folds, int):
        if not 2 <= folds <= count:
            raise LikewiseError(f"folds must be from 2 to the {count} pairs, but are {folds}.")
        return (torch.arange(count, device=device) * folds) // count
    numbers = as_ids("folds", folds)
    if numbers.shape != (count,):
        raise LikewiseError(f"folds must be a number or ({count},), one per pair, not {tuple(numbers.shape)}.")
    places: Tensor = torch.unique(numbers.to(device), return_inverse=True)[1]
    if int(places.max()) < 1:
        raise LikewiseError("all pairs are in one fold; give at least two folds.")
    return places


def _by_folds(scores: Tensor, alike: Tensor, places: Tensor) -> tuple[list[float], list[float]]:
    """The threshold of each fold, chosen on the other folds, and its accuracy on this one."""
    thresholds, accuracies = [], []
    for fold in range(int(places.max()) + 1):
        test = places == fold
        thresholds.append(_best_threshold(scores[~test], alike[~test]))
        right = (scores[test].double() >= thresholds[-1]) == alike[test]
        accuracies.append(int(right.sum()) / int(test.sum()))
    return thresholds, accuracies


def _best_threshold(scores: Tensor, alike: Tensor) -> float:
    """The threshold midway between the two scores that separate the pairs best; the highest of equally good ones."""
    steps, true, false = _counts(scores, alike)
    good = true - false  # number of right answers, minus a constant
    best = int((good == good.max()).nonzero()[0])
    here, below = float(steps[best]), float(steps[best + 1]) if best + 1 < len(steps) else -math.inf
    return (here + below) / 2 if math.isfinite(here) and math.isfinite(below) else here
