"""What is recommended: how much of the catalogue, and how popular it is."""

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.errors import LikewiseError, at_least_one
from likewise.metrics.checks import as_tensor
from likewise.metrics.ordered_lists import Numbers


def coverage(recommended: Ids, items: int) -> float:
    """The share of a catalogue that is recommended to anyone: distinct items in (Q, K) rows, divided by ``items``.

    Args:
        recommended: (Q, K) numbers of items from 0; −1 for a place without an item.
        items: the size of the catalogue.

    Raises LikewiseError on other shapes, and on a number beyond the catalogue.
    """
    places = _recommended(recommended, items)
    return len(torch.unique(places[places >= 0])) / items


def popularity(recommended: Ids, counts: Numbers) -> float:
    """How popular what is recommended is: the mean, over all places, of the share of items that are less popular.

    0.5 is a draw without regard to popularity, and near 1 are the most popular items alone. Items of the same count
    share the mean of their places.

    Args:
        recommended: (Q, K) numbers of items from 0; −1 for a place without an item.
        counts: (items,) how many engaged with each item.

    Raises LikewiseError on other shapes, a number beyond the catalogue, and rows without any item.
    """
    numbers = as_tensor("counts", counts).detach().cpu().double()
    if numbers.ndim != 1 or not len(numbers) or not bool(numbers.isfinite().all()):
        raise LikewiseError(f"counts {tuple(numbers.shape)} must be (items,) finite numbers.")
    places = _recommended(recommended, len(numbers))
    if not bool((places >= 0).any()):
        raise LikewiseError("no item is recommended.")
    ordered = numbers.sort().values
    below, upto = (torch.searchsorted(ordered, numbers, right=right) for right in (False, True))
    share = (below + upto).double() / (2 * len(numbers))
    return float(share[places[places >= 0]].mean())


def _recommended(recommended: Ids, items: int) -> Tensor:
    places = as_ids("recommended", recommended).cpu()
    at_least_one("items", items, "it is the size of the catalogue")
    if places.ndim != 2:
        raise LikewiseError(f"recommended {tuple(places.shape)} must be (Q, K), one row for each query.")
    if places.numel() and (int(places.min()) < -1 or int(places.max()) >= items):
        raise LikewiseError(f"recommended items must be from 0 to {items - 1}, or −1 for none.")
    return places
