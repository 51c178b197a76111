"""Where the index of a run is, if it is on servers: a small file in the run's folder, without a password."""

import json
import os
import secrets
import socket
from pathlib import Path
from typing import NamedTuple

from likewise.errors import LikewiseError
from likewise.files import atomic_write, from_json

FILE, FORMAT = "servers.json", 1


class Pointer(NamedTuple):
    """The URL of servers, and a random name by which an index knows its run again after the run's folder has moved."""

    url: str
    owner: str


def is_there(folder: Path) -> bool:
    """Whether the index of this folder is on servers."""
    return (folder / FILE).is_file()


def read(folder: Path) -> Pointer:
    """Where the index of this folder is. Raises LikewiseError when it is on no servers, or the file is damaged."""
    try:
        saved = from_json((folder / FILE).read_bytes())
        if saved["likewise index on servers"] != FORMAT:
            raise ValueError
        return Pointer(str(saved["url"]), str(saved["owner"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(folder) from None


def damaged(folder: Path) -> LikewiseError:
    """What to raise when the file is not as it was written."""
    return LikewiseError(
        f"{folder / FILE} is missing or damaged; write it again: likewise index RUN DATA --to URL, such as "
        "postgresql://HOST/DATABASE."
    )


def write(folder: Path, pointer: Pointer) -> None:
    """Writes where the index is, whole or not at all. Raises OSError from the file system."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"likewise index on servers": FORMAT, "url": pointer.url, "owner": pointer.owner}
    with atomic_write(folder / FILE) as file:
        file.write(json.dumps(content, indent=1).encode())


def new_owner() -> str:
    """A random name."""
    return secrets.token_hex(8)


def whose(folder: Path) -> str:
    """The machine and the full path of a folder."""
    return f"{socket.gethostname()}:{os.path.abspath(folder)}"
