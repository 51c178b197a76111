"""A connection to the server, which is closed when the header of a request does not arrive."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SECONDS = 15.0  # between two looks at a connection
_BUSY = object()


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which would wait without end for a header that is half sent, or not at all.

    It is looked at every ``SECONDS``. If twice in a row the same header is waited for, the connection is closed. One
    between two requests has its own, longer limit.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio says."""
        super().connection_made(transport)
        self.loop.call_later(SECONDS, self._look, _BUSY)

    def _look(self, before: object) -> None:
        if self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        now = self.cycle if answered and self.timeout_keep_alive_task is None else _BUSY
        if now is before and now is not _BUSY:
            self.transport.close()
        else:
            self.loop.call_later(SECONDS, self._look, now)
