"""The pictures and labels of what is searched."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from likewise.data import Items
from likewise.data.items import Pixels, as_id
from likewise.data.parquet_files import is_pattern
from likewise.errors import LikewiseError
from likewise.index.kept import About
from likewise.index.names import Names
from likewise.metrics.neighbours import fair_k
from likewise.model import Model
from likewise.remote import is_url
from likewise.reports.labels import columns_of, text_of
from likewise.stamp import source_of
from likewise.training.run_folder import training_items

NOT_THERE = "the items are not where they were; the server needs --data to show them."

log = logging.getLogger("likewise.serving")


class Shown:
    """Items by their ids, for what people see of a hit.

    Args:
        items: what is shown; None: nothing is known but ids.
        why: in a sentence, why there are none; empty where there are.
    """

    def __init__(self, items: Items | None, why: str = "") -> None:
        self.items, self.why = items, why
        self._names = None if items is None else Names(items.ids)
        wide = None if items is None else columns_of(items)
        self._labels = None if wide is None else wide.numpy()  # (N, L)
        self.label_names: tuple[str, ...] = () if items is None or wide is None else items.label_names

    @property
    def voters(self) -> int:
        """The number of neighbours that vote for a label; see ``fair_k``."""
        known = np.empty(0, np.int64) if self._labels is None else self._labels[self._labels >= 0]
        return fair_k(torch.from_numpy(known)) if len(known) else 1

    @property
    def pictured(self) -> bool:
        """Whether there are pictures."""
        return self.items is not None and self.items.pictured

    def rows_of(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """(n,) rows of ``items``, −1 of those that it does not have."""
        if self._names is None or not len(ids):
            return np.full(len(ids), -1)
        return self._names.places([as_id(item) for item in ids])

    def labels_of(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """(n, L) places in ``label_names`` of items with up to L labels, −1 where there are fewer."""
        rows = self.rows_of(ids)
        if self._labels is None:
            return np.full((len(ids), 1), -1)
        return np.where(rows[:, None] < 0, -1, self._labels[rows])

    def text(self, labels: Iterable[int]) -> str | None:
        """The names of labels, with commas between several; None where all are −1."""
        return text_of(labels, self.label_names)

    def picture(self, item: str) -> Pixels | None:
        """uint8 (S, S, 3), or None where there is none."""
        row = int(self.rows_of([item])[0])
        if self.items is None or row < 0 or not self.pictured:
            return None
        self.items.refuse_cut()
        return self.items.picture(row)


def _may_be_there(source: str) -> bool:
    """Whether a path exists; a URL or a pattern is looked at when it is opened."""
    return is_url(source) or is_pattern(source) or Path(source).exists()


def _opened(model: Model, source: object) -> Items:
    """The items of a source, with the labels that the run was trained with or measured by, where it has these."""
    labels = model.settings.labels
    if labels not in ("auto", "none"):
        try:
            return model.open(source, labels=labels)
        except LikewiseError as error:
            log.info("the labels %s are not used: %s", labels, error)
    return model.open(source)


def shown_of(model: Model, run: Path, protocol: About, data: str | None) -> Shown:
    """The items of ``data``; None: those that the index was made of where they are still there, or the training items.

    Raises LikewiseError when ``data`` can't be opened. What is not asked for may be missing: ``why`` then says so.
    """
    if data is not None:
        return Shown(_opened(model, data))
    source = source_of(protocol, "data")
    try:
        if isinstance(source, dict) or (source is not None and _may_be_there(source)):
            opened = _opened(model, source)  # by its full path, which is not for everybody
            return Shown(replace(opened, source=str(protocol["data"])))
        return Shown(training_items(run, model.settings))
    except LikewiseError as error:
        log.warning("no pictures and labels are shown: %s", error)  # it names a place, which is not for everybody
        return Shown(None, NOT_THERE)
