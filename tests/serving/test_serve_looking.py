"""What is made beside the server: once for all processes and servers of a run, and not used for another run."""

import gc
import shutil
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.small_server import loaded_of, serving, small_run
from starlette.testclient import TestClient

from likewise.errors import LikewiseError
from likewise.look.parts import PARTS, make_part, read_part, write_part
from likewise.serving import kept_network, looking
from likewise.serving.app import make_app
from likewise.serving.aside import Aside, Ended

HERE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("looking")
    small_run(place)
    return place / "run"


def client(run: Path) -> TestClient:
    return TestClient(make_app(serving(run), loaded_of(run)), base_url=HERE)


def test_parts_are_made_beside_the_server_and_read_by_the_next(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "FEW", 0)
    with client(run) as first:
        points, groups = first.get("/api/points.bin"), first.get("/api/groups?kind=duplicates")
        assert (points.status_code, groups.status_code) == (200, 200)
        assert first.get("/api/progress").json() == {"share": 1.0}
    look = loaded_of(run).look
    assert look is not None
    assert points.content == make_part(look, "points")
    assert groups.content == make_part(look, "duplicates")

    def none(*given: object) -> None:
        raise AssertionError("what is kept was made again")

    monkeypatch.setattr(Aside, "do", none)
    with client(run) as second:
        assert second.get("/api/points.bin").content == points.content
        assert second.get("/api/groups?kind=duplicates").content == groups.content


def test_what_is_kept_is_of_this_run_alone(run: Path, tmp_path: Path) -> None:
    look = loaded_of(run).look
    assert look is not None
    for name in PARTS:
        write_part(tmp_path, name, b"what was made", look.stamp(name))
        assert read_part(tmp_path, name, look.stamp(name)) == b"what was made"
        assert read_part(tmp_path, name, {**look.stamp(name), "likewise": "0"}) is None
    labels = look.labels.copy()
    look.labels[0] = 1 - labels[0]
    look._kept.clear()
    assert read_part(tmp_path, "suspects", look.stamp("suspects")) is None
    (look.run / "metrics.jsonl").write_text("")
    assert read_part(tmp_path, "verdict", look.stamp("verdict")) is None
    path = tmp_path / "points.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert read_part(tmp_path, "points", look.stamp("points")) is None
    path.write_bytes(b"nothing")
    assert read_part(tmp_path, "points", look.stamp("points")) is None


def test_one_run_answers_all_of_a_request(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_of(run)
    another = replace(loaded, look=None, signed="another")
    app, part = make_app(serving(run), loaded), looking.Looking.part

    async def part_and_another_run(*given: Any) -> bytes:
        found = await part(*given)
        app.live.take(another)
        return found

    monkeypatch.setattr(looking.Looking, "part", part_and_another_run)
    area = {"polygon": [[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]]}
    with TestClient(app, base_url=HERE) as asked:
        assert asked.post("/api/inside", json=area).json()["count"] == 20
        assert asked.post("/api/inside", json=area).status_code == 409
        former = weakref.ref(loaded)
        del loaded
        gc.collect()
        assert former() is None  # the memory of the former run is free


def test_a_folder_that_can_not_be_written_is_no_obstacle(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("serve", "map.safetensors"))
    (tmp_path / "run" / "serve").write_text("in the way")
    with client(tmp_path / "run") as alone:
        assert alone.get("/api/groups?kind=weakest").status_code == 200


def fail(kind: str) -> None:
    """What a process is told to do in a test."""
    if kind == "refused":
        raise LikewiseError("there is none.")
    if kind == "fault":
        raise ZeroDivisionError
    threading.Event().wait(60)


def test_work_that_fails_or_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    aside = Aside()
    with pytest.raises(LikewiseError, match="there is none"):
        aside.do(fail, "refused")
    with pytest.raises(LikewiseError, match="its log says where"):
        aside.do(fail, "fault")
    assert "ZeroDivisionError" in capfd.readouterr().err
    soon = threading.Timer(0.3, aside.end)
    soon.start()
    with pytest.raises(Ended):
        aside.do(fail, "slow")


def test_a_process_that_has_done_its_work_ends_by_itself() -> None:
    aside = Aside()
    with pytest.raises(LikewiseError):
        aside.do(fail, "refused")
    process = aside._process
    aside.finish()
    aside.end()
    assert process is not None
    assert process.exitcode == 0


def test_a_server_that_stops_waits_for_no_work() -> None:
    looks = iter([False, False])  # before the work, and once in its middle
    aside = Aside(lambda: next(looks, True))
    for _ in range(2):
        with pytest.raises(Ended):
            aside.do(fail, "slow")
    assert aside._process is None


def test_the_exported_network_is_kept_for_its_model_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded_of(run).model
    assert model is not None
    values = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    made = kept_network.kept_runner(model, "embedding", run)(values)
    monkeypatch.setattr(Aside, "do", lambda *given: pytest.fail("it was made again"))
    assert np.array_equal(kept_network.kept_runner(model, "embedding", run)(values), made)
    file = run / "serve" / "embedding.onnx"
    assert kept_network._kept(run, "another", "embedding") is None
    file.write_bytes(file.read_bytes()[:-1000])
    assert kept_network._kept(run, model.weights_hash, "embedding") is None
