"""The time that a run has, and the number of steps that fit into it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from likewise.distributed import processes
from likewise.training.session import Session

LOOKS = 25  # times that the steps are counted anew
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
        early: share of the steps, from the first, that take another time than the rest.
        early_cost: their time, as a multiple of the rest's.
        clock: seconds, rising.
    """

    seconds: float
    used: float = 0.0
    early: float = 0.0
    early_cost: float = 1.0
    clock: Callable[[], float] = time.monotonic

    def start(self, step: int) -> None:
        """Starts the clock at ``step``."""
        self._began = self._since = self.clock()
        self._from, self._share = step, 0.0

    def work(self, step: int, to: int, total: int) -> float:
        """The time from ``step`` to step ``to`` of ``total``, in late steps."""
        early = max(0.0, min(to, self.early * total) - step)
        return self.early_cost * early + (to - step - early)

    def steps(self, work: float, step: int = 0) -> int:
        """The number of steps of a run that does so much ``work`` after ``step``; one more than ``step`` at least."""
        total = (work + self.early_cost * step) / (self.early_cost * self.early + 1 - self.early)
        if self.early * total <= step:  # only late steps are left
            total = step + work
        return max(step + 1, round(total))

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
        total = processes.number_of_first(self._total(session), session.device)
        if total == session.total:
            return None
        session.total = total
        return total

    def _total(self, session: Session) -> int:
        spent, step = self.spent, session.step
        share = max(spent / self.seconds, step / session.total)
        early = step >= session.total - 1 and spent < (1 - 1 / LOOKS) * self.seconds
        if step == self._from or not (early or share > self._share + 1 / LOOKS):
            return session.total
        each = (self.clock() - self._since) / self.work(self._from, step, session.total)
        self._since, self._from = self.clock(), step
        total = self.steps((self.seconds - spent) / each, step)
        if spent > self.seconds:
            return min(total, session.total)
        total = session.total if abs(total - session.total) < CHANGE * session.total and not early else total
        self._share = max(spent / self.seconds, step / total)
        return total
