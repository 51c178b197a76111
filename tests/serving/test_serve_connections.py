"""Connections on which a request is begun and not finished."""

import asyncio
from pathlib import Path

import pytest
import uvicorn
from starlette.requests import ClientDisconnect
from uvicorn.server import ServerState

from likewise.serving import connections
from likewise.serving.connections import Connection
from likewise.serving.gate import GONE, Gate
from likewise.serving.metrics import Metrics
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


def test_a_client_that_leaves_is_counted_and_is_no_failure() -> None:
    async def left(scope: object, receive: object, send: object) -> None:
        raise ClientDisconnect

    metrics = Metrics(1)
    gate = Gate(left, Serving(run=Path("run")), None, metrics)  # type: ignore[arg-type]
    scope = {"type": "http", "headers": [(b"host", b"localhost")]}
    asyncio.run(gate(scope, None, None))  # type: ignore[arg-type]
    assert f'status="{GONE}"}} 1.0' in metrics.text().decode()
