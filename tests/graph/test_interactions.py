"""Interactions from files: which columns are read, which rows are left out and why, and what is no usable file."""

import gzip
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.parquet as pq
import pytest

from likewise.errors import LikewiseError
from likewise.graph.columns import Columns, find_columns
from likewise.graph.interactions import Log, read_interactions

DAY = 86_400 * 1_000_000  # microseconds
GOOD = "user,item,rating,timestamp\nu1,b,1,20\nu1,a,2,10\nu2,a,3,30\n"


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def table(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def read(path: Path, least: float = 0.0, **columns: str) -> Log:
    return read_interactions(path, Columns(**columns), least=least)


def rows_of(log: Log) -> list[tuple[str, str, float | None]]:
    user, item, time = log.rows
    times = [None] * len(user) if time is None else time.tolist()
    assert log.items == sorted(log.items)
    return [(log.users[u], log.items[i], t) for u, i, t in zip(user.tolist(), item.tolist(), times, strict=True)]


def reasons(log: Log) -> dict[str, int]:
    return {each.reason.partition(" (")[0]: each.rows for each in log.left_out}


# --- what is read ---


@pytest.mark.parametrize("name", ["r.csv", "r.CSV", "r.csv.gz", "r.txt"])
@pytest.mark.parametrize("mark", ",\t;|")
def test_text_in_any_form_of_it(tmp_path: Path, name: str, mark: str) -> None:
    expected = [("u1", "b", 20), ("u1", "a", 10), ("u2", "a", 30)]
    for text in (
        GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD.replace("u1,b", ' u1 ,"b"'),
        "\ufeff" + GOOD,
    ):
        log = read(put(tmp_path / name, text.replace(",", mark)))
        assert rows_of(log) == expected
        assert (log.total, log.below, log.left_out) == (3, 0, ())


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("userId,movieId,rating,timestamp", ("userId", "movieId", "rating", "timestamp")),
        ("User_ID\tAnime_ID\tFeedback", ("User_ID", "Anime_ID", "Feedback", None)),
        ("time,Item ID,visitorid", ("visitorid", "Item ID", None, "time")),
        ("customer_id,isbn_id,price,event_time", ("customer_id", "isbn_id", None, None)),
    ],
)
def test_columns_are_found_by_their_names(names: str, found: tuple[str | None, ...]) -> None:
    columns = find_columns("f", names.split("\t" if "\t" in names else ","), Columns())
    assert (columns.user, columns.item, columns.weight, columns.time) == found


def test_columns_are_named(tmp_path: Path) -> None:
    path = put(tmp_path / "r.csv", "who,what,user,item,score\nu,i,1,2,5\nv,i,3,4,6\n")
    log = read(path, user="who", item="what", weight="none")
    assert rows_of(log) == [("u", "i", None), ("v", "i", None)]
    assert log.columns.line() == "user 'who', item 'what', no weights, no times"


def test_ids_are_text_and_numbers_are_written_without_a_point(tmp_path: Path) -> None:
    whole = table(tmp_path / "w.parquet", user=[1, 1, 2], item=[10, 9, 9])
    floats = table(tmp_path / "f.parquet", user=[1.0, 1.0, 2.0], item=pa.array([10.0, 9.0, 9.0], pa.float32()))
    texts = table(tmp_path / "t.parquet", user=["1", "1", "2"], item=pa.array(["10", "9", "9"]).dictionary_encode())
    for path in (whole, floats, texts):
        assert rows_of(read(path)) == [("1", "10", None), ("1", "9", None), ("2", "9", None)]
        assert read(path).items == ["10", "9"]
    zeros = put(tmp_path / "z.csv", "user,item\n1,007\n1,7\ne\u0301,x\n\u00e9,y\n")
    assert rows_of(read(zeros)) == [("1", "007", None), ("1", "7", None), ("é", "x", None), ("é", "y", None)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([3, 1, 2], pa.int32()), [3, 1, 2]),
        (pa.array([2**60 + 1, 2**60, 0]), [2**60 + 1, 2**60, 0]),
        (pa.array([0.5, -1.0, 1e9]), [0.5, -1.0, 1e9]),
        (pa.array([date(1970, 1, 2), date(1970, 1, 1), date(1969, 12, 31)]), [86_400_000_000, 0, -86_400_000_000]),
        (pa.array([datetime(1970, 1, 1, 0, 0, second, tzinfo=UTC) for second in (2, 1, 0)]), [2_000_000, 1_000_000, 0]),
        (["1970-01-01T00:00:02Z", "1970-01-01 00:00:01", "1970-01-01"], [2_000_000, 1_000_000, 0]),
        (["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:00.5", "1970-01-01T00:00"], [0, 500_000, 0]),
        (["20", " 3e1", "10.5"], [20, 30, 10.5]),
        (["1500000000000000002", " 1500000000000000001", "-7"], [1500000000000000002, 1500000000000000001, -7]),
    ],
)
def test_times_of_every_kind(tmp_path: Path, times: Any, expected: list[float]) -> None:
    path = table(tmp_path / "r.parquet", user=["a", "b", "c"], item=["x", "y", "z"], time=times)
    assert [time for _, _, time in rows_of(read(path))] == expected


def test_a_row_counts_from_the_least_weight_on(tmp_path: Path) -> None:
    path = put(tmp_path / "r.csv", "user,item,weight\na,x,0\nb,x,0.5\nc,x,4\nd,x,4.5\n")
    log = read(path)
    assert ([row[0] for row in rows_of(log)], log.below, log.left_out) == (["b", "c", "d"], 1, ())
    assert [row[0] for row in rows_of(read(path, least=4))] == ["c", "d"]


# --- rows that are left out ---


def test_bad_rows_are_left_out_counted_and_named(tmp_path: Path) -> None:
    good = "".join(f"g{number},x,1,5\n" for number in range(20))
    bad = (
        "u1,x,-1,5\nu2,x,nan,5\nu3,x,inf,5\nu4,x,many,5\nu5,x,,5\nu6,x,1,yesterday\nu7,x,1,\n,x,1,5\nNULL,x,1,5\n"
        "unknown,x,1,5\nu8,,1,5\nu9,The Good, the Bad,1,5\nu10,x\n"
    )
    log = read(put(tmp_path / "r.csv", "user,item,weight,time\n" + good[:100] + bad + good[100:]))
    assert reasons(log) == {
        "the weight is negative": 1,
        "the weight is NaN or infinite": 2,
        "the weight is no number": 2,
        "the time can't be read": 2,
        "no user": 3,
        "no item": 1,
        "a number of fields that is not the header's": 2,
    }
    assert log.total == 33
    assert len(rows_of(log)) == 20
    lines = "\n".join(each.line() for each in log.left_out)
    assert "1 rows: the weight is negative (such as user 'u1', item 'x': '-1')" in lines
    assert "2 rows: the time can't be read (such as user 'u6', item 'x': 'yesterday'; user 'u7', item 'x': '')" in lines
    assert "(such as 5 fields for 4: 'u9,The Good, the Bad,1,5'; 2 fields for 4: 'u10,x')" in lines


def test_bad_rows_of_parquet(tmp_path: Path) -> None:
    rows = 40
    weight, time = [1.0] * rows, [7.0] * rows
    weight[0], weight[1], weight[2], time[3] = -2.0, float("nan"), None, float("inf")  # type: ignore[call-overload]
    user: list[str | None] = [f"u{number}" for number in range(rows)]
    user[4], user[5] = None, " None "
    log = read(table(tmp_path / "r.parquet", user=user, item=[1] * rows, weight=weight, time=time))
    assert reasons(log) == {
        "the weight is negative": 1,
        "the weight is NaN or infinite": 1,
        "the weight is no number": 1,
        "the time can't be read": 1,
        "no user": 2,
    }
    assert len(rows_of(log)) == rows - 6


def test_at_most_three_rows_of_a_kind_are_named_and_all_are_counted(tmp_path: Path) -> None:
    text = "user,item,weight\n" + "".join(f"u{number},x,{1 - 2 * (number % 2)}\n" for number in range(10_000))
    (left_out,) = read(put(tmp_path / "r.csv", text)).left_out
    assert (left_out.rows, len(left_out.such_as)) == (5_000, 3)
    ragged = "user,item\n" + "".join(f"u{number},x{',x' * (number % 2)}\n" for number in range(10_000))
    (left_out,) = read(put(tmp_path / "s.csv", ragged)).left_out
    assert (left_out.rows, len(left_out.such_as)) == (5_000, 3)


def test_a_quote_that_is_not_closed_swallows_no_lines_in_silence(tmp_path: Path) -> None:
    rest = "".join(f"u{number},x,t,5\n" for number in range(9))
    ragged = read(put(tmp_path / "r.csv", f'user,item,title,rating\n{rest}v,y,"Toy,5\nw,z,t,5\n'))
    assert reasons(ragged) == {"lines that run together after a quote that is not closed": 2}
    assert (ragged.total, ragged.within) == (11, 0)
    joined = read(put(tmp_path / "r.csv", f'user,item,title,rating\nv,y,"Toy,5\nw,z,"Toy,5\n{rest}'))
    assert (joined.total, joined.within, joined.left_out) == (10, 1, ())  # as many fields as the header
    blank = put(tmp_path / "r.csv", f"\n\r\nuser,item,title,rating\n\n{rest}\n\n".replace("u0", " u0"))
    assert (read(blank).total, read(blank).within, len(read(blank).items)) == (9, 0, 1)


def test_lines_that_end_as_on_old_computers(tmp_path: Path) -> None:
    assert rows_of(read(put(tmp_path / "r.csv", "user,item\ra,x\rb,y\r"))) == [("a", "x", None), ("b", "y", None)]


# --- what is no usable file ---


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.csv", None, r"absent.csv does not exist\.  *Give a file .csv, .tsv, .txt"),
        ("r.json", GOOD, r"r.json is of no kind that is read here. Give a file .csv"),
        ("r.parquet.gz", GOOD, r"is of no kind that is read here"),
        ("r.csv", "", r"is empty; its first line must name the columns, such as user,item,weight,time"),
        ("r.csv", "user,item\n", r"holds no rows"),
        (
            "r.csv",
            "196,242,3,881250949\n1,2,3,4\n",
            r"the first line holds '196', a number and not a column's name; add",
        ),
        ("r.csv", "a,item\n1,2\n", r"no column that is called as users are; name it with --user. It has a, item"),
        ("r.csv", "user,a\n1,2\n", r"no column that is called as items are; name it with --item. It has user, a"),
        ("r.csv", "user,a_id,b_id\n1,2,3\n", r"no column that is called as items are"),
        ("r.csv", "user,user,item\n1,2,3\n", r"has 2 columns 'user'; rename or remove all but one"),
        ("r.csv", "user,item,weight\na,b,0\n", r"no row whose weight is above 0 and at least 0; lower --least"),
        (
            "r.csv",
            "user,item,weight\na,b,x\nc,d,1\ne,f,y\n",
            r"2 of the 3 rows can't be used; 2 rows: the weight is no num",
        ),
        ("r.csv", "user,item\n,b\n", r"1 of the 1 rows can't be used; 1 rows: no user"),
        ("r.csv.gz", "cut", r"cannot be read \("),
        ("r.csv.gz", "plain", r"cannot be read \("),
        ("r.parquet", GOOD, r"cannot be read as parquet"),
    ],
)
def test_files_that_are_no_interactions(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    path = tmp_path / name
    if text is not None:
        put(path, text)
    if text == "cut":
        text = GOOD + "".join(f"u{number * number % 977},i{number},1,5\n" for number in range(9999))
        path.write_bytes(gzip.compress(text.encode())[:-300])
    if name == "r.parquet" or text == "plain":
        path.write_text(GOOD)
    with pytest.raises(LikewiseError, match=said):
        read(path)


def test_the_parts_of_a_folder_are_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("_SUCCESS", ".part-00000.csv.crc", "part-00003-c000.csv"):
        put(folder / name, "")
    put(folder / "part-00000-c000.csv", GOOD)
    put(folder / "part-00001-c000.csv", "user,item,rating,timestamp\n")
    put(folder / "part-00002-c000.csv.gz", "user,item,rating,timestamp\nu2,b,1,5\nu9,b,x,5\nu9\n")
    log = read(folder)
    assert rows_of(log) == [("u1", "b", 20), ("u1", "a", 10), ("u2", "a", 30), ("u2", "b", 5)]
    assert (log.total, log.within, reasons(log)) == (
        6,
        0,
        {"the weight is no number": 1, "a number of fields that is not the header's": 1},
    )
    for place, number in ((0, 1), (1, 2)):
        table(tmp_path / f"part-{place}.snappy.parquet", user=[number], item=[str(number)])
    shutil.rmtree(folder)
    (tmp_path / "_temporary").mkdir()
    assert rows_of(read(tmp_path)) == [("1", "1", None), ("2", "2", None)]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"_SUCCESS": ""}, r"d is a folder without files of interactions. Give a file .csv"),
        ({"a.csv": GOOD, "b.json": GOOD}, r"b.json is of no kind that is read here"),
        ({"a.csv": GOOD, "b.csv": "usr,item\n1,2\n"}, r"b.csv has no column that is called as users are"),
        ({"a.csv": GOOD, "b.csv": "user,movie\n1,2\n"}, r"b.csv has user 'user', item 'movie', .*, but a.csv has user"),
        ({"a.csv": GOOD, "x.parquet": GOOD}, r"d holds text and parquet, a.csv and x.parquet; leave one kind there"),
        ({"a.csv": GOOD, "2019": None}, r"d holds the folder 2019, and .* not read; name that folder, or call folders"),
        ({"year=1": None}, r"d is a folder without files of interactions"),
    ],
)
def test_a_part_that_does_not_fit_is_named(tmp_path: Path, parts: dict[str, str | None], said: str) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name, text in parts.items():
        (folder / name).mkdir() if text is None else put(folder / name, text)
    with pytest.raises(LikewiseError, match=said):
        read(folder)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_folders_stand_for_columns(tmp_path: Path, kind: str) -> None:
    """As pyarrow and Spark write partitions: ``day=2019-05-01/part.parquet``."""
    days = ["2019-05-01", "2019-05-02", "2019-05-02", None]
    rows = {"user": ["u1", "u1", "u2", "u2"], "item": ["a", "b", "a", "b"], "date": days, "year": [1, 1, 2, 2]}
    dataset.write_dataset(
        pa.table(rows),
        tmp_path / "d",
        format=kind,
        partitioning=["year", "date"],
        partitioning_flavor="hive",
    )
    log = read(tmp_path / "d")
    start = int(datetime(2019, 5, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert sorted(rows_of(log)) == [("u1", "a", start), ("u1", "b", start + DAY), ("u2", "a", start + DAY)]
    assert (log.total, reasons(log)) == (4, {"the time can't be read": 1})
    assert [t for _, _, t in rows_of(read(tmp_path / "d", time="year"))] == [1, 1, 2, 2]
    assert read(tmp_path / "d", time="none").rows.time is None
    with pytest.raises(
        LikewiseError, match=r"no column 'yaer'\. Did you mean 'year'\? .* it has user, item, year, date"
    ):
        read(tmp_path / "d", time="yaer")


def test_a_column_of_the_file_comes_before_that_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "date=2019-05-01").mkdir()
    table(tmp_path / "date=2019-05-01" / "a.parquet", user=[1, 2], item=[1, 2], ts=[7, 9])
    assert rows_of(read(tmp_path)) == [("1", "1", 7), ("2", "2", 9)]


def test_parts_whose_ids_have_other_types_are_refused(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", user=[1], item=[1])
    table(tmp_path / "b.parquet", user=["1"], item=[1])
    with pytest.raises(LikewiseError, match=r"b.parquet: column 'user' holds string, but int64 in a.parquet"):
        read(tmp_path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    for encoding in ("utf-16", "latin-1"):
        for text in (GOOD.replace("b", "é"), GOOD.replace("rating", "rätting")):
            with pytest.raises(LikewiseError, match="is not UTF-8 text; save it in UTF-8"):
                read(put(tmp_path / "r.csv", text, encoding))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"user": "usr"}, r"has no column 'usr'\. Did you mean 'user'\? Name another one with --user; it has"),
        ({"user": "user", "item": "user"}, r"the column 'user' is taken for users and for items; name another"),
        ({"weight": "timestamp"}, r"one column is taken twice \(user 'user', item 'item', weight 'timestamp'"),
        ({"user": "none"}, r"has no column 'none'"),
    ],
)
def test_columns_that_cannot_be_read(tmp_path: Path, columns: dict[str, str], said: str) -> None:
    with pytest.raises(LikewiseError, match=said):
        read(put(tmp_path / "r.csv", GOOD), **columns)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"item": [[1], [2]]}, r"column 'item' holds list<.*>, not ids; name another one with --item"),
        ({"user": [b"a", b"b"]}, r"column 'user' holds binary, not ids"),
        ({"weight": [[1.0], [2.0]]}, r"column 'weight' holds list<.*>, not numbers"),
        ({"time": [True, None]}, r"the time can't be read"),
    ],
)
def test_parquet_of_other_types(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    path = table(tmp_path / "r.parquet", **({"user": ["a", "b"], "item": ["x", "y"]} | columns))
    if "time" in columns:
        assert reasons(read(path)) == {"the time can't be read": 1}
        return
    with pytest.raises(LikewiseError, match=said):
        read(path)


def test_rows_of_several_batches_and_dictionaries(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    user, item = generator.integers(0, 500, 30_000), generator.integers(0, 90, 30_000)
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"user": user, "item": item, "time": np.arange(30_000)}), path, row_group_size=700)
    expected = [(str(u), str(i), t) for t, (u, i) in enumerate(zip(user.tolist(), item.tolist(), strict=True))]
    assert rows_of(read(path)) == expected
