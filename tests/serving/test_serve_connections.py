"""Connections on which a request is begun and not finished."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest
import uvicorn
from starlette.requests import ClientDisconnect
from uvicorn.server import ServerState

from likewise.serving import connections
from likewise.serving.connections import HEADER, Connection
from likewise.serving.gate import GONE, Gate
from likewise.serving.metrics import Metrics
from likewise.serving.server import Draining
from likewise.serving.settings import Serving

WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope: object, receive: object, send: object) -> None:
    """Answers 204."""
    await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


@pytest.mark.parametrize("sent", [[b""], [b"GET / HT"], [WHOLE, b"GET / HT"]], ids=["none", "half", "second"])
def test_a_header_that_does_not_arrive_ends_the_connection(sent: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.05)

    async def tried() -> bytes:
        config = uvicorn.Config(app, log_config=None, timeout_keep_alive=60)
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        idle, ours = await asyncio.open_connection("127.0.0.1", port)
        ours.write(WHOLE)
        await idle.readuntil(b"\r\n\r\n")
        for part in sent:
            writer.write(part)
            if part == WHOLE:
                assert b"204 No Content" in await reader.readuntil(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 30) == b""  # the end of the connection
        ours.write(WHOLE)  # one that waits between two requests is still there
        answer = await asyncio.wait_for(idle.readuntil(b"\r\n\r\n"), 30)
        for each in (writer, ours):
            each.close()
        server.close()
        return answer

    assert b"204 No Content" in asyncio.run(tried())


async def reads(scope: object, receive: object, send: object) -> None:
    """Answers 204 when the body is there."""
    while (await receive()).get("more_body"):  # type: ignore[operator]
        pass
    await app(scope, receive, send)


def answer_to(parts: list[bytes], app: object = app) -> bytes:
    """All that a connection gets which sends some parts, until its end."""

    async def tried() -> bytes:
        config = uvicorn.Config(app, log_config=None)  # type: ignore[arg-type]
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        reading = asyncio.create_task(reader.read())
        for part in parts:
            if not reading.done():
                writer.write(part)
                await asyncio.sleep(0.01)
        found = await asyncio.wait_for(reading, 30)
        writer.close()
        server.close()
        return found

    return asyncio.run(tried())


LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LONG = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: %s\r\n\r\n"


@pytest.mark.parametrize(
    "more", [b"X: y\r\n", b"X: y" + b"y" * 9000, b"5;" + b"x" * 9000], ids=["many", "long", "sizes"]
)
def test_what_is_behind_a_body_has_a_limit(more: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    end = b"" if more.startswith(b"5") else b"0\r\n"
    found = answer_to([head + end, *[more * (9000 // len(more) + 1)] * 20], reads)
    assert found.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("size", [HEADER + 20_000, 400_000])
@pytest.mark.parametrize("piece", [1000, 10**6])
def test_a_header_has_a_limit_however_it_comes(size: int, piece: int) -> None:
    whole = LONG % (b"x" * size)
    found = answer_to([whole[start : start + piece] for start in range(0, len(whole), piece)])
    assert found.startswith(b"HTTP/1.1 431 ")
    assert found.endswith(b'{"detail": "the header of the request has more than 65,536 bytes."}')


def test_what_is_no_long_header_passes() -> None:
    assert answer_to([LONG % (b"x" * 50_000)]).count(b"204 No Content") == 1
    body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
    assert answer_to([body + body + LAST]).count(b"204 No Content") == 3
    assert answer_to([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"nonsense\r\n"]).endswith(
        b'{"detail": "this is no request of HTTP."}'
    )
    assert answer_to([b"\x16\x03\x01 hello\r\n\r\n"]).startswith(b"HTTP/1.1 400 Bad Request")


def test_a_client_that_only_listens_any_more_gets_its_answer() -> None:
    async def slow(scope: object, receive: object, send: object) -> None:
        await asyncio.sleep(0.1)
        await app(scope, receive, send)

    async def tried() -> bytes:
        config = uvicorn.Config(slow, log_config=None)
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(WHOLE + WHOLE)
        writer.write_eof()
        found = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        server.close()
        return found

    assert asyncio.run(tried()).count(b"204 No Content") == 2


def test_a_client_that_takes_nothing_of_its_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": bytes(50_000_000)})  # type: ignore[operator]

    async def tried() -> None:
        monkeypatch.setattr(connections, "SECONDS", 0.05)
        config = uvicorn.Config(large, log_config=None)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.sendall(WHOLE)
            while not state.connections:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(30):
                while state.connections:
                    await asyncio.sleep(0.01)
        server.close()

    asyncio.run(tried())


def test_signals_that_come_together_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Draining(uvicorn.Config(app), None, lambda: None)  # type: ignore[arg-type]
    server.handle_exit(signal.SIGINT, None)
    server.handle_exit(signal.SIGTERM, None)  # by the process that started this one
    assert not server.force_exit
    monkeypatch.setattr("likewise.serving.server.SAME", -1.0)
    server.handle_exit(signal.SIGINT, None)
    assert server.force_exit


def test_a_client_that_leaves_is_counted_and_is_no_failure() -> None:
    async def left(scope: object, receive: object, send: object) -> None:
        raise ClientDisconnect

    metrics = Metrics(1)
    gate = Gate(left, Serving(run=Path("run")), None, metrics)  # type: ignore[arg-type]
    scope = {"type": "http", "method": "GET", "headers": [(b"host", b"localhost")]}
    asyncio.run(gate(scope, None, None))  # type: ignore[arg-type]
    assert f'status="{GONE}"}} 1.0' in metrics.text().decode()
