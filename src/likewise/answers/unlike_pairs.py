"""How many pairs of unlike items are as similar as copies: their falling numbers, extrapolated."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_PAIRS = 600  # from which an estimate is made
_TAIL = 0.1  # share of the unlike pairs, the most similar, that are fitted; at least _LEAST_TAIL pairs
_LEAST_TAIL = 300
_WIDTH = 0.05  # of a bin of atanh(similarity)
_SMOOTH = 0.15  # standard deviation of the kernel over the copies' similarities, in the same unit
_STRONGER = 1.0, 0.8  # times the z of the copies that were made: those of copies that were changed more
_WORST = 0.1  # share of the copies, the least similar, that are not used
_EVEN = 0.1  # share of the copies' density that is even over the range, for copies unlike those that were made
_NEAREST = 1 - 1e-7  # similarity beyond which atanh is not taken


@dataclass(frozen=True, eq=False)
class UnlikePairs:
    """The estimated number of unlike pairs beyond each similarity, and the number of all pairs there.

    Args:
        edges: (B + 1,) ascending, of bins of z = atanh(similarity).
        unlike: (B + 1,) expected number of unlike pairs with z ≥ the edge.
        pairs: (P,) ascending z of all pairs.
    """

    edges: Floats
    unlike: Floats
    pairs: Floats

    def precision(self, threshold: float) -> float:
        """The estimated share of alike pairs among those at least as similar; 1 where there are none."""
        z = float(_spread(np.array([threshold]))[0])
        expected = float(np.interp(z, self.edges, self.unlike))
        count = len(self.pairs) - int(np.searchsorted(self.pairs, z))
        return 1 - min(1.0, expected / count) if count else 1.0

    def threshold(self, precision: float) -> float:
        """The lowest similarity beyond which pairs have this precision.

        If there is none, that beyond which no more than 1 − precision unlike pairs are expected.
        """
        counts = len(self.pairs) - np.searchsorted(self.pairs, self.edges)
        good = (counts > 0) & (self.unlike <= (1 - precision) * counts)
        if not good.any():
            good = self.unlike <= 1 - precision
        return float(np.tanh(self.edges[int(good.argmax())])) if good.any() else 1.0


def unlike_pairs(similarities: Floats, of_copies: Floats) -> UnlikePairs | None:
    """Fits the numbers of pairs by similarity as a mixture of unlike pairs and of copies.

    With z = atanh(similarity) ≥ z₀ in bins, the number of pairs of a bin has the mean::

        exp(β₀ + β₁ (z − z₀) + β₂ (z − z₀)²) + D₁ q(z) + D₂ q′(z),    β₂ ≤ 0

    The first term is the tail of the unlike pairs. q is the density of the copies' z, and q′ that of 0.8 z, as of
    copies that were changed more; D₁ and D₂ are their unknown numbers. All is found by expectation and maximisation:
    each bin is shared out among the terms, then β is fitted to the first share by Poisson regression, and each D is the
    sum of its share. The least similar tenth of the copies is left out. Where many copies are less similar than that,
    they count as unlike: the estimate is then cautious.

    Args:
        similarities: (P,) in [0, 1], of all candidates, without exact copies.
        of_copies: (C,) in [0, 1], of changed copies with their originals.

    Returns:
        None for fewer than 600 pairs.

    Cost: O(P log P).
    """
    if len(similarities) < LEAST_PAIRS:
        return None
    z, copies = np.sort(_spread(similarities)), _spread(of_copies)
    better = copies[copies >= np.quantile(copies, _WORST)]
    beyond = len(z) - int(np.searchsorted(z, better.min()))
    size = min(len(z), beyond + max(_LEAST_TAIL, int(_TAIL * (len(z) - beyond))))
    start = z[-size]
    edges = np.arange(start, max(z[-1], better.max()) + 2 * _WIDTH, _WIDTH)
    middle = (edges[:-1] + edges[1:]) / 2
    counts = np.histogram(z[-size:], edges)[0].astype(np.float64)
    densities = np.stack([_density(middle, part * better) for part in _STRONGER])
    unlike = _unlike(middle - start, counts, densities, middle < better.min())
    return UnlikePairs(edges, np.append(unlike[::-1].cumsum()[::-1], 0.0), z)


def _density(middle: Floats, z: Floats) -> Floats:
    """(B,) a smooth density of copies whose similarities have these z, as shares of bins."""
    found = np.exp(-0.5 * ((middle[:, None] - z) / _SMOOTH) ** 2).sum(1) + 1e-12
    density: Floats = (1 - _EVEN) * found / found.sum() + _EVEN / len(found)
    return density


def _unlike(y: Floats, counts: Floats, densities: Floats, below: npt.NDArray[np.bool_]) -> Floats:
    """(B,) the expected number of unlike pairs of each bin, from the densities of copies, (K, B)."""
    many = np.full(len(densities), float(counts[~below].sum()) / (2 * len(densities)))
    unlike = np.where(below, counts, 0.1 * counts) + 1e-3
    for _ in range(200):
        alike = many[:, None] * densities
        whole = unlike + alike.sum(0) + 1e-12
        unlike = _falling(y, counts * unlike / whole)
        before, many = many, (counts * alike / whole).sum(1)
        if float(np.abs(many - before).max()) < 1e-3:
            break
    return unlike


def _falling(y: Floats, counts: Floats) -> Floats:
    """The means of a Poisson regression on 1, y, y², or on 1 and y where the numbers would rise again."""
    means, weights = _poisson(np.stack([np.ones_like(y), y, y * y], 1), counts)
    return means if weights[2] <= 0 else _poisson(np.stack([np.ones_like(y), y], 1), counts)[0]


def _poisson(columns: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """The means exp(Xβ) of the counts and β, by Newton's method with steps that change no logarithm by more than 1."""
    weights = np.zeros(columns.shape[1])
    weights[0] = np.log(counts.mean() + 1e-9)
    for _ in range(100):
        means = np.exp(columns @ weights)
        hessian = columns.T @ (columns * means[:, None]) + 1e-6 * np.eye(len(weights))
        step = np.linalg.solve(hessian, columns.T @ (counts - means))
        largest = float(np.abs(columns @ step).max())
        weights = weights + step / max(1.0, largest)
        if largest < 1e-6:
            break
    return np.exp(columns @ weights), weights


def _spread(similarities: Floats) -> Floats:
    """atanh, by which similarities near 1 are told apart."""
    return np.arctanh(np.clip(similarities, 0.0, _NEAREST))
