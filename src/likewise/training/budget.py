"""The time that a run has, and the number of steps that fit into it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from likewise.distributed import processes
from likewise.training.session import Session

LOOKS = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)  # shares of the time after which the steps are counted anew
CHANGE = 0.02  # a smaller change of the number of steps is not made


@dataclass(kw_only=True)
class Budget:
    """Keeps a run within its time: it counts the remaining steps anew while the run goes on, from their own speed.

    A machine's speed changes, and measuring and saving take time too. Therefore the run has as many steps as fit, and
    the learning rate, which depends on the share of the steps done, ends its schedule in time. The number of steps
    depends on the clock: the checkpoint keeps it. For a run that can be repeated bit for bit, set ``epochs``.

    Args:
        seconds: of the whole run.
        used: seconds used before, by an interrupted run.
        clock: seconds, rising.
    """

    seconds: float
    used: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _looks: list[float] = field(default_factory=lambda: list(LOOKS))

    def start(self, step: int) -> None:
        """Starts the clock at ``step``."""
        self._began = self._since = self.clock()
        self._from = step

    @property
    def spent(self) -> float:
        """Seconds used so far."""
        return self.used + self.clock() - self._began

    def follow(self, session: Session) -> int | None:
        """Sets ``session.total`` anew if it is time to. Returns the new number; None where it stays.

        Every process must call it after every step; the first one's clock counts.
        """
        if processes.size() > 1 and session.step % 10:
            return None  # this waits for the other processes
        total = self._total(session)
        if processes.size() > 1:
            told = torch.tensor([total], device=session.device)
            processes.from_first([told])
            total = int(told)
        if total == session.total:
            return None
        session.total = total
        return total

    def _total(self, session: Session) -> int:
        spent, step = self.spent, session.step
        if not self._looks or spent < self._looks[0] * self.seconds or step == self._from:
            return session.total
        while self._looks and spent >= self._looks[0] * self.seconds:
            del self._looks[0]
        each = (self.clock() - self._since) / (step - self._from)
        self._since, self._from = self.clock(), step
        total = step + max(1, round((self.seconds - spent) / each))
        return session.total if abs(total - session.total) < CHANGE * session.total else total
