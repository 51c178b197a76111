"""Items of several parts: where their numbers are, which are masked, and each bad input's sentence."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from likewise.blocks import as_saved, from_saved, masked, there
from likewise.data import Items, describe, open_items, vector_rows
from likewise.data.words import hashed, place_of
from likewise.errors import LikewiseError
from tests.data.test_vector_tables import written

Opener = Callable[..., Items]
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
VECTORS = RANDOM.normal(size=(4, 3)).astype(np.float32)
TITLES = ["The Great Film", "a GREAT great day", "", "Été 2 — l'été"]


@pytest.fixture
def items_of(tmp_path: Path) -> Opener:
    """open_items with a cache of this test's own."""
    return lambda source, **options: open_items(source, size=8, cache=tmp_path / "cache", progress=False, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos m0.png … m3.png."""
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"m{number}.png")
    return tmp_path / "photos"


def table(ids: list[str], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, **columns})


def vectors(ids: list[str], rows: Any = VECTORS) -> pd.DataFrame:
    return table(ids, v=[list(map(float, row)) for row in rows])


def naive_row(words: list[str], width: int) -> np.ndarray:
    """The formula of ``hashed`` for one value, word by word in float64."""
    row = np.zeros(width)
    for word in words:
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        number = sum(byte << (8 * place) for place, byte in enumerate(digest))
        row[(number & (2**63 - 1)) % width] += -1 if number >= 2**63 else 1
    length = float(np.sqrt((row**2).sum()))
    return row / length if length else row


def test_words_are_hashed_as_written_down() -> None:
    rows, places, bad = hashed([*TITLES, ["Sci-Fi", " Drama ", None], None, [], "…"], 32)
    words = [["the", "great", "film"], ["a", "great", "great", "day"], ["été", "2", "l", "été"], ["Sci-Fi", "Drama"]]
    assert places.tolist() == [0, 1, 3, 4]
    assert np.allclose(rows, [naive_row(each, 32) for each in words], atol=1e-7)
    assert bad == dict.fromkeys([2, 5, 6, 7], "no text")
    # the same in every version and on every machine: a saved model depends on them
    assert [place_of(word, 512) for word in ("great", "film", "été")] == [(378, -1.0), (320, 1.0), (444, -1.0)]
    opposite = next(
        (f"w{a}", f"w{b}")
        for a in range(99)
        for b in range(a)
        if place_of(f"w{a}", 4)[0] == place_of(f"w{b}", 4)[0] and place_of(f"w{a}", 4)[1] != place_of(f"w{b}", 4)[1]
    )
    assert not hashed([list(opposite)], 4)[0].any()  # they cancel out, and nothing is divided by 0


def test_parts_meet_by_id_and_missing_ones_are_zero(items_of: Opener, photos: Path) -> None:
    sources = {
        "image": photos,
        "audio": vectors(["m3", "m2", "m7", "m1"]),
        "title": table(["m1", "m0", "m3", "m9"], title=["x", "y", "", "z"]),
        "genre": table(["m0", "m7"], genre=[["Drama", "Sci-Fi"], ["Drama"]]),
    }
    items = items_of(sources, words=16)
    assert items.ids == ("m0", "m1", "m2", "m3", "m7", "m9")  # of the first source, then the new ones of the next
    image, audio, title, genre = items.blocks
    assert [block.kind for block in items.blocks] == ["image", "vector", "words", "words"]
    assert [block.stop - block.start for block in items.blocks] == [192, 3, 16, 16]
    values = items.batch(range(6)).numpy()
    has = np.array([[1, 0, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    assert np.array_equal(values[:, [block.stop for block in items.blocks]], has)
    assert np.array_equal(there(items.batch(range(6)), items.blocks).numpy(), has > 0)
    assert np.array_equal(values[:4, image.content], PIXELS.reshape(4, -1))
    assert np.array_equal(values[[3, 2, 4, 1], audio.content], VECTORS)
    assert np.allclose(values[0, genre.content], naive_row(["Drama", "Sci-Fi"], 16))
    assert np.allclose(values[5, title.content], naive_row(["z"], 16))
    for place, block in enumerate(items.blocks):
        assert not values[has[:, place] == 0][:, block.content].any()
    assert "image: 2 of the 6 items lack it, such as 'm7'; it is masked there." in items.notes
    assert any("without their endings, such as 'm0'" in note for note in items.notes)
    assert describe(items) == "6 items of 4 parts (image, audio, title, genre)"
    assert from_saved(as_saved(items.blocks)) == items.blocks
    assert items.parts == {}  # a frame has no path
    assert items.pictured
    assert np.array_equal(items.picture(2), PIXELS[2])
    assert (items.picture(4) == 128).all()  # it has no image
    again = items_of(sources, words=16)
    assert np.array_equal(again.values, items.values)


def test_masked_keeps_all_but_the_content_of_missing_parts(items_of: Opener) -> None:
    items = items_of({"a": vectors(["p", "q"], VECTORS[:2]), "b": vectors(["q", "r"], VECTORS[2:])})
    rows = items.batch(range(3)) + 0.0
    noisy = rows + 5.0
    noisy[:, [3, 7]] = rows[:, [3, 7]]
    naive = noisy.clone()
    for row in range(3):
        for block in items.blocks:
            for column in range(block.start, block.stop):
                if rows[row, block.stop] == 0:
                    naive[row, column] = 0.0
    assert np.array_equal(masked(noisy, items.blocks), naive)
    assert masked(noisy, ()) is noisy


def test_the_content_is_the_column_called_as_the_part(items_of: Opener, tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    columns = {
        "movie": ids,
        "title": ["one", "two", "three"],
        "genres": ["x|y", "x", "y"],
        "year": ["1999", "2001", "2020"],
    }
    for name in ("m.csv", "m.parquet"):
        file = written(tmp_path / name, columns)
        items = items_of({"title": file, "genres": file, "own": vectors(ids, VECTORS[:3])}, key="movie", words=8)
        assert items.ids == tuple(ids)
        title, genres, _ = items.blocks
        assert np.allclose(items.values[:, title.content], [naive_row([each], 8) for each in columns["title"]])
        assert np.allclose(items.values[0, genres.content], naive_row(["x", "y"], 8))
    numbers = items_of({"year": tmp_path / "m.csv", "title": tmp_path / "m.csv"}, key="movie")
    assert numbers.blocks[0].kind == "vector"
    assert numbers.values[:, 0].tolist() == [1999, 2001, 2020]
    alone = items_of({"text": table(ids, anything=["one", "two", "three"])}, words=8)
    assert np.allclose(alone.values[:, :8], [naive_row([each], 8) for each in columns["title"]])


def test_a_bad_part_leaves_out_its_item_and_nothing_masks_it(items_of: Opener, photos: Path) -> None:
    (photos / "m1.png").write_bytes(b"no image")
    rows = VECTORS.copy()
    rows[2, 1] = np.nan
    frame = vectors(["m0", "m1", "m2", "m5"], rows)
    frame.at[3, "v"] = None
    title = table(["m0", "m5", "m6", None], title=["x", "", None, "y"])
    items = items_of({"image": photos, "audio": frame, "title": title}, key="id", words=8)
    assert items.ids == ("m0", "m3")
    reasons = {each.id: each.reason for each in items.skipped}
    assert reasons["m1"].startswith("image: ")
    assert reasons["m2"].startswith("audio: not finite")
    assert reasons["m5"] == reasons["m6"] == "it has no part (image, audio, title)"
    assert reasons["row 3"] == "title: no id (column 'id' is empty)"


def test_many_rows_go_through_a_file(items_of: Opener, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    title = table(["m0", "m8", "m3", "m9", "m1"], title=["x", "", "y x", None, "z"])
    sources = {"image": photos, "audio": vectors(["m3", "m2", "m7", "m1"]), "title": title}
    whole = items_of(sources)
    monkeypatch.setattr(vector_rows, "IN_MEMORY", 100)
    monkeypatch.setattr("likewise.data.parts._NUMBERS", 400)  # two rows at once
    monkeypatch.setattr("likewise.data.tables._OF_TEXT", 2)
    mapped = items_of(sources)
    assert isinstance(mapped.values, np.memmap)
    assert np.array_equal(mapped.values, whole.values)


def test_labels_come_from_the_first_part_with_some_or_from_a_file(items_of: Opener, tmp_path: Path) -> None:
    first, second = table(["a", "b"], t=["x", "y"], label=["u", "w"]), table(["b", "c"], t=["x", "y"], label=["1", "2"])
    items = items_of({"one": first, "two": second}, words=8)
    assert items.labels is not None
    assert (items.labels.tolist(), items.label_names) == ([0, 1, -1], ("u", "w"))
    assert items_of({"one": first, "two": second}, labels="none").labels is None
    file = written(tmp_path / "labels.csv", {"id": ["c", "a"], "label": ["k", "l"]})
    items = items_of({"one": first, "two": second}, labels=str(file))
    assert items.labels is not None
    assert items.labels.tolist() == [1, -1, 0]
    first["kind"] = ["s", "t"]
    items = items_of({"t": first, "two": second}, labels="kind")
    assert items.label_names == ("s", "t")


def test_parts_of_a_model_keep_their_columns(items_of: Opener, tmp_path: Path) -> None:
    wide = {"id": ["a", "b"], "x": [1.0, 2.0], "w": [3.0, 4.0]}
    title = table(["a", "b"], title=["one", "two"])
    blocks = items_of({"n": written(tmp_path / "n.csv", wide), "title": title}, words=8).blocks
    other = written(tmp_path / "o.csv", {"id": ["c"], "z": [9.0], "w": [3.5], "x": [1.5]})
    items = items_of({"n": other}, blocks=blocks)
    assert items.blocks == blocks
    assert items.values.tolist() == [[1.5, 3.5, 1.0, *[0.0] * 9]]
    assert "title: no source is given, so it is masked in all 1 items." in items.notes
    turned = items_of({"title": title, "n": tmp_path / "n.csv"}, blocks=blocks)
    assert turned.blocks == blocks
    assert turned.values[:, 0].tolist() == [1.0, 2.0]
    with pytest.raises(LikewiseError, match=re.escape("the model has no part 'titel'. Did you mean 'title'?")):
        items_of({"titel": title}, blocks=blocks)
    with pytest.raises(LikewiseError, match="title holds vectors, but the model was trained with text there"):
        items_of({"title": vectors(["a"], VECTORS[:1])}, blocks=blocks)
    with pytest.raises(LikewiseError, match="n has 3 numbers for each item, but the model was trained with 2"):
        items_of({"n": (VECTORS)}, blocks=blocks)


def test_row_numbers_that_meet_ids_are_told(items_of: Opener, tmp_path: Path) -> None:
    rows = VECTORS.copy()
    rows[1] = np.nan
    np.save(tmp_path / "v.npy", rows)
    numbers = "its ids are the numbers of its rows, such as '0'; they meet the ids of the other parts as these."
    title = table(["3", "1", "2"], title=["x", "y", "z"])
    items = items_of({"v": tmp_path / "v.npy", "title": title})
    assert items.ids == ("0", "2", "3")
    assert [note for note in items.notes if "of its rows" in note] == [f"v: {numbers}"]
    first, second = written(tmp_path / "a.csv", {"t": ["x", "y"]}), written(tmp_path / "b.csv", {"u": ["x", "y"]})
    longer = written(tmp_path / "c.csv", {"u": ["x", "y", "z"]})
    for sources, count in (
        ({"v": tmp_path / "v.npy"}, 0),
        ({"t": first, "u": second}, 0),
        ({"t": first, "u": longer}, 2),
    ):
        assert sum("the numbers of its rows" in note for note in items_of(sources).notes) == count


def test_each_mistake_has_its_sentence(items_of: Opener, photos: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    said = {
        "no parts are given": {},
        "'' is no name of a part": {"": photos},
        "'my part' is no name of a part": {"my part": photos},
        "3 is no name of a part": {3: photos},
        "audio: .* does not exist": {"audio": tmp_path / "w.npy"},
        "no id of v is among those of image: v has ids such as '0', image such as 'm0.png'; .* The ids of v are row": {
            "image": photos,
            "v": tmp_path / "v.npy",
        },
        "none is called 'name' as the part: call the part as its column, as in a=": {
            "name": table(["m0"], a=["x"], b=["y"])
        },
        "t: none of the 1 vectors of the pandas DataFrame can be used: row 0: no text.": {"t": table(["m0"], t=[""])},
        "none of the 2 items of a=the pandas DataFrame b=the pandas DataFrame can be used: y: a: not finite": {
            "a": vectors(["x", "y"], [[0.0], [np.nan]]),
            "b": vectors(["x", "y"], [[np.nan], [0.0]]),
        },
    }
    for sentence, sources in said.items():
        with pytest.raises(LikewiseError, match=sentence if ".*" in sentence else re.escape(sentence)):
            items_of(sources)
    for option, value in {"image": "x", "columns": ("x",), "split": "train"}.items():
        with pytest.raises(LikewiseError, match=f"^{option}= is for a single source"):
            items_of({"image": photos}, **{option: value})
    np.save(tmp_path / "labels.npy", np.arange(4))
    with pytest.raises(LikewiseError, match="several parts meet by id; give labels by id"):
        items_of({"image": photos}, labels=str(tmp_path / "labels.npy"))
    with pytest.raises(LikewiseError, match="no part has a column 'kind' of labels"):
        items_of({"image": photos}, labels="kind")
    (tmp_path / "shifted.csv").write_text("id,title\nm0,one, two\n")
    with pytest.raises(LikewiseError, match=r"title: .*shifted.csv, row 2: has 3 fields, the header 2"):
        items_of({"image": photos, "title": tmp_path / "shifted.csv"})
