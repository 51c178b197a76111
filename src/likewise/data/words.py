"""Text and categories as vectors: each word is hashed to a column.

Dimension legend: B rows, W columns.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.data.items import as_id, text_of
from likewise.data.source import NO_TEXT
from likewise.data.vector_rows import Floats

WORDS = 512  # columns
_SIGN = 1 << 63
_WORD = re.compile(r"\w+")


def words_of(value: object) -> list[str]:
    """The words of a text, in small letters; of a list each element as one word, as it is."""
    if isinstance(value, list):
        return [text for each in value if each is not None and (text := text_of(each).strip())]
    return [] if value is None else _WORD.findall(as_id(text_of(value)).casefold())


@lru_cache(maxsize=1 << 18)
def place_of(word: str, width: int) -> tuple[int, float]:
    """The column of a word, and its sign. They are the same on every machine and in every version.

    They come from the first 8 bytes of blake2b (RFC 7693) of the word in UTF-8, read as a number, the lowest byte
    first: the highest bit is the sign (1 is −1), and the rest modulo ``width`` is the column. With signs, words that
    share a column add nothing to a cosine on average (Weinberger et al. 2009, "Feature Hashing").
    """
    number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
    return (number % _SIGN) % width, -1.0 if number & _SIGN else 1.0


def hashed(values: Sequence[object], width: int) -> tuple[Floats, npt.NDArray[np.int64], dict[int, str]]:
    """Texts or lists as rows: x[c] = Σ over the words of column c of their signs, divided by the length of the row.

    Args:
        values: N texts, or lists of texts; None for none.
        width: W.

    Returns:
        rows: float32 (B, W) of length 1, of the values that have words; zero where the words of a row cancel out.
        places: int64 (B,) of these values.
        bad: for each other value, the reason.

    Cost: one hash of each new word, and one pass over the words.
    """
    words = [words_of(value) for value in values]
    counts = np.array([len(each) for each in words], dtype=np.int64)
    places = np.flatnonzero(counts)
    rows = np.zeros((len(places), width), dtype=np.float32)
    found = [place_of(word, width) for each in words for word in each]
    columns, signs = np.array(found, dtype=np.float64).reshape(-1, 2).T
    owners = np.repeat(np.arange(len(places)), counts[places])
    np.add.at(rows, (owners, columns.astype(np.int64)), signs.astype(np.float32))
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    rows /= np.where(lengths > 0, lengths, 1.0)
    return rows, places, {place: NO_TEXT for place, each in enumerate(words) if not each}


def holds_text(kind: Any) -> bool:
    """Whether an Arrow column of this type holds text, or lists of text."""
    from pyarrow import types

    from likewise.data.parquet_schema import is_list

    if is_list(kind):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
