"""The URL of a server of Milvus: ``milvus://HOST:PORT/NAME?engine=hnsw``."""

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

SCHEMES = ("milvus://",)
PORT = 19_530
ENGINES = ("auto", "exact", "hnsw")
OWN = ("engine", "links", "database", "secure")
TOKEN = "MILVUS_TOKEN"  # of the environment: USER:PASSWORD, or a key


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where an index is, and how it searches there.

    Args:
        host: name and port.
        name: of the index; its collections are ``likewise_NAME_1`` and so on. Empty: that of the run's folder.
        database: empty: the server's default.
        engine: ``exact``, ``hnsw``, or ``auto``: exact while that is quick.
        links: of the graph.
        secure: whether the connection is encrypted (TLS).
    """

    host: Host
    name: str = ""
    database: str = ""
    engine: str = "auto"
    links: int = LINKS
    secure: bool = False

    def __str__(self) -> str:
        """The URL."""
        own = {"engine": self.engine} if self.engine != "auto" else {}
        own |= {"links": str(self.links)} if self.links != LINKS else {}
        own |= {"database": self.database} if self.database else {}
        own |= {"secure": "1"} if self.secure else {}
        name = f"/{quote(self.name, safe='')}" if self.name else ""
        return f"milvus://{self.host}{name}" + (f"?{urlencode(own)}" if own else "")

    def named(self, name: str) -> "Server":
        """With this name, if none was given: letters, digits and _ of it are kept."""
        return self if self.name else replace(self, name=table_of(name))


def parse(url: str) -> Server:
    """Reads a URL. Raises LikewiseError on what can't be one, without repeating a password."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    if login:
        raise LikewiseError(f"the URL of Milvus takes no user; give {TOKEN}=USER:PASSWORD in the environment.")
    if "," in host:
        raise LikewiseError(
            f"the URL names several servers ({host}), but Milvus spreads the items over its own: name its one address."
        )
    found = host_of(host, PORT)
    if found is None:
        raise LikewiseError(f"{host!r} is no HOST or HOST:PORT, as in milvus://HOST:{PORT}/NAME.")
    own = dict(options(parts.query, OWN))
    refuse_values(
        own,
        {
            "engine": one_of(own.get("engine", ""), ENGINES),
            "links": (is_links(own.get("links", "")), "a whole number from 2 to 100"),
            "secure": (own.get("secure") in ("0", "1"), "0 or 1"),
        },
    )
    name = unquote(parts.path.strip("/"))
    if name and not is_table(name):
        raise LikewiseError(f"the name of the index in the URL is {name!r}; give {TABLE}.")
    return Server(
        host=found,
        name=name,
        database=own.get("database", ""),
        engine=own.get("engine", "auto"),
        links=int(own.get("links", LINKS)),
        secure=own.get("secure") == "1",
    )
