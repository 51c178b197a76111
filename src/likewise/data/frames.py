"""Frames as tables: whatever gives Arrow's stream, such as a DataFrame of pandas or polars, or a Table of pyarrow."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from likewise.data.columns import Table
from likewise.errors import LikewiseError


@runtime_checkable
class Frame(Protocol):
    """An object with Arrow's stream interface. Its library is not imported."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def frame_table(frame: Frame) -> Table:
    """A frame as a table. Columns that Arrow holds as the frame does are not copied.

    Raises:
        LikewiseError: a column holds values of several types, or two columns have one name.
    """
    import pyarrow

    library, _, _ = type(frame).__module__.partition(".")
    where = f"the {library} {type(frame).__name__}"
    try:
        reader = pyarrow.RecordBatchReader.from_stream(frame)
    except OverflowError as error:
        raise LikewiseError(f"{where} holds a whole number of more than 64 bits; write that column as text.") from error
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        why = ": ".join(str(each).partition("\n")[0].strip(" .") for each in reversed(error.args)) or str(error)
        raise LikewiseError(f"{where} cannot be read ({why}); give each column one type and an own name.") from error

    def batches(columns: Sequence[str]) -> Iterator[Any]:
        for batch in reader:
            yield batch.select(list(columns))

    return Table(where, "", reader.schema, batches, {})
