"""How fast a run is on this machine: a few timed steps, and the number of threads that suits it."""

import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from likewise.distributed import processes
from likewise.training.run import Run
from likewise.training.session import Session
from likewise.training.step import Seen, train_step

WARM_STEPS = 2  # before the clock runs: libraries choose their kernels in the first steps
ROUNDS = 5  # the threads take turns, since other programs come and go
ROUND_SECONDS = 0.3
COLLAPSED = 0.8  # one thread is taken where it needs less than this share of the time of several
FALLEN = 0.5  # of the best speed so far: then the number of threads is looked at again
FIRST_LOOK, LAST_LOOK = 60.0, 900.0  # seconds until more threads are tried
ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # what a user, or torchrun, has decided


class Pace(NamedTuple):
    """The speed of a run."""

    seconds: float  # of a step
    threads: int
    compared: dict[int, float]  # seconds of a step with each number of threads; empty where there was no choice


def usable_cores() -> int:
    """The cores that this process may use: its affinity, or the quota of its container, rounded up, if that is less."""
    there = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    return max(1, min([there, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """The quotas of CPU time that control groups set, in cores."""
    for text in _read("/sys/fs/cgroup/cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.strip().isdigit():
            yield int(quota) / int(period)
    for quota in _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
        for period in _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"):
            if quota.strip().isdigit() and period.strip().isdigit():
                yield int(quota) / int(period)


def _read(path: str) -> Iterable[str]:
    try:
        return [Path(path).read_text(encoding="utf-8").strip()]
    except OSError:
        return []


def thread_choices(threads: int, device: torch.device) -> list[int]:
    """The numbers of threads to compare: one where ``threads``, the environment or the device leave no choice."""
    if threads:
        return [threads]
    many = min(torch.get_num_threads(), usable_cores())
    decided = device.type != "cpu" or processes.size() > 1 or any(name in os.environ for name in ENVIRONMENT)
    return [torch.get_num_threads()] if decided else sorted({1, many}, reverse=True)


def emulates_bf16(device: torch.device) -> bool:
    """Whether bf16 is slower than fp32 on ``device``: true on x86 CPUs without AVX-512."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return device.type == "cpu" and x86 and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def measure_pace(run: Run, choices: list[int], limit: float = 10.0) -> Pace:
    """Times steps of ``run``, which is trained by them: give it a run that is thrown away.

    With several ``choices`` of threads these take turns. The number with the shortest steps is set and returned; fewer
    threads than the most must need less than 0.8 of their time. Cost: 1.5 s for each choice, and at most ``limit``
    seconds and one step.
    """
    batches, end = run.batches(), time.perf_counter() + limit
    most, together = max(choices), processes.size() > 1
    torch.set_num_threads(min(choices))
    for batch in islice(batches, WARM_STEPS):
        train_step(run.session, batch)
    taken: dict[int, list[float]] = {count: [] for count in choices}
    for count in sorted(choices) * ROUNDS:
        torch.set_num_threads(count)
        began = now = time.perf_counter()
        while now < min(end, began + ROUND_SECONDS) or not taken[count]:
            taken[count].append(_timed(run.session, batches))
            now = began + ROUND_SECONDS if together else time.perf_counter()  # all processes make as many steps
        if now > end and not together:
            break
    medians = {count: statistics.median(times) for count, times in taken.items() if times}
    best = min(medians, key=lambda count: medians[count])
    if most in medians and medians[best] > COLLAPSED * medians[most]:
        best = most
    torch.set_num_threads(best)
    return Pace(medians[best], best, medians if len(choices) > 1 else {})


def _timed(session: Session, batches: Iterator[Seen]) -> float:
    """Seconds of a step. A device is waited for."""
    start = time.perf_counter()
    float(train_step(session, next(batches))[0])
    return time.perf_counter() - start


class ThreadWatch:
    """Looks at the number of threads again by trying the other number for a while.

    It does so when a run becomes slow, and where fewer threads than there could be are in use: then after a minute, and
    each time after twice as long, up to a quarter of an hour. A busy machine may have become free.

    Args:
        choices: numbers of threads, the one in use among them; with a single one nothing is tried.
        use: sets the number of threads.
        threads: the number in use; None: torch's.
        clock: gives seconds.
    """

    def __init__(
        self,
        choices: list[int],
        use: Callable[[int], None] = torch.set_num_threads,
        *,
        threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._choices, self._use, self._clock = choices, use, clock
        self._wait, self._next = FIRST_LOOK, clock() + FIRST_LOOK
        self._threads, self._best = threads or torch.get_num_threads(), 0.0
        self._before: tuple[int, float] | None = None  # threads and speed before the trial

    def see(self, speed: float) -> str | None:
        """Takes the items/s since the last call. Returns a line when the number of threads changes for good."""
        others = [count for count in self._choices if count != self._threads]
        if self._before is not None:
            (before, slow), self._before = self._before, None
            if speed > slow / COLLAPSED:
                self._best = speed
                return (
                    f"with threads={self._threads} the speed is {speed:,.0f} items/s; with {before} it was {slow:,.0f}."
                )
            self._set(before)
            self._best = max(speed, slow)  # the machine is as slow with either
        elif others and (speed < FALLEN * self._best or self._due()):
            self._before = self._threads, speed
            self._set(others[0])
        else:
            self._best = max(self._best, speed)
        return None

    def _due(self) -> bool:
        """Whether it is time to try more threads."""
        if self._threads == max(self._choices) or self._clock() < self._next:
            return False
        self._wait = min(2 * self._wait, LAST_LOOK)
        self._next = self._clock() + self._wait
        return True

    def _set(self, threads: int) -> None:
        self._threads = threads
        self._use(threads)
