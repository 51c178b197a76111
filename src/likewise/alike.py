"""Which pairs are alike: positives and negatives of a query, decided by ids, one tile of rows at a time.

Dimension legend: Q queries, K keys, L labels per row, R rows of a tile, P positives of a row at most.
Nothing of size Q×K exists here: a relation is asked for the masks of a few rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.ids import Flags, Ids, as_flags, as_ids, check_rows

TILE_FLOATS = 1 << 20  # 4 MiB of similarities: who works on a tile holds about ten such at once
LEAST_ROWS = 16


class Masks(NamedTuple):
    """Positives and negatives of R rows among K keys.

    Where every row has one label, its positives are few and come as columns: ``positive`` marks those of ``columns``
    that are. Otherwise ``columns`` is None and ``positive`` marks the keys themselves.
    """

    columns: Tensor | None  # (R, P) int64
    positive: Tensor  # (R, P) bool, or (R, K) without columns
    negative: Tensor  # (R, K) bool


@dataclass(frozen=True)
class Relation:
    """Positives and negatives by ids: a pair is positive if the ids agree. A query is not compared with itself.

    With one label per row, rows and keys are sorted by id, so that the positives of a tile are neighbours.

    Args:
        ids: (Q,) integers, or (Q, L) for several labels per row: alike if any label agrees. Below 0: no label.
        key_ids: (K,) or (K, L), in the same way.
        own: (Q,) the key row that is the query itself (−1: none); this pair is left out. None: no query is a key.
        pulls: (K,) bool, keys that may be positives; None: all. Other keys with the query's id are neither.
        pushes: (K,) bool, keys that may be negatives; None: all.
    """

    ids: Tensor
    key_ids: Tensor
    own: Tensor | None
    pulls: Tensor | None = None
    pushes: Tensor | None = None

    def _named(self) -> tuple[Tensor, Tensor]:
        """Ids and key ids; unlabelled rows get unique negative ids."""
        ids, key_ids = self.ids, self.key_ids
        if ids.ndim == key_ids.ndim == 1:
            alone = -1 if self.own is None else torch.where(self.own < 0, -1, -2 - self.own)
            places = torch.arange(len(key_ids), device=key_ids.device)
            return torch.where(ids < 0, alone, ids), torch.where(key_ids < 0, -2 - places, key_ids)
        return torch.where(ids < 0, -1, ids), torch.where(key_ids < 0, -2, key_ids)

    @cached_property
    def query_order(self) -> Tensor | None:
        """The permutation that sorts the queries by id; None where rows stay as they are."""
        ids, key_ids = self._named()
        return ids.argsort(stable=True) if ids.ndim == key_ids.ndim == 1 else None

    @cached_property
    def key_order(self) -> Tensor | None:
        """The permutation that sorts the keys by id; the queries' own where they are the keys."""
        if self.query_order is None or self.ids is self.key_ids:
            return self.query_order
        return self._named()[1].argsort(stable=True)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Ids, key ids and own columns in sorted order."""
        (ids, key_ids), own = self._named(), self.own
        if self.query_order is None or self.key_order is None:
            return ids, key_ids, own
        if own is not None:
            place = torch.empty_like(self.key_order)
            place[self.key_order] = torch.arange(len(place), device=place.device)
            own = own[self.query_order]
            own = torch.where(own < 0, own, place[own.clamp(min=0)])
        return ids[self.query_order], key_ids[self.key_order], own

    @cached_property
    def _classes(self) -> tuple[Tensor, Tensor]:
        """For each sorted query, the sorted keys that have its id: (Q,) first and (Q,) last + 1."""
        ids, key_ids, _ = self._sorted
        return torch.searchsorted(key_ids, ids), torch.searchsorted(key_ids, ids, right=True)

    @cached_property
    def width(self) -> int:
        """The most keys with one query's id, where rows are sorted. Computed once, since reading it waits for a GPU."""
        first, last = self._classes
        return max(1, int((last - first).max()))

    def masks(self, start: int, stop: int) -> Masks:
        """The masks of sorted queries ``start`` to ``stop`` among the sorted keys."""
        ids, key_ids, own = self._sorted
        own = None if own is None else own[start:stop]
        if self.query_order is None:
            return Masks(None, *self._roles(*_masks(ids[start:stop], key_ids, own)))
        first, last = (x[start:stop, None] for x in self._classes)
        width = self.width if ids.is_cuda else max(1, int((last - first).max()))
        columns = first + torch.arange(width, device=ids.device)  # (R, P)
        same = columns < last
        columns = torch.minimum(columns, (last - 1).clamp(min=0))
        negative = torch.ones(stop - start, len(key_ids), dtype=torch.bool, device=ids.device)  # (R, K)
        negative.scatter_(1, columns, (first == last).expand_as(columns))
        pulls, pushes = self._sorted_roles
        same = same if pulls is None else same & pulls[columns]
        negative = negative if pushes is None else negative.logical_and_(pushes)
        if own is None:
            return Masks(columns, same, negative)
        if self.ids is not self.key_ids:  # the own key may have another id
            place = own.clamp(min=0)[:, None]
            negative.scatter_(1, place, negative.gather(1, place) & (own < 0)[:, None])
        return Masks(columns, same & (columns != own[:, None]), negative)

    def whole(self) -> Masks:
        """The masks of all rows at once, in the given order: (Q, K) both. The naive twin of the tiles."""
        return Masks(None, *self._roles(*_masks(*self._named(), self.own)))

    def _roles(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """(R, K) masks in the given order of keys, without the keys that may not pull or push."""
        positive = positive if self.pulls is None else positive & self.pulls
        return positive, negative if self.pushes is None else negative & self.pushes

    @cached_property
    def _sorted_roles(self) -> tuple[Tensor | None, Tensor | None]:
        """Which keys may pull and push, in sorted order."""
        order = self.key_order
        return tuple(role if role is None or order is None else role[order] for role in (self.pulls, self.pushes))  # type: ignore[return-value]

    def transposed(self) -> "Relation":
        """The relation with queries and keys exchanged. The roles of keys (pulls, pushes) are dropped."""
        if self.own is None or self.key_ids is self.ids:
            return Relation(self.key_ids, self.ids, self.own)
        back = self.own.new_full((len(self.key_ids),), -1)
        present = self.own >= 0
        back[self.own[present]] = present.nonzero().squeeze(1)
        return Relation(self.key_ids, self.ids, back)

    def used(self, some: slice) -> Tensor | None:
        """Which of some keys may pull or push, (·,) bool; None: all."""
        if self.pulls is None or self.pushes is None:
            return None
        return self.pulls[some] | self.pushes[some]

    def select(self, rows: Tensor) -> "Relation":
        """The same relation for some of the queries, repeated at will."""
        own = None if self.own is None else self.own[rows]
        return Relation(self.ids[rows], self.key_ids, own, self.pulls, self.pushes)


@dataclass(frozen=True)
class Listed:
    """Positives and negatives by explicit lists; every other pair is neither. See ``objectives.from_triplets``.

    Args:
        positive: (P, 2) int64, rows of (query, key).
        negative: (M, 2) int64, likewise.
        queries: Q.
        keys: K.
    """

    positive: Tensor
    negative: Tensor
    queries: int
    keys: int
    query_order: None = None
    key_order: None = None

    def masks(self, start: int, stop: int) -> Masks:
        """The masks of queries ``start`` to ``stop``."""
        return Masks(None, *(self._mask(pairs, start, stop) for pairs in self._sorted))

    def whole(self) -> Masks:
        """The masks of all rows at once: (Q, K) both."""
        return self.masks(0, self.queries)

    def transposed(self) -> "Listed":
        """The relation with queries and keys exchanged."""
        return Listed(self.positive.flip(1), self.negative.flip(1), self.keys, self.queries)

    def used(self, some: slice) -> None:
        """None: all keys are in a list."""

    def select(self, rows: Tensor) -> "Listed":
        """The same relation for some of the queries, repeated at will."""
        positive, negative = (_repeat(pairs, rows) for pairs in self._sorted)
        return Listed(positive, negative, len(rows), self.keys)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        """Both lists, by query."""
        return tuple(pairs[pairs[:, 0].argsort(stable=True)] for pairs in (self.positive, self.negative))  # type: ignore[return-value]

    def _mask(self, pairs: Tensor, start: int, stop: int) -> Tensor:
        mask = torch.zeros(stop - start, self.keys, dtype=torch.bool, device=pairs.device)
        first, last = torch.searchsorted(pairs[:, 0].contiguous(), torch.tensor([start, stop], device=pairs.device))
        mine = pairs[first:last]
        mask[mine[:, 0] - start, mine[:, 1]] = True
        return mask


def _repeat(pairs: Tensor, rows: Tensor) -> Tensor:
    """Pairs of the chosen rows, under their new row numbers; ``pairs`` are in order of their rows."""
    rows = rows.contiguous()
    first = torch.searchsorted(pairs[:, 0].contiguous(), rows)
    count = torch.searchsorted(pairs[:, 0].contiguous(), rows, right=True) - first
    new = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
    offset = torch.arange(len(new), device=rows.device) - (count.cumsum(0) - count).repeat_interleave(count)
    return torch.stack([new, pairs[first.repeat_interleave(count) + offset, 1]], 1)


def _masks(ids: Tensor, key_ids: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positives and negatives, (R, C) both; ``own`` (R,) are columns."""
    same = _same(ids, key_ids)
    if own is None:
        return same, ~same
    self_pair = torch.arange(len(key_ids), device=ids.device) == own[:, None]
    return same & ~self_pair, ~(same | self_pair)


def _same(ids: Tensor, key_ids: Tensor) -> Tensor:
    """(R,) or (R, L) against (C,) or (C, L): (R, C) bool, true where any label agrees. L² passes over the tile."""
    if ids.ndim == 1 and key_ids.ndim == 1:
        return ids[:, None] == key_ids
    mask = torch.zeros(len(ids), len(key_ids), dtype=torch.bool, device=ids.device)
    for label in ids.reshape(len(ids), -1).unbind(1):
        for key_label in key_ids.reshape(len(key_ids), -1).unbind(1):
            mask |= label[:, None] == key_label
    return mask


def relate(
    queries: Tensor,
    ids: "Ids | Listed",
    keys: Tensor | None,
    key_ids: Ids | None,
    own: Ids | None,
    pulls: Flags | None = None,
    pushes: Flags | None = None,
) -> "Relation | Listed":
    """The relation behind ``objective(queries, ids, keys, key_ids, own=..., pulls=..., pushes=...)``.

    Without keys the queries are the keys and each is its own. Raises LikewiseError on shapes and dtypes that cannot be.
    """
    count = len(queries) if keys is None else len(keys)
    if queries.ndim != 2 or (keys is not None and (keys.ndim != 2 or keys.shape[1] != queries.shape[1])):
        shapes = f"queries {tuple(queries.shape)}" + ("" if keys is None else f" and keys {tuple(keys.shape)}")
        raise LikewiseError(f"{shapes} must be (Q, D) and (K, D) with the same D.")
    if len(queries) == 0 or count == 0:
        raise LikewiseError(f"{len(queries)} queries and {count} keys: an objective needs at least one of each.")
    if isinstance(ids, Listed):
        if any(x is not None for x in (key_ids, own, pulls, pushes)):
            raise LikewiseError("listed pairs say all about the keys: leave key_ids, own, pulls and pushes out.")
        if (ids.queries, ids.keys) != (len(queries), count):
            raise LikewiseError(
                f"the listed pairs have {ids.queries} queries and {ids.keys} keys, but got {len(queries)} and {count}."
            )
        return ids
    ids = _one_each("ids", ids, queries, "query")
    if keys is None:
        if any(x is not None for x in (key_ids, own, pulls, pushes)):
            raise LikewiseError("key_ids, own, pulls and pushes describe keys: give keys too, or none of them.")
        return Relation(ids, ids, torch.arange(len(queries), device=queries.device))
    key_ids = torch.arange(count, device=keys.device) if key_ids is None else _one_each("key_ids", key_ids, keys, "key")
    own = None if own is None else _one_each("own", own, queries, "query")
    if own is not None:
        if own.ndim != 1:
            raise LikewiseError(f"own {tuple(own.shape)} must be ({len(queries)},), one key row per query.")
        check_rows("own", own, count, "keys", none=True)
    return Relation(ids, key_ids, own, _role("pulls", pulls, keys), _role("pushes", pushes, keys))


def _one_each(name: str, ids: Ids, rows: Tensor, what: str) -> Tensor:
    """Ids of all rows, (N,) or (N, L)."""
    found = as_ids(name, ids, rows.device)
    if found.ndim not in (1, 2) or len(found) != len(rows):
        raise LikewiseError(f"{name} {tuple(found.shape)} must be ({len(rows)},), one per {what}, or ({len(rows)}, L).")
    return found


def _role(name: str, role: Flags | None, keys: Tensor) -> Tensor | None:
    """Which keys may pull or push, (K,) bool; None: all."""
    if role is None:
        return None
    found = as_flags(name, role, keys.device)
    if found.shape != (len(keys),):
        raise LikewiseError(f"{name} must be ({len(keys)},) bool, one per key, not {tuple(found.shape)}.")
    return found


def tile_rows_for(keys: int) -> int:
    """Rows of a tile of similarities with so many keys."""
    return max(LEAST_ROWS, TILE_FLOATS // keys)


def reordered(x: Tensor, order: Tensor | None) -> Tensor:
    """Rows in the order of a permutation."""
    return x if order is None else x.index_select(0, order)


def restored(x: Tensor, order: Tensor | None) -> Tensor:
    """Rows back in their own order."""
    return x if order is None else torch.empty_like(x).index_copy_(0, order, x)


def positive_pairs(relation: "Relation | Listed", queries: int, tile_rows: int) -> Tensor:
    """All positive pairs, (M, 2) int64 of (query, key), in the given order of rows."""
    found = []
    for start in range(0, queries, tile_rows):
        columns, positive, _ = relation.masks(start, min(start + tile_rows, queries))
        row, place = positive.nonzero(as_tuple=True)
        found.append(torch.stack([row + start, place if columns is None else columns[row, place]], 1))
    pairs = torch.cat(found)
    if relation.query_order is not None and relation.key_order is not None:
        pairs = torch.stack([relation.query_order[pairs[:, 0]], relation.key_order[pairs[:, 1]]], 1)
    return pairs


def from_views(*views: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and ids of several views of the same items: ``objective(*from_views(z0, z1))``.

    Row i of every view is item i: each row's positives are the item's other views, and all rows of other items push.
    ``InfoNCE()(*from_views(z0, z1))`` is SimCLR's NT-Xent over 2N rows, which lightly's ``NTXentLoss()(z0, z1)`` is.

    Args:
        views: two or more of (N, D), unit rows.

    Returns:
        (V·N, D) rows, view by view, and (V·N,) int64 ids.

    Raises:
        LikewiseError: fewer than two views, or views of different shapes.
    """
    shapes = [tuple(view.shape) for view in views]
    if len(views) < 2 or len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise LikewiseError(f"views {shapes} must be two or more, all of one shape (N, D).")
    return torch.cat(views), torch.arange(len(views[0]), device=views[0].device).repeat(len(views))


def from_triplets(embeddings: Tensor, triplets: Ids) -> tuple[Tensor, Listed, Tensor]:
    """Queries, relation and keys of explicit triplets, for any objective: ``objective(*from_triplets(z, triplets))``.

    Each triplet is a separate anchor with one positive and one negative, so the loss uses exactly the given triplets.

    Args:
        embeddings: (N, D).
        triplets: (T, 3) integers, rows of ``embeddings``: anchor, positive, negative.

    Raises:
        LikewiseError: a shape that is not (T, 3), or a row beyond the embeddings.
    """
    triplets = _places("triplets", triplets, 3, embeddings)
    used, place = torch.unique(triplets[:, 1:], return_inverse=True)
    rows = torch.arange(len(triplets), device=triplets.device)
    positive, negative = torch.stack([rows, place[:, 0]], 1), torch.stack([rows, place[:, 1]], 1)
    return embeddings[triplets[:, 0]], Listed(positive, negative, len(triplets), len(used)), embeddings[used]


def from_pairs(embeddings: Tensor, pairs: Ids, alike: Flags) -> tuple[Tensor, Listed, Tensor]:
    """Queries, relation and keys of explicit pairs, for any objective: ``objective(*from_pairs(z, pairs, alike))``.

    Both items of a pair are anchors. An anchor's positives and negatives are only the items it is listed with.

    Args:
        embeddings: (N, D).
        pairs: (P, 2) integers, rows of ``embeddings``.
        alike: (P,) bool: whether each pair is alike.

    Raises:
        LikewiseError: shapes that do not fit, a row beyond the embeddings, or a row paired with itself.
    """
    pairs, alike = _places("pairs", pairs, 2, embeddings), as_flags("alike", alike, embeddings.device)
    if alike.shape != pairs.shape[:1]:
        raise LikewiseError(f"alike {tuple(alike.shape)} must be ({len(pairs)},), one per pair.")
    selves = (pairs[:, 0] == pairs[:, 1]).nonzero()
    if len(selves):
        raise LikewiseError(f"pair {int(selves[0])} joins row {int(pairs[selves[0, 0], 0])} with itself; leave it out.")
    used, place = torch.unique(pairs, return_inverse=True)
    both = torch.cat([place, place.flip(1)])
    alike = torch.cat([alike, alike])
    return embeddings[used], Listed(both[alike], both[~alike], len(used), len(used)), embeddings[used]


def _places(name: str, places: Ids, width: int, embeddings: Tensor) -> Tensor:
    """(M, width) int64 rows of the embeddings."""
    found = as_ids(name, places, embeddings.device)
    if found.ndim != 2 or found.shape[1] != width or not len(found):
        raise LikewiseError(f"{name} {tuple(found.shape)} must be (·, {width}) integers, not empty.")
    wrong = ((found < 0) | (found >= len(embeddings))).any(1).nonzero()
    if len(wrong):
        place = int(wrong[0])
        raise LikewiseError(
            f"{name}[{place}] is {found[place].tolist()}, but there are only {len(embeddings)} embeddings."
        )
    return found
