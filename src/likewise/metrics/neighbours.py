"""Exact nearest neighbours by inner product, and the weighted vote of Wu et al. 2018 (NPID), section 3.4.

Keys are read in tiles, and only the scores of one tile are in memory. A million keys need a few hundred MiB.

The guarantee: scores and ranks are the same to the bit for any tile, any batching of the queries, any number of threads
and any device. A plain float product of matrices may differ in its last bit with any of these, and two nearly equal
scores may then change places. Here every row is first rounded to b bits relative to its largest entry,
b = min(24, ⌊(53 − ⌈log₂ D⌉) / 2⌋), which is 23 at D = 128 and 20 at D = 3072. Sums of D products of such numbers fit
into float64 exactly, in any order.

The price: a score differs a little from that of the unrounded rows (random unit rows: standard deviation 2e-8 at D =
128 and 5e-8 at D = 3072, as float32 itself). The product runs at float64 speed, half that of float32 on a CPU.
"""

import warnings

import torch
from torch import Tensor
from torch.nn import functional

from likewise.alike import Ids, as_ids, first_among
from likewise.console import Tick, untold
from likewise.errors import LikewiseError, LikewiseWarning, at_least_one
from likewise.metrics.checks import Rows, as_labels, as_rows, check_peaks, check_positive, check_same_width, peaks

_QUERY_TILE = 512  # rows; with 8,192 keys a float64 block is 32 MiB
_KEY_TILE_BYTES = 64 * 2**20  # of float64 keys; wide rows get fewer keys per tile
_GROUP = 16  # keys of a group of a tile; the best of each group is compared first, see merge
_LOW = 0xFFFFFFFF


@torch.no_grad()
def top_k(
    queries: Rows,
    keys: Rows,
    k: int,
    *,
    query_ids: Ids | None = None,
    key_ids: Ids | None = None,
    tile: int | None = None,
    tick: Tick = untold,
) -> tuple[Tensor, Tensor]:
    """The k keys of largest inner product for every query, exactly.

    Results do not depend on ``tile``, on the batching of the queries, on threads or on the device; the docstring of
    this module explains why. Keys of equal score come in the order of their rows.

    Args:
        queries: (Q, D) float, any scale; unit rows make the scores cosines.
        keys: (K, D) float. They may be on another device: their tiles are moved to that of the queries.
        k: number of neighbours, ≥ 1. With fewer keys, the result has min(k, K) columns.
        query_ids: (Q,) integers, given with ``key_ids``: a key with the query's id is never returned, so that an item
            does not find itself.
        key_ids: (K,) integers, not necessarily distinct.
        tile: keys in memory at once; changes memory and speed only.
        tick: told the share of the work that is done.

    Returns:
        scores: float32 (Q, min(k, K)), descending.
        rows: int64 of the same shape, rows of ``keys``. If ids leave a query fewer keys than columns, the rest of its
            columns has score −inf and row −1.

    Raises:
        LikewiseError: wrong shapes, k < 1, NaN or infinity (by row), ids for one side only.

    Cost: O(Q·K·D) time in float64; memory O(Q·k) plus about 150 MiB for tiles.
    """
    queries, keys, query_ids, key_ids = checked_search(queries, keys, k, query_ids, key_ids)
    device, key_count = queries.device, keys.shape[0]
    k = min(k, key_count)
    if tile is not None:
        at_least_one("tile", tile, "it is a number of keys")
    step = max(_GROUP * 64, min(8192, _KEY_TILE_BYTES // (8 * keys.shape[1]))) if tile is None else tile
    nothing = pack(torch.full((1, 1), -torch.inf), torch.zeros(1, 1, dtype=torch.int64))
    best = nothing.to(device).repeat(queries.shape[0], k)
    tiles = Tiles(_QUERY_TILE, min(step, key_count), device)
    for start in range(0, key_count, step):
        block = snap("keys", keys[start : start + step].to(device), start)
        ids = None if key_ids is None else key_ids[start : start + step].to(device)
        for first in range(0, queries.shape[0], _QUERY_TILE):
            part = slice(first, first + _QUERY_TILE)
            scores = tiles.product(snap("queries", queries[part], first), block)
            if ids is not None and query_ids is not None:
                same = query_ids[part].to(device)[:, None] == ids
                scores[:, : block.shape[0]].masked_fill_(same, -torch.inf)
            best[part] = merge(best[part], scores, leading(scores), start)
            tick((start + block.shape[0] * min(1.0, (first + _QUERY_TILE) / queries.shape[0])) / key_count)
    return unpack(best)


@torch.no_grad()
def knn_classify(
    queries: Rows,
    keys: Rows,
    key_labels: Ids,
    *,
    k: int = 200,
    temperature: float = 0.07,
    query_ids: Ids | None = None,
    key_ids: Ids | None = None,
    tick: Tick = untold,
) -> tuple[Tensor, Tensor]:
    """The classes that the k nearest keys vote for, w_c = Σ_{i in N_k} exp(s_i / τ) 1(c_i = c) (NPID, section 3.4).

    Each row is divided by exp(s_max / τ), the weight of the nearest key, so that τ = 0.005 does not overflow. This
    does not change the order of the classes. With fewer than k keys all of them vote. NPID's released code uses the
    same rule, with the temperature of training.

    Args:
        queries: (Q, D) float unit rows.
        keys: (K, D) float unit rows.
        key_labels: (K,) integers ≥ 0.
        k: number of keys that vote, ≥ 1.
        temperature: τ > 0.
        query_ids: (Q,) integers, given with ``key_ids``: a key with the query's id does not vote. Without them a
            warning says when the first queries are all keys too, to the bit.
        key_ids: (K,) integers.
        tick: told the share of the work that is done.

    Returns:
        classes: int64 (Q, min(k, K)), the class with the largest vote first; of equal votes the smaller class.
            ``classes[:, 0]`` is the prediction. If the neighbours have fewer classes, the rest of the row is −1.
        votes: float32 of the same shape. The class of the nearest key has at least 1; a class of −1 has 0.

    Raises:
        LikewiseError: wrong shapes or lengths, k < 1, τ ≤ 0, NaN.

    Cost: that of ``top_k``, plus O(Q·k log k) time and O(Q·k) memory for any number of classes.
    """
    check_positive("temperature", temperature)
    queries, keys = as_rows("queries", queries), as_rows("keys", keys)
    if query_ids is None:
        _warn_of_themselves(queries, keys)
    key_labels = as_labels("key_labels", key_labels, keys)
    scores, rows = top_k(queries, keys, k, query_ids=query_ids, key_ids=key_ids, tick=tick)
    labels = key_labels.to(device=scores.device, dtype=torch.int64)
    classes, votes = torch.empty_like(rows), torch.empty_like(scores)
    for first in range(0, scores.shape[0], 8192):
        part = slice(first, first + 8192)
        classes[part], votes[part] = _vote(scores[part], labels[rows[part].clamp_min(0)], temperature)
    return classes, votes


def knn_accuracy(
    queries: Rows,
    query_labels: Ids,
    keys: Rows | None = None,
    key_labels: Ids | None = None,
    *,
    k: int = 200,
    temperature: float = 0.07,
    query_ids: Ids | None = None,
    key_ids: Ids | None = None,
    tick: Tick = untold,
) -> float:
    """Share of queries whose largest vote (``knn_classify``) is for their own label, in [0, 1].

    Without keys, the queries are looked up among themselves, each left out of its own vote (leave-one-out). Of equal
    votes the smaller class number wins. A query without any key counts as wrong, and so does a query whose label no key
    has. ``query_labels`` are (Q,) integers ≥ 0; the other arguments, errors and cost are as for ``knn_classify``.
    """
    queries = as_rows("queries", queries)
    query_labels = as_labels("query_labels", query_labels, queries)
    if keys is None:
        if key_labels is not None or query_ids is not None or key_ids is not None:
            raise LikewiseError("key_labels, query_ids and key_ids need keys: give them too.")
        keys, key_labels, query_ids = queries, query_labels, torch.arange(queries.shape[0])
        key_ids = query_ids
    if key_labels is None:
        raise LikewiseError("key_labels are missing; give one label per key.")
    classes, _ = knn_classify(
        queries, keys, key_labels, k=k, temperature=temperature, query_ids=query_ids, key_ids=key_ids, tick=tick
    )
    return float((classes[:, 0] == query_labels.to(classes.device)).double().mean())


def fair_k(labels: Ids) -> int:
    """The number of neighbours that vote among (N,) labels: the mean number of items of a class, at most NPID's 200.

    With a fixed k of 200 and few labels, all labels would vote. O(N log N). Raises LikewiseError without labels.
    """
    labels = as_ids("labels", labels)
    if not len(labels):
        raise LikewiseError("labels are empty; k is the mean number of items of a class.")
    return min(200, int(len(labels) / len(torch.unique(labels)) + 0.5))


def _warn_of_themselves(queries: Tensor, keys: Tensor) -> None:
    """Warns if the first queries are all keys, equal to the bit: without ids they vote for themselves."""
    if count := first_among(queries, keys):
        warnings.warn(
            f"the first {count} queries are keys too, and vote for themselves; leave the keys out, or give query_ids "
            "and key_ids.",
            LikewiseWarning,
            stacklevel=3,
        )


def _vote(scores: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(B, k) classes and votes, the largest vote first, from (B, k) scores and labels of neighbours, nearest first.

    Neighbours are sorted by label, and the weights of equal labels are added up in one place. The places are in the
    order of the labels and the sort by votes is stable, so of equal votes the smaller class comes first.
    """
    exact = scores.double()
    nearest = exact[:, :1].clamp_min(torch.finfo(torch.float64).min)  # a query without keys: −inf − finite
    weights = torch.exp((exact - nearest) / temperature)
    labels, order = labels.sort(dim=1, stable=True)
    slots = functional.pad((labels[:, 1:] != labels[:, :-1]).cumsum(1), (1, 0))
    votes = torch.zeros_like(exact).scatter_add_(1, slots, weights.gather(1, order)).float()
    classes = torch.full_like(labels, -1).scatter_(1, slots, labels)
    votes, order = votes.sort(dim=1, descending=True, stable=True)
    return classes.gather(1, order).masked_fill_(votes == 0, -1), votes


def checked_search(
    queries: Rows,
    keys: Rows,
    k: int,
    query_ids: Ids | None,
    key_ids: Ids | None,
    names: tuple[str, str] = ("keys", "key_ids"),
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Queries, keys and their ids as tensors. ``names`` are the caller's names of keys and key ids. O(1).

    Raises LikewiseError on a wrong k, shape, width or id.
    """
    at_least_one("k", k, "it is a number of neighbours")
    queries, keys = as_rows("queries", queries), as_rows(names[0], keys)
    check_same_width("queries", queries, names[0], keys)
    if keys.shape[0] > _LOW:
        raise LikewiseError(f"{keys.shape[0]} {names[0]} are more than {_LOW}; search them in parts.")
    if (query_ids is None) != (key_ids is None):
        raise LikewiseError(f"give query_ids and {names[1]} together, or neither: an item is excluded by equal ids.")
    return queries, keys, _ids_of("query_ids", query_ids, queries), _ids_of(names[1], key_ids, keys)


def _ids_of(name: str, ids: Ids | None, rows: Tensor) -> Tensor | None:
    """(N,) ids of the rows."""
    if ids is None:
        return None
    numbers = as_ids(name, ids)
    if numbers.shape != (rows.shape[0],):
        raise LikewiseError(f"{name} must be {rows.shape[0]} integers, one per row, not {tuple(numbers.shape)}.")
    return numbers


def snap(name: str, rows: Tensor, first: int) -> Tensor:
    """Rows as float64, each entry rounded to b bits relative to the row's largest, so that inner products are exact.

    If |entry| ≤ 2ᵉ, the rounded entries are integers times 2ᵉ⁻ᵇ. A product of two integers is at most 2²ᵇ, and a sum of
    D of these at most 2⁵³. Scaling by powers of two is exact, and a maximum does not depend on the order of entries.

    ``first`` is the number of the first row, for the error: LikewiseError on NaN or infinity.
    """
    largest = peaks(rows)
    check_peaks(name, largest, first)
    bits = min(24, (53 - (rows.shape[1] - 1).bit_length()) // 2)
    exponent = torch.frexp(largest.double()[:, None]).exponent.long().clamp_(-500, 500)
    snapped = rows.to(torch.float64, copy=True).mul_(power_of_two(bits - exponent))
    return snapped.round_().mul_(power_of_two(exponent - bits))


def power_of_two(exponent: Tensor) -> Tensor:
    """2 to the power of an int64 within ±1022, exactly: it is written into the exponent bits of float64."""
    return ((exponent + 1023) << 52).view(torch.float64)


class Tiles:
    """Memory for one tile of scores, allocated once, since new memory for every tile takes as long as a copy."""

    def __init__(self, queries: int, keys: int, device: torch.device) -> None:
        self._width = -(-keys // _GROUP) * _GROUP
        self._exact = torch.empty(queries * keys, dtype=torch.float64, device=device)
        self._scores = torch.empty(queries * self._width, device=device)

    def product(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Inner products of (B, D) and (T, D) as float32 (B, W), −inf beyond column T; valid until the next call."""
        rows, columns = queries.shape[0], keys.shape[0]
        exact = self._exact[: rows * columns].view(rows, columns)
        torch.mm(queries, keys.T, out=exact)
        scores = self._scores[: rows * self._width].view(rows, self._width)
        scores[:, columns:] = -torch.inf
        scores[:, :columns] = exact
        return scores


def merge(best: Tensor, scores: Tensor, leaders: Tensor, start: int) -> Tensor:
    """The k best packed entries among (B, k) ``best``, in descending order, and a tile's (B, W) scores.

    ``leaders`` are the best scores of the tile's groups (``leading``). A key can be among the k best only if the leader
    of its group is at least the k-th largest leader and at least the k-th best score so far. Only such groups are
    searched; in later tiles they are few.
    """
    k, count = best.shape[1], leaders.shape[1]
    floor = unpack(best[:, -1:])[0]
    if k < count:
        floor = torch.maximum(floor, leaders.topk(k, dim=1).values[:, -1:])
    useful = int((leaders >= floor).sum(1).amax())
    groups = scores.view(scores.shape[0], _GROUP, count)
    chosen = leaders.topk(useful, dim=1, sorted=False).indices[:, None]  # all groups that reach the floor, maybe others
    columns = chosen + torch.arange(start, start + _GROUP * count, count, device=scores.device)[:, None]
    candidates = pack(groups.gather(2, chosen.expand(-1, _GROUP, -1)), columns)
    return torch.cat([best, candidates.flatten(1)], 1).topk(k, dim=1).values


def leading(scores: Tensor) -> Tensor:
    """(B, W / 16) best score of each group of 16 keys of a tile's (B, W); group g has columns g, g + W / 16, ..."""
    return scores.view(scores.shape[0], _GROUP, -1).amax(1)


def pack(scores: Tensor, rows: Tensor) -> Tensor:
    """An int64 for each score and row. It sorts by score, then by smaller row, so that ties have a fixed order."""
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: −0 becomes 0
    return (_ordered(bits).long() << 32) | (_LOW - rows)


def unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The scores and rows that ``pack`` put together; row −1 where the score is −inf."""
    scores = _ordered((packed >> 32).int()).view(torch.float32)
    rows = _LOW - (packed & _LOW)
    return scores, rows.masked_fill_(torch.isneginf(scores), -1)


def _ordered(bits: Tensor) -> Tensor:
    """The bits of float32 numbers as int32 that sort as the numbers do; the same again goes back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
