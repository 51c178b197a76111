"""Names of files, items and labels as text that people can read and every stream and file can hold; sizes in words."""

import re
from datetime import UTC, datetime

# Control characters; line and paragraph separators; marks that change the direction of writing.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def utf8(text: str) -> bytes:
    """``text`` for a file. A byte that is not UTF-8, in the name of a file, is written as ``\\xe9``."""
    return _valid(text).encode()


def readable(text: str) -> str:
    """``text`` for a terminal or a page: as :func:`utf8`, and control characters are written as ``\\x1b``, ``\\n``."""
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode(), _valid(text))


def shortened(text: str, most: int = 120) -> str:
    """``text``, or its two ends with … between if it has more than ``most`` characters."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def quoted(name: object) -> str:
    """An id or a label in quotes, for a message: :func:`shortened`."""
    return shortened(repr(name))


def _valid(text: str) -> str:
    """Python's names of files have a surrogate for each byte that does not fit their encoding."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()


def in_words(size: int) -> str:
    """``1.5 GB``: bytes with a unit."""
    for unit, name in ((10**15, "PB"), (10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}" if size < 10 * unit else f"{size / unit:,.0f} {name}"
    return f"{size:,} bytes"


def now_in_words() -> str:
    """The time in UTC, to the minute: ``2026-11-30 19:52 UTC``."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
