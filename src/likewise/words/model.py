"""Trained vectors of words: load them, look a word up, index and search them."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from likewise import __version__
from likewise.config.overrides import as_dict, settings_from
from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError
from likewise.files import as_path, atomic_write, unwritten, utf8_path
from likewise.index.asked import Query
from likewise.index.embedding_file import Embedding
from likewise.index.hits import Hits
from likewise.index.index import Index
from likewise.stamp import DIGEST_BYTES, Stamp, hash_of, refuse_other_model
from likewise.text import quoted, utf8

NAME, INDEX = "model.safetensors", "index"  # in a run folder, as every model's
KIND = "words"
PART = 65_536  # words that are written at once
DTYPES = {"<f4": "F32", "<i8": "I64"}  # of the safetensors format


class WordVectors:
    """Two vectors for each word, and the settings that made them. The input vectors are the embedding.

    Args:
        words: all different, the most frequent first.
        inputs: (n, D) float32, v: of words whose neighbours are told.
        outputs: (n, D) float32, u: of words that are told from noise; None where they are not known.
        counts: (n,) int64, occurrences in the corpus; None where they are not known.
        settings: of the run; None for vectors of another tool.
        epoch: number of epochs trained.
        run: the run folder, which also holds the index; None for vectors without a run.
    """

    def __init__(
        self,
        words: Sequence[str],
        inputs: Tensor,
        *,
        outputs: Tensor | None = None,
        counts: Tensor | None = None,
        settings: FitSettings | None = None,
        epoch: float = 0.0,
        run: Path | None = None,
    ) -> None:
        self.words, self.inputs, self.outputs, self.counts = tuple(words), inputs, outputs, counts
        self.settings, self.epoch, self.run = settings, epoch, run
        self._row_of: dict[str, int] | None = None
        self._loaded: str | None = None

    def __repr__(self) -> str:
        n, dim = self.inputs.shape
        return f"WordVectors({n} × {dim}, method={self.method!r}, epoch={self.epoch:g}, run={self.run})"

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.rows_by_word

    def __getitem__(self, word: str) -> Tensor:
        """(D,) float32, the row of a word, of length 1. Raises LikewiseError on a word without a vector."""
        row = self.rows_by_word.get(word)
        if row is None:
            raise LikewiseError(f"{quoted(word)} has no vector; the words with one look like {quoted(self.words[0])}.")
        return functional.normalize(self.inputs[row], dim=0)

    @property
    def method(self) -> str:
        """The method that made them; "imported" for vectors of another tool."""
        return "imported" if self.settings is None else self.settings.method

    @property
    def rows_by_word(self) -> dict[str, int]:
        """The row of each word."""
        if self._row_of is None:
            self._row_of = {word: row for row, word in enumerate(self.words)}
        return self._row_of

    def embed(self, words: Iterable[str] | None = None) -> Embedding:
        """The rows of words, of length 1, and the words; None: of all. Raises LikewiseError as ``[]`` does."""
        if words is None:
            return Embedding(functional.normalize(self.inputs, dim=1), self.words, self.protocol())
        chosen = tuple(dict.fromkeys(words))
        return Embedding(torch.stack([self[word] for word in chosen]), chosen, self.protocol())

    def index(self) -> Index:
        """An exact index of all words."""
        return Index(*self.embed())

    def load_index(self) -> Index:
        """The run's index. Raises LikewiseError if there is no run or no index, or another model made it."""
        if self.run is None:
            raise LikewiseError("these vectors have no run folder, so they have no index: use vectors.index().")
        return own_index(self.run, self.weights_hash)

    def search(self, query: Query, k: int = 10) -> Hits:
        """The ``k`` words of the run's index that are nearest to a word or a row; see ``Index.search``."""
        return self.load_index().search(query, k)

    @property
    def weights_hash(self) -> str:
        """The hash of the file that the vectors were loaded from; else of the file that ``save`` writes."""
        if self._loaded is not None:
            return self._loaded
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for part in self._parts():
            digest.update(part)
        return digest.hexdigest()

    def protocol(self) -> Stamp:
        """What made the rows: method, epoch, seed, weights."""
        return {
            "method": self.method,
            "layer": "embedding",
            "epoch": self.epoch,
            **({} if self.settings is None else {"seed": self.settings.seed}),
            "model": self.weights_hash,
            "likewise": __version__,
        }

    def save(self, path: Path) -> None:
        """Writes a safetensors file, whole or not at all. Raises LikewiseError when it can't be written."""
        try:
            with atomic_write(path) as file:
                file.writelines(self._parts())
        except OSError as error:
            raise unwritten(path, error) from error
        self._loaded = hash_of(path)

    def _parts(self) -> Iterator[bytes | memoryview]:
        """The bytes of a safetensors file, one part after the other, with no copy of a table in memory."""
        arrays = {"inputs": self.inputs.contiguous().numpy()}
        arrays |= {} if self.outputs is None else {"outputs": self.outputs.contiguous().numpy()}
        arrays |= {} if self.counts is None else {"counts": self.counts.numpy()}
        arrays["word_ends"] = np.cumsum(np.fromiter((len(utf8(word)) for word in self.words), np.int64))
        settings = None if self.settings is None else as_dict(self.settings)
        about = {"settings": settings, "kind": KIND, "epoch": self.epoch}
        header: dict[str, object] = {"__metadata__": {"likewise": json.dumps(about)}}
        start = 0
        for name, array in arrays.items():
            end = start + array.nbytes
            header[name] = {"dtype": DTYPES[array.dtype.str], "shape": array.shape, "data_offsets": [start, end]}
            start = end
        end = start + int(arrays["word_ends"][-1])
        header["words"] = {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        yield len(text).to_bytes(8, "little")
        yield text
        for array in arrays.values():
            yield array.data.cast("B")
        for first in range(0, len(self.words), PART):
            yield b"".join(map(utf8, self.words[first : first + PART]))


def own_index(run: Path, weights_hash: str) -> Index:
    """The index of a run. Raises LikewiseError when there is none, or another model made it."""
    renew = ["likewise", "index", str(run)]
    if not (run / INDEX).is_dir():
        raise LikewiseError(f"there is no index in {run / INDEX}; make one with: {' '.join(renew)}")
    index = Index.load(run / INDEX)
    refuse_other_model(run / INDEX, index.protocol, weights_hash, renew)
    return index


def holds_words(path: Path) -> bool:
    """Whether a model's file holds vectors of words, by its header alone; False for a damaged one."""
    try:
        with safe_open(utf8_path(path), "pt") as file:
            about = json.loads((file.metadata() or {}).get("likewise", "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError):
        return False
    return isinstance(about, dict) and about.get("kind") == KIND


def load_words(run: str | Path) -> WordVectors:
    """Loads a run folder of skipgram or cbow (or its model.safetensors).

    Raises LikewiseError when there is no finished model, it is damaged, or it holds no words.
    """
    path = as_path(run, "RUN")
    path = path / NAME if path.is_dir() else path
    if not path.exists():
        raise LikewiseError(
            f"there is no trained model {path}; train one: likewise fit TEXT --method skipgram --out RUN."
        )
    try:
        with safe_open(utf8_path(path), "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["likewise"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["kind"] != KIND:
            raise LikewiseError(f"{path} holds no vectors of words, but a model of {about['kind']}: use lw.load.")
        settings = None if about["settings"] is None else settings_from(about["settings"])
        epoch = float(about["epoch"])
        text, ends = tensors["words"].numpy().tobytes(), tensors["word_ends"].tolist()
        words = [text[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        inputs = tensors["inputs"]
        if len(words) != len(inputs):
            raise KeyError("words")
    except (SafetensorError, OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise LikewiseError(f"{path} is damaged or was not written by likewise; train it again.") from None
    vectors = WordVectors(
        words,
        inputs,
        outputs=tensors.get("outputs"),
        counts=tensors.get("counts"),
        settings=settings,
        epoch=epoch,
        run=path.parent,
    )
    vectors._loaded = hash_of(path)
    return vectors
