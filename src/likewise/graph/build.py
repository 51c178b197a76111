"""From a file of interactions to a graph of items."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from likewise import __version__
from likewise.console import say, stages
from likewise.errors import LikewiseError
from likewise.graph.co_engagement import USUAL, CoEngagement, Settings, co_engagement
from likewise.graph.columns import Columns
from likewise.graph.graph_file import edge_table, edges_hash, graph_folder, write_graph
from likewise.graph.interactions import Log, only
from likewise.graph.opening import open_interactions
from likewise.graph.splits import FEWEST_USERS, SHARE, WHOLE, Split, SplitRule
from likewise.graph.summary import RAW_COUNTS, Summary, lines, summarise
from likewise.stamp import Stamp
from likewise.text import readable


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Items that are related because the same users were engaged with them.

    Args:
        items: N ids, ascending.
        edges: the edges, whose items are places in ``items``.
        table: the edges as an Arrow table with ids: item, other, count, weight.
        summary: what was counted.
        stamp: what made it; ``edges_hash`` is that of the table.
        lines: the summary for people.
    """

    items: Sequence[str]
    edges: CoEngagement
    table: Any
    summary: Summary
    stamp: Stamp
    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Graph({len(self.edges):,} edges of {len(self.items):,} items, made={self.stamp})"


def build_graph(
    interactions: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    user: str | None = None,
    item: str | None = None,
    weight: str | None = None,
    time: str | None = None,
    least: float = 0.0,
    weighting: str = USUAL.weighting,
    support: int = USUAL.support,
    k: int = USUAL.k,
    newest: int = USUAL.newest,
    split: str | None = None,
    share: float = SHARE,
    seed: int = 0,
    fewest_users: int = FEWEST_USERS,
) -> Graph:
    """Make the graph of items that have users in common, from a file with a row for each interaction.

    With ``split`` it is made of the training rows alone, and its stamp says which these are: what learns from it
    can be measured on the rows that are held out.

    Definition, equation and cost: :func:`likewise.graph.co_engagement.co_engagement`. The file and its bad rows:
    :func:`likewise.graph.interactions.read_interactions`; a line on standard error tells each kind of bad rows.

    Args:
        interactions: .csv, .tsv, .txt (also with .gz after it) or .parquet, or a folder of such files; folders in it
            stand for a column, as ``year=2019`` does.
        out: a folder for edges.parquet, items.parquet and summary.json; a graph in it is replaced. None: nothing is
            written.
        user, item, weight, time: names of columns; None: found by their names. weight and time may be "none".
        least: the lowest weight of a row that counts; a weight of 0 never does.
        weighting: "cosine", "pmi", "lift" or "count".
        support: the fewest users that an edge needs, ≥ 1.
        k: the most edges of an item, ≥ 1.
        newest: the most items of a user, ≥ 2.
        split: "cold-items", "per-user" or "time": the rule by which rows are held out. None: all rows count.
        share, seed, fewest_users: of the split; see :class:`likewise.graph.splits.SplitRule`.

    Raises:
        LikewiseError: the file can't be used, a number is out of its range, no two items have enough users in common,
            ``out`` can't be written, or the split is refused.
    """
    settings = Settings(weighting=weighting, support=support, k=k, newest=newest)
    rule = None if split is None else SplitRule(name=split, share=share, seed=seed, fewest_users=fewest_users)
    folder = None if out is None else graph_folder(out)
    with stages() as begin:
        tick = begin(f"reading {interactions}")
        columns = Columns(user=user, item=item, weight=weight, time=time)
        log, stamp = open_interactions(interactions, columns, least, tick=tick)
        divided = None if rule is None else rule.divide(log.rows, len(log.items))
        log = log if divided is None else only(log, divided.train)
        edges = co_engagement(log.rows, len(log.items), settings, tick=begin("counting"))
        if not len(edges):
            raise LikewiseError(_no_edges(log, edges, settings))
        tick = begin("writing")
        table, summary = edge_table(edges, log.items), summarise(log, edges)
        held: Stamp = {"split": WHOLE} if rule is None else rule.stamp()
        stamp = {"likewise": __version__, **stamp, **asdict(settings), **held, "edges_hash": edges_hash(table)}
        if folder is not None:
            write_graph(folder, table, log.items, summary, stamp)
    if settings.weighting == "count":
        say([RAW_COUNTS])
    held_out = [] if divided is None else [_held(divided)]
    told = [*lines(summary, settings, times=log.rows.time is not None), *held_out]
    said = tuple(map(readable, told))
    return Graph(items=log.items, edges=edges, table=table, summary=summary, stamp=stamp, lines=said)


def _held(split: Split) -> str:
    """What is held out of the graph, for people."""
    return (
        f"  split     {split.about}; {len(split.asked.user):,} rows are held out, and only the other "
        f"{len(split.train.user):,} count above"
    )


def _no_edges(log: Log, edges: CoEngagement, settings: Settings) -> str:
    """Why there are none, and what to do."""
    if not edges.all_users:
        return (
            f"{log.source}: no user has two items or more, so no items have users in common; if the columns are "
            f"others than {log.columns.line()}, name them with --user and --item."
        )
    at = next((each for each in reversed(edges.at) if each.pairs and each.support < settings.support), None)
    lower = f"--support {at.support} gives {at.pairs:,} pairs" if at else "give more interactions"
    return f"{log.source}: no two items have {settings.support} users in common, so the graph has no edges; {lower}."
