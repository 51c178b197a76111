"""Vectors of words in word2vec's two formats, text and binary, which most tools read; GloVe's text too."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from likewise.errors import LikewiseError
from likewise.files import as_path, atomic_write
from likewise.text import quoted, utf8
from likewise.words.model import WordVectors

GZIP = ".gz"
ROWS = 4096  # written at once
LONGEST = 10_000  # bytes of a word


def write_word2vec(path: str | Path, vectors: WordVectors, *, binary: bool) -> list[str]:
    """Writes the input vectors, of the lengths they have, whole or not at all. Returns notes, one line each.

    Both formats begin with a line ``n D``. Text: a line for each word, ``word x1 … xD``, nine digits, which give the
    same float32 back. Binary: the word, a space, D float32 little-endian, a line end. As a space ends a word there,
    white space in words is written as _.

    Raises LikewiseError when two words would then be the same.
    """
    names = ["_".join(word.split()) if any(map(str.isspace, word)) else word for word in vectors.words]
    changed = [place for place, (word, name) in enumerate(zip(vectors.words, names, strict=True)) if word != name]
    known = dict(zip(names, range(len(names)), strict=True))
    twice = next((place for place, name in enumerate(names) if not name or known[name] != place), None)
    if twice is not None:
        other = vectors.words[known[names[twice]]]
        raise LikewiseError(
            f"the words {quoted(vectors.words[twice])} and {quoted(other)} would both be {quoted(names[twice])} in "
            "this format, which has no white space within words; write parquet, with likewise embed."
        )
    values = vectors.inputs.numpy().astype("<f4")
    with atomic_write(path) as file:
        file.write(b"%d %d\n" % values.shape)
        for start in range(0, len(names), ROWS):
            rows = zip(names[start : start + ROWS], values[start : start + ROWS], strict=True)
            if binary:
                file.writelines(utf8(name) + b" " + row.tobytes() + b"\n" for name, row in rows)
            else:
                file.writelines(
                    utf8(name) + b" " + " ".join(f"{value:.9g}" for value in row.tolist()).encode() + b"\n"
                    for name, row in rows
                )
    if not changed:
        return []
    return [f"white space of {len(changed):,} words is written as _, such as {quoted(names[changed[0]])}."]


def read_word2vec(path: str | Path) -> WordVectors:
    """Reads word2vec's text or binary format, or GloVe's text without a first line of sizes.

    A word that occurs again is left out, as other readers do.

    Raises LikewiseError, with the file and the line or word, when it is none of these, ends early, or a number is not
    finite.
    """
    path = as_path(path, "the file of vectors")
    if not path.is_file():
        raise LikewiseError(f"there is no file {path}.")
    if path.suffix.lower() == GZIP:
        raise LikewiseError(f"{path} is packed; unpack it: gunzip -k {shlex.quote(str(path))}.")
    with path.open("rb") as file:
        first = file.readline(LONGEST).split()
        if len(first) == 2 and first[0].isdigit() and first[1].isdigit():
            words, dim = int(first[0]), int(first[1])
            start = file.tell()
            text = _is_text(file.readline(LONGEST + 32 * dim), dim)
            file.seek(start)
            rows = _text_rows(file, path, dim, 2) if text else _binary_rows(file, path, words, dim)
        else:
            words, dim = -1, len(first) - 1
            file.seek(0)
            if not _is_text(file.readline(), dim) or dim < 1:
                raise LikewiseError(f"{path} is no file of vectors: its first line must have their number and length.")
            file.seek(0)
            rows = _text_rows(file, path, dim, 1)
        found: dict[str, np.ndarray] = {}
        count = 0
        for word, row in rows:
            count += 1
            found.setdefault(word, row)
    if count < words or not found:
        raise LikewiseError(f"{path} ends after {count:,} of {words:,} words; give the whole file.")
    values = np.stack(list(found.values()))
    if not np.isfinite(values).all():
        bad = list(found)[int(np.flatnonzero(~np.isfinite(values).all(1))[0])]
        raise LikewiseError(f"{path}: the vector of {quoted(bad)} holds NaN or infinity.")
    return WordVectors(list(found), torch.from_numpy(values))


def _is_text(line: bytes, dim: int) -> bool:
    """Whether a line is a word and ``dim`` numbers."""
    try:
        return len([float(part) for part in line.split()[-dim:]]) == dim
    except ValueError:
        return False


def _text_rows(file: BinaryIO, path: Path, dim: int, first: int) -> Iterator[tuple[str, np.ndarray]]:
    for number, line in enumerate(file, start=first):
        parts = line.rstrip(b" \r\n").rsplit(b" ", dim)
        if len(parts) == 1 and not parts[0]:
            continue
        try:
            if len(parts) != dim + 1:
                raise ValueError
            yield parts[0].decode(), np.array([float(part) for part in parts[1:]], np.float32)
        except UnicodeDecodeError:
            raise LikewiseError(f"{path}, line {number:,}: the word is not UTF-8.") from None
        except ValueError:
            raise LikewiseError(f"{path}, line {number:,}: there must be a word and {dim} numbers.") from None


def _binary_rows(file: BinaryIO, path: Path, words: int, dim: int) -> Iterator[tuple[str, np.ndarray]]:
    for number in range(words):
        name = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte or len(name) > LONGEST:
                raise LikewiseError(f"{path} ends after {number:,} of {words:,} words, or is no file of vectors.")
            name += byte
        row = file.read(4 * dim)
        if len(row) < 4 * dim:
            raise LikewiseError(f"{path} ends after {number:,} of {words:,} words; give the whole file.")
        try:
            yield name.decode().lstrip("\n"), np.frombuffer(row, "<f4").copy()
        except UnicodeDecodeError:
            raise LikewiseError(f"{path}: word {number + 1:,} is not UTF-8.") from None
