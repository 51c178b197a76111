"""One thread that answers what is queued, and the bound of the queue."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence

from likewise.data.decode import quiet_pillow
from likewise.serving.asked import Answer, Ask, answer_all
from likewise.serving.loaded import Loaded
from likewise.serving.refused import busy, failed
from likewise.serving.settings import BATCH, Serving

log = logging.getLogger("likewise.serving")

Job = tuple[Ask, "asyncio.Future[Answer]"]


class Live:
    """What is served now. A new run takes its place whole: a batch that has begun ends with the old one.

    Args:
        loaded: the first.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.take(loaded)
        self.stopping = False  # no new connections are taken, and each answer is the last of its connection

    def take(self, loaded: Loaded) -> None:
        """Serves another run. ``mark`` names what is served in every answer, so that a page sees that it is older."""
        self.now, self.mark = loaded, loaded.mark.encode()


class Worker:
    """Answers requests in one thread: it takes whatever is queued, at most 32 at once, and never waits for more.

    Args:
        live: what is served.
        serving: the size of the queue, and the largest picture.
        told: called with the number of requests of each batch, in the thread.
    """

    def __init__(self, live: Live, serving: Serving, told: Callable[[int], object]) -> None:
        self._live, self._serving, self._told = live, serving, told
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.waiting = 0  # taken and not answered; counted in the loop's thread

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the thread, which answers into the loop."""
        self._loop = loop
        self._thread.start()

    async def stop(self) -> None:
        """Ends the thread after what is queued."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def ask(self, asks: Sequence[Ask], *, always: bool = False) -> list[Answer]:
        """The answers, in order. Raises Refused 503 when the queue has no room for all of them.

        ``always``: takes them although the queue is full, such as the question for the health.
        """
        if not always and self.waiting + len(asks) > self._serving.queue:
            raise busy("too many requests are waiting; ask again in a second.")
        assert self._loop is not None
        futures = [self._loop.create_future() for _ in asks]
        self.waiting += len(asks)
        for job in zip(asks, futures, strict=True):
            self._queue.put(job)
        return [await each for each in futures]

    def _work(self) -> None:
        with quiet_pillow(self._serving.max_megapixels):
            while True:
                jobs = self._taken()
                if jobs:
                    self._answer(jobs)
                if self._ended:
                    return

    _ended = False

    def _taken(self) -> list[Job]:
        """Waits for one request, and takes those that are queued behind it."""
        jobs = list[Job]()
        while len(jobs) < BATCH:
            try:
                job = self._queue.get(block=not jobs)
            except queue.Empty:
                break
            if job is None:
                self._ended = True
                break
            jobs.append(job)
        return jobs

    def _answer(self, jobs: list[Job]) -> None:
        asks, futures = [ask for ask, _ in jobs], [future for _, future in jobs]
        self._told(len(jobs))
        try:
            answers = answer_all(self._live.now, asks, self._serving.max_megapixels)
        except Exception:
            log.exception("a batch failed")
            answers = [failed()] * len(jobs)
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._deliver, list(zip(futures, answers, strict=True)))

    def _deliver(self, pairs: list[tuple["asyncio.Future[Answer]", Answer]]) -> None:
        self.waiting -= len(pairs)
        for future, answer in pairs:
            if not future.done():  # it is, where the client has gone
                future.set_result(answer)
