"""Tests of a difference: sign flips, paired t, Holm's correction."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from likewise.errors import LikewiseError

EXACT_GROUPS, DRAWS, CHUNK = 16, 20_000, 1000


def sign_flip(differences: NDArray[np.float64], units: NDArray[np.int64] | None = None, *, draws: int = DRAWS) -> float:
    """p of the paired sign-flip permutation test of mean difference 0, two-sided (Fisher's randomization test).

    If two methods are equally good, the difference of every unit could as well have the other sign. p is the share of
    all choices of signs whose sum is at least as far from 0 as the observed one. It is exact up to 16 units; with more
    it is (1 + count) / (1 + draws) over random choices, always the same ones.

    With test classes as units, all items of a class change sign together, as their results depend on each other. A test
    with items as units would give a p that is far too small. The test says whether the order of two methods, averaged
    over the trained seeds, would hold for other classes of the same kind. ``paired_t`` says whether it would hold for
    other seeds. With C classes p can't be below 2 / 2^C, before ``holm`` multiplies it by the number of rows.

    Args:
        differences: (N,) of paired values; NaN is left out.
        units: (N,) integers, equal for values that change sign together; None: each value is a unit.
        draws: number of random choices, with more than 16 units.

    Raises:
        LikewiseError: nothing to compare.

    Cost: O(2^C) up to 16 units, else O(C·draws).
    """
    units = np.arange(len(differences)) if units is None else units
    known = ~np.isnan(differences)
    if not known.any():
        raise LikewiseError("there is no pair to compare.")
    place = np.unique(units[known], return_inverse=True)[1]
    sums = np.bincount(place, weights=differences[known])
    seen, count = abs(math.fsum(sums)) * (1 - 1e-9), len(sums)  # sums of other signs differ by rounding
    if count <= EXACT_GROUPS:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        return float((np.abs(signs @ sums) >= seen - 1e-12).mean())
    random, beyond = np.random.default_rng(0), 0
    for start in range(0, draws, CHUNK):
        signs = 1 - 2 * random.integers(0, 2, (min(CHUNK, draws - start), count))
        beyond += int((np.abs(signs @ sums) >= seen - 1e-12).sum())
    return (1 + beyond) / (1 + draws)


def paired_t(differences: Sequence[float]) -> float:
    """p of Student's paired t-test of mean difference 0, two-sided; ν = n − 1 degrees of freedom.

    Over seeds it says whether the order would hold for other seeds on the same test items. It assumes normal
    differences, which three seeds can't show. It has no lower limit; permutations of three seeds have 0.25.

    The distribution is the finite series of Abramowitz and Stegun, eqs. 26.7.3 and 26.7.4.

    Args:
        differences: n ≥ 2 numbers, paired.

    Raises:
        LikewiseError: fewer than two.
    """
    n = len(differences)
    if n < 2:
        raise LikewiseError("a paired t-test needs two differences at least.")
    mean, std = statistics.fmean(differences), statistics.stdev(differences)
    if std == 0:
        return 0.0 if mean else 1.0
    nu = n - 1
    angle = math.atan(abs(mean) / (std / math.sqrt(n)) / math.sqrt(nu))
    cos = math.cos(angle)
    odd = nu % 2
    term, total = (cos, cos) if odd else (1.0, 1.0)
    for k in range(3 if odd else 2, nu - 1, 2):
        term *= cos**2 * (k - 1) / k
        total += term
    total = total if nu > 1 or not odd else 0.0
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return min(1.0, max(0.0, 1 - inside))


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), so that all together have the false-alarm rate of one test."""
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected
