"""Hierarchical affinity clustering of a graph, and negatives from sibling clusters.

Dimension legend: N items, E edges, L levels, A anchors.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, untold
from likewise.errors import LikewiseError, at_least_one
from likewise.graph.co_engagement import scipy_sparse

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Large = Literal["split", "stop"]
ROWS = 1 << 16  # clusters of a block


class Affinity(NamedTuple):
    """The clusters of each level, the finest first.

    Args:
        labels: (L, N) int64, the cluster of each item, numbered from 0. A cluster lies within one of the next level.
        notes: what is to be said, a line each.
    """

    labels: Ints
    notes: tuple[str, ...]

    def sizes(self, level: int) -> Ints:
        """(C,) the number of items of each cluster of a level."""
        return np.bincount(self.labels[level])


def affinity(
    item: Ints,
    other: Ints,
    weight: Floats,
    items: int,
    *,
    levels: int = 3,
    largest: float = 0.25,
    large: Large = "split",
    seed: int = 0,
    tick: Tick = untold,
) -> Affinity:
    """Affinity clustering: in each round every cluster joins its nearest neighbour (Bateni et al. 2017; Borůvka).

    The affinity of clusters A and B is the average linkage ``Σ w(a, b) / (|A| |B|)``, where items without an edge have
    weight 0. An edge counts in both directions, with the larger of its two weights. Among equally near neighbours a
    hash of the two clusters decides: with the lowest number, or the first, all would join one. Items without an edge
    stay alone.

    A round may join very many, above all where few items are popular (in a graph of raw counts of MovieLens, two thirds
    of the items in the first round). Where a new cluster has more than the share ``largest`` of the items, "split"
    leaves out the weaker half of the joins that made it, again and again, until none has; "stop" keeps the levels
    before. Each is said in ``notes``.

    Args:
        item: (E,) one end of each edge, from 0 to N − 1.
        other: (E,) the other end. Edges of an item with itself do not count.
        weight: (E,) above 0; 0 is no edge.
        items: N.
        levels: rounds, at least 1. It ends earlier where no edge is left between clusters, or nothing joins.
        largest: the largest share of all items in a cluster, above 0, at most 1.
        large: what is done with a larger one.
        seed: of the hash.
        tick: is told which share of the work is done.

    Raises:
        LikewiseError: arrays of different lengths, an end that is no item, a weight that is negative or not finite,
            another number out of its range, or SciPy is not installed.

    Cost: no loop over edges. A million items with 10 edges each, three rounds: see docs/results.md.

    Departures: Bateni et al. stop at a number of clusters and do not say what they do with very large ones.
    """
    sparse = scipy_sparse()
    item, other, weight = _checked(item, other, weight, items)
    at_least_one("levels", levels, "GCML has 3")
    if not 0 < largest <= 1:
        raise LikewiseError(f"largest={largest} must be above 0 and at most 1: a share of the items.")
    if large not in ("split", "stop"):
        raise LikewiseError(f"large={large!r} must be 'split' or 'stop'.")
    sums = sparse.coo_array((weight, (item, other)), shape=(items, items)).tocsr()  # repeated edges add up
    del item, other, weight
    sums = sums.maximum(sums.T.tocsr())
    labels: Ints = np.arange(items)
    sizes: Floats = np.ones(items)
    found, notes = list[Ints](), list[str]()
    for level in range(levels):
        near, affinities = _nearest(sums, sizes, seed + level)
        joins = np.flatnonzero(near >= 0)
        if not len(joins):
            notes.append(f"level {level}: no edge is left between clusters, so the levels end before it.")
            break
        new, left_out = _joined(sparse, near, affinities, joins, sizes, largest * items, split=large == "split")
        biggest = np.bincount(new, sizes).max()
        if biggest > max(largest * items, sizes.max()):
            notes.append(
                f"level {level}: one cluster would have {biggest / items:.0%} of the items, more than {largest:.0%}, "
                "so the levels end before it."
            )
            break
        if left_out:
            notes.append(
                f"level {level}: {left_out:,} of {len(joins):,} joins were left out, since a cluster would have had "
                f"more than {largest:.0%} of the items."
            )
        if int(new.max()) + 1 == len(sizes):
            notes.append(f"level {level}: nothing joins, so the levels end before it.")
            break
        sizes = np.bincount(new, sizes).astype(np.float64)
        labels = new[labels]
        found.append(labels)
        sums = _contracted(sparse, sums, new, len(sizes))
        tick((level + 1) / levels)
    tick(1.0)
    return Affinity(np.stack(found) if found else np.empty((0, items), np.int64), tuple(notes))


def _checked(item: Ints, other: Ints, weight: Floats, items: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Floats]:
    """The edges that count. Raises LikewiseError on what :func:`affinity` refuses."""
    at_least_one("items", items, "a graph has items")
    item, other = (np.asarray(ends, dtype=np.int64) for ends in (item, other))
    weight = np.asarray(weight, dtype=np.float64)
    if item.ndim != 1 or not item.shape == other.shape == weight.shape:
        raise LikewiseError(
            f"item {item.shape}, other {other.shape} and weight {weight.shape} must be (E,), one for each edge."
        )
    for name, ends in (("item", item), ("other", other)):
        if len(ends) and not 0 <= int(ends.min()) <= int(ends.max()) < items:
            raise LikewiseError(f"{name} must be from 0 to {items - 1}, but goes from {ends.min()} to {ends.max()}.")
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise LikewiseError(f"the weight of edge {bad[0]} is {weight[bad[0]]}; weights must be finite, and 0 or more.")
    kept = (item != other) & (weight > 0)
    small = np.int32 if items < 1 << 31 else np.int64  # SciPy keeps it, which halves the memory
    return item[kept].astype(small), other[kept].astype(small), weight[kept]


def _nearest(sums: Any, sizes: Floats, seed: int) -> tuple[Ints, Floats]:
    """(C,) the nearest neighbour of each cluster and the affinity to it; −1 and 0 where there is none.

    ``sums`` are the sums of weights between clusters, a csr_array. It is read in blocks of rows.
    """
    near, affinities = np.full(len(sizes), -1), np.zeros(len(sizes))
    for start in range(0, len(sizes), ROWS):
        ends = sums.indptr[start : start + ROWS + 1].astype(np.int64)
        others, degree = sums.indices[ends[0] : ends[-1]], np.diff(ends)
        some = np.flatnonzero(degree)  # reduceat needs rows with an edge
        if not len(some):
            continue
        row = start + np.repeat(np.arange(len(degree)), degree)
        average = sums.data[ends[0] : ends[-1]] / (sizes[row] * sizes[others])
        best = np.maximum.reduceat(average, ends[some] - ends[0])
        tied = np.flatnonzero(average == np.repeat(best, degree[some]))
        if len(tied) > len(some):
            low, high = np.minimum(row[tied], others[tied]), np.maximum(row[tied], others[tied])
            tied = tied[np.lexsort((_hashed(low, high, seed), row[tied]))]
            tied = tied[np.unique(row[tied], return_index=True)[1]]
        near[row[tied]], affinities[row[tied]] = others[tied], average[tied]
    return near, affinities


def _hashed(low: Ints, high: Ints, seed: int) -> npt.NDArray[np.uint64]:
    """A hash of each pair (Steele et al. 2014, SplitMix64)."""
    with np.errstate(over="ignore"):
        mixed = (low.astype(np.uint64) << np.uint64(32)) ^ high.astype(np.uint64)
        mixed += np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def _joined(
    sparse: Any,
    near: Ints,
    affinities: Floats,
    joins: Ints,
    sizes: Floats,
    most: float,
    *,
    split: bool,
) -> tuple[Ints, int]:
    """(C,) the new cluster of each cluster, and how many joins were left out for size."""
    from scipy.sparse.csgraph import connected_components

    count, kept = len(sizes), joins
    while True:
        graph = sparse.coo_array((np.ones(len(kept), np.int8), (kept, near[kept])), shape=(count, count))
        new = connected_components(graph, directed=False)[1].astype(np.int64)
        held = np.bincount(new, sizes)
        at = new[kept]  # the new cluster that each join made
        over = (held > most)[at]
        if not split or not over.any():
            return new, len(joins) - len(kept)
        # of each cluster that is too large: its weaker half of joins, at least one
        places = np.flatnonzero(over)
        order = places[np.lexsort((affinities[kept[places]], at[places]))]
        _, start, number = np.unique(at[order], return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(start, number)
        weak = order[rank < np.repeat((number + 1) // 2, number)]
        kept = np.delete(kept, weak)


def _contracted(sparse: Any, sums: Any, new: Ints, count: int) -> Any:
    """The sums of weights between the new clusters."""
    number = new.astype(sums.indices.dtype)
    row, other = np.repeat(number, np.diff(sums.indptr)), number[sums.indices]
    between = row != other
    return sparse.coo_array((sums.data[between], (row[between], other[between])), shape=(count, count)).tocsr()


class Siblings:
    """Draws negatives for items from the clusters beside their own: of the same parent (GCML's smart negatives).

    At level l, an item's siblings are the items of its cluster of level l + 1 that are not in its cluster of level l.
    At the last level all other clusters are beside it. An item without siblings gets a negative from all. An item
    outside ``pool`` is never drawn.

    Args:
        found: the clusters.
        level: l, from 0.
        pool: (K,) items that may be drawn, and those that ask, in any order; None: all.

    Raises:
        LikewiseError: there is no such level.

    Cost: memory 40·N bytes; a draw is O(A).
    """

    def __init__(self, found: Affinity, level: int = 0, pool: Ints | None = None) -> None:
        levels, items = found.labels.shape
        pool = np.arange(items) if pool is None else pool
        if not 0 <= level < levels:
            raise LikewiseError(f"there is no level {level}: this graph has {levels} levels, numbered from 0.")
        cluster = found.labels[level]
        parent = found.labels[level + 1] if level + 1 < levels else np.zeros(items, np.int64)
        # the items of a parent stand together, and in it those of a cluster
        self._order = pool[np.lexsort((cluster[pool], parent[pool]))]
        self._parent = _ranges(parent, self._order)
        self._cluster = _ranges(cluster, self._order)

    def __repr__(self) -> str:
        return f"Siblings({len(self._order):,} items, {self.share:.0%} of them have siblings)"

    @property
    def share(self) -> float:
        """The share of the items that have siblings."""
        return float((self._number(self._order) > 0).mean())

    def _number(self, anchors: Ints) -> Ints:
        """(A,) the number of siblings."""
        (start, stop), (first, last) = self._parent[:, anchors], self._cluster[:, anchors]
        number: Ints = (stop - start) - (last - first)
        return number

    def draw(self, anchors: Ints, generator: np.random.Generator) -> Ints:
        """(A,) an item for each anchor: uniform over its siblings, or over the pool where it has none."""
        number, (start, _), (first, last) = self._number(anchors), self._parent[:, anchors], self._cluster[:, anchors]
        alone = number == 0
        drawn = generator.integers(0, np.where(alone, len(self._order), number))
        place = start + drawn
        place = np.where(place >= first, place + (last - first), place)  # past the anchor's own cluster
        return self._order[np.where(alone, drawn, place)]


def _ranges(group: Ints, order: Ints) -> Ints:
    """(2, N) where the group of each item in ``order`` begins and ends there; in it groups stand together."""
    inside = group[order]
    edge = np.flatnonzero(np.concatenate([[True], inside[1:] != inside[:-1]]))
    number = np.diff(np.append(edge, len(order)))
    ranges = np.zeros((2, len(group)), np.int64)
    ranges[0, order], ranges[1, order] = np.repeat(edge, number), np.repeat(edge + number, number)
    return ranges
