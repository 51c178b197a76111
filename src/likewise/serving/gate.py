"""What every request passes: who asks, how much is sent, what is counted; and the headers of every answer."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from likewise.serving.guards import HEADERS, host_is_known, host_of, origin_is_own, same_token, token_in
from likewise.serving.metrics import Metrics
from likewise.serving.settings import Serving
from likewise.serving.worker import Live

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SECONDS = 30.0  # in which a body must arrive
SILENT = 2.0  # seconds without a byte, after which no more is waited for of a body that is refused
MARK = b"likewise-run"  # header of every answer: another value, another run or index
GONE = 499  # what is counted, as by nginx, where a client leaves before its body has arrived
HELD = 256_000_000  # bytes of bodies in memory, of all requests
GREETING = 'Basic realm="likewise: any user, the token as password", charset="UTF-8"'


class Gate:
    """Refuses what should not be asked, and counts the rest.

    Args:
        app: what answers.
        serving: token, names and sizes.
        live: whether the server stops.
        metrics: what is counted.
    """

    def __init__(self, app: App, serving: Serving, live: Live, metrics: Metrics) -> None:
        self.api, self._serving, self.live, self._metrics = app, serving, live, metrics
        self._names = {host_of(name) for name in (serving.host, *serving.hosts)}
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.api(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 500
        held, waits = 0, any(name == b"expect" for name, _ in scope["headers"])
        left, more, ends = self._serving.max_bytes, True, began + SECONDS
        if scope["method"] == "HEAD":  # the answer to GET, of which uvicorn sends the header alone
            scope = {**scope, "method": "GET"}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS, (MARK, self.live.mark)]
                if status >= 400 and more and not waits:
                    await _drop(receive, ends)
                if self.live.stopping or status == 408:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        async def receiving() -> Message:
            nonlocal left, more, held
            if not more:
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, ends - time.perf_counter())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not arrive within {SECONDS:g} seconds.") from None
            size = len(message.get("body", b""))
            left, held, more = left - size, held + size, message.get("more_body", False)
            self._held += size
            if left < 0:
                raise HTTPException(413, self._too_large())
            if self._held > HELD:
                raise HTTPException(503, "too much is being sent; send it again in a second.", {"Retry-After": "1"})
            return message

        try:
            refused = self._refused(scope)
            if refused is not None:
                await _refuse(sending, *refused)
            else:
                await self.api(scope, receiving, sending)
        except ClientDisconnect:
            status = GONE
        finally:
            self._held -= held
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)

    def _too_large(self) -> str:
        return f"the body has more than {self._serving.max_bytes:,} bytes."

    def _refused(self, scope: Message) -> tuple[int, str] | None:
        """The status and the sentence for a request that is not taken; None for one that is."""
        wanted = (b"host", b"origin", b"authorization", b"content-length")
        found = [(name, value.decode("latin-1")) for name, value in scope["headers"] if name in wanted]
        given = dict(found)
        if len(given) < len(found):
            return 400, "the request says twice who asks whom: Host, Origin, Authorization or Content-Length."
        host = given.get(b"host")
        if not host_is_known(host, self._names):
            return 403, "this server has another name than the header Host says; name it with --allow_host."
        if not origin_is_own(given.get(b"origin"), host):
            return 403, "the request comes from a page of another server."
        token = self._serving.token
        if token is not None and not same_token(token_in(given.get(b"authorization")), token):
            return 401, "give the token: Authorization: Bearer TOKEN."
        length = given.get(b"content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._serving.max_bytes:
            return 413, self._too_large()
        return None


async def _drop(receive: Receive, ends: float) -> None:
    """Reads what is left of a body while it comes: many clients read no answer before they have sent all of it."""
    more = True
    with contextlib.suppress(TimeoutError):
        while more:
            async with asyncio.timeout(min(SILENT, max(0.0, ends - time.perf_counter()))):
                more = (await receive()).get("more_body", False)


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"www-authenticate", GREETING.encode())] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
