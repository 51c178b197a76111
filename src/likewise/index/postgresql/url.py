"""The URL of servers: ``postgresql://USER@HOST1,HOST2|STANDBY2/DATABASE?engine=hnsw``."""

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from likewise.errors import LikewiseError, closest

SCHEMES = ("postgresql://", "postgres://")
SCHEMA = "likewise"  # of the database; nothing else of it is touched
ENGINES = ("auto", "exact", "hnsw")
OWN = ("engine", "halfvec", "links", "table")
LIBRARY = ("sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "passfile")  # told to libpq as they are
LINKS = 16  # of a row in each layer of the graph, pgvector's own default
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_RESERVED = ("indexes",)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A server's name and port."""

    name: str
    port: int = 5432

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


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
        halfvec: the graph holds numbers of 16 bits; the table keeps those of 32, which give the scores.
        links: of the graph.
        library: settings of libpq, such as sslmode.
    """

    shards: tuple[tuple[Host, ...], ...]
    database: str
    user: str = ""
    password: str = ""
    table: str = ""
    engine: str = "auto"
    halfvec: bool = False
    links: int = LINKS
    library: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The URL without the password."""
        hosts = ",".join("|".join(map(str, hosts)) for hosts in self.shards)
        own = {"engine": self.engine} if self.engine != "auto" else {}
        own |= {"halfvec": "1"} if self.halfvec else {}
        own |= {"links": str(self.links)} if self.links != LINKS else {}
        own |= {"table": self.table} if self.table else {}
        options = urlencode([*own.items(), *self.library])
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"postgresql://{user}{hosts}/{quote(self.database, safe='')}" + (f"?{options}" if options else "")

    def named(self, table: str) -> "Servers":
        """With the table of this name, if none was given: letters, digits and _ of a name are kept."""
        if self.table:
            return self
        plain = re.sub(r"[^a-z0-9]+", "_", table.lower()).strip("_")[:40] or "run"
        plain = plain if plain[0].isalpha() and plain not in _RESERVED else f"run_{plain}"
        return replace(self, table=plain)


def is_server(to: str) -> bool:
    """Whether ``--to`` names servers."""
    return to.startswith(SCHEMES)


def parse(url: str) -> Servers:
    """Reads a URL. Raises LikewiseError on what can't be one, without repeating a password."""
    if not is_server(url):
        raise LikewiseError("the URL of servers begins with postgresql://, such as postgresql://HOST1,HOST2/DATABASE.")
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
        halfvec=own.get("halfvec", "0") == "1",
        links=int(own.get("links", LINKS)),
        library=library,
    )
    named = [host for shard in servers.shards for host in shard]
    if twice := next((host for place, host in enumerate(named) if host in named[:place]), None):
        raise LikewiseError(f"the URL names the server {twice} twice; each holds one part of the items.")
    if servers.halfvec and servers.engine == "exact":
        raise LikewiseError("halfvec=1 is an option of the graph; give it with engine=hnsw, or leave it out.")
    return servers


def _host(text: str, whole: str) -> Host:
    found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:\[\]]+)(?::(\d{1,5}))?", text)
    if found is None or not 0 < int(found[2] or 5432) < 1 << 16:
        raise LikewiseError(
            f"{text!r} in {whole!r} is no HOST or HOST:PORT; part servers by a comma, and a server from its standby "
            "by |, as in postgresql://h1,h2|standby2/DATABASE."
        )
    return Host(name=found[1].strip("[]"), port=int(found[2] or 5432))


def _options(query: str) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Our own options, checked, and those of libpq."""
    given = parse_qsl(query, keep_blank_values=True)
    for name, _ in given:
        if name not in (*OWN, *LIBRARY):
            raise LikewiseError(
                f"a URL of servers has no option {name!r}.{closest(name, (*OWN, *LIBRARY))} It has {', '.join(OWN)}, "
                f"and of libpq {', '.join(LIBRARY)}."
            )
    own = {name: value for name, value in given if name in OWN}
    wanted = {
        "engine": (own.get("engine", "auto") in ENGINES, f"one of {', '.join(ENGINES)}"),
        "halfvec": (own.get("halfvec", "0") in ("0", "1"), "0 or 1"),
        "links": (re.fullmatch("[1-9][0-9]?|100", own.get("links", "16")) is not None, "a whole number from 2 to 100"),
        "table": (
            "table" not in own or (_TABLE.fullmatch(own["table"]) is not None and own["table"] not in _RESERVED),
            f"small letters, digits and _, at most 48, and not {_RESERVED[0]}",
        ),
    }
    for name, (holds, what) in wanted.items():
        if not holds or (name == "links" and own.get("links") == "1"):
            raise LikewiseError(f"the option {name} of the servers is {own[name]!r}; give {what}.")
    return own, tuple((name, value) for name, value in given if name in LIBRARY)
