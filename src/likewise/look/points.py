"""The columns of the map's points: place, label, cluster, how many neighbours have another label, how far they are.

Dimension legend: N items, k neighbours of each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.metrics import kmeans
from likewise.reports.labels import differ

Labels = npt.NDArray[np.int64]  # (N, L), of up to L labels of an item, −1 where there are fewer
Floats = npt.NDArray[np.float32]
VOTERS = 10  # nearest items that are counted
CLUSTERS = 12  # where no labels say how many
_LEARNED_ON = 5_000  # rows
_AT_ONCE = 50_000  # rows, whose neighbours' labels are compared


def wrong_share(near: Tensor, labels: Labels) -> Floats:
    """(N,) the share of the ten nearest items with a label that share none; NaN without own or others' label.

    Args:
        near: (N, k) rows of the nearest others, nearest first; −1 where there are none.
        labels: (N, L), −1 without a label.
    """
    wide, shares = torch.from_numpy(labels), list[Tensor]()
    labelled = (wide >= 0).any(1)
    for rows in torch.split(torch.arange(len(near)), _AT_ONCE):
        others = near[rows, :VOTERS]
        known = (labelled[others.clamp_min(0)] & (others >= 0)).sum(1)
        share = differ(wide, rows, others).sum(1) / known
        shares.append(share.masked_fill((known == 0) | ~labelled[rows], torch.nan))
    return torch.cat(shares).float().numpy()


def far(rows: Tensor, near: Tensor) -> Floats:
    """(N,) 1 − cosine of each row and its tenth nearest, or its furthest known; NaN without neighbours."""
    held = (near[:, :VOTERS] >= 0).sum(1, keepdim=True)
    if not near.shape[1]:
        return np.full(len(rows), np.nan, np.float32)
    tenth = near.gather(1, (held - 1).clamp_min(0))[:, 0]
    apart = 1 - (rows * rows[tenth.clamp_min(0)]).sum(1)
    return apart.masked_fill(held[:, 0] == 0, torch.nan).float().numpy()


def clusters_of(rows: Tensor, labels: Labels, seed: int = 0, tick: Tick = untold) -> npt.NDArray[np.uint8]:
    """(N,) spherical k-means, as many clusters as there are labels (2 to 20), or 12; 0 is the largest.

    Centres are learned from at most 5,000 rows drawn by the seed. Cost: that of k-means on these; one product of all.
    """
    known = len(np.unique(labels[labels >= 0]))
    count = min(len(rows), known if 2 <= known <= 20 else CLUSTERS)
    some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:_LEARNED_ON]
    found = kmeans(rows[some], min(count, len(some)), seed=seed, spherical=True, starts=3, iterations=50, tick=tick)
    nearest = (rows @ torch.nn.functional.normalize(found.centres.float(), dim=1).T).argmax(1)
    sizes = torch.bincount(nearest, minlength=count)
    place = torch.empty_like(sizes)
    place[sizes.argsort(descending=True, stable=True)] = torch.arange(len(sizes))
    return place[nearest].to(torch.uint8).numpy()


def point_columns(
    xy: Floats, rows: Tensor, near: Tensor, labels: Labels, error: Floats, seed: int = 0, tick: Tick = untold
) -> Mapping[str, npt.NDArray[Any]]:
    """The columns x, y, cluster, distance and, where there are labels, label and error; see ``pack_columns``.

    ``error`` is that of ``wrong_share``; of several labels, ``label`` is the first.
    """
    columns: dict[str, npt.NDArray[Any]] = {
        "x": np.ascontiguousarray(xy[:, 0]),
        "y": np.ascontiguousarray(xy[:, 1]),
        "cluster": clusters_of(rows, labels, seed, tick),
        "distance": far(rows, near),
    }
    if (labels >= 0).any():
        columns |= {"label": labels[:, 0].astype(np.int32), "error": error}
    return columns


def weakest(error: Floats, labels: Labels, names: Sequence[str], most: int) -> list[tuple[int, float, Labels]]:
    """The labels whose items have the largest mean share of neighbours with another label, largest first.

    Returns (label, mean share, its rows, those with the largest share first) of at most ``most`` labels.
    """
    found = list[tuple[int, float, Labels]]()
    for label in range(len(names)):
        rows = np.flatnonzero((labels == label).any(1) & np.isfinite(error))
        if len(rows):
            found.append((label, float(error[rows].mean()), rows[np.argsort(-error[rows], kind="stable")]))
    return sorted(found, key=lambda each: (-each[1], each[0]))[:most]
