"""A progress bar for anything that may take more than two seconds."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from likewise.text import readable


def say(lines: Iterable[str]) -> None:
    """Prints plain lines on stderr."""
    for line in lines:
        print(readable(line), file=sys.stderr)


@contextmanager
def track(what: str, total: int, *, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """Yields a function to be told how many of ``total`` are done; draws a bar with ETA on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    named = TextColumn("{task.description}", markup=False)
    columns = (named, BarColumn(), MofNCompleteColumn(), TextColumn("ETA"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (enabled and sys.stderr.isatty())) as bar:
        task = bar.add_task(readable(what), total=total)
        yield lambda done: bar.update(task, completed=done)
