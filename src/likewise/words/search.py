"""Searches the index of a run of words, without loading the vectors."""

from collections.abc import Sequence
from pathlib import Path

from likewise.errors import LikewiseError, closest
from likewise.index.hits import Hit
from likewise.stamp import hash_of
from likewise.text import quoted, readable, utf8
from likewise.words.model import NAME, own_index

FREQUENT = 30_000  # words among which the one that was meant is looked for


def search_words(run: Path, query: str, k: int, where: str | Sequence[str] = ()) -> list[Hit]:
    """The ``k`` words most alike to a word, which is looked up as it is written, and then in lower case.

    ``where`` are conditions, as for ``Index.search``; words have no columns. Raises LikewiseError when the run has no
    index, another model made it, or the word has no vector.
    """
    index = own_index(run, hash_of(run / NAME))
    name = utf8(query).decode()  # as words are written, whatever the encoding of the command line
    found = next((word for word in (name, name.lower()) if word in index), None)
    if found is None:
        near = closest(name.lower(), index.ids[:FREQUENT], shown=readable)
        like = "" if near else f"; the words with one look like {quoted(index.ids[0])}"
        raise LikewiseError(f"{quoted(name)} has no vector{like}.{near}")
    return index.search(found, k, where=where)
