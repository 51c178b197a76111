"""The kinds of servers that an index can be on, by the URL's scheme."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.errors import LikewiseError
from likewise.index import pointer
from likewise.index.asked import Searched
from likewise.index.engines import LOCAL
from likewise.index.index import Index
from likewise.index.kept import Place, Stage
from likewise.index.milvus import url as milvus
from likewise.index.postgresql import url as postgresql


@dataclass(frozen=True)
class Kind:
    """A kind of server.

    Args:
        schemes: how its URLs begin.
        parse: reads a URL; what it gives has ``named(table)``, and as text is the URL without a password.
        open: an index there, to be searched.
        place: an index there, to be made or brought up to date.
    """

    schemes: tuple[str, ...]
    parse: Callable[[str], Any]
    open: Callable[[Any], Searched]
    place: Callable[[Path, Any, Stage], Place]


def _open_postgresql(servers: Any) -> Searched:
    from likewise.index.postgresql.shards import psycopg_here

    psycopg_here()
    from likewise.index.postgresql.index import ServerIndex

    return ServerIndex(servers)


def _place_on_postgresql(folder: Path, servers: Any, stage: Stage) -> Place:
    from likewise.index.postgresql.shards import psycopg_here

    psycopg_here()
    from likewise.index.postgresql.renewal import Renewal

    return Renewal(folder, servers, stage)


def _open_milvus(server: Any) -> Searched:
    from likewise.index.milvus.index import MilvusIndex

    return MilvusIndex(server)


def _place_on_milvus(folder: Path, server: Any, stage: Stage) -> Place:
    from likewise.index.milvus.renewal import Renewal

    return Renewal(folder, server, stage)


KINDS = (
    Kind(postgresql.SCHEMES, postgresql.parse, _open_postgresql, _place_on_postgresql),
    Kind(milvus.SCHEMES, milvus.parse, _open_milvus, _place_on_milvus),
)


def is_server(to: str) -> bool:
    """Whether ``--to`` names servers."""
    return any(to.startswith(kind.schemes) for kind in KINDS)


def kind_of(url: str) -> Kind:
    """The kind of servers of a URL. Raises LikewiseError when there is none."""
    for kind in KINDS:
        if url.startswith(kind.schemes):
            return kind
    known = " or ".join(kind.schemes[0] for kind in KINDS)
    raise LikewiseError(f"the URL of servers begins with {known}, such as postgresql://HOST1,HOST2/DATABASE.")


def check(url: str) -> None:
    """Raises LikewiseError on a URL that can't be one."""
    kind_of(url).parse(url)


def place_on(folder: Path, to: str, name: str, stage: Stage) -> Place:
    """Where the index of a folder is to be: on the servers of a URL; of ``auto``, on those where it is.

    Args:
        folder: of the run's index.
        to: the URL, or ``auto``.
        name: for the table, where the URL names none.
        stage: begins a stage of the work that has a bar.

    Raises LikewiseError on a URL that can't be one, and when a server is away or refuses.
    """
    kind, servers = _read(to) if is_server(to) else _pointed(folder)
    return kind.place(folder, servers.named(name), stage)


def opened(folder: Path) -> tuple[Searched, str]:
    """The index of a folder, which is there or on servers, and where it is.

    Raises LikewiseError when there is none, it is damaged, or a server is away or refuses.
    """
    if not pointer.is_there(folder):
        return Index.load(folder), str(folder)
    kind, servers = _pointed(folder)
    return kind.open(servers), str(servers)


def opened_at(place: str, name: str) -> tuple[Searched, str]:
    """The index in a folder, or at a URL, and where it is; ``name`` is for the table, where the URL names none.

    Raises LikewiseError as ``opened``.
    """
    if place.partition("?")[0] in LOCAL and not Path(place).exists():
        raise LikewiseError(
            f"{place} is an engine, by which an index is made: likewise index RUN --to {place}; leave it out here."
        )
    if not is_server(place):
        return Index.load(place), place
    kind, servers = _read(place)
    return kind.open(servers.named(name)), str(servers)


def _read(url: str) -> tuple[Kind, Any]:
    kind = kind_of(url)
    return kind, kind.parse(url)


def _pointed(folder: Path) -> tuple[Kind, Any]:
    try:
        return _read(pointer.read(folder).url)
    except LikewiseError:
        raise pointer.damaged(folder) from None
