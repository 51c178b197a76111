"""What people should know about a graph: degrees, isolated items, power users, other supports."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from likewise.graph.co_engagement import AtSupport, CoEngagement, Settings
from likewise.graph.interactions import LeftOut, Log

_POPULAR = 0.01  # share of the items, those with the most users
_LARGEST = 3  # power users that are named

RAW_COUNTS = (
    "warning: the weights are raw counts, so that popular items fill the lists; --weighting cosine divides by how "
    "popular both items are."
)
WITHIN = (
    "warning: {lines:,} lines of {path} lie within quotes, and are no rows: if no text has line breaks, a quote is not "
    "closed, and rows are lost."
)
WEIGHTS = "a weight only decides whether a row counts: all above 0 do; --least leaves out lower ones."


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How numbers of the items spread: the least, those below which 10, 50 and 90 % of items are, and the most."""

    least: int
    tenth: int
    half: int
    nine_tenths: int
    most: int

    def line(self) -> str:
        """For people."""
        return (
            f"least {self.least:,}, 10 % {self.tenth:,}, half {self.half:,}, 90 % {self.nine_tenths:,}, "
            f"most {self.most:,}"
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The numbers of a graph, and the names behind the most extreme ones.

    Args:
        rows: rows of the file.
        below: rows whose weight is 0 or below ``least``.
        left_out: bad rows, by reason.
        repeated: rows that repeat the user and item of another one.
        users: U, users with two items or more.
        lone_users: users of one item.
        capped_users: users of whom only the newest items are kept.
        largest_users: the first of them, with their number of items.
        items: N.
        isolated: items without an edge.
        edges: directed edges.
        degrees: edges of an item.
        listed: other items' lists that an item is in.
        most_listed: the item that is in the most lists.
        not_positive: edges of a weight of 0 or below, which only pmi has.
        popular: share of the places in all lists that the 1 % of items with the most users take.
        at: the same graph at other supports.
    """

    rows: int
    below: int
    left_out: tuple[LeftOut, ...]
    repeated: int
    users: int
    lone_users: int
    capped_users: int
    largest_users: tuple[tuple[str, int], ...]
    items: int
    isolated: int
    edges: int
    degrees: Spread
    listed: Spread
    most_listed: str
    not_positive: int
    popular: float
    at: tuple[AtSupport, ...]


def summarise(log: Log, graph: CoEngagement) -> Summary:
    """The summary of a graph with one edge or more."""
    items = len(log.items)
    degree, listed = (np.bincount(ends, minlength=items) for ends in (graph.item, graph.other))
    popular = np.argsort(-graph.users, kind="stable")[: max(1, round(_POPULAR * items))]
    return Summary(
        rows=log.total,
        below=log.below,
        left_out=log.left_out,
        repeated=graph.repeated,
        users=graph.all_users,
        lone_users=graph.lone_users,
        capped_users=len(graph.capped),
        largest_users=tuple((log.users[user], size) for user, size in graph.capped[:_LARGEST]),
        items=items,
        isolated=int(np.count_nonzero(degree == 0)),
        edges=len(graph),
        degrees=_spread(degree),
        listed=_spread(listed),
        most_listed=log.items[int(listed.argmax())],
        not_positive=int(np.count_nonzero(graph.weight <= 0)),
        popular=float(listed[popular].sum() / len(graph)),
        at=graph.at,
    )


def _spread(values: npt.NDArray[np.int64]) -> Spread:
    least, tenth, half, nine_tenths, most = np.quantile(values, (0, 0.1, 0.5, 0.9, 1), method="lower").tolist()
    return Spread(least=least, tenth=tenth, half=half, nine_tenths=nine_tenths, most=most)


def lines(summary: Summary, settings: Settings, *, times: bool) -> Iterator[str]:
    """The summary for people.

    Args:
        summary: the numbers.
        settings: those that the graph was made with.
        times: whether the interactions have times.
    """
    s = summary
    yield f"{s.edges:,} edges of {s.items:,} items; {_share(s.isolated, s.items)} are isolated: they have no edge"
    below = f", {s.below:,} with a weight of 0 or below --least" if s.below else ""
    bad = f", {sum(each.rows for each in s.left_out):,} left out (above)" if s.left_out else ""
    yield f"  rows      {s.rows:,}{below}{bad}; {s.repeated:,} repeat a user and item, and count once"
    yield f"  users     {s.users:,} with two items or more; {s.lone_users:,} with one item, which give no pair"
    if s.capped_users:
        which = "newest" if times else "first (by id, for there are no times)"
        named = ", ".join(f"{user!r} with {size:,}" for user, size in s.largest_users)
        yield f"  capped    of {s.capped_users:,} users only the {settings.newest:,} {which} items count: {named}"
    yield "  edges     " + s.degrees.line() + " of an item"
    yield "  in lists  " + s.listed.line() + f" of other items; the most: {s.most_listed!r}"
    yield f"  popular   the 1 % of items with the most users take {s.popular:.0%} of the places in the lists"
    if s.not_positive:
        yield f"  pmi       {s.not_positive:,} edges have a weight of 0 or below: no more common users than by chance"
    for at in s.at:
        mark = " (this graph)" if at.support == settings.support else ""
        what = f"{at.pairs:,} pairs, {_share(at.isolated, s.items)} isolated{mark}"
        yield f"  support {at.support:<2}{what}"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})"
