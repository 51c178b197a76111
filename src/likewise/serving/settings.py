"""What a server is asked to do: plain values, which every worker process gets."""

from dataclasses import dataclass
from pathlib import Path

BATCH = 32  # requests that the worker takes at once
LEAST_TOKEN = 16  # characters
FOLDER = "serve"  # in a run folder: what servers made for themselves, and make again where it is not there


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The settings of a server.

    Args:
        run: the run folder.
        index: folder or URL of an index that the run's model made; None: that of the run.
        data: source of the pictures and labels; None: what the index was made of, or the training items.
        host: the address that is listened to.
        port: the port; 0 is a free one.
        token: what requests must bring; None: nothing, which only a loopback address may do.
        hosts: names by which the server may be asked, beside loopback, IP addresses and ``host``.
        workers: number of processes.
        queue: number of requests that may wait in a process; one more is answered 503.
        allow_urls: pictures may be given by a URL.
        max_megapixels: of a picture; its header is read before it is decoded.
        max_megabytes: of the body of a request.
        k_limit: most hits of a search.
    """

    run: Path
    index: str | None = None
    data: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    hosts: tuple[str, ...] = ()
    workers: int = 1
    queue: int = 256
    allow_urls: bool = False
    max_megapixels: float = 25.0
    max_megabytes: float = 20.0
    k_limit: int = 1000

    @property
    def max_bytes(self) -> int:
        """Of the body of a request."""
        return int(self.max_megabytes * 1e6)
