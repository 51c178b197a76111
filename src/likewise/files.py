"""Paths as users write them; files and folders written atomically: a reader sees the old or the new, never a part."""

import errno
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from likewise.errors import LikewiseError

LOCK = ".lock"  # in a temporary folder: the process that fills the folder holds the lock of this file
ABANDONED = 86_400  # seconds without a change after which a temporary is abandoned, where a file system has no locks


def from_json(text: bytes | str) -> Any:
    """The value of a JSON text, which may be damaged. Raises json.JSONDecodeError, a ValueError, if it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from None


def as_path(path: str | os.PathLike[str], what: str) -> Path:
    """The path, with ``~`` replaced by the home folder.

    Args:
        path: what the user wrote.
        what: what it is the path of, for the message, such as ``"--out"`` or ``"the run"``.

    Raises:
        LikewiseError: it is no path, is empty or blank, or begins with ``~`` and no home folder is known.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        raise LikewiseError(f"{what} can't be a value of type {type(path).__name__}; name a file or folder.") from None
    if not text.strip() or "\0" in text:
        raise LikewiseError(f"{what} is empty; name a file or folder.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise LikewiseError(
            f"{what} is {text}, but no home folder of this user is known; write the path in full, or set HOME."
        ) from None


def as_written_path(path: str | os.PathLike[str], what: str) -> Path:
    """A path from a file of settings or the environment, in which no shell has replaced ``$HOME``: as :func:`as_path`.

    Variables are replaced, unless the path exists as it is. Raises LikewiseError also when there is no such variable.
    """
    place = as_path(path, what)
    if place.exists():
        return place
    text = os.path.expandvars(place)
    unknown = re.search(r"\$(\w+|\{.*?\})", text)
    if unknown:
        raise LikewiseError(f"{what} is {path}, but there is no variable {unknown[0]}; write the path in full.")
    return Path(text)


def place_for(path: str | os.PathLike[str], what: str = "--out") -> Path:
    """The path of a file to be written, checked before the work: its folder is made if it is missing.

    Raises:
        LikewiseError: as :func:`as_path`; the path is a folder or a device; or no file can be written there.
    """
    place = as_path(path, what)
    refuse_special(place)
    make_writable(place.parent, f"can't write {place}", what)
    return place


def make_writable(folder: Path, failed: str, what: str = "--out") -> None:
    """Makes a folder. Raises LikewiseError, which begins with ``failed``, when no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror
        raise LikewiseError(f"{failed}: {reason}; choose another {what}.") from error


def unwritten(path: Path, error: OSError) -> LikewiseError:
    """What to raise when the model of a run could not be written."""
    mend = "check that the folder is there, writable and not full, then resume"
    return LikewiseError(f"could not write {path} ({error.strerror}); {mend}.")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that gets the name ``path`` only when it is complete and on disk.

    The bytes go to a temporary in the same folder, are fsynced and then renamed. On any error (a full disk, Ctrl-C)
    the temporary is removed and a file already at ``path`` stays as it was. After ``kill -9`` the temporary stays;
    the next ``atomic_write`` of the same path removes it.

    Args:
        path: the file to write; its folder must exist.

    Raises:
        LikewiseError: ``path`` is a folder, a device or another thing that is no regular file.
        OSError: from the file system, such as no space left; it names ``path``, not the temporary.
    """
    path = Path(path)
    refuse_special(path)
    prefix = f".{path.name}.tmp-"
    remove_abandoned(path.parent, prefix)
    try:
        file = _temporary_file(path.parent, prefix)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    temporary = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":  # an open file can't be renamed there
                file.close()
            os.replace(temporary, path)  # while its lock is held, so that nobody takes it for abandoned
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # nobody knows the temporary's name
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def refuse_special(path: Path) -> None:
    """Raises LikewiseError when something that is no regular file, such as a device, has the name ``path``."""
    refuse_device(path)
    if path.is_dir():
        raise LikewiseError(f"{path} is a folder, not a file, so it is not replaced; name another file.")


def refuse_device(path: Path) -> None:
    """Raises LikewiseError when something that is neither a file nor a folder has the name ``path``."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise LikewiseError(
            f"{path} is a device, pipe or socket, not a file, so it is not replaced; name another file."
        )


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in ``parent``. It is removed at the end unless :func:`replace_folder` has moved it.

    First removes folders with the same prefix that killed processes have left.
    """
    remove_abandoned(parent, prefix)
    folder = parent / temporary_name(prefix)
    with held_folder(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Makes ``folder``. Until the block ends, :func:`remove_abandoned` leaves it alone, in other containers too."""
    handle = _hold(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


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
    (final / LOCK).unlink(missing_ok=True)
    sync_folder(final.parent)


def temporary_name(prefix: str) -> str:
    """``prefix`` and a random part."""
    return prefix + secrets.token_hex(8)


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Removes temporaries whose names begin with ``prefix`` and that no process writes any more.

    Whoever writes a temporary holds its lock, which the kernel gives back when the process ends. So this holds between
    containers and machines too, where process ids mean other processes. Without locks, age decides.
    """
    for entry in os.scandir(folder):
        if entry.name.startswith(prefix):
            with suppress(OSError):  # removed meanwhile, or another user's
                _remove_if_abandoned(Path(entry.path), entry.is_dir(follow_symlinks=False))


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


def _temporary_file(folder: Path, prefix: str) -> BinaryIO:
    """A new file whose lock this process holds until the file is closed."""
    while True:
        file = open(folder / temporary_name(prefix), "xb")  # noqa: SIM115 (the caller closes it)
        if _is_ours(file.fileno()):
            return file
        file.close()  # another process took it for abandoned before its lock was held


def _hold(folder: Path) -> int | None:
    """Makes a folder and takes its lock; returns the descriptor of its lock file."""
    while True:
        folder.mkdir(exist_ok=True)
        if sys.platform == "win32":  # a folder with an open file can't be renamed there
            return None
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # another process took it for abandoned
            continue
        if _is_ours(handle):
            return handle
        os.close(handle)


def _is_ours(handle: int) -> bool:
    """Whether this process now holds the lock of an open file that still has a name (or there are no locks here)."""
    return _lock(handle) is not False and os.fstat(handle).st_nlink > 0


def _lock(handle: int) -> bool | None:
    """Takes the lock of an open file, until it is closed. False: another process has it; None: there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _remove_if_abandoned(path: Path, is_folder: bool) -> None:
    newest = max(entry.stat(follow_symlinks=False).st_mtime for entry in (path, *(path.iterdir() if is_folder else ())))
    handle = os.open(path / LOCK if is_folder else path, os.O_RDWR | (os.O_CREAT if is_folder else 0))
    try:
        free = _lock(handle)
        if not (free or (free is None and time.time() - newest > ABANDONED)):
            return
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)
