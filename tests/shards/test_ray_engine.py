"""`likewise embed --engine ray` with a local cluster of two workers: the rows of one process; a worker that dies."""

import importlib.util
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import shards_of
from shards_of import VECTORS, run_of_vectors

from likewise.cli.main import main
from likewise.data.items import Items
from likewise.data.pieces import Piece
from likewise.errors import LikewiseError
from likewise.shards import embed, embed_shards, ray_engine, read_shards

if importlib.util.find_spec("ray") is None:  # it is imported later, for it then reads what we say in the environment
    pytest.skip("not tested: --engine ray; pip install 'likewise[ray]'", allow_module_level=True)


@dataclass(frozen=True)
class Fatal:
    """A piece that notes that it is read. The process of the third is killed once; that of ``always`` each time."""

    piece: Piece
    number: int
    folder: Path
    always: int
    wrong: int

    def blocks(self, most: int) -> Iterator[Items]:
        """As the piece."""
        for place, block in enumerate(self.piece.blocks(most)):
            if place == 0:
                with open(self.folder / "read", "a") as file:
                    file.write(f"{self.number}\n")
            yield block
        if self.number == self.always:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.number == self.wrong:
            raise LikewiseError("this piece can't be read; mend it.")
        if self.number == 2 and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Watched:
    """A source that is divided into such pieces."""

    divided: Any
    folder: Path
    always: int = -1
    wrong: int = -1
    kind: str = "vectors"
    name: str = "vectors"
    total: int = len(VECTORS)
    notes: Sequence[str] = ()

    def signature(self) -> str:
        """As the source."""
        return str(self.divided.signature())

    def piece(self, start: int, stop: int) -> Fatal:
        """The items from ``start`` to ``stop`` − 1."""
        return Fatal(self.divided.piece(start, stop), start // 100, self.folder, self.always, self.wrong)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, for all tests of this file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = ray_engine.ray_here()
        ray_engine._start(ray, 2)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        ray.cloudpickle.register_pickle_by_value(shards_of)
        yield ray
        ray.shutdown()


def rows_of(out: Path) -> tuple[list[str], np.ndarray]:
    """The ids and rows of a folder of shards."""
    found = list(read_shards(out)[1])
    return [item for block in found for item in block.ids], np.concatenate([block.rows for block in found])


def test_workers_make_the_rows_of_one_process_and_one_that_dies_repeats_its_shard(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = run_of_vectors(tmp_path / "run"), tmp_path / "vectors.npy"
    np.save(data, VECTORS)
    embed_shards(run, str(data), tmp_path / "one", shard_rows=100, progress=False)
    divide = embed.divide
    monkeypatch.setattr(embed, "divide", lambda source, **rest: Watched(divide(source, **rest), tmp_path))
    monkeypatch.chdir(tmp_path)  # the workers are in another folder
    words = ["embed", "run", "vectors.npy", "--engine", "ray", "--workers", "2", "--shard_rows", "100"]
    assert main([*words, "--out", "several/"]) == 0
    assert "700 rows of 4 in 7 shards, 0 kept." in capsys.readouterr().out
    assert (tmp_path / "died").exists()
    one, several = rows_of(tmp_path / "one"), rows_of(tmp_path / "several")
    assert one[0] == several[0]
    assert np.array_equal(one[1], several[1])
    assert sorted((tmp_path / "read").read_text().split()) == sorted("01223456"), "one shard is made twice"
    assert embed_shards(run, str(data), tmp_path / "several", progress=False).kept == 7


def test_a_cluster_of_this_machine_listens_to_this_machine_alone(cluster: Any) -> None:
    found = list[Any]()
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that has just ended, or is not waited for yet, listens to nobody
            if "ray" in " ".join(each.cmdline()):
                found += [one for one in each.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in found} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert found


def test_a_shard_whose_workers_always_die_is_one_sentence_and_the_others_stay(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data, out = run_of_vectors(tmp_path / "run"), tmp_path / "vectors.npy", tmp_path / "out"
    np.save(data, VECTORS)
    (tmp_path / "died").touch()
    divide = embed.divide
    monkeypatch.setattr(embed, "divide", lambda source, **rest: Watched(divide(source, **rest), tmp_path, always=5))
    monkeypatch.setattr(ray_engine, "DEATHS", 1)
    with pytest.raises(LikewiseError, match=r"a worker of Ray died 2 times at the same shard"):
        embed_shards(run, str(data), out, engine="ray", workers=1, shard_rows=100, progress=False)
    assert not (out / "part-00005.parquet").exists()
    monkeypatch.setattr(embed, "divide", lambda source, **rest: Watched(divide(source, **rest), tmp_path, wrong=5))
    with pytest.raises(LikewiseError, match=r"^this piece can't be read; mend it.$"):
        embed_shards(run, str(data), out, engine="ray", workers=1, progress=False)
    monkeypatch.setattr(embed, "divide", divide)
    assert embed_shards(run, str(data), out, progress=False).kept >= 4


def test_without_ray_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, data = run_of_vectors(tmp_path / "run"), tmp_path / "vectors.npy"
    np.save(data, VECTORS)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LikewiseError, match=r"--engine ray needs Ray: pip install 'likewise\[ray\]'"):
        embed_shards(run, str(data), tmp_path / "out", engine="ray", progress=False)
    assert not (tmp_path / "out").exists()
