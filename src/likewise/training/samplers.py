"""Samplers: choose the rows of a step. The rows depend on (data, sizes, seed, step) alone.

A resumed run therefore needs only the step. Every process gets the same rows for a step and uses its share of them.

Dimension legend: N items, M memberships (an item in a class), C classes, P classes of a batch, K items of each, B
batches of an epoch (rows of a batch in ``EpochSampler`` and ``rows``), L labels of an item at most, or L
lists (a query with its items) in ``GradedSampler``.
"""

import heapq
from hashlib import blake2b
from math import perm
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.errors import LikewiseError, at_least_one

PEELS = 20  # passes that look for items in many tuples together
ROUNDS = 8  # each round of mixing halves the effect of the first layout on which classes are in one batch


def stable_seed(seed: int, use: str, number: int) -> int:
    """A seed for one use in one epoch or step. 32 bits: torch's CPU generator uses no more."""
    return int.from_bytes(blake2b(f"{seed}/{use}/{number}".encode(), digest_size=4).digest(), "big")


class EpochSampler:
    """Every row once per epoch, in a fresh order, in ``ceil(n / batch_size)`` batches of nearly equal size.

    Batch sizes differ by at most one: no last batch is short, no row is dropped, and no batch has a single row.

    Args:
        n: number of rows, at least 1.
        batch_size: the largest number of rows of a batch, at least 2. With 2 and an odd ``n``, one batch has 3 rows.
        seed: the order of epoch e depends on (seed, e) alone.
        smallest: the smallest number of rows of a batch, if ``n`` is as large; for example two for every BatchNorm
            group.
    """

    def __init__(self, n: int, batch_size: int, seed: int, *, smallest: int = 2) -> None:
        self.n, self.batch_size, self.seed, self.smallest = n, batch_size, seed, smallest
        self.steps_per_epoch = max(1, min(-(-n // batch_size), n // smallest))
        self._epoch, self._batches = -1, ()  # type: tuple[int, tuple[Tensor, ...]]

    def __repr__(self) -> str:
        return f"EpochSampler(n={self.n}, batch_size={self.batch_size}, seed={self.seed}, smallest={self.smallest})"

    def rows(self, step: int) -> Tensor:
        """(B,) int64 rows of step ``step``. Cost: one permutation per epoch, n·8 bytes."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, torch.tensor_split(self.order(epoch), self.steps_per_epoch)
        return self._batches[place]

    def order(self, epoch: int) -> Tensor:
        """(n,) int64 rows of an epoch, one batch after the other."""
        return torch.randperm(self.n, generator=_generator(self.seed, "order", epoch))


class ClassSampler:
    """Batches of exactly P classes × K items, so that every anchor has positives and negatives.

    In each epoch the items of a class are shuffled and cut into chunks of K.

    - A short last chunk is filled with random other items of the class; no item is twice in a chunk.
    - A class with fewer than K items repeats them as evenly as possible: a repeated item gets several views.
    - No class is in a batch twice. The number of batches is the larger of two: enough batches to hold all chunks, P
      each; or the number of chunks of the largest class.
    - Batches that lack classes get extra chunks of other classes, freshly shuffled, in proportion to the classes'
      sizes. So items are seen equally often, as far as possible.

    Every labelled item is seen at least once per epoch, and every epoch has the same, known number of batches. The
    classes of a batch and the order of the batches are random. Items with no label (below 0) are left out. An item with
    several labels is seen at least once under each of them. A batch may hold such an item twice, under two labels; and
    items that a batch holds under different labels may have a label in common.

    Args:
        labels: (N,) integers, or (N, L) padded with −1. Below 0: no label.
        classes: P, at most the number of classes.
        per_class: K.
        seed: epoch e depends on (labels, P, K, seed, e) alone.

    Raises:
        LikewiseError: labels are not (N,) or (N, L) integers; fewer than two classes, or fewer than P; P or K below 1.

    Cost: sorts of M and of B·P numbers per epoch, about 0.5 s for a million items; 8·(3·M + 2·B·P·K) bytes.
    A class with more than 1/P of all chunks makes the epoch longer: B·P·K rows instead of about M.
    """

    def __init__(self, labels: Ids, classes: int, per_class: int, seed: int) -> None:
        at_least_one("classes", classes, "a batch has classes")
        at_least_one("per_class", per_class, "a class has items in a batch")
        self.classes, self.per_class, self.seed = classes, per_class, seed
        self._groups = _group(labels)
        sizes = self._groups.sizes
        if len(sizes) < classes:
            raise LikewiseError(
                f"classes={classes} per batch, but the items have only {len(sizes)} labels; lower it to {len(sizes)}."
            )
        self._chunks = (sizes + per_class - 1) // per_class  # (C,)
        total = int(self._chunks.sum())
        self.steps_per_epoch = max(-(-total // classes), int(self._chunks.max()))
        self._turns = _in_proportion(self._chunks, classes, self.steps_per_epoch)
        self._epoch, self._batches = -1, torch.empty(0)

    def __repr__(self) -> str:
        return (
            f"ClassSampler(labels={self._groups}, classes={self.classes}, per_class={self.per_class}, seed={self.seed})"
        )

    def rows(self, step: int) -> Tensor:
        """(P·K,) int64 rows of step ``step``: ``rows.view(K, P)[:, p]`` are the K items of one class.

        Classes alternate: any P consecutive rows hold every class. So do a BatchNorm group and a process' share with P
        rows or more. The batch statistics of a part then do not reveal which rows are alike.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(_generator(self.seed, "classes", epoch))
        return self._batches[place]

    def _draw(self, generator: torch.Generator) -> Tensor:
        """(B, K·P) rows of an epoch."""
        groups, batches, k = self._groups, self.steps_per_epoch, self.per_class
        turns = self._turns.clone()  # (C,) number of batches that hold each class
        room = (turns < batches).nonzero().squeeze(1)
        left = batches * self.classes - int(turns.sum())
        turns[room[torch.randperm(len(room), generator=generator)[:left]]] += 1
        order = torch.randperm(len(turns), generator=generator)
        # McNaughton's wrap-around rule: chunk i, counted class by class, goes to batch i mod B. A class has at most B.
        grid = order.repeat_interleave(turns[order]).view(self.classes, batches).T  # (B, P)
        of = _mixed(grid, generator).flatten()  # (B·P,) the class of each place
        number = torch.empty_like(of)
        number[of.argsort(stable=True)] = _runs(turns)[1]  # the number of the chunk in its class
        extra = number >= self._chunks[of]  # an extra chunk of a class; its items come from a second shuffle
        number = torch.where(extra, number - self._chunks[of], number)
        pool = [groups.shuffled(generator)]
        if bool(extra.any()):
            pool.append(groups.shuffled(generator))
        first = groups.first[of] + extra * len(groups.items)
        turn = (number[:, None] * k + torch.arange(k)) % groups.sizes[of][:, None]  # (B·P, K) places in the class
        rows = torch.cat(pool)[first[:, None] + turn].view(batches, self.classes, k)
        return rows[torch.randperm(batches, generator=generator)].transpose(1, 2).reshape(batches, -1)


class BalancedSampler:
    """Batches in which every class is drawn equally often, independent of its number of items.

    An epoch draws as many rows as there are labelled items, in ``ceil(n / batch_size)`` batches of nearly equal size.
    The counts of the classes differ by at most one over an epoch and by at most two over a batch. The items of a class
    are drawn in shuffled cycles, which continue over epochs: every item of a class is drawn once before any is drawn
    again. So an epoch may leave out items of a large class, and repeats items of a small class. Items with no label
    (below 0) are left out. An item with several labels is drawn for each of them.

    Args:
        labels: (N,) integers, or (N, L) padded with −1. Below 0: no label.
        batch_size: the largest batch, at least 2.
        seed: step s depends on (labels, batch_size, seed, s) alone.
        smallest: see :class:`EpochSampler`.

    Raises:
        LikewiseError: labels are not (N,) or (N, L) integers, or there are fewer than two classes.

    Cost: a sort of at most N + 2·M numbers per epoch, about 0.5 s for a million items; 8 times 8·(N + 2·M) bytes.
    """

    def __init__(self, labels: Ids, batch_size: int, seed: int, *, smallest: int = 2) -> None:
        self.batch_size, self.seed, self.smallest = batch_size, seed, smallest
        self._groups = _group(labels)
        self.n = len(torch.unique(self._groups.items))
        self.steps_per_epoch = max(1, min(-(-self.n // batch_size), self.n // smallest))
        # Draw g, counted over all epochs, is for class order[g mod C]. So the counts of the classes in consecutive
        # draws differ by at most one.
        self._order = torch.randperm(len(self._groups.sizes), generator=_generator(seed, "class order", 0))
        self._epoch, self._batches = -1, ()  # type: tuple[int, tuple[Tensor, ...]]

    def __repr__(self) -> str:
        return (
            f"BalancedSampler(labels={self._groups}, batch_size={self.batch_size}, seed={self.seed}, "
            f"smallest={self.smallest})"
        )

    def rows(self, step: int) -> Tensor:
        """(B,) int64 rows of step ``step``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, torch.tensor_split(self._draw(epoch), self.steps_per_epoch)
        return self._batches[place]

    def _draw(self, epoch: int) -> Tensor:
        """(n,) rows of an epoch, in order."""
        groups, start, stop = self._groups, epoch * self.n, (epoch + 1) * self.n
        count, classes = groups.sizes, len(groups.sizes)
        place = self._order.argsort()  # (C,)
        before, after = ((edge - place + classes - 1) // classes for edge in (start, stop))  # (C,) draws of each class
        first = before // count  # first and last: the first and last cycle of each class in this epoch
        last = torch.where(after > before, (after - 1) // count, first)
        cycles = last - first + 1
        of, cycle = _runs(cycles)  # (R,) cycles of classes
        sizes = count[of]
        items = self._cycles(of, first[of] + cycle, sizes)
        draws = torch.arange(start, stop)
        rounds = (draws - start) // classes  # each round has every class once; rounds stay in order
        shuffled = torch.randperm(self.n, generator=_generator(self.seed, "balanced", epoch))
        draws = draws[shuffled[rounds[shuffled].argsort(stable=True)]]
        which, turn = self._order[draws % classes], draws // classes
        begins = (sizes.cumsum(0) - sizes)[(cycles.cumsum(0) - cycles)[which] + turn // count[which] - first[which]]
        return items[begins + turn % count[which]]

    def _cycles(self, of: Tensor, cycle: Tensor, sizes: Tensor) -> Tensor:
        """(sizes.sum(),) the items of class ``of[r]`` in the order of cycle ``cycle[r]``, for one r after the other."""
        run, within = _runs(sizes)
        key = _scrambled(np.uint64(stable_seed(self.seed, "cycles", 0)), of.numpy(), cycle.numpy())[run.numpy()]
        bits = 63 - len(of).bit_length()  # the random bits that fit beside the run's number; ties keep their order
        random = (_scrambled(key, within.numpy()) >> np.uint64(64 - bits)).astype(np.int64)
        order = torch.from_numpy((run.numpy() << bits) | random).argsort(stable=True)
        return self._groups.items[self._groups.first[of][run] + within[order]]


class Tuples(NamedTuple):
    """The pairs or triplets of a step."""

    rows: Tensor  # (B,) int64 rows of the items of these tuples, each item once
    local: Tensor  # (m, 2) or (m, 3) int64, the tuples as positions in ``rows``
    which: Tensor  # (m,) int64, the numbers of these tuples among all tuples


class PairSampler:
    """Given pairs or triplets, each once per epoch, in a fresh order, in batches whose sizes differ by at most one.

    ``rows, local, which = sampler.tuples(step)``, then ``z = encode(rows)`` and ``objective(*from_triplets(z, local))``
    or ``objective(*from_pairs(z, local, alike[which]))``.

    Args:
        tuples: (M, 2) or (M, 3) int64 rows of the items, as ``read_pairs`` and ``read_triplets`` return them. No tuple
            may come twice, and no item twice in one tuple.
        batch_size: the largest number of tuples of a step. Pairs have up to twice as many items, triplets three times.
        seed: step s depends on (tuples, batch_size, seed, s) alone.

    Raises:
        LikewiseError: tuples of another shape or dtype, no tuples, rows below 0, or ``batch_size`` below 1.

    Cost: one permutation of M per epoch, a sort of the batch per step.
    """

    def __init__(self, tuples: Ids, batch_size: int, seed: int) -> None:
        tuples = as_ids("tuples", tuples).long().cpu()
        if tuples.ndim != 2 or tuples.shape[1] not in (2, 3) or not len(tuples):
            raise LikewiseError(f"tuples {tuple(tuples.shape)} must be (M, 2) or (M, 3) integers, not empty.")
        if int(tuples.min()) < 0:
            raise LikewiseError(f"rows of items must be 0 or more, but the smallest is {int(tuples.min())}.")
        if batch_size < 1:
            what, width = ("pair", 2) if tuples.shape[1] == 2 else ("triplet", 3)
            raise LikewiseError(f"a batch needs room for at least one {what} ({width} items); raise batch_size.")
        self.seed, self._tuples = seed, tuples
        self._sampler = EpochSampler(len(tuples), batch_size, seed, smallest=1)
        self.steps_per_epoch = self._sampler.steps_per_epoch

    def __repr__(self) -> str:
        count, width = self._tuples.shape
        return f"PairSampler(tuples={count} × {width}, batch_size={self._sampler.batch_size}, seed={self.seed})"

    def tuples(self, step: int) -> Tuples:
        """The tuples of step ``step`` and their items.

        The items are in random order, so that a BatchNorm group does not hold the items of one tuple together.
        """
        which = self._sampler.rows(step)
        rows, local = torch.unique(self._tuples[which], return_inverse=True)
        order = torch.randperm(len(rows), generator=_generator(self.seed, "tuples", step))
        return Tuples(rows[order], order.argsort()[local], which)

    def rows(self, step: int) -> Tensor:
        """(B,) int64 rows of the items of step ``step``."""
        return self.tuples(step).rows

    def first_below(self, count: int, steps: int) -> tuple[int, int] | None:
        """The first of ``steps`` steps with fewer than ``count`` items, and its number of items; None if there is none.

        Cost: PEELS passes over the tuples at most, where few items are in many tuples together. Otherwise also one
        permutation of M and a sort of M·count / T numbers per epoch, with T tuples in a step: 0.1 s for a million
        pairs, where the training of an epoch takes minutes.
        """
        per_epoch = self.steps_per_epoch
        least = len(self._tuples) // per_epoch  # tuples of the smallest steps
        if not self._may_meet(least, count - 1):
            return None
        places = torch.arange(per_epoch)
        begins = places * least + places.clamp(max=len(self._tuples) % per_epoch)
        looked_at = begins[:, None] + torch.arange(min(least, count))
        for epoch in range(-(-steps // per_epoch)):
            items = self._tuples[self._sampler.order(epoch)[looked_at]].flatten(1).sort(1).values
            seen = 1 + (items[:, 1:] != items[:, :-1]).sum(1)  # (per_epoch,) items of the first tuples of each step
            for step in (epoch * per_epoch + (seen < count).nonzero().flatten()).tolist():
                needed = len(torch.unique(self._tuples[self._sampler.rows(step)]))
                if needed < count:
                    return (step, needed) if step < steps else None
        return None

    def _may_meet(self, least: int, items: int) -> bool:
        """Whether ``least`` tuples may have only ``items`` items: False if they can't, True if that is not known.

        Leave out an item in fewer than least/items tuples, with its tuples, again and again. Of ``least`` tuples
        with ``items`` items that never leaves out all. So where it leaves out all tuples, there are no such ones.
        """
        if perm(items, self._tuples.shape[1]) < least:
            return False
        rest = self._tuples
        for _ in range(PEELS):
            keep = (torch.bincount(rest.flatten())[rest] * items >= least).all(1)
            if bool(keep.all()):
                break
            rest = rest[keep]
        return len(rest) > 0


class Lists(NamedTuple):
    """The lists of a step: queries, each with its items."""

    rows: Tensor  # (B,) int64 rows of the queries and items of these lists, each once
    places: Tensor  # (m, 2) int64, query and item as positions in ``rows``, one list after the other
    offsets: Tensor  # (L + 1,) int64, the places of list l are offsets[l] to offsets[l + 1]
    which: Tensor  # (m,) int64, the numbers of these query-item rows among all


class GradedSampler:
    """Whole lists, a query with all its judged items: each query once per epoch, in fresh company and order.

    ``rows, places, offsets, which = sampler.lists(step)``, then ``z = encode(rows)`` and
    ``objective((z[places[:, 0]] * z[places[:, 1]]).sum(1), relevance[which], offsets=offsets)``.

    The lists of a step have at most ``batch_size`` rows, an item of two lists counted twice. Every epoch has the same
    number of steps, about as few as possible, with about equally many rows. Lists of one length change places from
    epoch to epoch, and the steps change their order. A list with more rows than ``batch_size`` is cut: in each epoch
    other of its items are in it, at random.

    Args:
        rows: (M, 2) int64 rows of query and item, as ``read_graded`` returns them. No row may come twice.
        batch_size: the largest number of rows of a step, at least 2.
        seed: step s depends on (rows, batch_size, seed, s) alone.

    Attributes:
        cut: the number of lists that are longer than ``batch_size``.
        least: a number of items that every step has at least.

    Raises:
        LikewiseError: rows of another shape or dtype, no rows, numbers below 0, or ``batch_size`` below 2.

    Cost: a sort of M and a few seconds for a million lists at first; one permutation of the lists per epoch, a sort of
    the step's rows per step.
    """

    def __init__(self, rows: Ids, batch_size: int, seed: int) -> None:
        rows = as_ids("rows", rows).long().cpu()
        if rows.ndim != 2 or rows.shape[1] != 2 or not len(rows):
            raise LikewiseError(f"rows {tuple(rows.shape)} must be (M, 2) integers, query and item, not empty.")
        if int(rows.min()) < 0:
            raise LikewiseError(f"rows of items must be 0 or more, but the smallest is {int(rows.min())}.")
        if batch_size < 2:
            raise LikewiseError("a batch needs room for a query and an item (2 rows); raise batch_size.")
        self.batch_size, self.seed, self._rows = batch_size, seed, rows
        self._order = rows[:, 0].argsort(stable=True)  # by query
        lengths = torch.unique_consecutive(rows[self._order, 0], return_counts=True)[1]
        self._first, self._whole, self._lengths = (
            lengths.cumsum(0) - lengths,
            lengths,
            lengths.clamp(max=batch_size - 1),
        )
        self.cut = int((lengths >= batch_size).sum())
        self._largest_first = self._lengths.argsort(descending=True, stable=True)
        self._slots = _divided((self._lengths[self._largest_first] + 1).tolist(), batch_size)
        self.steps_per_epoch = int(self._slots.max()) + 1
        many = torch.bincount(self._slots)  # a step has its queries; and of its longest list the query and the items
        longest = torch.zeros_like(many).scatter_reduce_(
            0, self._slots, self._lengths[self._largest_first] + 1, "amax", include_self=False
        )
        self.least = int(torch.maximum(many, longest).min())
        self._epoch, self._batches = -1, ()  # type: tuple[int, tuple[Tensor, ...]]

    def __repr__(self) -> str:
        return (
            f"GradedSampler(rows={len(self._rows)} of {len(self._lengths)} queries, batch_size={self.batch_size}, "
            f"seed={self.seed})"
        )

    def lists(self, step: int) -> Lists:
        """The lists of step ``step``. Their items are in random order, as those of :class:`PairSampler`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(_generator(self.seed, "lists", epoch))
        chosen = self._batches[place]
        generator = _generator(self.seed, "list", step)
        run, within = _runs(self._whole[chosen])
        mixed = torch.rand(len(run), generator=generator).argsort()
        mixed = mixed[run[mixed].argsort(stable=True)]  # the items of each list in random order
        kept = mixed[within < self._lengths[chosen][run]]
        which = self._order[self._first[chosen][run[kept]] + within[kept]]
        rows, places = torch.unique(self._rows[which], return_inverse=True)
        order = torch.randperm(len(rows), generator=generator)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), self._lengths[chosen].cumsum(0)])
        return Lists(rows[order], order.argsort()[places], offsets, which)

    def rows(self, step: int) -> Tensor:
        """(B,) int64 rows of the items of step ``step``."""
        return self.lists(step).rows

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The numbers of the lists of each step of an epoch."""
        drawn = torch.randperm(len(self._lengths), generator=generator)
        lists = drawn[self._lengths[drawn].argsort(descending=True, stable=True)]  # equal lengths in random order
        steps = torch.randperm(self.steps_per_epoch, generator=generator)[self._slots]
        order = steps.argsort(stable=True)
        return torch.split(lists[order], torch.bincount(steps).tolist())


def _divided(sizes: list[int], most: int) -> Tensor:
    """(L,) a step for each of these falling sizes, so that no step's sum is above ``most`` and all are about equal.

    Each goes to the step with the smallest sum so far (Graham 1969), with a few more steps until all fit.
    """
    count = max(-(-sum(sizes) // most), sum(2 * size > most for size in sizes))
    while True:
        sums = [(0, step) for step in range(count)]
        steps = []
        for size in sizes:
            total, step = sums[0]
            heapq.heapreplace(sums, (total + size, step))
            steps.append(step)
        if max(sums)[0] <= most:
            return torch.tensor(steps)
        count += 1 + count // 50


class _Groups(NamedTuple):
    """The items of each class; classes are numbered in the order of their labels, without gaps."""

    items: Tensor  # (M,) rows, class by class
    of: Tensor  # (M,) the class of each item
    first: Tensor  # (C,) where each class begins in ``items``
    sizes: Tensor  # (C,) number of items of each class, at least 1

    def __repr__(self) -> str:
        return f"{len(self.items)} of {len(self.sizes)} classes"

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """``items`` in a fresh order within each class."""
        order = torch.randperm(len(self.items), generator=generator)
        return self.items[order[self.of[order].argsort(stable=True)]]


def _group(labels: Ids) -> _Groups:
    """The items of each class. Raises LikewiseError on labels of another shape, and on fewer than two classes."""
    given = as_ids("labels", labels).cpu()
    if given.ndim not in (1, 2):
        raise LikewiseError(f"labels {tuple(given.shape)} must be (N,), or (N, L) for several.")
    given = given.long().reshape(len(given), -1)
    item, column = (given >= 0).nonzero().unbind(1)
    names, of = torch.unique(given[item, column], return_inverse=True)
    if len(names) < 2:
        has = "no label" if not len(names) else "only one label"
        raise LikewiseError(f"the {len(given):,} items have {has}; sampling by class needs two labels or more.")
    key = torch.unique(of * len(given) + item)  # sorted by class, then item; a label given twice counts once
    of = key // len(given)
    sizes = torch.bincount(of)
    return _Groups(key % len(given), of, sizes.cumsum(0) - sizes, sizes)


def _in_proportion(chunks: Tensor, classes: int, batches: int) -> Tensor:
    """(C,) ``min(batches, floor(a·chunks))``, with the a ≥ 1 for which the sum, without the floor, is classes·batches.

    The floor removes at most one for each class, and only for classes that are not in every batch, so the caller can
    add it again. The computation uses integers only.
    """
    largest = chunks.sort(descending=True).values
    rest = largest.flip(0).cumsum(0).flip(0)  # (C,) chunks of a class and all smaller ones
    free = classes - torch.arange(len(chunks))  # places of a batch when all larger classes are in every batch
    j = int((free * largest <= rest).nonzero()[0])
    return (chunks * int(free[j]) * batches // rest[j]).clamp(max=batches)


def _mixed(grid: Tensor, generator: torch.Generator) -> Tensor:
    """Exchanges classes between batches (B, P) at random. Every class stays in the same number of batches.

    In each round, batches form random pairs. The classes of a pair are divided at random between its two batches; a
    class that is in both stays in both (the curveball algorithm of Strona et al. 2014, for all pairs at once). Without
    this, a class would be in batches with the same few classes in the whole epoch.
    """
    batches, classes = grid.shape
    half = batches // 2
    grid = grid.clone()
    for _ in range(ROUNDS if half else 0):
        pairs = torch.randperm(batches, generator=generator)[: 2 * half]
        both = grid[pairs].view(half, 2 * classes).sort(1).values
        twice = both[:, 1:] == both[:, :-1]
        key = torch.rand(both.shape, generator=generator)
        key[:, :-1][twice] = -1.0  # one copy to the left batch
        key[:, 1:][twice] = 2.0  # the other copy to the right batch
        grid[pairs] = both.gather(1, key.argsort(dim=1, stable=True)).view(2 * half, classes)
    return grid


def _runs(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For consecutive runs of these lengths: the number of the run at each place, and the place within that run."""
    run = torch.arange(len(lengths)).repeat_interleave(lengths)
    return run, torch.arange(len(run)) - (lengths.cumsum(0) - lengths)[run]


def _scrambled(key: np.uint64 | npt.NDArray[np.uint64], *parts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A hash of ``key`` and the parts, elementwise: steps of SplitMix64 (Steele et al. 2014), wrapping in 64 bits."""
    mixed: Any = key
    for part in parts:
        mixed = mixed + (part.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    hashes: npt.NDArray[np.uint64] = mixed
    return hashes


def _generator(seed: int, use: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(stable_seed(seed, use, number))
