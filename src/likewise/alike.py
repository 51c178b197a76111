"""Which pairs are alike: the positives and negatives of each query, from ids, for one tile of rows at a time.

Dimension legend: Q queries, K keys, L labels per row, R rows of a tile, P positives of a row at most.
A relation gives the masks of R rows at a time, so that no Q×K matrix exists.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd import forward_ad

from likewise.errors import LikewiseError
from likewise.text import quoted

TILE_FLOATS = 1 << 20  # 4 MiB of similarities; work on a tile needs memory for about ten tiles
LEAST_ROWS = 16
_TRIED = 8  # queries

Ids = Tensor | npt.NDArray[np.integer[Any]] | Sequence[int] | Sequence[Sequence[int]]
Flags = Tensor | npt.NDArray[np.bool_] | Sequence[bool]


def traced() -> bool:
    """Whether a compiler or a transform of ``torch.func`` traces the call: then no value can be read."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


@torch.no_grad()
def first_among(queries: Tensor, keys: Tensor) -> int:
    """How many first queries (Q, D) are looked for among the keys (K, D), if all of them are there, equal to the bit.

    0 if one is not there, or if they are all the same. O(K), and O(K·D) where many keys begin alike.
    """
    few = queries[:_TRIED].to(keys.device, keys.dtype)
    if few.shape[1] != keys.shape[1] or bool((few == few[:1]).all()):
        return 0
    found = all(bool((keys[keys[:, 0] == row[0]] == row).all(dim=1).any()) for row in few)
    return len(few) if found else 0


def in_forward_mode() -> bool:
    """Whether ``torch.autograd.forward_ad`` follows tangents: a kernel without a forward mode would lose them."""
    return forward_ad._current_level >= 0


def as_ids(name: str, ids: Ids, device: torch.device | None = None, *, of_rows: str = "") -> Tensor:
    """Ids, labels or row numbers as int64. An int64 tensor stays as it is; other integers are converted.

    It reads no value of a tensor, so nothing waits for a device; of uint64 alone it does.

    Args:
        name: the argument's, for messages.
        ids: integers of any shape, signed or not.
        device: where an array or a list goes; None: the CPU.
        of_rows: advice for the message if ``ids`` are rows of floats.

    Raises:
        LikewiseError: floats, bools, text, numbers beyond 63 bits, rows of different lengths, or a tensor that is not
            dense.
    """
    found = ids if isinstance(ids, Tensor) else _integers(name, ids, device)
    check_dense(name, found)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        advice = f" {of_rows}" if found.ndim == 2 and of_rows else ""
        raise LikewiseError(f"{name} are {found.dtype}; they must be integers, such as torch.int64.{advice}")
    numbers = found.long()
    if found.dtype == torch.uint64 and not traced() and bool((numbers < 0).any()):
        raise LikewiseError(f"{name} go beyond 64 bits with a sign; number them from 0.")
    return numbers


def refuse_masked(name: str, value: object) -> None:
    """Raises LikewiseError on a NumPy array with masked values: NumPy itself would read what is under the mask."""
    if np.ma.is_masked(value):
        raise LikewiseError(f"{name} have masked values; fill them with filled(), or leave out these rows.")


def check_dense(name: str, tensor: Tensor) -> None:
    """Raises LikewiseError on a tensor whose values can't be read: sparse, mkldnn, nested, quantised or meta."""
    if tensor.is_nested:
        raise LikewiseError(f"{name} is a nested tensor; give a dense one, with rows of one length.")
    if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
        layout = "in the layout of mkldnn" if tensor.is_mkldnn else "sparse"
        kind = "on the device meta" if tensor.is_meta else "quantised" if tensor.is_quantized else layout
        raise LikewiseError(
            f"{name} of shape {tuple(tensor.shape)} is {kind}, so values can't be read; give a dense one."
        )


def check_tensor(name: str, rows: object) -> None:
    """Raises LikewiseError if ``rows`` is no dense tensor of floats: a gradient needs one."""
    if not isinstance(rows, Tensor):
        kind = "a list" if isinstance(rows, list) else f"of type {type(rows).__name__}"
        raise LikewiseError(f"{name} must be a tensor, but is {kind}; pass torch.as_tensor({name}).")
    check_dense(name, rows)
    if not rows.is_floating_point():
        raise LikewiseError(f"{name} must be floating point, but is {rows.dtype}; convert with .float().")


def check_new_rows(rows: Tensor, *, look: bool) -> None:
    """The check of rows that a dictionary takes in. Raises LikewiseError as :func:`check_tensor`.

    With ``look`` also on a row with NaN or infinity, on the CPU, where looking does not wait: 15 µs for 256 × 128.
    """
    check_tensor("rows", rows)
    if not look or traced() or not rows.is_cpu or not rows.numel():
        return
    if not all(map(math.isfinite, torch.stack(rows.detach().aminmax()).tolist())):
        place = (~rows.isfinite()).nonzero()[0].tolist()
        raise LikewiseError(f"rows{place[:1]} holds NaN or infinity; check the encoder's output for that item.")


def as_flags(name: str, flags: Flags, device: torch.device | None = None) -> Tensor:
    """Flags (N,) as a bool tensor. Raises LikewiseError on other dtypes."""
    refuse_masked(name, flags)
    found = flags if isinstance(flags, Tensor) else torch.as_tensor(np.array(flags), device=device)
    check_dense(name, found)
    if found.dtype != torch.bool:
        raise LikewiseError(f"{name} are {found.dtype}; they must be torch.bool, one for each.")
    return found


def check_rows(name: str, ids: Tensor, count: int, what: str, *, none: bool = False, wait: bool = False) -> None:
    """Raises LikewiseError that names the first id which is no number of a row, and its place.

    Args:
        name: the argument's, for messages.
        ids: int64 of any shape.
        count: number of rows; they are numbered from 0.
        what: the rows, in words.
        none: numbers below 0 are fine: they name no row.
        wait: look on every device. By default on the CPU alone, where looking does not wait for the device.
    """
    if traced() or not ids.numel() or not (wait or ids.device.type == "cpu"):
        return
    least, most = map(int, ids.aminmax()) if ids.is_cpu else torch.stack(ids.aminmax()).tolist()
    if most < count and (none or least >= 0):
        return
    wrong = (ids >= count) if none else (ids >= count) | (ids < 0)
    place = wrong.nonzero()[0].tolist()
    where, value = ", ".join(map(str, place)), int(ids[tuple(place)])
    raise LikewiseError(f"{name}[{where}] is {value}, but there are {count} {what}, numbered from 0.")


def check_labels(name: str, labels: Tensor) -> None:
    """Raises LikewiseError where (N, L) labels are a table of zeros and ones, one column per class.

    Read as labels, every row would have the labels 0 and 1, and all items would be alike. It reads values, so it waits
    for the device.
    """
    if labels.ndim != 2 or labels.shape[1] < 2 or not len(labels):
        return
    if torch.stack(labels.aminmax()).tolist() != [0, 1]:
        return
    ones, columns = labels.sum(1), labels.shape[1]
    mixed = (ones > 0) & (ones < columns)
    if not bool(mixed.any() if columns > 2 else mixed.all()):
        return
    advice = f"{name}.argmax(1)" if bool((ones == 1).all()) else "the numbers of each row's classes, padded with -1"
    raise LikewiseError(
        f"{name} {tuple(labels.shape)} are zeros and ones, as a table with a column per class has; here each row lists "
        f"its labels: pass {advice}."
    )


def _integers(name: str, ids: Ids, device: torch.device | None) -> Tensor:
    """Makes a tensor of an array or a list: int64 for integers. The caller refuses floats and bools."""
    refuse_masked(name, ids)
    try:
        array = np.asarray(ids)
    except ValueError:
        said = f"{name} are rows of different lengths; pad the shorter ones with −1, which is no label."
        raise LikewiseError(said) from None
    if array.size == 0:
        array = array.astype(np.int64)  # an empty list has no dtype of its own
    whole = np.asarray(ids, dtype=object).flat if array.dtype.kind in "Of" else ()  # such as a list of 2**63 and 1
    if any(isinstance(each, int) and not -(2**63) <= each < 2**63 for each in whole):
        raise LikewiseError(f"{name} go beyond 64 bits with a sign; number them from 0.")
    if array.dtype.kind not in "biufc":
        raise LikewiseError(
            f"{name} hold {quoted(str(array.flat[0]))}, which is not an integer; number them first, for example with "
            f"numpy.unique({name}, return_inverse=True)[1]."
        )
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise LikewiseError(f"{name} go up to {array.max()}, beyond 64 bits with a sign; number them from 0.")
    return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else array.dtype)).to(device)


class Masks(NamedTuple):
    """Positives and negatives of R rows among K keys.

    Where every row has one label, ``columns`` lists the keys that may be its positives, and ``positive`` says which of
    them are. Otherwise ``columns`` is None and ``positive`` is a mask of all keys.
    """

    columns: Tensor | None  # (R, P) int64
    positive: Tensor  # (R, P) bool, or (R, K) without columns
    negative: Tensor  # (R, K) bool


@dataclass(frozen=True)
class Relation:
    """Positives and negatives by ids: a pair with equal ids is positive. A query is not compared with itself.

    With one label per row, rows and keys are sorted by id, so that the positives of a tile are in adjacent columns.

    Args:
        ids: (Q,) integers, or (Q, L) for several labels per row: a pair with a label in common is positive. An id below
            0 means no label.
        key_ids: (K,) or (K, L), in the same way.
        own: (Q,) the key row that is the query itself, −1 where there is none; this pair is left out. None: no query is
            a key. Where ``ids is key_ids``, the queries are the keys, and ``own`` is 0, 1, ..., Q − 1.
        pulls: (K,) bool, the keys that may be positives; None: all. Other keys with the query's id are neither positive
            nor negative.
        pushes: (K,) bool, the keys that may be negatives; None: all.
    """

    ids: Tensor
    key_ids: Tensor
    own: Tensor | None
    pulls: Tensor | None = None
    pushes: Tensor | None = None
    planted: ClassVar[None] = None  # see Listed

    @property
    def _one_label_in_batch(self) -> bool:
        """Whether the queries are the keys, with one label each."""
        return self.ids is self.key_ids and self.ids.ndim == 1 and self.own is not None

    def _named(self) -> tuple[Tensor, Tensor]:
        """Ids and key ids, with different negative ids for rows without label, so that these rows are not alike."""
        ids, key_ids = self.ids, self.key_ids
        if _all_labelled(ids) and (key_ids is ids or _all_labelled(key_ids)):
            return ids, key_ids
        if self._one_label_in_batch and self.own is not None:
            ids = torch.where(ids < 0, -2 - self.own, ids)
            return ids, ids
        if ids.ndim == key_ids.ndim == 1:
            alone = -1 if self.own is None else torch.where(self.own < 0, -1, -2 - self.own)
            places = torch.arange(len(key_ids), device=key_ids.device)
            return torch.where(ids < 0, alone, ids), torch.where(key_ids < 0, -2 - places, key_ids)
        return torch.where(ids < 0, -1, ids), torch.where(key_ids < 0, -2, key_ids)

    @cached_property
    def query_order(self) -> Tensor | None:
        """The permutation that sorts the queries by id; None with several labels per row, where rows are not sorted."""
        ids, key_ids = self._named()
        return ids.argsort(stable=True) if ids.ndim == key_ids.ndim == 1 else None

    @cached_property
    def key_order(self) -> Tensor | None:
        """The permutation that sorts the keys by id; ``query_order`` where the queries are the keys."""
        if self.query_order is None or self.ids is self.key_ids:
            return self.query_order
        return self._named()[1].argsort(stable=True)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Ids, key ids and ``own`` in sorted order."""
        (ids, key_ids), own = self._named(), self.own
        if self.query_order is None or self.key_order is None:
            return ids, key_ids, own
        if self._one_label_in_batch:
            ids = ids[self.query_order]
            return ids, ids, own  # in sorted order too, query i is key i
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
        """The largest number of keys with one query's id. It is computed once, because reading it waits for a GPU."""
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
        if self._one_label_in_batch:
            negative.scatter_(1, columns, False)
        else:  # a query without a key of its id has a column too, the key before
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
        """The masks of all rows at once, both (Q, K), in the given order. It is the naive twin of ``masks``."""
        ids, key_ids = self._named()
        if self._one_label_in_batch:  # every query is alike to itself, so it is not its own negative
            same = _same(ids, key_ids)
            itself = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
            return Masks(None, *self._roles(same ^ itself, ~same))
        return Masks(None, *self._roles(*_masks(ids, key_ids, self.own)))

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
        """The relation of the queries ``rows`` (M,), which may name a query several times."""
        own = None if self.own is None else self.own[rows]
        return Relation(self.ids[rows], self.key_ids, own, self.pulls, self.pushes)


@dataclass(frozen=True)
class Listed:
    """Positives and negatives by lists. ``objectives.from_triplets`` and ``from_pairs`` make one.

    Args:
        positive: (P, 2) int64, the rows (query, key) of the positive pairs.
        others: (M, 2) int64, the rows (query, key) of the negative pairs. With ``rest_pushes`` those that are neither.
        queries: Q.
        keys: K.
        rest_pushes: whether every pair that is in no list is negative; otherwise it is neither.
        planted: (R, 2) int64, the rows (query, key) of negatives that were added to the batch for a query; None: none.
    """

    positive: Tensor
    others: Tensor
    queries: int
    keys: int
    rest_pushes: bool = False
    planted: Tensor | None = None
    query_order: None = None
    key_order: None = None

    def masks(self, start: int, stop: int) -> Masks:
        """The masks of queries ``start`` to ``stop``."""
        positive, others = (self._mask(pairs, start, stop) for pairs in self._sorted)
        return Masks(None, positive, ~(positive | others) if self.rest_pushes else others)

    def whole(self) -> Masks:
        """The masks of all rows at once, both (Q, K)."""
        return self.masks(0, self.queries)

    def transposed(self) -> "Listed":
        """The relation with queries and keys exchanged."""
        return Listed(self.positive.flip(1), self.others.flip(1), self.keys, self.queries, self.rest_pushes)

    def used(self, some: slice) -> None:
        """None: all keys are in a list."""

    def select(self, rows: Tensor) -> "Listed":
        """The relation of the queries ``rows`` (M,), which may name a query several times."""
        positive, others = (_repeat(pairs, rows) for pairs in self._sorted)
        return Listed(positive, others, len(rows), self.keys, self.rest_pushes)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        """Both lists, sorted by query."""
        return tuple(pairs[pairs[:, 0].argsort(stable=True)] for pairs in (self.positive, self.others))  # type: ignore[return-value]

    def _mask(self, pairs: Tensor, start: int, stop: int) -> Tensor:
        mask = torch.zeros(stop - start, self.keys, dtype=torch.bool, device=pairs.device)
        first, last = torch.searchsorted(pairs[:, 0].contiguous(), torch.tensor([start, stop], device=pairs.device))
        mine = pairs[first:last]
        mask[mine[:, 0] - start, mine[:, 1]] = True
        return mask


def _repeat(pairs: Tensor, rows: Tensor) -> Tensor:
    """The pairs of the chosen ``rows``, with their new row numbers. ``pairs`` are sorted by row."""
    rows = rows.contiguous()
    first = torch.searchsorted(pairs[:, 0].contiguous(), rows)
    count = torch.searchsorted(pairs[:, 0].contiguous(), rows, right=True) - first
    new = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
    offset = torch.arange(len(new), device=rows.device) - (count.cumsum(0) - count).repeat_interleave(count)
    return torch.stack([new, pairs[first.repeat_interleave(count) + offset, 1]], 1)


def _all_labelled(ids: Tensor) -> bool:
    """Whether no id is below 0. It looks on the CPU alone, where looking does not wait for the device."""
    return ids.is_cpu and not traced() and bool(ids.numel()) and int(ids.min()) >= 0


def _masks(ids: Tensor, key_ids: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """The masks of positives and negatives, both (R, C); ``own`` (R,) are column numbers."""
    same = _same(ids, key_ids)
    if own is None:
        return same, ~same
    self_pair = torch.arange(len(key_ids), device=ids.device) == own[:, None]
    return same & ~self_pair, ~(same | self_pair)


def _same(ids: Tensor, key_ids: Tensor) -> Tensor:
    """(R,) or (R, L) with (C,) or (C, L) → (R, C) bool: whether a label is in both. Cost: L² passes over the tile."""
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
    """The relation of ``objective(queries, ids, keys, key_ids, own=..., pulls=..., pushes=...)``.

    Without keys the queries are also the keys. Raises LikewiseError when shapes or dtypes do not fit together.
    """
    check_tensor("queries", queries)
    if keys is not None:
        check_tensor("keys", keys)
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
    """Ids of all rows as a tensor, (N,) or (N, L). Raises LikewiseError on other shapes."""
    integers, count = as_ids(name, ids, rows.device), len(rows)
    if integers.ndim not in (1, 2) or len(integers) != count:
        raise LikewiseError(f"{name} {tuple(integers.shape)} must be ({count},), one per {what}, or ({count}, L).")
    return integers


def _role(name: str, role: Flags | None, keys: Tensor) -> Tensor | None:
    """The keys that may pull or push, (K,) bool; None: all. Raises LikewiseError on other shapes."""
    if role is None:
        return None
    flags = as_flags(name, role, keys.device)
    if flags.shape != (len(keys),):
        raise LikewiseError(f"{name} must be ({len(keys)},) bool, one per key, not {tuple(flags.shape)}.")
    return flags


def tile_rows_for(keys: int) -> int:
    """The number of rows in a tile of similarities with ``keys`` columns."""
    return max(LEAST_ROWS, TILE_FLOATS // keys)


def reordered(x: Tensor, order: Tensor | None) -> Tensor:
    """The rows in the order of a permutation; unchanged for None."""
    return x if order is None else x.index_select(0, order)


def restored(x: Tensor, order: Tensor | None) -> Tensor:
    """The rows in the order before ``reordered``."""
    return x if order is None else torch.empty_like(x).index_copy_(0, order, x)


def positive_pairs(relation: "Relation | Listed", queries: int, tile_rows: int) -> Tensor:
    """All positive pairs, (M, 2) int64 of (query, key), in the given order of rows."""
    tiles = []
    for start in range(0, queries, tile_rows):
        columns, positive, _ = relation.masks(start, min(start + tile_rows, queries))
        row, place = positive.nonzero(as_tuple=True)
        tiles.append(torch.stack([row + start, place if columns is None else columns[row, place]], 1))
    pairs = torch.cat(tiles)
    if relation.query_order is not None and relation.key_order is not None:
        pairs = torch.stack([relation.query_order[pairs[:, 0]], relation.key_order[pairs[:, 1]]], 1)
    return pairs
