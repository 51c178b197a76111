"""Recognises what the user gave: a folder, a file, an array or a Dataset."""

import os

from likewise.data.arrays import Vectors, find_array, load_npy
from likewise.data.decode import IMAGE_SUFFIXES
from likewise.data.folder import Folder, list_images
from likewise.data.parquet import is_own, open_parquet
from likewise.data.source import KINDS, Source, refuse_columns
from likewise.errors import LikewiseError, closest
from likewise.files import as_path


def find_source(source: object, *, labels: str, key: str | None) -> Source | Vectors:
    """Recognise what the user gave.

    Raises:
        LikewiseError: missing, empty, not understood, or options that do not fit it.
    """
    if not isinstance(source, str | os.PathLike):
        return find_array(source, labels=labels, key=key)
    path = as_path(source, "DATA")
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise LikewiseError(f"{source} does not exist.{closest(path.name, siblings)} Give {KINDS}.")
    if path.suffix.lower() == ".parquet" and path.is_file():
        return open_parquet(str(source), [path], labels=labels, key=key)
    if path.suffix.lower() == ".npy" and path.is_file():
        return load_npy(path, labels=labels, key=key)
    if not path.is_dir():
        hint = "; for a single image, give the folder it is in" if path.suffix.lower() in IMAGE_SUFFIXES else ""
        raise LikewiseError(f"{source} is not a source of items{hint}: give {KINDS}.")
    files, others = list_images(path)
    if files:
        refuse_columns(str(source), "a folder of images", labels, key)
        return Folder(name=str(source), files=tuple(files), with_labels=labels == "auto")
    tables = sorted(other for other in others if other.suffix.lower() == ".parquet" and not is_own(other))
    if tables:
        return open_parquet(str(source), tables, labels=labels, key=key)
    seen = f"only {len(others):,} other files, such as {others[0].name}" if others else "no files at all"
    raise LikewiseError(f"{source} holds no images, it has {seen}; give {KINDS}.")
