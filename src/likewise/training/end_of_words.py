"""When a training of words ends: after its epochs, or by the clock after its minutes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from likewise.words.learning import Learning


@dataclass(kw_only=True)
class End:
    """The end of a training of words.

    No rate has a schedule that must end in time. So a run with ``minutes`` stops where it is when they are over.

    Args:
        learning: what ends.
        used: seconds that count before the training: of reading the text, and of a stopped run.
        clock: seconds, rising.
    """

    learning: Learning
    used: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._began, self._from = self.clock(), self.learning.read

    @property
    def spent(self) -> float:
        """Seconds used so far."""
        return self.used + self.clock() - self._began

    @property
    def share(self) -> float:
        """The share of the training that is done; 1: it ends."""
        minutes = self.learning.settings.minutes
        return self.learning.read / max(1, self.learning.total) if minutes is None else self.spent / (60 * minutes)

    @property
    def total(self) -> int:
        """Numbers of the corpus to read in the whole run; with ``minutes`` as many as will fit at the speed so far."""
        minutes, read = self.learning.settings.minutes, self.learning.read
        if minutes is None:
            return self.learning.total
        speed = (read - self._from) / max(1e-9, self.clock() - self._began)
        return max(1, round(read + speed * max(0.0, 60 * minutes - self.spent)))

    def line(self) -> str:
        """How long a run with ``minutes`` will be."""
        epochs = self.total / len(self.learning.corpus)
        return f"minutes={self.learning.settings.minutes:g}: it stops by the clock, after about {epochs:.3g} epochs."
