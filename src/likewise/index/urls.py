"""What the URLs of servers have in common: hosts, names of tables, options."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from likewise.errors import LikewiseError, closest

RESERVED = "indexes"  # the table of manifests
TABLE = f"small letters, digits and _, at most 48, and not {RESERVED}"
LINKS = 16  # of a row in each layer of a graph, the servers' own default
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,47}")


@dataclass(frozen=True, kw_only=True)
class Host:
    """A server's name and port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def host_of(text: str, port: int) -> Host | None:
    """HOST or HOST:PORT, with the port that is usual; None of anything else."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:\[\]]+)(?::(\d{1,5}))?", text)
    if found is None or not 0 < int(found[2] or port) < 1 << 16:
        return None
    return Host(name=found[1].strip("[]"), port=int(found[2] or port))


def table_of(run: str) -> str:
    """A table's name, from that of a run: letters, digits and _ are kept."""
    plain = re.sub(r"[^a-z0-9]+", "_", run.lower()).strip("_")[:40] or "run"
    return plain if plain[0].isalpha() and plain != RESERVED else f"run_{plain}"


def is_table(name: str) -> bool:
    """Whether a table can have this name."""
    return _TABLE.fullmatch(name) is not None and name != RESERVED


def is_links(text: str) -> bool:
    """Whether this is a number of links of a graph."""
    return re.fullmatch("[1-9][0-9]?|100", text) is not None and text != "1"


def options(query: str, known: Sequence[str], more: str = "") -> list[tuple[str, str]]:
    """The options behind a URL. Raises LikewiseError on an unknown one; ``more`` says what else there is."""
    given = parse_qsl(query, keep_blank_values=True)
    for name, _ in given:
        if name not in known:
            raise LikewiseError(
                f"a URL of servers has no option {name!r}.{closest(name, known)} It has {more or ', '.join(known)}."
            )
    return given


def refuse_values(own: Mapping[str, str], wanted: Mapping[str, tuple[bool, str]]) -> None:
    """Raises LikewiseError on an option whose value is not what is wanted of it, if it is given."""
    for name, (holds, what) in wanted.items():
        if name in own and not holds:
            raise LikewiseError(f"the option {name} of the servers is {own[name]!r}; give {what}.")


def one_of(value: str, known: Collection[str]) -> tuple[bool, str]:
    """Whether a value is known, and which are."""
    return value in known, f"one of {', '.join(known)}"
