"""Folders: a file is one item whatever leads to it, and the two Unicode forms of a name are one name."""

import io
import os
import unicodedata
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import likewise as lw
from likewise.data import Items, open_items, read_pairs
from likewise.data.items import as_id, encode_labels, text_of
from likewise.errors import LikewiseError
from likewise.evaluation.labelled_items import shared_ids

NFC, NFD = "café", unicodedata.normalize("NFD", "café")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def put(root: Path, *names: str) -> Path:
    """Files of different pictures, in the order of the names: 0, 1 ..."""
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        out = io.BytesIO()
        Image.fromarray(picture(seed)).save(out, "PNG")
        (root / name).write_bytes(out.getvalue())
    return root


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    return lambda source, **options: open_items(source, size=8, cache=tmp_path / "cache", progress=False, **options)


def seeds(items: Items, count: int) -> list[int]:
    """Which picture each item is."""
    return [next(seed for seed in range(count) if np.array_equal(picture(seed), value)) for value in items.values]


# --- links ---


def test_links_are_followed_once_and_loops_are_not(tmp_path: Path, opened: Any) -> None:
    elsewhere = put(tmp_path / "elsewhere", "1.png")
    root = put(tmp_path / "root", "a/2.png")
    (root / "b").symlink_to(elsewhere)
    (root / "a" / "loop").symlink_to(root)
    (elsewhere / "back").symlink_to(root / "a")
    items = opened(root)
    assert items.ids == ("a/2.png", "b/1.png")
    assert items.notes[:2] == (
        f"{root}: followed 1 link (such as 'b' to {str(elsewhere)!r}).",
        f"{root}: left out, since their files are read already: 2 links (such as 'a/loop' to {str(root)!r}).",
    )


@pytest.mark.parametrize("n", [2, 3, 7])
def test_sibling_links_give_every_file_once(n: int, tmp_path: Path, opened: Any) -> None:
    root = put(tmp_path / "root", *(f"{at}/x.png" for at in range(n)))
    for a, b in permutations(range(n), 2):
        (root / str(a) / f"to_{b}").symlink_to(root / str(b))
    assert opened(root).ids == tuple(f"{at}/x.png" for at in range(n))


def test_a_link_to_the_latest_folder_is_not_a_second_label(tmp_path: Path, opened: Any) -> None:
    root = put(tmp_path / "root", "2023/a.png", "2024/b.png")
    (root / "1-latest").symlink_to("2024")  # before 2024 in the alphabet
    (root / "2023" / "best.png").symlink_to("../2024/b.png")
    items = opened(root)
    assert items.ids == ("2023/a.png", "2024/b.png")
    assert items.label_names == ("2023", "2024")
    assert "2 links (such as '1-latest' to '2024')" in items.notes[0]


def test_a_folder_of_links_to_files_elsewhere(tmp_path: Path, opened: Any) -> None:
    store = put(tmp_path / "store", "0", "1", "2")
    root = tmp_path / "root"
    for label, names in {"a": "01", "b": "12"}.items():
        (root / label).mkdir(parents=True)
        for name in names:
            (root / label / f"{name}.png").symlink_to(store / name)
    (root / "b" / "gone.png").symlink_to(store / "nowhere")
    items = opened(root)
    assert items.ids == ("a/0.png", "a/1.png", "b/2.png")
    assert [item.reason for item in items.skipped] == ["file not found (a broken link)"]
    assert items.notes[0].startswith(f"{root}: followed 3 links (such as 'a/0.png'")
    assert "1 link (such as 'b/1.png'" in items.notes[1]


def test_links_among_what_links_lead_to(tmp_path: Path, opened: Any) -> None:
    """Two links to nested folders elsewhere, and a link within what a link leads to."""
    outside = put(tmp_path / "outside", "x.png", "deep/y.png")
    put(tmp_path / "other", "z.png")
    (outside / "further").symlink_to(tmp_path / "other")
    root = put(tmp_path / "root", "own/w.png")
    (root / "a").symlink_to(outside / "deep")
    (root / "b").symlink_to(outside)
    assert opened(root).ids == ("a/y.png", "b/further/z.png", "b/x.png", "own/w.png")


def test_a_folder_deeper_than_pythons_stack(tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    put(Path(), "x.png")
    assert opened(tmp_path / "deep").ids == ("d/" * 1100 + "x.png",)
    for _ in range(1100):  # pytest would remove it by recursion
        Path("x.png").unlink(missing_ok=True)
        os.chdir("..")
        os.rmdir("d")


# --- Unicode ---


def test_two_forms_of_a_folders_name_are_one_label(tmp_path: Path, opened: Any) -> None:
    root = put(tmp_path / "root", f"{NFC}/1.png", f"{NFD}/1.png", f"{NFD}/2.png", "x/1.png")
    items = opened(root)
    assert items.label_names == (NFC, "x")
    assert sorted(items.ids) == [f"{NFC}/1.png", f"{NFC}/1.png (2)", f"{NFC}/2.png", "x/1.png"]
    assert sorted(seeds(items, 4)) == [0, 1, 2, 3]  # each file is read under its own bytes


@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize("asked", [NFC, NFD])
def test_ids_are_found_in_either_form(stored: str, asked: str, tmp_path: Path, opened: Any) -> None:
    items = opened(put(tmp_path / "root", f"{stored}.png", "b.png"))
    row = items.ids.index(f"{NFC}.png")
    (tmp_path / "p.csv").write_text(f"a,b,alike\nb.png,{asked}.png,1\n", encoding="utf-8")
    assert read_pairs(tmp_path / "p.csv", [f"{stored}.png", "b.png"]).rows.tolist() == [[1, 0]]
    skipped = (lw.data.Skipped(id=f"{stored}.png", reason="broken"),)
    (tmp_path / "q.csv").write_text(f"a,b,alike\nb.png,{asked}.png,1\nb.png,c.png,1\n", encoding="utf-8")
    assert "broken" in read_pairs(tmp_path / "q.csv", ["b.png", "c.png"], skipped=skipped).skipped[0].reason
    index = lw.Index(torch.eye(2), [f"{stored}.png", "b.png"])
    assert index.search(f"{asked}.png", 1)[0].id == "b.png"
    assert f"{asked}.png" in index
    assert index.search([0.5, 1.0], 2, exclude_id=f"{asked}.png") == [("b.png", 1.0)]
    assert row == items.ids.index(as_id(f"{asked}.png"))


def test_ids_of_two_sources_compare_in_one_form() -> None:
    values = np.zeros((2, 8, 8, 3), np.uint8)
    one, two = (Items(ids=(name, "b"), values=values, kind="images") for name in (NFC, NFD))
    assert one.ids_hash == two.ids_hash
    assert [ids.tolist() for ids in shared_ids(one, two)] == [[0, 1], [0, 1]]
    with pytest.raises(LikewiseError, match="some ids occur twice"):
        Items(ids=(NFC, NFD), values=values, kind="images")
    with pytest.raises(LikewiseError, match="occurs twice, in two Unicode forms"):
        lw.Index(torch.eye(2), [NFC, NFD])


def test_labels_as_text() -> None:
    assert encode_labels([NFC, NFD])[1] == (NFC,)
    assert [text_of(value) for value in (1, 1.0, np.float32(2), -0.0, 1.5, 2.0**60, True, NFD)] == [
        *("1", "1", "2", "0", "1.5", "1.152921504606847e+18", "True", NFC)
    ]


def test_a_link_to_itself_is_no_item(tmp_path: Path, opened: Any) -> None:
    put(tmp_path / "data", "a/0.png", "b/1.png")
    for name in ("me", "me.png", "a/me"):
        (tmp_path / "data" / name).symlink_to(Path(name).name)
    items = opened(tmp_path / "data")
    assert items.ids == ("a/0.png", "b/1.png")
    assert [(skipped.id, skipped.reason) for skipped in items.skipped] == [("me.png", "file not found (a broken link)")]


def test_one_class_is_said(tmp_path: Path, opened: Any) -> None:
    items = opened(put(tmp_path / "data", "cat/0.png", "cat/1.png"))
    assert items.labels is None
    assert items.notes == (f"{tmp_path / 'data'} has one class only ('cat'), so its images have no labels.",)
    assert not opened(tmp_path / "data", labels="none").notes
    assert not opened(tmp_path / "data/cat").notes
