"""The standard streams of a process whose output is closed, full, or of an encoding that lacks a character."""

import io
import os
import sys
from typing import Any, TextIO


class _Stream(io.FileIO):
    """A standard stream. From the first write that fails, everything goes to the null device instead.

    Args:
        handle: the file descriptor.
        name: what an ``OSError`` names; empty: no error is raised.
    """

    def __init__(self, handle: int, name: str) -> None:
        super().__init__(handle, "w", closefd=False)
        self._named = name

    def write(self, data: Any, /) -> int:
        """Writes, or raises an ``OSError`` that names the stream, once."""
        try:
            return super().write(data) or 0
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self._named:
                raise OSError(error.errno, error.strerror, self._named) from None
            return len(data)


def prepare_streams() -> None:
    """Makes the standard streams safe to write to. A character that a stream can't encode is written as ``\\u03bb``.

    A closed stream is opened on the null device, so that no file gets its number and the output of libraries. Standard
    error never raises: a run does not end because nobody reads its progress.
    """
    places = [None if stream is not None else _null_device() for stream in (sys.stdin, sys.stdout, sys.stderr)]
    sys.stdout = _safe(sys.stdout, places[1] or 1, "standard output")
    sys.stderr = _safe(sys.stderr, places[2] or 2, "")


def _null_device() -> int:
    handle = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is that of the closed stream
    os.set_inheritable(handle, True)
    return handle


def _safe(stream: TextIO | None, handle: int, name: str) -> TextIO:
    """The same stream, with no character that it can't encode, and with writes as in :class:`_Stream`."""
    encoding, each_line, at_once = "utf-8", not name, False
    if isinstance(stream, io.TextIOWrapper):
        encoding, each_line, at_once = stream.encoding, stream.line_buffering, stream.write_through
        if sys.platform == "win32":  # a console there takes no bytes
            stream.reconfigure(errors="backslashreplace")
            return stream
    raw = io.BufferedWriter(_Stream(handle, name))
    return io.TextIOWrapper(
        raw, encoding, "backslashreplace", line_buffering=each_line or at_once, write_through=at_once
    )
