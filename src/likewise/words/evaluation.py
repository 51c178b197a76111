"""Measures vectors of words: how alike people find two words (Spearman), and analogies (3CosAdd, 3CosMul)."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.metrics.score import Score
from likewise.stamp import hash_of
from likewise.text import quoted
from likewise.words.model import WordVectors

SCORES = "words.json"  # of a run, after ``likewise evaluate RUN --pairs``
FREQUENT = 30_000  # words among which an analogy's answer is looked for, as word2vec's program
QUESTIONS = 256  # at once
EPSILON = 1e-3  # of 3CosMul
DRAWS = 1000  # of the bootstrap
SHOWN = 10  # words without a vector that are shown

Floats = npt.NDArray[np.float64]


class JudgedPair(NamedTuple):
    """A row of a file of pairs."""

    row: int  # from 1
    first: str
    second: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a file of pairs or analogies gives.

    Args:
        scores: with their protocols.
        file: its name.
        missing: words of the file without a vector, in order.
        notes: what is odd about the file, one line each.
    """

    scores: tuple[Score, ...]
    file: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The notes, and which words have no vector."""
        if not self.missing:
            return list(self.notes)
        more = f" and {len(self.missing) - SHOWN:,} more" if len(self.missing) > SHOWN else ""
        return [*self.notes, f"{self.file}, without a vector: {', '.join(self.missing[:SHOWN])}{more}."]


def word_pairs(vectors: WordVectors, path: str | Path) -> Measured:
    """Spearman's rank correlation of cosines with people's scores of pairs of words.

    Pairs with a word without a vector are left out and counted; a word is looked up as it is written, and then in lower
    case. The standard error is that of 1,000 bootstrap samples of the pairs.

    Args:
        vectors: of words.
        path: a file with two words and a number in each row, separated by tabs, commas or spaces; # begins a comment, a
            first row without a number is a header. Rows with the same two words all count, and are named.

    Raises:
        LikewiseError: the file is missing or no UTF-8, a row is anything else, or fewer than three pairs have vectors.
    """
    path = as_path(path, "--pairs")
    judged, notes = read_word_pairs(path)
    rows = [(_row_of(vectors, pair.first), _row_of(vectors, pair.second)) for pair in judged]
    missing = [
        word
        for pair, found in zip(judged, rows, strict=True)
        for word, row in zip((pair.first, pair.second), found, strict=True)
        if row is None
    ]
    known = [
        (first, second, pair.score)
        for pair, (first, second) in zip(judged, rows, strict=True)
        if first is not None and second is not None
    ]
    if len(known) < 3:
        raise LikewiseError(f"{path}: only {len(known)} of its {len(judged)} pairs have vectors for both words.")
    first, second, score = (np.array(column) for column in zip(*known, strict=True))
    one, other = (functional.normalize(vectors.inputs[rows.tolist()].double(), dim=1) for rows in (first, second))
    cosine = (one * other).sum(1).numpy()
    value = spearman(cosine, score)
    generator = np.random.default_rng(0)
    drawn = [spearman(cosine[at], score[at]) for at in generator.integers(0, len(score), (DRAWS, len(score)))]
    protocol = {
        **vectors.protocol(),
        "pairs": str(path),
        "pairs_hash": hash_of(path),
        "rows": len(judged),
        "used": len(known),
        "without_vector": " ".join(dict.fromkeys(missing)),
    }
    scores = (Score(name=f"{path.stem}/spearman", value=value, std=float(np.nanstd(drawn)), protocol=protocol),)
    return Measured(scores=scores, file=path.name, missing=tuple(dict.fromkeys(missing)), notes=tuple(notes))


def spearman(a: Floats, b: Floats) -> float:
    """Pearson's correlation of the ranks of (n,) and (n,), where equal values have their mean rank; NaN if constant."""
    ranks = [mean_ranks(values) for values in (a, b)]
    centred = [each - each.mean() for each in ranks]
    norm = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / norm if norm else math.nan


def mean_ranks(values: Floats) -> Floats:
    """(n,) ranks from 1; equal values have the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean: Floats = (last - (count - 1) / 2)[place]
    return mean


def read_word_pairs(path: Path) -> tuple[list[JudgedPair], list[str]]:
    """The rows of a file of pairs, and notes on those with the same words. Raises LikewiseError on other rows."""
    pairs: list[JudgedPair] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        mark = next((mark for mark in ("\t", ",", ";") if mark in line), None)
        parts = [part.strip() for part in line.split(mark)]
        score = _number(parts[2]) if len(parts) >= 3 else None
        if score is None and not pairs and len(parts) >= 3:
            continue  # a header
        if score is None or not parts[0] or not parts[1]:
            raise LikewiseError(f"{path}, line {number}: there must be two words and a number, not {quoted(line)}.")
        pairs.append(JudgedPair(number, parts[0], parts[1], score))
    if not pairs:
        raise LikewiseError(f"{path} holds no pairs of words: two words and a number in each line.")
    seen: dict[frozenset[str], JudgedPair] = {}
    notes = []
    for pair in pairs:
        before = seen.setdefault(frozenset((pair.first, pair.second)), pair)
        if before is not pair:
            notes.append(
                f"lines {before.row} and {pair.row} have the same words, {pair.first} and {pair.second}; both count."
            )
    return pairs, notes


def analogies(vectors: WordVectors, path: str | Path, tick: Callable[[float], None]) -> Measured:
    """The share of questions "a is to b as c is to d" of which d is found, among the 30,000 most frequent words.

    3CosAdd (Mikolov et al. 2013): the word most alike to b − a + c, of unit vectors. 3CosMul (Levy and Goldberg 2014,
    eq. 5): the largest cos(d, b) cos(d, c) / (cos(d, a) + 0.001), with cosines moved to [0, 1]. a, b and c are no
    answers. Questions with a word without a vector there are left out and counted.

    Args:
        vectors: of words.
        path: four words in each line, and a line ``: section`` before those of a section.
        tick: is told which share is done.

    Raises:
        LikewiseError: the file is missing or no UTF-8, a line is anything else, or no question has vectors.
    """
    path = as_path(path, "--analogies")
    sections, questions = read_analogies(path)
    rows = np.array([[_place(vectors, word) for word in four] for _, four in questions])
    missing = dict.fromkeys(
        word
        for (_, four), found in zip(questions, rows, strict=True)
        for word, row in zip(four, found, strict=True)
        if row < 0
    )
    known = (rows >= 0).all(1)
    if not known.any():
        raise LikewiseError(f"{path}: none of its {len(questions):,} questions has vectors for all four words.")
    section = np.array([name for name, _ in questions])[known]
    asked = torch.from_numpy(rows[known])
    unit = functional.normalize(vectors.inputs[:FREQUENT], dim=1)
    right = {"3cosadd": list[Tensor](), "3cosmul": list[Tensor]()}
    for start in range(0, len(asked), QUESTIONS):
        part = asked[start : start + QUESTIONS]
        for name, answers in answered(unit, part).items():
            right[name].append(answers == part[:, 3])
        tick(min(1.0, (start + len(part)) / len(asked)))
    protocol = {**vectors.protocol(), "analogies": str(path), "analogies_hash": hash_of(path), "frequent": FREQUENT}
    asked_of = np.array([name for name, _ in questions])
    scores = []
    for name, hits in right.items():
        hit = torch.cat(hits).numpy()
        for place, which in enumerate(["all", *sections], start=-1):
            among = section == place if place >= 0 else np.ones(len(hit), bool)
            rows_of = int((asked_of == place).sum()) if place >= 0 else len(questions)
            if among.any():
                about = {**protocol, "rows": rows_of, "used": int(among.sum())}
                scores.append(Score(name=f"{path.stem}/{name}/{which}", value=float(hit[among].mean()), protocol=about))
    return Measured(scores=tuple(scores), file=path.name, missing=tuple(missing), notes=())


def answered(unit: Tensor, asked: Tensor) -> dict[str, Tensor]:
    """(Q,) rows of the answers to (Q, 4) questions by rows, by both rules: (n, D) unit rows of the words."""
    a, b, c = (unit[asked[:, column]] @ unit.T for column in range(3))  # (Q, n) cosines
    found = {"3cosadd": b - a + c, "3cosmul": (1 + b) * (1 + c) / (1 + a + 2 * EPSILON)}
    return {name: each.scatter_(1, asked[:, :3], -math.inf).argmax(1) for name, each in found.items()}


def read_analogies(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the sections, and each question with its section. Raises LikewiseError on other lines."""
    sections: list[str] = []
    questions: list[tuple[int, list[str]]] = []
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith(":"):
            sections.append(line[1:].strip() or f"section {len(sections) + 1}")
        elif line.strip() and not line.startswith("//"):
            four = line.split()
            if len(four) != 4:
                raise LikewiseError(f"{path}, line {number}: an analogy has four words, not {quoted(line)}.")
            sections = sections or ["no section"]
            questions.append((len(sections) - 1, four))
    if not questions:
        raise LikewiseError(f"{path} holds no analogies: four words in each line.")
    return sections, questions


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise LikewiseError(f"there is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise LikewiseError(f"{path} is not UTF-8 at byte {error.start:,}; convert it with iconv.") from None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) else None


def _row_of(vectors: WordVectors, word: str) -> int | None:
    """The row of a word as it is written, or in lower case; None: it has no vector."""
    rows = vectors.rows_by_word
    return rows.get(word, rows.get(word.lower()))


def _place(vectors: WordVectors, word: str) -> int:
    """The row of a word among the frequent ones; −1 for others."""
    row = _row_of(vectors, word)
    return row if row is not None and row < FREQUENT else -1
