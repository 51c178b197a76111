"""Measures of rows that come batch by batch, as in a validation loop."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.metrics.checks import Rows, as_rows

T = TypeVar("T")


class Metric(Generic[T]):
    """Gives any measure of rows and labels the methods ``update``, ``compute`` and ``reset`` of torchmetrics' metrics.

    Examples are ``Metric(lw.retrieval)``, ``Metric(lw.knn_accuracy)`` (leave-one-out) and
    ``Metric(lw.metrics.clustering)``. A lambda gives a measure arguments, or other rows to compare with:
    ``Metric(lambda z, y: lw.retrieval(z, y, ks=(1, 10)))``,
    ``Metric(lambda z, y: lw.knn_accuracy(z, y, bank, bank_labels, k=20))``.

    ``compute`` calls the measure once with all rows. Its result is therefore that of the measure, however the rows were
    divided into batches. Ranks depend on all rows, so all rows are kept.

    If several processes share the rows, all call ``compute`` together. It gathers the rows in the order of the
    processes and returns the same result in each. Items that a sampler repeats to fill the last batch count twice.

    Cost: N·(4·D + 8·L) bytes on the CPU for N rows so far. ``compute`` needs as much again (in each process, for the
    rows of all), and what the measure needs. ``update`` copies its rows to the CPU.

    Args:
        measure: a function of float32 rows (N, D) and int64 labels (N,) or (N, L), on the CPU.
        device: the device that several processes gather on; with NCCL, a CUDA device.
    """

    def __init__(self, measure: Callable[[Tensor, Tensor], T], *, device: torch.device | str = "cpu") -> None:
        self.measure, self.device = measure, torch.device(device)
        self.rows: list[Tensor] = []
        self.labels: list[Tensor] = []

    def __repr__(self) -> str:
        return f"Metric({len(self)} rows, measure={self.measure!r}, device={str(self.device)!r})"

    def __len__(self) -> int:
        """Number of rows so far, in this process."""
        return sum(map(len, self.rows))

    def update(self, rows: Rows, labels: Ids) -> None:
        """Adds a batch: rows (B, D) float, and their integer labels (B,) or (B, L), with the same D and L as before.

        Raises LikewiseError on other shapes or dtypes; then nothing is added.
        """
        rows, labels = as_rows("rows", rows), as_ids("labels", labels)
        if labels.ndim not in (1, 2) or len(labels) != len(rows):
            raise LikewiseError(
                f"labels {tuple(labels.shape)} must be ({len(rows)},), one per row, or ({len(rows)}, L)."
            )
        for name, new, before in (("rows", rows, self.rows), ("labels", labels, self.labels)):
            if before and new.shape[1:] != before[0].shape[1:]:
                raise LikewiseError(f"{name} {tuple(new.shape)} follow others of shape {tuple(before[0].shape)}.")
        self.rows.append(rows.detach().to("cpu", torch.float32, copy=True))
        self.labels.append(labels.detach().to("cpu", torch.int64, copy=True))

    def compute(self) -> T:
        """The measure of all rows so far. Raises LikewiseError if a process has no rows, and as the measure does."""
        if any(processes.any_of([not self.rows], self.device)):
            raise LikewiseError("there are no rows to measure; update(rows, labels) comes before compute().")
        rows, labels = torch.cat(self.rows), torch.cat(self.labels)
        if processes.size() > 1:
            rows, labels = (processes.gather_constant(x.to(self.device)).cpu() for x in (rows, labels))
        return self.measure(rows, labels)

    def reset(self) -> None:
        """Forgets all rows."""
        self.rows, self.labels = [], []
