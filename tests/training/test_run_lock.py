"""One training at a time writes a folder; a second one is refused by the name of the first."""

import errno
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from toy import clusters

from likewise.cli.main import main
from likewise.comparison.run import compare
from likewise.errors import LikewiseError
from likewise.training import run_lock
from likewise.training.fit import fit
from likewise.training.run_lock import LOCK, WRITER, written_by_one

MLP = {"encoder.name": "mlp", "encoder.hidden": 8, "encoder.dim": 4, "epochs": 1, "knn_epochs": 0, "batch_size": 8}


def test_the_second_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with written_by_one(tmp_path):
        with pytest.raises(LikewiseError, match="is being written by `") as refused, written_by_one(tmp_path):
            raise AssertionError
        who = json.loads((tmp_path / WRITER).read_bytes())
        assert f"`{who['command']}` (process {os.getpid()} of {who['machine']}, since {who['since']})" in str(
            refused.value
        )
    assert not (tmp_path / WRITER).exists()
    with written_by_one(tmp_path):
        (tmp_path / WRITER).write_text("[1, 2")
        with pytest.raises(LikewiseError, match="is being written by another process; wait"), written_by_one(tmp_path):
            raise AssertionError


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with written_by_one(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / WRITER).exists()
    with written_by_one(tmp_path):
        assert json.loads((tmp_path / WRITER).read_bytes())["process"] == os.getpid()


def test_a_file_system_without_locks_has_a_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(run_lock, "FileLock", none)
    refused = pytest.raises(LikewiseError, match="is being written by")
    with written_by_one(tmp_path), refused, written_by_one(tmp_path):
        raise AssertionError
    with written_by_one(tmp_path):
        pass


def test_fit_and_compare_hold_the_lock_of_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = clusters(classes=4, each=4)
    np.save(tmp_path / "vectors.npy", data[0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with written_by_one(tmp_path / "out"):
        before = sorted(path.name for path in (tmp_path / "out").iterdir())
        with pytest.raises(LikewiseError, match="out is being written by"):
            fit(data, out="out", settings=MLP, progress=False)
        with pytest.raises(LikewiseError, match="out is being written by"):
            compare(data, methods=["circle"], out="out", seeds=1, settings={"encoder.dim": 4}, steps=1, progress=False)
        assert main(["fit", "vectors.npy", "--out", "out"]) == 2
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    fit(data, out="out", settings=MLP, progress=False)
    assert (tmp_path / "out" / LOCK).exists()
    with written_by_one(tmp_path / "out"), pytest.raises(LikewiseError, match="out is being written by"):
        fit(data, out="out", settings=MLP, progress=False)
    with pytest.raises(LikewiseError, match="out already holds a run"):
        fit(data, out="out", settings=MLP, progress=False)


def test_a_cell_of_a_comparison_is_locked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = tmp_path / "circle-seed-0"
    cell.mkdir()
    with written_by_one(cell):
        settings = {"encoder.name": "mlp", "encoder.hidden": 8, "encoder.dim": 4, "batch_size": 18}
        done = compare(clusters(classes=4), methods=["circle"], out=tmp_path, seeds=1, settings=settings, steps=1)
    assert re.search("circle-seed-0 is being written by", str(done.failed))
