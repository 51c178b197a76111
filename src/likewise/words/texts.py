"""Reads texts as a stream of blocks: a file, gzip, a folder of these, or standard input. A block ends between words."""

import codecs
import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.text import quoted

BLOCK = 1 << 20  # bytes read at once
LONGEST = 1 << 20  # characters without white space after which a file is no text of words
GZIP = b"\x1f\x8b"
MARKS = {  # UTF-32's first, as its mark begins with UTF-16's
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
STDIN = "standard input"
CONTROL = re.compile("[\x01-\x08\x0e-\x1f\x7f-\x9f]")
SPACE = re.compile(r"\s")

ZEROS, MOST = 1000, 0.8  # bytes of the beginning, and the share of zeros among the high ones, that mean UTF-16

Told = Callable[[int], None]  # is told how many bytes of the files are read


class Texts:
    """The texts of a source.

    Args:
        source: a file, a folder, or ``-`` for standard input.

    Raises:
        LikewiseError: there is no such file, or the folder holds none.
    """

    def __init__(self, source: str | Path) -> None:
        self.name = str(source)
        self.control = 0  # characters that were read as spaces
        if self.name == "-":
            self.files: tuple[Path, ...] = ()
            return
        path = as_path(source, "the text")
        if path.is_dir():
            self.files = tuple(sorted(file for file in path.rglob("*") if _is_text(file, path)))
            if not self.files:
                raise LikewiseError(f"{path} holds no file of text; name a folder of texts.")
        elif path.exists():
            self.files = (path,)
        else:
            raise LikewiseError(f"there is no file or folder {path}; name a text, a folder of texts, or - for stdin.")

    @property
    def size(self) -> int:
        """Bytes of all files; 0 where it is not known."""
        return sum(file.stat().st_size for file in self.files)

    def blocks(self, told: Told) -> Iterator[str]:
        """The text in blocks of about a megabyte; a block ends at white space. A file ends with two line ends.

        Raises LikewiseError, with the file and the place, on UTF-16, on bytes that are no UTF-8, on binary files, on
        damaged gzip, and on a megabyte without white space.
        """
        done = 0
        for file in self.files:
            with _opened(file) as (stream, position):
                for block in _decoded(stream, str(file)):
                    told(done + position())
                    yield self._plain(block)
            done += file.stat().st_size
        if not self.files:
            yield from map(self._plain, _decoded(sys.stdin.buffer, STDIN))

    def _plain(self, text: str) -> str:
        """The text with a space for each control character."""
        if CONTROL.search(text) is None:
            return text
        text, count = CONTROL.subn(" ", text)
        self.control += count
        return text


def _decoded(stream: BinaryIO, name: str) -> Iterator[str]:
    """The text of a stream, in blocks that end at white space."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest, read = "", 0
    while data := stream.read(BLOCK):
        if read == 0:
            data = _begun(data, name)
        if b"\0" in data:
            raise LikewiseError(
                f"{name} holds a zero byte, at byte {read + data.index(0):,}: it is a binary file or no UTF-8 "
                "text; give a text in UTF-8."
            )
        try:
            text = rest + decoder.decode(data)
        except UnicodeDecodeError as error:
            raise _no_utf8(name, read, data, error) from None
        read += len(data)
        cut = next((at for at in range(len(text) - 1, -1, -1) if text[at].isspace()), -1) + 1
        rest = text[cut:]
        if len(rest) > LONGEST:
            raise LikewiseError(
                f"{name} has {len(rest):,} characters without white space, which begin {quoted(rest[:40])}: words "
                "must stand apart; split a text of such a language into words first."
            )
        yield text[:cut]
    try:
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise LikewiseError(f"{name} ends within a character: it is cut off; give the whole file.") from None
    yield rest + "\n\n"


def _is_text(file: Path, folder: Path) -> bool:
    """Whether a file of a folder is read: no hidden one, and none in a hidden folder."""
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The bytes of a file, decompressed, and a function that gives how many bytes of the file are read."""
    with open(file, "rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        try:
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream, raw.tell  # type: ignore[misc]
            else:
                yield raw, raw.tell
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise LikewiseError(f"{file} is damaged gzip ({error}); give the whole file.") from None


def _begun(data: bytes, name: str) -> bytes:
    """The first bytes, without UTF-8's mark. Raises LikewiseError on UTF-16 and UTF-32, with a mark or without."""
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            raise LikewiseError(
                f"{name} is {encoding}, not UTF-8; convert it: iconv -f {encoding} -t UTF-8 FILE > NEW."
            )
    if b"\0" in data:
        looks = next((each for each in ("UTF-16LE", "UTF-16BE") if _is_latin_in(data[:ZEROS], each)), None)
        if looks is not None:
            raise LikewiseError(
                f"{name} looks like {looks}, not UTF-8; convert it: iconv -f {looks} -t UTF-8 FILE > NEW."
            )
    return data.removeprefix(codecs.BOM_UTF8)


def _is_latin_in(data: bytes, encoding: str) -> bool:
    """Whether most characters of a text in UTF-16 would be Latin: every second byte is zero, the others are not."""
    high, low = (data[1::2], data[::2]) if encoding == "UTF-16LE" else (data[::2], data[1::2])
    return high.count(0) > MOST * len(high) and low.count(0) == 0


def _no_utf8(name: str, read: int, data: bytes, error: UnicodeDecodeError) -> LikewiseError:
    """A byte that is no UTF-8. The bytes around it say what it may be."""
    at = max(0, error.start)
    shown = error.object[max(0, at - 20) : at + 20].decode("latin-1")
    offset = read + len(data) - len(error.object) + at
    return LikewiseError(
        f"{name} is not UTF-8 at byte {offset:,} ({quoted(shown)} if it is latin-1); convert it: iconv -f LATIN1 -t "
        "UTF-8 FILE > NEW."
    )
