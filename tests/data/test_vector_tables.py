"""Vectors from tables and array files: every way gives the same items, and each bad input its sentence."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from likewise.data import Items, open_items, read_pairs, vector_rows
from likewise.errors import LikewiseError
from likewise.index import Index
from likewise.index.embedding_file import write_embedding
from likewise.model import load
from likewise.training.fit import fit

Opener = Callable[..., Items]
N, D = 7, 4
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
Y = ["b", "a", "b", "c", "a", "a", "c"]
IDS = [f"p{row}" for row in range(N)]
COLUMNS = ("f0", "f1", "f2", "f3")


@pytest.fixture
def items_of(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """open_items with a cache of this test's own."""
    cache = tmp_path_factory.mktemp("cache")
    return lambda source, **options: open_items(source, cache=cache, progress=False, **options)


def wide() -> dict[str, list[Any]]:
    return {"id": list(IDS), "label": list(Y), **{name: X[:, at].tolist() for at, name in enumerate(COLUMNS)}}


def written(path: Path, columns: dict[str, Any]) -> Path:
    """As CSV by Python's own writer, or as parquet."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=3)
        return path
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def the_same(items: Items, ids: list[str] | None = None, labels: list[str] | None = None) -> None:
    assert items.kind == "vectors"
    assert items.ids == tuple(ids or IDS)
    assert items.values.dtype == np.float32
    assert np.array_equal(items.values, X)
    assert items.labels is not None
    assert [items.label_names[label] for label in items.labels] == (labels or Y)


# --- every way ---


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_wide_columns(suffix: str, tmp_path: Path, items_of: Opener) -> None:
    path = written(tmp_path / f"t{suffix}", {**wide(), "note": ["x"] * N})
    items = items_of(path)
    the_same(items)
    assert items.notes == (f"{path}: a vector is the 4 columns of numbers: f0, f1, f2, f3; left out: note.",)
    the_same(items_of(path, columns="f*"))
    some = items_of(path, columns=["f3", "f1"], labels="none", key="id")
    assert np.array_equal(some.values, X[:, [3, 1]])
    assert some.labels is None
    assert (items.columns, some.columns) == (COLUMNS, ("f3", "f1"))
    assert items_of(path, labels="note").label_names == ("x",)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), D), pa.large_list(pa.float64()), pa.list_(pa.float16())]
)
def test_a_column_of_lists(kind: pa.DataType, tmp_path: Path, items_of: Opener) -> None:
    rows = pa.array(X.astype(np.float16 if kind.value_type == pa.float16() else np.float32).tolist())
    table = pa.table({"sku": IDS, "label": Y, "price": range(N), "v": rows.cast(kind)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    items = items_of(tmp_path / "t.parquet", key="sku")
    assert items.ids == tuple(IDS)
    assert np.allclose(items.values, X, atol=2e-3 if kind.value_type == pa.float16() else 0)
    assert items_of(tmp_path / "t.parquet").ids[2] == "row 2"


def test_frames(items_of: Opener) -> None:
    frame = pd.DataFrame(wide())
    the_same(items_of(frame))
    the_same(items_of(pa.table(frame)))
    lists = pd.DataFrame({"v": list(X), "species": pd.Categorical(Y)}, index=IDS)  # the index names the items
    the_same(items_of(lists, labels="species"))
    assert items_of(lists[lists.species == "a"], labels="species").ids == ("p1", "p4", "p5")
    assert items_of(frame).source == "the pandas DataFrame"


def test_any_object_with_arrows_stream_is_a_frame(items_of: Opener) -> None:
    """Types as polars exports them: large lists, views of text, categories."""

    class Other:
        def __init__(self, table: pa.Table) -> None:
            self.table = table

        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            return self.table.__arrow_c_stream__(requested_schema)

    lists = pa.array(X.tolist()).cast(pa.large_list(pa.float32()))
    text, labels = pa.array(IDS).cast(pa.string_view()), pa.array(Y).dictionary_encode()
    the_same(items_of(Other(pa.table({"id": text, "label": labels, "v": lists}))))


def test_npz_and_npy_with_a_file_of_labels(tmp_path: Path, items_of: Opener) -> None:
    rows = [str(row) for row in range(N)]
    np.savez(tmp_path / "d.npz", X=X, y=np.array(Y), w=np.ones(N))
    items = items_of(tmp_path / "d.npz")
    the_same(items, rows)
    assert items.notes == (f"{tmp_path / 'd.npz'}: the items are the array 'X', the labels 'y'.",)
    np.savez(tmp_path / "k.npz", x_train=X, y_train=np.array(Y), x_test=X[:2], y_test=np.array(Y[:2]), ids=IDS)
    the_same(items_of(tmp_path / "k.npz", columns="x_train"))
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.array(Y))
    the_same(items_of(tmp_path / "x.npy", labels=str(tmp_path / "y.npy")), rows)
    the_same(items_of(written(tmp_path / "t.csv", {k: v for k, v in wide().items() if k != "label"}),
                      labels=str(tmp_path / "y.npy")))  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_labels_by_id_in_a_file(suffix: str, tmp_path: Path, items_of: Opener) -> None:
    path = written(tmp_path / "t.parquet", {k: v for k, v in wide().items() if k != "label"})
    turned = {"label": [*Y[::-1], "z"], "id": [*IDS[::-1], "other"]}
    file = written(tmp_path / f"l{suffix}", turned)
    items = items_of(path, labels=str(file))
    the_same(items)
    assert items.notes[-1] == f"{file}: 1 of its ids are no items, such as 'other'."
    fewer = written(tmp_path / f"m{suffix}", {"id": IDS[:5], "kind": Y[:5]})  # the only other column
    partly = items_of(path, labels=str(fewer))
    assert partly.labels is not None
    assert partly.labels.tolist() == [1, 0, 1, 2, 0, -1, -1]
    assert partly.notes[-1] == f"{fewer}: 2 of the 7 items have no label there, such as 'p5'."


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
def test_what_embed_wrote(suffix: str, tmp_path: Path, items_of: Opener) -> None:
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    write_embedding(tmp_path / f"z{suffix}", unit, IDS, {})
    items = items_of(tmp_path / f"z{suffix}")
    assert items.ids == tuple(IDS)
    assert np.array_equal(items.values, unit)
    labels = written(tmp_path / "l.csv", {"id": IDS, "label": Y})
    assert items_of(tmp_path / f"z{suffix}", labels=str(labels)).label_names == ("a", "b", "c")


def test_several_files_and_folders_as_columns(tmp_path: Path, items_of: Opener) -> None:
    for label, rows in (("a", X[:3]), ("b", X[3:])):
        (tmp_path / f"label={label}").mkdir()
        written(tmp_path / f"label={label}" / "t.parquet", {"v": pa.array(rows.tolist())})
    items = items_of(tmp_path)
    assert np.array_equal(items.values, X)
    assert items.ids[3] == "label=b/t.parquet row 0"
    assert items.labels is not None
    assert items.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_ids_of_csv_keep_their_digits_and_numbers_may_have_points_further_down(
    tmp_path: Path, items_of: Opener
) -> None:
    ids = ["0012", "12345678901234567890"]
    items = items_of(written(tmp_path / "t.csv", {"id": ids, "label": [1, 2], "a": [1, "2.5"], "b": ["1e3", "-0"]}))
    assert items.ids == tuple(ids)
    assert items.values.tolist() == [[1, 1000], [2.5, 0]]
    assert items.label_names == ("1", "2")


def test_many_vectors_are_mapped(tmp_path: Path, items_of: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_rows, "IN_MEMORY", 3 * D * 4)
    items = items_of(written(tmp_path / "t.parquet", wide()))
    the_same(items)
    assert isinstance(items.values, np.memmap)


# --- bad rows ---


def test_bad_rows_are_left_out_by_name(tmp_path: Path, items_of: Opener) -> None:
    lists = [[1.0, 2.0], None, [1.0, 2.0, 3.0], [float("nan"), 0.0], [3.0, 4.0], [None, 1.0], [5.0, 6.0]]
    pq.write_table(pa.table({"v": lists, "label": Y, "id": IDS}), tmp_path / "t.parquet")
    items = items_of(tmp_path / "t.parquet")
    assert items.ids == ("p0", "p4", "p6")
    assert items.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    not_finite = "not finite (holds NaN, infinity, or more than float32 can)"
    assert {item.id: item.reason for item in items.skipped} == {
        "p1": "no vector (null)",
        "p2": "3 numbers, where others have 2",
        "p3": not_finite,
        "p5": not_finite,
    }
    np.save(tmp_path / "y.npy", np.arange(N))
    assert items_of(tmp_path / "t.parquet", labels=str(tmp_path / "y.npy")).label_names == ("0", "4", "6")
    gaps = {**wide(), "f2": ["", *X[1:, 2].tolist()]}
    items = items_of(written(tmp_path / "t.csv", gaps))
    assert items.ids == tuple(IDS[1:])
    assert items.skipped[0].reason == f"column 'f2' is empty or {not_finite}"
    keyed = items_of(written(tmp_path / "k.parquet", {**wide(), "sku": [None, *IDS[1:]]}), key="sku", columns="f*")
    assert (keyed.skipped[0].id, keyed.skipped[0].reason) == ("row 0", "no id (column 'sku' is empty)")


# --- sentences ---

BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such column": ({}, {"columns": ["f0", "ff1"]}, r"no column 'ff1'\. Did you mean 'f1'\?.* f0, f1, f2, f3"),
    "no such pattern": ({}, {"columns": "pixel*"}, r"no column like 'pixel\*'\. Its columns are id, label, f0"),
    "text named": ({}, {"columns": ["f0", "label"]}, r"column 'label' holds string, not numbers; name other columns"),
    "no such label": ({}, {"labels": "lable"}, r"no column 'lable'\. Did you mean 'label'\?"),
    "ids repeat": (
        {"sku": ["a", *"abcdef"]},
        {"key": "sku", "columns": "f*"},
        r"2 of the 7 rows of .* share their 'sku' with another row \(such as 'a'\): name a column of unique ids",
    ),
    "a label among numbers": (
        {"label": None, "target": [*range(N)]},
        {},
        r"no column 'label', but 'target' looks like one: say labels=target, or labels=none if it is a number",
    ),
    "no label file": ({}, {"labels": "y.npz.npy"}, r"the file of labels y\.npz\.npy does not exist"),
}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("case", BAD)
def test_bad_tables(case: str, suffix: str, tmp_path: Path, items_of: Opener) -> None:
    more, options, said = BAD[case]
    columns = {name: values for name, values in {**wide(), **more}.items() if values is not None}
    with pytest.raises(LikewiseError, match=said):
        items_of(written(tmp_path / f"t{suffix}", columns), **options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3,x\n5,6\n7,8\n", r"t\.csv, line 3: column 'b' holds 'x' among numbers; correct it"),
        ("a,b\n1,2\n3\n", r"t\.csv, row 3: has 1 fields, the header 2"),
        ("5.1,3.5,setosa\n4.9,3,setosa\n", r"the first line holds '5\.1', a number and not a column's name"),
        ("a;b\n1;2\n", r"one column only, 'a;b'; its columns must be separated by commas"),
        ("a,b,a\n1,2,3\n", r"has 2 columns 'a'; rename"),
        ("", r"t\.csv is empty; its first line must name the columns"),
        ("a,b\n", r"t\.csv holds no rows"),
        ("name,word\nx,y\n", r"t\.csv has no image column .* and no vectors .* name \(string\), word \(string\)"),
        ("a,id\n1,\xff\n", r"t\.csv is not UTF-8 text"),
        ("\xe4,b\n1,2\n", r"t\.csv is not UTF-8 text"),
        ("\xff\xfea\0,\0b\0\n\0001\0,\0002\0\n\0", r"t\.csv is not UTF-8 text"),
        ("a,b\n1,\n,1\n", r"none of the 2 vectors of .* can be used: row 0: column 'b' is empty or not finite"),
    ],
)
def test_bad_csv(text: str, said: str, tmp_path: Path, items_of: Opener) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(LikewiseError, match=said):
        items_of(tmp_path / "t.csv")


def test_whole_numbers_with_a_point_are_the_same_labels(tmp_path: Path, items_of: Opener) -> None:
    """As pandas writes a column of whole numbers with a gap. Other texts stay as they are."""
    labels = ["0", "1", "0.0", "1.0", "", "01", "1.5", "-2.00", "10.0", "10"]
    (tmp_path / "t.csv").write_text("a,label\n" + "".join(f"{row},{text}\n" for row, text in enumerate(labels)))
    items = items_of(tmp_path / "t.csv")
    assert items.labels is not None
    names = ["" if label < 0 else items.label_names[label] for label in items.labels]
    assert names == ["0", "1", "0", "1", "", "01", "1.5", "-2", "10", "10"]
    (tmp_path / "l.csv").write_text("id,label\n" + "".join(f"row {row},{row % 2}.0\n" for row in range(10)))
    assert items_of(tmp_path / "t.csv", labels=str(tmp_path / "l.csv")).label_names == ("0", "1")


def test_text_far_below_numbers_is_a_sentence(
    tmp_path: Path, items_of: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.data.csv_files._BLOCK", 64)
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 100 + "3,oops\n")
    with pytest.raises(LikewiseError, match=r"t\.csv.*: column 'b' holds 'oops' among numbers; correct it"):
        items_of(tmp_path / "t.csv")


def test_ids_that_repeat_without_being_named_are_row_numbers(tmp_path: Path, items_of: Opener) -> None:
    path = written(tmp_path / "t.parquet", {**wide(), "id": [*"aab", None, *"def"]})
    items = items_of(path)
    assert items.ids == tuple(f"row {row}" for row in range(N))
    said = f"2 of the 7 rows of {path} share their 'id' with another row (such as 'a'), so that ids are row numbers."
    assert items.notes[-1] == said


def test_two_columns_of_vectors_are_told(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"old": X.tolist(), "new": (-X).tolist(), "text": Y}), path)
    items = items_of(path)
    assert np.array_equal(items.values, X)
    assert items.notes == (f"{path}: the column 'old' is read as the vectors, not 'new'; choose with columns=.",)
    assert np.array_equal(items_of(path, columns="new").values, -X)
    with pytest.raises(LikewiseError, match=r"column 'old' holds list.*, not numbers; name a column of lists alone"):
        items_of(path, columns=["old", "new"])
    with pytest.raises(LikewiseError, match=r"columns= names vectors and image='text' images: leave one"):
        items_of(path, columns="new", image="text")


def test_bad_array_files(tmp_path: Path, items_of: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "two.npz", a=X, b=X)
    with pytest.raises(LikewiseError, match=r"has 2 arrays that may be the items \(a, b\) among a, b; name one with"):
        items_of(tmp_path / "two.npz")
    with pytest.raises(LikewiseError, match=r"has no array 'aa' \(columns=\)\. Did you mean 'a'\? It has a, b\."):
        items_of(tmp_path / "two.npz", columns="aa")
    np.savez(tmp_path / "code.npz", x=X, y=np.array([{}] * N, dtype=object))
    with pytest.raises(LikewiseError, match=r"code\.npz cannot be read as \.npz \(an array holds Python objects\)"):
        items_of(tmp_path / "code.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:100])
    with pytest.raises(LikewiseError, match=r"cut\.npz cannot be read as \.npz"):
        items_of(tmp_path / "cut.npz")
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda self, name: X if name == "big" else None)
        np.savez(tmp_path / "big.npz", big=X, note=np.arange(3))
        assert np.array_equal(items_of(tmp_path / "big.npz").values, X)  # of the others the header alone is read
    (tmp_path / "text.npz").write_text("one, two")
    (tmp_path / "one.npz").write_bytes(b"\x93NUMPY")
    for name, why in {"text": "it is a file of another kind", "one": "it is a .npy, which holds one array"}.items():
        with pytest.raises(LikewiseError, match=rf"{name}\.npz cannot be read as \.npz \({why}\); save it again"):
            items_of(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "few.npz", x=X, y=np.arange(3))
    with pytest.raises(LikewiseError, match=r"few\.npz has 7 rows, but 3 labels"):
        items_of(tmp_path / "few.npz")
    np.save(tmp_path / "z.npy", X)
    (tmp_path / "z.ids.json").write_text(json.dumps({"ids": ["a"]}))
    with pytest.raises(LikewiseError, match=r"z\.npy has 7 rows, but 1 ids"):
        items_of(tmp_path / "z.npy")
    (tmp_path / "z.ids.json").write_text("{")
    with pytest.raises(LikewiseError, match=r"z\.ids\.json is damaged"):
        items_of(tmp_path / "z.npy")


def test_bad_files_of_labels(tmp_path: Path, items_of: Opener) -> None:
    path = written(tmp_path / "t.parquet", {k: v for k, v in wide().items() if k != "label"})
    np.save(tmp_path / "y.npy", np.arange(3))
    with pytest.raises(LikewiseError, match=r"t\.parquet has 7 rows, but 3 labels"):
        items_of(path, labels=str(tmp_path / "y.npy"))
    for columns, said in (
        ({"id": ["q1", "q2"], "label": ["a", "b"]}, r"no id of .* is that of an item: .* 'p0', and .* 'q1'; name the"),
        ({"id": ["p0", "p0"], "label": ["a", "b"]}, r"gives 'p0' the labels 'a' and 'b'; keep the right one"),
        ({"ids": ["p0"], "label": ["a"]}, r"no column 'id'\. Did you mean 'ids'\?"),
        ({"id": ["p0"], "labels": ["a"], "more": ["b"]}, r"no column 'label'\. Did you mean 'labels'\?"),
    ):
        with pytest.raises(LikewiseError, match=said):
            items_of(path, labels=str(written(tmp_path / "l.csv", columns)))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    with pytest.raises(LikewiseError, match=r"\.npy file of labels has one for each row, but .* is a folder of images"):
        items_of(tmp_path / "photos", labels=str(tmp_path / "y.npy"))


def test_bad_frames(items_of: Opener) -> None:
    with pytest.raises(LikewiseError, match=r"the pandas DataFrame cannot be read \(.*; give each column one type"):
        items_of(pd.DataFrame({"a": [1, "x"]}))
    with pytest.raises(LikewiseError, match=r"the pandas DataFrame cannot be read \(Duplicate column names found"):
        items_of(pd.DataFrame(np.ones((2, 2)), columns=["a", "a"]))
    with pytest.raises(LikewiseError, match=r"images such as 'image' are read from \.parquet only"):
        items_of(pd.DataFrame({"image": [b"x"], "name": ["a"]}))


def test_a_model_finds_the_numbers_of_a_table_by_name(tmp_path: Path) -> None:
    """The columns may be in another order, and the column of labels is none of the vector."""
    small = {"encoder.name": "mlp", "encoder.hidden": 8, "encoder.dim": 4, "epochs": 1, "batch_size": 4}
    numbers = {**wide(), "label": [1, 0, 1, 2, 0, 0, 2]}
    model = fit(pd.DataFrame(numbers), out=tmp_path / "run", settings=small, progress=False)
    expected = model.embed(X, progress=False).rows
    turned = written(tmp_path / "t.csv", dict(reversed(numbers.items())))
    loaded = load(tmp_path / "run")
    embedding = loaded.embed(turned, progress=False)
    assert torch.equal(embedding.rows, expected)
    assert embedding.ids == tuple(IDS)
    lists = written(tmp_path / "v.parquet", {"v": pa.array(X.tolist()), "sku": IDS})
    index = loaded.index(lists, columns=["v"], key="sku", progress=False)
    assert index.ids == tuple(IDS)
    with pytest.raises(LikewiseError, match="no column 'f0'"):
        loaded.embed(lists, progress=False)


def test_labels_by_id_of_images(tmp_path: Path, items_of: Opener) -> None:
    for name in ("a/1", "a/2", "b/3"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (int(name[-1]), 0, 0)).save(tmp_path / "photos" / f"{name}.png")
    labels = written(tmp_path / "l.csv", {"id": ["b/3.png", "a/2.png"], "label": ["x", "y"]})
    items = items_of(tmp_path / "photos", labels=str(labels), size=8)
    assert items.label_names == ("x", "y")
    assert items.labels.tolist() == [-1, 1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_roles_in_other_letters_and_the_index_of_pandas_are_no_features(
    suffix: str, tmp_path: Path, items_of: Opener
) -> None:
    path = tmp_path / f"t.{suffix}"
    text = "Unnamed: 0,f1,f2,Label\n07,1,2,a\n08,3,4,1\n09,5,6,2\n10,5,7,1\n"
    (tmp_path / "t.csv").write_text(text)
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pandas(pd.read_csv(tmp_path / "t.csv"), preserve_index=False), path)
    items = items_of(path)
    assert items.columns == ("f1", "f2")
    assert items.ids == (("07", "08", "09", "10") if suffix == "csv" else ("7", "8", "9", "10"))
    assert items.label_names == ("1", "2", "a")
    assert items.notes[:2] == (
        "the labels are the column 'Label'.",
        f"{path}: the column 'Unnamed: 0' is pandas' index, no number of the vector.",
    )
    (tmp_path / "t.csv").write_text(",f1, label ,ID\nx,1,a,p\ny,2,b,q\n")
    items = items_of(tmp_path / "t.csv")
    assert (items.ids, items.label_names, items.columns) == (("p", "q"), ("a", "b"), ("f1",))
    (tmp_path / "t.csv").write_text("f1,f2,\n1,2,\n3,4,\n")  # a comma at the end of each line is no index
    assert items_of(tmp_path / "t.csv").notes == (
        f"{tmp_path / 't.csv'}: a vector is the 2 columns of numbers: f1, f2; left out: .",
    )
    (tmp_path / "t.csv").write_text("f1,Label,LABEL\n1,2,3\n")
    with pytest.raises(LikewiseError, match="no column 'label', but 'Label' looks like one: say labels=Label"):
        items_of(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("f1,Target\n1,2\n1,3\n1,x\n")
    with pytest.raises(LikewiseError, match=r"holds 'x' among numbers; .*, or say labels=Target if these are the"):
        items_of(tmp_path / "t.csv")


def test_folders_of_parquet_that_are_no_labels_are_said(tmp_path: Path, items_of: Opener) -> None:
    for name in ("cat/x", "dog/x", "train/x", "test/x", "hive/label=0/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"v": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / f"{name}.parquet")
    named = items_of(str(tmp_path / "[cd]*/*.parquet")).notes
    assert "the folders' names, such as 'cat', are no labels unless they are written label=cat." in named
    assert not any("no labels" in note for note in items_of(str(tmp_path / "t*/*.parquet")).notes)
    for source in (tmp_path / "hive/label=0", str(tmp_path / "hive/label=0/*.parquet")):
        assert items_of(source).notes == (
            f"{source} lies in label=0: give the folder above, and such names are the labels.",
        )
    assert items_of(tmp_path / "hive").label_names == ("0",)


def test_masked_arrays_are_refused(items_of: Opener) -> None:
    masked = np.ma.masked_array(X, mask=np.arange(N * D).reshape(N, D) == 3)
    for source in (masked, (X, np.ma.masked_array(range(N), mask=[1] + [0] * (N - 1))), list(masked)):
        with pytest.raises(
            LikewiseError, match=r"an array of shape .* has masked values; fill them with filled\(\), or"
        ):
            items_of(source)
    assert np.array_equal(items_of(np.ma.masked_array(X)).values, X)


def test_whole_numbers_of_many_bits(items_of: Opener) -> None:
    with pytest.raises(LikewiseError, match="holds a whole number of more than 64 bits; write that column as text"):
        items_of(pd.DataFrame({"id": [2**70, 2**70 + 1], "f": [1.0, 2.0]}))
    assert items_of(pd.DataFrame({"id": [str(2**70)], "f": [1.0]})).ids == (str(2**70),)


def test_very_long_ids_are_cut_in_messages(tmp_path: Path, items_of: Opener) -> None:
    long = "x" * 10**5
    frame = pa.table({"id": [f"{long}1", f"{long}2", f"{long}1"], "f": [1.0, 2.0, 3.0]})
    (note,) = [note for note in items_of(frame).notes if "share their" in note]
    assert len(note) < 400
    items = items_of(frame.slice(0, 2))
    (tmp_path / "pairs.csv").write_text(f"a,b\n{long}1,{long}1\n{long},{long}2\n")
    pq.write_table(pa.table({"id": [long], "label": ["a"]}), tmp_path / "labels.parquet")
    tried: list[Callable[[], object]] = [
        lambda: items_of(frame, key="id"),
        lambda: read_pairs(tmp_path / "pairs.csv", items.ids),
        lambda: items_of(frame.slice(0, 2), labels=str(tmp_path / "labels.parquet")),
        lambda: Index(torch.eye(2), items.ids).search(long),
    ]
    for call in tried:
        with pytest.raises(LikewiseError, match="xxx…xxx") as caught:
            call()
        assert len(str(caught.value)) < 1000
