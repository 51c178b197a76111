"""A progress bar for anything that may take more than two seconds."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def track(what: str, total: int, *, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """Draws a bar with ETA on a terminal's stderr. Yields a function: call it with how many of ``total`` are done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (enabled and sys.stderr.isatty())) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
