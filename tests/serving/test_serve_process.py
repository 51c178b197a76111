"""The server as a process: nothing that it accepted is lost when it stops, or when the run is made anew."""

import json
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from serving.small_server import make_run, pictures, small_run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clients of the benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serve

    return serve


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("process")
    small_run(place)
    return place


def ask(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


class Asking(threading.Thread):
    """Clients in a thread."""

    def __init__(self, bench: Any, port: int, clients: int) -> None:
        super().__init__()
        self._bench, self._port, self._clients = bench, port, clients
        self.start()

    def run(self) -> None:
        self.load = self._bench.ask(self._port, self._clients, 10**6)


def children(pid: int) -> list[int]:
    """The processes that a process started and that serve."""
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def stop(process: Any, clients: Asking) -> None:
    """Stops a server under load: every request that was sent has its answer."""
    process.send_signal(signal.SIGTERM)
    clients.join(60)
    assert process.wait(60) == 128 + signal.SIGTERM
    said = process.stderr.read()
    assert "Traceback" not in said
    assert "every request that was accepted has its answer" in said
    assert not clients.load.lost
    assert set(clients.load.statuses) == {"200"}
    assert len(clients.load.seconds) > 16


def test_a_new_run_and_a_stop_under_load_lose_nothing(place: Path, bench: Any) -> None:
    run = place / "renewed"
    shutil.copytree(place / "run", run)
    pictures(place / "more", seed=3)
    make_run(place / "new", place / "more", seed=3)
    with bench.server(run, without=["onnxruntime"]) as (process, port):
        before = ask(port, "/api/about")["protocol"]["model"]
        with pytest.raises(urllib.error.HTTPError, match="413"):  # this client reads no answer before it has sent all
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/embed", data=bytes(30_000_000), timeout=30)
        clients = Asking(bench, port, 16)
        shutil.copy(place / "new" / "model.safetensors", run / "model.next")
        os.replace(run / "model.next", run / "model.safetensors")  # a model whose index is not made yet
        time.sleep(2.5)
        assert ask(port, "/api/about")["protocol"]["model"] == before
        assert ask(port, "/health")["ok"]
        shutil.copytree(place / "new" / "index", run / "index", dirs_exist_ok=True)
        until = time.monotonic() + 60
        while ask(port, "/api/about")["protocol"]["model"] == before and time.monotonic() < until:
            time.sleep(0.2)
        assert ask(port, "/api/about")["protocol"]["model"] != before
        assert ask(port, "/health")["ok"]
        stop(process, clients)


@pytest.mark.slow
def test_of_two_processes_one_that_dies_is_started_again(place: Path, bench: Any) -> None:
    with bench.server(place / "run", "--workers", "2") as (process, port):
        os.kill(children(process.pid)[0], signal.SIGKILL)
        line = ""
        while "another is started" not in line:
            line = process.stderr.readline()
            assert line
        assert all(ask(port, "/health")["ok"] for _ in range(4))
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
        assert 'likewise_requests_total{route="/health",status="200"}' in text
        clients = Asking(bench, port, 16)
        time.sleep(1.0)
        stop(process, clients)
