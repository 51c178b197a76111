"""Embedding shard by shard in one process: the rows of `likewise embed`, what is kept, what is refused."""

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shards_of import PICTURES, VECTORS, N, photos, png, run_of_pictures, run_of_vectors, tables

from likewise.cli.main import main
from likewise.data.items import content_digest
from likewise.errors import LikewiseError
from likewise.index import read_embedding
from likewise.model import load
from likewise.shards import embed_shards, read_shards


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and data that no test changes."""
    folder = tmp_path_factory.mktemp("data")
    run_of_pictures(folder / "pictures")
    run_of_vectors(folder / "vectors")
    photos(folder / "photos")
    tables(folder / "tables")
    np.save(folder / "vectors.npy", VECTORS)
    struct = [{"bytes": png(pixels), "path": f"{at}.png"} for at, pixels in enumerate(PICTURES)]
    struct[3] = {"bytes": b"no picture", "path": "3.png"}
    pq.write_table(pa.table({"image": struct}), folder / "images.parquet", row_group_size=7)
    return folder


STILL = os.WEXITED | os.WNOHANG | os.WNOWAIT  # whether a process has ended, without its exit code


def rows_of(out: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The ids, rows and hashes of a folder of shards."""
    found = list(read_shards(out)[1])
    ids = [item for block in found for item in block.ids]
    return ids, np.concatenate([block.rows for block in found]), np.concatenate([block.contents for block in found])


@pytest.mark.parametrize(
    ("run", "data", "bad"),
    [
        ("pictures", "photos", ["even/12.png"]),
        ("pictures", "images.parquet", ["3.png"]),
        ("vectors", "tables", []),
        ("vectors", "tables/[01].parquet", []),
        ("vectors", "vectors.npy", []),
    ],
)
@pytest.mark.parametrize("shard_rows", [4, 1000])
def test_the_rows_are_those_of_one_process(
    place: Path, tmp_path: Path, run: str, data: str, bad: list[str], shard_rows: int
) -> None:
    if run == "vectors" and shard_rows == 4:
        shard_rows = 90
    made = embed_shards(place / run, str(place / data), tmp_path / "out", shard_rows=shard_rows, progress=False)
    model = load(place / run)
    whole = model.embed(str(place / data), progress=False)
    ids, rows, contents = rows_of(tmp_path / "out")
    assert tuple(ids) == whole.ids
    np.testing.assert_allclose(rows, whole.rows.numpy(), atol=1e-6)
    assert [item.id for item in made.skipped] == bad
    assert made.manifest.total == len(ids) == sum(made.manifest.rows)
    items = model.open(str(place / data), labels="none", progress=False)
    assert [bytes(content) for content in contents] == [content_digest(value) for value in items.values]
    for number, count in enumerate(made.manifest.rows):
        if count:  # each shard is an embedding file
            part = read_embedding(tmp_path / "out" / f"part-{number:05}.parquet")
            assert part.metadata["model"] == model.weights_hash


def test_shards_of_whole_batches_have_the_bits_of_one_process(place: Path, tmp_path: Path) -> None:
    embed_shards(place / "vectors", str(place / "vectors.npy"), tmp_path / "out", shard_rows=256, progress=False)
    whole = load(place / "vectors").embed(str(place / "vectors.npy"), progress=False)
    assert np.array_equal(rows_of(tmp_path / "out")[1], whole.rows.numpy())


def test_ids_that_repeat_or_are_missing_are_numbers_of_rows(place: Path, tmp_path: Path) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS[:9].reshape(-1)), VECTORS.shape[1])
    values = lists.to_pylist()
    values[4] = None
    values[5] = [1.0, float("nan"), 1.0, 1.0, 1.0]
    pq.write_table(pa.table({"id": [*"aabcdefg", None], "vector": values}), tmp_path / "data.parquet")
    made = embed_shards(
        place / "vectors", str(tmp_path / "data.parquet"), tmp_path / "out", shard_rows=2, progress=False
    )
    assert rows_of(tmp_path / "out")[0] == [f"row {row}" for row in (0, 1, 2, 3, 6, 7, 8)]
    assert made.manifest.rows == (2, 2, 0, 2, 1)
    assert [item.id for item in made.skipped] == ["row 4", "row 5"]
    with pytest.raises(LikewiseError, match="share their 'id' with another row"):
        embed_shards(place / "vectors", str(tmp_path / "data.parquet"), tmp_path / "out", key="id", progress=False)


def times(out: Path) -> dict[str, int]:
    """When each shard was written."""
    return {each.name: each.stat().st_mtime_ns for each in sorted(out.glob("part-*"))}


def test_shards_that_are_whole_are_kept_and_damaged_ones_made_again(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(place / "vectors"), str(place / "tables"), "--out", f"{tmp_path / 'out'}/"]
    assert main([*words, "--shard_rows", "100"]) == 0
    out = tmp_path / "out"
    assert f"{out}/: 700 rows of 4 in 7 shards, 0 kept." in capsys.readouterr().out
    before, made = rows_of(out)[1], times(out)
    (out / "part-00001.parquet").unlink()
    content = (out / "part-00002.parquet").read_bytes()
    (out / "part-00002.parquet").write_bytes(content[: len(content) // 2])
    (out / "part-00003.parquet").write_bytes((out / "part-00004.parquet").read_bytes())
    flipped = bytearray((out / "part-00005.parquet").read_bytes())
    place_of_row = flipped.find(before[500].tobytes())
    assert place_of_row > 0
    flipped[place_of_row + 2] ^= 1
    (out / "part-00005.parquet").write_bytes(flipped)
    for number in (1, 2, 3):  # all but the flipped one
        make_again(place, out, number)
    with pytest.raises(LikewiseError, match=r"part-00005.parquet is damaged \(.*\); make it again by the same command"):
        rows_of(out)
    assert main(words) == 0
    assert "7 shards, 6 kept." in capsys.readouterr().out
    assert np.array_equal(rows_of(out)[1], before)
    assert {name for name, when in times(out).items() if made[name] == when} == {
        "part-00000.parquet", "part-00004.parquet", "part-00006.parquet",
    }  # fmt: skip


def make_again(place: Path, out: Path, number: int) -> None:
    """Makes one shard again, and no other."""
    from likewise.shards.embed import _divided
    from likewise.shards.manifest import read_manifest
    from likewise.shards.place import place_of
    from likewise.shards.shard import Maker, Task

    model, folder = load(place / "vectors"), place_of(out)
    manifest = read_manifest(folder)
    assert manifest is not None
    piece = _divided(model, str(place / "tables"), None, None, ()).piece(*manifest.span(number))
    assert not Maker(lambda: model, folder, manifest).shard(Task(number, piece)).kept


def test_any_flipped_bit_of_a_shard_is_found_or_harmless(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed_shards(place / "vectors", str(place / "vectors.npy"), out, shard_rows=N, progress=False)
    before, file = rows_of(out), out / "part-00000.parquet"
    content = file.read_bytes()
    draw, harmless = random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        with suppress(LikewiseError):
            after = rows_of(out)
            assert after[0] == before[0]
            assert np.array_equal(after[1], before[1])
            assert np.array_equal(after[2], before[2])
            harmless += 1
    assert harmless < 75


def test_a_process_that_is_killed_at_any_moment_loses_no_shard(place: Path, tmp_path: Path) -> None:
    out, draw, kept = tmp_path / "out", random.Random(3), set[tuple[str, int]]()
    killed = 0
    for _ in range(6):
        process = os.fork()
        if not process:
            try:
                embed_shards(place / "pictures", str(place / "photos"), out, shard_rows=2, progress=False)
            finally:
                os._exit(0)
        wanted = len(kept) + draw.randrange(4)
        while len(times(out)) < wanted and os.waitid(os.P_PID, process, STILL) is None:
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.02))
        os.kill(process, signal.SIGKILL)
        died = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        there = set(times(out).items()) if out.exists() else set()
        assert kept <= there, "a shard that was whole is made once"
        kept = there
        killed += died == -signal.SIGKILL
        if died == 0:
            break
    assert killed
    made = embed_shards(place / "pictures", str(place / "photos"), out, progress=False)
    assert made.kept >= len(kept)
    assert not list(out.glob(".*"))
    whole = load(place / "pictures").embed(str(place / "photos"), progress=False)
    ids, rows, _ = rows_of(out)
    assert tuple(ids) == whole.ids
    np.testing.assert_allclose(rows, whole.rows.numpy(), atol=1e-6)
    assert (out / "skipped.csv").read_text().startswith("id,reason\neven/12.png,")


def test_another_model_and_other_data_are_refused_with_the_way_out(place: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "vectors.npy"
    np.save(data, VECTORS)
    run, another = place / "vectors", run_of_vectors(tmp_path / "another", seed=1)
    embed_shards(run, str(data), out, shard_rows=300, progress=False)
    way_out = "make all again with --anew, or name another folder with --out"
    for given, why in (
        ({"run": another}, "another model"),
        ({"layer": "backbone"}, "another layer"),
        ({"source": str(place / "vectors.npy")}, "other data, or the data have changed since"),
        ({"shard_rows": 200}, "--shard_rows 300"),
    ):
        with pytest.raises(LikewiseError, match=f"the shards in .* were made with {why}; {way_out}"):
            embed_shards(**{"run": run, "source": str(data), "out": out, "progress": False, **given})
    assert embed_shards(run, str(data), out, progress=False).kept == 3
    assert embed_shards(run, str(data), out, anew=True, progress=False).kept == 0
    made = embed_shards(another, str(data), out, shard_rows=N, anew=True, progress=False)
    assert (made.manifest.rows, sorted(times(out))) == ((N,), ["part-00000.parquet"])
    (out / "shards.json").write_text("{")
    with pytest.raises(LikewiseError, match=r"shards.json is damaged; make the shards again with --anew"):
        embed_shards(run, str(data), out, progress=False)


def test_shards_that_are_not_all_there_are_not_read(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed_shards(place / "vectors", str(place / "vectors.npy"), out, shard_rows=300, progress=False)
    told = json.loads((out / "shards.json").read_text())
    (out / "shards.json").write_text(json.dumps({**told, "rows": []}))
    (out / "part-00001.parquet").unlink()
    with pytest.raises(LikewiseError, match=r"is not finished: 2 of 3 shards are there; go on with: likewise embed"):
        read_shards(out)
    with pytest.raises(LikewiseError, match=r"holds no shards \(shards.json is missing\)"):
        read_shards(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vectors", "vectors.npy", "--out", "photos/"], "photos holds other files (such as even) and no shards"),
        (["vectors", "vectors.npy", "--out", "vectors.npy/"], "vectors.npy is a file, and shards need a folder"),
        (["vectors", "photos", "--out", "o/"], "photos holds images, but this model was trained on vectors"),
        (["vectors", "nowhere", "--out", "o/"], "nowhere does not exist."),
        (["vectors", "a.csv", "--out", "o/"], "shards are made of a folder of images, .parquet files or a .npy file"),
        (["vectors", "vectors.npy", "--out", "o/", "--engine", "spark"], "there is no engine 'spark'"),
        (["vectors", "vectors.npy", "--out", "o/", "--workers", "2"], "leave --workers out"),
        (["vectors", "vectors.npy", "--out", "o.parquet", "--engine", "ray"], "write --out o.parquet/"),
        (["vectors", "vectors.npy", "--out", "o/", "--shard_rows", "0"], "--shard_rows"),
        (["vectors", "vectors.npy", "--out", "o/", "--layer", "query"], "this model has no layer 'query'"),
        (["pictures", "broken", "--out", "o/"], "none of the 1 items of broken can be used (a.png: empty file"),
    ],
)
def test_a_mistake_is_one_sentence(
    place: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "a.csv").write_text("a,b\n1,2\n")
    (place / "broken").mkdir(exist_ok=True)
    (place / "broken" / "a.png").write_bytes(b"")
    assert main(["embed", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("likewise: ")
    assert error.count("\n") == 1
    assert said in error
