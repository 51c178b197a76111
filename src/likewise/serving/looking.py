"""The parts of a run's look, for the routes: read from the run's folder, or made beside the server and kept there."""

import asyncio
import functools
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from likewise.console import Tick
from likewise.errors import LikewiseError
from likewise.files import make_writable
from likewise.look import Look
from likewise.look.parts import make_part, read_part, write_part
from likewise.serving.aside import Aside, Ended
from likewise.serving.loaded import look_to_serve, signature
from likewise.serving.refused import Refused, busy
from likewise.serving.settings import FOLDER, Serving
from likewise.serving.worker import Live

FEW = 2_000  # items of which each part takes a second or so: it is made at once
_SHARE = "share"  # the file of the share of the map that is made

T = TypeVar("T")


class Looking:
    """Gives the routes the parts of the look of the run that is served now.

    A part that is not in the run's folder is made by one process beside the server; all servers of the run, and all
    processes of each, take turns at this, so that none makes what another has made. Where the run's folder can't be
    written, a folder of this process takes its place.

    Args:
        live: what is served.
        serving: what the process beside reads.
    """

    def __init__(self, live: Live, serving: Serving) -> None:
        self._live, self._serving = live, serving
        self._aside, self._turn = Aside(lambda: live.stopping), asyncio.Lock()
        self._signed = live.now.signed  # not the run itself, which would stay in memory
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def now(self) -> Look:
        """The look for one request, also where another run is served before its answer.

        Raises Refused when the index is not in this process, so that there are no points.
        """
        look = self._live.now.look
        if look is None:
            raise Refused(409, "the index is on servers, so there is no map; search by id or picture.")
        return look

    async def part(self, look: Look, name: str) -> bytes:
        """A part of a look; see ``PARTS``. Raises Refused where what it needs is not there."""
        if name not in look.parts:
            self._end_of_former()
            found = await told(lambda: self._kept(look, name))
            if found is None:
                async with self._turn:  # one is made at a time; who waits for the same one finds it kept
                    found = await told(lambda: self._kept(look, name) or self._made(look, name))
            look.parts[name] = found
        return look.parts[name]

    async def share(self) -> float:
        """The share of the map that is made."""
        look = self.now()
        if "points" in look.parts:
            return 1.0
        try:
            return float((self._folder(look) / _SHARE).read_text("ascii"))
        except (OSError, ValueError):
            return 0.0

    def end(self) -> None:
        """Ends the process beside the server."""
        self._aside.end()

    def _end_of_former(self) -> None:
        """Ends the process that works for the former run, if there is a new one."""
        if self._signed != self._live.now.signed:
            self._signed = self._live.now.signed
            self._aside.end()

    def _folder(self, look: Look) -> Path:
        """Where parts are kept."""
        if self._own is None:
            try:
                make_writable(look.run / FOLDER, "")
                return look.run / FOLDER
            except LikewiseError:
                self._own = tempfile.TemporaryDirectory(prefix="likewise-look-")
        return Path(self._own.name)

    def _kept(self, look: Look, name: str) -> bytes | None:
        look.check(name)
        return read_part(self._folder(look), name, look.stamp(name))

    def _made(self, look: Look, name: str) -> bytes:
        folder = self._folder(look)
        if len(look.index) <= FEW:
            made = make_part(look, name)
            with suppress(OSError):  # a full disk: the next server makes it again
                write_part(folder, name, made, look.stamp(name))
            return made
        with suppress(OSError):
            (folder / _SHARE).unlink(missing_ok=True)  # of a process that was ended
        try:
            self._aside.do(keep_part, self._serving, folder, name)
        except Ended as error:
            raise busy(str(error)) from None
        found = self._kept(look, name)
        if found is None:
            raise busy("the run or its data are others than were read; ask again, or start the server again.")
        return found


async def told(what: Callable[[], T], status: int = 409) -> T:
    """What is quickly told of a look, in a thread. Raises Refused with the status where it can't be."""
    try:
        return await asyncio.to_thread(what)
    except LikewiseError as error:
        raise Refused(status, str(error)) from None


def keep_part(serving: Serving, folder: Path, name: str) -> None:
    """Makes a part of the look and keeps it in a folder, unless it is there: what the process beside the server does.

    Raises LikewiseError as ``Look``.
    """
    look = _look_of(serving, folder, signature(serving))
    with FileLock(folder / ".lock"):
        stamp = look.stamp(name)
        if read_part(folder, name, stamp) is None:
            try:
                made = make_part(look, name)
            finally:
                (folder / _SHARE).unlink(missing_ok=True)
            try:
                write_part(folder, name, made, stamp)
            except OSError as error:
                raise LikewiseError(f"{folder} can't be written: {error.strerror}.") from error


@functools.lru_cache(1)
def _look_of(serving: Serving, folder: Path, signed: str) -> Look:
    """The look of a run, read once for all of its parts; ``signed`` is other when the run is."""
    return look_to_serve(serving, _teller(folder / _SHARE))


def _teller(file: Path) -> Tick:
    """Writes the share of the map that is made, by hundredths."""
    told = ""

    def tell(share: float) -> None:
        nonlocal told
        if f"{share:.2f}" != told:
            told = f"{share:.2f}"
            file.write_text(told, "ascii")

    return tell
