"""The nearest items on each server, and the best of all of them.

The server's planner does not choose how: it takes the graph even where few rows fit a condition, and then finds a few
of them. Here rows are counted first. Where few fit, all of them are compared; where more do, the graph proposes rows
until enough fit, and their exact scores sort them.

Comparing takes some a · F for F rows that fit, and the graph b · N / F among N, since a share F / N of what it proposes
fits. So comparing is quicker up to F = √(b / a · N); b / a was measured by ``benchmarks/servers.py --crossover``.
"""

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg import sql

from likewise.errors import LikewiseError
from likewise.index.conditions import SIGNS, Condition, no_such_column, typed
from likewise.index.layout import Layout
from likewise.index.postgresql.shards import Shard
from likewise.index.postgresql.tables import SIGN, as_held, bare, columns_of, named

AMONG = 1000  # b / a
_BLOCK = 256  # queries that are sent at once
_UNLIMITED = str((1 << 31) - 1)

Rows = npt.NDArray[np.float32]
Near = list[tuple[float, str]]  # (−score, id), the best first


class Manner(NamedTuple):
    """How a table is searched.

    Args:
        table: its name.
        layout: its columns.
        effort: rows of the graph that a query looks at (ef_search); 0: every row is compared.
        numbers: of the graph: vector, halfvec or bit.
        rows: about how many a server holds.
    """

    table: str
    layout: Layout
    effort: int
    numbers: str
    rows: int


def condition_sql(layout: Layout, conditions: Sequence[Condition]) -> tuple[sql.Composable, dict[str, Any]]:
    """What all conditions say in SQL, and its parameters. A missing value and NaN match as in ``conditions.matching``.

    Raises LikewiseError on a column that is not there, and on a value that its type can't hold.
    """
    said, values = list[sql.Composable](), dict[str, Any]()
    for place, condition in enumerate(conditions):
        if condition.column not in layout.schema.names:
            raise LikewiseError(no_such_column(condition.column, layout.schema.names))
        kind = bare(columns_of(layout)[condition.column])
        given = typed(condition, layout.schema.field(condition.column).type).to_pylist()
        name, value = f"value{place}", _quoted(condition.column)
        if condition.sign == "in":
            values[name] = given
            said.append(sql.SQL("{} = ANY({}::{}[])").format(value, sql.Placeholder(name), sql.SQL(kind)))
            continue
        if given[0] != given[0]:  # NaN is unlike every number, and itself; a server says otherwise
            said.append(sql.SQL("{} IS NOT NULL").format(value) if condition.sign == "!=" else sql.SQL("false"))
            continue
        values[name] = given[0]
        sign = sql.SQL("<>" if condition.sign == "!=" else condition.sign)
        assert condition.sign in SIGNS
        said.append(sql.SQL("{} {} {}::{}").format(value, sign, sql.Placeholder(name), sql.SQL(kind)))
        if kind in ("real", "double precision") and condition.sign in (">", ">="):  # to a server NaN is above all
            said.append(sql.SQL("{} <> 'NaN'").format(value))
    return sql.SQL(" AND ").join(said) if said else sql.SQL("true"), values


def _quoted(column: str) -> sql.Composable:
    """The name of a column in a statement with parameters, in which a lone % would begin one."""
    return sql.SQL(sql.Identifier(column).as_string(None).replace("%", "%%"))


def nearest(
    shard: Shard,
    manner: Manner,
    queries: Rows,
    k: int,
    excluded: Sequence[str | None],
    conditions: Sequence[Condition],
) -> list[Near]:
    """The k items of a server that are nearest to each of (B, D) queries, or all that fit if there are fewer."""
    fits, values = condition_sql(manner.layout, conditions)
    given = [{"query": query, "k": k, "but": but, **values} for query, but in zip(queries, excluded, strict=True)]
    exact = _exact(manner, fits)
    if not manner.effort or (conditions and _few(shard, manner, fits, values)):
        _every(shard)
        return _answers(shard, exact, given)
    _graph(shard, manner.effort)
    coarse = conditions or manner.numbers == "bit"  # what is proposed first may fit badly
    enough = max(manner.effort, 2 * (k + 1)) if coarse else 2 * (k + 1)
    found = _answers(shard, _proposed(manner, fits), [{**each, "enough": enough} for each in given])
    short = [place for place, near in enumerate(found) if len(near) < k]
    if short:  # the graph has lost the way to some
        _every(shard)
        for place, near in zip(short, _answers(shard, exact, [given[place] for place in short]), strict=True):
            found[place] = near
    return found


def merged(parts: Sequence[list[Near]], k: int) -> list[Near]:
    """The k best of each query among those of all servers: by score, then by id."""
    return [heapq.nsmallest(k, [hit for part in each for hit in part]) for each in zip(*parts, strict=True)]


def _answers(shard: Shard, statement: sql.Composable, given: Sequence[dict[str, Any]]) -> list[Near]:
    found: list[Near] = []
    for start in range(0, len(given), _BLOCK):
        block = given[start : start + _BLOCK]
        if len(block) == 1:
            found.append(shard.connection.execute(statement, block[0], binary=True).fetchall())
            continue
        with shard.connection.pipeline():
            asked = [shard.connection.execute(statement, each, binary=True) for each in block]
            found += [each.fetchall() for each in asked]
    return found


def _exact(manner: Manner, fits: sql.Composable) -> sql.Composable:
    """All rows that fit. ``+ 0``: the graph knows no such expression, so that it is not used."""
    return sql.SQL(
        "SELECT (embedding <#> %(query)s) + 0 AS far, id FROM {} WHERE {} "
        "AND (%(but)s::text IS NULL OR id <> %(but)s) ORDER BY far, id LIMIT %(k)s"
    ).format(named(manner.table), fits)


def _proposed(manner: Manner, fits: sql.Composable) -> sql.Composable:
    """Rows that the graph proposes, by their exact scores."""
    row, sign = as_held(manner.numbers, manner.layout.dim, "embedding"), SIGN[manner.numbers]
    order = f"{row} {sign} {as_held(manner.numbers, manner.layout.dim, '%(query)s')}"
    return sql.SQL(
        "SELECT far, id FROM (SELECT (embedding <#> %(query)s) + 0 AS far, id FROM {} WHERE {} ORDER BY {} "
        "LIMIT %(enough)s) AS near WHERE %(but)s::text IS NULL OR id <> %(but)s ORDER BY far, id LIMIT %(k)s"
    ).format(named(manner.table), fits, sql.SQL(order))


def _few(shard: Shard, manner: Manner, fits: sql.Composable, values: dict[str, Any]) -> bool:
    """Whether so few rows fit that comparing all of them is quick."""
    _every(shard)
    most = int((AMONG * manner.rows) ** 0.5)
    statement = sql.SQL("SELECT count(*) FROM (SELECT FROM {} WHERE {} LIMIT {}) AS fitting").format(
        named(manner.table), fits, sql.Literal(most + 1)
    )
    return bool(shard.connection.execute(statement, values).fetchone()[0] <= most)


def _every(shard: Shard) -> None:
    _set(shard, "every", {"enable_seqscan": "on", "enable_sort": "on", "enable_bitmapscan": "on"})


def _graph(shard: Shard, effort: int) -> None:
    """Makes the session use the graph, and go on in it until enough rows fit."""
    _set(
        shard,
        f"graph {effort}",
        {
            "enable_seqscan": "off",
            "enable_sort": "off",
            "enable_bitmapscan": "off",
            "hnsw.ef_search": str(effort),
            "hnsw.iterative_scan": "relaxed_order",
            "hnsw.max_scan_tuples": _UNLIMITED,
        },
    )


def _set(shard: Shard, mode: str, settings: dict[str, str]) -> None:
    connection = shard.connection  # a new one has no mode
    if shard.mode != mode:
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        connection.execute(f"SELECT {calls}", [text for pair in settings.items() for text in pair])
        shard.mode = mode
