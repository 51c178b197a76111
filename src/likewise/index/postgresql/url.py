"""The URL of servers: ``postgresql://USER@HOST1,HOST2|STANDBY2/DATABASE?engine=hnsw``."""

from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlencode, urlsplit

from likewise.errors import LikewiseError
from likewise.index.urls import (
    LINKS,
    TABLE,
    Host,
    host_of,
    is_links,
    is_table,
    one_of,
    options,
    refuse_values,
    table_of,
)

SCHEMES = ("postgresql://", "postgres://")
SCHEMA = "likewise"  # of the database; nothing else of it is touched
ENGINES = ("auto", "exact", "hnsw")
OWN = ("engine", "halfvec", "bits", "links", "table")
LIBRARY = ("sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "passfile")  # told to libpq as they are
OPTION = {"halfvec": "halfvec", "bit": "bits"}  # which asks for numbers that are not of 32 bits
PORT = 5432


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where an index is, and how it searches there.

    Args:
        shards: for each part of the items the server that holds it, and then its standbys.
        database: the name of the database, the same on all.
        user: empty: as libpq chooses.
        password: empty: from PGPASSWORD or the file ~/.pgpass. It is never written.
        table: its name in our schema; empty: that of the run's folder.
        engine: ``exact``, ``hnsw``, or ``auto``: exact while that is quick.
        numbers: of the graph: ``vector`` (32 bits), ``halfvec`` (16), ``bit`` (their signs). The table keeps those of
            32 bits, which give the scores.
        links: of the graph.
        library: settings of libpq, such as sslmode.
    """

    shards: tuple[tuple[Host, ...], ...]
    database: str
    user: str = ""
    password: str = ""
    table: str = ""
    engine: str = "auto"
    numbers: str = "vector"
    links: int = LINKS
    library: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The URL without the password."""
        hosts = ",".join("|".join(map(str, hosts)) for hosts in self.shards)
        own = {"engine": self.engine} if self.engine != "auto" else {}
        own |= {OPTION[self.numbers]: "1"} if self.numbers != "vector" else {}
        own |= {"links": str(self.links)} if self.links != LINKS else {}
        own |= {"table": self.table} if self.table else {}
        behind = urlencode([*own.items(), *self.library])
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"postgresql://{user}{hosts}/{quote(self.database, safe='')}" + (f"?{behind}" if behind else "")

    def named(self, table: str) -> "Servers":
        """With the table of this name, if none was given: letters, digits and _ of a name are kept."""
        if self.table:
            return self
        return replace(self, table=table_of(table))


def parse(url: str) -> Servers:
    """Reads a URL. Raises LikewiseError on what can't be one, without repeating a password."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    database = unquote(parts.path.strip("/"))
    if not database or "/" in database:
        raise LikewiseError(f"the URL of {hosts or 'servers'} names no database: postgresql://HOST1,HOST2/DATABASE.")
    own, library = _options(parts.query)
    servers = Servers(
        shards=tuple(tuple(_host(text, hosts) for text in shard.split("|")) for shard in hosts.split(",")),
        database=database,
        user=unquote(user),
        password=unquote(password),
        table=own.get("table", ""),
        engine=own.get("engine", "auto"),
        numbers=next((numbers for numbers, option in OPTION.items() if own.get(option) == "1"), "vector"),
        links=int(own.get("links", LINKS)),
        library=library,
    )
    named = [host for shard in servers.shards for host in shard]
    if twice := next((host for place, host in enumerate(named) if host in named[:place]), None):
        raise LikewiseError(f"the URL names the server {twice} twice; each holds one part of the items.")
    if servers.numbers != "vector" and servers.engine == "exact":
        option = OPTION[servers.numbers]
        raise LikewiseError(f"{option}=1 is an option of the graph; give it with engine=hnsw, or leave it out.")
    return servers


def _host(text: str, whole: str) -> Host:
    found = host_of(text, PORT)
    if found is None:
        raise LikewiseError(
            f"{text!r} in {whole!r} is no HOST or HOST:PORT; part servers by a comma, and a server from its standby "
            "by |, as in postgresql://h1,h2|standby2/DATABASE."
        )
    return found


def _options(query: str) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Our own options, checked, and those of libpq."""
    given = options(query, (*OWN, *LIBRARY), f"{', '.join(OWN)}, and of libpq {', '.join(LIBRARY)}")
    own = {name: value for name, value in given if name in OWN}
    halved = own.get("halfvec") == "1"
    refuse_values(
        own,
        {
            "engine": one_of(own.get("engine", ""), ENGINES),
            "halfvec": (own.get("halfvec") in ("0", "1"), "0 or 1"),
            "bits": (own.get("bits") in (("0",) if halved else ("0", "1")), "0, or 1 without halfvec"),
            "links": (is_links(own.get("links", "")), "a whole number from 2 to 100"),
            "table": (is_table(own.get("table", "")), TABLE),
        },
    )
    return own, tuple((name, value) for name, value in given if name in LIBRARY)
