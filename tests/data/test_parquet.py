"""Several parquet files as one source: what is joined, what is chosen and said, and what is refused."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise.data import Items, cache, open_items, parquet
from likewise.data.parquet_files import ParquetPath
from likewise.data.source import Wanted
from likewise.errors import LikewiseError


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(seed)).save(out, "PNG")
    return out.getvalue()


def write(path: Path, seeds: Sequence[int], paths: Sequence[str | None] | None = None, **columns: Any) -> Path:
    """Pictures of these seeds; their paths are ``seed.png`` unless given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [f"{seed}.png" for seed in seeds] if paths is None else paths
    images = [{"bytes": png(seed), "path": name} for seed, name in zip(seeds, paths, strict=True)]
    pq.write_table(pa.table({"image": images, **columns}), path)
    return path


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    def opener(source: object, **options: Any) -> Items:
        return open_items(source, cache=tmp_path / "cache", **{"size": 8, "progress": False} | options)

    return opener


def names(items: Items) -> list[str]:
    assert items.labels is not None
    return [items.label_names[label] for label in items.labels]


# --- ids ---


def test_base_names_that_repeat_lose_no_image(tmp_path: Path, opened: Any) -> None:
    path = write(tmp_path / "t.parquet", range(5), ["0.png", "1.png", "0.png", "1.png", "2.png"], label=[*"aabbb"])
    items = opened(path)
    assert items.ids == ("row 0", "row 1", "row 2", "row 3", "2.png")
    assert names(items) == [*"aabbb"]
    assert np.array_equal(items.values, [picture(seed) for seed in range(5)])
    assert items.skipped == ()
    assert items.notes == (
        f"{path}: 4 of the 5 images share their path with another one (such as '0.png'), so that their ids are file "
        "and row.",
    )


def test_shards_that_both_number_from_0_lose_no_image(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0, 1], ["0.png", "1.png"])
    write(tmp_path / "d" / "b.parquet", [2, 3, 4], ["0.png", "1.png", "2.png"])
    items = opened(tmp_path / "d")
    assert items.ids == ("a.parquet row 0", "a.parquet row 1", "b.parquet row 0", "b.parquet row 1", "2.png")
    assert np.array_equal(items.values, [picture(seed) for seed in range(5)])


def test_paths_that_differ_only_in_their_unicode_form_repeat(tmp_path: Path, opened: Any) -> None:
    assert opened(write(tmp_path / "t.parquet", [0, 1, 2], ["é", "e\u0301", "c\u0327"])).ids == ("row 0", "row 1", "ç")


def test_what_was_chosen_is_said_once_on_stderr(
    tmp_path: Path, opened: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "t.parquet", [0, 1], ["x", "x"])
    assert "share their path" in opened(path).notes[0]
    assert capsys.readouterr().err == ""
    for _ in range(2):  # from the cache too
        items = opened(path, progress=True)
        assert capsys.readouterr().err == f"{items.notes[0]}\n"


def test_a_key_that_repeats_is_refused(tmp_path: Path, opened: Any) -> None:
    path = write(tmp_path / "t.parquet", range(4), sku=["a", "b", None, "a"], ok=[1.0, 2.0, None, 4.5])
    with pytest.raises(LikewiseError, match=r"2 of the 4 rows of .* share their 'sku' .* \(such as 'a'\): name a col"):
        opened(path, key="sku")
    assert opened(path, key="ok").ids == ("1", "2", "4.5")


@pytest.mark.parametrize("column", ["image", "raw", "tags", "fixed"])
def test_a_key_that_holds_no_ids_is_refused(column: str, tmp_path: Path, opened: Any) -> None:
    others = {"raw": [b"a", b"b"], "tags": [["a"], ["b"]], "fixed": pa.array([b"a", b"b"], pa.binary(1))}
    path = write(tmp_path / "t.parquet", [0, 1], **others)
    with pytest.raises(LikewiseError, match=rf"column '{column}' holds .*, not ids; name one of text or numbers with"):
        opened(path, key=column)


# --- labels ---


def test_a_whole_number_is_one_label_in_every_type(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0, 1], label=[0, 1])
    write(tmp_path / "d" / "b.parquet", [2, 3, 4], label=[0.0, None, 1.5])  # as pandas writes integers with gaps
    items = opened(tmp_path / "d")
    assert items.label_names == ("0", "1", "1.5")
    assert items.labels.tolist() == [0, 1, 0, -1, 2]


@pytest.mark.parametrize("narrow", [pa.array([0.1, 2], pa.float32()), pa.array(np.array([0.1, 2], np.float16))])
def test_a_number_is_one_label_in_few_bits_and_in_many(narrow: pa.Array, tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0, 1], label=narrow)
    write(tmp_path / "d" / "b.parquet", [2, 3], label=[0.1, 2.0])
    write(tmp_path / "lists.parquet", [4], label=pa.array([[0.1, 2]], pa.list_(pa.float32())))
    assert opened(tmp_path / "d").label_names == opened(tmp_path / "lists.parquet").label_names == ("2", "0.1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([0], pa.date32()), pa.array([0], pa.timestamp("us"))),
        (pa.array([0], pa.timestamp("us")), pa.array([0], pa.timestamp("us", tz="UTC"))),
        (["True"], [True]),
    ],
)
def test_labels_that_types_write_differently_are_not_joined(one: Any, other: Any, tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0], label=one)
    write(tmp_path / "d" / "b.parquet", [1], label=other)
    with pytest.raises(LikewiseError, match=r"'label' holds .* in .*a\.parquet, but .* in .*b\.parquet: the"):
        opened(tmp_path / "d")


@pytest.mark.parametrize(("kind", "bits"), [(np.float32, 24), (np.float64, 53)])
def test_labels_that_may_be_rounded_are_refused(kind: type, bits: int, opened: Any) -> None:
    vectors = np.eye(2, dtype=np.float32)
    assert opened((vectors, np.array([1, 2**bits - 1], kind))).label_names == ("1", str(2**bits - 1))
    with pytest.raises(LikewiseError, match=rf"the label .* is a {kind.__name__}, which has no place for every whole"):
        opened((vectors, np.array([1, 2**bits], kind)))


@pytest.mark.parametrize("other", [["0", "1"], [True, False], [["0"], ["1"]]])
def test_labels_of_numbers_and_of_text_are_not_joined(other: list[Any], tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0, 1], label=[0, 1])
    write(tmp_path / "d" / "b.parquet", [2, 3], label=other)
    with pytest.raises(LikewiseError, match=r"'label' holds int64 in .*a\.parquet, but .* in .*b\.parquet: the same"):
        opened(tmp_path / "d")


def test_a_file_without_the_others_labels_is_refused(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0, 1])
    write(tmp_path / "d" / "b.parquet", [2, 3], label=[0, 1])
    with pytest.raises(
        LikewiseError, match=r"a\.parquet has no column 'label', which other files have: .* labels=none"
    ):
        opened(tmp_path / "d")
    assert len(opened(tmp_path / "d", labels="none")) == 4


def test_hive_folders_are_columns(tmp_path: Path, opened: Any) -> None:
    for value, seeds in {"b%20c": [0, 1], "10": [2], "__HIVE_DEFAULT_PARTITION__": [3]}.items():
        write(tmp_path / "d" / "year=2024" / f"label={value}" / "x.parquet", seeds)
    items = opened(tmp_path / "d")
    assert {id: names(items)[row] for row, id in enumerate(items.ids) if id != "3.png"} == {
        **{"0.png": "b c", "1.png": "b c", "2.png": "10"}
    }
    assert items.labels[items.ids.index("3.png")] == -1
    assert items.notes == ("the labels are those in the folders' names, such as label=10.",)
    assert opened(tmp_path / "d", labels="year").label_names == ("2024",)
    with pytest.raises(LikewiseError, match=r"no column 'yaer'\. Did you mean 'year'\? .* image, year, label\."):
        opened(tmp_path / "d", labels="yaer")
    with pytest.raises(LikewiseError, match=r"4 of the 4 rows of .* share their 'year'"):
        opened(tmp_path / "d", key="year")


def test_hive_folders_write_a_whole_number_with_a_point_or_without(tmp_path: Path, opened: Any) -> None:
    for seed, value in enumerate(["0", "0.0", "1.5"]):
        write(tmp_path / "d" / f"label={value}" / f"{seed}.parquet", [seed])
    assert opened(tmp_path / "d").label_names == ("0", "1.5")


def test_a_column_of_the_file_goes_before_its_folder(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "label=9" / "x.parquet", [0, 1], label=["a", "b"])
    assert opened(tmp_path / "d").label_names == ("a", "b")


# --- splits and patterns ---


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00004.parquet", "train"),
        ("data/test-00000-of-00001-0123abcd.parquet", "test"),
        ("validation/0000.parquet", "validation"),
        ("split=val/x.parquet", "validation"),
        ("cats_dev.parquet", "validation"),
        ("extra-00000-of-00002.parquet", "extra"),
        ("TRAINING.parquet", "train"),
        ("trains.parquet", None),
        ("contest.parquet", None),
        ("x.parquet", None),
    ],
)
def test_the_split_of_a_name(name: str, split: str | None) -> None:
    assert ParquetPath(path=Path(name), name=name).split == split


def test_splits_are_told_and_chosen(tmp_path: Path, opened: Any) -> None:
    for name, seeds in {
        "train-00000-of-00002": [0, 1],
        "train-00001-of-00002": [2],
        "test-00000-of-00001": [3],
    }.items():
        write(tmp_path / "d" / "data" / f"{name}.parquet", seeds)
    (note,) = opened(tmp_path / "d").notes
    assert note.endswith("the files of 2 splits are read as one: test (1), train (2); choose one with split=.")
    for train in (
        opened(tmp_path / "d", split="train"),
        opened(tmp_path / "d", split="training"),
        opened(str(tmp_path / "d" / "data" / "train-*.parquet")),
        opened(str(tmp_path / "d" / "**" / "train-0000[01]-*")),
    ):
        assert train.ids == ("0.png", "1.png", "2.png")
        assert train.notes == ()
    with pytest.raises(LikewiseError, match=r"no split 'tset'\. Did you mean 'test'\? Its splits are test, train\."):
        opened(tmp_path / "d", split="tset")
    with pytest.raises(LikewiseError, match=r"no file matches .*/none-\*"):
        opened(str(tmp_path / "d" / "none-*.parquet"))
    (tmp_path / "d" / "data" / "README.md").write_text("read me")
    with pytest.raises(LikewiseError, match=r"matches .*README\.md, but a pattern names \.parquet files"):
        opened(str(tmp_path / "d" / "data" / "*"))


def test_ids_of_a_split_are_those_of_the_whole(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "train.parquet", [0, 1], [None, None])
    write(tmp_path / "d" / "test.parquet", [2], [None])
    assert opened(tmp_path / "d", split="train").ids == ("train.parquet row 0", "train.parquet row 1")


def test_names_below_a_pattern(tmp_path: Path, opened: Any) -> None:
    """Ids and hive folders are read from below the part that is no pattern, as below a folder."""
    for label in "ab":
        write(tmp_path / "d" / f"label={label}" / "x.parquet", [0], [None])
    items = opened(str(tmp_path / "d" / "label=*" / "*.parquet"))
    assert items.ids == ("label=a/x.parquet row 0", "label=b/x.parquet row 0") == opened(tmp_path / "d").ids
    assert items.label_names == ("a", "b")


@pytest.mark.parametrize("option", [{"split": "train"}, {"image": "image"}])
def test_options_of_tables_are_refused_elsewhere(option: dict[str, str], opened: Any) -> None:
    with pytest.raises(LikewiseError, match=r"(split|image)='\w+' .*, but an array of shape \(2, 4\) is an array"):
        opened(np.zeros((2, 4)), **option)


# --- the image column ---


def test_which_of_two_image_columns(tmp_path: Path, opened: Any) -> None:
    path = write(
        tmp_path / "t.parquet", [0, 1], mask=[{"bytes": png(5), "path": "m5"}, {"bytes": png(6), "path": "m6"}]
    )
    items = opened(path)
    assert items.ids == ("0.png", "1.png")
    assert items.notes == (f"{path}: the column 'image' is read as the images, not 'mask'; choose with image=.",)
    masks = opened(path, image="mask")
    assert masks.ids == ("m5", "m6")
    assert np.array_equal(masks.values, [picture(5), picture(6)])
    assert masks.notes == ()
    with pytest.raises(LikewiseError, match=r"no column 'msak'\. Did you mean 'mask'\?"):
        opened(path, image="msak")


@pytest.mark.parametrize(
    "images",
    [["text"], [{"path": "p"}], [{"bytes": "text", "path": "p"}], [{"bytes": [1, 2], "path": "p"}], [1]],
)
def test_a_column_without_images_is_refused_in_every_file(images: list[Any], tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0])
    pq.write_table(pa.table({"image": images}), tmp_path / "d" / "b.parquet")
    with pytest.raises(LikewiseError, match=r"b\.parquet: column 'image' holds .*, not images \(a struct with binary"):
        opened(tmp_path / "d")
    if images == [1]:
        assert opened(tmp_path / "d" / "b.parquet").values.tolist() == [[1.0]]  # alone it is a file of vectors
        return
    with pytest.raises(LikewiseError, match=r"has no image column \(a struct with binary bytes, or binary\)"):
        opened(tmp_path / "d" / "b.parquet")


def test_files_may_hold_images_in_either_way(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "d" / "a.parquet", [0])
    pq.write_table(pa.table({"image": pa.array([png(1), None], pa.large_binary())}), tmp_path / "d" / "b.parquet")
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "c"}]}), tmp_path / "d" / "c.parquet")
    items = opened(tmp_path / "d")
    assert items.ids == ("0.png", "b.parquet row 0")
    assert [item.id for item in items.skipped] == ["b.parquet row 1", "c"]


@pytest.mark.parametrize(("column", "option"), [("label", {}), ("image", {}), ("sku", {"key": "sku"})])
def test_a_column_that_occurs_twice_is_refused(column: str, option: Any, tmp_path: Path, opened: Any) -> None:
    images = pa.array([{"bytes": png(0), "path": "p"}])
    columns = {"image": images, "label": pa.array([1]), "sku": pa.array([1])}
    table = pa.Table.from_arrays([*columns.values(), columns[column]], names=[*columns, column])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(LikewiseError, match=rf"t\.parquet has 2 columns '{column}'; rename or remove all but one\."):
        opened(tmp_path / "t.parquet", **option)


# --- memory ---


def test_batches_are_of_bytes(tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive twin is one batch of all rows; an image larger than a batch comes alone."""
    path = tmp_path / "t.parquet"
    images = [{"bytes": png(seed), "path": None} for seed in range(20)]
    pq.write_table(pa.table({"image": images, "sku": [f"s{n}" for n in range(20)]}), path, row_group_size=12)
    whole = opened(path, key="sku")
    sizes = []
    leaf = parquet._leaf
    monkeypatch.setattr(parquet, "_leaf", lambda batch, name: sizes.append((name, len(batch))) or leaf(batch, name))
    for budget, most in ((4 * len(png(0)), 4), (1, 1)):
        monkeypatch.setattr(parquet, "_BYTES", budget)
        monkeypatch.setattr(cache, "_CHUNK_BYTES", budget)
        monkeypatch.setattr(cache, "_HELD_BYTES", budget)
        sizes.clear()
        found = open_items(path, size=8, key="sku", cache=tmp_path / str(budget), progress=False)
        assert 1 <= max(rows for name, rows in sizes if name == "image.bytes") <= most
        assert found.ids == whole.ids
        assert np.array_equal(found.values, whole.values)


def test_decimals_are_the_labels_that_numbers_are(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "data/0.parquet", [0, 1], label=pa.array([0, 1], type=pa.decimal128(5, 2)))
    write(tmp_path / "data/1.parquet", [2, 3, 4], label=[0.0, 1.0, 0.5])
    write(tmp_path / "data/2.parquet", [5], label=pa.array([0.5]).cast(pa.decimal128(5, 2)))
    assert opened(tmp_path / "data").label_names == ("0", "1", "0.5")


def test_folders_that_could_be_labels_are_said(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "data/Kind=x/0.parquet", [0])
    write(tmp_path / "data/Kind=y/0.parquet", [1])
    items = opened(tmp_path / "data")
    assert items.labels is None
    assert items.notes == ("the folders' names stand for 'Kind', which are no labels unless labels= names one.",)
    assert opened(tmp_path / "data", labels="Kind").label_names == ("x", "y")


def test_a_pattern_reads_a_file_once(tmp_path: Path, opened: Any) -> None:
    write(tmp_path / "data/a/0.parquet", [0, 1])
    (tmp_path / "data/b").symlink_to("a")
    assert len(opened(tmp_path / "data/*/0.parquet")) == 2


def test_a_file_that_is_cut_while_it_is_read_is_a_sentence(tmp_path: Path) -> None:
    """Of a file that is cut, pyarrow gives fewer rows and says nothing."""
    path = tmp_path / "cut.parquet"
    images = [{"bytes": np.random.default_rng(seed).bytes(1 << 18), "path": None} for seed in range(32)]
    pq.write_table(pa.table({"image": images}), path, row_group_size=8)
    source = parquet.open_parquet("cut", [ParquetPath(path=path, name=path.name)], Wanted())
    entries = source.entries()
    next(entries)
    os.truncate(path, 1 << 12)
    with pytest.raises(LikewiseError, match=r"cut short while it was read|cannot be read as parquet"):
        list(entries)


def test_paths_like_the_names_of_rows_lose_no_image(tmp_path: Path, opened: Any) -> None:
    paths = ["a", "a", "row 0", "x", None, "row 4"]
    path = write(tmp_path / "data.parquet", range(6), paths)
    assert opened(path).ids == ("row 0", "row 1", "row 2", "x", "row 4", "row 5")


def test_folders_of_one_name_in_two_unicode_forms_are_one_class(tmp_path: Path, opened: Any) -> None:
    for seed, name in enumerate(["\u00e9", "e\u0301"]):
        write(tmp_path / "d" / f"label={name}" / "x.parquet", [seed], [None])
    items = opened(tmp_path / "d")
    assert items.label_names == ("\u00e9",)
    assert items.ids == ("label=\u00e9/x.parquet row 0", "label=\u00e9/x.parquet (2) row 0")


def test_paths_of_bytes_are_text_and_paths_of_lists_are_none(tmp_path: Path, opened: Any) -> None:
    assert opened(write(tmp_path / "b.parquet", [0, 1], [b"7\xff", b"8"])).ids == ("7\\xff", "8")
    assert opened(write(tmp_path / "l.parquet", [0], [["a"]])).ids == ("row 0",)


def test_images_as_lists_of_numbers_are_no_vectors(tmp_path: Path, opened: Any) -> None:
    pq.write_table(pa.table({"image": pa.array([None, list(png(0))], pa.list_(pa.uint8()))}), tmp_path / "t.parquet")
    with pytest.raises(
        LikewiseError, match="column 'image' holds the bytes of image files as lists of numbers; write it"
    ):
        opened(tmp_path / "t.parquet")
