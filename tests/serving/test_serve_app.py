"""The server in one process: what it answers, and what it refuses."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from serving.small_server import NAME, SIDE, loaded_of, png, serving, small_run
from starlette.testclient import TestClient

from likewise.config.overrides import settings_from
from likewise.data import open_items
from likewise.data.decode import decode
from likewise.model import Model, load
from likewise.serving import gate
from likewise.serving.app import make_app
from likewise.serving.finding import LocalFinder
from likewise.serving.loaded import Loaded
from likewise.serving.shown import Shown, shown_of

HERE = "http://127.0.0.1"


class Case:
    """A server of a small run, and what it was made of."""

    def __init__(self, place: Path) -> None:
        self.run, self.data = place / "run", place / "data"
        self.pictures = small_run(place)
        self.loaded: Loaded = loaded_of(self.run)

    def client(self, **settings: object) -> TestClient:
        return TestClient(make_app(serving(self.run, **settings), self.loaded), base_url=HERE)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def client(case: Case) -> Iterator[TestClient]:
    with case.client() as client:
        yield client


def test_answers_are_those_of_the_model_and_its_index(case: Case, client: TestClient) -> None:
    model, index = load(case.run), case.loaded.local
    assert index is not None
    name = "b/01.png"
    row = model.embed_file(case.data / name)
    embedded = client.post("/api/embed", content=case.pictures[name]).json()["embedding"]
    assert np.allclose(embedded, row.numpy(), atol=1e-5)
    for found, wanted in (
        (client.post("/api/search/upload?k=4", content=case.pictures[name]), index.search(row, 4)),
        (client.post("/api/search", json={"embedding": row.tolist(), "k": 4}), index.search(row, 4)),
        (client.post("/api/search", json={"id": name, "k": 4}), index.search(name, 4)),
        (
            client.post("/api/search", json={"id": name, "where": ["year >= 2010"]}),
            index.search(name, where="year >= 2010"),
        ),
    ):
        hits = found.json()["hits"]
        assert [hit["id"] for hit in hits] == [hit.id for hit in wanted]
        assert np.allclose([hit["score"] for hit in hits], [hit.score for hit in wanted], atol=1e-5)
        assert [hit["label"] for hit in hits] == [hit.id[0] for hit in wanted]
        assert [index.ids[hit["row"]] for hit in hits] == [hit.id for hit in wanted]
    by_id = client.post("/api/search", json={"id": name}).json()
    assert by_id["query"] == {"row": index.ids.index(name), "id": name, "label": "b"}
    assert all(hit["wrong"] == (hit["label"] != "b") for hit in by_id["hits"])


def test_pictures_duplicates_classes_and_rows(case: Case, client: TestClient) -> None:
    for name, content in list(case.pictures.items())[:3]:
        shown = client.get("/api/picture", params={"id": name})
        assert shown.headers["content-type"] == "image/png"
        assert np.array_equal(decode(shown.content, SIDE).pixels, decode(content, SIDE).pixels)
        copies = client.post("/api/duplicates", content=content).json()
        assert [copy["id"] for copy in copies["duplicates"]] == [name]
        assert copies["duplicates"][0]["similarity"] == 1
        classified = client.post("/api/classify/upload", content=content).json()
        assert sum(vote["share"] for vote in classified["votes"]) == pytest.approx(1)
        assert classified["label"] == classified["votes"][0]["label"]
    rows = client.get("/api/items", params={"rows": "3,0"}).json()
    assert case.loaded.local is not None
    assert [item["id"] for item in rows] == [case.loaded.local.ids[3], case.loaded.local.ids[0]]
    assert rows[0]["columns"] == {"year": 2003}
    about = client.get("/api/about").json()
    assert not [name for name in about["protocol"] if name.endswith("_path")]  # which tell of the machine
    assert (about["items"], about["labels"], about["metadata"]) == (20, ["a", "b"], ["year"])
    assert case.loaded.shown.items is not None
    assert case.loaded.shown.items.source == about["protocol"]["data"]


def test_queries_and_items_have_rows_of_their_own_where_they_have_encoders_of_their_own(case: Case) -> None:
    class Two:
        engine = "two encoders"

        def rows(self, values: np.ndarray, layer: str) -> torch.Tensor:
            return torch.eye(8)[[int(layer == "query")] * len(values)]

    app = make_app(serving(case.run), replace(case.loaded, encoder=Two(), asking="query"))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        picture = case.pictures[NAME]
        assert client.post("/api/embed", content=picture).json()["embedding"][:2] == [1, 0]
        query = client.post("/api/embed?as_query=true", content=picture).json()["embedding"]
        assert query[:2] == [0, 1]
        by_row = client.post("/api/search", json={"embedding": query}).json()
        assert by_row == client.post("/api/search/upload", content=picture).json()


def test_hits_have_all_their_labels_and_one_in_common_is_right(case: Case) -> None:
    items, local = case.loaded.shown.items, case.loaded.local
    assert items is not None
    assert local is not None
    several = np.stack([np.asarray(items.labels), np.arange(20) % 4 + 2], 1)
    several[0, 1] = several[5] = -1
    shown = Shown(replace(items, labels=several, label_names=tuple("abwxyz")))
    app = make_app(serving(case.run), replace(case.loaded, shown=shown, finder=LocalFinder(local, shown)))
    own = dict(zip(items.ids, [{int(label) for label in row if label >= 0} for row in several], strict=True))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for query in items.ids[:2]:
            answer = client.post("/api/search", json={"id": query, "k": 19}).json()
            told = ", ".join("abwxyz"[label] for label in sorted(own[query]))
            assert answer["query"]["label"] == told
            for hit in answer["hits"]:
                theirs = own[hit["id"]]
                assert hit["label"] == (", ".join("abwxyz"[label] for label in sorted(theirs)) or None)
                assert hit["wrong"] == (not own[query] & theirs if theirs else None)
        votes = client.post("/api/classify", json={"id": items.ids[0]}).json()["votes"]
        assert {vote["label"] for vote in votes} <= set("abwxyz")
        assert len(votes) > 1


def test_labels_are_those_of_the_column_that_the_run_was_trained_with(tmp_path: Path) -> None:
    pictures = [{"bytes": png(np.full((SIDE, SIDE, 3), 50 * row, np.uint8)), "path": "xyz"[row]} for row in range(3)]
    columns = {"image": pictures, "tags": [["a", "b"], ["b"], []]}
    pq.write_table(pa.table(columns), tmp_path / "tagged.parquet")
    pq.write_table(pa.table(columns).drop(["tags"]), tmp_path / "bare.parquet")
    settings = settings_from({"size": SIDE, "labels": "tags", "encoder.dim": 8})
    model = Model.untrained(settings, open_items(str(tmp_path / "tagged.parquet"), size=SIDE, progress=False))
    shown = shown_of(model, tmp_path, {}, str(tmp_path / "tagged.parquet"))
    assert [shown.text(each) for each in shown.labels_of(["x", "y", "z", "?"]).tolist()] == ["a, b", "b", None, None]
    bare = shown_of(model, tmp_path, {}, str(tmp_path / "bare.parquet"))
    assert bare.pictured
    assert bare.label_names == ()


def test_a_name_breaks_no_header(case: Case, client: TestClient) -> None:
    shown = client.get("/api/picture", params={"id": NAME})
    assert shown.status_code == 200
    assert "x-evil" not in shown.headers
    assert client.get("/api/items", params={"rows": "0"}).json()[0]["id"] in case.pictures


@pytest.mark.parametrize(
    "id", ["/etc/passwd", "../run/model.safetensors", "a/../b/01.png", "~/x", "file:///etc/passwd", "\0", ""]
)
def test_only_ids_of_the_index_are_fetched(client: TestClient, id: str) -> None:
    assert client.get("/api/picture", params={"id": id}).status_code == 404
    assert client.post("/api/search", json={"id": id}).status_code == 404


def bomb(side: int) -> bytes:
    """A PNG of one colour with side × side pixels."""
    return png(np.zeros((side, side), np.uint8))


def poisons() -> dict[str, tuple[bytes, int]]:
    """Bad and strange bodies, and the status of each."""
    good = png(np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    return {
        "1 x 1": (png(np.zeros((1, 1, 3), np.uint8)), 200),
        "truncated": (good[: len(good) // 2], 422),
        "bomb": (bomb(1100), 413),
        "empty": (b"", 422),
        "text": (b"hello", 415),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        "tiff": (png(np.zeros((8, 8, 3), np.uint8), "TIFF"), 415),
        "header alone": (good[:33], 415),
    }


@pytest.mark.parametrize("kind", poisons())
def test_a_poison_item_changes_no_other_answer(case: Case, kind: str) -> None:
    body, status = poisons()[kind]
    with case.client(max_megapixels=1.0) as client:
        good = case.pictures["a/00.png"]
        right = client.post("/api/embed", content=good).json()["embedding"]
        files = [("images", (f"{place}.png", body if place == 7 else good)) for place in range(32)]
        answers = client.post("/api/embed/batch", files=files).json()
        assert ("error" in answers[7]) == (status != 200)
        assert all(np.allclose(answers[place]["embedding"], right, atol=1e-5) for place in range(32) if place != 7)
        assert client.post("/api/search/upload", content=body).status_code == status
        assert client.get("/health").json()["ok"]
        for _ in range(100 if kind == "bomb" else 5):
            assert np.allclose(client.post("/api/embed", content=good).json()["embedding"], right, atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        '{"embedding": [NaN, 0, 0, 0, 0, 0, 0, 0]}',
        '{"embedding": [1e400, 0, 0, 0, 0, 0, 0, 0]}',
        '{"embedding": [1e300, 0, 0, 0, 0, 0, 0, 0]}',
        '{"embedding": [3e38, 3e38, 3e38, 3e38, 3e38, 3e38, 3e38, 3e38]}',
        '{"embedding": [1, 2]}',
        '{"embedding": []}',
        '{"embedding": ["1"]}',
        '{"vector": [1, 2]}',
        '{"id": "a/00.png", "k": 0}',
        '{"id": "a/00.png", "k": 1001}',
        '{"id": "a/00.png", "k": 99999999999999999999999}',
        '{"id": "a/00.png", "k": true}',
        '{"id": "a/00.png", "url": "http://example.com/"}',
        '{"url": "http://example.com/a.png"}',
        '{"id": "a/00.png", "where": ["yaer > 1"]}',
        '{"id": "a/00.png", "where": ["year > x"]}',
        '{"id": "a/00.png", "where": ["year"]}',
        '{"id": "a/00.png", "colour": 1}',
        "{}",
        "[]",
        "{",
        "[" * 100_000,
        '{"embedding": [' + "9" * 5000 + "]}",
    ],
)
def test_a_bad_question_is_one_sentence(client: TestClient, body: str) -> None:
    answer = client.post("/api/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert isinstance(answer.json()["detail"], str)


def test_a_bad_question_is_told_in_words(client: TestClient) -> None:
    answer = client.post("/api/search", content="{", headers={"content-type": "application/json"})
    assert answer.json()["detail"] == "the body is not JSON."
    answer = client.get("/api/items", params={"rows": "1;2"})
    assert answer.json()["detail"] == "rows is written in another way; /openapi.json shows how."
    many = client.post("/api/search", json={"id": "a/00.png", "k": 10_001}).json()["detail"]
    assert many == "k is more than the 1,000 hits that this server allows (--k_limit)."
    answer = client.post("/api/search", content='{"id": "x"}', headers={"content-type": "text/plain"})
    assert "the header Content-Type application/json" in answer.json()["detail"]
    assert "/openapi.json" in client.get("/nothing").json()["detail"]
    assert "the header Allow" in client.put("/health").json()["detail"]


def test_bodies_are_counted_while_they_come(case: Case) -> None:
    with case.client(max_megabytes=0.1) as client:
        told = client.post("/api/embed", content=b"x" * 200_000)
        assert told.status_code == 413

        def parts() -> Iterator[bytes]:  # without a length
            for _ in range(200):
                yield b"x" * 1000

        assert client.post("/api/search/upload", content=parts()).status_code == 413
        assert client.post("/api/search", content=parts()).status_code == 413
        files = [("images", ("x.png", b"x" * 60_000))] * 2
        assert client.post("/api/embed/batch", files=files).status_code == 413
        assert client.get("/health").json()["ok"]


def test_bodies_that_are_slow_or_too_many_at_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(serving(case.run), case.loaded)
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"image/png")]
    scope = {"type": "http", "method": "POST", "path": "/api/search/upload", "query_string": b"", "headers": headers}

    def status(part: bytes, then: float) -> int:
        """Of a request that sends a part, and waits before the next."""
        sent, told = list[bytes](), list[dict[str, Any]]()

        async def receive() -> dict[str, Any]:
            if sent:
                await asyncio.sleep(then)
            sent.append(part)
            return {"type": "http.request", "body": part, "more_body": True}

        async def send(message: Any) -> None:
            told.append(message)

        asyncio.run(app({**scope}, receive, send))
        assert told[0]["type"] == "http.response.start"
        code: int = told[0]["status"]
        return code

    monkeypatch.setattr(gate, "SECONDS", 0.1)
    assert status(b"x", then=10) == 408
    monkeypatch.setattr(gate, "HELD", 10_000)
    assert status(b"x" * 6000, then=0) == 503
    assert status(b"x", then=10) == 408  # what was held is given back


def test_a_full_queue_says_when_to_come_back(case: Case) -> None:
    app = make_app(serving(case.run, queue=4), case.loaded)
    good, free, hold = case.pictures["a/00.png"], threading.Event(), threading.Event()

    class Slow:
        """An encoder that waits."""

        engine = "slow"

        def rows(self, values, layer):  # type: ignore[no-untyped-def]
            free.set()
            assert hold.wait(30)
            assert case.loaded.encoder is not None
            return case.loaded.encoder.rows(values, layer)

    from dataclasses import replace

    app.live.now = replace(case.loaded, encoder=Slow())
    with TestClient(app, base_url=HERE) as client:
        done = list[httpx2.Response]()
        threads = [
            threading.Thread(target=lambda: done.append(client.post("/api/embed", content=good))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        assert free.wait(30)
        while client.get("/metrics").text.find("likewise_waiting 4.0") < 0:
            pass
        refused = client.post("/api/embed", content=good)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        files = [("images", ("x.png", good))] * 5  # a batch has the limit of single requests
        assert client.post("/api/embed/batch", files=files).status_code in (400, 503)
        hold.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in done] == [200] * 4
        assert client.get("/health").json()["ok"]


def test_who_asks_is_said_once(client: TestClient) -> None:
    twice = [("host", "evil.example"), ("host", "localhost")]
    assert client.get("/api/about", headers=twice).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "10.0.0.7"}, 200),
        ({"host": ""}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"origin": "http://127.0.0.1:x"}, 403),
    ],
)
def test_who_asks(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/api/about", headers=headers).status_code == status


def test_the_token(case: Case) -> None:
    token = "t0p-secret-and-long-enough"
    with case.client(token=token, hosts=("photos.example",)) as client:
        basic = base64.b64encode(f"me:{token}".encode()).decode()
        for given, status in (
            ("", 401),
            ("Bearer", 401),
            (f"Bearer {token[:-1]}", 401),
            (f"Bearer {token}x", 401),
            ("Basic !!!", 401),
            (f"Bearer {token}", 200),
            (f"Basic {basic}", 200),
        ):
            headers = {"host": "photos.example", **({"authorization": given} if given else {})}
            answer = client.get("/health", headers=headers)
            assert answer.status_code == status, given
        assert "www-authenticate" in client.get("/metrics").headers


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for answer in (client.get("/api/about"), client.get("/nothing"), client.get("/health", headers={"host": "x"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_the_metrics_count(client: TestClient) -> None:
    client.get("/health")
    text = client.get("/metrics").text
    assert 'likewise_requests_total{route="/health",status="200"}' in text
    assert "likewise_items 20.0" in text
    assert 'likewise_request_seconds_count{route="/health"}' in text
    json.dumps(client.get("/openapi.json").json())
