"""Which columns of a table are the labels and the ids: of parquet files, CSV files and frames."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from likewise.data.parquet_files import split_of
from likewise.data.parquet_schema import column_type, family, holds_ids, holds_labels, is_images
from likewise.data.source import Wanted
from likewise.errors import LikewiseError


def as_it_is(value: Any) -> Any:
    """The value itself."""
    return value


@dataclass(frozen=True)
class Table:
    """A file or frame before its columns are chosen.

    Args:
        where: the file or frame, for messages.
        name: stands before "row 7" in ids; empty for a table alone.
        schema: Arrow's.
        batches: gives Arrow record batches with the columns of these names, each of a few megabytes where it is read
            from a file. It may be called once only.
        partitions: values of columns that the file's folders stand for, without those that the file has too.
        read_label: gives the label that a value stands for, where the file has no types of its own.
        first: the number of its first row; 0 unless it is a part of a file.
    """

    where: str
    name: str
    schema: Any
    batches: Callable[[Sequence[str]], Iterator[Any]]
    partitions: Mapping[str, str | None]
    read_label: Callable[[Any], Any] = as_it_is
    first: int = 0

    @property
    def names(self) -> list[str]:
        """Of its columns, those that the folders stand for last."""
        return [*self.schema.names, *self.partitions]

    def has(self, column: str) -> bool:
        """Whether it has a column of that name."""
        return column in self.names

    def type_of(self, column: str) -> Any:
        """Of a column; None for one that the folders stand for. Raises LikewiseError if there is none, or several."""
        return column_type(self.schema, self.partitions, column, self.where)

    def row_name(self, row: int) -> str:
        """The id of a row that has no other."""
        return f"{self.name} row {self.first + row}".lstrip()


def column_of(role: str, names: Sequence[str]) -> str | None:
    """The column called ``role``, such as "label", or else the only one called so in other letters or with spaces."""
    alike = [role] if role in names else [name for name in names if name.strip().lower() == role]
    return alike[0] if len(alike) == 1 else None


def index_columns(names: Sequence[str]) -> list[str]:
    """The first columns, if pandas wrote its index there: without a name, or "Unnamed: 0" when it is written again."""
    return list(takewhile(re.compile(r"(Unnamed: 0(\.\d+)*)?$").match, names))


def text_columns(wanted: Wanted, names: Sequence[str]) -> set[str | None]:
    """The columns that are read as text whatever they hold: ids keep their zeros and digits, as labels do."""
    label = column_of("label", names) if wanted.labels in ("auto", "none") else wanted.labels
    key = wanted.key if wanted.key in names or not wanted.part else None
    return {key or column_of("id", names), label, *index_columns(names)}


def label_column(labels: str, tables: Sequence[Table]) -> tuple[str | None, list[str]]:
    """The column of the labels, and a note where folders stand for it or it has another name than asked.

    Raises:
        LikewiseError: no such column, one that holds no labels, or one that some tables lack.
    """
    if labels == "none":
        return None, []
    found = [column_of("label", table.names) for table in tables] if labels == "auto" else [labels]
    column = next((name for name in found if name is not None), None)
    if column is None:
        return None, _said_of_folders(tables)
    lacking = next((table for table in tables if not table.has(column)), None)
    if labels == "auto" and lacking is not None:
        raise LikewiseError(
            f"{lacking.where} has no column {column!r}, which other files have: give only files that have it, or "
            "labels=none."
        )
    kinds = [(table, table.type_of(column)) for table in tables]
    inside = [(table, kind) for table, kind in kinds if kind is not None]
    for table, kind in inside:
        if not holds_labels(kind):
            raise LikewiseError(
                f"{table.where}: column {column!r} holds {kind}, not labels; name one of text or numbers, or of lists "
                "of these, or give labels=none."
            )
    families = dict[str | None, str]()
    for table, kind in inside:
        families.setdefault(family(kind), f"{kind} in {table.where}")
    families.pop(None, None)
    if len(families) > 1:
        first, other, *_ = families.values()
        raise LikewiseError(
            f"column {column!r} holds {first}, but {other}: the same label would be two; write all files with one type."
        )
    if not inside:
        return column, [f"the labels are those in the folders' names, such as {column}={_value(tables, column)}."]
    return column, [f"the labels are the column {column!r}."] if labels == "auto" and column != "label" else []


def _said_of_folders(tables: Sequence[Table]) -> list[str]:
    """A note where the folders' names might be meant as labels."""
    named = ", ".join(repr(name) for name in dict.fromkeys(name for table in tables for name in table.partitions))
    if named:
        return [f"the folders' names stand for {named}, which are no labels unless labels= names one."]
    folders = [table.name.rpartition("/")[0].rpartition("/")[2] for table in tables]
    if len(set(folders)) < 2 or any(not folder or split_of(folder) for folder in folders):
        return []
    return [f"the folders' names, such as {folders[0]!r}, are no labels unless they are written label={folders[0]}."]


def _value(tables: Sequence[Table], column: str) -> str | None:
    return next((value for table in tables if (value := table.partitions[column]) is not None), None)


def check_key(key: str, tables: Sequence[Table]) -> None:
    """Raises LikewiseError if a table has no such column, or one that can't name items."""
    for table in tables:
        kind = table.type_of(key)
        if kind is not None and not holds_ids(kind):
            raise LikewiseError(
                f"{table.where}: column {key!r} holds {kind}, not ids; name one of text or numbers with key=, or leave "
                "key out."
            )


def wants_vectors(wanted: Wanted, images: Sequence[str]) -> bool:
    """Whether a table is read as vectors: ``columns`` is given, or it has no columns of images and none are named."""
    return bool(wanted.columns) or (wanted.image is None and not images)


def of_part(wanted: Wanted, tables: Sequence[Table]) -> Wanted:
    """What is wanted of tables that are a part of items: a column is named only where all of them have it.

    The content is the column that is called as the part, if there is one.
    """
    if not wanted.part:
        return wanted

    def has(column: str | None) -> bool:
        return column is not None and all(table.has(column) for table in tables)

    key = wanted.key if has(wanted.key) else None
    labels = wanted.labels if wanted.labels in ("auto", "none") or has(wanted.labels) else "none"
    wanted = replace(wanted, key=key, labels=labels)
    if wanted.columns or not all(wanted.part in table.schema.names for table in tables):
        return wanted
    if is_images(tables[0].type_of(wanted.part)):
        return replace(wanted, image=wanted.part)
    return replace(wanted, columns=(wanted.part,))
