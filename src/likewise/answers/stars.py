"""Groups of alike items that do not chain: every member is alike to the item that stands for the group."""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


def stars(count: int, pairs: Numbers, order: Numbers | None = None) -> dict[int, list[int]]:
    """Items in groups: each centre with its members, all of which are in a pair with it, nearest rows first.

    In the given order, an item that is in no group yet becomes a centre, and takes all items that are in a pair with it
    and in no group yet. An item that is alike to members only, but not to the centre, stays outside: of a chain
    a – b – c the ends are not put together because of b.

    Args:
        count: N, the number of items.
        pairs: (P, 2) rows of alike items, each pair once.
        order: N rows, those that should be centres first; None: items with more pairs first, then by row.

    Returns:
        members by centre; a centre has at least one.

    Cost: O(N + P log P).
    """
    both = np.concatenate([pairs, pairs[:, ::-1]]) if len(pairs) else np.empty((0, 2), np.int64)
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    ends = np.searchsorted(both[:, 0], np.arange(count + 1))
    degrees = np.diff(ends)
    if order is None:
        order = np.lexsort((np.arange(count), -degrees))
    free, groups = np.ones(count, np.bool_), dict[int, list[int]]()
    for centre in order[degrees[order] > 0].tolist():
        if not free[centre]:
            continue
        near = both[ends[centre] : ends[centre + 1], 1]
        members = near[free[near]]
        if len(members):
            free[centre] = free[members] = False
            groups[centre] = members.tolist()
    return groups
