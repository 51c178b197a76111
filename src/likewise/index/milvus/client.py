"""A connection to a server of Milvus, whose errors are sentences."""

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from likewise.errors import LikewiseError
from likewise.index.milvus.url import TOKEN, Server

T = TypeVar("T")
AWAY = 10  # seconds to wait for a server that says nothing
NOW, SOON = "Strong", "Bounded"  # how new what is read must be: all that was written, or that of 5 seconds ago
BLOCK_BYTES = 8 << 20  # of vectors in one message


def pymilvus_here() -> tuple[Any, Any]:
    """The modules pymilvus and grpc, which it speaks with. Raises LikewiseError when they are not installed."""
    try:
        import grpc
        import pymilvus
    except ImportError:
        raise LikewiseError("an index on Milvus needs pymilvus: pip install 'likewise[milvus]'.") from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints each error; here they are sentences
    return pymilvus, grpc


class Milvus:
    """An open connection.

    Raises:
        LikewiseError: the server is away or does not let us in; pymilvus is not installed.
    """

    def __init__(self, server: Server) -> None:
        self._pymilvus, self._grpc = pymilvus_here()
        self.server = server
        self._client: Any = None
        with self._said():
            self._client = self._pymilvus.MilvusClient(
                uri=f"{'https' if server.secure else 'http'}://{server.host}",
                token=os.environ.get(TOKEN, ""),
                db_name=server.database,
                timeout=AWAY,
                alias=secrets.token_hex(8),  # a connection of its own, which pymilvus before 3 would share
            )

    def __str__(self) -> str:
        return f"the server {self.server.host}"

    def ask(self, act: Callable[[Any], T]) -> T:
        """What ``act`` does with the client. Raises LikewiseError in place of the library's errors."""
        with self._said():
            return act(self._client)

    def read(self, collection: str, which: str, fields: Sequence[str], level: str, limit: int = 0) -> list[Any]:
        """The fields of the rows that ``which`` says, in no order; at most ``limit``, if it is not 0."""
        most = {"limit": limit} if limit else {}
        return list(
            self.ask(
                lambda client: client.query(
                    collection,
                    filter=which,
                    output_fields=list(fields),
                    consistency_level=level,
                    timeout=6 * AWAY,
                    **most,
                )
            )
        )

    def pages(self, collection: str, which: str, fields: Sequence[str], end: int, dim: int) -> Iterator[list[Any]]:
        """As ``read`` of rows with keys below ``end``, by key, some thousands at once, as new as can be."""
        size = max(64, min(8192, BLOCK_BYTES // (4 * dim)))
        for start in range(0, end, size):
            yield self.read(collection, f"key >= {start} and key < {start + size} and {which}", fields, NOW)

    def count(self, collection: str, which: str, level: str) -> int:
        """Number of rows that ``which`` says."""
        return int(self.read(collection, which, ["count(*)"], level)[0]["count(*)"])

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except self._grpc.RpcError as error:
            raise LikewiseError(self._sentence(error.details())) from None
        except self._pymilvus.MilvusException as error:
            cause = error.__cause__  # of a connection that was not made: why
            message = cause.details() if isinstance(cause, self._grpc.RpcError) else error.message
            raise LikewiseError(self._sentence(message)) from None

    def _sentence(self, message: object) -> str:
        plain = " ".join(str(message).split()).rstrip(".")[:300]
        lower = plain.lower()
        if "auth check" in lower or "authorization" in lower or "unauthenticated" in lower:
            return f"{self} does not let us in ({plain}): give {TOKEN}=USER:PASSWORD in the environment."
        if "permission" in lower or "privilege" in lower:
            return f"{self} refuses this user ({plain}); its administrator can grant what is missing."
        if lower.startswith("database") and ("not found" in lower or "not exist" in lower):
            return f"{self} has no such database ({plain}); make it, or correct ?database=NAME."
        if self._client is None or "unavailable" in lower or "deadline" in lower or "fail connecting" in lower:
            return (
                f"{self} is away ({plain}). Start it, such as with: docker start milvus-standalone, or correct the URL."
            )
        return f"{self} could not do it ({plain})."

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()
