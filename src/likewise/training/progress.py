"""Progress of training: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from likewise.text import readable
from likewise.training.health import Verdict

LINES = 20  # without a terminal a whole run prints about this many lines


class TrainingProgress:
    """Progress of ``total`` steps with loss, images/s and time left, on standard error.

    Args:
        total: number of steps.
        done: steps done before, in a resumed run.
        enabled: False prints nothing.
        what: is counted.
    """

    def __init__(self, total: int, *, done: int = 0, enabled: bool = True, what: str = "step") -> None:
        self.console = Console(stderr=True, quiet=not enabled)
        self.total, self.started_at, self.start = total, done, time.perf_counter()
        self._warned: str | None = None
        self._what, self._last = what, done
        self._every = max(1, total // LINES)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (enabled and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task("", total=total, completed=done, status="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step: int, status: str) -> None:
        """Moves to ``step``; ``status`` is shown beside the bar."""
        self._bar.update(self._task, completed=step, status=status)
        due, self._last = step // self._every > self._last // self._every, step
        if self._bar.disable and (due or step == self.total):
            seconds = time.perf_counter() - self.start
            left = seconds / max(1, step - self.started_at) * (self.total - step)
            self.say(f"{self._what} {step}/{self.total} · {status} · {seconds:.0f} s · ETA {left:.0f} s")

    def retarget(self, total: int) -> None:
        """Sets another number of steps of the whole run."""
        self.total, self._every = total, max(1, total // LINES)
        self._bar.update(self._task, total=total)

    def warn_once(self, warning: Verdict | None) -> None:
        """Prints a warning, unless the last check gave a warning of the same kind."""
        kind = warning.kind if warning is not None else None
        if warning is not None and kind != self._warned:
            self.say(f"warning: {warning.text}")
        self._warned = kind

    def say(self, text: str) -> None:
        """Prints a plain line above the bar."""
        self.console.print(readable(text), highlight=False, markup=False, soft_wrap=True)
