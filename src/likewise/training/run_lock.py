"""The lock of a folder that a training writes: a second one is refused by the name of the first."""

import errno
import json
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from likewise.errors import LikewiseError
from likewise.files import from_json

LOCK, WRITER = ".lock", ".writer.json"
FILES = (LOCK, WRITER, f"{LOCK}.soft")  # of a lock, in the folder
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


@contextmanager
def written_by_one(folder: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Holds the lock of an existing folder until the block ends. ``.writer.json`` says meanwhile who holds it.

    The lock is the kernel's (``flock``). It also works between containers and, over NFS, between machines. When its
    process ends, in whatever way, the lock is free again. On a file system without locks, the lock is a file that names
    its process; such a file of a process that ended on another machine must be deleted by hand.

    Args:
        folder: the folder to write.
        patience: seconds to wait for the lock.

    Raises:
        LikewiseError: another process holds the lock, or no file can be written in the folder.
    """
    try:
        lock = _taken(folder, patience)
    except Timeout:
        raise LikewiseError(
            f"{folder} is being written by {_writer(folder)}; wait until it ends, stop it, or name another --out."
        ) from None
    except OSError as error:
        raise LikewiseError(f"can't write the folder {folder}: {error.strerror}; choose another --out.") from error
    try:
        with suppress(OSError):  # a full disk: the lock holds all the same
            (folder / WRITER).write_text(json.dumps(_self()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            (folder / WRITER).unlink(missing_ok=True)
        lock.release()


def refuse_while_written(folder: Path) -> None:
    """Raises LikewiseError when another process holds the lock of ``folder``; writes nothing if none ever did."""
    if (folder / WRITER).exists():
        with written_by_one(folder):
            pass


def clear(folder: Path) -> None:
    """Empties a folder, except for its lock."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name not in FILES:
            entry.unlink()


def _taken(folder: Path, patience: float) -> BaseFileLock:
    try:
        lock: BaseFileLock = FileLock(folder / LOCK, timeout=patience)
        lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLock(folder / f"{LOCK}.soft", timeout=patience)
        lock.acquire()
    return lock


def program() -> str:
    """The name of the program that runs; "likewise" of ``python -m likewise`` too."""
    path = Path(sys.argv[0])
    return path.parent.name if path.name == "__main__.py" else path.name


def _self() -> dict[str, str | int]:
    """This process, for another one's message."""
    command = shlex.join([program(), *sys.argv[1:]])
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"command": command, "process": os.getpid(), "machine": socket.gethostname(), "since": now}


def _writer(folder: Path) -> str:
    """Who holds the folder's lock, as the holder wrote it."""
    try:
        who = from_json((folder / WRITER).read_bytes())
        return f"`{who['command']}` (process {who['process']} of {who['machine']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
