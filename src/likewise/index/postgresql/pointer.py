"""Where the index of a run is, if it is on servers: a small file in the run's folder, without a password."""

import json
import os
import secrets
import socket
from pathlib import Path
from typing import NamedTuple

from likewise.errors import LikewiseError
from likewise.files import atomic_write, from_json
from likewise.index.postgresql.url import Servers, parse

FILE, FORMAT = "servers.json", 1


class Place(NamedTuple):
    """Servers, and a random name by which an index knows its run again after the run's folder has moved."""

    servers: Servers
    owner: str


def is_there(folder: Path) -> bool:
    """Whether the index of this folder is on servers."""
    return (folder / FILE).is_file()


def read(folder: Path) -> Place:
    """Where the index of this folder is. Raises LikewiseError when it is on no servers, or the file is damaged."""
    path = folder / FILE
    try:
        saved = from_json(path.read_bytes())
        if saved["likewise index on servers"] != FORMAT:
            raise ValueError
        return Place(parse(saved["url"]), saved["owner"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise LikewiseError(
            f"{path} is missing or damaged; write it again: likewise index RUN DATA --to postgresql://HOST/DATABASE."
        ) from None


def write(folder: Path, place: Place) -> None:
    """Writes where the index is, whole or not at all. Raises OSError from the file system."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"likewise index on servers": FORMAT, "url": str(place.servers), "owner": place.owner}
    with atomic_write(folder / FILE) as file:
        file.write(json.dumps(content, indent=1).encode())


def new_owner() -> str:
    """A random name."""
    return secrets.token_hex(8)


def whose(folder: Path) -> str:
    """The machine and the full path of a folder."""
    return f"{socket.gethostname()}:{os.path.abspath(folder)}"
