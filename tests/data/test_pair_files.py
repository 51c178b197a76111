"""Pairs and triplets from files: ids become rows, and a bad file is described by line, id and reason."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.data import Skipped, id_rows, read_graded, read_pairs, read_triplets
from likewise.errors import LikewiseError
from likewise.objectives import Contrastive, Triplet, from_pairs, from_triplets
from likewise.training.samplers import PairSampler

IDS = ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg", "dogs/2.jpg", "a,b", " c", "ü")


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def pairs_of(path: Path, **options: Any) -> list[tuple[int, int, bool]]:
    pairs = read_pairs(path, IDS, **options)
    assert pairs.rows.dtype == torch.int64
    assert pairs.alike.dtype == torch.bool
    assert pairs.rows.shape == (len(pairs), 2)
    return [(a, b, same) for (a, b), same in zip(pairs.rows.tolist(), pairs.alike.tolist(), strict=True)]


# --- what is read ---

DECIMAL = pa.array([1, 0]).cast(pa.decimal128(21, 2))


def test_pairs_from_csv_in_any_form_of_it(tmp_path: Path) -> None:
    expected = [(0, 1, True), (0, 2, False), (4, 6, True)]
    plain = 'a,b,alike\ncats/1.jpg,cats/2.jpg,1\ncats/1.jpg,dogs/1.jpg,0\n"a,b",ü,1\n'
    assert pairs_of(put(tmp_path / "p.csv", plain)) == expected
    assert pairs_of(put(tmp_path / "crlf.csv", plain.replace("\n", "\r\n"))) == expected
    assert pairs_of(put(tmp_path / "bom.csv", plain, "utf-8-sig")) == expected
    assert pairs_of(put(tmp_path / "end.csv", plain.rstrip("\n"))) == expected
    assert pairs_of(put(tmp_path / "blank.CSV", "\n" + plain.replace("\n", "\n\n  \n"))) == expected
    other = 'note,alike,b,a\nx,YES,cats/2.jpg,cats/1.jpg\n,False,dogs/1.jpg,cats/1.jpg\n"y\nz",true,ü,"a,b"\n'
    assert pairs_of(put(tmp_path / "other.csv", other)) == expected
    spaced = ' a , b, alike \ncats/1.jpg , cats/2.jpg, yes\n cats/1.jpg, dogs/1.jpg , no \n "a,b", ü , 1.0\n'
    assert pairs_of(put(tmp_path / "spaced.csv", spaced)) == expected


def test_an_id_that_begins_with_a_space_needs_quotes(tmp_path: Path) -> None:
    assert pairs_of(put(tmp_path / "p.csv", 'a,b,alike\n" c",ü,1\n')) == [(5, 6, True)]
    with pytest.raises(LikewiseError, match=r"a: no item has the id 'c'\. Did you mean ' c'\?"):
        pairs_of(put(tmp_path / "q.csv", "a,b,alike\n c,ü,1\n"))


@pytest.mark.parametrize("alike", [[True, False], [1, 0], [1.0, 0.0], ["yes", "No"], ["TRUE", "false"], DECIMAL])
def test_pairs_from_parquet(tmp_path: Path, alike: list[Any]) -> None:
    table = pa.table({"alike": alike, "more": [1, 2], "b": ["cats/2.jpg", "ü"], "a": ["cats/1.jpg", " c"]})
    pq.write_table(table, tmp_path / "p.parquet")
    assert pairs_of(tmp_path / "p.parquet") == [(0, 1, True), (5, 6, False)]


def test_ids_that_are_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"anchor": [0, 10], "positive": [1, 11], "negative": [2, 2]}), tmp_path / "t.parquet")
    ids = [str(n) for n in range(12)]
    assert read_triplets(tmp_path / "t.parquet", ids).rows.tolist() == [[0, 1, 2], [10, 11, 2]]


def test_triplets(tmp_path: Path) -> None:
    text = "positive,anchor,negative\ncats/2.jpg,cats/1.jpg,dogs/1.jpg\ndogs/2.jpg,dogs/1.jpg,ü\n"
    triplets = read_triplets(put(tmp_path / "t.csv", text), IDS)
    assert triplets.rows.tolist() == [[0, 1, 2], [2, 3, 6]]
    assert triplets.rows.dtype == torch.int64
    assert (triplets.merged, triplets.skipped, len(triplets)) == (0, (), 2)


def test_repeated_rows_are_merged_and_counted(tmp_path: Path) -> None:
    text = "a,b,alike\ndogs/1.jpg,ü,0\ncats/1.jpg,ü,1\nü,dogs/1.jpg,0\ncats/1.jpg,ü,1\ndogs/1.jpg,ü,no\n"
    pairs = read_pairs(put(tmp_path / "p.csv", text), IDS)
    assert pairs.rows.tolist() == [[2, 6], [0, 6]]  # in the file's order, as first said
    assert pairs.alike.tolist() == [False, True]
    assert pairs.merged == 3
    text = "anchor,positive,negative\ncats/1.jpg,ü,a b\ncats/1.jpg,ü,a b\nü,cats/1.jpg,a b\na b,ü,cats/1.jpg\n"
    triplets = read_triplets(put(tmp_path / "t.csv", text), ["a b", *IDS])
    assert triplets.rows.tolist() == [[1, 7, 0], [7, 1, 0], [0, 7, 1]]  # another anchor is another triplet
    assert triplets.merged == 1


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(2, 8), parquet=st.booleans())
def test_files_hold_what_was_written(data: st.DataObject, n: int, parquet: bool, tmp_path_factory: Any) -> None:
    """Any ids, also with commas, quotes, line ends and spaces; the loop below says what the reader should keep."""
    letters = st.characters(codec="utf-8", exclude_characters="\0")
    ids = data.draw(st.lists(st.text(letters, min_size=1).filter(str.strip), min_size=n, max_size=n, unique=True))
    truth = {(i, j): data.draw(st.booleans()) for i in range(n) for j in range(i)}
    pairs = data.draw(st.lists(st.permutations(range(n)).map(lambda order: order[:2]), min_size=1, max_size=20))
    rows = [(ids[i], ids[j], truth[max(i, j), min(i, j)]) for i, j in pairs]
    folder = tmp_path_factory.mktemp("files")
    if parquet:
        path = folder / "p.parquet"
        pq.write_table(pa.table({name: [row[k] for row in rows] for k, name in enumerate(["a", "b", "alike"])}), path)
    else:
        path = folder / "p.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["a", "b", "alike"], *rows])
    found = read_pairs(path, ids)
    expected: dict[tuple[int, int], list[int]] = {}
    for i, j in pairs:
        expected.setdefault((max(i, j), min(i, j)), [i, j])
    assert found.rows.tolist() == list(expected.values())
    assert found.alike.tolist() == [truth[pair] for pair in expected]
    assert found.merged == len(pairs) - len(expected)


def test_many_rows_in_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.data.id_rows._CHUNK", 7)
    ids = [f"i{n}" for n in range(60)]
    text = "a,b,alike\n" + "".join(f"i{n},i{(7 * n + 1) % 59},{n % 2}\n\n" for n in range(1, 50) if n != 49)
    pairs = read_pairs(put(tmp_path / "p.csv", text), ids)
    assert pairs.rows.tolist() == [[n, (7 * n + 1) % 59] for n in range(1, 49)]
    wrong = text + "i1,j2,1\n"
    with pytest.raises(LikewiseError, match=r"1 of the 49 rows cannot be used \(line 98: b: no item has the id 'j2'"):
        read_pairs(put(tmp_path / "w.csv", wrong), ids)
    columns = {"a": ids[:20], "b": [*ids[20:39], "?"], "alike": [True] * 20}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(LikewiseError, match=r"row 20: b: no item has the id '\?'"):
        read_pairs(tmp_path / "p.parquet", ids)


# --- bad rows ---

BAD = """a,b,alike
cats/1.jpg,cats/2.jpg,1
cats/3.jpg,cats/2.jpg,1
dogs/2.jpg,,1
dogs/2.jpg,dogs/2.jpg,0
dogs/1.jpg,2.jpg,1
dogs/1.jpg,dogs/2.jpg,maybe

a,b,dogs/1.jpg,1
a,b,alike
dogs/1.jpg,ü
x/y/z.png,ü,1
dogs/1.jpg,ü,0
"""
REASONS = [
    ("line 3", "a: no item has the id 'cats/3.jpg'. Did you mean 'cats/2.jpg'?"),
    ("line 4", "b is empty"),
    ("line 5", "'dogs/2.jpg' is paired with itself"),
    ("line 6", "b: no item has the id '2.jpg'. Did you mean 'dogs/2.jpg'?"),
    ("line 7", "alike is 'maybe', not 1 or 0, true or false, yes or no"),
    ("line 9", "has 4 fields, the header 3 (an id that holds a comma must be in quotes)"),
    ("line 10", "repeats the header"),
    ("line 11", "has 2 fields, the header 3 (an id that holds a comma must be in quotes)"),
    ("line 12", "a: no item has the id 'x/y/z.png'"),
]


def test_bad_rows_are_counted_and_the_first_five_described(tmp_path: Path) -> None:
    path = put(tmp_path / "p.csv", BAD)
    with pytest.raises(LikewiseError) as caught:
        read_pairs(path, IDS)
    shown = "; ".join(f"{where}: {reason}" for where, reason in REASONS[:5])
    assert str(caught.value) == (
        f"{path}: 9 of the 11 rows cannot be used ({shown}; …); "
        "correct them, or take them out of the file; likewise.read_pairs(..., skip_bad=True) lists them all."
    )


def test_bad_rows_can_be_left_out_and_are_listed(tmp_path: Path) -> None:
    pairs = read_pairs(put(tmp_path / "p.csv", BAD), IDS, skip_bad=True)
    assert pairs.rows.tolist() == [[0, 1], [2, 6]]
    assert pairs.alike.tolist() == [True, False]
    assert pairs.skipped == tuple(Skipped(id=where, reason=reason) for where, reason in REASONS)


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    columns = {"a": ["ü", None, "ü"], "b": ["cats/1.jpg"] * 3, "alike": pa.array([1, 0, None], pa.int8())}
    pq.write_table(pa.table(columns), path)
    pairs = read_pairs(path, IDS, skip_bad=True)
    assert pairs.rows.tolist() == [[6, 0]]
    assert pairs.skipped == (Skipped(id="row 2", reason="a is empty"), Skipped(id="row 3", reason="alike is empty"))
    pq.write_table(pa.table({**columns, "alike": [2, 0, 1]}), path)
    with pytest.raises(LikewiseError, match=r"2 of the 3 rows .*\(row 1: alike is '2', not 1 or 0"):
        read_pairs(path, IDS)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("ü,ü,a", "'ü' is anchor and positive"),
        ("ü,a,ü", "'ü' is anchor and negative"),
        ("ü,a,a", "'a' is positive and negative"),
        ("ü,a,b", "negative: no item has the id 'b'"),
        ("ü,,a", "positive is empty"),
        ("ü,a,a,", "has 4 fields, the header 3"),
        ("anchor,positive,negative", "repeats the header"),
    ],
)
def test_bad_triplets(tmp_path: Path, row: str, reason: str) -> None:
    path = put(tmp_path / "t.csv", f"anchor,positive,negative\nü,a,x\n{row}\n")
    with pytest.raises(LikewiseError) as caught:
        read_triplets(path, ["a", "x", "ü"])
    assert f"1 of the 2 rows cannot be used (line 3: {reason}" in str(caught.value)
    found = read_triplets(path, ["a", "x", "ü"], skip_bad=True)
    assert found.rows.tolist() == [[2, 0, 1]]
    assert [item.id for item in found.skipped] == ["line 3"]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_contradictions_are_errors_even_when_bad_rows_are_left_out(tmp_path: Path, skip_bad: bool) -> None:
    path = put(tmp_path / "p.csv", "a,b,alike\nü,cats/1.jpg,1\nü,cats/2.jpg,1\ncats/1.jpg,ü,0\nü,cats/1.jpg,1\n")
    with pytest.raises(LikewiseError) as caught:
        read_pairs(path, IDS, skip_bad=skip_bad)
    assert str(caught.value) == (
        f"{path}: 1 of the 4 rows contradict others (line 4: says that 'cats/1.jpg' and 'ü' are not alike, but line 2 "
        "that 'ü' and 'cats/1.jpg' are alike); keep the right ones."
    )
    path = put(tmp_path / "t.csv", "anchor,positive,negative\nü,a,b\nü,b,a\na,ü,b\n")
    with pytest.raises(LikewiseError) as caught:
        read_triplets(path, ["a", "b", "ü"], skip_bad=skip_bad)
    assert "(line 3: says that 'ü' is closer to 'b' than to 'a', but line 2 that 'ü' is closer to 'a'" in str(
        caught.value
    )


def test_bad_rows_and_contradictions_are_described_together(tmp_path: Path) -> None:
    path = put(tmp_path / "p.csv", "a,b,alike\nü,cats/1.jpg,1\nü,?,1\ncats/1.jpg,ü,0\n")
    with pytest.raises(LikewiseError, match=r"2 of the 3 rows cannot.*; correct them, or take them out of the file\."):
        read_pairs(path, IDS)
    with pytest.raises(LikewiseError, match=r"1 of the 3 rows contradict others \(line 4"):
        read_pairs(path, IDS, skip_bad=True)


SKIPPED = [
    Skipped(id="cats/bad.jpg", reason="empty file (zero bytes)"),
    Skipped(id="row 3", reason="no image bytes (null)"),
    Skipped(id="ü", reason="duplicate id; first at row 6"),  # an item all the same
]


def test_rows_about_items_that_could_not_be_used_are_left_out_and_say_why(tmp_path: Path) -> None:
    """They are no mistakes of the file."""
    text = "a,b,alike\ncats/1.jpg,cats/bad.jpg,1\ncats/1.jpg,ü,0\n row 3 ,cats/bad.jpg,0\ncats/bad.jpg,cats/bad.jpg,0\n"
    path = put(tmp_path / "p.csv", text)
    for skip_bad in (False, True):
        pairs = read_pairs(path, IDS, skip_bad=skip_bad, skipped=SKIPPED)
        assert pairs.rows.tolist() == [[0, 6]]
        assert pairs.skipped == (
            Skipped(id="line 2", reason="'cats/bad.jpg' could not be used: empty file (zero bytes)"),
            Skipped(id="line 4", reason="'row 3' could not be used: no image bytes (null)"),
            Skipped(id="line 5", reason="'cats/bad.jpg' could not be used: empty file (zero bytes)"),
        )
    text = "anchor,positive,negative\nü,cats/1.jpg,cats/bad.jpg\nü,cats/1.jpg,cats/2.jpg\n"
    triplets = read_triplets(put(tmp_path / "t.csv", text), IDS, skipped=SKIPPED)
    assert triplets.rows.tolist() == [[6, 0, 1]]
    assert [row.id for row in triplets.skipped] == ["line 2"]


def test_rows_about_items_that_could_not_be_used_may_be_bad_for_another_reason(tmp_path: Path) -> None:
    text = "a,b,alike\ncats/bad.jpg,cats/3.jpg,1\ncats/bad.jpg,ü,maybe\ncats/bad.jpg,ü,1\nü,cats/1.jpg,1\n"
    path = put(tmp_path / "p.csv", text)
    with pytest.raises(LikewiseError) as caught:
        read_pairs(path, IDS, skipped=SKIPPED)
    reasons = "line 2: b: no item has the id 'cats/3.jpg'. Did you mean 'cats/2.jpg'?; line 3: alike is 'maybe'"
    assert f"2 of the 4 rows cannot be used ({reasons}" in str(caught.value)
    found = read_pairs(path, IDS, skip_bad=True, skipped=SKIPPED)
    assert [row.id for row in found.skipped] == ["line 2", "line 3", "line 4"]
    with pytest.raises(
        LikewiseError, match=r"1 of the 1 rows .*could not be used: empty file .*; correct them, or give"
    ):
        read_pairs(put(tmp_path / "q.csv", "a,b,alike\ncats/bad.jpg,ü,1\n"), IDS, skipped=SKIPPED)


def test_nothing_left(tmp_path: Path) -> None:
    path = put(tmp_path / "p.csv", "a,b,alike\n1,2,1\n2,3,0\n")
    with pytest.raises(LikewiseError, match=r"2 of the 2 rows cannot be used \(line 2: a: no item has the id '1'"):
        read_pairs(path, IDS, skip_bad=True)


def test_many_bad_rows_stay_quick_and_the_first_have_hints(tmp_path: Path) -> None:
    rows = "".join(f"cats/{n}.jpg,ü,1\n" for n in range(3, 3000))
    skipped = read_pairs(put(tmp_path / "p.csv", f"a,b,alike\nü,cats/1.jpg,1\n{rows}"), IDS, skip_bad=True).skipped
    assert len(skipped) == 2997
    assert ["Did you mean" in item.reason for item in skipped] == [True] * 100 + [False] * 2897


# --- graded relevance ---


def test_graded_relevance_in_any_form_of_it(tmp_path: Path) -> None:
    text = "relevance,query,item,note\n2,ü,cats/1.jpg,\n 0.50 ,cats/1.jpg, ü ,x\n-0,ü,cats/2.jpg,\n2.0,ü,cats/1.jpg,\n"
    graded = read_graded(put(tmp_path / "g.csv", text + '1e2,ü,"a,b",\n'), IDS)
    assert graded.rows.tolist() == [[6, 0], [0, 6], [6, 1], [6, 4]]
    assert graded.relevance.tolist() == [2.0, 0.5, 0.0, 100.0]
    assert (graded.rows.dtype, graded.relevance.dtype) == (torch.int64, torch.float64)
    order, offsets = graded.by_query()
    assert (order.tolist(), offsets.tolist()) == ([1, 0, 2, 3], [0, 1, 4])
    assert (len(graded), graded.merged, graded.skipped, graded.source) == (4, 1, (), str(tmp_path / "g.csv"))
    columns = {"query": ["ü", "ü"], "item": ["cats/1.jpg", "cats/2.jpg"], "relevance": pa.array([3, 0], pa.int8())}
    pq.write_table(pa.table(columns), tmp_path / "g.parquet")
    assert read_graded(tmp_path / "g.parquet", IDS).relevance.tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("ü,ü,1", "'ü' is query and item"),
        ("ü,b,-1", "relevance is '-1', not a finite number, 0 or more"),
        ("ü,b,nan", "relevance is 'nan', not a finite number, 0 or more"),
        ("ü,b,inf", "relevance is 'inf', not a finite number, 0 or more"),
        ("ü,b,good", "relevance is 'good', not a finite number, 0 or more"),
        ("ü,b,", "relevance is empty"),
        ("v,b,1", "query: no item has the id 'v'"),
        ("ü,c,1", "item: no item has the id 'c'"),
        ("query,item,relevance", "repeats the header"),
    ],
)
def test_bad_graded_relevance(tmp_path: Path, row: str, reason: str) -> None:
    path = put(tmp_path / "g.csv", f"query,item,relevance\nü,a,2\n{row}\n")
    with pytest.raises(LikewiseError) as caught:
        read_graded(path, ["a", "b", "ü"])
    assert f"1 of the 2 rows cannot be used (line 3: {reason}" in str(caught.value)
    assert "likewise.read_graded(..., skip_bad=True) lists them all" in str(caught.value)
    found = read_graded(path, ["a", "b", "ü"], skip_bad=True)
    assert (found.rows.tolist(), found.relevance.tolist()) == ([[2, 0]], [2.0])
    assert [item.id for item in found.skipped] == ["line 3"]


def test_graded_relevance_that_contradicts_itself(tmp_path: Path) -> None:
    path = put(tmp_path / "g.csv", "query,item,relevance\nü,a,2\na,ü,1\nü,a,1.5\n")
    said = (
        r"\(line 4: says that the relevance of 'a' to 'ü' is 1\.5, but line 2 that the relevance of 'a' to 'ü' is 2\)"
    )
    with pytest.raises(LikewiseError, match=said):
        read_graded(path, ["a", "ü"])


# --- bad files ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"p\.csv is empty; its first line must be a,b,alike"),
        ("\n\n", r"p\.csv is empty"),
        ("a,b,alike\n\n", r"p\.csv holds no rows below its header"),
        ("a,b,alik\nü,a,1\n", r"no column 'alike'\. Did you mean 'alik'\? Name so the column .*; it has a,b,alik\."),
        ("A,b,alike\nü,a,1\n", r"no column 'a'.* has A,b,alike\.$"),
        (
            "user,item\nu,x\n",
            r"no column 'a'.* has user,item\. If it says who .*: likewise graph \S*p\.csv --out graph\.",
        ),
        ("item,other,count\nx,y,1\n", r"no column 'a'.* It is the edges of a graph: give the folder \S+\."),
        ("a;b;alike\nü;a;1\n", r"no column 'a'\. Its columns must be separated by commas\. .* has a;b;alike\.$"),
        ("a,b,a,alike\nü,a,ü,1\n", r"p\.csv has 2 columns 'a'; rename or remove all but one\."),
        ('a,b,alike\nü,"cats,1\n', r"p\.csv, line 2: cannot be read as CSV \(unexpected end of data\); .* quotes"),
        ('a,b,alike\nü,cats/1.jpg,1\nü,"x"y,1\n', r"p\.csv, line 3: cannot be read as CSV"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = put(tmp_path / "p.csv", text)
    with pytest.raises(LikewiseError, match=message):
        read_pairs(path, IDS)
    with pytest.raises(LikewiseError, match=message):
        read_pairs(path, IDS, skip_bad=True)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    put(tmp_path / "pairs.csv", "a,b,alike\nü,cats/1.jpg,1\n")
    with pytest.raises(
        LikewiseError,
        match=r"pair\.csv does not exist\. Did you mean 'pairs\.csv'\?.* a,b,alike, or the folder of a graph",
    ):
        read_pairs(tmp_path / "pair.csv", IDS)
    with pytest.raises(
        LikewiseError, match=r"is a folder\. Give a \.csv or \.parquet file .* anchor,positive,negative"
    ):
        read_triplets(tmp_path, IDS)
    with pytest.raises(LikewiseError, match=r"neither \.csv nor \.parquet"):
        read_pairs(put(tmp_path / "p.tsv", "a\tb\talike\n"), IDS)
    with pytest.raises(LikewiseError, match=r"not UTF-8 text .*; save it as CSV in UTF-8"):
        read_pairs(put(tmp_path / "p.csv", "a,b,alike\nü,x,1\n", "latin-1"), IDS)
    with pytest.raises(LikewiseError, match=r"not UTF-8 text"):
        read_pairs(put(tmp_path / "p.csv", "a,b,alike\nü,x,1\n", "utf-16"), IDS)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LikewiseError, match=r"cut\.parquet cannot be read as parquet"):
        read_pairs(tmp_path / "cut.parquet", IDS)
    pq.write_table(pa.table({"anchor": ["ü"], "positives": ["ü"], "negative": ["ü"]}), tmp_path / "t.parquet")
    with pytest.raises(LikewiseError, match=r"no column 'positive'\. Did you mean 'positives'\?"):
        read_triplets(tmp_path / "t.parquet", IDS)
    pq.write_table(pa.table({"a": pa.array([], pa.string()), "b": [], "alike": []}), tmp_path / "none.parquet")
    with pytest.raises(LikewiseError, match="holds no rows"):
        read_pairs(tmp_path / "none.parquet", IDS)


# --- from a file to a loss ---


def test_files_reach_objectives_by_batches(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(len(IDS), 4, generator=generator), dim=1)
    text = "anchor,positive,negative\ncats/1.jpg,cats/2.jpg,ü\ndogs/1.jpg,dogs/2.jpg,ü\nü,cats/1.jpg,dogs/1.jpg\n"
    triplets = read_triplets(put(tmp_path / "t.csv", text), IDS)
    objective = Triplet(reduction="sum")
    whole = objective(*from_triplets(z, triplets.rows))
    sampler = PairSampler(triplets.rows, 2, 0)
    parts = [sampler.tuples(step) for step in range(sampler.steps_per_epoch)]
    assert torch.isclose(sum(objective(*from_triplets(z[part.rows], part.local)) for part in parts), whole)
    pairs = read_pairs(put(tmp_path / "p.csv", "a,b,alike\ncats/1.jpg,cats/2.jpg,1\ncats/1.jpg,ü,0\n"), IDS)
    rows, local, which = PairSampler(pairs.rows, 4, 0).tuples(0)
    objective = Contrastive()
    expected = objective(*from_pairs(z, pairs.rows, pairs.alike))
    assert torch.isclose(objective(*from_pairs(z[rows], local, pairs.alike[which])), expected)
    assert np.isfinite(expected.item())


def test_parquet_that_is_cut_while_it_is_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in a memory map would end the process with SIGBUS."""
    monkeypatch.setattr(id_rows, "_CHUNK", 1000)
    texts = [np.random.default_rng(seed).bytes(100).hex() for seed in range(20_000)]
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"a": texts, "b": texts, "alike": [1] * 20_000}), path, row_group_size=1000)
    chunks = id_rows.parquet_chunks(path, ["a", "b", "alike"])
    next(chunks)
    os.truncate(path, 4096)
    with pytest.raises(LikewiseError, match=r"pairs\.parquet was cut short while it was read"):
        list(chunks)
