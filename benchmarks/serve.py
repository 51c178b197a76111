"""The server under load: milliseconds of CPU a request, p50 and p95, and what a stop or a new run loses.

    python benchmarks/serve.py                             # 100,000 × 128, at 1, 8 and 32 clients
    python benchmarks/serve.py --engine exact --clients 32
    python benchmarks/serve.py --without onnxruntime       # torch
    python benchmarks/serve.py --workers 2
    python benchmarks/serve.py --stops 20                  # SIGTERM at 32 clients, 20 times
    python benchmarks/serve.py --reloads 5                 # another model and index under load
    python benchmarks/serve.py --beside /api/points.bin    # 8 clients, before and while the server makes the map
    python benchmarks/serve.py --memory                    # after 24,000 requests, and 32,000 clients that leave
    python benchmarks/serve.py --run runs/photos --beside "/api/groups?kind=duplicates"

Each request is a PNG of 32 px: it is decoded, embedded and searched for among the rows. The server is a process of its
own, and the clients are another, which asks over loopback: each client waits for its answer before it asks again. The
encoder is the small ResNet, untrained; the rows are clustered, as in index.py. Each measurement is some thousand
requests, and ends. CPU seconds are those of the server's processes, all threads, by /proc.
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

DIM, SIDE = 128, 32
SAMPLED = 60  # seconds of requests while something is computed, which then goes on alone
TICK = os.sysconf("SC_CLK_TCK")


def clustered(rows: int, seed: int) -> torch.Tensor:
    """(N, 128) rows around centres that lie apart."""
    random = torch.Generator().manual_seed(seed)
    centres = functional.normalize(torch.randn(max(1, rows // 100), DIM, generator=random), dim=1)
    own = centres[torch.randint(len(centres), (rows,), generator=random)]
    return functional.normalize(own + 0.05 * torch.randn(rows, DIM, generator=random), dim=1)


def make_run(run: Path, rows: int, engine: str, seed: int = 0) -> str:
    """Writes an untrained model and an index of made-up rows; returns what the index promises."""
    from likewise.config.overrides import settings_from
    from likewise.data import open_items
    from likewise.index import Index
    from likewise.model import Model, load

    run.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)
    settings = settings_from({"size": SIDE, "seed": seed})
    Model.untrained(settings, open_items(pixels, size=SIDE, progress=False)).save(run / "model.safetensors")
    index = Index(clustered(rows, seed), [f"i{row:06}" for row in range(rows)], load(run).protocol("embedding"))
    promise = index.use(engine)
    index.save(run / "index")
    return f"{index.engine_name}: {promise.sentence()}"


def pictures(count: int = 64) -> list[bytes]:
    """PNG files of 32 px, smooth as photos are."""
    random, made = np.random.default_rng(1), []
    for _ in range(count):
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "PNG")
        made.append(file.getvalue())
    return made


def requests_of(bodies: Sequence[bytes]) -> list[bytes]:
    """The bytes of a request for each body."""
    head = "POST /api/search/upload?k=10 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


@contextmanager
def server(run: Path, *options: str, without: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, and its port. ``without`` names libraries that it must not find."""
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = f"import sys; {hidden}from likewise.__main__ import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    try:
        told = ""
        while "http://" not in told:
            line = process.stderr.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {told}")
            told += line
        yield process, int(re.findall(r"http://[^:]+:(\d+)", told)[0])
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        process.stderr.close()


def processes(pid: int) -> list[int]:
    """A process and those that it started."""
    children = [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return [pid, *(each for child in children for each in processes(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Of a process and those that it started, so far; of those that have ended too."""
    numbers = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in processes(pid)]
    return sum(int(each[place]) for each in numbers for place in (11, 12, 13, 14)) / TICK


def megabytes(pid: int) -> int:
    """Memory that a process and those that it started hold now; pages that they share count once for each."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processes(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


class Load:
    """Clients that ask, each one request at a time.

    Args:
        port: of the server.
        requests: whole requests as bytes, taken in turn.
        most: number of requests, of all clients together.
    """

    def __init__(self, port: int, requests: Sequence[bytes], most: int) -> None:
        self._port, self._requests, self._left = port, requests, most
        self.seconds = list[float]()
        self.statuses: Counter[str] = Counter()
        self.lost = 0  # sent, on a connection that was taken, and not answered

    async def run(self, clients: int) -> None:
        """Until all are sent, or the server takes no connection any more."""
        await asyncio.gather(*(self._client() for _ in range(clients)))

    async def _client(self) -> None:
        while self._left > 0:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except ConnectionError:
                return
            try:
                while self._left > 0 and await self._ask(reader, writer):
                    pass
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection goes on."""
        self._left -= 1
        began = time.perf_counter()
        try:
            writer.write(self._requests[self._left % len(self._requests)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost += 1
            return False
        self.seconds.append(time.perf_counter() - began)
        self.statuses[head[9:12].decode()] += 1
        return b"connection: close" not in head


def ask(port: int, clients: int, most: int) -> Load:
    """Loads a server from this process."""
    load = Load(port, requests_of(pictures()), most)
    asyncio.run(load.run(clients))
    return load


@contextmanager
def asking(port: int, clients: int, most: int) -> Iterator["subprocess.Popen[str]"]:
    """Loads a server from another process, which prints what came of it as JSON."""
    words = [sys.executable, __file__, "--ask", str(port), str(clients), str(most)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # it begins
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def told(process: "subprocess.Popen[str]") -> dict[str, object]:
    """What the clients say when they have ended."""
    assert process.stdout is not None
    said: dict[str, object] = json.loads(process.stdout.readline())
    return said


def measure(run: Path, clients: Sequence[int], most: int, options: Sequence[str], without: Sequence[str]) -> None:
    """Prints a row for each number of clients."""
    print("| clients | requests/s | p50 ms | p95 ms | CPU ms each | answers |")
    print("|-|-|-|-|-|-|")
    with server(run, *options, without=without) as (process, port):
        ask(port, 8, 300)  # warm
        for many in clients:
            used = cpu_seconds(process.pid)
            with asking(port, many, most if many > 1 else most // 4) as client:
                found = told(client)
            spent, count = cpu_seconds(process.pid) - used, int(str(found["answered"]))
            print(
                f"| {many} | {found['rate']} | {found['p50']} | {found['p95']} | {1000 * spent / count:.2f} "
                f"| {found['statuses']}, lost {found['lost']} |",
                flush=True,
            )


def stop(run: Path, times: int, options: Sequence[str], without: Sequence[str]) -> None:
    """SIGTERM at 32 clients, some times."""
    answered, lost, codes = 0, 0, Counter[int]()
    for turn in range(times):
        with server(run, *options, without=without) as (process, port), asking(port, 32, 10**6) as client:
            time.sleep(0.7 + 0.05 * turn)
            process.send_signal(signal.SIGTERM)
            found = told(client)
            codes[process.wait(60)] += 1
        answered, lost = answered + int(str(found["answered"])), lost + int(str(found["lost"]))
        print(f"stop {turn + 1}: {found}", file=sys.stderr, flush=True)
    print(f"SIGTERM at 32 clients, {times} times: {answered:,} answered, {lost} lost; exit codes {dict(codes)}")


def reload(place: Path, run: Path, rows: int, engine: str, times: int, options: Sequence[str]) -> None:
    """Another model and index under load, some times."""
    for seed in (0, 1):
        make_run(place / f"new{seed}", rows, engine, seed + 1)
    with server(run, *options) as (process, port), asking(port, 32, 10**6) as client:
        for turn in range(times):
            new = place / f"new{turn % 2}"
            shutil.copytree(new / "index", run / "index", dirs_exist_ok=True)
            shutil.copy(new / "model.safetensors", run / "model.new")
            os.replace(run / "model.new", run / "model.safetensors")
            time.sleep(8)
        process.send_signal(signal.SIGTERM)
        found = told(client)
    print(f"{times} new runs at 32 clients: {found}")


def beside(run: Path, path: str, options: Sequence[str], without: Sequence[str]) -> None:
    """Eight clients before something is computed for the page, meanwhile, and after; then it is asked for again."""
    print("| 8 clients | requests | p50 ms | p95 ms | seconds | CPU seconds | most memory, MB |")
    print("|-|-|-|-|-|-|-|")
    with server(run, *options, without=without) as (process, port):
        ask(port, 8, 300)  # warm
        for what, other in (
            ("before", threading.Thread(target=time.sleep, args=[8])),
            (f"while {path} is computed", threading.Thread(target=get, args=[port, path])),
            ("after", threading.Thread(target=time.sleep, args=[8])),
        ):
            began, used, seconds, held = time.perf_counter(), cpu_seconds(process.pid), list[float](), 0
            other.start()
            while other.is_alive() and time.perf_counter() < began + SAMPLED:
                load = ask(port, 8, 200)
                assert set(load.statuses) == {"200"}
                assert not load.lost
                seconds += load.seconds
                held = max(held, megabytes(process.pid))
            other.join()
            wall, spent = time.perf_counter() - began, cpu_seconds(process.pid) - used
            p50, p95 = np.percentile(seconds, [50, 95]) * 1000
            print(
                f"| {what} | {len(seconds):,} | {p50:.1f} | {p95:.1f} | {wall:.1f} | {spent:.1f} | {held:,} |",
                flush=True,
            )
        print(f"again: {get(port, path):.2f} s")
    with server(run, *options, without=without) as (process, port):
        print(f"from the next server: {get(port, path):.2f} s")


def memory(run: Path, options: Sequence[str], without: Sequence[str]) -> None:
    """What the server holds after thousands of requests, some refused, and after clients that leave in the middle."""
    body = pictures(1)[0]
    asked = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for path in ("/health", "/api/about", "/none")]
    for path, content in (
        ("search/upload", body),
        ("embed", body),
        ("classify/upload", body),
        ("embed", b"no picture"),
    ):
        head = f"POST /api/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        asked.append(head.encode() + content)
    chance = random.Random(0)
    with server(run, *options, without=without) as (process, port):
        for done in range(0, 24_000, 4_000):
            print(f"after {done:,} requests: {megabytes(process.pid)} MB", flush=True)
            load = Load(port, asked, 4_000)
            asyncio.run(load.run(16))
            assert not load.lost
        for done in range(0, 32_000, 8_000):
            print(f"and {done:,} clients that left: {megabytes(process.pid)} MB", flush=True)
            for _ in range(8_000):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    request = chance.choice(asked)
                    client.sendall(request[: chance.choice([len(request), chance.randrange(len(request))])])
        time.sleep(2)
        print(f"and 32,000: {megabytes(process.pid)} MB; healthy again in {get(port, '/health'):.3f} s")


def get(port: int, path: str) -> float:
    """Seconds until a path is answered."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=600) as answer:
        answer.read()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--engine", default="faiss:ivf", help="of the index")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--without", action="append", default=[], metavar="LIBRARY")
    parser.add_argument("--stops", type=int, default=0)
    parser.add_argument("--reloads", type=int, default=0)
    parser.add_argument("--beside", metavar="PATH", help="what is asked for under load")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--run", type=Path, help="of your own, for --beside; pictures of any size are sent")
    parser.add_argument("--ask", nargs=3, type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.ask:
        print(flush=True)
        began = time.perf_counter()
        load = ask(*a.ask)
        wall = time.perf_counter() - began
        p50, p95 = np.percentile(load.seconds, [50, 95]) * 1000 if load.seconds else (np.nan, np.nan)
        print(
            json.dumps(
                {
                    "answered": len(load.seconds),
                    "lost": load.lost,
                    "statuses": dict(load.statuses),
                    "rate": f"{len(load.seconds) / wall:,.0f}",
                    "p50": f"{p50:.1f}",
                    "p95": f"{p95:.1f}",
                }
            )
        )
        return
    torch.set_num_threads(1)
    options = ("--workers", str(a.workers))
    if a.run:
        beside(a.run, a.beside or "/api/points.bin", options, a.without)
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        print(f"{a.rows:,} × {DIM}, {make_run(run, a.rows, a.engine)}", flush=True)
        if a.memory:
            memory(run, options, a.without)
        elif a.beside:
            beside(run, a.beside, options, a.without)
        elif a.stops:
            stop(run, a.stops, options, a.without)
        elif a.reloads:
            reload(Path(folder), run, a.rows, a.engine, a.reloads, options)
        else:
            measure(run, [int(each) for each in a.clients.split(",")], a.requests, options, a.without)


if __name__ == "__main__":
    main()
