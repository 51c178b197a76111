"""``Look``: what the page is told of a run, in the order of its index; each part is computed when it is asked for."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise import __version__
from likewise.console import Tick, part_of, untold
from likewise.data import Items
from likewise.data.items import as_id
from likewise.errors import LikewiseError, closest
from likewise.evaluation.saved import SAVED, saved_scores
from likewise.index.index import Index
from likewise.index.names import Names
from likewise.look.groups import KINDS, Groups, Seen, furthest, near_copies, suspect_labels, unit, weakest_labels
from likewise.look.points import Floats, Labels, point_columns, wrong_share
from likewise.maps import Map, layout, nearest, read_map, stamp_of, write_map
from likewise.maps.map_file import FILE
from likewise.maps.tsne import NEIGHBOURS
from likewise.model import Model
from likewise.pages.colours import LABELS, REST
from likewise.reports.labels import text_of
from likewise.reports.verdict import ALONE, Verdict, verdict_on
from likewise.stamp import DIGEST_BYTES, Stamp, code_digest, hash_of, hash_of_bytes
from likewise.training.metrics_log import METRICS, read_metrics
from likewise.viewer.columns import pack_columns

T = TypeVar("T")
SEVERAL = "Of several labels of an item the first gives the colour; another label is one of items that share none."
_HASHED = 1_000_000_000  # bytes of data, about
_PART = 1 << 24  # bytes of them that are in memory at once
log = logging.getLogger("likewise.look")


class Look:
    """The points of a run's map, its verdict, and groups of items to look at. Threads may share it.

    Args:
        run: the run folder; the map is kept there.
        index: in memory.
        labels: (N, L) in the order of the index, −1 where an item has fewer labels.
        names: of labels.
        model: embeds; None: there are no outliers, near-copies and verdict.
        items: the data in its own order; None: as without a model.
        tick: told the share of the map that is made.

    ``parts`` holds those that were asked for as bytes, for the server; see ``PARTS``.

    Cost: of the first call of each part; later calls cost nothing.
    """

    def __init__(
        self,
        run: Path,
        index: Index,
        labels: Labels,
        names: Sequence[str],
        model: Model | None = None,
        items: Items | None = None,
        tick: Tick = untold,
    ) -> None:
        self.run, self.index, self.labels, self.names = run, index, labels, tuple(names)
        self._model, self._items = model, items
        self._tick, self._lock, self._kept = tick, RLock(), dict[str, object]()
        self.parts = dict[str, bytes]()

    def map(self) -> Map:
        """The map of the index's rows: read from the run's folder, or made and kept there."""
        return self._once("map", self._map)

    def points(self) -> bytes:
        """The binary columns of the map's points; the header says how the map was made and how faithful it is."""
        return self._once("points", self._points)

    def scores(self, row: Tensor) -> bytes:
        """Binary columns with one, ``score``: the cosine of a row, (D,), and each of the index."""
        found = (self.index.rows @ row.float()).numpy().astype(np.float32)
        return pack_columns({"score": found}, {})

    def inside(self, found: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
        """The rows of items of a part of the map, (M,), and how many of them have each label, the most first."""
        rows = np.flatnonzero(found)
        labels = self.labels[rows]
        counts = np.bincount(labels[labels >= 0], minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")
        return rows, {self.names[label]: int(counts[label]) for label in order.tolist() if counts[label]}

    def label(self, row: int) -> str | None:
        """The label of an item as text, with commas between several; None without one."""
        return text_of(self.labels[row].tolist(), self.names)

    def check(self, name: str) -> None:
        """Raises LikewiseError where what a part needs is not there; computes nothing."""
        if name in ("duplicates", "outliers"):
            self._data()

    def stamp(self, name: str) -> Stamp:
        """What makes a part: version, code, model, and hashes of the index's rows and ids, the labels and the data.

        Of the verdict also the run's scores and log. Where the data are more than 1 GB, evenly spaced items are hashed.

        Cost: a pass over the rows and the data, once.
        """
        stamp = self._once("stamp", self._stamp)
        if name != "verdict":
            return stamp
        files = [self.run / each for each in (*SAVED, METRICS)]
        return stamp | {"scores": hash_of(*(file for file in files if file.is_file()))}

    def verdict(self) -> Verdict | None:
        """The verdict of the report, on the data; None without a model or data."""
        return self._once("verdict", self._verdict)

    def groups(self, kind: str) -> Groups:
        """The groups of a kind: duplicates, outliers, weakest or suspects.

        Raises LikewiseError on another kind, and where what it needs is not there.
        """
        makers: dict[str, Callable[[], Groups]] = {
            "duplicates": lambda: near_copies(self._seen(), *self._data()),
            "outliers": lambda: furthest(self._seen(), *self._data()),
            "weakest": lambda: weakest_labels(self._seen(), self._error()),
            "suspects": lambda: suspect_labels(self._seen()),
        }
        if kind not in makers:
            raise LikewiseError(f"there are no groups of the kind {kind!r}.{closest(kind, KINDS)}")
        return self._once(kind, makers[kind])

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once. One thing is made at a time: it takes the processor."""
        if name not in self._kept:
            with self._lock:
                if name not in self._kept:
                    self._kept[name] = make()
        kept: T = self._kept[name]  # type: ignore[assignment]
        return kept

    def _stamp(self) -> Stamp:
        named = "\0".join([*self.index.ids, "", *self.names]).encode(errors="surrogatepass")
        stamp: Stamp = {
            "likewise": __version__,
            "code": code_digest(),
            "model": str(self.index.protocol.get("model", "")),
            "rows": hash_of_bytes(np.ascontiguousarray(self.index.rows.numpy()).data),
            "names": hash_of_bytes(named),
            "labels": hash_of_bytes(np.ascontiguousarray(self.labels).data),
        }
        if self._items is None:
            return stamp
        return stamp | {"data": _hash_of_some(self._items.values), "data_ids": self._items.ids_hash}

    def _told(self, number: int) -> Tick:
        """The tick of one of the two parts of the work at the map."""
        return part_of(self._tick, number, 2)

    def _unit(self) -> Tensor:
        return self._once("unit", partial(unit, self.index.rows))

    def _near(self) -> Tensor:
        return self._once("near", lambda: nearest(self._unit(), min(NEIGHBOURS, len(self.index) - 1), self._told(0)))

    def _error(self) -> Floats:
        return self._once("error", lambda: wrong_share(self._near(), self.labels))

    def _map(self) -> Map:
        rows, path = self._unit(), self.run / FILE
        stamp = stamp_of(rows, str(self.index.protocol.get("model", "")))
        try:
            saved = read_map(path, stamp, ["likewise", "serve", str(self.run)])
        except LikewiseError as error:
            log.info("the map is made anew: %s", error)
            saved = None
        if saved is not None:
            return saved
        made = layout(rows, near=self._near(), tick=self._told(1))
        try:
            write_map(path, made, {**self.index.protocol, **stamp})
        except (OSError, LikewiseError) as error:
            log.info("the map is not kept: %s", error)
        return made

    def _points(self) -> bytes:
        made = self.map()
        columns = point_columns(made.xy, self._unit(), self._near(), self.labels, self._error())
        about = {
            "labels": list(self.names),
            "colours": LABELS,
            "rest": REST,
            "note": SEVERAL if self.labels.shape[1] > 1 else "",
            "map": {
                "sentence": made.sentence(),
                "method": made.method,
                "settings": dict(made.settings),
                "kept": made.kept,
                "neighbours": made.neighbours,
            },
        }
        return pack_columns(columns, about)

    def _seen(self) -> Seen:
        return Seen(ids=self.index.ids, rows=self._unit(), labels=self.labels, names=self.names)

    def _data(self) -> tuple[Model, Items, npt.NDArray[np.int64]]:
        """The model, the data, and the row in the index of each item of the data, −1 of those it does not have."""
        if self._model is None or self._items is None:
            raise LikewiseError("this needs a model and its data, and one of them is not there; name data with --data.")
        return self._model, self._items, Names(self.index.ids).places([as_id(item) for item in self._items.ids])

    def _verdict(self) -> Verdict | None:
        if self._model is None or self._items is None:
            return None
        model, items, at = self._data()
        held = np.flatnonzero(at >= 0)
        if len(held) < 2:
            return ALONE if len(held) else None
        part = items if len(held) == len(items) else items.select(held)
        rows = self._unit()[torch.from_numpy(at[held])]
        try:
            scores = saved_scores(self.run, model.weights_hash)
        except LikewiseError as error:
            log.info("saved scores are not used: %s", error)
            scores = {}
        return verdict_on(model, part, rows, scores, read_metrics(self.run), untold)


def _hash_of_some(values: npt.NDArray[Any]) -> str:
    """The hash of values, evenly spaced where they are large."""
    some, digest = values[:: 1 + values.nbytes // _HASHED], hashlib.blake2b(digest_size=DIGEST_BYTES)
    step = max(1, _PART * len(some) // max(1, some.nbytes))
    for start in range(0, len(some), step):
        digest.update(np.ascontiguousarray(some[start : start + step]).data)
    return digest.hexdigest()
