"""The methods that choose which items to label first, from the rows of an embedding.

Dimension legend: N items, D columns, n items to choose.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from likewise.console import Tick, part_of, untold
from likewise.errors import LikewiseError, at_least_one, closest
from likewise.metrics.checks import Rows, as_rows, check_finite
from likewise.metrics.clustering import kmeans
from likewise.metrics.neighbours import top_k

MOST_CLUSTERS = 500  # TypiClust's
SMALL = 5  # items of a cluster that TypiClust leaves for last
TYPICAL = 20  # TypiClust's neighbours
HALF = 0.5  # of the items, that ProbCover's balls hold
DRAWN, BISECTIONS = 4096, 10  # of the search for ProbCover's radius
_TILE = 2**22  # cosines in memory at once

Chooser = Callable[[Tensor, int, Tensor, int, Tick], Tensor]  # rows, n, rows labelled already, seed, tick


@torch.no_grad()
def choose_rows(
    rows: Rows, count: int, *, method: str, known: Sequence[int] = (), seed: int = 0, tick: Tick = untold
) -> Tensor:
    """The rows to label first, the most useful one first.

    Args:
        rows: (N, D) float unit rows.
        count: n, from 1 to the number of rows that have no label.
        method: a name of ``METHODS``.
        known: rows that have a label already; they are not chosen, and what they stand for counts less.
        seed: of k-means and of ``random``.
        tick: told the share of the work that is done.

    Returns:
        (n,) int64 different rows.

    Raises:
        LikewiseError: wrong shape, NaN or infinity (by row), n out of range, an unknown method.

    Cost: see the method.
    """
    rows = as_rows("rows", rows)
    check_finite("rows", rows)
    chooser = method_named(method)
    left = len(rows) - len(known)
    if at_least_one("n", count, "it is a number of items to label") > left:
        raise LikewiseError(f"n={count} is more than the {left:,} items without a label.")
    return chooser(rows.float(), count, torch.tensor(list(known), dtype=torch.int64), seed, tick)


def method_named(name: str) -> Chooser:
    """The method of that name. Raises LikewiseError on another, with the closest."""
    if name not in METHODS:
        raise LikewiseError(f"there is no method {name!r}.{closest(name, METHODS)} Known: {', '.join(METHODS)}.")
    return METHODS[name]


def at_random(rows: Tensor, count: int, known: Tensor, seed: int, tick: Tick = untold) -> Tensor:
    """Any items, each as likely as the others: what a method must beat."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return order[~torch.isin(order, known)][:count]


def typiclust(rows: Tensor, count: int, known: Tensor, seed: int, tick: Tick = untold) -> Tensor:
    """The most typical item of each cluster (TypiClust, Hacohen, Dekel and Weinshall 2022, algorithm 1).

    k-means makes min(n + labelled items, 500) clusters. The next item is of the cluster with the fewest labelled and
    chosen items, of these the largest; clusters below 5 items come last. Of its items the most typical is taken:
    typicality(x) = (1/K Σ ‖x − x_i‖)⁻¹ over its K nearest in the cluster, K = min(20, half of the cluster).

    Cost: that of ``kmeans``, and of ``top_k`` of each cluster among itself.
    """
    clusters = min(count + len(known), MOST_CLUSTERS, len(rows))
    labels = kmeans(rows, clusters, seed=seed, starts=3, tick=part_of(tick, 0, 2)).labels
    sizes = torch.bincount(labels, minlength=clusters)
    taken = torch.bincount(labels[known], minlength=clusters)
    left = sizes - taken
    ranked: dict[int, list[int]] = {}
    chosen = []
    for number in range(count):
        places = [place for place in range(clusters) if left[place] > 0]
        cluster = min(places, key=lambda place: (bool(sizes[place] < SMALL), int(taken[place]), -int(sizes[place])))
        if cluster not in ranked:
            members = (labels == cluster).nonzero().flatten()
            order = typicality(rows[members]).argsort(descending=True, stable=True)
            ranked[cluster] = members[order][~torch.isin(members[order], known)].tolist()[::-1]
        chosen.append(ranked[cluster].pop())
        taken[cluster] += 1
        left[cluster] -= 1
        tick(0.5 + 0.5 * number / count)
    return torch.tensor(chosen)


def typicality(rows: Tensor) -> Tensor:
    """(N,) one over the mean distance of each unit row to its nearest others: see ``typiclust``; of one row it is 1."""
    if len(rows) == 1:
        return torch.ones(1)
    own = torch.arange(len(rows))
    cosines, _ = top_k(rows, rows, max(1, min(TYPICAL, len(rows) // 2)), query_ids=own, key_ids=own)
    return 1 / distance(cosines).mean(1).clamp_min(1e-12)


def distance(cosines: Tensor) -> Tensor:
    """√(2 − 2s), the distance of unit rows whose cosine is s."""
    return (2 - 2 * cosines.double()).clamp_min(0.0).sqrt()


def k_center(rows: Tensor, count: int, known: Tensor, seed: int = 0, tick: Tick = untold) -> Tensor:
    """The item furthest from what is labelled or chosen, again and again (core-set, Sener and Savarese 2018).

    The largest distance of an item to its nearest chosen one is then at most twice the smallest possible. Where nothing
    is labelled the first is the item nearest to the mean. Of equally far items the first is taken.

    Cost: O(N·D·n) time, O(N) memory.
    """
    nearest = torch.full((len(rows),), -torch.inf)
    for row in known.tolist():
        nearest = torch.maximum(nearest, rows @ rows[row])
    nearest[known] = torch.inf
    chosen: list[int] = []
    for number in range(count):
        row = int(nearest.argmin() if chosen or len(known) else (rows @ rows.mean(0)).argmax())
        chosen.append(row)
        nearest = torch.maximum(nearest, rows @ rows[row])
        nearest[row] = torch.inf
        tick(number / count)
    return torch.tensor(chosen)


def probcover(rows: Tensor, count: int, known: Tensor, seed: int, tick: Tick = untold) -> Tensor:
    """The item whose ball holds the most items that no other chosen ball holds (ProbCover, Yehuda et al. 2022).

    Departures: the paper takes the largest radius δ at which 95 % of the balls hold one k-means cluster each. Where
    items are dense in places such balls are tiny, and all are chosen there. Here δ is that of :func:`radius`. When
    every item is in a ball, the rest is chosen by :func:`k_center`.

    Cost: two products of all rows with all, O(N²·D) time, in tiles; O(N) memory; and that of :func:`radius`.
    """
    near = radius(rows, count + len(known), seed, part_of(tick, 0, 2))
    chosen, _ = covering(rows, count, known, near, part_of(tick, 1, 2))
    if len(chosen) == count:
        return chosen
    return torch.cat([chosen, k_center(rows, count - len(chosen), torch.cat([known, chosen]))])


def covering(rows: Tensor, count: int, known: Tensor, near: float, tick: Tick = untold) -> tuple[Tensor, float]:
    """At most ``count`` rows by greedy cover, and the share of rows in a ball; balls hold cosines ≥ ``near``.

    Fewer rows are chosen if all are covered earlier. The balls around ``known`` rows count as chosen.
    """
    covered = torch.zeros(len(rows), dtype=torch.bool)
    inside = torch.empty(len(rows), dtype=torch.int64)  # of each ball, the items that no chosen ball holds
    step = max(1, _TILE // len(rows))
    for start in range(0, len(rows), step):
        inside[start : start + step] = (rows[start : start + step] @ rows.T >= near).sum(1)
        tick(0.5 * start / len(rows))

    def cover(row: int) -> None:
        new = (rows @ rows[row] >= near) & ~covered
        new[row] = not covered[row]
        covered[new] = True
        for part in torch.split(new.nonzero().flatten(), step):
            inside.sub_((rows @ rows[part].T >= near).sum(1))
        inside[row] = -len(rows)

    for row in known.tolist():
        cover(row)
    chosen: list[int] = []
    while len(chosen) < count and not bool(covered.all()):
        chosen.append(int(inside.argmax()))
        cover(chosen[-1])
        tick(0.5 + 0.5 * len(chosen) / count)
    return torch.tensor(chosen, dtype=torch.int64), float(covered.double().mean())


def radius(rows: Tensor, count: int, seed: int, tick: Tick = untold) -> float:
    """The cosine at the smallest radius whose ``count`` balls, chosen by :func:`covering`, hold half of the rows.

    It is found by bisection, among at most 4,096 rows drawn at random, or eight for each ball. Why half: with smaller
    balls the dense places are chosen several times, with larger ones a ball holds several classes. On digits any share
    from .4 to .7 gives the same accuracy within a point, for 10 to 100 labels.
    """
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[: max(DRAWN, 8 * count)]
    rows, none = rows[drawn.sort().values], torch.empty(0, dtype=torch.int64)
    least, most = -1.0, 1.0
    for number in range(BISECTIONS):
        near = (least + most) / 2
        if covering(rows, count, none, near)[1] >= HALF:
            least = near
        else:
            most = near
        tick(number / BISECTIONS)
    return least


METHODS: dict[str, Chooser] = {
    "typiclust": typiclust,
    "probcover": probcover,
    "k-center": k_center,
    "random": at_random,
}
