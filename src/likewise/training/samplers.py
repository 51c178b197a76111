"""Which rows a step sees: a pure function of (data, sizes, seed, step), so resuming needs the step alone.

Nothing here knows of processes: each of them asks for the same step, gets the same rows, and takes its share of them.

Dimension legend: N items, M memberships (an item in a class), C classes, P classes of a batch, K items of each, B
batches of an epoch (of a batch's rows in ``EpochSampler``), L labels of an item at most.
"""

import math
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.errors import LikewiseError

ROUNDS = 8  # of mixing: each halves what an epoch's layout still tells about which classes meet


def stable_seed(seed: int, use: str, number: int) -> int:
    """A seed for one use in one epoch or step. 32 bits, since torch's CPU generator looks at no more of them."""
    return int.from_bytes(blake2b(f"{seed}/{use}/{number}".encode(), digest_size=4).digest(), "big")


class EpochSampler:
    """Every row once per epoch, in a fresh order, in ``ceil(n / batch_size)`` batches of nearly one size.

    Sizes differ by one at most, instead of a short last batch: no row is dropped, none is alone with BatchNorm.

    Args:
        n: number of rows, at least 1.
        batch_size: the largest batch, at least 2 (with 2 and an odd ``n`` one batch has 3, so that none has 1).
        seed: the orders' seed; epoch e's order depends on (seed, e) alone.
        smallest: no batch has fewer rows, unless there are fewer: two for every BatchNorm group, say.
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
            order = torch.randperm(self.n, generator=_generator(self.seed, "order", epoch))
            self._epoch, self._batches = epoch, torch.tensor_split(order, self.steps_per_epoch)
        return self._batches[place]


class ClassSampler:
    """Batches of exactly P classes × K items, so that every anchor has positives and negatives.

    In an epoch the items of a class are shuffled and cut into chunks of K.

    - A last chunk that is short is filled with other items of the class, drawn at random, none twice in a chunk.
    - A class with fewer than K items repeats them as evenly as can be: its items are in the batch as several views.
    - No class is in a batch twice. There are as many batches as hold all chunks, P each, or as the largest class has
      chunks, whichever is more.
    - Batches that lack classes get further chunks of other classes, freshly shuffled, in proportion to the classes'
      sizes, so that items are seen equally often as far as can be.

    So every labelled item is seen at least once an epoch, and every epoch has the same number of batches, known before.
    Which classes meet, and the order of the batches, is random. Items with no label (below 0) are left out. With
    several labels an item is seen at least once under each of them; a batch may then hold it under two of its labels,
    and items of different columns may share a label.

    Args:
        labels: (N,) integers, or (N, L) padded with −1. Below 0: no label.
        classes: P, at most the number of classes.
        per_class: K.
        seed: epoch e depends on (labels, P, K, seed, e) alone.

    Raises:
        LikewiseError: labels that are no (N,) or (N, L) integers, fewer than two classes or than P, or sizes below 1.

    Cost: sorts of M and of B·P numbers per epoch, about 0.5 s for a million items; 8·(3·M + 2·B·P·K) bytes.
    A class that has more than a P-th of all chunks makes the epoch longer: B·P·K rows instead of about M.
    """

    def __init__(self, labels: Ids, classes: int, per_class: int, seed: int) -> None:
        if classes < 1 or per_class < 1:
            raise LikewiseError(f"classes={classes} and per_class={per_class} must be at least 1.")
        self.classes, self.per_class, self.seed = classes, per_class, seed
        self._groups = _group(labels)
        sizes = self._groups.sizes
        if len(sizes) < classes:
            raise LikewiseError(
                f"classes={classes} a batch, but the items have only {len(sizes)} labels; lower it to {len(sizes)}."
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

        Item by item and not class by class, so that any run of P rows, such as a BatchNorm group or a process' share,
        holds every class: statistics of a part of the batch do not tell which rows are alike.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(_generator(self.seed, "classes", epoch))
        return self._batches[place]

    def _draw(self, generator: torch.Generator) -> Tensor:
        """(B, K·P) rows of an epoch."""
        groups, batches, k = self._groups, self.steps_per_epoch, self.per_class
        turns = self._turns.clone()  # (C,) in how many batches each class is
        room = (turns < batches).nonzero().squeeze(1)
        left = batches * self.classes - int(turns.sum())
        turns[room[torch.randperm(len(room), generator=generator)[:left]]] += 1
        order = torch.randperm(len(turns), generator=generator)
        # McNaughton's wrap-around: chunk i to batch i mod B, class by class; no class has more than B chunks.
        grid = order.repeat_interleave(turns[order]).view(self.classes, batches).T  # (B, P)
        of = _mixed(grid, generator).flatten()  # (B·P,) the class of each place
        number = torch.empty_like(of)
        number[of.argsort(stable=True)] = _runs(turns)[1]  # which of its class' chunks
        further = number >= self._chunks[of]  # a chunk beyond those that cover the class: from a shuffle of its own
        number = torch.where(further, number - self._chunks[of], number)
        pool = [groups.shuffled(generator)]
        if bool(further.any()):
            pool.append(groups.shuffled(generator))
        first = groups.first[of] + further * len(groups.items)
        turn = (number[:, None] * k + torch.arange(k)) % groups.sizes[of][:, None]  # (B·P, K) places in the class
        rows = torch.cat(pool)[first[:, None] + turn].view(batches, self.classes, k)
        return rows[torch.randperm(batches, generator=generator)].transpose(1, 2).reshape(batches, -1)


class BalancedSampler:
    """Batches in which every class is drawn equally often, however many items it has.

    An epoch draws as many rows as there are labelled items, in ``ceil(n / batch_size)`` batches of nearly one size.
    Over an epoch the classes' counts differ by one at most, over a batch by two. The items of a class come in shuffled
    cycles that go on over epochs: each gets its turn before any has another. So an epoch need not see all items of a
    large class, and sees those of a small one several times. Items with no label (below 0) are left out; one with
    several labels is drawn for each of them.

    Args:
        labels: (N,) integers, or (N, L) padded with −1. Below 0: no label.
        batch_size: the largest batch, at least 2.
        seed: step s depends on (labels, batch_size, seed, s) alone.
        smallest: as of :class:`EpochSampler`.

    Raises:
        LikewiseError: labels that are no (N,) or (N, L) integers, or fewer than two classes.

    Cost: a sort of at most N + 2·M numbers per epoch, about 0.5 s for a million items; 8 times 8·(N + 2·M) bytes.
    """

    def __init__(self, labels: Ids, batch_size: int, seed: int, *, smallest: int = 2) -> None:
        self.batch_size, self.seed, self.smallest = batch_size, seed, smallest
        self._groups = _group(labels)
        self.n = len(torch.unique(self._groups.items))
        self.steps_per_epoch = max(1, min(-(-self.n // batch_size), self.n // smallest))
        # Draw g of all epochs is for class order[g mod C]: any run of draws has equally many for each, within one.
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
        first = before // count  # the first and last cycle of each class in this epoch
        last = torch.where(after > before, (after - 1) // count, first)
        cycles = last - first + 1
        of, cycle = _runs(cycles)  # (R,) cycles of classes
        sizes = count[of]
        items = self._cycles(of, first[of] + cycle, sizes)
        draws = torch.arange(start, stop)
        rounds = (draws - start) // classes  # every class once in each: what keeps a batch balanced
        shuffled = torch.randperm(self.n, generator=_generator(self.seed, "balanced", epoch))
        draws = draws[shuffled[rounds[shuffled].argsort(stable=True)]]
        which, turn = self._order[draws % classes], draws // classes
        begins = (sizes.cumsum(0) - sizes)[(cycles.cumsum(0) - cycles)[which] + turn // count[which] - first[which]]
        return items[begins + turn % count[which]]

    def _cycles(self, of: Tensor, cycle: Tensor, sizes: Tensor) -> Tensor:
        """The items of class ``of[r]`` in the order of its cycle ``cycle[r]``, for all r in turn: (sizes.sum(),)."""
        run, within = _runs(sizes)
        key = _scrambled(np.uint64(stable_seed(self.seed, "cycles", 0)), of.numpy(), cycle.numpy())[run.numpy()]
        bits = 63 - len(of).bit_length()  # as many random bits as fit beside the run's number; ties stay in order
        random = (_scrambled(key, within.numpy()) >> np.uint64(64 - bits)).astype(np.int64)
        order = torch.from_numpy((run.numpy() << bits) | random).argsort(stable=True)
        return self._groups.items[self._groups.first[of][run] + within[order]]


class Tuples(NamedTuple):
    """A step's pairs or triplets."""

    rows: Tensor  # (B,) int64, the items needed, each once
    local: Tensor  # (m, 2) or (m, 3) int64, the tuples as places in ``rows``
    which: Tensor  # (m,) int64, which of all tuples they are


class PairSampler:
    """Explicit pairs or triplets: every one once per epoch, in a fresh order, in batches that differ by one at most.

    ``rows, local, which = sampler.tuples(step)``, then ``z = encode(rows)`` and ``objective(*from_triplets(z, local))``
    or ``objective(*from_pairs(z, local, alike[which]))``.

    Args:
        tuples: (M, 2) or (M, 3) int64 rows of the items, as ``read_pairs`` and ``read_triplets`` give: each once, its
            items different.
        batch_size: the most tuples of a step; their items are at most two or three times as many.
        seed: step s depends on (tuples, batch_size, seed, s) alone.

    Raises:
        LikewiseError: tuples of another shape or dtype, none at all, rows below 0, or ``batch_size`` below 1.

    Cost: one permutation of M per epoch, a sort of the batch per step.
    """

    def __init__(self, tuples: Ids, batch_size: int, seed: int) -> None:
        tuples = as_ids("tuples", tuples).long().cpu()
        if tuples.ndim != 2 or tuples.shape[1] not in (2, 3) or not len(tuples):
            raise LikewiseError(f"tuples {tuple(tuples.shape)} must be (M, 2) or (M, 3) integers, not empty.")
        if int(tuples.min()) < 0:
            raise LikewiseError(f"rows of items must be 0 or more, and one is {int(tuples.min())}.")
        if batch_size < 1:
            what, width = ("pair", 2) if tuples.shape[1] == 2 else ("triplet", 3)
            raise LikewiseError(f"a batch needs room for a {what} at least, {width} items; raise batch_size.")
        self.seed, self._tuples = seed, tuples
        self._sampler = EpochSampler(len(tuples), batch_size, seed, smallest=1)
        self.steps_per_epoch = self._sampler.steps_per_epoch

    def __repr__(self) -> str:
        count, width = self._tuples.shape
        return f"PairSampler(tuples={count} × {width}, batch_size={self._sampler.batch_size}, seed={self.seed})"

    def tuples(self, step: int) -> Tuples:
        """The tuples of step ``step`` and the items they need.

        The items are in random order: neighbours, as in a BatchNorm group, are not the items of one tuple.
        """
        which = self._sampler.rows(step)
        rows, local = torch.unique(self._tuples[which], return_inverse=True)
        order = torch.randperm(len(rows), generator=_generator(self.seed, "tuples", step))
        return Tuples(rows[order], order.argsort()[local], which)

    def rows(self, step: int) -> Tensor:
        """(B,) int64 rows of the items that step ``step`` needs."""
        return self.tuples(step).rows

    def first_below(self, count: int, steps: int) -> tuple[int, int] | None:
        """The first of ``steps`` steps that needs fewer than ``count`` items, and how many it needs; None where none.

        Tuples that are many beside those that ``count`` items can have among them are not looked at: there a step that
        needs so few comes with a chance below 1e-9.
        Cost: a count of all tuples; and where that does not settle it, a sort of their items for each epoch, 0.3 s for
        a million pairs.
        """
        if self._hardly_below(count, steps):
            return None
        items = int(self._tuples.max()) + 1
        for first in range(0, steps, self.steps_per_epoch):
            batches = [self._sampler.rows(step) for step in range(first, min(steps, first + self.steps_per_epoch))]
            place = torch.arange(len(batches)).repeat_interleave(torch.tensor([len(batch) for batch in batches]))
            met = torch.unique(place[:, None] * items + self._tuples[torch.cat(batches)])
            needed = torch.bincount(met // items, minlength=len(batches))
            below = (needed < count).nonzero()
            if len(below):
                return first + int(below[0]), int(needed[below[0]])
        return None

    def _hardly_below(self, count: int, steps: int) -> bool:
        """Whether no step that needs fewer than ``count`` items is to be expected, by a bound on its chance.

        Among k items, each is in as many pairs as it is in at all, and as the k − 1 others allow; in as many triplets,
        as their anchor, as there are two of these. All T tuples of a step are among the E of one of C(n, k) choices
        with a chance of C(n, k) · (E / M)^T at most.
        """
        k, m, pairs = count - 1, len(self._tuples), self._tuples.shape[1] == 2
        t, n = m // self.steps_per_epoch, int((torch.bincount(self._tuples.flatten()) > 0).sum())
        if n < count:
            return False
        each = k - 1 if pairs else (k - 1) * (k - 2)
        anchors = self._tuples.flatten() if pairs else self._tuples[:, 0]
        most = torch.bincount(anchors).clamp(max=max(0, each)).sort(descending=True).values[:k]
        among = int(most.sum()) // (2 if pairs else 1)
        if t > among:
            return True
        choices = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return math.log(steps) + choices + t * math.log(min(1.0, among / m)) < math.log(1e-9)


class _Groups(NamedTuple):
    """The items of each class; classes are numbered in the order of their labels, without gaps."""

    items: Tensor  # (M,) rows, class by class
    of: Tensor  # (M,) the class of each
    first: Tensor  # (C,) where a class begins in ``items``
    sizes: Tensor  # (C,) how many it has, at least 1

    def __repr__(self) -> str:
        return f"{len(self.items)} of {len(self.sizes)} classes"

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """``items`` in a fresh order within each class."""
        order = torch.randperm(len(self.items), generator=generator)
        return self.items[order[self.of[order].argsort(stable=True)]]


def _group(labels: Ids) -> _Groups:
    given = as_ids("labels", labels).cpu()
    if given.ndim not in (1, 2):
        raise LikewiseError(f"labels {tuple(given.shape)} must be (N,), or (N, L) for several.")
    given = given.long().reshape(len(given), -1)
    item, column = (given >= 0).nonzero().unbind(1)
    names, of = torch.unique(given[item, column], return_inverse=True)
    if len(names) < 2:
        has = "no label" if not len(names) else "one label only"
        raise LikewiseError(f"the {len(given):,} items have {has}; sampling by class needs two labels or more.")
    key = torch.unique(of * len(given) + item)  # sorted by class, then item; a label given twice counts once
    of = key // len(given)
    sizes = torch.bincount(of)
    return _Groups(key % len(given), of, sizes.cumsum(0) - sizes, sizes)


def _in_proportion(chunks: Tensor, classes: int, batches: int) -> Tensor:
    """(C,) ``min(batches, floor(a·chunks))`` with the a ≥ 1 for which, but for the floor, it sums to classes·batches.

    What the floor lost, one each, fits in the classes that are not in every batch. Integers throughout.
    """
    largest = chunks.sort(descending=True).values
    rest = largest.flip(0).cumsum(0).flip(0)  # (C,) chunks of a class and all smaller ones
    free = classes - torch.arange(len(chunks))  # places of a batch when all larger classes are in every batch
    j = int((free * largest <= rest).nonzero()[0])
    return (chunks * int(free[j]) * batches // rest[j]).clamp(max=batches)


def _mixed(grid: Tensor, generator: torch.Generator) -> Tensor:
    """Batches (B, P) of distinct classes at random, by rounds of trades: every class stays in as many batches.

    In a round random pairs of batches put their classes together and deal them anew, one each of those that both have
    (the curveball algorithm of Strona et al. 2014, all pairs at once). Without it a class would meet the same few
    others all epoch.
    """
    batches, classes = grid.shape
    half = batches // 2
    grid = grid.clone()
    for _ in range(ROUNDS if half else 0):
        pairs = torch.randperm(batches, generator=generator)[: 2 * half]
        both = grid[pairs].view(half, 2 * classes).sort(1).values
        twice = both[:, 1:] == both[:, :-1]
        key = torch.rand(both.shape, generator=generator)
        key[:, :-1][twice] = -1.0  # one to the left
        key[:, 1:][twice] = 2.0  # and one to the right
        grid[pairs] = both.gather(1, key.argsort(dim=1, stable=True)).view(2 * half, classes)
    return grid


def _runs(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For runs of these lengths end to end: the run of each place, and its place within the run."""
    run = torch.arange(len(lengths)).repeat_interleave(lengths)
    return run, torch.arange(len(run)) - (lengths.cumsum(0) - lengths)[run]


def _scrambled(key: np.uint64 | npt.NDArray[np.uint64], *parts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A hash of ``key`` and the parts, elementwise: steps of SplitMix64 (Steele et al. 2014), wrapping in 64 bits."""
    found: Any = key
    for part in parts:
        found = found + (part.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found = found ^ (found >> np.uint64(31))
    mixed: npt.NDArray[np.uint64] = found
    return mixed


def _generator(seed: int, use: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(stable_seed(seed, use, number))
