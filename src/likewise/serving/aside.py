"""A process beside the server, for work that would take the processor, and Python's lock, from requests."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection as pipes
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from likewise.errors import LikewiseError

IDLE = 60.0  # seconds after which the process ends; what it has read goes with it
_LOOK = 0.2  # seconds between two looks at whether the server stops
_LAST = 5.0  # seconds for the end of a process that has nothing to do
_NICE = 5  # where all cores are busy, requests go before

log = logging.getLogger("likewise.serving")


class Ended(LikewiseError):
    """The process ended in the middle of its work: the server told it to, or there was no memory."""


class Aside:
    """Does one piece of work at a time in a process of its own, which starts with the first and ends when idle.

    Args:
        stops: whether the server stops, so that nobody waits for the work.

    Cost: a second or two for the start of the process, and what the work itself holds in memory, until the end.
    """

    def __init__(self, stops: Callable[[], bool] = lambda: False) -> None:
        self._stops = stops
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: pipes.Connection | None = None

    def do(self, work: Callable[..., None], *given: Any) -> None:
        """Calls a function of a module there, and waits for its end.

        Raises LikewiseError as the function does, or when it fails otherwise; Ended when the process ends meanwhile, or
        the server stops.
        """
        with self._lock:
            if self._stops():
                raise Ended("the server stops.")
            if self._process is None or not self._process.is_alive():
                self._start()
            assert self._pipe is not None
            try:
                self._pipe.send((work, given))
                while not self._pipe.poll(_LOOK):
                    if self._stops():
                        self.end()
                wrong = self._pipe.recv()
            except (EOFError, OSError):
                raise Ended("what computes this has ended; ask again in a second.") from None
        if wrong is not None:
            raise LikewiseError(wrong)

    def finish(self) -> None:
        """Lets the process, which has nothing to do, end by itself: what its libraries have opened is then closed."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join(_LAST)

    def end(self) -> None:
        """Ends the process, also in the middle of its work. Files are written whole or not at all."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, its = context.Pipe()
        process = context.Process(target=_answer, args=(its,), daemon=True)
        process.start()
        self._process = process  # not before it can be ended
        its.close()


def _answer(pipe: pipes.Connection) -> None:
    """The process: does what it is told; ends when nothing is asked for a while, or nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    logging.basicConfig(format="likewise: %(message)s", level=logging.WARNING)
    if sys.platform != "win32":
        os.nice(_NICE)
    torch.set_num_threads(1)
    try:
        while pipe.poll(IDLE):
            work, given = pipe.recv()
            pipe.send(_wrong(work, given))
    except (EOFError, OSError):
        return


def _wrong(work: Callable[..., None], given: tuple[Any, ...]) -> str | None:
    """Does the work; why it can't be done, if so."""
    try:
        work(*given)
    except LikewiseError as error:
        return str(error)
    except Exception:
        log.exception("work beside the server failed")
        return "the server failed at this; its log says where."
    return None
