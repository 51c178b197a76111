"""Finds a row of a table by any of its names."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from likewise.errors import LikewiseError, closest


class Named(Protocol):
    """A row of a table."""

    @property
    def name(self) -> str:
        """The name in settings, files and docs."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that are accepted."""


Found = TypeVar("Found", bound=Named)


class UnknownName(LikewiseError):
    """No row has this name. ``wrong`` says so, without the known names."""

    def __init__(self, sentence: str, name: str = "", wrong: str = "") -> None:
        super().__init__(sentence)
        self.name, self.wrong = name, wrong


def called(name: str, rows: Iterable[Found], what: str) -> Found:
    """The row with this ``name`` or alias; case, - and _ do not matter.

    Raises UnknownName, with the closest name, on other names. ``what`` says what the rows are.
    """
    rows = tuple(rows)
    known: dict[str, tuple[str, Found]] = {}
    for row in rows:
        for each in (row.name, *row.aliases):
            known.setdefault(letters(each), (each, row))
    if letters(name) in known:
        return known[letters(name)][1]
    hint = closest(letters(name), known, shown=lambda each: known[each][0])
    wrong = f"there is no {what} {name!r}"
    raise UnknownName(f"{wrong}.{hint} Known: {', '.join(row.name for row in rows)}.", name, wrong)


def letters(name: str) -> str:
    """The name in lower case, without - and _."""
    return name.lower().replace("-", "").replace("_", "")
