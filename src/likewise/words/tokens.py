"""Turns sources into batches of words and ends of sequences: texts, columns of parquet, and lists in Python."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from likewise.config.word_settings import TextSettings
from likewise.errors import LikewiseError
from likewise.files import as_path, utf8_path
from likewise.text import quoted, readable
from likewise.words.texts import STDIN, Texts

END = "\n"  # after each sequence, in a batch of words; no word of a text is one
LINES = {"words": re.compile(r"\w+|\n"), "spaces": re.compile(r"[^\s]+|\n")}
ROWS = 8192  # of parquet, and sequences in Python, read at once
SOURCES = "a text, a folder of texts, gzip, a parquet file with a column of strings or lists, or - for standard input"

Batch = list[str]  # words, and END after each sequence
Share = Callable[[float], None]  # is told which share is read; nothing where that is not known


@runtime_checkable
class Table(Protocol):
    """A DataFrame of any library, which gives the names of its columns when it is read as a list."""

    columns: Any


class Sequences(ABC):
    """The sequences of a source, which may be read once. Subclasses are final.

    Args:
        name: of the source, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []

    @abstractmethod
    def batches(self, share: Share) -> Iterator[Batch]:
        """Batches of words, with END after each sequence. A sequence may go on in the next batch."""


class TextSequences(Sequences):
    """Lines or paragraphs of texts."""

    def __init__(self, texts: Texts, settings: TextSettings) -> None:
        super().__init__(STDIN if texts.name == "-" else texts.name)
        self.texts, self.settings = texts, settings

    def batches(self, share: Share) -> Iterator[Batch]:
        """See :class:`Sequences`."""
        total = max(1, self.texts.size)
        split = splitter(self.settings)
        for block in self.texts.blocks(lambda done: share(done / total)):
            yield split(block)
        if self.texts.control:
            self.notes.append(f"{self.texts.control:,} control characters are read as spaces.")


class ColumnSequences(Sequences):
    """A column of parquet: each row is a text, or a list whose values are the words."""

    def __init__(self, path: Path, columns: tuple[str, ...], settings: TextSettings) -> None:
        super().__init__(str(path))
        self.path, self.settings = path, settings
        self.column, self.lists = _column(path, columns)

    def batches(self, share: Share) -> Iterator[Batch]:
        """See :class:`Sequences`."""
        import pyarrow.parquet as pq

        split, row = splitter(self.settings), 0
        with pq.ParquetFile(utf8_path(self.path)) as file:
            total = max(1, file.metadata.num_rows)
            for table in file.iter_batches(batch_size=ROWS, columns=[self.column]):
                rows = table.column(0).to_pylist()
                if self.lists:
                    yield _joined(rows, f"{self.path}, column {self.column}, row", row)
                else:
                    yield [word for text in rows if text for word in split(text + "\n\n")]
                row += len(rows)
                share(row / total)


class ListSequences(Sequences):
    """Sequences in Python: each is a text, or an iterable of words."""

    def __init__(self, sequences: Iterable[Any], settings: TextSettings) -> None:
        super().__init__("the sequences")
        self.sequences, self.settings = sequences, settings

    def batches(self, share: Share) -> Iterator[Batch]:
        """See :class:`Sequences`."""
        split = splitter(self.settings)
        for row, sequence in enumerate(self.sequences):
            if isinstance(sequence, str):
                yield split(sequence + "\n\n")
            elif isinstance(sequence, bytes | bytearray) or not isinstance(sequence, Iterable | None):
                raise LikewiseError(
                    f"sequence {row}: {quoted(sequence)} is neither a text nor a list of words; give a list of these."
                )
            else:
                yield _joined([sequence], "sequence", row)


def opened(source: object, settings: TextSettings, columns: tuple[str, ...] = ()) -> Sequences:
    """The sequences of a source: see ``SOURCES``; from Python also an iterable of texts or of lists of words.

    Raises LikewiseError when there is no such file, or it has no such column.
    """
    if not isinstance(source, str | Path):
        if not isinstance(source, Iterable):
            raise LikewiseError(f"{quoted(source)} is no source of words; give {SOURCES}.")
        if isinstance(source, Table):
            raise LikewiseError("a DataFrame is no source of words; give a column of texts or lists of it.")
        return ListSequences(source, settings)
    if str(source) != "-" and as_path(source, "the text").suffix.lower() == ".parquet":
        return ColumnSequences(as_path(source, "the text"), columns, settings)
    if columns:
        raise LikewiseError(f"--columns names a column of parquet, but {source} is a text; leave it out.")
    return TextSequences(Texts(source), settings)


def splitter(settings: TextSettings) -> Callable[[str], Batch]:
    """The function from a text to its words and ENDs. With ends=paragraph an END counts where two come together."""
    find = LINES[settings.tokens].findall
    return (lambda text: find(text.lower())) if settings.tokens == "words" else find


def _joined(rows: Iterable[Any], where: str, first: int) -> Batch:
    """Lists as one batch. Raises LikewiseError on a row that is no list, and on a word that is None or a list."""
    batch: Batch = []
    for number, row in enumerate(rows, start=first):
        if row is None:
            continue
        for word in row:
            if not isinstance(word, str | Integral) or word == "":
                raise LikewiseError(f"{where} {number}: {quoted(word)} is no word; words are texts or whole numbers.")
            batch.append(str(word) if word != END else readable(END))
        batch.append(END)
    return batch


def _column(path: Path, columns: tuple[str, ...]) -> tuple[str, bool]:
    """The column of words, and whether its values are lists. Raises LikewiseError when it is not clear which."""
    import pyarrow
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(utf8_path(path))
    except FileNotFoundError:
        raise LikewiseError(f"there is no file {path}.") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise LikewiseError(
            f"{path} is no parquet file ({str(error).splitlines()[0]}); repair or replace it."
        ) from None
    kinds = {field.name: _kind(field.type) for field in schema}
    usable = [name for name, kind in kinds.items() if kind is not None]
    if columns:
        if len(columns) > 1 or columns[0] not in kinds:
            raise LikewiseError(f"--columns must name one column of {path}; it has {', '.join(kinds)}.")
        usable = [name for name in columns if name in usable]
        if not usable:
            raise LikewiseError(f"{path}: column {columns[0]} holds neither strings nor lists of words.")
    lists = [name for name in usable if kinds[name]]
    chosen = lists if len(lists) == 1 else usable
    if len(chosen) != 1:
        what = f"several columns of words ({', '.join(chosen)})" if chosen else "no column of strings or lists"
        raise LikewiseError(f"{path} has {what}; name one with --columns, of {', '.join(kinds)}.")
    return chosen[0], bool(kinds[chosen[0]])


def _kind(kind: Any) -> bool | None:
    """True for lists of strings or integers, False for strings, None for others."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        fine = types.is_string(inner) or types.is_large_string(inner) or types.is_integer(inner)
        return True if fine else None
    return False if types.is_string(kind) or types.is_large_string(kind) else None
