"""Scores whose bits do not depend on tiles, batching, threads or device, and the best of a tile of them.

The guarantee: a plain float product of matrices may differ in its last bit with any of these, and two nearly equal
scores may then change places. Here every row is first rounded to b bits relative to its largest entry,
b = min(24, ⌊(53 − ⌈log₂ D⌉) / 2⌋), which is 23 at D = 128 and 20 at D = 3072. Sums of D products of such numbers fit
into float64 exactly, in any order.

The price: a score differs a little from that of the unrounded rows (random unit rows: standard deviation 2e-8 at D =
128 and 5e-8 at D = 3072, as float32 itself). The product runs at float64 speed, half that of float32 on a CPU.
"""

import torch
from torch import Tensor

from likewise.metrics.checks import check_peaks, peaks

GROUP = 16  # keys of a group of a tile; the best of each group is compared first, see merge
LOW = 0xFFFFFFFF


def snap(name: str, rows: Tensor, first: int) -> Tensor:
    """Rows as float64, each entry rounded to b bits relative to the row's largest, so that inner products are exact.

    If |entry| ≤ 2ᵉ, the rounded entries are integers times 2ᵉ⁻ᵇ. A product of two integers is at most 2²ᵇ, and a sum of
    D of these at most 2⁵³. Scaling by powers of two is exact, and a maximum does not depend on the order of entries.

    ``first`` is the number of the first row, for the error: LikewiseError on NaN or infinity.
    """
    largest = peaks(rows)
    check_peaks(name, largest, first)
    bits = _bits(rows.shape[1])
    exponent = torch.frexp(largest.double()[:, None]).exponent.long().clamp_(-500, 500)
    snapped = rows.to(torch.float64, copy=True).mul_(power_of_two(bits - exponent))
    return snapped.round_().mul_(power_of_two(exponent - bits))


def _bits(dim: int) -> int:
    """b, for rows of ``dim`` numbers."""
    return min(24, (53 - (dim - 1).bit_length()) // 2)


def rounding(dim: int) -> float:
    """How far an exact score can be from the inner product of the rows as they are, at lengths of 1.

    An entry moves by at most 2⁻ᵇ times the largest, and a sum of D such products by 2⁻ᵇ √D at lengths of 1; two rows
    are rounded, and the score is rounded to float32.
    """
    return float(2.0 ** (1 - _bits(dim)) * dim**0.5 * 1.01 + 2.0**-23)


def power_of_two(exponent: Tensor) -> Tensor:
    """2 to the power of an int64 within ±1022, exactly: it is written into the exponent bits of float64."""
    return ((exponent + 1023) << 52).view(torch.float64)


class Tiles:
    """Memory for one tile of scores, allocated once, since new memory for every tile takes as long as a copy."""

    def __init__(self, queries: int, keys: int, device: torch.device) -> None:
        self._width = -(-keys // GROUP) * GROUP
        self._exact = torch.empty(0, dtype=torch.float64, device=device)
        self._size = queries * keys
        self._scores = torch.empty(queries * self._width, dtype=torch.float32, device=device)

    def product(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Inner products of (B, D) and (T, D) as float32 (B, W), −inf beyond column T; valid until the next call."""
        rows, columns = queries.shape[0], keys.shape[0]
        if not len(self._exact):
            self._exact = torch.empty(self._size, dtype=torch.float64, device=queries.device)
        exact = self._exact[: rows * columns].view(rows, columns)
        torch.mm(queries, keys.T, out=exact)
        scores = self._padded(rows, columns)
        scores[:, :columns] = exact
        return scores

    def quick_product(self, queries: Tensor, keys: Tensor) -> Tensor:
        """As :meth:`product`, of rows in float32 or bfloat16, and in their dtype."""
        scores = self._padded(queries.shape[0], keys.shape[0], queries.dtype)
        if keys.shape[0] == self._width:
            return torch.mm(queries, keys.T, out=scores)
        scores[:, : keys.shape[0]] = queries @ keys.T
        return scores

    def _padded(self, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Memory for the scores of a tile, −inf beyond its columns."""
        scores = self._scores.view(dtype)[: rows * self._width].view(rows, self._width)
        scores[:, columns:] = -torch.inf
        return scores


def merge(best: Tensor, scores: Tensor, leaders: Tensor, start: int, *, ties: bool = True) -> Tensor:
    """The k best packed entries among (B, k) ``best``, in descending order, and a tile's (B, W) scores.

    ``leaders`` are the best scores of the tile's groups (``leading``). A key can be among the k best only if the leader
    of its group is at least the k-th best score so far, and, while there are no k of them, at least the k-th largest
    leader. Only such groups are searched; in later tiles they are few. Without ``ties``, which of the keys that are as
    good as the k-th are among the k is left open: k groups suffice.
    """
    k, count = best.shape[1], leaders.shape[1]
    floor = unpack(best[:, -1:])[0]
    if ties and k < count and bool(floor.isneginf().any()):
        # Later, the best so far rule out nearly as many, without a sort.
        floor = torch.maximum(floor, leaders.topk(k, dim=1).values[:, -1:])
    useful = int((leaders >= floor).sum(1).amax())
    useful = useful if ties else min(useful, k)
    groups = scores.view(scores.shape[0], GROUP, count)
    chosen = leaders.topk(useful, dim=1, sorted=False).indices[:, None]  # all groups that reach the floor, maybe others
    columns = chosen + torch.arange(start, start + GROUP * count, count, device=scores.device)[:, None]
    candidates = pack(groups.gather(2, chosen.expand(-1, GROUP, -1)).float(), columns)
    return torch.cat([best, candidates.flatten(1)], 1).topk(k, dim=1).values


def leading(scores: Tensor) -> Tensor:
    """(B, W / 16) best score of each group of 16 keys of a tile's (B, W); group g has columns g, g + W / 16, ..."""
    return scores.view(scores.shape[0], GROUP, -1).amax(1).float()


def pack(scores: Tensor, rows: Tensor) -> Tensor:
    """An int64 for each score and row. It sorts by score, then by smaller row, so that ties have a fixed order."""
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: −0 becomes 0
    return (_ordered(bits).long() << 32) | (LOW - rows)


def unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The scores and rows that ``pack`` put together; row −1 where the score is −inf."""
    scores = _ordered((packed >> 32).int()).view(torch.float32)
    rows = LOW - (packed & LOW)
    return scores, rows.masked_fill_(torch.isneginf(scores), -1)


def _ordered(bits: Tensor) -> Tensor:
    """The bits of float32 numbers as int32 that sort as the numbers do; the same again goes back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
