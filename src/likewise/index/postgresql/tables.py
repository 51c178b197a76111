"""The tables of an index in our schema: one of its items, and one of manifests for all indexes of a server.

``likewise.indexes`` has a row for each index: its table's name, the generation, and a manifest that says what made it.
A table without such a row is not ours. All that a renewal does on a server is one transaction: a reader sees the former
generation or the new one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from likewise.errors import LikewiseError
from likewise.index.layout import Layout, Part
from likewise.index.postgresql.shards import Shard
from likewise.index.postgresql.url import OPTION, SCHEMA
from likewise.text import quoted

FORMAT = 1
MARK = f"likewise: what the indexes in this schema are, format {FORMAT}"
NEXT = "__next"  # behind the name of a table that replaces another
WIDEST = {"vector": 2000, "halfvec": 4000, "bit": 64_000}  # numbers of a row that pgvector's graph takes
TABLE_WIDEST = 16_000
WAY = {"vector": "vector_ip_ops", "halfvec": "halfvec_ip_ops", "bit": "bit_hamming_ops"}  # by which a graph is near
SIGN = {"vector": "<#>", "halfvec": "<#>", "bit": "<~>"}  # of the same in a statement
_SYSTEM = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
_NAMEDATALEN = 63  # bytes of a name


def columns_of(layout: Layout) -> dict[str, str]:
    """Names and types in SQL of the columns of a table of items."""
    own = {"id": 'text COLLATE "C"', "embedding": f"vector({layout.dim})"}
    own |= {"query_embedding": f"vector({layout.dim})"} if layout.queries else {}
    own |= {"content": "bytea"} if layout.contents else {}
    return own | {field.name: sql_type(field.name, field.type) for field in layout.schema}


def sql_type(name: str, kind: Any) -> str:
    """The type in SQL of a column of the metadata. Raises LikewiseError on what no server can hold as a column."""
    from pyarrow import types

    if len(name.encode()) > _NAMEDATALEN or name in _SYSTEM or "\0" in name:
        why = "is too long for a server" if len(name.encode()) > _NAMEDATALEN else "is a name of the server's own"
        raise LikewiseError(f"the column {quoted(name)} of the metadata {why}; rename it.")
    known = {
        "boolean": types.is_boolean(kind),
        'text COLLATE "C"': types.is_string(kind) or types.is_large_string(kind),
        "numeric": types.is_uint64(kind) or types.is_decimal(kind),
        "bigint": types.is_integer(kind) and not types.is_uint64(kind),
        "real": types.is_float16(kind) or types.is_float32(kind),
        "double precision": types.is_float64(kind),
        "date": types.is_date(kind),
        "timestamptz": types.is_timestamp(kind) and kind.tz is not None if types.is_timestamp(kind) else False,
        "timestamp": types.is_timestamp(kind) and kind.tz is None if types.is_timestamp(kind) else False,
        "time": types.is_time(kind),
    }
    found = next((name for name, holds in known.items() if holds), None)
    if found is None:
        raise LikewiseError(f"the column {quoted(name)} of the metadata holds {kind}, which servers have no type for.")
    return found


def bare(kind: str) -> str:
    """A type of SQL without its width and order of texts."""
    return kind.partition(" COLLATE")[0].partition("(")[0]


def named(table: str) -> sql.Identifier:
    """The name of a table in our schema."""
    return sql.Identifier(SCHEMA, table)


def present(shard: Shard, table: str) -> tuple[int, dict[str, Any]] | None:
    """The generation and manifest of an index; None if the server has none of this name.

    Raises LikewiseError when the name, or that of the table of manifests, is taken by a table that is not ours.
    """
    names = [f"{SCHEMA}.indexes", f"{SCHEMA}.{table}"]
    row = shard.connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NOT NULL",
        [names[0], *names],
    ).fetchone()
    manifests, mark, there = row
    if manifests and mark != MARK:
        raise _not_ours(shard, names[0])
    found = None
    if manifests:
        found = shard.connection.execute(
            sql.SQL("SELECT generation, manifest FROM {} WHERE name = %s").format(named("indexes")), [table]
        ).fetchone()
    if there and found is None:
        raise _not_ours(shard, names[1])
    return (found[0], found[1]) if there and found is not None else None


def generation_of(shard: Shard, table: str) -> int:
    """The generation that a server holds now; −1 of none."""
    found = shard.connection.execute(
        sql.SQL("SELECT generation FROM {} WHERE name = %s").format(named("indexes")), [table]
    ).fetchone()
    return int(found[0]) if found else -1


def _not_ours(shard: Shard, name: str) -> LikewiseError:
    return LikewiseError(
        f"{shard} has a table {name} that likewise did not make; it is left as it is. Name another with ?table=NAME, "
        f"or rename it."
    )


def begin(shard: Shard, table: str) -> None:
    """Begins the transaction of a renewal, one at a time for a table.

    Makes our schema and the table of manifests before, if they are missing.
    """
    connection = shard.connection
    lock = "SELECT pg_advisory_xact_lock(hashtext(%s))"
    with connection.transaction():
        connection.execute(lock, [MARK])
        if connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.indexes"]).fetchone()[0] is None:
            if connection.execute("SELECT to_regnamespace(%s)", [SCHEMA]).fetchone()[0] is None:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
            columns = "name text PRIMARY KEY, generation bigint NOT NULL, manifest jsonb NOT NULL"
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(named("indexes"), sql.SQL(columns)))
            connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(named("indexes"), sql.Literal(MARK)))
    connection.execute("BEGIN")
    connection.execute(lock, [f"{MARK} {table}"])


def create(shard: Shard, table: str, layout: Layout) -> None:
    """Makes a table without keys, to be filled at once."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns_of(layout).items()
    )
    shard.connection.execute(sql.SQL("CREATE TABLE {} ({})").format(named(table), columns))


def create_next(shard: Shard, table: str, layout: Layout) -> None:
    """Makes the table that stands beside another."""
    create(shard, table + NEXT, layout)


def copy(shard: Shard, table: sql.Composable, columns: Mapping[str, str], part: Part) -> None:
    """Writes items into a table, in binary."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, names)
    with shard.connection.cursor().copy(statement) as stream:
        stream.set_types([bare(kind) for kind in columns.values()])
        for record in part.records():
            stream.write_row(record)


def upsert(shard: Shard, table: str, layout: Layout, part: Part) -> None:
    """Writes new items, and new values of those that the table has; of metadata alone if the part has no rows."""
    columns = columns_of(layout)
    if part.rows is None:
        columns = {name: columns[name] for name in ("id", *layout.schema.names)}
    incoming = sql.Identifier("pg_temp", "likewise_incoming")
    run = shard.connection.execute
    kinds = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns.items()
    )
    run(sql.SQL("CREATE TEMP TABLE likewise_incoming ({}) ON COMMIT DROP").format(kinds))
    copy(shard, incoming, columns, part)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    others = [sql.Identifier(name) for name in columns if name != "id"]
    if part.rows is None:
        put = sql.SQL(", ").join(sql.SQL("{0} = new.{0}").format(name) for name in others)
        run(sql.SQL("UPDATE {} AS t SET {} FROM {} AS new WHERE t.id = new.id").format(named(table), put, incoming))
    else:
        put = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in others)
        run(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT (id) DO UPDATE SET {}").format(
                named(table), names, names, incoming, put
            )
        )
    run(sql.SQL("DROP TABLE {}").format(incoming))


def remove(shard: Shard, table: str, ids: Sequence[str]) -> None:
    """Deletes items."""
    shard.connection.execute(sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(named(table)), [list(ids)])


def compared(shard: Shard, table: str, layout: Layout) -> tuple[int, int, int]:
    """How many items of the next table are new, how many are others than in the table, and how many it lacks."""
    run = shard.connection.execute
    run(sql.SQL("ANALYZE {}").format(named(table + NEXT)))
    new, changed, gone = run(
        sql.SQL(
            "SELECT count(*) FILTER (WHERE o.id IS NULL), "
            "count(*) FILTER (WHERE o.id IS NOT NULL AND n.id IS NOT NULL AND {}), "
            "count(*) FILTER (WHERE n.id IS NULL) FROM {} AS o FULL JOIN {} AS n ON o.id = n.id"
        ).format(_other(layout), named(table), named(table + NEXT))
    ).fetchone()
    return int(new), int(changed), int(gone)


def take_over(shard: Shard, table: str, layout: Layout) -> None:
    """Brings a table to the items of the next one, which then goes: what is new or changed, and what is gone."""
    run = shard.connection.execute
    columns = columns_of(layout)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    put = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in columns)
    run(
        sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM {2} AS n WHERE NOT EXISTS "
            "(SELECT FROM {0} AS o WHERE o.id = n.id AND NOT ({3})) ON CONFLICT (id) DO UPDATE SET {4}"
        ).format(named(table), names, named(table + NEXT), _other(layout), put)
    )
    run(
        sql.SQL("DELETE FROM {} AS o WHERE NOT EXISTS (SELECT FROM {} AS n WHERE n.id = o.id)").format(
            named(table), named(table + NEXT)
        )
    )
    run(sql.SQL("DROP TABLE {}").format(named(table + NEXT)))


def _other(layout: Layout) -> sql.Composable:
    """Whether the items ``n`` and ``o`` have another content or other metadata."""
    names = ["content", *layout.schema.names]
    return sql.SQL(" OR ").join(sql.SQL("n.{0} IS DISTINCT FROM o.{0}").format(sql.Identifier(name)) for name in names)


def keys(shard: Shard, table: str, layout: Layout) -> None:
    """Makes the keys of a filled table: by id, and by each column of the metadata."""
    run = shard.connection.execute
    run(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY (id)").format(
            named(table), sql.Identifier(f"{table}_key")
        )
    )
    for place, field in enumerate(layout.schema):
        way = (
            "hash" if columns_of(layout)[field.name].startswith("text") else "btree"
        )  # a text may be too long for btree
        run(
            sql.SQL("CREATE INDEX {} ON {} USING {} ({})").format(
                sql.Identifier(f"{table}_c{place}"), named(table), sql.SQL(way), sql.Identifier(field.name)
            )
        )


def as_held(numbers: str, dim: int, row: str) -> str:
    """In SQL a row as the graph holds it: its numbers, those of 16 bits, or their signs, a bit each."""
    held = {"vector": row, "halfvec": f"({row}::halfvec({dim}))", "bit": f"(binary_quantize({row})::bit({dim}))"}
    return held[numbers]


def build_graph(shard: Shard, table: str, layout: Layout, links: int, numbers: str) -> None:
    """Builds the graph of HNSW. Raises LikewiseError on rows that are too long for it."""
    if layout.dim > WIDEST[numbers]:
        wider = [f"{OPTION[each]}=1, which takes {WIDEST[each]:,}" for each in OPTION if layout.dim <= WIDEST[each]]
        more = f", or {' or '.join(wider)}" if wider else ""
        raise LikewiseError(
            f"the rows have {layout.dim:,} numbers, but a graph of pgvector takes {WIDEST[numbers]:,}: "
            f"give engine=exact{more}."
        )
    run = shard.connection.execute
    count = run(sql.SQL("SELECT count(*) FROM {}").format(named(table))).fetchone()[0]
    bits = {"vector": 32, "halfvec": 16, "bit": 1}[numbers]
    needed = count * (layout.dim * bits // 8 + 24 * links + 200) >> 10
    run("SELECT set_config('maintenance_work_mem', %s, true)", [f"{min(max(needed, 1 << 16), 1 << 21)}kB"])
    run(
        sql.SQL("CREATE INDEX {} ON {} USING hnsw ({} {}) WITH (m = {}, ef_construction = {})").format(
            sql.Identifier(f"{table}_graph"),
            named(table),
            sql.SQL(as_held(numbers, layout.dim, "embedding")),
            sql.SQL(WAY[numbers]),
            sql.Literal(links),
            sql.Literal(max(64, 2 * links)),
        )
    )


def drop_graph(shard: Shard, table: str) -> None:
    """Removes the graph, if there is one."""
    shard.connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(named(f"{table}_graph")))


def analyze(shard: Shard, table: str) -> None:
    """Counts what the server's planner needs."""
    shard.connection.execute(sql.SQL("ANALYZE {}").format(named(table)))


def swap(shard: Shard, table: str) -> None:
    """Puts the table that was filled in the place of the former one."""
    run = shard.connection.execute
    run(sql.SQL("DROP TABLE IF EXISTS {}").format(named(table)))
    run(sql.SQL("ALTER TABLE {} RENAME TO {}").format(named(table + NEXT), sql.Identifier(table)))
    found = run("SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = %s", [SCHEMA, table]).fetchall()
    for (name,) in found:
        own = sql.Identifier(table + name.removeprefix(table + NEXT))
        run(sql.SQL("ALTER INDEX {} RENAME TO {}").format(named(name), own))


def write_manifest(shard: Shard, table: str, generation: int, manifest: Mapping[str, Any]) -> None:
    """Says what the table is."""
    shard.connection.execute(
        sql.SQL(
            "INSERT INTO {} VALUES (%s, %s, %s) ON CONFLICT (name) DO UPDATE SET generation = EXCLUDED.generation, "
            "manifest = EXCLUDED.manifest"
        ).format(named("indexes")),
        [table, generation, Jsonb(manifest)],
    )
