"""What a classification by few labels gives: labels, confidence, and how far both can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from likewise.answers.calibration import Bin, calibration_error
from likewise.stamp import Stamp
from likewise.tables import write_table

WORDS = {"propagation": "label propagation", "knn": "weighted kNN"}


class Trial(NamedTuple):
    """How well a method does on labelled items, each left out in turn."""

    method: str
    right: int  # items whose label it found
    tried: int  # M, items whose class has another label
    loss: float  # mean −log of the confidence in the true label; NaN where none was tried
    temperature: float  # T with the least loss
    bins: tuple[Bin, ...]

    @property
    def words(self) -> str:
        """The method for people."""
        return WORDS[self.method]


class HeldOut(NamedTuple):
    """A class that was unknown for a while: its labels were taken away."""

    label: str
    auroc: float  # how well "unlike" tells its labelled items from those of the other classes
    number: int  # of its labelled items


@dataclass(frozen=True, kw_only=True, eq=False)
class Classified:
    """The label of each item, how sure that is, and how unlike anything labelled it is.

    Args:
        ids: of N items.
        labels: (N,) int64 places in ``names``; given labels stay.
        names: of the C classes.
        confidence: (N,) float64 in [0, 1]; 1 of a given label.
        unlike: (N,) float64 in [0, 1]; 0 of a given label, 1 where no label reaches: see ``classify_rows``.
        given: (N,) bool, whether the label was given.
        trials: of each method that was tried, the one that was used first.
        held_out: of each class, where there are three or more.
        unreached: items that no path of the graph joins to a label; they have the label of weighted kNN.
        stamp: what made this.
    """

    ids: tuple[str, ...]
    labels: Tensor
    names: tuple[str, ...]
    confidence: Tensor
    unlike: Tensor
    given: Tensor
    trials: tuple[Trial, ...]
    held_out: tuple[HeldOut, ...]
    unreached: int = 0
    stamp: Stamp = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Classified({len(self)} items, {len(self.names)} classes, method={self.method!r})"

    @property
    def method(self) -> str:
        """The method that was used: propagation or knn."""
        return self.trials[0].method

    @property
    def auroc(self) -> float:
        """The mean over the classes of how well "unlike" finds a class without labels; NaN with fewer than three."""
        return float(np.mean([each.auroc for each in self.held_out])) if self.held_out else float("nan")

    def lines(self) -> list[str]:
        """What was done and how good it is, for people."""
        used, *others = self.trials
        fresh, given = int((~self.given).sum()), int(self.given.sum())
        lines = [f"{fresh:,} items labelled by {used.words}, from {given:,} labels of {len(self.names):,} classes."]
        if not fresh:
            lines = [f"All {given:,} items have a label already, of {len(self.names):,} classes."]
        if used.tried:
            found = [f"{used.words} finds {used.right:,} of {used.tried:,} labels that are left out in turn"]
            found += [f"{each.words} {each.right:,}" for each in others]
            lines.append(f"Leave-one-out: {', '.join(found)}.")
            lines.append(
                f"Confidence: temperature {used.temperature:.2f}, chosen on those {used.tried:,} labels; its mean "
                f"error there is {calibration_error(used.bins):.2f} (ECE)."
            )
        else:
            lines.append("No class has two labels, so none can be left out: the confidence is not checked.")
        if self.held_out:
            worst = min(self.held_out, key=lambda each: each.auroc)
            lines.append(
                f"Unlike: AUROC {self.auroc:.2f} when a class has no labels, the mean of {len(self.held_out):,} "
                f"classes; the least is {worst.auroc:.2f}, of {worst.label}."
            )
        if self.unreached:
            lines.append(
                f"No path of neighbours leads from {self.unreached:,} items to a label: they are by weighted kNN."
            )
        return lines

    def label(self, row: int) -> str:
        """The label of an item as text."""
        return self.names[int(self.labels[row])]

    def save(self, path: Path) -> None:
        """Writes id, label, confidence, unlike, given as .csv or .parquet, whole or not at all."""
        table: dict[str, Sequence[object]] = {
            "id": self.ids,
            "label": [self.label(row) for row in range(len(self))],
            "confidence": self.confidence.tolist(),
            "unlike": self.unlike.tolist(),
            "given": self.given.tolist(),
        }
        write_table(path, table, self.stamp)
