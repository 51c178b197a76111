"""k-means clusters of an embedding, and their agreement with the labels: NMI and AMI.

Everything except divisions and logarithms is exact, so a seed gives the same clusters for any number of threads. Rows
are rounded to whole multiples of a power of two; inner products and sums then fit into float64 exactly.

Dimension legend: N rows, D columns, C clusters, U and V distinct sizes of classes and of clusters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.console import Tick, part_of, untold
from likewise.errors import LikewiseError, at_least_one
from likewise.metrics.checks import Rows, as_labels, as_rows, check_finite, peaks
from likewise.metrics.exact_scores import power_of_two

_TILE = 2**21  # distances in memory at once
_TILE_VALUES = 2**21  # float64 values of rows in memory at once
_CANDIDATES = 64  # candidates of k-means++ whose distances are computed together
_USUAL_STEPS = 10  # about half of the steps of Lloyd's algorithm, for the bar
_TERMS = 2**20  # terms of the expected mutual information in memory at once


class KMeans(NamedTuple):
    """Clusters of N rows."""

    labels: Tensor  # (N,) int64, the cluster of each row
    centres: Tensor  # (C, D) float64
    inertia: float  # sum of squared distances of the rows to their centres
    iterations: int  # steps made


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """Agreement of k-means clusters with labels, the result of ``clustering``."""

    nmi: float  # mean over the seeds
    nmi_std: float | None  # standard deviation over the seeds (n − 1); None for one seed
    ami: float
    ami_std: float | None
    clusters: int  # C
    seeds: tuple[int, ...]
    per_seed: tuple[tuple[float, float], ...]  # (NMI, AMI) of each


def clustering(
    rows: Rows,
    labels: Ids,
    *,
    clusters: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    spherical: bool = False,
    starts: int = 10,
    iterations: int = 100,
    tick: Tick = untold,
) -> Clustering:
    """NMI and AMI of k-means clusters and the labels, over several seeds: at most 1, AMI about 0 for random clusters.

    Args:
        rows: (N, D) float; unit rows are usual.
        labels: (N,) integers ≥ 0.
        clusters: C; None: the number of distinct labels.
        seeds: seeds of k-means++, a clustering for each.
        spherical: see ``kmeans``.
        starts: see ``kmeans``.
        iterations: largest number of steps from each start.
        tick: told the share of the work that is done.

    Raises:
        LikewiseError: wrong shapes or dtypes, NaN or infinity (by row), no seed, C < 1 or > N.

    Cost: that of ``kmeans`` for each seed, and of ``adjusted_mutual_information``.
    """
    rows = as_rows("rows", rows)
    labels = as_labels("labels", labels, rows)
    if not seeds:
        raise LikewiseError("seeds are empty; give at least one, such as (0, 1, 2).")
    count = int(torch.unique(labels).numel()) if clusters is None else clusters
    scores = []
    for number, seed in enumerate(seeds):
        told = part_of(tick, number, len(seeds))
        groups = kmeans(
            rows, count, seed=seed, spherical=spherical, starts=starts, iterations=iterations, tick=told
        ).labels
        given = labels.to(groups.device)
        scores.append((normalized_mutual_information(given, groups), adjusted_mutual_information(given, groups)))
    means = [float(np.mean(column)) for column in zip(*scores, strict=True)]
    stds = [float(np.std(column, ddof=1)) if len(seeds) > 1 else None for column in zip(*scores, strict=True)]
    return Clustering(
        nmi=means[0],
        nmi_std=stds[0],
        ami=means[1],
        ami_std=stds[1],
        clusters=count,
        seeds=tuple(seeds),
        per_seed=tuple(scores),
    )


@torch.no_grad()
def kmeans(
    rows: Rows,
    clusters: int,
    *,
    seed: int,
    spherical: bool = False,
    starts: int = 10,
    iterations: int = 100,
    tick: Tick = untold,
) -> KMeans:
    """Lloyd's algorithm from k-means++ starts (Arthur and Vassilvitskii 2007), until no row changes its cluster.

    Minimises Σ_n ‖x_n − c(x_n)‖². The start that ends with the smallest sum is kept, of equal sums the first: a single
    start often joins two of six well separated groups. Of equally near centres the one with the smaller number wins. A
    cluster that loses all its rows keeps its centre. Rows are rounded to b bits relative to their largest entry, and so
    are centres for the computation of distances; b = min(24, ⌊(53 − ⌈log₂ D⌉) / 2⌋), which is 23 at D = 128. The
    clusters are therefore the same to the bit for any number of threads.

    Args:
        rows: (N, D) float.
        clusters: C, 1 ≤ C ≤ N. If there are fewer distinct rows, each of them gets a centre.
        seed: seed of the starts.
        spherical: whether to divide rows and centres by their length, so that the nearest centre has the largest cosine
            (spherical k-means, Dhillon and Modha 2001).
        starts: number of starts, ≥ 1.
        iterations: largest number of steps from each start, ≥ 1.
        tick: told the share of the work that is done.

    Raises:
        LikewiseError: wrong shape, NaN or infinity (by row), C, ``starts`` or ``iterations`` out of range.

    Cost: O(N·C·D) time a step, and about as much for each start; memory N·(4·D + 24) bytes and about 100 MiB.
    """
    rows = as_rows("rows", rows)
    check_finite("rows", rows)
    if at_least_one("clusters", clusters, "it is a number of groups") > rows.shape[0]:
        raise LikewiseError(f"clusters must be from 1 to the {rows.shape[0]} rows, but is {clusters}.")
    for name, count in (("starts", starts), ("iterations", iterations)):
        at_least_one(name, count, "the defaults do well")
    whole, unit = _whole(rows, spherical)
    radius = 1 / unit if spherical else None
    generator = torch.Generator().manual_seed(seed)

    def run(number: int) -> KMeans:
        told = part_of(tick, number, starts)
        first = _start(whole, clusters, generator, part_of(told, 0, 2))
        told(0.5)
        return _lloyd(whole, unit, first, radius, iterations, part_of(told, 1, 2))

    return min(map(run, range(starts)), key=lambda run: run.inertia)


def _lloyd(
    whole: Tensor, unit: float, centres: Tensor, radius: float | None, iterations: int, tick: Tick = untold
) -> KMeans:
    """Lloyd's algorithm from these centres. How many steps it takes is not known before it ends."""
    labels, distances = _nearest(whole, centres)
    steps = 1
    while steps < iterations:
        centres, before = _means(whole, labels, centres, radius), labels
        labels, distances = _nearest(whole, centres)
        steps += 1
        tick(steps / (steps + _USUAL_STEPS))
        if torch.equal(labels, before):
            break
    tick(1.0)
    return KMeans(labels, centres * unit, math.fsum(distances.tolist()) * unit**2, steps)


def _whole(rows: Tensor, spherical: bool) -> tuple[Tensor, float]:
    """Rows as whole numbers up to 2ᵇ in float32, and the value of 1 in them. Their float64 products are exact."""
    whole = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    step = max(1, _TILE_VALUES // rows.shape[1])
    largest = 1.0 if spherical else max(float(peaks(part).max()) for part in torch.split(rows, step))
    unit = 2.0 ** (math.frexp(largest)[1] - _bits(rows.shape[1]))
    for start in range(0, rows.shape[0], step):
        part = rows[start : start + step].double()
        if spherical:
            part = torch.nn.functional.normalize(part, dim=1)
        whole[start : start + step] = (part / unit).round_()
    return whole, unit


def _bits(width: int) -> int:
    return min(24, (53 - (width - 1).bit_length()) // 2)


def _snapped(centres: Tensor) -> Tensor:
    """(C, D) float64 centres, rounded to as many bits as make their products with rows exact."""
    exponent = torch.frexp(centres.abs().amax(1, keepdim=True)).exponent.long() - _bits(centres.shape[1])
    return (centres * power_of_two(-exponent)).round_().mul_(power_of_two(exponent))


def _squared(rows: Tensor, centres: Tensor) -> Tensor:
    """(B, C) squared distances of float64 rows and centres; the products are exact, so tiles do not matter."""
    products = rows @ centres.T
    return (rows.square().sum(1, keepdim=True) - 2 * products).add_(centres.square().sum(1)).clamp_min_(0.0)


def _nearest(whole: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The number of each row's nearest centre (of equal ones the smallest) and its squared distance, both (N,)."""
    snapped, numbers = _snapped(centres), torch.arange(len(centres), device=centres.device)
    labels = torch.empty(len(whole), dtype=torch.int64, device=whole.device)
    distances = torch.empty(len(whole), dtype=torch.float64, device=whole.device)
    step = max(1, min(_TILE // len(centres), _TILE_VALUES // whole.shape[1]))
    for start in range(0, len(whole), step):
        squared = _squared(whole[start : start + step].double(), snapped)
        least = squared.amin(1)
        labels[start : start + step] = torch.where(squared == least[:, None], numbers, len(numbers)).amin(1)
        distances[start : start + step] = least
    return labels, distances


def _means(whole: Tensor, labels: Tensor, centres: Tensor, radius: float | None) -> Tensor:
    """The mean of each cluster's rows, scaled to length ``radius`` if given; an empty cluster keeps its centre."""
    sums = torch.zeros_like(centres)
    step = max(1, _TILE_VALUES // whole.shape[1])
    for start in range(0, len(whole), step):
        sums.index_add_(0, labels[start : start + step], whole[start : start + step].double())
    if radius is not None:
        length = sums.norm(dim=1, keepdim=True)
        return torch.where(length > 0, sums / length * radius, centres)
    sizes = torch.bincount(labels, minlength=len(centres))[:, None]
    return torch.where(sizes > 0, sums / sizes, centres)


def _start(whole: Tensor, clusters: int, generator: torch.Generator, tick: Tick = untold) -> Tensor:
    """k-means++: the next centre is row n with probability ∝ d_n, its squared distance to the nearest centre so far.

    Many candidates are drawn at once from the old distances. A candidate whose distance has become d' instead of d is
    accepted with probability d'/d, which equals a draw from the new distances. The work is then products of matrices.
    """
    first = int(torch.randint(len(whole), (1,), generator=generator))
    centres = [whole[first : first + 1].double()]
    distance = torch.full((len(whole),), torch.inf, dtype=torch.float64, device=whole.device)
    _shrink(distance, whole, centres[0])
    left = clusters - 1
    while left:
        edges = distance.cumsum(0)
        if float(edges[-1]) == 0.0:  # as many centres as distinct rows
            break
        drawn, chance = torch.rand(2, _CANDIDATES, dtype=torch.float64, generator=generator).to(whole.device)
        row = torch.searchsorted(edges, drawn * edges[-1], right=True).clamp_max_(len(whole) - 1)
        row = row[distance[row] > 0]
        candidates = whole[row].double()
        taken = _take(distance[row], _squared(candidates, candidates), chance.tolist(), left)
        _shrink(distance, whole, candidates[taken])
        centres.append(candidates[taken])
        left -= len(taken)
        tick(1 - left / clusters)
    return torch.cat(centres)


def _take(distance: Tensor, between: Tensor, chance: list[float], left: int) -> list[int]:
    """The places of the accepted candidates, tested one after the other; at most ``left``."""
    taken: list[int] = []
    old, apart = distance.tolist(), between.cpu().numpy()
    for number, before in enumerate(old):
        now = min([before, *apart[number, taken].tolist()])
        if chance[number] * before < now and len(taken) < left:
            taken.append(number)
    return taken


def _shrink(distance: Tensor, whole: Tensor, centres: Tensor) -> None:
    """Updates each row's squared distance to the nearest centre when ``centres`` are added."""
    step = max(1, min(_TILE // len(centres), _TILE_VALUES // whole.shape[1])) if len(centres) else len(whole)
    for start in range(0, len(whole), step):
        if len(centres):
            near = _squared(whole[start : start + step].double(), centres).amin(1)
            torch.minimum(distance[start : start + step], near, out=distance[start : start + step])


def normalized_mutual_information(labels: Ids, clusters: Ids) -> float:
    """NMI = I(U; V) / ((H(U) + H(V)) / 2) of labels and clusters, in [0, 1]; scikit-learn's default, arithmetic mean.

    I(U; V) = Σ_ij n_ij/N log(N n_ij / (a_i b_j)) over pairs of a class and a cluster that share items; n_ij is their
    number, a_i and b_j are the sizes. NMI is 1 if both put all items into one group, and 0 if only one does. It grows
    with the number of clusters even for random clusters; AMI does not.

    Args:
        labels: (N,) integers.
        clusters: (N,) integers.

    Raises:
        LikewiseError: empty, not integers, or different lengths.

    Cost: O(N log N) time, O(N) memory: no table of classes × clusters.
    """
    table = _table(labels, clusters)
    if min(len(table.rows), len(table.columns)) == 1:
        return 1.0 if len(table.rows) == len(table.columns) else 0.0
    return min(1.0, _information(table) / ((_entropy(table.rows) + _entropy(table.columns)) / 2))


def adjusted_mutual_information(labels: Ids, clusters: Ids) -> float:
    """AMI = (I − E[I]) / ((H(U) + H(V)) / 2 − E[I]) (Vinh, Epps and Bailey 2010), with scikit-learn's arithmetic mean.

    It is 1 for equal groups, 0 on average for random groups of the same sizes, and below 0 for worse ones.

    E[I] = Σ_ij Σ_n P(n; a_i, b_j) n/N log(N n / (a_i b_j)). P is the hypergeometric probability that a class of a_i
    items and a random cluster of b_j items share n of the N items.

    Arguments and errors are those of ``normalized_mutual_information``.

    Cost: O(N log N + U·V·w) time and about 50 MiB. Groups of equal size are computed together. n runs only over terms
    where P is above e⁻³⁷ of its sum: w ≤ min(a, b) terms, at most 100 plus 20 standard deviations of n. P is computed
    from ratios of neighbouring terms, not from factorials, so it is precise for a million items.
    """
    table = _table(labels, clusters)
    if min(len(table.rows), len(table.columns)) == 1:
        return 1.0 if len(table.rows) == len(table.columns) else 0.0
    expected = expected_information(table.rows, table.columns)
    most = (_entropy(table.rows) + _entropy(table.columns)) / 2
    smallest = float(np.finfo(np.float64).eps)
    above, below = (math.copysign(max(abs(x), smallest), x) for x in (_information(table) - expected, most - expected))
    return above / below


class _Table(NamedTuple):
    """The non-empty cells of the table of classes × clusters, and its margins."""

    cells: NDArray[np.int64]
    row: NDArray[np.int64]  # of each cell
    column: NDArray[np.int64]
    rows: NDArray[np.int64]  # sizes of classes
    columns: NDArray[np.int64]  # sizes of clusters


def _table(labels: Ids, clusters: Ids) -> _Table:
    labels, clusters = as_ids("labels", labels), as_ids("clusters", clusters)
    for name, given in (("labels", labels), ("clusters", clusters)):
        if given.ndim != 1 or len(given) == 0:
            raise LikewiseError(f"{name} must be (N,) integers, not empty, but have shape {tuple(given.shape)}.")
    if len(labels) != len(clusters):
        raise LikewiseError(f"there are {len(labels)} labels but {len(clusters)} clusters; give one each per item.")
    _, row, rows = np.unique(labels.cpu().numpy(), return_inverse=True, return_counts=True)
    _, column, columns = np.unique(clusters.cpu().numpy(), return_inverse=True, return_counts=True)
    pairs, cells = np.unique(row.astype(np.int64) * len(columns) + column, return_counts=True)
    return _Table(cells, pairs // len(columns), pairs % len(columns), rows, columns)


def _entropy(sizes: NDArray[np.int64]) -> float:
    share = sizes / sizes.sum()
    return -math.fsum((share * np.log(share)).tolist())


def _information(table: _Table) -> float:
    """I(U; V) in nats, at least 0."""
    size = table.cells.sum()
    margins = np.log(table.rows / size)[table.row] + np.log(table.columns / size)[table.column]
    share = table.cells / size
    return max(0.0, math.fsum((share * (np.log(share) - margins)).tolist()))


def expected_information(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    """E[I] in nats for groups of these sizes, as ``adjusted_mutual_information`` states it."""
    size = int(rows.sum())
    class_sizes, class_times = np.unique(rows, return_counts=True)
    b, cluster_times = np.unique(columns, return_counts=True)
    sums: list[float] = []
    for a, times in zip(class_sizes.tolist(), class_times.tolist(), strict=True):
        low, high = _window(a, b, size)
        start = 0
        while start < len(b):
            widths = np.maximum.accumulate(high[start:] - low[start:] + 1)
            stop = start + max(1, int(np.searchsorted(widths * np.arange(1, len(widths) + 1), _TERMS, side="right")))
            part = slice(start, stop)
            values = _expected_terms(a, b[part], low[part], high[part], size)
            sums += (times * cluster_times[part] * values).tolist()
            start = stop
    return math.fsum(sums)


def _window(a: int, b: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The range of n with nearly all of its probability: the mean ± (50 + 10 standard deviations), within limits."""
    mean = a * (b / size)
    variance = mean * (1 - a / size) * (1 - b / size) * (size / max(1, size - 1))
    reach = 50 + 10 * np.sqrt(np.maximum(variance, 0.0))
    low = np.maximum(np.maximum(0, a + b - size), np.floor(mean - reach).astype(np.int64))
    high = np.minimum(np.minimum(a, b), np.ceil(mean + reach).astype(np.int64))
    return low, high


def _expected_terms(
    a: int, b: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    """Σ_n P(n) n/N log(N n / (a b)) for one class size a and some cluster sizes b, P divided by its sum.

    P(n+1) / P(n) = (a − n)(b − n) / ((n + 1)(N − a − b + n + 1)).
    """
    n = low[:, None] + np.arange(int((high - low).max()) + 1)  # (V, W)
    inside = n <= high[:, None]
    b_column = b[:, None].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        before = n[:, :-1]
        ratio = np.log(a - before) + np.log(b_column - before)
        ratio -= np.log(before + 1) + np.log(size - a - b_column + before + 1)
        logs = np.where(inside, np.concatenate([np.zeros((len(b), 1)), np.cumsum(ratio, axis=1)], axis=1), -np.inf)
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        terms = np.where(inside & (n > 0), n / size * (np.log(n) + np.log(size) - np.log(a) - np.log(b_column)), 0.0)
    return np.asarray((weights * terms).sum(axis=1) / weights.sum(axis=1))
