"""Items with the same content are counted and named when they are opened, from the cache too."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likewise.data import Items, copies, open_items

Opener = Callable[..., Items]


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def opened(store: Path) -> Opener:
    return lambda source, **options: open_items(source, cache=store, progress=False, **{"size": 8} | options)


def encoded(seed: int, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_images_of_the_same_pixels_and_of_the_same_bytes(tmp_path: Path, store: Path, opened: Opener) -> None:
    files = {"a.png": encoded(1), "b.png": encoded(2), "c.png": encoded(1), "d.bmp": encoded(2, "BMP"), "e.jpg": b""}
    root = folder(tmp_path / "photos", files)
    said = (
        f"{root}: 2 of the 4 images are copies of others, in every pixel at 8 px (1 in every byte): 'c.png' of "
        "'a.png', 'd.bmp' of 'b.png'."
    )
    assert opened(root).notes == (said,)
    assert opened(root).notes == (said,)  # from the cache
    (listing,) = store.glob("*/items.json")
    older = json.loads(listing.read_bytes())
    del older["copies"], older["same_bytes"]
    listing.write_text(json.dumps(older))
    assert opened(root).notes == (said.replace(" (1 in every byte)", ""),)
    assert opened(folder(tmp_path / "others", {"a.png": encoded(1), "b.png": encoded(2)})).notes == ()


def test_all_images_are_the_same(tmp_path: Path, opened: Opener) -> None:
    root = folder(tmp_path / "same", {f"{name}.png": encoded(1) for name in "abc"})
    said = f"warning: all 3 images of {root} are the same in every pixel at 8 px: nothing tells them apart."
    assert opened(root).notes == (said,)
    assert opened(folder(tmp_path / "one", {"a.png": encoded(1)})).notes == ()


@pytest.mark.parametrize("chunk", [1, 50, 4 << 20])
def test_rows_are_compared_as_sets_of_tuples_are(chunk: int, monkeypatch: pytest.MonkeyPatch, opened: Opener) -> None:
    monkeypatch.setattr(copies, "_CHUNK", chunk)
    x = np.random.default_rng(0).integers(0, 3, (60, 3)).astype(np.float32)
    first, wanted = dict[tuple[float, ...], int](), []
    for row, values in enumerate(map(tuple, x.tolist())):
        if first.setdefault(values, row) != row:
            wanted.append((row, first[values]))
    assert copies.copies_in(x, "x") == wanted
    named = ", ".join(f"'{row}' of '{earlier}'" for row, earlier in wanted[:3])
    assert opened(x).notes == (
        f"an array of shape (60, 3): {len(wanted)} of the 60 vectors are copies of others, in every number: {named}, …",
    )
    assert opened(np.zeros((5, 2))).notes == (
        "warning: all 5 vectors of an array of shape (5, 2) are the same in every number: nothing tells them apart.",
    )
    exact = np.zeros((3, 8, 8, 3), np.uint8)
    exact[1] = 1
    assert "1 of the 3 images is a copy of another one, in every pixel at 8 px: '2' of '0'." in opened(exact).notes[0]
