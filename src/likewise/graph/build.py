"""From a file of interactions to a graph of items."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from likewise import __version__
from likewise.console import say, stages
from likewise.errors import LikewiseError, finite
from likewise.files import as_path
from likewise.graph.co_engagement import USUAL, CoEngagement, Settings, co_engagement
from likewise.graph.columns import NONE, Columns
from likewise.graph.graph_file import edge_table, edges_hash, graph_folder, write_graph
from likewise.graph.interactions import Log, read_interactions
from likewise.graph.summary import RAW_COUNTS, WEIGHTS, WITHIN, Summary, lines, summarise
from likewise.stamp import Stamp, full_path, hash_of
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
) -> Graph:
    """Make the graph of items that have users in common, from a file with a row for each interaction.

    Definition, equation and cost: :func:`likewise.graph.co_engagement.co_engagement`. The file and its bad rows:
    :func:`likewise.graph.interactions.read_interactions`; a line on standard error tells each kind of bad rows.

    Args:
        interactions: .csv, .tsv, .txt (also with .gz after it) or .parquet.
        out: a folder for edges.parquet and summary.json; a graph in it is replaced. None: nothing is written.
        user, item, weight, time: names of columns; None: found by their names. weight and time may be "none".
        least: the lowest weight of a row that counts; a weight of 0 never does.
        weighting: "cosine", "pmi", "lift" or "count".
        support: the fewest users that an edge needs, ≥ 1.
        k: the most edges of an item, ≥ 1.
        newest: the most items of a user, ≥ 2.

    Raises:
        LikewiseError: the file can't be used, a number is out of its range, no two items have enough users in common,
            or ``out`` can't be written.
    """
    settings = Settings(weighting=weighting, support=support, k=k, newest=newest)
    path, least = as_path(interactions, "INTERACTIONS"), finite("least", least)
    folder = None if out is None else graph_folder(out)
    with stages() as begin:
        tick = begin(f"reading {path}")
        log = read_interactions(path, Columns(user=user, item=item, weight=weight, time=time), least=least, tick=tick)
        say([f"{path}: {log.columns.line()}.", *(f"left out: {each.line()}." for each in log.left_out)])
        say([WITHIN.format(path=path, lines=log.within)] if log.within else [])
        say([f"{path}: {WEIGHTS}"] if log.columns.weight is not None and not least else [])
        edges = co_engagement(log.rows, len(log.items), settings, tick=begin("counting"))
        if not len(edges):
            raise LikewiseError(_no_edges(log, edges, settings))
        tick = begin("writing")
        table, summary = edge_table(edges, log.items), summarise(log, edges)
        stamp = _stamp(path, interactions, log, settings, least) | {"edges_hash": edges_hash(table)}
        if folder is not None:
            write_graph(folder, table, summary, stamp)
    if settings.weighting == "count":
        say([RAW_COUNTS])
    said = tuple(readable(line) for line in lines(summary, settings, times=log.rows.time is not None))
    return Graph(items=log.items, edges=edges, table=table, summary=summary, stamp=stamp, lines=said)


def _stamp(path: Path, typed: str | os.PathLike[str], log: Log, settings: Settings, least: float) -> Stamp:
    """What a graph was made with."""
    columns = {name: column or NONE for name, column in asdict(log.columns).items()}
    return {
        "likewise": __version__,
        "interactions": readable(os.fspath(typed)),
        "interactions_path": readable(full_path(os.fspath(typed))),
        "interactions_hash": hash_of(path),
        **{f"column_{name}": readable(column) for name, column in columns.items()},
        "least": least,
        **asdict(settings),
    }


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
