"""A connection to the server, which is closed when a header does not arrive or end, or nobody takes the answer."""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

SECONDS = 15.0  # between two looks at a connection
HEADER = 65_536  # bytes of a request before its body: its first line and its headers
_PART = 8_192  # bytes that are read at once, within which the limit is exact
LINGER = 2.0  # seconds in which a client that still sends may read why it is refused
_BUSY = object()


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which would wait without end for a header that is half sent, and keep all of it.

    It is looked at every ``SECONDS``. If twice in a row the same header is waited for, or the client has taken nothing
    of an answer, the connection is closed. One between two requests has its own, longer limit. A header of more than
    ``HEADER`` bytes is refused, and so are as many bytes in a row that are none of a body, such as headers behind it.
    """

    _header: int | None = None  # bytes since a request began, or since the last of its body; None between requests
    _body = False  # whether what was read last has a part of a body, or begins a request
    _refused = False  # what comes is not looked at any more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio says."""
        super().connection_made(transport)
        self._next = self.loop.call_later(SECONDS, self._look, _BUSY)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio says."""
        self._next.cancel()  # this timer, and the next, would keep the connection in memory
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As asyncio says."""
        view = memoryview(data)
        while len(view) and not self._refused and not self.transport.is_closing():
            part, view = view[:_PART], view[_PART:]
            self._body = False
            super().data_received(part)  # type: ignore[arg-type]
            if self._header is not None and not self._body:
                self._header += len(part)
                if self._header > HEADER - _PART:
                    self._refuse(431, f"the header of the request has more than {HEADER:,} bytes.")

    def on_message_begin(self) -> None:
        """As httptools says."""
        super().on_message_begin()
        self._header, self._body = 0, True

    def on_body(self, body: bytes) -> None:
        """As httptools says."""
        super().on_body(body)
        self._header, self._body = 0, True

    def on_message_complete(self) -> None:
        """As httptools says."""
        super().on_message_complete()
        self._header = None

    def send_400_response(self, msg: str) -> None:
        """What uvicorn does with bytes that are no request."""
        self._refuse(400, "this is no request of HTTP.")

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that says it will send no more may wait for the answer of a whole request, and gets it."""
        return self._last()

    def _last(self) -> bool:
        """Whether a whole request waits for its answer; the connection ends after that."""
        waits = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if waits:
            self.cycle.keep_alive = False
        return waits

    def _refuse(self, status: int, sentence: str) -> None:
        """Answers and closes; where a whole request waits for its own answer, that is the last one."""
        self._refused = True
        if self._last():
            return
        body = json.dumps({"detail": sentence}).encode()
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
            self.transport.write_eof()
            self.loop.call_later(LINGER, self.transport.close)  # at once, a client that still sends would miss it
        else:  # what is wrong is in the middle of a body
            if not self.pipeline and not self.cycle.response_started:
                self.transport.write(STATUS_LINE[status] + head.encode() + body)
            self.transport.close()

    def _look(self, before: object) -> None:
        if self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        unread = self.transport.get_write_buffer_size()
        waits = self.cycle if answered and self.timeout_keep_alive_task is None else _BUSY
        now = (self.cycle, unread) if unread else waits
        if now == before and now is not _BUSY:
            self.transport.abort()
        else:
            self._next = self.loop.call_later(SECONDS, self._look, now)
