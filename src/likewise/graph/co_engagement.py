"""Which items have users in common: the edges of a co-engagement graph, from sparse products in blocks.

Dimension legend: R rows of interactions, N items, E edges.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, untold
from likewise.errors import LikewiseError, at_least_one, closest

WEIGHTS = ("cosine", "pmi", "lift", "count")
_PAIRS = 8 << 20  # of a block, at most, unless one item alone has more

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a graph is made; see :func:`co_engagement`.

    Args:
        weighting: "cosine", "pmi", "lift" or "count".
        support: the fewest users that an edge needs, ≥ 1.
        k: the most edges of an item, ≥ 1.
        newest: the most items of a user, ≥ 2.

    Raises:
        LikewiseError: a value is out of its range.
    """

    weighting: str = "cosine"
    support: int = 2
    k: int = 50
    newest: int = 200

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTS:
            raise LikewiseError(
                f"there is no weighting {self.weighting!r}.{closest(self.weighting, WEIGHTS)} "
                f"There are {', '.join(WEIGHTS)}."
            )
        at_least_one("support", self.support, "it is the fewest users that an edge needs")
        at_least_one("k", self.k, "it is the most edges of an item")
        if at_least_one("newest", self.newest, "it is the most items of a user") < 2:
            raise LikewiseError("newest=1 leaves each user one item, and so no pair; give at least 2.")


USUAL = Settings()


class Interactions(NamedTuple):
    """Rows: a user was engaged with an item.

    Args:
        user: (R,) int64, numbers from 0, in any order.
        item: (R,) int64, numbers from 0, in the order of the items' ids, which breaks ties.
        time: (R,) int64 or float64, later is larger; None if unknown.
    """

    user: Ints
    item: Ints
    time: npt.NDArray[Any] | None


@dataclass(frozen=True)
class AtSupport:
    """What a graph has at another support, before each item keeps its best edges."""

    support: int
    pairs: int  # of items, each counted once
    isolated: int  # items without an edge


@dataclass(frozen=True, kw_only=True, eq=False)
class CoEngagement:
    """The edges, ordered by item, then by weight (the highest first), then by the other item; and what was counted.

    Args:
        item: (E,) int64.
        other: (E,) int64.
        count: (E,) int64, users of both.
        weight: (E,) float64.
        users: (N,) int64, n(i): users of each item, of those with two items or more.
        all_users: U, users with two items or more.
        lone_users: users of one item.
        repeated: rows that repeat the user and item of another one.
        capped: users of whom only the newest items are kept, and how many items each had, the most first.
        at: the same graph at other supports.
    """

    item: Ints
    other: Ints
    count: Ints
    weight: Floats
    users: Ints
    all_users: int
    lone_users: int
    repeated: int
    capped: tuple[tuple[int, int], ...]
    at: tuple[AtSupport, ...]

    def __len__(self) -> int:
        return len(self.item)

    def __repr__(self) -> str:
        return f"CoEngagement({len(self):,} edges of {len(self.users):,} items, {self.all_users:,} users)"


def co_engagement(rows: Interactions, items: int, settings: Settings = USUAL, *, tick: Tick = untold) -> CoEngagement:
    """The graph in which items are joined that have users in common.

    1. The rows of a user and an item are one, with the newest time.
    2. Of each user the ``newest`` newest items are kept; of equal times (or without times) the smaller id. Users with
       one item are left out.
    3. n(i) is the number of users of item i, U that of all users, count(i, j) that of users with both.
    4. A pair is an edge if count(i, j) ≥ ``support``. Its weight is

           cosine = count / sqrt(n(i) n(j)),  lift = count U / (n(i) n(j)),  pmi = ln(lift),  count = count.

    5. Each item keeps the ``k`` edges of the highest weight (of pmi: the highest lift); of equal ones the smaller id.

    Edges are directed: j may be among the best of i without i being among the best of j. ``edges.sql`` says the same in
    SQL, and gives the same edges, counts and weights to the last bit; ln may be rounded differently.

    Args:
        rows: the interactions.
        items: N, their number.
        settings: the numbers above.
        tick: is told which share of the work is done.

    Raises:
        LikewiseError: SciPy is not installed.

    Cost: for users with c items, Σ c² additions, twice, and the sort of R rows. Memory about 60·R bytes, 28·E, and a
    few hundred MB for a block of 8 M pairs; never N × N.
    """
    sparse = scipy_sparse()
    once, repeated = _once(rows, items)
    sizes = np.bincount(once.user)
    kept = _kept(once, sizes, settings.newest)
    users, all_users = np.bincount(kept.item, minlength=items), int(np.count_nonzero(sizes > 1))
    begins = np.append(0, np.minimum(sizes[sizes > 1], settings.newest).cumsum())
    ones = np.ones(len(kept.item), dtype=np.int32)
    of_user = sparse.csr_array((ones, kept.item, begins), shape=(all_users, items))
    of_item = of_user.T.tocsr()
    supports = sorted({1, 2, 3, settings.support})
    pairs, most = dict.fromkeys(supports, 0), np.zeros(items, dtype=np.int32)
    parts = [_no_edges()]
    for first, last in _blocks(of_item, of_user, tick):
        block = of_item[first:last] @ of_user
        counts, others = block.data, block.indices
        lines = np.repeat(np.arange(last - first, dtype=np.int32), np.diff(block.indptr))
        counts[others == lines + first] = 0  # an item with itself
        np.maximum.at(most[first:last], lines, counts)
        for support in supports:
            pairs[support] += int(np.count_nonzero(counts >= support))
        enough = np.flatnonzero(counts >= settings.support)
        edges = _Edges(
            lines[enough] + np.int64(first), others[enough].astype(np.int64), counts[enough].astype(np.int64)
        )
        parts.append(_best(edges, _scores(edges, users, all_users, settings.weighting), settings.k))
    item, other, count, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    return CoEngagement(
        item=item,
        other=other,
        count=count,
        weight=np.array([math.log(each) for each in score.tolist()]) if settings.weighting == "pmi" else score,
        users=users,
        all_users=all_users,
        lone_users=int(np.count_nonzero(sizes == 1)),
        repeated=repeated,
        capped=_capped(sizes, settings.newest),
        at=tuple(AtSupport(each, pairs[each] // 2, int(np.count_nonzero(most < each))) for each in supports),
    )


def edges_sql(settings: Settings = USUAL, *, least: float = 0.0) -> str:
    """The same definition as one SQL query, for DuckDB and Spark; its first lines say which table it reads.

    Args:
        settings: the numbers of :func:`co_engagement`.
        least: the lowest weight of a row that counts.
    """
    text = files("likewise.graph").joinpath("edges.sql").read_text(encoding="utf-8")
    usual = _settings_sql(USUAL, 0.0)
    before, _, after = text.partition(usual)
    return before + _settings_sql(settings, least) + after


def _settings_sql(settings: Settings, least: float) -> str:
    """The line of ``edges.sql`` that has the settings."""
    return (
        f"SELECT '{settings.weighting}' AS weighting, {settings.support} AS support, {settings.k} AS k, "
        f"{settings.newest} AS newest, CAST({least:.17g} AS DOUBLE) AS least"
    )


class _Edges(NamedTuple):
    item: Ints
    other: Ints
    together: Ints


def _no_edges() -> tuple[Ints, Ints, Ints, Floats]:
    none = np.zeros(0, dtype=np.int64)
    return none, none, none, np.zeros(0)


def _once(rows: Interactions, items: int) -> tuple[Interactions, int]:
    """Each user and item once with the newest time, by user and item; and how many rows repeat others."""
    key = rows.user * items + rows.item
    if rows.time is None:
        key = np.unique(key)
        time = None
    else:
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        time = np.maximum.reduceat(rows.time[order], first) if len(first) else rows.time
        key = key[first]
    user, item = np.divmod(key, max(1, items))
    return Interactions(user, item, time), len(rows.user) - len(key)


def _kept(once: Interactions, sizes: Ints, newest: int) -> Interactions:
    """The newest items of each user with two or more, by user and item."""
    keep = (sizes > 1)[once.user]
    long = np.flatnonzero((sizes > newest)[once.user])
    if len(long):
        user, item = once.user[long], once.item[long]
        keys = (item, user) if once.time is None else (item, _latest_first(once.time[long]), user)
        begins = np.flatnonzero(np.diff(user, prepend=-1))
        place = np.arange(len(long)) - np.repeat(begins, sizes[sizes > newest])
        keep[long[np.lexsort(keys)[place >= newest]]] = False
    return Interactions(once.user[keep], once.item[keep], None)


def _latest_first(time: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers that are smaller for later times. The ``~`` of a whole number does not overflow."""
    return ~time if time.dtype.kind == "i" else -time


def _capped(sizes: Ints, newest: int) -> tuple[tuple[int, int], ...]:
    users = np.flatnonzero(sizes > newest)
    users = users[np.argsort(-sizes[users], kind="stable")]
    return tuple(zip(users.tolist(), sizes[users].tolist(), strict=True))


def _blocks(of_item: Any, of_user: Any, tick: Tick) -> Iterator[tuple[int, int]]:
    """Ranges of items whose pairs are at most some millions, or those of one item."""
    items = of_item.shape[0]
    pairs = np.minimum(of_item @ np.diff(of_user.indptr).astype(np.int64), items).cumsum()
    first = done = 0
    while first < items:
        last = max(first + 1, int(np.searchsorted(pairs, done + _PAIRS, side="right")))
        yield first, last
        first, done = last, int(pairs[last - 1])
        tick(done / max(1, int(pairs[-1])))


def _scores(edges: _Edges, users: Ints, all_users: int, weighting: str) -> Floats:
    """(E,) by what edges are ranked. Whole numbers are multiplied, so that only root and quotient are rounded."""
    if weighting == "count":
        return edges.together.astype(np.float64)
    product = (users[edges.item] * users[edges.other]).astype(np.float64)
    if weighting == "cosine":
        return edges.together / np.sqrt(product)
    return (edges.together * all_users).astype(np.float64) / product


def _best(edges: _Edges, scores: Floats, k: int) -> tuple[Ints, Ints, Ints, Floats]:
    """The k best edges of each item, ordered; ``edges.item`` ascends."""
    begins = np.flatnonzero(np.diff(edges.item, prepend=-1))
    ends = np.append(begins[1:], len(scores)) if len(begins) else begins
    keep = np.ones(len(scores), dtype=bool)
    long = ends - begins > k
    for begin, end in zip(begins[long].tolist(), ends[long].tolist(), strict=True):
        part = scores[begin:end]
        keep[begin:end] = part >= np.partition(part, -k)[-k]  # ties at the end are cut below
    at = np.flatnonzero(keep)
    at = at[np.lexsort((edges.other[at], -scores[at], edges.item[at]))]
    item = edges.item[at]
    begins = np.flatnonzero(np.diff(item, prepend=-1))
    at = at[np.arange(len(at)) - np.repeat(begins, np.diff(np.append(begins, len(at)))) < k]
    return edges.item[at], edges.other[at], edges.together[at], scores[at]


def scipy_sparse() -> Any:
    """``scipy.sparse``. Raises LikewiseError if SciPy is not installed."""
    try:
        from scipy import sparse
    except ImportError:
        raise LikewiseError('a graph is counted by SciPy; pip install "likewise[graph]".') from None
    return sparse
