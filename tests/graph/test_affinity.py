"""Affinity clustering against a loop, planted clusters, ties, very large clusters; negatives from siblings."""

import math
from typing import Any

import numpy as np
import pytest

from likewise.errors import LikewiseError
from likewise.graph import affinity as module
from likewise.graph.affinity import Affinity, Siblings, affinity

Edges = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def loop(edges: Edges, items: int, levels: int) -> list[list[set[int]]]:
    """The clusters of each level, for weights without ties."""
    weight: dict[frozenset[int], float] = {}
    for i, j, w in zip(*(part.tolist() for part in edges), strict=True):
        if i != j and w > 0:
            weight[frozenset((i, j))] = max(w, weight.get(frozenset((i, j)), 0))
    clusters, found = [{i} for i in range(items)], list[list[set[int]]]()
    for _ in range(levels):
        joined = list(range(len(clusters)))
        for a, mine in enumerate(clusters):
            average = [
                sum(weight.get(frozenset((i, j)), 0) for i in mine for j in other) / (len(mine) * len(other))
                for b, other in enumerate(clusters)
                if b != a
            ]
            best = max(average, default=0)
            if best > 0:
                b = average.index(best)
                b += b >= a
                old, new = joined[b], joined[a]
                joined = [new if each == old else each for each in joined]
        merged = [set().union(*(c for c, j in zip(clusters, joined, strict=True) if j == one)) for one in set(joined)]
        if len(merged) == len(clusters):
            break
        clusters = merged
        found.append(sorted(clusters, key=min))
    return found


def as_sets(labels: Any) -> list[set[int]]:
    return sorted(({*np.flatnonzero(labels == one).tolist()} for one in np.unique(labels)), key=min)


@pytest.mark.parametrize("seed", range(6))
def test_each_level_is_its_loop(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 7)  # several blocks
    rng = np.random.default_rng(seed)
    items, count = 24, 40
    item, other = rng.permutation(items * items)[:count] // items, rng.integers(0, items, count)
    _, first = np.unique(item * items + other, return_index=True)
    edges = item[first], other[first], rng.random(len(first))
    found = affinity(*edges, items, levels=3, largest=1)
    assert [as_sets(labels) for labels in found.labels] == loop(edges, items, 3)


def test_planted_clusters_of_clusters_are_found() -> None:
    rng = np.random.default_rng(0)
    item, other = np.triu_indices(640, 1)
    weight = np.where(item // 8 == other // 8, 1.0, np.where(item // 64 == other // 64, 0.1, 0.001))
    found = affinity(item, other, weight * (1 + 0.01 * rng.random(len(item))), 640, levels=6, largest=1)
    for labels in found.labels:
        for cluster in as_sets(labels):
            for size in (8, 64):
                assert len(cluster) > size or len({i // size for i in cluster}) == 1
    for fine, coarse in zip(found.labels, found.labels[1:], strict=False):  # each lies within one of the next
        assert len(np.unique(np.stack([fine, coarse]), axis=1).T) == fine.max() + 1
    assert found.labels[-1].max() == 0


def test_equal_neighbours_are_told_apart_by_a_hash() -> None:
    """On a ring of equal weights the lowest number, or the first, would make few and long chains."""
    items = 20_000
    item = np.arange(items)
    one = affinity(item, (item + 1) % items, np.ones(items), items, levels=1)
    sizes = one.sizes(0)
    assert 2 <= sizes.mean() < 4
    assert sizes.max() < 30
    assert np.array_equal(one.labels, affinity(item, (item + 1) % items, np.ones(items), items, levels=1).labels)
    other_seed = affinity(item, (item + 1) % items, np.ones(items), items, levels=1, seed=1)
    assert not np.array_equal(one.labels, other_seed.labels)


def test_a_cluster_of_most_items_is_split_or_ends_the_levels() -> None:
    """A star: all are nearest to one popular item."""
    leaves = np.arange(1, 101)
    edges = np.zeros(100, np.int64), leaves, np.linspace(1, 2, 100)
    split = affinity(*edges, 101, levels=1, largest=0.25)
    assert split.sizes(0).max() <= 0.25 * 101
    assert "of 101 joins were left out, since a cluster would have had more than 25% of the items" in split.notes[0]
    hub = split.labels[0][0]
    assert set(np.flatnonzero(split.labels[0] == hub)) >= {0, 100, 99}  # the strongest stay
    stopped = affinity(*edges, 101, levels=3, largest=0.25, large="stop")
    assert stopped.labels.shape == (0, 101)
    assert stopped.notes == (
        "level 0: one cluster would have 100% of the items, more than 25%, so the levels end before it.",
    )
    whole = affinity(*edges, 101, levels=3, largest=1)
    assert whole.labels.max(1).tolist() == [0]
    assert "no edge is left between clusters, so the levels end before it" in whole.notes[0]


def test_items_without_an_edge_stay_alone() -> None:
    found = affinity(np.array([0, 3]), np.array([1, 3]), np.array([0.5, 9.0]), 5, levels=2, largest=1)
    assert as_sets(found.labels[0]) == [{0, 1}, {2}, {3}, {4}]
    nothing = affinity(np.array([], np.int64), np.array([], np.int64), np.array([]), 3)
    assert nothing.labels.shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"item": [0, 5]}, "item must be from 0 to 3, but goes from 0 to 5"),
        ({"other": [-1, 1]}, "other must be from 0 to 3, but goes from -1 to 1"),
        ({"weight": [1.0, math.nan]}, "the weight of edge 1 is nan; weights must be finite, and 0 or more"),
        ({"weight": [-1.0, 1]}, "the weight of edge 0 is -1.0"),
        ({"weight": [1.0]}, r"item \(2,\), other \(2,\) and weight \(1,\) must be \(E,\)"),
        ({"levels": 0}, "levels=0 must be at least 1"),
        ({"largest": 0}, "largest=0 must be above 0"),
        ({"large": "cut"}, "large='cut' must be 'split' or 'stop'"),
    ],
)
def test_bad_input_is_one_sentence(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"item": [0, 1], "other": [1, 2], "weight": [1.0, 2], "items": 4} | change
    with pytest.raises(LikewiseError, match=said):
        affinity(**given)


def test_negatives_come_from_siblings_alone_and_from_all_of_them() -> None:
    fine = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    coarse = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    order = np.random.default_rng(0).permutation(8)
    found = Affinity(np.stack([fine[order], coarse[order]]), ())
    siblings, rng = Siblings(found, 0), np.random.default_rng(1)
    assert siblings.share == 6 / 8  # those of cluster 3 have none
    for anchor in range(8):
        drawn = siblings.draw(np.full(4000, anchor), rng)
        mine, above = found.labels[0] == found.labels[0][anchor], found.labels[1] == found.labels[1][anchor]
        wanted = np.flatnonzero(above & ~mine) if (above & ~mine).any() else np.arange(8)
        assert sorted(set(drawn.tolist())) == wanted.tolist()
        assert np.bincount(drawn, minlength=8)[wanted].min() > 0.8 * 4000 / len(wanted)
    top = Siblings(found, 1)  # beside a cluster of the last level are all others
    assert set(top.draw(np.flatnonzero(found.labels[1] == 0).repeat(200), rng)) == set(np.flatnonzero(found.labels[1]))
    with pytest.raises(LikewiseError, match="there is no level 2: this graph has 2 levels, numbered from 0"):
        Siblings(found, 2)
