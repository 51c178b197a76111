"""The health of a training run: its numbers, and a plain sentence when something looks wrong."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.files import atomic_write
from likewise.metrics import collapse_std, effective_rank
from likewise.objectives import TripletShares
from likewise.text import shortened


@dataclass(frozen=True, kw_only=True)
class Health:
    """Numbers of the last queries.

    Args:
        loss: the mean loss.
        chance: the loss of an embedding that can't distinguish items; None where it is not known.
        rank: effective rank of the queries.
        spread: mean std·√D, 1 on a uniform sphere and 0 when collapsed.
        most: the largest possible rank of these rows.
        valid: the share of rows with a positive and a negative, where labels train.
        margin: the margin of a triplet loss. It equals the loss when all embeddings are the same.
        triplets: the shares of triplets that a triplet loss learns from.
    """

    loss: float
    chance: float | None
    rank: float
    spread: float
    most: int
    valid: float | None = None
    margin: float | None = None
    triplets: TripletShares | None = None

    def values(self) -> dict[str, float | str]:
        """The values for the log."""
        known: dict[str, float | str] = {} if self.chance is None else {"chance": self.chance}
        if self.valid is not None:
            known["valid_anchors"] = self.valid
        if self.triplets is not None:
            known |= {"active_triplets": self.triplets.active, "violation": self.triplets.violation}
        return {"loss": self.loss, **known, "effective_rank": self.rank, "spread": self.spread}


def measure(
    loss: float,
    chance: float | None,
    queries: Tensor,
    *,
    valid: float | None = None,
    margin: float | None = None,
    triplets: TripletShares | None = None,
) -> Health:
    """Health of a batch of unit rows (B, D). Cost: one (B, D) singular value decomposition."""
    return Health(
        loss=loss,
        chance=chance,
        rank=float(effective_rank(queries)),
        spread=float(collapse_std(queries)),
        most=min(queries.shape),
        valid=valid,
        margin=margin,
        triplets=triplets,
    )


STUCK = 0.8  # a larger share of active triplets means equal distances; rounding makes some triplets inactive


class Verdict(NamedTuple):
    """What looks wrong: a kind, so that it is printed once, and one sentence."""

    kind: str
    text: str


def verdict(health: Health) -> Verdict | None:
    """What looks wrong; None if the run looks healthy."""
    if health.spread < 0.1 or health.rank < min(
        2.0, 0.75 * health.most
    ):  # with few rows or dimensions the rank can't reach 2
        return Verdict(
            "collapse",
            f"collapse: all items get nearly the same embedding (effective rank {health.rank:.1f} of {health.most}, "
            f"std·√d {health.spread:.2f}; healthy is near 1). Lower optim.lr, or check that the items differ.",
        )
    stuck = health.margin is not None and abs(health.loss - health.margin) < 0.02 * health.margin
    if stuck and (health.triplets is None or health.triplets.active > STUCK):
        return Verdict(
            "margin",
            f"loss {health.loss:.3f} is stuck at the margin ({health.margin:g}): positives and negatives are equally "
            "far, as when all items get the same embedding. Hard negatives can cause this early: begin with semi-hard "
            "ones (negatives.policies), or lower optim.lr.",
        )
    if health.valid is not None and health.valid < 0.5:
        return Verdict(
            "no positives",
            f"only {health.valid:.0%} of the batch's items have a positive and a negative; the others have no "
            "gradient: set sampler.kind=classes, or check the labels.",
        )
    if health.chance is None:
        return None
    if health.loss > 1.05 * health.chance:
        return Verdict(
            "worse than chance",
            f"loss {health.loss:.3f} is above the chance level ({health.chance:.3f}), that of an embedding that can't "
            "distinguish items. This is normal in the first epochs; later, lower optim.lr.",
        )
    if health.loss > 0.98 * health.chance:
        return Verdict("chance", f"loss {health.loss:.3f} = chance level ({health.chance:.3f}): nothing learned yet.")
    return None


SOFTER = {"temperature": "raise", "scale": "lower", "gamma": "lower"}  # what makes logits smaller


class Watch:
    """Collects losses without stalling the device, and stops the run at the first loss that is NaN or infinite.

    Args:
        item_ids: names of the items, by row.
        folder: the folder where the item names of a bad batch are written.
        losses: the session's list of losses since the last logged mean; updated in place.
        parameters: names of the objective's parameters, for the advice.
    """

    def __init__(
        self, item_ids: Sequence[str], folder: Path, losses: list[float], *, parameters: Collection[str] = ()
    ) -> None:
        self._item_ids, self._folder, self._losses = item_ids, folder, losses
        self._advice = "".join(f" or {what} objective.{name}" for name, what in SOFTER.items() if name in parameters)
        self._seen: list[tuple[int, Tensor, Tensor]] = []
        self._since, self._items = time.perf_counter(), 0

    def restart(self) -> None:
        """Restarts the mean loss and the clock of items/s."""
        self._losses.clear()
        self._since, self._items = time.perf_counter(), 0

    def see(self, step: int, loss: Tensor, rows: Tensor) -> None:
        """Keeps the loss (a scalar on any device) and the rows (B,) of a step."""
        self._seen.append((step, loss, rows))
        self._items += len(rows)

    def flush(self, *, weights_are_fine: bool = True) -> tuple[float, float]:
        """Mean loss and items/s since the restart.

        Raises LikewiseError, with names of items, when a loss is NaN or infinite, and when the weights are not fine.
        """
        if self._seen:
            losses = torch.stack([loss for _, loss, _ in self._seen]).float().cpu()
            bad = (~losses.isfinite()).nonzero()
            if len(bad):
                step, loss, rows = self._seen[int(bad[0])]
                self._refuse(step, f"the loss became {float(loss)}", rows)
            if not weights_are_fine:
                self._refuse(self._seen[-1][0], "a weight became NaN or infinite", self._seen[-1][2])
            self._losses += losses.tolist()
            self._seen = []
        mean = sum(self._losses) / max(1, len(self._losses))
        return mean, self._items / (time.perf_counter() - self._since)

    def _refuse(self, step: int, what: str, rows: Tensor) -> None:
        names = [self._item_ids[row] for row in rows.tolist()]
        report = self._folder / "nan.json"
        with atomic_write(report) as file:
            file.write(json.dumps({"step": step, "what": what, "items": names}, indent=1).encode())
        raise LikewiseError(
            f"{what} at step {step}, on a batch with {', '.join(map(shortened, names[:3]))} … (all {len(names)} "
            f"in {report}); this state was not saved: lower optim.lr{self._advice} and start again."
        )
