"""The log of a run: lines of JSON, and TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from likewise.errors import LikewiseError
from likewise.files import atomic_write, from_json

METRICS = "metrics.jsonl"  # in a run folder


class MetricsLog:
    """Writes one JSON object per line to ``metrics.jsonl``, and to TensorBoard if asked.

    Args:
        folder: the run folder.
        step: the current step; lines of later steps, written before the run was killed, are dropped.
        tensorboard: also write event files; needs the extra ``tb``.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool) -> None:
        self.path = folder / METRICS
        kept = [line for line in read_metrics(folder) if float(line["step"]) <= step]
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        self._board = _tensorboard(folder / "tensorboard", step) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        """Appends ``{"step": step, ...values}``."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if not isinstance(value, str):
                    self._board.add_scalar(name, value, step)
            self._board.flush()

    def close(self) -> None:
        """Closes the TensorBoard file, if there is one."""
        if self._board is not None:
            self._board.close()


class NoLog:
    """The log of every process but the first: it writes nothing."""

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read_metrics(folder: Path) -> list[dict[str, float | str]]:
    """The lines of a run's ``metrics.jsonl``. A line that holds no step and values (cut off by a kill) is ignored."""
    path = folder / METRICS
    lines = [_line(text) for text in path.read_bytes().split(b"\n")] if path.exists() else []
    return [line for line in lines if line is not None]


def _line(text: bytes) -> dict[str, float | str] | None:
    """A step and its values, all numbers except the verdict; None for anything else."""
    try:
        line = from_json(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or not isinstance(line.get("step"), int | float):
        return None
    fine = all(isinstance(value, str if name == "verdict" else int | float) for name, value in line.items())
    return line if fine else None


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise LikewiseError('tensorboard is not installed; pip install "likewise[tb]" or leave it off.') from None
    return SummaryWriter(str(folder), purge_step=step + 1)  # hides values that a killed run wrote after its checkpoint
