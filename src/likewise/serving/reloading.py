"""Takes up a run that was made anew, while the former one answers."""

import asyncio
import logging

from likewise.errors import LikewiseError
from likewise.serving.loaded import load_all, signature
from likewise.serving.metrics import Metrics
from likewise.serving.settings import Serving
from likewise.serving.worker import Live

EVERY = 1.0  # seconds, between two looks at the files

log = logging.getLogger("likewise.serving")


async def follow(serving: Serving, live: Live, metrics: Metrics) -> None:
    """Looks at the files of the run each second, until it is cancelled.

    Where they are others, all is read in a thread of its own, and then takes the place of the former. A run that can't
    be read, such as one whose index is not made yet, changes nothing; it is tried again when its files change.
    """
    known = live.now.signed
    while True:
        await asyncio.sleep(EVERY)
        now = signature(serving)
        if now == known:
            continue
        known = now
        try:
            loaded = await asyncio.to_thread(load_all, serving, log.info)
        except LikewiseError as error:
            log.warning("the former run goes on, for the new one can't be served: %s", error)
            metrics.reloads.labels("refused").inc()
        except Exception:
            log.exception("the former run goes on, for reading the new one failed")
            metrics.reloads.labels("failed").inc()
        else:
            live.take(loaded)
            metrics.items.set(len(loaded.finder))
            metrics.reloads.labels("taken").inc()
            log.info("serving the new run")
