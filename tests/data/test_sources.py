"""Every source: which items it has, their ids and labels, and what it says when given something it cannot use."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from likewise.data import Items, Skipped, describe, native_side, open_items, write_skipped
from likewise.data.items import encode_label_sets, encode_labels
from likewise.errors import LikewiseError

Opener = Callable[..., Items]


@pytest.fixture
def items_of(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """open_items with a cache of this test's own."""
    cache = tmp_path_factory.mktemp("cache")

    def opener(source: object, **options: Any) -> Items:
        return open_items(source, cache=cache, **{"size": 8, "progress": False} | options)

    return opener


def picture(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(seed)).save(out, "PNG")
    return out.getvalue()


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def names(items: Items) -> list[str]:
    """The label of each item as text."""
    assert items.labels is not None
    return [items.label_names[label] for label in items.labels]


# --- folders ---


def test_folder(tmp_path: Path, items_of: Opener) -> None:
    put(tmp_path, {"b/2.png": png(2), "a/10.png": png(10), "a/x/9.PNG": png(9), "a/1.png": png(1)})
    items = items_of(tmp_path)
    assert items.ids == ("a/1.png", "a/10.png", "a/x/9.PNG", "b/2.png")
    assert items.kind == "images"
    assert items.values.shape == (4, 8, 8, 3)
    for row, seed in enumerate([1, 10, 9, 2]):
        assert np.array_equal(items.values[row], picture(seed))
    assert names(items) == ["a", "a", "x", "b"]
    assert items.label_names == ("a", "b", "x")
    assert items.source == str(tmp_path)
    assert items_of(str(tmp_path), labels="none").labels is None
    assert describe(items) == "4 images, 3 labels"


def test_ids_do_not_depend_on_the_order_files_were_made(tmp_path: Path, items_of: Opener) -> None:
    files = {f"{n % 3}/{n}.png": png(n) for n in range(12)}
    one = items_of(put(tmp_path / "one", files))
    two = items_of(put(tmp_path / "two", dict(reversed(files.items()))))
    assert one.ids == two.ids
    assert one.ids_hash == two.ids_hash
    assert np.array_equal(one.values, two.values)


def test_one_parent_folder_is_no_label(tmp_path: Path, items_of: Opener) -> None:
    assert items_of(put(tmp_path, {"a/1.png": png(1), "a/2.png": png(2)})).labels is None


def test_an_image_beside_the_class_folders_has_no_label(tmp_path: Path, items_of: Opener) -> None:
    """The folder above it is the data set, not a class."""
    items = items_of(put(tmp_path / "all", {"b/2.png": png(2), "a/1.png": png(1), "cover.png": png(3)}))
    assert items.ids == ("a/1.png", "b/2.png", "cover.png")
    assert items.label_names == ("a", "b")
    assert items.labels.tolist() == [0, 1, -1]  # type: ignore[union-attr]
    assert items_of(put(tmp_path / "one", {"a/1.png": png(1), "cover.png": png(3)})).labels is None


def test_numbered_folders_sort_by_number(tmp_path: Path, items_of: Opener) -> None:
    items = items_of(put(tmp_path, {f"{n}/i.png": png(n) for n in (10, 9, 2, 1)}))
    assert items.label_names == ("1", "2", "9", "10")
    assert names(items) == ["1", "10", "2", "9"]


def test_what_is_ignored_and_what_is_an_image_without_saying_so(tmp_path: Path, items_of: Opener) -> None:
    put(tmp_path, {".hidden.png": png(1), ".git/2.png": png(2), "notes.txt": b"hello", "a.json": b"{}"})
    put(tmp_path, {"no_suffix": png(3), "odd.suffix": png(4), "README": b"no image at all", "text.bin": b"BA"})
    items = items_of(tmp_path)
    assert items.ids == ("no_suffix", "odd.suffix")
    assert items.skipped == ()


def test_bad_files_are_skipped_by_name_with_a_reason(tmp_path: Path, items_of: Opener) -> None:
    cut = png(7)[:60]
    put(tmp_path, {"ok.png": png(1), "zero.jpg": b"", "text.jpg": b"hello", "cut.png": cut, "phone.heic": b"\0" * 50})
    (tmp_path / "broken_link.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    items = items_of(tmp_path)
    assert items.ids == ("ok.png",)
    assert {item.id: item.reason for item in items.skipped} == {
        "broken_link.png": "file not found (a broken link)",
        "cut.png": "truncated (the file ends before the picture does)",
        "phone.heic": "not an image",
        "pipe.png": "not a file",
        "text.jpg": "not an image",
        "zero.jpg": "empty file (zero bytes)",
    }
    assert describe(items) == "1 image, 6 skipped"


def test_permission_denied(tmp_path: Path, items_of: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"a.png": png(1), "secret.png": png(2), "sub/b.png": png(3)})
    read, scan = Path.read_bytes, os.scandir

    def read_bytes(self: Path) -> bytes:
        if self.name == "secret.png":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    def scandir(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(os, "scandir", scandir)
    items = items_of(tmp_path)
    assert items.ids == ("a.png",)
    assert items.skipped == (
        Skipped(id="secret.png", reason="permission denied"),
        Skipped(id="sub/", reason="folder: permission denied"),
    )


def test_a_name_that_is_not_utf8(tmp_path: Path, items_of: Opener) -> None:
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"), "wb") as file:
        file.write(png(1))
    items = items_of(tmp_path)
    assert items.ids == ("caf\\xe9.png",)
    assert items.ids[0].encode()


# --- parquet ---


def table(rows: int, start: int = 0, **columns: Any) -> pa.Table:
    images = [{"bytes": png(n), "path": f"p/{n}.png"} for n in range(start, start + rows)]
    return pa.table({"image": images, **columns})


def test_parquet(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table(5, label=[10, 9, 2, 10, 2], kind=["a", "b", "b", "a", None]), path, row_group_size=2)
    items = items_of(path)
    assert items.ids == tuple(f"p/{n}.png" for n in range(5))
    assert np.array_equal(items.values, [picture(n) for n in range(5)])
    assert items.label_names == ("2", "9", "10")
    assert names(items) == ["10", "9", "2", "10", "2"]
    other = items_of(path, labels="kind")
    assert other.label_names == ("a", "b")
    assert other.labels is not None
    assert other.labels.tolist() == [0, 1, 1, 0, -1]
    assert items_of(path, labels="none").labels is None


def test_parquet_key_column_and_rows_as_ids(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "t.parquet"
    images = [{"bytes": png(n), "path": None} for n in range(3)]
    pq.write_table(pa.table({"image": images, "sku": [7, None, 9]}), path)
    assert items_of(path).ids == ("row 0", "row 1", "row 2")
    keyed = items_of(path, key="sku")
    assert keyed.ids == ("7", "9")
    assert keyed.skipped == (Skipped(id="row 1", reason="no id (column 'sku' is empty)"),)


def test_parquet_plain_binary_column(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": [1, 2], "data": pa.array([png(1), png(2)], pa.large_binary())}), path)
    items = items_of(path)
    assert items.ids == ("row 0", "row 1")
    assert np.array_equal(items.values[1], picture(2))


def test_parquet_bad_rows(tmp_path: Path, items_of: Opener) -> None:
    images = [
        {"bytes": png(0), "path": "a"},
        {"bytes": None, "path": "b"},
        None,
        {"bytes": png(1), "path": "a"},
        {"bytes": b"", "path": "c"},
        {"bytes": png(2), "path": "d"},
    ]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": images, "label": list("uvwxyz")}), path)
    items = items_of(path)
    assert items.ids == ("row 0", "row 3", "d")
    assert names(items) == ["u", "x", "z"]
    assert items.skipped == (
        Skipped(id="b", reason="no image bytes (null)"),
        Skipped(id="row 2", reason="no image bytes (null)"),
        Skipped(id="c", reason="empty file (zero bytes)"),
    )


def test_folder_of_parquet(tmp_path: Path, items_of: Opener) -> None:
    pq.write_table(table(3, label=[0, 1, 2]), tmp_path / "b.parquet")
    (tmp_path / "a").mkdir()
    images = [{"bytes": png(n), "path": None} for n in (7, 8)]
    pq.write_table(pa.table({"image": images, "label": [3, 4]}), tmp_path / "a" / "x.parquet")
    items = items_of(tmp_path)
    assert items.ids == ("a/x.parquet row 0", "a/x.parquet row 1", "p/0.png", "p/1.png", "p/2.png")
    assert names(items) == ["3", "4", "0", "1", "2"]


def test_parquet_mistakes(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table(2, label=[0, 1]), path)
    with pytest.raises(LikewiseError, match=r"no column 'lable'\. Did you mean 'label'\?.* image, label"):
        items_of(path, labels="lable")
    with pytest.raises(LikewiseError, match="no column 'sku'"):
        items_of(path, key="sku")
    pq.write_table(pa.table({"x": ["a"]}), tmp_path / "none.parquet")
    with pytest.raises(LikewiseError, match=r"no image column .* and no vectors .* x \(string\)"):
        items_of(tmp_path / "none.parquet")
    pq.write_table(table(2)[:0], tmp_path / "empty.parquet")
    with pytest.raises(LikewiseError, match="holds no rows"):
        items_of(tmp_path / "empty.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:200])
    with pytest.raises(LikewiseError, match=r"cut\.parquet cannot be read as parquet"):
        items_of(tmp_path / "cut.parquet")


def test_a_parquet_column_that_holds_no_labels_is_refused(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "t.parquet"
    columns = {"raw": [b"a", b"b"], "boxes": [[[1], [2]], [[3]]], "day": pa.array([1, 2], pa.date32())}
    kinds = {"kind": pa.array(["x", None]).dictionary_encode(), "nothing": pa.nulls(2)}
    pq.write_table(table(2, **columns, **kinds), path)
    for column, kind in (("image", "struct<bytes: binary, path: string>"), ("raw", "binary"), ("boxes", "list<")):
        with pytest.raises(
            LikewiseError, match=rf"column '{column}' holds {kind}.*, not labels; name one of text or n"
        ):
            items_of(path, labels=column)
    assert items_of(path, labels="day").label_names == ("1970-01-02", "1970-01-03")
    assert items_of(path, labels="kind").label_names == ("x",)
    assert items_of(path, labels="nothing").labels.tolist() == [-1, -1]  # type: ignore[union-attr]
    pq.write_table(table(2, label=[b"a", b"b"]), path)
    with pytest.raises(LikewiseError, match=r"column 'label' holds binary, not labels; .* or give labels=none"):
        items_of(path)
    assert items_of(path, labels="none").labels is None


def test_parquet_column_of_lists_is_several_labels_an_item(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "t.parquet"
    tags = [["b", "a"], None, ["c"], [], ["a", None, "c", "a"]]
    numbers = pa.array([[10, 9], [9], [2], [2], [10]], pa.list_(pa.int32(), -1))
    pq.write_table(table(5, tags=tags, numbers=numbers, fixed=pa.array([[1, 2]] * 5, pa.list_(pa.int8(), 2))), path)
    items = items_of(path, labels="tags")
    assert items.labels is not None
    assert items.labels.dtype == np.int64
    assert items.labels.tolist() == [[0, 1], [-1, -1], [2, -1], [-1, -1], [0, 2]]
    assert items.label_names == ("a", "b", "c")
    assert describe(items) == "5 images, 3 labels"
    assert items.select([4, 2]).labels.tolist() == [[0, 2], [2, -1]]  # type: ignore[union-attr]
    found = items_of(path, labels="numbers")
    assert found.label_names == ("2", "9", "10")
    assert found.labels.tolist() == [[1, 2], [1, -1], [0, -1], [0, -1], [2, -1]]  # type: ignore[union-attr]
    assert items_of(path, labels="fixed").labels.tolist() == [[0, 1]] * 5  # type: ignore[union-attr]


# --- arrays ---


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
def test_vectors(make: Callable[[np.ndarray], Any], items_of: Opener) -> None:
    array = np.random.default_rng(0).normal(size=(5, 3))
    array[1, 2], array[3, 0] = np.nan, 1e300
    items = items_of((make(array), ["b", "b", "a", "a", "c"]))
    assert items.kind == "vectors"
    assert items.values.dtype == np.float32
    assert items.ids == ("0", "2", "4")
    assert np.array_equal(items.values, array[[0, 2, 4]].astype(np.float32))
    assert names(items) == ["b", "a", "c"]
    assert [item.id for item in items.skipped] == ["1", "3"]
    assert "not finite" in items.skipped[0].reason
    assert describe(items) == "3 vectors, 3 labels, 2 skipped"
    assert items.batch([2, 0]).dtype == torch.float32


def test_npy_file_stays_on_disk(tmp_path: Path, items_of: Opener) -> None:
    array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "v.npy", array)
    items = items_of(tmp_path / "v.npy")
    assert np.array_equal(items.values, array)
    assert isinstance(items.values.base, np.memmap) or isinstance(items.values, np.memmap)
    np.save(tmp_path / "i.npy", np.stack([picture(1, 12, 10), picture(2, 12, 10)]))
    images = items_of(tmp_path / "i.npy")
    assert images.values.shape == (2, 8, 8, 3)
    assert images.ids == ("0", "1")


def test_images_in_arrays(items_of: Opener) -> None:
    exact = np.stack([picture(n) for n in range(4)])
    items = items_of((exact, torch.tensor([1, 0, 1, 10])))
    assert np.shares_memory(items.values, exact)
    assert items.label_names == ("0", "1", "10")
    for variant in (
        exact.astype(np.float32) / 255,
        torch.from_numpy(exact),
        torch.from_numpy(exact).permute(0, 3, 1, 2),
        (torch.from_numpy(exact).permute(0, 3, 1, 2) / 255),
        exact.astype(np.uint16) * 257,
    ):
        assert np.array_equal(items_of(variant).values, exact)
    grey = exact[:, :, :, 0]
    expected = np.repeat(grey[:, :, :, None], 3, axis=3)
    assert np.array_equal(items_of(grey).values, expected)
    assert np.array_equal(items_of(grey[:, :, :, None]).values, expected)
    opaque = np.concatenate([exact, np.full((4, 8, 8, 1), 255, np.uint8)], axis=3)
    assert np.array_equal(items_of(opaque).values, exact)
    assert items_of(exact, size=5).values.shape == (4, 5, 5, 3)


def test_array_mistakes(items_of: Opener, tmp_path: Path) -> None:
    with pytest.raises(LikewiseError, match=r"item 0: float images must be in \[0, 1\].* from 0 to 126"):
        items_of(np.linspace(0, 255, 2 * 8 * 8).reshape(2, 8, 8))
    with pytest.raises(LikewiseError, match=r"shape \(3,\)"):
        items_of(np.zeros(3))
    with pytest.raises(LikewiseError, match="empty"):
        items_of(np.zeros((0, 4)))
    with pytest.raises(LikewiseError, match="not numbers"):
        items_of(np.array([["a", "b"]]))
    with pytest.raises(LikewiseError, match="3 labels; give one label per item"):
        items_of((np.zeros((2, 4)), [1, 2, 3]))
    with pytest.raises(LikewiseError, match="none of the 2 vectors"):
        items_of(np.full((2, 4), np.inf))
    with pytest.raises(LikewiseError, match="names a column"):
        items_of(np.zeros((2, 4)), labels="species")
    with pytest.raises(LikewiseError, match=r"none of the 2 items .* \(H, W, C\)"):
        items_of(np.zeros((2, 8, 8, 7), np.uint8))
    np.save(tmp_path / "o.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(LikewiseError, match=r"o\.npy cannot be read as \.npy"):
        items_of(tmp_path / "o.npy")
    assert items_of(np.zeros((2, 4))).labels is None


@pytest.mark.parametrize(
    "given",
    [
        [[5, 30], [], [5, 5], [7]],
        [{30, 5}, frozenset(), {5}, [7]],
        [np.array([30, 5]), None, torch.tensor([5]), 7],
        [torch.tensor([30, 5]), [], [torch.tensor(5)], [np.int8(7)]],
        np.array([[5, 30], [-1, -1], [5, -1], [-1, 7]]),
        torch.tensor([[5, 30], [-1, -1], [5, -1], [-1, 7]]),
    ],
)
@pytest.mark.parametrize(
    "values", [np.zeros((4, 3), np.float32), np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 5, 5))]
)
def test_arrays_with_several_labels_an_item(values: np.ndarray, given: Any, items_of: Opener) -> None:
    items = items_of((values, given))
    assert items.label_names == ("5", "7", "30")
    assert items.labels is not None
    assert items.labels.tolist() == [[0, 2], [-1, -1], [0, -1], [1, -1]]
    assert items_of((values, given), labels="none").labels is None


@pytest.mark.parametrize(
    "given",
    [
        np.array([-1, -1, 0, 0, 1, 1]),
        np.array([[-1], [-7], [0], [0], [1], [1]], np.int8),
        torch.tensor([-1, -1, 0, 0, 1, 1]),
        list(torch.tensor([-1, -1, 0, 0, 1, 1])),
        list(np.array([-1, -1, 0, 0, 1, 1])),
    ],
)
@pytest.mark.parametrize("values", [np.zeros((6, 3), np.float32), np.zeros((6, 8, 8, 3), np.uint8)])
def test_a_negative_integer_of_an_array_is_no_label(values: np.ndarray, given: Any, items_of: Opener) -> None:
    """As in (N, L), in the samplers and in the objectives; a negative number of Python's is one like any other."""
    items = items_of((values, given))
    assert items.label_names == ("0", "1")
    assert items.labels is not None
    assert items.labels.tolist() == [-1, -1, 0, 0, 1, 1]
    assert items_of((values, [-1, -1, 0, 0, 1, 1])).label_names == ("-1", "0", "1")
    assert items_of((values, np.array([-1.0, 0, 0, 0, 0, 0]))).label_names == ("-1", "0")


def test_a_negative_integer_of_a_dataset_is_no_label(items_of: Opener) -> None:
    items = items_of(TensorDataset(torch.zeros(4, 3), torch.tensor([-1, 5, 7, -1])))
    assert items.label_names == ("5", "7")
    assert items.labels.tolist() == [-1, 0, 1, -1]  # type: ignore[union-attr]
    several = items_of(TensorDataset(torch.zeros(3, 3), torch.tensor([[5, -1], [-1, -1], [5, 7]])))
    assert several.label_names == ("5", "7")
    assert several.labels.tolist() == [[0, -1], [-1, -1], [0, 1]]  # type: ignore[union-attr]


def test_a_column_per_class_and_a_column_of_labels(items_of: Opener) -> None:
    hot = np.array([[True, False, True], [False, False, False], [False, True, False]])
    items = items_of((np.zeros((3, 2)), hot))
    assert items.labels is not None
    assert items.labels.tolist() == [[0, 2], [-1, -1], [1, -1]]
    one = items_of((np.zeros((3, 2)), np.array([[4], [2], [4]])))
    assert one.labels is not None
    assert one.labels.tolist() == [1, 0, 1]
    for given in (hot.astype(np.int64), hot.astype(int).tolist(), list(hot)):
        with pytest.raises(
            LikewiseError, match=r"3 times 0 or 1 for every item, .* column per class: give a bool array"
        ):
            items_of((np.zeros((3, 2)), given))
    with pytest.raises(LikewiseError, match=r"labels have shape \(3, 3\) and hold float64; give one label per item"):
        items_of((np.zeros((3, 2)), hot.astype(float)))
    with pytest.raises(LikewiseError, match=r"labels have shape \(3, 1, 2\)"):
        items_of((np.zeros((3, 2)), np.zeros((3, 1, 2), int)))
    with pytest.raises(LikewiseError, match="a label of type list is not one label"):
        items_of((np.zeros((3, 2)), [[[1]], [2], [3]]))
    with pytest.raises(LikewiseError, match=r"a label of shape \(2,\) and type float64 is not one label"):
        items_of((np.zeros((3, 2)), [np.array([0.5, 0.5])] * 3))
    with pytest.raises(LikewiseError, match="3 rows, but 2 labels"):
        items_of((np.zeros((3, 2)), [[1], [2]]))


# --- Datasets ---


class Pictures(Dataset[Any]):
    """A Dataset as people write them; ``form`` chooses what an item is."""

    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> Any:
        if row == 2:
            raise RuntimeError("file 2 is gone")
        image = picture(row)
        forms = {
            "pil": Image.fromarray(image),
            "hwc": image,
            "chw": torch.from_numpy(image).permute(2, 0, 1),
            "float": torch.from_numpy(image).permute(2, 0, 1) / 255,
            "labelled": (Image.fromarray(image), torch.tensor(row % 2)),
            "normalised": torch.from_numpy(image).permute(2, 0, 1) / 255 - 0.5,
            "dict": {"image": image},
        }
        return forms[self.form]


@pytest.mark.parametrize("form", ["pil", "hwc", "chw", "float", "labelled"])
def test_dataset(form: str, items_of: Opener) -> None:
    items = items_of(Pictures(form))
    assert items.ids == ("0", "1", "3", "4", "5")
    assert np.array_equal(items.values, [picture(n) for n in (0, 1, 3, 4, 5)])
    assert items.skipped == (Skipped(id="2", reason="the Dataset raised RuntimeError: file 2 is gone"),)
    if form == "labelled":
        assert names(items) == ["0", "1", "1", "0", "1"]
        assert items_of(Pictures(form), labels="none").labels is None
    else:
        assert items.labels is None


def test_dataset_mistakes(items_of: Opener) -> None:
    with pytest.raises(LikewiseError, match="leave out the normalisation"):
        items_of(Pictures("normalised"))
    with pytest.raises(LikewiseError, match=r"gives dict; .* \(image, label\)"):
        items_of(Pictures("dict"))
    with pytest.raises(LikewiseError, match="int is not a source"):
        items_of(3)

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([])

    with pytest.raises(LikewiseError, match="map-style Dataset"):
        items_of(Stream())


def test_dataset_of_vectors(items_of: Opener) -> None:
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    vectors[4, 0] = torch.inf
    items = items_of(TensorDataset(vectors, torch.tensor([3, 3, 1, 1, 1])))
    assert items.kind == "vectors"
    assert items.ids == ("0", "1", "2", "3")
    assert np.array_equal(items.values, vectors[:4].numpy())
    assert names(items) == ["3", "3", "1", "1"]


class Listed(Dataset[Any]):
    """A Dataset of these items."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        return self.items[row]


def test_items_of_a_dataset_unlike_the_first_are_named(items_of: Opener) -> None:
    vectors = items_of(Listed(torch.ones(3), torch.ones(2), "text", torch.zeros(3)))
    assert vectors.ids == ("0", "3")
    assert [(bad.id, bad.reason) for bad in vectors.skipped] == [
        (row, "not a vector of 3 numbers, as the first is") for row in "12"
    ]
    images = items_of(Listed(Image.new("RGB", (8, 8)), "text"))
    assert images.ids == ("0",)
    assert images.skipped == (Skipped(id="1", reason="str is not a PIL image, array or tensor"),)
    with pytest.raises(LikewiseError, match="Listed is empty; give"):
        items_of(Listed())
    with pytest.raises(LikewiseError, match="a label of type bytearray is not one label"):
        items_of(Listed((torch.ones(3), bytearray(b"a"))))
    for labels, kind in ((3, "int"), ("abcd", "str")):
        with pytest.raises(LikewiseError, match=f"labels are given as {kind}; give a list or array"):
            items_of((np.zeros((4, 3), np.float32), labels))


# --- anything else ---


def test_paths_that_are_no_source(tmp_path: Path, items_of: Opener) -> None:
    put(tmp_path, {"photos/a.png": png(1), "table.txt": b"x"})
    with pytest.raises(LikewiseError, match=r"photo does not exist\. Did you mean 'photos'\? Give a folder"):
        items_of(tmp_path / "photo")
    with pytest.raises(LikewiseError, match="for a single image, give the folder"):
        items_of(tmp_path / "photos" / "a.png")
    with pytest.raises(LikewiseError, match=r"table\.txt is not a source"):
        items_of(tmp_path / "table.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LikewiseError, match="holds no images, it has no files at all"):
        items_of(tmp_path / "empty")
    with pytest.raises(LikewiseError, match=r"only 1 other files, such as n\.txt"):
        items_of(put(tmp_path / "texts", {"n.txt": b"x"}))
    with pytest.raises(LikewiseError, match=r"'species' names a column, but .* is a folder"):
        items_of(tmp_path / "photos", labels="species")
    with pytest.raises(LikewiseError, match="leave key out"):
        items_of(tmp_path / "photos", key="id")
    with pytest.raises(LikewiseError, match="size=0"):
        items_of(tmp_path / "photos", size=0)


def test_all_bad_is_one_sentence_with_the_first_reasons(tmp_path: Path, items_of: Opener) -> None:
    put(tmp_path, {f"{n}.jpg": b"" for n in range(5)})
    with pytest.raises(LikewiseError) as caught:
        items_of(tmp_path)
    text = str(caught.value)
    assert "none of the 5 items" in text
    assert str(tmp_path) in text
    assert "0.jpg: empty file (zero bytes); 1.jpg:" in text
    assert "3.jpg" not in text
    assert "\n" not in text


# --- Items ---


def test_items_pass_through_batch_and_select() -> None:
    values = np.stack([picture(n) for n in range(5)])
    labels = np.array([0, 1, 0, 1, 1])
    items = Items(ids=tuple("abcde"), values=values, kind="images", labels=labels, label_names=("x", "y"))
    assert open_items(items) is items
    batch = items.batch(torch.tensor([3, 0, 3]))
    assert batch.dtype == torch.uint8
    assert np.array_equal(batch, values[[3, 0, 3]])
    batch.zero_()
    assert items.values[3].any()
    assert items.batch([]).shape == (0, 8, 8, 3)
    for rows in ([4, 1], np.array([1, 2, 3])):
        part = items.select(rows)
        assert part.ids == tuple("abcde"[row] for row in rows)
        assert np.array_equal(part.values, values[rows])
        assert np.array_equal(part.labels, labels[rows])
        assert part.label_names == ("x", "y")
    assert np.shares_memory(items.select([1, 2, 3]).values, values)
    assert items.select([]).ids == ()
    assert items.select([1, 0]).ids_hash != items.select([0, 1]).ids_hash
    with pytest.raises(LikewiseError, match="mask"):
        items.batch(np.array([True] * 5))


def test_items_check_themselves() -> None:
    with pytest.raises(LikewiseError, match="unique"):
        Items(ids=("a", "a"), values=np.zeros((2, 3), np.float32), kind="vectors")
    with pytest.raises(LikewiseError, match="2 ids but 3 values"):
        Items(ids=("a", "b"), values=np.zeros((3, 3), np.float32), kind="vectors")


def test_items_take_one_or_several_labels_each() -> None:
    values = np.zeros((2, 3), np.float32)
    for labels in (np.array([0, -1]), np.array([[0, 1], [1, -1]])):
        items = Items(ids=("a", "b"), values=values, kind="vectors", labels=labels, label_names=("x", "y"))
        assert np.array_equal(items.select([1, 0]).labels, labels[::-1])
        assert np.array_equal(items.select([1]).labels, labels[1:])
    for labels, message in ((np.zeros((2, 1, 1), int), r"shape \(2, 1, 1\)"), (np.zeros((3, 2), int), "3 labels")):
        with pytest.raises(LikewiseError, match=message):
            Items(ids=("a", "b"), values=values, kind="vectors", labels=labels, label_names=("x",))


@pytest.mark.parametrize(
    ("labels", "expected", "names"),
    [
        ([("b", "a"), "b", [], {"c"}], [[0, 1], [1, -1], [-1, -1], [2, -1]], ("a", "b", "c")),
        ([None, [None, float("nan"), ""], float("nan")], [[-1], [-1], [-1]], ()),
        ([[10, "10"], [9]], [[1], [0]], ("9", "10")),
        ([np.array([3, 1]), np.array(3), np.int64(1)], [[0, 1], [1, -1], [0, -1]], ("1", "3")),
        ([[("a", 1)], [("a", 0)]], [[1], [0]], ("('a', 0)", "('a', 1)")),
        ([], [], ()),
    ],
)
def test_label_sets(labels: list[Any], expected: list[list[int]], names: tuple[str, ...]) -> None:
    index, found = encode_label_sets(labels)
    assert index.tolist() == expected
    assert index.dtype == np.int64
    assert index.ndim == 2
    assert found == names


def test_labels_of_one_item_may_be_a_tensor() -> None:
    index, found = encode_label_sets([torch.tensor([3, 1]), torch.tensor(1), [3]])
    assert found == ("1", "3")
    assert [sorted(row[row >= 0].tolist()) for row in index] == [[0, 1], [0], [1]]


def test_label_sets_refuse_what_is_no_label() -> None:
    with pytest.raises(LikewiseError, match="a label of type dict is not one label"):
        encode_label_sets([[1], {"x": 1}])
    with pytest.raises(LikewiseError, match="a label of type list is not one label"):
        encode_label_sets([[1, [2]]])


class Unsaid:
    """As pandas' NA: whether it equals anything it leaves open."""

    def __ne__(self, other: object) -> Any:
        return self

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


def test_what_leaves_open_whether_it_is_itself_is_no_label() -> None:
    unsaid = Unsaid()
    assert encode_labels(["a", unsaid, "b"])[0].tolist() == [0, -1, 1]
    assert encode_label_sets([["a", unsaid], unsaid])[0].tolist() == [[0], [-1]]


def test_any_hashable_is_one_label() -> None:
    labels = [True, 1, 1.0, ("a", 1), "a", None, float("nan"), "", b"x", frozenset]
    index, names = encode_labels(labels)
    assert [names[row] if row >= 0 else None for row in index.tolist()] == [
        *("True", "1", "1", "('a', 1)", "a", None, None, None, "x", "<class 'frozenset'>")
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([10, 9, -1], ("-1", "9", "10")),
        (["class10", "class2", "Class1"], ("Class1", "class2", "class10")),
        (["b", 2, None, float("nan"), 10], ("2", "10", "b")),
        ([("a", 1), ("a", 0)], ("('a', 0)", "('a', 1)")),
    ],
)
def test_label_names_sort_naturally(labels: list[Any], expected: tuple[str, ...]) -> None:
    index, found = encode_labels(labels)
    assert found == expected
    for label, row in zip(labels, index.tolist(), strict=True):
        assert row == -1 if label is None or label != label else found[row] == str(label)


def test_write_skipped(tmp_path: Path) -> None:
    skipped = (Skipped(id='a,"b".jpg', reason="permission denied"), Skipped(id="ü", reason="x\ny"))
    items = Items(ids=("z",), values=np.zeros((1, 2), np.float32), kind="vectors", skipped=skipped)
    write_skipped(items, tmp_path / "skipped.csv")
    text = (tmp_path / "skipped.csv").read_text(encoding="utf-8")
    assert text == 'id,reason\n"a,""b"".jpg",permission denied\nü,"x\ny"\n'
    assert [path.name for path in tmp_path.iterdir()] == ["skipped.csv"]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(4).to_sparse(), "sparse"),
        (lambda: torch.empty(4, 4, device="meta"), "on the device meta"),
    ],
)
def test_tensors_without_readable_values(make: Callable[[], torch.Tensor], kind: str, items_of: Opener) -> None:
    with pytest.raises(LikewiseError, match=rf"a tensor of shape \(4, 4\) is {kind}, so .*; give a dense one"):
        items_of(make())


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">u2", ">i4"])
def test_byte_order_does_not_matter(dtype: str, items_of: Opener) -> None:
    vectors = np.arange(12).reshape(3, 4).astype(dtype)
    assert np.array_equal(items_of(vectors).values, vectors)


def test_npy_files_that_are_something_else(tmp_path: Path, items_of: Opener) -> None:
    path = tmp_path / "v.npy"
    with open(path, "wb") as file:
        np.savez(file, a=np.eye(3))
    with pytest.raises(LikewiseError, match=r"\(it is a \.npz, which holds several arrays\); save it again with numpy"):
        items_of(path)
    for other in (b"1 2 3\n", b"", b"\x80\x04N."):
        path.write_bytes(other)
        with pytest.raises(LikewiseError, match=r"v\.npy cannot be read as \.npy \(it is a file of another kind\)"):
            items_of(path)
    np.save(path, np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(LikewiseError, match=r"\(it holds Python objects\)"):
        items_of(path)


# --- the size of pictures before they are decoded ---


def test_the_side_of_pictures_is_that_of_the_middle_one(tmp_path: Path, items_of: Opener) -> None:
    for name, height, width in (("a", 20, 30), ("b", 64, 80), ("c", 200, 40)):
        Image.fromarray(picture(0, height, width)).save(tmp_path / f"{name}.png")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n")
    assert native_side(tmp_path) == 40  # of 0, 20, 40 and 64
    pq.write_table(
        pa.table({"image": [(tmp_path / f"{name}.png").read_bytes() for name in "abb"]}), tmp_path / "t.parquet"
    )
    assert native_side(tmp_path / "t.parquet") == 64
    assert native_side(np.zeros((3, 12, 9, 3), np.uint8)) == 9
    assert native_side(np.zeros((3, 12), np.float32)) == 0  # vectors
    assert native_side(items_of(tmp_path)) == 0  # decoded already
