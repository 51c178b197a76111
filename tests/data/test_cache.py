"""The cache: found by content, never decoded twice, never half-written, whatever kills or fills it."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likewise import files
from likewise.data import Items, cache, checksum, open_items
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.evaluation.baselines import raw_pixels
from likewise.files import atomic_write, replace_folder
from likewise.proof.fork_server import python


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for n in range(40):
        (folder / str(n % 2)).mkdir(parents=True, exist_ok=True)
        (folder / str(n % 2) / f"{n}.png").write_bytes(png(n) if n else b"")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(source: object, store: Path, **options: Any) -> Items:
    return open_items(source, cache=store, **{"size": 8, "progress": False} | options)


def caches(store: Path) -> list[str]:
    """Names of everything in the cache but the notes on times."""
    return sorted(path.name for path in store.iterdir() if path.name != "stats")


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("must not be called")

    for name in names:
        monkeypatch.setattr(cache, name, refuse)


def same(a: Items, b: Items) -> bool:
    assert a.labels is not None
    assert b.labels is not None
    equal = np.array_equal(a.values, b.values) and np.array_equal(a.labels, b.labels)
    return equal and a.ids == b.ids and a.skipped == b.skipped


def test_second_open_neither_decodes_nor_reads(photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(photos, store)
    assert len(first) == 39
    assert first.skipped[0].id == "0/0.png"
    assert isinstance(first.values, np.memmap)
    assert not first.values.flags.writeable
    forbid(monkeypatch, "decode", "_read", "_decode")
    second = opened(photos, store)
    assert same(first, second)
    assert second.label_names == ("0", "1")


def test_touched_or_moved_is_found_by_content(photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(photos, store)
    for path in photos.rglob("*.png"):
        os.utime(path, (1, 1))
    moved = photos.rename(photos.parent / "moved")
    with monkeypatch.context() as patch:
        forbid(patch, "decode")
        assert same(first, opened(moved, store))
    forbid(monkeypatch, "decode", "_read")  # and now its new times are known
    assert same(first, opened(moved, store))
    assert len(caches(store)) == 1


def test_a_changed_byte_makes_a_new_cache(photos: Path, store: Path) -> None:
    first = opened(photos, store)
    path = photos / "1" / "1.png"
    times = os.stat(path)
    path.write_bytes(png(99)[: times.st_size].ljust(times.st_size, b"\0"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same mtime: the change time tells
    second = opened(photos, store)
    row = first.ids.index("1/1.png")
    assert not np.array_equal(first.values[row], second.values[row])
    assert np.array_equal(np.delete(first.values, row, 0), np.delete(second.values, row, 0))
    assert len(caches(store)) == 2


def test_a_renamed_added_or_repaired_item_makes_a_new_cache(photos: Path, store: Path) -> None:
    opened(photos, store)
    (photos / "1" / "1.png").rename(photos / "1" / "renamed.png")
    assert "1/renamed.png" in opened(photos, store).ids
    (photos / "1" / "new.png").write_bytes(png(77))
    assert len(opened(photos, store)) == 40
    (photos / "0" / "0.png").write_bytes(png(0))
    items = opened(photos, store)
    assert len(items) == 41
    assert items.skipped == ()


def test_sizes_have_their_own_caches(photos: Path, store: Path) -> None:
    assert opened(photos, store, size=8).values.shape[1:] == (8, 8, 3)
    assert opened(photos, store, size=5).values.shape[1:] == (5, 5, 3)
    assert len(caches(store)) == 2


def test_labels_are_not_part_of_the_key(photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(photos, store, labels="none")
    forbid(monkeypatch, "decode")
    assert opened(photos, store).label_names == ("0", "1")


def test_threads_do_not_change_the_result(photos: Path, tmp_path: Path) -> None:
    one, many = opened(photos, tmp_path / "one", workers=1), opened(photos, tmp_path / "many", workers=8)
    assert same(one, many)
    assert caches(tmp_path / "one") == caches(tmp_path / "many")


def test_few_entries_are_in_flight(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pictures:
        asked = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, row: int) -> np.ndarray:
            self.asked = max(self.asked, row)
            return np.full((4, 4), row % 256, np.uint8)

    pictures, ahead, done = Pictures(), [0], [0]
    absorb = cache._absorb

    def watch(*args: Any) -> None:
        done[0] += 1
        ahead.append(pictures.asked - done[0])
        absorb(*args)

    monkeypatch.setattr(cache, "_absorb", watch)
    items = opened(pictures, store, workers=2)
    assert items.values[:, 0, 0, 0].tolist() == [row % 256 for row in range(1000)]
    assert max(ahead) <= 6 * cache._CHUNK


def test_entries_in_flight_are_few_bytes_too(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images wait one by one, not some eighty."""

    class Pictures:
        alive = most = 0

        def __len__(self) -> int:
            return 200

        def __getitem__(self, row: int) -> np.ndarray:
            self.alive += 1
            self.most = max(self.most, self.alive)
            picture = np.full((20, 20), row, np.uint8)
            weakref.finalize(picture, self.gone)
            return picture

        def gone(self) -> None:
            self.alive -= 1

    monkeypatch.setattr(cache, "_CHUNK_BYTES", 400)
    monkeypatch.setattr(cache, "_HELD_BYTES", 800)
    pictures = Pictures()
    assert len(opened(pictures, store, workers=2)) == 200
    assert pictures.most <= 6


def test_a_cache_of_another_version_is_not_used(photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FORMAT", "likewise images 1")
    opened(photos, store)
    (old,) = caches(store)
    monkeypatch.undo()
    opened(photos, store)
    assert len(caches(store)) == 2
    assert old in caches(store)


def test_another_limit_decodes_anew(tmp_path: Path, store: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "small.png").write_bytes(png(1))
    Image.new("L", (2000, 1000)).save(tmp_path / "photos" / "large.png")
    assert opened(tmp_path / "photos", store, max_megapixels=1).ids == ("small.png",)
    assert opened(tmp_path / "photos", store).ids == ("large.png", "small.png")
    assert (
        opened(tmp_path / "photos", store, max_megapixels=1)
        .skipped[0]
        .reason.startswith("too large: 2 megapixels, more than max_megapixels=1; ")
    )
    with pytest.raises(LikewiseError, match="max_megapixels=0 must be above 0"):
        opened(tmp_path / "photos", store, max_megapixels=0)
    with pytest.raises(LikewiseError, match="max_megapixels=inf must be above 0, and finite"):
        opened(tmp_path / "photos", store, max_megapixels=float("inf"))


def test_environment_names_the_cache(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "elsewhere"))
    open_items(photos, size=8, progress=False)
    assert len(caches(tmp_path / "elsewhere")) == 1


@pytest.mark.parametrize("damage", ["short", "gone", "json", "no json", "ids"])
def test_a_damaged_cache_is_built_again(damage: str, photos: Path, store: Path) -> None:
    first = opened(photos, store)
    expected = np.array(first.values)
    folder = store / caches(store)[0]
    values, listing = folder / "values.bin", folder / "items.json"
    if damage == "short":
        os.truncate(values, 100)
    elif damage == "gone":
        values.unlink()
    elif damage == "json":
        listing.write_bytes(b"{")
    elif damage == "no json":
        listing.unlink()
    else:
        listing.write_text(json.dumps({"ids": ["a"], "skipped": []}))
    again = opened(photos, store)
    assert np.array_equal(again.values, expected)
    assert again.ids == first.ids
    assert len(caches(store)) == 1


def test_values_overwritten_with_noise_of_equal_size_are_noticed_once_per_process(
    photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksum, "_PART_BYTES", 5 * 8 * 8 * 3)  # several parts, the last one shorter
    expected = np.array(opened(photos, store).values)
    values = store / caches(store)[0] / "values.bin"
    noise = bytearray(values.read_bytes())
    noise[1000] ^= 1  # one bit
    values.write_bytes(noise)
    with pytest.warns(LikewiseWarning, match="does not match its checksum: .* It is built again"):
        again = opened(photos, store)
    assert np.array_equal(again.values, expected)
    cache._CHECKED.clear()
    assert np.array_equal(opened(photos, store).values, expected)
    forbid(monkeypatch, "checksum_of", "decode")
    opened(photos, store)


def test_a_cache_of_an_older_version_has_no_checksum_and_is_used(
    photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(photos, store)
    listing = store / caches(store)[0] / "items.json"
    older = json.loads(listing.read_bytes())
    del older["checksum"]
    listing.write_text(json.dumps(older))
    forbid(monkeypatch, "decode")
    assert same(first, opened(photos, store))


@pytest.mark.parametrize("kind", ["cache", "npy"])
def test_a_file_cut_short_while_it_is_mapped_is_a_sentence(kind: str, photos: Path, store: Path) -> None:
    """Reading the map there would end the process with SIGBUS."""
    if kind == "cache":
        items = opened(photos, store)
        path = store / caches(store)[0] / "values.bin"
    else:
        path = photos / "vectors.npy"
        np.save(path, np.zeros((3000, 8), np.float32))
        items = opened(path, store)
    part = items.select([0, 1, 2])
    os.truncate(path, 4096)
    reads = [lambda: items.batch([len(items) - 1]), lambda: items.select([5, 3]), lambda: part.batch([0])]
    reads += [lambda: list(items.each())] + [lambda: raw_pixels(items.values)] * (kind == "cache")
    for read in reads:
        with pytest.raises(LikewiseError, match=f"{path.name} was cut short while .* was read from it"):
            read()


def test_a_cache_that_can_only_be_read_is_used_after_the_data_moved(
    photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(photos, store)
    moved = photos.rename(photos.parent / "moved")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("atomic_write", "temporary_folder"):
        monkeypatch.setattr(cache, name, read_only)
    monkeypatch.setattr(Path, "mkdir", read_only)
    forbid(monkeypatch, "decode")
    assert same(first, opened(moved, store))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LIKEWISE_CACHE", "~/x")
    assert cache.cache_folder(None) == tmp_path / "x"
    assert cache.cache_folder("~/y") == tmp_path / "y"
    with pytest.raises(LikewiseError, match="the cache is empty"):
        cache.cache_folder("")
    monkeypatch.delenv("LIKEWISE_CACHE")
    assert cache.cache_folder(None) == tmp_path / ".cache" / "likewise"

    def nobody(*_: object) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)  # no HOME, and a user id without a passwd entry
    with pytest.raises(LikewiseError, match=r"no home folder of this user is known, .* LIKEWISE_CACHE"):
        cache.cache_folder(None)
    with pytest.raises(LikewiseError, match="the cache is ~/y, but no home folder of this user is known"):
        cache.cache_folder("~/y")


BUILD = """
import sys, time
from likewise.data import cache, open_items
decode = cache.decode
def slow(data, size, megapixels):
    time.sleep(float(sys.argv[3]))
    return decode(data, size, megapixels)
cache.decode = slow
items = open_items(sys.argv[1], size=8, cache=sys.argv[2], progress=False, workers=1)
print(len(items), int(items.values.sum()))
"""


def start(photos: Path, store: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILD, str(photos), str(store), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_in_the_middle_leaves_nothing_that_is_used(photos: Path, store: Path) -> None:
    process = start(photos, store, 0.5)
    deadline = time.monotonic() + 60
    while not list(store.glob("building-*/values.bin")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [name.startswith("building-") for name in caches(store)] == [True]
    items = opened(photos, store)
    assert len(items) == 39
    assert [name.startswith("40x8px-") for name in caches(store)] == [True]


def test_two_processes_building_at_once_both_end_well(photos: Path, store: Path) -> None:
    processes = [start(photos, store, 0.01) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    items = opened(photos, store)
    assert printed == [f"39 {int(items.values.sum())}\n"] * 2
    assert len(caches(store)) == 1


def test_many_threads_building_at_once(photos: Path, store: Path) -> None:
    results: list[Items] = []
    threads = [threading.Thread(target=lambda: results.append(opened(photos, store))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(same(results[0], result) for result in results)
    assert len(caches(store)) == 1


def test_a_full_disk_says_so_and_leaves_nothing(photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            LikewiseError,
            match=r"the disk is full, and .*photos needs 7,680 bytes at 8 px; make room, or name .*LIKEWISE_CACHE",
        ):
            opened(photos, store)
    assert caches(store) == []
    assert len(opened(photos, store)) == 39


def test_ctrl_c_leaves_nothing(photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache._Ledger, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(photos, store)
    assert caches(store) == []


def test_a_cache_that_cannot_be_written(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LikewiseError, match=r"the cache .*file.* cannot be written"):
        opened(photos, tmp_path / "file" / "cache")


def test_all_bad_leaves_nothing(tmp_path: Path, store: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    with pytest.raises(LikewiseError, match="none of the 1 items"):
        opened(tmp_path / "bad", store)
    assert caches(store) == []


def test_progress_is_silent_off_terminal_when_quick(
    photos: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(photos, store, progress=True)
    assert capsys.readouterr() == ("", "")


def test_pillow_is_not_loaded_by_the_package() -> None:
    code = "import likewise.data, sys; print([m for m in ('PIL', 'simplejpeg', 'pyarrow', 'rich') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# --- files ---


def test_atomic_write_replaces_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_write(path) as file:
        file.write(b"old")
    with contextlib.suppress(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_atomic_write_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root can write")
def test_an_error_of_atomic_write_names_the_file_and_not_its_temporary() -> None:
    with pytest.raises(FileNotFoundError) as error, atomic_write("/proc/nothing.bin"):
        pass
    assert error.value.filename == "/proc/nothing.bin"


def test_atomic_write_killed_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import os, sys\nfrom likewise.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([*python(), "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_temporaries_that_somebody_writes_stay_whoever_it_is(tmp_path: Path) -> None:
    """Not by process id: here a lock of this very process, and names as another container gives them."""
    (tmp_path / "t-left").write_bytes(b"")
    (tmp_path / "t-old").mkdir()
    (tmp_path / "t-old" / "values.bin").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    with files.held_folder(tmp_path / "t-live"):
        files.remove_abandoned(tmp_path, "t-")
        assert {path.name for path in tmp_path.iterdir()} == {"t-live", "other"}
    files.remove_abandoned(tmp_path, "t-")
    assert {path.name for path in tmp_path.iterdir()} == {"other"}


def test_two_threads_write_one_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as first:
        first.write(b"first")
        with atomic_write(tmp_path / "a") as second:  # takes the first one's temporary for no abandoned one
            second.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_lock", lambda handle: None)
    for name in ("t-new", "t-old"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "t-old", (1, 1))
    files.remove_abandoned(tmp_path, "t-")
    assert [path.name for path in tmp_path.iterdir()] == ["t-new"]


@pytest.mark.parametrize("name", ["folder", "pipe", "link"])
def test_only_a_regular_file_is_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(LikewiseError, match=f"{name} is a .*, so it is not replaced"), atomic_write(tmp_path / name):
        raise AssertionError
    with pytest.raises(LikewiseError, match=f"{name} is a .*, so it is not replaced"):
        files.place_for(tmp_path / name)
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_replace_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_replace_folder_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    rename = os.rename

    def stubborn(source: Path, target: Path) -> None:
        if source == tmp_path / "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(os, "rename", stubborn)
    with pytest.raises(OSError, match="No space left"):
        replace_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "old"


def test_losing_the_race_to_publish_uses_the_winners_cache(
    photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(photos, store)
    load, calls = cache._load, [0]

    def late(folder: Path, size: int, progress: bool = False) -> Any:
        calls[0] += 1
        return None if calls[0] <= 2 else load(folder, size)  # not there yet when looked for

    monkeypatch.setattr(cache, "_load", late)
    assert same(first, opened(photos, store))
    assert len(caches(store)) == 1


def test_what_was_assumed_is_said_from_the_cache_too(tmp_path: Path, store: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, highest in {"a": 4095, "b": 4000, "c": 200, "d": 60000}.items():
        Image.fromarray(np.full((8, 8), highest, np.uint16)).save(tmp_path / "photos" / f"{name}.png")
    for _ in range(2):
        assert opened(tmp_path / "photos", store).notes == (
            f"{tmp_path / 'photos'}: 1 image of 16 bits has no value above 255, read as 8 bits.",
            f"{tmp_path / 'photos'}: 2 images of 16 bits have no value above 4,095, read as 12 bits.",
        )


@pytest.mark.parametrize(("highest", "bits", "fewer"), [(900, 12, 10), (16_000, 16, 14)])
def test_bits_that_nothing_tells_are_said(highest: int, bits: int, fewer: int, tmp_path: Path, store: Path) -> None:
    pictures = np.array([[[highest // 2]], [[highest]]], np.uint16)
    (said,) = open_items(pictures, size=1, cache=store, progress=False).notes
    assert f"2 images of 16 bits have no value above {2**fewer - 1:,}, read as {bits} bits, which is 4 times" in said
    assert f"too dark if they hold {fewer}: then say so in the files (SMaxSampleValue of TIFF, sBIT of PNG)" in said


def test_a_folder_that_cannot_be_renamed_is_said(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "new", tmp_path / "none" / "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "gone", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("number", "tried", "said"),
    [
        (errno.ENOTEMPTY, 4, "disappears again and again while it is opened; try"),
        (errno.EACCES, 1, "cannot be written: Perm"),
    ],
)
def test_a_cache_whose_name_others_keep_taking(
    number: int, tried: int, said: str, photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def taken(source: Path, target: Path) -> None:
        tries.append(target)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache, "replace_folder", taken)
    with pytest.raises(LikewiseError, match=said):
        opened(photos, store)
    assert len(tries) == tried
