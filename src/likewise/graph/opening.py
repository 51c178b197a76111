"""Opens interactions for a command: what was read and left out is said, and a stamp says which rows count."""

import os
from dataclasses import asdict
from typing import NamedTuple

from likewise.console import Tick, say, untold
from likewise.errors import finite
from likewise.files import as_path
from likewise.graph.columns import NONE, Columns
from likewise.graph.interactions import Log, read_interactions
from likewise.graph.log_files import log_files
from likewise.graph.summary import WEIGHTS, WITHIN
from likewise.stamp import Stamp, full_path, hash_of
from likewise.text import readable


class Opened(NamedTuple):
    """Interactions, and what decides which rows they are: the file and its hash, the columns, the lowest weight."""

    log: Log
    stamp: Stamp


def open_interactions(
    interactions: str | os.PathLike[str], columns: Columns, least: float, *, tick: Tick = untold
) -> Opened:
    """Read interactions, and say on standard error which columns were taken and which rows left out.

    Raises LikewiseError as :func:`likewise.graph.interactions.read_interactions` does.
    """
    path = as_path(interactions, "INTERACTIONS")
    log = read_interactions(path, columns, least=finite("least", least), tick=tick)
    say([f"{path}: {log.columns.line()}.", *(f"left out: {each.line()}." for each in log.left_out)])
    say([WITHIN.format(path=path, lines=log.within)] if log.within else [])
    say([f"{path}: {WEIGHTS}"] if log.columns.weight is not None and not least else [])
    typed, taken = os.fspath(interactions), {role: name or NONE for role, name in asdict(log.columns).items()}
    stamp: Stamp = {
        "interactions": readable(typed),
        "interactions_path": readable(full_path(typed)),
        "interactions_hash": hash_of(*(file.path for file in log_files(path))),
        **{f"column_{role}": readable(name) for role, name in taken.items()},
        "least": least,
    }
    return Opened(log, stamp)
