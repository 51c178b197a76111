"""Counts words while they are read, chooses which get a vector, and writes the corpus as numbers: one pass over it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import numpy.typing as npt

from likewise import __version__
from likewise.config.word_settings import VocabularySettings
from likewise.errors import LikewiseError
from likewise.files import atomic_write, from_json
from likewise.text import quoted, utf8
from likewise.words.corpus import PART, Corpus, Ids
from likewise.words.phrases import joined
from likewise.words.tokens import END, Sequences, Share

VOCABULARY = "vocabulary.parquet"  # in a run folder: word, count
SEEN = 4_000_000  # different words that are kept while counting; about 150 bytes each
GROUP = 65_536  # words that are written at once


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words that get a vector, the most frequent first.

    Args:
        words: all different.
        counts: (n,) int64, of each word in the corpus.
        read: words in the corpus, with those that get no vector.
        seen: different words in the corpus.
        sequences: with a word that gets a vector.
    """

    words: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    read: int
    seen: int
    sequences: int

    def __len__(self) -> int:
        return len(self.words)

    def line(self) -> str:
        """The vocabulary in one line."""
        kept = int(self.counts.sum())
        return (
            f"{len(self):,} words of {self.seen:,} get a vector: {kept:,} of {self.read:,} occurrences, in "
            f"{self.sequences:,} sequences."
        )


class _Numbers(dict[str, int]):
    """A number for each word, in the order of their first occurrence; −1 for the end of a sequence."""

    def __init__(self) -> None:
        super().__init__({END: -1})
        self.next = 0

    def __missing__(self, word: str) -> int:
        self[word] = number = self.next
        self.next += 1
        return number


def count(
    sequences: Sequences, settings: VocabularySettings, corpus: Path, share: Share, *, paragraphs: bool = False
) -> Vocabulary:
    """Reads the sequences once, chooses the vocabulary, and writes the corpus as numbers to ``corpus``.

    While there are more than 4 million different words, those that came once so far are forgotten, then those that came
    twice, and so on, as word2vec does; a forgotten word that comes again is counted anew. Words without a vector are
    left out of the file, and so are sequences without a word.

    Args:
        sequences: read once.
        settings: which words get a vector, and how many rounds of phrases are joined.
        corpus: the file, written whole or not at all: 4 bytes for each word.
        share: is told which share is read.
        paragraphs: an END counts only where two come together.

    Raises:
        LikewiseError: fewer than two words get a vector.

    Cost: one pass over the text, and twice 4 bytes a word written; memory for the different words.
    """
    with TemporaryFile(dir=corpus.parent) as spool:
        numbers, counts, read = _spooled(sequences, spool, share, paragraphs=paragraphs)
        words = [word for word in numbers if word != END]
        places = np.fromiter((numbers[word] for word in words), np.int64, len(words))
        size = numbers.next
        del numbers
        vocabulary, order = _chosen(words, counts[places], settings, sequences.name)
        new = np.full(size + 1, -2, np.int32)  # −2: no vector; the last one is that of −1
        new[places[order]] = np.arange(len(order), dtype=np.int32)
        new[-1] = -1
        parts = (new[part] for part in parts_of(spool))
        vocabulary = replace(vocabulary, read=read, sequences=_written(parts, corpus))
    for _ in range(settings.phrases):
        vocabulary = _with_phrases(vocabulary, settings, corpus, sequences.name)
    return vocabulary


def parts_of(file: IO[bytes]) -> Iterator[Ids]:
    """The numbers of a file from its beginning, a million at once."""
    file.seek(0)
    while data := file.read(4 * PART):
        yield np.frombuffer(data, "<i4")


def _spooled(
    sequences: Sequences, spool: IO[bytes], share: Share, *, paragraphs: bool
) -> tuple[_Numbers, npt.NDArray[np.int64], int]:
    """Writes every word's number to ``spool``: the numbers, the count of each, and how many words were read."""
    numbers, counts, read, least = _Numbers(), np.zeros(1 << 16, np.int64), 0, 1
    last = 0
    for batch in sequences.batches(share):
        ids = np.fromiter(map(numbers.__getitem__, batch), np.int32, len(batch))
        if paragraphs:
            before = np.concatenate([np.array([last], np.int32), ids[:-1]])
            last = int(ids[-1]) if len(ids) else last
            ids = ids[(ids >= 0) | (before < 0)]
        if numbers.next > len(counts):
            counts = np.concatenate([counts, np.zeros(max(len(counts), numbers.next - len(counts)), np.int64)])
        known = ids[ids >= 0]
        found = np.bincount(known)
        counts[: len(found)] += found
        read += len(known)
        spool.write(ids.astype("<i4").tobytes())
        while len(numbers) > SEEN:
            for word in [word for word, number in numbers.items() if number >= 0 and counts[number] <= least]:
                del numbers[word]
            least += 1
    return numbers, counts, read


def _chosen(
    words: list[str], counts: npt.NDArray[np.int64], settings: VocabularySettings, name: str
) -> tuple[Vocabulary, npt.NDArray[np.int64]]:
    """The vocabulary, and which of the words these are: the most frequent first, equal ones as they came."""
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= settings.least][: settings.most]
    if len(order) < 2:
        if not words:
            raise LikewiseError(f"{name} holds no words.")
        top = int(counts.argmax())
        raise LikewiseError(
            f"{name}: {'no word' if len(order) == 0 else 'only one word'} occurs vocabulary.least={settings.least} "
            f"times; the most frequent of {len(words):,} is {quoted(words[top])}, {counts[top]:,} times. Give more "
            "text, or lower it."
        )
    kept = tuple(words[place] for place in order.tolist())
    return Vocabulary(words=kept, counts=counts[order], read=0, seen=len(words), sequences=0), order


def _written(parts: Iterator[Ids], corpus: Path) -> int:
    """Writes the numbers from −1 on, without empty sequences. Returns how many sequences there are."""
    sequences, last = 0, -1
    with atomic_write(corpus) as file:
        for part in chain(parts, [np.array([-1], np.int32)]):
            part = part[part >= -1]
            if len(part) == 0:
                continue
            before = np.concatenate([np.array([last], np.int32), part[:-1]])
            last = int(part[-1])
            part = part[(part >= 0) | (before >= 0)]
            sequences += int((part < 0).sum())
            file.write(part.astype("<i4").tobytes())
    return sequences


def _with_phrases(vocabulary: Vocabulary, settings: VocabularySettings, corpus: Path, name: str) -> Vocabulary:
    """One round of phrases: the corpus is written anew with them, and the vocabulary is chosen anew."""
    with TemporaryFile(dir=corpus.parent) as spool:
        words, counts = joined(vocabulary.words, vocabulary.counts, Corpus(corpus), settings, spool)
        chosen, order = _chosen(list(words), counts, settings, name)
        new = np.full(len(words) + 1, -2, np.int32)
        new[order] = np.arange(len(order), dtype=np.int32)
        new[-1] = -1
        sequences = _written((new[part] for part in parts_of(spool)), corpus)
    return replace(vocabulary, words=chosen.words, counts=chosen.counts, sequences=sequences)


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Writes the words and their counts as parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"read": vocabulary.read, "seen": vocabulary.seen, "sequences": vocabulary.sequences, "made": __version__}
    schema = pa.schema({"word": pa.string(), "count": pa.int64()}, {"likewise": json.dumps(about)})
    with atomic_write(path) as file, pq.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for start in range(0, len(vocabulary), GROUP):
            part = slice(start, start + GROUP)
            words = pa.array(map(utf8, vocabulary.words[part]), pa.string())
            writer.write_table(pa.Table.from_arrays([words, pa.array(vocabulary.counts[part])], schema=schema))


def read_vocabulary(path: Path) -> Vocabulary:
    """What ``write_vocabulary`` wrote. Raises LikewiseError when the file is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:
            table = pq.ParquetFile(file).read()
        about = from_json(table.schema.metadata[b"likewise"])
        words, counts = table["word"].to_pylist(), table["count"].to_numpy().copy()
        return Vocabulary(
            words=tuple(words),
            counts=counts,
            **{name: int(about[name]) for name in ("read", "seen", "sequences")},
        )
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise LikewiseError(
            f"{path} is missing or damaged, which holds the words of the run; start a new run."
        ) from None
