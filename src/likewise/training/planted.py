"""Negatives that are added to the batches of a graph's pairs, and the clusters that some of them come from.

Dimension legend: N items, M pairs, A anchors, B items of a batch, m pairs of a batch, r planted negatives.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.config.settings import ClusterSettings, FitSettings
from likewise.data.pair_files import Pairs
from likewise.errors import LikewiseError
from likewise.graph.affinity import Affinity, Siblings, affinity
from likewise.training.samplers import PairSampler, Tuples, stable_seed

Ints = npt.NDArray[np.int64]
COVERED = 0.2  # of the items in a batch, above which mining finds harder negatives than those of sibling clusters


class Source(Protocol):
    """Where planted negatives come from."""

    def draw(self, anchors: Ints, generator: np.random.Generator) -> Ints:
        """(A,) an item for each anchor."""


class Uniform:
    """Every item of a pool with the same probability.

    Args:
        pool: (K,) items.
    """

    def __init__(self, pool: Ints) -> None:
        self._pool = pool

    def draw(self, anchors: Ints, generator: np.random.Generator) -> Ints:
        """See :class:`Source`."""
        return self._pool[generator.integers(0, len(self._pool), len(anchors))]


class Planted(NamedTuple):
    """The negatives that are added to a batch.

    Args:
        source: where they come from.
        per_pair: the number of them for each pair.
        notes: what is to be said, a line each.
    """

    source: Source
    per_pair: int
    notes: Sequence[str] = ()


class PlantedSampler:
    """The pairs of a :class:`PairSampler`, each once per epoch, with negatives that are added for one end of each.

    Args:
        pairs: (M, 2) int64 rows of the items.
        batch_size: the largest number of pairs of a step, which has up to 2 + ``per_pair`` times as many items.
        seed: step s depends on (pairs, batch_size, seed, planted, s) alone.
        planted: what is added.

    Raises:
        LikewiseError: as ``PairSampler`` does.
    """

    def __init__(self, pairs: Tensor, batch_size: int, seed: int, planted: Planted) -> None:
        self._pairs, self._rows, self._planted = PairSampler(pairs, batch_size, seed), pairs, planted
        self.seed, self.notes, self.steps_per_epoch = seed, planted.notes, self._pairs.steps_per_epoch

    def __repr__(self) -> str:
        return (
            f"PlantedSampler({self._pairs!r}, {self._planted.per_pair} of {type(self._planted.source).__name__} each)"
        )

    def tuples(self, step: int) -> tuple[Tuples, Tensor]:
        """The pairs of step ``step`` with all items, and (r, 2) places of an anchor and of a negative added for it.

        The items are in random order. An item that was drawn for itself is left out.
        """
        rows, local, which = self._pairs.tuples(step)
        generator = np.random.default_rng(stable_seed(self.seed, "planted", step))
        ends = self._rows[which].numpy()[np.arange(len(which)), generator.integers(0, 2, len(which))]
        anchors = np.repeat(ends, self._planted.per_pair)
        both = np.stack([anchors, self._planted.source.draw(anchors, generator)], 1)
        added = torch.from_numpy(both[both[:, 0] != both[:, 1]])
        every, place = torch.unique(torch.cat([rows, added.flatten()]), return_inverse=True)
        order = torch.from_numpy(generator.permutation(len(every)))
        place = order.argsort()[place]
        return Tuples(every[order], place[: len(rows)][local], which), place[len(rows) :].view(-1, 2)

    def rows(self, step: int) -> Tensor:
        """(B,) int64 rows of the items of step ``step``."""
        return self.tuples(step)[0].rows

    def first_below(self, count: int, steps: int) -> tuple[int, int] | None:
        """See ``PairSampler``: of the pairs alone, so that a step has no fewer items than it says."""
        return self._pairs.first_below(count, steps)


def planted(settings: FitSettings, pairs: Pairs, items: int) -> Planted | None:
    """What ``settings.sampler`` adds to a batch of ``pairs`` of ``items``; None for nothing.

    An item that the graph's interactions do not know is not added: nobody can tell yet what it is alike to.
    Cost: that of affinity.
    """
    kind, count = settings.sampler.planted, settings.sampler.per_pair
    if kind == "none":
        return None
    pool = np.arange(items) if pairs.known is None else pairs.known.numpy()
    if kind == "uniform":
        return Planted(Uniform(pool), count)
    found = clusters_of(pairs, items, settings.clusters)
    siblings = Siblings(found, settings.clusters.level, pool)
    notes = [f"sibling clusters of level {settings.clusters.level}: {siblings.share:.0%} of the items have siblings."]
    covered = min(1.0, settings.batch_size / items)
    if covered > COVERED:
        notes.append(
            f"warning: a batch covers {covered:.0%} of the {items:,} items, so mining finds harder negatives in it "
            "than those of sibling clusters, which then cannot matter; lower batch_size, or take method cdml."
        )
    return Planted(siblings, count, (*said(found), *notes))


def clusters_of(pairs: Pairs, items: int, settings: ClusterSettings) -> Affinity:
    """The affinity clusters of the graph of ``pairs``; without weights each pair counts 1.

    Raises LikewiseError as :func:`likewise.graph.affinity.affinity` does, and when there is no such level.
    """
    rows = pairs.rows[pairs.alike].numpy()
    weight = np.ones(len(rows)) if pairs.weight is None else pairs.weight[pairs.alike].numpy()
    found = affinity(
        rows[:, 0],
        rows[:, 1],
        weight,
        items,
        levels=settings.levels,
        largest=settings.largest,
        large=settings.large,
    )
    levels = len(found.labels)
    if settings.level >= levels:
        few = f"only {levels} levels, from 0" if levels else "no level"
        why = f" ({found.notes[-1].rstrip('.')})" if found.notes else ""
        raise LikewiseError(
            f"clusters.level={settings.level}: the clusters of {pairs.source} have {few}{why}; "
            f"{f'set it to {levels - 1} or less' if levels else 'raise clusters.largest'}."
        )
    return found


def said(found: Affinity) -> list[str]:
    """The sizes of the clusters of each level, and the notes of the clustering, a line each."""
    lines = []
    for level in range(len(found.labels)):
        sizes = found.sizes(level)
        joined = sizes[sizes > 1]
        lines.append(
            f"clusters of level {level}: {len(joined):,} of 2 to {sizes.max():,} items, and {(sizes == 1).sum():,} "
            "items alone."
        )
    return [*lines, *found.notes]
