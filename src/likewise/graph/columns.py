"""Which columns of a file are the user, the item, the weight and the time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from likewise.errors import LikewiseError, closest

NONE = "none"  # names no column: the file's weights or times are not used

# Names without capitals, spaces and underscores, the most usual first.
_NAMES = {
    "user": ("user", "userid", "customer", "customerid", "visitor", "visitorid", "session", "sessionid"),
    "item": ("item", "itemid", "product", "productid", "movie", "movieid", "article", "articleid"),
    "weight": ("weight", "rating", "feedback", "score"),
    "time": ("time", "timestamp", "datetime", "date", "ts", "unixtime"),
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns; None: it is found by its name. ``weight`` and ``time`` may be "none"."""

    user: str | None = None
    item: str | None = None
    weight: str | None = None
    time: str | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """The columns of a file; None where it has none."""

    user: str
    item: str
    weight: str | None
    time: str | None

    def names(self) -> list[str]:
        """Those that are read."""
        return [name for name in (self.user, self.item, self.weight, self.time) if name is not None]

    def line(self) -> str:
        """Which columns were taken, for people."""
        weight = "no weights" if self.weight is None else f"weight {self.weight!r}"
        time = "no times" if self.time is None else f"time {self.time!r}"
        return f"user {self.user!r}, item {self.item!r}, {weight}, {time}"


def find_columns(file: str, names: Sequence[str], wanted: Columns, folders: Sequence[str] = ()) -> Found:
    """The columns, those that are named or those whose names say it.

    ``folders`` are those that the folders above the file stand for. They count where they are named, and for a role
    that no column of the file has.

    Raises:
        LikewiseError: a column is missing, occurs twice, is named for two roles, or no name says which one it is.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LikewiseError(f"{file} has {names.count(twice)} columns {twice!r}; rename or remove all but one.")
    above = [name for name in folders if name not in names]
    user = _column(file, names, "user", wanted.user, above)
    if wanted.item is not None and wanted.item == user:
        raise LikewiseError(f"{file}: the column {user!r} is taken for users and for items; name another one.")
    item = _column(file, [name for name in names if name != user], "item", wanted.item, above)
    weight = _column(file, names, "weight", wanted.weight, above)
    time = _column(file, names, "time", wanted.time, above)
    its = ", ".join([*names, *above])
    if user is None:
        raise LikewiseError(f"{file} has no column that is called as users are; name it with --user. It has {its}.")
    if item is None:
        ids = [name for name in names if name != user and _plain(name).endswith("id")]
        if len(ids) != 1:
            raise LikewiseError(f"{file} has no column that is called as items are; name it with --item. It has {its}.")
        item = ids[0]
    found = Found(user=user, item=item, weight=weight, time=time)
    taken = found.names()
    if len(set(taken)) < len(taken):
        raise LikewiseError(f"{file}: one column is taken twice ({found.line()}); name another one.")
    return found


def _column(file: str, names: Sequence[str], role: str, wanted: str | None, above: Sequence[str]) -> str | None:
    """The column of a role; None if there is none."""
    every = [*names, *above]
    if wanted is not None and wanted in every:
        return wanted
    if wanted == NONE and role in ("weight", "time"):
        return None
    if wanted is not None:
        raise LikewiseError(
            f"{file} has no column {wanted!r}.{closest(wanted, every)} Name another one with --{role}; it has "
            f"{', '.join(every)}."
        )
    for some in (names, above):
        plain = {_plain(name): name for name in reversed(some)}
        if found := next((plain[name] for name in _NAMES[role] if name in plain), None):
            return found
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
