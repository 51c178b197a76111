"""The processes of a server: they take one port, and answer all that they accepted before they end."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection as pipes
from multiprocessing import get_context, parent_process
from types import FrameType

import torch
import uvicorn

from likewise.errors import Interrupted, LikewiseError
from likewise.serving.app import make_app
from likewise.serving.connections import Connection
from likewise.serving.gate import Gate
from likewise.serving.loaded import load_all
from likewise.serving.metrics import SHARED
from likewise.serving.settings import Serving
from likewise.text import readable

LINGER = 2.0  # seconds in which a client that is connected may send its next request, while the server stops
TOGETHER = 0.5  # seconds in which all processes of a server close the port, before one tells a client to leave
SAME = 1.0  # seconds in which signals count as one
LAST = 30  # seconds for what is being answered
AGAIN = 2.0  # seconds before a process is started in the place of one that could not serve
BACKLOG = 2048

Say = Callable[[str], object]


class Draining(uvicorn.Server):
    """A server that loses no request when it is told to stop.

    It takes no new connections, goes on to answer on those that are there, tells each client that this was the last
    answer of the connection, and ends when all are gone, at the latest after two seconds.

    Args:
        config: of uvicorn.
        gate: the application.
        ready: called when connections are answered.
        together: seconds in which other processes close the same port. A client that is told to leave comes back at
            once, and a connection to a port that is then closed would be lost.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, ready: Callable[[], object], together: float = 0.0) -> None:
        super().__init__(config)
        self._gate, self._ready, self._together = gate, ready, together
        self._told = self._until = self._first = 0.0
        self.signal = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Calls ``ready`` once the server answers."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop; at a second signal it stops at once.

        A terminal and systemd signal all processes of a server, and the first of these tells the others again: signals
        that come together count as one.
        """
        now = time.monotonic()
        if self.signal and now > self._first + SAME:
            self.should_exit = self.force_exit = True
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is broken off is no fault
        self._first = self._first if self.signal else now
        self.signal = sig

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; called ten times a second."""
        if await super().on_tick(counter) or not self.signal:
            return self.should_exit
        if not self._until:
            await asyncio.sleep(0)  # twice, so that the connections that wait are taken
            await asyncio.sleep(0)
            for server in self.servers:
                server.close()
            self._told = time.monotonic() + self._together
            self._until = self._told + LINGER
        self._gate.live.stopping = time.monotonic() >= self._told
        return not self.server_state.connections or time.monotonic() > self._until


def listen(serving: Serving) -> socket.socket:
    """The socket of a server. Raises LikewiseError when the port is taken, or the address is none of this machine."""
    where = f"{serving.host} port {serving.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            serving.host, serving.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise LikewiseError(f"--host {serving.host} is no address of this machine; 127.0.0.1 is usual.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        return listener
    except PermissionError:
        listener.close()
        raise LikewiseError(f"{where} needs rights that this user does not have; take one from 1024 on.") from None
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise LikewiseError(f"{where} is in use; choose another with --port, or 0 for any that is free.") from None
        raise LikewiseError(f"{where} can't be listened to ({error.strerror}).") from None


def serve(serving: Serving, say: Say) -> None:
    """Serves until a signal. ``say`` is told in lines what is done, and the address when requests are answered.

    Raises Interrupted at the signal, after all that was accepted is answered; LikewiseError when the port is taken, or
    as ``load_all``.
    """
    _log()
    listener = listen(serving)
    with listener:
        if serving.workers == 1:
            number = _run(serving, listener, lambda: say(f"serving {_place(serving, listener)}"), say)
        else:
            number = _run_many(serving, listener, say)
    raise Interrupted("stopped; every request that was accepted has its answer.", number)


def _log() -> None:
    """Errors, and what becomes of a new run, go to stderr; what is wrong with a request is told to its client alone."""
    logging.basicConfig(format="likewise: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("likewise.serving").setLevel(logging.INFO)
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _place(serving: Serving, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    return readable(f"{serving.run} at http://{named}:{port}")


def _run(serving: Serving, listener: socket.socket, ready: Callable[[], object], say: Say) -> int:
    """Serves in this process; returns the number of the signal that ended it."""
    torch.set_num_threads(1)
    gate = make_app(serving, load_all(serving, lambda stage: say(f"{stage} ...")))
    config = uvicorn.Config(
        gate,
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy's, which would else send into a connection that closes
        timeout_graceful_shutdown=LAST,
        proxy_headers=False,
        ws="none",
        backlog=BACKLOG,
    )
    server = Draining(config, gate, ready, 0.0 if serving.workers == 1 else TOGETHER)
    server.run([listener])
    return server.signal


def _child(serving: Serving, listener: socket.socket, told: "pipes.Connection") -> None:
    """One of several processes. It tells through the pipe that it is ready, or in a sentence why it can't be."""
    _log()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _run(serving, listener, lambda: told.send(""), lambda what: None)
    except LikewiseError as error:
        told.send(str(error))
        sys.exit(2)


def _end_with_parent() -> None:
    """Stops this process when the one that started it is gone; else the port would stay taken."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run_many(serving: Serving, listener: socket.socket, say: Say) -> int:
    """Serves in several processes, and starts one again that ends; returns the number of the signal that ended all."""
    stop = list[int]()
    with tempfile.TemporaryDirectory(prefix="likewise-metrics-") as folder, _signals(stop.append):
        os.environ[SHARED] = folder
        say(f"starting {serving.workers} processes ...")
        children = [_Child(serving, listener) for _ in range(serving.workers)]
        try:
            for child in children:
                child.wait_until_ready(stop)
            if not stop:
                say(f"serving {_place(serving, listener)}, in {serving.workers} processes")
            while not stop:
                pipes.wait([child.process.sentinel for child in children], timeout=0.2)
                for place, child in enumerate(children):
                    if not stop and child.process.exitcode is not None:
                        say(f"process {child.process.pid} ended with {child.process.exitcode}; another is started ...")
                        children[place] = _Child(serving, listener)
                        _ready_or_alone(children[place], children, stop, say)
        finally:
            for child in children:
                child.process.terminate()
            listener.close()
            for child in children:
                child.process.join()
            del os.environ[SHARED]
    return stop[0]


def _ready_or_alone(child: "_Child", children: Sequence["_Child"], stop: list[int], say: Say) -> None:
    """Waits for a process that takes the place of another. Raises LikewiseError when it can't serve, and none does."""
    try:
        child.wait_until_ready(stop)
    except LikewiseError as error:
        if not any(other.process.is_alive() for other in children if other is not child):
            raise
        say(f"it can't serve the run as it is now, so the others go on: {error}")
        time.sleep(AGAIN)


class _Child:
    """A process that serves."""

    def __init__(self, serving: Serving, listener: socket.socket) -> None:
        context = get_context("spawn")
        self._heard, told = context.Pipe(duplex=False)
        self.process = context.Process(target=_child, args=(serving, listener, told))
        self.process.start()
        told.close()

    def wait_until_ready(self, stop: list[int]) -> None:
        """Raises LikewiseError when it ends instead."""
        while not stop:
            if self._heard.poll(0.1):
                try:
                    sentence = self._heard.recv()
                except EOFError:
                    sentence = "a process of the server ended before it was ready; its log says why."
                if sentence:
                    raise LikewiseError(sentence)
                return


@contextlib.contextmanager
def _signals(heard: Callable[[int], object]) -> Iterator[None]:
    """Tells the signals that end the server, in place of what they do else."""
    former = {
        number: signal.signal(number, lambda sig, frame: heard(sig)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
