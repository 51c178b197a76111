"""The table of engines of a local index, and the choice among them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from torch import Tensor

from likewise.console import Tick, untold
from likewise.errors import LikewiseError, closest
from likewise.index.engine import Engine, Keys

EXACT_NUMBERS = 25_600_000  # rows × numbers of a row that exact search reads in about 5 ms on a core: 200,000 × 128


@dataclass(frozen=True)
class Kind:
    """A kind of engine.

    Args:
        name: as in ``--to``.
        options: the names of its whole numbers, with their defaults; 0 is chosen by the number of rows.
        build: from (N, D) rows, their keys and the options.
        read: from the file that it wrote.
    """

    name: str
    options: Mapping[str, int]
    build: Callable[[Tensor, Keys, Mapping[str, int], Tick], Engine]
    read: Callable[[Path], Engine]


def _faiss_ivf(rows: Tensor, keys: Keys, options: Mapping[str, int], tick: Tick = untold) -> Engine:
    from likewise.index.faiss_engines import IVF

    return IVF.build(rows, keys, options["lists"], tick)


def _faiss_hnsw(rows: Tensor, keys: Keys, options: Mapping[str, int], tick: Tick = untold) -> Engine:
    from likewise.index.faiss_engines import HNSW

    return HNSW.build(rows, keys, options["links"], tick)


def _read_ivf(path: Path) -> Engine:
    from likewise.index.faiss_engines import IVF

    return IVF.read(path)


def _read_hnsw(path: Path) -> Engine:
    from likewise.index.faiss_engines import HNSW

    return HNSW.read(path)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("faiss:ivf", {"lists": 0}, _faiss_ivf, _read_ivf),
        Kind("faiss:hnsw", {"links": 32}, _faiss_hnsw, _read_hnsw),
    )
}
LOCAL = ("auto", "exact", *KINDS)


def default_options(name: str) -> dict[str, int]:
    """The options of an engine as they come; exact search and auto have none."""
    return dict(KINDS[name].options) if name in KINDS else {}


def engine_of(to: str) -> tuple[str, dict[str, int]]:
    """The name and options of an engine as ``--to`` gives it: ``exact``, ``auto``, ``faiss:ivf?lists=4096``.

    Raises LikewiseError on an unknown name or option.
    """
    name, _, query = to.partition("?")
    if name not in LOCAL:
        raise LikewiseError(
            f"there is no engine {name!r}.{closest(name, LOCAL)} Choose one of {', '.join(LOCAL)}, or the URL of "
            "servers, postgresql://HOST/DATABASE or milvus://HOST/NAME."
        )
    options = default_options(name)
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option not in options:
            known = f"has {', '.join(options)}" if options else "has none"
            raise LikewiseError(f"{name} has no option {option!r}; it {known}.")
        if not value.isdecimal() or not 1 <= int(value) <= 1 << 20:
            raise LikewiseError(f"the option {option} of {name} is {value!r}; give a whole number from 1 to 1048576.")
        options[option] = int(value)
    return name, options


def chosen(to: str, rows: int, dim: int) -> tuple[str, dict[str, int]]:
    """As ``engine_of``, with the engine that ``auto`` stands for: exact search while it is quick, or without faiss."""
    name, options = engine_of(to)
    if name != "auto":
        return name, options
    if rows * dim <= EXACT_NUMBERS:
        return "exact", {}
    try:
        import faiss  # noqa: F401
    except ImportError:
        return "exact", {}
    return "faiss:ivf", default_options("faiss:ivf")
