"""Reading texts: what is a word and a sequence, which words get a vector, and what is refused, by its name."""

import codecs
import gzip
import io
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.config.word_settings import TextSettings, VocabularySettings
from likewise.console import untold
from likewise.errors import LikewiseError
from likewise.words import texts, vocabulary
from likewise.words.corpus import CORPUS, Corpus
from likewise.words.phrases import joined
from likewise.words.tokens import END, opened
from likewise.words.vocabulary import count, read_vocabulary, write_vocabulary

TEXT = "The cat, the dog!\nthe CAT.\n\n  \nA bird - été 3\n"


def read(source: object, columns: tuple[str, ...] = (), **settings: Any) -> list[str]:
    return [word for batch in opened(source, TextSettings(**settings), columns).batches(untold) for word in batch]


def counted(folder: Path, source: object, text: TextSettings = TextSettings(), **settings: Any) -> Any:  # noqa: B008
    made = count(
        opened(source, text),
        VocabularySettings(**{"least": 1, **settings}),
        folder / CORPUS,
        untold,
        paragraphs=text.ends == "paragraph",
    )
    ids = Corpus(folder / CORPUS)[:]
    return made, [
        [made.words[number] for number in part if number >= 0] for part in np.split(ids, np.flatnonzero(ids < 0) + 1)
    ][:-1]


def test_words_and_sequences_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + TEXT.encode())
    found, sequences = counted(tmp_path, tmp_path / "a.txt")
    assert sequences == [["the", "cat", "the", "dog"], ["the", "cat"], ["a", "bird", "été", "3"]]
    assert found.words == ("the", "cat", "dog", "a", "bird", "été", "3")  # frequent first, then as they came
    assert found.counts.tolist() == [3, 2, 1, 1, 1, 1, 1]
    assert (found.read, found.seen, found.sequences) == (10, 7, 3)
    _, sequences = counted(tmp_path, tmp_path / "a.txt", TextSettings(ends="paragraph"))
    assert sequences == [["the", "cat", "the", "dog", "the", "cat"], ["a", "bird", "été", "3"]]
    _, sequences = counted(tmp_path, tmp_path / "a.txt", TextSettings(tokens="spaces"))
    assert sequences[0] == ["The", "cat,", "the", "dog!"]


def test_folders_gzip_stdin_lists_and_parquet_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t/b").mkdir(parents=True)
    (tmp_path / "t/1.txt").write_text("a b")  # no line end
    (tmp_path / "t/b/2.gz").write_bytes(gzip.compress(b"c d\ne"))
    (tmp_path / "t/.hidden").write_bytes(b"\0")
    words = [word for word in read(tmp_path / "t") if word != END]
    assert words == ["a", "b", "c", "d", "e"]
    assert END in read(tmp_path / "t")[2:4]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a b\n")))
    assert read("-")[:3] == ["a", "b", END]
    table = pa.table({"n": [1, 2], "text": ["A b", None], "list": [["x y", "3"], ["z\t"]], "ids": [[7, 8], None]})
    pq.write_table(table, tmp_path / "p.parquet")
    assert read(tmp_path / "p.parquet", ("text",)) == ["a", "b", END, END]
    assert read(tmp_path / "p.parquet", ("list",)) == ["x y", "3", END, "z\t", END]
    assert read(tmp_path / "p.parquet", ("ids",)) == ["7", "8", END]
    with pytest.raises(
        LikewiseError, match=r"has several columns of words \(text, list, ids\); name one with --columns"
    ):
        read(tmp_path / "p.parquet")
    with pytest.raises(LikewiseError, match="column n holds neither strings nor lists"):
        read(tmp_path / "p.parquet", ("n",))
    with pytest.raises(LikewiseError, match=r"it has n, text, list, ids"):
        read(tmp_path / "p.parquet", ("texts",))
    assert read([["a", np.int64(5)], "B c", ["\n"]]) == ["a", "5", END, "b", "c", END, END, "\\n", END]
    with pytest.raises(LikewiseError, match=r"sequence 1: 0\.5 is no word"):
        read([["a"], [0.5]])
    for bad in (5, b"a b"):
        with pytest.raises(LikewiseError, match=r"sequence 1: .* is neither a text nor a list of words"):
            read([["a"], bad])
    with pytest.raises(LikewiseError, match="a DataFrame is no source of words; give a column of texts"):
        read(pd.DataFrame({"text": ["a b"]}))
    assert read(pd.DataFrame({"text": ["a b"]})["text"])[:2] == ["a", "b"]
    with pytest.raises(LikewiseError, match="5 is no source of words; give a text, a folder"):
        read(5)


def test_a_text_is_cut_anywhere_between_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "été word\n" * 200 + "one endless line " * 500
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    whole = read(tmp_path / "a.txt")
    monkeypatch.setattr(texts, "BLOCK", 7)
    assert read(tmp_path / "a.txt") == whole
    shares: list[float] = []
    list(opened(tmp_path / "a.txt", TextSettings()).batches(shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


BAD = {
    "utf16.txt": ("a b".encode("utf-16"), "is UTF-16, not UTF-8; convert it: iconv -f UTF-16"),
    "utf16le.txt": ("a b".encode("utf-16-le"), "looks like UTF-16LE, not UTF-8; convert it: iconv -f UTF-16LE"),
    "utf16be.txt": ("a b".encode("utf-16-be"), "looks like UTF-16BE, not UTF-8; convert it: iconv -f UTF-16BE"),
    "utf32.txt": ("a b".encode("utf-32"), "is UTF-32, not UTF-8; convert it: iconv -f UTF-32"),
    "latin1.txt": (b"x" * 30 + b" caf\xe9 noir", r"is not UTF-8 at byte 34 \('.*café noir' if it is latin-1\)"),
    "binary.bin": (b"PK\x03\x04\0\0", "holds a zero byte, at byte 4: it is a binary file"),
    "cut.txt": ("é".encode()[:1], "ends within a character: it is cut off"),
    "cut.gz": (gzip.compress(b"a b c" * 100)[:-9], "is damaged gzip"),
    "line.txt": (b"x" * 300, "has 300 characters without white space, which begin 'xxx"),
    "empty.txt": (b"", "holds no words"),
    "dots.txt": (b"... !\n", "holds no words"),
    "rare.txt": (
        b"a b c",
        "no word occurs vocabulary.least=2 times; the most frequent of 3 is 'a', 1 times. Give more",
    ),
    "one.txt": (b"a a c", "only one word occurs vocabulary.least=2 times"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_texts_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "LONGEST", 200)
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LikewiseError, match=message) as error:
        counted(tmp_path, tmp_path / name, least=2)
    assert name in str(error.value)
    assert not (tmp_path / CORPUS).exists()


def test_missing_sources_are_named(tmp_path: Path) -> None:
    for source, message in ((tmp_path / "no", "there is no file or folder"), (tmp_path, "holds no file of text")):
        with pytest.raises(LikewiseError, match=message):
            read(source)
    with pytest.raises(LikewiseError, match=r"there is no file .*no.parquet"):
        read(tmp_path / "no.parquet")


def test_control_characters_are_spaces_and_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\x1bb\x07 c\tnumber 12\x0cd\n")
    sequences = opened(tmp_path / "a.txt", TextSettings(tokens="spaces"))
    assert next(iter(sequences.batches(untold)))[:6] == ["a", "b", "c", "number", "12", "d"]
    list(sequences.batches(untold))
    assert sequences.notes[-1].endswith("control characters are read as spaces.")


def test_the_vocabulary_is_that_of_a_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    lists = [[f"w{word}" for word in generator.zipf(1.3, 40) if word < 200] for _ in range(60)]
    expected = Counter(word for each in lists for word in each)
    found, sequences = counted(tmp_path, lists, least=3, most=20)
    assert dict(zip(found.words, found.counts.tolist(), strict=True)) == dict(expected.most_common(20))
    kept = [[word for word in each if word in found.words] for each in lists]
    assert sequences == [each for each in kept if each]
    write_vocabulary(tmp_path / "v.parquet", found)
    again = read_vocabulary(tmp_path / "v.parquet")
    assert (again.words, again.counts.tolist(), again.line()) == (found.words, found.counts.tolist(), found.line())
    monkeypatch.setattr(vocabulary, "SEEN", 30)  # rare words are forgotten, frequent ones keep their counts
    fewer, _ = counted(tmp_path, lists, least=20)
    assert {word: n for word, n in expected.items() if n >= 100}.items() <= dict(
        zip(fewer.words, fewer.counts.tolist(), strict=True)
    ).items()


def test_phrases_are_those_of_a_loop(tmp_path: Path) -> None:
    lists = [
        ["new", "york", "city"],
        ["new", "york"],
        ["new", "york", "new", "york"],
        ["old", "city"],
        ["a", "a", "a"],
    ] * 3
    found, sequences = counted(tmp_path, lists, least=2, phrases=1, phrase_score=0.24)
    assert sequences[:5] == [["new_york", "city"], ["new_york"], ["new_york", "new_york"], ["old_city"], ["a_a", "a"]]
    assert dict(zip(found.words, found.counts.tolist(), strict=True)) == {
        "new_york": 12,
        "city": 3,
        "old_city": 3,
        "a_a": 3,
        "a": 3,
    }
    n, pairs = Counter(w for s in lists for w in s), Counter(p for s in lists for p in pairwise(s))
    expected = {
        f"{a}_{b}" for (a, b), both in pairs.items() if both >= 2 and (both - 2) * len(n) / (n[a] * n[b]) > 0.24
    }
    words, counts = list(n), np.array(list(n.values()))
    ids = np.array([number for s in lists for number in [*map(words.index, s), -1]], np.int32)
    with (tmp_path / "spool").open("wb") as spool:
        names, _ = joined(words, counts, ids, VocabularySettings(least=2, phrase_score=0.24), spool)
    assert set(names[len(words) :]) == expected
