"""Progress bars for anything that may take more than two seconds."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from likewise.text import readable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

Tick = Callable[[float], None]  # is told which share of the work is done, from 0 to 1


def say(lines: Iterable[str]) -> None:
    """Prints plain lines on stderr."""
    for line in lines:
        print(readable(line), file=sys.stderr)


def untold(share: float) -> None:
    """The tick of work that shows no bar."""


def part_of(tick: Tick, number: int, count: int) -> Tick:
    """The tick of one of ``count`` equal parts of the work; ``number`` counts from 0."""
    return lambda share: tick((number + share) / count)


@contextmanager
def track(what: str, total: int, *, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """Yields a function to be told how many of ``total`` are done; draws a bar with ETA on a terminal's stderr."""
    from rich.progress import MofNCompleteColumn

    with _bar(MofNCompleteColumn(), enabled) as bar:
        task = bar.add_task(readable(what), total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def stages(*, enabled: bool = True) -> Iterator[Callable[[str], Tick]]:
    """Yields a function that begins the next stage of the work, by its name, and returns the stage's tick.

    On a terminal's stderr the stage has a bar with ETA. A stage of which nothing is told moves without an ETA.
    """
    from rich.progress import TaskProgressColumn

    with _bar(TaskProgressColumn(), enabled) as bar:
        task = bar.add_task("", total=None, visible=False)

        def begin(what: str) -> Tick:
            bar.reset(task, total=1.0, description=readable(what), visible=True)
            bar.update(task, total=None)
            return lambda share: bar.update(task, completed=share, total=1.0)

        yield begin


def _bar(amount: "ProgressColumn", enabled: bool) -> "Progress":
    """A bar with the ``amount`` done and an ETA, which goes when the work is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), amount, TextColumn("ETA"))
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (enabled and sys.stderr.isatty()),
        speed_estimate_period=600.0,  # some parts take minutes
    )
