"""Keys that are searched tile by tile: by exact scores, or first by quicker ones whose error has a bound.

A quick product, in float32 or in bfloat16, says which keys are about the best. Somewhat more than k of them get exact
scores. Where the last of them, at its best, is worse than the k-th exact score, no other key can be among the k.
"""

from collections.abc import Callable
from typing import NamedTuple, final

import torch
from torch import Tensor

from likewise.console import Tick
from likewise.metrics.checks import check_peaks
from likewise.metrics.exact_scores import GROUP, Tiles, leading, merge, pack, rounding, snap, unpack
from likewise.metrics.rounded_keys import STEP, RoundedKeys

QUERY_TILE = 512  # rows; with 8,192 keys a float64 block is 32 MiB
_KEY_TILE_BYTES = 64 * 2**20  # of float64 keys; wide rows get fewer keys per tile
_SCORES = 2**22  # quick ones of a tile, at least, where nothing is measured, so that one query reads all keys at once
_RESCORED = 2**22  # numbers of keys that get exact scores at once
_SCALE = 1e-25, 1e30  # of a query's length times the longest key's; beyond, float32 may overflow or vanish
_EACH = 1e-10, 1e10  # of a query's length, and of the longest key's; the same in bfloat16
_WIDER = 3  # times as many keys are kept by bfloat16 as by float32
_MANY_A_KEPT = 512  # keys for each that float32 would keep, below which exact scores of more cost what bfloat16 saves

Found = tuple[Tensor, Tensor]  # (Q, k) packed keys, and (Q,) whether others can be among the k nearest


class Asked(NamedTuple):
    """(Q, D) queries and (Q,) ids of keys that they don't find."""

    rows: Tensor
    ids: Tensor | None

    def part(self, part: slice | Tensor) -> "Asked":
        """Some of them."""
        return Asked(self.rows[part], None if self.ids is None else self.ids[part])


@final
class SearchedKeys:
    """(K, D) keys, and how long the longest is.

    Args:
        rows: the keys.
        ids: (K,) integers, where queries have ids.
        tile: keys in memory at once; None: as many as are quick.
        longest: the length of the longest key; None: the first search measures it.
    """

    def __init__(self, rows: Tensor, ids: Tensor | None, tile: int | None, longest: float | None) -> None:
        self._rows, self._ids, self._tile = rows, ids, tile
        self._longest, self._measured = longest or 0.0, longest is not None
        self._at_once = 0 if longest is None else _SCORES

    def many_for_float32(self, k: int) -> bool:
        """Whether quick scores rule out most keys."""
        return 4 * _kept(k) <= len(self._rows)

    def many_for_bfloat16(self, k: int) -> bool:
        """Whether the product takes most of the time, rather than exact scores of what is kept."""
        return _MANY_A_KEPT * _kept(k) <= len(self._rows)

    def by_exact_scores(self, asked: Asked, k: int, tick: Tick) -> Tensor:
        """(Q, k) packed keys that are nearest, in descending order; of equal scores the smaller row first."""
        snapped = lambda rows: snap("queries", rows, 0)  # noqa: E731
        return self._best(asked, snapped, lambda block, start: snap("keys", block, start), k, tick, exact=True)

    def by_float32(self, asked: Asked, k: int, tick: Tick) -> Found:
        """By a product in float32."""
        near = self._best(asked, Tensor.float, lambda block, start: block.float(), _kept(k), tick)
        lengths = asked.rows.double().norm(dim=1) * self._longest
        error = lengths * _float32_error(self._rows.shape[1])
        error.masked_fill_(~_within(lengths, _SCALE), torch.inf)
        return _rescored(asked.rows, self._rows, near, k, error, 2.0**-23)

    def by_bfloat16(self, asked: Asked, rounded: RoundedKeys, k: int, tick: Tick) -> Found:
        """By a product in bfloat16, whose error is in the docstring of ``rounded_keys``. More keys are kept.

        Those that float32 would keep get exact scores first, which most often suffice.
        """
        near = self._best(asked, Tensor.bfloat16, rounded.tile, _WIDER * _kept(k), tick)
        rows = asked.rows.double()
        lengths, off = rows.norm(dim=1), (rows - asked.rows.bfloat16()).norm(dim=1)
        error = off * self._longest + lengths * (rounded.off + self._longest * _float32_error(rows.shape[1]))
        error *= 1.01  # rounded rows are up to 2⁻⁸ longer
        error.masked_fill_(~(_within(lengths, _EACH) & _within(torch.tensor(self._longest), _EACH)), torch.inf)
        best, unsure = _rescored(asked.rows, self._rows, near[:, : _kept(k)], k, error, STEP)
        if len(rest := unsure.nonzero().flatten()):
            best[rest], unsure[rest] = _rescored(asked.rows[rest], self._rows, near[rest], k, error[rest], STEP)
        rounded.learn(unsure)
        return best, unsure

    def _best(
        self,
        asked: Asked,
        queries_as: Callable[[Tensor], Tensor],
        keys_as: Callable[[Tensor, int], Tensor],
        k: int,
        tick: Tick,
        *,
        exact: bool = False,
    ) -> Tensor:
        """(Q, k) packed keys that are nearest, in descending order, by products of rows that are made of the rows.

        Without ``exact``, of several keys with the k-th score any are among the k.
        """
        device, count, many = asked.rows.device, len(asked.rows), len(self._rows)
        at_once = min(count, QUERY_TILE)
        by_size = min(8192, _KEY_TILE_BYTES // (8 * self._rows.shape[1]))
        quick = 0 if exact else self._at_once // at_once
        step = min(many, max(GROUP * 64, by_size, quick) if self._tile is None else self._tile)
        tiles = Tiles(at_once, step, device)
        product = tiles.product if exact else tiles.quick_product
        nothing = pack(torch.full((1, 1), -torch.inf, dtype=torch.float32), torch.zeros(1, 1, dtype=torch.int64))
        best = nothing.to(device).repeat(count, k)
        for start in range(0, many, step):
            block = self._rows[start : start + step].to(device)
            size, ids = len(block), None if self._ids is None else self._ids[start : start + step].to(device)
            if not (exact or self._measured):
                self._measure(block, start)
            block = keys_as(block, start)
            for first in range(0, count, QUERY_TILE):
                part = asked.part(slice(first, first + QUERY_TILE))
                scores = product(queries_as(part.rows), block)
                if ids is not None and part.ids is not None:
                    scores[:, :size].masked_fill_(part.ids[:, None] == ids, -torch.inf)
                own = slice(first, first + QUERY_TILE)
                best[own] = merge(best[own], scores, leading(scores), start, ties=exact)
                tick((start + size * min(1.0, (first + QUERY_TILE) / count)) / many)
        self._measured = self._measured or not exact
        return best

    def _measure(self, block: Tensor, start: int) -> None:
        """Remembers the length of the longest key. Raises LikewiseError on NaN or infinity."""
        lengths = block.float().norm(dim=1)
        check_peaks("keys", torch.where(lengths.isinf(), block.abs().amax(1).float(), lengths), start)
        self._longest = max(self._longest, float(lengths.amax()))


def _kept(k: int) -> int:
    """Number of keys, the best by float32, that get exact scores."""
    return k + 16 + k // 4


def _float32_error(dim: int) -> float:
    """How far apart a product in float32 and the exact score can be, at lengths of 1.

    A float32 sum of D products is off by at most D·2⁻²⁴ / (1 − D·2⁻²⁴) times the lengths of both rows, and its
    entries by 2⁻²⁴ each (where they are float64); an exact score has the error of rounding both rows.
    """
    unit = (dim + 4) * 2.0**-24
    return 1.01 * (unit / (1 - unit) + rounding(dim))


def _within(lengths: Tensor, limits: tuple[float, float]) -> Tensor:
    """Whether lengths are such that nothing overflows or vanishes."""
    return (lengths > limits[0]) & (lengths < limits[1])


def _rescored(queries: Tensor, keys: Tensor, near: Tensor, k: int, error: Tensor, share: float) -> Found:
    """The k best by exact score of (Q, C) packed keys, the nearest by quick scores.

    These are off by at most ``error`` (Q,), which is infinite where it is not known, and by a ``share`` of themselves.
    """
    scores, rows = unpack(near)
    best = exact_among(queries, keys, rows).topk(k, dim=1).values
    last = scores[:, -1].double()
    beaten = last + share * last.abs() + error < unpack(best[:, -1:])[0][:, 0]
    return best, ~((error < torch.inf) & (beaten | (rows[:, -1] < 0)))


def exact_among(queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
    """(Q, C) packed exact scores of (Q, C) rows of keys, none twice for a query; a row of −1 is no key."""
    packed = []
    for part in torch.split(torch.arange(len(rows)), max(1, _RESCORED // (rows.shape[1] * keys.shape[1]))):
        asked, own = queries[part], rows[part]
        near = keys[own.clamp_min(0).flatten().to(keys.device)].to(asked.device)
        exact = snap("keys", near, 0).view(*own.shape, -1) @ snap("queries", asked, int(part[0]))[..., None]
        packed.append(pack(exact[..., 0].float().masked_fill_(own < 0, -torch.inf), own.clamp_min(0)))
    return torch.cat(packed)
