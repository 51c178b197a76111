"""Connections to the servers of an index: one for each part of the items, asked side by side."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from likewise.errors import LikewiseError
from likewise.index.names import number_of
from likewise.index.postgresql.url import Servers
from likewise.index.urls import Host

T = TypeVar("T")
RETRY = 0.05  # seconds before a lost connection is made again
OLDEST = (0, 8)  # pgvector, which goes on with a search until enough rows fit a condition
_AWAY = "10"  # seconds to wait for a server that says nothing


def psycopg_here() -> Any:
    """The module. Raises LikewiseError when it is not installed."""
    try:
        import psycopg
    except ImportError:
        raise LikewiseError("an index on servers needs psycopg: pip install 'likewise[postgresql]'.") from None
    return psycopg


class Shard:
    """One part of the items, on one server and its standbys.

    Args:
        servers: all of them.
        number: of the part, from 0.
        writing: connect to the server that takes changes; else to a standby, if there is one.
    """

    def __init__(self, servers: Servers, number: int, *, writing: bool = False) -> None:
        self._psycopg = psycopg_here()
        self._servers, self.number, self._writing = servers, number, writing
        self.hosts: tuple[Host, ...] = servers.shards[number]
        self._connection: Any = None
        self.mode = ""  # of the session, see search
        self._lock = Lock()

    def __str__(self) -> str:
        many = len(self._servers.shards)
        name = " or ".join(map(str, self.hosts))
        return f"the server {name}" + (f" (part {self.number + 1} of {many})" if many > 1 else "")

    @property
    def connection(self) -> Any:
        """Open, in autocommit. Raises LikewiseError when no server answers or takes us."""
        if self._connection is None or self._connection.closed:
            s = self._servers
            given = {"connect_timeout": _AWAY, **dict(s.library)}
            given |= {"user": s.user} if s.user else {}
            given |= {"password": s.password} if s.password else {}
            try:
                self._connection = self._psycopg.connect(
                    host=",".join(host.name for host in self.hosts),
                    port=",".join(str(host.port) for host in self.hosts),
                    dbname=s.database,
                    target_session_attrs="read-write" if self._writing else "prefer-standby",
                    application_name="likewise",
                    autocommit=True,
                    **given,
                )
            except self._psycopg.Error as error:
                raise LikewiseError(self._unreached(str(error))) from None
            self._introduce(self._connection)
        return self._connection

    def _introduce(self, connection: Any) -> None:
        """Checks pgvector, and sets what every statement of the session needs."""
        self.mode = ""
        row = connection.execute(
            "SELECT extversion, quote_ident(nspname), (SELECT true FROM pg_available_extensions WHERE name = 'vector') "
            "FROM (VALUES (1)) AS one LEFT JOIN pg_extension ON extname = 'vector' "
            "LEFT JOIN pg_namespace AS n ON n.oid = extnamespace"
        ).fetchone()
        version, schema, installed = row
        if version is None or tuple(map(int, version.split(".")[:2])) < OLDEST:
            self.close()
            if version is not None:
                raise LikewiseError(f"{self} has pgvector {version}, but searches with conditions need 0.8 or later.")
            install = "" if installed else "install pgvector there (docs/servers.md says how), and then, "
            raise LikewiseError(
                f"{self} has no pgvector in the database {self._servers.database}: {install}as its administrator: "
                "CREATE EXTENSION vector."
            )
        connection.execute("SELECT set_config('search_path', %s, false), set_config('jit', 'off', false)", [schema])
        from likewise.index.postgresql.vectors import register

        register(connection)

    def _unreached(self, message: str) -> str:
        first = _plain(message)
        if "password" in message or "pg_hba.conf" in message:
            return (
                f"{self} does not let {self._servers.user or 'this user'} in ({first}): give the password in "
                "PGPASSWORD or ~/.pgpass, and the user in the URL."
            )
        if "does not exist" in message:
            return f"{self} has no such database or user ({first}); make it with createdb or createuser."
        if "read-only" in message or "session is not" in message:
            return f"{self} takes no changes ({first}); name the server that does, beside its standby."
        return (
            f"{self} is away ({first}), and its items would be missing. Start it with: pg_ctl -D FOLDER start, or "
            "correct the URL."
        )

    @contextmanager
    def said(self) -> Iterator[None]:
        """Raises LikewiseError in place of the library's errors, with the server's name."""
        whole = "; the former index is whole" if self._writing else ""
        try:
            yield
        except self._psycopg.errors.InsufficientPrivilege as error:
            raise LikewiseError(
                f"{self} refuses the user {self._servers.user or 'of this connection'} ({_plain(str(error))}); as its "
                "administrator: GRANT CREATE ON DATABASE NAME TO USER."
            ) from None
        except self._psycopg.errors.DiskFull as error:
            raise LikewiseError(f"{self} has no room left ({_plain(str(error))}){whole}.") from None
        except self._psycopg.Error as error:
            raise LikewiseError(f"{self} could not do it ({_plain(str(error))}){whole}.") from None

    def ask(self, question: Callable[["Shard"], T]) -> T:
        """The answer of a question that changes nothing. A connection that is lost meanwhile is made again, once.

        Threads ask one after the other.
        """
        with self._lock, self.said():
            try:
                return question(self)
            except self._psycopg.OperationalError:
                if self._connection is not None and not self._connection.broken:
                    raise
                self.close()
                time.sleep(RETRY)
                return question(self)

    def close(self) -> None:
        """Ends the connection, and what was not committed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Shards:
    """The servers of an index, asked side by side by threads. Each holds the items whose number leaves its own rest."""

    def __init__(self, servers: Servers, *, writing: bool = False) -> None:
        self.servers = servers
        self.each = tuple(Shard(servers, number, writing=writing) for number in range(len(servers.shards)))
        self._threads = ThreadPoolExecutor(len(self.each)) if len(self.each) > 1 else None

    def __len__(self) -> int:
        return len(self.each)

    def of(self, item: str) -> int:
        """The number of the shard that holds an id."""
        return number_of(item) % len(self.each)

    def split(self, ids: Sequence[str]) -> list[list[int]]:
        """For each shard the places of its ids."""
        places: list[list[int]] = [[] for _ in self.each]
        for place, item in enumerate(ids):
            places[self.of(item)].append(place)
        return places

    def all(self, act: Callable[[Shard], T]) -> list[T]:
        """What ``act`` gives for each shard. Raises the error of the first that has one, after all have ended."""
        if self._threads is None:
            return [act(self.each[0])]
        pending = [self._threads.submit(act, shard) for shard in self.each]
        for each in pending:
            each.exception()
        return [each.result() for each in pending]

    def ask(self, question: Callable[[Shard], T]) -> list[T]:
        """``all`` of a question that changes nothing."""
        return self.all(lambda shard: shard.ask(question))

    def close(self) -> None:
        """Ends all connections."""
        for shard in self.each:
            shard.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False)


def _plain(message: str) -> str:
    """The first line of a message of the library, without the parts that repeat the address."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return "no reason given"
    return lines[0].removeprefix("connection failed: ").rstrip(".")
