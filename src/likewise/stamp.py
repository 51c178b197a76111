"""The stamp of a file that a model made: whose weights, which items, which version. The check before it is used again.

A stamp is part of a file's metadata or of a score's protocol:

- ``model``: the hash of the model's file (:func:`hash_of`); ``likewise``: the version;
- for the items called NAME: ``NAME`` as it was typed, ``NAME_path`` in full if it is a path, ``NAME_parts`` with the
  sources of several parts in full, and a hash of the ids.
"""

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from likewise.errors import LikewiseError
from likewise.remote import is_url, without_secret

Stamp = dict[str, str | int | float]
T = TypeVar("T")
DIGEST_BYTES = 16
FEATURES = {"test": "--test_features", "queries": "--query_features"}  # in the place of these options
_PART = 1 << 24


def hash_of_bytes(content: bytes | memoryview) -> str:
    """What :func:`hash_of` gives for a file with these bytes."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def hash_of(*paths: Path) -> str:
    """blake2b (128 bit, hex) of the bytes of a file, or of several in turn. Cost: one pass, about a second per GB."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for path in paths:
        with open(path, "rb") as file:
            while part := file.read(_PART):
                digest.update(part)
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """A 32-bit hash (hex) of the package's .py files and their names, taken at the first call, in some 10 ms.

    It tells apart two states of a checkout that have one version.
    """
    folder, digest = Path(__file__).parent, hashlib.blake2b(digest_size=4)
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()} {hash_of(path)}\n".encode())
    return digest.hexdigest()


def refuse_other_model(file: Path | str, stamp: Mapping[str, object], model: str, renew: Sequence[str]) -> None:
    """Raises LikewiseError unless ``file`` was made with the model of this hash.

    Args:
        file: what is to be used.
        stamp: what it says of itself.
        model: the hash of the model that the run holds now.
        renew: the command that makes the file again, word by word.
    """
    made_with = stamp.get("model")
    if made_with != model:
        why = "was made with another model than the run has now" if made_with else "does not say which model made it"
        raise LikewiseError(f"{file} {why}; make it again with: {shlex.join(renew)}")


def source_in(stamp: Mapping[str, object], name: str) -> str:
    """How a command names the items NAME of a stamp now: as typed if that is still the same place, else in full.

    Items that are no path, such as an array, are DATA.
    """
    typed, path = str(stamp.get(name, "")), stamp.get(f"{name}_path")
    if path is not None:
        return typed if full_path(typed) == path else str(path)
    return typed if typed and os.path.exists(typed) else "DATA"


def source_words(stamp: Mapping[str, object], name: str, option: str = "") -> list[str]:
    """The words of a command that name the items NAME of a stamp: DATA, ``--option DATA``, or ``--features`` of parts.

    ``option`` is without dashes; empty for a word alone.
    """
    parts = shlex.split(str(stamp.get(f"{name}_parts", "")))
    if parts:
        return [word for part in parts for word in (FEATURES.get(option, "--features"), part)]
    return [f"--{option}"] * bool(option) + [source_in(stamp, name)]


def source_of(stamp: Mapping[str, object], name: str) -> dict[str, str] | str | None:
    """Where the items NAME of a stamp were: a path or URL, or sources of parts by their names.

    None of what was in memory.
    """
    parts = shlex.split(str(stamp.get(f"{name}_parts", "")))
    path = stamp.get(f"{name}_path")
    return dict(part.split("=", 1) for part in parts) if parts else None if path is None else str(path)


def without_places(stamp: Mapping[str, T]) -> dict[str, T]:
    """A stamp without full paths, which tell of the machine."""
    return {name: value for name, value in stamp.items() if not name.endswith(("_path", "_parts"))}


def full_path(typed: str) -> str:
    """The absolute path of what was typed, with ``~`` replaced; a URL without its keys."""
    if is_url(typed):
        return without_secret(typed)
    return os.path.abspath(os.path.expanduser(typed))
