"""The tables beside the scores of ``likewise retrieve``: each class, the most wrong pairs, points of the ROC."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from likewise.data import Items
from likewise.files import atomic_write
from likewise.metrics.retrieval import Retrieval
from likewise.metrics.verification import Roc
from likewise.stamp import Stamp
from likewise.text import utf8

STAMP = "stamp.json"  # in the folder of the tables: whose figures these are


@dataclass(kw_only=True)
class Detail:
    """The rows of the tables in the detail folder. ``of`` is the representation that is being measured."""

    of: str = ""
    classes: list[tuple[object, ...]] = field(default_factory=list)
    wrong: list[tuple[object, ...]] = field(default_factory=list)
    curve: list[tuple[object, ...]] = field(default_factory=list)

    def add_retrieval(self, result: Retrieval, names: Sequence[str], gallery: Items, queries: Items) -> None:
        """Adds the measures of every class, and the pairs that the learned embedding gets most wrong."""
        each = result.per_class
        columns = (each.queries, each.precision_at_1, each.r_precision, each.map_at_r, each.average_precision)
        rows = zip(each.labels.tolist(), *(column.tolist() for column in columns), strict=True)
        self.classes += [(self.of, names[label], *figures) for label, *figures in rows]
        if self.of == "learned":
            wrong = ("nearest different", result.nearest_different), ("furthest same", result.furthest_same)
            for sort, pairs in wrong:
                self.wrong += [(sort, queries.ids[query], gallery.ids[item], score) for query, item, score in pairs]

    def add_curve(self, curve: Roc) -> None:
        """Adds at most 500 points of the curve; both ends are among them."""
        some = torch.linspace(0, len(curve.fpr) - 1, min(500, len(curve.fpr))).round().long()
        points = zip(*(x[some].tolist() for x in (curve.fpr, curve.tpr, curve.thresholds)), strict=True)
        self.curve += [(self.of, *point) for point in points]

    def write(self, folder: Path, stamp: Stamp) -> None:
        """Writes the three files, each whole or not at all, and last the stamp that they have in common.

        Raises OSError from the file system.
        """
        folder.mkdir(parents=True, exist_ok=True)
        figures = ("queries", "precision@1", "r-precision", "map@r", "map")
        for name, header, rows in (
            ("classes.csv", ("representation", "class", *figures), self.classes),
            ("wrong.csv", ("sort", "query", "gallery", "similarity"), self.wrong),
            ("roc.csv", ("representation", "false_positive_rate", "true_positive_rate", "threshold"), self.curve),
        ):
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows([header, *rows])
            with atomic_write(folder / name) as file:
                file.write(utf8(text.getvalue()))
        with atomic_write(folder / STAMP) as file:
            file.write(utf8(json.dumps(stamp, indent=1, ensure_ascii=False)))
