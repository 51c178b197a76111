"""Recognises what the user gave: a folder, a file, a pattern of files, an array or a Dataset."""

import os
from functools import partial

from likewise.data.array_files import load_npy, load_npz
from likewise.data.arrays import find_array
from likewise.data.columns import text_columns
from likewise.data.csv_files import csv_table
from likewise.data.decode import IMAGE_SUFFIXES
from likewise.data.folder import Folder, list_images, one_class
from likewise.data.items import Items
from likewise.data.parquet import ParquetVectors, is_own, open_parquet
from likewise.data.parquet_files import ParquetPath, below, is_pattern, matching
from likewise.data.remote_sources import look_at_url
from likewise.data.source import KINDS, Source, Wanted
from likewise.data.tables import read_vectors
from likewise.errors import LikewiseError, closest
from likewise.files import as_path
from likewise.remote import is_url

TEXTS = (".txt", ".text", ".gz")


def find_source(source: object, wanted: Wanted) -> Source | Items:
    """Recognise what the user gave. Vectors become items at once; images are a source for the cache.

    Raises:
        LikewiseError: missing, empty, not understood, or options that do not fit it.
    """
    found = look_for(source, wanted)
    return found.items() if isinstance(found, ParquetVectors) else found


def look_for(source: object, wanted: Wanted) -> Source | ParquetVectors | Items:
    """As :func:`find_source`, but vectors in parquet are not read yet."""
    if not isinstance(source, str | os.PathLike):
        return find_array(source, wanted)
    if is_url(source):
        return look_at_url(str(source), wanted)
    name, path = str(source), as_path(source, "DATA")
    if not path.exists():
        if is_pattern(str(path)):
            return open_parquet(name, matching(str(path)), wanted)
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise LikewiseError(f"{source} does not exist.{closest(path.name, siblings)} Give {KINDS}.")
    if path.suffix.lower() == ".parquet" and path.is_file():
        return open_parquet(name, [ParquetPath(path=path, name=path.name)], wanted)
    if path.suffix.lower() == ".npy" and path.is_file():
        return load_npy(path, wanted)
    if path.suffix.lower() == ".npz" and path.is_file():
        return load_npz(path, wanted)
    if path.suffix.lower() == ".csv" and path.is_file():
        texts, numbers = partial(text_columns, wanted), not wanted.columns and not wanted.part
        return read_vectors(name, [csv_table(path, texts=texts, numbers=numbers)], wanted)
    if not path.is_dir():
        hint = "; for a single image, give the folder it is in" if path.suffix.lower() in IMAGE_SUFFIXES else ""
        hint = "; for vectors of its words, add --method skipgram" if path.suffix.lower() in TEXTS else hint
        raise LikewiseError(f"{source} is not a source of items{hint}: give {KINDS}.")
    found = list_images(path)
    if found.images:
        wanted.refuse(name, "a folder of images")
        wanted.refuse_rows(name, "a folder of images")
        with_labels = wanted.labels == "auto"
        notes = (*found.notes, *(one_class(name, found.images) if with_labels else ()))
        return Folder(name=name, files=tuple(found.images), with_labels=with_labels, notes=notes)
    tables = [other for other in found.others if other.suffix.lower() == ".parquet" and not is_own(other)]
    if tables:
        return open_parquet(name, below(path, tables), wanted, found.notes)
    others = found.others
    seen = f"only {len(others):,} other files, such as {others[0].name}" if others else "no files at all"
    raise LikewiseError(f"{source} holds no images, it has {seen}; give {KINDS}.")
