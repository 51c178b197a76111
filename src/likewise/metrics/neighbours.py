"""Exact nearest neighbours by inner product, and the weighted vote of Wu et al. 2018 (NPID), section 3.4.

Scores and ranks are the same to the bit for any tile, any batching of the queries, any number of threads and any
device: ``exact_scores`` says how and at which price. Most keys are ruled out by a plain product first, whose error has
a bound; only those that it can't rule out get an exact score. The product is in bfloat16 where the CPU multiplies that
in hardware, and in float32 elsewhere and where bfloat16 can't tell the nearest apart.

Keys are read in tiles, and only the scores of one tile are in memory. A million keys need a few hundred MiB.
"""

import warnings

import torch
from torch import Tensor
from torch.nn import functional

from likewise.alike import Ids, as_ids, first_among
from likewise.console import Tick, untold
from likewise.errors import LikewiseError, LikewiseWarning, at_least_one
from likewise.metrics.checks import Rows, as_labels, as_rows, check_finite, check_positive, check_same_width
from likewise.metrics.exact_scores import LOW, unpack
from likewise.metrics.rounded_keys import PROBE, RoundedKeys, quicker
from likewise.metrics.searched_keys import Asked, SearchedKeys

_MANY = 1024  # queries for which it pays to round the keys of every tile to bfloat16


@torch.no_grad()
def top_k(
    queries: Rows,
    keys: Rows,
    k: int,
    *,
    query_ids: Ids | None = None,
    key_ids: Ids | None = None,
    tile: int | None = None,
    longest: float | None = None,
    rounded: RoundedKeys | None = None,
    tick: Tick = untold,
) -> tuple[Tensor, Tensor]:
    """The k keys of largest inner product for every query, exactly.

    Results do not depend on ``tile``, on the batching of the queries, on threads or on the device; the docstring of
    ``exact_scores`` explains why. Keys of equal score come in the order of their rows.

    Args:
        queries: (Q, D) float, any scale; unit rows make the scores cosines.
        keys: (K, D) float. They may be on another device: their tiles are moved to that of the queries.
        k: number of neighbours, ≥ 1. With fewer keys, the result has min(k, K) columns.
        query_ids: (Q,) integers, given with ``key_ids``: a key with the query's id is never returned, so that an item
            does not find itself.
        key_ids: (K,) integers, not necessarily distinct.
        tile: keys in memory at once; changes memory and speed only.
        longest: the length of the longest key, for a caller who knows it and knows that all keys are finite; it saves
            a pass over the keys. A key that is longer may be missed.
        rounded: the keys in bfloat16, for a caller who searches in the same keys again and again; it saves time on a
            CPU that multiplies bfloat16, and is not used elsewhere (``rounded_keys.quicker``).
        tick: told the share of the work that is done.

    Returns:
        scores: float32 (Q, min(k, K)), descending.
        rows: int64 of the same shape, rows of ``keys``. If ids leave a query fewer keys than columns, the rest of its
            columns has score −inf and row −1.

    Raises:
        LikewiseError: wrong shapes, k < 1, NaN or infinity (by row), ids for one side only.

    Cost: O(Q·K·D) time in bfloat16 or float32, and in float64 where many keys are about as near as the k-th; memory
    O(Q·k) plus about 150 MiB for tiles.
    """
    queries, keys, query_ids, key_ids = checked_search(queries, keys, k, query_ids, key_ids)
    if not bool(queries.isfinite().all()):
        check_finite("queries", queries)  # names the row, in four times the time
    device, many, k = queries.device, len(queries), min(k, keys.shape[0])
    if tile is not None:
        at_least_one("tile", tile, "it is a number of keys")
    by_columns = many == 1 and keys.stride(0) == 1  # one query reads float32 in this layout about as quickly
    asked = Asked(queries, None if query_ids is None else query_ids.to(device))
    searched = SearchedKeys(keys, key_ids, tile, longest)
    if by_columns or not quicker(keys, device) or not searched.many_for_bfloat16(k):
        rounded = None
    elif rounded is None and many >= _MANY:
        rounded = RoundedKeys()
    best = torch.empty(many, k, dtype=torch.int64, device=device)
    unsure = torch.ones(many, dtype=torch.bool, device=device)  # whether others can be among the k
    with torch.autocast(device.type, enabled=False):
        if searched.many_for_float32(k) and _float32_is_whole():
            for part in (slice(0, PROBE), slice(PROBE, many)):  # the first show whether it is worth it
                if rounded is not None and rounded.worth and many > part.start:
                    best[part], unsure[part] = searched.by_bfloat16(asked.part(part), rounded, k, tick)
            if len(rest := unsure.nonzero().flatten()):
                best[rest], unsure[rest] = searched.by_float32(asked.part(rest), k, tick)
        if len(rest := unsure.nonzero().flatten()):  # many keys are about as near as the last: all get exact scores
            best[rest] = searched.by_exact_scores(asked.part(rest), k, tick)
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
        classes[part], votes[part] = vote(scores[part], labels[rows[part].clamp_min(0)], temperature)
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


def _float32_is_whole() -> bool:
    """Whether torch multiplies float32 as it is, on every device, not rounded to TF32 or bfloat16."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # a backend has a setting of its own, such as torch.backends.cuda.matmul.fp32_precision
        return False


def _warn_of_themselves(queries: Tensor, keys: Tensor) -> None:
    """Warns if the first queries are all keys, equal to the bit: without ids they vote for themselves."""
    if count := first_among(queries, keys):
        warnings.warn(
            f"the first {count} queries are keys too, and vote for themselves; leave the keys out, or give query_ids "
            "and key_ids.",
            LikewiseWarning,
            stacklevel=3,
        )


def vote(scores: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
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
    if keys.shape[0] > LOW:
        raise LikewiseError(f"{keys.shape[0]} {names[0]} are more than {LOW}; search them in parts.")
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
