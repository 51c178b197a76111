"""Parquet files with an image column (Hugging Face style) as a source of items."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from likewise.data.decode import BadItem
from likewise.data.source import KINDS, Entry, sign, stat_line
from likewise.errors import LikewiseError, closest
from likewise.files import utf8_path


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Parquet files with an image column, read batch by batch."""

    name: str
    files: tuple[Path, ...]
    total: int
    image_column: str
    key_column: str | None
    label_column: str | None

    def signature(self) -> str:
        """A hash over the path, size and times of every file, and the columns."""
        parts = [self.image_column, self.key_column or ""]
        for path in self.files:
            parts += [os.path.abspath(path), stat_line(path)]
        return sign(parts)

    def entries(self) -> Iterator[Entry]:
        """One per row, in the files' order."""
        columns = [self.image_column] + ([self.key_column] if self.key_column else [])
        for path in self.files:
            prefix = f"{path.relative_to(self.name).as_posix()} " if len(self.files) > 1 else ""
            row = 0
            for batch in self._batches(path, columns):
                images = batch.column(self.image_column).to_pylist()
                keys = batch.column(self.key_column).to_pylist() if self.key_column else [None] * len(images)
                for image, key in zip(images, keys, strict=True):
                    yield self._entry(f"{prefix}row {row}", image, key)
                    row += 1

    def labels(self, rows: Sequence[int]) -> list[object] | None:
        """The label column at these rows; a column of lists gives several labels per item."""
        if self.label_column is None:
            return None
        values: list[object] = []
        for path in self.files:
            for batch in self._batches(path, [self.label_column], size=65536):
                values += batch.column(self.label_column).to_pylist()
        return [values[row] for row in rows]

    def _entry(self, row: str, image: Any, key: object) -> Entry:
        struct = image if isinstance(image, dict) else {"bytes": image}
        data, path = struct["bytes"], struct.get("path")
        if self.key_column and key is None:
            return Entry(row, partial(_fail, f"no id (column {self.key_column!r} is empty)"))
        id = str(key) if self.key_column else str(path) if path else row
        if data is None:
            return Entry(id, partial(_fail, "no image bytes (null)"))
        return Entry(id, lambda: data)

    def _batches(self, path: Path, columns: list[str], size: int = 64) -> Iterator[Any]:
        import pyarrow
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(utf8_path(path), memory_map=True) as file:
                yield from file.iter_batches(batch_size=size, columns=columns)
        except (pyarrow.ArrowException, OSError) as error:
            raise LikewiseError(f"{path} cannot be read as parquet ({_line(error)}); replace or remove it.") from error


def is_own(path: Path) -> bool:
    """Whether likewise wrote the file, such as an index in a run folder among the data. Reads the footer only."""
    import pyarrow
    from pyarrow import parquet

    try:
        with open(path, "rb") as file:
            return b"likewise" in (parquet.read_schema(file).metadata or {})
    except (pyarrow.ArrowException, OSError):
        return False  # open_parquet says what is wrong with it


def open_parquet(name: str, files: list[Path], *, labels: str, key: str | None) -> Parquet:
    """Read the schemas of the files, choose the columns, count the rows.

    Raises:
        LikewiseError: a damaged file, no image column, a missing column, a label column without labels, or no rows.
    """
    import pyarrow
    from pyarrow import parquet

    total, columns, image, label = 0, list[str](), None, None
    for path in files:
        try:
            with parquet.ParquetFile(utf8_path(path)) as file:
                schema, rows = file.schema_arrow, file.metadata.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            raise LikewiseError(f"{path} cannot be read as parquet ({_line(error)}); replace or remove it.") from error
        if not columns:
            columns, image = list(schema.names), _image_column(schema, path)
            label = {"auto": "label" if "label" in columns else None, "none": None}.get(labels, labels)
        for wanted in (image, key, label):
            if wanted is not None and wanted not in schema.names:
                raise LikewiseError(
                    f"{path} has no column {wanted!r}.{closest(wanted, schema.names)} "
                    f"Its columns are {', '.join(schema.names)}."
                )
        if label is not None and not _holds_labels(schema.field(label).type):
            raise LikewiseError(
                f"{path}: column {label!r} holds {schema.field(label).type}, not labels; name one of text or numbers, "
                "or of lists of these, or give labels=none."
            )
        total += rows
    if image is None or total == 0:
        raise LikewiseError(f"{name} holds no rows; give {KINDS}.")
    return Parquet(name=name, files=tuple(files), total=total, image_column=image, key_column=key, label_column=label)


def _image_column(schema: Any, path: Path) -> str:
    from pyarrow import types

    for field in schema:
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    for field in schema:
        if types.is_binary(field.type) or types.is_large_binary(field.type):
            return str(field.name)
    listing = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise LikewiseError(f"{path} has no image column (a struct with bytes, or binary); its columns are {listing}.")


def _holds_labels(kind: Any, *, lists: bool = True) -> bool:
    """Whether a column of this type can hold labels: text, numbers, dates or lists of them, but no bytes."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _holds_labels(kind.value_type, lists=lists)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return lists and _holds_labels(kind.value_type, lists=False)
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return not (is_bytes or types.is_nested(kind))


def _fail(reason: str) -> bytes:
    raise BadItem(reason)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip(" .")
