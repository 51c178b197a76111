"""Tests of differences: the sign-flip permutation test, the paired t-test, Holm's correction."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.errors import LikewiseError

EXACT_GROUPS, DRAWS, CHUNK = 16, 20_000, 1000


def sign_flip(differences: NDArray[np.float64], units: NDArray[np.int64] | None = None, *, draws: int = DRAWS) -> float:
    """p of the paired sign-flip permutation test of mean difference 0, two-sided (Fisher's randomization test).

    If two methods are equally good, the difference of each unit is as likely with the other sign. p is the share of all
    choices of signs whose sum is at least as far from 0 as the observed sum. It is exact up to 16 units. With more it
    is (1 + count) / (1 + draws) over random choices, which are the same in each call.

    With test classes as units, all items of a class change sign together, since their results depend on each other.
    With items as units p would be far too small. The test asks whether the order of two methods, averaged over the
    trained seeds, would be the same for other classes of the same kind. ``paired_t`` asks whether it would be the same
    for other seeds. With C classes p is at least 2 / 2^C, before ``holm`` multiplies it by the number of rows.

    Args:
        differences: (N,) float64 differences of paired values; NaN is left out.
        units: (N,) integers, equal for values that change sign together; None: each value is a unit.
        draws: number of random choices with more than 16 units.

    Raises:
        LikewiseError: all differences are NaN, or there are none.

    Cost: O(2^C) up to 16 units, else O(C·draws).
    """
    units = np.arange(len(differences)) if units is None else units
    known = ~np.isnan(differences)
    if not known.any():
        raise LikewiseError("there is no pair to compare.")
    place = np.unique(units[known], return_inverse=True)[1]
    sums = np.bincount(place, weights=differences[known])
    seen, count = abs(math.fsum(sums)) * (1 - 1e-9), len(sums)  # the factor allows for rounding of the other sums
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

    Over seeds it asks whether the order would be the same for other seeds on the same test items. It assumes normal
    differences, which three seeds can't show. Its p can be any small number; a permutation test of three seeds can't
    have p below 0.25.

    Args:
        differences: n ≥ 2 numbers, paired.

    Raises:
        LikewiseError: fewer than two differences, or SciPy is not installed.
    """
    if len(differences) < 2:
        raise LikewiseError("a paired t-test needs two differences at least.")
    if len(set(differences)) == 1:  # no deviation to divide by
        return 0.0 if differences[0] else 1.0
    return float(scipy_stats().ttest_1samp(differences, 0.0).pvalue)


def scipy_stats() -> Any:
    """``scipy.stats``. Raises LikewiseError if SciPy is not installed."""
    try:
        from scipy import stats
    except ImportError:
        raise LikewiseError('p over seeds needs SciPy; pip install "likewise[compare]".') from None
    return stats


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected by Holm (1979): all tests together then have the false-alarm rate of a single test."""
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected
