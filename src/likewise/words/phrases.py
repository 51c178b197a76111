"""Joins two words into one where they occur together much more often than apart: new york → new_york."""

from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt

from likewise.config.word_settings import VocabularySettings
from likewise.words.corpus import PART, Corpus, Ids

PAIRS = 20_000_000  # different pairs that are kept while counting, 16 bytes each

Integers = npt.NDArray[np.int64]


def joined(
    words: Sequence[str],
    counts: Integers,
    corpus: Corpus,
    settings: VocabularySettings,
    spool: IO[bytes],
) -> tuple[list[str], Integers]:
    """Writes the corpus with phrases to ``spool``. Returns the words with the phrases after them, and their counts.

    A pair becomes a phrase where ``(n(ab) − least) · n / (n(a) n(b)) > score`` (Mikolov et al. 2013, eq. 6; n is the
    number of different words, as gensim's score), and a·b·c joins from the left, so that no word is in two phrases.

    Paper: Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality, NIPS 2013, §4.
    Cost: two passes over the numbers of the corpus; memory for at most 20 million different pairs. With more, those
    that came once so far are forgotten, then twice, and so on.
    """
    n = len(words)
    codes, together = _pairs(corpus, n)
    first, second = codes // n, codes % n
    score = (together - settings.least) * float(n) / (counts[first] * counts[second])
    chosen = codes[(score > settings.phrase_score) & (together >= settings.least)]  # sorted
    names = [*words, *(f"{words[a]}_{words[b]}" for a, b in zip(chosen // n, chosen % n, strict=True))]
    found = np.zeros(len(names), np.int64)
    for part in _sequences(corpus):
        ids = _replaced(part.astype(np.int64), chosen, n)
        found += np.bincount(ids[ids >= 0], minlength=len(names))
        spool.write(ids.astype("<i4").tobytes())
    return names, found


def _sequences(corpus: Corpus) -> Iterator[Ids]:
    """Parts of the corpus of about a million numbers that end with a sequence, if one ends there."""
    start = 0
    while start < len(corpus):
        part = corpus[start : start + PART]
        ends = np.flatnonzero(part < 0)
        part = part[: ends[-1] + 1] if len(ends) else part
        start += len(part)
        yield part


def _pairs(corpus: Corpus, n: int) -> tuple[Integers, Integers]:
    """The codes a·n + b of pairs of neighbours, sorted, and how often each occurs."""
    codes, counts, least = np.zeros(0, np.int64), np.zeros(0, np.int64), 1
    for part in _sequences(corpus):
        ids = part.astype(np.int64)
        both = (ids[:-1] >= 0) & (ids[1:] >= 0)
        new, times = np.unique((ids[:-1] * n + ids[1:])[both], return_counts=True)
        codes, places = np.unique(np.concatenate([codes, new]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, times]), len(codes)).astype(np.int64)
        while len(codes) > PAIRS:
            codes, counts = codes[counts > least], counts[counts > least]
            least += 1
    return codes, counts


def _replaced(ids: Integers, chosen: Integers, n: int) -> Integers:
    """``ids`` with the number n + i in the place of the two words of the phrase ``chosen[i]``."""
    if len(chosen) == 0 or len(ids) < 2:
        return ids
    codes = np.where((ids[:-1] >= 0) & (ids[1:] >= 0), ids[:-1] * n + ids[1:], -1)
    place = np.searchsorted(chosen, codes).clip(max=len(chosen) - 1)
    hit = chosen[place] == codes
    starts = np.flatnonzero(hit & ~np.concatenate([[False], hit[:-1]]))  # of runs of overlapping phrases
    run = np.cumsum(np.isin(np.arange(len(hit)), starts)) - 1
    at = np.flatnonzero(hit)
    taken = at[(at - starts[run[at]]) % 2 == 0]  # every second one of a run, from the left
    ids = ids.copy()
    ids[taken] = n + place[taken]
    return np.delete(ids, taken + 1)
