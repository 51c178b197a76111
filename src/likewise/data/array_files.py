"""Array files: .npy as a memory map, with the ids that ``likewise embed`` writes beside it, and .npz."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.data.arrays import from_array
from likewise.data.items import Items, text_of
from likewise.data.source import Source, Wanted, opened
from likewise.errors import LikewiseError, closest
from likewise.files import from_json
from likewise.remote import Remote

Array = npt.NDArray[Any]
_ITEMS = ("x", "vectors", "embeddings", "embedding", "features", "data", "images", "arr_0")
_LABELS = ("y", "labels", "label", "targets", "target", "arr_1")
_IDS = ("ids", "id")
_NPY = b"\x93NUMPY"
IDS_BESIDE = ".ids.json"  # of NAME.npy, as ``likewise embed`` writes it: NAME.ids.json


def load_npy(path: Path, wanted: Wanted) -> Source | Items:
    """Open a .npy file as a memory map. The ids are those in NAME.ids.json, if ``likewise embed`` wrote it.

    Raises:
        LikewiseError: a damaged file, a file with Python objects, or as ``from_array``.
    """
    wanted.refuse(str(path), "a .npy file")
    array, beside = read_npy(path), path.with_suffix(IDS_BESIDE)
    ids, notes = None, ()  # type: tuple[list[str] | None, tuple[str, ...]]
    if array.ndim == 2 and beside.is_file():
        ids, notes = ids_beside(beside), (f"{path}: the ids are those in {beside.name}.",)
    return from_array(str(path), array, None, path=path, by_row=wanted.by_row, ids=ids, notes=notes)


def ids_beside(path: Path | Remote) -> list[str]:
    """The ids in a file that ``likewise embed`` wrote beside a .npy file. Raises LikewiseError when it is damaged."""
    try:
        with opened(path) as file:
            ids = from_json(file.read())["ids"]
    except (OSError, ValueError, KeyError, TypeError):
        ids = None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise LikewiseError(
            f"{path} is damaged or was not written by likewise; delete it, and rows have numbers as ids."
        )
    return ids


def load_npz(path: Path, wanted: Wanted) -> Source | Items:
    """Open a .npz file: an array of items, and arrays of labels and ids if it has these.

    ``columns``, ``labels`` and ``key`` name them; else the items are ``x`` or the only array with two axes or more, and
    the labels ``y``. Case does not matter. Only these arrays are read.

    Raises:
        LikewiseError: a damaged file, an array that is missing or holds Python objects, or as ``from_array``.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile(_other_kind(path, b"PK"))
        with np.load(path, allow_pickle=False) as arrays:
            return _from_npz(path, arrays, wanted)
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, LikewiseError):
            raise
        why = "an array holds Python objects" if "allow_pickle" in str(error) else str(error).partition("\n")[0]
        raise LikewiseError(f"{path} cannot be read as .npz ({why}); save it again with numpy.savez.") from error


def _from_npz(path: Path, arrays: Mapping[str, Array], wanted: Wanted) -> Source | Items:
    name, names = str(path), list(arrays)
    if wanted.image is not None or wanted.split is not None or len(wanted.columns) > 1:
        raise LikewiseError(
            f"{name} is a .npz file: name its array of items with columns=, and leave image and split out."
        )
    if wanted.columns:
        items = _array_named(name, wanted.columns[0], names, "columns")
    else:
        items = _one_of(names, _ITEMS) or _only_items(path, names)
    label = None
    if wanted.labels != "none" and wanted.by_row is None:
        of_items = (f"y{items[1:]}",) if items[0] in "xX" else ()  # x_train and y_train
        label = _one_of(names, (*of_items, *_LABELS)) if wanted.labels == "auto" else wanted.labels
    label = None if label is None else _array_named(name, label, names, "labels")
    key = _one_of(names, _IDS) if wanted.key is None else _array_named(name, wanted.key, names, "key")
    labels, ids = f", the labels {label!r}" if label else "", f", the ids {key!r}" if key else ""
    return from_array(
        name,
        arrays[items],
        None if label is None else arrays[label],
        by_row=wanted.by_row,
        ids=None if key is None else [text_of(each) for each in arrays[key].tolist()],
        notes=(f"{name}: the items are the array {items!r}{labels}{ids}.",),
    )


def _one_of(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted names that the file has."""
    known = {name.lower(): name for name in reversed(names)}
    return next((known[each.lower()] for each in wanted if each.lower() in known), None)


def _array_named(file: str, wanted: str, names: Sequence[str], option: str) -> str:
    found = _one_of(names, [wanted])
    if found is None:
        raise LikewiseError(
            f"{file} has no array {wanted!r} ({option}=).{closest(wanted, names)} It has {', '.join(names)}."
        )
    return found


def _only_items(path: Path, names: Sequence[str]) -> str:
    """The only array with two axes or more. Only the arrays' headers are read."""
    with zipfile.ZipFile(path) as file:
        large = [name for name in names if len(_shape(file, f"{name}.npy")) > 1]
    if len(large) != 1:
        has = f"{len(large)} arrays that may be the items ({', '.join(large)})" if large else "no array of items"
        raise LikewiseError(f"{path} has {has} among {', '.join(names)}; name one with columns=.")
    return large[0]


def _shape(file: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Of an array in a .npz file."""
    with file.open(name) as array:
        first = np.lib.format.read_magic(array) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape: tuple[int, ...] = read(array)[0]
    return shape


def read_npy(path: str | Path) -> Array:
    """The array of a .npy file, as a memory map.

    Raises:
        LikewiseError: the file is another one, damaged, or holds Python objects.
    """
    try:
        # open_memmap reads .npy alone; numpy.load takes .npz and pickles too, whatever the file's name is
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise LikewiseError(
            f"{path} cannot be read as .npy ({_why_no_npy(path, error)}); save it again with numpy.save."
        ) from error


def _why_no_npy(path: str | Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    other = _other_kind(path, _NPY)
    return other or ("it holds Python objects" if "object" in str(error) else str(error))


def _other_kind(path: str | Path, start: bytes) -> str:
    """What a file is that does not begin so; nothing if it does."""
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(start):
        return "it is damaged" if start == b"PK" else ""
    if head.startswith(b"PK"):
        return "it is a .npz, which holds several arrays"
    return "it is a .npy, which holds one array" if head == _NPY else "it is a file of another kind"


def read_vector(path: str | Path) -> npt.NDArray[np.float32]:
    """A .npy file of one vector, as (1, D). Raises LikewiseError when it holds anything else."""
    try:
        vector = np.asarray(np.load(path, allow_pickle=False))
        if vector.dtype.kind not in "buif":
            raise TypeError(vector.dtype)
        with np.errstate(over="ignore"):  # what overflows float32 is found when it is opened
            return vector.astype(np.float32).reshape(1, max(vector.shape))
    except (ValueError, TypeError, AttributeError, EOFError, OSError):
        raise LikewiseError(
            f"{path} is not a .npy file of one vector of real numbers; a model of vectors needs such a file."
        ) from None
