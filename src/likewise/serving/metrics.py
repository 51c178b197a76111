"""What a server counts, as Prometheus reads it."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # a folder in which several processes count together


class Metrics:
    """Counters of one process; where several share a folder, ``text`` has the sums of all.

    Args:
        items: number of items of the index.
    """

    def __init__(self, items: int) -> None:
        own = CollectorRegistry()
        self._registry = own
        self.requests = Counter("likewise_requests", "Requests by route and status.", ("route", "status"), registry=own)
        self.seconds = Histogram(
            "likewise_request_seconds",
            "Time of an answer.",
            ("route",),
            buckets=SECONDS,
            registry=own,
        )
        self.batch = Histogram(
            "likewise_batch_size",
            "Requests that the worker took at once.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=own,
        )
        self.waiting = Gauge(
            "likewise_waiting", "Requests taken and not yet answered.", registry=own, multiprocess_mode="livesum"
        )
        self.items = Gauge("likewise_items", "Items of the index.", registry=own, multiprocess_mode="livemax")
        self.reloads = Counter("likewise_reloads", "Runs read anew, by what came of it.", ("result",), registry=own)
        self.items.set(items)
        if SHARED in os.environ:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        else:
            ProcessCollector(registry=own)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)
