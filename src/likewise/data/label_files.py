"""Labels from a file of their own: by row in .npy, by id in .parquet or .csv."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from likewise.data.array_files import read_npy
from likewise.data.arrays import label_list
from likewise.data.columns import Table, check_key, column_of
from likewise.data.csv_files import csv_table
from likewise.data.items import Items, as_id, encode_source_labels, text_of
from likewise.data.parquet import parquet_table
from likewise.data.parquet_schema import holds_labels, values_of
from likewise.errors import LikewiseError, closest
from likewise.files import as_path
from likewise.tables import stamp_of
from likewise.text import quoted, shortened

_SUFFIXES = (".npy", ".parquet", ".csv")


def names_file(labels: str) -> bool:
    """Whether ``labels`` is the name of a file, not "auto", "none" or a column."""
    return Path(labels).suffix.lower() in _SUFFIXES


def label_file(labels: str) -> Path | None:
    """The file that ``labels`` names; None for "auto", "none" and the name of a column.

    Raises:
        LikewiseError: there is no such file.
    """
    if not names_file(labels):
        return None
    path = as_path(labels, "labels")
    if not path.is_file():
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise LikewiseError(f"the file of labels {path} does not exist.{closest(path.name, siblings)}")
    return path


def refuse_shared(labels: str, advice: str) -> None:
    """Raises LikewiseError if ``labels`` is a file with a label for each row, which two sources would share."""
    if Path(labels).suffix.lower() == ".npy":
        raise LikewiseError(f"{labels} has a label for each row, so two sources can't share it; {advice}.")


def read_by_row(path: Path) -> list[object] | None:
    """The labels of a .npy file, one for each row; None for a file of labels by id."""
    return label_list(read_npy(path)) if path.suffix.lower() == ".npy" else None


def label_by_id(items: Items, path: Path, key: str | None) -> Items:
    """The items with the labels of a .parquet or .csv file, which has a column of ids and one of labels.

    The ids are in the column ``key`` if the file has it, else in ``id``; the labels in ``label``, or in the only other
    column. An item that the file does not name has no label, which a note says.

    Raises:
        LikewiseError: a missing column, an id with two labels, or no id that an item has.
    """
    name = str(path)
    known, unusable = set(items.ids), {item.id for item in items.skipped}
    labels: dict[str, Any] = {}
    example, strange = "", 0
    for text, label in rows_of(path, key):
        if text in unusable:
            continue
        if text not in known:
            strange, example = strange + 1, example or text
        else:
            _take(labels, text, label, name)
    if not labels:
        has = f"has ids such as {quoted(example)}" if strange else "holds no rows"
        raise LikewiseError(
            f"no id of {name} is that of an item: {items.source} has ids such as {quoted(items.ids[0])}, "
            f"and {name} {has}; name the column of ids with key=."
        )
    notes, without = list(items.notes), [id for id in items.ids if id not in labels]
    if without:
        notes.append(
            f"{name}: {len(without):,} of the {len(items):,} items have no label there, such as {quoted(without[0])}."
        )
    if strange:
        notes.append(f"{name}: {strange:,} of its ids are no items, such as {quoted(example)}.")
    encoded, names = encode_source_labels([labels.get(id) for id in items.ids])
    return replace(items, labels=encoded, label_names=names, notes=tuple(notes))


def label_few(items: Items, labels: Path | Mapping[str, object], key: str | None = None) -> Items:
    """The items with labels by id, from a file as :func:`label_by_id` reads it, or a mapping of ids.

    The labels of items that could not be used are left out. Raises LikewiseError on a missing column, an id with two
    labels, an id that no item has, with the closest, and a table of ``likewise classify``, which holds found labels.
    """
    if isinstance(labels, Path) and stamp_of(labels).get("command") == "classify":
        raise LikewiseError(
            f"{labels} holds the labels that likewise classify found, not those that somebody gave; give the file "
            "that it was given, or a file of the rows whose column given is true."
        )
    known, unusable = set(items.ids), {item.id for item in items.skipped}
    name = str(labels) if isinstance(labels, Path) else "labels"
    rows = rows_of(labels, key) if isinstance(labels, Path) else ((as_id(id), each) for id, each in labels.items())
    found: dict[str, Any] = {}
    for text, label in rows:
        if text in unusable:
            continue
        if text not in known:
            hint = closest(text, items.ids[:100_000], shown=shortened)
            raise LikewiseError(f"{name} has a label for {quoted(text)}, which is no item of {items.source}.{hint}")
        _take(found, text, label, name)
    encoded, names = encode_source_labels([found.get(id) for id in items.ids])
    return replace(items, labels=encoded, label_names=names)


def rows_of(path: Path, key: str | None) -> Iterator[tuple[str, Any]]:
    """The id and the label of each row of a .parquet or .csv file. Raises LikewiseError on a missing column."""
    table = parquet_table(path) if path.suffix.lower() == ".parquet" else csv_table(path, texts=set, numbers=False)
    ids, column = _columns(table, key)
    for batch in table.batches([ids, column]):
        for id, value in zip(values_of(batch.column(ids)), values_of(batch.column(column)), strict=True):
            yield "" if id is None else as_id(text_of(id)), table.read_label(value)


def _take(labels: dict[str, Any], id: str, label: Any, name: str) -> None:
    if labels.setdefault(id, label) != label:
        raise LikewiseError(
            f"{name} gives {quoted(id)} the labels {quoted(labels[id])} and {quoted(label)}; keep the "
            "right one, or write both as a list."
        )


def _columns(table: Table, key: str | None) -> tuple[str, str]:
    """The columns of ids and labels."""
    names = table.schema.names
    ids = key if key is not None and table.has(key) else column_of("id", names) or "id"
    check_key(ids, [table])
    others = [each for each in names if each != ids]
    column = others[0] if len(others) == 1 else column_of("label", names) or "label"
    if not holds_labels(kind := table.type_of(column)):
        raise LikewiseError(f"{table.where}: column {column!r} holds {kind}, not labels; give one of text or numbers.")
    return ids, column
