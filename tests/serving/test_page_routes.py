"""The routes of the page without a browser: its files, and what is refused."""

import csv
import io
import logging
import shutil
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.small_server import loaded_of, serving, small_run
from starlette.testclient import TestClient

from likewise.index import Index
from likewise.serving import reloading
from likewise.serving.app import make_app

SQUARE = [[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place: Path = tmp_path_factory.mktemp("routes")
    small_run(place)
    with TestClient(make_app(serving(place / "run"), loaded_of(place / "run")), base_url="http://127.0.0.1") as client:
        yield client


def test_the_page_loads_only_its_own_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "style=" not in page.text
    for name in ("style.css", "app.js", "raster.js", "columns.js", "gestures.js"):
        found = client.get(f"/static/{name}")
        assert found.status_code == 200
        assert "http://" not in found.text.replace("http://www.w3.org", "")
        assert "https://" not in found.text


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/about", "/health", "/metrics"])
def test_head_gets_what_get_gets_without_its_body(client: TestClient, path: str) -> None:
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == client.get(path).headers["content-type"]
    assert client.head("/api/search").status_code == 405


@pytest.mark.parametrize("name", ["../columns.py", "..%2fcolumns.py", "%2e%2e/__init__.py", "nothing.js", "."])
def test_no_other_file_is_given(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_parts_of_the_map_are_selected_under_conditions(client: TestClient) -> None:
    assert client.post("/api/inside", json={"polygon": SQUARE}).json() == {
        "count": 20,
        "labels": {"a": 10, "b": 10},
        "rows": list(range(20)),
    }
    shown = b64encode(bytes([0b11000001, 0xFF, 0x0F])).decode()  # without the rows 1 to 5
    area = {"polygon": SQUARE, "shown": shown}
    assert client.post("/api/inside", json=area).json()["rows"] == [0, *range(6, 20)]
    some = client.post("/api/inside", json={**area, "where": ["year < 2008"]}).json()
    assert some["rows"] == [0, 6, 7]
    text = client.post("/api/inside.csv", json=area).text
    assert text.startswith("id,label\r\n")
    assert len(list(csv.reader(io.StringIO(text, newline="")))) == 16  # a name has line breaks


@pytest.mark.parametrize(
    ("path", "body", "status", "why"),
    [
        ("/api/inside", {"polygon": SQUARE[:2]}, 422, "polygon"),
        ("/api/inside", {"polygon": [[0, 0], [1, 1], [2]]}, 422, "polygon"),
        ("/api/inside", {"polygon": SQUARE, "where": ["colour = red"]}, 422, "colour"),
        ("/api/inside", {"polygon": SQUARE, "shown": "AAA="}, 422, "20 points need 3"),
        ("/api/inside", {"polygon": SQUARE, "shown": "é"}, 422, "base64"),
        ("/api/scores.bin", {}, 422, "exactly one"),
        ("/api/scores.bin", {"id": "nothing"}, 404, "nothing"),
        ("/api/scores.bin", {"embedding": [1.0]}, 422, "numbers"),
    ],
)
def test_what_can_not_be_answered_is_one_sentence(
    client: TestClient, path: str, body: dict[str, object], status: int, why: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert why in answer.json()["detail"]


def test_every_answer_names_what_is_served(client: TestClient) -> None:
    marks = {client.get(path).headers["likewise-run"] for path in ("/", "/api/about", "/api/points.bin", "/nothing")}
    assert len(marks) == 1


def test_a_copy_of_a_run_has_its_name_and_a_new_index_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run(tmp_path)
    first = loaded_of(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert loaded_of(tmp_path / "copy").mark == first.mark
    index = Index.load(tmp_path / "run" / "index")
    index.remove(["a/00.png"])
    index.save(tmp_path / "run" / "index")
    assert loaded_of(tmp_path / "run").mark != first.mark
    monkeypatch.setattr(reloading, "EVERY", 0.01)
    monkeypatch.setattr(reloading, "load_all", lambda serving, say: loaded_of(serving.run))
    with TestClient(make_app(serving(tmp_path / "run"), first), base_url="http://127.0.0.1") as late:  # it has read it
        ends = time.monotonic() + 20
        while late.get("/api/about").json()["items"] == 20 and time.monotonic() < ends:
            time.sleep(0.05)
        assert late.get("/api/about").json()["items"] == 19


def test_groups_and_the_verdict_are_told(client: TestClient) -> None:
    assert client.get("/api/groups", params={"kind": "all"}).status_code == 422
    assert len(client.get("/api/groups", params={"kind": "weakest"}).json()["groups"]) == 2
    assert client.get("/api/points.bin").status_code == 200
    assert client.get("/api/progress").json() == {"share": 1.0}
    assert client.get("/api/verdict").json()["sentence"].startswith("The embedding")


def test_why_there_are_no_pictures_names_no_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small_run(tmp_path)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    caplog.set_level(logging.WARNING, "likewise.serving")
    with TestClient(
        make_app(serving(tmp_path / "run"), loaded_of(tmp_path / "run")), base_url="http://127.0.0.1"
    ) as it:
        why = it.get("/api/about").json()["why_no_pictures"]
    assert "--data" in why
    assert str(tmp_path) not in why
    assert "no pictures" in caplog.text
