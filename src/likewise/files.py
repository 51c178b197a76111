"""Writes files and folders atomically: a reader sees the old one or the new one, never a part."""

import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from likewise.errors import LikewiseError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that gets the name ``path`` only when it is complete and on disk.

    The bytes go to a temporary in the same folder, are fsynced and then renamed. On any error (a full disk, Ctrl-C)
    the temporary is removed and a file already at ``path`` stays as it was. After ``kill -9`` the temporary stays. The
    next ``atomic_write`` of the same path removes it if the process that made it no longer runs.

    Args:
        path: the file to write; its folder must exist.

    Raises:
        OSError: from the file system, such as no space left, unchanged.
    """
    path = Path(path)
    prefix = f".{path.name}.tmp-"
    remove_abandoned(path.parent, prefix)
    temporary = path.parent / temporary_name(prefix)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # nobody knows the temporary's name
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in ``parent``. It is removed at the end unless :func:`replace_folder` has moved it.

    First removes folders with the same prefix that killed processes have left.
    """
    remove_abandoned(parent, prefix)
    folder = parent / temporary_name(prefix)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(temporary: Path, final: Path) -> None:
    """Give a finished folder its final name, and remove the folder that had this name before.

    The caller has fsynced the files in it. Not every system can exchange two folders in one step. An existing ``final``
    is therefore first renamed, so for a moment there is no folder of that name.

    Raises:
        OSError: when another process keeps taking the name, or from the file system.
    """
    aside = f".{final.name}.tmp-"
    remove_abandoned(final.parent, aside)
    sync_folder(temporary)
    try:
        os.rename(temporary, final)
    except OSError:
        if not final.exists():
            raise
        old = final.parent / temporary_name(aside)
        os.rename(final, old)
        try:
            os.rename(temporary, final)
        except OSError:
            os.rename(old, final)
            raise
        shutil.rmtree(old, ignore_errors=True)
    sync_folder(final.parent)


def temporary_name(prefix: str) -> str:
    """A name of ``prefix``, this machine, this process's id and a random part; :func:`remove_abandoned` reads it."""
    return f"{prefix}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove temporaries that begin with ``prefix`` and whose process, of this machine, no longer runs."""
    for entry in os.scandir(folder):
        if not entry.name.startswith(prefix):
            continue
        machine, _, rest = entry.name.removeprefix(prefix).partition("-")
        process = rest.partition("-")[0]
        if machine != _machine() or not process.isdecimal() or _is_running(int(process)):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


def utf8_path(path: str | os.PathLike[str]) -> str:
    """``path`` for a library that takes UTF-8 only. Raises LikewiseError when the name is anything else."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        raise LikewiseError(
            f"the name {path} is not UTF-8, so not every library can open it; rename it, or its folder."
        ) from None


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut, if the system can do that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not offer it
            os.fsync(handle)
    finally:
        os.close(handle)


def _machine() -> str:
    """A name for this machine or container: others may share the folder, with the same ids of other processes."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _is_running(process: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
